//! Calls between two processes over Redis: one at a time, 64 in flight, from eight Python threads.
//!
//! The raw limit is the same two hops, a request published and a reply published, with one socket
//! for commands and one for messages at either end; the provider is a process of its own on every
//! side. Arguments and result are a text of 64 bytes.

use std::time::{Duration, Instant};

use pymq::{Bus, Stub};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::options::Options;
use crate::python::Environment;
use crate::raw::{Raw, command};
use crate::rivals::Rivals;
use crate::round::{Figure, Side, Unit, Work, middle_time, per_second};
use crate::sample::{payload, text};
use crate::worker::{self, Worker};
use crate::{ORIGINAL, OURS, Outcome, PYTHON, RAW, runtime};

pub(crate) const ONE: &str = "call, one at a time";
pub(crate) const MANY: &str = "calls, 64 in flight";
pub(crate) const THREADS: &str = "calls, 8 Python threads";

const IN_FLIGHT: usize = 64;
const REQUESTS: &[u8] = b"benches:raw:requests";
const REPLIES: &[u8] = b"benches:raw:replies";
pub(crate) const FUNCTION: &str = "benches.echo";
/// Answers of PUBLISH are read in lots: they are no part of a call's way.
const LOT: usize = 256;

pub(crate) type Echo = Stub<(String,), String>;

/// All of it.
pub(crate) fn measure(options: &Options) -> Outcome<Vec<Work>> {
    let runtime = runtime()?;
    let _providers = [
        Worker::own(&["provide-raw", &options.redis])?,
        Worker::own(&["provide", &options.url()])?,
    ];
    let bus = runtime.block_on(Bus::connect(&options.url()))?;
    let stub: Echo = bus.stub(FUNCTION);
    let mut raw = RawCaller::connect(&options.redis)?;
    let mut python = Environment::ours(options).map(|ours| ours.caller(options)).transpose()?;
    let original = Environment::original(options);
    let mut original = original.map(|theirs| theirs.caller(options)).transpose()?;
    let mut rivals = Rivals::at("call", options)?;

    let mut sides = vec![
        Side::new(RAW, |span| middle_time(span, || raw.call())),
        Side::new(OURS, |span| one_at_a_time(&runtime, &stub, span)),
    ];
    sides.extend(python.as_mut().map(|python| python.side(PYTHON, "call")));
    sides.extend(original.as_mut().map(|original| original.side(ORIGINAL, "call")));
    sides.extend(rivals.sides("call"));
    let one = Work::measure(ONE, Unit::Microseconds, options.pace, sides)?;

    let sides = vec![
        Side::new(RAW, |span| raw.calls(span)),
        Side::new(OURS, |span| runtime.block_on(in_flight(&stub, IN_FLIGHT, span))),
    ];
    let many = Work::measure(MANY, Unit::PerSecond, options.pace, sides)?;

    let mut sides = Vec::new();
    sides.extend(python.as_mut().map(|python| python.side(PYTHON, "calls")));
    sides.extend(original.as_mut().map(|original| original.side(ORIGINAL, "calls")));
    let threads = Work::measure(THREADS, Unit::PerSecond, options.pace, sides)?;
    Ok(vec![one, many, threads])
}

fn one_at_a_time(runtime: &Runtime, stub: &Echo, span: Duration) -> Outcome<Figure> {
    let text = text();
    middle_time(span, || {
        runtime.block_on(stub.call((text.clone(),)))?;
        Ok(())
    })
}

/// Calls in a second, so many at a time.
pub(crate) async fn in_flight(stub: &Echo, count: usize, span: Duration) -> Outcome<Figure> {
    let begin = Instant::now();
    let mut callers = JoinSet::new();
    for _ in 0..count {
        let (stub, text) = (stub.clone(), text());
        callers.spawn(async move {
            let mut done = 0;
            while begin.elapsed() < span {
                stub.call((text.clone(),)).await?;
                done += 1;
            }
            Ok::<usize, pymq::Error>(done)
        });
    }
    let mut done = 0;
    while let Some(caller) = callers.join_next().await {
        done += caller??;
    }
    Ok(per_second(done, begin))
}

/// The caller's end of raw calls.
struct RawCaller {
    commands: Raw,
    replies: Raw,
    request: Vec<u8>,
    /// Answers of PUBLISH that are still to be read.
    unread: usize,
}

impl RawCaller {
    fn connect(address: &str) -> Outcome<Self> {
        let (commands, mut replies) = (Raw::connect(address)?, Raw::connect(address)?);
        replies.run(&[b"SUBSCRIBE", REPLIES])?;
        let request = command(&[b"PUBLISH", REQUESTS, &payload()]);
        Ok(Self { commands, replies, request, unread: 0 })
    }

    fn send(&mut self, count: usize) -> Outcome<()> {
        self.commands.write(&self.request.repeat(count))?;
        self.unread += count;
        if self.unread >= LOT {
            self.commands.skip(std::mem::take(&mut self.unread))?;
        }
        Ok(())
    }

    fn call(&mut self) -> Outcome<()> {
        self.send(1)?;
        self.replies.next()?;
        Ok(())
    }

    /// Keeps a window full for a span; calls in a second.
    fn calls(&mut self, span: Duration) -> Outcome<Figure> {
        let begin = Instant::now();
        let mut done = 0;
        self.send(IN_FLIGHT)?;
        while begin.elapsed() < span {
            let arrived = self.arrived()?;
            self.send(arrived)?;
            done += arrived;
        }
        self.replies.skip(IN_FLIGHT)?;
        Ok(per_second(done + IN_FLIGHT, begin))
    }

    fn arrived(&mut self) -> Outcome<usize> {
        self.replies.next()?;
        let mut arrived = 1;
        while self.replies.next_ready()?.is_some() {
            arrived += 1;
        }
        Ok(arrived)
    }
}

/// The provider's end of raw calls; serves until it is killed.
pub(crate) fn provide_raw(address: &str) -> Outcome<()> {
    let (mut commands, mut requests) = (Raw::connect(address)?, Raw::connect(address)?);
    requests.run(&[b"SUBSCRIBE", REQUESTS])?;
    worker::ready()?;
    let (mut answers, mut unread) = (Vec::new(), 0);
    loop {
        answers.clear();
        answers.extend(command(&[b"PUBLISH", REPLIES, requests.next()?]));
        unread += 1;
        while let Some(request) = requests.next_ready()? {
            answers.extend(command(&[b"PUBLISH", REPLIES, request]));
            unread += 1;
        }
        commands.write(&answers)?;
        if unread >= LOT {
            commands.skip(std::mem::take(&mut unread))?;
        }
    }
}

/// This library's provider; serves until its starter is gone.
pub(crate) fn provide(url: &str) -> Outcome<()> {
    let runtime = runtime()?;
    runtime.block_on(async {
        let bus = Bus::connect(url).await?;
        let echo = |(text,): (String,)| async move { Ok::<_, String>(text) };
        let _service = bus.expose_fn(FUNCTION, echo).await?;
        worker::ready()?;
        tokio::task::spawn_blocking(worker::wait_for_the_end).await??;
        Ok(())
    })
}
