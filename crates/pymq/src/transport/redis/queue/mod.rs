//! Queues: the original's lists, with leases beside them.
//!
//! The one invariant: an item is at any moment in exactly one list: waiting, held by one epoch, or
//! dead. Moves between them are single commands or scripts, so that whoever dies wherever leaves
//! nothing in between. What is claimed here and by whom is the consumer's to know.
//!
//! How often an item was delivered is told by the spaces before it, one for each time it came back:
//! every JSON decoder skips them, the original's too. An item that is put with spaces of its own
//! before it comes out without them, counted accordingly.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use self::consumer::Consumer;
use self::keys::Keys;
use self::settlement::Settling;
use self::state::Calm;
use super::Core;
use super::dialer::jitter;
use super::purpose::Purpose;
use super::resp::{Batch, Command, Reply};
use super::routes::{Name, Target};
use crate::error::{Error, ErrorKind, Result};
use crate::transport::obituaries::Obituaries;
use crate::transport::{
    Claimed, DeadLetter, Failure, Letters, Put, PutOptions, QueueSpec, QueueStats, Reason, Receipt,
    SettleOptions, Settlement, Shelf, Wait,
};

mod claimer;
mod consumer;
mod keeper;
mod keys;
mod scripts;
mod settlement;
mod state;
mod ticket;

/// The consumers of this process, one for each queue that is in use.
#[derive(Debug, Default)]
pub(super) struct Consumers {
    running: Mutex<HashMap<String, Arc<Consumer>>>,
    epochs: AtomicU64,
    obituaries: Arc<Obituaries>,
}

impl Consumers {
    /// A number that no epoch of this process has yet.
    fn next_epoch(&self) -> u64 {
        self.epochs.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn find(&self, queue: &str) -> Option<Arc<Consumer>> {
        self.lock().get(queue).cloned()
    }

    fn forget(&self, consumer: &Arc<Consumer>) {
        let mut running = self.lock();
        let list = &consumer.keys.list;
        if running.get(list).is_some_and(|other| Arc::ptr_eq(other, consumer)) {
            running.remove(list);
        }
    }

    /// Ends all of them; returns when what they held is given back, or cannot be.
    pub(super) async fn finish(&self) {
        let running: Vec<_> = self.lock().values().cloned().collect();
        for consumer in &running {
            consumer.close();
        }
        for consumer in running {
            consumer.finished().await;
        }
    }

    /// Fails all who wait, where there is no runtime any more whose tasks could serve them.
    pub(super) fn abandon(&self) {
        for consumer in self.lock().values() {
            consumer.fail_all(|| Error::closed("get", &*consumer.keys.list));
            for settling in consumer.end() {
                settling.answer(&consumer.keys.list, Err(Error::closed("settle", "bus")));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Consumer>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The running consumer of a queue, started if there is none.
fn consumer(core: &Arc<Core>, spec: &QueueSpec) -> Arc<Consumer> {
    let mut running = core.consumers.lock();
    if let Some(consumer) = running.get(&spec.name).filter(|consumer| consumer.is_open()) {
        return Arc::clone(consumer);
    }
    let keys = Keys::new(core, &spec.name);
    let consumer = Arc::new(Consumer::new(keys, core.consumers.next_epoch(), spec));
    running.insert(spec.name.clone(), Arc::clone(&consumer));
    drop(running);
    core.runtime.spawn(claimer::run(Arc::clone(core), Arc::clone(&consumer)));
    core.runtime.spawn(keeper::run(Arc::clone(core), Arc::clone(&consumer)));
    consumer
}

pub(super) async fn push(
    core: &Core,
    spec: &QueueSpec,
    items: Vec<Bytes>,
    options: PutOptions,
) -> Result<Put> {
    let purpose = Purpose::change("put", &spec.name);
    core.check(&purpose)?;
    if let Some(what) = options.lacking(super::ABLE) {
        return Err(lacking(&purpose, what));
    }
    let keys = Keys::new(core, &spec.name);
    // There is always space for nothing; whether the queue is shut down is said all the same.
    let maxsize = if items.is_empty() { usize::MAX } else { spec.maxsize };
    if maxsize == 0 {
        return push_unbounded(core, &purpose, &keys, &items).await.map(|()| Put::Done);
    }
    let pushed = tokio::select! {
        result = push_bounded(core, &purpose, &keys, &items, maxsize, options.wait) => result,
        () = core.closing() => Err(purpose.closed()),
    };
    pushed.map(|()| Put::Done)
}

/// What this transport cannot do yet.
fn lacking(purpose: &Purpose<'_>, what: &str) -> crate::Error {
    purpose.error(ErrorKind::Unsupported, format!("redis:// has no {what} yet"))
}

/// A plain LPUSH, as the original's. Whether the queue is shut down is asked in the same write;
/// in that rare case the items are taken back, unless a consumer was faster: then they were put.
async fn push_unbounded(
    core: &Core,
    purpose: &Purpose<'_>,
    keys: &Keys,
    items: &[Bytes],
) -> Result<()> {
    let room = keys.list.len() + items.iter().map(Bytes::len).sum::<usize>();
    let put = Command::with_room("LPUSH", room).arg(&keys.list).args(items);
    let ask = Command::new("EXISTS").arg(&keys.shut);
    let mut replies =
        core.commands.pipeline(*purpose, &Batch::from_iter([put, ask])).await?.into_iter();
    purpose.check(replies.next())?;
    if purpose.check(replies.next())?.number() != Some(1) {
        return Ok(());
    }
    let arguments: Vec<&[u8]> = items.iter().map(|item| &**item).collect();
    let found =
        core.commands.script(*purpose, &scripts::WITHDRAW, &[&keys.list], &arguments).await?;
    if found.number() > Some(0) { Err(shut_down_error(purpose)) } else { Ok(()) }
}

/// A script that checks the length, tried again until there is space: consumers of bounded queues
/// give a hint, and a poll makes up for those who do not.
async fn push_bounded(
    core: &Core,
    purpose: &Purpose<'_>,
    keys: &Keys,
    items: &[Bytes],
    maxsize: usize,
    wait: Wait,
) -> Result<()> {
    if items.len() > maxsize {
        let count = items.len();
        let why = format!("{count} items at once never fit: maxsize is {maxsize}; put fewer");
        return Err(purpose.error(ErrorKind::Config, why));
    }
    let most = maxsize.to_string();
    let mut arguments: Vec<&[u8]> = vec![most.as_bytes()];
    arguments.extend(items.iter().map(|item| &**item));
    let space = Arc::new(Notify::new());
    let mut membership = None;
    loop {
        let reply = core
            .commands
            .script(*purpose, &scripts::PUT, &[&keys.list, &keys.shut], &arguments)
            .await?;
        match reply.number() {
            Some(-2) => return Err(shut_down_error(purpose)),
            Some(-1) => {}
            _ => return Ok(()),
        }
        let left = wait.left();
        if left == Some(Duration::ZERO) {
            let why = format!("it holds {maxsize} items at most; get some, or wait longer");
            return Err(purpose.error(ErrorKind::Full, why));
        }
        if membership.is_none() {
            let name = Name::Topic(keys.hint.as_str().into());
            let target = Target::Hint(Arc::clone(&space));
            // Without it, the poll alone has to do.
            membership = core.pubsub.join(*purpose, vec![name], target).await.ok();
            continue;
        }
        let poll = jitter(Duration::from_millis(50), Duration::from_millis(250));
        tokio::select! {
            () = space.notified() => {}
            () = sleep(left.map_or(poll, |left| left.min(poll))) => {}
        }
    }
}

fn shut_down_error(purpose: &Purpose<'_>) -> crate::Error {
    purpose.error(ErrorKind::ShutDown, "it was shut down; purge it to use it again")
}

pub(super) async fn claim(
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
            Wait::No => claimer::try_claim(core, &consumer, spec, limit),
            _ => consumer.enqueue(spec, limit, wait),
        };
        // None: it retired just now, for want of use; the next one will do.
        if let Some(mut ticket) = ticket {
            return ticket.wait(wait).await.unwrap_or_else(|| Err(purpose.closed()));
        }
    }
}

pub(super) async fn settle(
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
    let death = death(spec, &receipt, how, options);
    let (settling, settled) = Settling::awaited(receipt, how, spec);
    consumer(core, spec).settle(settling, Duration::ZERO);
    let settled = settled.await.unwrap_or_else(|_| Err(purpose.closed()));
    if settled.is_ok() {
        tell(core, spec, death);
    }
    settled
}

/// What is told of an item that becomes a dead letter by being settled so: its deliveries and why.
fn death(
    spec: &QueueSpec,
    receipt: &Receipt,
    how: Settlement,
    options: SettleOptions,
) -> Option<(u32, Failure)> {
    let deliveries = unmarked(&receipt.stored).1.saturating_add(1);
    let spent = spec.max_deliveries > 0 && deliveries >= spec.max_deliveries;
    let reason = match how {
        Settlement::Reject => Reason::Rejected,
        Settlement::Requeue if spent => Reason::TooManyDeliveries,
        Settlement::Ack | Settlement::Requeue | Settlement::Return => return None,
    };
    let failure = options.failure.map_or_else(|| Failure::new(reason), |failure| *failure);
    Some((deliveries, failure))
}

fn tell(core: &Core, spec: &QueueSpec, death: Option<(u32, Failure)>) {
    if let Some((deliveries, failure)) = death {
        core.consumers.obituaries.tell(&spec.name, deliveries, &failure, 0);
    }
}

pub(super) fn settle_soon(
    core: &Arc<Core>,
    spec: &QueueSpec,
    receipt: Receipt,
    how: Settlement,
    options: SettleOptions,
) {
    // Closed, everything that is held goes back anyhow.
    if core.check(&Purpose::change("settle", &spec.name)).is_ok() {
        tell(core, spec, death(spec, &receipt, how, options));
        let settling = Settling::silent(receipt, how, spec);
        consumer(core, spec).settle(settling, Duration::from_millis(10));
    }
}

pub(super) async fn extend(
    core: &Arc<Core>,
    spec: &QueueSpec,
    receipt: &Receipt,
    duration: Duration,
) -> Result<()> {
    let purpose = Purpose::question("extend", &spec.name);
    core.check(&purpose)?;
    let consumer = consumer(core, spec);
    // Noted first, so that no heartbeat can shorten it again.
    consumer.note_extension(receipt.number, Instant::now().checked_add(duration));
    let keys = &consumer.keys;
    let (held, lease) = (keys.held(receipt.number), keys.lease(receipt.number));
    let milliseconds = duration.as_millis().min(i64::MAX as u128 / 2).to_string();
    let arguments: [&[u8]; 2] = [&receipt.stored, milliseconds.as_bytes()];
    let reply =
        core.commands.script(purpose, &scripts::EXTEND, &[&held, &lease], &arguments).await?;
    if reply.number() == Some(1) { Ok(()) } else { Err(lease_lost(&purpose)) }
}

fn lease_lost(purpose: &Purpose<'_>) -> crate::Error {
    let why = "the lease ran out and the item was given to somebody else; use a longer one";
    purpose.error(ErrorKind::LeaseLost, why)
}

pub(super) async fn stats(core: &Core, spec: &QueueSpec) -> Result<QueueStats> {
    let purpose = Purpose::question("count", &spec.name);
    core.check(&purpose)?;
    if let Some(consumer) = core.consumers.find(&spec.name) {
        // Confirmations that only wait for company should not count as leased.
        settlement::flush(core, &consumer).await;
        consumer.calm(Calm::Everything).await;
    }
    let keys = Keys::new(core, &spec.name);
    keeper::reap(core, &keys, spec.max_deliveries).await?;
    let names = [keys.epochs.as_str(), &keys.list, &keys.dead];
    let arguments = [keys.helds.as_bytes()];
    let reply = core.commands.script(purpose, &scripts::STATS, &names, &arguments).await?;
    let mut counts = reply.items().into_iter().map(|reply| reply.number().unwrap_or_default());
    let mut count = || counts.next().unwrap_or_default() as usize;
    Ok(QueueStats::new(count(), count(), count()))
}

pub(super) async fn peek(
    core: &Core,
    spec: &QueueSpec,
    from: Shelf,
    limit: usize,
) -> Result<Vec<Bytes>> {
    let purpose = Purpose::question("peek", &spec.name);
    core.check(&purpose)?;
    if limit == 0 {
        return Ok(Vec::new());
    }
    let keys = Keys::new(core, &spec.name);
    let Some(key) = keys.shelf(from) else { return Ok(Vec::new()) };
    let items = tail(core, purpose, key, 0, limit).await?;
    Ok(items.iter().map(|item| unmarked(item).0).collect())
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

/// The dead letters, of which nothing is known but their bytes.
pub(super) async fn letters(
    core: &Core,
    spec: &QueueSpec,
    skip: usize,
    limit: usize,
) -> Result<Vec<DeadLetter>> {
    let purpose = Purpose::question("look", &spec.name);
    core.check(&purpose)?;
    if limit == 0 {
        return Ok(Vec::new());
    }
    let keys = Keys::new(core, &spec.name);
    let items = tail(core, purpose, &keys.dead, skip, limit).await?;
    let letter =
        |stored: Bytes| DeadLetter::new(unmarked(&stored).0, Receipt { stored, number: 0 });
    Ok(items.into_iter().map(letter).collect())
}

pub(super) async fn discard(core: &Core, spec: &QueueSpec, which: Letters) -> Result<usize> {
    let purpose = Purpose::change("discard", &spec.name);
    core.check(&purpose)?;
    match which {
        Letters::Oldest(usize::MAX) => purge(core, spec, Shelf::Dead).await,
        _ => Err(lacking(&purpose, "dead letters that are discarded one by one")),
    }
}

pub(super) async fn purge(core: &Core, spec: &QueueSpec, shelf: Shelf) -> Result<usize> {
    let purpose = Purpose::change("purge", &spec.name);
    core.check(&purpose)?;
    if let Some(consumer) = core.consumers.find(&spec.name) {
        // What was given back a moment ago waits, too.
        settlement::flush(core, &consumer).await;
        consumer.calm(Calm::Everything).await;
    }
    let keys = Keys::new(core, &spec.name);
    let Some(key) = keys.shelf(shelf) else { return Ok(0) };
    let mut commands = vec![Command::new("LLEN").arg(key), Command::new("UNLINK").arg(key)];
    if shelf == Shelf::Waiting {
        commands.push(Command::new("DEL").arg(&keys.shut));
        commands.push(Command::new("PUBLISH").arg(&keys.hint).arg("purge"));
    }
    let replies = core.commands.transaction(purpose, commands).await?;
    if let Some(consumer) = core.consumers.find(&spec.name) {
        consumer.poke();
    }
    Ok(replies.first().and_then(Reply::number).unwrap_or_default() as usize)
}

pub(super) async fn redrive(
    core: &Core,
    spec: &QueueSpec,
    which: Letters,
    to: &QueueSpec,
) -> Result<usize> {
    let purpose = Purpose::change("redrive", &spec.name);
    core.check(&purpose)?;
    let Letters::Oldest(limit) = which else {
        return Err(lacking(&purpose, "dead letters that are moved one by one"));
    };
    if to.name != spec.name {
        return Err(lacking(&purpose, "dead letters that are moved to another queue"));
    }
    let keys = Keys::new(core, &spec.name);
    let mut moved = 0;
    // In portions: a script keeps everybody else waiting.
    while moved < limit {
        let portion = (limit - moved).min(1000);
        let arguments = portion.to_string();
        let names = [keys.dead.as_str(), &keys.list];
        let arguments = [arguments.as_bytes()];
        let reply = core.commands.script(purpose, &scripts::REDRIVE, &names, &arguments).await?;
        let count = reply.number().unwrap_or_default() as usize;
        moved += count;
        if count < portion {
            break;
        }
    }
    Ok(moved)
}

pub(super) async fn shut_down(core: &Core, spec: &QueueSpec) -> Result<()> {
    let purpose = Purpose::question("shut down", &spec.name);
    core.check(&purpose)?;
    let keys = Keys::new(core, &spec.name);
    let arguments = [keys.hint.as_bytes()];
    core.commands.script(purpose, &scripts::SHUT_DOWN, &[&keys.shut], &arguments).await?;
    if let Some(consumer) = core.consumers.find(&spec.name) {
        consumer.poke();
    }
    Ok(())
}

impl Keys {
    /// Where the items of a shelf lie; nothing is ever due later here.
    fn shelf(&self, shelf: Shelf) -> Option<&str> {
        match shelf {
            Shelf::Waiting => Some(&self.list),
            Shelf::Dead => Some(&self.dead),
            Shelf::Delayed => None,
        }
    }
}

/// An item without its marks, and how many there were: one space for each delivery before.
fn unmarked(stored: &Bytes) -> (Bytes, u32) {
    let marks = stored.iter().take_while(|&&byte| byte == b' ').count();
    (stored.slice(marks..), u32::try_from(marks).unwrap_or(u32::MAX))
}
