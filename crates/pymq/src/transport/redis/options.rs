//! How to reach a server: the address and what is said on arrival.
//!
//! The one invariant: nothing of this, printed in any way, shows the password. It only describes: it
//! opens no socket, and `address` reads it from a line of text.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::{address, tls};
use crate::error::{Error, Result};

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisEndpoint {
    /// A host name or address, and a port.
    Tcp(String, u16),
    /// A unix socket.
    Unix(PathBuf),
}

impl fmt::Display for RedisEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "redis://[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "redis://{host}:{port}"),
            Self::Unix(path) => write!(f, "redis+unix://{}", path.display()),
        }
    }
}

/// How far the certificate of a server is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsVerification {
    /// It was signed by who is trusted, and names the host that we connect to.
    #[default]
    Full,
    /// It was signed by who is trusted, for whatever host: whoever has any certificate of that
    /// authority can pose as the server.
    Chain,
    /// Not at all: whoever is between us and the server can read and change everything, the
    /// password too. Each connection made so is logged as a warning.
    Nothing,
}

/// How TLS is spoken; by default with the system's trusted authorities and no certificate of ours.
///
/// The files are read for each new connection, so that renewed ones are used from the next
/// reconnect on. TLS 1.2 and 1.3 are spoken, nothing older.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedisTls {
    /// The authorities trusted instead of the system's: a PEM file, or a folder of them as OpenSSL
    /// has it.
    pub ca: Option<PathBuf>,
    /// Our certificate, and what leads from it to its authority: a PEM file. Needs `key`.
    pub certificate: Option<PathBuf>,
    /// The private key of `certificate`: a PEM file without a password.
    pub key: Option<PathBuf>,
    /// How far the server's certificate is looked at.
    pub verification: TlsVerification,
}

/// What [`Redis::with_options`](super::Redis::with_options) needs to know.
#[derive(Clone)]
#[non_exhaustive]
pub struct RedisOptions {
    /// Where the server listens.
    pub endpoint: RedisEndpoint,
    /// The database; 0 unless told.
    pub database: i64,
    /// The ACL user; the server's default user unless told.
    pub username: Option<String>,
    /// The password.
    pub password: Option<String>,
    /// Whether and how TLS is spoken; not at all unless told. Needs the feature `tls`.
    pub tls: Option<RedisTls>,
    /// The name that `CLIENT LIST` shows for each connection; `pymq-` and the connection's task
    /// unless told. The server takes printable ASCII without spaces.
    pub client_name: Option<String>,
    /// How long one attempt to connect may take; 5 s unless told.
    pub connect_timeout: Duration,
    /// How long an operation waits for a lost connection to come back before it fails with
    /// `Connection`; 10 s unless told.
    pub reconnect_wait: Duration,
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
            reconnect_wait: Duration::from_secs(10),
        }
    }

    /// Reads an address: `redis://[user[:password]@][host][:port][/database][?word=value&…]`,
    /// `rediss://` (TLS), or `redis+unix://[user[:password]@]/path[?…]`.
    ///
    /// The words are `db`, `user`, `pass`, `client_name`, `connect_timeout` and `reconnect_wait`
    /// (seconds), and with TLS `ca`, `cert`, `key` (paths) and `verify` (`full`, `chain`, `none`);
    /// the `ssl_…` words of Python's redis-py are understood too. What stands for anything else is
    /// written percent-encoded.
    ///
    /// # Errors
    /// `Config` when the address cannot be read, or has a word that is not known; it is quoted
    /// without its password. `Unsupported` for TLS without the feature `tls`.
    pub fn from_url(url: &str) -> Result<Self> {
        let options = address::read(url)?;
        options.check()?;
        Ok(options)
    }

    /// Refuses what could never work, before anything is tried.
    pub(super) fn check(&self) -> Result<()> {
        let refused = |why: &str| Err(Error::config(self.shown(), why.to_owned()));
        let graphic = |name: &String| name.bytes().all(|byte| byte.is_ascii_graphic());
        if !self.client_name.as_ref().is_none_or(graphic) {
            return refused("client_name may only have printable ASCII without spaces");
        }
        if self.database < 0 {
            return refused("a database is a number from 0 on");
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
            Some(_) => shown.replacen("redis://", "rediss://", 1),
            None => shown,
        }
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
            .field("reconnect_wait", &self.reconnect_wait)
            .finish()
    }
}
