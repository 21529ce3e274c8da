//! `dead`: what was given up, brought back or deleted.

use std::time::UNIX_EPOCH;

use pymq::transport::{DeadLetter, Failure as Death, Letters, Shelf};
use pymq::{Bus, ByteQueue};
use serde::Serialize;

use super::counted;
use crate::arguments::{Dead, DeadCommand};
use crate::confirm::confirm;
use crate::failure::Failure;
use crate::output::{Output, printable};
use crate::table::span;
use crate::value::Shown;

pub(super) async fn dead(bus: &Bus, dead: Dead, output: &Output) -> Result<(), Failure> {
    let Dead { queue, what, count } = dead;
    let letters = bus.byte_queue(&queue);
    match what {
        None => list(&letters, count, output).await,
        Some(DeadCommand::Redrive { count, to, yes }) => {
            let to = to.map(|name| bus.byte_queue(&name));
            redrive(&letters, count.unwrap_or(usize::MAX), to, yes, output).await
        }
        Some(DeadCommand::Purge { yes }) => purge(&letters, yes, output).await,
    }
}

#[derive(Serialize)]
struct Letter<'a> {
    queue: &'a str,
    reason: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    error: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    words: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    origin: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    deliveries: Option<u32>,
    /// Seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    died: Option<f64>,
    #[serde(flatten)]
    shown: Shown,
}

async fn list(queue: &ByteQueue, count: usize, output: &Output) -> Result<(), Failure> {
    let letters = queue.letters(0, count).await?;
    for letter in &letters {
        show(queue.name(), letter, output)?;
    }
    let all = queue.stats().await?.dead;
    if all == 0 {
        output.say(&format!("no dead letters in {}", printable(queue.name())));
    } else if all > letters.len() && !output.is_json() {
        output.say(&format!(
            "{} of {}; --count shows more",
            letters.len(),
            counted(all, "dead letter")
        ));
    }
    Ok(())
}

fn show(queue: &str, letter: &DeadLetter, output: &Output) -> Result<(), Failure> {
    let DeadLetter { payload, failure, deliveries, died, .. } = letter;
    let Death { reason, error, words, origin, .. } = failure;
    let shown = Shown::of(payload);
    let mut line = reason.name().to_owned();
    match (error.is_empty(), words.is_empty()) {
        (false, _) => line.push_str(&format!(" {error}: {words}")),
        (true, false) => line.push_str(&format!(": {words}")),
        (true, true) => {}
    }
    if let Some(deliveries) = deliveries {
        line.push_str(&format!(
            ", {}",
            if *deliveries == 1 {
                "1 delivery".to_owned()
            } else {
                format!("{deliveries} deliveries")
            }
        ));
    }
    if let Some(ago) = died.and_then(|died| died.elapsed().ok()) {
        line.push_str(&format!(", {} ago", span(ago)));
    }
    let line = format!("{}  {}", printable(&line), shown.line());
    let died = died.and_then(|died| died.duration_since(UNIX_EPOCH).ok());
    let letter = Letter {
        queue,
        reason: reason.name(),
        error,
        words,
        origin,
        deliveries: *deliveries,
        died: died.map(|since| since.as_secs_f64()),
        shown,
    };
    output.both(&line, &letter)
}

#[derive(Serialize)]
struct Moved<'a> {
    queue: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    redriven: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted: Option<usize>,
}

async fn redrive(
    queue: &ByteQueue,
    count: usize,
    to: Option<ByteQueue>,
    yes: bool,
    output: &Output,
) -> Result<(), Failure> {
    let name = queue.name();
    let there = queue.stats().await?.dead.min(count);
    if there == 0 {
        return Err(Failure::nothing(format!("no dead letters in {name:?}")));
    }
    let into = to.as_ref().map_or(name, ByteQueue::name);
    let question = format!("Move {} into {into:?}?", counted(there, "dead letter"));
    confirm(output, yes, &question).await?;
    let moved = queue.redrive(Letters::Oldest(count), to.as_ref()).await?;
    let line = format!("moved {} into {}", counted(moved, "item"), printable(into));
    output.both(&line, &Moved { queue: name, redriven: Some(moved), deleted: None })
}

async fn purge(queue: &ByteQueue, yes: bool, output: &Output) -> Result<(), Failure> {
    let name = queue.name();
    let there = queue.stats().await?.dead;
    if there == 0 {
        return Err(Failure::nothing(format!("no dead letters in {name:?}")));
    }
    let question = format!("Delete {} of {name:?}?", counted(there, "dead letter"));
    confirm(output, yes, &question).await?;
    let deleted = queue.purge(Shelf::Dead).await?;
    let line = format!("deleted {}", counted(deleted, "dead letter"));
    output.both(&line, &Moved { queue: name, redriven: None, deleted: Some(deleted) })
}
