//! One queue as the broker has it: items that wait, are leased or dead, and the lines of those who wait.
//!
//! The invariant: where somebody waits for items, none is waiting, and where somebody waits for
//! space, the first in line has not got enough; every change ends with [`Queue::deal`], which
//! restores it. Where items are due later, the first who waits for some keeps the time: it wakes when
//! the next is due, so that nobody polls and no task is needed. Waiting itself is not done here.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::ConnectionId;
use super::dead_letters::DeadLetters;
use super::leases::{Lease, Leases};
use super::put_ids::PutIds;
use super::store::{Aftermath, Bell, Death, Signal, Ticket, next_number, take_of};
use super::unleased::{Item, Unleased};
use super::waiters::{Claim, Getter, KeepTime, Parcel, Push, Putter};
use crate::error::Result;
use crate::transport::{
    Claimed, DeadLetter, Due, Failure, Letters, PutOptions, QueueSpec, QueueStats, Reason,
    SettleOptions, Settlement, Shelf, Wait, refusals,
};

pub(super) struct Queue {
    name: Arc<str>,
    unleased: Unleased,
    leases: Leases,
    dead: DeadLetters,
    getters: BTreeMap<Ticket, Getter>,
    /// Dealt out, not yet fetched by the getter that waited.
    dealt: BTreeMap<Ticket, (ConnectionId, Vec<Item>)>,
    putters: BTreeMap<Ticket, Putter>,
    seen: PutIds,
    shut: bool,
}

impl Queue {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            unleased: Unleased::default(),
            leases: Leases::default(),
            dead: DeadLetters::default(),
            getters: BTreeMap::new(),
            dealt: BTreeMap::new(),
            putters: BTreeMap::new(),
            seen: PutIds::default(),
            shut: false,
        }
    }

    pub(super) fn push(
        &mut self,
        spec: &QueueSpec,
        items: Vec<Bytes>,
        options: PutOptions,
        after: &mut Aftermath,
    ) -> Result<Push> {
        if self.shut {
            return Err(refusals::shut_down("push", &spec.name));
        }
        if spec.maxsize > 0 && items.len() > spec.maxsize {
            return Err(refusals::too_many(&spec.name, items.len(), spec.maxsize));
        }
        if options.id.as_ref().is_some_and(|id| self.seen.has(id)) {
            return Ok(Push::Already);
        }
        let fits = self.has_space(spec.maxsize, items.len());
        // Who can wait does so behind those who wait already; who cannot takes what there is.
        if fits && (self.putters.is_empty() || options.wait == Wait::No) {
            self.append(Parcel { items, options });
            self.deal(after);
            return Ok(Push::Done);
        }
        if options.wait == Wait::No {
            return Err(refusals::full(&spec.name, spec.maxsize));
        }
        Ok(Push::Wait(Parcel { items, options }))
    }

    pub(super) fn wait_for_space(
        &mut self,
        owner: ConnectionId,
        maxsize: usize,
        parcel: Parcel,
        bell: Bell,
    ) -> Ticket {
        let ticket = next_number();
        self.putters.insert(ticket, Putter { owner, maxsize, parcel, bell });
        ticket
    }

    pub(super) fn claim(
        &mut self,
        owner: ConnectionId,
        spec: &QueueSpec,
        limit: usize,
        after: &mut Aftermath,
    ) -> Result<Claim> {
        self.unleased.ripen();
        if limit > 0 && !self.unleased.is_empty() {
            let items = self.unleased.take(limit.max(spec.prefetch));
            let claimed = self.lease(items, owner, spec, limit);
            self.deal(after);
            return Ok(Claim::Taken(claimed));
        }
        match limit {
            0 => Ok(Claim::Taken(Vec::new())),
            _ if self.is_over() => Err(refusals::shut_down("claim", &spec.name)),
            _ => Ok(Claim::Empty),
        }
    }

    /// Whether nothing will come any more, but for what is given back.
    fn is_over(&self) -> bool {
        self.shut && self.unleased.is_empty() && self.unleased.delayed() == 0
    }

    pub(super) fn wait_for_items(
        &mut self,
        owner: ConnectionId,
        limit: usize,
        bell: Bell,
        after: &mut Aftermath,
    ) -> Ticket {
        let ticket = next_number();
        self.getters.insert(ticket, Getter { owner, limit, bell: Some(bell), wakes: None });
        self.appoint(after);
        ticket
    }

    /// Whether a getter that was woken for the time goes on waiting, by that bell, and until when.
    ///
    /// # Errors
    /// `ShutDown` if it was, and the getter missed the bell for it.
    pub(super) fn watch(
        &mut self,
        ticket: Ticket,
        bell: Bell,
        after: &mut Aftermath,
    ) -> Result<KeepTime> {
        match self.getters.get_mut(&ticket) {
            Some(getter) => getter.bell = Some(bell),
            None if self.dealt.contains_key(&ticket) => return Ok(KeepTime::Over),
            None => return Err(refusals::shut_down("claim", &self.name)),
        }
        self.unleased.ripen();
        let next = self.unleased.next_due();
        if let Some(getter) = self.getters.get_mut(&ticket) {
            getter.wakes = next;
        }
        self.deal(after);
        Ok(KeepTime::Until(next))
    }

    /// Leases what was dealt to a getter that waited; nothing, where nothing was.
    pub(super) fn collect(
        &mut self,
        owner: ConnectionId,
        spec: &QueueSpec,
        ticket: Ticket,
        limit: usize,
    ) -> Vec<Claimed> {
        match self.dealt.remove(&ticket) {
            Some((_, items)) => self.lease(items, owner, spec, limit),
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
            after.discarded.extend(putter.parcel.items);
        }
        self.deal(after);
        waited
    }

    /// Ends a lease; says whether there was one.
    pub(super) fn settle(
        &mut self,
        number: u64,
        how: Settlement,
        options: SettleOptions,
        after: &mut Aftermath,
    ) -> bool {
        let Some(lease) = self.leases.end(number) else { return false };
        match how {
            Settlement::Ack => after.discarded.push(lease.item.payload),
            Settlement::Requeue => self.fail(lease, options, after),
            Settlement::Return => self.untake(lease.item),
            Settlement::Reject => self.bury(lease, options, Reason::Rejected, after),
        }
        self.deal(after);
        true
    }

    /// Notes that an item that was fetched ahead is handed out.
    pub(super) fn show(&mut self, number: u64) {
        self.leases.show(number);
    }

    pub(super) fn holds(&self, number: u64) -> bool {
        self.leases.holds(number)
    }

    pub(super) fn stats(&mut self) -> QueueStats {
        self.unleased.ripen();
        let dealt: usize = self.dealt.values().map(|(_, items)| items.len()).sum();
        let (waiting, leased) = (self.unleased.len(), self.leases.len() + dealt);
        let mut stats = QueueStats::new(waiting, leased, self.dead.len());
        stats.delayed = self.unleased.delayed();
        stats.oldest = self.unleased.oldest().map(|since| since.elapsed());
        let holders = self.leases.owners();
        let waiters = self.getters.values().map(|getter| getter.owner);
        let dealt = self.dealt.values().map(|(owner, _)| *owner);
        let consumers: HashSet<_> = holders.chain(waiters).chain(dealt).collect();
        stats.consumers = Some(consumers.len());
        stats
    }

    /// Who holds how many items.
    pub(super) fn holders(&self) -> BTreeMap<ConnectionId, usize> {
        let mut holders = BTreeMap::new();
        for owner in self.leases.owners() {
            *holders.entry(owner).or_default() += 1;
        }
        holders
    }

    pub(super) fn peek(&mut self, from: Shelf, limit: usize) -> Vec<Bytes> {
        self.unleased.ripen();
        match from {
            Shelf::Waiting => self.unleased.waiting().take(limit).cloned().collect(),
            Shelf::Delayed => self.unleased.later().take(limit).cloned().collect(),
            Shelf::Dead => self.dead.payloads().take(limit).cloned().collect(),
        }
    }

    pub(super) fn purge(&mut self, shelf: Shelf, after: &mut Aftermath) -> usize {
        self.unleased.ripen();
        let before = after.discarded.len();
        match shelf {
            Shelf::Waiting => {
                after.discarded.extend(self.unleased.drain());
                after.discarded.extend(self.unleased.drain_delayed());
                self.shut = false;
            }
            Shelf::Delayed => after.discarded.extend(self.unleased.drain_delayed()),
            Shelf::Dead => self.discard(&Letters::Oldest(usize::MAX), after),
        }
        let purged = after.discarded.len() - before;
        self.deal(after);
        purged
    }

    pub(super) fn letters(&self, skip: usize, limit: usize) -> Vec<DeadLetter> {
        self.dead.look(skip, limit)
    }

    pub(super) fn discard(&mut self, which: &Letters, after: &mut Aftermath) {
        let letters = self.dead.take(which).into_iter();
        after.discarded.extend(letters.map(|letter| letter.item.payload));
    }

    /// Takes dead letters out, as items that nobody has tried.
    pub(super) fn exhume(&mut self, which: &Letters) -> Vec<Item> {
        let now = Instant::now();
        let fresh = |item| Item { deliveries: 0, since: now, ..item };
        self.dead.take(which).into_iter().map(|letter| fresh(letter.item)).collect()
    }

    /// Lines up what was brought back.
    pub(super) fn bring_back(&mut self, items: Vec<Item>, priorities: bool, after: &mut Aftermath) {
        for mut item in items {
            item.priority *= u8::from(priorities);
            self.unleased.push_back(item);
        }
        self.deal(after);
    }

    pub(super) fn shut_down(&mut self, after: &mut Aftermath) {
        self.shut = true;
        for putter in std::mem::take(&mut self.putters).into_values() {
            after.bells.push((putter.bell, Err(refusals::shut_down("push", &self.name))));
            after.discarded.extend(putter.parcel.items);
        }
        self.deal(after);
    }

    /// Whether a connection waits for items, or holds some.
    pub(super) fn is_taken_from_by(&self, connection: ConnectionId) -> bool {
        self.getters.values().any(|getter| getter.owner == connection)
            || self.leases.owners().any(|owner| owner == connection)
    }

    pub(super) fn leave(&mut self, connection: ConnectionId, after: &mut Aftermath) {
        let name = Arc::clone(&self.name);
        let closed = |operation| Err(refusals::closed(operation, &name));
        for getter in take_of(&mut self.getters, |getter| getter.owner == connection) {
            after.bells.extend(getter.bell.map(|bell| (bell, closed("claim"))));
        }
        for putter in take_of(&mut self.putters, |putter| putter.owner == connection) {
            after.bells.push((putter.bell, closed("push")));
            after.discarded.extend(putter.parcel.items);
        }
        // Each goes to the head, so the newest goes first: the oldest comes to lie before it.
        for (_, items) in take_of(&mut self.dealt, |(owner, _)| *owner == connection) {
            self.put_back(items);
        }
        for lease in self.leases.end_of(connection) {
            match lease.unshown {
                true => self.untake(lease.item),
                false => self.fail(lease, SettleOptions::default(), after),
            }
        }
        self.deal(after);
    }

    /// Deals items and space out to those who wait, in the order in which they came.
    fn deal(&mut self, after: &mut Aftermath) {
        loop {
            while !self.unleased.is_empty()
                && let Some((ticket, getter)) = self.getters.pop_first()
            {
                let items = self.unleased.take(getter.limit);
                self.dealt.insert(ticket, (getter.owner, items));
                after.bells.extend(getter.bell.map(|bell| (bell, Ok(Signal::Come))));
            }
            // What was just dealt out made space, and what the first putter puts may be dealt out again:
            // so it goes round until nobody can be served.
            let held = self.held();
            let Some(first) = self.putters.first_entry() else { break };
            let Putter { maxsize, parcel, .. } = first.get();
            let again = parcel.options.id.as_ref().is_some_and(|id| self.seen.has(id));
            if !again && *maxsize > 0 && held + parcel.items.len() > *maxsize {
                break;
            }
            let putter = first.remove();
            if again {
                after.bells.push((putter.bell, Ok(Signal::Already)));
                continue;
            }
            self.append(putter.parcel);
            after.bells.push((putter.bell, Ok(Signal::Come)));
        }
        if self.is_over() {
            for getter in std::mem::take(&mut self.getters).into_values() {
                after.bells.extend(
                    getter.bell.map(|bell| (bell, Err(refusals::shut_down("claim", &self.name)))),
                );
            }
        }
        self.appoint(after);
    }

    /// Lets the first in line know when to wake, if it does not.
    fn appoint(&mut self, after: &mut Aftermath) {
        let Some(due) = self.unleased.next_due() else { return };
        let Some(mut first) = self.getters.first_entry() else { return };
        let getter = first.get_mut();
        if getter.wakes != Some(due) {
            getter.wakes = Some(due);
            after.bells.extend(getter.bell.take().map(|bell| (bell, Ok(Signal::KeepTime))));
        }
    }

    /// How many a bound counts: those that wait, now and for later.
    fn held(&self) -> usize {
        self.unleased.len() + self.unleased.delayed()
    }

    fn has_space(&self, maxsize: usize, count: usize) -> bool {
        maxsize == 0 || self.held() + count <= maxsize
    }

    fn append(&mut self, Parcel { items, options }: Parcel) {
        let PutOptions { due, id, priority, .. } = options;
        if let Some(id) = id {
            self.seen.note(id);
        }
        let since = Instant::now();
        let fresh = |payload| Item { payload, deliveries: 0, priority, since };
        let delay = if due == Due::Now { Duration::ZERO } else { due.delay() };
        for payload in items {
            match delay {
                Duration::ZERO => self.unleased.push_back(fresh(payload)),
                delay => self.unleased.delay(fresh(payload), delay, next_number()),
            }
        }
    }

    /// Puts items back at the head, in their order.
    fn put_back(&mut self, items: Vec<Item>) {
        for item in items.into_iter().rev() {
            self.unleased.push_front(item);
        }
    }

    /// Puts an item back that was handed to nobody, as if it had never been taken.
    fn untake(&mut self, item: Item) {
        let deliveries = item.deliveries - 1;
        self.unleased.push_front(Item { deliveries, ..item });
    }

    /// Puts an item back that was tried in vain, or gives it up.
    fn fail(&mut self, lease: Lease, options: SettleOptions, after: &mut Aftermath) {
        let most = lease.terms.max_deliveries;
        if most > 0 && lease.item.deliveries >= most {
            self.bury(lease, options, Reason::TooManyDeliveries, after);
        } else if options.delay.is_zero() {
            self.unleased.push_front(lease.item);
        } else {
            self.unleased.delay(lease.item, options.delay, next_number());
        }
    }

    fn bury(
        &mut self,
        Lease { item, terms, .. }: Lease,
        options: SettleOptions,
        reason: Reason,
        after: &mut Aftermath,
    ) {
        let failure = options.failure.map_or_else(|| Failure::new(reason), |failure| *failure);
        let (queue, deliveries) = (Arc::clone(&self.name), item.deliveries);
        self.dead.bury(next_number(), item, failure.clone());
        let before = after.discarded.len();
        after.discarded.extend(self.dead.shorten(terms.max_dead_letters));
        let dropped = after.discarded.len() - before;
        after.deaths.push(Death { queue, deliveries, failure, dropped });
    }

    /// Leases items, of which the first `limit` are handed out at once.
    fn lease(
        &mut self,
        items: Vec<Item>,
        owner: ConnectionId,
        spec: &QueueSpec,
        limit: usize,
    ) -> Vec<Claimed> {
        let lease = |(place, item)| self.leases.begin(item, owner, spec.into(), place >= limit);
        items.into_iter().enumerate().map(lease).collect()
    }

    pub(super) fn is_unused(&mut self) -> bool {
        let Self { name: _, unleased, leases, dead, getters, dealt, putters, seen, shut } = self;
        let empty =
            unleased.is_empty() && unleased.delayed() == 0 && leases.is_empty() && dead.len() == 0;
        empty
            && getters.is_empty()
            && dealt.is_empty()
            && putters.is_empty()
            && seen.is_empty()
            && !*shut
    }
}
