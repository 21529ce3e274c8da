//! The seam to the client crate: one socket, commands in, replies and pushes out.
//!
//! This is the only file that names the crate `redis`; whatever replaces that crate replaces this
//! file and nothing above it. A [`Wire`] is one socket and lives once: it never reconnects, which is
//! its owner's business.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind as CrateErrorKind, ProtocolVersion, PushInfo, PushKind,
    RedisConnectionInfo, RedisError, RedisResult, Value,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};

use super::end::End;
use super::options::{RedisEndpoint, RedisOptions};
use super::refusal::{Cause, Refusal};
use super::tls;
use crate::transport::Heartbeat;

/// Commands that may wait for the driver at once; each of its rounds writes all that are there.
const PIPELINE: usize = 4096;

/// A command: words in, encoded once.
#[derive(Clone)]
pub(super) struct Command(Cmd);

impl Command {
    /// A command of that name.
    pub(super) fn new(name: &str) -> Self {
        Self(redis::cmd(name))
    }

    /// The same with room for that many bytes of arguments.
    pub(super) fn with_room(name: &str, bytes: usize) -> Self {
        let mut command = Cmd::with_capacity(4, bytes + name.len());
        command.arg(name);
        Self(command)
    }

    /// Appends a word.
    pub(super) fn arg(mut self, word: impl AsRef<[u8]>) -> Self {
        self.0.arg(word.as_ref());
        self
    }

    /// Appends words.
    pub(super) fn args<T: AsRef<[u8]>>(mut self, words: impl IntoIterator<Item = T>) -> Self {
        for word in words {
            self.0.arg(word.as_ref());
        }
        self
    }

    /// Appends a number.
    pub(super) fn number(mut self, number: impl TryInto<i64>) -> Self {
        self.0.arg(number.try_into().unwrap_or(i64::MAX));
        self
    }
}

/// Several commands that go in one write.
pub(super) struct Batch(redis::Pipeline);

impl FromIterator<Command> for Batch {
    fn from_iter<T: IntoIterator<Item = Command>>(commands: T) -> Self {
        let mut batch = Self(redis::Pipeline::new());
        batch.extend(commands);
        batch
    }
}

impl Extend<Command> for Batch {
    fn extend<T: IntoIterator<Item = Command>>(&mut self, commands: T) {
        for command in commands {
            self.0.add_command(command.0);
        }
    }
}

/// What a server answers.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reply {
    Nothing,
    Number(i64),
    Bytes(Bytes),
    List(Vec<Reply>),
    /// The command failed; the connection is well.
    Refused(Refusal),
}

impl Reply {
    fn new(value: Value) -> Self {
        match value {
            Value::Int(number) => Self::Number(number),
            Value::BulkString(bytes) => Self::Bytes(Bytes::from(bytes)),
            Value::Array(items) | Value::Set(items) => {
                Self::List(items.into_iter().map(Self::new).collect())
            }
            Value::Okay => Self::Bytes(Bytes::from_static(b"OK")),
            Value::SimpleString(text) => Self::Bytes(Bytes::from(text)),
            Value::VerbatimString { text, .. } => Self::Bytes(Bytes::from(text)),
            Value::Boolean(truth) => Self::Number(i64::from(truth)),
            Value::ServerError(error) => {
                let details = error.details().unwrap_or_default();
                let words = format!("{} {details}", error.code());
                Self::Refused(Refusal::new(words.trim_end()))
            }
            _ => Self::Nothing,
        }
    }

    /// The number, where there is one.
    pub(super) fn number(&self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// The bytes, where there are any.
    pub(super) fn bytes(self) -> Option<Bytes> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The items of a list; anything else has none.
    pub(super) fn items(self) -> Vec<Reply> {
        match self {
            Self::List(items) => items,
            _ => Vec::new(),
        }
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fault {
    /// The connection is gone; what was sent may have been done.
    Lost(String),
    /// The server refused.
    Refused(Refusal),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(why) => f.write_str(why),
            Self::Refused(refusal) => refusal.fmt(f),
        }
    }
}

impl Fault {
    fn new(error: &RedisError) -> Self {
        match error.kind() {
            // The crate's other kinds are words of the server, or of its own about options.
            CrateErrorKind::Io | CrateErrorKind::Parse => Self::Lost(error.to_string()),
            _ => Self::Refused(Refusal::new(match error.code() {
                Some(code) => format!("{code} {}", error.detail().unwrap_or_default()),
                None => error.to_string(),
            })),
        }
    }
}

/// What a server sends unasked.
pub(super) enum Push<'a> {
    Message { topic: &'a [u8], payload: Bytes },
    PatternMessage { pattern: &'a [u8], topic: &'a [u8], payload: Bytes },
}

/// Takes pushes; runs in the wire's own task, so it must not wait.
pub(super) type Pushes = Arc<dyn Fn(Push<'_>) + Send + Sync>;

/// The four commands whose answers are confirmations, one for each name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subscribing {
    To,
    ToPatterns,
    NoMore,
    NoMorePatterns,
}

/// One socket to the server. Its tasks end with its last clone, or when it is [`cut`](Self::cut).
#[derive(Clone)]
pub(super) struct Wire(Arc<Life>);

struct Life {
    connection: MultiplexedConnection,
    driver: AbortHandle,
    pulse: AbortHandle,
    end: Arc<End>,
    /// The server's number of this client, where we may know it.
    id: Option<i64>,
}

impl Drop for Life {
    fn drop(&mut self) {
        self.pulse.abort();
        self.driver.abort();
    }
}

impl Wire {
    /// Connects, introduces itself and makes sure that the server serves.
    pub(super) async fn open(
        options: &RedisOptions,
        role: &str,
        pushes: Option<Pushes>,
    ) -> Result<Self, Fault> {
        let limit = options.connect_timeout;
        match timeout(limit, Self::open_slowly(options, role, pushes)).await {
            Ok(result) => result,
            Err(_) => Err(Fault::Lost(format!("no answer within {limit:?}"))),
        }
    }

    async fn open_slowly(
        options: &RedisOptions,
        role: &str,
        pushes: Option<Pushes>,
    ) -> Result<Self, Fault> {
        let lost = |error: io::Error| Fault::Lost(error.to_string());
        match &options.endpoint {
            RedisEndpoint::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(lost)?;
                stream.set_nodelay(true).map_err(lost)?;
                let Some(how) = &options.tls else {
                    return Self::introduce(stream, Arc::default(), options, role, pushes).await;
                };
                let ear = Arc::<Ear>::default();
                let stream = tls::secure(stream, host, how).await?;
                let wire = Self::introduce(stream, Arc::clone(&ear), options, role, pushes).await;
                wire.map_err(|fault| tls::explain(fault, ear.failure.get(), how))
            }
            RedisEndpoint::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(lost)?;
                Self::introduce(stream, Arc::default(), options, role, pushes).await
            }
        }
    }

    async fn introduce<S>(
        stream: S,
        ear: Arc<Ear>,
        options: &RedisOptions,
        role: &str,
        pushes: Option<Pushes>,
    ) -> Result<Self, Fault>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let stream = Listened { stream, ear: Arc::clone(&ear) };
        // The crate's own limit of 500 ms an answer would end blocking commands, and a slow server
        // is not a dead one: the pulse alone decides.
        let mut config = AsyncConnectionConfig::new()
            .set_response_timeout(None)
            .set_connection_timeout(None)
            .set_pipeline_buffer_size(PIPELINE);
        if let Some(pushes) = pushes {
            config = config.set_push_sender(move |push| hand_over(push, &*pushes));
        }
        let settings = settings(options);
        let (connection, driver) =
            MultiplexedConnection::new_with_config(&settings, stream, config)
                .await
                .map_err(|error| Fault::new(&error))?;
        let end = Arc::<End>::default();
        let ending = Ending(Arc::clone(&end));
        let driver = tokio::spawn(async move {
            driver.await;
            drop(ending);
        })
        .abort_handle();
        let pulse = pulse(connection.clone(), driver.clone(), ear, options.heartbeat);
        let pulse = tokio::spawn(pulse).abort_handle();
        let mut wire = Life { connection, driver, pulse, end, id: None };
        wire.id = greet(&wire.connection, options, role).await?;
        Ok(Self(Arc::new(wire)))
    }

    /// The server's number of this client, for `CLIENT UNBLOCK`.
    pub(super) fn id(&self) -> Option<i64> {
        self.0.id
    }

    /// Whether the socket is thought to live.
    pub(super) fn is_alive(&self) -> bool {
        !self.0.end.is_reached()
    }

    /// Returns when the socket is gone.
    pub(super) async fn ended(&self) {
        self.0.end.wait().await;
    }

    /// An answer, unless the socket ends first. The crate alone would wait for ever for a command
    /// that reached its driver's queue in the moment the driver ended: nobody empties it any more.
    async fn answer<T>(&self, asked: impl Future<Output = RedisResult<T>>) -> Result<T, Fault> {
        tokio::select! {
            biased;
            answer = asked => answer.map_err(|error| Fault::new(&error)),
            () = self.ended() => Err(Fault::Lost("the connection ended".to_owned())),
        }
    }

    /// Ends the socket and everything that waits on it.
    pub(super) fn cut(&self) {
        self.0.pulse.abort();
        self.0.driver.abort();
    }

    /// Does one command. Dropping the future does not undo a command that was sent.
    pub(super) async fn run(&self, command: &Command) -> Result<Reply, Fault> {
        let mut connection = self.0.connection.clone();
        match Reply::new(self.answer(connection.send_packed_command(&command.0)).await?) {
            Reply::Refused(refusal) => Err(Fault::Refused(refusal)),
            reply => Ok(reply),
        }
    }

    /// Does several commands in one write; a refused one is a [`Reply::Refused`] in its place.
    pub(super) async fn pipeline(&self, batch: &Batch) -> Result<Vec<Reply>, Fault> {
        let mut connection = self.0.connection.clone();
        let asked = connection.send_packed_commands(&batch.0, 0, batch.0.len());
        Ok(self.answer(asked).await?.into_iter().map(Reply::new).collect())
    }

    /// Subscribes to, or unsubscribes from, all names in one command; returns when the server has
    /// confirmed each.
    pub(super) async fn subscribing<T: AsRef<str>>(
        &self,
        how: Subscribing,
        names: &[T],
    ) -> Result<(), Fault> {
        let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
        if names.is_empty() {
            return Ok(());
        }
        let mut connection = self.0.connection.clone();
        match how {
            Subscribing::To => self.answer(connection.subscribe(&names)).await,
            Subscribing::ToPatterns => self.answer(connection.psubscribe(&names)).await,
            Subscribing::NoMore => self.answer(connection.unsubscribe(&names)).await,
            Subscribing::NoMorePatterns => self.answer(connection.punsubscribe(&names)).await,
        }
    }
}

/// Says that a driver has ended, also when it was aborted.
struct Ending(Arc<End>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.reach();
    }
}

/// What is heard of a server, whatever the crate makes of it.
#[derive(Default)]
struct Ear {
    /// Something was read, so that a busy connection is not called silent.
    heard: AtomicBool,
    /// How reading failed; the crate would keep its text only.
    failure: OnceLock<io::Error>,
}

/// A stream that is listened to.
struct Listened<S> {
    stream: S,
    ear: Arc<Ear>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Listened<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        result.map(|outcome| {
            self.ear.heard.store(true, Ordering::Relaxed);
            outcome.map_err(|error| {
                let copy = io::Error::new(error.kind(), error.to_string());
                // Kept is the first one: what comes later is its consequence.
                let _ = self.ear.failure.set(error);
                copy
            })
        })
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Listened<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Asks for a sign of life from time to time, and ends a driver that gives none for too long.
async fn pulse(
    mut connection: MultiplexedConnection,
    driver: AbortHandle,
    ear: Arc<Ear>,
    heartbeat: Heartbeat,
) {
    let ping = redis::cmd("PING");
    loop {
        sleep(heartbeat.period).await;
        ear.heard.store(false, Ordering::Relaxed);
        let asked = Instant::now();
        let mut answer = std::pin::pin!(connection.send_packed_command(&ping));
        loop {
            match timeout(heartbeat.limit, &mut answer).await {
                Ok(Ok(_)) => break,
                Ok(Err(_)) => return,
                Err(_) if ear.heard.swap(false, Ordering::Relaxed) => {}
                Err(_) => {
                    tracing::warn!(silent = ?asked.elapsed(), "the server is silent; reconnecting");
                    driver.abort();
                    return;
                }
            }
        }
    }
}

/// Names the connection and makes sure that the server serves (a loading one does not).
async fn greet(
    connection: &MultiplexedConnection,
    options: &RedisOptions,
    role: &str,
) -> Result<Option<i64>, Fault> {
    let name = options.client_name.clone().unwrap_or_else(|| format!("pymq-{role}"));
    let mut greeting = redis::Pipeline::with_capacity(3);
    greeting.cmd("CLIENT").arg("SETNAME").arg(name);
    greeting.cmd("CLIENT").arg("ID");
    greeting.cmd("PING");
    let mut connection = connection.clone();
    let values = connection
        .send_packed_commands(&greeting, 0, 3)
        .await
        .map_err(|error| Fault::new(&error))?;
    let mut replies = values.into_iter().map(Reply::new);
    let (_, id, ping) = (replies.next(), replies.next(), replies.next());
    match ping {
        Some(Reply::Refused(refusal)) if refusal.cause() == Cause::Loading => {
            Err(Fault::Lost(refusal.to_string()))
        }
        // A name is a courtesy, and PING may be forbidden: neither is a reason not to serve.
        _ => Ok(id.and_then(|id| id.number())),
    }
}

fn hand_over(push: PushInfo, to: &dyn Fn(Push<'_>)) -> Result<(), std::convert::Infallible> {
    let mut words = push.data.into_iter().map(|value| match value {
        Value::BulkString(bytes) => bytes,
        _ => Vec::new(),
    });
    let mut word = || words.next().unwrap_or_default();
    match push.kind {
        PushKind::Message => {
            let (topic, payload) = (word(), word());
            to(Push::Message { topic: &topic, payload: Bytes::from(payload) });
        }
        PushKind::PMessage => {
            let (pattern, topic, payload) = (word(), word(), word());
            let payload = Bytes::from(payload);
            to(Push::PatternMessage { pattern: &pattern, topic: &topic, payload });
        }
        _ => {}
    }
    Ok(())
}

fn settings(options: &RedisOptions) -> RedisConnectionInfo {
    let mut settings = RedisConnectionInfo::default()
        .set_protocol(ProtocolVersion::RESP3)
        .set_skip_set_lib_name()
        .set_db(options.database);
    if let Some(username) = &options.username {
        settings = settings.set_username(username);
    }
    if let Some(password) = &options.password {
        settings = settings.set_password(password);
    }
    settings
}

/// The digest by which the server knows a script.
pub(super) fn digest(script: &str) -> String {
    redis::Script::new(script).get_hash().to_owned()
}
