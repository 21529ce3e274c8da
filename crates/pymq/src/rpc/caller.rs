//! The calling side of a bus: one inbox for all calls, and the way of a call to one provider.
//!
//! A request reaches exactly one provider of ours, whatever happens to it on the way; dropping the
//! future of a call cancels it there. Calls to everyone, and to providers of the original, are in
//! [`gather`](super::gather).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;
use tokio::time::{Duration, Instant, sleep, timeout_at};

use super::directory::{Choice, Directory, Lookup};
use super::pending::{Pending, Waiting};
use super::{
    ASK_AGAIN_EVERY, CallOptions, GONE_AFTER, LOST_AFTER, RECONNECTS_WITHIN, RETURN_WITHIN, Reply,
};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::name::{self, Id, Namespace};
use crate::transport::{Arrival, Inbox, Transport};
use crate::wire::{
    Arguments, Control, Request, RequestExtension, Response, ResponseExtension, ResponseKind,
};

/// How long "who is there" waits for the first answer, and then for the others.
const FIRST_ANSWER_WITHIN: Duration = Duration::from_secs(2);
const OTHERS_WITHIN: Duration = Duration::from_millis(100);

/// One bus's calling side.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(super) transport: Arc<dyn Transport>,
    pub(super) namespace: Namespace,
    pub(super) pending: Arc<Pending>,
    runtime: Handle,
    limits: Limits,
    me: Id,
    directory: Directory,
    inbox: OnceCell<Reader>,
    /// Whether the transport counts our inbox among its topics: only then its absence says something.
    inbox_is_counted: AtomicBool,
    last_gap: Arc<Mutex<Option<Instant>>>,
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
            directory: Directory::default(),
            inbox: OnceCell::new(),
            inbox_is_counted: AtomicBool::new(false),
            last_gap: Arc::default(),
        }
    }

    /// Calls one provider of `function`.
    ///
    /// # Errors
    /// `NoSuchRemote`, `Timeout`, `ProviderLost`, or that of a connection; a function that fails is
    /// a reply.
    pub(crate) async fn call(
        self: &Arc<Self>,
        function: &str,
        arguments: Arguments,
        options: CallOptions,
    ) -> Result<Reply> {
        self.check(function, &arguments)?;
        let deadline = options.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let answered = self.call_one(function, arguments, deadline);
        let answered = match deadline {
            None => answered.await,
            // Dropping the future cancels the call at its provider.
            Some(deadline) => timeout_at(deadline, answered)
                .await
                .unwrap_or_else(|_| Err(timed_out(function, options.timeout))),
        };
        answered.map_err(|error| error.of("call", name::shortened(function)))
    }

    /// # Errors
    /// `Config` for a name and `Encode` for arguments that cannot be sent.
    pub(super) fn check(&self, function: &str, arguments: &Arguments) -> Result<()> {
        name::check("call", function)?;
        let bytes = arguments.positional.len() + arguments.keywords.len();
        self.limits.check("call", function, bytes)
    }

    async fn call_one(
        self: &Arc<Self>,
        function: &str,
        arguments: Arguments,
        deadline: Option<Instant>,
    ) -> Result<Reply> {
        self.open().await?;
        let request = self.request(function, arguments, deadline);
        let (call, bytes) =
            (request.ours.map_or_else(Id::random, |ours| ours.call), request.encode());
        loop {
            let choice = match self.route(function).await? {
                Route::One(choice) => choice,
                Route::Originals => return self.first_answer(request).await,
            };
            let mut waiting = self.pending.open(call);
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
            let reply = self.watch(&mut waiting, function, &choice, &bytes).await;
            cancel.disarm();
            return reply;
        }
    }

    pub(super) fn request(
        &self,
        function: &str,
        arguments: Arguments,
        deadline: Option<Instant>,
    ) -> Request {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        // One identity is enough: to draw two costs more than to write them.
        let call = Id::random();
        Request {
            function: function.to_owned(),
            reply_list: call.reply_list(),
            arguments,
            ours: Some(RequestExtension { call, inbox: self.me, left }),
        }
    }

    /// Waits for the one reply, asking again under the same identity whenever it is silent.
    async fn watch(
        &self,
        waiting: &mut Waiting,
        function: &str,
        choice: &Choice,
        request: &Bytes,
    ) -> Result<Reply> {
        let mut heard = Instant::now();
        let mut gone_since: Option<Instant> = None;
        let mut ask_again = heard + ASK_AGAIN_EVERY;
        loop {
            match timeout_at(ask_again, waiting.recv()).await {
                // Only the one who was asked can answer.
                Ok(Some(Arrival::Message(Response { ours: Some(from), .. })))
                    if from.provider != choice.id() =>
                {
                    tracing::warn!(function, provider = %from.provider, "answer of a stranger dropped");
                    continue;
                }
                Ok(Some(Arrival::Message(response))) => {
                    if let Some(reply) = finished(response) {
                        return Ok(reply);
                    }
                    (heard, gone_since) = (Instant::now(), None);
                    ask_again = heard + super::BEAT_EVERY + ASK_AGAIN_EVERY;
                    continue;
                }
                // Silence while we were away says nothing about the provider.
                Ok(Some(Arrival::Gap | Arrival::Lagged(_) | Arrival::Refused(_))) => {
                    heard = Instant::now();
                }
                Ok(None) => return Err(Error::closed("call", function)),
                Err(_) => {}
            }
            let receivers = self.transport.publish(choice.instance(), request.clone()).await;
            let reached = match receivers {
                Ok(Some(0)) => false,
                Err(error) if error.kind() != ErrorKind::Ambiguous => return Err(error),
                _ => true,
            };
            gone_since = (!reached).then(|| gone_since.unwrap_or_else(Instant::now));
            let gone = gone_since.is_some_and(|since| since.elapsed() >= GONE_AFTER);
            if (gone && !self.after_gap()) || heard.elapsed() >= LOST_AFTER {
                self.directory.forget(function, choice.id());
                return Err(lost(function, choice.id()));
            }
            ask_again = Instant::now() + ASK_AGAIN_EVERY;
        }
    }

    /// Finds out where a call to `function` goes.
    async fn route(self: &Arc<Self>, function: &str) -> Result<Route> {
        let mut nobody_since: Option<Instant> = None;
        loop {
            let left = match self.directory.choose(function) {
                Lookup::Chosen { choice, stale } => {
                    if stale {
                        self.refresh(function);
                    }
                    return Ok(Route::One(choice));
                }
                Lookup::Unknown { left } => left,
            };
            let there = self.who(function).await?;
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
            match caller.who(&function).await {
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

    /// Asks all providers of `function` to say that they are there.
    async fn who(&self, function: &str) -> Result<There> {
        let mut waiting = self.pending.open(Id::random());
        let question = Control::Who { call: waiting.call(), inbox: self.me }.encode();
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
        let mut there = There { ids: Vec::new(), ours, others: exact.saturating_sub(ours), away };
        let mut until = Instant::now() + FIRST_ANSWER_WITHIN;
        while there.ids.len() < ours {
            match timeout_at(until, waiting.recv()).await {
                Ok(Some(Arrival::Message(Response { ours: Some(answer), .. }))) => {
                    there.ids.push(answer.provider);
                    until = until.min(Instant::now() + OTHERS_WITHIN);
                }
                Ok(Some(_)) => {}
                Ok(None) => return Err(Error::closed("call", function)),
                Err(_) => break,
            }
        }
        Ok(there)
    }

    /// Opens the inbox, at the first call.
    pub(super) async fn open(&self) -> Result<()> {
        let address = self.namespace.inbox(self.me);
        self.inbox
            .get_or_try_init(|| async {
                let inbox = self.transport.open_inbox(&address).await?;
                let (pending, gap) = (Arc::clone(&self.pending), Arc::clone(&self.last_gap));
                Ok(Reader(self.runtime.spawn(read(inbox, pending, gap))))
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
struct There {
    ids: Vec<Id>,
    ours: usize,
    others: usize,
    /// Whether our own inbox was not connected at that moment.
    away: bool,
}

async fn read(mut inbox: Inbox, pending: Arc<Pending>, gap: Arc<Mutex<Option<Instant>>>) {
    while let Some(arrival) = inbox.recv().await {
        match arrival {
            Arrival::Message(text) => match Response::decode(&text) {
                Ok(response) => pending.route(response),
                Err(error) => tracing::warn!(%error, "malformed response dropped"),
            },
            Arrival::Gap | Arrival::Lagged(_) | Arrival::Refused(_) => {
                *gap.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                pending.gap();
            }
        }
    }
    pending.close();
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

pub(super) fn timed_out(function: &str, timeout: Option<Duration>) -> Error {
    let waited = timeout.unwrap_or_default().as_secs_f64();
    Error::new(ErrorKind::Timeout, "call", function, format!("gave up waiting after {waited} s"))
}

fn lost(function: &str, provider: Id) -> Error {
    let why = format!("provider {provider} died or fell silent during the call");
    Error::new(ErrorKind::ProviderLost, "call", function, why)
}

fn unresponsive(function: &str) -> Error {
    let why = "its providers are connected but do not answer";
    Error::new(ErrorKind::ProviderLost, "call", function, why)
}
