//! What a handle on a queue gave out and nobody has settled yet, and whose it is.
//!
//! An owner is a thread or an asyncio task, by a number that is never used again: what a thread left
//! open when it ended goes back to the queue soon, and no later thread can be taken for it. Python
//! never runs under the lock, so a signal handler or a finaliser may come in at any time.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use pymq::ByteDelivery;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::connection::Connection;
use crate::process;
use crate::queue::delivery::Delivery;
use crate::this_process::ThisProcess;

/// After which time at the latest, if not after their lease, the items of an ended thread go back.
const LATEST: Duration = Duration::from_secs(5);

/// The owner of what belongs to nobody in particular.
pub(crate) const NOBODY: u64 = 0;

static LAST_OWNER: AtomicU64 = AtomicU64::new(NOBODY);

/// A number for an owner, never given twice.
pub(crate) fn new_owner() -> u64 {
    LAST_OWNER.fetch_add(1, Ordering::Relaxed) + 1
}

thread_local! {
    static HERE: Here = Here {
        owner: new_owner(),
        over: Arc::default(),
        is_watched: Cell::new(false),
        hands: RefCell::default(),
    };
}

/// A `threading.local`: what each thread of Python's has there goes with what Python keeps for it.
static ENDS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// A thread as an owner. It ends with the thread, whoever made that.
struct Here {
    owner: u64,
    /// Whether Python has done with it: before its `join` returns, and a moment before it is gone.
    over: Arc<AtomicBool>,
    is_watched: Cell<bool>,
    /// Those that it may have something in.
    hands: RefCell<Vec<Weak<Held>>>,
}

impl Here {
    fn note(&self, hand: &Arc<Held>) {
        let mut hands = self.hands.borrow_mut();
        if hands.len() == hands.capacity() {
            hands.retain(|hand| hand.strong_count() > 0);
        }
        hands.push(Arc::downgrade(hand));
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        for hand in self.hands.take() {
            if let Some(hand) = hand.upgrade() {
                hand.thread_ended(self.owner);
            }
        }
    }
}

/// The calling thread as an owner; nobody, when it is about to end.
pub(crate) fn this_thread() -> u64 {
    HERE.try_with(|here| here.owner).unwrap_or(NOBODY)
}

/// Has Python tell when it has done with the calling thread: whoever has joined it may know that before the
/// thread is gone.
///
/// # Errors
/// If Python has no memory for that.
pub(crate) fn watch_this_thread(py: Python<'_>) -> PyResult<()> {
    // One that is not of Python's making may come again after Python had done with it.
    let over = HERE.try_with(|here| {
        let is_watched = here.is_watched.replace(true) && !here.over.load(Ordering::Relaxed);
        (!is_watched).then(|| Arc::clone(&here.over))
    });
    let Ok(Some(over)) = over else { return Ok(()) };
    let local = || py.import("threading")?.getattr("local")?.call0().map(Bound::unbind);
    let ends = ENDS.get_or_try_init(py, local)?;
    ends.bind(py).setattr("end", EndOfThread(Arc::clone(&over)))?;
    // What was there before, if anything, has gone.
    over.store(false, Ordering::Release);
    Ok(())
}

/// What Python keeps for a thread that holds items.
#[pyclass(frozen, module = "pymq._pymq")]
struct EndOfThread(Arc<AtomicBool>);

impl Drop for EndOfThread {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// What `task_done` confirms.
#[derive(Debug)]
pub(crate) enum Done {
    /// This item.
    Item(ByteDelivery),
    /// One that was confirmed when it was handed out, or by a call that was interrupted.
    Already,
}

/// The items in hand.
pub(crate) struct Held {
    process: u32,
    /// The bus, and the lease of the handle.
    home: OnceLock<(Weak<Connection>, Duration)>,
    /// Whether items are confirmed by `task_done` only.
    manual: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By a number that grows, each with its owner.
    items: BTreeMap<u64, (u64, ByteDelivery)>,
    owners: HashMap<u64, Owner>,
    last: u64,
    /// What ended threads left, on its way back: nobody's to confirm.
    left: Vec<(u64, Vec<ByteDelivery>)>,
}

#[derive(Debug, Default)]
struct Owner {
    /// The numbers of its items: what came with one call lies together, the last call's at the back.
    calls: VecDeque<VecDeque<u64>>,
    /// How many items were confirmed by themselves since.
    confirmed: usize,
    /// Whether a `task_done` was interrupted, whose settlement goes on: said again, it means that.
    interrupted: bool,
    /// Whether it is a thread with which Python has done.
    over: Arc<AtomicBool>,
}

impl Owner {
    fn forget(&mut self, number: u64) {
        // Nearly always one of the last call.
        for place in (0..self.calls.len()).rev() {
            if let Some(found) = self.calls[place].iter().position(|one| *one == number) {
                self.calls[place].remove(found);
                if self.calls[place].is_empty() {
                    self.calls.remove(place);
                }
                return;
            }
        }
    }
}

impl State {
    fn remove(&mut self, number: u64) -> Option<ByteDelivery> {
        let (owner, delivery) = self.items.remove(&number)?;
        if let Some(found) = self.owners.get_mut(&owner) {
            found.forget(number);
        }
        Some(delivery)
    }

    /// The item that an owner did: the first of those that its last call gave.
    fn latest(&self, owner: u64) -> Option<u64> {
        self.owners.get(&owner)?.calls.back()?.front().copied()
    }

    /// The oldest item of all that somebody may still confirm: what an ended thread left goes back.
    fn oldest(&self) -> Option<u64> {
        let is_over = |owner: u64| {
            self.owners.get(&owner).is_some_and(|owner| owner.over.load(Ordering::Acquire))
        };
        self.items.iter().find(|(_, (owner, _))| !is_over(*owner)).map(|(number, _)| *number)
    }

    fn uncount(&mut self, owner: u64) -> bool {
        let Some(found) = self.owners.get_mut(&owner).filter(|found| found.confirmed > 0) else {
            return false;
        };
        found.confirmed -= 1;
        true
    }
}

impl Held {
    pub(crate) fn new(manual: bool) -> Arc<Self> {
        let (process, manual) = (process::id(), AtomicBool::new(manual));
        Arc::new(Self { process, home: OnceLock::new(), manual, state: Mutex::default() })
    }

    /// Says where the items come from.
    pub(crate) fn settle_at(&self, connection: &Arc<Connection>, lease: Duration) {
        let _ = self.home.set((Arc::downgrade(connection), lease));
    }

    pub(crate) fn is_manual(&self) -> bool {
        self.manual.load(Ordering::Relaxed)
    }

    /// Notes what one call gives to an owner, to be settled later; gives the first one's number.
    pub(crate) fn take(self: &Arc<Self>, owner: u64, deliveries: Vec<ByteDelivery>) -> u64 {
        let mut state = self.lock();
        let first = state.last + 1;
        for delivery in deliveries {
            state.last += 1;
            let number = state.last;
            state.items.insert(number, (owner, delivery));
        }
        let numbers = (first..=state.last).collect();
        let owner = self.owner(&mut state, owner);
        owner.interrupted = false;
        owner.calls.push_back(numbers);
        first
    }

    /// Notes that an owner was given items that are confirmed by themselves.
    pub(crate) fn count(self: &Arc<Self>, owner: u64, items: usize) {
        let mut state = self.lock();
        let owner = self.owner(&mut state, owner);
        owner.interrupted = false;
        owner.confirmed += items;
    }

    /// An owner; a thread that is seen for the first time tells of its end from now on. Of the end
    /// of others tells whoever made their numbers.
    fn owner<'a>(self: &Arc<Self>, state: &'a mut State, owner: u64) -> &'a mut Owner {
        state.owners.entry(owner).or_insert_with(|| {
            let over = HERE.try_with(|here| {
                (here.owner == owner).then(|| {
                    here.note(self);
                    Arc::clone(&here.over)
                })
            });
            Owner { over: over.ok().flatten().unwrap_or_default(), ..Owner::default() }
        })
    }

    /// What an owner's `task_done` confirms: the item that it did, else the oldest of all. From then
    /// on items are confirmed by `task_done` only. `None` if none is open.
    pub(crate) fn done(&self, owner: u64) -> Option<Done> {
        let mut state = self.lock();
        if let Some(found) = state.owners.get_mut(&owner).filter(|found| found.interrupted) {
            found.interrupted = false;
            return Some(Done::Already);
        }
        let own = state.latest(owner);
        let done = match own.and_then(|number| state.remove(number)) {
            Some(delivery) => Done::Item(delivery),
            None if state.uncount(owner) => Done::Already,
            None => {
                let somebody = state.owners.iter().find(|(_, owner)| owner.confirmed > 0);
                let somebody = somebody.map(|(owner, _)| *owner);
                let oldest = state.oldest();
                if somebody.is_some_and(|somebody| state.uncount(somebody)) {
                    Done::Already
                } else {
                    Done::Item(oldest.and_then(|number| state.remove(number))?)
                }
            }
        };
        self.manual.store(true, Ordering::Relaxed);
        Some(done)
    }

    /// Notes whether an owner's `task_done` is under way: one that is interrupted stays so, until
    /// the owner says it again or gets something new.
    pub(crate) fn set_interrupted(self: &Arc<Self>, owner: u64, interrupted: bool) {
        self.owner(&mut self.lock(), owner).interrupted = interrupted;
    }

    /// Takes one out, if nobody has settled it.
    pub(crate) fn remove(&self, number: u64) -> Option<ByteDelivery> {
        self.lock().remove(number)
    }

    /// Takes out everything, the oldest first.
    pub(crate) fn clear(&self) -> Vec<ByteDelivery> {
        let mut state = self.lock();
        for owner in state.owners.values_mut() {
            owner.calls.clear();
            owner.confirmed = 0;
        }
        let left = std::mem::take(&mut state.left).into_iter().flat_map(|(_, items)| items);
        let mut all: Vec<_> = left.collect();
        all.extend(std::mem::take(&mut state.items).into_values().map(|(_, delivery)| delivery));
        all
    }

    /// An owner failed: its items go back, counted as deliveries.
    pub(crate) fn owner_failed(&self, owner: u64) {
        back(self.leave(owner));
    }

    /// A thread ended without having settled its items: they go back, counted as deliveries, as if
    /// its process had died: not at once, since `queue.Queue` gives no item twice to a program whose
    /// short-lived threads never say `task_done`.
    fn thread_ended(self: &Arc<Self>, owner: u64) {
        if self.process != process::id() {
            return;
        }
        let items = self.leave(owner);
        let Some((connection, lease)) = self.home.get() else { return back(items) };
        let (Some(connection), false) = (connection.upgrade(), items.is_empty()) else {
            return back(items);
        };
        self.lock().left.push((owner, items));
        let (held, after) = (Arc::clone(self), *lease.min(&LATEST));
        drop(connection.runtime().spawn(Box::pin(async move {
            tokio::time::sleep(after).await;
            let mut state = held.lock();
            let gone = state.left.iter().position(|(left, _)| *left == owner);
            let gone = gone.map(|place| state.left.swap_remove(place).1);
            drop(state);
            back(gone.unwrap_or_default());
        })));
    }

    /// Takes an owner out, with what it had.
    fn leave(&self, owner: u64) -> Vec<ByteDelivery> {
        let mut state = self.lock();
        let left = state.owners.remove(&owner).unwrap_or_default();
        if left.confirmed > 0 {
            state.owners.entry(NOBODY).or_default().confirmed += left.confirmed;
        }
        let numbers = left.calls.into_iter().flatten();
        let items = numbers.filter_map(|number| state.items.remove(&number));
        items.map(|(_, delivery)| delivery).collect()
    }

    /// An owner ended well, and may have passed its items on: they are nobody's in particular.
    pub(crate) fn owner_left(&self, owner: u64) {
        let mut state = self.lock();
        let Some(left) = state.owners.remove(&owner) else { return };
        for number in left.calls.iter().flatten() {
            if let Some((owner, _)) = state.items.get_mut(number) {
                *owner = NOBODY;
            }
        }
        let nobody = state.owners.entry(NOBODY).or_default();
        nobody.calls.extend(left.calls);
        nobody.confirmed += left.confirmed;
    }

    /// No code of others runs under the lock, so a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Requeues items by dropping them, the newest first, so that the oldest comes to lie at the head.
fn back(items: Vec<ByteDelivery>) {
    items.into_iter().rev().for_each(drop);
}

/// What a handle has in hand, as Python has it.
#[pyclass(frozen, subclass, module = "pymq._pymq")]
pub(crate) struct OpenItems {
    held: ThisProcess<Arc<Held>>,
}

impl OpenItems {
    pub(crate) fn held(&self) -> PyResult<&Arc<Held>> {
        self.held.get()
    }
}

#[pymethods]
impl OpenItems {
    #[new]
    fn new(manual: bool) -> Self {
        Self { held: ThisProcess::new(Held::new(manual)) }
    }

    #[getter]
    fn manual(&self) -> PyResult<bool> {
        Ok(self.held()?.is_manual())
    }

    /// Takes a delivery in hand, for the calling thread's `task_done`.
    fn add(&self, py: Python<'_>, delivery: &Delivery) -> PyResult<()> {
        watch_this_thread(py)?;
        self.held()?.take(this_thread(), vec![delivery.take()?]);
        Ok(())
    }

    /// An owner that is no thread has ended: what it had is nobody's, or goes back if it `failed`.
    fn owner_ended(&self, owner: u64, failed: bool) -> PyResult<()> {
        let held = self.held()?;
        if failed {
            held.owner_failed(owner);
        } else {
            held.owner_left(owner);
        }
        Ok(())
    }

    /// An owner knows that its `task_done` has ended.
    fn task_ended(&self, owner: u64) -> PyResult<()> {
        self.held()?.set_interrupted(owner, false);
        Ok(())
    }

    /// A number for an owner that is no thread, never given twice.
    #[staticmethod]
    #[pyo3(name = "new_owner")]
    fn number() -> u64 {
        new_owner()
    }
}
