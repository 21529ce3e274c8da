//! Which slot a key lies in, and which node has which slots.
//!
//! The one invariant: a slot that no node has is nowhere, never at some node. It speaks to nobody.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::super::resp::Reply;

/// Where a node is.
pub(crate) type Place = (String, u16);

/// How many slots there are.
const SLOTS: u16 = 16384;
/// For so long a node's word that a slot has moved counts for more than what the others say, who
/// hear of it later.
const NEWS: Duration = Duration::from_secs(5);

/// The slot of a key: that of what stands between its first `{` and the next `}`, or of all of it.
pub(crate) fn slot_of(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
    let hashed = tag.map_or(key, |(tag, _)| if tag.is_empty() { key } else { tag });
    crc16(hashed.as_bytes()) % SLOTS
}

/// The sum that the servers' specification names: CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |sum, byte| (sum << 8) ^ TABLE[usize::from((sum >> 8) as u8 ^ byte)])
}

/// What each byte does to the sum.
const TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut sum, mut bit) = ((byte as u16) << 8, 0);
        while bit < 8 {
            sum = if sum & 0x8000 == 0 { sum << 1 } else { (sum << 1) ^ 0x1021 };
            bit += 1;
        }
        table[byte] = sum;
        byte += 1;
    }
    table
};

/// Who has which slots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Map {
    ranges: Vec<(u16, u16, Place)>,
    /// What nodes said of single slots that they have no more, which others do not know yet.
    news: HashMap<u16, (Place, Instant)>,
}

impl Map {
    /// Reads what `CLUSTER SLOTS` answers. A node that does not know its own address is there where
    /// it was `asked`.
    pub(super) fn read(answer: Reply, asked: &Place) -> Option<Self> {
        let Reply::List(ranges) = answer else { return None };
        let mut ranges: Vec<_> =
            ranges.into_iter().map(|range| one(range, asked)).collect::<Option<_>>()?;
        ranges.sort_unstable();
        Some(Self { ranges, news: HashMap::new() })
    }

    /// Whether nothing is known.
    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Takes in what a node answered; whether anything is new.
    pub(super) fn update(&mut self, mut newer: Self) -> bool {
        let known = |slot: u16, place: &Place| newer.in_ranges(slot) == Some(place);
        let news = self.news.iter();
        let news = news.filter(|(slot, (place, at))| at.elapsed() < NEWS && !known(**slot, place));
        newer.news = news.map(|(slot, news)| (*slot, news.clone())).collect();
        let changes = *self != newer;
        *self = newer;
        changes
    }

    /// Takes in that a node sent us elsewhere for a slot; whether that is new.
    pub(super) fn learn(&mut self, slot: u16, place: Place) -> bool {
        let changes = self.owner(slot) != Some(&place);
        if changes {
            self.news.insert(slot, (place, Instant::now()));
        }
        changes
    }

    /// Forgets what was said of a slot, if that has turned out to be wrong.
    pub(super) fn unlearn(&mut self, slot: u16, place: &Place) -> bool {
        let wrong = self.news.get(&slot).is_some_and(|(said, _)| said == place);
        wrong && self.news.remove(&slot).is_some()
    }

    /// The node that takes the writes of a slot.
    pub(super) fn owner(&self, slot: u16) -> Option<&Place> {
        let told = self.news.get(&slot).map(|(place, _)| place);
        told.or_else(|| self.in_ranges(slot))
    }

    fn in_ranges(&self, slot: u16) -> Option<&Place> {
        let after = self.ranges.partition_point(|(first, ..)| *first <= slot);
        let (_, last, place) = self.ranges.get(after.checked_sub(1)?)?;
        (slot <= *last).then_some(place)
    }

    /// Whether a node has any slot, as far as anything is known.
    pub(super) fn has(&self, place: &Place) -> bool {
        let told = self.news.values().map(|(place, _)| place);
        self.is_empty()
            || self.ranges.iter().map(|(.., place)| place).chain(told).any(|one| one == place)
    }

    /// Every node that takes writes, once.
    pub(super) fn nodes(&self) -> Vec<Place> {
        let mut nodes: Vec<Place> = Vec::new();
        for (.., place) in &self.ranges {
            if !nodes.contains(place) {
                nodes.push(place.clone());
            }
        }
        nodes
    }

    /// How many slots no node has.
    pub(super) fn lacking(&self) -> usize {
        let sizes =
            self.ranges.iter().map(|(first, last, _)| usize::from(last.saturating_sub(*first)) + 1);
        usize::from(SLOTS).saturating_sub(sizes.sum())
    }
}

/// First slot, last slot, the master, and replicas.
fn one(range: Reply, asked: &Place) -> Option<(u16, u16, Place)> {
    let mut words = range.items().into_iter();
    let mut slot = || u16::try_from(words.next()?.number()?).ok();
    let (first, last) = (slot()?, slot()?);
    let mut master = words.next()?.items().into_iter();
    let host = master.next()?.bytes().and_then(|host| String::from_utf8(host.to_vec()).ok());
    let host =
        host.filter(|host| !host.is_empty() && host != "?").unwrap_or_else(|| asked.0.clone());
    let port = u16::try_from(master.next()?.number()?).ok()?;
    Some((first, last, (host, port)))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn slots_are_those_that_the_servers_compute() {
        // As `CLUSTER KEYSLOT` says.
        for (key, slot) in [
            ("123456789", 12739),
            ("foo", 12182),
            ("{foo}.bar", 12182),
            ("a{foo}{bar}", 12182),
            ("", 0),
        ] {
            assert_eq!(slot_of(key), slot, "{key}");
        }
        assert_eq!(slot_of("foo{}{bar}"), crc16(b"foo{}{bar}") % 16384);
        assert_eq!(slot_of("foo{{bar}}zap"), crc16(b"{bar") % 16384);
    }

    #[test]
    fn a_map_says_who_has_a_slot_and_that_nobody_has_it() {
        let text = |text: &'static str| Reply::Bytes(Bytes::from_static(text.as_bytes()));
        let node = |host, port| Reply::List(vec![host, Reply::Number(port), text("id")]);
        let range =
            |first, last, node| Reply::List(vec![Reply::Number(first), Reply::Number(last), node]);
        let answer = Reply::List(vec![
            range(100, 16383, node(text("b"), 2)),
            range(0, 98, node(Reply::Nothing, 1)),
        ]);
        let map = Map::read(answer, &("a".to_owned(), 9)).expect("it is one");
        assert_eq!(map.owner(0), Some(&("a".to_owned(), 1)));
        assert_eq!(map.owner(99), None);
        assert_eq!(map.owner(16383), Some(&("b".to_owned(), 2)));
        assert_eq!(map.nodes(), [("a".to_owned(), 1), ("b".to_owned(), 2)]);
        assert_eq!(map.lacking(), 1);
        assert_eq!(Map::read(Reply::Number(1), &("a".to_owned(), 9)), None);
    }

    #[test]
    fn who_is_sent_elsewhere_is_not_sent_back_by_those_who_hear_of_it_later() {
        let place = |host: &str| (host.to_owned(), 1);
        let map = |host| Map { ranges: vec![(0, SLOTS - 1, place(host))], ..Map::default() };
        let mut known = map("a");
        assert!(known.learn(7, place("b")));
        assert!(!known.learn(7, place("b")));
        assert!(!known.update(map("a")));
        assert_eq!((known.owner(7), known.owner(8)), (Some(&place("b")), Some(&place("a"))));
        assert!(!known.unlearn(7, &place("a")));
        assert!(known.unlearn(7, &place("b")));
        assert_eq!(known.owner(7), Some(&place("a")));
        known.learn(7, place("c"));
        assert!(known.update(map("c")));
        assert!(known.news.is_empty());
    }
}
