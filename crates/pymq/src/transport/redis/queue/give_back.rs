//! Giving items back: those of dead consumers, and our own when a consumer ends.
//!
//! Whichever consumer looks next gives back what a dead process held, so no particular process has to
//! be alive. The options of the consumer that held an item decide where the item goes: back to the queue
//! or to the dead letters. They are written in the name of its epoch, since that consumer cannot be asked
//! any more.
//!
//! The one invariant: an epoch that the server refuses to give back does not keep back those behind it.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::super::Core;
use super::super::purpose::Purpose;
use super::super::resp::{Command, Reply};
use super::super::script::Lesson;
use super::consumer::Consumer;
use super::keys::Keys;
use super::scripts::{self, PORTION};
use crate::error::{Error, ErrorKind, Result};
use crate::transport::{Failure, Reason};

/// The most runs of the script in a row. The next consumer that reaps does the rest; and a server that says
/// for ever that there is more cannot keep us here for ever.
const PORTIONS: usize = 1000;
/// The most epochs that are left out because the server refuses to give them back (their lists may be of
/// another type), while those behind them are.
const STUCK: usize = 10;

/// Gives back what dead consumers hold. An epoch that the server refuses to give back stays where it is
/// and is logged; those behind it are given back all the same.
pub(super) async fn reap(core: &Core, keys: &Keys) -> Result<()> {
    let names = [keys.epochs.as_str(), &keys.list, &keys.dead, &keys.spare];
    // Idempotent: what one run has moved is not there any more for the next.
    let purpose = Purpose::idempotent("reap", &keys.name);
    let (mut refused, mut stuck) = (None, 0);
    for _ in 0..PORTIONS {
        let asked = Instant::now();
        let leave_out = stuck.to_string();
        let words = [&keys.helds, keys.every_urgents(), PORTION, &leave_out];
        let arguments = words.map(str::as_bytes);
        let reply = core.commands.script(purpose, &scripts::REAP, &names, &arguments).await;
        let reply = match reply {
            Err(error) if is_about_one(&error) && stuck < STUCK => {
                stuck += 1;
                refused.get_or_insert(error);
                continue;
            }
            reply => reply?,
        };
        let given_back = GivenBack::told(core, keys, reply);
        if given_back.count > 0 {
            let back = given_back.count;
            tracing::info!(queue = keys.name, back, "items of lost consumers are back");
        }
        if !given_back.more {
            break;
        }
        // A server does one thing at a time: four fifths of it stay for others, however much there is.
        sleep(asked.elapsed().clamp(Duration::from_millis(1), Duration::from_millis(100)) * 4)
            .await;
    }
    refused.map_or(Ok(()), Err)
}

/// The answer of a script that gives back what epochs hold.
struct GivenBack {
    count: usize,
    /// There is more to do.
    more: bool,
}

impl GivenBack {
    /// Reads the answer, and tells of each item that became a dead letter.
    fn told(core: &Core, keys: &Keys, reply: Reply) -> Self {
        let mut numbers = reply.items().into_iter().map(|reply| reply.count());
        let mut next = || numbers.next().unwrap_or_default();
        let (count, more, mut dropped) = (next(), next() == 1, next());
        let failure = Failure::new(Reason::TooManyDeliveries);
        for deliveries in numbers {
            let deliveries = u32::try_from(deliveries).unwrap_or(u32::MAX);
            let dropped = std::mem::take(&mut dropped);
            core.consumers.dead_letter_log().tell(&keys.name, deliveries, &failure, dropped);
        }
        Self { count, more }
    }
}

/// Whether a refusal may be about one epoch only, unlike that of a server that refuses everything.
pub(super) fn is_about_one(error: &Error) -> bool {
    error.kind() == ErrorKind::Server && !error.is_retryable()
}

/// Gives back what is held and ends the epochs.
pub(super) async fn close(core: &Core, consumer: &Consumer) -> Result<()> {
    let keys = consumer.keys();
    if consumer.has_waited() {
        let gone = Command::new("ZREM").arg(&keys.waits).arg(keys.identity());
        // Else it is forgotten in a moment.
        let _ = core.commands.run(Purpose::idempotent("close", &keys.name), &gone).await;
    }
    let Some(words) = words_of_close(consumer) else { return Ok(()) };
    let arguments: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
    // Idempotent: what one run has moved is not there any more for the next.
    let purpose = Purpose::idempotent("close", &keys.name);
    loop {
        let names = names_of_close(keys);
        let reply = core.commands.script(purpose, &scripts::CLOSE, &names, &arguments).await?;
        if !GivenBack::told(core, keys, reply).more {
            return Ok(());
        }
    }
}

/// The command that gives back as much as one step may, when nobody hears the answer: the rest goes back with
/// its lease.
pub(super) fn close_unheard(consumer: &Consumer, lesson: &mut Lesson) -> Option<Command> {
    let words = words_of_close(consumer)?;
    let arguments: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
    Some(lesson.call(&scripts::CLOSE, &names_of_close(consumer.keys()), &arguments))
}

fn names_of_close(keys: &Keys) -> [&str; 4] {
    [&keys.epochs, &keys.list, &keys.dead, &keys.spare]
}

/// The arguments of closing; `None` where the server knows nothing of us.
fn words_of_close(consumer: &Consumer) -> Option<Vec<String>> {
    let (keys, epochs) = (consumer.keys(), consumer.all_epochs());
    let first = [&keys.helds, keys.every_urgents(), PORTION];
    // The newest first: of one epoch that is what was fetched ahead.
    let places = consumer.lists(&epochs).into_iter().rev();
    let first = first.into_iter().map(str::to_owned);
    let all = first.chain(places.map(|place| keys.name(place)));
    (!epochs.is_empty()).then(|| all.collect())
}
