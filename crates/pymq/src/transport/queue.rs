//! What is said at the contract about queues: which one, how an item is put, taken, settled, and died.
//!
//! What will grow is `#[non_exhaustive]` and made by a constructor, so that a new option breaks
//! nobody; what a transport cannot honour of it, it refuses by name.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::time::Instant;

use super::Capabilities;
use crate::error::{Error, ErrorKind, Result};
use crate::name::shortened;

/// How long a put is remembered by its id, by default.
const REMEMBERED: Duration = Duration::from_secs(60 * 60);

/// A queue and how it is used; options are the consumer's own, the items are everybody's.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueSpec {
    /// The whole name.
    pub name: String,
    /// How many items may wait, now or for later; 0 is no bound. Exact among peers of this library.
    pub maxsize: usize,
    /// How long an item stays with a consumer of which nothing is heard.
    pub lease: Duration,
    /// After how many deliveries an item goes to the dead letters; 0 is never.
    pub max_deliveries: u32,
    /// How many dead letters are kept, the newest; 0 is all.
    pub max_dead_letters: usize,
    /// How many items a claim may take, though it asks for fewer: the others are handed out later.
    pub prefetch: usize,
    /// Items have priorities.
    pub priorities: bool,
}

impl QueueSpec {
    /// The queue of that whole name: unbounded, leases of 30 s, five deliveries, all dead letters
    /// kept, nothing fetched ahead, no priorities.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            maxsize: 0,
            lease: Duration::from_secs(30),
            max_deliveries: 5,
            max_dead_letters: 0,
            prefetch: 1,
            priorities: false,
        }
    }
}

/// How long an operation may wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    No,
    /// Until a moment.
    Until(Instant),
    /// As long as it takes.
    #[default]
    Forever,
}

impl Wait {
    /// At most `timeout` from now; a length that no clock can hold is for ever.
    pub fn at_most(timeout: Duration) -> Self {
        match Instant::now().checked_add(timeout) {
            Some(deadline) => Self::Until(deadline),
            None => Self::Forever,
        }
    }

    /// What is left of it; `None` is without end.
    pub fn left(self) -> Option<Duration> {
        match self {
            Self::No => Some(Duration::ZERO),
            Self::Until(deadline) => Some(deadline.saturating_duration_since(Instant::now())),
            Self::Forever => None,
        }
    }
}

/// A length of time from now.
impl From<Duration> for Wait {
    fn from(timeout: Duration) -> Self {
        Self::at_most(timeout)
    }
}

/// A moment.
impl From<Instant> for Wait {
    fn from(deadline: Instant) -> Self {
        Self::Until(deadline)
    }
}

/// How items are put: by default at once, waiting for space as long as it takes.
///
/// A [`Wait`] is one too: that of a put with nothing more to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PutOptions {
    /// How long to wait for space.
    pub wait: Wait,
    /// When the items may be taken.
    pub due: Due,
    /// What names the put, so that it is done once.
    pub id: Option<PutId>,
    /// 0 to 9; higher ones come first.
    pub priority: u8,
}

impl PutOptions {
    /// The highest priority.
    pub const MOST_URGENT: u8 = 9;

    /// At once, waiting for space as long as it takes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits for space for so long: [`Wait::No`], a length, or a moment.
    #[must_use]
    pub fn wait(self, wait: impl Into<Wait>) -> Self {
        Self { wait: wait.into(), ..self }
    }

    /// The items may be taken after `delay`.
    #[must_use]
    pub fn delay(self, delay: Duration) -> Self {
        Self { due: Due::After(delay), ..self }
    }

    /// The items may be taken from a time on; one that is past is now.
    #[must_use]
    pub fn at(self, time: SystemTime) -> Self {
        Self { due: Due::At(time), ..self }
    }

    /// Puts once: a second put with this id within an hour ([`within`](Self::within) says
    /// otherwise) does nothing and says [`Put::Already`]. One item has one id.
    #[must_use]
    pub fn id(self, id: impl Into<Arc<str>>) -> Self {
        let window = self.id.map_or(REMEMBERED, |id| id.window);
        Self { id: Some(PutId { id: id.into(), window }), ..self }
    }

    /// How long the id is remembered; nothing without one.
    #[must_use]
    pub fn within(self, window: Duration) -> Self {
        Self { id: self.id.map(|id| PutId { window, ..id }), ..self }
    }

    /// 0 (the default) to 9; higher ones come first, on queues with priorities.
    #[must_use]
    pub fn priority(self, priority: u8) -> Self {
        Self { priority, ..self }
    }

    /// The first thing asked for here that a transport of these capabilities lacks, by name.
    pub fn lacking(&self, able: Capabilities) -> Option<&'static str> {
        match self {
            _ if able.put_options => None,
            Self { due, .. } if *due != Due::Now => Some("items for later"),
            Self { id: Some(_), .. } => Some("puts with an id"),
            Self { priority: 1.., .. } => Some("priorities"),
            _ => None,
        }
    }

    /// Refuses what can be asked of no queue, or not of this one.
    pub(crate) fn check(&self, name: &str, queue: &QueueSpec, count: usize) -> Result<()> {
        let refused = |why: String| Err(Error::new(ErrorKind::Config, "put", shortened(name), why));
        let most = Self::MOST_URGENT;
        match (&self.id, self.priority) {
            (Some(id), _) if id.id.is_empty() => refused("an empty id names nothing".to_owned()),
            (Some(id), _) if id.id.len() > PutId::LONGEST => {
                refused(format!("an id has at most {} bytes", PutId::LONGEST))
            }
            (Some(id), _) if id.window.is_zero() => {
                refused("an id that is remembered for no time does nothing".to_owned())
            }
            (Some(_), _) if count != 1 => {
                refused(format!("one id for {count} items; put them one by one"))
            }
            (_, priority) if priority > most => {
                refused(format!("priority {priority}; it is 0 to {most}"))
            }
            (_, 1..) if !queue.priorities => {
                refused("this handle has no priorities; ask for them when you make it".to_owned())
            }
            _ => Ok(()),
        }
    }
}

/// Nothing more than how long to wait.
impl From<Wait> for PutOptions {
    fn from(wait: Wait) -> Self {
        Self { wait, ..Self::default() }
    }
}

/// When an item may be taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Due {
    /// At once.
    #[default]
    Now,
    /// After a length of time from when it is put.
    After(Duration),
    /// From a time on, by the clock of the process that puts.
    At(SystemTime),
}

impl Due {
    /// How long it is until then; nothing for a time that is past.
    pub fn delay(self) -> Duration {
        match self {
            Self::Now => Duration::ZERO,
            Self::After(delay) => delay,
            Self::At(time) => time.duration_since(SystemTime::now()).unwrap_or_default(),
        }
    }
}

/// Names a put, so that it is done once.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PutId {
    /// The name.
    pub id: Arc<str>,
    /// How long the queue remembers it.
    pub window: Duration,
}

impl PutId {
    /// How many bytes an id may have.
    pub const LONGEST: usize = 512;
}

/// What became of a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// The items are in the queue, or will be when they are due.
    Done,
    /// They were put before, under the same id; nothing was done.
    Already,
}

/// An item on lease.
#[derive(Debug)]
pub struct Claimed {
    /// The bytes as they were put.
    pub payload: Bytes,
    /// How often it was handed out, this time included.
    pub deliveries: u32,
    /// What settles it.
    pub receipt: Receipt,
}

/// Names one delivery of one item, or a dead letter, to the transport that made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The bytes as the transport stores them.
    pub stored: Bytes,
    /// A number that means something to the transport.
    pub number: u64,
}

/// How a lease ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// Done: the item is gone.
    Ack,
    /// Tried and given back: to the head, or for later, with one delivery more; to the dead letters
    /// beyond [`QueueSpec::max_deliveries`].
    Requeue,
    /// Never handed to anybody: to the head as it was.
    Return,
    /// Hopeless: to the dead letters.
    Reject,
}

/// What more there is to say when an item is given back or up; by default nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SettleOptions {
    /// After which time an item that is given back ([`Settlement::Requeue`]) may be taken again,
    /// behind those that wait then; nothing is at once, at the head.
    pub delay: Duration,
    /// Why it is given back or up: kept with the dead letter, if it becomes one.
    pub failure: Option<Box<Failure>>,
}

impl SettleOptions {
    /// After `delay`.
    #[must_use]
    pub fn delay(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// The first thing asked for here that a transport of these capabilities lacks, by name.
    pub fn lacking(&self, able: Capabilities) -> Option<&'static str> {
        (!self.delay.is_zero() && !able.put_options).then_some("items for later")
    }

    /// For a reason.
    #[must_use]
    pub fn failure(self, failure: Failure) -> Self {
        Self { failure: Some(Box::new(failure)), ..self }
    }
}

/// Why a delivery came to nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// What kind of end it was.
    pub reason: Reason,
    /// The error's type, as its language names it; empty where there is none.
    pub error: String,
    /// The error's own words, cut where they are long; empty where there are none.
    pub words: String,
    /// Where it failed, as `host:process`; empty where it is not known.
    pub origin: String,
}

impl Failure {
    /// How much of an error's words is kept.
    const WORDS: usize = 1000;

    /// A failure of that kind, with neither an error nor a place.
    pub fn new(reason: Reason) -> Self {
        Self { reason, ..Self::default() }
    }

    /// With the error's type and words; what is too long is cut.
    #[must_use]
    pub fn error(self, error: impl Into<String>, words: &str) -> Self {
        let words = crate::name::shortened_to(Self::WORDS, words);
        Self { error: error.into(), words, ..self }
    }

    /// With the place where it failed.
    #[must_use]
    pub fn origin(self, origin: impl Into<String>) -> Self {
        Self { origin: origin.into(), ..self }
    }
}

/// In short, as logs have it: without the error's words, which may quote the item.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.reason)?;
        if !self.error.is_empty() {
            write!(f, ": {}", self.error)?;
        }
        if self.origin.is_empty() { Ok(()) } else { write!(f, ", at {}", self.origin) }
    }
}

/// What kind of end a delivery had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// Not known: the item died under a version that did not write it down.
    #[default]
    Unknown,
    /// Its consumer gave it back, dropped it, fell silent or died, once too often.
    TooManyDeliveries,
    /// Its handler failed, the last time too.
    Failed,
    /// Its consumer gave it up.
    Rejected,
    /// It was no item of the consumer's type.
    Undecodable,
}

impl Reason {
    /// Every kind, in the order in which they are told above.
    pub const ALL: [Self; 5] =
        [Self::Unknown, Self::TooManyDeliveries, Self::Failed, Self::Rejected, Self::Undecodable];

    /// The kind as programs store it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::TooManyDeliveries => "too many deliveries",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::Undecodable => "undecodable",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An item that was given up, and what is known of its end.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The bytes as they were put.
    pub payload: Bytes,
    /// Why it died.
    pub failure: Failure,
    /// How often it was handed out; `None` where that was not written down.
    pub deliveries: Option<u32>,
    /// When it died; `None` where that was not written down.
    pub died: Option<SystemTime>,
    /// What moves or discards it.
    pub receipt: Receipt,
}

impl DeadLetter {
    /// A dead letter of which nothing but its bytes is known.
    pub fn new(payload: Bytes, receipt: Receipt) -> Self {
        Self { payload, failure: Failure::default(), deliveries: None, died: None, receipt }
    }
}

/// Some of a queue's dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Letters {
    /// So many, the oldest first.
    Oldest(usize),
    /// These, as far as they are there still.
    These(Vec<Receipt>),
}

/// The places where a queue's unleased items lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shelf {
    /// Items that wait for a consumer.
    Waiting,
    /// Items that were given up.
    Dead,
    /// Items that are due later.
    Delayed,
}

/// How many items a queue has, by state, and what else is known of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueStats {
    /// Waiting for a consumer.
    pub waiting: usize,
    /// Due later.
    pub delayed: usize,
    /// Held by consumers, not yet settled.
    pub leased: usize,
    /// Given up.
    pub dead: usize,
    /// How long the item at the head has waited; with priorities, the one of the heads that has waited
    /// longest. `None` where none waits or that is not known.
    pub oldest: Option<Duration>,
    /// How many connections hold items or wait for some; `None` where that is not known.
    pub consumers: Option<usize>,
}

impl QueueStats {
    /// So many that wait, are leased, and are dead letters; nothing else is known.
    pub fn new(waiting: usize, leased: usize, dead: usize) -> Self {
        Self { waiting, leased, dead, ..Self::default() }
    }

    /// How many there are that a consumer has still to finish: waiting, due later, or leased.
    pub fn unfinished(&self) -> usize {
        self.waiting + self.delayed + self.leased
    }
}
