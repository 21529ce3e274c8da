//! What replicas have to confirm before it counts as done (`replicas=n`): puts and settlements.
//!
//! The one invariant: what is said to be done is on so many replicas; what was done by the master
//! alone is `Ambiguous`, since nobody knows whether it outlives that one. Waiting for replicas holds
//! up whatever comes behind on the same connection (`WAIT` does), so that this has one of its own.

use std::time::Duration;

use super::link::Link;
use super::purpose::Purpose;
use super::resp::{Batch, Command, Reply};
use super::script::Script;
use super::timing::SLICE;
use crate::error::{ErrorKind, Result};

/// The connection for changes that must not be lost with the master.
pub(super) struct Replicated {
    link: Link,
    /// How many replicas have to confirm; with none, this is the connection for commands.
    replicas: u32,
}

impl Replicated {
    pub(super) fn new(link: Link, replicas: u32) -> Self {
        Self { link, replicas }
    }

    /// Does several commands in one write, as [`Link::pipeline`] does.
    pub(super) async fn pipeline(
        &self,
        purpose: Purpose<'_>,
        mut batch: Batch,
    ) -> Result<Done<Vec<Reply>>> {
        let mut replies = match self.wait(&purpose) {
            None => self.link.pipeline(purpose, &batch).await?,
            Some(wait) => {
                batch.extend([wait]);
                self.link.pipeline_then(purpose, &batch).await?
            }
        };
        let confirmed = if self.replicas > 0 { replies.pop() } else { None };
        Ok(Done { reply: replies, wanted: self.replicas, confirmed })
    }

    /// Runs a script, as [`Link::script`] does.
    pub(super) async fn script(
        &self,
        purpose: Purpose<'_>,
        script: &'static Script,
        keys: &[&str],
        arguments: &[&[u8]],
    ) -> Result<Done<Reply>> {
        let Some(wait) = self.wait(&purpose) else {
            let reply = self.link.script(purpose, script, keys, arguments).await?;
            return Ok(Done { reply, wanted: 0, confirmed: None });
        };
        let replies = self.link.script_then(purpose, script, keys, arguments, &wait).await?;
        let mut replies = replies.into_iter();
        let reply = purpose.check(replies.next())?;
        Ok(Done { reply, wanted: self.replicas, confirmed: replies.next() })
    }

    /// Asks how many replicas have what was done, waiting for as many as are wanted, and no longer
    /// than the operation may: its answer has to be there before its time is over.
    fn wait(&self, purpose: &Purpose<'_>) -> Option<Command> {
        let most = purpose.left().map_or(SLICE, |left| SLICE.min(left * 3 / 4));
        let most = most.max(Duration::from_millis(1)).as_millis() as u64;
        let wait = || Command::new("WAIT").number(self.replicas).number(most);
        (self.replicas > 0).then(wait)
    }
}

/// What was done, and who has it.
pub(super) struct Done<T> {
    pub(super) reply: T,
    wanted: u32,
    confirmed: Option<Reply>,
}

impl<T> Done<T> {
    /// Fails unless enough replicas have it.
    pub(super) fn confirmed(&self, purpose: &Purpose<'_>) -> Result<()> {
        let wanted = self.wanted;
        let lacking = match &self.confirmed {
            None if wanted == 0 => return Ok(()),
            Some(Reply::Number(number)) if *number >= i64::from(wanted) => return Ok(()),
            Some(Reply::Number(number)) => format!("{number} of the {wanted} replicas have it"),
            Some(Reply::Refused(refusal)) => format!("WAIT was refused: {refusal}"),
            _ => "WAIT was not answered".to_owned(),
        };
        let why = format!("done, but it may be lost with the master: {lacking}");
        Err(purpose.error(ErrorKind::Ambiguous, why))
    }
}
