//! Dialling: one attempt, the first one, and for ever; whether a server can serve us at all.
//!
//! The one invariant: what fails is reported to the [`Standing`], which tells people. A connection
//! that was opened is its owner's.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use uuid::Uuid;

use super::options::{RedisEndpoint, RedisOptions};
use super::resp::{Expected, Fault, Pushes, Wire};
use super::sentinel::Master;
use super::standing::{Role, Standing};
use crate::error::{Error, ErrorKind, Result};

/// Opens connections to the one server that takes the writes.
#[derive(Debug)]
pub(super) struct Dialer {
    pub(super) options: RedisOptions,
    standing: Standing,
    /// Who that is, where sentinels know.
    master: Option<Master>,
    /// Counts how often the server turned out not to be the one that takes the writes.
    doubts: watch::Sender<u64>,
}

impl Dialer {
    /// Needs a runtime.
    pub(super) fn new(options: RedisOptions) -> Self {
        let standing = Standing::new(options.shown());
        let master = match &options.endpoint {
            RedisEndpoint::Sentinels(sentinels) => Some(Master::watch(sentinels.clone(), &options)),
            _ => None,
        };
        Self { options, standing, master, doubts: watch::Sender::new(0) }
    }

    /// There will be no connection any more.
    pub(super) fn close(&self) {
        self.standing.close();
        if let Some(master) = &self.master {
            master.close();
        }
    }

    /// The server as it is known at the time: of several the one that takes the writes.
    pub(super) fn server(&self) -> String {
        let master = self.master.as_ref().and_then(Master::shown);
        master.unwrap_or_else(|| self.standing.server().to_owned())
    }

    /// How the connections stand.
    pub(super) fn standing(&self) -> &Standing {
        &self.standing
    }

    /// The first connection, whose failure is the user's to see; tried again until `until` where
    /// the failure is one that passes.
    pub(super) async fn dial_first(&self, role: Role, until: Option<Instant>) -> Result<Wire> {
        let _dialing = self.standing.dialing(role);
        let mut attempts = 0;
        loop {
            let news = self.news();
            let fault = match self.open(role, None).await {
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
            self.standing.refused(role, &why);
            tokio::select! {
                () = sleep_until(pause) => {}
                () = news => {}
            }
        }
    }

    /// Why there is no server for us, in words that help: neither side of a connection of which one
    /// speaks TLS can tell what the other does.
    fn not_there(&self, words: &str) -> String {
        if self.master.is_some() {
            return words.to_owned();
        }
        match self.options.settings.tls {
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
            // Asked for before the attempt, so that nothing is missed during it.
            let news = self.news();
            match self.open(role, pushes.clone()).await {
                Ok(wire) => {
                    dialing.done();
                    return wire;
                }
                Err(fault) => {
                    attempts += 1;
                    self.standing.refused(role, &self.trouble_of(&fault));
                    tokio::select! {
                        () = sleep(back_off(attempts)) => {}
                        () = news => {}
                    }
                }
            }
        }
    }

    /// Returns when another server may be worth an attempt.
    fn news(&self) -> impl Future<Output = ()> + Send + use<> {
        let news = self.master.as_ref().map(Master::news);
        async move {
            match news {
                Some(news) => news.await,
                None => std::future::pending().await,
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
        match &self.master {
            None => Wire::open(&self.options, Expected::Server, role.name(), pushes).await,
            Some(master) => master.open(role.name(), pushes).await,
        }
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
pub(super) fn back_off(attempts: u32) -> Duration {
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
