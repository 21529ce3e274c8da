//! A settlement that the server has not confirmed yet: what it is, how it is said, and who waits for it.

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::{Duration, Instant};

use super::super::Core;
use super::super::purpose::Purpose;
use super::super::replicated::Done;
use super::super::resp::{Command, Reply};
use super::super::script::Lesson;
use super::item::unmarked;
use super::keys::{HeldList, Keys, Policy};
use super::scripts::{self, milliseconds};
use super::{copy, letter_format};
use crate::error::{Error, ErrorKind, Result};
use crate::transport::{Failure, Reason, Receipt, SettleOptions, Settlement};

/// After how long a settlement that could not be done is tried again; the time doubles with each try
/// that fails.
const AGAIN: Duration = Duration::from_millis(500);
/// The most times that it doubles.
const DOUBLINGS: u32 = 5;

/// The end of a lease that the server has not confirmed yet.
#[derive(Debug)]
pub(super) struct PendingSettlement {
    receipt: Receipt,
    /// The list in which the server has the item.
    place: HeldList,
    /// The other list in which it may be: an item that was fetched ahead is in one of two lists, and it is not
    /// known yet whether the server has heard that it was shown.
    other: Option<HeldList>,
    /// It was not in the first of them, so that now both are looked at.
    in_both: bool,
    how: Settlement,
    options: SettleOptions,
    reply: Option<oneshot::Sender<Result<()>>>,
    /// The number of times that it was refused or not sent.
    failures: u32,
}

impl PendingSettlement {
    /// One that somebody waits for.
    pub(super) fn awaited(
        receipt: Receipt,
        place: HeldList,
        how: Settlement,
    ) -> (Self, oneshot::Receiver<Result<()>>) {
        let (reply, settled) = oneshot::channel();
        (Self { reply: Some(reply), ..Self::silent(receipt, place, how) }, settled)
    }

    /// One that nobody waits for.
    pub(super) fn silent(receipt: Receipt, place: HeldList, how: Settlement) -> Self {
        let options = SettleOptions::default();
        let (other, in_both) = (None, false);
        Self { receipt, place, other, in_both, how, options, reply: None, failures: 0 }
    }

    /// The same, whose item may be in another list as well.
    pub(super) fn or_in(self, other: Option<HeldList>) -> Self {
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
    pub(super) fn at(self, place: HeldList) -> Self {
        Self { place, other: None, in_both: false, ..self }
    }

    /// The same with more to say.
    pub(super) fn with(self, options: SettleOptions) -> Self {
        Self { options, ..self }
    }

    pub(super) fn delay(&self) -> Duration {
        self.options.delay
    }

    /// The number of deliveries of the item, and why it dies, if this settlement makes it a dead letter.
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

    pub(super) fn place(&self) -> HeldList {
        self.place
    }

    pub(super) fn how(&self) -> Settlement {
        self.how
    }

    /// Whether it is of that receipt, and nobody is told how it ends.
    pub(super) fn is_left_of(&self, receipt: &Receipt) -> bool {
        self.reply.is_none() && self.failures > 0 && self.receipt == *receipt
    }

    /// Whether it was refused before, so that its caller may ask again.
    pub(super) fn was_refused(&self) -> bool {
        self.reply.is_none() && self.failures > 0
    }

    pub(super) fn is_first_try(&self) -> bool {
        self.failures == 0
    }

    /// The same, counted as refused once.
    pub(super) fn tried_once(self) -> Self {
        Self { failures: 1, ..self }
    }

    pub(super) fn into_receipt(self) -> Receipt {
        self.receipt
    }

    /// Tells a failure to the caller; the same settlement, without a caller, is still to be done.
    pub(super) fn put_off(mut self, queue: &str, error: &Error) -> Self {
        self.failures += 1;
        match self.reply.take() {
            // The caller may have stopped waiting.
            Some(reply) => drop(reply.send(Err(copy(error, "settle")))),
            // The first time is news; that it goes on is not.
            None if self.failures == 1 && error.kind() == ErrorKind::Server => {
                tracing::warn!(queue, %error, "an item is not settled; trying on");
            }
            None => tracing::debug!(queue, %error, "an item is not settled yet"),
        }
        self
    }

    /// Tells a failure to the caller, if one waits; the settlement may be done all the same.
    pub(super) fn tell(mut self, error: &Error) -> Self {
        if let Some(reply) = self.reply.take() {
            self.failures += 1;
            // The caller may have stopped waiting.
            let _ = reply.send(Err(copy(error, "settle")));
        }
        self
    }

    pub(super) fn again_at(&self) -> Instant {
        Instant::now() + AGAIN * 2_u32.pow(self.failures.saturating_sub(1).min(DOUBLINGS))
    }

    pub(super) fn answer(self, queue: &str, result: Result<()>) {
        match (self.reply, result) {
            // The caller may have stopped waiting.
            (Some(reply), result) => drop(reply.send(result)),
            (None, Err(error)) => tracing::warn!(queue, %error, "an item was not settled"),
            (None, Ok(())) => {}
        }
    }

    /// The command that does it.
    pub(super) fn command(&self, keys: &Keys) -> Command {
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

    /// Asks for it with the text of the script, for a server that does not know the script yet.
    pub(super) async fn run_script(
        &self,
        core: &Core,
        purpose: Purpose<'_>,
        keys: &Keys,
    ) -> Result<Done<Reply>> {
        let (lists, words) = (self.lists(keys), self.words(keys));
        let arguments: Vec<_> = self.arguments(&words).collect();
        core.changes.script(purpose, &scripts::SETTLE, &names(&lists, keys), &arguments).await
    }

    /// The lists in which the item may be; the same twice where it is one.
    fn lists(&self, keys: &Keys) -> [String; 2] {
        [self.place, self.other.unwrap_or(self.place)].map(|place| keys.held(place))
    }

    /// The arguments of the script after the item and the manner: the policy of the consumer that holds
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
        let why =
            [letter_format::number(failure.reason).to_string(), letter_format::words(&failure)];
        let [[deliveries, letters], [reason, words]] = [policy, why];
        let urgents = keys.urgents().to_owned();
        [deliveries, letters, delay, token, keys.hint.clone(), reason, words, urgents]
    }

    fn arguments<'a>(&'a self, words: &'a [String; 8]) -> impl Iterator<Item = &'a [u8]> {
        let first = [&*self.receipt.stored, self.manner()];
        first.into_iter().chain(words.iter().map(String::as_bytes))
    }

    /// The command that confirms it. It searches from the tail, where the oldest item is, most often this one.
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
