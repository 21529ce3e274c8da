//! How to reach a server: the address and what is said on arrival.
//!
//! The one invariant: nothing of this, printed in any way, shows the password. It only describes; it
//! opens no socket.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::client;
use crate::error::{Error, Result};
use crate::transport::{Heartbeat, Limit, Settings};

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
            Self::Tcp(host, port) => write!(f, "redis://{host}:{port}"),
            Self::Unix(path) => write!(f, "redis+unix://{}", path.display()),
        }
    }
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
    /// The name that `CLIENT LIST` shows; `pymq-` and the connection's task unless told.
    pub client_name: Option<String>,
    /// How long one attempt to connect may take; 5 s unless told.
    pub connect_timeout: Duration,
    /// How long an operation waits for a lost connection to come back before it fails with
    /// `Connection`; 10 s unless told.
    pub reconnect_wait: Duration,
    /// How a dead connection is noticed. The limit is no less than 6 s: a command that waits for an
    /// item may take 5 s of it.
    pub heartbeat: Heartbeat,
    /// How much a subscriber may lag before it loses the oldest events.
    pub mailbox: Limit,
}

/// The least [`Heartbeat::limit`], see [`RedisOptions::heartbeat`].
const LEAST_LIMIT: Duration = Duration::from_secs(6);

impl RedisOptions {
    /// The usual options for a server at `endpoint`.
    pub fn new(endpoint: RedisEndpoint) -> Self {
        Self {
            endpoint,
            database: 0,
            username: None,
            password: None,
            client_name: None,
            connect_timeout: Duration::from_secs(5),
            reconnect_wait: Duration::from_secs(10),
            heartbeat: Heartbeat::default(),
            mailbox: Limit::default(),
        }
    }

    /// Reads `redis://[user[:password]@]host[:port][/database]` or
    /// `redis+unix:///path[?db=0&user=…&pass=…]`.
    ///
    /// # Errors
    /// `Config` when the address cannot be read; it is quoted without its password.
    pub fn from_url(url: &str) -> Result<Self> {
        client::read_url(url)
    }

    /// The same with what a program says beside the address.
    ///
    /// # Errors
    /// `Config` for what the address says already, `Unsupported` for what means nothing here.
    pub fn with_settings(mut self, mut settings: Settings) -> Result<Self> {
        let server = self.endpoint.to_string();
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
        self.client_name = settings.client_name.take().or(self.client_name);
        self.connect_timeout = settings.connect_timeout.take().unwrap_or(self.connect_timeout);
        self.reconnect_wait = settings.reconnect_wait.take().unwrap_or(self.reconnect_wait);
        self.heartbeat = settings.heartbeat.take().unwrap_or(self.heartbeat);
        self.mailbox = settings.mailbox.take().unwrap_or(self.mailbox);
        settings.refuse_rest(&server)?;
        Ok(self)
    }

    /// # Errors
    /// `Config` for an option that would cut living connections.
    pub(super) fn check(&self) -> Result<()> {
        let Heartbeat { period, limit } = self.heartbeat;
        if period.is_zero() || limit < LEAST_LIMIT {
            let why = "a heartbeat needs a period above zero and a limit of 6 s or more, since a \
                       waiting command is silent for 5 s";
            return Err(Error::config(self.endpoint.to_string(), why));
        }
        Ok(())
    }
}

impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisOptions")
            .field("endpoint", &self.endpoint)
            .field("database", &self.database)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "…"))
            .field("client_name", &self.client_name)
            .field("connect_timeout", &self.connect_timeout)
            .field("reconnect_wait", &self.reconnect_wait)
            .field("heartbeat", &self.heartbeat)
            .field("mailbox", &self.mailbox)
            .finish()
    }
}

/// An address with whatever stands for a password replaced.
pub(super) fn without_password(url: &str) -> String {
    let (url, query) = match url.split_once('?') {
        Some((url, query)) => (url, Some(query)),
        None => (url, None),
    };
    let mut shown = match (url.split_once("://"), url.rfind('@')) {
        (Some((scheme, _)), Some(at)) if at > scheme.len() => {
            let credentials = &url[scheme.len() + 3..at];
            let user = credentials.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}:…{}", &url[at..])
        }
        _ => url.to_owned(),
    };
    if let Some(query) = query {
        let words: Vec<_> = query.split('&').map(if_harmless).collect();
        shown = format!("{shown}?{}", words.join("&"));
    }
    shown
}

fn if_harmless(word: &str) -> &str {
    if word.starts_with("pass") { "pass=…" } else { word }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_whole() {
        let options = RedisOptions::from_url("redis://me:p%40ss@example.org:7000/3").expect("ok");
        assert_eq!(options.endpoint, RedisEndpoint::Tcp("example.org".into(), 7000));
        assert_eq!(options.database, 3);
        assert_eq!(options.username.as_deref(), Some("me"));
        assert_eq!(options.password.as_deref(), Some("p@ss"));
    }

    #[test]
    fn a_unix_address_names_a_path_and_a_database() {
        let options = RedisOptions::from_url("redis+unix:///run/redis.sock?db=2").expect("ok");
        assert_eq!(options.endpoint, RedisEndpoint::Unix("/run/redis.sock".into()));
        assert_eq!(options.database, 2);
    }

    #[test]
    fn errors_and_debug_texts_never_show_the_password() {
        for url in [
            "redis://me:secret@h:port/0",
            "redis://:secret@h/x",
            "redis+unix:///s?pass=secret&db=x",
        ] {
            let error = RedisOptions::from_url(url).expect_err("not an address");
            assert_eq!(error.kind(), crate::ErrorKind::Config);
            assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
        }
        let options = RedisOptions::from_url("redis://me:secret@h/1").expect("ok");
        assert!(!format!("{options:?}").contains("secret"));
    }
}
