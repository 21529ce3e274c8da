//! The post of a connection, on its way from the file to the mailboxes of this process.
//!
//! The invariant: it is given out in the order in which it was left, whoever takes it out.

use std::sync::PoisonError;
use std::time::Duration;

use bytes::Bytes;

use super::super::heap::Heap;
use super::super::peers::{self, Step};
use super::super::recipients::Piece;
use super::super::topics;
use super::{AGAIN, BRIEF, Hub};
use crate::error::Result;

/// How much is taken at once, in bytes.
const HANDFUL: u64 = 256 << 10;

impl Hub {
    /// Takes post out and gives it to its mailboxes, up to about `most` bytes; where that was all of it, does
    /// `then` in the same step. Says whether there is still some; `None` if the lock was not free.
    fn take_post(
        &self,
        patience: Duration,
        most: u64,
        then: impl FnOnce(&mut Step<'_>) -> Result<()>,
    ) -> Result<Option<bool>> {
        let _in_order = self.post.lock().unwrap_or_else(PoisonError::into_inner);
        let mut pieces = Vec::new();
        let left = self.attempt(patience, "receive", "ipc://", |step| {
            let mut last = (0, Bytes::new());
            peers::take_post(step, self.peer, most, |heap, post| {
                pieces.push(Piece::read(heap, post, &mut last));
            })?;
            let left = peers::has_post(step, self.peer);
            if !left {
                then(step)?;
            }
            Ok(left)
        })?;
        if left.is_some() {
            pieces.into_iter().for_each(|piece| piece.give_out(&self.recipients));
        }
        Ok(left)
    }

    /// Takes all post out, and does `then` when none is left. Says whether the lock was free.
    pub(in super::super) fn take_all_post(
        &self,
        patience: Duration,
        then: impl Fn(&mut Step<'_>) -> Result<()>,
    ) -> Result<bool> {
        loop {
            match self.take_post(patience, u64::MAX, &then)? {
                Some(true) => {}
                taken => return Ok(taken.is_some()),
            }
        }
    }

    /// Takes what lies there for it, then ends a subscription; where that fails, it is over for this
    /// process, and for the others when the connection is. Says whether the lock was free.
    pub(in super::super) fn unsubscribe(&self, number: u64, patience: Duration) -> Result<bool> {
        let Some(at) = self.recipients().subscriptions.get(&number).map(|found| found.at) else {
            return Ok(true);
        };
        let ended = self.take_all_post(patience, |step| topics::end(step, at));
        if !matches!(ended, Ok(false)) {
            self.recipients().subscriptions.remove(&number);
        }
        ended
    }

    /// Takes some of what is in the post. Says whether there is still some; `None` if the lock was not free.
    pub(super) fn take_handful(&self, patience: Duration) -> Result<Option<bool>> {
        self.take_post(patience, HANDFUL, |_| Ok(()))
    }

    /// Takes what is in the post now. Says whether there was any left.
    pub(in super::super) fn receive(&self) -> bool {
        // What lies in its slot may be another one's, where it is lost.
        let had = self.lost.get().is_none() && peers::has_post(&Heap::new(&self.memory), self.peer);
        let left = self.take_handful(BRIEF);
        if had {
            // The runtime may not have been woken by what came: it makes ready to hear of what comes next.
            self.doorbells.within.notify_one();
        }
        if left.is_err() {
            // What cannot be taken now may be later.
            std::thread::sleep(AGAIN);
        }
        left.is_ok_and(|left| left == Some(true))
    }
}
