//! Longer leases: of one item, which goes into an epoch of its own where its lease is to last longer than
//! the others'.
//!
//! The one invariant: where the item is afterwards is known here, whoever has stopped waiting for it; a
//! settlement that looked for it meanwhile where it had been follows it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::Core;
use super::super::purpose::Purpose;
use super::consumer::{Consumer, OpenExtension};
use super::keys::Epoch;
use super::roster::holder;
use super::scripts::{self, milliseconds};
use crate::error::Result;
use crate::transport::{QueueSpec, Receipt, refusals};

/// Has the lease of an item last for so long at least.
pub(super) async fn extend(
    core: &Arc<Core>,
    spec: &QueueSpec,
    receipt: &Receipt,
    duration: Duration,
) -> Result<()> {
    let purpose = Purpose::repeatable("extend", &spec.name);
    core.check(&purpose)?;
    let holder = holder(core, spec, receipt, &purpose)?;
    let extending = holder.begin_extending(receipt);
    // In a task of its own: its answer is read even if nobody waits for it any more.
    let work = ask(Arc::clone(core), holder, extending, duration);
    core.runtime.spawn(work).await.unwrap_or_else(|_| Err(purpose.closed_unanswered()))
}

async fn ask(
    core: Arc<Core>,
    holder: Arc<Consumer>,
    extending: OpenExtension,
    duration: Duration,
) -> Result<()> {
    let receipt = extending.receipt();
    let keys = holder.keys();
    let purpose = Purpose::repeatable("extend", &keys.name);
    let milliseconds = milliseconds(duration);
    // One after the other: a second one of the same item has to know where the first has put it.
    let turn = holder.turn_to_extend().await;
    let moving = holder.moving().await;
    let (place, alone) = (holder.place(receipt), holder.epoch_for(receipt, duration));
    let mut outcome = Err(refusals::lease_lost(purpose.operation, purpose.object));
    // An item that was fetched ahead moves to the other list when it is shown.
    for from in std::iter::once(place).chain(place.ahead.then(|| place.twin())) {
        let to = alone.map_or(from, Epoch::shown);
        let (held, there) = (keys.held(from), keys.held(to));
        let names = [keys.epochs.as_str(), &held, &there, &keys.spare];
        let name = keys.name(to);
        let arguments: [&[u8]; 3] = [&receipt.stored, milliseconds.as_bytes(), name.as_bytes()];
        match core.commands.script(purpose, &scripts::EXTEND, &names, &arguments).await {
            Ok(reply) if reply.number() != Some(1) => continue,
            Ok(_) => {
                let until = Instant::now().checked_add(duration);
                holder.note_extension(receipt, (from.epoch, to.epoch), until);
                outcome = Ok(());
            }
            Err(error) => outcome = Err(error),
        }
        break;
    }
    // Settlements that it held up are on their way again before anybody reads the lists.
    drop(extending);
    drop((moving, turn));
    outcome
}
