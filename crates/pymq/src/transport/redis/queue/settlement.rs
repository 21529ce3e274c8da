//! Settlements: the ends of leases, sent one by one or many in one write.
//!
//! The one invariant: a settlement is done or known to be too late before it is forgotten, or its
//! item would stay leased as long as the process lives. One whose answer was lost is uncertain until
//! a reconciliation has seen what the server holds; one that was not sent is sent again.

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::{Duration, Instant};

use super::super::Core;
use super::super::purpose::Purpose;
use super::super::refusal::{Cause, Refusal};
use super::super::resp::{Command, Reply};
use super::consumer::Consumer;
use super::keys::Keys;
use super::scripts;
use crate::error::{Error, ErrorKind, Result};
use crate::transport::{QueueSpec, Receipt, Settlement};

/// After how long a settlement that could not be done is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// The end of a lease that has still to be told.
#[derive(Debug)]
pub(super) struct Settling {
    pub(super) receipt: Receipt,
    pub(super) how: Settlement,
    pub(super) max_deliveries: u32,
    reply: Option<oneshot::Sender<Result<()>>>,
}

impl Settling {
    /// One that somebody waits for.
    pub(super) fn awaited(
        receipt: Receipt,
        how: Settlement,
        spec: &QueueSpec,
    ) -> (Self, oneshot::Receiver<Result<()>>) {
        let (reply, settled) = oneshot::channel();
        let max_deliveries = spec.max_deliveries;
        (Self { receipt, how, max_deliveries, reply: Some(reply) }, settled)
    }

    /// One that nobody waits for.
    pub(super) fn silent(receipt: Receipt, how: Settlement, spec: &QueueSpec) -> Self {
        Self { receipt, how, max_deliveries: spec.max_deliveries, reply: None }
    }

    /// An item that nobody got.
    pub(super) fn unclaimed(receipt: Receipt) -> Self {
        Self { receipt, how: Settlement::Return, max_deliveries: 0, reply: None }
    }

    /// Tells a failure to whoever waits; the same settlement, for nobody, is still to be done.
    fn put_off(mut self, error: &Error) -> Self {
        if let Some(reply) = self.reply.take() {
            // Whoever asked may have stopped waiting.
            let _ = reply.send(Err(copy(error)));
        }
        self
    }

    pub(super) fn answer(self, list: &str, result: Result<()>) {
        match (self.reply, result) {
            // Whoever asked may have stopped waiting.
            (Some(reply), result) => drop(reply.send(result)),
            (None, Err(error)) => tracing::warn!(queue = list, %error, "an item was not settled"),
            (None, Ok(())) => {}
        }
    }
}

/// Sends the settlements that only wait for company.
pub(super) async fn flush(core: &Core, consumer: &Consumer) {
    let batch = consumer.lock().take_settlements();
    settle_all(core, consumer, batch).await;
}

/// Sends settlements in one write.
pub(super) async fn settle_all(core: &Core, consumer: &Consumer, batch: Vec<Settling>) {
    if !batch.is_empty() {
        let _moving = consumer.moving.read().await;
        settle_alone(core, consumer, batch).await;
    }
}

/// The same where the caller sees to it that nothing is reconciled meanwhile.
pub(super) async fn settle_alone(core: &Core, consumer: &Consumer, batch: Vec<Settling>) {
    let keys = &consumer.keys;
    let purpose = Purpose::change("settle", &keys.list);
    let commands = batch.iter().map(|settling| command(keys, settling)).collect();
    match core.commands.pipeline(purpose, &commands).await {
        Ok(replies) => {
            for (settling, reply) in batch.into_iter().zip(replies) {
                take_reply(core, consumer, settling, reply).await;
            }
        }
        Err(error) if error.kind() == ErrorKind::Ambiguous => consumer.unsettled(batch),
        Err(error) => put_off(consumer, batch, &error),
    }
}

/// Keeps settlements that were not done for another attempt.
fn put_off(consumer: &Consumer, batch: Vec<Settling>, error: &Error) {
    let batch = batch.into_iter().map(|settling| settling.put_off(error)).collect();
    consumer.lock().keep(batch, Instant::now() + AGAIN);
    consumer.changed.notify_one();
}

fn copy(error: &Error) -> Error {
    Error::new(error.kind(), "settle", error.object(), error.message().to_owned())
}

pub(super) async fn take_reply(core: &Core, consumer: &Consumer, settling: Settling, reply: Reply) {
    match reply {
        Reply::Refused(refusal) if refusal.cause() == Cause::NoScript => {
            teach(core, consumer, settling).await;
        }
        Reply::Refused(refusal) => {
            let purpose = Purpose::change("settle", &consumer.keys.list);
            let refused = purpose.refused(&refusal);
            if refusal.passes() {
                put_off(consumer, vec![settling], &refused);
            } else {
                settling.answer(&consumer.keys.list, Err(refused));
            }
        }
        reply => consumer.settled(settling, reply.number() > Some(0)),
    }
}

/// Settles with the script's text, for a server that does not know it yet.
async fn teach(core: &Core, consumer: &Consumer, settling: Settling) {
    let list = &consumer.keys.list;
    let (names, arguments) = arguments(&consumer.keys, &settling);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let arguments: Vec<&[u8]> = arguments.iter().map(|argument| &**argument).collect();
    let purpose = Purpose::change("settle", list);
    match core.commands.script(purpose, &scripts::SETTLE, &names, &arguments).await {
        Ok(reply) => consumer.settled(settling, reply.number() > Some(0)),
        Err(error) if error.kind() == ErrorKind::Ambiguous => consumer.unsettled(vec![settling]),
        Err(error) if error.kind() == ErrorKind::Connection || Refusal::passed_on(&error) => {
            put_off(consumer, vec![settling], &error);
        }
        Err(error) => settling.answer(list, Err(error)),
    }
}

fn command(keys: &Keys, settling: &Settling) -> Command {
    if settling.how == Settlement::Ack {
        return confirm(keys, settling);
    }
    let (names, arguments) = arguments(keys, settling);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let arguments: Vec<&[u8]> = arguments.iter().map(|argument| &**argument).collect();
    scripts::SETTLE.call(&names, &arguments)
}

/// From the tail, where the oldest is, which is most often the one.
pub(super) fn confirm(keys: &Keys, settling: &Settling) -> Command {
    let receipt = &settling.receipt;
    Command::new("LREM").arg(keys.held(receipt.number)).arg("-1").arg(&receipt.stored)
}

fn arguments(keys: &Keys, settling: &Settling) -> ([String; 3], [Bytes; 3]) {
    let how = match settling.how {
        Settlement::Return => "return",
        Settlement::Reject => "reject",
        Settlement::Ack | Settlement::Requeue => "requeue",
    };
    let names = [keys.held(settling.receipt.number), keys.list.clone(), keys.dead.clone()];
    let most = Bytes::from(settling.max_deliveries.to_string());
    (names, [settling.receipt.stored.clone(), Bytes::from_static(how.as_bytes()), most])
}
