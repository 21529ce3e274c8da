//! Records in the order of a number that each bears: what is due first comes first.
//!
//! The invariant: it is a treap. Left of a record are those of a lower rank, below it those of a lower
//! height, and heights are as good as random; so putting one in or taking it out takes about as many
//! looks as the number of all has binary digits, whatever their ranks. A rank does not change while
//! its record is in the order.

use super::heap::{At, Heap};
use crate::error::Result;

/// How deep a tree is looked into; one of a million records is about fifty deep.
const DEEPEST: usize = 4096;

/// An order: the places of its root, its first and its number, and where in a record its links, its
/// number, and, for records with the same one, another number are.
#[derive(Clone, Copy)]
pub(super) struct Treap {
    at: At,
    links: u64,
    number: u64,
    tie: u64,
}

impl Treap {
    /// How many bytes an order takes.
    pub(super) const SIZE: u64 = 24;

    pub(super) const fn new(at: At, links: u64, number: u64, tie: u64) -> Self {
        Self { at, links, number, tie }
    }

    /// The record with the lowest number; 0 where there is none.
    pub(super) fn first(self, heap: &Heap<'_>) -> At {
        heap.follow(self.at + 8)
    }

    pub(super) fn len(self, heap: &Heap<'_>) -> u64 {
        heap.get(self.at + 16)
    }

    /// All of its records, in order.
    pub(super) fn records<'h>(self, heap: &'h Heap<'_>) -> impl Iterator<Item = At> + use<'h> {
        let (mut above, mut next) = (Vec::new(), heap.follow(self.at));
        let mut left = self.len(heap).min(heap.most_records());
        std::iter::from_fn(move || {
            while next != 0 && above.len() < DEEPEST {
                above.push(next);
                next = heap.follow(self.lower(next));
            }
            left = left.checked_sub(1)?;
            let record = above.pop()?;
            next = heap.follow(self.higher(record));
            Some(record)
        })
    }

    pub(super) fn insert(self, heap: &mut Heap<'_>, record: At) -> Result<()> {
        let (own, first) = (self.rank(heap, record), self.first(heap));
        if first == 0 || own < self.rank(heap, first) {
            heap.set(self.at + 8, record)?;
        }
        let (slot, rest) =
            self.descend(heap, own, |other| other == 0 || height(other) < height(record))?;
        heap.set(slot, record)?;
        self.divide(heap, rest, record)?;
        heap.add(self.at + 16, 1)
    }

    /// The way to a rank, until `ends` says so of what is there: where that is noted, and what it is.
    fn descend(
        self,
        heap: &Heap<'_>,
        rank: (u64, u64, At),
        ends: impl Fn(At) -> bool,
    ) -> Result<(At, At)> {
        let mut slot = self.at;
        for _ in 0..DEEPEST {
            let other = heap.follow(slot);
            if ends(other) {
                return Ok((slot, other));
            }
            if other == 0 {
                break;
            }
            slot = self.way(heap, other, rank);
        }
        Err(heap.damaged())
    }

    /// Hangs a tree below a record: what ranks lower on the one side, what ranks higher on the other.
    fn divide(self, heap: &mut Heap<'_>, mut rest: At, record: At) -> Result<()> {
        let own = self.rank(heap, record);
        let (mut lower, mut higher) = (self.lower(record), self.higher(record));
        for _ in 0..DEEPEST {
            if rest == 0 {
                break;
            }
            let slot = if self.rank(heap, rest) < own { &mut lower } else { &mut higher };
            heap.set(*slot, rest)?;
            *slot = self.way(heap, rest, own);
            rest = heap.follow(*slot);
        }
        if rest != 0 {
            return Err(heap.damaged());
        }
        heap.set(lower, 0)?;
        heap.set(higher, 0)
    }

    /// Takes the first one out; 0 where there is none.
    pub(super) fn pop(self, heap: &mut Heap<'_>) -> Result<At> {
        let first = self.first(heap);
        if first != 0 {
            self.remove(heap, first)?;
        }
        Ok(first)
    }

    pub(super) fn remove(self, heap: &mut Heap<'_>, record: At) -> Result<()> {
        if self.first(heap) == record {
            let second = self.second(heap)?;
            heap.set(self.at + 8, second)?;
        }
        let own = self.rank(heap, record);
        let (slot, _) = self.descend(heap, own, |other| other == record)?;
        self.join(heap, slot, record)?;
        heap.subtract(self.at + 16, 1)
    }

    /// Puts what hangs on both sides of a record in its place.
    fn join(self, heap: &mut Heap<'_>, mut slot: At, record: At) -> Result<()> {
        let (mut lower, mut higher) =
            (heap.follow(self.lower(record)), heap.follow(self.higher(record)));
        for _ in 0..DEEPEST {
            if lower == 0 || higher == 0 {
                return heap.set(slot, lower.max(higher));
            }
            if height(lower) >= height(higher) {
                heap.set(slot, lower)?;
                slot = self.higher(lower);
                lower = heap.follow(slot);
            } else {
                heap.set(slot, higher)?;
                slot = self.lower(higher);
                higher = heap.follow(slot);
            }
        }
        Err(heap.damaged())
    }

    /// The one behind the first.
    fn second(self, heap: &Heap<'_>) -> Result<At> {
        let (first, mut above, mut next) = (self.first(heap), 0, heap.follow(self.at));
        for _ in 0..DEEPEST {
            if next == first {
                next = heap.follow(self.higher(first));
                break;
            }
            if next == 0 {
                return Err(heap.damaged());
            }
            (above, next) = (next, heap.follow(self.lower(next)));
        }
        for _ in 0..DEEPEST {
            if next == 0 {
                return Ok(above);
            }
            (above, next) = (next, heap.follow(self.lower(next)));
        }
        Err(heap.damaged())
    }

    /// Where a record of that rank lies, seen from another one.
    fn way(self, heap: &Heap<'_>, other: At, rank: (u64, u64, At)) -> At {
        if rank < self.rank(heap, other) { self.lower(other) } else { self.higher(other) }
    }

    /// No two are equal: the place of a record is the last part of its rank.
    fn rank(self, heap: &Heap<'_>, record: At) -> (u64, u64, At) {
        (heap.get(record + self.number), heap.get(record + self.tie), record)
    }

    const fn lower(self, record: At) -> At {
        record + self.links
    }

    const fn higher(self, record: At) -> At {
        record + self.links + 8
    }
}

/// As good as random, and needs no memory: the place of a record, mixed (as splitmix64 does).
fn height(record: At) -> u64 {
    let mixed = (record ^ (record >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::crash_tests::{bus, step};
    use super::*;

    const NUMBER: u64 = 16;
    const SIZE: u64 = 24;

    fn depth(order: Treap, heap: &Heap<'_>, record: At) -> usize {
        if record == 0 {
            return 0;
        }
        let sides = [order.lower(record), order.higher(record)];
        1 + sides.map(|side| depth(order, heap, heap.get(side))).into_iter().max().unwrap_or(0)
    }

    fn add(heap: &mut Heap<'_>, order: Treap, number: u64) -> Result<At> {
        let record = heap.alloc(SIZE)?;
        heap.init(record + NUMBER, number);
        order.insert(heap, record)?;
        Ok(record)
    }

    fn empty(heap: &mut Heap<'_>) -> Result<Treap> {
        let at = heap.alloc(Treap::SIZE)?;
        (0..3).for_each(|word| heap.init(at + 8 * word, 0));
        Ok(Treap::new(at, 0, NUMBER, NUMBER))
    }

    #[test]
    fn records_come_in_order_whatever_is_put_in_and_taken_out() {
        let memory = bus();
        let order = step(&memory, |step| empty(step));
        let (mut known, mut chance) = (BTreeSet::new(), 1_u64);
        for round in 0..3000 {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(round);
            let number = chance >> 58;
            step(&memory, |step| {
                match known.iter().nth(usize::try_from(number).unwrap_or(0)).copied() {
                    Some((number, record)) if chance & (1 << 40) == 0 => {
                        known.remove(&(number, record));
                        order.remove(step, record)
                    }
                    _ => {
                        let record = add(step, order, number)?;
                        known.insert((number, record));
                        Ok(())
                    }
                }
            });
            if round % 100 == 0 {
                let heap = Heap::new(&memory);
                assert!(order.records(&heap).eq(known.iter().map(|(_, record)| *record)));
                assert_eq!(order.len(&heap), known.len() as u64);
                assert_eq!(order.first(&heap), known.first().map_or(0, |(_, record)| *record));
            }
        }
        let taken = step(&memory, |step| {
            let mut taken = Vec::new();
            while let record @ 1.. = order.pop(step)? {
                taken.push(record);
            }
            Ok(taken)
        });
        assert!(taken.into_iter().eq(known.into_iter().map(|(_, record)| record)));
    }

    #[test]
    fn what_comes_in_the_worst_order_is_found_as_quickly() {
        let memory = bus();
        let order = step(&memory, |step| empty(step));
        for number in 0..10_000 {
            step(&memory, |step| add(step, order, 10_000 - number));
        }
        let heap = Heap::new(&memory);
        let depth = depth(order, &heap, heap.get(order.at));
        assert!(depth < 80, "of 10,000 records one is {depth} deep");
    }
}
