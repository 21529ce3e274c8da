//! In which words a call fails that is not answered.
//!
//! Each says whether the function may have run: `Ambiguous` and `ProviderLost` that it may have, the
//! others that it has not.

use crate::error::{Error, ErrorKind};
use crate::name::Id;

/// Nobody provides the function.
pub(super) fn no_such_remote(function: &str) -> Error {
    let why = "nobody exposes it in this namespace; start its provider or check the name";
    Error::new(ErrorKind::NoSuchRemote, "call", function, why)
}

/// All who provide it have refused.
pub(super) fn all_busy(function: &str) -> Error {
    let why = "too many calls wait at each of its providers; it was not executed";
    Error::new(ErrorKind::Busy, "call", function, why)
}

/// Providers are subscribed, and none of them says anything.
pub(super) fn unresponsive(function: &str) -> Error {
    let why = "its providers are connected but do not answer";
    Error::new(ErrorKind::ProviderLost, "call", function, why)
}

/// The provider that was asked is lost.
pub(super) fn lost(function: &str, provider: Id) -> Error {
    let why = format!("provider {provider} died or fell silent during the call");
    Error::new(ErrorKind::ProviderLost, "call", function, why)
}

/// The connection was lost after the request was sent, so that the caller must not hear that nothing
/// was done; other errors stay what they are.
pub(super) fn cut(function: &str, error: Error) -> Error {
    if error.kind() != ErrorKind::Connection {
        return error;
    }
    let why = "the connection was lost during the call; it may have been executed";
    Error::new(ErrorKind::Ambiguous, "call", function, why).with_source(error)
}
