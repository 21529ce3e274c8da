//! An error that a function chooses the name, the arguments and the fields of.
//!
//! Any error with words is one to callers, under its type's name. A [`Failure`] says more: what
//! Python's `except` sees as the error's name and arguments, or the fields of a Rust error.

use std::fmt::{self, Display};

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::codec;
use crate::error::{RemoteError, Result};
use crate::wire::Outcome;

/// The error of an exposed function, as its callers are to see it.
///
/// Made from any error with words and fields (`?` does it), it carries both: callers in Rust that
/// know the type get it back with [`RemoteError::typed`](crate::RemoteError::typed), all others its
/// name and words. Made with [`new`](Self::new), it has the name and the arguments that are given.
///
/// ```
/// # use pymq::{Bus, rpc::Failure};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
/// # let bus = Bus::connect("memory://").await?;
/// let find = |(key,): (String,)| async move {
///     Err::<(), _>(Failure::new("KeyError", &(key,)).expect("a text"))
/// };
/// let _service = bus.expose_fn("find", find).await?;
/// let error = bus.stub::<_, ()>("find").call(("tea",)).await.unwrap_err();
/// assert_eq!(error.remote().expect("it failed").to_string(), r#"KeyError("tea")"#);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Failure {
    name: String,
    /// A JSON array.
    arguments: Bytes,
    fields: Option<Bytes>,
    words: String,
}

impl Failure {
    /// An error of that name with those arguments, a tuple.
    ///
    /// # Errors
    /// `Encode` for arguments that JSON cannot hold.
    pub fn new<A: Serialize>(name: &str, arguments: &A) -> Result<Self> {
        let text = codec::encode_plain(name, arguments)?;
        let arguments = match text.first() {
            Some(b'[') => text,
            _ => Bytes::from([b"[", &text[..], b"]"].concat()),
        };
        let words = String::from_utf8_lossy(&arguments).into_owned();
        Ok(Self { name: name.to_owned(), arguments, fields: None, words })
    }

    pub(super) fn outcome(&self) -> Outcome {
        let result = Outcome::result(self.arguments.clone(), self.name.clone());
        Outcome { failed: true, fields: self.fields.clone(), ..result }
    }
}

impl<E: Serialize + Display> From<E> for Failure {
    /// An error with its fields, where JSON can hold them; its words always.
    fn from(error: E) -> Self {
        let (name, words) = (last_name::<E>(), error.to_string());
        let arguments = Bytes::from(Value::from(vec![words.as_str()]).to_string());
        let fields = codec::encode_plain(name, &error).ok();
        Self { name: name.to_owned(), arguments, fields, words }
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl RemoteError {
    /// The error itself, where both sides know its type: sent by a provider in Rust as a
    /// [`Failure`], and of `E`'s name.
    ///
    /// ```
    /// use pymq::{Bus, rpc::Failure};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Debug, PartialEq, Serialize, Deserialize)]
    /// enum OrderError {
    ///     OutOfStock { item: String, left: u32 },
    /// }
    ///
    /// impl std::fmt::Display for OrderError {
    ///     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
    ///         let Self::OutOfStock { item, left } = self;
    ///         write!(f, "{left} of {item} are left")
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
    /// # let bus = Bus::connect("memory://").await?;
    /// let order = |(item,): (String,)| async move {
    ///     Err::<(), Failure>(OrderError::OutOfStock { item, left: 2 }.into())
    /// };
    /// let _service = bus.expose_fn("order", order).await?;
    /// let error = bus.stub::<_, ()>("order").call(("tea",)).await.unwrap_err();
    /// let remote = error.remote().expect("the function failed");
    /// assert_eq!(remote.to_string(), r#"OrderError("2 of tea are left")"#);
    /// let typed: OrderError = remote.typed().expect("both sides know it");
    /// assert_eq!(typed, OrderError::OutOfStock { item: "tea".into(), left: 2 });
    /// # Ok(()) }
    /// ```
    pub fn typed<E: DeserializeOwned>(&self) -> Option<E> {
        let fields = self.fields.as_deref().filter(|_| self.type_name == last_name::<E>())?;
        codec::decode_plain(&self.type_name, fields).ok()
    }
}

/// The last part of a type's path, as Python names its own.
pub(crate) fn last_name<T>() -> &'static str {
    let whole = std::any::type_name::<T>();
    let plain = whole.split('<').next().unwrap_or(whole).trim_start_matches('&');
    plain.rsplit("::").next().unwrap_or(plain)
}
