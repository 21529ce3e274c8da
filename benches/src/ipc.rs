//! Processes of one machine without a server, beside a raw unix socket between two processes.
//!
//! The raw limit is a ping-pong, and a stream, of messages of 64 bytes over one socket. It needs no
//! queue, no names and no second subscriber; what it shows is what the system takes to get a message
//! from one process to another and to wake it.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Instant;

use pymq::{Bus, Events};
use tokio::runtime::Runtime;

use crate::options::Options;
use crate::round::{Figure, Side, Unit, Work, middle_time, per_second, rate};
use crate::sample::{payload, text};
use crate::worker::{self, Worker};
use crate::{OURS, Outcome, RAW, runtime};

pub(crate) const CALL: &str = "without a server: call, one at a time";
pub(crate) const RECEIVE: &str = "without a server: receive";
pub(crate) const QUEUE: &str = "without a server: put and get, one at a time";
pub(crate) const NOBODY: &str = "without a server: publish to nobody";
pub(crate) const JOIN: &str = "without a server: connect and close";

const TOPIC: &str = "benches.ipc";
const FUNCTION: &str = "benches.echo";
const MESSAGE: usize = 64;

/// A folder for the bus and the socket, which goes with the measurement.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        Self(PathBuf::from(format!("/dev/shm/pymq-benches-{}", std::process::id())))
    }

    fn url(&self) -> String {
        format!("ipc://{}", self.0.display())
    }

    fn socket(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // It is in memory, and ends with the machine at the latest.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// All of it.
pub(crate) fn measure(options: &Options) -> Outcome<Vec<Work>> {
    if !cfg!(target_os = "linux") {
        return Ok(Vec::new());
    }
    let folder = Folder::new();
    let url = folder.url();
    let runtime = runtime()?;
    let bus = runtime.block_on(Bus::connect(&url))?;
    let per_second = |name, sides| Work::measure(name, Unit::PerSecond, options.pace, sides);
    let one = |name, sides| Work::measure(name, Unit::Microseconds, options.pace, sides);

    let (echo, _echoing) = partner(&folder, "echo")?;
    let _provider = Worker::own(&["provide", &url])?;
    let call = one(CALL, vec![raw_call(echo), call(&runtime, &bus)])?;
    drop((_echoing, _provider));

    let (stream, _writing) = partner(&folder, "stream")?;
    let receive = {
        let events = runtime.block_on(bus.topic::<String>(TOPIC).subscribe())?;
        let _publisher = Worker::own(&["publish", &url])?;
        let ours = receive(&runtime, events);
        per_second(RECEIVE, vec![raw_receive(stream), ours])?
    };
    drop(_writing);

    let queue = per_second(QUEUE, vec![put_and_get(&runtime, &bus)])?;
    let nobody = one(NOBODY, vec![publish_to_nobody(&runtime, &bus)])?;
    let join = one(JOIN, vec![connect_and_close(&runtime, &url)])?;
    Ok(vec![call, receive, queue, nobody, join])
}

/// A process at the other end of a socket.
fn partner(folder: &Folder, work: &str) -> Outcome<(UnixStream, Worker)> {
    let path = folder.socket(work);
    let listener = UnixListener::bind(&path)?;
    let worker = Worker::own(&["socket", work, &path])?;
    Ok((listener.accept()?.0, worker))
}

fn raw_call(mut socket: UnixStream) -> Side<'static> {
    let (message, mut answer) = (payload(), [0; MESSAGE]);
    Side::new(RAW, move |span| {
        middle_time(span, || {
            socket.write_all(&message)?;
            Ok(socket.read_exact(&mut answer)?)
        })
    })
}

fn call<'a>(runtime: &'a Runtime, bus: &Bus) -> Side<'a> {
    let (stub, text) = (bus.stub::<(String,), String>(FUNCTION), text());
    Side::new(OURS, move |span| {
        middle_time(span, || Ok(runtime.block_on(stub.call((text.clone(),))).map(drop)?))
    })
}

fn raw_receive(mut socket: UnixStream) -> Side<'static> {
    let mut message = vec![0; MESSAGE];
    Side::new(RAW, move |span| rate(span, || Ok(socket.read_exact(&mut message).map(|()| 1)?)))
}

/// What the publisher sends as fast as it can; what a subscriber is too slow for does not count.
fn receive<'a>(runtime: &'a Runtime, mut events: Events<String>) -> Side<'a> {
    Side::new(OURS, move |span| {
        runtime.block_on(async {
            let (begun, mut received) = (Instant::now(), 0);
            while begun.elapsed() < span {
                let event = events.recv().await.ok_or("the bus has ended")?;
                received += usize::from(event.is_ok());
            }
            Outcome::Ok(per_second(received, begun))
        })
    })
}

fn put_and_get<'a>(runtime: &'a Runtime, bus: &Bus) -> Side<'a> {
    let (queue, text) = (bus.queue::<String>("benches.ipc"), text());
    Side::new(OURS, move |span| {
        rate(span, || {
            runtime.block_on(async {
                queue.put(&text).await?;
                queue.get().await?;
                Ok(1)
            })
        })
    })
}

fn publish_to_nobody<'a>(runtime: &'a Runtime, bus: &Bus) -> Side<'a> {
    const LOT: usize = 1000;
    let (topic, text) = (bus.topic::<String>("benches.nobody"), text());
    Side::new(OURS, move |span| {
        let lot = middle_time(span, || {
            runtime.block_on(async {
                for _ in 0..LOT {
                    topic.publish(&text).await?;
                }
                Ok(())
            })
        })?;
        let number = lot.number / LOT as f64;
        Outcome::Ok(Figure { number, operations: lot.operations * LOT })
    })
}

fn connect_and_close<'a>(runtime: &'a Runtime, url: &'a str) -> Side<'a> {
    Side::new(OURS, move |span| {
        middle_time(span, || {
            runtime.block_on(async { Ok(Bus::connect(url).await?.close().await?) })
        })
    })
}

/// Publishes as fast as it can, until its starter is gone.
pub(crate) fn publish(url: &str) -> Outcome<()> {
    let runtime = runtime()?;
    runtime.block_on(async {
        let topic = Bus::connect(url).await?.topic::<String>(TOPIC);
        worker::ready()?;
        let text = text();
        loop {
            topic.publish(&text).await?;
        }
    })
}

/// The other end of a raw socket; serves until its starter is gone.
pub(crate) fn socket(work: &str, path: &str) -> Outcome<()> {
    let mut socket = UnixStream::connect(Path::new(path))?;
    worker::ready()?;
    let mut message = [0; MESSAGE];
    let served: io::Result<()> = loop {
        let done = match work {
            "echo" => socket.read_exact(&mut message).and_then(|()| socket.write_all(&message)),
            _ => socket.write_all(&message),
        };
        if done.is_err() {
            break done;
        }
    };
    Ok(served?)
}
