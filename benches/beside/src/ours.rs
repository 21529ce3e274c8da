//! This library: typed events and calls of a bus, and what they stand on, the transport alone.

use std::time::Instant;

use bytes::Bytes;
use pymq::transport::ipc::Ipc;
use pymq::transport::{Arrival, Events as _, Filter};
use pymq::{Bus, blocking};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout_at;

use crate::place::Place;
use crate::{Library, Once, Outcome, Receive, worker};

/// Values as JSON, by names and types.
pub(crate) const LIBRARY: Library = Library { name: "pymq", answer, caller, subscriber, publisher };

/// Bytes as they are, as the other libraries carry them; it has no calls.
pub(crate) const BYTES: Library = Library {
    name: "pymq, bytes",
    answer,
    caller,
    subscriber: subscriber_of_bytes,
    publisher: publisher_of_bytes,
};

/// The caller is a thread that waits, of a program without a runtime.
pub(crate) const WAITING: &str = "pymq, a thread that waits";

const FUNCTION: &str = "beside.echo";

fn url(place: &Place) -> String {
    format!("ipc://{}", place.file("bus"))
}

fn topic(bytes: usize) -> String {
    format!("beside.{bytes}")
}

fn topic_of_bytes(bytes: usize) -> String {
    format!("beside.bytes.{bytes}")
}

/// A text that takes so many bytes as JSON.
fn text(bytes: usize) -> String {
    "x".repeat(bytes - 2)
}

fn runtime() -> Outcome<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

fn answer(place: &Place) -> Outcome<()> {
    runtime()?.block_on(async {
        let bus = Bus::connect(&url(place)).await?;
        let echo = |(text,): (String,)| async move { Ok::<_, String>(text) };
        let _service = bus.expose_fn(FUNCTION, echo).await?;
        worker::ready()?;
        std::future::pending().await
    })
}

fn caller(place: &Place) -> Outcome<Once> {
    let (runtime, text) = (runtime()?, text(64));
    let bus = runtime.block_on(Bus::connect(&url(place)))?;
    let stub = bus.stub::<(String,), String>(FUNCTION);
    Ok(Box::new(move || Ok(runtime.block_on(stub.call((text.clone(),))).map(drop)?)))
}

pub(crate) fn waiting_caller(place: &Place) -> Outcome<Once> {
    let (bus, text) = (blocking::Bus::connect(&url(place))?, text(64));
    let stub = bus.stub::<(String,), String>(FUNCTION);
    Ok(Box::new(move || Ok(stub.call((text.clone(),)).map(drop)?)))
}

fn subscriber(place: &Place, bytes: usize) -> Outcome<Receive> {
    let runtime = runtime()?;
    let bus = runtime.block_on(Bus::connect(&url(place)))?;
    let mut events = runtime.block_on(bus.topic::<String>(topic(bytes)).subscribe())?;
    Ok(Box::new(move |end| {
        // It is open as long as we receive.
        let _open = &bus;
        runtime.block_on(async {
            let mut received = 0;
            while Instant::now() < end {
                let Ok(event) = timeout_at(end.into(), events.recv()).await else { break };
                // Which were too many for us comes as an error.
                received += usize::from(event.ok_or("the bus has ended")?.is_ok());
            }
            Ok(received)
        })
    }))
}

fn publisher(place: &Place, bytes: usize) -> Outcome<Once> {
    let (runtime, text) = (runtime()?, text(bytes));
    let bus = runtime.block_on(Bus::connect(&url(place)))?;
    let topic = bus.topic::<String>(topic(bytes));
    Ok(Box::new(move || Ok(runtime.block_on(topic.publish(&text)).map(drop)?)))
}

fn subscriber_of_bytes(place: &Place, bytes: usize) -> Outcome<Receive> {
    let runtime = runtime()?;
    let bus = runtime.block_on(Ipc::connect(&url(place)))?;
    let filter = Filter::Topic(topic_of_bytes(bytes));
    let mut events = runtime.block_on(bus.subscribe(&[filter]))?;
    Ok(Box::new(move |end| {
        let _open = &bus;
        runtime.block_on(async {
            let mut received = 0;
            while Instant::now() < end {
                let Ok(event) = timeout_at(end.into(), events.recv()).await else { break };
                let event = event.ok_or("the bus has ended")?;
                received += usize::from(matches!(event, Arrival::Message(_)));
            }
            Ok(received)
        })
    }))
}

fn publisher_of_bytes(place: &Place, bytes: usize) -> Outcome<Once> {
    let runtime = runtime()?;
    let bus = runtime.block_on(Ipc::connect(&url(place)))?;
    let (topic, payload) = (topic_of_bytes(bytes), Bytes::from(vec![7; bytes]));
    Ok(Box::new(move || Ok(runtime.block_on(bus.publish(&topic, payload.clone())).map(drop)?)))
}
