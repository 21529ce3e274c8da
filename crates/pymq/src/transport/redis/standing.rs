//! How our connections stand: what the state of the bus says, and what the log tells of it.
//!
//! The one invariant: what is lost, refused or found is told once, and again only when the reason
//! changes or a minute has passed; a connection that flaps is told of a few times a minute. It
//! opens no connection: those who do report here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::time::Instant;

use super::timing::TOLD_AGAIN;
use crate::transport::{State, StateSetter, States, states};

/// How often a minute one connection's news are told as warnings.
const NEWS: u32 = 10;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Role {
    Commands,
    /// Puts and settlements that replicas have to confirm.
    Changes,
    Subscriptions,
    Waiting,
}

impl Role {
    /// As the log and `CLIENT LIST` name it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Commands => "commands",
            Self::Changes => "changes",
            Self::Subscriptions => "subscriptions",
            Self::Waiting => "waiting",
        }
    }
}

/// All connections of a transport, or those for one slot of a cluster among them.
#[derive(Debug)]
pub(super) struct Standing {
    all: Arc<All>,
    /// Which ones are meant; 0 are those for everything that has no slot of its own.
    group: u32,
}

#[derive(Debug)]
struct All {
    server: String,
    state: StateSetter,
    roles: Mutex<Roles>,
}

#[derive(Debug, Default)]
struct Roles {
    missing: HashMap<(Role, u32), Missing>,
    /// How many dial for a role.
    dialing: HashMap<(Role, u32), usize>,
    news: HashMap<Role, News>,
    reconnects: u64,
}

/// A connection that should be there.
#[derive(Debug)]
struct Missing {
    since: SystemTime,
    why: String,
    told: Instant,
}

/// How much was told of late.
#[derive(Debug)]
struct News {
    minute: Instant,
    told: u32,
}

impl Standing {
    pub(super) fn new(server: String) -> Self {
        let (state, _) = states(State::connected());
        let all = Arc::new(All { server, state, roles: Mutex::default() });
        Self { all, group: 0 }
    }

    /// That of the connections for one slot, among all.
    pub(super) fn of_slot(&self, slot: u16) -> Self {
        Self { all: Arc::clone(&self.all), group: u32::from(slot) + 1 }
    }

    /// Whether it is that of one slot.
    pub(super) fn is_of_slot(&self) -> bool {
        self.group > 0
    }

    pub(super) fn states(&self) -> States {
        self.all.state.subscribe()
    }

    /// The server, as people write it.
    pub(super) fn server(&self) -> &str {
        &self.all.server
    }

    /// How all connections stand.
    pub(super) fn now(&self) -> State {
        self.all.state.now()
    }

    /// Why one of these connections is missing, if one is.
    pub(super) fn lacks(&self) -> Option<String> {
        self.lock().first_missing(|group| group == self.group).map(|(_, why)| why)
    }

    pub(super) fn reconnects(&self) -> u64 {
        self.lock().reconnects
    }

    /// Why there is no connection of that kind, for those who wait for one in vain.
    pub(super) fn trouble(&self, role: Role) -> String {
        let roles = self.lock();
        let missing = roles.missing.get(&(role, self.group));
        missing.map_or_else(|| "it was lost just now".to_owned(), |missing| missing.why.clone())
    }

    /// A connection that stood is gone.
    pub(super) fn lost(&self, role: Role, why: &str) {
        let mut roles = self.lock();
        let loud = roles.may_tell(role);
        roles.miss((role, self.group), why);
        self.set_state(&roles);
        drop(roles);
        let (server, role) = (self.server(), role.name());
        if loud {
            tracing::warn!(server, role, why, "lost the connection; reconnecting");
        } else {
            tracing::debug!(server, role, why, "lost the connection again; reconnecting");
        }
    }

    /// An attempt to connect failed.
    pub(super) fn refused(&self, role: Role, why: &str) {
        let mut roles = self.lock();
        let news = roles
            .missing
            .get(&(role, self.group))
            .is_none_or(|missing| missing.why != why || missing.told.elapsed() >= TOLD_AGAIN);
        let loud = news && roles.may_tell(role);
        roles.miss((role, self.group), why);
        self.set_state(&roles);
        drop(roles);
        let (server, role) = (self.server(), role.name());
        if loud {
            tracing::warn!(server, role, why, "cannot connect; trying on");
        } else {
            tracing::debug!(server, role, why, "cannot connect yet");
        }
    }

    /// The connection is there (again).
    fn found(&self, role: Role) {
        let mut roles = self.lock();
        let Some(missing) = roles.missing.remove(&(role, self.group)) else { return };
        roles.reconnects += 1;
        let loud = roles.may_tell(role);
        self.set_state(&roles);
        drop(roles);
        let away = missing.since.elapsed().unwrap_or_default();
        let (server, role) = (self.server(), role.name());
        if loud {
            tracing::info!(server, role, ?away, "the connection is back");
        } else {
            tracing::debug!(server, role, ?away, "the connection is back again");
        }
    }

    /// There will be no connection any more.
    pub(super) fn close(&self) {
        self.all.state.set(State::Closed);
    }

    /// Somebody dials, until what is returned is dropped.
    pub(super) fn dialing(&self, role: Role) -> Dialing<'_> {
        *self.lock().dialing.entry((role, self.group)).or_default() += 1;
        Dialing { standing: self, role }
    }

    fn set_state(&self, roles: &Roles) {
        let state = match roles.first_missing(|_| true) {
            Some((since, why)) => State::Away { since, why: why.into() },
            None if self.now().is_connected() => return,
            None => State::connected(),
        };
        self.all.state.set(state);
    }

    /// A panic cannot leave it half-changed, so a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, Roles> {
        self.all.roles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Roles {
    /// Since when the first connection of some groups is missing, and why.
    fn first_missing(&self, group: impl Fn(u32) -> bool) -> Option<(SystemTime, String)> {
        let missing = self.missing.iter().filter(|((_, one), _)| group(*one));
        let ((role, _), Missing { since, why, .. }) =
            missing.min_by_key(|(_, missing)| missing.since)?;
        Some((*since, format!("{}: {why}", role.name())))
    }

    fn miss(&mut self, role: (Role, u32), why: &str) {
        let now = Instant::now();
        let fresh = || Missing { since: SystemTime::now(), why: String::new(), told: now };
        let missing = self.missing.entry(role).or_insert_with(fresh);
        if missing.why != why || missing.told.elapsed() >= TOLD_AGAIN {
            missing.told = now;
            why.clone_into(&mut missing.why);
        }
    }

    fn may_tell(&mut self, role: Role) -> bool {
        let now = Instant::now();
        let news = self.news.entry(role).or_insert(News { minute: now, told: 0 });
        if now.duration_since(news.minute) >= TOLD_AGAIN {
            *news = News { minute: now, told: 0 };
        }
        news.told += 1;
        news.told <= NEWS
    }
}

/// Somebody who dials. What nobody dials for any more is not missed.
pub(super) struct Dialing<'a> {
    standing: &'a Standing,
    role: Role,
}

impl Dialing<'_> {
    /// The connection stands.
    pub(super) fn done(&self) {
        self.standing.found(self.role);
    }
}

impl Drop for Dialing<'_> {
    fn drop(&mut self) {
        let mut roles = self.standing.lock();
        let role = (self.role, self.standing.group);
        let left = roles.dialing.entry(role).or_default();
        *left = left.saturating_sub(1);
        if *left == 0 && roles.missing.remove(&role).is_some() {
            self.standing.set_state(&roles);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bus_is_away_while_any_connection_is_missing_and_says_why() {
        let standing = Standing::new("redis://h".to_owned());
        assert!(standing.now().is_connected());
        standing.lost(Role::Commands, "reset");
        let dialing = standing.dialing(Role::Commands);
        standing.refused(Role::Commands, "nobody there");
        assert_eq!(standing.now().to_string(), "away (commands: nobody there)");
        dialing.done();
        assert!(standing.now().is_connected());
        assert_eq!(standing.reconnects(), 1);
    }

    #[test]
    fn what_nobody_dials_for_any_more_is_not_missed() {
        let standing = Standing::new("redis://h".to_owned());
        let dialing = standing.dialing(Role::Waiting);
        standing.refused(Role::Waiting, "no place");
        assert!(!standing.now().is_connected());
        drop(dialing);
        assert!(standing.now().is_connected());
    }

    #[test]
    fn what_one_slot_lacks_is_missed_by_all_and_does_not_keep_the_others_from_their_work() {
        let all = Standing::new("redis+cluster://h".to_owned());
        let (one, other) = (all.of_slot(0), all.of_slot(1));
        one.lost(Role::Commands, "reset");
        assert!(!all.now().is_connected());
        assert_eq!((one.lacks().as_deref(), other.lacks()), (Some("commands: reset"), None));
        other.dialing(Role::Commands).done();
        assert!(!all.now().is_connected());
        one.dialing(Role::Commands).done();
        assert!(all.now().is_connected());
    }

    #[test]
    fn closed_stays_closed() {
        let standing = Standing::new("redis://h".to_owned());
        standing.close();
        standing.lost(Role::Commands, "cut");
        assert_eq!(standing.now(), State::Closed);
    }
}
