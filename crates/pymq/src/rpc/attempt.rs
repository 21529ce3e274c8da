//! How the answer of one provider is waited for.
//!
//! Silence is answered by asking again under the same identity, and only ever by that: whether the
//! request, the reply or the connection was lost makes no difference. It stops asking before
//! a provider could have forgotten what it executed, and reads what has arrived before it asks.

use std::time::SystemTime;

use futures_util::FutureExt as _;
use tokio::time::{Duration, Instant, timeout_at};

use super::caller::Caller;
use super::directory::Choice;
use super::errors::{cut, lost};
use super::pending::Waiting;
use super::{ASK_AGAIN_EVERY, ASKS_WITHIN, BEAT_EVERY, GONE_AFTER, LOST_AFTER, Reply, STOOD_STILL};
use crate::error::{Error, ErrorKind, Result};
use crate::transport::{Arrival, Ends};
use crate::wire::{Request, ResponseKind, Said};

/// How a request to one provider ended.
pub(super) enum Ended {
    /// With the outcome of the call.
    Reply(Reply),
    /// The provider has too many waiting, and has not begun it.
    Busy,
    /// The provider is gone, and has not begun it.
    Left,
    /// The provider is gone, and has.
    Lost,
}

/// One request that waits for its answer.
pub(super) struct Attempt<'a> {
    caller: &'a Caller,
    waiting: Waiting,
    choice: &'a Choice,
    ends: Option<&'a Ends>,
    request: &'a Request<'a>,
    /// When the provider was last heard of in this call, or the call was asked for.
    heard: Moment,
    /// The same, moved on whenever our own side could not have heard anything.
    patient_since: Instant,
    gone_since: Option<Instant>,
}

/// A moment by both clocks: the one stands while the machine sleeps, the other may be set.
#[derive(Clone, Copy)]
pub(super) struct Moment(Instant, SystemTime);

impl Moment {
    pub(super) fn now() -> Self {
        Self(Instant::now(), SystemTime::now())
    }

    /// How long ago it was, by the clock that says more.
    pub(super) fn elapsed(self) -> Duration {
        self.0.elapsed().max(self.1.elapsed().unwrap_or_default())
    }
}

impl<'a> Attempt<'a> {
    pub(super) fn new(
        caller: &'a Caller,
        waiting: Waiting,
        (choice, ends): (&'a Choice, Option<&'a Ends>),
        request: &'a Request<'a>,
    ) -> Self {
        let heard = Moment::now();
        let patient_since = heard.0;
        Self { caller, waiting, choice, ends, request, heard, patient_since, gone_since: None }
    }

    /// Waits for the one answer, asking again whenever the provider is silent.
    ///
    /// # Errors
    /// `ProviderLost`; `Ambiguous` if the connection is lost for good; `Closed`.
    pub(super) async fn answer(&mut self) -> Result<Ended> {
        let mut ask_again = self.patient_since + ASK_AGAIN_EVERY;
        loop {
            // Both are cancel-safe: a mailbox and a number.
            let arrival = tokio::select! {
                biased;
                arrival = timeout_at(ask_again, self.waiting.recv()) => arrival,
                () = ended(self.ends) => return Box::pin(self.last_word()).await,
            };
            match arrival {
                Ok(Some(Arrival::Message(said))) => {
                    if let Some(ended) = self.hear(said) {
                        return Ok(ended);
                    }
                    ask_again = self.patient_since + BEAT_EVERY + ASK_AGAIN_EVERY;
                    continue;
                }
                // Silence while we were away says nothing about the provider.
                Ok(Some(Arrival::Gap | Arrival::Lagged(_) | Arrival::Refused(_))) => {
                    self.patient_since = Instant::now();
                }
                Ok(None) => return Err(Error::closed("call", self.function())),
                Err(_) if ask_again.elapsed() > STOOD_STILL => {
                    // So did whatever reads the socket: the answer may lie there.
                    self.patient_since = Instant::now();
                    ask_again = self.patient_since + ASK_AGAIN_EVERY;
                    continue;
                }
                Err(_) => {}
            }
            Box::pin(self.ask_again()).await?;
            ask_again = Instant::now() + ASK_AGAIN_EVERY;
        }
    }

    /// The provider has ended with its connection: what it had sent is all there is.
    async fn last_word(&mut self) -> Result<Ended> {
        self.caller.catch_up().await?;
        while let Some(Some(arrival)) = self.waiting.recv().now_or_never() {
            if let Arrival::Message(said) = arrival
                && let Some(ended) = self.hear(said)
            {
                return Ok(ended);
            }
        }
        self.caller.directory.mourn(self.function(), self.choice.id());
        Err(lost(self.function(), self.choice.id()))
    }

    fn hear(&mut self, said: Said) -> Option<Ended> {
        let from = said.ours;
        // Only the one who was asked can answer.
        if from.provider != self.choice.id() {
            let (function, provider) = (self.function(), from.provider);
            tracing::warn!(function, %provider, "answer of a stranger dropped");
            return None;
        }
        match from.kind {
            ResponseKind::Busy => return Some(Ended::Busy),
            ResponseKind::Left => return Some(Ended::Left),
            ResponseKind::Lost => return Some(Ended::Lost),
            ResponseKind::Result => return Reply::of(said).map(Ended::Reply),
            ResponseKind::Ack | ResponseKind::Beat | ResponseKind::Here => {}
        }
        self.heard = Moment::now();
        (self.patient_since, self.gone_since) = (self.heard.0, None);
        None
    }

    /// Repeats the request, unless that would come too late or to nobody.
    async fn ask_again(&mut self) -> Result<()> {
        // Later than this the provider may have forgotten the call's identity, and would run it again.
        let silent = self.heard.elapsed();
        if silent >= ASKS_WITHIN {
            return Err(self.lost());
        }
        let again = self.request.repeated(silent).encode()?;
        let receivers = self.caller.transport.publish(self.choice.instance(), again).await;
        let reached = match receivers {
            Ok(Some(0)) => false,
            Err(error) if error.kind() != ErrorKind::Ambiguous => {
                return Err(cut(self.function(), error));
            }
            _ => true,
        };
        let gone_since = self.gone_since.unwrap_or_else(Instant::now);
        self.gone_since = (!reached).then_some(gone_since);
        // A publish that reaches nobody may meet a provider that reconnects, or find our own connection
        // just back, so only a longer absence counts.
        let gone = !reached && gone_since.elapsed() >= GONE_AFTER && !self.caller.after_gap();
        if gone || self.patient_since.elapsed() >= LOST_AFTER {
            return Err(self.lost());
        }
        Ok(())
    }

    fn lost(&self) -> Error {
        self.caller.directory.forget(self.function(), self.choice.id());
        lost(self.function(), self.choice.id())
    }

    fn function(&self) -> &str {
        &self.request.function
    }
}

/// Waits until whoever was watched over has ended; for ever where nobody tells.
async fn ended(ends: Option<&Ends>) {
    match ends {
        Some(ends) => ends.more_than(0).await,
        None => std::future::pending().await,
    }
}
