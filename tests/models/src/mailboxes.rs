//! Histories of a mailbox: writers, a reader, and those who close it.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use shuttle::future::block_on;
use shuttle::thread;

use crate::mailbox::{Arrival, Limit, Receiver, Sender, Stamp, mailbox};

fn holding(messages: usize) -> (Sender<Bytes>, Receiver<Bytes>) {
    mailbox(Limit { messages, bytes: 1 << 20 })
}

/// A message of two letters: who wrote it, and which of his it is.
fn message(writer: u8, number: u8) -> Bytes {
    Bytes::copy_from_slice(&[writer, number])
}

/// What a reader saw: messages, and how many he was told that he missed.
#[derive(Default)]
struct Seen {
    messages: Vec<Bytes>,
    missed: u64,
}

impl Seen {
    fn add(&mut self, arrival: Arrival<Bytes>) {
        match arrival {
            Arrival::Message(message) => self.messages.push(message),
            Arrival::Lagged(missed) => self.missed += missed,
            Arrival::Gap | Arrival::Refused(_) => {}
        }
    }

    fn all_of(mut receiver: Receiver<Bytes>) -> Self {
        block_on(async move {
            let mut seen = Self::default();
            while let Some(arrival) = receiver.recv().await {
                seen.add(arrival);
            }
            seen
        })
    }

    fn assert_in_order_of_each_writer(&self) {
        for pair in [0, 1].map(|writer| self.messages.iter().filter(move |m| m[0] == writer)) {
            let numbers: Vec<u8> = pair.map(|message| message[1]).collect();
            assert!(numbers.is_sorted_by(|a, b| a < b), "out of order: {numbers:?}");
        }
    }
}

fn write_three(sender: &Sender<Bytes>, writer: u8) -> thread::JoinHandle<()> {
    let sender = sender.clone();
    thread::spawn(move || (0..3).for_each(|number| sender.send(message(writer, number))))
}

/// Two writers overrun a reader: what he does not see he is told of, once.
pub fn what_is_lost_is_counted_and_the_rest_is_in_order() {
    let (sender, receiver) = holding(2);
    let reader = thread::spawn(move || Seen::all_of(receiver));
    let writers = [0, 1].map(|writer| write_three(&sender, writer));
    writers.into_iter().for_each(|writer| writer.join().expect("a writer does not panic"));
    sender.close();
    let seen = reader.join().expect("the reader does not panic");
    assert_eq!(seen.messages.len() as u64 + seen.missed, 6);
    seen.assert_in_order_of_each_writer();
}

/// Somebody closes while another writes: what is seen is a beginning, and the reader comes to an end.
pub fn a_close_beside_a_write_ends_the_reader() {
    let (sender, receiver) = holding(10);
    let writer = write_three(&sender, 0);
    let closer = thread::spawn(move || sender.close());
    let seen = Seen::all_of(receiver);
    assert_eq!((seen.missed, seen.messages.len() <= 3), (0, true));
    let begun = (0..).map(|number| message(0, number)).take(seen.messages.len());
    assert!(seen.messages.iter().cloned().eq(begun));
    writer.join().expect("the writer does not panic");
    closer.join().expect("the closer does not panic");
}

/// A thread that waits in the mailbox itself is woken by each kind of news.
pub fn a_waiting_thread_is_woken() {
    let (sender, mut receiver) = holding(1);
    let writer = thread::spawn(move || {
        sender.gap();
        sender.send(message(0, 0));
        sender.close();
    });
    let mut seen = Vec::new();
    while let Some(Some(arrival)) = receiver.recv_blocking(None) {
        seen.push(arrival);
    }
    assert_eq!(seen, [Arrival::Gap, Arrival::Message(message(0, 0))]);
    writer.join().expect("the writer does not panic");
}

/// A reader that gave up waiting and waits elsewhere is woken there, not where it was.
pub fn the_last_who_waits_is_woken() {
    let (sender, mut receiver) = holding(1);
    let writer = thread::spawn(move || sender.send(message(0, 0)));
    let given_up = pin!(receiver.recv()).poll(&mut Context::from_waker(Waker::noop()));
    if given_up == Poll::Pending {
        let arrival = block_on(receiver.recv());
        assert_eq!(arrival, Some(Arrival::Message(message(0, 0))));
    }
    writer.join().expect("the writer does not panic");
}

/// A reader that goes while others write disturbs nobody.
pub fn a_reader_may_go_at_any_time() {
    let (sender, mut receiver) = holding(2);
    let writers = [0, 1].map(|writer| write_three(&sender, writer));
    let mut batch = Vec::new();
    receiver.drain(Stamp::NEVER, 2, &mut batch);
    drop(receiver);
    writers.into_iter().for_each(|writer| writer.join().expect("a writer does not panic"));
    sender.send(message(0, 9));
}

/// Who reads two mailboxes by their stamps sees an effect behind its cause.
pub fn an_answer_is_not_read_before_its_question() {
    let (questions, mut first) = holding(10);
    let (answers, mut second) = holding(10);
    let (told, mut hears) = holding(10);
    let answerer = thread::spawn(move || {
        let heard = block_on(hears.recv());
        assert_eq!(heard, Some(Arrival::Message(message(0, 0))));
        answers.send(message(1, 0));
        answers.close();
    });
    let asker = thread::spawn(move || {
        questions.send(message(0, 0));
        told.send(message(0, 0));
    });
    let answer = block_on(std::future::poll_fn(|context| second.poll_oldest(context)));
    let question = first.poll_oldest(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(question, Poll::Ready(asked) if asked < answer));
    asker.join().expect("the asker does not panic");
    answerer.join().expect("the answerer does not panic");
}
