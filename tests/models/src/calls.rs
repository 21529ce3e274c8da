//! Histories of open calls: answers come, connections break, callers go.

use std::sync::Arc;

use bytes::Bytes;
use pymq::name::Id;
use pymq::wire::Outcome;
use shuttle::future::block_on;
use shuttle::thread;

use crate::mailbox::Arrival;
use crate::pending::{Pending, Waiting};
use crate::wire::{Ours, Said};

fn answer(call: Id) -> Said {
    let value = Bytes::from(call.to_string());
    let outcome = Outcome::result(value, "str".to_owned());
    Said { outcome, ours: Ours { call } }
}

fn next_is_its_own(waiting: &mut Waiting) -> bool {
    let call = waiting.call();
    match block_on(waiting.recv()) {
        Some(Arrival::Message(response)) => response.outcome.value == call.to_string(),
        other => panic!("expected an answer, not {other:?}"),
    }
}

/// Answers to two calls come at once, with one that nobody waits for: each call gets its own.
pub fn each_call_gets_its_own_answer() {
    let pending = Arc::<Pending>::default();
    let calls = [Id::random(), Id::random()];
    let mut waiting = calls.map(|call| pending.open(call));
    let routers = [calls, [Id::random(), calls[0]]].map(|answers| {
        let pending = Arc::clone(&pending);
        thread::spawn(move || answers.into_iter().for_each(|call| pending.route(answer(call))))
    });
    assert!(waiting.iter_mut().all(next_is_its_own));
    assert!(next_is_its_own(&mut waiting[0]), "its second answer");
    routers.into_iter().for_each(|router| router.join().expect("a router does not panic"));
}

/// A caller goes while its answer comes: nothing is kept for it, and others are served.
pub fn a_caller_may_go_while_its_answer_comes() {
    let pending = Arc::<Pending>::default();
    let (gone, stays) = (pending.open(Id::random()), pending.open(Id::random()));
    let calls = [gone.call(), stays.call()];
    let router = {
        let pending = Arc::clone(&pending);
        thread::spawn(move || calls.into_iter().for_each(|call| pending.route(answer(call))))
    };
    let leaver = thread::spawn(move || drop(gone));
    let mut stays = stays;
    assert!(next_is_its_own(&mut stays));
    leaver.join().expect("the leaver does not panic");
    router.join().expect("the router does not panic");
    drop(stays);
    assert!(format!("{pending:?}").contains("{}"), "no call is open any more: {pending:?}");
}

/// The connection breaks and the bus is closed while a call waits and another one goes.
pub fn every_call_hears_of_a_gap_and_of_the_end() {
    let pending = Arc::<Pending>::default();
    let (mut stays, goes) = (pending.open(Id::random()), pending.open(Id::random()));
    let leaver = thread::spawn(move || drop(goes));
    let breaker = {
        let pending = Arc::clone(&pending);
        thread::spawn(move || {
            pending.gap();
            pending.close();
        })
    };
    assert!(matches!(block_on(stays.recv()), Some(Arrival::Gap)));
    assert!(block_on(stays.recv()).is_none());
    leaver.join().expect("the leaver does not panic");
    breaker.join().expect("the breaker does not panic");
}
