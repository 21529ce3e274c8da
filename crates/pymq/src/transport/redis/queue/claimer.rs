//! The claimer: a task for each consumer, which claims for those in its line and keeps its leases.
//!
//! The one invariant: the answer of a round that was sent is always read, and what it brought is given
//! to somebody, given back, or found again by reading the epoch's list.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::super::Core;
use super::super::dialer::jitter;
use super::super::purpose::Purpose;
use super::super::refusal::Refusal;
use super::super::resp::{Fault, Reply, Socket};
use super::super::routes::{Name, Target};
use super::super::standing::Role;
use super::super::timing::SLICE;
use super::compare::{compare, compare_still};
use super::consumer::{Chore, Consumer, Step};
use super::keys::{Epoch, HeldList};
use super::line_up::line_up;
use super::round::{FIRST_SLICE, Round, digest};
use super::send_settlements::{settle_all, settle_alone};
use super::show::show;
use super::{copy, give_back, lease, orphans};
use crate::error::{Error, ErrorKind, Result};
use crate::transport::{Wait, refusals};

/// A connection that is missing for longer is told of as the reason why no items come.
const PATIENCE: Duration = Duration::from_millis(250);
/// A wait at the server that ends by itself within this time is left to end: breaking it off takes a
/// command of its own, on another connection.
const SOON: Duration = Duration::from_millis(50);
/// The log's words when the server could not be told which items were handed out.
const NOT_SHOWN: &str = "what was fetched ahead does not count as delivered if this process dies";
/// The log's words when the server may not forget a lease that holds nothing any more.
const NOT_FORGOTTEN: &str = "a lease that holds nothing is forgotten only when it is over";
/// The log's words when a consumer ends without having read what became of what got no answer.
const NOT_COMPARED: &str = "what was confirmed and not answered may come once more";
/// Closing tries to give items back for twice as long; after that they go back when their lease ends.
/// Twice, since a machine that stands still for a while uses up one of the two only.
const FAREWELL: Duration = Duration::from_secs(1);

/// Claims items for all waiting getters until the consumer is closed.
pub(super) async fn run(core: Arc<Core>, consumer: Arc<Consumer>) {
    let looks = consumer.keys().policy().priorities;
    let mut claimer = Claimer { core, consumer, connection: None, hints: None, looks };
    while claimer.go_on().await {}
    claimer.finish().await;
}

struct Claimer {
    core: Arc<Core>,
    consumer: Arc<Consumer>,
    /// The number of the last connection to the server that is known to have what we did.
    connection: Option<u64>,
    /// Set once we listen for hints; true once the server has confirmed that.
    hints: Option<Arc<AtomicBool>>,
    /// The next round does not wait. With priorities, no round may wait at the server before all lists were
    /// seen to be empty.
    looks: bool,
}

impl Claimer {
    /// Does the next thing; `false` when it is time to end.
    async fn go_on(&mut self) -> bool {
        if self.hints.is_none() && self.consumer.knows_delays() && self.consumer.is_open() {
            self.listen_for_hints();
        }
        self.look_at_a_new_server();
        let (core, consumer) = (&self.core, &self.consumer);
        let outcome = match consumer.step() {
            Step::Finish => return false,
            Step::Rest(until) => {
                self.rest(until).await;
                self.looks = self.consumer.keys().policy().priorities;
                Ok(())
            }
            Step::Aside(chore) => {
                self.aside(chore);
                Ok(())
            }
            Step::Open => self.unless_closed(lease::open(core, consumer, Wait::Forever)).await,
            Step::LineUp => self.unless_closed(line_up(core, consumer, Wait::Forever)).await,
            Step::Compare(epochs) => {
                let compared = self.unless_closed(compare(core, consumer, &epochs)).await;
                if compared.is_err() {
                    consumer.tell_uncertain();
                }
                // What the end of the consumer broke off is done there.
                if compared.is_err() || !consumer.is_open() {
                    epochs.into_iter().for_each(|epoch| consumer.look_at(epoch));
                }
                compared
            }
            Step::Leave => self.leave().await,
            Step::Claim => self.round().await,
        };
        if let Err(error) = outcome {
            self.take_error(&error).await;
        }
        true
    }

    /// Has the lists of our epochs read where the connection was made anew. Another server, or the same one from
    /// its log, may not have the settlements that the last one confirmed: then what was settled lies in
    /// a list whose lease we would go on prolonging for as long as we claim.
    fn look_at_a_new_server(&mut self) {
        let Some(number) = self.core.commands.number() else { return };
        let before = self.connection.replace(number);
        if before.is_some_and(|before| before != number) {
            self.consumer.look_at_all();
        }
    }

    /// Has the server forget epochs that hold nothing. Where the user may not do that, it is no failure of
    /// those who wait for items: the lease ends, and whoever reaps next forgets it.
    async fn leave(&self) -> Result<()> {
        let consumer = &self.consumer;
        // First, since a claim that is under way may bring something into one of them.
        let still = tokio::select! {
            still = consumer.still() => still,
            () = consumer.closing() => return Ok(()),
        };
        let epochs = consumer.take_vacant();
        if epochs.is_empty() {
            return Ok(());
        }
        let left = self.unless_closed(lease::leave(&self.core, consumer, &epochs)).await;
        drop(still);
        let denied = left.as_ref().is_err_and(give_back::is_about_one);
        if denied {
            consumer.forget(&epochs);
        } else if left.is_err() || !consumer.is_open() {
            // Nobody knows whether it was done; the end of the consumer does it, if not the next attempt.
            epochs.into_iter().for_each(|epoch| consumer.note_doubt(epoch));
            return left;
        }
        tell(consumer, left, NOT_FORGOTTEN);
        Ok(())
    }

    async fn unless_closed(&self, work: impl Future<Output = Result<()>>) -> Result<()> {
        tokio::select! {
            result = work => result,
            () = self.consumer.closing() => Ok(()),
        }
    }

    /// Waits where the failure passes by itself, such as a lost connection; otherwise tells the getters.
    async fn take_error(&self, error: &Error) {
        let queue = &self.consumer.keys().name;
        let lost = matches!(error.kind(), ErrorKind::Connection | ErrorKind::Ambiguous);
        if lost || Refusal::passed_on(error) || error.is_retryable() {
            // A lost connection is in the log already, once for however many queues.
            if self.consumer.set_trouble(error) && !lost {
                tracing::warn!(queue, %error, "nothing can be taken just now; waiting");
            }
        } else {
            self.consumer.fail_all(|| copy(error, "claim"));
        }
        self.nap(Duration::from_millis(50), Duration::from_millis(500)).await;
    }

    async fn rest(&self, until: Option<Instant>) {
        tokio::select! {
            () = self.consumer.changed() => {}
            () = reached(until) => {}
        }
    }

    async fn nap(&self, least: Duration, most: Duration) {
        tokio::select! {
            () = sleep(jitter(least, most)) => {}
            () = self.consumer.closing() => {}
        }
    }

    /// Does something in a task of its own. What moves items counts as moving from here on, not only when
    /// its task begins: else the end of the consumer could come in between, and give back what a program
    /// has confirmed.
    fn aside(&self, chore: Chore) {
        let (core, consumer) = (Arc::clone(&self.core), Arc::clone(&self.consumer));
        match chore {
            Chore::Settle(batch) => {
                // While they are sent they are in no list here; `calm` waits for them too.
                consumer.begin_sending();
                let parcel = core.consumers.hand_on(&consumer, batch);
                let moving = consumer.moving_at_once();
                self.core.runtime.spawn(async move {
                    settle_alone(&core, &consumer, parcel.open()).await;
                    drop(moving);
                    consumer.end_sending();
                });
            }
            Chore::Show(receipts) => {
                let moving = consumer.moving_at_once();
                self.core.runtime.spawn(async move {
                    let outcome = show(&core, &consumer, &receipts).await;
                    drop(moving);
                    tell(&consumer, outcome, NOT_SHOWN);
                });
            }
            Chore::Beat(epochs) => {
                let moving = consumer.moving_at_once();
                self.core.runtime.spawn(async move {
                    let outcome = lease::beat(&core, &consumer, &epochs).await;
                    drop(moving);
                    tell(&consumer, outcome, "no lease was prolonged");
                });
            }
            Chore::Reap => {
                self.core.runtime.spawn(async move {
                    let outcome = orphans::adopt(&core, &consumer).await;
                    tell(&consumer, outcome, "nobody looked for what a claim left with nobody");
                    let outcome = give_back::reap(&core, consumer.keys()).await;
                    tell(&consumer, outcome, "nothing of lost consumers was given back");
                });
            }
        }
    }

    /// One round trip: confirmations, then as many items as are waited for.
    async fn round(&mut self) -> Result<()> {
        let Some(socket) = self.socket().await else { return Ok(()) };
        // The wait is short compared with the lease. The end of the lease is written before the wait and
        // counts the whole wait, so an item that comes early is leased too long by the rest of it.
        let hears = self.hints.as_ref().is_some_and(|hears| hears.load(Ordering::Relaxed));
        let most = if hears { SLICE } else { FIRST_SLICE };
        let Some(round) = self.consumer.round(most.min(self.consumer.lease() / 3), self.looks)
        else {
            self.core.pool.put(socket);
            return Ok(());
        };
        let commands = round.commands(&self.consumer);
        let outcome = {
            let answer = std::pin::pin!(socket.pipeline(&commands));
            self.watch(&socket, &round, answer).await
        };
        let outcome = match outcome {
            Ok(replies) => {
                self.core.pool.put_after(socket, &replies);
                self.take(round, replies).await
            }
            Err(fault) => {
                let queue = &self.consumer.keys().name;
                tracing::debug!(queue, %fault, "a claim's reply was lost");
                // A getter whose time ends before the next answer is told of this, not that the queue is empty.
                let why = format!("the connection was lost ({fault})");
                let error = Purpose::change("claim", queue).error(ErrorKind::Connection, why);
                self.consumer.set_trouble(&error);
                // The server may have taken items for us, and may have settled those that rode along:
                // only its lists can tell, and they are read before anything else is claimed.
                self.consumer.doubt(round.epoch);
                self.consumer.unsettled(round.acks);
                Ok(())
            }
        };
        self.consumer.end_round();
        outcome
    }

    /// A connection to wait on; `None` when nobody waits any more.
    async fn socket(&self) -> Option<Socket> {
        let mut take = std::pin::pin!(self.core.pool.take());
        let overdue = Instant::now() + PATIENCE;
        let mut late = std::pin::pin!(sleep_until(overdue));
        loop {
            tokio::select! {
                biased;
                socket = &mut take => return Some(socket),
                () = self.consumer.changed() => {}
                () = reached(self.consumer.beside_at()) => {}
                () = &mut late, if !late.is_elapsed() => self.tell_no_connection(),
            }
            let (chore, out) = self.consumer.beside(None);
            if let Some(chore) = chore {
                self.aside(chore);
            }
            if out {
                return None;
            }
        }
    }

    fn tell_no_connection(&self) {
        let purpose = Purpose::change("claim", &self.consumer.keys().name);
        let why = format!(
            "no connection to wait on ({})",
            self.core.dialer.standing().trouble(Role::Waiting)
        );
        let error = purpose.error(ErrorKind::Connection, why);
        // The log has it once, however many queues wait for the same server.
        self.consumer.set_trouble(&error);
    }

    /// Waits for the answer, while settlements go their way; ends the wait at the server when
    /// nobody here waits any more, or something else has to be done first.
    async fn watch<F>(
        &self,
        socket: &Socket,
        round: &Round,
        mut answer: Pin<&mut F>,
    ) -> Result<Vec<Reply>, Fault>
    where
        F: Future<Output = Result<Vec<Reply>, Fault>>,
    {
        let ends_at = round.began + round.slice.unwrap_or_default();
        loop {
            tokio::select! {
                outcome = &mut answer => return outcome,
                () = self.consumer.changed() => {}
                () = reached(self.consumer.beside_at()) => {}
            }
            let (chore, out) = self.consumer.beside(Some(round.epoch));
            if let Some(chore) = chore {
                self.aside(chore);
            }
            if out {
                // Dropping the answer would leave an item with nobody: it is waited for, or broken off by
                // a command whose outcome is known.
                if Instant::now() + SOON > ends_at
                    && let Ok(outcome) = timeout(SOON * 2, &mut answer).await
                {
                    return outcome;
                }
                return self.core.unblock(socket, &self.consumer.keys().spare, answer).await;
            }
        }
    }

    /// Digests the answer of a round.
    async fn take(&mut self, round: Round, replies: Vec<Reply>) -> Result<()> {
        let (epoch, slice, began) = (round.epoch, round.slice, round.began);
        let brought = digest(&self.core, &self.consumer, round, replies, Wait::Forever).await?;
        self.looks = !brought.items.is_empty() && self.consumer.keys().policy().priorities;
        if let Some(refusal) = brought.refused.filter(|_| brought.items.is_empty()) {
            let purpose = Purpose::change("claim", &self.consumer.keys().name);
            return Err(purpose.refused(&refusal));
        }
        if self.consumer.clear_trouble() {
            tracing::debug!(queue = self.consumer.keys().name, "items can be taken again");
        }
        if !brought.items.is_empty() {
            self.hand_out(epoch, brought.items);
        } else if brought.full {
            self.nap(Duration::from_millis(50), Duration::from_millis(500)).await;
        } else if slice.is_some_and(|slice| began.elapsed() < slice / 2) && !brought.ended {
            // A server that does not wait, though it is asked to, is not asked without pause.
            self.nap(Duration::from_millis(50), Duration::from_millis(500)).await;
        } else if slice.is_none() {
            if brought.shut {
                let purpose = Purpose::change("claim", &self.consumer.keys().name);
                self.consumer.fail_all(|| refusals::shut_down(purpose.operation, purpose.object));
            }
        } else if began.elapsed() >= FIRST_SLICE && self.hints.is_none() {
            self.listen_for_hints();
        }
        Ok(())
    }

    /// Gives items to those who wait. What may not be ours any more, because the answer comes later
    /// than the lease lasts, is looked for in the server's list.
    fn hand_out(&self, epoch: Epoch, items: Vec<(HeldList, Bytes)>) {
        if self.consumer.is_sure(epoch) {
            self.consumer.distribute(items);
        } else {
            self.consumer.look_at(epoch);
        }
    }

    /// From now on a shutdown elsewhere is seen at once, and an item that is due sooner.
    fn listen_for_hints(&mut self) {
        let hears = Arc::new(AtomicBool::new(false));
        self.hints = Some(Arc::clone(&hears));
        let (core, consumer) = (Arc::clone(&self.core), Arc::clone(&self.consumer));
        self.core.runtime.spawn(async move {
            let hint = Arc::new(Notify::new());
            let purpose = Purpose::change("claim", &consumer.keys().name);
            let names = vec![Name::Topic(consumer.keys().hint.as_str().into())];
            let target = Target::Hint(Arc::clone(&hint));
            let membership = core.pubsub.join(purpose, names, target).await;
            hears.store(true, Ordering::Relaxed);
            // A hint may have come before we listened: look once.
            consumer.poke();
            loop {
                tokio::select! {
                    () = hint.notified() => consumer.poke(),
                    () = consumer.closing() => break,
                }
            }
            drop(membership);
        });
    }

    /// Sends the settlements that are left, then gives back the items that are held.
    async fn finish(self) {
        let consumer = &self.consumer;
        let queue = &consumer.keys().name;
        consumer.fail_all(|| Error::closed("claim", &**queue));
        let said = {
            let mut farewell = std::pin::pin!(self.farewell());
            match timeout(FAREWELL, &mut farewell).await {
                Err(_) => timeout(FAREWELL, farewell).await,
                said => said,
            }
        };
        match said {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(queue, %error, "what is held goes back with its lease");
            }
            Err(_) => tracing::warn!(queue, "what is held goes back with its lease"),
        }
        self.core.consumers.forget(consumer);
        settle_all(&self.core, consumer, consumer.end()).await;
    }

    /// In this order: what was shown counts as delivered, then what the program has settled leaves the
    /// lists, and only what is left in them goes back.
    async fn farewell(&self) -> Result<()> {
        let (core, consumer) = (&self.core, &self.consumer);
        let shown = show(core, consumer, &consumer.take_shown()).await;
        tell(consumer, shown, NOT_SHOWN);
        let _still = consumer.still().await;
        let closes = core.check(&Purpose::change("settle", &consumer.keys().name)).is_err();
        // Twice: what is not in the list where it was thought to be is looked for in another, and what
        // got no answer was done or is done now, as its list says.
        for _ in 0..2 {
            let doubted = consumer.take_last_doubts();
            if !doubted.is_empty() {
                let compared = compare_still(core, consumer, &doubted).await;
                tell(consumer, compared, NOT_COMPARED);
            }
            let batch = consumer.take_last_settlements(closes);
            if !batch.is_empty() {
                settle_alone(core, consumer, batch).await;
            }
        }
        give_back::close(core, consumer).await
    }
}

/// Returns at a moment; without one, never.
async fn reached(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// Logs why a chore of a consumer failed. A refusal is a warning, once, since somebody has to mend it; a lost
/// connection heals by itself, and the link has logged it.
fn tell(consumer: &Consumer, outcome: Result<()>, what: &'static str) {
    let queue = &consumer.keys().name;
    match outcome {
        Err(error) if error.kind() == ErrorKind::Server && consumer.log_once().is_news(what) => {
            tracing::warn!(queue, %error, "{what}");
        }
        Err(error) => tracing::debug!(queue, %error, "{what}"),
        Ok(()) => consumer.log_once().over(what),
    }
}
