//! How the answer of one provider is waited for.
//!
//! Silence is answered by asking again under the same identity, and only ever by that: whether the
//! request, the reply or the connection was lost makes no difference. Nobody is asked so late that
//! the provider could have forgotten what it executed, and what lies unread is read before.

use std::time::SystemTime;

use bytes::Bytes;
use tokio::time::{Duration, Instant, timeout_at};

use super::caller::{Caller, finished};
use super::directory::Choice;
use super::pending::Waiting;
use super::{ASK_AGAIN_EVERY, ASKS_WITHIN, BEAT_EVERY, GONE_AFTER, LOST_AFTER, Reply, STOOD_STILL};
use crate::error::{Error, ErrorKind, Result};
use crate::name::Id;
use crate::transport::Arrival;
use crate::wire::{Request, RequestExtension, Response, ResponseKind};

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
pub(super) struct Watch<'a> {
    caller: &'a Caller,
    waiting: Waiting,
    choice: &'a Choice,
    request: &'a mut Request,
    /// When the provider was last heard of in this call, or the call was asked for.
    heard: Moment,
    /// The same, or when this side had reason to hear nothing.
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

impl<'a> Watch<'a> {
    pub(super) fn new(
        caller: &'a Caller,
        waiting: Waiting,
        choice: &'a Choice,
        request: &'a mut Request,
    ) -> Self {
        let (heard, patient_since) = (Moment::now(), Instant::now());
        Self { caller, waiting, choice, request, heard, patient_since, gone_since: None }
    }

    /// Waits for the one answer, asking again whenever the provider is silent.
    ///
    /// # Errors
    /// `ProviderLost`; `Ambiguous` if the connection is lost for good; `Closed`.
    pub(super) async fn answer(mut self) -> Result<Ended> {
        let mut ask_again = self.patient_since + ASK_AGAIN_EVERY;
        loop {
            match timeout_at(ask_again, self.waiting.recv()).await {
                Ok(Some(Arrival::Message(response))) => {
                    if let Some(ended) = self.hear(response) {
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
            self.ask_again().await?;
            ask_again = Instant::now() + ASK_AGAIN_EVERY;
        }
    }

    fn hear(&mut self, response: Response) -> Option<Ended> {
        let from = response.ours?;
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
            _ => {}
        }
        (self.heard, self.patient_since) = (Moment::now(), Instant::now());
        self.gone_since = None;
        finished(response).map(Ended::Reply)
    }

    /// Repeats the request, unless that would come too late or to nobody.
    async fn ask_again(&mut self) -> Result<()> {
        let silent = self.heard.elapsed();
        if silent >= ASKS_WITHIN {
            return Err(self.lost());
        }
        let again = self.repeated(silent)?;
        let receivers = self.caller.transport.publish(self.choice.instance(), again).await;
        let reached = match receivers {
            Ok(Some(0)) => false,
            Err(error) if error.kind() == ErrorKind::Connection => return Err(self.cut(error)),
            Err(error) if error.kind() != ErrorKind::Ambiguous => return Err(error),
            _ => true,
        };
        let gone_since = self.gone_since.unwrap_or_else(Instant::now);
        self.gone_since = (!reached).then_some(gone_since);
        let gone = !reached && gone_since.elapsed() >= GONE_AFTER && !self.caller.after_gap();
        if gone || self.patient_since.elapsed() >= LOST_AFTER {
            return Err(self.lost());
        }
        Ok(())
    }

    fn repeated(&mut self, silent: Duration) -> Result<Bytes> {
        let ours = self.request.ours;
        self.request.ours = ours.map(|ours| RequestExtension { silent: Some(silent), ..ours });
        let again = self.request.encode();
        self.request.ours = ours;
        again
    }

    fn lost(&self) -> Error {
        self.caller.directory.forget(self.function(), self.choice.id());
        lost(self.function(), self.choice.id())
    }

    /// The request was sent, so that its caller must not hear that nothing was done.
    fn cut(&self, error: Error) -> Error {
        let why = "the connection was lost during the call; it may have been executed";
        Error::new(ErrorKind::Ambiguous, "call", self.function(), why).with_source(error)
    }

    fn function(&self) -> &str {
        &self.request.function
    }
}

pub(super) fn lost(function: &str, provider: Id) -> Error {
    let why = format!("provider {provider} died or fell silent during the call");
    Error::new(ErrorKind::ProviderLost, "call", function, why)
}
