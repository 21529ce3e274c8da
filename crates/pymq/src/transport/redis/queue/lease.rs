//! Leases: prolonging ours, giving back those of the dead, and finding what lost replies had brought.
//!
//! A lease belongs to an epoch, not to an item: one call prolongs all that a consumer took since the
//! epoch began, however much that is. What a dead process held is given back by whichever consumer
//! looks next, so nobody in particular has to be alive. Where such an item goes (back to the queue or to
//! the dead letters) is decided by the options of the consumer that held it, which are written in the
//! name of its epoch, since that consumer cannot be asked any more.
//!
//! The one invariant: an epoch that was once found to be over is never used again; a new one takes
//! its place before the next claim.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::super::Core;
use super::super::purpose::Purpose;
use super::super::resp::{Batch, Command, Reply};
use super::super::script::Lesson;
use super::consumer::Consumer;
use super::keys::{Epoch, Keys, Place};
use super::scripts;
use crate::error::{Error, ErrorKind, Result};
use crate::transport::{Failure, Reason, Receipt, Wait};

/// The most items that one run of a script moves: everybody else waits for it.
const PORTION: &str = "1000";
/// How many such runs follow one another at most. The next consumer that reaps does the rest; and a
/// server that says for ever that there is more cannot keep us here for ever.
const PORTIONS: usize = 1000;
/// How long a connection that waits for items counts as a consumer after it last said so: as long as
/// one wait at the server and the way there and back, with some time to spare.
const WAITS: Duration = Duration::from_secs(8);
/// How many epochs are left out because the server refuses to give them back (their lists may be of
/// another type), while those behind them are.
const STUCK: usize = 10;

/// Learns the server's clock, whether the queue is shut down, and whether we may register: before
/// the first claim, since what is taken must be registered in the same write.
pub(super) async fn open(core: &Core, consumer: &Consumer, wait: Wait) -> Result<()> {
    prolong(core, consumer, &[consumer.current()], wait).await
}

/// The command that prolongs the leases of epochs, and registers those that hold something. It bears
/// the script's text: a server that does not know the digest would refuse it, and with it the claim that
/// is sent in the same write. A connection that has waited long and holds nothing says so here, and
/// counts as a consumer until its next wait is over.
pub(super) fn keep(consumer: &Consumer, places: &[Place], waited: bool) -> Command {
    let keys = consumer.keys();
    let names = names_of_keep(keys);
    let words = words_of_keep(consumer, places, waited);
    let arguments: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
    scripts::KEEP.teach(&names, &arguments)
}

fn names_of_keep(keys: &Keys) -> [&str; 5] {
    [&keys.epochs, &keys.shut, &keys.spare, &keys.later, &keys.waits]
}

fn words_of_keep(consumer: &Consumer, places: &[Place], waited: bool) -> Vec<String> {
    let keys = consumer.keys();
    let who = if waited { keys.identity() } else { "" }.to_owned();
    let first = [milliseconds(consumer.lease()), keys.helds.clone(), who, milliseconds(WAITS)];
    first.into_iter().chain(places.iter().map(|place| keys.name(*place))).collect()
}

/// What the answer to [`keep`] says.
pub(super) struct Kept {
    pub(super) shut: bool,
    over: Vec<Epoch>,
}

/// Notes the answer to what prolongs leases, which was sent at a moment.
pub(super) fn note_kept(
    consumer: &Consumer,
    places: &[Place],
    sent: Instant,
    reply: Reply,
) -> Kept {
    let mut numbers = reply.items().into_iter().map(|reply| reply.number().unwrap_or_default());
    let clock = numbers.next();
    let shut = note_due(consumer, numbers.next() == Some(1), numbers.next());
    if let Some(clock) = clock {
        consumer.note_server(sent, clock);
    }
    let mut over: Vec<Epoch> = Vec::new();
    for (Place { epoch, ahead }, alive) in places.iter().zip(numbers) {
        if alive == 1 {
            consumer.note_kept(*epoch, sent);
            // An epoch has two lists, for items shown and fetched ahead, and lives if one of them does:
            // the other one is empty, or was never there.
            over.retain(|dead| dead != epoch);
        } else if !ahead {
            over.push(*epoch);
        }
    }
    Kept { shut, over }
}

/// Notes what a script says of the items for later; returns whether the queue is shut down and
/// nothing can come into it any more.
fn note_due(consumer: &Consumer, shut: bool, next: Option<i64>) -> bool {
    let next = next.and_then(|next| u64::try_from(next).ok()).map(Duration::from_millis);
    let over = shut && next.is_none();
    consumer.note_due(next, over);
    over
}

/// Has the items that are due put into the line of those that wait, and learns when the next one is.
pub(super) async fn line_up(core: &Core, consumer: &Consumer) -> Result<()> {
    let keys = consumer.keys();
    // A hint that comes while the script runs may be about an item that it did not see.
    consumer.begin_lining_up();
    let purpose = Purpose::idempotent("claim", &keys.name);
    let names = [keys.later.as_str(), &keys.list, &keys.shut, &keys.spare];
    let arguments = [PORTION.as_bytes(), keys.urgents().as_bytes()];
    let reply = core.commands.script(purpose, &scripts::LINE_UP, &names, &arguments).await;
    let reply = reply.inspect_err(|_| consumer.poke())?;
    let numbers: Vec<i64> = reply.items().iter().filter_map(Reply::number).collect();
    if let [next, shut] = numbers[..] {
        note_due(consumer, shut == 1, Some(next));
    }
    Ok(())
}

/// Prolongs the leases of epochs; where one is over, a new one begins.
pub(super) async fn beat(core: &Core, consumer: &Consumer, epochs: &[Epoch]) -> Result<()> {
    prolong(core, consumer, epochs, Wait::Forever).await
}

async fn prolong(core: &Core, consumer: &Consumer, epochs: &[Epoch], wait: Wait) -> Result<()> {
    let keys = consumer.keys();
    let sent = Instant::now();
    let purpose = Purpose::idempotent("renew", &keys.name).within(wait);
    let names = names_of_keep(keys);
    let places = consumer.places(epochs);
    let words = words_of_keep(consumer, &places, false);
    let arguments: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
    let reply = core.commands.script(purpose, &scripts::KEEP, &names, &arguments).await?;
    if !matches!(&reply, Reply::List(numbers) if numbers.len() == places.len() + 3) {
        // Too short an answer must not pass for one: no epoch would be noted as kept, and the question
        // would be sent again at once, for ever.
        return Err(purpose.nonsense());
    }
    for epoch in note_kept(consumer, &places, sent, reply).over {
        lose(consumer, epoch, sent);
    }
    Ok(())
}

fn lose(consumer: &Consumer, epoch: Epoch, sent: Instant) {
    let held = consumer.lose(epoch, sent);
    if held > 0 {
        let queue = &consumer.keys().name;
        tracing::warn!(queue, held, "the lease was lost; its items go to others");
    }
}

/// Logs what kept a consumer from its chores. A refusal is a warning, once, since somebody has to mend
/// it; a lost connection heals by itself, and the link has told of it.
pub(super) fn tell(consumer: &Consumer, outcome: Result<()>, what: &'static str) {
    let queue = &consumer.keys().name;
    match outcome {
        Err(error) if error.kind() == ErrorKind::Server && consumer.told().is_news(what) => {
            tracing::warn!(queue, %error, "{what}");
        }
        Err(error) => tracing::debug!(queue, %error, "{what}"),
        Ok(()) => consumer.told().over(what),
    }
}

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

/// What a script says that gives back what epochs hold.
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
            core.consumers.obituaries().tell(&keys.name, deliveries, &failure, dropped);
        }
        Self { count, more }
    }
}

/// Whether a refusal may be about one epoch only: not that of a server that refuses everything.
fn is_about_one(error: &Error) -> bool {
    error.kind() == ErrorKind::Server && !error.is_retryable()
}

/// Compares what the server holds for epochs of ours with what we know of, and hands out what lost
/// replies had brought.
pub(super) async fn compare(core: &Core, consumer: &Consumer, epochs: &[Epoch]) -> Result<()> {
    // While nothing of ours moves: an item on its way out would be in neither picture.
    let _still = consumer.still().await;
    let keys = consumer.keys();
    let sent = Instant::now();
    let purpose = Purpose::idempotent("claim", &keys.name);
    let places = consumer.places(epochs);
    let list = |place: &Place| Command::new("LRANGE").arg(keys.held(*place)).arg("0").arg("-1");
    // The lease first: a list that is read after it was found to live is surely ours.
    let commands: Batch =
        std::iter::once(keep(consumer, &places, false)).chain(places.iter().map(list)).collect();
    let mut replies = core.commands.pipeline(purpose, &commands).await?.into_iter();
    let kept = note_kept(consumer, &places, sent, purpose.check(replies.next())?);
    let mut lists: Vec<(Place, Vec<Bytes>)> = Vec::new();
    for place in &places {
        let items = purpose.check(replies.next())?.items();
        lists.push((*place, items.into_iter().filter_map(Reply::bytes).collect()));
    }
    for epoch in epochs {
        if kept.over.contains(epoch) {
            // Somebody has given its items back already: nothing is left to compare with.
            lose(consumer, *epoch, sent);
            continue;
        }
        let server = lists.extract_if(.., |(place, _)| place.epoch == *epoch).collect();
        let unknown = consumer.compare(*epoch, server);
        if !unknown.is_empty() {
            let found = unknown.len();
            tracing::info!(queue = keys.name, found, "items of lost replies are found");
            consumer.distribute(unknown);
        }
    }
    Ok(())
}

/// Forgets epochs that hold nothing.
pub(super) async fn leave(core: &Core, consumer: &Consumer, epochs: &[Epoch]) -> Result<()> {
    let _still = consumer.still().await;
    let keys = consumer.keys();
    let names = consumer.places(epochs).into_iter().map(|place| keys.name(place));
    let words: Vec<String> = std::iter::once(keys.helds.clone()).chain(names).collect();
    let arguments: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
    let purpose = Purpose::idempotent("close", &keys.name);
    core.commands.script(purpose, &scripts::LEAVE, &[&keys.epochs], &arguments).await?;
    consumer.forget(epochs);
    Ok(())
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

/// What gives back as much as one step may, for when nobody hears the answer: the rest goes back with
/// its lease.
pub(super) fn close_unheard(consumer: &Consumer, lesson: &mut Lesson) -> Option<Command> {
    let words = words_of_close(consumer)?;
    let arguments: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
    Some(lesson.call(&scripts::CLOSE, &names_of_close(consumer.keys()), &arguments))
}

fn names_of_close(keys: &Keys) -> [&str; 4] {
    [&keys.epochs, &keys.list, &keys.dead, &keys.spare]
}

/// What closing is told; nothing where the server knows nothing of us.
fn words_of_close(consumer: &Consumer) -> Option<Vec<String>> {
    let (keys, epochs) = (consumer.keys(), consumer.all_epochs());
    let first = [&keys.helds, keys.every_urgents(), PORTION];
    // The newest first: of one epoch that is what was fetched ahead.
    let places = consumer.places(&epochs).into_iter().rev();
    let first = first.into_iter().map(str::to_owned);
    let all = first.chain(places.map(|place| keys.name(place)));
    (!epochs.is_empty()).then(|| all.collect())
}

/// Has the server note which items of those that were fetched ahead were shown. What is refused or lost
/// stays as it was: when this process dies, their delivery does not count.
pub(super) async fn show(core: &Core, consumer: &Consumer, receipts: &[Receipt]) -> Result<()> {
    let _moving = consumer.moving().await;
    let keys = consumer.keys();
    for (names, words) in words_of_show(keys, receipts) {
        let (names, words) = (names.each_ref().map(String::as_str), words_of(&words));
        // Not repeated: of equal items, a second one would count.
        let purpose = Purpose::change("note as shown", &keys.name);
        core.commands.script(purpose, &scripts::SHOW, &names, &words).await?;
    }
    Ok(())
}

/// The same for when nobody hears the answer.
pub(super) fn show_unheard(
    consumer: &Consumer,
    receipts: &[Receipt],
    lesson: &mut Lesson,
) -> Vec<Command> {
    let calls = words_of_show(consumer.keys(), receipts);
    let command = |(names, words): ([String; 4], Vec<Bytes>)| {
        lesson.call(&scripts::SHOW, &names.each_ref().map(String::as_str), &words_of(&words))
    };
    calls.map(command).collect()
}

/// The keys and the words of one call for each list.
fn words_of_show(
    keys: &Keys,
    receipts: &[Receipt],
) -> impl Iterator<Item = ([String; 4], Vec<Bytes>)> {
    receipts.chunk_by(|one, next| one.number == next.number).map(|same| {
        let place = Place::of(&same[0]);
        let [ahead, shown] = [place, place.twin()];
        let [from, to] = [ahead, shown].map(|place| keys.held(place));
        let names = [keys.epochs.clone(), from, to, keys.spare.clone()];
        let first = [ahead, shown].map(|place| Bytes::from(keys.name(place)));
        let items = same.iter().map(|receipt| receipt.stored.clone());
        (names, first.into_iter().chain(items).collect())
    })
}

fn words_of(words: &[Bytes]) -> Vec<&[u8]> {
    words.iter().map(|word| &**word).collect()
}

pub(super) fn milliseconds(duration: Duration) -> String {
    // Far beyond any life, and far from what a clock in a script could not count; never less than
    // what was asked for.
    duration.as_nanos().div_ceil(1_000_000).clamp(1, 1 << 42).to_string()
}
