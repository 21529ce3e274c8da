//! Comparing the server's lists with what is known here, after a reply was lost.
//!
//! The one invariant: nothing of ours moves on the server while its lists are read, or an item on its way
//! out would be in neither picture.

use bytes::Bytes;
use tokio::time::Instant;

use super::super::Core;
use super::super::purpose::Purpose;
use super::super::resp::{Batch, Command, Reply};
use super::consumer::Consumer;
use super::keys::{Epoch, HeldList};
use super::lease::{keep, lose, note_kept};
use crate::error::Result;

/// Compares what the server holds for epochs of ours with what we know of, and hands out what lost
/// replies had brought.
pub(super) async fn compare(core: &Core, consumer: &Consumer, epochs: &[Epoch]) -> Result<()> {
    let _still = consumer.still().await;
    compare_still(core, consumer, epochs).await
}

/// As [`compare`], for a caller that already prevents things from moving.
pub(super) async fn compare_still(
    core: &Core,
    consumer: &Consumer,
    epochs: &[Epoch],
) -> Result<()> {
    let keys = consumer.keys();
    let sent = Instant::now();
    let purpose = Purpose::idempotent("claim", &keys.name);
    let places = consumer.lists(epochs);
    let list = |place: &HeldList| Command::new("LRANGE").arg(keys.held(*place)).arg("0").arg("-1");
    // The lease first: a list that is read after it was found to live is surely ours.
    let commands: Batch =
        std::iter::once(keep(consumer, &places, false)).chain(places.iter().map(list)).collect();
    let mut replies = core.commands.pipeline(purpose, &commands).await?.into_iter();
    let kept = note_kept(consumer, &places, sent, purpose.check(replies.next())?);
    let mut lists: Vec<(HeldList, Vec<Bytes>)> = Vec::new();
    for place in &places {
        let items = purpose.check(replies.next())?.items();
        lists.push((*place, items.into_iter().filter_map(Reply::bytes).collect()));
    }
    for epoch in epochs {
        if kept.over.contains(epoch) {
            // Somebody has given its items back already: nothing is left to compare with.
            lose(consumer, *epoch, sent);
            continue;
        }
        let server = lists.extract_if(.., |(place, _)| place.epoch == *epoch).collect();
        let unknown = consumer.compare(*epoch, server);
        if !unknown.is_empty() {
            let found = unknown.len();
            tracing::info!(queue = keys.name, found, "items of lost replies are found");
            consumer.distribute(unknown);
        }
    }
    Ok(())
}
