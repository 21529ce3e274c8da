//! A socket to the server: opened, introduced, watched.
//!
//! The one invariant: a [`Socket`] that was given out has been let in by a server that serves, and it
//! is cut when the server gives no sign of life for too long. A cut socket does not come back.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};

use super::command::{Batch, Command, Written};
use super::driver::{Driver, Pushes};
use super::exchange::{Exchange, LastWords};
use super::hello::{self, Expected};
use super::posts::Posted;
use super::reply::{Fault, Reply};
use crate::transport::Heartbeat;
use crate::transport::redis::options::{RedisEndpoint, RedisOptions};
use crate::transport::redis::refusal::{Cause, Refusal};
use crate::transport::redis::tls;

/// The commands whose answers are confirmations, one for each name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subscribing {
    To,
    ToPatterns,
    /// To a channel that a node has for as long as it has its slot.
    ToSlot,
    NoMore,
    NoMorePatterns,
}

impl Subscribing {
    fn name(self) -> &'static str {
        match self {
            Self::To => "SUBSCRIBE",
            Self::ToPatterns => "PSUBSCRIBE",
            Self::ToSlot => "SSUBSCRIBE",
            Self::NoMore => "UNSUBSCRIBE",
            Self::NoMorePatterns => "PUNSUBSCRIBE",
        }
    }
}

/// What a new socket introduces itself with, and which kind of server it expects.
#[derive(Clone, Copy)]
struct Guest<'a> {
    options: &'a RedisOptions,
    expected: Expected,
    role: &'a str,
}

/// One socket to the server. Its tasks end with its last clone, or when it is [`cut`](Self::cut).
#[derive(Clone, Debug)]
pub(crate) struct Socket(Arc<Life>);

/// The same while somebody else keeps it.
#[derive(Debug, Default)]
pub(crate) struct WeakSocket(Weak<Life>);

impl WeakSocket {
    /// The socket, if anybody has it still.
    pub(crate) fn upgrade(&self) -> Option<Socket> {
        self.0.upgrade().map(Socket)
    }
}

struct Life {
    exchange: Arc<Exchange>,
    /// Where it leads, over TCP.
    place: Option<(String, u16)>,
    driver: AbortHandle,
    pulse: AbortHandle,
    /// The server's number of this client.
    id: Option<i64>,
    /// What its user says that it is for just now; 0 is nothing.
    label: AtomicU32,
}

impl std::fmt::Debug for Life {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socket").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.pulse.abort();
        self.driver.abort();
    }
}

impl Socket {
    /// Whether sockets can be opened on this runtime. Tokio has no question for it, and says so when it is
    /// too late to be told by an error.
    #[cfg(unix)]
    pub(crate) fn can_be_opened() -> bool {
        std::panic::catch_unwind(|| drop(tokio::net::UnixDatagram::unbound())).is_ok()
    }

    /// It is not known on this system.
    #[cfg(not(unix))]
    pub(crate) fn can_be_opened() -> bool {
        true
    }

    /// Connects, introduces itself and makes sure that the server serves.
    pub(crate) async fn open(
        options: &RedisOptions,
        expected: Expected,
        role: &str,
        pushes: Option<Pushes>,
    ) -> Result<Self, Fault> {
        let limit = options.settings.connect_timeout();
        let guest = Guest { options, expected, role };
        match timeout(limit, Self::open_slowly(guest, pushes)).await {
            Ok(result) => result,
            Err(_) => Err(Fault::Lost(format!("no answer within {limit:?}"))),
        }
    }

    async fn open_slowly(guest: Guest<'_>, pushes: Option<Pushes>) -> Result<Self, Fault> {
        let options = guest.options;
        let lost = |error: io::Error| Fault::Lost(error.to_string());
        match &options.endpoint {
            RedisEndpoint::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(lost)?;
                stream.set_nodelay(true).map_err(lost)?;
                let Some(how) = &options.settings.tls else {
                    return Self::introduce(stream, Arc::default(), guest, pushes).await;
                };
                let stream = tls::secure(stream, host, how).await?;
                let exchange = Arc::<Exchange>::default();
                let socket = Self::introduce(stream, Arc::clone(&exchange), guest, pushes).await;
                socket.map_err(|fault| tls::explain(fault, exchange.failure(), how))
            }
            #[cfg(unix)]
            RedisEndpoint::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(lost)?;
                Self::introduce(stream, Arc::default(), guest, pushes).await
            }
            RedisEndpoint::Sentinels(_) | RedisEndpoint::Cluster(_) => {
                let why = "one of several servers is to be found first";
                Err(Fault::Refused(Refusal::found(Cause::Other, why)))
            }
            #[cfg(not(unix))]
            RedisEndpoint::Unix(_) => {
                let why = "there are no unix sockets on this system";
                Err(Fault::Refused(Refusal::found(Cause::Other, why)))
            }
        }
    }

    async fn introduce<S>(
        stream: S,
        exchange: Arc<Exchange>,
        guest: Guest<'_>,
        pushes: Option<Pushes>,
    ) -> Result<Self, Fault>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let driver = Driver::new(stream, Arc::clone(&exchange), pushes);
        let driver = tokio::spawn(driver.run()).abort_handle();
        let pulse = pulse(
            Arc::clone(&exchange),
            driver.clone(),
            guest.options.settings.heartbeat.unwrap_or_default(),
        );
        let pulse = tokio::spawn(pulse).abort_handle();
        let place = match &guest.options.endpoint {
            RedisEndpoint::Tcp(host, port) => Some((host.clone(), *port)),
            _ => None,
        };
        let label = AtomicU32::default();
        let mut socket = Life { exchange, place, driver, pulse, id: None, label };
        socket.id = match greet(&socket.exchange, guest).await {
            Ok(id) => id,
            // Its last words say more than that the connection ended.
            Err(Fault::Lost(why)) => {
                let refused = socket.exchange.parting().cloned().map(Fault::Refused);
                return Err(refused.unwrap_or(Fault::Lost(why)));
            }
            Err(fault) => return Err(fault),
        };
        Ok(Self(Arc::new(socket)))
    }

    /// The server's number of this client, for `CLIENT UNBLOCK`.
    pub(crate) fn id(&self) -> Option<i64> {
        self.0.id
    }

    /// Host and port, where it was opened over TCP.
    pub(crate) fn place(&self) -> Option<&(String, u16)> {
        self.0.place.as_ref()
    }

    /// What it is for just now, as its user said.
    pub(crate) fn label(&self) -> u32 {
        self.0.label.load(Ordering::SeqCst)
    }

    /// Says what it is for from now on; 0 is nothing.
    pub(crate) fn set_label(&self, label: u32) {
        self.0.label.store(label, Ordering::SeqCst);
    }

    /// The same, which does not keep the socket.
    pub(crate) fn downgrade(&self) -> WeakSocket {
        WeakSocket(Arc::downgrade(&self.0))
    }

    /// Whether the socket is thought to live.
    pub(crate) fn is_alive(&self) -> bool {
        !self.0.exchange.end().is_reached()
    }

    /// Returns when the socket is gone.
    pub(crate) async fn ended(&self) {
        self.0.exchange.end().wait().await;
    }

    /// What a speaker has to say if the runtime ends before the socket does; `None` is nothing. They speak
    /// in the order in which they were set.
    pub(crate) fn set_last_words(&self, speaker: u64, words: Option<LastWords>) {
        self.0.exchange.set_last_words(speaker, words);
    }

    /// Says the last words now; does not wait.
    pub(crate) fn say_last_words(&self) {
        self.0.exchange.say_last_words();
    }

    /// Ends the socket and everything that waits on it.
    pub(crate) fn cut(&self) {
        self.0.exchange.forget_last_words();
        self.0.pulse.abort();
        self.0.driver.abort();
    }

    /// Ends the socket when that happens, for that reason; does not keep it alive until then.
    pub(crate) fn cut_when(
        &self,
        happens: impl Future<Output = ()> + Send + 'static,
        why: &'static str,
    ) {
        let (exchange, driver) = (Arc::clone(&self.0.exchange), self.0.driver.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = exchange.end().wait() => {}
                () = happens => {
                    exchange.forget_last_words();
                    exchange.fail(why);
                    driver.abort();
                }
            }
        });
    }

    /// Does one command. Dropping the future does not undo a command that was sent.
    pub(crate) async fn run(&self, command: &impl Written) -> Result<Reply, Fault> {
        refusal(self.0.exchange.ask(command).await?)
    }

    /// Writes a command for whose answer nobody waits; waits for room only.
    pub(crate) async fn post(&self, command: &Command, posted: Posted) {
        self.0.exchange.post(command, posted).await;
    }

    /// The same if there is room now; else nothing is done.
    pub(crate) fn post_now(&self, command: &Command, posted: Posted) -> Result<(), Posted> {
        self.0.exchange.post_now(command, posted)
    }

    /// Does several commands in one write; a refused one is a [`Reply::Refused`] in its place.
    pub(crate) async fn pipeline(&self, batch: &Batch) -> Result<Vec<Reply>, Fault> {
        self.0.exchange.ask_all(batch).await
    }

    /// Subscribes to, or unsubscribes from, all names in one command; returns when the server has
    /// confirmed each.
    pub(crate) async fn subscribing<T: AsRef<str>>(
        &self,
        how: Subscribing,
        names: &[T],
    ) -> Result<(), Fault> {
        if names.is_empty() {
            return Ok(());
        }
        let command = Command::new(how.name()).args(names.iter().map(AsRef::as_ref));
        refusal(self.0.exchange.ask_confirmations(&command, names.len()).await?).map(drop)
    }
}

fn refusal(reply: Reply) -> Result<Reply, Fault> {
    match reply {
        Reply::Refused(refusal) => Err(Fault::Refused(refusal)),
        reply => Ok(reply),
    }
}

/// Asks for a sign of life from time to time, and ends a driver that gives none for too long.
async fn pulse(exchange: Arc<Exchange>, driver: AbortHandle, heartbeat: Heartbeat) {
    let ping = Command::new("PING");
    loop {
        sleep(heartbeat.period).await;
        exchange.was_heard();
        let asked = Instant::now();
        let mut answer = std::pin::pin!(exchange.ask(&ping));
        loop {
            match timeout(heartbeat.limit, &mut answer).await {
                Ok(Ok(_)) => break,
                Ok(Err(_)) => return,
                Err(_) if exchange.was_heard() => {}
                Err(_) => {
                    tracing::warn!(silent = ?asked.elapsed(), "the server is silent; reconnecting");
                    exchange.forget_last_words();
                    driver.abort();
                    return;
                }
            }
        }
    }
}

/// Says who we are and makes sure that the server serves (a loading one does not). Gives the
/// server's number of this client.
async fn greet(exchange: &Exchange, guest: Guest<'_>) -> Result<Option<i64>, Fault> {
    let Guest { options, role, .. } = guest;
    let name = options.settings.client_name.clone().unwrap_or_else(|| format!("pymq-{role}"));
    let mut hello = Command::new("HELLO").arg("3");
    if let Some(password) = &options.settings.password {
        let user = options.settings.username.as_deref().unwrap_or("default");
        hello = hello.arg("AUTH").arg(user).arg(password);
    }
    let mut greeting = Batch::from_iter([hello.arg("SETNAME").arg(name)]);
    if options.database != 0 {
        greeting.extend([Command::new("SELECT").number(options.database)]);
    }
    greeting.extend([Command::new("PING")]);
    let mut replies = exchange.ask_all(&greeting).await?.into_iter();
    let server = refusal(replies.next().unwrap_or(Reply::Nothing))?;
    let ping = replies.next_back();
    for reply in replies {
        refusal(reply)?;
    }
    match ping {
        Some(Reply::Refused(refusal)) if refusal.cause() == Cause::Loading => {
            Err(Fault::Lost(refusal.to_string()))
        }
        // PING may be forbidden, which is no reason not to serve.
        _ => {
            examine(exchange, &server, guest.expected).await?;
            Ok(field(server, b"id").and_then(|id| id.number()))
        }
    }
}

/// Refuses a server that cannot serve us.
async fn examine(exchange: &Exchange, server: &Reply, expected: Expected) -> Result<(), Fault> {
    let nodes = if expected == Expected::Server && hello::is_clustered(server) {
        hello::nodes(exchange.ask(&Command::new("CLUSTER").arg("INFO")).await?)
    } else {
        None
    };
    hello::check(server, nodes, expected).map_err(Fault::Refused)
}

/// A field of a map.
fn field(map: Reply, name: &[u8]) -> Option<Reply> {
    let mut items = map.items().into_iter();
    while let (Some(key), Some(value)) = (items.next(), items.next()) {
        if key.bytes().is_some_and(|key| *key == *name) {
            return Some(value);
        }
    }
    None
}
