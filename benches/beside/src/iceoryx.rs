//! iceoryx2: samples in shared memory, and beside each service one of events, by which whoever sleeps is
//! woken.

use std::time::{Duration, Instant};

use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::prelude::*;
use iceoryx2::service::port_factory::{publish_subscribe, request_response};

use crate::place::Place;
use crate::{Library, Once, Outcome, Receive, told, worker};

pub(crate) const LIBRARY: Library =
    Library { name: "iceoryx2", answer, caller, subscriber, publisher };

/// How many samples may wait; with the two of its default a publisher hardly ever gets ahead.
const WAITING: usize = 256;
/// A sleep at the longest.
const SLICE: Duration = Duration::from_millis(100);

type Node = iceoryx2::node::Node<ipc::Service>;
type PubSub = publish_subscribe::PortFactory<ipc::Service, [u8], ()>;
type Rpc = request_response::PortFactory<ipc::Service, [u8], (), [u8], ()>;

fn node(place: &Place) -> Outcome<Node> {
    set_log_level(LogLevel::Error);
    let mut config = Config::global_config().clone();
    let root = format!("{}/", place.file("iceoryx2"));
    config.global.set_root_path(&Path::new(root.as_bytes()).map_err(told)?);
    config.global.prefix = FileName::new(place.prefix().as_bytes()).map_err(told)?;
    let node = NodeBuilder::new()
        .signal_handling_mode(SignalHandlingMode::Disabled)
        .config(&config)
        .create::<ipc::Service>();
    node.map_err(told)
}

fn name(text: &str) -> Outcome<ServiceName> {
    text.try_into().map_err(told)
}

fn listener(node: &Node, bell: &str) -> Outcome<Listener<ipc::Service>> {
    let service = node.service_builder(&name(bell)?).event().open_or_create().map_err(told)?;
    service.listener_builder().create().map_err(told)
}

fn notifier(node: &Node, bell: &str) -> Outcome<Notifier<ipc::Service>> {
    let service = node.service_builder(&name(bell)?).event().open_or_create().map_err(told)?;
    service.notifier_builder().create().map_err(told)
}

fn rpc(node: &Node) -> Outcome<Rpc> {
    let service = node.service_builder(&name("calls")?).request_response::<[u8], [u8]>();
    service.open_or_create().map_err(told)
}

fn answer(place: &Place) -> Outcome<()> {
    let node = node(place)?;
    let server = rpc(&node)?.server_builder().initial_max_slice_len(64).create().map_err(told)?;
    let (requests, responses) = (listener(&node, "requests")?, notifier(&node, "responses")?);
    worker::ready()?;
    loop {
        while let Some(request) = server.receive().map_err(told)? {
            let response = request.loan_slice_uninit(request.payload().len()).map_err(told)?;
            response.write_from_slice(request.payload()).send().map_err(told)?;
            responses.notify().map_err(told)?;
        }
        requests.timed_wait(|_| {}, SLICE).map_err(told)?;
    }
}

fn caller(place: &Place) -> Outcome<Once> {
    let node = node(place)?;
    let client = rpc(&node)?.client_builder().initial_max_slice_len(64).create().map_err(told)?;
    let (requests, responses) = (notifier(&node, "requests")?, listener(&node, "responses")?);
    Ok(Box::new(move || {
        let _alive = &node;
        let request = client.loan_slice_uninit(64).map_err(told)?;
        let pending = request.write_from_slice(&[7; 64]).send().map_err(told)?;
        requests.notify().map_err(told)?;
        loop {
            if let Some(response) = pending.receive().map_err(told)? {
                return if response.payload().len() == 64 { Ok(()) } else { Err("cut off".into()) };
            }
            responses.timed_wait(|_| {}, SLICE).map_err(told)?;
        }
    }))
}

fn topic(node: &Node, bytes: usize) -> Outcome<PubSub> {
    let service = node.service_builder(&name(&format!("events {bytes}"))?);
    let service = service.publish_subscribe::<[u8]>().subscriber_max_buffer_size(WAITING);
    // Nothing is lost: the publisher waits.
    service.enable_safe_overflow(false).open_or_create().map_err(told)
}

fn subscriber(place: &Place, bytes: usize) -> Outcome<Receive> {
    let node = node(place)?;
    let subscriber = topic(&node, bytes)?.subscriber_builder().buffer_size(WAITING).create();
    let subscriber = subscriber.map_err(told)?;
    let bell = listener(&node, &format!("bell {bytes}"))?;
    Ok(Box::new(move |end| {
        let _alive = &node;
        let mut received = 0;
        loop {
            let now = Instant::now();
            if now >= end {
                return Ok(received);
            }
            if let Some(sample) = subscriber.receive().map_err(told)? {
                received += usize::from(sample.payload().len() == bytes);
            } else {
                bell.timed_wait(|_| {}, SLICE.min(end - now)).map_err(told)?;
            }
        }
    }))
}

fn publisher(place: &Place, bytes: usize) -> Outcome<Once> {
    let node = node(place)?;
    let topic = topic(&node, bytes)?;
    let publisher = topic.publisher_builder().initial_max_slice_len(bytes);
    let publisher =
        publisher.backpressure_strategy(BackpressureStrategy::RetryUntilDelivered).create();
    let publisher = publisher.map_err(told)?;
    let bell = notifier(&node, &format!("bell {bytes}"))?;
    let payload = vec![7; bytes];
    Ok(Box::new(move || {
        let _alive = &node;
        let sample = publisher.loan_slice_uninit(bytes).map_err(told)?;
        sample.write_from_slice(&payload).send().map_err(told)?;
        bell.notify().map_err(told)?;
        Ok(())
    }))
}
