//! How events go out: published or posted, in one way.
//!
//! What is said beside a value is put in front of it, names and sizes are checked, and the namespace
//! comes before the topic. Encoding aside, nothing here knows a type of events.

use bytes::Bytes;
use serde::Serialize;

use super::Bus;
use crate::error::Result;
use crate::telemetry::{self, Operation, Verb};
use crate::transport::{self, Answer, Transport};
use crate::wire::Metadata;
use crate::{codec, name};

/// What the transport is asked for.
pub(crate) trait Sending {
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

impl Sending for Published {
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

impl Sending for Posted {
    type Told = ();

    fn send<'a>(transport: &'a dyn Transport, topic: &'a str, payload: Bytes) -> Answer<'a, ()> {
        transport.post(topic, payload)
    }
}

impl Bus {
    /// Sends a value with what is said beside it, and tells who watches.
    pub(crate) async fn send<S: Sending, T: Serialize + ?Sized>(
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
    pub(super) async fn send_bytes<S: Sending>(
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
