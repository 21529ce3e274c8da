//! What an operation is for: its name in errors, whether it may be repeated, when it has to end.
//!
//! The one invariant: whatever the state of the connection, an operation that was given a time ends
//! by then, and its error says whether it may have been done: `Connection` when it certainly was
//! not, `Ambiguous` when nobody knows.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use super::refusal::Refusal;
use super::resp::{Fault, Reply};
use super::script::Script;
use super::timing::{ROUND_TRIP, STOOD_STILL};
use crate::error::{Error, ErrorKind, Result};
use crate::transport::Wait;

/// Whether a command may be sent again when its connection is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// It changes something: then the error is `Ambiguous`.
    Never,
    /// It changes something in such a way that doing it twice is doing it once; whether it was done is
    /// still not known when no answer came.
    Repeatable,
    /// Doing it twice is the same as doing it once, and nothing is lost if it was not done.
    Once,
}

/// What a command is for, as errors tell it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Purpose<'a> {
    pub(super) operation: &'static str,
    pub(super) object: &'a str,
    pub(super) repeat: Repeat,
    /// When it has to have ended, if it was given a time.
    pub(super) until: Option<Instant>,
    /// A key that is on its way from one node of a cluster to another is not waited for.
    pub(super) at_once: bool,
    /// It is for the node of a cluster that it is sent to, and not followed to another one.
    pub(super) here: bool,
}

impl<'a> Purpose<'a> {
    /// A change: never repeated.
    pub(super) fn change(operation: &'static str, object: &'a str) -> Self {
        Self { operation, object, repeat: Repeat::Never, until: None, at_once: false, here: false }
    }

    /// A change that is repeated once: doing it twice is doing it once.
    pub(super) fn repeatable(operation: &'static str, object: &'a str) -> Self {
        Self { repeat: Repeat::Repeatable, ..Self::change(operation, object) }
    }

    /// Nothing that anybody needs to know of is changed: repeated once.
    pub(super) fn idempotent(operation: &'static str, object: &'a str) -> Self {
        Self { operation, object, repeat: Repeat::Once, until: None, at_once: false, here: false }
    }

    /// The same, to have ended when the wait is over, whatever the state of the connection.
    pub(super) fn within(self, wait: Wait) -> Self {
        let until = match wait {
            Wait::No => Some(Instant::now()),
            Wait::Until(until) => Some(until),
            Wait::Forever => None,
        };
        Self { until, ..self }
    }

    /// The same, where the caller knows another way than to wait for a key that is on its way.
    pub(super) fn at_once(self) -> Self {
        Self { at_once: true, ..self }
    }

    /// The same, where the caller has more to do before another node is asked.
    pub(super) fn here(self) -> Self {
        Self { here: true, ..self.at_once() }
    }

    /// How long it may take from now on, if it was given a time: at least a round trip.
    pub(super) fn left(&self) -> Option<Duration> {
        Some(self.answer_until()?.saturating_duration_since(Instant::now()))
    }

    /// When the answer to what is sent now has to be there.
    fn answer_until(&self) -> Option<Instant> {
        self.until.map(|until| until.max(Instant::now() + ROUND_TRIP))
    }

    /// What is answered, or that the time was over before.
    pub(super) async fn answered<T>(
        &self,
        mut asked: Pin<&mut impl Future<Output = Result<T, Fault>>>,
    ) -> Result<T, Unanswered> {
        let Some(until) = self.answer_until() else {
            return asked.await.map_err(Unanswered::Fault);
        };
        let mut outcome = timeout_at(until, &mut asked).await;
        if outcome.is_err() && until.elapsed() >= STOOD_STILL {
            // It is us who stood still, stopped or starved: the answer may lie in the socket, unread.
            outcome = timeout(STOOD_STILL, asked).await;
        }
        outcome.map_err(|_| Unanswered::Late)?.map_err(Unanswered::Fault)
    }

    /// What was sent was not answered in time.
    pub(super) fn late(&self) -> Error {
        match self.repeat {
            Repeat::Never | Repeat::Repeatable => self.error(
                ErrorKind::Ambiguous,
                "the time was over before the server answered; it may still be done",
            ),
            Repeat::Once => self.error(
                ErrorKind::Connection,
                "the time was over before the server answered; nothing was changed",
            ),
        }
    }

    pub(super) fn error(&self, kind: ErrorKind, why: impl Into<String>) -> Error {
        Error::new(kind, self.operation, self.object, why.into())
    }

    /// What the server answered is no answer to what it was asked: nobody knows what it did.
    pub(super) fn nonsense(&self) -> Error {
        let why = "the server's answer makes no sense; is it a Redis server?";
        match self.repeat {
            Repeat::Never | Repeat::Repeatable => self.error(ErrorKind::Ambiguous, why),
            Repeat::Once => self.error(ErrorKind::Server, why),
        }
    }

    pub(super) fn closed(&self) -> Error {
        Error::closed(self.operation, self.object)
    }

    /// What was sent was not answered before its bus closed.
    pub(super) fn closed_unanswered(&self) -> Error {
        match self.repeat {
            Repeat::Never | Repeat::Repeatable => self.error(
                ErrorKind::Ambiguous,
                "the bus was closed before the answer came; it may still be done",
            ),
            Repeat::Once => self.closed(),
        }
    }

    /// What was sent was not answered, and there is no connection to ask again.
    pub(super) fn stranded(&self, why: &str) -> Error {
        match self.repeat {
            Repeat::Never | Repeat::Repeatable => {
                let why = format!("the connection was lost before the answer came, and then {why}");
                self.error(ErrorKind::Ambiguous, why)
            }
            Repeat::Once => self.error(ErrorKind::Connection, format!("lost, and then {why}")),
        }
    }

    /// The server's refusal, in words that help.
    pub(super) fn refused(&self, refusal: &Refusal) -> Error {
        let error = self.error(ErrorKind::Server, refusal.explained(self.object));
        let error = if refusal.passes() { error.that_passes() } else { error };
        error.with_source(refusal.clone())
    }

    pub(super) fn lost(&self, why: &str) -> Error {
        match self.repeat {
            Repeat::Never => self.error(
                ErrorKind::Ambiguous,
                format!("the connection was lost before the answer came ({why})"),
            ),
            Repeat::Repeatable => self.error(
                ErrorKind::Ambiguous,
                format!("the connection was lost twice before the answer came ({why})"),
            ),
            Repeat::Once => self.error(ErrorKind::Connection, format!("lost twice ({why})")),
        }
    }

    /// The reply of one command of a pipeline, its refusal as an error.
    pub(super) fn check(&self, reply: Option<Reply>) -> Result<Reply> {
        match reply {
            Some(Reply::Refused(refusal)) => Err(self.refused(&refusal)),
            Some(reply) => Ok(reply),
            None => Err(self.error(ErrorKind::Server, "the server answered too little")),
        }
    }
}

/// Why something that was sent has no answer.
pub(super) enum Unanswered {
    /// The operation's time was over; the connection may be well.
    Late,
    Fault(Fault),
}

impl Unanswered {
    /// The same where it was that script.
    pub(super) fn of_script(self, script: &'static Script) -> Self {
        match self {
            Self::Fault(Fault::Refused(refusal)) => {
                Self::Fault(Fault::Refused(refusal.of_script(script.digest())))
            }
            why => why,
        }
    }
}
