//! Claiming: rounds that confirm what is done, take what is there and register who has it.
//!
//! The one invariant: in the write that may take an item, and after it, stands what registers the
//! item's epoch. So whoever is killed, on whichever command, leaves nothing that nobody finds, even
//! if the server had forgotten the registry or a command of a dead connection comes late. The answer
//! of a round that was sent is always read, and what it brought is given to somebody, given back, or
//! found again by reading the epoch's list.

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
use super::super::refusal::{Cause, Refusal};
use super::super::resp::{Batch, Command, Fault, Reply, Wire};
use super::super::routes::{Name, Target};
use super::super::standing::Role;
use super::super::timing::{ROUND_TRIP, SLICE};
use super::consumer::{Chore, Consumer, Round, Step};
use super::keys::{Epoch, Keys, Place};
use super::line::{Ticket, Want};
use super::settle::{not_settled, settle_all, settle_alone, take_reply};
use super::{copy, lease, scripts, shut_down_error};
use crate::error::{Error, ErrorKind, Result};
use crate::transport::{Claimed, QueueSpec, Wait};

/// The wait at the server before the consumer listens for hints: only who is idle pays for them.
const FIRST_SLICE: Duration = Duration::from_secs(1);
/// How long it takes until a connection that is not there is called a trouble.
const PATIENCE: Duration = Duration::from_millis(250);
/// A wait that ends so soon by itself is not ended before its time.
const SOON: Duration = Duration::from_millis(50);
/// What the log says where the server does not note what was handed out.
const NOT_SHOWN: &str = "what was fetched ahead does not count as delivered if this process dies";
/// How long closing tries to give back what is held; the lease does it otherwise.
const FAREWELL: Duration = Duration::from_secs(2);

/// Claims for everybody in the line until the consumer is closed.
pub(super) async fn run(core: Arc<Core>, consumer: Arc<Consumer>) {
    let looks = consumer.keys().policy().priorities;
    let mut claimer = Claimer { core, consumer, hints: None, looks };
    while claimer.go_on().await {}
    claimer.finish().await;
}

/// Takes what is there for one getter who does not wait.
pub(super) fn try_claim(
    core: &Arc<Core>,
    consumer: &Arc<Consumer>,
    spec: &QueueSpec,
    limit: usize,
) -> Option<Ticket> {
    let (ticket, reply) = consumer.ticket(spec)?;
    let (core, consumer) = (Arc::clone(core), Arc::clone(consumer));
    let want = Want::of(spec, limit);
    // In a task of its own: the answer is read even if nobody waits for it any more.
    core.runtime.clone().spawn(async move {
        let answer = claim_now(&core, &consumer, want).await;
        consumer.answer(reply, answer);
    });
    Some(ticket)
}

async fn claim_now(core: &Core, consumer: &Consumer, want: Want) -> Result<Vec<Claimed>> {
    if !consumer.is_opened() {
        lease::open(core, consumer, Wait::No).await?;
    }
    if consumer.is_due() {
        lease::line_up(core, consumer).await?;
    }
    let claimed = claim_once(core, consumer, want).await?;
    if !claimed.is_empty() || !consumer.is_due() {
        return Ok(claimed);
    }
    // The answer told of something that was due.
    lease::line_up(core, consumer).await?;
    claim_once(core, consumer, want).await
}

async fn claim_once(core: &Core, consumer: &Consumer, want: Want) -> Result<Vec<Claimed>> {
    let purpose = Purpose::change("get", &consumer.keys().list).within(Wait::No);
    // Whoever reads lists meanwhile may wait for a server that says nothing.
    let Ok(_moving) = timeout(ROUND_TRIP, consumer.moving()).await else {
        let why = "the server does not answer; nothing was taken";
        return Err(purpose.error(ErrorKind::Connection, why));
    };
    let round = consumer.round_apart(want);
    let replies = match core.commands.pipeline(purpose, &round.commands(consumer)).await {
        Ok(replies) => replies,
        Err(error) => return Err(not_claimed(consumer, round, &error)),
    };
    let (epoch, began) = (round.epoch, round.began);
    let brought = digest(core, consumer, round, replies).await?;
    if brought.items.is_empty() {
        if let Some(refusal) = brought.refused {
            return Err(purpose.refused(&refusal));
        }
        return if brought.shut { Err(shut_down_error(&purpose)) } else { Ok(Vec::new()) };
    }
    consumer.clear_trouble();
    if consumer.is_sure(epoch) {
        return Ok(consumer.take_over(brought.items));
    }
    // They may be somebody else's by now: what is still ours is found in the server's list.
    consumer.look_at(epoch);
    let why = format!("no answer for {:?}, longer than the lease", began.elapsed());
    Err(purpose.error(ErrorKind::Connection, why))
}

/// What becomes of a claim that failed: an item that it may have taken is found again, so that
/// trying again is safe whatever happened.
fn not_claimed(consumer: &Consumer, round: Round, error: &Error) -> Error {
    if error.kind() == ErrorKind::Connection {
        // Not sent, since this claim does not wait; whoever confirms may.
        consumer.put_back(round.acks);
        return copy(error, "get");
    }
    if error.kind() != ErrorKind::Ambiguous {
        not_settled(consumer, round.acks, error);
        return copy(error, "get");
    }
    consumer.doubt(round.epoch);
    consumer.unsettled(round.acks);
    Error::new(ErrorKind::Connection, "get", error.object(), error.message().to_owned())
}

impl Round {
    /// Its commands: confirmations, takes, registration, and what else belongs to the same write.
    fn commands(&self, consumer: &Consumer) -> Batch {
        let keys = consumer.keys();
        let mut commands: Batch = self.acks.iter().map(|ack| ack.confirm(keys)).collect();
        let take = |name, held: &str| {
            Command::new(name).arg(&keys.list).arg(held).arg("RIGHT").arg("LEFT")
        };
        let held = keys.held(self.epoch.shown());
        let mut moves = self.want.now;
        if let Some(slice) = self.slice {
            // Zero would wait for ever.
            let wait = format!("{:.3}", slice.as_secs_f64().max(0.001));
            commands.extend([take("BLMOVE", &held).arg(wait)]);
            moves -= 1;
        }
        if keys.policy().priorities {
            commands.extend([self.take_first(keys, moves)]);
        } else {
            commands.extend(std::iter::repeat_n(take("LMOVE", &held), moves));
        }
        if self.fetches_ahead() && !keys.policy().priorities {
            let ahead = take("LMOVE", &keys.held(self.epoch.ahead()));
            commands.extend(std::iter::repeat_n(ahead, self.want.ahead));
        }
        commands.extend([self.registration(consumer, keys)]);
        if self.asks_for_shutdown() {
            // Of a key that is named twice it says 2: one command tells both.
            let ask = Command::new("EXISTS").arg(&keys.shut).arg(&keys.shut).arg(&keys.later);
            commands.extend([ask]);
        }
        if self.bounded {
            commands.extend([Command::new("PUBLISH").arg(&keys.hint).arg("space")]);
        }
        commands
    }

    /// Takes the most urgent items; by its text, since a server that does not know the digest would
    /// seem to have none.
    fn take_first(&self, keys: &Keys, now: usize) -> Command {
        let held = keys.held(self.epoch.shown());
        let names = [keys.list.as_str(), &held, &keys.held(self.epoch.ahead()), &keys.spare];
        let words = [keys.urgents(), &*now.to_string(), &self.want.ahead.to_string()];
        scripts::TAKE_FIRST.teach(&names, &words.map(str::as_bytes))
    }

    /// Registers the epoch. Where it surely is registered, a short command does, which changes
    /// something only for a server that forgot; else a script that first looks whether anything was
    /// taken, so that who gets nothing leaves no key.
    fn registration(&self, consumer: &Consumer, keys: &Keys) -> Command {
        match self.lease_end {
            Some(end) => {
                let mut command = Command::new("ZADD").arg(&keys.epochs).arg("NX");
                for place in self.places() {
                    command = command.number(end).arg(keys.name(place));
                }
                command
            }
            // By its text: a server that does not know the digest would refuse, after the take.
            None => lease::keep(consumer, &self.places().collect::<Vec<_>>(), self.waits_long()),
        }
    }

    /// Whether it waits for long enough to be counted as a consumer, though it gets nothing.
    pub(super) fn waits_long(&self) -> bool {
        self.slice.is_some_and(|slice| slice >= FIRST_SLICE)
    }

    fn fetches_ahead(&self) -> bool {
        self.want.ahead > 0
    }

    /// How many of its commands take items: one for each, or a script for all, behind the one that waits.
    fn takes(&self, consumer: &Consumer) -> usize {
        if consumer.keys().policy().priorities {
            1 + usize::from(self.slice.is_some())
        } else {
            self.want.now + self.want.ahead
        }
    }

    /// Into which list each item goes that it takes, in their order.
    fn places_taken(&self) -> impl Iterator<Item = Place> + use<> {
        let Want { now, ahead } = self.want;
        let shown = std::iter::repeat_n(self.epoch.shown(), now);
        shown.chain(std::iter::repeat_n(self.epoch.ahead(), ahead))
    }

    /// The lists that it takes items into.
    fn places(&self) -> impl Iterator<Item = Place> {
        self.epoch.places(self.fetches_ahead())
    }

    /// The script says so by itself; in a wait, the next one does.
    fn asks_for_shutdown(&self) -> bool {
        self.slice.is_none() && self.lease_end.is_some()
    }
}

/// What a round brought.
struct Brought {
    items: Vec<(Place, Bytes)>,
    /// The server's memory is full.
    full: bool,
    /// The wait was ended by us.
    ended: bool,
    refused: Option<Refusal>,
    shut: bool,
}

impl Brought {
    /// Notes what a command answered that takes an item into a list.
    fn note(&mut self, place: Option<Place>, reply: Reply) {
        match (place, reply) {
            (Some(place), Reply::Bytes(stored)) => self.items.push((place, stored)),
            (_, Reply::Refused(refusal)) if refusal.cause() == Cause::Full => self.full = true,
            // Our own doing: nothing was taken.
            (_, Reply::Refused(refusal)) if refusal.cause() == Cause::Ended => self.ended = true,
            (_, Reply::Refused(refusal)) => self.refused = Some(refusal),
            _ => {}
        }
    }
}

/// Takes in the answer of a round: all but the items, which are the caller's to hand out.
async fn digest(
    core: &Core,
    consumer: &Consumer,
    mut round: Round,
    replies: Vec<Reply>,
) -> Result<Brought> {
    let mut brought =
        Brought { items: Vec::new(), full: false, ended: false, refused: None, shut: false };
    let asks_for_shutdown = round.asks_for_shutdown();
    let mut replies = replies.into_iter();
    for settling in std::mem::take(&mut round.acks) {
        take_reply(core, consumer, settling, replies.next().unwrap_or(Reply::Nothing)).await;
    }
    let mut places = round.places_taken();
    for reply in replies.by_ref().take(round.takes(consumer)) {
        match reply {
            Reply::List(items) => {
                items.into_iter().for_each(|item| brought.note(places.next(), item));
            }
            reply => brought.note(places.next(), reply),
        }
    }
    let registration = replies.next().unwrap_or(Reply::Nothing);
    if brought.full && brought.items.is_empty() {
        let taken = take_by_script(core, consumer, &round).await;
        brought.items = taken?;
        return Ok(brought);
    }
    let registered = match registration {
        Reply::Refused(refusal) if brought.items.is_empty() => {
            // A full server refuses to register what nothing was taken for: that is no failure.
            let refusal = Some(refusal).filter(|refusal| refusal.cause() != Cause::Full);
            brought.refused = brought.refused.or(refusal);
            return Ok(brought);
        }
        Reply::Refused(_) => lease::beat(core, consumer, &[round.epoch]).await,
        reply => {
            brought.shut = note_registration(consumer, &round, reply, brought.items.is_empty());
            Ok(())
        }
    };
    if asks_for_shutdown {
        let flags = replies.next().and_then(|reply| reply.number());
        brought.shut = flags.is_some_and(|flags| consumer.note_flags(flags));
    }
    if let Err(error) = registered {
        // Held by an epoch that nobody else finds: it must not stay so.
        consumer.give_back(brought.items);
        return Err(copy(&error, "get"));
    }
    Ok(brought)
}

/// Notes what the registration of a round says; returns whether the queue is shut down, as far as it
/// says so.
fn note_registration(consumer: &Consumer, round: &Round, reply: Reply, empty: bool) -> bool {
    if round.lease_end.is_some() {
        if empty && round.slice.is_some() {
            // The script of the next round looks at everything again.
            consumer.note_doubt(round.epoch);
        }
        return false;
    }
    let places: Vec<_> = round.places().collect();
    lease::note_kept(consumer, &places, round.began, reply).shut
}

/// For a server whose memory is full: it refuses BLMOVE, but consumers must be able to drain. Nothing
/// is fetched ahead there.
async fn take_by_script(
    core: &Core,
    consumer: &Consumer,
    round: &Round,
) -> Result<Vec<(Place, Bytes)>> {
    let keys = consumer.keys();
    let place = round.epoch.shown();
    let held = keys.held(place);
    let purpose = Purpose::change("get", &keys.list);
    let names = [keys.list.as_str(), &held, &keys.spare];
    let want = round.want.now.to_string();
    // Both by their text, in one write.
    let take = if keys.policy().priorities {
        round.take_first(keys, round.want.now)
    } else {
        scripts::TAKE.teach(&names, &[want.as_bytes()])
    };
    let commands = Batch::from_iter([take, lease::keep(consumer, &[place], false)]);
    let replies = core.commands.pipeline(purpose, &commands).await.inspect_err(|error| {
        if error.kind() == ErrorKind::Ambiguous {
            consumer.doubt(round.epoch);
        }
    });
    let mut replies = replies.map_err(|error| copy(&error, "get"))?.into_iter();
    let taken = purpose.check(replies.next())?.items();
    if let Some(reply) = replies.next() {
        lease::note_kept(consumer, &[place], round.began, reply);
    }
    Ok(taken.into_iter().filter_map(Reply::bytes).map(|stored| (place, stored)).collect())
}

struct Claimer {
    core: Arc<Core>,
    consumer: Arc<Consumer>,
    /// Whether we hear hints, once we listen for them.
    hints: Option<Arc<AtomicBool>>,
    /// Whether the next round only looks: where items have priorities nobody may wait at the server
    /// before all their lists were seen to be empty.
    looks: bool,
}

impl Claimer {
    /// Does the next thing; `false` when it is time to end.
    async fn go_on(&mut self) -> bool {
        if self.hints.is_none() && self.consumer.knows_delays() && self.consumer.is_open() {
            self.listen_for_hints();
        }
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
            Step::LineUp => self.unless_closed(lease::line_up(core, consumer)).await,
            Step::Compare(epochs) => {
                let compared = self.unless_closed(lease::compare(core, consumer, &epochs)).await;
                if compared.is_err() {
                    consumer.tell_uncertain();
                    epochs.into_iter().for_each(|epoch| consumer.look_at(epoch));
                }
                compared
            }
            Step::Leave(epochs) => {
                let left = self.unless_closed(lease::leave(core, consumer, &epochs)).await;
                if left.is_err() {
                    epochs.into_iter().for_each(|epoch| consumer.note_doubt(epoch));
                }
                left
            }
            Step::Claim => self.round().await,
        };
        if let Err(error) = outcome {
            self.take_error(&error).await;
        }
        true
    }

    async fn unless_closed(&self, work: impl Future<Output = Result<()>>) -> Result<()> {
        tokio::select! {
            result = work => result,
            () = self.consumer.closing() => Ok(()),
        }
    }

    /// A lost connection is waited for, and what passes by itself; anything else is the getters' to
    /// know.
    async fn take_error(&self, error: &Error) {
        let queue = &self.consumer.keys().list;
        let lost = matches!(error.kind(), ErrorKind::Connection | ErrorKind::Ambiguous);
        if lost || Refusal::passed_on(error) || error.is_retryable() {
            // A lost connection is in the log already, once for however many queues.
            if self.consumer.set_trouble(error) && !lost {
                tracing::warn!(queue, %error, "nothing can be taken just now; waiting");
            }
        } else {
            self.consumer.fail_all(|| copy(error, "get"));
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

    /// Does something in a task of its own.
    fn aside(&self, chore: Chore) {
        let (core, consumer) = (Arc::clone(&self.core), Arc::clone(&self.consumer));
        match chore {
            Chore::Settle(batch) => {
                consumer.begin_sending();
                let parcel = core.consumers.hand_on(&consumer, batch);
                self.core.runtime.spawn(async move {
                    let moving = consumer.moving().await;
                    settle_alone(&core, &consumer, parcel.open()).await;
                    drop(moving);
                    consumer.end_sending();
                });
            }
            Chore::Show(receipts) => {
                self.core.runtime.spawn(async move {
                    let outcome = lease::show(&core, &consumer, &receipts).await;
                    lease::tell(&consumer, outcome, NOT_SHOWN);
                });
            }
            Chore::Beat(epochs) => {
                self.core.runtime.spawn(async move {
                    let _moving = consumer.moving().await;
                    let outcome = lease::beat(&core, &consumer, &epochs).await;
                    lease::tell(&consumer, outcome, "no lease was prolonged");
                });
            }
            Chore::Reap => {
                self.core.runtime.spawn(async move {
                    let outcome = lease::reap(&core, consumer.keys()).await;
                    lease::tell(&consumer, outcome, "nothing of lost consumers was given back");
                });
            }
        }
    }

    /// One round trip: confirmations, then as many items as are waited for.
    async fn round(&mut self) -> Result<()> {
        let Some(wire) = self.wire().await else { return Ok(()) };
        // Short beside the lease: what is taken at its very end is registered for a slice too long.
        let hears = self.hints.as_ref().is_some_and(|hears| hears.load(Ordering::Relaxed));
        let most = if hears { SLICE } else { FIRST_SLICE };
        let Some(round) = self.consumer.round(most.min(self.consumer.lease() / 3), self.looks)
        else {
            self.core.pool.put(wire);
            return Ok(());
        };
        let commands = round.commands(&self.consumer);
        let outcome = {
            let answer = std::pin::pin!(wire.pipeline(&commands));
            self.watch(&wire, &round, answer).await
        };
        let outcome = match outcome {
            Ok(replies) => {
                self.core.pool.put_after(wire, &replies);
                self.take(round, replies).await
            }
            Err(fault) => {
                let queue = &self.consumer.keys().list;
                tracing::debug!(queue, %fault, "a claim's reply was lost");
                // Whose time is up before the next answer is not told that the queue is empty.
                let why = format!("the connection was lost ({fault})");
                let error = Purpose::change("get", queue).error(ErrorKind::Connection, why);
                self.consumer.set_trouble(&error);
                self.consumer.doubt(round.epoch);
                self.consumer.unsettled(round.acks);
                Ok(())
            }
        };
        self.consumer.end_round();
        outcome
    }

    /// A connection to wait on; `None` when nobody waits any more.
    async fn wire(&self) -> Option<Wire> {
        let mut take = std::pin::pin!(self.core.pool.take());
        let overdue = Instant::now() + PATIENCE;
        let mut late = std::pin::pin!(sleep_until(overdue));
        loop {
            tokio::select! {
                biased;
                wire = &mut take => return Some(wire),
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
        let purpose = Purpose::change("get", &self.consumer.keys().list);
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
        wire: &Wire,
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
                if Instant::now() + SOON > ends_at
                    && let Ok(outcome) = timeout(SOON * 2, &mut answer).await
                {
                    return outcome;
                }
                return self.core.unblock(wire, &self.consumer.keys().spare, answer).await;
            }
        }
    }

    /// Digests the answer of a round.
    async fn take(&mut self, round: Round, replies: Vec<Reply>) -> Result<()> {
        let (epoch, slice, began) = (round.epoch, round.slice, round.began);
        let brought = digest(&self.core, &self.consumer, round, replies).await?;
        self.looks = !brought.items.is_empty() && self.consumer.keys().policy().priorities;
        if let Some(refusal) = brought.refused.filter(|_| brought.items.is_empty()) {
            let purpose = Purpose::change("get", &self.consumer.keys().list);
            return Err(purpose.refused(&refusal));
        }
        if self.consumer.clear_trouble() {
            tracing::debug!(queue = self.consumer.keys().list, "items can be taken again");
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
                let purpose = Purpose::change("get", &self.consumer.keys().list);
                self.consumer.fail_all(|| shut_down_error(&purpose));
            }
        } else if began.elapsed() >= FIRST_SLICE && self.hints.is_none() {
            self.listen_for_hints();
        }
        Ok(())
    }

    /// Gives items to those who wait. What may not be ours any more, because the answer comes later
    /// than the lease lasts, is looked for in the server's list.
    fn hand_out(&self, epoch: Epoch, items: Vec<(Place, Bytes)>) {
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
            let purpose = Purpose::change("get", &consumer.keys().list);
            let names = vec![Name::Topic(consumer.keys().hint.as_str().into())];
            let target = Target::Hint(Arc::clone(&hint));
            let membership = core.pubsub.join(purpose, names, target).await;
            hears.store(true, Ordering::Relaxed);
            loop {
                tokio::select! {
                    () = hint.notified() => consumer.poke(),
                    () = consumer.closing() => break,
                }
            }
            drop(membership);
        });
    }

    /// Tells what is still to be told and gives back what is held.
    async fn finish(self) {
        let consumer = &self.consumer;
        let queue = &consumer.keys().list;
        consumer.fail_all(|| Error::closed("get", &**queue));
        let farewell = async {
            let shown = lease::show(&self.core, consumer, &consumer.take_shown()).await;
            lease::tell(consumer, shown, NOT_SHOWN);
            let _still = consumer.still().await;
            // Twice: what is not in the list where it was thought to be is looked for in another.
            for _ in 0..2 {
                let batch = consumer.take_settlements();
                if !batch.is_empty() {
                    settle_alone(&self.core, consumer, batch).await;
                }
            }
            lease::close(&self.core, consumer).await
        };
        match timeout(FAREWELL, farewell).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(queue, %error, "what is held goes back with its lease");
            }
            Err(_) => tracing::warn!(queue, "what is held goes back with its lease"),
        }
        self.core.consumers.forget(consumer);
        settle_all(&self.core, consumer, consumer.end()).await;
    }
}

/// Returns at a moment; without one, never.
async fn reached(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}
