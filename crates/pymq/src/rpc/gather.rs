//! Calls to everyone: one request, an answer of each provider, the missing named.
//!
//! How many providers of ours must answer is counted in the step that publishes the request, so
//! that foreign subscribers disturb nothing. Providers of the original cannot be told from foreign
//! exact subscribers; they answer on a list of the call's own and are waited for as long as
//! [`CallOptions`] says.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::{Duration, Instant, sleep, sleep_until};

use super::caller::{Caller, finished, no_such_remote};
use super::pending::Waiting;
use super::{ASK_AGAIN_EVERY, CallOptions, GONE_AFTER, LOST_AFTER, RETURN_WITHIN, Reply};
use crate::error::{Error, ErrorKind, Result};
use crate::name::{Id, shortened};
use crate::transport::{Arrival, Inbox};
use crate::wire::{Arguments, Outcome, Request, Response};

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

impl Caller {
    /// Calls every provider of `function`; its answers are to be read as they come.
    ///
    /// # Errors
    /// `NoSuchRemote`, or that of a connection.
    pub(crate) async fn call_all(
        self: &Arc<Self>,
        function: &str,
        arguments: Arguments,
        options: CallOptions,
    ) -> Result<Gathering> {
        self.check(function, &arguments)?;
        let named = |error: Error| error.of("call", shortened(function));
        self.open().await.map_err(named)?;
        let deadline = options.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let request = self.request(function, arguments, deadline);
        let mut gathering = self.publish_to_all(&request).await.map_err(named)?;
        gathering.deadline = deadline;
        gathering.originals_until = match (deadline, gathering.ours) {
            (Some(deadline), _) => Some(deadline),
            (None, 0) => None,
            (None, _) => Some(Instant::now() + options.legacy_grace),
        };
        Ok(gathering)
    }

    /// The first answer to a request that only providers of the original can serve.
    pub(super) async fn first_answer(self: &Arc<Self>, request: Request) -> Result<Reply> {
        let mut gathering = self.publish_to_all(&request).await?;
        loop {
            gathering.advance().await?;
            if let Some(reply) = gathering.replies.pop_front() {
                return Ok(reply);
            }
            if gathering.is_complete() {
                // One of ours had come meanwhile, and is gone.
                let why = "its provider died or fell silent during the call";
                return Err(Error::new(ErrorKind::ProviderLost, "call", request.function, why));
            }
        }
    }

    /// Providers of the original drop keyword arguments and run without them, so none may get any.
    async fn refuse_keywords(&self, request: &Request, topics: &[String]) -> Result<()> {
        let has_keywords = &request.arguments.keywords[..] != b"{}";
        if !has_keywords || !self.transport.capabilities().originals {
            return Ok(());
        }
        match self.transport.count(topics).await?[..] {
            [exact, ours] if exact > ours => Err(Error::new(
                ErrorKind::Encode,
                "call",
                request.function.as_str(),
                "keyword arguments are lost on providers of the original, and one may be there; \
                 pass the arguments by position",
            )),
            _ => Ok(()),
        }
    }

    async fn publish_to_all(self: &Arc<Self>, request: &Request) -> Result<Gathering> {
        let function = request.function.as_str();
        let call = request.ours.map_or_else(Id::random, |ours| ours.call);
        let (topic, marker) = (self.namespace.whole(function), self.namespace.marker(function));
        let topics = [topic, marker];
        let started = Instant::now();
        let bytes = request.encode();
        self.refuse_keywords(request, &topics).await?;
        loop {
            let waiting = self.pending.open(call);
            let counts = self.transport.publish_counted(&topics, bytes.clone()).await?;
            let [exact, ours] = counts[..] else { return Err(no_such_remote(function)) };
            let originals = self.transport.capabilities().originals;
            let others = if originals { exact.saturating_sub(ours) } else { 0 };
            if ours + others == 0 {
                if !self.after_gap() || started.elapsed() >= RETURN_WITHIN {
                    return Err(no_such_remote(function));
                }
                sleep(Duration::from_millis(50)).await;
                continue;
            }
            let list = if others > 0 {
                let address = self.namespace.reply_list(&request.reply_list)?;
                Some(self.transport.open_inbox(&address).await?)
            } else {
                None
            };
            let caller = Arc::clone(self);
            return Ok(Gathering::new(caller, function, bytes, waiting, list, ours, others));
        }
    }
}

/// A call to everyone under way; dropping it tells who still runs that nobody waits any more.
pub(crate) struct Gathering {
    caller: Arc<Caller>,
    function: String,
    request: Bytes,
    waiting: Waiting,
    list: Option<Inbox>,
    /// How many providers of ours, and how many others, the request reached.
    ours: usize,
    others: usize,
    known: BTreeMap<Id, Heard>,
    from_originals: usize,
    /// Heard, and not yet handed out.
    replies: VecDeque<Reply>,
    missing: Vec<Missing>,
    /// Whether no more is heard: then the missing are handed out.
    concluded: bool,
    deadline: Option<Instant>,
    originals_until: Option<Instant>,
    ask_again: Instant,
    started: Instant,
    unnamed_gone_since: Option<Instant>,
}

/// What is known of one provider.
struct Heard {
    last: Instant,
    gone_since: Option<Instant>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    Answered,
    Lost,
}

enum Event {
    Ours(Option<Arrival<Response>>),
    Original(Option<Arrival<Bytes>>),
    Tick,
}

impl Gathering {
    fn new(
        caller: Arc<Caller>,
        function: &str,
        request: Bytes,
        waiting: Waiting,
        list: Option<Inbox>,
        ours: usize,
        others: usize,
    ) -> Self {
        let started = Instant::now();
        Self {
            caller,
            function: function.to_owned(),
            request,
            waiting,
            list,
            ours,
            others,
            known: BTreeMap::new(),
            from_originals: 0,
            replies: VecDeque::new(),
            missing: Vec::new(),
            concluded: false,
            deadline: None,
            originals_until: None,
            ask_again: started + ASK_AGAIN_EVERY,
            started,
            unnamed_gone_since: None,
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
                false => self.advance().await,
            };
            match over {
                Ok(false) => {}
                Ok(true) => self.conclude(),
                Err(error) => {
                    self.tell_late();
                    self.missing.clear();
                    self.concluded = true;
                    return Some(Err(error.of("call", shortened(&self.function))));
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

    fn unnamed_missing(&self) -> usize {
        self.missing.iter().filter(|missing| missing.provider.is_none()).count()
    }

    fn is_complete(&self) -> bool {
        let originals_over = self.originals_until.is_some_and(|until| Instant::now() >= until);
        self.is_settled() && (self.from_originals >= self.others || originals_over)
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
            Event::Ours(Some(_)) => self.ask().await?,
            Event::Original(Some(Arrival::Message(text))) => self.hear_original(&text),
            Event::Original(Some(_)) => {}
            Event::Ours(None) | Event::Original(None) => {
                return Err(Error::closed("call", self.function.as_str()));
            }
            Event::Tick => {
                if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                    return Ok(true);
                }
                if Instant::now() >= self.ask_again {
                    self.ask().await?;
                }
            }
        }
        Ok(false)
    }

    fn hear(&mut self, response: Response) {
        let Some(ours) = response.ours else { return };
        let heard = self.known.entry(ours.provider).or_insert(Heard {
            last: Instant::now(),
            gone_since: None,
            state: State::Running,
        });
        heard.last = Instant::now();
        heard.gone_since = None;
        let answered = heard.state == State::Answered;
        if let Some(reply) = finished(response).filter(|_| !answered) {
            heard.state = State::Answered;
            self.replies.push_back(reply);
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

    /// Asks all of ours again, under the same identity, and strikes off who is gone.
    async fn ask(&mut self) -> Result<()> {
        let caller = Arc::clone(&self.caller);
        self.ask_again = Instant::now() + ASK_AGAIN_EVERY;
        if self.ours == 0 {
            return Ok(());
        }
        let marker = caller.namespace.marker(&self.function);
        match caller.transport.publish(&marker, self.request.clone()).await {
            // It may have arrived; if not, it is asked again.
            Err(error) if error.kind() == ErrorKind::Ambiguous => {}
            asked => drop(asked?),
        }
        let running: Vec<Id> = self.ids(State::Running);
        let answered = self.ids(State::Answered);
        let topics: Vec<String> = std::iter::once(marker)
            .chain(running.iter().chain(&answered).map(|id| caller.namespace.instance(*id)))
            .collect();
        let counts = caller.transport.count(&topics).await?;
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

    fn ids(&self, state: State) -> Vec<Id> {
        let with_state = self.known.iter().filter(|(_, heard)| heard.state == state);
        with_state.map(|(id, _)| *id).collect()
    }

    fn judge(&mut self, id: Id, present: bool) {
        let heard = self.known.get_mut(&id).expect("it was taken from the table");
        heard.gone_since = (!present).then(|| heard.gone_since.unwrap_or_else(Instant::now));
        let gone = heard.gone_since.is_some_and(|since| since.elapsed() >= GONE_AFTER);
        if gone || heard.last.elapsed() >= LOST_AFTER {
            heard.state = State::Lost;
            self.missing.push(Missing { provider: Some(id), lost: true });
        }
    }

    /// Strikes off providers that were counted but never heard of, when too few are left for them.
    fn judge_unnamed(&mut self, present: usize) {
        let unnamed = self.ours.saturating_sub(self.known.len() + self.unnamed_missing());
        let silent = self.started.elapsed() >= LOST_AFTER;
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
        let originals = match self.ours {
            0 => self.others.saturating_sub(self.from_originals),
            _ => 0,
        };
        let named = late.into_iter().map(Some);
        let nameless = std::iter::repeat_n(None, unnamed + originals);
        let missing = named.chain(nameless).map(|provider| Missing { provider, lost: false });
        self.missing.extend(missing);
        // They are handed out from the end.
        self.missing.reverse();
    }

    fn tell_late(&self) {
        if !self.concluded && !self.is_settled() {
            let marker = self.caller.namespace.marker(&self.function);
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
