//! The last commands of queues when the runtime ends before the bus was closed: the return of `main` is the
//! most common end of a program.
//!
//! The one invariant: what was settled is said first, then that what is still held goes back, in the
//! order in which a regular end does both. Nobody waits for an answer; what is not heard is as if the
//! process had been killed.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::consumer::Consumer;
use super::give_back::close_unheard;
use super::pending_settlement::PendingSettlement;
use super::roster::Roster;
use super::show::show_unheard;
use crate::transport::redis::resp::{Batch, Command};
use crate::transport::redis::script::Lesson;

/// Settlements that a task is to send: tasks end unrun with their runtime, settlements must not.
#[derive(Debug)]
pub(super) struct Parcel {
    consumer: Arc<Consumer>,
    settlements: Mutex<Vec<PendingSettlement>>,
}

impl Parcel {
    /// Takes what is in it; the first to come gets it.
    pub(super) fn open(&self) -> Vec<PendingSettlement> {
        std::mem::take(&mut *self.settlements.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        self.consumer.put_back(self.open());
    }
}

impl Roster {
    /// Makes a parcel for a task.
    pub(super) fn hand_on(
        &self,
        consumer: &Arc<Consumer>,
        settlements: Vec<PendingSettlement>,
    ) -> Arc<Parcel> {
        let settlements = Mutex::new(settlements);
        let parcel = Arc::new(Parcel { consumer: Arc::clone(consumer), settlements });
        let mut parcels = self.parcels();
        parcels.retain(|parcel| parcel.strong_count() > 0);
        parcels.push(Arc::downgrade(&parcel));
        parcel
    }

    /// Takes what is to be said. Does not wait, works on any thread.
    pub(crate) fn last_words(&self) -> Batch {
        let parcels = std::mem::take(&mut *self.parcels());
        let mut lesson = Lesson::default();
        let mut words = Vec::new();
        for parcel in parcels.iter().filter_map(Weak::upgrade) {
            words.extend(words_of(&parcel.consumer, &parcel.open(), &mut lesson));
        }
        for consumer in self.all() {
            words.extend(show_unheard(&consumer, &consumer.take_shown(), &mut lesson));
            words.extend(words_of(&consumer, &consumer.take_settlements(), &mut lesson));
            words.extend(close_unheard(&consumer, &mut lesson));
        }
        words.into_iter().collect()
    }
}

fn words_of(
    consumer: &Consumer,
    settlements: &[PendingSettlement],
    lesson: &mut Lesson,
) -> Vec<Command> {
    let keys = consumer.keys();
    settlements.iter().map(|settling| settling.last_command(keys, lesson)).collect()
}
