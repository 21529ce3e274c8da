//! How our connections stand: what the state of the bus says, and what the log tells of it.
//!
//! The one invariant: what is lost, refused or found is told once, and again only when the reason
//! changes or a minute has passed; a connection that flaps is told of a few times a minute. It
//! opens no connection: those who do report here.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
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

/// All connections to one server.
#[derive(Debug)]
pub(super) struct Standing {
    server: String,
    state: StateSetter,
    roles: Mutex<Roles>,
}

#[derive(Debug, Default)]
struct Roles {
    missing: HashMap<Role, Missing>,
    /// How many dial for a role.
    dialing: HashMap<Role, usize>,
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
        Self { server, state, roles: Mutex::default() }
    }

    pub(super) fn states(&self) -> States {
        self.state.subscribe()
    }

    /// The server, as people write it.
    pub(super) fn server(&self) -> &str {
        &self.server
    }

    pub(super) fn now(&self) -> State {
        self.state.now()
    }

    pub(super) fn reconnects(&self) -> u64 {
        self.lock().reconnects
    }

    /// Why there is no connection of that kind, for those who wait for one in vain.
    pub(super) fn trouble(&self, role: Role) -> String {
        let roles = self.lock();
        let missing = roles.missing.get(&role);
        missing.map_or_else(|| "it was lost just now".to_owned(), |missing| missing.why.clone())
    }

    /// A connection that stood is gone.
    pub(super) fn lost(&self, role: Role, why: &str) {
        let mut roles = self.lock();
        let loud = roles.may_tell(role);
        roles.miss(role, why);
        self.set_state(&roles);
        drop(roles);
        let (server, role) = (&*self.server, role.name());
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
            .get(&role)
            .is_none_or(|missing| missing.why != why || missing.told.elapsed() >= TOLD_AGAIN);
        let loud = news && roles.may_tell(role);
        roles.miss(role, why);
        self.set_state(&roles);
        drop(roles);
        let (server, role) = (&*self.server, role.name());
        if loud {
            tracing::warn!(server, role, why, "cannot connect; trying on");
        } else {
            tracing::debug!(server, role, why, "cannot connect yet");
        }
    }

    /// The connection is there (again).
    fn found(&self, role: Role) {
        let mut roles = self.lock();
        let Some(missing) = roles.missing.remove(&role) else { return };
        roles.reconnects += 1;
        let loud = roles.may_tell(role);
        self.set_state(&roles);
        drop(roles);
        let away = missing.since.elapsed().unwrap_or_default();
        let (server, role) = (&*self.server, role.name());
        if loud {
            tracing::info!(server, role, ?away, "the connection is back");
        } else {
            tracing::debug!(server, role, ?away, "the connection is back again");
        }
    }

    /// There will be no connection any more.
    pub(super) fn close(&self) {
        self.state.set(State::Closed);
    }

    /// Somebody dials, until what is returned is dropped.
    pub(super) fn dialing(&self, role: Role) -> Dialing<'_> {
        *self.lock().dialing.entry(role).or_default() += 1;
        Dialing { standing: self, role }
    }

    fn set_state(&self, roles: &Roles) {
        let first = roles.missing.iter().min_by_key(|(_, missing)| missing.since);
        let state = match first {
            Some((role, Missing { since, why, .. })) => {
                State::Away { since: *since, why: format!("{}: {why}", role.name()).into() }
            }
            None if self.state.now().is_connected() => return,
            None => State::connected(),
        };
        self.state.set(state);
    }

    /// A panic cannot leave it half-changed, so a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, Roles> {
        self.roles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Roles {
    fn miss(&mut self, role: Role, why: &str) {
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
        let left = roles.dialing.entry(self.role).or_default();
        *left = left.saturating_sub(1);
        if *left == 0 && roles.missing.remove(&self.role).is_some() {
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
    fn closed_stays_closed() {
        let standing = Standing::new("redis://h".to_owned());
        standing.close();
        standing.lost(Role::Commands, "cut");
        assert_eq!(standing.now(), State::Closed);
    }
}
