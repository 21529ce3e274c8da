//! Sends settlements, one by one or many in one write, and reads the answers.
//!
//! The one invariant: a settlement is done, or known to be too late, before it is forgotten; otherwise
//! its item would stay leased for as long as the process lives. A settlement whose answer was lost is
//! uncertain until the server's list has been read. One that was refused or not sent is sent again, also
//! after its caller was told of the refusal.

use tokio::time::Instant;

use super::super::Core;
use super::super::purpose::Purpose;
use super::super::refusal::Cause;
use super::super::resp::Reply;
use super::consumer::Consumer;
use super::pending_settlement::PendingSettlement;
use crate::error::{Error, ErrorKind, Result};

/// Sends the settlements that only wait for company.
pub(super) async fn flush(core: &Core, consumer: &Consumer) {
    let batch = consumer.take_settlements();
    settle_all(core, consumer, batch).await;
}

/// Sends settlements in one write.
pub(super) async fn settle_all(core: &Core, consumer: &Consumer, batch: Vec<PendingSettlement>) {
    if !batch.is_empty() {
        let _moving = consumer.moving().await;
        settle_alone(core, consumer, batch).await;
    }
}

/// As [`settle_all`], for a caller that already prevents lists from being read meanwhile.
pub(super) async fn settle_alone(core: &Core, consumer: &Consumer, batch: Vec<PendingSettlement>) {
    let keys = consumer.keys();
    let purpose = Purpose::change("settle", &keys.name);
    let commands = batch.iter().map(|settling| settling.command(keys)).collect();
    match core.changes.pipeline(purpose, commands).await {
        Ok(done) => {
            let confirmed = done.confirmed(&purpose);
            for (settling, reply) in batch.into_iter().zip(done.reply) {
                let settling = if_confirmed(settling, &reply, &confirmed);
                take_reply(core, consumer, settling, reply).await;
            }
        }
        Err(error) => not_settled(consumer, batch, &error),
    }
}

/// Tells a waiting caller that the settlement failed where the server did it and the replicas did not
/// confirm it.
fn if_confirmed(
    settling: PendingSettlement,
    reply: &Reply,
    confirmed: &Result<()>,
) -> PendingSettlement {
    match (reply, confirmed) {
        (Reply::Number(1..), Err(error)) => settling.tell(error),
        _ => settling,
    }
}

/// Keeps settlements of which it is not known that they were done.
pub(super) fn not_settled(consumer: &Consumer, batch: Vec<PendingSettlement>, error: &Error) {
    if error.kind() == ErrorKind::Ambiguous {
        return consumer.unsettled(batch);
    }
    for settling in batch {
        let settling = settling.put_off(&consumer.keys().name, error);
        let at = settling.again_at();
        consumer.keep_settlement(settling, at);
    }
}

/// Acts on the server's answer to a settlement that was sent.
pub(super) async fn take_reply(
    core: &Core,
    consumer: &Consumer,
    settling: PendingSettlement,
    reply: Reply,
) {
    match reply {
        Reply::Refused(refusal) if refusal.cause() == Cause::NoScript => {
            teach(core, consumer, settling).await;
        }
        // It is at another node, or on its way: the next attempt, which is made at once, follows it.
        Reply::Refused(refusal) if refusal.is_of_a_cluster() && settling.is_first_try() => {
            consumer.keep_settlement(settling.tried_once(), Instant::now());
        }
        Reply::Refused(refusal) => {
            let purpose = Purpose::change("settle", &consumer.keys().name);
            not_settled(consumer, vec![settling], &purpose.refused(&refusal));
        }
        reply => consumer.settled(settling, reply.count()),
    }
}

/// Settles with the script's text, for a server that does not know it yet.
async fn teach(core: &Core, consumer: &Consumer, settling: PendingSettlement) {
    let keys = consumer.keys();
    let purpose = Purpose::change("settle", &keys.name);
    match settling.run_script(core, purpose, keys).await {
        Ok(done) => {
            let settling = if_confirmed(settling, &done.reply, &done.confirmed(&purpose));
            consumer.settled(settling, done.reply.count());
        }
        Err(error) => not_settled(consumer, vec![settling], &error),
    }
}
