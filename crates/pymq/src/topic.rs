//! Typed publish/subscribe: topics, and the streams of events that come from them.
//!
//! Delivery is at most once, and a loss is never silent: a stream yields
//! [`Lagged`](crate::ErrorKind::Lagged) where events were missed and goes on
//! ([`Error::missed`] says how many). An event that cannot be decoded is an error of its own, not
//! the end of the stream.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use futures_core::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bus::{Bus, Posted, Published};
use crate::codec;
use crate::drain_list::DrainEntry;
use crate::error::{Error, ErrorKind, Result};
use crate::name;
use crate::telemetry::Received;
use crate::transport::{self, Arrival, Filter, Guard, Receiver, Sender, Subscription};
use crate::wire::Metadata;

/// A type of events, and the topic they travel on.
///
/// `#[derive(Event)]` with `#[event(topic = "shop.OrderPlaced")]` writes this:
///
/// ```
/// use pymq::{Bus, Event};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct OrderPlaced { id: u64 }
///
/// impl Event for OrderPlaced {
///     const TOPIC: &'static str = "shop.OrderPlaced";
/// }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
/// let bus = Bus::connect("memory://").await?;
/// let mut placed = bus.subscribe::<OrderPlaced>().await?;
/// bus.publish(&OrderPlaced { id: 1 }).await?;
/// assert_eq!(placed.recv().await.expect("the bus is open")?.id, 1);
/// # Ok(()) }
/// ```
///
/// A Python class `shop.OrderPlaced` with an attribute `id` is the same event.
pub trait Event: Serialize + DeserializeOwned {
    /// The topic's name; for a Python class, its module and name.
    const TOPIC: &'static str;
}

/// A topic, carrying values of type `T`.
#[derive(Clone)]
pub struct Topic<T> {
    bus: Bus,
    name: String,
    metadata: Metadata,
    values: PhantomData<fn(T) -> T>,
}

impl<T> Topic<T> {
    pub(crate) fn new(bus: Bus, name: String) -> Self {
        Self { bus, name, metadata: Metadata::default(), values: PhantomData }
    }

    /// The same topic with something to say beside each value that is published through it: headers,
    /// an identity. The time of sending goes with them. Subscribers read it with
    /// [`Events::recv_message`], those in Python as `pymq.current_message()`.
    ///
    /// ```
    /// # use pymq::{Bus, wire::Metadata};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
    /// # let bus = Bus::connect("memory://").await?;
    /// let mut sales = bus.pattern::<u32>("shop.*").await?;
    /// let north = Metadata::default().header("tenant", "north");
    /// bus.topic("shop.till").metadata(north).publish(&30).await?;
    /// let sale = sales.recv_message().await.expect("the bus is open")?;
    /// assert_eq!((sale.value, sale.topic.as_str()), (30, "shop.till"));
    /// assert_eq!(sale.metadata.get("tenant"), Some("north"));
    /// assert!(sale.metadata.sent().is_some());
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn metadata(self, metadata: Metadata) -> Self {
        Self { metadata, ..self }
    }

    /// Its name, without the namespace.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Publishes a value; says how many received it, where that is known.
    ///
    /// # Errors
    /// As [`Bus::publish`]; `Encode` for more than 8 KiB of metadata, too.
    pub async fn publish(&self, value: &T) -> Result<Option<usize>>
    where
        T: Serialize,
    {
        self.bus.send::<Published, _>(&self.name, value, &self.metadata).await
    }

    /// Publishes a value, and waits neither for the broker nor for a connection, at most for room in the
    /// connection's buffer. It keeps its place among what this bus publishes.
    ///
    /// What is lost on the way, since there is no connection, or it breaks, or the broker refuses, is
    /// counted ([`Health::lost_posts`](crate::transport::Health::lost_posts)) and told in the log. What was posted
    /// before [`Bus::close`] is sent before it returns.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
    /// # let bus = pymq::Bus::connect("memory://").await?;
    /// let topic = bus.topic("temperature");
    /// let mut read = topic.subscribe().await?;
    /// for degrees in 20..23 {
    ///     topic.post(&degrees).await?;
    /// }
    /// assert_eq!(read.recv().await.expect("the bus is open")?, 20);
    /// assert_eq!(bus.health().lost_posts, 0);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// What is known at once: `Encode`, `Config` for the name, `Closed`.
    pub async fn post(&self, value: &T) -> Result<()>
    where
        T: Serialize,
    {
        self.bus.send::<Posted, _>(&self.name, value, &self.metadata).await
    }

    /// Subscribes; the next value published is seen.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn subscribe(&self) -> Result<Events<T>>
    where
        T: DeserializeOwned,
    {
        Events::subscribe(self.bus.clone(), &[Filter::Topic(self.name.clone())]).await
    }
}

impl<T> fmt::Debug for Topic<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Topic").field(&self.name).finish()
    }
}

/// An event with what its sender said beside it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Message<T> {
    /// The event.
    pub value: T,
    /// The topic that it was published on, without the namespace.
    pub topic: String,
    /// Headers, identity and time of sending; empty where its sender said nothing.
    pub metadata: Metadata,
}

/// The events of one topic, in order; dropping it unsubscribes, on any thread.
///
/// `I` is what the stream gives for each: the event, or of [`PatternEvents`] the topic with it.
#[must_use = "dropping the events unsubscribes"]
pub struct Events<T, I = T> {
    inner: TypedSubscription,
    values: PhantomData<fn() -> (T, I)>,
}

/// The events of several topics, by pattern or by name, each with its topic; dropping it
/// unsubscribes, on any thread.
pub type PatternEvents<T> = Events<T, (String, T)>;

impl<T, I> Events<T, I> {
    pub(crate) async fn subscribe(bus: Bus, filters: &[Filter]) -> Result<Self> {
        let inner = TypedSubscription::begin(bus, filters).await?;
        Ok(Self { inner, values: PhantomData })
    }
}

impl<T: DeserializeOwned, I: Given<T>> Events<T, I> {
    /// The next event, or what was missed; `None` when the bus was closed. Cancel-safe.
    pub async fn recv(&mut self) -> Option<Result<I>> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// The same with what travelled beside it.
    pub async fn recv_message(&mut self) -> Option<Result<Message<T>>> {
        self.inner.recv_message().await
    }

    /// Unsubscribes and waits until the broker knows.
    ///
    /// # Errors
    /// If the broker refuses; nothing more arrives all the same. A lost connection is no error: the
    /// subscription ended with it.
    pub async fn unsubscribe(self) -> Result<()> {
        self.inner.entry.stop().await
    }
}

impl<T: DeserializeOwned, I: Given<T>> Stream for Events<T, I> {
    type Item = Result<I>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<I>>> {
        let next = ready!(self.inner.poll_next(context));
        Poll::Ready(next.map(|message| I::of(&self.inner, &message?)))
    }
}

impl<T, I> fmt::Debug for Events<T, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Events").field(&self.inner).finish()
    }
}

/// What a stream of events of type `T` gives for each.
pub trait Given<T>: Sized {
    /// Reads a message of the subscription.
    ///
    /// # Errors
    /// `Decode` for one that is no `T`.
    fn of(subscription: &TypedSubscription, message: &transport::Message) -> Result<Self>;
}

impl<T: DeserializeOwned> Given<T> for T {
    fn of(subscription: &TypedSubscription, message: &transport::Message) -> Result<T> {
        // There is one topic only, so its name need not be taken from the message.
        let topic = &subscription.filter;
        let (event, metadata) = codec::decode_message(topic, &message.payload)?;
        subscription.handed_over(topic, &metadata);
        Ok(event)
    }
}

impl<T: DeserializeOwned> Given<T> for (String, T) {
    fn of(subscription: &TypedSubscription, message: &transport::Message) -> Result<(String, T)> {
        let Message { topic, value, .. } = subscription.read(message)?;
        Ok((topic, value))
    }
}

/// What a stream of events is made of; it keeps the bus alive.
pub struct TypedSubscription {
    messages: Receiver<transport::Message>,
    /// Holds what ends the subscription, so that a drain can end it too.
    entry: DrainEntry,
    /// What is subscribed to, as errors name it.
    filter: String,
    bus: Bus,
}

impl fmt::Debug for TypedSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.messages.fmt(f)
    }
}

impl TypedSubscription {
    async fn begin(bus: Bus, filters: &[Filter]) -> Result<Self> {
        let filter = shown(filters)?;
        let (messages, guard) = bus.subscribe_filters(filters).await?.split();
        let ending = CloseOnDrop(messages.sender());
        let stop = Box::new(move || -> BoxFuture<'static, _> {
            Box::pin(async move {
                // Also when the wait for the broker is given up: dropping the guard ends it, too.
                let _ending = ending;
                guard.release().await
            })
        });
        let entry = bus.drain_list().open("subscribe", &filter, stop)?;
        Ok(Self { messages, entry, filter, bus })
    }

    async fn recv_message<T: DeserializeOwned>(&mut self) -> Option<Result<Message<T>>> {
        let next = std::future::poll_fn(|context| self.poll_next(context)).await;
        next.map(|message| self.read(&message?))
    }

    fn read<T: DeserializeOwned>(&self, message: &transport::Message) -> Result<Message<T>> {
        let whole = &message.topic;
        let topic = self.bus.namespace().strip(whole).unwrap_or(whole);
        let (value, metadata) = codec::decode_message(topic, &message.payload)?;
        self.handed_over(topic, &metadata);
        Ok(Message { value, topic: topic.to_owned(), metadata })
    }

    /// Whoever watches the bus is told that the program gets an event. It did not wait for any one
    /// in particular.
    fn handed_over(&self, topic: &str, metadata: &Metadata) {
        self.bus.observers().received(topic, None, &[Received::new(metadata, None)]);
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<transport::Message>>> {
        let arrival = ready!(self.messages.poll_recv(context));
        Poll::Ready(arrival.map(|arrival| match arrival {
            Arrival::Message(message) => Ok(message),
            Arrival::Lagged(missed) => Err(self.lagged(Some(missed))),
            Arrival::Gap => Err(self.lagged(None)),
            Arrival::Refused(why) => Err(self.refused(&why)),
        }))
    }

    fn lagged(&self, missed: Option<u64>) -> Error {
        let error = Error::lagged(self.filter.as_str(), missed);
        tracing::warn!(filter = self.filter, why = error.message(), "events missed");
        error
    }

    fn refused(&self, words: &str) -> Error {
        let why =
            format!("the broker allows it no more ({words}); go on reading, in case it does again");
        Error::new(ErrorKind::Server, "receive", self.filter.as_str(), why)
    }
}

/// A subscription whose end, should it fail, is told of in the user's words.
pub(crate) fn named(subscription: Subscription, filter: String) -> Subscription {
    let (messages, guard) = subscription.split();
    Subscription::new(messages, Box::new(Named { guard, filter }))
}

struct Named {
    guard: Box<dyn Guard>,
    filter: String,
}

impl Guard for Named {
    fn release(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        let Self { guard, filter } = *self;
        let released = guard.release();
        Box::pin(async move { released.await.map_err(|error| error.of("unsubscribe", filter)) })
    }
}

/// Ends a mailbox when it is dropped; what has arrived stays there to be read.
struct CloseOnDrop(Sender<transport::Message>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The filters as errors name them.
pub(crate) fn shown(filters: &[Filter]) -> Result<String> {
    let names = filters.iter().map(|filter| name::shortened(filter.text()));
    match filters.len() {
        0 => {
            let why = "nothing to subscribe to: give at least one topic or pattern";
            Err(Error::new(ErrorKind::Config, "subscribe", "", why))
        }
        1..=3 => Ok(names.collect::<Vec<_>>().join(", ")),
        more => {
            Ok(format!("{} and {} more", names.take(2).collect::<Vec<_>>().join(", "), more - 2))
        }
    }
}
