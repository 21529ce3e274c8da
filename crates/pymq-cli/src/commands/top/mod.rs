//! `top`: what goes on, on one screen.
//!
//! It looks once a second and draws; keys are answered at once. What is drawn is made by
//! [`view`](self::view), what is known by [`watch`](self::watch), and what of that is wrong is said by
//! [`trouble`](self::trouble).

mod trouble;
mod view;
mod watch;

use std::pin::{Pin, pin};

use pymq::transport::{Letters, Shelf};
use pymq::{Bus, ErrorKind};
use tokio::time::{Interval, MissedTickBehavior, interval};

use self::trouble::troubles;
use self::view::{Asked, Row, View};
use self::watch::{Look, Seen, Watch};
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
    let watch = Watch::begin(bus, pattern).await?;
    let mut ticks = interval(every.max(std::time::Duration::from_millis(50)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    match output.is_json() {
        true => tell(bus, watch, ticks, count, output).await,
        false => draw(bus, watch, ticks, count).await,
    }
}

/// For programs: what is seen at each look.
async fn tell(
    bus: &Bus,
    mut watch: Watch,
    mut ticks: Interval,
    mut left: Option<u64>,
    output: &Output,
) -> Result<(), Failure> {
    while left != Some(0) {
        listen_until(&mut watch, ticks.tick()).await;
        let look = watch.look(bus);
        let look = listen_until(&mut watch, look).await?;
        watch.take(look);
        watch.seen().try_for_each(|thing| output.object(&thing))?;
        for it in troubles(&watch) {
            output.object(&Seen::Trouble { subject: &it.subject, words: &it.words })?;
        }
        left = left.map(|left| left - 1);
    }
    Ok(())
}

/// Listens until something else has come, so that what passes is timed when it does.
async fn listen_until<F: Future>(watch: &mut Watch, other: F) -> F::Output {
    let mut other = pin!(other);
    loop {
        tokio::select! {
            // What passes without end must not keep anybody from the other.
            biased;
            output = &mut other => return output,
            () = watch.listen() => {}
        }
    }
}

/// For people: a screen, until a key ends it.
async fn draw(
    bus: &Bus,
    mut watch: Watch,
    mut ticks: Interval,
    mut left: Option<u64>,
) -> Result<(), Failure> {
    let mut screen = Screen::open()?;
    let mut view = View::default();
    let mut looking: Option<Pin<Box<dyn Future<Output = pymq::Result<Look>> + Send>>> = None;
    while left != Some(0) {
        tokio::select! {
            biased;
            key = screen.key() => {
                if !press(bus, &watch, &mut view, key?).await? {
                    return Ok(());
                }
            }
            look = looked(&mut looking) => {
                looking = None;
                take(look, &mut watch, &mut view)?;
                left = left.map(|left| left - 1);
            }
            _ = ticks.tick() => match view.paused {
                true => left = left.map(|left| left - 1),
                false => drop(looking.get_or_insert_with(|| Box::pin(watch.look(bus)))),
            },
            // Last, since it may pass without end.
            () = watch.listen(), if !view.paused => continue,
        }
        watch.state = bus.state();
        let (columns, rows) = screen.size();
        screen.draw(&view.draw(&watch, columns, rows))?;
    }
    Ok(())
}

/// The look that is under way; never where there is none.
async fn looked<F: Future + Unpin>(looking: &mut Option<F>) -> F::Output {
    match looking {
        Some(looking) => looking.await,
        None => std::future::pending().await,
    }
}

/// Takes a look in; a server that is away is shown, since it may come back.
fn take(look: pymq::Result<Look>, watch: &mut Watch, view: &mut View) -> Result<(), Failure> {
    view.trouble = match look {
        Ok(look) => {
            watch.take(look);
            None
        }
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

fn waiting(items: usize) -> String {
    let verb = if items == 1 { "waits" } else { "wait" };
    format!("{} {verb}", counted(items, "item"))
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
