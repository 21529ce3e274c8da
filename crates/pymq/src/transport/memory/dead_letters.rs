//! The dead letters of a queue, oldest first, with what is known of their ends.
//!
//! The invariant: a letter keeps its number for as long as it lies here, and numbers grow, so that
//! who has looked can name one.

use std::collections::BTreeMap;
use std::time::SystemTime;

use bytes::Bytes;

use super::unleased::Item;
use crate::transport::{DeadLetter, Failure, Letters, Receipt};

#[derive(Default)]
pub(super) struct DeadLetters(BTreeMap<u64, Letter>);

/// An item at its end.
pub(super) struct Letter {
    pub(super) item: Item,
    failure: Failure,
    died: SystemTime,
}

impl DeadLetters {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn bury(&mut self, number: u64, item: Item, failure: Failure) {
        self.0.insert(number, Letter { item, failure, died: SystemTime::now() });
    }

    /// Takes the oldest out, until no more than `most` are left; 0 is all.
    pub(super) fn shorten(&mut self, most: usize) -> Vec<Bytes> {
        let excess = if most == 0 { 0 } else { self.0.len().saturating_sub(most) };
        let oldest = self.take(&Letters::Oldest(excess));
        oldest.into_iter().map(|letter| letter.item.payload).collect()
    }

    /// Takes some out, oldest first.
    pub(super) fn take(&mut self, which: &Letters) -> Vec<Letter> {
        match which {
            Letters::Oldest(count) => {
                let count = *count.min(&self.0.len());
                (0..count).filter_map(|_| self.0.pop_first()).map(|(_, letter)| letter).collect()
            }
            Letters::These(receipts) => {
                let mut numbers: Vec<u64> = receipts.iter().map(|these| these.number).collect();
                numbers.sort_unstable();
                numbers.iter().filter_map(|number| self.0.remove(number)).collect()
            }
        }
    }

    pub(super) fn payloads(&self) -> impl Iterator<Item = &Bytes> {
        self.0.values().map(|letter| &letter.item.payload)
    }

    pub(super) fn look(&self, skip: usize, limit: usize) -> Vec<DeadLetter> {
        let letters = self.0.iter().skip(skip).take(limit);
        letters.map(|(number, letter)| letter.shown(*number)).collect()
    }
}

impl Letter {
    fn shown(&self, number: u64) -> DeadLetter {
        let receipt = Receipt { stored: Bytes::new(), number };
        let mut shown = DeadLetter::new(self.item.payload.clone(), receipt);
        shown.failure = self.failure.clone();
        shown.deliveries = Some(self.item.deliveries);
        shown.died = Some(self.died);
        shown
    }
}
