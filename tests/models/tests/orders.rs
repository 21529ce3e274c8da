//! Each history in thousands of orders: chosen at random, and with few but nasty changes of turn.

use pymq_models::{bells, calls, intakes, mailboxes, queues};

/// How many orders of each kind are tried; `PYMQ_ORDERS` for more.
fn orders() -> usize {
    std::env::var("PYMQ_ORDERS").ok().and_then(|orders| orders.parse().ok()).unwrap_or(1000)
}

macro_rules! in_any_order {
    ($($model:ident::$history:ident),* $(,)?) => {
        $(#[test]
        fn $history() {
            shuttle::check_random($model::$history, orders());
            shuttle::check_pct($model::$history, orders(), 3);
        })*
    };
}

in_any_order! {
    mailboxes::what_is_lost_is_counted_and_the_rest_is_in_order,
    mailboxes::a_close_beside_a_write_ends_the_reader,
    mailboxes::a_waiting_thread_is_woken,
    mailboxes::the_last_who_waits_is_woken,
    mailboxes::a_reader_may_go_at_any_time,
    mailboxes::an_answer_is_not_read_before_its_question,
    calls::each_call_gets_its_own_answer,
    calls::a_caller_may_go_while_its_answer_comes,
    calls::every_call_hears_of_a_gap_and_of_the_end,
    queues::an_item_goes_to_one_whoever_gives_up,
    queues::a_connection_that_closes_leaves_every_item_once,
    queues::a_lease_ends_once,
    intakes::what_one_writes_over_several_sources_comes_in_its_order,
    intakes::a_source_that_comes_late_is_read_from_its_first_moment,
    intakes::a_close_ends_the_wait_and_loses_nothing,
    intakes::it_rings_exactly_while_something_is_there,
    bells::no_ring_is_lost,
    bells::whoever_buries_rings_for_the_dead,
    bells::a_ring_that_need_wake_nobody_costs_no_call,
}

/// The models find a sleeper that is not woken, or their silence would mean nothing.
#[test]
#[should_panic(expected = "deadlock")]
fn whoever_looks_too_early_sleeps_for_ever() {
    shuttle::check_random(bells::whoever_looks_too_early_sleeps_for_ever, orders());
}
