//! Rounds: alternatives of one work, measured in turn, so that a slow moment of the machine hits
//! all alike.
//!
//! The invariant: what is quoted is a median over rounds, and a ratio is formed within a round,
//! never between figures of different moments. What is measured is the groups' own business.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::Outcome;
use crate::cpu::{Cost, Meter};

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

/// What was measured: a number in the work's unit, and of how many operations it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Figure {
    pub(crate) number: f64,
    /// None where there are no operations to count, or too few to say what one costs.
    pub(crate) operations: usize,
}

impl From<f64> for Figure {
    fn from(number: f64) -> Self {
        Self { number, operations: 0 }
    }
}

/// One alternative: measures for about as long as it is told.
pub(crate) struct Side<'a> {
    name: &'static str,
    measure: Box<dyn FnMut(Duration) -> Outcome<Figure> + 'a>,
}

impl<'a> Side<'a> {
    pub(crate) fn new<F: Into<Figure>>(
        name: &'static str,
        mut measure: impl FnMut(Duration) -> Outcome<F> + 'a,
    ) -> Self {
        Self { name, measure: Box::new(move |span| measure(span).map(Into::into)) }
    }
}

/// A work and what its alternatives took for it, round by round.
#[derive(Serialize)]
pub(crate) struct Work {
    pub(crate) name: &'static str,
    pub(crate) unit: Unit,
    /// By alternative; the n-th numbers of all belong together.
    pub(crate) sides: BTreeMap<&'static str, Vec<f64>>,
    /// What one operation of an alternative took of the processors, round by round.
    pub(crate) cost: BTreeMap<&'static str, Vec<Cost>>,
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
        let mut work = Self { name, unit, sides: BTreeMap::new(), cost: BTreeMap::new() };
        for _ in 0..pace.rounds {
            // Each begins a round in its turn, since some leave the caches or the server warmer.
            let one = sides.len().min(1);
            sides.rotate_left(one);
            for side in &mut sides {
                let meter = Meter::start();
                let figure = (side.measure)(pace.span)?;
                let cost = meter.cost_of(figure.operations);
                work.sides.entry(side.name).or_default().push(figure.number);
                work.cost.entry(side.name).or_default().extend(cost);
            }
        }
        Ok(work)
    }

    /// The median of an alternative, where it took part.
    pub(crate) fn figure(&self, side: &str) -> Option<f64> {
        Some(median(self.sides.get(side)?.clone()))
    }

    /// The medians of what one operation of an alternative costs, where that is known.
    pub(crate) fn cost(&self, side: &str) -> Option<Cost> {
        let costs = self.cost.get(side).filter(|costs| !costs.is_empty())?;
        let middle = |part: fn(&Cost) -> f64| median(costs.iter().map(part).collect());
        Some(Cost { ours: middle(|cost| cost.ours), server: middle(|cost| cost.server) })
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
pub(crate) fn middle_time(
    span: Duration,
    mut once: impl FnMut() -> Outcome<()>,
) -> Outcome<Figure> {
    let times = times(span, &mut once)?;
    let operations = times.len();
    Ok(Figure { number: median(times), operations })
}

fn times(span: Duration, once: &mut dyn FnMut() -> Outcome<()>) -> Outcome<Vec<f64>> {
    let mut times = Vec::new();
    let begin = Instant::now();
    let mut last = begin;
    while last - begin < span {
        once()?;
        let now = Instant::now();
        times.push((now - last).as_secs_f64() * 1e6);
        last = now;
    }
    Ok(times)
}

/// Repeats `once` for a span; the time that one in a hundred takes longer than, in microseconds.
pub(crate) fn late_time(span: Duration, once: &mut dyn FnMut() -> Outcome<()>) -> Outcome<Figure> {
    let mut times = times(span, once)?;
    times.sort_by(f64::total_cmp);
    let late = times.get(times.len() * 99 / 100).copied().unwrap_or(f64::NAN);
    Ok(Figure { number: late, operations: times.len() })
}

/// Repeats `batch`, which says how much it did, for a span; how much that is in a second.
pub(crate) fn rate(span: Duration, mut batch: impl FnMut() -> Outcome<usize>) -> Outcome<Figure> {
    let begin = Instant::now();
    let mut done = 0;
    while begin.elapsed() < span {
        done += batch()?;
    }
    Ok(per_second(done, begin))
}

/// So many operations since a moment.
pub(crate) fn per_second(operations: usize, begin: Instant) -> Figure {
    Figure { number: operations as f64 / begin.elapsed().as_secs_f64(), operations }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_formed_within_each_round() {
        let sides = [("ours", vec![2.0, 40.0, 3.0]), ("raw", vec![1.0, 10.0, 2.0])];
        let (unit, sides, cost) = (Unit::Microseconds, sides.into(), BTreeMap::new());
        let work = Work { name: "work", unit, sides, cost };
        let expected = Ratio { median: 2.0, low: 1.5, high: 4.0 };
        assert_eq!(work.ratio("ours", "raw"), Some(expected));
        assert_eq!(work.ratio("ours", "original"), None);
    }

    #[test]
    fn every_round_measures_every_side_and_the_first_one_does_not_count() {
        let mut calls = 0;
        let counting = Side::new("counting", |_| {
            calls += 1;
            Outcome::Ok(f64::from(calls))
        });
        let pace = Pace { rounds: 3, span: Duration::ZERO };
        let sides = vec![counting, Side::new("constant", |_| Outcome::Ok(1.0))];
        let work = Work::measure("work", Unit::Bytes, pace, sides).expect("neither side fails");
        assert_eq!(work.sides["counting"], [2.0, 3.0, 4.0]);
        assert_eq!(work.sides["constant"].len(), 3);
    }

    #[test]
    fn the_median_of_an_even_count_lies_between_the_middle_two() {
        assert_eq!(median(vec![9.0, 1.0, 3.0, 5.0]), 4.0);
    }
}
