//! How to reach a server: the address and what is said on arrival.
//!
//! The one invariant: nothing of this, printed in any way, shows the password. It only describes: it
//! opens no socket, and `address` reads it from a line of text.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::sentinel::RedisSentinels;
use super::timing::SLICE_AND_WAY;
use super::{address, tls};
use crate::error::{Error, Result};
use crate::transport::{Heartbeat, Limit, Settings, Tls};

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
}

impl fmt::Display for RedisEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "redis://[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "redis://{host}:{port}"),
            Self::Unix(path) => write!(f, "redis+unix://{}", path.display()),
            Self::Sentinels(sentinels) => sentinels.fmt(f),
        }
    }
}

/// What [`Redis::with_options`](super::Redis::with_options) needs to know.
#[derive(Clone)]
#[non_exhaustive]
pub struct RedisOptions {
    /// Where the server listens.
    pub endpoint: RedisEndpoint,
    /// The database; 0 by default.
    pub database: i64,
    /// The ACL user; the server's default user by default.
    pub username: Option<String>,
    /// The password.
    pub password: Option<String>,
    /// Whether and how TLS is spoken; not at all by default. Needs the feature `tls`.
    pub tls: Option<Tls>,
    /// The name that `CLIENT LIST` shows for each connection; `pymq-` and the connection's task
    /// by default. The server takes printable ASCII without spaces.
    pub client_name: Option<String>,
    /// How long one attempt to connect may take; 5 s by default.
    pub connect_timeout: Duration,
    /// How long connecting waits for a server that is not there yet, does not serve yet or is full;
    /// not at all by default.
    pub connect_wait: Duration,
    /// How long an operation waits for a lost connection to come back before it fails with
    /// `Connection`; 10 s by default.
    pub reconnect_wait: Duration,
    /// How many replicas have to have a put or a settlement before it counts as done; none by
    /// default. One that fewer have after 5 s, or the operation's own time, is `Ambiguous`.
    pub replicas: u32,
    /// How a dead connection is noticed. The limit is no less than 6 s: a command that waits for an
    /// item may take 5 s of it.
    pub heartbeat: Heartbeat,
    /// How much a subscriber may lag before it loses the oldest events.
    pub mailbox: Limit,
}

impl RedisOptions {
    /// The usual options for a server at `endpoint`.
    pub fn new(endpoint: RedisEndpoint) -> Self {
        Self {
            endpoint,
            database: 0,
            username: None,
            password: None,
            tls: None,
            client_name: None,
            connect_timeout: Duration::from_secs(5),
            connect_wait: Duration::ZERO,
            reconnect_wait: Duration::from_secs(10),
            replicas: 0,
            heartbeat: Heartbeat::default(),
            mailbox: Limit::default(),
        }
    }

    /// Reads an address: `redis://[user[:password]@][host][:port][/database][?word=value&…]`,
    /// `redis+unix://[user[:password]@]/path[?…]`, or the master that sentinels name,
    /// `redis+sentinel://[user[:password]@]host[:port][,host[:port]…]/master[/database][?…]`. With
    /// `rediss` in the place of `redis` TLS is spoken, to sentinels as well; `valkey` and `valkeys`
    /// mean the same.
    ///
    /// The words are `db`, `user`, `pass`, `client_name`, `connect_timeout` and `reconnect_wait`
    /// (seconds), `replicas`, `sentinel_username` and `sentinel_password`, and with TLS `ca`, `cert`, `key` (paths) and `verify` (`full`, `chain`, `none`);
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
        if !self.client_name.as_ref().is_none_or(graphic) {
            return refused("client_name may only have printable ASCII without spaces");
        }
        if self.database < 0 {
            return refused("a database is a number from 0 on");
        }
        if self.connect_timeout.is_zero() {
            return refused("a connect_timeout is above zero: nothing answers at once");
        }
        if let RedisEndpoint::Sentinels(sentinels) = &self.endpoint
            && (sentinels.hosts.is_empty() || sentinels.master.is_empty())
        {
            return refused("sentinels need a host at least, and the name of the master");
        }
        let Heartbeat { period, limit } = self.heartbeat;
        if period.is_zero() || limit < SLICE_AND_WAY {
            return refused(
                "a heartbeat needs a period above zero and a limit of 6 s or more, since a \
                 waiting command is silent for 5 s",
            );
        }
        let Some(options) = &self.tls else { return Ok(()) };
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
        match self.tls {
            Some(_) => shown.replacen("redis", "rediss", 1),
            None => shown,
        }
    }

    /// The same with what a program says beside the address.
    ///
    /// # Errors
    /// `Config` for what the address says already, `Unsupported` for what means nothing here.
    pub fn with_settings(mut self, mut settings: Settings) -> Result<Self> {
        let server = self.shown();
        let said = |setting| {
            let why = format!("the address says {setting:?} already; say it once");
            Error::config(server.as_str(), why)
        };
        match (&self.username, settings.username.take()) {
            (Some(_), Some(_)) => return Err(said("username")),
            (None, username) => self.username = username,
            (Some(_), None) => {}
        }
        match (&self.password, settings.password.take()) {
            (Some(_), Some(_)) => return Err(said("password")),
            (None, password) => self.password = password,
            (Some(_), None) => {}
        }
        match (&self.tls, settings.tls.take()) {
            (Some(tls), Some(_)) if *tls != Tls::default() => return Err(said("tls")),
            (_, Some(tls)) => self.tls = Some(tls),
            (_, None) => {}
        }
        self.client_name = settings.client_name.take().or(self.client_name);
        self.connect_timeout = settings.connect_timeout.take().unwrap_or(self.connect_timeout);
        self.connect_wait = settings.connect_wait.take().unwrap_or(self.connect_wait);
        self.reconnect_wait = settings.reconnect_wait.take().unwrap_or(self.reconnect_wait);
        self.heartbeat = settings.heartbeat.take().unwrap_or(self.heartbeat);
        self.mailbox = settings.mailbox.take().unwrap_or(self.mailbox);
        settings.refuse_rest(&server)?;
        Ok(self)
    }
}

impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisOptions")
            .field("endpoint", &self.endpoint)
            .field("database", &self.database)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "…"))
            .field("tls", &self.tls)
            .field("client_name", &self.client_name)
            .field("connect_timeout", &self.connect_timeout)
            .field("connect_wait", &self.connect_wait)
            .field("reconnect_wait", &self.reconnect_wait)
            .field("replicas", &self.replicas)
            .field("heartbeat", &self.heartbeat)
            .field("mailbox", &self.mailbox)
            .finish()
    }
}
