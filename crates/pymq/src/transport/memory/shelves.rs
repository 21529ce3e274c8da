//! The queues themselves: items that wait, are leased or dead, and the lines of those who wait.
//!
//! The invariant: where somebody waits for items, none is waiting, and where somebody waits for
//! space, the first in line has not got enough; every change ends with [`Queue::deal`], which
//! restores it. Bells are rung and payloads dropped when the lock is free, since both may run code
//! of their owners'; waiting itself is not done here.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::ConnectionId;
use crate::error::{Error, ErrorKind, Result};
use crate::name::shortened;
use crate::transport::{Claimed, QueueSpec, QueueStats, Receipt, Settlement, Shelf, Wait};

/// How many queues there may be before the unused ones are looked for.
const CLEARING: usize = 64;

/// Wakes one who waits: its turn has come (what it waited for is there), or it never will.
pub(super) type Bell = oneshot::Sender<Result<()>>;

/// A place in a line; smaller is earlier.
pub(super) type Ticket = u64;

/// All queues of a broker.
#[derive(Default)]
pub(super) struct Store(Mutex<State>);

impl Store {
    /// Does `work` under the lock, and afterwards what must not be done under it.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut State, &mut Aftermath) -> T) -> T {
        let mut after = Aftermath::default();
        // A panic cannot leave the state half-changed (no user code runs under the lock), so a
        // poisoned lock is as good as any.
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let result = work(&mut state, &mut after);
        drop(state);
        for (bell, result) in after.bells {
            // Whoever gave up meanwhile has given its place back, with what was dealt to it.
            let _ = bell.send(result);
        }
        result
    }

    /// Ends what a connection waits for, and gives back what it holds.
    pub(super) fn leave(&self, connection: ConnectionId) {
        self.with(|state, after| {
            for (name, queue) in &mut state.queues {
                queue.leave(connection, name, after);
            }
        });
    }
}

/// What is left to do when the lock is free.
#[derive(Default)]
pub(super) struct Aftermath {
    bells: Vec<(Bell, Result<()>)>,
    discarded: Vec<Bytes>,
}

#[derive(Default)]
pub(super) struct State {
    queues: HashMap<Box<str>, Queue>,
    clear_at: usize,
}

impl State {
    pub(super) fn existing(&mut self, name: &str) -> Option<&mut Queue> {
        self.queues.get_mut(name)
    }

    pub(super) fn queue(&mut self, name: &str) -> &mut Queue {
        if !self.queues.contains_key(name) {
            if self.queues.len() >= self.clear_at.max(CLEARING) {
                self.queues.retain(|_, queue| !queue.is_unused());
                self.clear_at = self.queues.len() * 2;
            }
            self.queues.insert(name.into(), Queue::default());
        }
        self.queues.get_mut(name).expect("the queue was made above")
    }
}

/// A number that is larger than every earlier one of this process, so that an old receipt cannot
/// settle a new lease.
fn next_number() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

#[derive(Default)]
pub(super) struct Queue {
    waiting: VecDeque<Item>,
    leased: BTreeMap<u64, Lease>,
    dead: VecDeque<Bytes>,
    getters: BTreeMap<Ticket, Getter>,
    /// Dealt out, not yet fetched by the getter that waited.
    dealt: BTreeMap<Ticket, (ConnectionId, Vec<Item>)>,
    putters: BTreeMap<Ticket, Putter>,
    shut: bool,
}

struct Item {
    payload: Bytes,
    /// How often it was handed out so far.
    deliveries: u32,
}

struct Lease {
    item: Item,
    owner: ConnectionId,
    max_deliveries: u32,
}

struct Getter {
    owner: ConnectionId,
    limit: usize,
    bell: Bell,
}

struct Putter {
    owner: ConnectionId,
    maxsize: usize,
    items: Vec<Bytes>,
    bell: Bell,
}

/// What became of a push.
pub(super) enum Push {
    /// The items are in the queue.
    Done,
    /// There is no space for them now.
    Wait(Vec<Bytes>),
}

/// What became of a claim.
pub(super) enum Claim {
    /// Items, on lease.
    Taken(Vec<Claimed>),
    /// There are none now.
    Empty,
}

pub(super) fn full(queue: &QueueSpec) -> Error {
    let why = format!("maxsize is {}; get items first", queue.maxsize);
    Error::new(ErrorKind::Full, "push", shortened(&queue.name), why)
}

pub(super) fn shut(operation: &'static str, name: &str) -> Error {
    let why = "it was shut down for everyone; purge it to use it again";
    Error::new(ErrorKind::ShutDown, operation, shortened(name), why)
}

impl Queue {
    pub(super) fn push(
        &mut self,
        spec: &QueueSpec,
        items: Vec<Bytes>,
        wait: Wait,
        after: &mut Aftermath,
    ) -> Result<Push> {
        if self.shut {
            return Err(shut("push", &spec.name));
        }
        if spec.maxsize > 0 && items.len() > spec.maxsize {
            let why = format!(
                "{} items at once never fit: maxsize is {}; push fewer",
                items.len(),
                spec.maxsize
            );
            return Err(Error::new(ErrorKind::Config, "push", shortened(&spec.name), why));
        }
        let fits = self.has_space(spec.maxsize, items.len());
        // Who can wait does so behind those who wait already; who cannot takes what there is.
        if fits && (self.putters.is_empty() || wait == Wait::No) {
            self.append(items);
            self.deal(after);
            return Ok(Push::Done);
        }
        if wait == Wait::No { Err(full(spec)) } else { Ok(Push::Wait(items)) }
    }

    pub(super) fn wait_for_space(
        &mut self,
        owner: ConnectionId,
        maxsize: usize,
        items: Vec<Bytes>,
        bell: Bell,
    ) -> Ticket {
        let ticket = next_number();
        self.putters.insert(ticket, Putter { owner, maxsize, items, bell });
        ticket
    }

    pub(super) fn claim(
        &mut self,
        owner: ConnectionId,
        spec: &QueueSpec,
        limit: usize,
        after: &mut Aftermath,
    ) -> Result<Claim> {
        let count = limit.min(self.waiting.len());
        if count > 0 {
            let items = self.waiting.drain(..count).collect();
            let claimed = self.lease(items, owner, spec.max_deliveries);
            self.deal(after);
            return Ok(Claim::Taken(claimed));
        }
        match (limit, self.shut) {
            (0, _) => Ok(Claim::Taken(Vec::new())),
            (_, true) => Err(shut("claim", &spec.name)),
            (_, false) => Ok(Claim::Empty),
        }
    }

    pub(super) fn wait_for_items(
        &mut self,
        owner: ConnectionId,
        limit: usize,
        bell: Bell,
    ) -> Ticket {
        let ticket = next_number();
        self.getters.insert(ticket, Getter { owner, limit, bell });
        ticket
    }

    /// Leases what was dealt to a getter that waited; nothing, where nothing was.
    pub(super) fn collect(
        &mut self,
        owner: ConnectionId,
        spec: &QueueSpec,
        ticket: Ticket,
    ) -> Vec<Claimed> {
        match self.dealt.remove(&ticket) {
            Some((_, items)) => self.lease(items, owner, spec.max_deliveries),
            None => Vec::new(),
        }
    }

    /// Leaves the line and gives back what was dealt; says whether the ticket was still waiting.
    pub(super) fn give_up(&mut self, ticket: Ticket, after: &mut Aftermath) -> bool {
        let getter = self.getters.remove(&ticket);
        let putter = self.putters.remove(&ticket);
        let waited = getter.is_some() || putter.is_some();
        if let Some((_, items)) = self.dealt.remove(&ticket) {
            self.put_back(items);
        }
        if let Some(putter) = putter {
            after.discarded.extend(putter.items);
        }
        self.deal(after);
        waited
    }

    /// Ends a lease; says whether there was one.
    pub(super) fn settle(&mut self, number: u64, how: Settlement, after: &mut Aftermath) -> bool {
        let Some(mut lease) = self.leased.remove(&number) else { return false };
        match how {
            Settlement::Ack => after.discarded.push(lease.item.payload),
            Settlement::Requeue => self.fail(lease),
            Settlement::Return => {
                lease.item.deliveries -= 1;
                self.waiting.push_front(lease.item);
            }
            Settlement::Reject => self.dead.push_back(lease.item.payload),
        }
        self.deal(after);
        true
    }

    pub(super) fn holds(&self, number: u64) -> bool {
        self.leased.contains_key(&number)
    }

    pub(super) fn stats(&self) -> QueueStats {
        let dealt: usize = self.dealt.values().map(|(_, items)| items.len()).sum();
        QueueStats {
            waiting: self.waiting.len(),
            leased: self.leased.len() + dealt,
            dead: self.dead.len(),
        }
    }

    pub(super) fn peek(&self, from: Shelf, limit: usize) -> Vec<Bytes> {
        match from {
            Shelf::Waiting => {
                self.waiting.iter().take(limit).map(|item| item.payload.clone()).collect()
            }
            Shelf::Dead => self.dead.iter().take(limit).cloned().collect(),
        }
    }

    pub(super) fn purge(&mut self, shelf: Shelf, after: &mut Aftermath) -> usize {
        let before = after.discarded.len();
        match shelf {
            Shelf::Waiting => {
                after.discarded.extend(self.waiting.drain(..).map(|item| item.payload));
            }
            Shelf::Dead => after.discarded.extend(self.dead.drain(..)),
        }
        let purged = after.discarded.len() - before;
        self.shut = false;
        self.deal(after);
        purged
    }

    pub(super) fn redrive(&mut self, limit: usize, after: &mut Aftermath) -> usize {
        let count = limit.min(self.dead.len());
        let items = self.dead.drain(..count).collect();
        self.append(items);
        self.deal(after);
        count
    }

    pub(super) fn shut_down(&mut self, name: &str, after: &mut Aftermath) {
        self.shut = true;
        for putter in std::mem::take(&mut self.putters).into_values() {
            after.bells.push((putter.bell, Err(shut("push", name))));
            after.discarded.extend(putter.items);
        }
        // Who waits for items waits because there are none.
        for getter in std::mem::take(&mut self.getters).into_values() {
            after.bells.push((getter.bell, Err(shut("claim", name))));
        }
    }

    fn leave(&mut self, connection: ConnectionId, name: &str, after: &mut Aftermath) {
        let closed = |operation| Err(Error::closed(operation, shortened(name)));
        for getter in take_of(&mut self.getters, |getter| getter.owner == connection) {
            after.bells.push((getter.bell, closed("claim")));
        }
        for putter in take_of(&mut self.putters, |putter| putter.owner == connection) {
            after.bells.push((putter.bell, closed("push")));
            after.discarded.extend(putter.items);
        }
        // The newest first, so that the oldest comes to lie at the head.
        for (_, items) in take_of(&mut self.dealt, |(owner, _)| *owner == connection) {
            self.put_back(items);
        }
        for lease in take_of(&mut self.leased, |lease| lease.owner == connection) {
            self.fail(lease);
        }
        self.deal(after);
    }

    /// Deals items and space out to those who wait, in the order in which they came.
    fn deal(&mut self, after: &mut Aftermath) {
        loop {
            while !self.waiting.is_empty()
                && let Some((ticket, getter)) = self.getters.pop_first()
            {
                let count = getter.limit.min(self.waiting.len());
                let items = self.waiting.drain(..count).collect();
                self.dealt.insert(ticket, (getter.owner, items));
                after.bells.push((getter.bell, Ok(())));
            }
            let Some(first) = self.putters.first_entry() else { return };
            let Putter { maxsize, items, .. } = first.get();
            if *maxsize > 0 && self.waiting.len() + items.len() > *maxsize {
                return;
            }
            let putter = first.remove();
            self.append(putter.items);
            after.bells.push((putter.bell, Ok(())));
        }
    }

    fn has_space(&self, maxsize: usize, count: usize) -> bool {
        maxsize == 0 || self.waiting.len() + count <= maxsize
    }

    fn append(&mut self, payloads: Vec<Bytes>) {
        self.waiting.extend(payloads.into_iter().map(|payload| Item { payload, deliveries: 0 }));
    }

    /// Puts items back at the head, in their order.
    fn put_back(&mut self, items: Vec<Item>) {
        for item in items.into_iter().rev() {
            self.waiting.push_front(item);
        }
    }

    /// Puts an item back that was tried in vain, or gives it up.
    fn fail(&mut self, lease: Lease) {
        if lease.max_deliveries > 0 && lease.item.deliveries >= lease.max_deliveries {
            self.dead.push_back(lease.item.payload);
        } else {
            self.waiting.push_front(lease.item);
        }
    }

    fn lease(
        &mut self,
        items: Vec<Item>,
        owner: ConnectionId,
        max_deliveries: u32,
    ) -> Vec<Claimed> {
        let mut claimed = Vec::with_capacity(items.len());
        for mut item in items {
            let number = next_number();
            item.deliveries += 1;
            claimed.push(Claimed {
                payload: item.payload.clone(),
                deliveries: item.deliveries,
                receipt: Receipt { stored: Bytes::new(), number },
            });
            self.leased.insert(number, Lease { item, owner, max_deliveries });
        }
        claimed
    }

    fn is_unused(&self) -> bool {
        let Self { waiting, leased, dead, getters, dealt, putters, shut } = self;
        let empty = waiting.is_empty() && leased.is_empty() && dead.is_empty();
        empty && getters.is_empty() && dealt.is_empty() && putters.is_empty() && !shut
    }
}

/// Takes those out that `which` tells, the newest first.
fn take_of<T>(all: &mut BTreeMap<u64, T>, which: impl Fn(&T) -> bool) -> Vec<T> {
    let keys: Vec<u64> =
        all.iter().rev().filter(|(_, value)| which(value)).map(|(key, _)| *key).collect();
    keys.iter().filter_map(|key| all.remove(key)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unused_queues_are_forgotten_and_used_ones_are_not() {
        let mut state = State::default();
        state.queue("shut").shut = true;
        for number in 0..10_000 {
            state.queue(&number.to_string());
        }
        assert!(state.queues.len() <= CLEARING);
        assert!(state.queue("shut").shut);
    }
}
