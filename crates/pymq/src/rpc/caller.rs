//! The calling side of a bus: one inbox for all calls, and the way of a call to one provider.
//!
//! A request reaches exactly one provider of ours, whatever happens to it on the way; dropping the
//! future of a call cancels it there. How its answer is waited for is in [`watch`](super::watch),
//! calls to everyone, and to providers of the original, are in [`everyone`](super::everyone).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;
use tokio::time::{Duration, Instant, sleep, timeout_at};

use super::current::current_call;
use super::directory::{Choice, Directory, Lookup};
use super::pending::Pending;
use super::watch::{Ended, Watch, lost};
use super::{
    CallOptions, KNOWN_FOR, LOST_AFTER, RECONNECTS_WITHIN, RETURN_WITHIN, Reply, SILENCE_ENDS_AFTER,
};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::name::{self, Id, Namespace};
use crate::transport::{self, Arrival, Inbox, Transport};
use crate::wire::{
    Arguments, Control, Metadata, Request, RequestExtension, Response, ResponseExtension,
    ResponseKind,
};

/// How long "who is there" waits for the first answer, and then for the others.
const FIRST_ANSWER_WITHIN: Duration = Duration::from_secs(2);
const OTHERS_WITHIN: Duration = Duration::from_millis(100);
/// The same where nobody can count who is there, so that silence means nobody.
const SOMEBODY_WITHIN: Duration = Duration::from_secs(1);

/// One bus's calling side.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(super) transport: Arc<dyn Transport>,
    pub(super) namespace: Namespace,
    pub(super) pending: Arc<Pending>,
    pub(super) directory: Arc<Directory>,
    runtime: Handle,
    limits: Limits,
    me: Id,
    inbox: OnceCell<Reader>,
    /// Whether the transport counts our inbox among its topics: only then its absence says something.
    inbox_is_counted: AtomicBool,
    last_gap: Arc<Mutex<Option<Instant>>>,
    /// Whether the bus closes: a provider on it that says goodbye is no news of a missing function.
    closing: AtomicBool,
}

/// The task that reads the inbox; it ends with the caller.
#[derive(Debug)]
struct Reader(JoinHandle<()>);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Where a call goes.
enum Route {
    One(Choice),
    Originals,
}

/// What is called, with what.
#[derive(Clone, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) function: &'a str,
    pub(crate) arguments: Arguments,
    pub(crate) metadata: Metadata,
}

/// How long a call may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Time {
    pub(super) deadline: Option<Instant>,
    /// How long it was given, for the words of an error.
    given: Option<Duration>,
    /// When subscribers are given up that never answer and may be anybody.
    pub(super) silent_until: Option<Instant>,
}

/// How far a call got; what was not sent when its time is over can be tried again.
#[derive(Debug, Default)]
pub(super) struct Way(AtomicBool);

impl Way {
    pub(super) fn waits_for_the_broker(&self, waits: bool) {
        self.0.store(waits, Ordering::Relaxed);
    }
}

impl Caller {
    pub(crate) fn new(
        transport: Arc<dyn Transport>,
        namespace: Namespace,
        runtime: Handle,
        limits: Limits,
    ) -> Self {
        Self {
            transport,
            namespace,
            runtime,
            limits,
            me: Id::random(),
            pending: Arc::default(),
            directory: Arc::default(),
            inbox: OnceCell::new(),
            inbox_is_counted: AtomicBool::new(false),
            last_gap: Arc::default(),
            closing: AtomicBool::new(false),
        }
    }

    /// Notes that the bus closes.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// Calls one provider of `function`.
    ///
    /// # Errors
    /// `Encode`, `NoSuchRemote`, `Busy`, `Timeout`, `ProviderLost`, or that of a connection; a
    /// function that fails is a reply.
    pub(crate) async fn call(
        self: &Arc<Self>,
        asked: Asked<'_>,
        options: CallOptions,
    ) -> Result<Reply> {
        let function = asked.function;
        let (time, way) = (self.time(options), Way::default());
        let request = self.request(asked, time.deadline)?;
        let answered = self.call_one(request, time, &way);
        self.within(function, time, &way, answered).await
    }

    /// Ends `work` at the call's deadline.
    pub(super) async fn within<T>(
        &self,
        function: &str,
        time: Time,
        way: &Way,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let done = match time.deadline {
            None => work.await,
            // Dropping the future cancels the call at its provider.
            Some(deadline) => timeout_at(deadline, work)
                .await
                .unwrap_or_else(|_| Err(self.over(function, time, way))),
        };
        done.map_err(|error| match error.kind() {
            ErrorKind::NoSuchRemote if self.closing.load(Ordering::Relaxed) => {
                Error::closed("call", name::shortened(function))
            }
            _ => error.of("call", name::shortened(function)),
        })
    }

    /// The error of a call whose time is over. What was surely not sent may be tried again.
    pub(super) fn over(&self, function: &str, time: Time, way: &Way) -> Error {
        let waited = match time.given {
            Some(given) => format!("after {} s", given.as_secs_f64()),
            None => "when the time of the call around it was over".to_owned(),
        };
        let state = self.transport.states().now();
        if way.0.load(Ordering::Relaxed) && !state.is_connected() {
            let why = format!("{state}; gave up {waited}, and nothing was sent");
            return Error::new(ErrorKind::Connection, "call", function, why);
        }
        Error::new(ErrorKind::Timeout, "call", function, format!("gave up waiting {waited}"))
    }

    /// How long a call may take: as long as it says, else as the bus says, and never longer than the
    /// call within which it is made.
    pub(super) fn time(&self, options: CallOptions) -> Time {
        let now = Instant::now();
        let given = options.timeout.or(self.limits.call_timeout);
        let own = given.and_then(|given| now.checked_add(given));
        let outer = current_call().and_then(|call| call.deadline());
        Time {
            deadline: own.into_iter().chain(outer).min(),
            given,
            silent_until: given.is_none().then(|| now + SILENCE_ENDS_AFTER),
        }
    }

    async fn call_one(
        self: &Arc<Self>,
        mut request: Request,
        time: Time,
        way: &Way,
    ) -> Result<Reply> {
        let bytes = self.encoded(&request)?;
        way.waits_for_the_broker(true);
        self.open().await?;
        way.waits_for_the_broker(false);
        let call = request.ours.map_or_else(Id::random, |ours| ours.call);
        let mut busy = Vec::new();
        loop {
            let function = request.function.as_str();
            let choice = match self.route(function, &busy, way).await? {
                Route::One(choice) => choice,
                Route::Originals => return self.first_answer(request, time, way).await,
            };
            self.reach(choice.instance(), way).await?;
            let waiting = self.pending.open(call);
            match self.transport.publish(choice.instance(), bytes.clone()).await {
                Ok(Some(0)) => {
                    self.directory.forget(function, choice.id());
                    continue;
                }
                // It may have arrived, so only the same provider may be asked again.
                Err(error) if error.kind() == ErrorKind::Ambiguous => {}
                sent => drop(sent?),
            }
            let cancel = CancelOnDrop::new(self, choice.instance(), call);
            let ended = Watch::new(self, waiting, &choice, &mut request).answer().await;
            cancel.disarm();
            match ended? {
                Ended::Reply(reply) => return Ok(reply),
                // Neither has begun it, so that another one may.
                Ended::Busy => busy.push(choice.id()),
                Ended::Lost => {
                    self.directory.forget(&request.function, choice.id());
                    return Err(lost(&request.function, choice.id()));
                }
                Ended::Left => self.directory.forget(&request.function, choice.id()),
            }
        }
    }

    /// Where the broker is away, waits for it with a question, so that a call whose time is over by
    /// then was surely not sent.
    pub(super) async fn reach(&self, topic: &str, way: &Way) -> Result<()> {
        let counts = self.transport.capabilities().receiver_count;
        if counts && !self.transport.states().now().is_connected() {
            way.waits_for_the_broker(true);
            self.transport.count(&[topic.to_owned()]).await?;
        }
        way.waits_for_the_broker(false);
        Ok(())
    }

    /// A request as bytes that every provider reads.
    ///
    /// # Errors
    /// `Encode` for what is too large or too deep.
    pub(super) fn encoded(&self, request: &Request) -> Result<Bytes> {
        let bytes = request.encode()?;
        match self.limits.refusal_in(request.arguments.weight(), &bytes) {
            None => Ok(bytes),
            Some(why) => Err(Error::new(ErrorKind::Encode, "call", &*request.function, why)),
        }
    }

    /// What is sent for a call.
    ///
    /// # Errors
    /// `Config` for a name and `Encode` for arguments or metadata that cannot be sent.
    pub(super) fn request(&self, asked: Asked<'_>, deadline: Option<Instant>) -> Result<Request> {
        let Asked { function, arguments, metadata } = asked;
        name::check("call", function)?;
        transport::check_runtime(&*self.transport, "call", function)?;
        let metadata = match current_call() {
            Some(outer) => metadata.within(outer.metadata()),
            None => metadata,
        }
        .stamped();
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        // One identity is enough: to draw two costs more than to write them.
        let call = Id::random();
        Ok(Request {
            function: function.to_owned(),
            reply_list: call.reply_list(),
            arguments,
            metadata,
            ours: Some(RequestExtension { call, inbox: self.me, left, silent: None }),
        })
    }

    /// Finds out where a call to `function` goes, past the providers that were `tried`.
    async fn route(self: &Arc<Self>, function: &str, tried: &[Id], way: &Way) -> Result<Route> {
        let counts = self.transport.capabilities().receiver_count;
        let trusted = if counts { Duration::MAX } else { KNOWN_FOR / 2 };
        let mut nobody_since: Option<Instant> = None;
        loop {
            let left = match self.directory.choose(function, tried, trusted) {
                Lookup::Chosen { choice, stale } => {
                    if stale {
                        self.refresh(function);
                    }
                    return Ok(Route::One(choice));
                }
                Lookup::AllTried => return Err(all_busy(function)),
                Lookup::Unknown { left } => left,
            };
            let there = self.who(function, way).await?;
            if !there.ids.is_empty() {
                self.directory.learn(&self.namespace, function, &there.ids);
                continue;
            }
            if there.ours > 0 {
                // They are subscribed and say nothing: stopped, or just dying. Ask on.
                if nobody_since.get_or_insert_with(Instant::now).elapsed() >= LOST_AFTER {
                    return Err(unresponsive(function));
                }
                continue;
            }
            if there.others > 0 && self.transport.capabilities().originals {
                return Ok(Route::Originals);
            }
            let since = *nobody_since.get_or_insert_with(Instant::now);
            if !self.may_return(left, since, &there) {
                return Err(no_such_remote(function));
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Whether providers that were known, the last of which `left`, may be on their way back since
    /// nobody was found, at `since`.
    fn may_return(&self, left: Option<Instant>, since: Instant, there: &There) -> bool {
        match left {
            Some(_) if there.away || self.after_gap() => since.elapsed() < RETURN_WITHIN,
            // Who has lost its connection looks like who has left for good.
            Some(left) if self.transport.capabilities().cross_process => {
                left.elapsed() < RECONNECTS_WITHIN
            }
            _ => false,
        }
    }

    /// Asks again in the background who provides `function`.
    fn refresh(self: &Arc<Self>, function: &str) {
        let (caller, function) = (Arc::clone(self), function.to_owned());
        self.runtime.spawn(async move {
            match caller.who(&function, &Way::default()).await {
                Ok(there) if there.ids.len() >= there.ours => {
                    caller.directory.learn(&caller.namespace, &function, &there.ids);
                }
                Ok(_) => {
                    tracing::debug!(function, "some providers did not say that they are there");
                }
                Err(error) => tracing::debug!(function, %error, "could not ask who is there"),
            }
        });
    }

    /// Who provides `function`, with its open calls; how many providers said nothing, and how many
    /// others listen.
    pub(crate) async fn providers(
        self: &Arc<Self>,
        function: &str,
    ) -> Result<(Vec<(Id, Option<usize>)>, usize, usize)> {
        self.open().await?;
        let There { ids, open_calls, ours, others, .. } =
            self.who(function, &Way::default()).await?;
        let silent = ours.saturating_sub(ids.len());
        Ok((ids.into_iter().zip(open_calls).collect(), silent, others))
    }

    /// Asks all providers of `function` to say that they are there.
    pub(super) async fn who(&self, function: &str, way: &Way) -> Result<There> {
        let mut waiting = self.pending.open(Id::random());
        let question = Control::Who { call: waiting.call(), inbox: self.me }.encode();
        way.waits_for_the_broker(true);
        let (mut there, first_within) = match self.transport.capabilities().receiver_count {
            true => (self.ask_and_count(function, question).await?, FIRST_ANSWER_WITHIN),
            false => {
                self.transport.publish(&self.namespace.marker(function), question).await?;
                (There::default(), SOMEBODY_WITHIN)
            }
        };
        way.waits_for_the_broker(false);
        let counts = self.transport.capabilities().receiver_count;
        let mut until = Instant::now() + first_within;
        while !counts || there.ids.len() < there.ours {
            match timeout_at(until, waiting.recv()).await {
                Ok(Some(Arrival::Message(Response { ours: Some(answer), outcome, .. }))) => {
                    there.ids.push(answer.provider);
                    there.open_calls.push(outcome.open_calls());
                    until = until.min(Instant::now() + OTHERS_WITHIN);
                }
                Ok(Some(_)) => {}
                Ok(None) => return Err(Error::closed("call", function)),
                Err(_) => break,
            }
        }
        Ok(there)
    }

    /// Asks who is there, and counts in the same step who must answer.
    async fn ask_and_count(&self, function: &str, question: Bytes) -> Result<There> {
        let inbox = self.namespace.inbox(self.me);
        let topics = [
            self.namespace.marker(function),
            self.namespace.whole(function),
            inbox.name().to_owned(),
        ];
        let counts = self.transport.publish_counted(&topics, question).await?;
        let [ours, exact, reading] = counts[..] else {
            return Err(Error::new(ErrorKind::Server, "call", function, "no count for each topic"));
        };
        let counted = self.inbox_is_counted.fetch_or(reading > 0, Ordering::Relaxed);
        let away = counted && reading == 0;
        Ok(There {
            ids: Vec::new(),
            open_calls: Vec::new(),
            ours,
            others: exact.saturating_sub(ours),
            away,
        })
    }

    /// Opens the inbox, at the first call.
    pub(super) async fn open(&self) -> Result<()> {
        let address = self.namespace.inbox(self.me);
        self.inbox
            .get_or_try_init(|| async {
                let inbox = self.transport.open_inbox(&address).await?;
                let reading = Reading {
                    pending: Arc::clone(&self.pending),
                    directory: Arc::clone(&self.directory),
                    gap: Arc::clone(&self.last_gap),
                };
                Ok(Reader(self.runtime.spawn(async move { reading.read(inbox).await })))
            })
            .await
            .map(drop)
    }

    /// Whether the inbox lost its connection so recently that providers may still be on their way
    /// back.
    pub(super) fn after_gap(&self) -> bool {
        let gap = *self.last_gap.lock().unwrap_or_else(PoisonError::into_inner);
        gap.is_some_and(|gap| gap.elapsed() < RETURN_WITHIN)
    }

    /// Tells whoever runs `call` that nobody waits any more; from any thread, without waiting.
    pub(super) fn cancel(&self, topic: String, call: Id) {
        let transport = Arc::clone(&self.transport);
        self.runtime.spawn(async move {
            let cancel = Control::Cancel { call }.encode();
            if let Err(error) = transport.publish(&topic, cancel).await {
                tracing::debug!(%call, %error, "could not cancel a call");
            }
        });
    }
}

/// Who is there for a function.
#[derive(Debug, Default)]
pub(super) struct There {
    pub(super) ids: Vec<Id>,
    /// Of each of them, where it says so.
    open_calls: Vec<Option<usize>>,
    ours: usize,
    others: usize,
    /// Whether our own inbox was not connected at that moment.
    away: bool,
}

/// What the task that reads the inbox tells; its end, whatever ended it, ends every call.
struct Reading {
    pending: Arc<Pending>,
    directory: Arc<Directory>,
    gap: Arc<Mutex<Option<Instant>>>,
}

impl Reading {
    async fn read(self, mut inbox: Inbox) {
        while let Some(arrival) = inbox.recv().await {
            match arrival {
                Arrival::Message(text) => match Response::decode(&text) {
                    Ok(response) => self.hear(response),
                    Err(error) => tracing::warn!(%error, "malformed response dropped"),
                },
                Arrival::Gap | Arrival::Lagged(_) | Arrival::Refused(_) => {
                    let mut gap = self.gap.lock().unwrap_or_else(PoisonError::into_inner);
                    *gap = Some(Instant::now());
                    drop(gap);
                    self.pending.gap();
                }
            }
        }
    }

    fn hear(&self, response: Response) {
        if let Some(ResponseExtension { kind: ResponseKind::Left, provider, .. }) = response.ours {
            self.directory.forget_everywhere(provider);
        }
        self.pending.route(response);
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.pending.close();
    }
}

/// The reply that a response of a provider of ours brings, if it brings one.
pub(super) fn finished(response: Response) -> Option<Reply> {
    match response.ours {
        Some(ResponseExtension { kind: ResponseKind::Result, provider, .. }) => {
            Some(Reply { outcome: response.outcome, provider: Some(provider) })
        }
        _ => None,
    }
}

/// Cancels a call at its provider unless it ended by itself.
pub(super) struct CancelOnDrop<'a>(Option<(&'a Caller, &'a str, Id)>);

impl<'a> CancelOnDrop<'a> {
    pub(super) fn new(caller: &'a Caller, topic: &'a str, call: Id) -> Self {
        Self(Some((caller, topic, call)))
    }

    pub(super) fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if let Some((caller, topic, call)) = self.0.take() {
            caller.cancel(topic.to_owned(), call);
        }
    }
}

pub(super) fn no_such_remote(function: &str) -> Error {
    Error::new(
        ErrorKind::NoSuchRemote,
        "call",
        function,
        "nobody exposes it in this namespace; start its provider or check the name",
    )
}

fn all_busy(function: &str) -> Error {
    let why = "too many calls wait at each of its providers; it was not executed";
    Error::new(ErrorKind::Busy, "call", function, why)
}

fn unresponsive(function: &str) -> Error {
    let why = "its providers are connected but do not answer";
    Error::new(ErrorKind::ProviderLost, "call", function, why)
}
