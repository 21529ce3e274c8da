//! The replies that a provider keeps for callers that ask again.
//!
//! Each is kept for a minute at least and two at most, unless all together grow beyond 16 MiB: then
//! the oldest go. They are copied one behind the other into blocks, and go by the block: tens of
//! thousands of small pieces, each alive for a minute, would make every allocation beside them slow.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;
use tokio::time::Instant;

use super::REPLIES_KEPT;
use super::id_map::IdMap;
use crate::name::Id;

/// How much is kept.
pub(super) const KEPT_BYTES: usize = 16 << 20;
/// How much a block holds; a larger reply has one for itself.
const BLOCK: usize = 64 << 10;

/// Replies by call.
#[derive(Debug, Default)]
pub(super) struct ReplyCache {
    blocks: VecDeque<Block>,
    /// The number of the first block; the others' follow.
    first: u64,
    locations: IdMap<Location>,
    bytes: usize,
}

#[derive(Debug)]
struct Block {
    replies: Vec<u8>,
    calls: Vec<Id>,
    begun: Instant,
    youngest: Instant,
}

#[derive(Debug)]
struct Location {
    block: u64,
    reply: Range<usize>,
}

impl ReplyCache {
    /// The reply to a call, if it is still here.
    pub(super) fn get(&self, call: Id) -> Option<Bytes> {
        let Location { block, reply } = self.locations.get(&call)?;
        let block = &self.blocks[(block - self.first) as usize];
        Some(Bytes::copy_from_slice(&block.replies[reply.clone()]))
    }

    /// Keeps a reply, and forgets what is too old or too much by now.
    pub(super) fn keep(&mut self, call: Id, reply: &[u8]) {
        let now = Instant::now();
        let has_room = |block: &Block| {
            block.replies.len() + reply.len() <= BLOCK && now - block.begun < REPLIES_KEPT
        };
        if !self.blocks.back().is_some_and(has_room) {
            let (replies, calls) = (Vec::new(), Vec::new());
            self.blocks.push_back(Block { replies, calls, begun: now, youngest: now });
        }
        let number = self.first + self.blocks.len() as u64 - 1;
        let block = self.blocks.back_mut().expect("a block was made above");
        let start = block.replies.len();
        block.replies.extend_from_slice(reply);
        block.calls.push(call);
        block.youngest = now;
        let location = Location { block: number, reply: start..block.replies.len() };
        self.locations.insert(call, location);
        self.bytes += reply.len();
        self.forget(now);
    }

    fn forget(&mut self, now: Instant) {
        while let Some(block) = self.blocks.front() {
            if now - block.youngest < REPLIES_KEPT && self.bytes <= KEPT_BYTES {
                return;
            }
            self.bytes -= block.replies.len();
            for call in &block.calls {
                // A call that was forgotten and came again has its reply in a later block.
                if self.locations.get(call).is_some_and(|location| location.block == self.first) {
                    self.locations.remove(call);
                }
            }
            self.blocks.pop_front();
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn replies_in_many_blocks_are_found_and_go_in_their_order() {
        let (mut kept, size) = (ReplyCache::default(), BLOCK / 3);
        let calls: Vec<Id> = (0..KEPT_BYTES / size + 10).map(|_| Id::random()).collect();
        for (number, call) in calls.iter().enumerate() {
            kept.keep(*call, &vec![number as u8; size]);
            assert!(kept.bytes <= KEPT_BYTES);
        }
        let found: Vec<_> = calls.iter().map(|call| kept.get(*call)).collect();
        let gone = found.iter().take_while(|reply| reply.is_none()).count();
        assert!((1..=12).contains(&gone), "{gone} of {} are gone", calls.len());
        for (number, reply) in found.into_iter().enumerate().skip(gone) {
            assert_eq!(reply.expect("it is younger"), vec![number as u8; size]);
        }
        assert_eq!(kept.locations.len(), calls.len() - gone);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reply_is_kept_for_a_minute_and_gone_after_two() {
        let mut kept = ReplyCache::default();
        let first = Id::random();
        kept.keep(first, b"first");
        for second in 1..=120 {
            tokio::time::advance(std::time::Duration::from_secs(1)).await;
            kept.keep(Id::random(), b"another");
            assert!(kept.get(first).is_some() || second >= 60, "gone after {second} s");
        }
        assert_eq!(kept.get(first), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reply_that_is_kept_anew_outlives_its_first_block() {
        let mut kept = ReplyCache::default();
        let again = Id::random();
        kept.keep(again, b"old");
        tokio::time::advance(REPLIES_KEPT - std::time::Duration::from_secs(1)).await;
        kept.keep(Id::random(), &[0; BLOCK]);
        kept.keep(again, b"new");
        tokio::time::advance(std::time::Duration::from_secs(2)).await;
        kept.keep(Id::random(), b"another");
        assert_eq!(kept.get(again).as_deref(), Some(&b"new"[..]));
    }
}
