//! Who must answer a call to everyone, and what became of each of them.
//!
//! Providers of ours are as many as were counted when the request went out, and as those on one
//! connection, which may be counted as one, say that they are; one is known by its identity as soon as
//! it says anything. Each either answers, declines, or is found lost, and the
//! call is complete when that holds for all. Subscribers that may be providers of the original have
//! no identity: of these only numbers are known. Nothing here waits or asks: what was heard and
//! counted is noted by [`gather`](super::gather), with the time at which it was.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::attempt::Moment;
use super::siblings::Census;
use super::{GONE_AFTER, LOST_AFTER, Reply};
use crate::name::Id;
use crate::wire::{Outcome, ResponseKind, Said};

/// A provider that did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Missing {
    /// Its identity, if it had been heard of.
    pub provider: Option<Id>,
    /// Whether it died; otherwise it only took too long.
    pub lost: bool,
}

/// The roll of one call to everyone.
pub(super) struct Attendance {
    /// How many providers of ours, and how many others, the request reached.
    ours: Census,
    others: usize,
    known: BTreeMap<Id, Known>,
    from_originals: usize,
    others_lost: usize,
    missing: Vec<Missing>,
    /// When the request went out, or this side last had reason to hear nothing.
    patient_since: Instant,
    unnamed_gone_since: Option<Instant>,
    others_gone_since: Option<Instant>,
}

/// A provider of ours that is known by its identity.
struct Known {
    /// When it was last heard of, or the request went out.
    heard: Moment,
    /// The same, or when this side had reason to hear nothing.
    patient_since: Instant,
    gone_since: Option<Instant>,
    duty: Duty,
    /// With whom it was counted as one.
    siblings: Option<Id>,
}

/// What a provider owes the caller.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Duty {
    /// An answer.
    Owed,
    /// Nothing: it has answered.
    Done,
    /// Nothing: it ended before it began the call.
    Declined,
    /// An answer that will not come.
    Lost,
}

impl Known {
    fn new() -> Self {
        let (heard, patient_since) = (Moment::now(), Instant::now());
        Self { heard, patient_since, gone_since: None, duty: Duty::Owed, siblings: None }
    }
}

impl Attendance {
    /// A request that went out just now to so many; those `expected` are known from the start.
    pub(super) fn new(counted: usize, others: usize, expected: Vec<Id>) -> Self {
        Self {
            ours: Census::new(counted),
            others,
            known: expected.into_iter().map(|id| (id, Known::new())).collect(),
            from_originals: 0,
            others_lost: 0,
            missing: Vec::new(),
            patient_since: Instant::now(),
            unnamed_gone_since: None,
            others_gone_since: None,
        }
    }

    /// How many providers of ours the request reached.
    pub(super) fn ours(&self) -> usize {
        self.ours.all()
    }

    /// Notes a sign of life of a provider of ours; gives the reply if it is one, and the first.
    pub(super) fn hear(&mut self, said: Said) -> Option<Reply> {
        let ours = said.ours;
        let known = self.known.entry(ours.provider).or_insert_with(Known::new);
        (known.heard, known.patient_since) = (Moment::now(), Instant::now());
        known.gone_since = None;
        if let Some(siblings) = ours.siblings {
            known.siblings = Some(siblings.id);
            self.ours.note(siblings);
        }
        // One that was found lost stays so: it stands among the missing already.
        if matches!(known.duty, Duty::Done | Duty::Lost) {
            return None;
        }
        let reply = match ours.kind {
            // It has not begun the call, and is none of those who must answer any more.
            ResponseKind::Left => {
                known.duty = Duty::Declined;
                return None;
            }
            ResponseKind::Lost => {
                self.lose(ours.provider);
                return None;
            }
            ResponseKind::Busy => {
                let outcome = Outcome::failure("Busy", "too many calls wait; it was not executed");
                Reply { outcome, provider: Some(ours.provider) }
            }
            _ => Reply::of(said)?,
        };
        known.duty = Duty::Done;
        Some(reply)
    }

    /// Notes an answer of one of the others.
    pub(super) fn hear_original(&mut self) {
        self.from_originals += 1;
    }

    /// Silence while this side was away, or stood still, says nothing about anybody.
    pub(super) fn be_patient(&mut self) {
        let now = Instant::now();
        self.patient_since = now;
        for known in self.known.values_mut() {
            known.patient_since = now;
        }
    }

    /// Whether all of ours have answered or are given up; those, too, who came after the call and
    /// heard of it when all were asked again, since they take nobody's place.
    pub(super) fn is_settled(&self) -> bool {
        // Both: one that is known may owe an answer, and one that was counted may not be known yet.
        let owing = self.known.values().filter(|known| known.duty == Duty::Owed).count();
        let settled = self.known.len() - owing + self.unnamed_missing();
        owing == 0 && settled >= self.ours()
    }

    /// Whether all who were there had ended before they began the call.
    pub(super) fn everybody_declined(&self) -> bool {
        let mut known = self.known.values();
        self.ours.counted() > 0
            && self.others == 0
            && self.known.len() >= self.ours()
            && known.all(|known| known.duty == Duty::Declined)
    }

    /// How many subscribers that may be the original's have neither answered nor gone.
    pub(super) fn others_silent(&self) -> usize {
        self.others.saturating_sub(self.from_originals + self.others_lost)
    }

    /// How many are there of whom nothing was heard, where so many of ours are counted and of those who
    /// are known these are `present`.
    pub(super) fn unheard(&self, counted: usize, present: &BTreeSet<Id>) -> usize {
        let siblings = |id: &Id| self.known.get(id).and_then(|known| known.siblings);
        let shared: BTreeSet<Id> = present.iter().filter_map(siblings).collect();
        let several: usize = shared.iter().map(|id| self.ours.of(*id)).sum();
        // Those who stand together count as one, and where one of them is, the others are.
        let known: Vec<Option<Id>> = self.known.keys().map(siblings).collect();
        let heard = known.iter().flatten().filter(|id| shared.contains(id)).count();
        let alone = present.iter().filter(|id| siblings(id).is_none()).count();
        counted.saturating_sub(alone + shared.len()) + several.saturating_sub(heard)
    }

    /// Who is known and owes an answer.
    pub(super) fn owing(&self) -> Vec<Id> {
        self.with_duty(Duty::Owed)
    }

    /// Who is known and owes none, but is there: it answered, or declined.
    pub(super) fn excused(&self) -> Vec<Id> {
        [self.with_duty(Duty::Done), self.with_duty(Duty::Declined)].concat()
    }

    /// When one that is known was last heard of.
    pub(super) fn heard(&self, id: Id) -> Moment {
        self.known[&id].heard
    }

    fn with_duty(&self, duty: Duty) -> Vec<Id> {
        let found = self.known.iter().filter(|(_, known)| known.duty == duty);
        found.map(|(id, _)| *id).collect()
    }

    /// Gives up one that owes an answer, if it has been gone or silent for too long.
    pub(super) fn judge(&mut self, id: Id, present: bool) {
        let known = self.known.get_mut(&id).expect("it was taken from the table");
        known.gone_since = (!present).then(|| known.gone_since.unwrap_or_else(Instant::now));
        let gone = known.gone_since.is_some_and(|since| since.elapsed() >= GONE_AFTER);
        if gone || known.patient_since.elapsed() >= LOST_AFTER {
            self.lose(id);
        }
    }

    /// Gives up providers that were counted but never heard of, when too few are left for them:
    /// `present` are there beside those who are known.
    pub(super) fn judge_unnamed(&mut self, present: usize) {
        let unnamed = self.unnamed();
        // They have no beat of their own to judge by, so what counts is the silence since the request went
        // out, or how many subscribers are left for them.
        let silent = self.patient_since.elapsed() >= LOST_AFTER;
        let lost = if silent { unnamed } else { unnamed.saturating_sub(present) };
        if lost == 0 {
            self.unnamed_gone_since = None;
        } else if silent
            || self.unnamed_gone_since.get_or_insert_with(Instant::now).elapsed() >= GONE_AFTER
        {
            self.missing.extend((0..lost).map(|_| Missing { provider: None, lost: true }));
        }
    }

    /// Gives up whoever is not `present` any more, `unnamed` of whom are not known by name, after so many
    /// of those who were called have `ended` with their connections. One that merely listens no more
    /// may still answer: where there may be such ones, time tells.
    pub(super) fn mourn(&mut self, ended: usize, present: &BTreeSet<Id>, unnamed: usize) {
        let absent = |id: &Id| !present.contains(id);
        let gone: Vec<Id> = self.owing().into_iter().filter(absent).collect();
        let explained = self.excused().into_iter().filter(absent).count();
        let missing = self.unnamed().saturating_sub(unnamed);
        if gone.len() + missing + explained + self.missing.len() > ended {
            return;
        }
        gone.into_iter().for_each(|id| self.lose(id));
        self.missing.extend((0..missing).map(|_| Missing { provider: None, lost: true }));
    }

    /// Gives up the others once none of them has been `present` for long enough.
    pub(super) fn judge_others(&mut self, present: bool) {
        if present {
            self.others_gone_since = None;
            return;
        }
        if self.others_gone_since.get_or_insert_with(Instant::now).elapsed() >= GONE_AFTER {
            self.others_lost = self.others_silent();
        }
    }

    fn lose(&mut self, id: Id) {
        if let Some(known) = self.known.get_mut(&id) {
            known.duty = Duty::Lost;
        }
        self.missing.push(Missing { provider: Some(id), lost: true });
    }

    /// How many were counted, never heard of, and not given up.
    fn unnamed(&self) -> usize {
        self.ours().saturating_sub(self.known.len() + self.unnamed_missing())
    }

    fn unnamed_missing(&self) -> usize {
        self.missing.iter().filter(|missing| missing.provider.is_none()).count()
    }

    /// Closes the roll: who has not answered by now is missing.
    pub(super) fn conclude(&mut self) {
        // Beside providers of ours, a silent subscriber is more likely a foreign one than a provider.
        let (silent, gone) = match self.ours.counted() {
            0 => (self.others_silent(), self.others_lost),
            _ => (0, 0),
        };
        let named = self.owing().into_iter().map(Some);
        let nameless = std::iter::repeat_n(None, self.unnamed() + silent);
        let late = named.chain(nameless).map(|provider| Missing { provider, lost: false });
        let lost = std::iter::repeat_n(Missing { provider: None, lost: true }, gone);
        self.missing.extend(late.chain(lost));
        // They are handed out from the end.
        self.missing.reverse();
    }

    /// The next of those who are missing, once the roll is closed.
    pub(super) fn next_missing(&mut self) -> Option<Missing> {
        self.missing.pop()
    }

    /// Names nobody as missing: the call failed as a whole.
    pub(super) fn forget_missing(&mut self) {
        self.missing.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{ResponseExtension, Siblings};
    use bytes::Bytes;

    fn said(provider: Id, kind: ResponseKind) -> Said {
        let outcome = Outcome::result(Bytes::from_static(b"1"), "int".to_owned());
        let (call, siblings) = (Id::random(), None);
        Said { outcome, ours: ResponseExtension { call, provider, kind, siblings } }
    }

    /// The same of one of several that were counted as one.
    fn said_with(siblings: (Id, usize), provider: Id, kind: ResponseKind) -> Said {
        let (mut said, (id, count)) = (said(provider, kind), siblings);
        said.ours.siblings = Some(Siblings { id, count });
        said
    }

    fn missing(roll: &mut Attendance) -> Vec<Missing> {
        roll.conclude();
        std::iter::from_fn(|| roll.next_missing()).collect()
    }

    #[tokio::test]
    async fn all_that_were_counted_must_answer_and_each_once() {
        let (mut roll, one, two) = (Attendance::new(2, 0, Vec::new()), Id::random(), Id::random());
        assert!(roll.hear(said(one, ResponseKind::Result)).is_some());
        assert!(roll.hear(said(one, ResponseKind::Result)).is_none());
        assert!(!roll.is_settled());
        assert!(roll.hear(said(two, ResponseKind::Ack)).is_none());
        assert!(!roll.is_settled());
        assert!(roll.hear(said(two, ResponseKind::Busy)).expect("a refusal").outcome.failed);
        assert!(roll.is_settled());
        assert_eq!(missing(&mut roll), []);
    }

    #[tokio::test]
    async fn of_those_who_are_counted_as_one_all_must_answer() {
        // Three on one connection, and one on another.
        let (mut roll, three) = (Attendance::new(2, 0, Vec::new()), (Id::random(), 3));
        let ids: Vec<Id> = (0..3).map(|_| Id::random()).collect();
        roll.hear(said_with(three, ids[0], ResponseKind::Result));
        roll.hear(said(Id::random(), ResponseKind::Result));
        assert_eq!((roll.ours(), roll.is_settled()), (4, false));
        // The other two are there as long as the first one is.
        assert_eq!(roll.unheard(2, &BTreeSet::from([ids[0]])), 3);
        roll.hear(said_with(three, ids[1], ResponseKind::Result));
        // What one of them says later is not for this call.
        roll.hear(said_with((three.0, 9), ids[2], ResponseKind::Result));
        assert_eq!((roll.ours(), roll.is_settled()), (4, true));
        assert_eq!(roll.unheard(1, &ids.iter().copied().collect()), 0);
        assert_eq!(missing(&mut roll), []);
    }

    #[tokio::test]
    async fn one_that_came_later_takes_nobodys_place() {
        let mut roll = Attendance::new(1, 0, Vec::new());
        roll.hear(said(Id::random(), ResponseKind::Result));
        roll.hear(said(Id::random(), ResponseKind::Beat));
        assert!(!roll.is_settled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_absence_is_a_reconnect_and_a_longer_one_is_a_loss() {
        let id = Id::random();
        let mut roll = Attendance::new(1, 0, vec![id]);
        roll.judge(id, false);
        tokio::time::advance(GONE_AFTER / 2).await;
        roll.judge(id, true);
        tokio::time::advance(GONE_AFTER / 2).await;
        roll.judge(id, false);
        assert!(!roll.is_settled());
        tokio::time::advance(GONE_AFTER).await;
        roll.judge(id, false);
        assert!(roll.is_settled());
        assert_eq!(missing(&mut roll), [Missing { provider: Some(id), lost: true }]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_was_never_heard_of_is_missing_without_a_name() {
        let mut roll = Attendance::new(2, 0, Vec::new());
        roll.hear(said(Id::random(), ResponseKind::Result));
        roll.judge_unnamed(1);
        tokio::time::advance(GONE_AFTER).await;
        roll.judge_unnamed(1);
        assert!(!roll.is_settled());
        tokio::time::advance(LOST_AFTER).await;
        roll.judge_unnamed(1);
        assert!(roll.is_settled());
        assert_eq!(missing(&mut roll), [Missing { provider: None, lost: true }]);
    }

    #[tokio::test]
    async fn whoever_is_gone_after_as_many_ends_is_lost_at_once_and_nobody_else() {
        let (one, two) = (Id::random(), Id::random());
        let mut roll = Attendance::new(3, 0, vec![one, two]);
        // One of the two has merely left; nobody knows which.
        roll.mourn(1, &BTreeSet::new(), 1);
        assert!(!roll.is_settled());
        roll.mourn(2, &BTreeSet::new(), 1);
        roll.mourn(3, &BTreeSet::new(), 0);
        assert!(roll.is_settled());
        let lost = |provider| Missing { provider, lost: true };
        assert_eq!(missing(&mut roll).len(), 3);
        let mut answered = Attendance::new(2, 0, vec![one, two]);
        answered.hear(said(one, ResponseKind::Result));
        answered.mourn(1, &BTreeSet::from([one]), 0);
        assert_eq!(missing(&mut answered), [lost(Some(two))]);
    }

    #[tokio::test]
    async fn where_all_left_before_they_began_nobody_provides_it() {
        let id = Id::random();
        let mut roll = Attendance::new(1, 0, vec![id]);
        assert!(!roll.everybody_declined());
        roll.hear(said(id, ResponseKind::Left));
        assert!(roll.everybody_declined() && roll.is_settled());
    }

    #[tokio::test]
    async fn silent_subscribers_are_missing_only_where_nobody_else_was_called() {
        let mut alone = Attendance::new(0, 2, Vec::new());
        alone.hear_original();
        assert_eq!(alone.others_silent(), 1);
        assert_eq!(missing(&mut alone), [Missing { provider: None, lost: false }]);
        let mut beside = Attendance::new(1, 2, Vec::new());
        beside.hear(said(Id::random(), ResponseKind::Result));
        assert_eq!(missing(&mut beside), []);
    }
}
