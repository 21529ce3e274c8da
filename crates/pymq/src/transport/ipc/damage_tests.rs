//! What a damaged file does to those who use it: whatever word of it is another one, every step comes
//! to its end, with an error or without, and never with a panic. In a debug build sums that overflow
//! are panics too.
//!
//! Words are taken by chance, and become what a program is most easily led astray by: other places
//! of the same file, what lies beside them, none, and the largest there are. `PYMQ_TEST_SEED` tries
//! others; `PYMQ_IPC_DAMAGES` more of them.

use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use bytes::Bytes;

use super::bus_lock::{Aftermath, BusLock};
use super::crash_tests::{file, on};
use super::heap::{At, Heap};
use super::layout::{ARENA, FRESH, LOG, NUMBER, ROOT_END, SLOTS, beacon};
use super::mapping::Memory;
use super::peers::{self, Step};
use super::shelves::{self, Claim};
use super::{addresses, dead_letters, items, topics, waits, watches};
use crate::error::Result;
use crate::name::{Address, Form};
use crate::transport::{Filter, Letters, PutOptions, QueueSpec, SettleOptions, Settlement, Shelf};

/// What long payloads consist of.
const PADDING: u8 = 7;

/// A number by chance.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most.max(1)
    }
}

fn told(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// A file in which there is something of everything, and what it consists of.
struct Whole {
    file: std::fs::File,
    parts: Vec<(At, Vec<u8>)>,
    /// The places of all words that are not 0.
    words: Vec<At>,
}

impl Whole {
    fn new() -> Self {
        let file = file();
        let memory = on(&file);
        for slot in [0, 1] {
            memory.lock(beacon(slot), Duration::ZERO);
            in_turn(&memory, |step| peers::join(step, slot).map(drop));
        }
        let peers = [0, 1].map(|slot| peers::in_slot(&Heap::new(&memory), slot));
        do_everything(&memory, peers);
        do_everything(&memory, peers);
        let ends = [(0, LOG + 64), (ARENA, memory.load(FRESH) + (1 << 16))];
        let parts: Vec<_> =
            ends.into_iter().map(|(from, to)| (from, part(&file, from, to))).collect();
        let words = parts.iter().flat_map(|(from, part)| words(*from, part)).collect();
        Self { file, parts, words }
    }

    fn mend(&self) {
        for (at, part) in &self.parts {
            self.file.write_all_at(part, *at).expect("it is there");
        }
    }

    fn word(&self, at: At) -> u64 {
        let mut word = [0; 8];
        self.file.read_exact_at(&mut word, at).expect("it is there");
        u64::from_le_bytes(word)
    }

    /// Another word for the one at that place.
    fn instead(&self, at: At, chance: &mut Chance) -> u64 {
        let (own, other) =
            (self.word(at), self.words[chance.below(self.words.len() as u64) as usize]);
        match chance.below(9) {
            0 => own ^ (1 << chance.below(64)),
            1 => 0,
            2 => u64::MAX - chance.below(64),
            3 => other,
            4 => self.word(other),
            5 => own.wrapping_add(8),
            6 => own.wrapping_sub(8),
            7 => at,
            _ => (ARENA + chance.below(1 << 40)) & !7,
        }
    }
}

fn part(file: &std::fs::File, from: At, to: At) -> Vec<u8> {
    let mut part = vec![0; (to - from) as usize];
    // What the file does not have yet is zeros.
    let mut done = 0;
    while let Ok(count @ 1..) = file.read_at(&mut part[done..], from + done as u64) {
        done += count;
    }
    part
}

/// The words that say something: long payloads are of one byte.
fn words(from: At, part: &[u8]) -> impl Iterator<Item = At> {
    let says = |word: &[u8]| word != [0; 8] && word != [PADDING; 8];
    let used = part.chunks_exact(8).enumerate().filter(move |(_, word)| says(word));
    used.map(move |(place, _)| from + 8 * place as u64)
}

fn in_turn(memory: &Memory, work: impl FnOnce(&mut Step<'_>) -> Result<()>) {
    if let Some(turn) = BusLock::take(memory, Duration::from_millis(1)) {
        // Where the file is damaged it fails, as it should.
        let _ = turn.step(&mut Aftermath::default(), work);
    }
}

/// One of everything that is done with a bus.
fn do_everything(memory: &Memory, [one, other]: [At; 2]) {
    let mut spec = QueueSpec::new("queue");
    (spec.max_deliveries, spec.priorities) = (2, true);
    let elsewhere = QueueSpec::new("elsewhere");
    let body = || vec![Bytes::from_static(b"item"), Bytes::from(vec![PADDING; 70_000])];
    let later = PutOptions::new().delay(Duration::from_secs(1000));
    let options =
        [PutOptions::new(), later, PutOptions::new().id("id"), PutOptions::new().priority(7)];
    for options in &options {
        in_turn(memory, |step| shelves::push(step, one, &spec, &body(), options, None).map(drop));
    }
    let ways = [Settlement::Ack, Settlement::Requeue, Settlement::Return, Settlement::Reject];
    for how in ways {
        in_turn(memory, |step| {
            if let Claim::Taken(taken) = shelves::claim(step, other, &spec, 1, false, None)? {
                let settled = |(item, _)| items::settle(step, item, how, &SettleOptions::default());
                taken.into_iter().try_for_each(settled)?;
            }
            Ok(())
        });
    }
    in_turn(memory, |step| shelves::claim(step, other, &spec, 2, false, None).map(drop));
    in_turn(memory, |step| shelves::claim(step, other, &elsewhere, 1, true, None).map(drop));
    let filters = [Filter::Topic("topic".into()), Filter::Pattern("to*".into())];
    in_turn(memory, |step| topics::subscribe(step, other, &filters).map(drop));
    in_turn(memory, |step| watches::begin(step, one, "topic", 7));
    for payload in [&[1][..], &[PADDING; 70_000]] {
        in_turn(memory, |step| {
            let targets = topics::find(step, "topic");
            topics::deliver(step, &targets, "topic", payload).map(drop)
        });
    }
    let address = Address::new("inbox", Form::Inbox);
    for keep in [0, u64::MAX / 2] {
        in_turn(memory, |step| addresses::send(step, &address, b"letter", keep).map(drop));
    }
    in_turn(memory, |step| {
        let number = addresses::sit_down(step, one, &address)?;
        addresses::give_kept(step, &address, number).map(drop)
    });
    in_turn(memory, |step| {
        peers::take_post(step, other, 100, |heap, post| {
            drop(format!("{post:?} {}", heap.get(NUMBER)));
        })
    });
    in_turn(memory, |step| shelves::stats(step, shelves::named(step, "queue")).map(drop));
    in_turn(memory, |step| waits::look_after(step, other));
    in_turn(memory, |step| step.cool().map(drop));
}

/// What shows everything, and takes it apart.
fn take_apart(memory: &Memory, [one, other]: [At; 2]) {
    for shelf in [Shelf::Waiting, Shelf::Delayed, Shelf::Dead] {
        in_turn(memory, |step| {
            let queue = shelves::named(step, "queue");
            shelves::peek(step, queue, shelf, usize::MAX).map(drop)
        });
    }
    in_turn(memory, |step| {
        let queue = shelves::named(step, "queue");
        drop(dead_letters::letters(step, queue, 0, usize::MAX));
        drop((
            topics::subscribed_topics(step),
            shelves::in_use(step),
            shelves::taken_from_by(step, other),
        ));
        dead_letters::redrive(step, queue, &Letters::Oldest(1), &QueueSpec::new("queue")).map(drop)
    });
    in_turn(memory, |step| {
        peers::take_post(step, other, u64::MAX, |heap, post| {
            drop(super::recipients::Piece::read(heap, post, &mut (0, Bytes::new())));
        })
    });
    in_turn(memory, |step| {
        let subscription = peers::subscriptions(other).first(step);
        topics::end(step, subscription)
    });
    in_turn(memory, |step| {
        let slots = peers::slots(step);
        slots.into_iter().try_for_each(|slot| peers::look_whether_it_runs(step, slot))
    });
    in_turn(memory, |step| {
        // Those that come to an end here are buried.
        for peer in [one, other] {
            step.lives(peer);
        }
        Ok(())
    });
    for slot in [1, 0] {
        in_turn(memory, |step| peers::unburden(step, slot).map(drop));
        in_turn(memory, |step| peers::leave(step, slot));
    }
    in_turn(memory, |step| {
        shelves::purge(step, shelves::named(step, "queue"), Shelf::Waiting).map(drop)
    });
    in_turn(memory, |step| {
        shelves::purge(step, shelves::named(step, "queue"), Shelf::Dead).map(drop)
    });
    in_turn(memory, |step| addresses::expire(step).and_then(|_| shelves::clear(step)).map(drop));
    in_turn(memory, |step| peers::join(step, SLOTS - 1).map(drop));
}

#[test]
fn whatever_word_is_another_one_every_step_comes_to_its_end() {
    let whole = Whole::new();
    let seed = told("PYMQ_TEST_SEED").unwrap_or_else(|| std::process::id().into());
    let (mut chance, mut noticed) = (Chance(seed), 0);
    let times = told("PYMQ_IPC_DAMAGES").unwrap_or(400);
    for _ in 0..times {
        whole.mend();
        let count = 1 + chance.below(2);
        let damages: Vec<_> = (0..count)
            .map(|_| {
                let at = whole.words[chance.below(whole.words.len() as u64) as usize];
                (at, whole.instead(at, &mut chance))
            })
            .collect();
        let memory = on(&whole.file);
        let peers = [0, 1].map(|slot| peers::in_slot(&Heap::new(&memory), slot));
        for (at, word) in &damages {
            whole.file.write_all_at(&word.to_le_bytes(), *at).expect("it is there");
        }
        let done = catch_unwind(AssertUnwindSafe(|| {
            do_everything(&memory, peers);
            take_apart(&memory, peers);
        }));
        assert!(done.is_ok(), "with {damages:x?} of seed {seed}");
        noticed += u64::from(memory.is_damaged());
    }
    // What is only read, as payloads are, tells of nothing.
    assert!(noticed > times / 20, "{noticed} of {times} were noticed");
}

#[test]
fn a_file_that_is_cut_short_under_who_uses_it_is_an_error_and_no_signal() {
    let whole = Whole::new();
    let length = whole.file.metadata().expect("it is there").len();
    let ends = [length - 4096, ARENA + 4096, ARENA, LOG, ROOT_END, 8192, 4096, 64, 0];
    for end in ends {
        whole.file.set_len(length).expect("it is ours");
        whole.mend();
        let memory = on(&whole.file);
        let peers = [0, 1].map(|slot| peers::in_slot(&Heap::new(&memory), slot));
        whole.file.set_len(end).expect("it is ours");
        do_everything(&memory, peers);
        take_apart(&memory, peers);
        memory.measure();
        assert!(memory.check().is_err(), "cut to {end}");
    }
}
