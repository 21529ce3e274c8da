//! What a bus does, told to its observers: the one seam for traces and for metrics.
//!
//! An [`Observer`] is told of each operation as it begins, may say headers that travel with what is
//! sent, and is told how it ended; [`Bus::observe`](crate::Bus::observe) sets it to work. The one
//! invariant: a program does the same whether it is watched or not. Headers that would not fit beside a
//! message are left out, and a bus that nobody watches pays for a look at one flag. What is done as
//! bytes, by a layer that has a codec of its own, is that layer's to tell.

use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::transport::Transport;
use crate::wire::Metadata;

/// An observer: it is told what a bus does.
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use pymq::Bus;
/// use pymq::telemetry::{End, Observation, Observer, Operation, Receipt};
///
/// #[derive(Debug, Default, Clone)]
/// struct Diary(Arc<Mutex<Vec<String>>>);
///
/// struct Entry(Diary, String);
///
/// impl Observer for Diary {
///     fn begin(&self, operation: &Operation<'_>) -> Box<dyn Observation> {
///         Box::new(Entry(self.clone(), format!("{} {}", operation.verb.word(), operation.name)))
///     }
///     fn received(&self, _: &Receipt<'_>) {}
/// }
///
/// impl Observation for Entry {
///     fn end(&self, end: &End<'_>) {
///         let how = end.error.unwrap_or("well");
///         self.0.0.lock().unwrap().push(format!("{} ended {how}", self.1));
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
/// let bus = Bus::connect("memory://").await?;
/// let diary = Diary::default();
/// bus.observe(diary.clone());
/// bus.topic("notes").publish(&"hello").await?;
/// let _ = bus.stub::<(), ()>("nobody").call(()).await;
/// assert_eq!(*diary.0.lock().unwrap(), ["publish notes ended well", "call nobody ended NoSuchRemote"]);
/// # Ok(()) }
/// ```
pub trait Observer: fmt::Debug + Send + Sync {
    /// An operation begins. It is called where the program waits for it, so what a library keeps for
    /// a thread or a task, such as a span that is active, can be found.
    fn begin(&self, operation: &Operation<'_>) -> Box<dyn Observation>;

    /// Messages were handed to the program, which had asked for them.
    fn received(&self, receipt: &Receipt<'_>);
}

/// One operation, as an observer follows it. Dropped, it is over.
pub trait Observation: Send + Sync {
    /// Headers that are to travel with what is sent, and with the calls that its receiver makes in
    /// turn. Those that the program says itself, and what does not fit beside a message, are left
    /// out.
    fn headers(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// Runs a step of the program's own code, which is a part of the operation: here what a library
    /// keeps for a thread may be set, and is to be put back. It runs `work` once.
    fn step(&self, work: &mut dyn FnMut()) {
        work();
    }

    /// The operation has ended; said once.
    fn end(&self, end: &End<'_>);
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Verb {
    /// An event is published.
    Publish,
    /// Items are put into a queue.
    Put,
    /// A handler of the program's runs with an item of a queue.
    Process,
    /// A remote function is called.
    Call,
    /// An exposed function answers a call.
    Serve,
    /// The program says that an item is done.
    Ack,
    /// The program gives an item back.
    Requeue,
    /// The program gives an item up.
    Reject,
}

impl Verb {
    /// It in one word: `publish`, `put`, `process`, `call`, `serve`, `ack`, `requeue`, `reject`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Put => "put",
            Self::Process => "process",
            Self::Call => "call",
            Self::Serve => "serve",
            Self::Ack => "ack",
            Self::Requeue => "requeue",
            Self::Reject => "reject",
        }
    }
}

/// An operation that begins.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Operation<'a> {
    /// What is done.
    pub verb: Verb,
    /// To which topic, queue or function, without the namespace.
    pub name: &'a str,
    /// With which message, where one had come before.
    pub message: Option<Received<'a>>,
    /// By which server, where there is one; as [`Health`](crate::transport::Health) has it.
    pub server: Option<&'a str>,
}

/// A message that came.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Received<'a> {
    /// What its sender said beside it.
    pub metadata: &'a Metadata,
    /// How often an item was handed out, this time included; `None` for events and calls.
    pub deliveries: Option<u32>,
}

/// Messages that the program got because it had asked for them.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Receipt<'a> {
    /// From which topic or queue, without the namespace.
    pub name: &'a str,
    /// How long the program had waited for them.
    pub waited: Duration,
    /// What came.
    pub messages: &'a [Received<'a>],
    /// By which server, where there is one.
    pub server: Option<&'a str>,
}

/// How an operation ended.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct End<'a> {
    /// How many messages it was about.
    pub messages: usize,
    /// What kind of error it ended with: an [`ErrorKind`] as it is written, or the
    /// type of the error of a function or handler that failed; `cancelled` where the program, or the
    /// caller of a function, gave it up.
    pub error: Option<&'a str>,
}

impl<'a> Operation<'a> {
    pub(crate) fn new(verb: Verb, name: &'a str) -> Self {
        Self { verb, name, message: None, server: None }
    }

    /// The same with the message that came.
    pub(crate) fn with(self, message: Received<'a>) -> Self {
        Self { message: Some(message), ..self }
    }
}

impl<'a> Received<'a> {
    pub(crate) fn new(metadata: &'a Metadata, deliveries: Option<u32>) -> Self {
        Self { metadata, deliveries }
    }
}

/// The observers of a bus; shared by everything made from it.
#[derive(Clone, Debug)]
pub(crate) struct Observers(Arc<Watching>);

#[derive(Debug)]
struct Watching {
    /// Whether there are any: all that is looked at where there are none.
    any: AtomicBool,
    all: RwLock<Vec<Arc<dyn Observer>>>,
    /// What knows the server.
    transport: Weak<dyn Transport>,
}

impl Observers {
    /// Those of a bus over a transport; none yet.
    pub(crate) fn of(transport: &Arc<dyn Transport>) -> Self {
        let (any, all) = (AtomicBool::default(), RwLock::default());
        Self(Arc::new(Watching { any, all, transport: Arc::downgrade(transport) }))
    }

    pub(crate) fn add(&self, observer: Arc<dyn Observer>) {
        self.0.all.write().unwrap_or_else(PoisonError::into_inner).push(observer);
        self.0.any.store(true, Ordering::Release);
    }

    /// An operation that is watched; `None` where nobody does.
    pub(crate) fn begin(&self, operation: Operation<'_>) -> Option<Observed> {
        if !self.0.any.load(Ordering::Acquire) {
            return None;
        }
        let (all, server) = (self.all(), self.server());
        let operation = Operation { server: server.as_deref(), ..operation };
        Some(Observed {
            observations: all.iter().map(|observer| observer.begin(&operation)).collect(),
            ended: false,
        })
    }

    /// The moment at which the program begins to wait for messages, where it is of interest.
    pub(crate) fn waits(&self) -> Option<Instant> {
        self.0.any.load(Ordering::Acquire).then(Instant::now)
    }

    /// Messages came, for which the program waits since then.
    pub(crate) fn received(&self, name: &str, since: Option<Instant>, messages: &[Received<'_>]) {
        if !self.0.any.load(Ordering::Acquire) || messages.is_empty() {
            return;
        }
        let waited = since.map_or(Duration::ZERO, |since| since.elapsed());
        let server = self.server();
        let receipt = Receipt { name, waited, messages, server: server.as_deref() };
        self.all().iter().for_each(|observer| observer.received(&receipt));
    }

    fn server(&self) -> Option<String> {
        self.0.transport.upgrade()?.health().server
    }

    /// They are called without the lock: an observer may use the bus.
    fn all(&self) -> Vec<Arc<dyn Observer>> {
        self.0.all.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

type Observations = Arc<[Box<dyn Observation>]>;

/// One operation, as all observers see it; dropped before its end it was cancelled.
pub(crate) struct Observed {
    observations: Observations,
    ended: bool,
}

impl Observed {
    /// What is said beside a message, with what the observers have to say: that never makes it too
    /// large, and never replaces a word of the program's.
    pub(crate) fn beside(&self, metadata: Metadata) -> Metadata {
        let headers = self.observations.iter().flat_map(|observation| observation.headers());
        // Passed on, so that a receiver whom nobody watches hands them to the functions that it calls.
        let with =
            headers.fold(metadata.clone(), |with, (name, value)| match metadata.get(&name) {
                Some(_) => with,
                None => with.passed(name, value),
            });
        if with.fits() { with } else { metadata }
    }

    /// Runs the program's own code as a part of the operation.
    pub(crate) async fn run<F: Future>(&self, work: F) -> F::Output {
        let mut work = pin!(work);
        let polls = std::future::poll_fn(|context| {
            let mut polled = Poll::Pending;
            step(&self.observations, &mut || polled = work.as_mut().poll(context));
            polled
        });
        #[cfg(feature = "blocking")]
        let polls = OBSERVATIONS.scope(Arc::clone(&self.observations), polls);
        polls.await
    }

    /// Ended as its result says, with so many messages.
    pub(crate) fn end_as<T>(self, messages: usize, result: &Result<T>) {
        match result {
            Ok(_) => self.end(messages, None),
            Err(error) => self.end(messages, Some(&kind_of(error))),
        }
    }

    pub(crate) fn end(mut self, messages: usize, error: Option<&str>) {
        self.tell(&End { messages, error });
    }

    fn tell(&mut self, end: &End<'_>) {
        self.ended = true;
        self.observations.iter().for_each(|observation| observation.end(end));
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        if !self.ended {
            self.tell(&End { messages: 1, error: Some("cancelled") });
        }
    }
}

impl fmt::Debug for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observed").field("ended", &self.ended).finish_non_exhaustive()
    }
}

/// What is said beside a message: by the program, and by the observers.
pub(crate) fn beside(observed: Option<&Observed>, metadata: Metadata) -> Metadata {
    match observed {
        Some(observed) => observed.beside(metadata),
        None => metadata,
    }
}

/// A message with what is said beside its value. Who watches is not the reason why it is
/// refused.
///
/// # Errors
/// `Encode` for more than 8 KiB of the program's own.
pub(crate) fn attach(
    observed: Option<&Observed>,
    metadata: &Metadata,
    value: Bytes,
    limits: Limits,
) -> Result<Bytes> {
    let own = metadata.clone().stamped();
    let Some(observed) = observed else { return own.attach(value) };
    let message = observed.beside(own.clone()).stamped().attach(value.clone())?;
    if limits.refusal(&message).is_some() { own.attach(value) } else { Ok(message) }
}

/// Ends what is watched as its result says.
pub(crate) fn ended<T>(
    observed: Option<Observed>,
    messages: usize,
    result: Result<T>,
) -> Result<T> {
    if let Some(observed) = observed {
        observed.end_as(messages, &result);
    }
    result
}

/// Work as a part of what is watched, if it is.
pub(crate) async fn run<F: Future>(observed: Option<&Observed>, work: F) -> F::Output {
    match observed {
        Some(observed) => observed.run(work).await,
        None => work.await,
    }
}

/// What an error is called where errors are counted.
fn kind_of(error: &Error) -> String {
    match (error.kind(), error.remote()) {
        (ErrorKind::Remote, Some(remote)) => remote.type_name.clone(),
        (kind, _) => format!("{kind:?}"),
    }
}

fn step(observations: &[Box<dyn Observation>], work: &mut dyn FnMut()) {
    match observations.split_first() {
        None => work(),
        Some((first, others)) => first.step(&mut || step(others, work)),
    }
}

#[cfg(feature = "blocking")]
tokio::task_local! {
    static OBSERVATIONS: Observations;
}

/// A function for another thread, as a part of the operation that runs it.
#[cfg(feature = "blocking")]
pub(crate) fn carried<T>(run: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let observations = OBSERVATIONS.try_with(Arc::clone).ok();
    move || {
        let Some(observations) = observations else { return run() };
        let (mut run, mut output) = (Some(run), None);
        step(&observations, &mut || output = run.take().map(|run| run()).or(output.take()));
        // An observation that did not run it keeps nobody from it.
        output.or_else(|| run.take().map(|run| run())).expect("it is run in one of two places")
    }
}
