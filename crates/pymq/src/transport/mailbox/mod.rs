//! A mailbox: where a transport leaves what one reader will fetch.
//!
//! It is bounded by count and by bytes, and its writers never wait: when it is full the oldest
//! messages go, and the reader is told how many. It has one reader and knows nothing of threads or
//! runtimes, so that either side may be dropped anywhere. Every message bears a [`Stamp`], by which
//! a reader of several mailboxes keeps to the order of arrival.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use bytes::Bytes;

use self::backlog::Backlog;
use crate::sync::{Mutex, MutexGuard, PoisonError, thread};

mod backlog;

/// What a reader finds in its mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival<T> {
    /// A message.
    Message(T),
    /// The reader was too slow: this many messages were thrown away here, since the last arrival.
    Lagged(u64),
    /// The connection was lost and is back; what was sent meanwhile did not arrive.
    Gap,
    /// The broker does not allow the subscription any more, in these words. It is asked for again,
    /// and a [`Gap`](Self::Gap) says that it is back.
    Refused(Arc<str>),
}

/// The place of a message in the order of arrival, over all mailboxes of this process.
///
/// A message that was left after [`Sender::send`] of another one had returned has the larger stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(u64);

impl Stamp {
    /// Later than every message.
    pub const NEVER: Self = Self(u64::MAX);

    /// Later than every message that has been left by now, and no later than any that is left from now on.
    pub fn horizon() -> Self {
        Self(NEXT.load(Ordering::Relaxed))
    }

    fn now() -> Self {
        // Relaxed: the additions to one counter have one order, and it keeps to what happened before.
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// The number of the next message, wherever it is left.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// How much a mailbox holds before the oldest messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Messages.
    pub messages: usize,
    /// Bytes, as [`Weigh`] counts them.
    pub bytes: usize,
}

impl Default for Limit {
    /// 65,536 messages or 64 MiB: what Redis, too, allows a subscriber to lag (its default
    /// `client-output-buffer-limit pubsub` is 32 MiB).
    fn default() -> Self {
        Self { messages: 65_536, bytes: 64 << 20 }
    }
}

/// What a message weighs in a mailbox, in bytes.
pub trait Weigh {
    /// The weight; a constant share for the bookkeeping is not included.
    fn weight(&self) -> usize;
}

impl Weigh for Bytes {
    fn weight(&self) -> usize {
        self.len()
    }
}

/// An empty mailbox: the writers' end and the reader's end.
pub fn mailbox<T: Weigh>(limit: Limit) -> (Sender<T>, Receiver<T>) {
    let backlog = Backlog::new(limit);
    let inside = Inside { backlog, closed: false, begun: false, reader: None, by_age: false };
    let shared = Arc::new(Mutex::new(inside));
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

/// What both ends share.
struct Inside<T> {
    backlog: Backlog<T>,
    closed: bool,
    /// Somebody has begun to read.
    begun: bool,
    reader: Option<Waker>,
    /// The reader waits for the age of what arrives, since it reads other mailboxes as well.
    by_age: bool,
}

impl<T> Inside<T> {
    fn await_more(&mut self, context: &Context<'_>, by_age: bool) {
        self.reader = Some(context.waker().clone());
        self.by_age = by_age;
    }
}

type Shared<T> = Arc<Mutex<Inside<T>>>;

/// A panic cannot leave the state half-changed (no user code runs under the lock), so a poisoned
/// lock is as good as any.
fn lock<T>(shared: &Mutex<Inside<T>>) -> MutexGuard<'_, Inside<T>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The writers' end of a mailbox.
pub struct Sender<T>(Shared<T>);

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Weigh> Sender<T> {
    /// Leaves a message; never waits. Throws the oldest away where the mailbox is full.
    pub fn send(&self, message: T) {
        // It is stamped under the lock, so that the stamps within a mailbox rise.
        self.change(|inside| inside.backlog.add(message));
    }

    /// Tells the reader, behind what it has not read yet, that an unknown number of messages were
    /// lost on the way.
    pub fn gap(&self) {
        self.change(|inside| inside.backlog.note(Arrival::Gap));
    }

    /// Tells the reader that the broker does not allow the subscription any more.
    pub fn refused(&self, why: impl Into<Arc<str>>) {
        self.change(|inside| inside.backlog.note(Arrival::Refused(why.into())));
    }

    /// Tells the reader that this many messages were thrown away before they came here: by a broker
    /// that keeps mailboxes of its own.
    pub fn lagged(&self, missed: u64) {
        if missed > 0 {
            self.change(|inside| inside.backlog.lag(missed));
        }
    }

    /// How many messages wait, and how many were thrown away so far.
    pub fn load(&self) -> (usize, u64) {
        lock(&self.0).backlog.load()
    }

    /// Whether its reader waits for more, or has not begun to read.
    pub(crate) fn is_read_out(&self) -> bool {
        let inside = lock(&self.0);
        !inside.begun || inside.reader.is_some() && inside.backlog.oldest().is_none()
    }

    /// Whether either side has ended it.
    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.0).closed
    }

    /// Ends the mailbox; the reader still gets what is in it.
    pub fn close(&self) {
        self.change(|inside| inside.closed = true);
    }

    /// Whether two ends belong to one mailbox.
    pub fn same_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn change(&self, how: impl FnOnce(&mut Inside<T>)) {
        let mut inside = lock(&self.0);
        if inside.closed {
            return;
        }
        how(&mut inside);
        let Some(reader) = inside.reader.take() else { return };
        if inside.by_age {
            // Under the lock: who leaves something behind this knows that the reader was told, and may
            // leave the next thing elsewhere. The waker is dropped outside, since it may own the reader.
            reader.wake_by_ref();
            drop(inside);
            return drop(reader);
        }
        drop(inside);
        reader.wake();
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("waiting", &lock(&self.0).backlog.len()).finish()
    }
}

/// The reader's end of a mailbox.
pub struct Receiver<T>(Shared<T>);

impl<T: Weigh> Receiver<T> {
    /// The next arrival; `None` when the mailbox was closed and is empty. Cancel-safe.
    pub async fn recv(&mut self) -> Option<Arrival<T>> {
        std::future::poll_fn(|context| self.poll_recv(context)).await
    }

    /// [`recv`](Self::recv) for hand-written futures.
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Option<Arrival<T>>> {
        let mut inside = lock(&self.0);
        inside.begun = true;
        match inside.backlog.next() {
            Some(arrival) => Poll::Ready(Some(arrival)),
            None if inside.closed => Poll::Ready(None),
            None => {
                inside.await_more(context, false);
                Poll::Pending
            }
        }
    }

    /// The stamp of the next arrival, which stays where it is; `None` when the mailbox was closed
    /// and is empty. While nothing is there, the waker is kept for the next arrival.
    pub fn poll_oldest(&mut self, context: &mut Context<'_>) -> Poll<Option<Stamp>> {
        let mut inside = lock(&self.0);
        inside.begun = true;
        match inside.backlog.oldest() {
            Some(stamp) => Poll::Ready(Some(stamp)),
            None if inside.closed => Poll::Ready(None),
            None => {
                inside.await_more(context, true);
                Poll::Pending
            }
        }
    }

    /// Moves what is there and was left before `before`, `limit` arrivals at most, to the end of
    /// `batch`; never waits.
    pub fn drain(&mut self, before: Stamp, limit: usize, batch: &mut Vec<Arrival<T>>) {
        let mut inside = lock(&self.0);
        for _ in 0..limit {
            if inside.backlog.oldest().is_none_or(|oldest| oldest >= before) {
                return;
            }
            batch.extend(inside.backlog.next());
        }
    }

    /// A writers' end of the same mailbox, by which it can be ended from elsewhere.
    pub fn sender(&self) -> Sender<T> {
        Sender(Arc::clone(&self.0))
    }

    /// Ends the mailbox from this side: nothing more is accepted, what is in it can still be read.
    pub fn close(&mut self) {
        let mut inside = lock(&self.0);
        inside.closed = true;
        let reader = inside.reader.take();
        drop(inside);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Waits on the calling thread; the outer `None` says that the deadline passed.
    pub fn recv_blocking(&mut self, deadline: Option<Instant>) -> Option<Option<Arrival<T>>> {
        let waker = unparking_waker();
        let mut context = Context::from_waker(&waker);
        loop {
            if let Poll::Ready(arrival) = self.poll_recv(&mut context) {
                return Some(arrival);
            }
            match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => thread::park(),
                Some(left) if left.is_zero() => return None,
                Some(left) => thread::park_timeout(left),
            }
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut inside = lock(&self.0);
        inside.closed = true;
        // Dropped outside the lock: a payload's owner may run code of its own.
        let (queue, reader) = (inside.backlog.empty(), inside.reader.take());
        drop(inside);
        drop((queue, reader));
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("waiting", &lock(&self.0).backlog.len()).finish()
    }
}

/// A waker for a future that the calling thread itself polls, parking in between.
pub(crate) fn unparking_waker() -> Waker {
    Waker::from(Arc::new(Unpark(thread::current())))
}

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn small() -> (Sender<Bytes>, Receiver<Bytes>) {
        mailbox(Limit { messages: 2, bytes: 1 << 20 })
    }

    fn all(receiver: &mut Receiver<Bytes>) -> Vec<Arrival<Bytes>> {
        let mut batch = Vec::new();
        receiver.drain(Stamp::NEVER, 100, &mut batch);
        batch
    }

    fn oldest(receiver: &mut Receiver<Bytes>) -> Poll<Option<Stamp>> {
        receiver.poll_oldest(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_full_mailbox_loses_the_oldest_and_says_how_many() {
        let (sender, mut receiver) = small();
        for letter in ["a", "b", "c", "d"] {
            sender.send(Bytes::from(letter));
        }
        let expected = [
            Arrival::Lagged(2),
            Arrival::Message(Bytes::from("c")),
            Arrival::Message(Bytes::from("d")),
        ];
        assert_eq!(all(&mut receiver), expected);
    }

    #[test]
    fn losses_here_and_before_are_told_as_one() {
        let (sender, mut receiver) = small();
        sender.lagged(3);
        for letter in ["a", "b", "c"] {
            sender.send(Bytes::from(letter));
        }
        assert_eq!(all(&mut receiver)[0], Arrival::Lagged(4));
    }

    #[test]
    fn a_loss_stands_where_it_happened() {
        let (sender, mut receiver) = mailbox(Limit { messages: 4, bytes: 1 << 20 });
        let message = |text: &'static str| Arrival::Message(Bytes::from(text));
        sender.send(Bytes::from("1"));
        sender.send(Bytes::from("2"));
        sender.refused("no right");
        sender.gap();
        sender.send(Bytes::from("3"));
        sender.lagged(7);
        sender.gap();
        sender.send(Bytes::from("4"));
        let expected = [
            message("1"),
            message("2"),
            Arrival::Refused("no right".into()),
            Arrival::Gap,
            message("3"),
            Arrival::Lagged(7),
            Arrival::Gap,
            message("4"),
        ];
        assert_eq!(all(&mut receiver), expected);
    }

    #[test]
    fn losses_with_no_message_between_them_are_one_of_their_kind() {
        let (sender, mut receiver) = small();
        for _ in 0..1000 {
            sender.gap();
            sender.lagged(2);
        }
        assert_eq!(all(&mut receiver), [Arrival::Gap, Arrival::Lagged(2000)]);
    }

    #[test]
    fn a_loss_that_is_overtaken_by_an_overflow_is_told_with_it() {
        let (sender, mut receiver) = small();
        sender.send(Bytes::from("a"));
        sender.gap();
        for letter in ["b", "c", "d"] {
            sender.send(Bytes::from(letter));
        }
        let arrivals = all(&mut receiver);
        assert_eq!(arrivals[..2], [Arrival::Lagged(2), Arrival::Gap]);
        assert_eq!(arrivals.len(), 4);
        assert_eq!(sender.load(), (0, 2));
    }

    #[test]
    fn bytes_are_bounded_too_but_one_large_message_passes() {
        let (sender, mut receiver) = mailbox(Limit { messages: 10, bytes: 3 });
        sender.send(Bytes::from("aa"));
        sender.send(Bytes::from("bbbbb"));
        let expected = [Arrival::Lagged(1), Arrival::Message(Bytes::from("bbbbb"))];
        assert_eq!(all(&mut receiver), expected);
    }

    #[test]
    fn a_closed_mailbox_is_read_to_its_end() {
        let (sender, mut receiver) = small();
        sender.send(Bytes::from("last"));
        sender.close();
        sender.send(Bytes::from("too late"));
        let last = receiver.recv_blocking(None);
        assert_eq!(last, Some(Some(Arrival::Message(Bytes::from("last")))));
        assert_eq!(receiver.recv_blocking(None), Some(None));
    }

    #[test]
    fn a_waiting_thread_is_woken_and_a_deadline_ends_the_wait() {
        let (sender, mut receiver) = small();
        let deadline = Instant::now() + Duration::from_millis(5);
        assert_eq!(receiver.recv_blocking(Some(deadline)), None);
        let writer = std::thread::spawn(move || sender.gap());
        assert_eq!(receiver.recv_blocking(None), Some(Some(Arrival::Gap)));
        writer.join().expect("the writer does not panic");
    }

    #[test]
    fn two_mailboxes_are_read_in_the_order_of_arrival() {
        let ((one, mut first), (two, mut second)) = (small(), small());
        for (sender, letter) in [(&one, "a"), (&two, "b"), (&one, "c")] {
            sender.send(Bytes::from(letter));
        }
        let Poll::Ready(Some(border)) = oldest(&mut second) else { panic!("b waits") };
        let mut batch = Vec::new();
        first.drain(border, 100, &mut batch);
        assert_eq!(batch, [Arrival::Message(Bytes::from("a"))]);
        assert!(oldest(&mut first) > oldest(&mut second));
    }

    #[test]
    fn a_loss_has_its_place_in_the_order_too() {
        let (sender, mut receiver) = small();
        sender.gap();
        let Poll::Ready(Some(gap)) = oldest(&mut receiver) else { panic!("a gap waits") };
        sender.send(Bytes::from("a"));
        assert_eq!(oldest(&mut receiver), Poll::Ready(Some(gap)));
        let mut batch = Vec::new();
        receiver.drain(Stamp::NEVER, 1, &mut batch);
        assert_eq!(batch, [Arrival::Gap]);
        assert!(oldest(&mut receiver) > Poll::Ready(Some(gap)));
    }

    #[test]
    fn a_reader_that_closes_still_reads_what_is_there() {
        let (sender, mut receiver) = small();
        sender.send(Bytes::from("last"));
        receiver.close();
        sender.send(Bytes::from("too late"));
        assert_eq!(all(&mut receiver), [Arrival::Message(Bytes::from("last"))]);
        assert_eq!(oldest(&mut receiver), Poll::Ready(None));
    }
}
