//! The providers of a function at the moment, and to which of them a call goes.
//!
//! What the directory knows is used as long as it may be; else all providers are asked to say that
//! they are there. How many must say so is counted in the step that asks, where the transport counts;
//! where it does not, a provider is there if it says so in time. "Nobody" is only said when nobody can
//! be on the way back: after a gap of our own connection, or just after the last one left, providers
//! get a moment to return.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::time::{Duration, Instant, sleep, timeout_at};

use super::caller::{Caller, Sending};
use super::directory::{Choice, Lookup};
use super::errors::{all_busy, no_such_remote, unresponsive};
use super::siblings::Census;
use super::{KNOWN_FOR, LOST_AFTER, RECONNECTS_WITHIN, RETURN_WITHIN};
use crate::error::{Error, ErrorKind, Result};
use crate::name::Id;
use crate::transport::Arrival;
use crate::wire::{Control, Said};

/// How long "who is there" waits for the first answer, and then for the others.
const FIRST_ANSWER_WITHIN: Duration = Duration::from_secs(2);
const OTHERS_WITHIN: Duration = Duration::from_millis(100);
/// The same where nobody can count who is there, so that silence means nobody.
const SOMEBODY_WITHIN: Duration = Duration::from_secs(1);

/// Where a call goes.
pub(super) enum Destination {
    /// To one provider of ours.
    One(Choice),
    /// To whoever is subscribed: there are only providers of the original, or others.
    Originals,
}

/// The providers and other subscribers of a function.
#[derive(Debug, Default)]
pub(super) struct There {
    pub(super) ids: Vec<Id>,
    /// Of each of them, where it says so.
    open_calls: Vec<Option<usize>>,
    ours: Census,
    others: usize,
    /// Whether our own inbox was not connected at that moment.
    away: bool,
}

impl Caller {
    /// Finds out where a call to `function` goes, past the providers that were `tried`.
    pub(super) async fn route(
        self: &Arc<Self>,
        function: &str,
        tried: &[Id],
        sending: &Sending,
    ) -> Result<Destination> {
        let counts = self.transport.capabilities().receiver_count;
        // Where a publish says that nobody received it, a wrong entry costs one publish and may stay;
        // where it does not, it would cost the whole wait for an answer.
        let trusted = if counts { Duration::MAX } else { KNOWN_FOR / 2 };
        let mut nobody_since: Option<Instant> = None;
        loop {
            let left = match self.directory.choose(function, tried, trusted) {
                Lookup::Chosen { choice, stale } => {
                    if stale {
                        self.refresh(function);
                    }
                    return Ok(Destination::One(choice));
                }
                Lookup::AllTried => return Err(all_busy(function)),
                Lookup::Unknown { left } => left,
            };
            // Nobody is known: ask all at once, and take who answers.
            let there = Box::pin(self.who(function, sending)).await?;
            if !there.ids.is_empty() {
                self.directory.learn(&self.namespace, function, &there.ids);
                continue;
            }
            if there.ours.counted() > 0 {
                // They are subscribed and say nothing: stopped, or just dying. Ask on.
                if nobody_since.get_or_insert_with(Instant::now).elapsed() >= LOST_AFTER {
                    return Err(unresponsive(function));
                }
                continue;
            }
            // Subscribers that are no providers of ours may be the original's, which do not answer the
            // question: the request itself has to find out.
            if there.others > 0 && self.transport.capabilities().originals {
                return Ok(Destination::Originals);
            }
            let since = *nobody_since.get_or_insert_with(Instant::now);
            if !self.may_return(left, since, &there) {
                return Err(no_such_remote(function));
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Whether providers that were known, the last of which `left`, may be on their way back since
    /// nobody was found, at `since`.
    fn may_return(&self, left: Option<Instant>, since: Instant, there: &There) -> bool {
        match left {
            Some(_) if there.away || self.after_gap() => since.elapsed() < RETURN_WITHIN,
            // Who has lost its connection looks like who has left for good.
            Some(left) if self.transport.capabilities().cross_process => {
                left.elapsed() < RECONNECTS_WITHIN
            }
            _ => false,
        }
    }

    /// Asks again in the background who provides `function`.
    fn refresh(self: &Arc<Self>, function: &str) {
        let (caller, function) = (Arc::clone(self), function.to_owned());
        // The call at hand does not wait for it: what is known is good enough for one more.
        self.runtime.spawn(async move {
            match caller.who(&function, &Sending::default()).await {
                Ok(there) if there.ids.len() >= there.ours.all() => {
                    caller.directory.learn(&caller.namespace, &function, &there.ids);
                }
                Ok(_) => {
                    tracing::debug!(function, "some providers did not say that they are there");
                }
                Err(error) => tracing::debug!(function, %error, "could not ask who is there"),
            }
        });
    }

    /// Who provides `function`, with its open calls; how many providers said nothing, and how many
    /// others listen.
    pub(crate) async fn providers(
        self: &Arc<Self>,
        function: &str,
    ) -> Result<(Vec<(Id, Option<usize>)>, usize, usize)> {
        self.open().await?;
        let There { ids, open_calls, ours, others, .. } =
            self.who(function, &Sending::default()).await?;
        let silent = ours.all().saturating_sub(ids.len());
        Ok((ids.into_iter().zip(open_calls).collect(), silent, others))
    }

    /// Asks all providers of `function` to say that they are there.
    pub(super) async fn who(&self, function: &str, sending: &Sending) -> Result<There> {
        let mut waiting = self.pending.open(Id::random());
        let question = Control::Who { call: waiting.call(), inbox: self.me }.encode();
        sending.waits_for_the_broker(true);
        let (mut there, first_within) = match self.transport.capabilities().receiver_count {
            true => (self.ask_and_count(function, question).await?, FIRST_ANSWER_WITHIN),
            false => {
                self.transport.publish(&self.namespace.marker(function), question).await?;
                (There::default(), SOMEBODY_WITHIN)
            }
        };
        sending.waits_for_the_broker(false);
        let counts = self.transport.capabilities().receiver_count;
        let mut until = Instant::now() + first_within;
        while !counts || there.ids.len() < there.ours.all() {
            match timeout_at(until, waiting.recv()).await {
                Ok(Some(Arrival::Message(Said { ours, outcome }))) => {
                    there.ids.push(ours.provider);
                    there.open_calls.push(outcome.open_calls());
                    ours.siblings.into_iter().for_each(|told| there.ours.note(told));
                    // One has answered, so the way is well: the others are not long in coming.
                    until = until.min(Instant::now() + OTHERS_WITHIN);
                }
                Ok(Some(_)) => {}
                Ok(None) => return Err(Error::closed("call", function)),
                Err(_) => break,
            }
        }
        Ok(there)
    }

    /// Asks who is there, and counts in the same step who must answer.
    async fn ask_and_count(&self, function: &str, question: Bytes) -> Result<There> {
        let inbox = self.namespace.inbox(self.me);
        let topics = [
            self.namespace.marker(function),
            self.namespace.whole(function),
            inbox.name().to_owned(),
        ];
        let counts = self.transport.publish_counted(&topics, question).await?;
        let [ours, exact, reading] = counts[..] else {
            return Err(Error::new(ErrorKind::Server, "call", function, "no count for each topic"));
        };
        // Our own inbox is asked for too. If the broker counted it before and does not now, our connection
        // is away, and so may be those of providers: their absence says nothing yet.
        let counted = self.inbox_is_counted.fetch_or(reading > 0, Ordering::Relaxed);
        let away = counted && reading == 0;
        Ok(There {
            ids: Vec::new(),
            open_calls: Vec::new(),
            ours: Census::new(ours),
            others: exact.saturating_sub(ours),
            away,
        })
    }
}
