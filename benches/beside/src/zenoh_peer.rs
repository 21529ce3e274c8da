//! zenoh: peers on a unix socket, without a router and without scouting; large payloads go by shared
//! memory, as it does by itself.

use std::time::{Duration, Instant};

use zenoh::handlers::FifoChannel;
use zenoh::qos::CongestionControl;
use zenoh::{Config, Session, Wait as _};

use crate::place::Place;
use crate::{Library, Once, Outcome, Receive, told, worker};

pub(crate) const LIBRARY: Library =
    Library { name: "zenoh", answer, caller, subscriber, publisher };

/// How many samples and queries may wait.
const WAITING: usize = 1024;
/// How often it is looked whether the other peer is there.
const AGAIN: Duration = Duration::from_millis(10);
const CALLS: &str = "calls";

/// A peer that waits at a socket, or connects with the one who does.
fn session(place: &Place, socket: &str, listens: bool) -> Outcome<Session> {
    let endpoint = format!("[\"unixsock-stream/{}\"]", place.file(&format!("zenoh {socket}")));
    let (listen, connect) = if listens { (&*endpoint, "[]") } else { ("[]", &*endpoint) };
    let config = format!(
        "{{mode: \"peer\", scouting: {{multicast: {{enabled: false}}}}, \
          listen: {{endpoints: {listen}}}, connect: {{endpoints: {connect}}}}}"
    );
    zenoh::open(Config::from_json5(&config).map_err(told)?).wait().map_err(told)
}

fn answer(place: &Place) -> Outcome<()> {
    let session = session(place, CALLS, true)?;
    let queries = session.declare_queryable(CALLS).with(FifoChannel::new(WAITING));
    let queries = queries.wait().map_err(told)?;
    worker::ready()?;
    loop {
        let query = queries.recv().map_err(told)?;
        let payload = query.payload().cloned().unwrap_or_default();
        query.reply(CALLS, payload).wait().map_err(told)?;
    }
}

fn caller(place: &Place) -> Outcome<Once> {
    let session = session(place, CALLS, false)?;
    let querier = session.declare_querier(CALLS).wait().map_err(told)?;
    while !querier.matching_status().wait().map_err(told)?.matching() {
        std::thread::sleep(AGAIN);
    }
    let payload = vec![7_u8; 64];
    Ok(Box::new(move || {
        let _open = &session;
        let replies = querier.get().payload(&payload[..]).wait().map_err(told)?;
        let reply = replies.recv().map_err(told)?;
        let reply = reply.result().map_err(told)?;
        if reply.payload().len() == 64 { Ok(()) } else { Err("cut off".into()) }
    }))
}

fn topic(bytes: usize) -> String {
    format!("events/{bytes}")
}

fn subscriber(place: &Place, bytes: usize) -> Outcome<Receive> {
    let session = session(place, &bytes.to_string(), true)?;
    let events = session.declare_subscriber(topic(bytes)).with(FifoChannel::new(WAITING));
    let events = events.wait().map_err(told)?;
    Ok(Box::new(move |end| {
        let _open = &session;
        let mut received = 0;
        while Instant::now() < end {
            let Some(event) = events.recv_deadline(end).map_err(told)? else { break };
            received += usize::from(event.payload().len() == bytes);
        }
        Ok(received)
    }))
}

fn publisher(place: &Place, bytes: usize) -> Outcome<Once> {
    let session = session(place, &bytes.to_string(), false)?;
    // Nothing is lost: the publisher waits.
    let publisher = session.declare_publisher(topic(bytes));
    let publisher = publisher.congestion_control(CongestionControl::Block).wait().map_err(told)?;
    while !publisher.matching_status().wait().map_err(told)?.matching() {
        std::thread::sleep(AGAIN);
    }
    let payload = vec![7_u8; bytes];
    Ok(Box::new(move || {
        let _open = &session;
        publisher.put(&payload[..]).wait().map_err(told)
    }))
}
