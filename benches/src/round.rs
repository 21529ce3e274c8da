//! Rounds: alternatives of one work, measured in turn, so that a slow moment of the machine hits
//! all alike.
//!
//! The invariant: what is quoted is a median over rounds, and a ratio is formed within a round,
//! never between figures of different moments. What is measured is the groups' own business.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::Outcome;

/// How many rounds, and how long each alternative is measured in one.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) rounds: usize,
    pub(crate) span: Duration,
}

impl Pace {
    /// For a figure to quote.
    pub(crate) const FULL: Self = Self { rounds: 7, span: Duration::from_millis(300) };
    /// For a first look.
    pub(crate) const QUICK: Self = Self { rounds: 3, span: Duration::from_millis(100) };
}

/// What a measured number counts.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Unit {
    /// Microseconds for one; less is better.
    #[serde(rename = "µs")]
    Microseconds,
    /// So many in a second; more is better.
    #[serde(rename = "/s")]
    PerSecond,
    /// Bytes for one; less is better.
    #[serde(rename = "bytes")]
    Bytes,
}

/// One alternative: measures for about as long as it is told, and says a number in the work's unit.
pub(crate) struct Side<'a> {
    name: &'static str,
    measure: Box<dyn FnMut(Duration) -> Outcome<f64> + 'a>,
}

impl<'a> Side<'a> {
    pub(crate) fn new(
        name: &'static str,
        measure: impl FnMut(Duration) -> Outcome<f64> + 'a,
    ) -> Self {
        Self { name, measure: Box::new(measure) }
    }
}

/// A work and what its alternatives took for it, round by round.
#[derive(Serialize)]
pub(crate) struct Work {
    pub(crate) name: &'static str,
    pub(crate) unit: Unit,
    /// By alternative; the n-th numbers of all belong together.
    pub(crate) sides: BTreeMap<&'static str, Vec<f64>>,
}

impl Work {
    /// Measures all alternatives, in turn, after a round that does not count.
    pub(crate) fn measure(
        name: &'static str,
        unit: Unit,
        pace: Pace,
        mut sides: Vec<Side<'_>>,
    ) -> Outcome<Self> {
        for side in &mut sides {
            (side.measure)(pace.span / 3)?;
        }
        let mut work = Self { name, unit, sides: BTreeMap::new() };
        for _ in 0..pace.rounds {
            // Each begins a round in its turn, since some leave the caches or the server warmer.
            let one = sides.len().min(1);
            sides.rotate_left(one);
            for side in &mut sides {
                let figure = (side.measure)(pace.span)?;
                work.sides.entry(side.name).or_default().push(figure);
            }
        }
        Ok(work)
    }

    /// The median of an alternative, where it took part.
    pub(crate) fn figure(&self, side: &str) -> Option<f64> {
        Some(median(self.sides.get(side)?.clone()))
    }

    /// How one alternative stands to another, where both took part.
    pub(crate) fn ratio(&self, side: &str, to: &str) -> Option<Ratio> {
        let (ours, limit) = (self.sides.get(side)?, self.sides.get(to)?);
        let ratios: Vec<f64> = ours.iter().zip(limit).map(|(ours, limit)| ours / limit).collect();
        Some(Ratio {
            low: ratios.iter().copied().fold(f64::INFINITY, f64::min),
            high: ratios.iter().copied().fold(0.0, f64::max),
            median: median(ratios),
        })
    }
}

/// A ratio: the median of the rounds' ratios, and the least and the greatest of them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Ratio {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// The number in the middle; of none there is none.
pub(crate) fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    match numbers.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => numbers[odd / 2],
        even => f64::midpoint(numbers[even / 2 - 1], numbers[even / 2]),
    }
}

/// Repeats `once` for a span; the median time of one, in microseconds.
pub(crate) fn middle_time(span: Duration, mut once: impl FnMut() -> Outcome<()>) -> Outcome<f64> {
    let mut times = Vec::new();
    let begin = Instant::now();
    let mut last = begin;
    while last - begin < span {
        once()?;
        let now = Instant::now();
        times.push((now - last).as_secs_f64() * 1e6);
        last = now;
    }
    Ok(median(times))
}

/// Repeats `batch`, which says how much it did, for a span; how much that is in a second.
pub(crate) fn rate(span: Duration, mut batch: impl FnMut() -> Outcome<usize>) -> Outcome<f64> {
    let begin = Instant::now();
    let mut done = 0;
    while begin.elapsed() < span {
        done += batch()?;
    }
    Ok(done as f64 / begin.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_formed_within_each_round() {
        let sides = [("ours", vec![2.0, 40.0, 3.0]), ("raw", vec![1.0, 10.0, 2.0])];
        let work = Work { name: "work", unit: Unit::Microseconds, sides: sides.into() };
        let expected = Ratio { median: 2.0, low: 1.5, high: 4.0 };
        assert_eq!(work.ratio("ours", "raw"), Some(expected));
        assert_eq!(work.ratio("ours", "original"), None);
    }

    #[test]
    fn every_round_measures_every_side_and_the_first_one_does_not_count() {
        let mut calls = 0;
        let counting = Side::new("counting", |_| {
            calls += 1;
            Ok(f64::from(calls))
        });
        let pace = Pace { rounds: 3, span: Duration::ZERO };
        let sides = vec![counting, Side::new("constant", |_| Ok(1.0))];
        let work = Work::measure("work", Unit::Bytes, pace, sides).expect("neither side fails");
        assert_eq!(work.sides["counting"], [2.0, 3.0, 4.0]);
        assert_eq!(work.sides["constant"].len(), 3);
    }

    #[test]
    fn the_median_of_an_even_count_lies_between_the_middle_two() {
        assert_eq!(median(vec![9.0, 1.0, 3.0, 5.0]), 4.0);
    }
}
