//! One request to run a function, in the hands of its provider.
//!
//! Every call is answered once, whatever becomes of it: with an outcome; with an error if it is
//! dropped; by sending its caller elsewhere if its provider ends before it has begun.

use std::sync::Arc;

use tokio::time::{Duration, Instant, timeout_at};

use super::in_flight::Progress;
use super::load::Share;
use super::provider_task::ProviderTask;
use crate::name::Id;
use crate::transport::Weigh;
use crate::wire::{Arguments, Metadata, Outcome};

/// One request to run a function; a call that is dropped unanswered is answered with an error, or
/// goes to another provider if it has not begun when its own ends.
#[derive(Debug)]
pub struct Call {
    pub(super) arguments: Arguments,
    pub(super) metadata: Metadata,
    pub(super) expires: Option<Instant>,
    pub(super) progress: Arc<Progress>,
    /// Its share of what waits, until it begins.
    pub(super) share: std::sync::Mutex<Option<Share>>,
    /// The way back; gone once it is answered.
    pub(super) reply: Option<ReplyTo>,
}

/// The way back to a caller.
#[derive(Debug)]
pub(super) struct ReplyTo {
    pub(super) task: Arc<ProviderTask>,
    pub(super) call: Id,
}

impl Call {
    /// What the function is called with. Looking at it begins the call: from now on it counts as
    /// executed, and no other provider is asked.
    pub fn arguments(&self) -> &Arguments {
        self.progress.begin();
        let share = self.share.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        drop(share);
        &self.arguments
    }

    /// What the caller said beside the arguments.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The moment until which the caller waits, if it has said so.
    pub fn deadline(&self) -> Option<Instant> {
        self.expires
    }

    /// How long the caller still waits, if it has said so.
    pub fn left(&self) -> Option<Duration> {
        self.expires.map(|expires| expires.saturating_duration_since(Instant::now()))
    }

    /// Whether the caller has stopped waiting, by its word or because its time is over.
    pub fn is_cancelled(&self) -> bool {
        self.progress.is_cancelled()
            || self.expires.is_some_and(|expires| Instant::now() >= expires)
    }

    /// Returns when the caller stops waiting, by its word or because its time is over; for one that
    /// says neither, never. It is to be awaited where tokio's timers run.
    pub fn cancelled(&self) -> impl Future<Output = ()> + Send + use<> {
        let (progress, expires) = (Arc::clone(&self.progress), self.expires);
        async move {
            // Its word may not come: a provider that has ended is not reached any more.
            match expires {
                Some(expires) => drop(timeout_at(expires, progress.cancelled()).await),
                None => progress.cancelled().await,
            }
        }
    }

    /// Sends the outcome; does not wait for it to arrive, needs no runtime. An outcome that no peer
    /// could read, being too large or too deep, is replaced by an error that says so.
    pub fn answer(mut self, outcome: Outcome) {
        if let Some(ReplyTo { task, call }) = self.reply.take() {
            // Whoever has stopped waiting says so itself; a late word of ours would only contradict.
            task.answer(call, outcome, !self.is_cancelled());
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let Some(ReplyTo { task, call }) = self.reply.take() else { return };
        let awaited = !self.is_cancelled();
        // A provider that stays would only be asked again.
        match self.progress.has_begun() || !task.is_ending() {
            true => task.answer(call, given_up(), awaited),
            false => task.refuse(call, awaited),
        }
    }
}

/// What is answered for a call that was begun and will not end.
pub(super) fn given_up() -> Outcome {
    Outcome::failure("CallDropped", "its provider gave the call up unanswered")
}

/// The bound on what waits is `Share`'s; this mailbox only keeps the order.
impl Weigh for Call {
    fn weight(&self) -> usize {
        0
    }
}
