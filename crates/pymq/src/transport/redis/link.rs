//! The connection for commands: it comes back by itself, and operations wait for it.
//!
//! The one invariant: a command that may have reached the server is never sent twice unless its
//! purpose says that this is safe. What is subscribed or leased on a connection is not known here.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use super::core::Stage;
use super::dialer::Dialer;
use super::purpose::{Purpose, Repeat, Unanswered};
use super::refusal::{Cause, Refusal};
use super::resp::{Batch, Command, Fault, Posted, Reply, Socket, Written};
use super::script::Script;
use super::standing::Role;
use super::timing::{LONGEST, PING, ROUND_TRIP};
use crate::error::{ErrorKind, Result};
use crate::transport::Wait;

#[derive(Clone)]
enum Phase {
    /// A connection and its number, counted from 1.
    Up(Socket, u64),
    /// There has been none yet.
    New,
    Down,
    Closed,
}

/// The connection for commands: always there, or on its way back.
#[derive(Clone)]
pub(super) struct Link {
    role: Role,
    phase: watch::Receiver<Phase>,
    dialer: Arc<Dialer>,
    /// The first connection that may be used: the ones before lead to a server that refuses writes.
    least: Arc<AtomicU64>,
}

/// How long a key that is on its way to another node is waited for before it is asked for again.
const ON_ITS_WAY: Duration = Duration::from_millis(20);

/// The attempts at one operation so far.
#[derive(Default)]
struct Tried {
    /// Until when what is on its way is waited for, once anything was.
    until: Option<Instant>,
    /// The number of answers that were lost.
    lost: u32,
    /// The server taught it, since it did not know the script.
    taught: bool,
    /// The first connection that it may use: the ones before lead to the wrong server.
    least: u64,
}

impl Tried {
    /// Whether the server does not know the script, and is to be taught it: once, since one that knows no
    /// text either would be asked for ever.
    fn is_to_teach(&mut self, why: &Unanswered) -> bool {
        let unknown = match why {
            Unanswered::Fault(Fault::Refused(refusal)) => refusal.cause() == Cause::NoScript,
            _ => false,
        };
        unknown && !std::mem::replace(&mut self.taught, true)
    }
}

impl Link {
    /// Keeps `first` alive, or dials it, and what follows it, until the stage is `Closed`.
    /// At the end of the runtime it says what `last_words` makes.
    pub(super) fn start(
        (dialer, role): (Arc<Dialer>, Role),
        first: Option<Socket>,
        stage: watch::Receiver<Stage>,
        last_words: impl Fn() -> Batch + Clone + Send + Sync + 'static,
        runtime: &Handle,
    ) -> Self {
        let up = |socket: &Socket| Phase::Up(socket.clone(), 1);
        let (sender, phase) = watch::channel(first.as_ref().map_or(Phase::New, up));
        runtime.spawn(keep((Arc::clone(&dialer), role), first, sender, stage, last_words));
        Self { role, phase, dialer, least: Arc::default() }
    }

    /// Says the last words, where there is a connection; does not wait.
    pub(super) fn say_last_words(&self) {
        if let Phase::Up(socket, _) = &*self.phase.borrow() {
            socket.say_last_words();
        }
    }

    /// The number of the connection, counted from 1, while there is one.
    pub(super) fn number(&self) -> Option<u64> {
        match &*self.phase.borrow() {
            Phase::Up(_, number) => Some(*number),
            _ => None,
        }
    }

    /// The host and port that the connection leads to.
    pub(super) fn server(&self) -> Option<String> {
        let Phase::Up(socket, _) = &*self.phase.borrow() else { return None };
        socket.place().map(|(host, port)| format!("{host}:{port}"))
    }

    /// A live connection, no older than `least`; waits for one as long as the operation may, and
    /// at most as long as operations wait.
    async fn socket(&self, purpose: &Purpose<'_>, tried: &Tried) -> Result<(Socket, u64)> {
        let least = tried.least.max(self.least.load(Ordering::Relaxed));
        let new = match &*self.phase.borrow() {
            Phase::Up(socket, number) if socket.is_alive() && *number >= least => {
                return Ok((socket.clone(), *number));
            }
            phase => matches!(phase, Phase::New),
        };
        // Boxed, as all that is rare here: what is as large as it would be made for every command.
        Box::pin(self.await_socket(purpose, tried, least, new)).await
    }

    async fn await_socket(
        &self,
        purpose: &Purpose<'_>,
        tried: &Tried,
        least: u64,
        new: bool,
    ) -> Result<(Socket, u64)> {
        let mut phase = self.phase.clone();
        let usable = |phase: &Phase| match phase {
            Phase::Up(socket, number) => socket.is_alive() && *number >= least,
            Phase::New | Phase::Down => false,
            Phase::Closed => true,
        };
        let begun = Instant::now();
        let patience = begun + self.dialer.options.settings.reconnect_wait().min(LONGEST);
        let until = purpose.until.map_or(patience, |until| until.min(patience));
        // An operation that has begun, or that is the first to need the connection, makes an attempt even if
        // it may not wait.
        let first = new.then(|| begun + ROUND_TRIP);
        let until = tried.until.or(first).map_or(until, |attempt| until.max(attempt));
        let found = match timeout_at(until, phase.wait_for(usable)).await {
            Ok(Ok(phase)) => phase.clone(),
            Ok(Err(_)) => Phase::Closed,
            Err(_) => Phase::Down,
        };
        match found {
            Phase::Up(socket, number) => Ok((socket, number)),
            Phase::Closed if tried.lost > 0 => Err(purpose.closed_unanswered()),
            Phase::Closed => Err(purpose.closed()),
            Phase::New | Phase::Down => {
                let trouble = self.dialer.standing().trouble(self.role);
                let waited = begun.elapsed().as_secs_f32();
                let why = format!("no connection for {waited:.1} s ({trouble})");
                if tried.lost > 0 {
                    return Err(purpose.stranded(&why));
                }
                Err(purpose.error(ErrorKind::Connection, format!("{why}; nothing was sent")))
            }
        }
    }

    /// Does one command.
    pub(super) async fn run(&self, purpose: Purpose<'_>, command: &impl Written) -> Result<Reply> {
        let mut tried = Tried::default();
        loop {
            let (socket, number) = self.socket(&purpose, &tried).await?;
            match purpose.answered(pin!(socket.run(command))).await {
                Ok(reply) => return Ok(reply),
                Err(why) => {
                    Box::pin(self.go_on(&purpose, &socket, number, &mut tried, why)).await?;
                }
            }
        }
    }

    /// Writes a command for whose answer nobody waits; gives back what is to be waited for where there
    /// is no room. Without a connection it is lost.
    pub(super) fn post(
        &self,
        command: Command,
        posted: Posted,
    ) -> Option<impl Future<Output = ()> + Send + use<>> {
        let least = self.least.load(Ordering::Relaxed);
        let socket = match &*self.phase.borrow() {
            Phase::Up(socket, number) if socket.is_alive() && *number >= least => socket.clone(),
            _ => {
                posted.lost("there is no connection");
                return None;
            }
        };
        let posted = socket.post_now(&command, posted).err()?;
        Some(async move { socket.post(&command, posted).await })
    }

    /// Does several commands in one write; each answer or refusal is in its place.
    pub(super) async fn pipeline(&self, purpose: Purpose<'_>, batch: &Batch) -> Result<Vec<Reply>> {
        self.pipeline_unless(purpose, batch, none_done).await
    }

    /// The same, where the last command changes nothing, whatever became of those before.
    pub(super) async fn pipeline_then(
        &self,
        purpose: Purpose<'_>,
        batch: &Batch,
    ) -> Result<Vec<Reply>> {
        let undone = |replies: &[Reply]| none_done(replies.split_last()?.1);
        self.pipeline_unless(purpose, batch, undone).await
    }

    /// Tries again what `undone` says that a cluster has not done, and why.
    async fn pipeline_unless(
        &self,
        purpose: Purpose<'_>,
        batch: &Batch,
        undone: impl Fn(&[Reply]) -> Option<Refusal>,
    ) -> Result<Vec<Reply>> {
        let mut tried = Tried::default();
        loop {
            let (socket, number) = self.socket(&purpose, &tried).await?;
            let why = match purpose.answered(pin!(socket.pipeline(batch))).await {
                Ok(replies) => match undone(&replies) {
                    Some(refusal) => Unanswered::Fault(Fault::Refused(refusal)),
                    None => {
                        // Some may have been done, so that nothing is repeated here.
                        if let Some(refusal) = replies.iter().find_map(Reply::elsewhere) {
                            self.doubt(number, refusal);
                        }
                        return Ok(replies);
                    }
                },
                Err(why) => why,
            };
            Box::pin(self.go_on(&purpose, &socket, number, &mut tried, why)).await?;
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
        let mut replies = self.pipeline_unless(purpose, &batch, never_begun).await?;
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
        let mut tried = Tried::default();
        let mut call = script.call(keys, arguments);
        loop {
            let (socket, number) = self.socket(&purpose, &tried).await?;
            let why = match purpose.answered(pin!(socket.run(&call))).await {
                Ok(reply) => return Ok(reply),
                Err(why) => why,
            };
            if tried.is_to_teach(&why) {
                call = script.teach(keys, arguments);
            } else {
                let why = why.of_script(script);
                Box::pin(self.go_on(&purpose, &socket, number, &mut tried, why)).await?;
            }
        }
    }

    /// Runs a script and a command in one write; the answer of the script, which was not refused, and
    /// whatever the command's is.
    pub(super) async fn script_then(
        &self,
        purpose: Purpose<'_>,
        script: &'static Script,
        keys: &[&str],
        arguments: &[&[u8]],
        then: &Command,
    ) -> Result<Vec<Reply>> {
        let mut tried = Tried::default();
        let and_then = |call: Command| Batch::from_iter([call, then.clone()]);
        let mut batch = and_then(script.call(keys, arguments));
        loop {
            let (socket, number) = self.socket(&purpose, &tried).await?;
            let why = match purpose.answered(pin!(socket.pipeline(&batch))).await {
                Ok(replies) => match replies.first() {
                    Some(Reply::Refused(refusal)) => {
                        Unanswered::Fault(Fault::Refused(refusal.clone()))
                    }
                    _ => return Ok(replies),
                },
                Err(why) => why,
            };
            if tried.is_to_teach(&why) {
                batch = and_then(script.teach(keys, arguments));
            } else {
                let why = why.of_script(script);
                Box::pin(self.go_on(&purpose, &socket, number, &mut tried, why)).await?;
            }
        }
    }

    /// Asks for a sign of life, now.
    pub(super) async fn ping(&self) -> Result<()> {
        let purpose = Purpose::idempotent("ping", self.dialer.standing().server());
        let (socket, _) = self.socket(&purpose.within(Wait::No), &Tried::default()).await?;
        let purpose = purpose.within(Wait::at_most(PING));
        match purpose.answered(pin!(socket.run(&Command::new("PING")))).await {
            // A user that may not ask was answered, too.
            Ok(_) | Err(Unanswered::Fault(Fault::Refused(_))) => Ok(()),
            Err(Unanswered::Late) => {
                let why = format!("the server is silent for {PING:?}");
                Err(purpose.error(ErrorKind::Connection, why))
            }
            Err(Unanswered::Fault(Fault::Lost(why))) => {
                Err(purpose.error(ErrorKind::Connection, why))
            }
        }
    }

    /// Nobody begins anything any more on a connection whose server does not take the writes.
    fn doubt(&self, number: u64, refusal: &Refusal) {
        if self.dialer.is_of_node() {
            return;
        }
        self.least.fetch_max(number + 1, Ordering::Relaxed);
        self.dialer.doubt(refusal);
    }

    /// Waits for a key that is on its way, for a cluster that has not settled, or for a connection to
    /// where the key went; no longer than for a lost connection.
    async fn follow(
        &self,
        purpose: &Purpose<'_>,
        number: u64,
        tried: &mut Tried,
        refusal: &Refusal,
    ) -> Result<()> {
        let until = tried.until.get_or_insert_with(|| {
            let patience = self.dialer.options.settings.reconnect_wait().min(LONGEST);
            let left = purpose.left().map_or(patience, |left| left.min(patience));
            Instant::now() + left
        });
        if Instant::now() >= *until {
            return Err(purpose.refused(refusal));
        }
        if refusal.is_elsewhere() {
            self.doubt(number, refusal);
            tried.least = number + 1;
        } else {
            sleep(ON_ITS_WAY).await;
        }
        Ok(())
    }

    /// Decides whether what was not done, or not answered, is tried once more.
    async fn go_on(
        &self,
        purpose: &Purpose<'_>,
        socket: &Socket,
        number: u64,
        tried: &mut Tried,
        why: Unanswered,
    ) -> Result<()> {
        match why {
            Unanswered::Late => Err(purpose.late()),
            Unanswered::Fault(Fault::Refused(refusal)) => {
                // Nothing was done, so that it may be asked for again, of a cluster for as long as
                // slots move there, of another server once.
                let told = purpose.at_once && refusal.is_on_its_way()
                    || purpose.here && refusal.is_elsewhere();
                if refusal.is_of_a_cluster() && !told {
                    return self.follow(purpose, number, tried, &refusal).await;
                }
                if !refusal.is_elsewhere() {
                    return Err(purpose.refused(&refusal));
                }
                self.doubt(number, &refusal);
                if tried.least > 0 || purpose.here {
                    return Err(purpose.refused(&refusal));
                }
                tried.least = number + 1;
                Ok(())
            }
            Unanswered::Fault(Fault::Lost(why)) => {
                tried.lost += 1;
                if matches!(*self.phase.borrow(), Phase::Closed) {
                    return Err(purpose.closed_unanswered());
                }
                if purpose.repeat == Repeat::Never || tried.lost > 1 {
                    return Err(purpose.lost(&why));
                }
                socket.cut();
                socket.ended().await;
                Ok(())
            }
        }
    }
}

fn refusals(replies: &[Reply]) -> impl Iterator<Item = &Refusal> {
    replies.iter().filter_map(|reply| match reply {
        Reply::Refused(refusal) => Some(refusal),
        _ => None,
    })
}

/// Why a cluster has not done a transaction, if that is so: one command was refused while queueing.
fn never_begun(replies: &[Reply]) -> Option<Refusal> {
    let Some(Reply::Refused(_)) = replies.last() else { return None };
    refusals(replies).find(|refusal| refusal.is_of_a_cluster()).cloned()
}

/// Why a cluster has done none of several commands, if that is so.
fn none_done(replies: &[Reply]) -> Option<Refusal> {
    let first = refusals(replies).next().filter(|refusal| refusal.is_of_a_cluster())?;
    (refusals(replies).count() == replies.len()).then(|| first.clone())
}

async fn keep(
    (dialer, role): (Arc<Dialer>, Role),
    first: Option<Socket>,
    phase: watch::Sender<Phase>,
    mut stage: watch::Receiver<Stage>,
    last_words: impl Fn() -> Batch + Clone + Send + Sync + 'static,
) {
    static SPEAKERS: AtomicU64 = AtomicU64::new(0);
    let speaker = SPEAKERS.fetch_add(1, Ordering::Relaxed);
    let mut number = 1;
    let closed = async move {
        // An error says that the transport is gone, which is the same news.
        let _ = stage.wait_for(|stage| *stage == Stage::Closed).await;
    };
    let mut closed = std::pin::pin!(closed);
    let first = async {
        match first {
            Some(socket) => socket,
            None => dialer.dial(role, None).await,
        }
    };
    let mut socket = tokio::select! {
        socket = first => socket,
        () = &mut closed => {
            phase.send_replace(Phase::Closed);
            return;
        }
    };
    loop {
        socket.set_last_words(speaker, Some(Box::new(last_words.clone())));
        // In the line before anybody can use it, so that no doubt about it is missed.
        let doubted = dialer.doubted(role, &socket);
        phase.send_replace(Phase::Up(socket.clone(), number));
        let why = tokio::select! {
            () = socket.ended() => Some("the connection ended"),
            // Those who wait for an answer on it get it; nobody begins anything on it any more.
            why = doubted => why,
            () = &mut closed => break,
        };
        phase.send_replace(Phase::Down);
        // Operations under way on it go on; new ones take the next connection.
        socket.set_last_words(speaker, None);
        if let Some(why) = why {
            dialer.standing().lost(role, why);
        }
        socket = tokio::select! {
            // First: who dials sees to it that what is not dialled for any more is not missed.
            biased;
            socket = dialer.dial(role, None) => socket,
            () = &mut closed => break,
        };
        number += 1;
    }
    phase.send_replace(Phase::Closed);
    socket.set_last_words(speaker, None);
    // A socket that others share ends with the last of them.
    if !dialer.shares(role) {
        socket.cut();
    }
}
