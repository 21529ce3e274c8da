//! The keeper: heartbeats, reaping, and finding what lost replies had brought.
//!
//! The one invariant: an epoch that was once found without a lease is never used again; a new one
//! takes its place before the next claim. Everyone reaps, so that no one in particular has to live.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::super::Core;
use super::super::dialer::jitter;
use super::super::purpose::Purpose;
use super::super::resp::{Batch, Command, Reply};
use super::consumer::Consumer;
use super::keys::Keys;
use super::scripts;
use crate::error::{Error, ErrorKind, Result};

/// How long a dead epoch is remembered, in case that one of its commands is still on its way.
const TOMBSTONE: Duration = Duration::from_secs(24 * 60 * 60);
/// The most items that one run of a script moves: everybody else waits for it.
const PORTION: u32 = 1000;
/// After how long without use a consumer ends.
const IDLE: Duration = Duration::from_secs(60);

/// Beats and reaps until the consumer is closed.
pub(super) async fn run(core: Arc<Core>, consumer: Arc<Consumer>) {
    let work = async {
        loop {
            if consumer.lock().registered
                && let Err(error) = beat(&core, &consumer).await
            {
                tell(&consumer, &error, "no heartbeat");
            }
            let most = consumer.lock().max_deliveries;
            if let Err(error) = reap(&core, &consumer.keys, most).await {
                tell(&consumer, &error, "nothing reaped");
            }
            let lease = consumer.lock().lease;
            sleep(jitter(lease / 4, lease / 3)).await;
            consumer.retire_if_idle(IDLE.max(lease));
        }
    };
    tokio::select! {
        () = work => {}
        () = consumer.closing() => {}
    }
}

/// A lost connection is told elsewhere, and heals; a refusal has to be mended by somebody.
fn tell(consumer: &Consumer, error: &Error, what: &str) {
    let queue = &consumer.keys.list;
    match error.kind() {
        ErrorKind::Server => tracing::warn!(queue, %error, "{what}"),
        _ => tracing::debug!(queue, %error, "{what}"),
    }
}

/// Makes the epoch known, and learns whether the queue is shut down.
pub(super) async fn register(core: &Core, consumer: &Consumer) -> Result<()> {
    let keys = &consumer.keys;
    let (epoch, previous, lease) = {
        let state = consumer.lock();
        (state.epoch, state.previous, state.lease_left())
    };
    let sent = Instant::now();
    let name = keys.epoch(epoch);
    let previous = previous.map(|previous| keys.epoch(previous)).unwrap_or_default();
    let lease = milliseconds(lease);
    let names = [keys.epochs.as_str(), &keys.lease(epoch), &keys.shut];
    let arguments = [name.as_bytes(), lease.as_bytes(), previous.as_bytes()];
    // Repeated, it does the same again.
    let purpose = Purpose::question("get", &keys.list);
    let reply = core.commands.script(purpose, &scripts::REGISTER, &names, &arguments).await?;
    let mut state = consumer.lock();
    if state.epoch == epoch {
        state.registered = true;
        state.previous = None;
        state.beaten = sent;
        state.shut = reply.number() == Some(1);
    }
    Ok(())
}

/// Prolongs the lease; where there is none any more, a new epoch begins.
pub(super) async fn beat(core: &Core, consumer: &Consumer) -> Result<()> {
    let keys = &consumer.keys;
    let (epoch, lease) = {
        let state = consumer.lock();
        (state.epoch, state.lease_left())
    };
    let sent = Instant::now();
    let purpose = Purpose::question("renew", &keys.list);
    let command = prolong(keys, epoch, lease);
    let alive = core.commands.run(purpose, &command).await?.number() == Some(1);
    take_beat(core, consumer, epoch, sent, alive);
    Ok(())
}

/// Existing keys may be prolonged even when memory is full; setting them anew would be refused, and
/// every consumer would look dead just then.
fn prolong(keys: &Keys, epoch: u64, lease: Duration) -> Command {
    Command::new("PEXPIRE").arg(keys.lease(epoch)).arg(milliseconds(lease))
}

fn take_beat(core: &Core, consumer: &Consumer, epoch: u64, sent: Instant, alive: bool) {
    let mut state = consumer.lock();
    if state.epoch != epoch || !state.registered {
        return;
    }
    if alive {
        state.beaten = state.beaten.max(sent);
        return;
    }
    let held = state.held_count();
    let late = state.renew(core.consumers.next_epoch());
    drop(state);
    tracing::warn!(queue = consumer.keys.list, held, "the lease was lost; its items go to others");
    consumer.changed.notify_one();
    for settling in late {
        consumer.settled(settling, false);
    }
}

/// Gives back what the dead hold.
pub(super) async fn reap(core: &Core, keys: &Keys, max_deliveries: u32) -> Result<()> {
    let names = [keys.epochs.as_str(), &keys.list, &keys.dead];
    let (most, portion) = (max_deliveries.to_string(), PORTION.to_string());
    let tombstone = milliseconds(TOMBSTONE);
    let words = [&keys.leases, &keys.helds, &most, &portion, &tombstone];
    let arguments = words.map(String::as_bytes);
    // Repeated, it goes on where it had come to.
    let purpose = Purpose::question("reap", &keys.list);
    loop {
        let reply = core.commands.script(purpose, &scripts::REAP, &names, &arguments).await?;
        let counts: Vec<i64> = reply.items().iter().filter_map(Reply::number).collect();
        let [back, dead, more] = counts[..] else { return Ok(()) };
        if back + dead > 0 {
            tracing::info!(queue = keys.list, back, dead, "items of lost consumers are back");
        }
        if more == 0 {
            return Ok(());
        }
    }
}

/// Compares what the server holds for us with what we know of.
pub(super) async fn reconcile(core: &Core, consumer: &Consumer) -> Result<()> {
    let _alone = consumer.moving.write().await;
    let keys = &consumer.keys;
    let (epoch, lease) = {
        let state = consumer.lock();
        (state.epoch, state.lease_left())
    };
    let sent = Instant::now();
    let purpose = Purpose::question("get", &keys.list);
    let list = Command::new("LRANGE").arg(keys.held(epoch)).arg("0").arg("-1");
    let commands = Batch::from_iter([prolong(keys, epoch, lease), list]);
    let mut replies = core.commands.pipeline(purpose, &commands).await?.into_iter();
    let alive = purpose.check(replies.next())?.number() == Some(1);
    let server = purpose.check(replies.next())?.items();
    take_beat(core, consumer, epoch, sent, alive);
    let server: Vec<Bytes> = server.into_iter().filter_map(Reply::bytes).collect();
    let (done, unknown) = {
        let mut state = consumer.lock();
        if state.epoch != epoch {
            return Ok(());
        }
        state.reconcile_at = state.look_again_at.take();
        state.reconcile(server)
    };
    for settling in done {
        consumer.settled(settling, true);
    }
    if !unknown.is_empty() {
        tracing::info!(queue = keys.list, found = unknown.len(), "items of lost replies are found");
        consumer.distribute(epoch, unknown);
    }
    Ok(())
}

/// Gives back what is held and ends the epoch.
pub(super) async fn leave(core: &Core, consumer: &Consumer) -> Result<()> {
    let keys = &consumer.keys;
    let (epoch, registered, ghost, most) = {
        let state = consumer.lock();
        let ghost = state.look_again_at.or(state.reconcile_at).is_some();
        (state.epoch, state.registered, ghost, state.max_deliveries)
    };
    if !registered {
        return Ok(());
    }
    let names = [&keys.epochs, &keys.lease(epoch), &keys.held(epoch), &keys.list, &keys.dead];
    let ghost = u32::from(ghost).to_string();
    let words = [keys.epoch(epoch), most.to_string(), PORTION.to_string(), ghost];
    let arguments = words.each_ref().map(String::as_bytes);
    // Repeated, it goes on where it had come to.
    let purpose = Purpose::question("close", &keys.list);
    loop {
        let names = names.map(String::as_str);
        let reply = core.commands.script(purpose, &scripts::CLOSE, &names, &arguments).await?;
        if reply.number() != Some(1) {
            return Ok(());
        }
    }
}

fn milliseconds(duration: Duration) -> String {
    duration.as_millis().clamp(1, i64::MAX as u128 / 2).to_string()
}
