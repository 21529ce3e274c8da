//! What the thread of a connection watches for: work, what is due, and the lives of others.
//!
//! The invariant: it sleeps only where nothing is to be done, and whoever has something for it rings.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::super::heap::{At, Heap};
use super::super::layout::{MEMBERS, beacon, beat, bell};
use super::super::system::{awake, now};
use super::super::{addresses, peers, shelves, waits};
use super::{BRIEF, Hub};
use crate::transport::{Sender, State};

/// What a connection has to do with queues.
pub(in super::super) enum Busy {
    Holding,
    Waiting,
    Idle,
}

impl Hub {
    /// Notes that something is due at a queue where somebody waits.
    pub(in super::super) fn note_due(&self, queue: &str, due: Option<u64>) {
        let mut recipients = self.recipients();
        let Some(due) = due else {
            recipients.dues.remove(queue);
            return;
        };
        let earlier = recipients.dues.values().min().is_none_or(|first| due < *first);
        recipients.dues.insert(queue.into(), due);
        drop(recipients);
        if earlier {
            self.memory.ring(bell(self.slot));
        }
    }

    /// Sleeps until somebody rings, something is due, whoever is in the slot `over` is gone, or `most`
    /// has passed; not if there is work, or others are there than `members` says. Says whether the one
    /// in that slot is gone.
    pub(in super::super) fn sleep(&self, most: Duration, members: u64, over: Option<u64>) -> bool {
        let (memory, bell) = (&self.memory, bell(self.slot));
        let since = memory.drowse(bell);
        // What lies in its slot may be another one's, where it is lost.
        let post = !self.attended.load(Ordering::SeqCst) && self.lost.get().is_none();
        let work = post && peers::has_post(&Heap::new(memory), self.peer)
            || !self.lock_backlog().jobs.is_empty()
            || self.members() != members
            || self.is_ending();
        if work {
            memory.rise(bell);
            return false;
        }
        let due = self.recipients().dues.values().min().copied();
        let left = due.map(|due| Duration::from_nanos(due.saturating_sub(now())));
        let most = left.map_or(most, |left| left.min(most));
        memory.sleep(bell, since, over.map(beacon), most)
    }

    /// Says that its thread sleeps for long from now on, or does not; what was so before.
    pub(in super::super) fn doze(&self, dozes: bool) -> bool {
        self.dozes.swap(dozes, Ordering::SeqCst)
    }

    /// Shows that it runs, where its thread does not do so often enough for one that takes items; in the
    /// step that takes them.
    pub(in super::super) fn show_life(&self) {
        if self.dozes.load(Ordering::SeqCst) {
            self.memory.store(beat(self.slot), awake());
        }
    }

    /// Notes that it holds items: from now on its thread shows that it runs.
    pub(in super::super) fn hold(&self, items: impl IntoIterator<Item = (u64, At)>) {
        self.recipients().leases.extend(items);
        if self.doze(false) {
            self.memory.ring(bell(self.slot));
        }
    }

    pub(in super::super) fn busy(&self) -> Busy {
        let recipients = self.recipients();
        match (recipients.leases.is_empty(), recipients.bells.is_empty()) {
            (false, _) => Busy::Holding,
            (true, false) => Busy::Waiting,
            (true, true) => Busy::Idle,
        }
    }

    /// A number that changes when somebody comes or goes.
    pub(in super::super) fn members(&self) -> u64 {
        self.memory.load(MEMBERS)
    }

    /// Lines up what is due by now, where somebody of ours waits for it.
    pub(in super::super) fn ripen(&self) {
        let now = now();
        let mut recipients = self.recipients();
        let due: Vec<Box<str>> = recipients
            .dues
            .iter()
            .filter(|(_, due)| **due <= now)
            .map(|(queue, _)| queue.clone())
            .collect();
        recipients.dues.retain(|_, due| *due > now);
        drop(recipients);
        for queue in due {
            let next = self.attempt(BRIEF, "claim", &queue, |step| {
                let found = shelves::named(step, &queue);
                if found == 0 {
                    return Ok(None);
                }
                shelves::ripen(step, found)?;
                Ok(shelves::next_due(step, found))
            });
            match next {
                Ok(Some(Some(next))) => self.note_due(&queue, Some(next)),
                // The lock was not free; soon.
                Ok(None) => self.note_due(&queue, Some(now + 1_000_000)),
                _ => {}
            }
        }
    }

    /// Looks who has died, and after those who wait: what makes up for every bell that nobody heard.
    /// Says in which slot the one is whom this connection watches over; `None` if the lock was not free.
    pub(in super::super) fn look_around(&self) -> Option<Option<u64>> {
        self.memory.store(beat(self.slot), awake());
        self.memory.measure();
        if self.memory.is_deleted() || !self.place.is_at_its_place(&self.memory) {
            self.lose("the file of this bus was deleted");
        }
        let looked = self.attempt(BRIEF, "tick", "ipc://", |step| {
            // First, so that the dead are noticed whatever fails below.
            let mut living = peers::slots(step);
            living.retain(|slot| {
                let peer = peers::in_slot(step, *slot);
                peer != self.peer && step.lives(peer)
            });
            for slot in living {
                peers::look_whether_it_runs(step, slot)?;
            }
            addresses::expire(step)?;
            step.cool()?;
            waits::look_after(step, self.peer)?;
            let before = peers::in_ring(step, self.peer);
            Ok((before != self.slot).then_some(before))
        });
        looked.unwrap_or_else(|error| {
            tracing::debug!(%error, "a look at the other connections failed");
            Some(None)
        })
    }

    /// Tells whoever waits for something here, once it turned out that the file is damaged.
    pub(in super::super) fn look_for_damage(&self) {
        if self.memory.is_damaged() {
            self.lose("the shared file of this bus is damaged");
        }
    }

    /// Tells all who wait that nothing will come any more.
    pub(super) fn lose(&self, why: &'static str) {
        if self.lost.set(why).is_err() {
            return;
        }
        self.state.set(State::away(why));
        let (events, letters) = {
            let recipients = self.recipients();
            let events =
                recipients.subscriptions.values().map(|subscribed| subscribed.sender.clone());
            let letters = recipients.seats.values().cloned();
            (events.collect::<Vec<_>>(), letters.collect::<Vec<_>>())
        };
        for events in events {
            events.refused(why);
            events.close();
        }
        // Whoever waits for an answer asks again, which tells it.
        letters.iter().for_each(Sender::gap);
        self.wake_all();
    }
}
