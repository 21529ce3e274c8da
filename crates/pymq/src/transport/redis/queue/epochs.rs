//! The epochs of a consumer, and the items that each holds.
//!
//! The one invariant: an item counts here from the moment in which it was taken until the server has
//! answered its settlement, in the epoch under which the server has it. So what the server has in an
//! epoch's lists and this room does not was taken by a claim whose reply was lost. Nothing is sent from
//! here.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::item::unmarked;
use super::keys::{Epoch, HeldList};
use super::pending_settlement::PendingSettlement;
use crate::transport::{Claimed, Receipt};

/// After so many items a new epoch begins, because the server searches an epoch's list for an item.
const FULL: usize = 1000;

/// The epochs of one consumer.
#[derive(Debug)]
pub(super) struct Epochs {
    /// Items have priorities, written before their bytes.
    priorities: bool,
    /// The one under which items are taken.
    current: Epoch,
    /// Those that hold something.
    holding: BTreeMap<Epoch, Hold>,
    /// Those that may stand in the server's registry, each with the moment until which we know it: when
    /// the last script was sent whose answer said so, of every list of the epoch that may be there.
    registered: BTreeMap<Epoch, Option<Instant>>,
    /// The epochs of items that went into one of their own, by the number and bytes of their receipts.
    moved: HashMap<(u64, Bytes), Vec<Epoch>>,
    /// Those that may have fetched something ahead.
    ahead: BTreeSet<Epoch>,
}

/// The items that one epoch holds.
#[derive(Debug, Default)]
struct Hold {
    items: HashMap<Bytes, usize>,
    count: usize,
    /// The moment until which its lease was extended.
    extended: Option<Instant>,
    /// The moment of the last item that was put in.
    taken: Option<Instant>,
}

impl Epochs {
    pub(super) fn new(current: Epoch, priorities: bool) -> Self {
        Self {
            priorities,
            current,
            holding: BTreeMap::new(),
            registered: BTreeMap::new(),
            moved: HashMap::new(),
            ahead: BTreeSet::new(),
        }
    }

    pub(super) fn current(&self) -> Epoch {
        self.current
    }

    /// Begins a new epoch; what the others hold is kept.
    pub(super) fn turn_to(&mut self, epoch: Epoch) {
        self.current = epoch;
    }

    /// Whether another epoch should take what comes.
    pub(super) fn is_full(&self) -> bool {
        self.holding.get(&self.current).is_some_and(|hold| hold.count >= FULL)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.holding.is_empty()
    }

    /// The epochs that hold something.
    pub(super) fn occupied(&self) -> Vec<Epoch> {
        self.holding.keys().copied().collect()
    }

    /// Notes that an epoch begins to fetch ahead.
    pub(super) fn fetch_ahead(&mut self, epoch: Epoch) {
        self.ahead.insert(epoch);
    }

    /// Whether the second list of an epoch may be there.
    pub(super) fn fetches_ahead(&self, epoch: Epoch) -> bool {
        self.ahead.contains(&epoch)
    }

    /// The lists of epochs that may be there.
    pub(super) fn lists(&self, epochs: &[Epoch]) -> Vec<HeldList> {
        epochs.iter().flat_map(|epoch| epoch.lists(self.fetches_ahead(*epoch))).collect()
    }

    /// Whether an epoch is one of these.
    pub(super) fn owns(&self, epoch: Epoch) -> bool {
        epoch == self.current || self.holding.contains_key(&epoch)
    }

    /// Notes an item that was taken.
    pub(super) fn take(&mut self, place: HeldList, stored: Bytes) -> Claimed {
        let (payload, marks) = unmarked(&stored, self.priorities);
        self.put(place.epoch, stored.clone());
        let receipt = Receipt { stored, number: place.number() };
        Claimed { payload, deliveries: marks.saturating_add(1), receipt }
    }

    fn put(&mut self, epoch: Epoch, stored: Bytes) {
        let hold = self.holding.entry(epoch).or_default();
        *hold.items.entry(stored).or_default() += 1;
        hold.count += 1;
        hold.taken = Some(Instant::now());
    }

    /// Notes that an item is not held any more.
    pub(super) fn let_go(&mut self, epoch: Epoch, stored: &Bytes) {
        let Some(hold) = self.holding.get_mut(&epoch) else { return };
        let Some(count) = hold.items.get_mut(stored) else { return };
        *count -= 1;
        if *count == 0 {
            hold.items.remove(stored);
        }
        hold.count -= 1;
        if hold.count == 0 {
            self.holding.remove(&epoch);
        }
    }

    /// The list in which the server has the item of a receipt. Where the epoch fetches ahead, the item may be
    /// in its other list.
    pub(super) fn place(&self, receipt: &Receipt) -> HeldList {
        let places = self.moved.get(&(receipt.number, receipt.stored.clone()));
        let moved = places.and_then(|places| places.last());
        moved.map_or(HeldList::of(receipt), |epoch| epoch.shown())
    }

    /// The same, for the settlement of one such item: each of several equal ones has its own.
    pub(super) fn leave_place(&mut self, receipt: &Receipt) -> HeldList {
        self.leave_moved(receipt).unwrap_or(HeldList::of(receipt))
    }

    /// The same, if it is in an epoch of its own.
    pub(super) fn leave_moved(&mut self, receipt: &Receipt) -> Option<HeldList> {
        if self.moved.is_empty() {
            return None;
        }
        let key = (receipt.number, receipt.stored.clone());
        let places = self.moved.get_mut(&key)?;
        let place = places.pop();
        if places.is_empty() {
            self.moved.remove(&key);
        }
        place.map(Epoch::shown)
    }

    /// Notes that the lease of an item lasts until a moment, in the epoch `to`, into which it went from
    /// another one or in which it was.
    pub(super) fn extend(
        &mut self,
        receipt: &Receipt,
        from: Epoch,
        to: Epoch,
        until: Option<Instant>,
    ) {
        if from != to {
            self.let_go(from, &receipt.stored);
            self.put(to, receipt.stored.clone());
            let key = (receipt.number, receipt.stored.clone());
            self.moved.entry(key).or_default().push(to);
            self.registered.insert(to, Some(Instant::now()));
        }
        if let Some(hold) = self.holding.get_mut(&to) {
            hold.extended = hold.extended.max(until);
        }
    }

    /// Notes that an epoch was registered by something that was sent at a moment.
    pub(super) fn keep(&mut self, epoch: Epoch, sent: Instant) {
        let since = self.registered.entry(epoch).or_default();
        *since = (*since).max(Some(sent));
    }

    /// Notes that the answer to a registration was lost, so that the epoch may be registered or not.
    pub(super) fn doubt(&mut self, epoch: Epoch) {
        self.registered.insert(epoch, None);
    }

    /// The last moment at which an epoch was known to be registered.
    pub(super) fn kept(&self, epoch: Epoch) -> Option<Instant> {
        self.registered.get(&epoch).copied().flatten()
    }

    /// The earliest such moment among the epochs that hold something.
    pub(super) fn oldest_kept(&self) -> Option<Instant> {
        self.holding.keys().filter_map(|epoch| self.kept(*epoch)).min()
    }

    /// The moment until which its items surely are ours.
    pub(super) fn sure_until(&self, epoch: Epoch, lease: Duration) -> Option<Instant> {
        let extended = self.holding.get(&epoch).and_then(|hold| hold.extended);
        self.kept(epoch).map(|at| at + lease).max(extended)
    }

    /// Takes out the epochs that may be registered and hold nothing: the server is to forget them.
    pub(super) fn vacant(&mut self) -> Vec<Epoch> {
        let holding = &self.holding;
        let vacant: BTreeSet<Epoch> =
            self.registered.keys().filter(|epoch| !holding.contains_key(epoch)).copied().collect();
        self.registered.retain(|epoch, _| !vacant.contains(epoch));
        vacant.into_iter().collect()
    }

    /// Notes that the server has forgotten epochs that hold nothing, or was not allowed to: the second
    /// list of one that is used again is named on, since it may still be registered with an end of old.
    pub(super) fn forget(&mut self, epochs: &[Epoch]) {
        let (holding, current) = (&self.holding, self.current);
        self.ahead.retain(|epoch| {
            !epochs.contains(epoch) || holding.contains_key(epoch) || *epoch == current
        });
    }

    pub(super) fn has_vacant(&self) -> bool {
        self.registered.keys().any(|epoch| !self.holding.contains_key(epoch))
    }

    /// All epochs that may stand in the server's registry or hold something, oldest first.
    pub(super) fn all(&self) -> Vec<Epoch> {
        let all: BTreeSet<_> = self.registered.keys().chain(self.holding.keys()).copied().collect();
        all.into_iter().collect()
    }

    /// Takes the server's word, of a question that was sent at a moment, that an epoch is not there
    /// any more. Returns how many items are lost; `None` if something was taken since, so that the
    /// list has to be read.
    pub(super) fn lose(&mut self, epoch: Epoch, sent: Instant) -> Option<usize> {
        if self.holding.get(&epoch).is_some_and(|hold| hold.taken > Some(sent)) {
            return None;
        }
        self.registered.remove(&epoch);
        self.ahead.remove(&epoch);
        self.moved.retain(|_, places| !places.contains(&epoch));
        Some(self.holding.remove(&epoch).map_or(0, |hold| hold.count))
    }

    /// Compares with what the server holds in the lists of an epoch, newest first: which settlements
    /// had been done, which are still to be done, and which items nobody here has heard of, oldest
    /// first. An item that is in the other list than was thought is known all the same.
    pub(super) fn compare(
        &self,
        epoch: Epoch,
        server: Vec<(HeldList, Vec<Bytes>)>,
        uncertain: Vec<PendingSettlement>,
    ) -> (Vec<PendingSettlement>, Vec<PendingSettlement>, Vec<(HeldList, Bytes)>) {
        let mut there: HashMap<&Bytes, usize> = HashMap::new();
        for stored in server.iter().flat_map(|(_, items)| items) {
            *there.entry(stored).or_default() += 1;
        }
        let nothing = HashMap::new();
        let here = self.holding.get(&epoch).map_or(&nothing, |hold| &hold.items);
        let (mut done, mut again) = (Vec::new(), Vec::new());
        let mut missing: HashMap<Bytes, usize> = HashMap::new();
        for settling in uncertain {
            let stored = settling.stored();
            let gone = missing.entry(stored.clone()).or_default();
            let on_server = there.get(stored).copied().unwrap_or_default();
            if on_server + *gone < here.get(stored).copied().unwrap_or_default() {
                *gone += 1;
                done.push(settling);
            } else {
                again.push(settling);
            }
        }
        let mut known = here.clone();
        let mut unknown = Vec::new();
        for (place, items) in server {
            for stored in items.into_iter().rev() {
                match known.get_mut(&stored) {
                    Some(count) if *count > 0 => *count -= 1,
                    _ => unknown.push((place, stored)),
                }
            }
        }
        (done, again, unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Settlement;

    const EPOCH: u32 = 7;

    /// A consumer that was given `items`.
    fn holding(items: &[&'static str]) -> (Epochs, Epoch) {
        let epoch = Epoch::new(EPOCH);
        let mut epochs = Epochs::new(epoch, false);
        for item in items {
            epochs.take(epoch.shown(), Bytes::from_static(item.as_bytes()));
        }
        (epochs, epoch)
    }

    /// How many of the acknowledgements whose answers were lost were done and are sent again, and what
    /// nobody had heard of.
    fn compare(
        items: &[&'static str],
        acknowledged: &[&'static str],
        server: &[&'static str],
    ) -> (usize, usize, Vec<Bytes>) {
        let (epochs, epoch) = holding(items);
        let uncertain = acknowledged.iter().map(|item| {
            let stored = Bytes::from_static(item.as_bytes());
            let receipt = Receipt { stored, number: epoch.shown().number() };
            PendingSettlement::silent(receipt, epoch.shown(), Settlement::Ack)
        });
        let server = server.iter().map(|item| Bytes::from_static(item.as_bytes())).collect();
        let server = vec![(epoch.shown(), server), (epoch.ahead(), Vec::new())];
        let (done, again, unknown) = epochs.compare(epoch, server, uncertain.collect());
        (done.len(), again.len(), unknown.into_iter().map(|(_, item)| item).collect())
    }

    #[test]
    fn an_acknowledgement_was_done_exactly_when_the_item_is_gone() {
        assert_eq!(compare(&["a"], &["a"], &[]), (1, 0, vec![]));
        assert_eq!(compare(&["a"], &["a"], &["a"]), (0, 1, vec![]));
    }

    #[test]
    fn of_equal_items_as_many_were_acknowledged_as_are_missing() {
        let held = ["same", "same", "same"];
        assert_eq!(compare(&held, &["same", "same"], &["same", "same"]), (1, 1, vec![]));
        assert_eq!(compare(&held, &["same", "same"], &["same"]), (2, 0, vec![]));
    }

    #[test]
    fn what_nobody_here_has_heard_of_is_found_oldest_first() {
        // The server's list has the newest first.
        let found = compare(&["known"], &[], &["newer", "known", "older"]);
        assert_eq!(found, (0, 0, vec![Bytes::from("older"), Bytes::from("newer")]));
    }

    #[test]
    fn an_extended_item_is_settled_where_it_went_and_an_equal_one_where_it_was() {
        let (mut epochs, epoch) = holding(&["same", "same"]);
        let receipt = Receipt { stored: Bytes::from("same"), number: epoch.shown().number() };
        let own = Epoch::new(EPOCH + 1);
        epochs.extend(&receipt, epoch, own, None);
        assert_eq!(epochs.occupied(), [epoch, own]);
        assert_eq!(epochs.place(&receipt), own.shown());
        let first = epochs.leave_place(&receipt);
        let second = epochs.leave_place(&receipt);
        assert_eq!((first, second), (own.shown(), epoch.shown()));
        epochs.let_go(own, &receipt.stored);
        epochs.let_go(epoch, &receipt.stored);
        assert!(epochs.is_empty());
        assert_eq!(epochs.vacant(), [own]);
    }

    #[test]
    fn what_was_taken_after_the_server_was_asked_is_not_lost_by_its_answer() {
        let before = Instant::now();
        let (mut epochs, epoch) = holding(&["a"]);
        assert_eq!(epochs.lose(epoch, before), None);
        assert_eq!(epochs.lose(epoch, Instant::now()), Some(1));
        assert!(epochs.is_empty());
    }

    #[test]
    fn an_item_in_the_other_list_of_its_epoch_is_known_and_its_settlement_still_to_be_done() {
        let epoch = Epoch::new(EPOCH);
        let mut epochs = Epochs::new(epoch, false);
        let items = ["a", "b"].map(Bytes::from);
        let claimed = items.clone().map(|item| epochs.take(epoch.ahead(), item));
        let acks = claimed.map(|item| {
            let place = HeldList::of(&item.receipt);
            PendingSettlement::silent(item.receipt, place, Settlement::Ack)
        });
        let server = vec![(epoch.shown(), vec![items[0].clone()]), (epoch.ahead(), Vec::new())];
        let (done, again, unknown) = epochs.compare(epoch, server, acks.into());
        assert_eq!((done.len(), again.len(), unknown.len()), (1, 1, 0));
        assert_eq!(again[0].stored(), &items[0]);
    }
}
