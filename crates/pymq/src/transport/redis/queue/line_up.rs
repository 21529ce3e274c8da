//! Items that become due: the server puts them into the waiting list, and says when the next is due.
//!
//! The one invariant: a hint that arrives while the script runs makes the consumer ask once more, since
//! the script may not have seen the item that the hint is about.

use std::time::Duration;

use super::super::Core;
use super::super::purpose::Purpose;
use super::super::resp::Reply;
use super::consumer::Consumer;
use super::scripts::{self, PORTION};
use crate::error::Result;
use crate::transport::Wait;

/// Has the server put the items that are due into the waiting list, and learns when the next is due.
pub(super) async fn line_up(core: &Core, consumer: &Consumer, wait: Wait) -> Result<()> {
    let keys = consumer.keys();
    // A hint that comes while the script runs may be about an item that it did not see.
    consumer.begin_lining_up();
    let purpose = Purpose::idempotent("claim", &keys.name).within(wait);
    let names = [keys.later.as_str(), &keys.list, &keys.shut, &keys.spare];
    let arguments = [PORTION.as_bytes(), keys.urgents().as_bytes()];
    let reply = core.commands.script(purpose, &scripts::LINE_UP, &names, &arguments).await;
    let reply = reply.inspect_err(|_| consumer.poke())?;
    let numbers: Vec<i64> = reply.items().iter().filter_map(Reply::number).collect();
    if let [next, shut] = numbers[..] {
        note_due(consumer, shut == 1, Some(next));
    }
    Ok(())
}

/// Notes what a script says of the items for later; returns whether the queue is shut down and
/// nothing can come into it any more.
pub(super) fn note_due(consumer: &Consumer, shut: bool, next: Option<i64>) -> bool {
    let next = next.and_then(|next| u64::try_from(next).ok()).map(Duration::from_millis);
    let over = shut && next.is_none();
    consumer.note_due(next, over);
    over
}
