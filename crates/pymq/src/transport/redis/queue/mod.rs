//! Queues: the original's lists, with leases beside them. `docs/redis-queues.md` draws the protocol.
//!
//! The one invariant: an item is at any moment in one list at least: waiting, held by one epoch, or
//! dead. Moves between them are single commands, or scripts that push before they take, so that
//! whoever dies wherever, and whatever is refused, loses nothing.
//!
//! How often an item was delivered is told by the spaces before it, one for each time it came back:
//! every JSON decoder skips them, the original's too. An item that is put with spaces of its own
//! before it comes out without them, counted accordingly.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use self::consumer::Consumer;
use self::keys::{Epoch, Keys, Place};
use self::last_words::Parcel;
use super::purpose::Purpose;
use super::resp::{Command, Reply};
use super::{Core, Redis};
use crate::error::{Error, ErrorKind, Result};
use crate::transport::obituaries::Obituaries;
use crate::transport::{
    Answer, Claimed, DeadLetter, Letters, Put, PutOptions, QueueSpec, QueueStats, Queues, Receipt,
    SettleOptions, Settlement, Shelf, Wait, pending,
};

mod claim;
mod consumer;
mod holds;
mod keys;
mod last_words;
mod lease;
mod letter;
mod letters;
mod line;
mod push;
mod scripts;
mod settle;
mod told;

pub(super) use self::keys::side_key;

/// How long a confirmation waits for company at most.
const COMPANY: Duration = Duration::from_millis(10);

/// The consumers of this process: one for each queue, lease and policy that is in use.
#[derive(Debug, Default)]
pub(super) struct Consumers {
    running: Mutex<HashMap<String, Vec<Arc<Consumer>>>>,
    /// The number of the next epoch.
    sequence: Arc<AtomicU32>,
    /// Whether the server's policy of eviction was looked at.
    policy_told: AtomicBool,
    /// Settlements in the hands of tasks that send them.
    parcels: Mutex<Vec<Weak<Parcel>>>,
    obituaries: Arc<Obituaries>,
}

impl Consumers {
    fn of(&self, queue: &str) -> Vec<Arc<Consumer>> {
        self.lock().get(queue).cloned().unwrap_or_default()
    }

    fn forget(&self, consumer: &Arc<Consumer>) {
        let mut running = self.lock();
        let list = &consumer.keys().list;
        if let Some(consumers) = running.get_mut(list) {
            consumers.retain(|other| !Arc::ptr_eq(other, consumer));
            if consumers.is_empty() {
                running.remove(list);
            }
        }
    }

    /// Ends all of them; returns when what they held is given back, or cannot be.
    pub(super) async fn finish(&self) {
        let running: Vec<_> = self.lock().values().flatten().cloned().collect();
        for consumer in &running {
            consumer.close();
        }
        for consumer in running {
            consumer.finished().await;
        }
    }

    /// Fails all who wait, where there is no runtime any more whose tasks could serve them.
    pub(super) fn abandon(&self) {
        for consumer in self.lock().values().flatten() {
            let queue = &consumer.keys().list;
            consumer.fail_all(|| Error::closed("get", &**queue));
            for settling in consumer.end() {
                settling.answer(queue, Err(Error::closed("settle", &**queue)));
            }
        }
    }

    /// How many queues items are taken from, and how long ago the lease was renewed that has waited
    /// longest for it.
    pub(super) fn load(&self) -> (usize, Option<Duration>) {
        let running = self.lock();
        let open = |consumers: &&Vec<Arc<Consumer>>| consumers.iter().any(|one| one.is_open());
        let taken_from = running.values().filter(open).count();
        let oldest = running.values().flatten().filter_map(|one| one.oldest_heartbeat()).min();
        (taken_from, oldest.map(|at| at.elapsed()))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Vec<Arc<Consumer>>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The running consumer for handles with these options, started if there is none.
fn consumer(core: &Arc<Core>, spec: &QueueSpec) -> Arc<Consumer> {
    let mut running = core.consumers.lock();
    let consumers = running.entry(spec.name.clone()).or_default();
    let fits = |consumer: &&Arc<Consumer>| consumer.is_open() && consumer.serves(spec);
    if let Some(consumer) = consumers.iter().find(fits) {
        return Arc::clone(consumer);
    }
    let keys = Keys::new(core, spec);
    let sequence = Arc::clone(&core.consumers.sequence);
    let obituaries = Arc::clone(&core.consumers.obituaries);
    let consumer = Arc::new(Consumer::new(keys, sequence, obituaries, spec));
    consumers.push(Arc::clone(&consumer));
    drop(running);
    core.runtime.spawn(claim::run(Arc::clone(core), Arc::clone(&consumer)));
    if !core.consumers.policy_told.swap(true, Ordering::Relaxed) {
        core.runtime.spawn(tell_policy(Arc::clone(core)));
    }
    consumer
}

/// The consumer that holds the item of a receipt; if it has ended, one that can settle it.
fn holder(core: &Arc<Core>, spec: &QueueSpec, receipt: &Receipt) -> Arc<Consumer> {
    let Place { epoch, .. } = Place::of(receipt);
    let running = core.consumers.lock();
    let consumers = running.get(&spec.name).map(Vec::as_slice).unwrap_or_default();
    let found = match consumers {
        [only] if only.is_open() => Some(only),
        several => several.iter().find(|consumer| consumer.is_open() && consumer.owns(epoch)),
    };
    if let Some(found) = found {
        return Arc::clone(found);
    }
    drop(running);
    consumer(core, spec)
}

/// Looks once how the server makes room when its memory is full, and says what that does to queues.
async fn tell_policy(core: Arc<Core>) {
    let purpose = Purpose::question("look at", "maxmemory-policy");
    let command = Command::new("INFO").arg("memory");
    // Forbidden, it stays unknown: this is a courtesy.
    let Ok(reply) = core.commands.run(purpose, &command).await else { return };
    let text = reply.bytes().unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let policy = text.lines().find_map(|line| line.strip_prefix("maxmemory_policy:"));
    let policy = policy.unwrap_or_default().trim();
    if policy.starts_with("allkeys") {
        tracing::warn!(
            policy,
            "a full server may delete whole queues; set maxmemory-policy to noeviction"
        );
    } else if policy.starts_with("volatile") {
        tracing::warn!(
            policy,
            "a full server may delete replies that wait for their callers and the ids of puts, no \
             queues and no leases; maxmemory-policy noeviction deletes nothing"
        );
    }
}

impl Queues for Redis {
    fn push<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        items: Vec<Bytes>,
        options: PutOptions,
    ) -> Answer<'a, Put> {
        pending(push::push(&self.core, queue, items, options))
    }

    fn claim<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        limit: usize,
        wait: Wait,
    ) -> Answer<'a, Vec<Claimed>> {
        pending(claim(&self.core, queue, limit, wait))
    }

    fn settle<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        receipt: Receipt,
        how: Settlement,
        options: SettleOptions,
    ) -> Answer<'a, ()> {
        pending(settle(&self.core, queue, receipt, how, options))
    }

    fn settle_soon(
        &self,
        queue: &Arc<QueueSpec>,
        receipt: Receipt,
        how: Settlement,
        options: SettleOptions,
    ) {
        // Closed, everything that is held goes back anyhow.
        if self.core.check(&Purpose::change("settle", &queue.name)).is_ok() {
            holder(&self.core, queue, &receipt).settle(receipt, how, options, COMPANY, false);
        }
    }

    fn show(&self, queue: &Arc<QueueSpec>, receipt: &Receipt) {
        if Place::of(receipt).ahead {
            holder(&self.core, queue, receipt).show([receipt]);
        }
    }

    fn extend<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        receipt: &'a Receipt,
        duration: Duration,
    ) -> Answer<'a, ()> {
        pending(extend(&self.core, queue, receipt, duration))
    }

    fn stats<'a>(&'a self, queue: &'a Arc<QueueSpec>) -> Answer<'a, QueueStats> {
        pending(stats(&self.core, queue))
    }

    fn peek<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        from: Shelf,
        limit: usize,
    ) -> Answer<'a, Vec<Bytes>> {
        pending(peek(&self.core, queue, from, limit))
    }

    fn purge<'a>(&'a self, queue: &'a Arc<QueueSpec>, shelf: Shelf) -> Answer<'a, usize> {
        pending(purge(&self.core, queue, shelf))
    }

    fn letters<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        skip: usize,
        limit: usize,
    ) -> Answer<'a, Vec<DeadLetter>> {
        pending(letters::look(&self.core, queue, skip, limit))
    }

    fn redrive<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        which: Letters,
        to: &'a Arc<QueueSpec>,
    ) -> Answer<'a, usize> {
        pending(letters::redrive(&self.core, queue, which, to))
    }

    fn discard<'a>(&'a self, queue: &'a Arc<QueueSpec>, which: Letters) -> Answer<'a, usize> {
        pending(letters::discard(&self.core, queue, which))
    }

    fn shut_down<'a>(&'a self, queue: &'a Arc<QueueSpec>) -> Answer<'a, ()> {
        pending(shut_down(&self.core, queue))
    }
}

async fn claim(
    core: &Arc<Core>,
    spec: &QueueSpec,
    limit: usize,
    wait: Wait,
) -> Result<Vec<Claimed>> {
    let purpose = Purpose::change("get", &spec.name);
    if limit == 0 {
        return Ok(Vec::new());
    }
    // A deadline that is past already still asks once.
    let wait = if wait.left() == Some(Duration::ZERO) { Wait::No } else { wait };
    loop {
        core.check(&purpose)?;
        let consumer = consumer(core, spec);
        let ticket = match wait {
            Wait::No => claim::try_claim(core, &consumer, spec, limit),
            _ => consumer.enqueue(spec, limit, wait),
        };
        // None: it retired just now, for want of use; the next one will do.
        if let Some(mut ticket) = ticket {
            let items = ticket.wait(wait).await.unwrap_or_else(|| Err(purpose.closed()))?;
            if spec.prefetch > 1 {
                consumer.show(items.iter().take(limit).map(|item| &item.receipt));
            }
            // Only a server that is there can say that the queue is empty.
            return if items.is_empty() {
                core.connected(&purpose).map(|()| items)
            } else {
                Ok(items)
            };
        }
    }
}

async fn settle(
    core: &Arc<Core>,
    spec: &QueueSpec,
    receipt: Receipt,
    how: Settlement,
    options: SettleOptions,
) -> Result<()> {
    let purpose = Purpose::change("settle", &spec.name);
    core.check(&purpose)?;
    if let Some(what) = options.lacking(super::ABLE) {
        return Err(lacking(&purpose, what));
    }
    let holder = holder(core, spec, &receipt);
    match holder.settle(receipt, how, options, Duration::ZERO, true) {
        Some(settled) => settled.await.unwrap_or_else(|_| Err(purpose.closed())),
        None => Err(purpose.closed()),
    }
}

/// What this transport cannot do yet.
fn lacking(purpose: &Purpose<'_>, what: &str) -> Error {
    purpose.error(ErrorKind::Unsupported, format!("redis:// has no {what} yet"))
}

async fn extend(
    core: &Arc<Core>,
    spec: &QueueSpec,
    receipt: &Receipt,
    duration: Duration,
) -> Result<()> {
    let purpose = Purpose::question("extend", &spec.name);
    core.check(&purpose)?;
    let holder = holder(core, spec, receipt);
    let keys = holder.keys();
    let (place, alone) = (holder.place(receipt), holder.epoch_for(receipt, duration));
    let milliseconds = lease::milliseconds(duration);
    let _moving = holder.moving().await;
    // What was fetched ahead is in the other list once it was shown.
    for from in std::iter::once(place).chain(place.ahead.then(|| place.twin())) {
        let to = alone.map_or(from, Epoch::shown);
        let (held, there) = (keys.held(from), keys.held(to));
        let names = [keys.epochs.as_str(), &held, &there, &keys.spare];
        let name = keys.name(to);
        let arguments: [&[u8]; 3] = [&receipt.stored, milliseconds.as_bytes(), name.as_bytes()];
        let reply = core.commands.script(purpose, &scripts::EXTEND, &names, &arguments).await?;
        if reply.number() == Some(1) {
            holder.note_extension(receipt, to.epoch, Instant::now().checked_add(duration));
            return Ok(());
        }
    }
    Err(lease_lost(&purpose))
}

async fn stats(core: &Core, spec: &QueueSpec) -> Result<QueueStats> {
    let purpose = Purpose::question("count", &spec.name);
    core.check(&purpose)?;
    quieten(core, spec).await;
    let keys = Keys::new(core, spec);
    lease::reap(core, &keys).await?;
    let names = [keys.epochs.as_str(), &keys.list, &keys.dead, &keys.later, &keys.waits];
    let arguments = [keys.helds.as_bytes(), keys.urgents().as_bytes()];
    let reply = core.commands.script(purpose, &scripts::STATS, &names, &arguments).await?;
    let mut counts = reply.items().into_iter().map(|reply| reply.count());
    let mut count = || counts.next().unwrap_or_default();
    let mut stats = QueueStats::new(count(), count(), count());
    stats.delayed = count();
    stats.consumers = Some(count());
    Ok(stats)
}

/// Has done what only waits for company: it should not count as leased, and what was given back a
/// moment ago waits.
async fn quieten(core: &Core, spec: &QueueSpec) {
    for consumer in core.consumers.of(&spec.name) {
        settle::flush(core, &consumer).await;
        consumer.calm().await;
    }
}

async fn peek(core: &Core, spec: &QueueSpec, from: Shelf, limit: usize) -> Result<Vec<Bytes>> {
    let purpose = Purpose::question("peek", &spec.name);
    core.check(&purpose)?;
    if limit == 0 {
        return Ok(Vec::new());
    }
    let keys = Keys::new(core, spec);
    let items = match keys.shelf(from) {
        Some(_) if from == Shelf::Waiting && spec.priorities => {
            most_urgent(core, purpose, &keys, limit).await?
        }
        Some(key) => tail(core, purpose, key, 0, limit).await?,
        None => first_due(core, purpose, &keys, limit).await?,
    };
    let shown = |item: Bytes| match from {
        Shelf::Dead => letter::read(item, 0).payload,
        Shelf::Waiting | Shelf::Delayed => unmarked(&item, spec.priorities).0,
    };
    Ok(items.into_iter().map(shown).collect())
}

/// Up to `limit` of the items that wait, the most urgent first.
async fn most_urgent(
    core: &Core,
    purpose: Purpose<'_>,
    keys: &Keys,
    limit: usize,
) -> Result<Vec<Bytes>> {
    // The first of the plain list may lead for its own list, whose others it comes before.
    let mut items = tail(core, purpose, &keys.list, 0, limit).await?;
    for list in keys.urgent() {
        items.extend(tail(core, purpose, &list, 0, limit).await?);
    }
    items.sort_by_key(|item| std::cmp::Reverse(priority(item)));
    items.truncate(limit);
    Ok(items)
}

/// How urgent an item is, by what stands before it.
fn priority(stored: &Bytes) -> usize {
    let behind = stored.iter().skip_while(|&&byte| byte == b' ');
    behind.take_while(|&&byte| byte == b'\t').count().min(PutOptions::MOST_URGENT.into())
}

/// Up to `limit` of the items that are due later, in the order of their time.
async fn first_due(
    core: &Core,
    purpose: Purpose<'_>,
    keys: &Keys,
    limit: usize,
) -> Result<Vec<Bytes>> {
    let last = i64::try_from(limit).unwrap_or(i64::MAX) - 1;
    let command = Command::new("ZRANGE").arg(&keys.later).arg("0").arg(last.to_string());
    let members = core.commands.run(purpose, &command).await?.items();
    // Behind the colon of what makes it unique.
    let item = |member: Bytes| {
        let colon = member.iter().position(|&byte| byte == b':');
        member.slice(colon.map_or(0, |colon| colon + 1)..)
    };
    Ok(members.into_iter().filter_map(Reply::bytes).map(item).collect())
}

/// Up to `limit` items after the first `skip` from the head of a list, which is its right end.
async fn tail(
    core: &Core,
    purpose: Purpose<'_>,
    key: &str,
    skip: usize,
    limit: usize,
) -> Result<Vec<Bytes>> {
    let from_end = |place: usize| i64::try_from(place).map_or(i64::MIN, |place| -place);
    let first = from_end(skip.saturating_add(limit)).to_string();
    let last = from_end(skip.saturating_add(1)).to_string();
    let command = Command::new("LRANGE").arg(key).arg(first).arg(last);
    let items = core.commands.run(purpose, &command).await?.items();
    Ok(items.into_iter().rev().filter_map(Reply::bytes).collect())
}

async fn purge(core: &Core, spec: &QueueSpec, shelf: Shelf) -> Result<usize> {
    let purpose = Purpose::change("purge", &spec.name);
    core.check(&purpose)?;
    quieten(core, spec).await;
    let keys = Keys::new(core, spec);
    let mut names: Vec<String> = keys.shelf(shelf).into_iter().map(str::to_owned).collect();
    if shelf == Shelf::Waiting {
        names.extend(keys.urgent());
    }
    let mut commands: Vec<_> = names.iter().map(|list| Command::new("LLEN").arg(list)).collect();
    if shelf != Shelf::Dead {
        commands.push(Command::new("ZCOUNT").arg(&keys.later).arg("-inf").arg("+inf"));
        names.push(keys.later.clone());
    }
    let counted = commands.len();
    commands.push(Command::new("UNLINK").args(names));
    if shelf == Shelf::Waiting {
        commands.push(Command::new("DEL").arg(&keys.shut));
        commands.push(Command::new("PUBLISH").arg(&keys.hint).arg("purge"));
    }
    let replies = core.commands.transaction(purpose, commands).await?;
    core.consumers.of(&spec.name).iter().for_each(|consumer| consumer.poke());
    Ok(replies.iter().take(counted).map(Reply::count).sum())
}

async fn shut_down(core: &Core, spec: &QueueSpec) -> Result<()> {
    let purpose = Purpose::question("shut down", &spec.name);
    core.check(&purpose)?;
    let keys = Keys::new(core, spec);
    let names = [keys.shut.as_str(), &keys.spare];
    core.commands.script(purpose, &scripts::SHUT_DOWN, &names, &[keys.hint.as_bytes()]).await?;
    core.consumers.of(&spec.name).iter().for_each(|consumer| consumer.poke());
    Ok(())
}

impl Keys {
    /// The list in which the items of a shelf lie; those for later are in none.
    fn shelf(&self, shelf: Shelf) -> Option<&str> {
        match shelf {
            Shelf::Waiting => Some(&self.list),
            Shelf::Dead => Some(&self.dead),
            Shelf::Delayed => None,
        }
    }
}

fn lease_lost(purpose: &Purpose<'_>) -> Error {
    let why = "the lease ran out and the item was given to somebody else; use a longer one";
    purpose.error(ErrorKind::LeaseLost, why)
}

fn shut_down_error(purpose: &Purpose<'_>) -> Error {
    purpose.error(ErrorKind::ShutDown, "it was shut down; purge it to use it again")
}

/// The same failure for another one who has to know of it.
fn copy(error: &Error, operation: &'static str) -> Error {
    let copy = Error::new(error.kind(), operation, error.object(), error.message().to_owned());
    if error.is_retryable() { copy.that_passes() } else { copy }
}

/// An item without its marks, and how many there were: one space for each delivery before. A dead
/// letter that somebody put into a queue as it lay there is the item in it. Where items have priorities,
/// what tells them is left out too.
fn unmarked(stored: &Bytes, priorities: bool) -> (Bytes, u32) {
    let marks = stored.iter().take_while(|&&byte| byte == b' ').count();
    let tabs = if priorities { priority(stored) } else { 0 };
    let item = stored.slice(marks + tabs..);
    let item = if item.first() == Some(&0) { letter::item(item) } else { item };
    (item, u32::try_from(marks).unwrap_or(u32::MAX))
}
