//! A queue of bytes: what the typed handle is made of, and what layers with a codec of their own use.
//!
//! The one invariant: what is put reaches the transport in order and checked, in steps that a broker
//! takes well. It knows neither types nor JSON.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::delivery::ByteDelivery;
use super::handles::{Handles, Noted};
use super::origin::Origin;
use super::prefetched::Prefetched;
use super::retry::Retry;
use super::stop::Stop;
use crate::drain_list::DrainList;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::name;
use crate::telemetry::Observers;
use crate::transport::{
    DeadLetter, Letters, Put, PutOptions, QueueSpec, QueueStats, Shelf, Transport, Wait,
};
use crate::wire::Metadata;

/// The least and the most that a lease can last: no clock can hold more.
const LEASES: (Duration, Duration) =
    (Duration::from_millis(10), Duration::from_secs(100 * 365 * 24 * 60 * 60));
/// The most items that are put in one step, so that others get their turn in between.
const STEP_ITEMS: usize = 10_000;
/// The most bytes that are put in one step, unless a single item has more.
const STEP_BYTES: usize = 64 << 20;

/// A queue of bytes, for layers with a codec of their own.
#[derive(Clone, Debug)]
pub struct ByteQueue {
    origin: Origin,
    limits: Limits,
    ahead: Option<Arc<Prefetched>>,
    retry: Retry,
    stop: Arc<Stop>,
    handles: Arc<Handles>,
    noted: Arc<Noted>,
    observers: Observers,
}

impl ByteQueue {
    pub(crate) fn new(
        transport: Arc<dyn Transport>,
        drain_list: Arc<DrainList>,
        handles: Arc<Handles>,
        observers: Observers,
        limits: Limits,
        (name, whole): (&str, String),
    ) -> Self {
        let spec = Arc::new(QueueSpec::new(whole));
        let origin = Origin { transport, name: name.into(), spec, drain_list };
        Self {
            origin,
            limits,
            ahead: None,
            retry: Retry::default(),
            stop: Arc::default(),
            handles,
            noted: Arc::default(),
            observers,
        }
    }

    /// The same queue with other options.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut QueueSpec)) -> Self {
        let spec = Arc::make_mut(&mut self.origin.spec);
        change(spec);
        spec.lease = spec.lease.clamp(LEASES.0, LEASES.1);
        let fetches = spec.prefetch > 1;
        let ahead = fetches.then(|| Arc::new(Prefetched::new(self.origin.clone())));
        if let Some(ahead) = &ahead {
            let unshown = Arc::downgrade(ahead);
            self.origin.drain_list.note_unshown(unshown);
        }
        Self { ahead, noted: Arc::default(), ..self }
    }

    /// As [`Queue::prefetch`](super::Queue::prefetch).
    #[must_use]
    pub fn prefetch(self, items: usize) -> Self {
        self.with(|spec| spec.prefetch = items)
    }

    /// The same queue, whose workers try again as `retry` says.
    #[must_use]
    pub fn retry(self, retry: Retry) -> Self {
        Self { retry, ..self }
    }

    /// After which time an item that failed comes again, by its number of deliveries; `None` is never.
    /// At once where the transport knows no later.
    pub fn retry_after(&self, deliveries: u32) -> Option<Duration> {
        let delay = self.retry.delay(deliveries)?;
        let able = self.origin.transport.capabilities().put_options;
        Some(if able { delay } else { Duration::ZERO })
    }

    /// As [`Queue::stop`](super::Queue::stop).
    pub fn stop(&self) {
        self.stop.ask();
        self.give_back();
    }

    /// Whether this handle, or a clone of it, was stopped.
    pub fn is_stopped(&self) -> bool {
        self.stop.is_asked()
    }

    /// A handle with the same options that shares nothing fetched ahead with this one.
    pub(super) fn apart(&self) -> Self {
        self.clone().with(|_| {})
    }

    /// Has the log say it where this handle contradicts another one, at its first put and take.
    fn note(&self, puts: bool) {
        if self.noted.is_new(puts) {
            self.handles.note(&self.origin.spec, puts);
        }
    }

    pub(super) fn drain_list(&self) -> &Arc<DrainList> {
        &self.origin.drain_list
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    pub(super) fn observers(&self) -> &Observers {
        &self.observers
    }

    /// The queue's name, without the namespace.
    pub fn name(&self) -> &str {
        &self.origin.name
    }

    /// The options of this handle.
    pub fn spec(&self) -> &QueueSpec {
        &self.origin.spec
    }

    /// Appends items, all in one step or, where there are too many for that, in several.
    ///
    /// In several steps go more than 10,000 items, more than 64 MiB, and, waiting for ever, more
    /// than `maxsize`. On a bounded queue with a limited wait it is always one step.
    ///
    /// # Errors
    /// `Encode` for an item of more than 16 MiB; `Full` if there was no space in time; `Config` for
    /// what could never be put in one step but must be, and for options that cannot be;
    /// `Unsupported` for those that the transport lacks; and as
    /// [`Queue::put_many`](super::Queue::put_many).
    pub async fn put(&self, items: Vec<Bytes>, options: impl Into<PutOptions>) -> Result<Put> {
        let options = options.into();
        name::check("put", self.name())?;
        self.origin.check_runtime("put")?;
        options.check(self.name(), self.spec(), items.len())?;
        self.check_sizes(&items)?;
        self.note(true);
        let (maxsize, whole) = (self.spec().maxsize, items.len());
        // Half of what fits, so that consumers work while the rest waits for space.
        let most = if maxsize > 0 && whole > maxsize { maxsize.div_ceil(2) } else { STEP_ITEMS };
        let most = most.min(STEP_ITEMS);
        let in_one = whole <= most && items.iter().map(Bytes::len).sum::<usize>() <= STEP_BYTES;
        if in_one || whole <= 1 {
            return self.push(items, options).await;
        }
        if maxsize > 0 && options.wait != Wait::Forever {
            return Err(self.too_many(whole));
        }
        self.put_in_steps(steps(items, most), whole, options).await
    }

    async fn push(&self, items: Vec<Bytes>, options: PutOptions) -> Result<Put> {
        let Origin { transport, spec, .. } = &self.origin;
        self.origin.named("put", transport.push(spec, items, options).await)
    }

    async fn put_in_steps(
        &self,
        steps: Vec<Vec<Bytes>>,
        whole: usize,
        options: PutOptions,
    ) -> Result<Put> {
        let mut done = 0;
        for step in steps {
            let count = step.len();
            let pushed = self.push(step, options.clone()).await;
            pushed.map_err(|error| self.put_in_part(error, done, whole))?;
            done += count;
        }
        Ok(Put::Done)
    }

    /// Some items are in the queue, so that nobody may simply try again.
    fn put_in_part(&self, error: Error, done: usize, whole: usize) -> Error {
        if done == 0 {
            return error;
        }
        let kind = if error.is_retryable() { ErrorKind::Ambiguous } else { error.kind() };
        let why = format!("the first {done} of {whole} items were put; then: {}", error.message());
        Error::new(kind, "put", self.name(), why).with_source(error)
    }

    fn too_many(&self, count: usize) -> Error {
        let maxsize = self.spec().maxsize;
        let why = format!(
            "{count} items cannot be put in one step (maxsize is {maxsize}, and 10,000 items or 64 \
             MiB are the most); put fewer at once, or wait without end"
        );
        Error::new(ErrorKind::Config, "put", self.name(), why)
    }

    fn check_sizes(&self, items: &[Bytes]) -> Result<()> {
        let refused = items.iter().enumerate();
        let refused = refused.filter_map(|(place, item)| Some((place, self.limits.refusal(item)?)));
        let Some((place, why)) = refused.into_iter().next() else { return Ok(()) };
        let which = match items.len() {
            1 => String::new(),
            whole => format!("item {} of {whole}: ", place + 1),
        };
        Err(Error::new(ErrorKind::Encode, "put", self.name(), format!("{which}{why}")))
    }

    /// Takes the first item on lease; `None` if there was none within `wait`.
    ///
    /// # Errors
    /// `ShutDown`, and those of the connection.
    pub async fn claim(&self, wait: Wait) -> Result<Option<ByteDelivery>> {
        Ok(self.claim_many(1, wait).await?.pop())
    }

    /// Takes up to `limit` items on lease, waiting for the first one only.
    ///
    /// # Errors
    /// As [`claim`](Self::claim).
    pub async fn claim_many(&self, limit: usize, wait: Wait) -> Result<Vec<ByteDelivery>> {
        name::check("get", self.name())?;
        self.origin.check_runtime("get")?;
        self.note(false);
        let claim = async {
            match &self.ahead {
                Some(ahead) => ahead.claim(limit, wait).await,
                None => self.origin.claim(limit, wait).await,
            }
        };
        let claimed = self.stop.unless_asked(self.name(), claim).await?;
        let deliver = |claimed| ByteDelivery::new(self.origin.clone(), claimed);
        Ok(claimed.into_iter().map(deliver).collect())
    }

    /// As [`Queue::give_back`](super::Queue::give_back).
    pub fn give_back(&self) {
        if let Some(ahead) = &self.ahead {
            ahead.give_back();
        }
    }

    /// How many items this handle has fetched ahead and not handed out yet.
    pub fn fetched_ahead(&self) -> usize {
        self.ahead.as_ref().map_or(0, |ahead| ahead.len())
    }

    /// As [`Queue::stats`](super::Queue::stats). What the transport knows of ages stands; where items
    /// have no time of their own in the broker, as over Redis, asking costs a second look, and a put
    /// nothing.
    ///
    /// # Errors
    /// `Config` for a bad name, and those of the connection.
    pub async fn stats(&self) -> Result<QueueStats> {
        let mut stats = self.counts().await?;
        // Which of the lists of priorities has the item that has waited longest, no sender says.
        if stats.oldest.is_none() && stats.waiting > 0 && !self.spec().priorities {
            // That this cannot be told is no reason to tell nothing.
            let first = self.peek(Shelf::Waiting, 1).await.unwrap_or_default().pop();
            stats.oldest = first.and_then(age);
        }
        Ok(stats)
    }

    /// As [`stats`](Self::stats), with no more of the age of items than the transport knows: one look.
    ///
    /// # Errors
    /// `Config` for a bad name, and those of the connection.
    pub async fn counts(&self) -> Result<QueueStats> {
        let Origin { transport, spec, .. } = &self.origin;
        self.asked("count", transport.stats(spec)).await
    }

    /// As [`Queue::join`](super::Queue::join).
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn join(&self) -> Result<()> {
        let mut pause = Duration::from_millis(2);
        loop {
            if self.counts().await?.unfinished() == 0 {
                return Ok(());
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(250));
        }
    }

    /// As [`Queue::peek`](super::Queue::peek), without decoding.
    ///
    /// # Errors
    /// `Config` for a bad name, and those of the connection.
    pub async fn peek(&self, shelf: Shelf, limit: usize) -> Result<Vec<Bytes>> {
        let Origin { transport, spec, .. } = &self.origin;
        self.asked("peek", transport.peek(spec, shelf, limit)).await
    }

    /// As [`Queue::purge`](super::Queue::purge), of any shelf.
    ///
    /// # Errors
    /// `Config` for a bad name, and those of the connection.
    pub async fn purge(&self, shelf: Shelf) -> Result<usize> {
        if shelf == Shelf::Waiting {
            self.give_back();
        }
        let Origin { transport, spec, .. } = &self.origin;
        self.asked("purge", transport.purge(spec, shelf)).await
    }

    /// Up to `limit` dead letters after the `skip` oldest, oldest first, left where they are.
    ///
    /// # Errors
    /// `Config` for a bad name, and those of the connection.
    pub async fn letters(&self, skip: usize, limit: usize) -> Result<Vec<DeadLetter>> {
        let Origin { transport, spec, .. } = &self.origin;
        self.asked("look at the dead letters of", transport.letters(spec, skip, limit)).await
    }

    /// Moves dead letters back to the tail of this queue, or of another one; says how many.
    ///
    /// # Errors
    /// `Config` for a bad name, and those of the connection.
    pub async fn redrive(&self, which: Letters, to: Option<&Self>) -> Result<usize> {
        let to = to.unwrap_or(self);
        name::check("redrive", to.name())?;
        if !self.shares_transport(to) {
            let why = "dead letters move between queues of one bus; take both from the same";
            return Err(Error::new(ErrorKind::Config, "redrive", to.name(), why));
        }
        let Origin { transport, spec, .. } = &self.origin;
        self.asked("redrive", transport.redrive(spec, which, &to.origin.spec)).await
    }

    /// Deletes dead letters; says how many.
    ///
    /// # Errors
    /// `Config` for a bad name, and those of the connection.
    pub async fn discard(&self, which: Letters) -> Result<usize> {
        let Origin { transport, spec, .. } = &self.origin;
        self.asked("discard dead letters of", transport.discard(spec, which)).await
    }

    /// As [`Queue::shut_down`](super::Queue::shut_down).
    ///
    /// # Errors
    /// `Config` for a bad name, and as [`Queue::shut_down`](super::Queue::shut_down).
    pub async fn shut_down(&self) -> Result<()> {
        let Origin { transport, spec, .. } = &self.origin;
        self.asked("shut down", transport.shut_down(spec)).await
    }

    /// Whether both are on one connection, so that one can move items to the other.
    fn shares_transport(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.origin.transport, &other.origin.transport)
    }

    /// An operation of the transport under the user's verb, on a name that `put` would take.
    async fn asked<T>(
        &self,
        operation: &'static str,
        answer: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        name::check(operation, self.name())?;
        self.origin.check_runtime(operation)?;
        self.origin.named(operation, answer.await)
    }

    /// What a claim without end would say if it ended: only a transport that breaks the contract
    /// gets here.
    pub(super) fn empty(&self) -> Error {
        Error::new(ErrorKind::Server, "get", self.name(), "the transport ended a wait without end")
    }
}

/// How long ago an item was sent, where it says so; a sender whose clock is ahead has just done so.
fn age(item: Bytes) -> Option<Duration> {
    let sent = Metadata::detach(item).0?.sent()?;
    Some(SystemTime::now().duration_since(sent).unwrap_or_default())
}

/// Items in portions of at most so many items, and of few bytes.
fn steps(items: Vec<Bytes>, most: usize) -> Vec<Vec<Bytes>> {
    let mut steps: Vec<Vec<Bytes>> = Vec::new();
    let mut room = 0;
    for item in items {
        match steps.last_mut() {
            Some(step) if step.len() < most && item.len() <= room => {
                room -= item.len();
                step.push(item);
            }
            _ => {
                room = STEP_BYTES.saturating_sub(item.len());
                steps.push(vec![item]);
            }
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_portioned_by_number_and_size_and_keep_their_order() {
        let sizes = |items: Vec<Bytes>, most| -> Vec<usize> {
            steps(items, most).iter().map(Vec::len).collect()
        };
        assert_eq!(sizes(vec![Bytes::new(); 10], 4), [4, 4, 2]);
        let large = Bytes::from(vec![0; STEP_BYTES / 2]);
        assert_eq!(sizes(vec![large; 5], 100), [2, 2, 1]);
        let numbered: Vec<Bytes> = (0..9_u8).map(|number| vec![number].into()).collect();
        assert_eq!(steps(numbered.clone(), 2).concat(), numbered);
        assert!(steps(Vec::new(), 2).is_empty());
    }
}
