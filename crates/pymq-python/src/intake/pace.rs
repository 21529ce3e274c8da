//! How fast a reader of calls handles what it takes, by which it may drive the runtime meanwhile.
//!
//! While it handles something nobody drives, so that answers wait until it comes back for more. That
//! costs less than a hand-over between threads as long as it comes back soon. It knows times and
//! numbers; whose turn it is to drive is the [`IoDriver`](crate::runtime::io_driver)'s to say.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::intake::source::Source;

/// How close upon one another calls come that are a row, and how soon a reader comes back in one.
const ROW: Duration = Duration::from_millis(1);
/// How long answers may wait for those that were taken with them.
const TOGETHER: Duration = Duration::from_micros(250);

/// What a reader took last, and how long it was busy with one such thing.
#[derive(Default)]
pub(crate) struct Pace {
    last: Option<Batch>,
    each: Duration,
}

struct Batch {
    taken: Instant,
    count: u32,
    /// Where it came from, if it was calls that came soon after the reader had begun to wait.
    in_row: Option<Weak<Source>>,
}

impl Pace {
    /// The reader is back for more; gives a source of those in a row of calls that it keeps pace with.
    pub(crate) fn comes_back(&mut self) -> Option<Arc<Source>> {
        let Batch { taken, count, in_row } = self.last.take()?;
        let busy = taken.elapsed();
        self.each = busy / count.max(1);
        in_row.filter(|_| busy < ROW)?.upgrade()
    }

    /// It takes so much, after so long a wait; `calls` are from a source of calls alone.
    pub(crate) fn takes(&mut self, count: usize, calls: Option<&Arc<Source>>, waited: Duration) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let in_row = calls.filter(|_| waited < ROW).map(Arc::downgrade);
        self.last = Some(Batch { taken: Instant::now(), count, in_row });
    }

    /// Whether so much is handled so fast that the first answer can wait for the last.
    pub(crate) fn keeps_with(&self, count: usize) -> bool {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        count <= 1 || self.each.saturating_mul(count) < TOGETHER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_call_is_kept_pace_with_and_many_only_if_each_is_short() {
        let mut pace = Pace::default();
        assert!(pace.comes_back().is_none(), "nothing was taken");
        pace.takes(1, None, Duration::ZERO);
        assert!(pace.comes_back().is_none(), "no calls were taken");
        pace.each = TOGETHER / 4;
        assert!(pace.keeps_with(1) && pace.keeps_with(3) && !pace.keeps_with(5));
        pace.each = TOGETHER * 4;
        assert!(pace.keeps_with(1) && !pace.keeps_with(2));
    }
}
