//! What was left with nobody: an item that was taken in the moment in which the keys of its queue began to
//! move to another node of a cluster, by a process that was killed before it could note who has it.
//!
//! The one invariant: nothing is taken from who lives. What is found is registered for a while, however short
//! the lease of who finds it; its taker says within that time that it lives, and hands nothing out before the
//! server has answered that. Else it goes back as what any dead consumer held.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use super::super::cluster::slot_of;
use super::super::core::Core;
use super::super::purpose::Purpose;
use super::super::refusal::{Cause, Refusal};
use super::super::resp::{Batch, Command, Reply};
use super::super::timing::TAKEN_UNNOTED;
use super::consumer::Consumer;
use super::{lease, scripts};
use crate::error::Result;

/// So many keys of a slot are looked at.
const MOST: u16 = 10_000;
/// The log's words where a slot has too many keys.
const NOT_ALL: &str = "not all keys of the queue's slot were looked at: what a killed process may have left \
                       with nobody there is found by `pymq doctor`, and goes back with its --fix";

/// At which node a consumer has looked last.
#[derive(Debug, Default)]
pub(super) struct Looked(Mutex<Option<String>>);

impl Looked {
    fn is_at(&self, node: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_deref() == Some(node)
    }

    fn set(&self, node: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(node);
    }
}

/// Looks once at each node at which the queue is: while it stays there, a claim and its registration cannot
/// come apart.
pub(super) async fn adopt(core: &Core, consumer: &Consumer) -> Result<()> {
    let (Some(_), Some(node)) = (core.dialer.home(), core.commands.server()) else { return Ok(()) };
    if consumer.looked().is_at(&node) {
        return Ok(());
    }
    match find(core, consumer).await {
        // Its keys are on their way: it is looked for where they come to.
        Err(error) if Refusal::is_a_clusters(&error) => return Ok(()),
        Ok(found) if found.is_empty() => {}
        found => register(core, consumer, &found?).await?,
    }
    consumer.looked().set(node);
    Ok(())
}

/// The epochs that hold something and are not registered.
async fn find(core: &Core, consumer: &Consumer) -> Result<Vec<Bytes>> {
    let keys = consumer.keys();
    let purpose = Purpose::idempotent("look at", &keys.name);
    let all = Command::new("CLUSTER").arg("GETKEYSINSLOT");
    let all = all.number(slot_of(&keys.epochs)).number(MOST);
    let known = Command::new("ZRANGE").arg(&keys.epochs).arg("0").arg("-1");
    let replies = core.commands.pipeline(purpose, &Batch::from_iter([all, known])).await?;
    let mut replies = replies.into_iter();
    let all = match replies.next() {
        // A right without which an operator has to look.
        Some(Reply::Refused(refusal)) if refusal.cause() == Cause::Denied => return Ok(Vec::new()),
        reply => purpose.check(reply)?.items(),
    };
    if all.len() >= usize::from(MOST) && consumer.log_once().is_news(NOT_ALL) {
        tracing::warn!(queue = keys.name, looked_at = MOST, "{NOT_ALL}");
    }
    let known = purpose.check(replies.next())?.items();
    let known: HashSet<Bytes> = known.into_iter().filter_map(Reply::bytes).collect();
    let held = |key: Bytes| {
        let begins = key.starts_with(keys.helds.as_bytes());
        begins.then(|| key.slice(keys.helds.len()..)).filter(|epoch| !known.contains(epoch))
    };
    Ok(all.into_iter().filter_map(Reply::bytes).filter_map(held).collect())
}

/// Registers them for a while, as far as they still hold anything.
async fn register(core: &Core, consumer: &Consumer, epochs: &[Bytes]) -> Result<()> {
    let keys = consumer.keys();
    let purpose = Purpose::idempotent("register", &keys.name);
    let grace = scripts::milliseconds(TAKEN_UNNOTED);
    let words = [grace.as_str(), &keys.helds, "", "0"].map(str::as_bytes).into_iter();
    let arguments: Vec<&[u8]> = words.chain(epochs.iter().map(|epoch| &**epoch)).collect();
    let names = lease::names_of_keep(keys);
    core.commands.script(purpose, &scripts::KEEP, &names, &arguments).await?;
    let found = epochs.len();
    tracing::info!(queue = keys.name, found, "items that were left with nobody go back soon");
    Ok(())
}
