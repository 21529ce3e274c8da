//! The caller's handle on a remote function.
//!
//! A [`Stub`] is a name, types and how to wait; it holds no connection and knows no provider, so it
//! is cheap to make, clone and keep. Dropping the future of a call cancels it at its provider.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{CallOptions, Caller, Reply};
use crate::codec;
use crate::error::{Error, ErrorKind, Result};
use crate::name::Id;
use crate::wire::Arguments;

/// A remote function that takes `A` and gives `R`.
///
/// `A` is a tuple (positional arguments) or a struct or map (keyword arguments).
pub struct Stub<A, R> {
    caller: Arc<Caller>,
    function: Arc<str>,
    options: CallOptions,
    types: PhantomData<fn(A) -> R>,
}

impl<A, R> Clone for Stub<A, R> {
    fn clone(&self) -> Self {
        Self {
            caller: Arc::clone(&self.caller),
            function: Arc::clone(&self.function),
            options: self.options,
            types: PhantomData,
        }
    }
}

impl<A, R> fmt::Debug for Stub<A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stub")
            .field("function", &self.function)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// What one of several providers answered.
#[derive(Debug)]
pub struct StubReply<R> {
    /// Who; unknown for providers of the original, and for one that died before it was heard of.
    pub provider: Option<Id>,
    /// The result, or why there is none: the function failed, or the provider is missing.
    pub result: Result<R>,
}

impl<A: Serialize, R: DeserializeOwned> Stub<A, R> {
    pub(crate) fn new(caller: Arc<Caller>, function: &str) -> Self {
        let options = CallOptions::default();
        Self { caller, function: function.into(), options, types: PhantomData }
    }

    /// The same function with a limit on how long a whole call may take.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options.timeout = Some(timeout);
        self
    }

    /// The same function with all of how its calls wait.
    #[must_use]
    pub fn options(mut self, options: CallOptions) -> Self {
        self.options = options;
        self
    }

    /// Calls one provider. Exactly one executes the call where there are providers of ours; where
    /// only providers of the original are, all execute and the first answer counts.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchRemote`], [`ErrorKind::Timeout`], [`ErrorKind::ProviderLost`],
    /// [`ErrorKind::Remote`] if the function failed, [`ErrorKind::Encode`] and
    /// [`ErrorKind::Decode`] for values that do not fit.
    pub async fn call(&self, arguments: A) -> Result<R> {
        let arguments = self.encode(&arguments)?;
        let reply = self.caller.call(&self.function, arguments, self.options).await?;
        self.open(reply)
    }

    /// Calls every provider; returns when all that are alive have answered, or at the timeout.
    ///
    /// Those that failed and those that are missing stand in the answer as errors.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchRemote`] if there is none, and those of the connection.
    pub async fn call_all(&self, arguments: A) -> Result<Vec<StubReply<R>>> {
        let arguments = self.encode(&arguments)?;
        let all = self.caller.call_all(&self.function, arguments, self.options).await?;
        let answered = all
            .replies
            .into_iter()
            .map(|reply| StubReply { provider: reply.provider, result: self.open(reply) });
        let missing = all.missing.iter().map(|missing| {
            let (kind, why) = match missing.lost {
                true => (ErrorKind::ProviderLost, "died or fell silent during the call"),
                false => (ErrorKind::Timeout, "did not answer in time"),
            };
            let who = missing.provider.map_or_else(|| "a provider".to_owned(), |id| id.to_string());
            let error = Error::new(kind, "call", &*self.function, format!("{who} {why}"));
            StubReply { provider: missing.provider, result: Err(error) }
        });
        Ok(answered.chain(missing).collect())
    }

    fn encode(&self, arguments: &A) -> Result<Arguments> {
        let text = codec::encode_plain(&self.function, arguments)?;
        match text.first() {
            Some(b'[') => Ok(Arguments::positional(text)),
            Some(b'{') => {
                Ok(Arguments { positional: Bytes::from_static(b"[]"), keywords: text, types: None })
            }
            Some(b'n') => Ok(Arguments::none()),
            _ => Err(Error::new(
                ErrorKind::Encode,
                "call",
                &*self.function,
                "arguments are a tuple or a struct; write (x,) for a single one",
            )),
        }
    }

    fn open(&self, reply: Reply) -> Result<R> {
        let Reply { outcome, provider } = reply;
        if outcome.failed {
            let error = outcome.remote_error(provider.map(|id| id.to_string()));
            return Err(Error::from_remote(&*self.function, error));
        }
        codec::decode_plain(&self.function, &outcome.value)
    }
}
