//! Connections that come back: dialling for ever, the link for commands, the pool for waiting ones.
//!
//! The one invariant: a command that may have reached the server is never sent twice unless its
//! purpose says that this is safe. What is subscribed or leased on a connection is not known here.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::options::RedisOptions;
use super::refusal::{Cause, Refusal};
use super::resp::{Batch, Command, Fault, Pushes, Reply, Wire};
use crate::error::{Error, ErrorKind, Result};

/// Connections for waiting commands that are kept when nobody waits.
const SPARE_WIRES: usize = 4;

/// How far a transport is on its way to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// In use.
    Open,
    /// New operations fail; what is held is given back.
    Closing,
    /// No connection is left.
    Closed,
}

/// Opens connections to the one server.
#[derive(Debug)]
pub(super) struct Dialer {
    options: RedisOptions,
    /// Why the last attempt failed, for those who wait for a connection in vain.
    trouble: Mutex<String>,
}

impl Dialer {
    pub(super) fn new(options: RedisOptions) -> Self {
        Self { options, trouble: Mutex::default() }
    }

    /// One attempt, for the first connection: its failure is the user's to see.
    pub(super) async fn dial_once(&self, role: &str) -> Result<Wire> {
        Wire::open(&self.options, role, None).await.map_err(|fault| {
            let (kind, why) = match fault {
                Fault::Lost(words) => (ErrorKind::Connection, self.not_there(&words)),
                Fault::Refused(refusal) if refusal.passes() => {
                    (ErrorKind::Connection, refusal.not_admitted())
                }
                Fault::Refused(refusal) => (ErrorKind::Config, refusal.not_admitted()),
            };
            Error::new(kind, "connect", self.options.shown(), why)
        })
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

    /// Why the last attempt failed.
    pub(super) fn trouble(&self) -> String {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tries until a connection stands, waiting longer from time to time.
    pub(super) async fn dial(&self, role: &str, pushes: Option<Pushes>) -> Wire {
        let mut attempts = 0;
        loop {
            match Wire::open(&self.options, role, pushes.clone()).await {
                Ok(wire) => return wire,
                Err(fault) => {
                    let why = fault.to_string();
                    attempts += 1;
                    let server = self.options.shown();
                    // The first failure is news; that it goes on is not.
                    if attempts == 1 {
                        tracing::warn!(server, role, why, "cannot connect; trying on");
                    } else {
                        tracing::debug!(server, role, why, attempts, "cannot connect yet");
                    }
                    *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = why;
                    sleep(back_off(attempts)).await;
                }
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

/// Whether a command may be sent again when its connection is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// It changes something: then the error is `Ambiguous`.
    Never,
    /// Doing it twice is doing it once.
    Once,
}

/// What a command is for, as errors tell it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Purpose<'a> {
    pub(super) operation: &'static str,
    pub(super) object: &'a str,
    pub(super) repeat: Repeat,
}

impl<'a> Purpose<'a> {
    /// A change: never repeated.
    pub(super) fn change(operation: &'static str, object: &'a str) -> Self {
        Self { operation, object, repeat: Repeat::Never }
    }

    /// A question: repeated once.
    pub(super) fn question(operation: &'static str, object: &'a str) -> Self {
        Self { operation, object, repeat: Repeat::Once }
    }

    pub(super) fn error(&self, kind: ErrorKind, why: impl Into<String>) -> Error {
        Error::new(kind, self.operation, self.object, why.into())
    }

    pub(super) fn closed(&self) -> Error {
        Error::closed(self.operation, self.object)
    }

    /// The server's refusal, in words that help.
    pub(super) fn refused(&self, refusal: &Refusal) -> Error {
        let error = self.error(ErrorKind::Server, refusal.explained(self.object));
        let error = if refusal.passes() { error.that_passes() } else { error };
        error.with_source(refusal.clone())
    }

    fn lost(&self, why: &str) -> Error {
        match self.repeat {
            Repeat::Never => self.error(
                ErrorKind::Ambiguous,
                format!("the connection was lost before the answer came ({why})"),
            ),
            Repeat::Once => self.error(ErrorKind::Connection, format!("lost twice ({why})")),
        }
    }

    /// The reply of one command of a pipeline, its refusal as an error.
    pub(super) fn check(&self, reply: Option<Reply>) -> Result<Reply> {
        match reply {
            Some(Reply::Refused(refusal)) => Err(self.refused(&refusal)),
            Some(reply) => Ok(reply),
            None => Err(self.error(ErrorKind::Server, "the server answered too little")),
        }
    }
}

/// A script and the digest the server knows it by.
pub(super) struct Script {
    text: &'static str,
    digest: OnceLock<String>,
}

/// The scripts that were called, to find one by its digest.
static CALLED: Mutex<Vec<&'static Script>> = Mutex::new(Vec::new());

impl Script {
    pub(super) const fn new(text: &'static str) -> Self {
        Self { text, digest: OnceLock::new() }
    }

    /// A line of the script of that digest, counted from 1 as the server does.
    pub(super) fn line(digest: &str, number: usize) -> Option<&'static str> {
        let called = CALLED.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |script: &&&Script| script.digest.get().is_some_and(|known| known == digest);
        called.iter().find(is_it)?.text.lines().nth(number.checked_sub(1)?)
    }

    /// The call by digest: short, and unknown to a server that never saw the text.
    pub(super) fn call(&'static self, keys: &[&str], arguments: &[&[u8]]) -> Command {
        let digest = self.digest.get_or_init(|| {
            CALLED.lock().unwrap_or_else(PoisonError::into_inner).push(self);
            sha1_smol::Sha1::from(self.text).digest().to_string()
        });
        Self::complete(Command::new("EVALSHA").arg(digest), keys, arguments)
    }

    /// The call by text: always understood.
    pub(super) fn teach(&self, keys: &[&str], arguments: &[&[u8]]) -> Command {
        Self::complete(Command::new("EVAL").arg(self.text), keys, arguments)
    }

    fn complete(command: Command, keys: &[&str], arguments: &[&[u8]]) -> Command {
        command.number(keys.len()).args(keys).args(arguments)
    }
}

#[derive(Clone)]
enum Phase {
    Up(Wire),
    Down,
    Closed,
}

/// The connection for commands: always there, or on its way back.
#[derive(Clone)]
pub(super) struct Link {
    phase: watch::Receiver<Phase>,
    dialer: Arc<Dialer>,
}

impl Link {
    /// Keeps `first` alive, and what follows it, until the stage is `Closed`.
    pub(super) fn start(
        dialer: Arc<Dialer>,
        first: Wire,
        stage: watch::Receiver<Stage>,
        runtime: &Handle,
    ) -> Self {
        let (sender, phase) = watch::channel(Phase::Up(first.clone()));
        runtime.spawn(keep(Arc::clone(&dialer), first, sender, stage));
        Self { phase, dialer }
    }

    /// A live connection; waits for one as long as operations wait.
    pub(super) async fn wire(&self, purpose: &Purpose<'_>) -> Result<Wire> {
        if let Phase::Up(wire) = &*self.phase.borrow()
            && wire.is_alive()
        {
            return Ok(wire.clone());
        }
        let mut phase = self.phase.clone();
        let usable = |phase: &Phase| match phase {
            Phase::Up(wire) => wire.is_alive(),
            Phase::Down => false,
            Phase::Closed => true,
        };
        let patience = self.dialer.options.reconnect_wait;
        let found = match timeout(patience, phase.wait_for(usable)).await {
            Ok(Ok(phase)) => phase.clone(),
            Ok(Err(_)) => Phase::Closed,
            Err(_) => Phase::Down,
        };
        match found {
            Phase::Up(wire) => Ok(wire),
            Phase::Closed => Err(purpose.closed()),
            Phase::Down => {
                let trouble = self.dialer.trouble();
                let why = format!("no connection for {patience:?} ({trouble}); nothing was sent");
                Err(purpose.error(ErrorKind::Connection, why))
            }
        }
    }

    /// Does one command.
    pub(super) async fn run(&self, purpose: Purpose<'_>, command: &Command) -> Result<Reply> {
        let mut sent = 0;
        loop {
            let wire = self.wire(&purpose).await?;
            match wire.run(command).await {
                Ok(reply) => return Ok(reply),
                Err(Fault::Refused(refusal)) => return Err(purpose.refused(&refusal)),
                Err(Fault::Lost(why)) => self.after_loss(&purpose, &wire, &mut sent, &why).await?,
            }
        }
    }

    /// Does several commands in one write; each answer or refusal is in its place.
    pub(super) async fn pipeline(&self, purpose: Purpose<'_>, batch: &Batch) -> Result<Vec<Reply>> {
        let mut sent = 0;
        loop {
            let wire = self.wire(&purpose).await?;
            match wire.pipeline(batch).await {
                Ok(replies) => return Ok(replies),
                Err(Fault::Refused(refusal)) => return Err(purpose.refused(&refusal)),
                Err(Fault::Lost(why)) => self.after_loss(&purpose, &wire, &mut sent, &why).await?,
            }
        }
    }

    /// Does several commands in one step; the answers, the first refusal as an error.
    pub(super) async fn transaction(
        &self,
        purpose: Purpose<'_>,
        commands: Vec<Command>,
    ) -> Result<Vec<Reply>> {
        let begin = std::iter::once(Command::new("MULTI"));
        let batch = begin.chain(commands).chain([Command::new("EXEC")]).collect();
        let mut replies = self.pipeline(purpose, &batch).await?;
        let outcome = replies.pop();
        // A command that was refused while queueing says why; EXEC then only says that it was.
        for reply in replies {
            purpose.check(Some(reply))?;
        }
        let answers = purpose.check(outcome)?.items();
        answers.into_iter().map(|answer| purpose.check(Some(answer))).collect()
    }

    /// Runs a script.
    pub(super) async fn script(
        &self,
        purpose: Purpose<'_>,
        script: &'static Script,
        keys: &[&str],
        arguments: &[&[u8]],
    ) -> Result<Reply> {
        let mut sent = 0;
        let mut command = script.call(keys, arguments);
        // Once: a server that knows no text either would be asked for ever.
        let mut taught = false;
        loop {
            let wire = self.wire(&purpose).await?;
            match wire.run(&command).await {
                Ok(reply) => return Ok(reply),
                Err(Fault::Refused(refusal)) if refusal.cause() == Cause::NoScript && !taught => {
                    taught = true;
                    command = script.teach(keys, arguments);
                }
                Err(Fault::Refused(refusal)) => return Err(purpose.refused(&refusal)),
                Err(Fault::Lost(why)) => self.after_loss(&purpose, &wire, &mut sent, &why).await?,
            }
        }
    }

    /// Decides whether a lost command is sent once more.
    async fn after_loss(
        &self,
        purpose: &Purpose<'_>,
        wire: &Wire,
        sent: &mut u32,
        why: &str,
    ) -> Result<()> {
        *sent += 1;
        if matches!(*self.phase.borrow(), Phase::Closed) {
            return Err(purpose.closed());
        }
        if purpose.repeat == Repeat::Never || *sent > 1 {
            return Err(purpose.lost(why));
        }
        wire.cut();
        wire.ended().await;
        Ok(())
    }
}

async fn keep(
    dialer: Arc<Dialer>,
    first: Wire,
    phase: watch::Sender<Phase>,
    mut stage: watch::Receiver<Stage>,
) {
    let mut wire = first;
    let closed = async move {
        // An error says that the transport is gone, which is the same news.
        let _ = stage.wait_for(|stage| *stage == Stage::Closed).await;
    };
    let mut closed = std::pin::pin!(closed);
    loop {
        phase.send_replace(Phase::Up(wire.clone()));
        tokio::select! {
            () = wire.ended() => {}
            () = &mut closed => break,
        }
        phase.send_replace(Phase::Down);
        tracing::warn!(server = dialer.options.shown(), "lost the connection for commands");
        wire = tokio::select! {
            wire = dialer.dial("commands", None) => wire,
            () = &mut closed => break,
        };
        tracing::info!(server = dialer.options.shown(), "the connection for commands is back");
    }
    phase.send_replace(Phase::Closed);
    wire.cut();
}

/// Connections for commands that wait at the server: one user at a time each.
#[derive(Debug)]
pub(super) struct Pool {
    dialer: Arc<Dialer>,
    spare: Mutex<Vec<Wire>>,
}

impl Pool {
    pub(super) fn new(dialer: Arc<Dialer>) -> Self {
        Self { dialer, spare: Mutex::default() }
    }

    /// A live connection: a spare one, else a new one, however long that takes.
    pub(super) async fn take(&self) -> Wire {
        match self.spare() {
            Some(wire) => wire,
            None => self.dialer.dial("waiting", None).await,
        }
    }

    /// Puts a connection back that has nothing under way.
    pub(super) fn put(&self, wire: Wire) {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if wire.is_alive() && spare.len() < SPARE_WIRES {
            spare.push(wire);
        }
    }

    /// Ends the spare connections.
    pub(super) fn clear(&self) {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// A spare connection, if there is one.
    pub(super) fn spare(&self) -> Option<Wire> {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let wire = spare.pop()?;
            if wire.is_alive() {
                return Some(wire);
            }
        }
    }
}
