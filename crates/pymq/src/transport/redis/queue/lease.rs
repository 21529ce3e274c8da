//! Leases: registering ours, prolonging them, and leaving the epochs that hold nothing.
//!
//! A lease belongs to an epoch, not to an item: one call prolongs all that a consumer took since the
//! epoch began, however much that is.
//!
//! The one invariant: an epoch that was once found to be over is never used again; a new one takes
//! its place before the next claim.

use std::time::Duration;

use tokio::time::Instant;

use super::super::Core;
use super::super::purpose::Purpose;
use super::super::resp::{Command, Reply};
use super::consumer::Consumer;
use super::keys::{Epoch, HeldList, Keys};
use super::line_up::note_due;
use super::scripts::{self, milliseconds};
use crate::error::Result;
use crate::transport::Wait;

/// A connection that waits for items counts as a consumer for so long after it last said so: as long as
/// one wait at the server and the way there and back, with some time to spare.
const WAITS: Duration = Duration::from_secs(8);

/// Learns the server's clock, whether the queue is shut down, and whether we may register: before
/// the first claim, since what is taken must be registered in the same write.
pub(super) async fn open(core: &Core, consumer: &Consumer, wait: Wait) -> Result<()> {
    prolong(core, consumer, &[consumer.current()], wait).await
}

/// The command that prolongs the leases of epochs, and registers those that hold something. It names every
/// list of each that may be at the server: what [`note_kept`] notes holds for all of them. It bears
/// the script's text: a server that does not know the digest would refuse it, and with it the claim that
/// is sent in the same write. A connection that has waited long and holds nothing says so here, and
/// counts as a consumer until its next wait is over.
pub(super) fn keep(consumer: &Consumer, places: &[HeldList], waited: bool) -> Command {
    let keys = consumer.keys();
    let names = names_of_keep(keys);
    let words = words_of_keep(consumer, places, waited);
    let arguments: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
    scripts::KEEP.teach(&names, &arguments)
}

pub(super) fn names_of_keep(keys: &Keys) -> [&str; 5] {
    [&keys.epochs, &keys.shut, &keys.spare, &keys.later, &keys.waits]
}

fn words_of_keep(consumer: &Consumer, places: &[HeldList], waited: bool) -> Vec<String> {
    let keys = consumer.keys();
    let who = if waited { keys.identity() } else { "" }.to_owned();
    let first = [milliseconds(consumer.lease()), keys.helds.clone(), who, milliseconds(WAITS)];
    first.into_iter().chain(places.iter().map(|place| keys.name(*place))).collect()
}

/// The answer to [`keep`].
pub(super) struct Kept {
    pub(super) shut: bool,
    pub(super) over: Vec<Epoch>,
}

/// Notes the answer to what prolongs leases, which was sent at a moment.
pub(super) fn note_kept(
    consumer: &Consumer,
    places: &[HeldList],
    sent: Instant,
    reply: Reply,
) -> Kept {
    let mut numbers = reply.items().into_iter().map(|reply| reply.number().unwrap_or_default());
    let clock = numbers.next();
    let shut = note_due(consumer, numbers.next() == Some(1), numbers.next());
    if let Some(clock) = clock {
        consumer.note_server(sent, clock);
    }
    let mut over: Vec<Epoch> = Vec::new();
    for (HeldList { epoch, ahead }, alive) in places.iter().zip(numbers) {
        if alive == 1 {
            consumer.note_kept(*epoch, sent);
            // An epoch has two lists, for items shown and fetched ahead, and lives if one of them does:
            // the other one is empty, or was never there. It is not registered then, so that the next
            // claim registers it anew.
            over.retain(|dead| dead != epoch);
        } else if !ahead {
            over.push(*epoch);
        }
    }
    Kept { shut, over }
}

/// Prolongs the leases of epochs; where one is over, a new one begins.
pub(super) async fn beat(core: &Core, consumer: &Consumer, epochs: &[Epoch]) -> Result<()> {
    prolong(core, consumer, epochs, Wait::Forever).await
}

async fn prolong(core: &Core, consumer: &Consumer, epochs: &[Epoch], wait: Wait) -> Result<()> {
    let keys = consumer.keys();
    let sent = Instant::now();
    let purpose = Purpose::idempotent("renew", &keys.name).within(wait);
    let names = names_of_keep(keys);
    let places = consumer.lists(epochs);
    let words = words_of_keep(consumer, &places, false);
    let arguments: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
    let reply = core.commands.script(purpose, &scripts::KEEP, &names, &arguments).await?;
    if !matches!(&reply, Reply::List(numbers) if numbers.len() == places.len() + 3) {
        // Too short an answer must not pass for one: no epoch would be noted as kept, and the question
        // would be sent again at once, for ever.
        return Err(purpose.nonsense());
    }
    for epoch in note_kept(consumer, &places, sent, reply).over {
        lose(consumer, epoch, sent);
    }
    Ok(())
}

/// Notes that an epoch of ours is over, and warns if items were lost with it.
pub(super) fn lose(consumer: &Consumer, epoch: Epoch, sent: Instant) {
    let held = consumer.lose(epoch, sent);
    if held > 0 {
        let queue = &consumer.keys().name;
        tracing::warn!(queue, held, "the lease was lost; its items go to others");
    }
}

/// Forgets epochs that hold nothing. The caller sees to it that nothing is taken meanwhile.
pub(super) async fn leave(core: &Core, consumer: &Consumer, epochs: &[Epoch]) -> Result<()> {
    let keys = consumer.keys();
    let names = consumer.lists(epochs).into_iter().map(|place| keys.name(place));
    let words: Vec<String> = std::iter::once(keys.helds.clone()).chain(names).collect();
    let arguments: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
    let purpose = Purpose::idempotent("close", &keys.name);
    core.commands.script(purpose, &scripts::LEAVE, &[&keys.epochs], &arguments).await?;
    consumer.forget(epochs);
    Ok(())
}
