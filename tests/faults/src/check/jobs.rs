//! What is promised of jobs beyond what is of items: none comes early, an id is put once, and what
//! fails comes back when it should, or is found among the dead letters.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::{Left, Silences};
use crate::crew::{Fate, Story};
use crate::history::{Line, What};
use crate::job::{self, Sort, Trouble};
use crate::report::Report;

/// How much sooner than it was said an item that failed may come again.
const JITTER: f64 = 0.8;

/// How long a handler takes at most, unless it stood still; less than any lease.
const IN_HAND: Duration = Duration::from_secs(1);

/// What happened to one job, whoever did it.
#[derive(Debug, Default)]
struct Job {
    /// From when on it may be taken, by the earliest of its puts.
    due: Option<Duration>,
    /// How many puts said that it was they who did it.
    put: usize,
    /// When it was handed out.
    came: Vec<Duration>,
    /// When it failed in the hands of a process that surely had it then, and at which delivery.
    failed: Vec<(Duration, u64)>,
    confirmed: bool,
}

/// Judges jobs, once nothing is left to be done and all dead letters have been brought back once
/// without harm; `listings` say which letters there are then.
pub(crate) fn jobs(report: &mut Report, stories: &[Story], left: &Left, listings: &[Story]) {
    let mut jobs: BTreeMap<u64, Job> = BTreeMap::new();
    for story in stories {
        let mut holder = Holder::of(story);
        for line in &story.lines {
            if line.what == What::Got {
                holder.got.insert(line.item, line.at);
            }
            digest(report, &mut jobs, line, &holder);
        }
    }
    for (number, job) in &jobs {
        is_in_time(report, *number, job);
        let sort = Sort::of(*number);
        report.must(!sort.has_id() || job.put <= 1, || {
            format!("{} puts of the id of job {number} say that they did it", job.put)
        });
        report.must(!job.confirmed || !Trouble::of(*number).is_hopeless(), || {
            format!("job {number} was confirmed, and its handler never did it")
        });
    }
    for dead in &left.dead {
        let trouble = Trouble::of(*dead);
        report.must(trouble.is_hopeless(), || format!("job {dead} is dead for no reason"));
    }
    for listing in listings {
        agrees(report, left, listing);
    }
}

/// A process, as far as its history shows whether it had what it held.
struct Holder {
    /// It was neither killed nor stopped.
    stayed: bool,
    silences: Silences,
    /// When it got what it has in hand.
    got: HashMap<u64, Duration>,
}

impl Holder {
    fn of(story: &Story) -> Self {
        let stayed = story.fate != Fate::Killed && !story.stopped;
        Self { stayed, silences: Silences::of(story), got: HashMap::new() }
    }

    /// Whether its lease of an item cannot have run out.
    fn has(&self, item: u64, at: Duration) -> bool {
        let in_time = |got: &Duration| at.saturating_sub(*got) < IN_HAND;
        self.stayed && self.got.get(&item).is_none_or(in_time) && !self.silences.are_about(at)
    }
}

fn digest(report: &mut Report, jobs: &mut BTreeMap<u64, Job>, line: &Line, holder: &Holder) {
    match line.what {
        What::Redriven => report.count("dead letters brought back", line.number as usize),
        What::Already => report.count("puts that had been done under their id", 1),
        What::Ambiguous if Sort::of(line.item).has_id() => {
            report.count("puts with an id repeated though their outcome was unknown", 1);
        }
        What::Due | What::Put | What::Got | What::Failing | What::Acked => {
            note(jobs.entry(line.item).or_default(), line, holder);
        }
        _ => {}
    }
}

fn note(job: &mut Job, line: &Line, holder: &Holder) {
    match line.what {
        What::Due => {
            let due = Duration::from_micros(line.number);
            job.due = Some(job.due.map_or(due, |known| known.min(due)));
        }
        What::Put => job.put += 1,
        What::Got => job.came.push(line.at),
        What::Failing if holder.has(line.item, line.at) => {
            job.failed.push((line.at, line.number));
        }
        What::Acked => job.confirmed = true,
        _ => {}
    }
}

/// It came neither before it was due, nor sooner after a failure than its retry says.
fn is_in_time(report: &mut Report, number: u64, job: &Job) {
    let mut came = job.came.clone();
    came.sort_unstable();
    let early = job.due.and_then(|due| due.checked_sub(*came.first()?)).unwrap_or_default();
    report.count("items for later that came", usize::from(job.due.is_some() && !came.is_empty()));
    report.must(early.is_zero(), || format!("job {number} came {early:?} before it was due"));
    for (at, deliveries) in &job.failed {
        let delay = usize::try_from(*deliveries).ok().and_then(|place| job::RETRIES.get(place - 1));
        let Some(delay) = delay else { continue };
        let Some(again) = came.iter().find(|again| *again > at) else { continue };
        let after = *again - *at;
        report.count("retries that came when they should", 1);
        report.must(after >= delay.mul_f64(JITTER), || {
            format!("job {number} failed at delivery {deliveries} and came again after {after:?}")
        });
    }
}

/// What a process has read of the dead letters is what lies there, each with a reason that can be.
fn agrees(report: &mut Report, left: &Left, listing: &Story) {
    let mut there: HashMap<u64, i64> = HashMap::new();
    left.dead.iter().for_each(|number| *there.entry(*number).or_default() += 1);
    for letter in listing.lines.iter().filter(|line| line.what == What::Dead) {
        *there.entry(letter.item).or_default() -= 1;
        report.count("dead letters read", 1);
        let reason = match Trouble::of(letter.item) {
            Trouble::Unwanted => "rejected",
            _ => "failed",
        };
        report.must([reason, "too many deliveries"].contains(&&*letter.word), || {
            format!("job {} died as {:?}, not {reason:?}", letter.item, letter.word)
        });
    }
    there.retain(|_, times| *times != 0);
    report.must(there.is_empty(), || {
        format!("{} reads other dead letters than there are: {there:?}", listing.name)
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATER: u64 = 500;
    const ONCE: u64 = 502;
    const HOPELESS: u64 = 7;
    const PLAIN: u64 = 507;

    fn story(lines: &[(u64, What, u64, u64)]) -> Story {
        let line = |&(at, what, item, number): &(u64, What, u64, u64)| Line {
            at: Duration::from_micros(at),
            what,
            item,
            number,
            word: String::new(),
        };
        let lines = lines.iter().map(line).collect();
        Story { name: "0-Rust-work".to_owned(), fate: Fate::Finished, stopped: false, lines }
    }

    fn is_well(lines: &[(u64, What, u64, u64)], dead: &[u64]) -> bool {
        let mut report = Report::default();
        let left = Left { dead: dead.to_vec(), ..Left::default() };
        jobs(&mut report, &[story(lines)], &left, &[]);
        report.is_well()
    }

    #[test]
    fn a_job_for_later_comes_no_sooner() {
        let due = (1, What::Due, LATER, 1000);
        assert!(is_well(&[due, (1000, What::Got, LATER, 1)], &[]));
        assert!(!is_well(&[due, (999, What::Got, LATER, 1)], &[]));
        let again = (2, What::Due, LATER, 2000);
        assert!(is_well(&[due, again, (1500, What::Got, LATER, 1)], &[]));
    }

    #[test]
    fn an_id_is_put_by_one() {
        let put = (1, What::Put, ONCE, 1);
        assert!(is_well(&[put, (2, What::Already, ONCE, 1)], &[]));
        assert!(!is_well(&[put, put], &[]));
    }

    #[test]
    fn what_failed_comes_again_after_its_delay() {
        let failed = [(0, What::Got, PLAIN, 2), (10, What::Failing, PLAIN, 2)];
        let again = |at| [&failed[..], &[(at, What::Got, PLAIN, 3)]].concat();
        assert!(is_well(&again(200_010), &[]));
        assert!(!is_well(&again(150_000), &[]));
        // Given up and brought back, it may come at any time.
        let last = [(0, What::Failing, PLAIN, 4), (1, What::Got, PLAIN, 1)];
        assert!(is_well(&last, &[]));
    }

    #[test]
    fn what_a_worker_that_stood_still_held_may_come_again_at_any_time() {
        let again = |failed, at| {
            [(0, What::Got, PLAIN, 1), (failed, What::Failing, PLAIN, 1), (at, What::Got, PLAIN, 2)]
        };
        assert!(!is_well(&again(900_000, 910_000), &[]));
        assert!(is_well(&again(3_100_000, 3_110_000), &[]));
        // It had claimed it before, and shows it late.
        let still = |at| [(0, What::Got, LATER, 1), (at, What::Got, PLAIN, 1)];
        let soon = |at| [(at, What::Failing, PLAIN, 1), (at + 10, What::Got, PLAIN, 2)];
        assert!(is_well(&[still(3_000_000), soon(3_000_010)].concat(), &[]));
        assert!(!is_well(&[still(900_000), soon(900_010)].concat(), &[]));
    }

    #[test]
    fn only_what_is_hopeless_is_dead_in_the_end_and_it_is_never_done() {
        assert!(is_well(&[], &[HOPELESS]));
        assert!(!is_well(&[], &[PLAIN]));
        assert!(!is_well(&[(0, What::Acked, HOPELESS, 0)], &[]));
    }
}
