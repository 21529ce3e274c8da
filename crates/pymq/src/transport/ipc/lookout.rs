//! How a connection notices that others have died, and what makes up for every call that was lost.
//!
//! The invariant: connections stand in a ring, each watches over the one that joined before it, and the
//! first over the last. The system wakes whoever watches over one that dies, so that a death is noticed
//! at once and nobody has to look; where the system is too old for that, all look often. Whoever
//! watches may die too, or stand still: so all look around now and then.

use std::time::{Duration, Instant};

use super::futex::tells_of_deaths;
use super::hub::{Busy, Hub};

/// How often a connection looks around that holds items, or did so just now: its beat says that it runs.
const HOLDING: Duration = Duration::from_millis(100);
/// That waits for some: it may be its turn, because somebody was called who does not come.
const WAITING: Duration = Duration::from_millis(250);
/// That does neither.
const IDLE: Duration = Duration::from_secs(1);
/// Where the system does not tell of deaths.
const BLIND: Duration = Duration::from_millis(50);
/// How soon it is tried again when the lock of the bus was not free.
const AGAIN: Duration = Duration::from_millis(10);

/// What one connection knows of the others' lives.
pub(super) struct Lookout<'a> {
    hub: &'a Hub,
    /// Who was there at the last look, as a number that changes.
    members: u64,
    /// The slot of the one it watches over.
    over: Option<u64>,
    /// The one that was found to be gone.
    gone: Option<u64>,
    looked: Instant,
    /// When it looks again at the latest.
    due: Instant,
    /// Until when it is taken to hold items, since it has taken some.
    holds_until: Instant,
}

impl<'a> Lookout<'a> {
    /// Has not looked yet.
    pub(super) fn new(hub: &'a Hub) -> Self {
        let now = Instant::now();
        Self { hub, members: 0, over: None, gone: None, looked: now, due: now, holds_until: now }
    }

    /// Looks around if it is time, or somebody has come or gone. Says when it is time next.
    pub(super) fn look(&mut self, now: Instant) -> Instant {
        let (members, next) = (self.hub.members(), self.next(now));
        if members == self.members && now < next {
            return next;
        }
        // Read before the look: whoever comes meanwhile is news.
        (self.members, self.looked) = (members, now);
        self.due = match self.hub.look_around() {
            Some(over) => {
                // One that is still there could not be buried; others try too.
                let gone = self.gone.take();
                self.over = over.filter(|slot| Some(*slot) != gone);
                now + IDLE
            }
            None => now + AGAIN,
        };
        self.next(now)
    }

    /// Sleeps until somebody rings, the one watched over is gone, or `next` has come.
    pub(super) fn sleep(&mut self, now: Instant, next: Instant) {
        let dozes = next > now + HOLDING;
        self.hub.doze(dozes);
        if self.hub.sleep(next.saturating_duration_since(now), self.members, self.over) {
            (self.gone, self.due) = (self.over, Instant::now());
        }
        if dozes && !self.hub.doze(false) {
            self.holds_until = Instant::now() + IDLE;
        }
    }

    fn next(&self, now: Instant) -> Instant {
        let interval = match self.hub.busy() {
            _ if !tells_of_deaths() => BLIND,
            Busy::Holding => HOLDING,
            _ if now < self.holds_until => HOLDING,
            Busy::Waiting => WAITING,
            Busy::Idle => IDLE,
        };
        self.due.min(self.looked + interval)
    }
}
