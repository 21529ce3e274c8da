//! The answers to a call to everyone: one of each provider, the missing named.
//!
//! It waits for answers and asks those again who owe one: a provider of ours that is asked shows life,
//! and is lost when it does not; one of the original is given up when nobody is subscribed any more.
//! Who owes an answer is kept in [`attendance`](super::attendance); whom a request goes to is decided
//! in [`everyone`](super::everyone).

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::time::{Duration, Instant, sleep_until, timeout_at};

use super::attempt::Moment;
use super::attendance::{Attendance, Missing};
use super::caller::Caller;
use super::errors::{cut, no_such_remote};
use super::everyone::Reached;
use super::pending::Waiting;
use super::{ASK_AGAIN_EVERY, ASKS_WITHIN, Reply, SILENCE_IS_TOLD_AFTER, STOOD_STILL};
use crate::error::{Error, ErrorKind, Result};
use crate::name::{Id, shortened};
use crate::transport::{self, Arrival, Ends, Inbox};
use crate::wire::{Outcome, Request, Response, Said};

/// The answers to a call to everyone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AllReplies {
    /// The answers, in the order of arrival.
    pub replies: Vec<Reply>,
    /// The providers that should have answered and did not.
    pub missing: Vec<Missing>,
}

/// One thing that a call to everyone brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Gathered {
    Reply(Reply),
    Missing(Missing),
}

/// A call to everyone under way; dropping it tells the providers that still run it that nobody waits.
pub(crate) struct Gathering {
    caller: Arc<Caller>,
    request: Request<'static>,
    waiting: Waiting,
    list: Option<Inbox>,
    attendance: Attendance,
    /// The ends of those whom the request reached, where the broker tells of them, and how many of them
    /// were looked into.
    ends: Option<Ends>,
    ends_seen: usize,
    /// Heard, and not yet handed out.
    replies: VecDeque<Reply>,
    /// Whether no more is heard: then the missing are handed out.
    concluded: bool,
    deadline: Option<Instant>,
    originals_until: Option<Instant>,
    ask_again: Instant,
    started: Moment,
    silence_is_told: bool,
}

enum Event {
    Ours(Option<Arrival<Said>>),
    Original(Option<Arrival<Bytes>>),
    Ended,
    Tick,
}

impl Gathering {
    pub(super) fn new(
        caller: Arc<Caller>,
        request: Request<'static>,
        reached: Reached,
        list: Option<Inbox>,
        deadline: Option<Instant>,
    ) -> Self {
        let Reached { waiting, ours, others, expected, ends } = reached;
        Self {
            caller,
            request,
            waiting,
            list,
            attendance: Attendance::new(ours, others, expected),
            ends,
            ends_seen: 0,
            replies: VecDeque::new(),
            concluded: false,
            deadline,
            originals_until: None,
            ask_again: Instant::now() + ASK_AGAIN_EVERY,
            started: Moment::now(),
            silence_is_told: false,
        }
    }

    /// The same, waiting for providers of the original no longer than until then.
    pub(super) fn waiting_until(mut self, originals_until: Option<Instant>) -> Self {
        self.originals_until = originals_until;
        self
    }

    /// How many providers of ours the request reached.
    pub(super) fn ours(&self) -> usize {
        self.attendance.ours()
    }

    /// The answers may be read elsewhere than the call was made.
    fn check_runtime(&self) -> Result<()> {
        transport::check_runtime(&*self.caller.transport, "call", self.function())
    }

    fn function(&self) -> &str {
        &self.request.function
    }

    /// The first answer to a request that only providers of the original can serve; `None` if the
    /// deadline came first.
    pub(super) async fn first(mut self) -> Result<Option<Reply>> {
        loop {
            if self.advance().await? {
                return Ok(None);
            }
            if let Some(reply) = self.replies.pop_front() {
                return Ok(Some(reply));
            }
            if self.is_complete() {
                return Err(self.unanswered());
            }
        }
    }

    /// The next answer; when no more will come, those who are missing; then nothing. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Result<Gathered>> {
        loop {
            if let Some(reply) = self.replies.pop_front() {
                return Some(Ok(Gathered::Reply(reply)));
            }
            if self.concluded {
                return self
                    .attendance
                    .next_missing()
                    .map(|missing| Ok(Gathered::Missing(missing)));
            }
            let over = match self.is_complete() {
                true => Ok(true),
                false => match self.check_runtime() {
                    Ok(()) => self.advance().await,
                    Err(error) => Err(error),
                },
            };
            match over {
                Ok(false) => {}
                Ok(true) if self.attendance.everybody_declined() => {
                    self.concluded = true;
                    return Some(Err(no_such_remote(self.function())));
                }
                Ok(true) => self.conclude(),
                Err(error) => {
                    self.tell_late();
                    self.attendance.forget_missing();
                    self.concluded = true;
                    return Some(Err(error.of("call", shortened(self.function()))));
                }
            }
        }
    }

    /// All answers, and all who are missing.
    ///
    /// # Errors
    /// That of a connection.
    pub(crate) async fn all(mut self) -> Result<AllReplies> {
        let mut all = AllReplies { replies: Vec::new(), missing: Vec::new() };
        while let Some(gathered) = self.next().await {
            match gathered? {
                Gathered::Reply(reply) => all.replies.push(reply),
                Gathered::Missing(missing) => all.missing.push(missing),
            }
        }
        Ok(all)
    }

    fn is_complete(&self) -> bool {
        let originals_over = self.originals_until.is_some_and(|until| Instant::now() >= until);
        self.attendance.is_settled() && (self.attendance.others_silent() == 0 || originals_over)
    }

    /// Waits for the next thing to happen; says whether the deadline passed. Cancel-safe: what was
    /// heard is noted before anything is awaited again.
    async fn advance(&mut self) -> Result<bool> {
        let now = Instant::now();
        let tick = [self.deadline, self.originals_until.filter(|until| *until > now)]
            .into_iter()
            .flatten()
            .fold(self.ask_again, Instant::min);
        // All are cancel-safe: two mailboxes, a number, and a timer.
        let event = tokio::select! {
            biased;
            arrival = self.waiting.recv() => Event::Ours(arrival),
            arrival = receive(&mut self.list) => Event::Original(arrival),
            () = more_ended(self.ends.as_ref(), self.ends_seen) => Event::Ended,
            () = sleep_until(tick) => Event::Tick,
        };
        match event {
            Event::Ours(Some(Arrival::Message(said))) => {
                self.replies.extend(self.attendance.hear(said));
            }
            Event::Ours(Some(_)) => {
                self.attendance.be_patient();
                return self.ask_in_time().await;
            }
            Event::Original(Some(Arrival::Message(text))) => self.hear_original(&text),
            Event::Original(Some(_)) => {}
            Event::Ended => self.mourn().await?,
            Event::Ours(None) | Event::Original(None) => {
                return Err(Error::closed("call", self.function()));
            }
            Event::Tick => {
                if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                    return Ok(true);
                }
                if self.ask_again.elapsed() > STOOD_STILL {
                    // So did whatever reads the socket: answers may lie there.
                    self.attendance.be_patient();
                    self.ask_again = Instant::now() + ASK_AGAIN_EVERY;
                } else if Instant::now() >= self.ask_again {
                    return self.ask_in_time().await;
                }
            }
        }
        Ok(false)
    }

    /// Some have ended with their connections: what they had sent is heard, then whoever is not there any
    /// more is lost.
    async fn mourn(&mut self) -> Result<()> {
        let ended = self.ends.as_ref().map_or(0, Ends::count);
        let caught_up = self.caller.catch_up().await;
        caught_up.map_err(|error| cut(self.function(), error))?;
        while let Some(Some(arrival)) = self.waiting.recv().now_or_never() {
            if let Arrival::Message(said) = arrival {
                self.replies.extend(self.attendance.hear(said));
            }
        }
        let (present, unnamed) = self.presence(&self.attendance.owing()).await?;
        self.attendance.mourn(ended, &present, unnamed);
        self.ends_seen = ended;
        Ok(())
    }

    /// Counts what cannot be read as a failure: nobody else knows this call's list, and whoever
    /// wrote it will not write again.
    fn hear_original(&mut self, text: &Bytes) {
        let outcome = Response::decode(text).map_or_else(
            |error| Outcome::failure("DecodeError", &error.to_string()),
            |response| response.outcome,
        );
        self.attendance.hear_original();
        self.replies.push_back(Reply { outcome, provider: None });
    }

    /// Asks again; says whether the deadline passed meanwhile.
    async fn ask_in_time(&mut self) -> Result<bool> {
        match self.deadline {
            None => self.ask().await.map(|()| false),
            // Cancel-safe: what asking changes is noted before or after it waits.
            Some(deadline) => match timeout_at(deadline, self.ask()).await {
                Ok(asked) => asked.map(|()| false),
                Err(_) => Ok(true),
            },
        }
    }

    /// Asks those again, under the same identity, who have not answered, and strikes off who is gone.
    async fn ask(&mut self) -> Result<()> {
        self.ask_again = Instant::now() + ASK_AGAIN_EVERY;
        if self.attendance.others_silent() > 0 {
            self.judge_others().await?;
        }
        if self.attendance.is_settled() {
            return Ok(());
        }
        let owing = self.attendance.owing();
        self.repeat(&owing).await?;
        match self.caller.transport.capabilities().receiver_count {
            true => self.judge_by_count(&owing).await,
            // Nobody can say who is there: only a provider's silence counts.
            false => {
                owing.iter().for_each(|id| self.attendance.judge(*id, true));
                self.attendance.judge_unnamed(usize::MAX);
                Ok(())
            }
        }
    }

    /// Publishes the request again: to everyone while somebody is not known by name, but never so
    /// late that one who has answered could have forgotten it.
    async fn repeat(&self, owing: &[Id]) -> Result<()> {
        let (caller, started) = (&self.caller, self.started.elapsed());
        if started < ASKS_WITHIN {
            let marker = caller.namespace.marker(self.function());
            return self.publish_again(&marker, started).await;
        }
        for id in owing {
            let silent = self.attendance.heard(*id).elapsed();
            if silent < ASKS_WITHIN {
                self.publish_again(&caller.namespace.instance(*id), silent).await?;
            }
        }
        Ok(())
    }

    async fn publish_again(&self, topic: &str, silent: Duration) -> Result<()> {
        let again = self.request.repeated(silent).encode()?;
        match self.caller.transport.publish(topic, again).await {
            // It may have arrived; if not, it is asked again.
            Err(error) if error.kind() == ErrorKind::Ambiguous => Ok(()),
            Err(error) => Err(cut(self.function(), error)),
            Ok(_) => Ok(()),
        }
    }

    async fn judge_by_count(&mut self, owing: &[Id]) -> Result<()> {
        let (present, unnamed) = self.presence(owing).await?;
        if self.caller.after_gap() {
            return Ok(());
        }
        for id in owing {
            self.attendance.judge(*id, present.contains(id));
        }
        self.attendance.judge_unnamed(unnamed);
        Ok(())
    }

    /// Which of those we have heard of listen, and how many of whom we have not.
    async fn presence(&self, owing: &[Id]) -> Result<(BTreeSet<Id>, usize)> {
        let caller = &self.caller;
        let ids: Vec<Id> = owing.iter().copied().chain(self.attendance.excused()).collect();
        let instances = ids.iter().map(|id| caller.namespace.instance(*id));
        let marker = caller.namespace.marker(self.function());
        let topics: Vec<String> = std::iter::once(marker).chain(instances).collect();
        let counts = caller.transport.count(&topics).await;
        let counts = counts.map_err(|error| cut(self.function(), error))?;
        let (all, counts) = counts.split_first().unwrap_or((&0, &[]));
        let present = ids.iter().zip(counts).filter(|(_, count)| **count > 0);
        let present: BTreeSet<Id> = present.map(|(id, _)| *id).collect();
        // Who is subscribed to the marker and has no name yet must be one that was never heard of.
        let unnamed = self.attendance.unheard(*all, &present);
        Ok((present, unnamed))
    }

    /// Gives up subscribers that may have been providers of the original, once they are gone; tells
    /// of them while they are there and say nothing.
    async fn judge_others(&mut self) -> Result<()> {
        let caller = Arc::clone(&self.caller);
        let function = self.function();
        let topics = [caller.namespace.whole(function), caller.namespace.marker(function)];
        let counts = caller.transport.count(&topics).await;
        let counts = counts.map_err(|error| cut(self.function(), error))?;
        let [exact, ours] = counts[..] else { return Ok(()) };
        // A provider of ours counts on both topics, one of the original on the exact one only. After a gap
        // of our own the others may be on their way back as well.
        let present = exact > ours || caller.after_gap();
        self.attendance.judge_others(present);
        if present && self.ours() == 0 && self.started.elapsed() >= SILENCE_IS_TOLD_AFTER {
            self.tell_of_silence(exact - ours.min(exact));
        }
        Ok(())
    }

    fn tell_of_silence(&mut self, subscribers: usize) {
        if !std::mem::replace(&mut self.silence_is_told, true) {
            let function = shortened(self.function());
            tracing::warn!(
                function,
                subscribers,
                "a call waits for subscribers that do not answer; they may be providers of the \
                 original, or none at all"
            );
        }
    }

    /// Why a call to one of the original's got no answer.
    fn unanswered(&self) -> Error {
        let (kind, why) = match self.attendance.others_silent() > 0 {
            true => (
                ErrorKind::Timeout,
                "nobody answered but there are subscribers, which may be slow providers of the \
                 original: to wait longer for them, say a timeout",
            ),
            // Or one of ours that had come meanwhile.
            false => (ErrorKind::ProviderLost, "its provider is gone, and did not answer"),
        };
        Error::new(kind, "call", self.function(), why)
    }

    /// Names who is missing, and tells them that nobody waits any more.
    fn conclude(&mut self) {
        self.tell_late();
        self.concluded = true;
        self.attendance.conclude();
    }

    fn tell_late(&self) {
        if !self.concluded && !self.attendance.is_settled() {
            let marker = self.caller.namespace.marker(self.function());
            self.caller.cancel(marker, self.waiting.call());
        }
    }
}

impl Drop for Gathering {
    fn drop(&mut self) {
        self.tell_late();
    }
}

/// Waits until more have ended than were seen; for ever where nobody tells.
async fn more_ended(ends: Option<&Ends>, seen: usize) {
    match ends {
        Some(ends) => ends.more_than(seen).await,
        None => std::future::pending().await,
    }
}

/// The next arrival on a list, if there is one to read.
async fn receive(list: &mut Option<Inbox>) -> Option<Arrival<Bytes>> {
    match list {
        Some(list) => list.recv().await,
        None => std::future::pending().await,
    }
}
