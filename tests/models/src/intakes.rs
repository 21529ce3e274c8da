//! Histories of an intake of the Python edge: writers, sources that come late, and a reader of all.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use shuttle::sync::Mutex;
use shuttle::thread;

use self::merged::{Merged, Source};
use crate::mailbox::{Arrival, Limit, Receiver, Sender, Stamp, mailbox};

#[allow(dead_code, reason = "the histories use a part of it")]
#[path = "../../../crates/pymq-python/src/intake/door.rs"]
mod door;
#[allow(dead_code, reason = "the histories use a part of it")]
#[path = "../../../crates/pymq-python/src/intake/merged.rs"]
mod merged;

mod primitives {
    pub(super) use shuttle::sync::{Condvar, Mutex, MutexGuard};
    pub(super) use std::sync::PoisonError;
}

/// Stands for the descriptor of event loops: it knows whether it is readable.
struct Bell(Mutex<bool>);

impl Bell {
    fn new() -> std::io::Result<Self> {
        Ok(Self(Mutex::new(false)))
    }

    fn ring(&self) {
        *self.0.lock().expect("nobody panics here") = true;
    }

    fn hush(&self) {
        *self.0.lock().expect("nobody panics here") = false;
    }

    fn rings(&self) -> bool {
        *self.0.lock().expect("nobody panics here")
    }
}

/// The mailbox of a subscription.
struct Mailbox(Mutex<Receiver<Bytes>>);

impl Mailbox {
    fn new() -> (Sender<Bytes>, Arc<Self>) {
        let (sender, receiver) = mailbox(Limit { messages: 10, bytes: 1 << 20 });
        (sender, Arc::new(Self(Mutex::new(receiver))))
    }
}

impl Source for Mailbox {
    type Item = Arrival<Bytes>;

    fn poll_oldest(&self, context: &mut Context<'_>) -> Poll<Option<Stamp>> {
        self.0.lock().expect("nobody panics here").poll_oldest(context)
    }

    fn drain(&self, before: Stamp, limit: usize) -> Vec<Self::Item> {
        let mut batch = Vec::new();
        self.0.lock().expect("nobody panics here").drain(before, limit, &mut batch);
        batch
    }
}

fn write(sender: &Sender<Bytes>, letters: &'static str) {
    letters.bytes().for_each(|letter| sender.send(Bytes::from(vec![letter])));
}

/// What was given, in its order; a source that ended is a full stop.
fn text(taken: Vec<merged::Taken<Mailbox>>) -> String {
    let letter = |taken: merged::Taken<Mailbox>| match taken.item {
        Some(Arrival::Message(letter)) => char::from(letter[0]),
        Some(other) => panic!("expected a letter, not {other:?}"),
        None => '.',
    };
    taken.into_iter().map(letter).collect()
}

/// Waits until so much was given.
fn read(intake: &Merged<Mailbox>, letters: usize) -> String {
    let mut given = String::new();
    while given.len() < letters {
        given += &text(intake.wait(2, None).expect("there is no time limit"));
    }
    given
}

/// Two write at once, one of them over both sources: everything comes, that one's in its order, and a
/// source that ends is told of after what it had.
pub fn what_one_writes_over_several_sources_comes_in_its_order() {
    let intake = Arc::new(Merged::default());
    let (first, second) = (Mailbox::new(), Mailbox::new());
    for (_, mailbox) in [&first, &second] {
        intake.seat(intake.reserve(), mailbox);
    }
    let beside = first.0.clone();
    let other = thread::spawn(move || write(&beside, "xy"));
    let one = thread::spawn(move || {
        write(&first.0, "a");
        write(&second.0, "b");
        write(&first.0, "c");
        second.0.close();
    });
    let given = read(&intake, 6);
    one.join().expect("a writer does not panic");
    other.join().expect("a writer does not panic");
    let of = |letters: &str| given.chars().filter(|one| letters.contains(*one)).collect::<String>();
    assert_eq!((of("abc").as_str(), of("xy").as_str(), of("b.").as_str()), ("abc", "xy", "b."));
}

/// A source takes its place while something arrives at it, beside the reader's first wait.
pub fn a_source_that_comes_late_is_read_from_its_first_moment() {
    let intake = Arc::new(Merged::default());
    let (number, (sender, mailbox)) = (intake.reserve(), Mailbox::new());
    let seat = {
        let intake = Arc::clone(&intake);
        thread::spawn(move || intake.seat(number, &mailbox))
    };
    let writer = thread::spawn(move || write(&sender, "ab"));
    assert_eq!(read(&intake, 2), "ab");
    seat.join().expect("no panic");
    writer.join().expect("a writer does not panic");
}

/// It is closed beside a write: the reader is given what is left, then nothing, and never waits again.
pub fn a_close_ends_the_wait_and_loses_nothing() {
    let intake = Arc::new(Merged::default());
    let (sender, mailbox) = Mailbox::new();
    intake.seat(intake.reserve(), &mailbox);
    let writer = thread::spawn(move || write(&sender, "a"));
    let closer = {
        let intake = Arc::clone(&intake);
        thread::spawn(move || intake.close())
    };
    let mut given = text(intake.wait(2, None).expect("there is no time limit"));
    writer.join().expect("a writer does not panic");
    closer.join().expect("no panic");
    given += &text(intake.wait(2, None).expect("there is no time limit"));
    assert_eq!(given, "a");
    assert_eq!(text(intake.wait(2, None).expect("it is closed")), "");
    assert!(intake.is_closed());
}

/// An event loop asks for the descriptor while something arrives, and takes: it rings if something is
/// left, and is silent if not.
pub fn it_rings_exactly_while_something_is_there() {
    let intake = Arc::new(Merged::default());
    let (sender, mailbox) = Mailbox::new();
    intake.seat(intake.reserve(), &mailbox);
    intake.take(9);
    let writer = thread::spawn(move || write(&sender, "abc"));
    let bell = intake.bell().expect("it is made");
    let mut given = text(intake.take(1));
    intake.came_back();
    writer.join().expect("a writer does not panic");
    while given.len() < 3 {
        assert!(bell.rings() && !intake.is_idle(), "{given:?} was given");
        given += &text(intake.take(1));
        intake.came_back();
    }
    assert!(!bell.rings() && intake.is_idle());
}
