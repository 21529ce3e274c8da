//! The checker: what the histories of all processes, and what is left on the server, say together.
//!
//! The one invariant: it believes only what was written down. An item is lost if its put was
//! confirmed and nobody has done it and it lies nowhere; a second delivery is explained only if the
//! first one's holder was killed, lost its lease, failed, or was told that its confirmation failed.

mod alone;
mod jobs;

pub(crate) use alone::Alone;
pub(crate) use jobs::jobs;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::crew::{Fate, Story};
use crate::history::{Line, What};
use crate::job;
use crate::report::Report;

/// Items that lie on the server at the end.
#[derive(Debug, Default)]
pub(crate) struct Left {
    pub(crate) waiting: Vec<u64>,
    /// Due later.
    pub(crate) later: Vec<u64>,
    pub(crate) held: Vec<u64>,
    pub(crate) dead: Vec<u64>,
}

impl Left {
    /// How often each item lies there.
    pub(crate) fn times(&self) -> HashMap<u64, usize> {
        let mut times = HashMap::new();
        let all = [&self.waiting, &self.later, &self.held, &self.dead];
        all.into_iter().flatten().for_each(|item| *times.entry(*item).or_default() += 1);
        times
    }

    /// How many are still to be done.
    pub(crate) fn unfinished(&self) -> usize {
        self.waiting.len() + self.later.len() + self.held.len()
    }
}

/// How much a lost item weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Promise {
    /// Nothing is lost: workers with leases, originals that are not killed.
    Nothing,
    /// At most so many: what `get` had returned to processes that were killed.
    AtMost(usize),
    /// Nothing is lost; but a master that is lost may take with it a claim that it had not passed on, and the
    /// answer to its confirmation: then the item comes again, and was not counted as delivered.
    NothingButClaims,
}

/// What became of one attempt to put an item; of several the last here counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Put {
    Refused,
    /// Killed in the middle, or told that nobody knows.
    Maybe,
    Done,
}

/// When a process wrote nothing for so long that it may have stood still, and its leases may have run out
/// before it knew.
struct Silences(Vec<(Duration, Duration)>);

impl Silences {
    /// What was claimed before one may be shown, and what was done be confirmed, so long after it.
    const SOON: Duration = Duration::from_millis(500);

    fn of(story: &Story) -> Self {
        // Storms' leases of 3 and 1.5 s, without the third of it that lies between two heartbeats.
        let long = Duration::from_millis(if Role::of(story) == Role::Works { 1900 } else { 900 });
        let pairs = story.lines.windows(2).map(|pair| (pair[0].at, pair[1].at));
        Self(pairs.filter(|(from, to)| to.saturating_sub(*from) >= long).collect())
    }

    /// Whether what it had in hand at that moment may have been another's by then, or soon after.
    fn are_about(&self, at: Duration) -> bool {
        self.0.iter().any(|(from, to)| *from <= at + Self::SOON && at <= *to + Self::SOON)
    }
}

#[derive(Debug)]
struct Delivery {
    /// When it came, or was done.
    at: Duration,
    hand: usize,
    number: u64,
    done: bool,
    end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    Acked,
    LeaseLost,
    Unsettled,
    Taken,
    /// Given back for later, since its handler failed.
    Failed,
    Rejected,
    /// Done, and left to its worker to confirm.
    Left,
}

#[derive(Debug, Default)]
struct Item {
    /// By whom, and what became of it.
    puts: Vec<(usize, Put)>,
    deliveries: Vec<Delivery>,
}

impl Item {
    fn put(&self) -> Option<Put> {
        self.puts.iter().map(|(_, put)| *put).max()
    }

    fn was_confirmed(&self) -> bool {
        self.deliveries.iter().any(|delivery| delivery.end == End::Acked)
    }
}

/// Judges a queue's histories.
pub(crate) fn queue(report: &mut Report, stories: &[Story], left: &Left, promise: Promise) {
    let mut items: HashMap<u64, Item> = HashMap::new();
    for (number, story) in stories.iter().enumerate() {
        let role = Role::of(story);
        story.lines.iter().for_each(|line| digest(&mut items, line, number, role));
    }
    let silences: Vec<_> = stories.iter().map(Silences::of).collect();
    let lies = left.times();
    let mut lost = Vec::new();
    for (&number, item) in &items {
        let done = item.deliveries.iter().filter(|delivery| delivery.done).count();
        report.count("deliveries", item.deliveries.len());
        report.count("done twice", done.saturating_sub(1));
        match item.put() {
            Some(Put::Done) => report.count("items put", 1),
            Some(Put::Maybe) => report.count("puts with unknown outcome", 1),
            Some(Put::Refused) => report.count("puts refused", 1),
            None => {}
        }
        let there = lies.get(&number).copied().unwrap_or(0);
        if item.put() == Some(Put::Done) && done == 0 && there == 0 {
            lost.push(number);
        }
        report.must(there <= 1, || format!("item {number} lies in {there} places"));
        report.must(there == 0 || !item.was_confirmed(), || {
            format!("item {number} was confirmed and is still there")
        });
        let came = done > 0 || !item.deliveries.is_empty();
        report.must(!came || item.put() != Some(Put::Refused), || {
            format!("item {number} came although its put was refused")
        });
        report.must(!came || item.put().is_some(), || format!("nobody put item {number}"));
        explain(report, number, item, (stories, &silences), promise);
    }
    report.count("lost", lost.len());
    let allowed = match promise {
        Promise::Nothing | Promise::NothingButClaims => 0,
        Promise::AtMost(most) => most,
    };
    lost.sort_unstable();
    report.must(lost.len() <= allowed, || {
        let first: Vec<_> = lost.iter().take(10).map(|item| (item, &items[item])).collect();
        format!("{} items are lost ({allowed} may be); first: {first:?}", lost.len())
    });
}

/// How a process takes items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// On leases that it ends itself.
    Consumes,
    /// For good.
    Takes,
    /// By a worker, which ends the leases that a handler has not ended.
    Works,
}

impl Role {
    fn of(story: &Story) -> Self {
        match story.name.rsplit('-').next() {
            Some("take") => Self::Takes,
            Some("work") => Self::Works,
            _ => Self::Consumes,
        }
    }
}

fn digest(items: &mut HashMap<u64, Item>, line: &Line, hand: usize, role: Role) {
    let takes = role == Role::Takes;
    match line.what {
        What::Begun => {
            for item in line.item..line.item + line.number {
                items.entry(item).or_default().puts.push((hand, Put::Maybe));
            }
        }
        What::Put | What::Already | What::Ambiguous | What::Refused => {
            let put = match line.what {
                What::Put | What::Already => Put::Done,
                What::Refused => Put::Refused,
                _ => Put::Maybe,
            };
            for item in line.item..line.item + line.number {
                let puts = &mut items.entry(item).or_default().puts;
                match puts.iter_mut().rev().find(|(by, _)| *by == hand) {
                    Some(begun) => begun.1 = put,
                    None => puts.push((hand, put)),
                }
            }
        }
        What::Got => {
            let end = if takes { End::Taken } else { End::Open };
            let delivery = Delivery { at: line.at, hand, number: line.number, done: takes, end };
            items.entry(line.item).or_default().deliveries.push(delivery);
        }
        _ => settle(items, line, hand, role),
    }
}

/// What a line says of the last delivery to its process.
fn settle(items: &mut HashMap<u64, Item>, line: &Line, hand: usize, role: Role) {
    let left = role == Role::Works && !job::is_confirmed_by_its_handler(line.item);
    let end = match line.what {
        What::Done if left => Some(End::Left),
        What::Done => None,
        What::Acked => Some(End::Acked),
        What::LeaseLost => Some(End::LeaseLost),
        What::Unsettled => Some(End::Unsettled),
        What::Failing => Some(End::Failed),
        What::Rejected => Some(End::Rejected),
        _ => return,
    };
    let deliveries = &mut items.entry(line.item).or_default().deliveries;
    if let Some(delivery) = deliveries.iter_mut().rev().find(|delivery| delivery.hand == hand) {
        if line.what == What::Done {
            (delivery.at, delivery.done) = (line.at, true);
        }
        delivery.end = end.unwrap_or(delivery.end);
    }
}

/// Every delivery but one needs a reason why it was not the last.
fn explain(
    report: &mut Report,
    number: u64,
    item: &Item,
    (stories, silences): (&[Story], &[Silences]),
    promise: Promise,
) {
    let mut kept = 0;
    for (place, delivery) in item.deliveries.iter().enumerate() {
        if delivery.number > 1 {
            report.count("redelivered", 1);
        }
        let story = &stories[delivery.hand];
        let mut others = item.deliveries.iter().enumerate().filter(|(other, _)| *other != place);
        match (delivery.end, story.fate) {
            (End::Acked, _)
                if promise == Promise::NothingButClaims
                    && others.any(|(_, other)| other.number == delivery.number) =>
            {
                report.count("explained by a claim that went with its master", 1);
            }
            (End::Acked, _) => kept += 1,
            // Confirmed within 10 ms, unless its process ended first.
            (End::Taken, Fate::Killed) => report.count("taken by the killed", 1),
            (End::LeaseLost, _) => report.count("explained by a lost lease", 1),
            (End::Unsettled, _) => report.count("explained by a failed confirmation", 1),
            (End::Failed, _) => report.count("explained by a failure", 1),
            (End::Rejected, _) => report.count("explained by a rejection", 1),
            (End::Open | End::Left, Fate::Killed) => report.count("explained by a kill", 1),
            (End::Left, _) if story.stopped => report.count("explained by a stop", 1),
            // Who confirms by itself does not note a lease that it lost.
            (End::Taken | End::Left, _) if silences[delivery.hand].are_about(delivery.at) => {
                report.count("explained by a silence", 1);
            }
            (End::Taken | End::Left, _) => kept += 1,
            (End::Open, _) => report.count("explained by a close", 1),
        }
    }
    report.must(kept <= 1, || {
        format!("item {number} was confirmed {kept} times: {:?}", item.deliveries)
    });
}

/// Judges one subscriber's history: each publisher's events in order, and gaps told of. Events are
/// numbered without holes; `published` says how many there were. Those that are `unsure` may come late, and
/// once more: a server that hung does what it had been sent when it goes on.
pub(crate) fn subscriber(
    report: &mut Report,
    story: &Story,
    published: u64,
    unsure: &HashSet<u64>,
) {
    let mut next = 0;
    // Told of since the last event, or not yet needed: a gap may be told before or after its hole.
    let (mut holes, mut told) = (0, 0);
    for line in &story.lines {
        match line.what {
            What::Received if line.item < next && unsure.contains(&line.item) => {
                report.count("events that a node that hung passed on late", 1);
            }
            What::Received => {
                report.must(line.item >= next, || {
                    let name = &story.name;
                    format!("{name} received event {} after {}", line.item, next.max(1) - 1)
                });
                let missed = (next..line.item).filter(|item| !unsure.contains(item)).count();
                holes += usize::from(missed > 0);
                report.count("events missed", missed);
                report.count("events received", 1);
                next = line.item + 1;
            }
            What::Missed => told += 1,
            _ => {}
        }
    }
    report.count("holes", holes);
    report.count("gaps told of", told);
    report.must(holes == 0 || told > 0, || {
        format!("{} missed events in {holes} places and was not told", story.name)
    });
    report.must(next == published, || {
        format!("{} received nothing behind event {next} of {published}", story.name)
    });
}

/// The events of a publisher who was told that nobody knows what became of them.
pub(crate) fn unsure(publisher: &[Line]) -> HashSet<u64> {
    let unsure = publisher.iter().filter(|line| line.what == What::Ambiguous);
    unsure.map(|line| line.item).collect()
}

/// The same on a cluster, with the event before each of them: a node may have answered it and not yet passed it
/// on to the nodes of its subscribers.
pub(crate) fn unsure_on_a_cluster(publisher: &[Line]) -> HashSet<u64> {
    unsure(publisher).into_iter().flat_map(|item| [item, item.saturating_sub(1)]).collect()
}

/// Judges a caller: every answer is the one to its question.
pub(crate) fn caller(report: &mut Report, story: &Story) {
    let mut open = None;
    for line in &story.lines {
        match line.what {
            What::Called => open = Some(line.item),
            What::Answered => {
                report.count("calls answered", 1);
                report.must(open == Some(line.item) && line.number == line.item * 2, || {
                    format!(
                        "{} called {open:?} and got {} for {}",
                        story.name, line.number, line.item
                    )
                });
            }
            What::Failed => report.count(&format!("calls failed as {}", line.word), 1),
            _ => {}
        }
    }
}

/// Judges a provider, who is the only one and lives throughout: no call is executed twice.
pub(crate) fn provider(report: &mut Report, story: &Story) {
    let mut times: HashMap<u64, usize> = HashMap::new();
    let calls = story.lines.iter().filter(|line| line.what == What::Executed && line.item > 0);
    calls.for_each(|line| *times.entry(line.item).or_default() += 1);
    report.count("calls executed", times.len());
    times.retain(|_, times| *times > 1);
    report.count("calls executed twice", times.len());
    report.must(times.is_empty(), || format!("{}: executed so often: {times:?}", story.name));
}

/// The time from a moment to a line.
pub(crate) fn since(moment: Duration, line: &Line) -> Duration {
    line.at.saturating_sub(moment)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn story(name: &str, fate: Fate, lines: &[(What, u64, u64)]) -> Story {
        let line = |&(what, item, number): &(What, u64, u64)| Line {
            at: Duration::ZERO,
            what,
            item,
            number,
            word: String::new(),
        };
        let lines = lines.iter().map(line).collect();
        Story { name: name.to_owned(), fate, stopped: false, lines }
    }

    pub(super) fn judged(stories: &[Story], left: &Left) -> Report {
        let mut report = Report::default();
        queue(&mut report, stories, left, Promise::Nothing);
        report
    }

    fn producer() -> Story {
        story("0-Rust-produce", Fate::Finished, &[(What::Begun, 1, 2), (What::Put, 1, 2)])
    }

    const DONE: [(What, u64, u64); 3] =
        [(What::Got, 1, 1), (What::Done, 1, 0), (What::Acked, 1, 0)];

    #[test]
    fn an_item_that_nobody_did_and_that_lies_nowhere_is_lost() {
        let stories = [producer(), story("1-Rust-consume", Fate::Finished, &DONE)];
        assert!(!judged(&stories, &Left::default()).is_well());
        let left = Left { dead: vec![2], ..Left::default() };
        assert!(judged(&stories, &left).is_well());
    }

    #[test]
    fn an_item_that_was_handed_out_and_not_done_is_lost_too() {
        let killed = story("1-Rust-consume", Fate::Killed, &[(What::Got, 2, 1)]);
        let stories = [producer(), story("2-Rust-consume", Fate::Finished, &DONE), killed];
        assert_eq!(judged(&stories, &Left::default()).counted("lost"), 1);
    }

    #[test]
    fn a_confirmed_item_must_not_come_again() {
        let left = Left { waiting: vec![2], ..Left::default() };
        let consumer = |fate| story("1-Rust-consume", fate, &DONE);
        let twice = [producer(), consumer(Fate::Finished), consumer(Fate::Finished)];
        assert!(!judged(&twice, &left).is_well());
        let unconfirmed = story("2-Rust-consume", Fate::Killed, &DONE[..2]);
        let explained = [producer(), consumer(Fate::Finished), unconfirmed];
        let report = judged(&explained, &left);
        assert!(report.is_well());
        assert_eq!(report.counted("done twice"), 1);
    }

    #[test]
    fn a_claim_that_went_with_its_master_is_one_that_nobody_counted() {
        let judged = |number| {
            let again = DONE.map(|(what, item, _)| (what, item, number));
            let first = story("1-Rust-consume", Fate::Finished, &DONE);
            let stories = [producer(), first, story("2-Rust-consume", Fate::Finished, &again)];
            let mut report = Report::default();
            let left = Left { waiting: vec![2], ..Left::default() };
            queue(&mut report, &stories, &left, Promise::NothingButClaims);
            report.is_well()
        };
        assert!(judged(1));
        assert!(!judged(2));
    }

    #[test]
    fn what_a_process_confirmed_by_itself_about_a_silence_may_come_again() {
        let judged = |until| {
            let mut taker = story("1-Rust-take", Fate::Finished, &[(What::Got, 1, 1); 2]);
            taker.lines[1] =
                Line { at: Duration::from_millis(until), item: 2, ..taker.lines[1].clone() };
            let stories = [producer(), taker, story("2-Rust-consume", Fate::Finished, &DONE)];
            judged(&stories, &Left::default()).is_well()
        };
        assert!(judged(1000));
        assert!(!judged(700));
    }

    #[test]
    fn an_item_lies_in_one_place_and_in_none_once_it_is_confirmed() {
        let consumer = || story("1-Rust-consume", Fate::Finished, &DONE);
        let twice = Left { waiting: vec![2], dead: vec![2], ..Left::default() };
        assert!(!judged(&[producer(), consumer()], &twice).is_well());
        let still = Left { waiting: vec![2], later: vec![1], ..Left::default() };
        assert!(!judged(&[producer(), consumer()], &still).is_well());
    }

    #[test]
    fn a_put_that_is_repeated_is_done_if_any_of_them_was() {
        let told = |what| story("0-Rust-offer", Fate::Finished, &[(What::Begun, 1, 1), what]);
        let refused = told((What::Refused, 1, 1));
        let already = told((What::Already, 1, 1));
        assert_eq!(judged(&[already, refused.clone()], &Left::default()).counted("lost"), 1);
        let killed = story("1-Rust-offer", Fate::Killed, &[(What::Begun, 1, 1)]);
        let report = judged(&[killed, refused], &Left::default());
        assert_eq!((report.counted("lost"), report.counted("puts with unknown outcome")), (0, 1));
    }

    #[test]
    fn an_item_must_have_been_put() {
        let refused = story("0-Rust-produce", Fate::Finished, &[(What::Refused, 1, 1)]);
        for stories in [vec![], vec![refused]] {
            let consumer = story("1-Rust-consume", Fate::Finished, &DONE);
            assert!(!judged(&[stories, vec![consumer]].concat(), &Left::default()).is_well());
        }
    }

    #[test]
    fn events_come_in_order_and_holes_are_told_of() {
        let judged = |lines: &[(What, u64, u64)]| {
            let mut report = Report::default();
            let story = story("0-Rust-subscribe", Fate::Finished, lines);
            subscriber(&mut report, &story, 3, &unsure(&story.lines));
            report.is_well()
        };
        let (one, two, three) =
            ((What::Received, 0, 0), (What::Received, 1, 0), (What::Received, 2, 0));
        assert!(judged(&[one, two, three]));
        assert!(!judged(&[two, one, three]));
        assert!(judged(&[(What::Ambiguous, 0, 1), two, one, three]));
        assert!(!judged(&[one, three]));
        assert!(judged(&[one, (What::Missed, 0, 1), three]));
        assert!(!judged(&[one, two]));
    }

    #[test]
    fn an_answer_belongs_to_its_call() {
        let judged = |answer| {
            let mut report = Report::default();
            let lines = [(What::Called, 4, 0), (What::Answered, 4, answer)];
            caller(&mut report, &story("0-Rust-call", Fate::Finished, &lines));
            report.is_well()
        };
        assert!(judged(8));
        assert!(!judged(6));
    }
}
