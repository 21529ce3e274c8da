//! Which calls were executed, remembered apart from what they answered.
//!
//! A caller asks again under the call's identity. To execute it a second time because its answer has
//! become too large or too old to keep would break the one promise of a call. Identities are small, so
//! they are kept twice as long as replies, far beyond the longest time a caller may ask again. They are
//! bounded by number too; a caller whose call may be among those forgotten is told so.

use std::collections::{HashSet, VecDeque};

use tokio::time::{Duration, Instant};

use super::id_map::IdHashing;
use super::{ASKS_WITHIN, REPLIES_KEPT};
use crate::name::Id;

/// How long identities are kept at least.
const KEPT: Duration = Duration::from_secs(2 * REPLIES_KEPT.as_secs());
/// How many are kept at most: a few ten MiB.
const MOST: usize = 1 << 19;
/// How many go at once.
const BLOCK: usize = 1 << 12;
/// How long a request may have been under way: what its caller says of its age is older by that.
const UNDER_WAY: Duration = Duration::from_secs(10);

/// A caller stops asking long before its call's identity is forgotten for its age.
const _: () = assert!(ASKS_WITHIN.as_secs() + UNDER_WAY.as_secs() < KEPT.as_secs());

/// Identities of calls that are over.
#[derive(Debug, Default)]
pub(super) struct Executed {
    calls: HashSet<Id, IdHashing>,
    blocks: VecDeque<Block>,
    /// When the youngest of those that are forgotten ended.
    forgot: Option<Instant>,
}

#[derive(Debug)]
struct Block {
    calls: Vec<Id>,
    youngest: Instant,
}

impl Executed {
    /// Notes that a call is over.
    pub(super) fn note(&mut self, call: Id) {
        let now = Instant::now();
        if self.blocks.back().is_none_or(|block| block.calls.len() == BLOCK) {
            self.blocks.push_back(Block { calls: Vec::new(), youngest: now });
        }
        let block = self.blocks.back_mut().expect("a block was made above");
        block.calls.push(call);
        block.youngest = now;
        self.calls.insert(call);
        self.forget(now);
    }

    pub(super) fn contains(&self, call: Id) -> bool {
        self.calls.contains(&call)
    }

    /// Whether a call that its caller has been waiting for in silence for so long may have been
    /// executed all the same, and forgotten.
    pub(super) fn may_have_forgotten(&self, silent: Duration) -> bool {
        let asked = Instant::now().checked_sub(silent + UNDER_WAY);
        self.forgot.is_some_and(|forgot| asked.is_none_or(|asked| asked <= forgot))
    }

    fn forget(&mut self, now: Instant) {
        while let Some(block) = self.blocks.front() {
            if now - block.youngest < KEPT && self.calls.len() <= MOST {
                return;
            }
            self.forgot = Some(block.youngest);
            for call in &block.calls {
                self.calls.remove(call);
            }
            self.blocks.pop_front();
        }
        self.calls.shrink_to(MOST / 8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_identity_outlives_the_longest_time_that_a_caller_asks_again() {
        let (mut executed, call) = (Executed::default(), Id::random());
        executed.note(call);
        tokio::time::advance(ASKS_WITHIN + REPLIES_KEPT).await;
        executed.note(Id::random());
        assert!(executed.contains(call));
        assert!(!executed.may_have_forgotten(ASKS_WITHIN));
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_for_what_may_be_forgotten_is_told_so() {
        let mut executed = Executed::default();
        let first = Id::random();
        executed.note(first);
        for _ in 0..MOST {
            executed.note(Id::random());
        }
        assert!(!executed.contains(first) && executed.calls.len() <= MOST);
        assert!(executed.may_have_forgotten(Duration::from_secs(1)));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(!executed.may_have_forgotten(Duration::from_secs(1)), "it was first asked later");
        assert!(executed.may_have_forgotten(Duration::from_secs(55)));
    }
}
