//! The contract of [`transport`](crate::transport) as functions: one for each of its sentences.
//!
//! A transport is right when it passes them all, and what one transport passes, programs may rely
//! on with every other. A rule takes a [`Broker`], makes names that nobody else uses, so that a
//! shared server will do, and leaves no process behind, though it may leave an item; what a
//! transport says it cannot do is not asked of it beyond saying so.
//!
//! # Your own transport
//! [`conformance_suite!`](crate::conformance_suite) makes one test of each rule, in a module that
//! you name, so that a failure reads `memory::queue_is_fifo`. It belongs in a test of yours, built
//! with the feature `conformance`; its second argument is evaluated for every test:
//! ```
//! use pymq::conformance::Url;
//!
//! pymq::conformance_suite!(memory, Url::new("memory://conformance"));
//! # fn main() {}
//! ```
//! [`Url`] serves transports that [`connect`](crate::transport::connect) knows. For another one,
//! implement [`Broker`]; one rule alone is run like this:
//! ```
//! use std::sync::Arc;
//!
//! use pymq::conformance::{self, Broker};
//! use pymq::transport::{Transport, memory::Memory};
//!
//! struct Mine;
//!
//! impl Broker for Mine {
//!     async fn connect(&self) -> pymq::Result<Arc<dyn Transport>> {
//!         Ok(Arc::new(Memory::connect("memory://mine")?))
//!     }
//! }
//!
//! conformance::run(conformance::queue_is_fifo(&Mine));
//! ```

#![allow(clippy::missing_errors_doc, reason = "a rule fails with the error of what it tried")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::error::{ErrorKind, Result};
use crate::name::{Id, Namespace};
use crate::transport::{
    Arrival, Claimed, Filter, Limit, Message, QueueSpec, SettleOptions, Settlement, Subscription,
    Transport, Wait,
};

mod bounds;
mod capabilities;
mod connection;
mod events;
mod inboxes;
mod inspect;
mod jobs;
mod later;
mod leases;
mod patterns;
mod payloads;
mod queues;
mod standing;

pub use bounds::*;
pub use capabilities::*;
pub use connection::*;
pub use events::*;
pub use inboxes::*;
pub use inspect::*;
pub use jobs::*;
pub use later::*;
pub use leases::*;
pub use patterns::*;
pub use payloads::*;
pub use queues::*;
pub use standing::*;

/// After how long a rule is said to hang.
const HUNG: Duration = Duration::from_secs(180);

/// Something to connect to: the transport under test, ready to be used.
pub trait Broker: Sync {
    /// A new connection to the same broker, as another process would have it.
    ///
    /// # Errors
    /// What the transport says; the rule fails with it.
    fn connect(&self) -> impl Future<Output = Result<Arc<dyn Transport>>> + Send;

    /// How much this transport's mailboxes hold; a rule sends more than that to a slow subscriber.
    fn mailbox(&self) -> Limit {
        Limit::default()
    }
}

/// A broker that [`transport::connect`](crate::transport::connect) finds by its address.
#[derive(Clone, Debug)]
pub struct Url(String);

impl Url {
    /// The broker at that address.
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }
}

impl Broker for Url {
    async fn connect(&self) -> Result<Arc<dyn Transport>> {
        crate::transport::connect(&self.0).await
    }
}

/// Runs one rule on a runtime of its own, on two threads so that races are real ones.
///
/// # Panics
/// When the rule fails, or has not ended after three minutes.
pub fn run(rule: impl Future<Output = Result<()>>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("the machine has two threads left");
    match runtime.block_on(async { tokio::time::timeout(HUNG, rule).await }) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => panic!("an operation failed that must not: {error}"),
        Err(_) => panic!("the rule hangs: it has not ended after {HUNG:?}"),
    }
}

/// One test for each rule of [`conformance`](crate::conformance), in a module of the given name.
///
/// The expression makes a [`Broker`](crate::conformance::Broker), once for every test.
#[macro_export]
macro_rules! conformance_suite {
    ($module:ident, $broker:expr) => {
        $crate::conformance_suite! { @rules $module, $broker,
            subscribe_then_publish_is_delivered,
            every_subscriber_gets_every_message,
            receiver_count_is_true_or_none,
            one_publishers_messages_keep_their_order,
            posts_keep_their_place,
            a_slow_subscriber_is_told_it_lagged,
            several_filters_begin_in_one_step,
            dropping_a_subscription_unsubscribes,
            ended_subscription_is_gone,
            release_leaves_what_was_published_before,
            count_counts_exact_names_only,
            publish_counted_counts_and_publishes_in_one_step,
            the_end_of_a_subscriber_is_told_once_it_has_ended,
            patterns_follow_redis_globs,
            exact_and_pattern_both_deliver,
            inbox_receives_what_is_sent,
            inbox_keeps_messages_while_its_reader_is_away,
            what_an_inbox_keeps_expires,
            inbox_waits_on_a_plain_thread,
            a_list_address_keeps_replies_from_the_start,
            each_item_goes_to_one_consumer,
            queue_is_fifo,
            a_claim_waits_for_an_item,
            claim_times_out_to_nothing,
            claim_takes_up_to_limit,
            stats_tell_waiting_leased_and_dead,
            peek_leaves_items,
            purge_deletes_and_lifts_shutdown,
            purge_deletes_what_was_given_back,
            shut_down_ends_puts_and_then_gets,
            shut_down_ends_what_waits,
            bounded_queue_waits_for_space,
            bounded_queue_says_full,
            a_push_is_one_step,
            a_push_that_never_fits_is_refused,
            a_dropped_push_puts_nothing,
            settling_soon_settles,
            settling_twice_says_lease_lost,
            extending_works_while_the_lease_lasts,
            what_is_fetched_ahead_counts_when_it_is_shown,
            leases_of_a_living_process_are_prolonged,
            requeue_counts_and_return_does_not,
            too_many_deliveries_make_a_dead_letter,
            reject_makes_a_dead_letter,
            redrive_brings_dead_letters_back,
            items_of_a_closed_connection_come_back_to_the_head,
            cancelled_claim_loses_nothing,
            claims_cancelled_at_any_moment_lose_nothing,
            an_item_for_later_comes_when_it_is_due,
            items_for_later_come_in_the_order_of_their_time,
            items_for_later_are_counted_by_a_bound,
            an_item_given_back_for_later_comes_then,
            a_shut_down_queue_gives_out_what_is_due_later,
            a_put_with_an_id_is_done_once,
            higher_priorities_come_first,
            dead_letters_tell_why_they_died,
            dead_letters_are_moved_and_discarded_one_by_one,
            dead_letters_are_bounded,
            the_age_of_what_waits_is_true_or_none,
            consumers_that_hold_items_are_counted_or_none,
            of_many_puts_with_an_id_one_is_done,
            urgent_items_keep_their_priority_whatever_becomes_of_them,
            named_letters_are_found_though_others_went,
            payload_is_opaque,
            any_utf8_name_works,
            dropping_needs_no_runtime,
            close_is_idempotent,
            closed_says_closed,
            close_ends_what_waits,
            unsupported_is_said,
            states_tell_connected_then_closed,
            states_end_with_their_connection,
            ping_is_answered_until_it_is_closed,
            health_tells_the_state,
            topics_are_inspected_by_exact_name,
            queues_are_inspected_while_they_hold_anything,
            holders_are_inspected_by_what_they_hold,
            inspecting_changes_nothing,
            a_closed_connection_is_not_inspected,
        }
    };
    (@rules $module:ident, $broker:expr, $($rule:ident,)*) => {
        mod $module {
            #[allow(unused_imports, reason = "the expression may name things of its own module")]
            use super::*;
            $(
                #[test]
                fn $rule() {
                    $crate::conformance::run(async {
                        let broker = $broker;
                        $crate::conformance::$rule(&broker).await
                    });
                }
            )*
        }
    };
}

/// A whole name that nobody has used before.
fn fresh(what: &str) -> String {
    Namespace::new("conformance").whole(&format!("{what} {}", Id::random()))
}

fn fresh_queue(what: &str) -> QueueSpec {
    QueueSpec::new(fresh(what))
}

fn topic(name: &str) -> Filter {
    Filter::Topic(name.to_owned())
}

/// A payload that tells a number.
fn numbered(number: usize) -> Bytes {
    Bytes::from(number.to_string())
}

fn kind<T>(result: Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

/// How many items wait, are leased, and are dead.
async fn counts(
    transport: &Arc<dyn Transport>,
    queue: &Arc<QueueSpec>,
) -> Result<(usize, usize, usize)> {
    let stats = transport.stats(queue).await?;
    Ok((stats.waiting, stats.leased, stats.dead))
}

/// The message that comes next; anything else that arrives breaks the rule.
async fn message(subscription: &mut Subscription) -> Message {
    match subscription.recv().await {
        Some(Arrival::Message(message)) => message,
        other => panic!("expected a message, but there came {other:?}"),
    }
}

/// Claims one item, waiting for it.
async fn claim_one(transport: &Arc<dyn Transport>, queue: &Arc<QueueSpec>) -> Result<Claimed> {
    let mut claimed = transport.claim(queue, 1, Wait::Forever).await?;
    assert_eq!(claimed.len(), 1, "a claim of one item that may wait for ever");
    Ok(claimed.remove(0))
}

/// Claims one item, waiting for it, and settles it; says what it held.
async fn take_one(
    transport: &Arc<dyn Transport>,
    queue: &Arc<QueueSpec>,
    how: Settlement,
) -> Result<(Bytes, u32)> {
    let Claimed { payload, deliveries, receipt } = claim_one(transport, queue).await?;
    transport.settle(queue, receipt, how, SettleOptions::default()).await?;
    Ok((payload, deliveries))
}

/// Asks until the answer is yes: for what the contract says happens, but not when.
async fn until(mut asked: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    while !asked().await? {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

/// Does `work` on a thread that knows no runtime.
async fn on_a_plain_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, result) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || sender.send(work()));
    result.await.expect("the work on the plain thread does not panic")
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_rule_is_in_the_suite() {
        let suite = include_str!("mod.rs");
        let files = [
            include_str!("bounds.rs"),
            include_str!("capabilities.rs"),
            include_str!("connection.rs"),
            include_str!("events.rs"),
            include_str!("inboxes.rs"),
            include_str!("inspect.rs"),
            include_str!("jobs.rs"),
            include_str!("later.rs"),
            include_str!("leases.rs"),
            include_str!("patterns.rs"),
            include_str!("payloads.rs"),
            include_str!("queues.rs"),
            include_str!("standing.rs"),
        ];
        let rules = files.iter().flat_map(|file| file.split("pub async fn ").skip(1));
        for rule in rules.filter_map(|rest| rest.split('(').next()) {
            assert!(
                suite.contains(&format!("            {rule},\n")),
                "{rule} is not in the suite"
            );
        }
    }
}
