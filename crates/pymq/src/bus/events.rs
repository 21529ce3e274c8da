//! Events on a bus: published or posted, and subscribed to.
//!
//! The one invariant: whatever is sent goes one way, on which names and sizes are checked, what is said
//! beside a value is put in front of it, and the namespace comes before the topic. What a stream of events
//! is, [`topic`](crate::topic) says.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Bus;
use crate::error::Result;
use crate::telemetry::{self, Operation, Verb};
use crate::topic::{self, Event, Events, PatternEvents};
use crate::transport::{self, Answer, Filter, Subscription, Transport};
use crate::wire::Metadata;
use crate::{codec, name};

impl Bus {
    /// Publishes an event on its type's topic; says how many received it, where that is known.
    ///
    /// At most once: who is not subscribed, away, or too slow does not get it. How many receive is
    /// counted as the transport counts: subscriptions in memory, connections on Redis.
    ///
    /// # Errors
    /// `Encode`, and those of the connection; after `Ambiguous` it may have been published.
    pub async fn publish<E: Event>(&self, event: &E) -> Result<Option<usize>> {
        self.send::<Published, _>(E::TOPIC, event, &Metadata::default()).await
    }

    /// Publishes an event on its type's topic without waiting for the broker, see
    /// [`Topic::post`](crate::Topic::post).
    ///
    /// # Errors
    /// Those of [`Topic::post`](crate::Topic::post).
    pub async fn post<E: Event>(&self, event: &E) -> Result<()> {
        self.send::<Posted, _>(E::TOPIC, event, &Metadata::default()).await
    }

    /// Subscribes to a type's topic; the next event published is seen.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn subscribe<E: Event>(&self) -> Result<Events<E>> {
        self.topic(E::TOPIC).subscribe().await
    }

    /// Subscribes to all topics that match a glob pattern (`*`, `?`, `[a-z]`, `\`).
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn pattern<T: DeserializeOwned>(&self, pattern: &str) -> Result<PatternEvents<T>> {
        self.subscribe_to(&[Filter::Pattern(pattern.to_owned())]).await
    }

    /// Subscribes to several topics and patterns in one step; the next event published on any of
    /// them is seen. An event that several of them match comes once for each.
    ///
    /// ```
    /// use pymq::{Bus, Filter};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
    /// # let bus = Bus::connect("memory://").await?;
    /// let filters = [Filter::Topic("till".into()), Filter::Pattern("shop.*".into())];
    /// let mut amounts = bus.subscribe_to::<u32>(&filters).await?;
    /// bus.topic("shop.north").publish(&30).await?;
    /// let (topic, amount) = amounts.recv().await.expect("the bus is open")?;
    /// assert_eq!((topic.as_str(), amount), ("shop.north", 30));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `Config` for no filter at all or a bad name, and those of the connection.
    pub async fn subscribe_to<T: DeserializeOwned>(
        &self,
        filters: &[Filter],
    ) -> Result<PatternEvents<T>> {
        PatternEvents::subscribe(self.clone(), filters).await
    }

    // For layers above that have a codec of their own: bytes instead of types.

    /// Publishes bytes that are an encoded value already.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub async fn publish_bytes(&self, topic: &str, payload: Bytes) -> Result<Option<usize>> {
        self.send_bytes::<Published>(topic, payload).await
    }

    /// Posts bytes, see [`Topic::post`](crate::Topic::post).
    ///
    /// # Errors
    /// Those of [`Topic::post`](crate::Topic::post), but for encoding.
    pub async fn post_bytes(&self, topic: &str, payload: Bytes) -> Result<()> {
        self.send_bytes::<Posted>(topic, payload).await
    }

    /// Subscribes to a topic, or to a pattern, and reads bytes; messages name their topics in whole, with
    /// the namespace.
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe).
    pub async fn subscribe_bytes(&self, filter: &Filter) -> Result<Subscription> {
        self.subscribe_filters(std::slice::from_ref(filter)).await
    }

    pub(crate) async fn subscribe_filters(&self, filters: &[Filter]) -> Result<Subscription> {
        let namespace = &self.0.namespace;
        let whole = filters.iter().map(|filter| match filter {
            Filter::Topic(topic) => {
                name::check_topic("subscribe", topic)?;
                Ok(Filter::Topic(namespace.whole(topic)))
            }
            Filter::Pattern(pattern) => {
                name::check_topic("subscribe", pattern)?;
                Ok(Filter::Pattern(namespace.whole_pattern(pattern)))
            }
        });
        let whole = whole.collect::<Result<Vec<_>>>()?;
        let shown = topic::shown(filters)?;
        transport::check_runtime(&*self.0.transport, "subscribe", &shown)?;
        match self.0.transport.subscribe(&whole).await {
            Ok(subscription) => Ok(topic::named(subscription, shown)),
            Err(error) => Err(error.of("subscribe", shown)),
        }
    }

    /// Sends a value with what is said beside it, and tells the observers.
    pub(crate) async fn send<S: Publishing, T: Serialize + ?Sized>(
        &self,
        topic: &str,
        value: &T,
        metadata: &Metadata,
    ) -> Result<S::Told> {
        let value = codec::encode(topic, value)?;
        let observed = self.0.observers.begin(Operation::new(Verb::Publish, topic));
        let message = telemetry::attach(observed.as_ref(), metadata, value, self.0.limits);
        let sent = match message {
            Ok(payload) => self.send_bytes::<S>(topic, payload).await,
            Err(error) => Err(error.of("publish", name::shortened(topic))),
        };
        telemetry::ended(observed, 1, sent)
    }

    /// Sends bytes that are an encoded value already.
    pub(super) async fn send_bytes<S: Publishing>(
        &self,
        topic: &str,
        payload: Bytes,
    ) -> Result<S::Told> {
        let transport = &*self.0.transport;
        name::check_topic("publish", topic)?;
        transport::check_runtime(transport, "publish", topic)?;
        self.0.limits.check("publish", topic, &payload)?;
        let sent = S::send(transport, &self.0.namespace.whole(topic), payload).await;
        sent.map_err(|error| error.of("publish", name::shortened(topic)))
    }
}

/// The operation that the transport is asked for.
pub(crate) trait Publishing {
    /// What it answers.
    type Told;

    fn send<'a>(
        transport: &'a dyn Transport,
        topic: &'a str,
        payload: Bytes,
    ) -> Answer<'a, Self::Told>;
}

/// The broker has it when it is answered.
pub(crate) enum Published {}

impl Publishing for Published {
    type Told = Option<usize>;

    fn send<'a>(
        transport: &'a dyn Transport,
        topic: &'a str,
        payload: Bytes,
    ) -> Answer<'a, Option<usize>> {
        transport.publish(topic, payload)
    }
}

/// It is on its way when it is answered.
pub(crate) enum Posted {}

impl Publishing for Posted {
    type Told = ();

    fn send<'a>(transport: &'a dyn Transport, topic: &'a str, payload: Bytes) -> Answer<'a, ()> {
        transport.post(topic, payload)
    }
}
