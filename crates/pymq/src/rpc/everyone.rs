//! Calls to everyone on their way out: one request for all providers, and who must answer it.
//!
//! How many providers of ours must answer is counted in the step that publishes the request, so
//! that foreign subscribers disturb nothing; where the transport cannot count, it is those who said
//! before that they are there. Providers of the original cannot be told from foreign exact
//! subscribers; they answer on a list of the call's own and are waited for as long as
//! [`CallOptions`] says. How answers are waited for is [`gather`](super::gather)'s.

use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::{Duration, Instant, sleep};

use super::caller::{Asked, Caller, CancelOnDrop, Sending, Time};
use super::errors::no_such_remote;
use super::gather::Gathering;
use super::pending::Waiting;
use super::{CallOptions, RETURN_WITHIN, Reply};
use crate::error::{Error, ErrorKind, Result};
use crate::name::{Id, REPLY_LIST};
use crate::transport::Ends;
use crate::wire::Request;

impl Caller {
    /// Calls every provider of `function`; its answers are to be read as they come.
    ///
    /// # Errors
    /// `NoSuchRemote`, or that of a connection.
    pub(crate) async fn call_all(
        self: &Arc<Self>,
        asked: Asked<'_>,
        options: CallOptions,
    ) -> Result<Gathering> {
        let function = asked.function;
        let (time, sending) = (self.time(options), Sending::default());
        let mut reply_list = [0; REPLY_LIST];
        let request = self.request(asked, time.deadline, &mut reply_list)?;
        let begun = pin!(self.publish_to_all(request, time, &sending));
        let gathering = self.within(function, time, &sending, begun).await?;
        let until = match (time.deadline, gathering.ours()) {
            (Some(deadline), _) => Some(deadline),
            (None, 0) => time.silent_until,
            (None, _) => Instant::now().checked_add(options.legacy_grace),
        };
        Ok(gathering.waiting_until(until))
    }

    /// The first answer to a request that only providers of the original can serve.
    pub(super) async fn first_answer(
        self: &Arc<Self>,
        request: Request<'_>,
        time: Time,
        sending: &Sending,
    ) -> Result<Reply> {
        let function = request.function.clone().into_owned();
        let gathering = self.publish_to_all(request, time, sending).await?;
        let first = gathering.waiting_until(time.silent_until).first().await?;
        first.ok_or_else(|| self.over(&function, time, sending))
    }

    /// Providers of the original drop keyword arguments and run without them, so none may get any.
    async fn refuse_keywords(&self, request: &Request<'_>, topics: &[String]) -> Result<()> {
        let has_keywords = &request.arguments.keywords[..] != b"{}";
        if !has_keywords || !self.transport.capabilities().originals {
            return Ok(());
        }
        match self.transport.count(topics).await?[..] {
            [exact, ours] if exact > ours => Err(Error::new(
                ErrorKind::Encode,
                "call",
                &*request.function,
                "keyword arguments are lost on providers of the original, and one may be there; \
                 pass the arguments by position",
            )),
            _ => Ok(()),
        }
    }

    async fn publish_to_all(
        self: &Arc<Self>,
        request: Request<'_>,
        time: Time,
        sending: &Sending,
    ) -> Result<Gathering> {
        let bytes = self.encoded(&request)?;
        sending.waits_for_the_broker(true);
        self.open().await?;
        let reached = match self.transport.capabilities().receiver_count {
            true => self.publish_and_count(&request, bytes, sending).await?,
            false => self.publish_to_known(&request, bytes, sending).await?,
        };
        sending.waits_for_the_broker(false);
        let list = match reached.others {
            0 => None,
            _ => {
                let address = self.namespace.reply_list(&request.reply_list)?;
                Some(self.transport.open_inbox(&address).await?)
            }
        };
        Ok(Gathering::new(Arc::clone(self), request.into_owned(), reached, list, time.deadline))
    }

    /// Publishes to everyone, and counts in the same step who must answer.
    async fn publish_and_count(
        &self,
        request: &Request<'_>,
        bytes: Bytes,
        sending: &Sending,
    ) -> Result<Reached> {
        let function = &*request.function;
        let (topic, marker) = (self.namespace.whole(function), self.namespace.marker(function));
        let topics = [topic, marker];
        self.refuse_keywords(request, &topics).await?;
        // Before it is published, so that nobody's end is missed.
        let ends = self.transport.ends(&topics[1]).await?;
        let started = Instant::now();
        loop {
            let waiting = self.pending.open(identity(request));
            self.reach(&topics[1], sending).await?;
            // Whoever leaves while the counts are on their way leaves calls that run.
            let cancel = CancelOnDrop::new(self, &topics[1], identity(request));
            let counts = self.transport.publish_counted(&topics, bytes.clone()).await;
            cancel.disarm();
            let counts = counts?;
            let [exact, ours] = counts[..] else { return Err(no_such_remote(function)) };
            let originals = self.transport.capabilities().originals;
            let others = if originals { exact.saturating_sub(ours) } else { 0 };
            if ours + others > 0 {
                return Ok(Reached { waiting, ours, others, expected: Vec::new(), ends });
            }
            if !self.after_gap() || started.elapsed() >= RETURN_WITHIN {
                return Err(no_such_remote(function));
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// The same where nobody can count: who says that he is there must answer.
    async fn publish_to_known(
        &self,
        request: &Request<'_>,
        bytes: Bytes,
        sending: &Sending,
    ) -> Result<Reached> {
        let function = &*request.function;
        let expected = self.who(function, sending).await?.ids;
        if expected.is_empty() {
            return Err(no_such_remote(function));
        }
        sending.waits_for_the_broker(false);
        let waiting = self.pending.open(identity(request));
        let marker = self.namespace.marker(function);
        let cancel = CancelOnDrop::new(self, &marker, identity(request));
        let published = self.transport.publish(&marker, bytes).await;
        cancel.disarm();
        published?;
        Ok(Reached { waiting, ours: expected.len(), others: 0, expected, ends: None })
    }
}

fn identity(request: &Request<'_>) -> Id {
    request.ours.map_or_else(Id::random, |ours| ours.call)
}

/// Whom a request to everyone has reached.
pub(super) struct Reached {
    pub(super) waiting: Waiting,
    /// How many providers of ours, and how many others that may be the original's.
    pub(super) ours: usize,
    pub(super) others: usize,
    /// Those of ours that are known by name from the start.
    pub(super) expected: Vec<Id>,
    /// Their ends, where the broker tells of them.
    pub(super) ends: Option<Ends>,
}
