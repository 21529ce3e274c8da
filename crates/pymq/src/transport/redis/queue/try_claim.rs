//! Claims of getters that do not wait: each is sent by itself, apart from those that wait.
//!
//! The one invariant: its answer is read even if its getter has left, and what it brought is given back
//! then.

use std::sync::Arc;

use tokio::time::timeout;

use super::super::Core;
use super::super::purpose::Purpose;
use super::super::timing::ROUND_TRIP;
use super::consumer::Consumer;
use super::getters::Want;
use super::line_up::line_up;
use super::round::{Round, digest};
use super::send_settlements::not_settled;
use super::ticket::Ticket;
use super::{copy, lease};
use crate::error::{Error, ErrorKind, Result};
use crate::transport::{Claimed, QueueSpec, Wait, refusals};

/// Takes what is there for one getter that does not wait.
pub(super) fn try_claim(
    core: &Arc<Core>,
    consumer: &Arc<Consumer>,
    spec: &QueueSpec,
    limit: usize,
) -> Option<Ticket> {
    let (ticket, reply) = consumer.ticket(spec)?;
    let (core, consumer) = (Arc::clone(core), Arc::clone(consumer));
    let want = Want::of(spec, limit);
    // In a task of its own: the answer is read even if nobody waits for it any more.
    core.runtime.clone().spawn(async move {
        let answer = claim_now(&core, &consumer, want).await;
        consumer.answer(reply, answer);
    });
    Some(ticket)
}

async fn claim_now(core: &Core, consumer: &Consumer, want: Want) -> Result<Vec<Claimed>> {
    if !consumer.is_opened() {
        lease::open(core, consumer, Wait::No).await?;
    }
    if consumer.is_due() {
        line_up(core, consumer, Wait::No).await?;
    }
    let claimed = claim_once(core, consumer, want).await?;
    if !claimed.is_empty() || !consumer.is_due() {
        return Ok(claimed);
    }
    // The answer told of something that was due.
    line_up(core, consumer, Wait::No).await?;
    claim_once(core, consumer, want).await
}

async fn claim_once(core: &Core, consumer: &Consumer, want: Want) -> Result<Vec<Claimed>> {
    let purpose = Purpose::change("claim", &consumer.keys().name).within(Wait::No);
    // A comparison of lists may hold this lock while the server says nothing.
    let Ok(_moving) = timeout(ROUND_TRIP, consumer.moving()).await else {
        let why = "the server does not answer; nothing was taken";
        return Err(purpose.error(ErrorKind::Connection, why));
    };
    if consumer.is_leaving() {
        // Everything was given back while we waited: nobody would give back what came now.
        return Err(purpose.closed());
    }
    let round = consumer.round_apart(want);
    let replies = match core.commands.pipeline(purpose, &round.commands(consumer)).await {
        Ok(replies) => replies,
        Err(error) => {
            let error = not_claimed(consumer, round, &error);
            return Err(core.check(&purpose).err().unwrap_or(error));
        }
    };
    let (epoch, began) = (round.epoch, round.began);
    let brought = digest(core, consumer, round, replies, Wait::No).await?;
    if brought.items.is_empty() {
        if let Some(refusal) = brought.refused {
            return Err(purpose.refused(&refusal));
        }
        return if brought.shut {
            Err(refusals::shut_down(purpose.operation, purpose.object))
        } else {
            Ok(Vec::new())
        };
    }
    consumer.clear_trouble();
    if consumer.is_sure(epoch) {
        return Ok(consumer.take_over(brought.items));
    }
    // They may be somebody else's by now: what is still ours is found in the server's list.
    consumer.look_at(epoch);
    let why = format!("no answer for {:?}, longer than the lease", began.elapsed());
    Err(purpose.error(ErrorKind::Connection, why))
}

/// Handles a claim that failed: an item that it may have taken is found again, so trying again is safe
/// whatever happened.
fn not_claimed(consumer: &Consumer, round: Round, error: &Error) -> Error {
    if error.kind() == ErrorKind::Connection {
        // Not sent, since this claim does not wait; whoever confirms may.
        consumer.put_back(round.acks);
        return copy(error, "claim");
    }
    if error.kind() != ErrorKind::Ambiguous {
        not_settled(consumer, round.acks, error);
        return copy(error, "claim");
    }
    consumer.doubt(round.epoch);
    consumer.unsettled(round.acks);
    let why = "no answer came; an item that was taken all the same is found again, and not lost";
    Error::new(ErrorKind::Connection, "claim", error.object(), why)
}
