//! The claimer: one task for each queue, which waits at the server for everybody here.
//!
//! The one invariant: the answer of a claim that was sent is always read, and what it brought is
//! given to somebody, given back, or found again by a reconciliation. Heartbeats and reaping are
//! the keeper's.

use std::pin::Pin;
use std::sync::Arc;
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
use super::super::timing::SLICE_AND_WAY;
use super::consumer::Consumer;
use super::keys::Keys;
use super::settlement::{Settling, confirm, settle_all, settle_alone, take_reply};
use super::state::{LARGEST, Order, Step};
use super::ticket::Ticket;
use super::{keeper, scripts, shut_down_error};
use crate::error::{Error, ErrorKind, Result};
use crate::transport::{Claimed, QueueSpec};

/// The wait at the server before the consumer listens for hints: only who is idle pays for them.
const FIRST_SLICE: Duration = Duration::from_secs(1);
/// How long closing tries to give back what is held; the lease does it otherwise.
const FAREWELL: Duration = Duration::from_secs(2);
/// Claims for everybody in the line until the consumer is closed.
pub(super) async fn run(core: Arc<Core>, consumer: Arc<Consumer>) {
    let mut claimer = Claimer { core, consumer, hinted: false };
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
    // In a task of its own: the answer is read even if nobody waits for it any more.
    core.runtime.clone().spawn(async move {
        let answer = claim_now(&core, &consumer, limit).await;
        consumer.answer(reply, answer);
    });
    Some(ticket)
}

async fn claim_now(core: &Core, consumer: &Consumer, limit: usize) -> Result<Vec<Claimed>> {
    let keys = &consumer.keys;
    let purpose = Purpose::change("get", &keys.list);
    if !consumer.lock().registered {
        keeper::register(core, consumer).await?;
    }
    let _moving = consumer.moving.read().await;
    if consumer.lock().is_stale() {
        keeper::beat(core, consumer).await?;
    }
    let (epoch, acks, bounded) = {
        let mut state = consumer.lock();
        (state.epoch, state.take_acks(), state.bounded)
    };
    let want = limit.min(LARGEST);
    let mut commands: Batch = acks.iter().map(|settling| confirm(keys, settling)).collect();
    commands.extend(std::iter::repeat_n(take_one(keys, epoch), want));
    commands.extend([Command::new("EXISTS").arg(&keys.shut)]);
    if bounded {
        commands.extend([Command::new("PUBLISH").arg(&keys.hint).arg("space")]);
    }
    let replies = match core.commands.pipeline(purpose, &commands).await {
        Ok(replies) => replies,
        Err(error) => return Err(not_claimed(consumer, acks, &error)),
    };
    let mut replies = replies.into_iter();
    for settling in acks {
        let reply = replies.next().unwrap_or(Reply::Nothing);
        take_reply(core, consumer, settling, reply).await;
    }
    let mut taken = Taken::new(replies.by_ref().take(want));
    if taken.full {
        taken.items = claim_by_script(core, consumer, epoch, want).await?;
    }
    if taken.items.is_empty() {
        if let Some(refusal) = taken.refused {
            return Err(purpose.refused(&refusal));
        }
        if replies.next().and_then(|reply| reply.number()) == Some(1) {
            return Err(shut_down_error(&purpose));
        }
    }
    Ok(taken.items.into_iter().map(|stored| consumer.take_over(stored, epoch)).collect())
}

/// What becomes of a claim that failed: an item that it may have taken is found again, so that
/// trying again is safe whatever happened.
fn not_claimed(consumer: &Consumer, acks: Vec<Settling>, error: &Error) -> Error {
    let kind = match error.kind() {
        ErrorKind::Ambiguous => {
            consumer.unsettled(acks);
            ErrorKind::Connection
        }
        kind => {
            consumer.lock().keep(acks, Instant::now() + Duration::from_secs(1));
            consumer.changed.notify_one();
            kind
        }
    };
    Error::new(kind, "get", &*consumer.keys.list, error.message().to_owned())
}

fn take_one(keys: &Keys, epoch: u64) -> Command {
    Command::new("LMOVE").arg(&keys.list).arg(keys.held(epoch)).arg("RIGHT").arg("LEFT")
}

/// For a server whose memory is full: it refuses BLMOVE, but consumers must be able to drain.
async fn claim_by_script(
    core: &Core,
    consumer: &Consumer,
    epoch: u64,
    want: usize,
) -> Result<Vec<Bytes>> {
    let keys = &consumer.keys;
    let held = keys.held(epoch);
    let purpose = Purpose::change("get", &keys.list);
    let want = want.to_string();
    let arguments = [want.as_bytes()];
    let names = [keys.list.as_str(), &held];
    match core.commands.script(purpose, &scripts::CLAIM, &names, &arguments).await {
        Ok(reply) => Ok(reply.items().into_iter().filter_map(Reply::bytes).collect()),
        Err(error) => Err(not_claimed(consumer, Vec::new(), &error)),
    }
}

/// What the moves of a round brought.
struct Taken {
    items: Vec<Bytes>,
    /// The server's memory is full.
    full: bool,
    refused: Option<Refusal>,
}

impl Taken {
    fn new(replies: impl Iterator<Item = Reply>) -> Self {
        let mut taken = Self { items: Vec::new(), full: false, refused: None };
        for reply in replies {
            match reply {
                Reply::Bytes(stored) => taken.items.push(stored),
                Reply::Refused(refusal) if refusal.cause() == Cause::Full => taken.full = true,
                Reply::Refused(refusal) => taken.refused = Some(refusal),
                _ => {}
            }
        }
        taken
    }
}

struct Claimer {
    core: Arc<Core>,
    consumer: Arc<Consumer>,
    /// Whether we listen for hints.
    hinted: bool,
}

impl Claimer {
    /// Does the next thing; `false` when it is time to end.
    async fn go_on(&mut self) -> bool {
        let open = self.consumer.is_open();
        let step = self.consumer.lock().step(Instant::now(), open);
        let outcome = match step {
            Step::Finish => return false,
            Step::Rest(until) => {
                self.rest(until).await;
                Ok(())
            }
            Step::Settle(batch) => {
                self.settle_aside(batch);
                Ok(())
            }
            Step::Claim => {
                self.round().await;
                Ok(())
            }
            Step::Register => {
                self.unless_closed(keeper::register(&self.core, &self.consumer)).await
            }
            Step::Beat => self.unless_closed(keeper::beat(&self.core, &self.consumer)).await,
            Step::Reconcile => {
                self.unless_closed(keeper::reconcile(&self.core, &self.consumer)).await
            }
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

    /// A lost connection is waited for, and what passes by itself; anything else is the getters' to know.
    async fn take_error(&self, error: &Error) {
        let list = &self.consumer.keys.list;
        let lost = matches!(error.kind(), ErrorKind::Connection | ErrorKind::Ambiguous);
        if lost || Refusal::passed_on(error) {
            tracing::debug!(queue = list, %error, "waiting for the server");
        } else {
            let copy = || Error::new(error.kind(), "get", &**list, error.message().to_owned());
            self.consumer.fail_all(copy);
        }
        self.nap(Duration::from_millis(50), Duration::from_millis(500)).await;
    }

    async fn rest(&self, until: Option<Instant>) {
        tokio::select! {
            () = self.consumer.changed.notified() => {}
            () = reached(until) => {}
        }
    }

    async fn nap(&self, least: Duration, most: Duration) {
        tokio::select! {
            () = sleep(jitter(least, most)) => {}
            () = self.consumer.closing() => {}
        }
    }

    fn settle_aside(&self, batch: Vec<Settling>) {
        let (core, consumer) = (Arc::clone(&self.core), Arc::clone(&self.consumer));
        consumer.begin_sending();
        self.core.runtime.spawn(async move {
            settle_all(&core, &consumer, batch).await;
            consumer.end_sending();
        });
    }

    /// One round trip: confirmations, then as many items as are waited for.
    async fn round(&mut self) {
        let Some(wire) = self.wire().await else { return };
        let mut order = {
            let mut state = self.consumer.lock();
            if state.wants_out(state.epoch, Instant::now()) {
                drop(state);
                return self.core.pool.put(wire);
            }
            state.order(Instant::now())
        };
        if !self.hinted {
            order.slice = order.slice.map(|slice| slice.min(FIRST_SLICE));
        }
        let began = Instant::now();
        let commands = self.commands(&order);
        let outcome = {
            let answer = std::pin::pin!(wire.pipeline(&commands));
            self.watch(&wire, &order, answer).await
        };
        self.consumer.end_round();
        match outcome {
            Ok(replies) => {
                self.core.pool.put_after(wire, &replies);
                self.take(order, replies, began).await;
            }
            Err(fault) => {
                tracing::debug!(queue = self.consumer.keys.list, %fault, "a claim's reply was lost");
                self.consumer.lock().look_again_at = Some(Instant::now() + SLICE_AND_WAY);
                self.consumer.unsettled(order.acks);
            }
        }
    }

    /// A connection to wait on; `None` when nobody waits any more.
    async fn wire(&self) -> Option<Wire> {
        let mut take = std::pin::pin!(self.core.pool.take());
        loop {
            tokio::select! {
                biased;
                wire = &mut take => return Some(wire),
                () = self.consumer.changed.notified() => {}
            }
            let mut state = self.consumer.lock();
            let now = Instant::now();
            let due = state.due(now);
            let out = state.wants_out(state.epoch, now) || !self.consumer.is_open();
            drop(state);
            if let Some(batch) = due {
                self.settle_aside(batch);
            }
            if out {
                return None;
            }
        }
    }

    fn commands(&self, order: &Order) -> Batch {
        let keys = &self.consumer.keys;
        let mut commands: Batch = order.acks.iter().map(|ack| confirm(keys, ack)).collect();
        let mut moves = order.want;
        if let Some(slice) = order.slice {
            let wait = format!("{:.3}", slice.as_secs_f64().max(0.001));
            let held = keys.held(order.epoch);
            let first = Command::new("BLMOVE").arg(&keys.list).arg(held);
            commands.extend([first.arg("RIGHT").arg("LEFT").arg(wait)]);
            moves -= 1;
        }
        commands.extend(std::iter::repeat_n(take_one(keys, order.epoch), moves));
        if order.slice.is_none() {
            commands.extend([Command::new("EXISTS").arg(&keys.shut)]);
        }
        if order.bounded {
            commands.extend([Command::new("PUBLISH").arg(&keys.hint).arg("space")]);
        }
        commands
    }

    /// Waits for the answer, while settlements go their way; ends the wait at the server when
    /// nobody here waits any more, or something else has to be done first.
    async fn watch<F>(
        &self,
        wire: &Wire,
        order: &Order,
        mut answer: Pin<&mut F>,
    ) -> Result<Vec<Reply>, Fault>
    where
        F: Future<Output = Result<Vec<Reply>, Fault>>,
    {
        loop {
            let flush_at = self.consumer.lock().flush_at();
            tokio::select! {
                outcome = &mut answer => return outcome,
                () = self.consumer.changed.notified() => {}
                () = reached(flush_at) => {}
            }
            let (due, out) = {
                let mut state = self.consumer.lock();
                let now = Instant::now();
                (state.due(now), state.wants_out(order.epoch, now))
            };
            if let Some(batch) = due {
                self.settle_aside(batch);
            }
            if out || !self.consumer.is_open() {
                return self.core.unblock(wire, answer).await;
            }
        }
    }

    /// Digests the answer of a round.
    async fn take(&mut self, order: Order, replies: Vec<Reply>, began: Instant) {
        let mut replies = replies.into_iter();
        for settling in order.acks {
            let reply = replies.next().unwrap_or(Reply::Nothing);
            take_reply(&self.core, &self.consumer, settling, reply).await;
        }
        let mut taken = Taken::new(replies.by_ref().take(order.want));
        let full = taken.full;
        if full {
            let claim = claim_by_script(&self.core, &self.consumer, order.epoch, order.want);
            match claim.await {
                Ok(items) => taken.items.extend(items),
                Err(error) => return self.take_error(&error).await,
            }
        }
        if !taken.items.is_empty() {
            return self.hand_out(order.epoch, taken.items).await;
        }
        if let Some(refusal) = taken.refused {
            return self.take_refusal(&refusal).await;
        }
        if full {
            return self.nap(Duration::from_millis(50), Duration::from_millis(500)).await;
        }
        match order.slice {
            None => {
                let shut = replies.next().and_then(|reply| reply.number()) == Some(1);
                self.consumer.lock().shut = shut;
                if shut {
                    self.consumer.fail_as_shut_down();
                }
            }
            Some(_) => {
                self.look_for_shutdown().await;
                if began.elapsed() >= FIRST_SLICE && !self.hinted {
                    self.listen_for_hints();
                }
            }
        }
    }

    /// Gives items to those who wait, unless they are not ours any more.
    async fn hand_out(&self, epoch: u64, items: Vec<Bytes>) {
        if self.consumer.lock().is_expired() {
            // We may have been asleep for longer than the lease: only the server knows.
            if let Err(error) = keeper::beat(&self.core, &self.consumer).await {
                tracing::debug!(%error, "a heartbeat failed; its claims are given back");
                return self.consumer.give_back(epoch, items);
            }
        }
        if self.consumer.lock().epoch == epoch {
            self.consumer.distribute(epoch, items);
        } else {
            self.consumer.give_back(epoch, items);
        }
    }

    async fn take_refusal(&self, refusal: &Refusal) {
        if refusal.passes() {
            tracing::debug!(queue = self.consumer.keys.list, %refusal, "the server refuses for now");
            return self.nap(Duration::from_millis(100), Duration::from_millis(500)).await;
        }
        let purpose = Purpose::change("get", &self.consumer.keys.list);
        self.consumer.fail_all(|| purpose.refused(refusal));
    }

    async fn look_for_shutdown(&self) {
        let purpose = Purpose::question("get", &self.consumer.keys.list);
        let command = Command::new("EXISTS").arg(&self.consumer.keys.shut);
        let asked = self.core.commands.run(purpose, &command);
        let reply = tokio::select! {
            reply = asked => reply,
            () = self.consumer.closing() => return,
        };
        // Not answered, it is asked again after the next slice.
        if let Ok(reply) = reply {
            self.consumer.lock().shut = reply.number() == Some(1);
        }
    }

    /// From now on a shutdown elsewhere is seen at once.
    fn listen_for_hints(&mut self) {
        self.hinted = true;
        let (core, consumer) = (Arc::clone(&self.core), Arc::clone(&self.consumer));
        self.core.runtime.spawn(async move {
            let hint = Arc::new(Notify::new());
            let purpose = Purpose::change("get", &consumer.keys.list);
            let names = vec![Name::Topic(consumer.keys.hint.as_str().into())];
            let target = Target::Hint(Arc::clone(&hint));
            let membership = core.pubsub.join(purpose, names, target).await;
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
        let list = &consumer.keys.list;
        consumer.fail_all(|| Error::closed("get", &**list));
        let farewell = async {
            let _alone = consumer.moving.write().await;
            let batch = consumer.lock().take_settlements();
            if !batch.is_empty() {
                settle_alone(&self.core, consumer, batch).await;
            }
            keeper::leave(&self.core, consumer).await
        };
        match timeout(FAREWELL, farewell).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(queue = list, %error, "what is held goes back with its lease");
            }
            Err(_) => tracing::warn!(queue = list, "what is held goes back with its lease"),
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
