//! `put`, `get`, `queues`, `peek`, `purge`.

use std::time::{Duration, SystemTime};

use pymq::transport::{Holder, QueueStats, Settlement, Shelf, Wait};
use pymq::wire::Metadata;
use pymq::{Bus, ByteQueue, ErrorKind, Put};
use serde::Serialize;

use super::{all_is_shown, counted, metadata};
use crate::arguments;
use crate::arguments::{Get, Peek, Purge};
use crate::confirm::confirm;
use crate::failure::{Exit, Failure};
use crate::input::Values;
use crate::output::{Output, printable};
use crate::table::{Table, span};
use crate::value::Shown;

#[derive(Serialize)]
struct PutInto<'a> {
    queue: &'a str,
    put: bool,
}

pub(super) async fn put(bus: &Bus, put: arguments::Put, output: &Output) -> Result<(), Failure> {
    let arguments::Put { queue: name, values, how, beside } = put;
    if how.id.is_some() && values.len() != 1 {
        return Err(Failure::usage("--id names one value: give exactly one"));
    }
    let metadata = match &how.id {
        // As Python puts it: who takes the item reads it, and a dead letter is found by it.
        Some(id) => metadata(&beside).id(id.as_str()),
        None => metadata(&beside),
    };
    let options = how.options();
    let queue = bus.byte_queue(&name).with(|spec| spec.priorities = options.priority > 0);
    let mut values = Values::new(values, beside.text);
    let mut done = 0_u64;
    let told = |failure: Failure, done| match done {
        0 => failure,
        some => failure.and(&format!("; {} before it", counted(some, "item"))),
    };
    loop {
        let value = values.next().await.map_err(|failure| told(failure, done))?;
        let Some(value) = value else { break };
        let stamped = match metadata.is_empty() {
            true => metadata.clone(),
            false => metadata.clone().sent_at(SystemTime::now()),
        };
        let sent = async {
            let item = stamped.attach(value)?;
            queue.put(vec![item], options.clone()).await
        };
        let put = sent.await.map_err(|error| told(error.into(), done))? == Put::Done;
        done += 1;
        output.object(&PutInto { queue: &name, put })?;
        if !put && !output.is_json() {
            output.say("it was put before under this id; nothing was done");
        }
    }
    if !output.is_json() {
        output.say(&format!("{} into {}", counted(done, "item"), printable(&name)));
    }
    Ok(())
}

#[derive(Serialize)]
struct Item<'a> {
    queue: &'a str,
    #[serde(flatten)]
    shown: Shown,
    #[serde(skip_serializing_if = "Option::is_none")]
    deliveries: Option<u32>,
}

pub(super) async fn get(bus: &Bus, get: Get, output: &Output) -> Result<(), Failure> {
    let Get { queue: name, count, wait, follow } = get;
    let queue = bus.byte_queue(&name);
    let mut taken = 0;
    while follow || taken < count {
        let wait = match (follow, wait) {
            (true, _) => Wait::Forever,
            (false, None) => Wait::No,
            (false, Some(wait)) => Wait::at_most(wait),
        };
        let Some(delivery) = queue.claim(wait).await? else {
            let exit = if matches!(wait, Wait::No) { Exit::Nothing } else { Exit::Timeout };
            let words = match taken {
                0 => format!("no item in {name:?}"),
                some => format!("no more than {}", counted(some, "item")),
            };
            return Err(Failure::new(exit, words));
        };
        let shown = Shown::of(delivery.payload());
        let line = shown.line();
        let item = Item { queue: &name, shown, deliveries: Some(delivery.deliveries()) };
        match output.both(&line, &item) {
            // Only what was shown is gone.
            Ok(()) => delivery.settle(Settlement::Ack).await?,
            Err(failure) => {
                delivery.settle(Settlement::Return).await?;
                return Err(failure);
            }
        }
        taken += 1;
    }
    Ok(())
}

/// What is known of a queue.
#[derive(Serialize)]
struct Facts {
    queue: String,
    waiting: usize,
    delayed: usize,
    leased: usize,
    dead: usize,
    /// Seconds; `null` where it is not known.
    oldest: Option<f64>,
    consumers: Option<usize>,
    holders: Vec<Held>,
}

#[derive(Serialize)]
struct Held {
    name: String,
    items: usize,
    /// Seconds until its lease runs out.
    left: Option<f64>,
}

impl Held {
    fn of(holder: Holder) -> Self {
        let left = holder.left.map(|left| left.as_secs_f64());
        Self { name: holder.name, items: holder.items, left }
    }
}

pub(super) async fn queues(bus: &Bus, named: Vec<String>, output: &Output) -> Result<(), Failure> {
    let known = bus.inspect().queues().await;
    let known = match known {
        Err(error) if error.kind() == ErrorKind::Unsupported && !named.is_empty() => None,
        known => Some(known?),
    };
    let complete = all_is_shown(bus);
    let shown = match named.is_empty() {
        true => known.clone().unwrap_or_default(),
        false => named.clone(),
    };
    let headings = ["QUEUE", "WAITING", "DELAYED", "LEASED", "DEAD", "OLDEST"];
    let mut table = Table::new(&headings);
    let mut held = Vec::new();
    for name in &shown {
        let unknown = known.as_ref().is_some_and(|known| !known.contains(name));
        if unknown && complete.is_ok() && !named.is_empty() {
            let words = format!("no queue {name:?}: it holds nothing, and nobody waits on it");
            return Err(Failure::nothing(words));
        }
        let facts = facts(bus, name).await?;
        let oldest = facts.oldest.map_or_else(|| "-".to_owned(), |age| span(length(age)));
        let counts = [facts.waiting, facts.delayed, facts.leased, facts.dead];
        let row = [name.clone()].into_iter().chain(counts.map(|count| count.to_string()));
        table.row(row.chain([oldest]));
        held.extend(facts.holders.iter().map(|holder| describe(name, holder)));
        output.object(&facts)?;
    }
    if shown.is_empty() {
        output.say("no queue holds anything");
        return complete;
    }
    for line in table.lines() {
        output.line(&line)?;
    }
    for line in held {
        output.line(&line)?;
    }
    // Each that was named is shown.
    if named.is_empty() { complete } else { Ok(()) }
}

fn length(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

fn describe(queue: &str, holder: &Held) -> String {
    let lease = match holder.left {
        None => String::new(),
        Some(0.0) => ", its lease has run out: nobody has heard of it".to_owned(),
        Some(left) => format!(", for {} unless renewed", span(length(left))),
    };
    let items = counted(holder.items, "item");
    printable(&format!("{queue}: {items} leased by {}{lease}", holder.name))
}

async fn facts(bus: &Bus, name: &str) -> Result<Facts, Failure> {
    // Counting gives back what the dead held, so that who held it is asked before.
    let holders = match bus.inspect().holders(name).await {
        Err(error) if error.kind() == ErrorKind::Unsupported => Vec::new(),
        holders => holders?,
    };
    let queue = bus.byte_queue(name);
    let QueueStats { waiting, delayed, leased, dead, oldest, consumers, .. } =
        queue.stats().await?;
    let oldest = match oldest {
        None if waiting > 0 => age_of_head(&queue).await?,
        known => known,
    };
    Ok(Facts {
        queue: name.to_owned(),
        waiting,
        delayed,
        leased,
        dead,
        oldest: oldest.map(|age| age.as_secs_f64()),
        consumers,
        holders: holders.into_iter().map(Held::of).collect(),
    })
}

/// How long ago the item at the head was sent, where it says so.
async fn age_of_head(queue: &ByteQueue) -> Result<Option<Duration>, Failure> {
    let head = queue.peek(Shelf::Waiting, 1).await?.into_iter().next();
    let sent = head.and_then(|item| Metadata::detach(item).0).and_then(|said| said.sent());
    Ok(sent.and_then(|sent| sent.elapsed().ok()))
}

pub(super) async fn peek(bus: &Bus, peek: Peek, output: &Output) -> Result<(), Failure> {
    let Peek { queue: name, count, of } = peek;
    let shelf = match of {
        arguments::Shelf::Waiting => Shelf::Waiting,
        arguments::Shelf::Delayed => Shelf::Delayed,
        arguments::Shelf::Dead => Shelf::Dead,
    };
    let items = bus.byte_queue(&name).peek(shelf, count).await?;
    if items.is_empty() && count > 0 {
        let shelf = format!("{shelf:?}").to_lowercase();
        return Err(Failure::nothing(format!("no {shelf} item in {name:?}")));
    }
    for item in &items {
        let shown = Shown::of(item);
        let line = shown.line();
        output.both(&line, &Item { queue: &name, shown, deliveries: None })?;
    }
    Ok(())
}

#[derive(Serialize)]
struct Purged<'a> {
    queue: &'a str,
    deleted: usize,
}

pub(super) async fn purge(bus: &Bus, purge: Purge, output: &Output) -> Result<(), Failure> {
    let Purge { queue: name, yes } = purge;
    let queue = bus.byte_queue(&name);
    let stats = queue.stats().await?;
    let items = counted(stats.waiting + stats.delayed, "item");
    confirm(output, yes, &format!("Delete {items} that wait in {name:?}?")).await?;
    let deleted = queue.purge(Shelf::Waiting).await?;
    output.both(&format!("deleted {}", counted(deleted, "item")), &Purged { queue: &name, deleted })
}
