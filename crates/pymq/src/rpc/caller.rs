//! The calling side of a bus: one inbox for all calls, and a call to one provider.
//!
//! A request reaches exactly one provider of ours, whatever happens to it on the way; dropping the
//! future of a call cancels it there. [`presence`](super::presence) decides which provider that is, and
//! [`attempt`](super::attempt) waits for its answer. Calls to everyone, and to providers of the original,
//! are in [`everyone`](super::everyone).

use std::borrow::Cow;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::OnceCell;
use tokio::time::{Duration, Instant, timeout_at};

use super::attempt::{Attempt, Ended};
use super::current::current_call;
use super::directory::Directory;
use super::errors::lost;
use super::inbox_reader::{InboxReader, LastGap};
use super::pending::Pending;
use super::presence::Destination;
use super::{CallOptions, REPLIES_KEPT, Reply, SILENCE_ENDS_AFTER};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::name::{self, Id, Namespace, REPLY_LIST};
use crate::transport::{self, Transport};
use crate::wire::{
    Arguments, Control, Metadata, Outcome, Request, RequestExtension, Response, ResponseExtension,
    ResponseKind,
};

/// One bus's calling side.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(super) transport: Arc<dyn Transport>,
    pub(super) namespace: Namespace,
    pub(super) pending: Arc<Pending>,
    pub(super) directory: Arc<Directory>,
    pub(super) runtime: Handle,
    limits: Limits,
    /// The name of our inbox.
    pub(super) me: Id,
    inbox: OnceCell<InboxReader>,
    /// The transport counts our inbox among its topics, so a count of 0 says that it is gone.
    pub(super) inbox_is_counted: AtomicBool,
    last_gap: Arc<LastGap>,
    /// The bus closes: its own providers end then, which does not mean that a function is missing.
    closing: AtomicBool,
}

/// A function that is to be called, and its arguments.
#[derive(Clone, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) function: &'a str,
    pub(crate) arguments: Arguments,
    pub(crate) metadata: Metadata,
}

/// The limits of a call in time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Time {
    pub(super) deadline: Option<Instant>,
    /// The timeout that was given, as an error names it.
    given: Option<Duration>,
    /// The moment at which unknown subscribers that have not answered are given up.
    pub(super) silent_until: Option<Instant>,
}

/// Whether a call waits for the broker before anything was sent. Such a call can be tried again when its
/// time is over.
#[derive(Debug, Default)]
pub(super) struct Sending(AtomicBool);

impl Sending {
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

    /// From now on, a call that finds no provider fails with `Closed`.
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
        let (time, sending) = (self.time(options), Sending::default());
        let mut reply_list = [0; REPLY_LIST];
        let request = self.request(asked, time.deadline, &mut reply_list)?;
        let answered = pin!(self.call_one(&request, time, &sending));
        self.within(function, time, &sending, answered).await
    }

    /// Ends `work` at the call's deadline. It is pinned where it was made, and not moved again.
    pub(super) async fn within<T>(
        &self,
        function: &str,
        time: Time,
        sending: &Sending,
        work: Pin<&mut impl Future<Output = Result<T>>>,
    ) -> Result<T> {
        let done = match time.deadline {
            None => work.await,
            // Dropping the future cancels the call at its provider.
            Some(deadline) => timeout_at(deadline, work)
                .await
                .unwrap_or_else(|_| Err(self.over(function, time, sending))),
        };
        done.map_err(|error| match error.kind() {
            ErrorKind::NoSuchRemote if self.closing.load(Ordering::Relaxed) => {
                Error::closed("call", name::shortened(function))
            }
            _ => error.of("call", name::shortened(function)),
        })
    }

    /// The error of a call whose time is over. What was surely not sent may be tried again.
    pub(super) fn over(&self, function: &str, time: Time, sending: &Sending) -> Error {
        let waited = match time.given {
            Some(given) => format!("after {} s", given.as_secs_f64()),
            None => "when the time of the call around it was over".to_owned(),
        };
        let state = self.transport.states().now();
        if sending.0.load(Ordering::Relaxed) && !state.is_connected() {
            let why = format!("{state}; gave up {waited}, and nothing was sent");
            return Error::new(ErrorKind::Connection, "call", function, why);
        }
        Error::new(ErrorKind::Timeout, "call", function, format!("gave up waiting {waited}"))
    }

    /// The limits of a call: its own timeout or else that of the bus, and never longer than the call within
    /// which it is made.
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

    // Rare branches are boxed, here and in what this waits for: a future is moved several times before it is
    // first polled, and it is as large as the largest future that it may wait for.
    async fn call_one(
        self: &Arc<Self>,
        request: &Request<'_>,
        time: Time,
        sending: &Sending,
    ) -> Result<Reply> {
        let mut encoded = Some(self.encoded(request)?);
        sending.waits_for_the_broker(true);
        self.open().await?;
        sending.waits_for_the_broker(false);
        let call = request.ours.map_or_else(Id::random, |ours| ours.call);
        let mut busy = Vec::new();
        loop {
            let function = &*request.function;
            let choice = match self.route(function, &busy, sending).await? {
                Destination::One(choice) => choice,
                Destination::Originals => {
                    let request = request.clone();
                    return Box::pin(self.first_answer(request, time, sending)).await;
                }
            };
            self.reach(choice.instance(), sending).await?;
            // Before the publish: its end is not missed, and an answer may be faster than this thread.
            let ends = choice.ends(&*self.transport).await?;
            let waiting = self.pending.open(call);
            // A caller that leaves from here on may leave a call that runs.
            let cancel = CancelOnDrop::new(self, choice.instance(), call);
            let bytes = match encoded.take() {
                Some(bytes) => bytes,
                None => self.encoded(request)?,
            };
            match self.transport.publish(choice.instance(), bytes).await {
                // Surely nobody has it, so that another provider may be asked.
                Ok(Some(0)) => {
                    cancel.disarm();
                    match ends.is_some_and(|ends| ends.count() > 0) {
                        true => self.directory.mourn(function, choice.id()),
                        false => self.directory.forget(function, choice.id()),
                    }
                    continue;
                }
                // It may have arrived, so only the same provider may be asked again.
                Err(error) if error.kind() == ErrorKind::Ambiguous => {}
                Err(error) => {
                    cancel.disarm();
                    return Err(error);
                }
                Ok(_) => {}
            }
            let ended = Attempt::new(self, waiting, (&choice, ends), request).answer().await;
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

    /// Waits for a broker that is away by asking it for a count. If the call's time ends meanwhile, nothing
    /// was sent.
    pub(super) async fn reach(&self, topic: &str, sending: &Sending) -> Result<()> {
        let counts = self.transport.capabilities().receiver_count;
        if counts && !self.transport.states().now().is_connected() {
            sending.waits_for_the_broker(true);
            Box::pin(async { self.transport.count(&[topic.to_owned()]).await }).await?;
        }
        sending.waits_for_the_broker(false);
        Ok(())
    }

    /// A request as bytes that every provider reads.
    ///
    /// # Errors
    /// `Encode` for what is too large or too deep.
    pub(super) fn encoded(&self, request: &Request<'_>) -> Result<Bytes> {
        let bytes = request.encode()?;
        match self.limits.refusal_in(request.arguments.weight(), &bytes) {
            None => Ok(bytes),
            Some(why) => Err(Error::new(ErrorKind::Encode, "call", &*request.function, why)),
        }
    }

    /// Makes the request of a call.
    ///
    /// # Errors
    /// `Config` for a name and `Encode` for arguments or metadata that cannot be sent.
    pub(super) fn request<'a>(
        &self,
        asked: Asked<'a>,
        deadline: Option<Instant>,
        reply_list: &'a mut [u8; REPLY_LIST],
    ) -> Result<Request<'a>> {
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
            function: Cow::Borrowed(function),
            reply_list: Cow::Borrowed(call.reply_list(reply_list)),
            arguments,
            metadata,
            ours: Some(RequestExtension { call, inbox: self.me, left, silent: None }),
        })
    }

    /// Opens the inbox, at the first call.
    pub(super) async fn open(&self) -> Result<()> {
        if self.inbox.initialized() {
            return Ok(());
        }
        let address = self.namespace.inbox(self.me);
        let opened = self.inbox.get_or_try_init(|| async {
            let inbox = self.transport.open_inbox(&address).await?;
            let Self { runtime, pending, directory, last_gap, .. } = self;
            Ok(InboxReader::start(runtime, inbox, pending, directory, last_gap))
        });
        Box::pin(opened).await.map(drop)
    }

    /// Returns when everything that was sent to us before has come to its call.
    pub(super) async fn catch_up(&self) -> Result<()> {
        let mut waiting = self.pending.open(Id::random());
        let (call, kind) = (waiting.call(), ResponseKind::Here);
        let sign = ResponseExtension { call, provider: self.me, kind, siblings: None };
        let outcome = Outcome::nothing();
        let sign = Response { function: Cow::Borrowed(""), outcome, ours: Some(sign) }.encode();
        self.transport.send(&self.namespace.inbox(self.me), sign, REPLIES_KEPT).await?;
        match waiting.recv().await {
            Some(_) => Ok(()),
            None => Err(Error::closed("call", "inbox")),
        }
    }

    /// Whether the inbox lost its connection so recently that providers may still be reconnecting.
    pub(super) fn after_gap(&self) -> bool {
        self.last_gap.is_recent()
    }

    /// Tells the provider that runs `call` that nobody waits any more; from any thread, without waiting.
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
