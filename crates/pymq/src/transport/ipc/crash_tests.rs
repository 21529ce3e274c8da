//! What is left when a process dies at any store of any step: what was there before the step.
//!
//! Every operation is run to its end once, to count its stores, and then again as often as that,
//! killed one store later each time. Killed is, here, a panic at the store; what the next process
//! does, undoing the step, is killed at its stores too.

use std::fs::{File, OpenOptions};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::heap::{At, Heap};
use super::layout::{ARENA, BLOCK_COUNTS, BLOCKS, FRESH, ROOT, ROOT_END, beacon};
use super::mapping::Memory;
use super::peers::{self, Post, Step};
use super::shelves::{self, Claim, Push};
use super::{addresses, bus_directory, dead_letters, items, names, topics, watches};
use crate::error::Result;
use crate::name::{Address, Form};
use crate::transport::{
    Failure, Filter, Letters, PutOptions, QueueSpec, Reason, SettleOptions, Settlement, Shelf,
};

/// A file that no other process knows.
pub(super) fn file() -> File {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = format!("/dev/shm/pymq-deaths-{}-{number}", std::process::id());
    let file: File = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .expect("a file in memory");
    std::fs::remove_file(&path).expect("it is there");
    let memory = Memory::map(file.try_clone().expect("a descriptor")).expect("a mapping");
    bus_directory::fill(&memory).expect("there is space");
    file
}

/// The bus in a file.
pub(super) fn on(file: &File) -> Memory {
    let memory = Memory::map(file.try_clone().expect("a descriptor")).expect("a mapping");
    memory.know();
    memory
}

/// A bus that no other process knows.
pub(super) fn bus() -> Memory {
    on(&file())
}

/// All that steps change: the root, and of each block its content, or, where it is free, its links.
fn state(memory: &Memory) -> Vec<u8> {
    let mut all = vec![0; (ROOT_END - ROOT) as usize];
    memory.read(ROOT, &mut all);
    for (block, size, is_free) in blocks(memory) {
        let read = if is_free { 24 } else { 1 << size };
        let begin = all.len();
        all.resize(begin + read, 0);
        memory.read(block, &mut all[begin..]);
    }
    all
}

/// Every block: where it is, its size, whether it is free.
fn blocks(memory: &Memory) -> Vec<(At, u64, bool)> {
    let (mut block, mut all) = (ARENA, Vec::new());
    while block < memory.load(FRESH) {
        let tag = memory.load(block);
        all.push((block, tag >> 1, tag & 1 == 1));
        assert!((6..=16).contains(&(tag >> 1)), "a block of size {} at {block}", tag >> 1);
        block += 1 << (tag >> 1);
    }
    assert_eq!(block, memory.load(FRESH));
    all
}

/// The lists of free blocks hold what is tagged as free, and nothing else.
fn assert_sound(memory: &Memory) {
    let all = blocks(memory);
    for size in 6..=16 {
        let mut listed = 0;
        // The largest ones are in two lists.
        for list in if size == 16 { vec![16, 17] } else { vec![size] } {
            let before = listed;
            let mut block = memory.load(BLOCKS + 8 * list);
            while block != 0 {
                assert_eq!(memory.load(block), size << 1 | 1);
                (listed, block) = (listed + 1, memory.load(block + 16));
            }
            assert_eq!(listed - before, memory.load(BLOCK_COUNTS + 8 * list));
        }
        let tagged = all.iter().filter(|(_, own, is_free)| *own == size && *is_free).count();
        assert_eq!(listed, tagged as u64);
    }
}

/// All that is there, to be put back.
fn copy(memory: &Memory) -> Vec<(At, Vec<u8>)> {
    let ranges = [(ROOT, ROOT_END), (ARENA, memory.load(FRESH) + (1 << 16))];
    ranges
        .into_iter()
        .map(|(from, to)| {
            let mut bytes = vec![0; (to - from) as usize];
            memory.read(from, &mut bytes);
            (from, bytes)
        })
        .collect()
}

fn put_back(memory: &Memory, copy: &[(At, Vec<u8>)]) {
    copy.iter().for_each(|(at, bytes)| memory.write(*at, bytes));
}

pub(super) fn step<T>(memory: &Memory, work: impl FnOnce(&mut Step<'_>) -> Result<T>) -> T {
    let mut step = Step::new(memory);
    let done = work(&mut step).expect("the step can be done");
    step.commit().expect("it can be committed");
    done
}

/// Kills `work` at each of its stores, and whoever undoes it at some of theirs.
fn die_everywhere(memory: &Memory, what: &str, work: impl Fn(&mut Step<'_>) -> Result<()>) {
    let (before, saved) = (state(memory), copy(memory));
    memory.left.store(i64::MAX, Ordering::Relaxed);
    step(memory, &work);
    let stores = i64::MAX - memory.left.load(Ordering::Relaxed);
    let after = state(memory);
    assert_sound(memory);
    assert!(stores > 0 && before != after, "{what} does nothing");
    for killed in 0..stores {
        put_back(memory, &saved);
        memory.left.store(killed, Ordering::Relaxed);
        let died = catch_unwind(AssertUnwindSafe(|| step(memory, &work)));
        assert!(died.is_err(), "{what} has ended before store {killed}");
        for again in [0, 1, killed / 2, killed] {
            memory.left.store(again, Ordering::Relaxed);
            let _ = catch_unwind(AssertUnwindSafe(|| Heap::new(memory).recover()));
        }
        memory.left.store(i64::MAX, Ordering::Relaxed);
        Heap::new(memory).recover();
        assert!(state(memory) == before, "{what}, killed at store {killed} of {stores}");
    }
    // And once more as if nothing had been.
    step(memory, &work);
    assert_eq!(state(memory).len(), after.len(), "{what}, done after all that");
    assert_sound(memory);
}

/// Seats two that live: their beacons are held by this thread.
fn two(memory: &Memory) -> (At, At) {
    let seats = [0, 1].map(|slot| {
        memory.lock(beacon(slot), Duration::ZERO);
        step(memory, |step| peers::join(step, slot))
    });
    (seats[0], seats[1])
}

fn numbered(count: usize) -> Vec<Bytes> {
    (0..count).map(|number| Bytes::from(format!("item {number}"))).collect()
}

fn claim(memory: &Memory, peer: At, spec: &QueueSpec, limit: usize) -> Vec<At> {
    match step(memory, |step| shelves::claim(step, peer, spec, limit, false, None)) {
        Claim::Taken(taken) => taken.into_iter().map(|(item, _)| item).collect(),
        other => panic!("nothing was there: {other:?}"),
    }
}

fn quietly<T>(work: impl FnOnce() -> T) -> T {
    // Thousands of panics are meant here; each would print its backtrace.
    static QUIET: std::sync::Once = std::sync::Once::new();
    QUIET.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |about| {
            let payload = about.payload();
            let killed = payload.downcast_ref::<&str>().is_some_and(|why| *why == "killed");
            if !killed {
                usual(about);
            }
        }));
    });
    work()
}

#[test]
fn a_connection_that_dies_while_it_joins_or_leaves_has_not() {
    quietly(|| {
        let memory = bus();
        die_everywhere(&memory, "join", |step| peers::join(step, 7).map(|_| ()));
        let spec = QueueSpec::new("queue");
        let peer = peers::in_slot(&Heap::new(&memory), 7);
        step(&memory, |step| {
            shelves::push(step, peer, &spec, &numbered(3), &PutOptions::new(), None)
        });
        claim(&memory, peer, &spec, 2);
        let filters = [Filter::Topic("topic".into()), Filter::Pattern("p*".into())];
        step(&memory, |step| topics::subscribe(step, peer, &filters));
        let address = Address::new("inbox", Form::Inbox);
        step(&memory, |step| addresses::sit_down(step, peer, &address));
        let keeper = step(&memory, |step| peers::join(step, 8));
        step(&memory, |step| watches::begin(step, keeper, "topic", 1));
        die_everywhere(&memory, "leave", |step| peers::leave(step, 7));
    });
}

#[test]
fn whoever_dies_while_it_puts_takes_or_settles_has_not() {
    quietly(|| {
        let memory = bus();
        let (one, other) = two(&memory);
        let mut spec = QueueSpec::new("queue");
        spec.max_deliveries = 2;
        let options = PutOptions::new();
        let later = PutOptions::new().delay(Duration::from_secs(1000));
        let once = PutOptions::new().id("once");
        die_everywhere(&memory, "the first put", |step| {
            shelves::push(step, one, &spec, &numbered(2), &options, None).map(|_| ())
        });
        die_everywhere(&memory, "a put", |step| {
            shelves::push(step, one, &spec, &numbered(3), &options, None).map(|_| ())
        });
        die_everywhere(&memory, "a put for later", |step| {
            shelves::push(step, one, &spec, &numbered(2), &later, None).map(|_| ())
        });
        die_everywhere(&memory, "a put with an id", |step| {
            shelves::push(step, one, &spec, &numbered(1), &once, None).map(|_| ())
        });
        let large = vec![Bytes::from(vec![7; 300_000])];
        die_everywhere(&memory, "a put for which the file grows", |step| {
            shelves::push(step, one, &spec, &large, &options, None).map(|_| ())
        });
        die_everywhere(&memory, "a claim", |step| {
            shelves::claim(step, other, &spec, 2, false, None).map(|_| ())
        });
        let ways = [Settlement::Ack, Settlement::Requeue, Settlement::Return, Settlement::Reject];
        for how in ways {
            let item = claim(&memory, other, &spec, 1)[0];
            let failure = Failure::new(Reason::Failed).error("ValueError", "no such thing");
            let why = SettleOptions::default().failure(failure);
            die_everywhere(&memory, &format!("{how:?}"), |step| {
                items::settle(step, item, how, &why)
            });
        }
        let item = claim(&memory, other, &spec, 1)[0];
        die_everywhere(&memory, "taking back from who does not run", |step| {
            items::take_back(step, item, u64::MAX).map(|_| ())
        });
        let queue = shelves::named(&Heap::new(&memory), "queue");
        let elsewhere = QueueSpec::new("elsewhere");
        die_everywhere(&memory, "a redrive", |step| {
            dead_letters::redrive(step, queue, &Letters::Oldest(1), &elsewhere).map(|_| ())
        });
        die_everywhere(&memory, "a purge", |step| {
            shelves::purge(step, queue, Shelf::Waiting).map(|_| ())
        });
        die_everywhere(&memory, "the death of a consumer", |step| peers::leave(step, 1));
    });
}

#[test]
fn whoever_dies_while_it_waits_or_is_called_loses_nothing() {
    quietly(|| {
        let memory = bus();
        let (one, other) = two(&memory);
        let mut spec = QueueSpec::new("bounded");
        spec.maxsize = 1;
        die_everywhere(&memory, "waiting for an item", |step| {
            shelves::claim(step, other, &spec, 1, true, None).map(|_| ())
        });
        let options = PutOptions::new();
        die_everywhere(&memory, "a put that calls", |step| {
            shelves::push(step, one, &spec, &numbered(1), &options, None).map(|_| ())
        });
        let waiting =
            step(&memory, |step| shelves::push(step, one, &spec, &numbered(1), &options, None));
        let Push::Wait(place) = waiting else { panic!("there is no space") };
        die_everywhere(&memory, "a claim that makes space", |step| {
            shelves::claim(step, other, &spec, 1, false, None).map(|_| ())
        });
        die_everywhere(&memory, "a put whose turn has come", |step| {
            shelves::push(step, one, &spec, &numbered(1), &options, Some(place)).map(|_| ())
        });
        die_everywhere(&memory, "taking the post", |step| {
            peers::take_post(step, one, u64::MAX, |_, _| {})
        });
        die_everywhere(&memory, "a shutdown", |step| shelves::shut_down(step, &spec));
    });
}

#[test]
fn whoever_dies_while_it_subscribes_publishes_or_sends_has_not() {
    quietly(|| {
        let memory = bus();
        let (one, other) = two(&memory);
        let filters = [Filter::Topic("topic".into()), Filter::Pattern("to*".into())];
        die_everywhere(&memory, "a subscription", |step| {
            topics::subscribe(step, one, &filters).map(|_| ())
        });
        step(&memory, |step| topics::subscribe(step, other, &filters[..1]));
        die_everywhere(&memory, "a publication", |step| {
            let targets = topics::find(step, "topic");
            assert_eq!(topics::deliver(step, &targets, "topic", b"event")?, 3);
            Ok(())
        });
        die_everywhere(&memory, "receiving", |step| {
            peers::take_post(step, one, u64::MAX, |heap, post| {
                let Post::Event { body, .. } = post else { panic!("no event: {post:?}") };
                assert_eq!(topics::parts(&heap.bytes(body)), Some(("topic", 9)));
            })
        });
        let subscription = peers::subscriptions(one).first(&Heap::new(&memory));
        die_everywhere(&memory, "the end of a subscription", |step| {
            topics::end(step, subscription)
        });
        let address = Address::new("inbox", Form::Inbox);
        die_everywhere(&memory, "a letter to nobody", |step| {
            addresses::send(step, &address, b"letter", u64::MAX).map(|_| ())
        });
        die_everywhere(&memory, "sitting down", |step| {
            addresses::sit_down(step, one, &address).map(|_| ())
        });
        let number = {
            let heap = Heap::new(&memory);
            heap.get(peers::seats(one).first(&heap) + addresses::NUMBER)
        };
        die_everywhere(&memory, "giving what was kept", |step| {
            addresses::give_kept(step, &address, number).map(|_| ())
        });
        assert!(peers::has_post(&Heap::new(&memory), one), "a letter was kept");
        die_everywhere(&memory, "a letter", |step| {
            addresses::send(step, &address, b"letter", 0).map(|_| ())
        });
        die_everywhere(&memory, "taking the seat over", |step| {
            addresses::sit_down(step, other, &address).map(|_| ())
        });
    });
}

#[test]
fn whoever_dies_while_memory_goes_back_to_the_system_loses_nothing() {
    quietly(|| {
        let memory = bus();
        let (one, other) = two(&memory);
        let spec = QueueSpec::new("queue");
        let large = vec![Bytes::from(vec![7; 1 << 20])];
        let options = PutOptions::new();
        step(&memory, |step| shelves::push(step, one, &spec, &large, &options, None));
        step(&memory, |step| shelves::push(step, one, &spec, &numbered(1), &options, None));
        let item = claim(&memory, other, &spec, 1)[0];
        let done = SettleOptions::default();
        step(&memory, |step| items::settle(step, item, Settlement::Ack, &done));
        let before = memory.used();
        die_everywhere(&memory, "cooling", |step| step.cool().map(|_| ()));
        assert!(memory.used() + 200_000 < before, "{before} to {}", memory.used());
        // Memory that was given back is asked for again before it is used.
        step(&memory, |step| shelves::push(step, one, &spec, &large, &options, None));
        let queue = shelves::named(&Heap::new(&memory), "queue");
        let peeked = step(&memory, |step| shelves::peek(step, queue, Shelf::Waiting, 2));
        assert!(peeked == [numbered(1), large].concat());
    });
}

#[test]
fn what_is_not_used_any_more_is_free() {
    let memory = bus();
    let (one, other) = two(&memory);
    let spec = QueueSpec::new("queue");
    let brief = PutOptions::new().id("brief").within(Duration::from_nanos(1));
    step(&memory, |step| shelves::push(step, one, &spec, &numbered(1), &brief, None));
    for _ in 0..3 {
        let filters = [Filter::Topic("topic".into()), Filter::Pattern("to*".into())];
        step(&memory, |step| topics::subscribe(step, other, &filters));
        step(&memory, |step| {
            let targets = topics::find(step, "topic");
            topics::deliver(step, &targets, "topic", &[0; 200_000])
        });
        let many = PutOptions::new();
        step(&memory, |step| shelves::push(step, one, &spec, &numbered(500), &many, None));
        claim(&memory, other, &spec, 400);
        step(&memory, |step| {
            addresses::send(step, &Address::new("away", Form::List), b"letter", 1)
        });
    }
    let queue = shelves::named(&Heap::new(&memory), "queue");
    let dead = claim(&memory, one, &spec, 1)[0];
    step(&memory, |step| items::settle(step, dead, Settlement::Reject, &SettleOptions::default()));
    for slot in [0, 1] {
        step(&memory, |step| peers::leave(step, slot));
    }
    for shelf in [Shelf::Waiting, Shelf::Dead] {
        step(&memory, |step| shelves::purge(step, queue, shelf));
    }
    std::thread::sleep(Duration::from_millis(1));
    step(&memory, addresses::expire);
    step(&memory, shelves::clear);
    let left: Vec<_> = blocks(&memory).into_iter().filter(|(_, _, is_free)| !is_free).collect();
    assert_eq!(left, Vec::new());
    assert_sound(&memory);
}

#[test]
fn what_one_process_has_made_longer_is_as_long_for_the_others() {
    let file = file();
    let (one, other) = (on(&file), on(&file));
    let (spec, options) = (QueueSpec::new("queue"), PutOptions::new());
    let large = [vec![Bytes::from(vec![7; 300_000])], numbered(5000)].concat();
    for memory in [&one, &other, &one, &other] {
        step(memory, |step| shelves::push(step, 0, &spec, &large, &options, None));
    }
    let queue = shelves::named(&Heap::new(&one), "queue");
    for memory in [&one, &other] {
        let items = step(memory, |step| shelves::peek(step, queue, Shelf::Waiting, usize::MAX));
        assert!(items == [(); 4].map(|()| large.clone()).concat());
    }
}

#[test]
fn a_stray_place_is_an_error_and_no_signal() {
    let memory = bus();
    assert_eq!(memory.load(u64::MAX - 7) + memory.load(memory.size()), 0);
    assert!(memory.check().is_err());
    let damaged = step_of(&memory, |step| names::add(step, names::Kind::Topic, b"name", 64));
    assert!(damaged.is_err());
}

fn step_of<T>(memory: &Memory, work: impl FnOnce(&mut Step<'_>) -> Result<T>) -> Result<T> {
    let mut step = Step::new(memory);
    let done = work(&mut step)?;
    step.commit().map(|()| done)
}

#[test]
fn only_one_has_a_lock_and_the_lock_of_the_dead_is_inherited() {
    let memory = Arc::new(bus());
    let lock = beacon(3);
    assert_eq!(memory.lock(lock, Duration::ZERO), super::locks::Lock::Taken);
    let asked = Arc::clone(&memory);
    let other = std::thread::spawn(move || asked.lock(lock, Duration::from_millis(20)));
    assert_eq!(other.join().expect("no panic"), super::locks::Lock::Busy);
    memory.unlock(lock);
    let dying = Arc::clone(&memory);
    let died = std::thread::spawn(move || dying.lock(lock, Duration::ZERO));
    assert_eq!(died.join().expect("no panic"), super::locks::Lock::Taken);
    assert_eq!(memory.lock(lock, Duration::ZERO), super::locks::Lock::Inherited);
    assert!(memory.is_held(lock));
    memory.unlock(lock);
    assert!(!memory.is_held(lock));
}
