//! What is done on a bus for which there is no more space: what is there can be taken, settled and given
//! back, whoever held it, and however much of it there is.
//!
//! Full is, here, a file that the system makes no longer, neither for blocks nor for the log.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use super::crash_tests::{bus, step};
use super::heap::{At, Heap};
use super::layout::{LOG, LOG_PROVIDED, QUEUES, beacon};
use super::mapping::Memory;
use super::peers::{self, Post, Step};
use super::shelves::{self, Claim, Push};
use super::{addresses, dead_letters, items, topics, waits, watches};
use crate::error::{ErrorKind, Result};
use crate::name::{Address, Form};
use crate::transport::{
    Failure, Filter, Letters, PutOptions, QueueSpec, Reason, SettleOptions, Settlement, Shelf,
};

/// More than the log of an empty bus has room for in one step.
const MANY: usize = 5000;

/// A bus on which nothing was done yet, and two connections that live: their beacons are held by this
/// thread.
fn two() -> (Memory, At, At) {
    let memory = bus();
    let seats = [0, 1].map(|slot| {
        memory.lock(beacon(slot), Duration::ZERO);
        step(&memory, |step| peers::join(step, slot))
    });
    (memory, seats[0], seats[1])
}

fn fill(memory: &Memory) {
    memory.full.store(true, Ordering::Relaxed);
}

/// Puts items one by one, so that the log stays as short as it is.
fn put(memory: &Memory, peer: At, spec: &QueueSpec, count: usize, options: &PutOptions) {
    for number in 0..count {
        let item = [Bytes::from(format!("item {number}"))];
        step(memory, |step| shelves::push(step, peer, spec, &item, options, None));
    }
}

fn claim(memory: &Memory, peer: At, spec: &QueueSpec, limit: usize) -> Vec<At> {
    match step(memory, |step| shelves::claim(step, peer, spec, limit, false, None)) {
        Claim::Taken(taken) => taken.into_iter().map(|(item, _)| item).collect(),
        Claim::Empty => Vec::new(),
        Claim::Wait(..) => panic!("it was not to wait"),
    }
}

/// Does `work` again and again, while it says that there is more; says how often.
fn while_more(memory: &Memory, work: impl Fn(&mut Step<'_>) -> Result<bool>) -> usize {
    let mut steps = 1;
    while step(memory, &work) {
        steps += 1;
    }
    steps
}

fn waiting(memory: &Memory, queue: At) -> u64 {
    shelves::waiting(&Heap::new(memory), queue)
}

#[test]
fn all_that_a_dead_consumer_held_comes_back_in_its_order() {
    let (memory, one, other) = two();
    let spec = QueueSpec::new("queue");
    put(&memory, one, &spec, MANY, &PutOptions::new());
    let queue = shelves::named(&Heap::new(&memory), "queue");
    fill(&memory);
    while !claim(&memory, other, &spec, MANY).is_empty() {}
    assert_eq!(waiting(&memory, queue), 0);
    assert!(while_more(&memory, |step| peers::unburden(step, 1)) > 1);
    step(&memory, |step| peers::leave(step, 1));
    let peeked = step(&memory, |step| shelves::peek(step, queue, Shelf::Waiting, MANY));
    let expected = (0..MANY).map(|number| Bytes::from(format!("item {number}")));
    assert!(peeked.into_iter().eq(expected));
    // What frees space needs none.
    while_more(&memory, |step| Ok(shelves::purge(step, queue, Shelf::Waiting)?.1));
    assert_eq!(waiting(&memory, queue), 0);
    put(&memory, one, &spec, MANY, &PutOptions::new());
}

#[test]
fn a_subscriber_takes_its_post_and_a_dead_ones_goes() {
    let (memory, one, other) = two();
    let filters = [Filter::Topic("topic".into())];
    for peer in [one, other] {
        step(&memory, |step| topics::subscribe(step, peer, &filters));
    }
    for _ in 0..MANY {
        step(&memory, |step| {
            let targets = topics::find(step, "topic");
            topics::deliver(step, &targets, "topic", b"event")
        });
    }
    fill(&memory);
    let mut taken = 0;
    while peers::has_post(&Heap::new(&memory), one) {
        taken += step(&memory, |step| {
            let mut pieces = 0;
            peers::take_post(step, one, u64::MAX, |_, _| pieces += 1).map(|()| pieces)
        });
    }
    assert_eq!(taken, MANY);
    while_more(&memory, |step| peers::unburden(step, 1));
    step(&memory, |step| peers::leave(step, 1));
    assert_eq!(peers::slots(&Heap::new(&memory)), [0]);
}

#[test]
fn a_reader_is_given_however_much_was_kept_for_it() {
    let (memory, one, _) = two();
    let address = Address::new("inbox", Form::Inbox);
    for number in 0..MANY as u64 {
        let letter = number.to_le_bytes();
        assert!(!step(&memory, |step| addresses::send(step, &address, &letter, u64::MAX)));
    }
    fill(&memory);
    let number = step(&memory, |step| addresses::sit_down(step, one, &address));
    assert!(step(&memory, |step| addresses::give_kept(step, &address, number)), "it is much");
    memory.full.store(false, Ordering::Relaxed);
    let last = (MANY as u64).to_le_bytes();
    assert!(step(&memory, |step| addresses::send(step, &address, &last, u64::MAX)), "it is read");
    fill(&memory);
    while_more(&memory, |step| addresses::give_kept(step, &address, number));
    let mut read = Vec::new();
    while peers::has_post(&Heap::new(&memory), one) {
        read.extend(step(&memory, |step| {
            let mut letters = Vec::new();
            let taken = peers::take_post(step, one, u64::MAX, |heap, post| match post {
                Post::Letter { seat, body } if seat == number => letters.push(heap.bytes(body)),
                other => panic!("{other:?}"),
            });
            taken.map(|()| letters)
        }));
    }
    let expected = (0..=MANY as u64).map(|number| number.to_le_bytes().to_vec());
    assert!(read.into_iter().eq(expected), "in their order");
}

#[test]
fn a_dead_subscriber_goes_however_many_filters_it_has() {
    let (memory, one, other) = two();
    let mut filters: Vec<_> = (0..MANY).map(|n| Filter::Topic(format!("topic {n}"))).collect();
    filters.push(Filter::Pattern("pattern*".into()));
    step(&memory, |step| topics::subscribe(step, other, &filters));
    step(&memory, |step| topics::subscribe(step, one, &filters[..1]));
    fill(&memory);
    assert!(while_more(&memory, |step| peers::unburden(step, 1)) > 1);
    step(&memory, |step| peers::leave(step, 1));
    let heap = Heap::new(&memory);
    assert_eq!(
        (peers::slots(&heap), topics::subscribed_topics(&heap)),
        (vec![0], vec!["topic 0".into()])
    );
    assert_eq!(topics::find(&heap, "pattern"), []);
}

#[test]
fn whoever_watches_over_a_dead_one_is_called_though_there_is_no_space_for_that() {
    let (memory, one, other) = two();
    let filters = [Filter::Topic("topic".into())];
    step(&memory, |step| topics::subscribe(step, other, &filters));
    step(&memory, |step| watches::begin(step, one, "topic", 7));
    fill_to_the_last_block(&memory, one);
    while_more(&memory, |step| peers::unburden(step, 1));
    step(&memory, |step| peers::leave(step, 1));
    assert_eq!(peers::slots(&Heap::new(&memory)), [0]);
    step(&memory, |step| {
        peers::take_post(step, one, u64::MAX, |_, post| assert_eq!(post, Post::Turn { ticket: 7 }))
    });
    assert!(!peers::has_post(&Heap::new(&memory), one), "it was called once");
}

#[test]
fn whoever_loses_events_is_told_though_no_other_one_comes() {
    let (memory, one, _) = two();
    let subscribe = |topic: &str| {
        let filters = [Filter::Topic(topic.into())];
        step(&memory, |step| topics::subscribe(step, one, &filters)).0
    };
    let publish = |topic: &str, payload: &[u8]| {
        step(&memory, |step| {
            let targets = topics::find(step, topic);
            topics::deliver(step, &targets, topic, payload)
        })
    };
    let (quiet, noisy) = (subscribe("quiet"), subscribe("noisy"));
    publish("quiet", b"1");
    publish("quiet", b"2");
    let large = vec![7; 12 << 20];
    for _ in 0..5 {
        assert_eq!(publish("noisy", &large), 1);
    }
    let mut told = Vec::new();
    step(&memory, |step| {
        peers::take_post(step, one, u64::MAX, |_, post| match post {
            Post::Lost { number, missed } => told.push((number, Some(missed))),
            Post::Event { subscription, .. } => told.push((subscription, None)),
            other => panic!("nobody has left {other:?}"),
        })
    });
    let lost = [(quiet, Some(2)), (noisy, Some(3))];
    assert_eq!(told, [&lost[..], &[(noisy, None); 2]].concat());
}

#[test]
fn what_is_due_later_becomes_due_however_much_it_is() {
    let (memory, one, other) = two();
    let spec = QueueSpec::new("queue");
    put(&memory, one, &spec, MANY, &PutOptions::new().delay(Duration::from_millis(1)));
    fill(&memory);
    let queue = shelves::named(&Heap::new(&memory), "queue");
    let mut claimed = 0;
    let begun = std::time::Instant::now();
    while claimed < MANY && begun.elapsed() < Duration::from_secs(60) {
        claimed += claim(&memory, other, &spec, 100).len();
    }
    assert_eq!((claimed, waiting(&memory, queue)), (MANY, 0));
}

#[test]
fn ids_whose_time_is_over_are_forgotten_however_many_they_are() {
    let (memory, one, _) = two();
    let spec = QueueSpec::new("queue");
    let hours = |count: u64| Duration::from_secs(count * 3600);
    for number in 0..MANY {
        let id = PutOptions::new().id(format!("id {number}")).within(hours(1));
        put(&memory, one, &spec, 1, &id);
    }
    // The last of all whose time is over.
    let again = PutOptions::new().id("again").within(hours(2));
    let put = |later: Duration| {
        step(&memory, |step| {
            step.now += items::nanoseconds(later);
            shelves::push(step, one, &spec, &[Bytes::new()], &again, None)
        })
    };
    assert_eq!([put(hours(0)), put(hours(0))], [Push::Done, Push::Already]);
    let queue = shelves::named(&Heap::new(&memory), "queue");
    fill(&memory);
    // One that is forgotten later than its time is over is not known any more all the same.
    assert_eq!(put(hours(3)), Push::Done);
    assert!(shelves::seen(queue).len(&Heap::new(&memory)) > 1, "too many for one step");
    let steps = while_more(&memory, |step| {
        step.now += items::nanoseconds(hours(9));
        super::put_ids::forget(step, queue)
    });
    assert!(steps > 1, "too many for one step");
    assert_eq!(shelves::seen(queue).len(&Heap::new(&memory)), 0);
}

#[test]
fn queues_that_nobody_uses_are_forgotten_though_the_log_has_hardly_any_room() {
    let (memory, one, _) = two();
    for number in 0..10 {
        let spec = QueueSpec::new(format!("queue {number}"));
        step(&memory, |step| shelves::queue(step, &spec));
    }
    let used = QueueSpec::new("used");
    put(&memory, one, &used, 1, &PutOptions::new());
    memory.store(LOG_PROVIDED, LOG + 8 + 16 * 1000);
    fill(&memory);
    assert!(!Step::new(&memory).has_room());
    assert!(while_more(&memory, shelves::clear) > 1);
    assert_eq!(shelves::in_use(&Heap::new(&memory)), ["used"]);
    assert_eq!(QUEUES.len(&Heap::new(&memory)), 1);
}

#[test]
fn an_item_that_is_given_up_becomes_a_dead_letter_if_need_be_without_words() {
    let (memory, one, other) = two();
    let mut spec = QueueSpec::new("queue");
    spec.max_deliveries = 1;
    put(&memory, one, &spec, 2, &PutOptions::new());
    let queue = shelves::named(&Heap::new(&memory), "queue");
    let held = claim(&memory, other, &spec, 2);
    fill_to_the_last_block(&memory, one);
    let why = SettleOptions::default().failure(Failure::new(Reason::Failed).error("Error", "why"));
    step(&memory, |step| items::settle(step, held[0], Settlement::Reject, &why));
    step(&memory, |step| peers::leave(step, 1));
    let letters = dead_letters::letters(&Heap::new(&memory), queue, 0, 9);
    let told: Vec<_> = letters.iter().map(|letter| letter.failure.reason).collect();
    assert_eq!(told, [Reason::Failed, Reason::TooManyDeliveries]);
    while_more(&memory, |step| Ok(dead_letters::discard(step, queue, &Letters::Oldest(9))?.1));
    assert_eq!(shelves::dead(queue).len(&Heap::new(&memory)), 0);
}

#[test]
fn dead_letters_make_room_for_new_ones_however_many_they_are() {
    let (memory, one, other) = two();
    let mut spec = QueueSpec::new("queue");
    put(&memory, one, &spec, MANY, &PutOptions::new());
    let queue = shelves::named(&Heap::new(&memory), "queue");
    let reject = |item| {
        step(&memory, |step| {
            items::settle(step, item, Settlement::Reject, &SettleOptions::default())
        });
    };
    claim(&memory, other, &spec, MANY).into_iter().for_each(reject);
    put(&memory, one, &spec, 100, &PutOptions::new());
    spec.max_dead_letters = 1;
    let newer = claim(&memory, other, &spec, 100);
    fill(&memory);
    let after_each = newer.into_iter().map(|item| {
        reject(item);
        shelves::dead(queue).len(&Heap::new(&memory))
    });
    let left: Vec<u64> = after_each.collect();
    assert!(left[0] > 1, "it was no single step");
    assert_eq!(left.last(), Some(&1));
}

#[test]
fn who_waits_for_space_keeps_nobody_from_taking_and_is_called_once_there_is_some() {
    let (memory, one, other) = two();
    let mut spec = QueueSpec::new("bounded");
    spec.maxsize = 1;
    let (item, options) = ([Bytes::from_static(b"item")], PutOptions::new());
    step(&memory, |step| shelves::push(step, one, &spec, &item, &options, None));
    let waits = step(&memory, |step| shelves::push(step, one, &spec, &item, &options, None));
    assert!(matches!(waits, Push::Wait(_)));
    fill_to_the_last_block(&memory, one);
    let held = claim(&memory, other, &spec, 1);
    assert!(!peers::has_post(&Heap::new(&memory), one), "there is no space for a call");
    step(&memory, |step| items::settle(step, held[0], Settlement::Ack, &SettleOptions::default()));
    step(&memory, |step| waits::look_after(step, one));
    step(&memory, |step| {
        peers::take_post(step, one, u64::MAX, |_, post| {
            assert!(matches!(post, Post::Turn { .. }));
        })
    });
}

/// Takes every block that is free.
fn fill_to_the_last_block(memory: &Memory, peer: At) {
    fill(memory);
    let spec = QueueSpec::new("filling");
    for size in [60_000, 1000, 1] {
        let item = [Bytes::from(vec![7; size])];
        loop {
            let mut step = Step::new(memory);
            let pushed = shelves::push(&mut step, peer, &spec, &item, &PutOptions::new(), None);
            match pushed.and_then(|_| step.commit()) {
                Ok(()) => {}
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Server, "{error}");
                    step.recover();
                    break;
                }
            }
        }
    }
    // An item takes two blocks: one may be left.
    let mut last = Step::new(memory);
    while last.alloc(1).is_ok() {}
    last.commit().expect("blocks that nobody knows of are nobody's loss in a test");
}
