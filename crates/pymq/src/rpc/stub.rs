//! The caller's handle on a remote function.
//!
//! A [`Stub`] is a name, types and how to wait; it holds no connection and knows no provider, so it
//! is cheap to make, clone and keep. Dropping the future of a call cancels it at its provider.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use futures_util::stream::{StreamExt as _, unfold};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::attendance::Missing;
use super::gather::{Gathered, Gathering};
use super::{Asked, CallOptions, Caller, Reply};
use crate::codec;
use crate::error::{Error, ErrorKind, Result};
use crate::name::Id;
use crate::telemetry::{self, Observed, Observers, Operation, Verb};
use crate::wire::{Arguments, Metadata};

/// A remote function that takes `A` and gives `R`.
///
/// `A` is a tuple (positional arguments) or a struct or map (keyword arguments); for both in one
/// call see [`keywords`](Self::keywords). What is set for one call is said in front of it, and
/// leaves the stub as it was:
///
/// ```
/// # use std::time::Duration;
/// # use pymq::Bus;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
/// # let bus = Bus::connect("memory://").await?;
/// # let double = |(n,): (i64,)| async move { n.checked_mul(2).ok_or("too large") };
/// # let _service = bus.expose_fn("double", double).await?;
/// let double = bus.stub::<(i64,), i64>("double");
/// assert_eq!(double.call((2,)).await?, 4);
/// assert_eq!(double.timeout(Duration::from_secs(2)).call((3,)).await?, 6);
/// # Ok(()) }
/// ```
///
/// Dropping the future of a call cancels it: the function's own future is dropped where it runs.
pub struct Stub<A, R> {
    caller: Arc<Caller>,
    observers: Observers,
    function: Arc<str>,
    options: CallOptions,
    metadata: Metadata,
    keywords: Option<Bytes>,
    types: PhantomData<fn(A) -> R>,
}

impl<A, R> Clone for Stub<A, R> {
    fn clone(&self) -> Self {
        Self {
            caller: Arc::clone(&self.caller),
            observers: self.observers.clone(),
            function: Arc::clone(&self.function),
            options: self.options,
            metadata: self.metadata.clone(),
            keywords: self.keywords.clone(),
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
#[non_exhaustive]
pub struct StubReply<R> {
    /// The provider; unknown for providers of the original, and for one that died before it was heard of.
    pub provider: Option<Id>,
    /// The result, or why there is none: the function failed, or the provider is missing.
    pub result: Result<R>,
}

impl<A: Serialize, R: DeserializeOwned> Stub<A, R> {
    pub(crate) fn new(caller: Arc<Caller>, observers: Observers, function: &str) -> Self {
        let options = CallOptions::default();
        let (function, metadata) = (function.into(), Metadata::default());
        Self { caller, observers, function, options, metadata, keywords: None, types: PhantomData }
    }

    /// The same function with a limit on how long a whole call may take.
    #[must_use]
    pub fn timeout(&self, timeout: Duration) -> Self {
        self.options(self.options.timeout(timeout))
    }

    /// The same function with all of how its calls wait.
    #[must_use]
    pub fn options(&self, options: CallOptions) -> Self {
        Self { options, ..self.clone() }
    }

    /// The same function with something to say beside the arguments: headers, an identity. The
    /// function reads it as [`current_call`](super::current_call)`().metadata()`. Headers that are
    /// passed on go with every call made from within a function, without being said again.
    #[must_use]
    pub fn metadata(&self, metadata: Metadata) -> Self {
        Self { metadata, ..self.clone() }
    }

    /// The same function with keyword arguments beside the positional ones that a call brings:
    /// a struct or a map.
    ///
    #[cfg_attr(feature = "macros", doc = "```")]
    #[cfg_attr(not(feature = "macros"), doc = "```ignore")]
    /// # use std::collections::HashMap;
    /// # use pymq::Bus;
    /// #[pymq::remote]
    /// async fn product(a: i64, b: i64) -> i64 {
    ///     a * b
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
    /// # let bus = Bus::connect("memory://").await?;
    /// # let _service = bus.expose(product).await?;
    /// let product = bus.stub::<(i64,), i64>("product");
    /// let four = product.keywords(&HashMap::from([("b", 4)]))?; // Python: stub("product")(2, b=4)
    /// assert_eq!(four.call((2,)).await?, 8);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `Encode` for what is neither a struct nor a map.
    pub fn keywords<K: Serialize + ?Sized>(&self, keywords: &K) -> Result<Self> {
        let text = codec::encode_plain(&self.function, keywords)?;
        if text.first() != Some(&b'{') {
            return Err(self.misfit("keyword arguments are a struct or a map"));
        }
        Ok(Self { keywords: Some(text), ..self.clone() })
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
        let observed = self.begin();
        let asked = self.asked(arguments, observed.as_ref());
        let reply = self.caller.call(asked, self.options).await;
        telemetry::ended(observed, 1, reply.and_then(|reply| open(&self.function, reply)))
    }

    /// Calls every provider; returns when all that are alive have answered, or at the timeout.
    ///
    /// Those that failed and those that are missing stand in the answer as errors.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchRemote`] if there is none, and those of the connection.
    pub async fn call_all(&self, arguments: A) -> Result<Vec<StubReply<R>>> {
        let arguments = self.encode(&arguments)?;
        let observed = self.begin();
        let replies = self.all_replies(arguments, observed.as_ref()).await;
        telemetry::ended(observed, 1, replies)
    }

    async fn all_replies(
        &self,
        arguments: Arguments,
        observed: Option<&Observed>,
    ) -> Result<Vec<StubReply<R>>> {
        let asked = self.asked(arguments, observed);
        let mut gathering = self.caller.call_all(asked, self.options).await?;
        let mut replies = Vec::new();
        while let Some(gathered) = gathering.next().await {
            replies.push(reply(&self.function, gathered?));
        }
        Ok(replies)
    }

    /// Calls every provider and gives each answer when it comes; in the end names the missing ones.
    ///
    /// Returns when the call is on its way. Dropping the answers cancels it where it still runs.
    ///
    /// ```
    /// # use pymq::Bus;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
    /// # let bus = Bus::connect("memory://").await?;
    /// # let _one = bus.expose_fn("stock", |(): ()| async { Ok::<_, String>(3) }).await?;
    /// # let _two = bus.expose_fn("stock", |(): ()| async { Ok::<_, String>(4) }).await?;
    /// let mut replies = bus.stub::<(), u32>("stock").call_all_stream(()).await?;
    /// let mut stock = 0;
    /// while let Some(reply) = replies.recv().await {
    ///     stock += reply.result?;
    /// }
    /// assert_eq!(stock, 7);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`call_all`](Self::call_all); a connection that is lost later is the last of the answers.
    pub async fn call_all_stream(&self, arguments: A) -> Result<Replies<R>> {
        let arguments = self.encode(&arguments)?;
        let observed = self.begin();
        let asked = self.asked(arguments, observed.as_ref());
        let (gathering, observed) = match self.caller.call_all(asked, self.options).await {
            Ok(gathering) => (gathering, observed),
            Err(error) => return telemetry::ended(observed, 1, Err(error)),
        };
        let next = |(mut gathering, observed): (Gathering, Option<Observed>)| async move {
            match gathering.next().await {
                Some(gathered) => Some((gathered, (gathering, observed))),
                None => telemetry::ended(observed, 1, Ok(None)).unwrap_or_default(),
            }
        };
        let gathered = Box::pin(unfold((gathering, observed), next).fuse());
        Ok(Replies { gathered, function: Arc::clone(&self.function), results: PhantomData })
    }

    fn begin(&self) -> Option<Observed> {
        self.observers.begin(Operation::new(Verb::Call, &self.function))
    }

    fn asked(&self, arguments: Arguments, observed: Option<&Observed>) -> Asked<'_> {
        let metadata = telemetry::beside(observed, self.metadata.clone());
        Asked { function: &self.function, arguments, metadata }
    }

    fn encode(&self, arguments: &A) -> Result<Arguments> {
        let text = codec::encode_plain(&self.function, arguments)?;
        let none = Bytes::from_static(b"[]");
        let (positional, keywords) = match (text.first(), &self.keywords) {
            (Some(b'['), keywords) => (text, keywords.clone()),
            (Some(b'n'), keywords) => (none, keywords.clone()),
            (Some(b'{'), None) => (none, Some(text)),
            (Some(b'{'), Some(_)) => {
                return Err(self.misfit("keyword arguments are given twice: call with a tuple"));
            }
            _ => {
                let why = "arguments are a tuple or a struct; write (x,) for a single one";
                return Err(self.misfit(why));
            }
        };
        let keywords = keywords.unwrap_or_else(|| Bytes::from_static(b"{}"));
        Ok(Arguments { positional, keywords, types: None })
    }

    fn misfit(&self, why: &'static str) -> Error {
        Error::new(ErrorKind::Encode, "call", &*self.function, why)
    }
}

/// The answers to a call to everyone, as they come; then those who are missing. Dropping it cancels
/// the call where it still runs.
#[must_use = "dropping the answers cancels the call"]
pub struct Replies<R> {
    gathered: Pin<Box<dyn Stream<Item = Result<Gathered>> + Send>>,
    function: Arc<str>,
    results: PhantomData<fn() -> R>,
}

impl<R: DeserializeOwned> Replies<R> {
    /// The next answer; `None` when there are no more. Cancel-safe.
    pub async fn recv(&mut self) -> Option<StubReply<R>> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl<R: DeserializeOwned> Stream for Replies<R> {
    type Item = StubReply<R>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let gathered = ready!(self.gathered.as_mut().poll_next(context));
        Poll::Ready(gathered.map(|gathered| match gathered {
            Ok(gathered) => reply(&self.function, gathered),
            Err(error) => StubReply { provider: None, result: Err(error) },
        }))
    }
}

impl<R> fmt::Debug for Replies<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Replies").field(&self.function).finish()
    }
}

fn open<R: DeserializeOwned>(function: &str, reply: Reply) -> Result<R> {
    let Reply { outcome, provider } = reply;
    if outcome.failed {
        let error = outcome.remote_error(provider.map(|id| id.to_string()));
        return Err(Error::from_remote(function, error));
    }
    codec::decode_plain(function, &outcome.value)
}

fn reply<R: DeserializeOwned>(function: &str, gathered: Gathered) -> StubReply<R> {
    match gathered {
        Gathered::Reply(reply) => {
            StubReply { provider: reply.provider, result: open(function, reply) }
        }
        Gathered::Missing(Missing { provider, lost }) => {
            let (kind, why) = match lost {
                true => (ErrorKind::ProviderLost, "died or fell silent during the call"),
                false => (ErrorKind::Timeout, "did not answer in time"),
            };
            let who = provider.map_or_else(|| "a provider".to_owned(), |id| id.to_string());
            let error = Error::new(kind, "call", function, format!("{who} {why}"));
            StubReply { provider, result: Err(error) }
        }
    }
}
