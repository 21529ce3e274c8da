//! This library without a server, beside iceoryx2 and zenoh, and beside what the system takes at least.
//!
//! `make bench-beside` runs it. Each work is the same for all: 64 bytes there and back between two
//! processes, and events that one process publishes as fast as another takes them. Whoever waits
//! sleeps, and nobody spins, since a bus must not cost a processor while nothing comes. How it is measured
//! is that of the table of speed, whose files these are.

use std::error::Error;
use std::io::{self, Write as _};
use std::time::{Duration, Instant};

#[path = "../../src/cpu.rs"]
#[allow(dead_code, reason = "the table of speed has a server to look at")]
mod cpu;
mod iceoryx;
#[path = "../../src/ipc/limits.rs"]
#[allow(dead_code, reason = "the table of speed has more limits")]
mod limits;
mod ours;
mod place;
#[path = "../../src/round.rs"]
#[allow(dead_code, reason = "the table of speed measures more")]
mod round;
mod text;
#[path = "../../src/worker.rs"]
#[allow(dead_code, reason = "the table of speed asks for more")]
mod worker;
mod zenoh_peer;

use limits::{FUTEX, Futexes, SOCKET, packets};
use place::Place;
use round::{Figure, Pace, Side, Unit, Work, late_time, middle_time, per_second, rate};
use worker::Worker;

/// What goes wrong here ends the run and is told to its reader.
type Outcome<T> = Result<T, Box<dyn Error>>;
/// Does a work once.
type Once = Box<dyn FnMut() -> Outcome<()>>;
/// Says how many events come until then.
type Receive = Box<dyn FnMut(Instant) -> Outcome<usize>>;

const CALL: &str = "call of 64 bytes, the middle one";
const LATE: &str = "call of 64 bytes, the slowest of a hundred";
const SMALL: &str = "events of 64 bytes received";
const LARGE: &str = "events of 64 KiB received";

/// How long nothing comes before nothing more will.
const QUIET: Duration = Duration::from_millis(50);
/// How much longer a publisher publishes than its events are counted.
const LEAD: Duration = Duration::from_millis(200);
/// How long the first event may take to come.
const PATIENCE: Duration = Duration::from_secs(20);

/// A library, or a way to use one: its ends, each in a process of its own.
struct Library {
    name: &'static str,
    /// Answers calls with what they bring; says when it is ready, and never returns.
    answer: fn(&Place) -> Outcome<()>,
    caller: fn(&Place) -> Outcome<Once>,
    subscriber: fn(&Place, usize) -> Outcome<Receive>,
    /// Publishes events of so many bytes, after the subscriber is there.
    publisher: fn(&Place, usize) -> Outcome<Once>,
}

const LIBRARIES: [Library; 3] = [ours::LIBRARY, iceoryx::LIBRARY, zenoh_peer::LIBRARY];

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["socket", work, path] => limits::serve(work, path),
        ["answer", name, place] => answer(named(name)?, &Place::at(place)),
        ["publish", name, place, bytes] => publish(named(name)?, &Place::at(place), bytes.parse()?),
        [] => measure(Pace::FULL),
        ["--quick"] => measure(Pace::QUICK),
        _ => Err("usage: pymq-beside [--quick]".into()),
    }
}

fn named(name: &str) -> Outcome<&'static Library> {
    let mut all = LIBRARIES.iter().chain([&ours::BYTES]);
    all.find(|library| library.name == name).ok_or_else(|| format!("no library {name:?}").into())
}

fn measure(pace: Pace) -> Outcome<()> {
    let place = Place::new()?;
    let mut works = calls(&place, pace)?;
    works.push(events(&place, pace, SMALL, 64)?);
    works.push(events(&place, pace, LARGE, 64 << 10)?);
    Ok(write!(io::stdout(), "{}", text::table(&works, pace))?)
}

fn calls(place: &Place, pace: Pace) -> Outcome<Vec<Work>> {
    let mut callers = Vec::new();
    for library in &LIBRARIES {
        let provider = Worker::own(&["answer", library.name, place.path()])?;
        callers.push((library.name, (library.caller)(place)?, provider));
    }
    let mut waiting = ours::waiting_caller(place)?;
    let mut futex = Futexes::new(&place.file("futexes"))?;
    let mut socket = packets(&place.file("echo"), "echo", 64)?;
    let mut measured = Vec::new();
    for (name, timed) in [
        (CALL, (|span, once| middle_time(span, once)) as limits::Timed),
        (LATE, late_time as limits::Timed),
    ] {
        let mut sides = vec![
            Side::new(FUTEX, |span| timed(span, &mut || futex.exchange())),
            Side::new(SOCKET, |span| timed(span, &mut || socket.exchange())),
            Side::new(ours::WAITING, |span| timed(span, &mut waiting)),
        ];
        for (library, call, _) in &mut callers {
            sides.push(Side::new(library, |span| timed(span, call)));
        }
        measured.push(Work::measure(name, Unit::Microseconds, pace, sides)?);
    }
    Ok(measured)
}

fn events(place: &Place, pace: Pace, name: &'static str, bytes: usize) -> Outcome<Work> {
    let mut socket = packets(&place.file(&format!("stream {bytes}")), "stream", bytes)?;
    let mut streams = Vec::new();
    for library in LIBRARIES.iter().chain([&ours::BYTES]) {
        let receive = (library.subscriber)(place, bytes)?;
        let work = ["publish", library.name, place.path(), &bytes.to_string()];
        streams.push((library.name, receive, Worker::own(&work)?));
    }
    let mut sides = vec![Side::new(SOCKET, |span| rate(span, || socket.receive().map(|()| 1)))];
    for (library, receive, publisher) in &mut streams {
        sides.push(Side::new(library, |span| received(receive, publisher, span)));
    }
    Work::measure(name, Unit::PerSecond, pace, sides)
}

/// How many come in a second, of those that another process publishes meanwhile.
fn received(receive: &mut Receive, publisher: &mut Worker, span: Duration) -> Outcome<Figure> {
    publisher.begin("publish", span + LEAD)?;
    let asked = Instant::now();
    while receive(Instant::now() + QUIET)? == 0 {
        if asked.elapsed() > PATIENCE {
            return Err("no event comes".into());
        }
    }
    let begun = Instant::now();
    let figure = per_second(receive(begun + span)?, begun);
    // A publisher that waits for us could not end otherwise.
    while receive(Instant::now() + QUIET)? > 0 {}
    publisher.end()?;
    Ok(figure)
}

/// A provider's process, which ends with whoever started it.
fn answer(library: &Library, place: &Place) -> Outcome<()> {
    std::thread::spawn(|| {
        let _ = worker::wait_for_the_end();
        std::process::exit(0);
    });
    (library.answer)(place)
}

/// A publisher's process: publishes whenever it is asked to, for as long as it is told.
fn publish(library: &Library, place: &Place, bytes: usize) -> Outcome<()> {
    /// How many between two looks at the clock.
    const LOT: usize = 16;
    let mut once = (library.publisher)(place, bytes)?;
    worker::measures(|span| {
        rate(span, || {
            (0..LOT).try_for_each(|_| once())?;
            Ok(LOT)
        })
    })
}

/// An error in the words of whichever library.
fn told(error: impl std::fmt::Debug) -> Box<dyn Error> {
    format!("{error:?}").into()
}
