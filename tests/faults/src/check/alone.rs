//! What a master confirmed that nobody had but itself, and that went with it.
//!
//! The one invariant: when that was, the servers' own offsets say. A put or a confirmation that was begun
//! and answered outside of those times must hold; one that was under way in them is counted here, and is
//! afterwards one of which nobody knows.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::Left;
use crate::crew::Story;
use crate::history::{Line, What};
use crate::report::Report;

/// The times in which a master confirmed what its successor may not have.
#[derive(Clone, Debug, Default)]
pub(crate) struct Alone(Vec<(Duration, Duration)>);

impl Alone {
    /// Adds one: from the last moment of which everything is known to be at the successor, to one at which
    /// the old master confirms nothing any more.
    pub(crate) fn add(&mut self, from: Duration, to: Duration) {
        self.0.push((from, to));
    }

    fn meets(&self, begun: Duration, answered: Duration) -> bool {
        self.0.iter().any(|(from, to)| begun <= *to && *from <= answered)
    }

    /// The stories without what a master alone may have confirmed.
    pub(crate) fn discount(
        &self,
        mut stories: Vec<Story>,
        left: &Left,
        report: &mut Report,
    ) -> Vec<Story> {
        let mut put = HashSet::new();
        for story in &mut stories {
            let mut begun = HashMap::new();
            for line in &mut story.lines {
                match line.what {
                    What::Begun | What::Done => {
                        begun.insert(line.item, line.at);
                    }
                    What::Put if self.was_under_way(&begun, line) => {
                        line.what = What::Ambiguous;
                        put.extend(line.item..line.item + line.number);
                    }
                    What::Acked if self.was_under_way(&begun, line) => {
                        line.what = What::Unsettled;
                        report.count("confirmations that a failed master alone may have had", 1);
                    }
                    _ => {}
                }
            }
        }
        report.count("puts that a failed master alone may have had", put.len());
        let lines = stories.iter().flat_map(|story| &story.lines);
        let done = lines.filter(|line| line.what == What::Done).map(|line| line.item);
        let done: HashSet<_> = done.collect();
        let lies = left.times();
        put.retain(|item| !done.contains(item) && !lies.contains_key(item));
        report.count("lost with the failed master that alone had confirmed them", put.len());
        stories
    }

    fn was_under_way(&self, begun: &HashMap<u64, Duration>, line: &Line) -> bool {
        self.meets(begun.get(&line.item).copied().unwrap_or(line.at), line.at)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{judged as judged_queue, story};
    use super::*;
    use crate::crew::Fate;

    #[test]
    fn a_put_is_lost_with_its_master_only_if_it_was_under_way_while_that_was_alone() {
        let judged = |from: u64, to: u64| {
            let mut producer =
                story("0-Rust-produce", Fate::Finished, &[(What::Begun, 1, 1), (What::Put, 1, 1)]);
            producer.lines[0].at = Duration::from_secs(10);
            producer.lines[1].at = Duration::from_secs(12);
            let (mut alone, mut report) = (Alone::default(), Report::default());
            alone.add(Duration::from_secs(from), Duration::from_secs(to));
            let stories = alone.discount(vec![producer], &Left::default(), &mut report);
            let lost = report.counted("lost with the failed master that alone had confirmed them");
            (lost, judged_queue(&stories, &Left::default()).is_well())
        };
        assert_eq!(judged(5, 11), (1, true));
        assert_eq!(judged(11, 13), (1, true));
        assert_eq!(judged(5, 9), (0, false));
        assert_eq!(judged(13, 15), (0, false));
    }

    #[test]
    fn what_a_master_alone_had_confirmed_may_be_done_again() {
        let done = [(What::Got, 1, 1), (What::Done, 1, 0), (What::Acked, 1, 0)];
        let mut stories = vec![
            story("0-Rust-produce", Fate::Finished, &[(What::Begun, 1, 1), (What::Put, 1, 1)]),
            story("1-Rust-consume", Fate::Finished, &done),
            story("2-Rust-consume", Fate::Finished, &done),
        ];
        stories[1].lines.iter_mut().for_each(|line| line.at = Duration::from_secs(10));
        let judged = |from: u64| {
            let (mut alone, mut report) = (Alone::default(), Report::default());
            alone.add(Duration::from_secs(from), Duration::from_secs(20));
            let stories = alone.discount(stories.clone(), &Left::default(), &mut report);
            judged_queue(&stories, &Left::default()).is_well()
        };
        assert!(judged(9));
        assert!(!judged(11));
    }
}
