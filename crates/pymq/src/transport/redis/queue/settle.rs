//! Settlements: the ends of leases, sent one by one or many in one write.
//!
//! The one invariant: a settlement is done or known to be too late before it is forgotten, or its
//! item would stay leased as long as the process lives. One whose answer was lost is uncertain until
//! the server's list has been read; one that was refused or not sent is sent again, also when
//! whoever asked for it was told of the refusal.

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::{Duration, Instant};

use super::super::Core;
use super::super::purpose::Purpose;
use super::super::refusal::Cause;
use super::super::resp::{Command, Reply};
use super::super::script::Lesson;
use super::consumer::Consumer;
use super::item::unmarked;
use super::keys::{Keys, Place, Policy};
use super::lease::milliseconds;
use super::{copy, letter, scripts};
use crate::error::{Error, ErrorKind, Result};
use crate::transport::{Failure, Reason, Receipt, SettleOptions, Settlement};

/// After how long a settlement that could not be done is tried again; the time doubles with each try
/// that fails.
const AGAIN: Duration = Duration::from_millis(500);
/// How often it doubles.
const DOUBLINGS: u32 = 5;

/// The end of a lease that the server has not confirmed yet.
#[derive(Debug)]
pub(super) struct Settling {
    receipt: Receipt,
    /// Where the server has the item.
    place: Place,
    /// Where else it may be: an item that was fetched ahead is in one of two lists, and whether the
    /// server has heard that it was shown is not known yet.
    other: Option<Place>,
    /// It was not in the first of them, so that now both are looked at.
    in_both: bool,
    how: Settlement,
    options: SettleOptions,
    reply: Option<oneshot::Sender<Result<()>>>,
    /// How often it was refused or not sent.
    failures: u32,
}

impl Settling {
    /// One that somebody waits for.
    pub(super) fn awaited(
        receipt: Receipt,
        place: Place,
        how: Settlement,
    ) -> (Self, oneshot::Receiver<Result<()>>) {
        let (reply, settled) = oneshot::channel();
        (Self { reply: Some(reply), ..Self::silent(receipt, place, how) }, settled)
    }

    /// One that nobody waits for.
    pub(super) fn silent(receipt: Receipt, place: Place, how: Settlement) -> Self {
        let options = SettleOptions::default();
        let (other, in_both) = (None, false);
        Self { receipt, place, other, in_both, how, options, reply: None, failures: 0 }
    }

    /// The same, whose item may be in another list as well.
    pub(super) fn or_in(self, other: Option<Place>) -> Self {
        Self { other, ..self }
    }

    /// The same for both lists, where there are two and the item was not found in the first. In one step:
    /// it may be on its way from one to the other just then.
    pub(super) fn elsewhere(self) -> std::result::Result<Self, Self> {
        match self.other {
            Some(_) if !self.in_both => Ok(Self { in_both: true, ..self }),
            _ => Err(self),
        }
    }

    /// The same for the list into which its item went meanwhile.
    pub(super) fn at(self, place: Place) -> Self {
        Self { place, other: None, in_both: false, ..self }
    }

    /// The same with more to say.
    pub(super) fn with(self, options: SettleOptions) -> Self {
        Self { options, ..self }
    }

    pub(super) fn delay(&self) -> Duration {
        self.options.delay
    }

    /// How often the item was delivered and why it dies, if it dies of this.
    pub(super) fn death(&self, policy: Policy) -> Option<(u32, Failure)> {
        let deliveries = unmarked(&self.receipt.stored, false).1.saturating_add(1);
        let spent = policy.max_deliveries > 0 && deliveries >= policy.max_deliveries;
        let reason = match self.how {
            Settlement::Reject => Reason::Rejected,
            Settlement::Requeue if spent => Reason::TooManyDeliveries,
            Settlement::Ack | Settlement::Requeue | Settlement::Return => return None,
        };
        let told = self.options.failure.as_deref().cloned();
        Some((deliveries, told.unwrap_or_else(|| Failure::new(reason))))
    }

    pub(super) fn receipt(&self) -> &Receipt {
        &self.receipt
    }

    pub(super) fn stored(&self) -> &Bytes {
        &self.receipt.stored
    }

    pub(super) fn place(&self) -> Place {
        self.place
    }

    pub(super) fn how(&self) -> Settlement {
        self.how
    }

    /// Whether it is of that receipt, and nobody is told how it ends.
    pub(super) fn is_left_of(&self, receipt: &Receipt) -> bool {
        self.reply.is_none() && self.failures > 0 && self.receipt == *receipt
    }

    /// Whether it was refused before, so that whoever asked for it may ask again.
    pub(super) fn was_refused(&self) -> bool {
        self.reply.is_none() && self.failures > 0
    }

    pub(super) fn into_receipt(self) -> Receipt {
        self.receipt
    }

    /// Tells a failure to whoever waits; the same settlement, for nobody, is still to be done.
    fn put_off(mut self, queue: &str, error: &Error) -> Self {
        self.failures += 1;
        match self.reply.take() {
            // Whoever asked may have stopped waiting.
            Some(reply) => drop(reply.send(Err(copy(error, "settle")))),
            // The first time is news; that it goes on is not.
            None if self.failures == 1 && error.kind() == ErrorKind::Server => {
                tracing::warn!(queue, %error, "an item is not settled; trying on");
            }
            None => tracing::debug!(queue, %error, "an item is not settled yet"),
        }
        self
    }

    /// Tells a failure to whoever waits, if anybody does; it may be done all the same.
    pub(super) fn tell(mut self, error: &Error) -> Self {
        if let Some(reply) = self.reply.take() {
            self.failures += 1;
            // Whoever asked may have stopped waiting.
            let _ = reply.send(Err(copy(error, "settle")));
        }
        self
    }

    fn again_at(&self) -> Instant {
        Instant::now() + AGAIN * 2_u32.pow(self.failures.saturating_sub(1).min(DOUBLINGS))
    }

    pub(super) fn answer(self, queue: &str, result: Result<()>) {
        match (self.reply, result) {
            // Whoever asked may have stopped waiting.
            (Some(reply), result) => drop(reply.send(result)),
            (None, Err(error)) => tracing::warn!(queue, %error, "an item was not settled"),
            (None, Ok(())) => {}
        }
    }

    /// The command that does it.
    fn command(&self, keys: &Keys) -> Command {
        if self.how == Settlement::Ack {
            return self.confirm(keys);
        }
        let (lists, words) = (self.lists(keys), self.words(keys));
        let arguments: Vec<_> = self.arguments(&words).collect();
        scripts::SETTLE.call(&names(&lists, keys), &arguments)
    }

    /// The same for when nobody hears the answer, so that the server must understand it.
    pub(super) fn last_command(&self, keys: &Keys, lesson: &mut Lesson) -> Command {
        match (self.how, self.other) {
            (Settlement::Ack, None) => return self.confirm(keys),
            (Settlement::Ack, Some(_)) => {
                let lists = self.lists(keys);
                let lists = lists.each_ref().map(String::as_str);
                return lesson.call(&scripts::CONFIRM, &lists, &[self.stored()]);
            }
            _ => {}
        }
        let (lists, words) = (self.lists(keys), self.words(keys));
        let arguments: Vec<&[u8]> = self.arguments(&words).collect();
        lesson.call(&scripts::SETTLE, &names(&lists, keys), &arguments)
    }

    /// The lists in which the item may be; the same twice where it is one.
    fn lists(&self, keys: &Keys) -> [String; 2] {
        [self.place, self.other.unwrap_or(self.place)].map(|place| keys.held(place))
    }

    /// What the script is told after the item and the manner: the policy of the consumer that holds
    /// the item, the delay, what names this settlement, why the item dies if it does, and where urgent ones lie.
    fn words(&self, keys: &Keys) -> [String; 8] {
        let policy = keys.policy();
        let (delay, token) = if self.delay().is_zero() {
            ("0".to_owned(), String::new())
        } else {
            (milliseconds(self.delay()), keys.token())
        };
        let failure = self.death(policy).map(|(_, failure)| failure).unwrap_or_default();
        let Policy { max_deliveries, max_dead_letters, .. } = policy;
        let policy = [max_deliveries.to_string(), max_dead_letters.to_string()];
        let why = [letter::number(failure.reason).to_string(), letter::words(&failure)];
        let [[deliveries, letters], [reason, words]] = [policy, why];
        let urgents = keys.urgents().to_owned();
        [deliveries, letters, delay, token, keys.hint.clone(), reason, words, urgents]
    }

    fn arguments<'a>(&'a self, words: &'a [String; 8]) -> impl Iterator<Item = &'a [u8]> {
        let first = [&*self.receipt.stored, self.manner()];
        first.into_iter().chain(words.iter().map(String::as_bytes))
    }

    /// What confirms it, from the tail, where the oldest is, which is most often the one.
    pub(super) fn confirm(&self, keys: &Keys) -> Command {
        if self.in_both {
            return self.confirm_in_both(keys);
        }
        Command::new("LREM").arg(keys.held(self.place)).arg("-1").arg(&self.receipt.stored)
    }

    /// By its text: what rides with a claim must be understood.
    fn confirm_in_both(&self, keys: &Keys) -> Command {
        let lists = self.lists(keys);
        scripts::CONFIRM.teach(&lists.each_ref().map(String::as_str), &[self.stored()])
    }

    fn manner(&self) -> &'static [u8] {
        match self.how {
            Settlement::Return => b"return",
            Settlement::Reject => b"reject",
            Settlement::Ack | Settlement::Requeue => b"requeue",
        }
    }
}

fn names<'a>([held, other]: &'a [String; 2], keys: &'a Keys) -> [&'a str; 6] {
    [held, &keys.list, &keys.dead, &keys.spare, &keys.later, other]
}

/// Sends the settlements that only wait for company.
pub(super) async fn flush(core: &Core, consumer: &Consumer) {
    let batch = consumer.take_settlements();
    settle_all(core, consumer, batch).await;
}

/// Sends settlements in one write.
pub(super) async fn settle_all(core: &Core, consumer: &Consumer, batch: Vec<Settling>) {
    if !batch.is_empty() {
        let _moving = consumer.moving().await;
        settle_alone(core, consumer, batch).await;
    }
}

/// The same where the caller sees to it that no list is read meanwhile.
pub(super) async fn settle_alone(core: &Core, consumer: &Consumer, batch: Vec<Settling>) {
    let keys = consumer.keys();
    let purpose = Purpose::change("settle", &keys.name);
    let commands = batch.iter().map(|settling| settling.command(keys)).collect();
    match core.changes.pipeline(purpose, commands).await {
        Ok(done) => {
            let confirmed = done.confirmed(&purpose);
            for (settling, reply) in batch.into_iter().zip(done.reply) {
                let settling = if_confirmed(settling, &reply, &confirmed);
                take_reply(core, consumer, settling, reply).await;
            }
        }
        Err(error) => not_settled(consumer, batch, &error),
    }
}

/// Who waits is told that something was done if the replicas have it, too.
fn if_confirmed(settling: Settling, reply: &Reply, confirmed: &Result<()>) -> Settling {
    match (reply, confirmed) {
        (Reply::Number(1..), Err(error)) => settling.tell(error),
        _ => settling,
    }
}

/// Keeps settlements of which it is not known that they were done.
pub(super) fn not_settled(consumer: &Consumer, batch: Vec<Settling>, error: &Error) {
    if error.kind() == ErrorKind::Ambiguous {
        return consumer.unsettled(batch);
    }
    for settling in batch {
        let settling = settling.put_off(&consumer.keys().name, error);
        let at = settling.again_at();
        consumer.keep_settlement(settling, at);
    }
}

pub(super) async fn take_reply(core: &Core, consumer: &Consumer, settling: Settling, reply: Reply) {
    match reply {
        Reply::Refused(refusal) if refusal.cause() == Cause::NoScript => {
            teach(core, consumer, settling).await;
        }
        // It is at another node, or on its way: the next attempt, which is made at once, follows it.
        Reply::Refused(refusal) if refusal.is_of_a_cluster() && settling.failures == 0 => {
            let settling = Settling { failures: 1, ..settling };
            consumer.keep_settlement(settling, Instant::now());
        }
        Reply::Refused(refusal) => {
            let purpose = Purpose::change("settle", &consumer.keys().name);
            not_settled(consumer, vec![settling], &purpose.refused(&refusal));
        }
        reply => consumer.settled(settling, reply.count()),
    }
}

/// Settles with the script's text, for a server that does not know it yet.
async fn teach(core: &Core, consumer: &Consumer, settling: Settling) {
    let keys = consumer.keys();
    let (lists, words) = (settling.lists(keys), settling.words(keys));
    let arguments: Vec<_> = settling.arguments(&words).collect();
    let purpose = Purpose::change("settle", &keys.name);
    match core.changes.script(purpose, &scripts::SETTLE, &names(&lists, keys), &arguments).await {
        Ok(done) => {
            let settling = if_confirmed(settling, &done.reply, &done.confirmed(&purpose));
            consumer.settled(settling, done.reply.count());
        }
        Err(error) => not_settled(consumer, vec![settling], &error),
    }
}
