//! The one error type of the library: a kind to act on, the operation, the object it was about.
//!
//! Every failure, of every transport, arrives as an [`Error`]; programs decide by [`Error::kind`]
//! and [`Error::is_retryable`], people read its one-line message. It never carries a payload or a
//! password.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

use bytes::Bytes;

/// The result of every fallible operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, as far as a program can act on it.
///
/// | kind | was it done? | what to do | [`is_retryable`](Error::is_retryable) |
/// |---|---|---|---|
/// | `Connection` | no | try again: the connection heals by itself | yes |
/// | `Full` | no | try again when consumers have caught up | yes |
/// | `Busy` | no | try again when providers have caught up | yes |
/// | `NoSuchRemote` | no | start the provider, or check the name | no: nothing says that it passes |
/// | `Closed` | no; a call that waited for its answer: perhaps | connect a new bus | no |
/// | `ShutDown` | no | stop, or `purge` the queue, which lifts the shutdown | no |
/// | `Unsupported` | no | use another transport, feature or setting | no |
/// | `Config` | no | mend the address, name or option; await the bus within a tokio runtime | no |
/// | `Encode` | no | send another value | no |
/// | `Decode` | the message came | mend its sender; a queue keeps the item as a dead letter | no |
/// | `Server` | no | do what the server's words say | where it passes by itself: the server loads, fails over, misses replicas, has no memory |
/// | `Lagged` | events were missed | go on reading, and fetch what must not be missed elsewhere | no |
/// | `LeaseLost` | the work, perhaps twice | drop the result: another consumer has the item | no |
/// | `Remote` | it ran and failed | look at [`Error::remote`] | no |
/// | `Timeout` | perhaps | ask whether it was done, or call what may run twice | no |
/// | `ProviderLost` | perhaps | as `Timeout` | no |
/// | `Ambiguous` | perhaps | as `Timeout` | no |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The bus, queue or subscription was closed; nothing can be done with it any more.
    Closed,
    /// The deadline passed first. For a call: the function may still run, or have run.
    Timeout,
    /// Nobody exposes a function of that name.
    NoSuchRemote,
    /// The called function failed; [`Error::remote`] says how.
    Remote,
    /// The provider of a call in flight died or fell silent.
    ProviderLost,
    /// Bytes that are not what they should be: malformed, too deep, too large, of a wrong type.
    Decode,
    /// A value that cannot be written as JSON, or arguments that a provider cannot be given.
    Encode,
    /// The transport cannot do this.
    Unsupported,
    /// An address, name or option that cannot be used, or no tokio runtime where one is needed.
    Config,
    /// There is no connection to the server; nothing was done, trying again is safe.
    Connection,
    /// The connection was lost before the answer came: the operation may or may not have happened.
    Ambiguous,
    /// Events were missed, by a slow subscriber or while a connection was lost; the stream goes on.
    Lagged,
    /// The lease of a delivery ran out; the item belongs to somebody else now.
    LeaseLost,
    /// Too many calls wait at each provider of the function; it was not executed.
    Busy,
    /// The queue holds `maxsize` items.
    Full,
    /// The queue was shut down.
    ShutDown,
    /// The server refused; the message has its words.
    Server,
}

impl ErrorKind {
    fn words(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Timeout => "timed out",
            Self::NoSuchRemote => "no such remote",
            Self::Remote => "remote function failed",
            Self::ProviderLost => "provider lost",
            Self::Decode => "cannot decode",
            Self::Encode => "cannot encode",
            Self::Unsupported => "unsupported",
            Self::Config => "bad configuration",
            Self::Connection => "not connected",
            Self::Ambiguous => "outcome unknown",
            Self::Lagged => "lagged",
            Self::LeaseLost => "lease lost",
            Self::Busy => "providers busy",
            Self::Full => "queue full",
            Self::ShutDown => "queue shut down",
            Self::Server => "server error",
        }
    }
}

/// How a remote function failed, as its provider told it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RemoteError {
    /// The error's type as its own side names it, e.g. `ValueError`.
    pub type_name: String,
    /// The error's arguments: a JSON array, most often of one message.
    pub arguments: Bytes,
    /// The provider that failed, where it is known (providers of the original are anonymous).
    pub provider: Option<String>,
    /// Where it failed, as its own side tells it; for people.
    pub traceback: Option<String>,
    /// The error's fields as JSON, from a provider in Rust whose error has some.
    pub fields: Option<Bytes>,
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.type_name, Arguments(&self.arguments))
    }
}

/// Shows a JSON array as an argument list, cut where it grows long.
struct Arguments<'a>(&'a [u8]);

impl fmt::Display for Arguments<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 200;
        let text = String::from_utf8_lossy(self.0);
        let inner = text.trim().trim_start_matches('[').trim_end_matches(']');
        match inner.char_indices().nth(SHOWN) {
            Some((end, _)) => write!(f, "({}…)", &inner[..end]),
            None => write!(f, "({inner})"),
        }
    }
}

/// A failure: what was being done, to what, and why it did not work.
///
/// One opaque type for the whole crate, because an operation on a bus composes several layers and a
/// caller mostly wants to know one thing: can I try again, wait, or must I change something?
///
/// ```
/// use pymq::{Bus, ErrorKind};
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let error = Bus::connect("carrier-pigeon://loft").await.unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Config);
/// assert!(!error.is_retryable());
/// # }
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    operation: &'static str,
    object: String,
    message: Cow<'static, str>,
    missed: Option<u64>,
    /// Whether its reason passes by itself, where the kind alone does not say it.
    passes: bool,
    remote: Option<RemoteError>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// A failure of `operation` (a verb) on `object` (a name); `message` says why and how to mend it.
    pub fn new(
        kind: ErrorKind,
        operation: &'static str,
        object: impl Into<String>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self(Box::new(Inner {
            kind,
            operation,
            object: object.into(),
            message: message.into(),
            missed: None,
            passes: false,
            remote: None,
            source: None,
        }))
    }

    /// The same failure with the error that caused it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The same failure, of which the broker says that nothing was done and that it passes.
    #[cfg(any(feature = "redis", all(feature = "ipc", target_os = "linux")))]
    #[must_use]
    pub(crate) fn that_passes(mut self) -> Self {
        self.0.passes = true;
        self
    }

    /// A function that ran and failed.
    pub fn from_remote(function: impl Into<String>, remote: RemoteError) -> Self {
        let mut error = Self::new(ErrorKind::Remote, "call", function, remote.to_string());
        error.0.remote = Some(remote);
        error
    }

    /// Events that a subscriber missed: how many it was too slow for; `None` for those that came
    /// while the connection was lost.
    pub(crate) fn lagged(object: &str, missed: Option<u64>) -> Self {
        let why = match missed {
            Some(missed) => {
                format!("{missed} events were missed: this subscriber is slower than they come")
            }
            None => "the connection was lost and is back; events in between were missed".to_owned(),
        };
        let mut error = Self::new(ErrorKind::Lagged, "receive", object, why);
        error.0.missed = missed;
        error
    }

    pub(crate) fn closed(operation: &'static str, object: impl Into<String>) -> Self {
        Self::new(ErrorKind::Closed, operation, object, "the bus was closed; connect a new one")
    }

    pub(crate) fn decode(object: impl Into<String>, why: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Decode, "decode", object, why)
    }

    pub(crate) fn config(object: impl Into<String>, why: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Config, "connect", object, why)
    }

    /// The same failure in the words of its caller: a transport knows only its own verb and the
    /// whole name.
    #[must_use]
    pub(crate) fn of(mut self, operation: &'static str, object: impl Into<String>) -> Self {
        self.0.operation = operation;
        self.0.object = object.into();
        self
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The verb that failed, e.g. `publish`.
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// What it was done to: a topic, queue, function or address (passwords removed).
    pub fn object(&self) -> &str {
        &self.0.object
    }

    /// Why, without the kind, operation and object.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// How many events were missed, for [`ErrorKind::Lagged`]; `None` where nobody can know, as after
    /// a lost connection.
    pub fn missed(&self) -> Option<u64> {
        self.0.missed
    }

    /// How the remote function failed, for [`ErrorKind::Remote`].
    pub fn remote(&self) -> Option<&RemoteError> {
        self.0.remote.as_ref()
    }

    /// Whether the same operation may simply be tried again: nothing was done, and the reason is
    /// one that passes. [`ErrorKind`] has the table.
    ///
    /// Where it says `false`, trying again is useless (`Config`) or may do it twice (`Ambiguous`).
    pub fn is_retryable(&self) -> bool {
        // Every kind by name: whoever adds one decides it here.
        match self.0.kind {
            ErrorKind::Connection | ErrorKind::Full | ErrorKind::Busy => true,
            ErrorKind::Server => self.0.passes,
            ErrorKind::Closed
            | ErrorKind::Timeout
            | ErrorKind::NoSuchRemote
            | ErrorKind::Remote
            | ErrorKind::ProviderLost
            | ErrorKind::Decode
            | ErrorKind::Encode
            | ErrorKind::Unsupported
            | ErrorKind::Config
            | ErrorKind::Ambiguous
            | ErrorKind::Lagged
            | ErrorKind::LeaseLost
            | ErrorKind::ShutDown => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, operation, object, message, .. } = &*self.0;
        write!(f, "{operation} {object:?}: {}: {message}", kind.words())
    }
}

/// For people too, since this is what a `main` that fails prints: the message, the kind as programs
/// match it, and what caused it, as far as the message does not say it.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.to_string();
        write!(f, "{said} (ErrorKind::{:?})", self.0.kind)?;
        let mut cause = self.source();
        while let Some(error) = cause {
            let why = error.to_string();
            if !said.contains(&why) {
                write!(f, "; caused by: {why}")?;
                said = why;
            }
            cause = error.source();
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_operation_object_and_reason_on_one_line() {
        let error = Error::new(ErrorKind::Full, "put", "jobs", "maxsize is 3; get items first");
        assert_eq!(error.to_string(), "put \"jobs\": queue full: maxsize is 3; get items first");
    }

    #[test]
    fn a_program_that_fails_shows_people_the_message_the_kind_and_what_caused_it() {
        let cause = std::io::Error::other("no route to host");
        let error = Error::new(ErrorKind::Connection, "connect", "redis://far", "gave up");
        let shown = format!("{:?}", error.with_source(cause));
        let expected = "connect \"redis://far\": not connected: gave up (ErrorKind::Connection); \
                        caused by: no route to host";
        assert_eq!(shown, expected);

        let told = Error::new(ErrorKind::Server, "put", "jobs", "out of memory");
        let told = format!("{:?}", told.with_source("out of memory"));
        assert_eq!(told, "put \"jobs\": server error: out of memory (ErrorKind::Server)");
    }

    #[test]
    fn a_remote_failure_shows_type_and_arguments_and_cuts_long_ones() {
        let remote = RemoteError {
            type_name: "ValueError".into(),
            arguments: Bytes::from(format!("[\"{}\"]", "x".repeat(1000))),
            provider: None,
            traceback: None,
            fields: None,
        };
        let error = Error::from_remote("f", remote);
        assert!(error.to_string().contains("ValueError(\"xxx"));
        assert!(error.to_string().len() < 300);
    }

    #[test]
    fn only_failures_that_did_nothing_and_pass_by_themselves_are_retryable() {
        let of = |kind| Error::new(kind, "put", "q", "why");
        assert!(of(ErrorKind::Connection).is_retryable());
        assert!(!of(ErrorKind::Ambiguous).is_retryable());
        assert!(!of(ErrorKind::Remote).is_retryable());
    }
}
