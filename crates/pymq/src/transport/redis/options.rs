//! How to reach a server: the address and what is said on arrival.
//!
//! The one invariant: nothing of this, printed in any way, shows the password. It only describes: it
//! opens no socket, and `address` reads it from a line of text.

use std::fmt;
use std::path::PathBuf;

use super::sentinel::RedisSentinels;
use super::timing::SLICE_AND_WAY;
use super::{address, tls};
use crate::error::{Error, Result};
use crate::transport::{Heartbeat, Settings};

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RedisEndpoint {
    /// A host name or address, and a port.
    Tcp(String, u16),
    /// A unix socket.
    Unix(PathBuf),
    /// Wherever these sentinels say that the master is.
    Sentinels(RedisSentinels),
    /// A cluster, of which these nodes are known: host and port of each.
    Cluster(Vec<(String, u16)>),
}

impl fmt::Display for RedisEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "redis://[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "redis://{host}:{port}"),
            Self::Unix(path) => write!(f, "redis+unix://{}", path.display()),
            Self::Sentinels(sentinels) => sentinels.fmt(f),
            Self::Cluster(hosts) => {
                f.write_str("redis+cluster://")?;
                write_hosts(f, hosts)
            }
        }
    }
}

/// Hosts and ports, with commas between them.
pub(super) fn write_hosts(f: &mut fmt::Formatter<'_>, hosts: &[(String, u16)]) -> fmt::Result {
    for (number, (host, port)) in hosts.iter().enumerate() {
        let comma = if number > 0 { "," } else { "" };
        match host.contains(':') {
            true => write!(f, "{comma}[{host}]:{port}")?,
            false => write!(f, "{comma}{host}:{port}")?,
        }
    }
    Ok(())
}

/// What [`Redis::with_options`](super::Redis::with_options) needs to know.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RedisOptions {
    /// Where the server listens.
    pub endpoint: RedisEndpoint,
    /// The database; 0 by default.
    pub database: i64,
    /// How many replicas have to have a put or a settlement before it counts as done; none by
    /// default. One that fewer have after 5 s, or the operation's own time, is `Ambiguous`.
    pub replicas: u32,
    /// Everything else: who logs in, whether TLS is spoken, and for how long what is tried. Without a
    /// user the server's default one logs in, without `client_name` a connection is called `pymq-`
    /// and its task.
    pub settings: Settings,
}

impl RedisOptions {
    /// The usual options for a server at `endpoint`.
    pub fn new(endpoint: RedisEndpoint) -> Self {
        Self { endpoint, database: 0, replicas: 0, settings: Settings::default() }
    }

    /// Reads an address: `redis://[user[:password]@][host][:port][/database][?word=value&…]`,
    /// `redis+unix://[user[:password]@]/path[?…]`, or the master that sentinels name,
    /// `redis+sentinel://[user[:password]@]host[:port][,host[:port]…]/master[/database][?…]`, or a
    /// cluster, `redis+cluster://[user[:password]@]host[:port][,host[:port]…][?…]`. With `rediss` in the
    /// place of `redis` TLS is spoken, to sentinels as well; `valkey` and `valkeys` mean the same.
    ///
    /// The words are those of [the page on addresses](https://github.com/pymq-rs/pymq/blob/main/docs/addresses.md);
    /// the `ssl_…` words of Python's redis-py are understood too. What stands for anything else is
    /// written percent-encoded.
    ///
    /// # Errors
    /// `Config` when the address cannot be read, or has a word that is not known; it is quoted
    /// without its password.
    pub fn from_url(url: &str) -> Result<Self> {
        address::read(url)
    }

    /// Refuses what could never work, and what would cut living connections, before anything is
    /// tried.
    ///
    /// # Errors
    /// `Config`, and `Unsupported` for TLS without the feature `tls`.
    pub(super) fn check(&self) -> Result<()> {
        let refused = |why: &str| Err(Error::config(self.shown(), why.to_owned()));
        let graphic = |name: &String| name.bytes().all(|byte| byte.is_ascii_graphic());
        if !self.settings.client_name.as_ref().is_none_or(graphic) {
            return refused("client_name may only have printable ASCII without spaces");
        }
        if self.database < 0 {
            return refused("a database is a number from 0 on");
        }
        if self.settings.connect_timeout().is_zero() {
            return refused("a connect_timeout is above zero: nothing answers at once");
        }
        if let RedisEndpoint::Sentinels(sentinels) = &self.endpoint
            && (sentinels.hosts.is_empty() || sentinels.master.is_empty())
        {
            return refused("sentinels need a host at least, and the name of the master");
        }
        if let RedisEndpoint::Cluster(hosts) = &self.endpoint {
            if hosts.is_empty() {
                return refused("a cluster needs a host at least");
            }
            if self.database != 0 {
                return refused("a cluster has the database 0 only; leave it out");
            }
        }
        let Heartbeat { period, limit } = self.settings.heartbeat.unwrap_or_default();
        if period.is_zero() || limit < SLICE_AND_WAY {
            return refused(
                "a heartbeat needs a period above zero and a limit of 6 s or more, since a \
                 waiting command is silent for 5 s",
            );
        }
        let Some(options) = &self.settings.tls else { return Ok(()) };
        if matches!(self.endpoint, RedisEndpoint::Unix(_)) {
            return refused("a unix socket has no TLS; leave it out, or give host and port");
        }
        if options.certificate.is_some() != options.key.is_some() {
            return refused(
                "a client certificate needs its key, and a key its certificate: give both",
            );
        }
        tls::check(self)
    }

    /// Where the server is, as people write it.
    pub(super) fn shown(&self) -> String {
        let shown = self.endpoint.to_string();
        match self.settings.tls {
            Some(_) => shown.replacen("redis", "rediss", 1),
            None => shown,
        }
    }

    /// The same with what a program says beside the address.
    ///
    /// # Errors
    /// `Config` for what the address says already.
    pub fn with_settings(mut self, settings: Settings) -> Result<Self> {
        let server = self.shown();
        self.settings = settings.over(self.settings).map_err(|setting| {
            let why = format!("the address says {setting:?} already; say it once");
            Error::config(server, why)
        })?;
        Ok(self)
    }
}
