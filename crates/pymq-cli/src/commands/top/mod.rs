//! `top`: what goes on, on one screen.
//!
//! It looks once a second and draws; keys are answered at once. What is drawn is made by
//! [`view`](self::view), what is known by [`watch`](self::watch).

mod view;
mod watch;

use pymq::transport::{Letters, Shelf};
use pymq::{Bus, ErrorKind};
use tokio::time::{MissedTickBehavior, interval};

use self::view::{Asked, Row, View};
use self::watch::Watch;
use super::counted;
use crate::arguments::Top;
use crate::failure::Failure;
use crate::output::Output;
use crate::screen::{Key, Screen};
use crate::value::Shown;

/// How many items are shown of a queue.
const PEEKED: usize = 15;

pub(super) async fn top(bus: &Bus, top: Top, output: &Output) -> Result<(), Failure> {
    let Top { pattern, every, count } = top;
    let mut watch = Watch::begin(bus, pattern).await?;
    let mut ticks = interval(every.max(std::time::Duration::from_millis(50)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut left = count;
    if output.is_json() {
        while left != Some(0) {
            ticks.tick().await;
            watch.look(bus).await?;
            watch.seen().try_for_each(|thing| output.object(&thing))?;
            left = left.map(|left| left - 1);
        }
        return Ok(());
    }
    let mut screen = Screen::open()?;
    let mut view = View::default();
    while left != Some(0) {
        tokio::select! {
            biased;
            key = screen.key() => {
                if !press(bus, &watch, &mut view, key?).await? {
                    return Ok(());
                }
            }
            () = watch.listen(), if !view.paused => continue,
            _ = ticks.tick() => {
                if !view.paused {
                    look(bus, &mut watch, &mut view).await?;
                }
                left = left.map(|left| left - 1);
            }
        }
        let (columns, rows) = screen.size();
        screen.draw(&view.draw(&watch, columns, rows))?;
    }
    Ok(())
}

/// Looks; a server that is away is shown, since it may come back.
async fn look(bus: &Bus, watch: &mut Watch, view: &mut View) -> Result<(), Failure> {
    let looked = watch.look(bus).await;
    view.trouble = match looked {
        Ok(()) => None,
        Err(error) if matches!(error.kind(), ErrorKind::Closed) => return Err(error.into()),
        Err(error) => Some(error.to_string()),
    };
    Ok(())
}

/// Does what a key says; `false` ends it.
async fn press(bus: &Bus, watch: &Watch, view: &mut View, key: Key) -> Result<bool, Failure> {
    match view.press(watch, key) {
        Asked::Nothing => {}
        Asked::End => return Ok(false),
        Asked::Inspect(row) => view.shown = Some(inspect(bus, watch, &row).await),
        Asked::Redrive(queue) => {
            let moved = bus.byte_queue(&queue).redrive(Letters::Oldest(usize::MAX), None).await;
            view.said = Some(match moved {
                Ok(moved) => format!("moved {} into {queue}", counted(moved, "item")),
                Err(error) => error.to_string(),
            });
        }
    }
    Ok(true)
}

/// Lines about one thing.
async fn inspect(bus: &Bus, watch: &Watch, row: &Row) -> Vec<String> {
    match row {
        Row::Queue(name) => {
            let mut lines = vec![format!("queue {name}")];
            for holder in bus.inspect().holders(name).await.unwrap_or_default() {
                lines.push(format!("{} leased by {}", counted(holder.items, "item"), holder.name));
            }
            for (shelf, what) in [(Shelf::Waiting, "waiting"), (Shelf::Dead, "dead")] {
                match bus.byte_queue(name).peek(shelf, PEEKED).await {
                    Ok(items) => lines.extend(
                        items.iter().map(|item| format!("{what:<8} {}", Shown::of(item).line())),
                    ),
                    Err(error) => lines.push(error.to_string()),
                }
            }
            lines
        }
        Row::Topic(name) => vec![format!("topic {name}"), watch.last_event(name)],
        Row::Function(name) => {
            let mut lines = vec![format!("function {name}")];
            lines.extend(watch.providers(name));
            lines
        }
    }
}
