//! Lists of records, in the order in which they were put there.
//!
//! The invariant: a record is in a list once, and its links are words of its own, so that it leaves
//! without being looked for; its neighbours lead to it, or the file is damaged.

use super::heap::{At, Heap};
use crate::error::Result;

/// A list: the place of its first, its last and its number, and where in a record its links are.
#[derive(Clone, Copy)]
pub(super) struct List {
    at: At,
    links: u64,
}

impl List {
    /// How many bytes a list takes.
    pub(super) const SIZE: u64 = 24;

    pub(super) const fn new(at: At, links: u64) -> Self {
        Self { at, links }
    }

    pub(super) fn first(self, heap: &Heap<'_>) -> At {
        heap.follow(self.at)
    }

    pub(super) fn last(self, heap: &Heap<'_>) -> At {
        heap.follow(self.at + 8)
    }

    pub(super) fn len(self, heap: &Heap<'_>) -> u64 {
        heap.get(self.at + 16)
    }

    pub(super) fn next(self, heap: &Heap<'_>, record: At) -> At {
        heap.follow(record + self.links + 8)
    }

    pub(super) fn previous(self, heap: &Heap<'_>, record: At) -> At {
        heap.follow(record + self.links)
    }

    /// All of its records, at most as many as it says it has.
    pub(super) fn records<'h>(self, heap: &'h Heap<'_>) -> impl Iterator<Item = At> + use<'h> {
        let (mut next, mut left) = (self.first(heap), self.len(heap).min(heap.most_records()));
        std::iter::from_fn(move || {
            let record = next;
            if record == 0 || left == 0 {
                return None;
            }
            (next, left) = (self.next(heap, record), left - 1);
            Some(record)
        })
    }

    pub(super) fn push_back(self, heap: &mut Heap<'_>, record: At) -> Result<()> {
        self.insert_after(heap, record, self.last(heap))
    }

    pub(super) fn push_front(self, heap: &mut Heap<'_>, record: At) -> Result<()> {
        self.insert_after(heap, record, 0)
    }

    /// Behind another one; at the head where that is none.
    fn insert_after(self, heap: &mut Heap<'_>, record: At, other: At) -> Result<()> {
        let next = match other {
            0 => self.first(heap),
            other => self.next(heap, other),
        };
        heap.set(record + self.links, other)?;
        heap.set(record + self.links + 8, next)?;
        heap.set(if other == 0 { self.at } else { other + self.links + 8 }, record)?;
        heap.set(if next == 0 { self.at + 8 } else { next + self.links }, record)?;
        heap.add(self.at + 16, 1)
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
        let (before, after) = (self.previous(heap, record), self.next(heap, record));
        let leads_here = if before == 0 { self.first(heap) } else { self.next(heap, before) };
        let leads_back = if after == 0 { self.last(heap) } else { self.previous(heap, after) };
        if record == 0 || (leads_here, leads_back) != (record, record) {
            return Err(heap.damaged());
        }
        heap.set(if before == 0 { self.at } else { before + self.links + 8 }, after)?;
        heap.set(if after == 0 { self.at + 8 } else { after + self.links }, before)?;
        heap.subtract(self.at + 16, 1)
    }
}
