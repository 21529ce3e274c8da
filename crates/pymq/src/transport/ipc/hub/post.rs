//! The post of a connection, on its way from the file to the mailboxes of this process.
//!
//! The invariant: it is given out in the order in which it was left, whoever takes it out.

use std::sync::PoisonError;
use std::time::Duration;

use bytes::Bytes;

use super::super::peers::{self, Step};
use super::super::recipients::Piece;
use super::super::topics;
use super::{BRIEF, Hub};
use crate::error::Result;

/// How much is taken at once, in bytes.
const HANDFUL: u64 = 256 << 10;

impl Hub {
    /// Takes post out and gives it to its mailboxes, up to about `most` bytes, and does `more` in the
    /// same step. Says whether there is still some; `None` if the lock was not free.
    pub(in super::super) fn take_post(
        &self,
        patience: Duration,
        most: u64,
        more: impl FnOnce(&mut Step<'_>) -> Result<()>,
    ) -> Result<Option<bool>> {
        let _in_order = self.post.lock().unwrap_or_else(PoisonError::into_inner);
        let mut pieces = Vec::new();
        let left = self.attempt(patience, "receive", "ipc://", |step| {
            let mut last = (0, Bytes::new());
            peers::take_post(step, self.peer, most, |heap, post| {
                pieces.push(Piece::read(heap, post, &mut last));
            })?;
            more(step)?;
            Ok(peers::has_post(step, self.peer))
        })?;
        if left.is_some() {
            pieces.into_iter().for_each(|piece| piece.give_out(&self.recipients));
        }
        Ok(left)
    }

    /// Takes what lies there for it, then ends a subscription. Says whether the lock was free.
    pub(in super::super) fn unsubscribe(&self, number: u64, patience: Duration) -> Result<bool> {
        let Some(at) = self.recipients().subscriptions.get(&number).map(|found| found.at) else {
            return Ok(true);
        };
        let ended = self.take_post(patience, u64::MAX, |step| topics::end(step, at))?;
        if ended.is_some() {
            self.recipients().subscriptions.remove(&number);
        }
        Ok(ended.is_some())
    }

    /// Takes what is in the post now. Says whether there was any left.
    pub(in super::super) fn receive(&self) -> bool {
        self.take_post(BRIEF, HANDFUL, |_| Ok(())).is_ok_and(|left| left == Some(true))
    }
}
