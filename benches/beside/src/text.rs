//! The table as text: each side of a work, and how it stands to the raw limits of the same run.

use std::fmt::Write as _;

use crate::limits::{FUTEX, SOCKET};
use crate::ours;
use crate::round::{Pace, Unit, Work};

/// All works.
pub(crate) fn table(works: &[Work], pace: Pace) -> String {
    let mut text = format!(
        "{} rounds of {} ms, {} processors; medians of the rounds, ratios of a round and their range\n",
        pace.rounds,
        pace.span.as_millis(),
        std::thread::available_parallelism().map_or(0, usize::from),
    );
    for work in works {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "\n{:<44} {:>9} {:>9}  {:>20}  {:>20}",
            work.name, "one", "processors", "to the limit", "to pymq"
        );
        let limit = if work.unit == Unit::Microseconds { FUTEX } else { SOCKET };
        for side in work.sides.keys() {
            let _ = writeln!(text, "{}", line(work, side, limit));
        }
    }
    text
}

fn line(work: &Work, side: &str, limit: &str) -> String {
    let figure = work.figure(side).map_or_else(String::new, |figure| match work.unit {
        Unit::PerSecond => format!("{:.0} k/s", figure / 1e3),
        _ => format!("{figure:.1} µs"),
    });
    let cost = work.cost(side).map_or_else(String::new, |cost| format!("{:.2} µs", cost.ours));
    let ratio = |to: &str| {
        let ratio = work.ratio(side, to).filter(|_| side != to);
        ratio.map_or_else(String::new, |ratio| {
            format!("{:.2} ({:.2}–{:.2})", ratio.median, ratio.low, ratio.high)
        })
    };
    let (limit, ours) = (ratio(limit), ratio(ours::LIBRARY.name));
    format!("    {side:<40} {figure:>9} {cost:>10}  {limit:>20}  {ours:>20}")
}
