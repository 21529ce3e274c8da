//! Dialling: one attempt, the first one, and for ever; whether a server can serve us at all.
//!
//! The one invariant: what fails is reported to the [`Standing`], which tells people. A connection
//! that was opened is its owner's.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use uuid::Uuid;

use super::options::RedisOptions;
use super::resp::{Fault, Pushes, Wire};
use super::standing::{Role, Standing};
use crate::error::{Error, ErrorKind, Result};

/// Opens connections to the one server.
#[derive(Debug)]
pub(super) struct Dialer {
    pub(super) options: RedisOptions,
    standing: Standing,
    /// Counts how often the server turned out not to be the one that takes the writes.
    doubts: watch::Sender<u64>,
}

impl Dialer {
    pub(super) fn new(options: RedisOptions) -> Self {
        let standing = Standing::new(options.shown());
        Self { options, standing, doubts: watch::Sender::new(0) }
    }

    /// How the connections stand.
    pub(super) fn standing(&self) -> &Standing {
        &self.standing
    }

    /// The first connection, whose failure is the user's to see; tried again until `until` where
    /// the failure is one that passes.
    pub(super) async fn dial_first(&self, until: Option<Instant>) -> Result<Wire> {
        let _dialing = self.standing.dialing(Role::Commands);
        let mut attempts = 0;
        loop {
            let fault = match self.open(Role::Commands, None).await {
                Ok(wire) => return Ok(wire),
                Err(fault) => fault,
            };
            attempts += 1;
            let pause = Instant::now() + back_off(attempts);
            let left = until.is_some_and(|until| pause < until);
            let (kind, why) = match fault {
                Fault::Lost(words) => (ErrorKind::Connection, self.not_there(&words)),
                Fault::Refused(refusal) if refusal.passes() => {
                    (ErrorKind::Connection, refusal.not_admitted())
                }
                Fault::Refused(refusal) => (ErrorKind::Config, refusal.not_admitted()),
            };
            if !left || kind == ErrorKind::Config {
                return Err(Error::new(kind, "connect", self.options.shown(), why));
            }
            self.standing.refused(Role::Commands, &why);
            sleep_until(pause).await;
        }
    }

    /// Why there is no server for us, in words that help: neither side of a connection of which one
    /// speaks TLS can tell what the other does.
    fn not_there(&self, words: &str) -> String {
        match self.options.tls {
            None => {
                format!("{words}; is a Redis server there? If it wants TLS, use rediss://")
            }
            Some(_) => {
                format!("{words}; is a Redis server with TLS there? If it wants none, use redis://")
            }
        }
    }

    /// Tries until a connection stands, waiting longer from time to time.
    pub(super) async fn dial(&self, role: Role, pushes: Option<Pushes>) -> Wire {
        let dialing = self.standing.dialing(role);
        let mut attempts = 0;
        loop {
            match self.open(role, pushes.clone()).await {
                Ok(wire) => {
                    dialing.done();
                    return wire;
                }
                Err(fault) => {
                    attempts += 1;
                    self.standing.refused(role, &self.trouble_of(&fault));
                    sleep(back_off(attempts)).await;
                }
            }
        }
    }

    fn trouble_of(&self, fault: &Fault) -> String {
        match fault {
            Fault::Lost(why) => why.clone(),
            Fault::Refused(refusal) => refusal.not_admitted(),
        }
    }

    /// One attempt: a connection to a server that can serve us.
    async fn open(&self, role: Role, pushes: Option<Pushes>) -> Result<Wire, Fault> {
        Wire::open(&self.options, role.name(), pushes).await
    }

    /// Notes that the server said no to who takes the writes: connections are made anew.
    pub(super) fn doubt(&self) {
        self.doubts.send_modify(|count| *count += 1);
    }

    /// Returns at the next doubt.
    pub(super) fn doubted(&self) -> impl Future<Output = ()> + use<> {
        let mut doubts = self.doubts.subscribe();
        async move {
            // An error says that the transport is gone; then nobody is left to wait.
            if doubts.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// 50 ms at first, doubling, later anything from 0.5 to 2 s: a thousand clients of a restarted
/// server should not come all at once.
fn back_off(attempts: u32) -> Duration {
    let limit = Duration::from_millis(50) * 2_u32.saturating_pow(attempts.saturating_sub(1).min(5));
    if attempts < 5 {
        jitter(limit / 2, limit)
    } else {
        jitter(Duration::from_millis(500), Duration::from_secs(2))
    }
}

/// A random length between two.
pub(super) fn jitter(least: Duration, most: Duration) -> Duration {
    // The library has one source of randomness already, and nothing here needs a better one.
    let part = (Uuid::new_v4().as_u128() & 0xFFFF) as u32;
    least + (most - least) * part / 0xFFFF
}
