//! The table: each figure with its mark, whether it was reached, and what stands beside it.
//!
//! It is computed from works that were measured, so that text and JSON say the same. Marks are what
//! the project set itself; nothing here fails where one is missed.

use std::fmt::Write as _;

use serde::Serialize;

use crate::round::{Ratio, Unit, Work};

/// A figure of the table: what the reader sees, the work, which of its sides is ours, which side it
/// is held against, and what is to be reached.
pub(crate) struct Row(
    pub(crate) &'static str,
    pub(crate) &'static str,
    pub(crate) &'static str,
    pub(crate) &'static str,
    pub(crate) Mark,
);

/// What a ratio is to reach.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mark {
    /// This, or less.
    AtMost(f64),
    /// This, or more.
    AtLeast(f64),
    /// Nothing: the figure is there to be known.
    Unset,
}

impl Mark {
    fn is_reached_by(self, ratio: f64) -> Option<bool> {
        match self {
            Self::AtMost(mark) => Some(ratio <= mark),
            Self::AtLeast(mark) => Some(ratio >= mark),
            Self::Unset => None,
        }
    }
}

/// A row with the figures of a run.
#[derive(Serialize)]
pub(crate) struct Line {
    figure: &'static str,
    unit: Unit,
    ours: f64,
    beside: &'static str,
    limit: f64,
    ratio: Ratio,
    mark: Mark,
    reached: Option<bool>,
}

impl Line {
    /// What it is of.
    pub(crate) fn figure(&self) -> &'static str {
        self.figure
    }

    /// How many times as good as its mark it is; `None` without a mark.
    pub(crate) fn reached_by(&self) -> Option<f64> {
        match self.mark {
            Mark::AtMost(mark) => Some(mark / self.ratio.median),
            Mark::AtLeast(mark) => Some(self.ratio.median / mark),
            Mark::Unset => None,
        }
    }

    /// The ratio, and what it is to be.
    pub(crate) fn said(&self) -> String {
        format!("{} ({})", short(self.ratio.median), said(self.mark))
    }
}

impl Row {
    /// The row's line, where both sides took part in a work that was measured.
    pub(crate) fn line(&self, works: &[Work]) -> Option<Line> {
        let Self(figure, work, side, beside, mark) = *self;
        let work = works.iter().find(|measured| measured.name == work)?;
        let ratio = work.ratio(side, beside)?;
        Some(Line {
            figure,
            unit: work.unit,
            ours: work.figure(side)?,
            beside,
            limit: work.figure(beside)?,
            ratio,
            mark,
            reached: mark.is_reached_by(ratio.median),
        })
    }
}

/// The table as text.
pub(crate) fn text(lines: &[Line], works: &[Work]) -> String {
    let mut text = format!(
        "{:<46} {:>10} {:>21}  {:>7} {:<15} {:>8}\n",
        "figure", "pymq", "beside", "ratio", "(rounds)", "mark"
    );
    for line in lines {
        let Line { figure, unit, ours, beside, limit, ratio, mark, reached } = line;
        let beside = format!("{} {beside}", number(*limit, *unit));
        let range = format!("({}–{})", short(ratio.low), short(ratio.high));
        let (mark, verdict) = (said(*mark), verdict(*reached));
        let (ours, ratio) = (number(*ours, *unit), short(ratio.median));
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{figure:<46} {ours:>10} {beside:>21}  {ratio:>7} {range:<15} {mark:>8}  {verdict}"
        );
    }
    text.push_str(
        "\nwhat was measured: medians of the rounds; the processors' time for one operation, on this \
         side (both ends of a call) and in the server\n",
    );
    for work in works {
        let _ = writeln!(text, "{}", work.name);
        for side in work.sides.keys() {
            let Some(figure) = work.figure(side) else { continue };
            let figure = number(figure, work.unit);
            let cost = work.cost(side).map_or_else(String::new, |cost| {
                let number = |part| number(part, Unit::Microseconds);
                format!("{:>12} {:>12}", number(cost.ours), number(cost.server))
            });
            let _ = writeln!(text, "    {side:<24} {figure:>12} {cost}");
        }
    }
    text
}

fn said(mark: Mark) -> String {
    match mark {
        Mark::AtMost(mark) => format!("≤ {}", short(mark)),
        Mark::AtLeast(mark) => format!("≥ {}", short(mark)),
        Mark::Unset => String::new(),
    }
}

fn verdict(reached: Option<bool>) -> &'static str {
    match reached {
        Some(true) => "reached",
        Some(false) => "MISSED",
        None => "",
    }
}

/// A figure with its unit, as exact as it is worth.
fn number(figure: f64, unit: Unit) -> String {
    match unit {
        Unit::Microseconds if figure < 10.0 => format!("{figure:.2} µs"),
        Unit::Microseconds => format!("{figure:.0} µs"),
        Unit::PerSecond if figure >= 10_000.0 => format!("{:.0} k/s", figure / 1e3),
        Unit::PerSecond => format!("{figure:.0} /s"),
        Unit::Bytes => format!("{figure:.0} B"),
    }
}

/// A ratio in about three digits.
fn short(ratio: f64) -> String {
    match ratio {
        large if large >= 10.0 => format!("{large:.0}"),
        middle if middle >= 0.1 => format!("{middle:.2}"),
        small => format!("{small:.3}"),
    }
}
