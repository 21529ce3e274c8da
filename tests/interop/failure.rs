//! Why a command failed, in the words of the lines: the classes of the Python package.
//!
//! One test reads all peers, so what Rust says in kinds of error is answered as the exception that
//! a Python program would see; errors of remote functions keep the type and arguments they came
//! with.

use pymq::{Error, ErrorKind, RemoteError};
use serde_json::{Value, json};

use crate::description::Described;

/// Why a command failed.
pub(crate) enum Failure {
    Bus(Error),
    Empty,
    Command(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Bus(error)
    }
}

impl Failure {
    /// The answer to a command that has failed so.
    pub(crate) fn in_words_of_the_lines(&self) -> Value {
        let (class, arguments) = match self {
            Self::Empty => ("_queue.Empty", json!([])),
            Self::Command(why) => ("ValueError", json!([why])),
            Self::Bus(error) => as_exception(error),
        };
        let bases = match class.strip_prefix("pymq.exceptions.") {
            Some("NoSuchRemoteError" | "RemoteInvocationError") => {
                json!(["pymq.exceptions.RpcException"])
            }
            Some("EncodeError") => json!(["TypeError"]),
            _ => json!([]),
        };
        json!({"error": [class, arguments], "bases": bases})
    }
}

/// The exception that a Python program sees for an error: its class and arguments.
pub(crate) fn as_exception(error: &Error) -> (&'static str, Value) {
    (class_of(error.kind()), arguments_of(error))
}

/// The class of the Python package for the same kind of failure.
fn class_of(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::NoSuchRemote => "pymq.exceptions.NoSuchRemoteError",
        ErrorKind::Remote | ErrorKind::Timeout => "pymq.exceptions.RemoteInvocationError",
        ErrorKind::ProviderLost => "pymq.exceptions.ProviderLostError",
        ErrorKind::Decode => "pymq.exceptions.DecodeError",
        ErrorKind::Encode => "pymq.exceptions.EncodeError",
        _ => "pymq.Error",
    }
}

fn arguments_of(error: &Error) -> Value {
    match (error.kind(), error.remote()) {
        (_, Some(RemoteError { type_name, arguments, .. })) => {
            // What Rust has no value for, half a surrogate pair, is shown as it came.
            let as_it_came = || vec![Described(json!(String::from_utf8_lossy(arguments)))];
            let arguments: Vec<Described> =
                serde_json::from_slice(arguments).unwrap_or_else(|_| as_it_came());
            Value::from_iter(
                [json!(type_name)].into_iter().chain(arguments.into_iter().map(|item| item.0)),
            )
        }
        (ErrorKind::Timeout, None) => json!(["TimeoutError", error.message()]),
        (ErrorKind::NoSuchRemote, None) => json!([error.object()]),
        (kind, None) => json!([format!("{kind:?}"), error.to_string()]),
    }
}
