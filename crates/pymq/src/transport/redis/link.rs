//! The connection for commands: it comes back by itself, and operations wait for it.
//!
//! The one invariant: a command that may have reached the server is never sent twice unless its
//! purpose says that this is safe. What is subscribed or leased on a connection is not known here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::dialer::Dialer;
use super::purpose::{Purpose, Repeat, Unanswered};
use super::refusal::Cause;
use super::resp::{Batch, Command, Fault, Reply, Wire};
use super::script::Script;
use super::standing::Role;
use super::timing::{LONGEST, PING};
use crate::error::{ErrorKind, Result};
use crate::transport::Wait;

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

#[derive(Clone)]
enum Phase {
    /// A connection, and the how manieth it is.
    Up(Wire, u64),
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

/// What was tried of one operation.
#[derive(Default)]
struct Tried {
    /// How often its answer was lost.
    lost: u32,
    /// The server taught it, since it did not know the script.
    taught: bool,
    /// The first connection that it may use: the ones before lead to the wrong server.
    least: u64,
}

impl Link {
    /// Keeps `first` alive, and what follows it, until the stage is `Closed`.
    /// At the end of the runtime it says what `last_words` makes.
    pub(super) fn start(
        (dialer, role): (Arc<Dialer>, Role),
        first: Wire,
        stage: watch::Receiver<Stage>,
        last_words: impl Fn() -> Batch + Clone + Send + Sync + 'static,
        runtime: &Handle,
    ) -> Self {
        let (sender, phase) = watch::channel(Phase::Up(first.clone(), 1));
        runtime.spawn(keep((Arc::clone(&dialer), role), first, sender, stage, last_words));
        Self { role, phase, dialer, least: Arc::default() }
    }

    /// Says the last words, where there is a connection; does not wait.
    pub(super) fn say_last_words(&self) {
        if let Phase::Up(wire, _) = &*self.phase.borrow() {
            wire.say_last_words();
        }
    }

    /// A live connection, no older than `least`; waits for one as long as the operation may, and
    /// at most as long as operations wait.
    async fn wire(&self, purpose: &Purpose<'_>, least: u64) -> Result<(Wire, u64)> {
        let least = least.max(self.least.load(Ordering::Relaxed));
        if let Phase::Up(wire, number) = &*self.phase.borrow()
            && wire.is_alive()
            && *number >= least
        {
            return Ok((wire.clone(), *number));
        }
        let mut phase = self.phase.clone();
        let usable = |phase: &Phase| match phase {
            Phase::Up(wire, number) => wire.is_alive() && *number >= least,
            Phase::Down => false,
            Phase::Closed => true,
        };
        let begun = Instant::now();
        let patience = begun + self.dialer.options.settings.reconnect_wait().min(LONGEST);
        let until = purpose.until.map_or(patience, |until| until.min(patience));
        let found = match timeout_at(until, phase.wait_for(usable)).await {
            Ok(Ok(phase)) => phase.clone(),
            Ok(Err(_)) => Phase::Closed,
            Err(_) => Phase::Down,
        };
        match found {
            Phase::Up(wire, number) => Ok((wire, number)),
            Phase::Closed => Err(purpose.closed()),
            Phase::Down => {
                let trouble = self.dialer.standing().trouble(self.role);
                let waited = begun.elapsed().as_secs_f32();
                let why = format!("no connection for {waited:.1} s ({trouble}); nothing was sent");
                Err(purpose.error(ErrorKind::Connection, why))
            }
        }
    }

    /// Does one command.
    pub(super) async fn run(&self, purpose: Purpose<'_>, command: &Command) -> Result<Reply> {
        let mut tried = Tried::default();
        loop {
            let (wire, number) = self.wire(&purpose, tried.least).await?;
            match purpose.answered(wire.run(command)).await {
                Ok(reply) => return Ok(reply),
                Err(why) => self.go_on(&purpose, &wire, number, &mut tried, why).await?,
            }
        }
    }

    /// Does several commands in one write; each answer or refusal is in its place.
    pub(super) async fn pipeline(&self, purpose: Purpose<'_>, batch: &Batch) -> Result<Vec<Reply>> {
        let mut tried = Tried::default();
        loop {
            let (wire, number) = self.wire(&purpose, tried.least).await?;
            match purpose.answered(wire.pipeline(batch)).await {
                Ok(replies) => {
                    // Some may have been done, so that nothing is repeated here.
                    if replies.iter().any(Reply::is_elsewhere) {
                        self.doubt(number);
                    }
                    return Ok(replies);
                }
                Err(why) => self.go_on(&purpose, &wire, number, &mut tried, why).await?,
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
        let replies = self.script_then(purpose, script, keys, arguments, None).await?;
        purpose.check(replies.into_iter().next())
    }

    /// Runs a script and a command in one write; the answer of the script, which was not refused, and
    /// whatever the command's is.
    pub(super) async fn script_then(
        &self,
        purpose: Purpose<'_>,
        script: &'static Script,
        keys: &[&str],
        arguments: &[&[u8]],
        then: Option<Command>,
    ) -> Result<Vec<Reply>> {
        let mut tried = Tried::default();
        let and_then = |call: Command| [call].into_iter().chain(then.clone()).collect::<Batch>();
        let mut batch = and_then(script.call(keys, arguments));
        loop {
            let (wire, number) = self.wire(&purpose, tried.least).await?;
            let replies = match purpose.answered(wire.pipeline(&batch)).await {
                Ok(replies) => replies,
                Err(why) => {
                    self.go_on(&purpose, &wire, number, &mut tried, why).await?;
                    continue;
                }
            };
            let refusal = match replies.first() {
                Some(Reply::Refused(refusal)) => refusal.clone(),
                _ => return Ok(replies),
            };
            // Once: a server that knows no text either would be asked for ever.
            if refusal.cause() == Cause::NoScript && !tried.taught {
                tried.taught = true;
                batch = and_then(script.teach(keys, arguments));
                continue;
            }
            let why = Unanswered::Fault(Fault::Refused(refusal.of_script(script.digest())));
            self.go_on(&purpose, &wire, number, &mut tried, why).await?;
        }
    }

    /// Asks for a sign of life, now.
    pub(super) async fn ping(&self) -> Result<()> {
        let purpose = Purpose::idempotent("ping", self.dialer.standing().server());
        let (wire, _) = self.wire(&purpose.within(Wait::No), 0).await?;
        let purpose = purpose.within(Wait::at_most(PING));
        match purpose.answered(wire.run(&Command::new("PING"))).await {
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
    fn doubt(&self, number: u64) {
        self.least.fetch_max(number + 1, Ordering::Relaxed);
        self.dialer.doubt();
    }

    /// Decides whether what was not done, or not answered, is tried once more.
    async fn go_on(
        &self,
        purpose: &Purpose<'_>,
        wire: &Wire,
        number: u64,
        tried: &mut Tried,
        why: Unanswered,
    ) -> Result<()> {
        match why {
            Unanswered::Late => Err(purpose.late()),
            Unanswered::Fault(Fault::Refused(refusal)) => {
                // Nothing was done, so that another server may be asked, once.
                if !refusal.is_elsewhere() {
                    return Err(purpose.refused(&refusal));
                }
                self.doubt(number);
                if tried.least > 0 {
                    return Err(purpose.refused(&refusal));
                }
                tried.least = number + 1;
                Ok(())
            }
            Unanswered::Fault(Fault::Lost(why)) => {
                tried.lost += 1;
                if matches!(*self.phase.borrow(), Phase::Closed) {
                    return Err(purpose.closed());
                }
                if purpose.repeat == Repeat::Never || tried.lost > 1 {
                    return Err(purpose.lost(&why));
                }
                wire.cut();
                wire.ended().await;
                Ok(())
            }
        }
    }
}

async fn keep(
    (dialer, role): (Arc<Dialer>, Role),
    first: Wire,
    phase: watch::Sender<Phase>,
    mut stage: watch::Receiver<Stage>,
    last_words: impl Fn() -> Batch + Clone + Send + Sync + 'static,
) {
    let mut wire = first;
    let mut number = 1;
    let closed = async move {
        // An error says that the transport is gone, which is the same news.
        let _ = stage.wait_for(|stage| *stage == Stage::Closed).await;
    };
    let mut closed = std::pin::pin!(closed);
    loop {
        wire.set_last_words(Some(Box::new(last_words.clone())));
        // In the line before anybody can use it, so that no doubt about it is missed.
        let doubted = dialer.doubted();
        phase.send_replace(Phase::Up(wire.clone(), number));
        let why = tokio::select! {
            () = wire.ended() => "the connection ended",
            // Those who wait for an answer on it get it; nobody begins anything on it any more.
            () = doubted => "another server takes the writes by now",
            () = &mut closed => break,
        };
        phase.send_replace(Phase::Down);
        // What is still under way on it goes on, and has a successor.
        wire.set_last_words(None);
        dialer.standing().lost(role, why);
        wire = tokio::select! {
            wire = dialer.dial(role, None) => wire,
            () = &mut closed => break,
        };
        number += 1;
    }
    phase.send_replace(Phase::Closed);
    wire.cut();
}
