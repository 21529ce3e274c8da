//! How a bus is connected when its address does not say everything.
//!
//! The one invariant: what is given is honoured or refused by name when it connects, nothing is
//! silently ignored. It holds no connection.

use std::fmt;
use std::time::Duration;

use crate::bus::Bus;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::name::Namespace;
use crate::transport::{self, Heartbeat, Limit, Settings, Tls};
use crate::wire::LARGEST_MESSAGE;

/// What a bus is connected with; made by [`Bus::builder`].
///
/// ```
/// use pymq::{Bus, ErrorKind, transport::Limit};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
/// let bus = Bus::builder("memory://")
///     .namespace("shop")
///     .mailbox(Limit { messages: 1000, bytes: 1 << 20 })
///     .largest_message(64 << 10)
///     .connect()
///     .await?;
/// let error = bus.topic("notes").publish(&"x".repeat(100_000)).await.unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Encode);
///
/// let error = Bus::builder("memory://").password("secret").connect().await.unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Unsupported); // there is nobody to log in to
/// # Ok(()) }
/// ```
///
/// Which settings a transport honours:
///
/// | setting | `memory://`, `ipc://` | `redis://`, `rediss://`, `redis+unix://`, `redis+sentinel://`, `redis+cluster://` |
/// |---|---|---|
/// | [`namespace`](Self::namespace), [`largest_message`](Self::largest_message), [`mailbox`](Self::mailbox), [`call_timeout`](Self::call_timeout) | yes | yes |
/// | [`username`](Self::username), [`password`](Self::password), [`client_name`](Self::client_name) | `Unsupported` | yes |
/// | [`tls`](Self::tls) | `Unsupported` | yes, for sentinels as well; not on a unix socket |
/// | [`connect_wait`](Self::connect_wait) | yes: there is nothing to wait for | yes |
/// | [`connect_timeout`](Self::connect_timeout), [`reconnect_wait`](Self::reconnect_wait), [`heartbeat`](Self::heartbeat) | `Unsupported` | yes |
///
/// Two things that Python's bus has to be told are not here. How far tags from the wire are trusted:
/// in Rust the receiver's type alone decides what is made of a message, and tags are read past. How
/// deep a message may nest: 200 levels on both sides, so that every peer reads what another writes.
#[derive(Clone)]
#[must_use = "a builder does nothing until it connects"]
pub struct BusBuilder {
    url: String,
    namespace: Namespace,
    limits: Limits,
    settings: Settings,
}

impl BusBuilder {
    pub(crate) fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            namespace: Namespace::default(),
            limits: Limits::default(),
            settings: Settings::default(),
        }
    }

    /// The namespace; `global` by default. Programs see each other within one only.
    pub fn namespace(mut self, name: &str) -> Self {
        self.namespace = Namespace::new(name);
        self
    }

    pub(crate) fn within(mut self, namespace: Namespace) -> Self {
        self.namespace = namespace;
        self
    }

    /// The user to log in as, where the address does not name one; at a master, not at its sentinels.
    pub fn username(mut self, username: impl Into<String>) -> Self {
        self.settings.username = Some(username.into());
        self
    }

    /// The password, so that it need not stand in the address. It is shown nowhere.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.settings.password = Some(password.into());
        self
    }

    /// That TLS is to be spoken, and how, where the address does not say it already. Needs the
    /// feature `tls`.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.settings.tls = Some(tls);
        self
    }

    /// The name by which the broker's own tools show our connections.
    pub fn client_name(mut self, name: impl Into<String>) -> Self {
        self.settings.client_name = Some(name.into());
        self
    }

    /// How long one attempt to connect may take; 5 s by default.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.settings.connect_timeout = Some(timeout);
        self
    }

    /// How long connecting waits for a broker that is not there yet, does not serve yet or is full;
    /// by default a first attempt that fails is the caller's to know at once.
    pub fn connect_wait(mut self, wait: Duration) -> Self {
        self.settings.connect_wait = Some(wait);
        self
    }

    /// How long an operation waits for a lost connection to come back before it fails with
    /// `Connection`; 10 s by default.
    pub fn reconnect_wait(mut self, wait: Duration) -> Self {
        self.settings.reconnect_wait = Some(wait);
        self
    }

    /// How often the broker is asked for a sign of life, and for how long it may give none before
    /// the connection is made anew; 5 s and 10 s by default. The limit is 6 s or more, since a
    /// command that waits for an item may be silent for 5 s.
    pub fn heartbeat(mut self, period: Duration, limit: Duration) -> Self {
        self.settings.heartbeat = Some(Heartbeat { period, limit });
        self
    }

    /// How much each subscription holds before it loses the oldest events and says so; 65,536
    /// messages or 64 MiB by default. Requests to exposed functions come through such a mailbox
    /// too; those that it loses are asked again by their callers.
    pub fn mailbox(mut self, limit: Limit) -> Self {
        self.settings.mailbox = Some(limit);
        self
    }

    /// The largest event, item, arguments or result that this bus sends, in bytes as encoded; by
    /// default 16 MiB. No peer reads more than that in one message, so for arguments and results what
    /// goes around them, a few hundred bytes, counts as well.
    pub fn largest_message(mut self, bytes: usize) -> Self {
        self.limits.largest_message = bytes;
        self
    }

    /// How long a call may take that has no timeout of its own; by default as long as a provider
    /// lives, see [`CallOptions::timeout`](crate::CallOptions::timeout).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use pymq::{Bus, ErrorKind};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
    /// let bus = Bus::builder("memory://").call_timeout(Duration::from_millis(50)).connect().await?;
    /// let endless = |(): ()| std::future::pending::<Result<i64, String>>();
    /// let _service = bus.expose_fn("endless", endless).await?;
    /// let error = bus.stub::<(), i64>("endless").call(()).await.unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Timeout);
    /// # Ok(()) }
    /// ```
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.limits.call_timeout = Some(timeout);
        self
    }

    /// Connects. Its tasks run on the tokio runtime that it is called on.
    ///
    /// # Errors
    /// `Config` for an address or setting that cannot be used, `Unsupported` for a setting that the
    /// transport cannot honour, `Connection` if the server cannot be reached.
    pub async fn connect(self) -> Result<Bus> {
        self.check()?;
        let Self { url, namespace, limits, settings } = self;
        let transport = transport::connect_with(&url, settings).await?;
        Bus::with_limits(transport, namespace, limits)
    }

    fn check(&self) -> Result<()> {
        self.namespace.check()?;
        let bad = |setting: &str, why: &str| Err(Error::config(setting, why.to_owned()));
        if !(1..=LARGEST_MESSAGE).contains(&self.limits.largest_message) {
            return bad("largest_message", "it is 1 byte to 16 MiB: no peer reads more");
        }
        match self.settings.mailbox {
            Some(Limit { messages, bytes }) if messages == 0 || bytes == 0 => {
                bad("mailbox", "it holds at least one message and one byte")
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for BusBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Anything behind the scheme may be a piece of a password.
        let scheme = self.url.split_once("://").map_or("", |(scheme, _)| scheme);
        f.debug_struct("BusBuilder")
            .field("url", &format_args!("{scheme}://…"))
            .field("namespace", &self.namespace)
            .field("limits", &self.limits)
            .field("settings", &self.settings)
            .finish()
    }
}
