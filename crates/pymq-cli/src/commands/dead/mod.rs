//! `dead`: what was given up, brought back or deleted.

mod which;

use std::time::UNIX_EPOCH;

use pymq::transport::{DeadLetter, Failure as Death};
use pymq::{Bus, ByteQueue};
use serde::Serialize;

use super::counted;
use crate::arguments::{Dead, DeadCommand, Which};
use crate::confirm::confirm;
use crate::failure::Failure;
use crate::output::{Output, printable};
use crate::table::span;
use crate::value::Shown;
use which::{Pages, error_of};

/// How many are listed where nothing is said.
const LISTED: usize = 20;

pub(super) async fn dead(bus: &Bus, dead: Dead, output: &Output) -> Result<(), Failure> {
    let Dead { queue, what, which } = dead;
    let letters = bus.byte_queue(&queue);
    match what {
        None => list(&letters, &which, output).await,
        Some(DeadCommand::Redrive { to, yes }) => {
            let to = to.map(|name| bus.byte_queue(&name));
            redrive(&letters, &which, to, yes, output).await
        }
        Some(DeadCommand::Purge { yes }) => purge(&letters, &which, yes, output).await,
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

async fn list(queue: &ByteQueue, which: &Which, output: &Output) -> Result<(), Failure> {
    let most = which.count.unwrap_or(LISTED);
    let mut pages = Pages::of(queue).await?;
    let all = pages.unseen();
    let mut listed = 0;
    let more = 'pages: loop {
        let page = pages.next().await?;
        if page.is_empty() {
            break false;
        }
        for letter in page.iter().filter(|letter| which.fits(letter)) {
            if listed == most {
                break 'pages true;
            }
            show(queue.name(), letter, output)?;
            listed += 1;
        }
    };
    let there = counted(all, "dead letter");
    let name = printable(queue.name());
    match listed {
        _ if more && which.is_all() && !output.is_json() => {
            output.say(&format!("{listed} of {there}; --count shows more"));
        }
        _ if more && !output.is_json() => {
            output.say(&format!("the oldest {listed} of these; --count shows more"));
        }
        0 if all == 0 => output.say(&format!("no dead letters in {name}")),
        0 if !more => output.say(&format!("none such among {there} in {name}")),
        _ => {}
    }
    Ok(())
}

fn show(queue: &str, letter: &DeadLetter, output: &Output) -> Result<(), Failure> {
    let DeadLetter { payload, failure, deliveries, died, .. } = letter;
    let Death { reason, error, words, origin, .. } = failure;
    let shown = Shown::of(payload);
    let said = error_of(failure);
    let mut line = match (error.is_empty(), said.is_empty()) {
        (_, true) => reason.name().to_owned(),
        (true, false) => format!("{reason}: {said}"),
        (false, false) => format!("{reason} {said}"),
    };
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
    if let Some(id) = shown.id() {
        line.push_str(&format!(", id {id}"));
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
    which: &Which,
    to: Option<ByteQueue>,
    yes: bool,
    output: &Output,
) -> Result<(), Failure> {
    let name = queue.name();
    let meant = meant(queue, which).await?;
    let into = to.as_ref().map_or(name, ByteQueue::name);
    let question = format!("Move {} into {into:?}?", counted(meant, "dead letter"));
    confirm(output, yes, &question).await?;
    let move_them = async |letters| queue.redrive(letters, to.as_ref()).await;
    let moved = which.taken(queue, meant, move_them).await?;
    let line = format!("moved {} into {}", counted(moved, "item"), printable(into));
    output.both(&line, &Moved { queue: name, redriven: Some(moved), deleted: None })
}

async fn purge(
    queue: &ByteQueue,
    which: &Which,
    yes: bool,
    output: &Output,
) -> Result<(), Failure> {
    let name = queue.name();
    let meant = meant(queue, which).await?;
    let question = format!("Delete {} of {name:?}?", counted(meant, "dead letter"));
    confirm(output, yes, &question).await?;
    let deleted = which.taken(queue, meant, async |letters| queue.discard(letters).await).await?;
    let line = format!("deleted {}", counted(deleted, "dead letter"));
    output.both(&line, &Moved { queue: name, redriven: None, deleted: Some(deleted) })
}

/// How many are meant.
///
/// # Errors
/// Nothing, where there is none.
async fn meant(queue: &ByteQueue, which: &Which) -> Result<usize, Failure> {
    let name = queue.name();
    match which.counted(queue).await? {
        (_, 0) => Err(Failure::nothing(format!("no dead letters in {name:?}"))),
        (0, all) => {
            let all = counted(all, "dead letter");
            Err(Failure::nothing(format!("none such among {all} in {name:?}")))
        }
        (meant, _) => Ok(meant),
    }
}
