//! The answers to a call to everyone: one of each provider, the missing named.
//!
//! It knows how many must answer, and watches those who have not: a provider of ours shows life, asked
//! again, and is lost when it does not; one of the original is given up when nobody is subscribed any
//! more. Whom a request goes to is [`everyone`](super::everyone)'s.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::{Duration, Instant, sleep_until, timeout_at};

use super::caller::{Caller, finished, no_such_remote};
use super::everyone::Reached;
use super::pending::Waiting;
use super::watch::Moment;
use super::{
    ASK_AGAIN_EVERY, ASKS_WITHIN, GONE_AFTER, LOST_AFTER, Reply, SILENCE_IS_TOLD_AFTER, STOOD_STILL,
};
use crate::error::{Error, ErrorKind, Result};
use crate::name::{Id, shortened};
use crate::transport::{self, Arrival, Inbox};
use crate::wire::{Outcome, Request, RequestExtension, Response, ResponseKind};

/// The answers to a call to everyone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AllReplies {
    /// Who answered, in the order of arrival.
    pub replies: Vec<Reply>,
    /// Who should have answered and did not.
    pub missing: Vec<Missing>,
}

/// A provider that did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Missing {
    /// Who it was, if it had been heard of.
    pub provider: Option<Id>,
    /// Whether it died; otherwise it only took too long.
    pub lost: bool,
}

/// One thing that a call to everyone brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Gathered {
    Reply(Reply),
    Missing(Missing),
}

/// A call to everyone under way; dropping it tells who still runs that nobody waits any more.
pub(crate) struct Gathering {
    caller: Arc<Caller>,
    request: Request,
    waiting: Waiting,
    list: Option<Inbox>,
    /// How many providers of ours, and how many others, the request reached.
    ours: usize,
    others: usize,
    known: BTreeMap<Id, Heard>,
    from_originals: usize,
    others_lost: usize,
    /// Heard, and not yet handed out.
    replies: VecDeque<Reply>,
    missing: Vec<Missing>,
    /// Whether no more is heard: then the missing are handed out.
    concluded: bool,
    deadline: Option<Instant>,
    originals_until: Option<Instant>,
    ask_again: Instant,
    started: Moment,
    /// The same, or when this side had reason to hear nothing.
    patient_since: Instant,
    unnamed_gone_since: Option<Instant>,
    others_gone_since: Option<Instant>,
    silence_is_told: bool,
}

/// What is known of one provider.
struct Heard {
    last: Moment,
    patient_since: Instant,
    gone_since: Option<Instant>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    Answered,
    /// It ended before it began the call.
    Left,
    Lost,
}

impl Heard {
    fn new() -> Self {
        let (last, patient_since) = (Moment::now(), Instant::now());
        Self { last, patient_since, gone_since: None, state: State::Running }
    }
}

enum Event {
    Ours(Option<Arrival<Response>>),
    Original(Option<Arrival<Bytes>>),
    Tick,
}

impl Gathering {
    pub(super) fn new(
        caller: Arc<Caller>,
        request: Request,
        reached: Reached,
        list: Option<Inbox>,
        deadline: Option<Instant>,
    ) -> Self {
        let (started, now) = (Moment::now(), Instant::now());
        let Reached { waiting, ours, others, expected } = reached;
        Self {
            caller,
            request,
            waiting,
            list,
            ours,
            others,
            known: expected.into_iter().map(|id| (id, Heard::new())).collect(),
            from_originals: 0,
            others_lost: 0,
            replies: VecDeque::new(),
            missing: Vec::new(),
            concluded: false,
            deadline,
            originals_until: None,
            ask_again: now + ASK_AGAIN_EVERY,
            started,
            patient_since: now,
            unnamed_gone_since: None,
            others_gone_since: None,
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
        self.ours
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
                return self.missing.pop().map(|missing| Ok(Gathered::Missing(missing)));
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
                Ok(true) if self.everybody_left() => {
                    self.concluded = true;
                    return Some(Err(no_such_remote(self.function())));
                }
                Ok(true) => self.conclude(),
                Err(error) => {
                    self.tell_late();
                    self.missing.clear();
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

    /// How many providers of ours have answered or are given up.
    fn settled(&self) -> usize {
        let settled = self.known.values().filter(|heard| heard.state != State::Running).count();
        settled + self.unnamed_missing()
    }

    /// Whether all of ours have answered or are given up; those, too, who came after the call and
    /// heard of it when all were asked again, since they take nobody's place.
    fn is_settled(&self) -> bool {
        let running = self.known.values().any(|heard| heard.state == State::Running);
        !running && self.settled() >= self.ours
    }

    /// Whether all who were there had ended before they began the call.
    fn everybody_left(&self) -> bool {
        let mut known = self.known.values();
        self.ours > 0
            && self.others == 0
            && self.known.len() >= self.ours
            && known.all(|heard| heard.state == State::Left)
    }

    fn unnamed_missing(&self) -> usize {
        self.missing.iter().filter(|missing| missing.provider.is_none()).count()
    }

    fn is_complete(&self) -> bool {
        let originals_over = self.originals_until.is_some_and(|until| Instant::now() >= until);
        self.is_settled() && (self.others_silent() == 0 || originals_over)
    }

    /// Waits for the next thing to happen; says whether the deadline passed. Cancel-safe: what was
    /// heard is noted before anything is awaited again.
    async fn advance(&mut self) -> Result<bool> {
        let now = Instant::now();
        let tick = [self.deadline, self.originals_until.filter(|until| *until > now)]
            .into_iter()
            .flatten()
            .fold(self.ask_again, Instant::min);
        // All three are cancel-safe: two mailboxes and a timer.
        let event = tokio::select! {
            biased;
            arrival = self.waiting.recv() => Event::Ours(arrival),
            arrival = receive(&mut self.list) => Event::Original(arrival),
            () = sleep_until(tick) => Event::Tick,
        };
        match event {
            Event::Ours(Some(Arrival::Message(response))) => self.hear(response),
            Event::Ours(Some(_)) => {
                self.be_patient();
                return self.ask_in_time().await;
            }
            Event::Original(Some(Arrival::Message(text))) => self.hear_original(&text),
            Event::Original(Some(_)) => {}
            Event::Ours(None) | Event::Original(None) => {
                return Err(Error::closed("call", self.function()));
            }
            Event::Tick => {
                if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                    return Ok(true);
                }
                if self.ask_again.elapsed() > STOOD_STILL {
                    // So did whatever reads the socket: answers may lie there.
                    self.be_patient();
                    self.ask_again = Instant::now() + ASK_AGAIN_EVERY;
                } else if Instant::now() >= self.ask_again {
                    return self.ask_in_time().await;
                }
            }
        }
        Ok(false)
    }

    fn hear(&mut self, response: Response) {
        let Some(ours) = response.ours else { return };
        let heard = self.known.entry(ours.provider).or_insert_with(Heard::new);
        (heard.last, heard.patient_since) = (Moment::now(), Instant::now());
        heard.gone_since = None;
        if matches!(heard.state, State::Answered | State::Lost) {
            return;
        }
        let reply = match ours.kind {
            // It has not begun the call, and is none of those who must answer any more.
            ResponseKind::Left => {
                heard.state = State::Left;
                return;
            }
            ResponseKind::Lost => {
                heard.state = State::Lost;
                self.missing.push(Missing { provider: Some(ours.provider), lost: true });
                return;
            }
            ResponseKind::Busy => {
                let outcome = Outcome::failure("Busy", "too many calls wait; it was not executed");
                Some(Reply { outcome, provider: Some(ours.provider) })
            }
            _ => finished(response),
        };
        if let Some(reply) = reply {
            heard.state = State::Answered;
            self.replies.push_back(reply);
        }
    }

    /// Silence while we were away says nothing about anybody.
    fn be_patient(&mut self) {
        let now = Instant::now();
        self.patient_since = now;
        for heard in self.known.values_mut() {
            heard.patient_since = now;
        }
    }

    /// Counts what cannot be read as a failure: nobody else knows this call's list, and whoever
    /// wrote it will not write again.
    fn hear_original(&mut self, text: &Bytes) {
        let outcome = Response::decode(text).map_or_else(
            |error| Outcome::failure("DecodeError", &error.to_string()),
            |response| response.outcome,
        );
        self.from_originals += 1;
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
        if self.others_silent() > 0 {
            self.judge_others().await?;
        }
        if self.is_settled() {
            return Ok(());
        }
        let running = self.ids(State::Running);
        self.repeat(&running).await?;
        match self.caller.transport.capabilities().receiver_count {
            true => self.judge_by_count(&running).await,
            false => {
                running.iter().for_each(|id| self.judge(*id, true));
                self.judge_unnamed(usize::MAX);
                Ok(())
            }
        }
    }

    /// Publishes the request again: to everyone while somebody is not known by name, but never so
    /// late that one who has answered could have forgotten it.
    async fn repeat(&self, running: &[Id]) -> Result<()> {
        let (caller, started) = (&self.caller, self.started.elapsed());
        if started < ASKS_WITHIN {
            let marker = caller.namespace.marker(self.function());
            return self.publish_again(&marker, started).await;
        }
        for id in running {
            let silent = self.known[id].last.elapsed();
            if silent < ASKS_WITHIN {
                self.publish_again(&caller.namespace.instance(*id), silent).await?;
            }
        }
        Ok(())
    }

    async fn publish_again(&self, topic: &str, silent: Duration) -> Result<()> {
        let ours = self.request.ours;
        let ours = ours.map(|ours| RequestExtension { silent: Some(silent), ..ours });
        let again = Request { ours, ..self.request.clone() }.encode()?;
        match self.caller.transport.publish(topic, again).await {
            // It may have arrived; if not, it is asked again.
            Err(error) if error.kind() == ErrorKind::Ambiguous => Ok(()),
            Err(error) => Err(self.cut(error)),
            Ok(_) => Ok(()),
        }
    }

    async fn judge_by_count(&mut self, running: &[Id]) -> Result<()> {
        let caller = Arc::clone(&self.caller);
        let others = [State::Answered, State::Left].into_iter().flat_map(|state| self.ids(state));
        let instances = running.iter().copied().chain(others);
        let instances = instances.map(|id| caller.namespace.instance(id));
        let marker = caller.namespace.marker(self.function());
        let topics: Vec<String> = std::iter::once(marker).chain(instances).collect();
        let counts = caller.transport.count(&topics).await.map_err(|error| self.cut(error))?;
        if caller.after_gap() {
            return Ok(());
        }
        for (id, count) in running.iter().zip(&counts[1..]) {
            self.judge(*id, *count > 0);
        }
        let named = counts[1..].iter().filter(|count| **count > 0).count();
        self.judge_unnamed(counts[0].saturating_sub(named));
        Ok(())
    }

    /// How many subscribers that may be the original's have neither answered nor gone.
    fn others_silent(&self) -> usize {
        self.others.saturating_sub(self.from_originals + self.others_lost)
    }

    /// Gives up subscribers that may have been providers of the original, once they are gone; tells
    /// of them while they are there and say nothing.
    async fn judge_others(&mut self) -> Result<()> {
        let caller = Arc::clone(&self.caller);
        let function = self.function();
        let topics = [caller.namespace.whole(function), caller.namespace.marker(function)];
        let counts = caller.transport.count(&topics).await.map_err(|error| self.cut(error))?;
        let [exact, ours] = counts[..] else { return Ok(()) };
        if exact > ours || caller.after_gap() {
            self.others_gone_since = None;
            if self.ours == 0 && self.started.elapsed() >= SILENCE_IS_TOLD_AFTER {
                self.tell_of_silence(exact - ours.min(exact));
            }
            return Ok(());
        }
        let gone_since = *self.others_gone_since.get_or_insert_with(Instant::now);
        if gone_since.elapsed() >= GONE_AFTER {
            self.others_lost = self.others_silent();
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

    /// The request was sent, so that its caller must not hear that nothing was done.
    fn cut(&self, error: Error) -> Error {
        if error.kind() != ErrorKind::Connection {
            return error;
        }
        let why = "the connection was lost during the call; it may have been executed";
        Error::new(ErrorKind::Ambiguous, "call", self.function(), why).with_source(error)
    }

    /// Why a call to one of the original's got no answer.
    fn unanswered(&self) -> Error {
        let (kind, why) = match self.others_silent() > 0 {
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

    fn ids(&self, state: State) -> Vec<Id> {
        let with_state = self.known.iter().filter(|(_, heard)| heard.state == state);
        with_state.map(|(id, _)| *id).collect()
    }

    fn judge(&mut self, id: Id, present: bool) {
        let heard = self.known.get_mut(&id).expect("it was taken from the table");
        heard.gone_since = (!present).then(|| heard.gone_since.unwrap_or_else(Instant::now));
        let gone = heard.gone_since.is_some_and(|since| since.elapsed() >= GONE_AFTER);
        if gone || heard.patient_since.elapsed() >= LOST_AFTER {
            heard.state = State::Lost;
            self.missing.push(Missing { provider: Some(id), lost: true });
        }
    }

    /// Strikes off providers that were counted but never heard of, when too few are left for them.
    fn judge_unnamed(&mut self, present: usize) {
        let unnamed = self.ours.saturating_sub(self.known.len() + self.unnamed_missing());
        let silent = self.patient_since.elapsed() >= LOST_AFTER;
        let lost = if silent { unnamed } else { unnamed.saturating_sub(present) };
        if lost == 0 {
            self.unnamed_gone_since = None;
        } else if silent
            || self.unnamed_gone_since.get_or_insert_with(Instant::now).elapsed() >= GONE_AFTER
        {
            self.missing.extend((0..lost).map(|_| Missing { provider: None, lost: true }));
        }
    }

    /// Names who is missing, and tells them that nobody waits any more.
    fn conclude(&mut self) {
        self.tell_late();
        self.concluded = true;
        let late = self.ids(State::Running);
        let unnamed = self.ours.saturating_sub(self.known.len() + self.unnamed_missing());
        // Beside providers of ours, a silent subscriber is more likely a foreign one than a provider.
        let (silent, gone) = match self.ours {
            0 => (self.others_silent(), self.others_lost),
            _ => (0, 0),
        };
        let named = late.into_iter().map(Some);
        let nameless = std::iter::repeat_n(None, unnamed + silent);
        let missing = named.chain(nameless).map(|provider| Missing { provider, lost: false });
        self.missing.extend(missing);
        self.missing.extend(std::iter::repeat_n(Missing { provider: None, lost: true }, gone));
        // They are handed out from the end.
        self.missing.reverse();
    }

    fn tell_late(&self) {
        if !self.concluded && !self.is_settled() {
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

/// The next arrival on a list, if there is one to read.
async fn receive(list: &mut Option<Inbox>) -> Option<Arrival<Bytes>> {
    match list {
        Some(list) => list.recv().await,
        None => std::future::pending().await,
    }
}
