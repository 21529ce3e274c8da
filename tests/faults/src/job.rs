//! Jobs: what is asked for when a number is put, and what its handler makes of it.
//!
//! The one invariant: the number says all of it, so that producers, handlers and the checker agree
//! without a word. `jobs.py` is the twin.

use std::time::Duration;

/// When a job whose handler failed comes again, give or take a fifth.
pub(crate) const RETRIES: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(200), Duration::from_millis(400)];
/// After how many deliveries a job is given up; more than it takes to fail for good, since those that
/// end with a kill count too.
pub(crate) const MAX_DELIVERIES: u32 = 6;

/// How a job is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    Plain,
    /// After a delay.
    Later,
    /// At a time.
    At,
    /// Under an id, so that it may be put again.
    Once,
    /// Under an id, after a delay.
    OnceLater,
    /// With a priority.
    Urgent,
}

impl Sort {
    pub(crate) fn of(number: u64) -> Self {
        match number % 10 {
            0 => Self::Later,
            1 => Self::At,
            2 | 3 => Self::Once,
            4 => Self::OnceLater,
            5 | 6 => Self::Urgent,
            _ => Self::Plain,
        }
    }

    pub(crate) fn has_id(self) -> bool {
        matches!(self, Self::Once | Self::OnceLater)
    }

    pub(crate) fn is_for_later(self) -> bool {
        matches!(self, Self::Later | Self::At | Self::OnceLater)
    }
}

/// What a handler makes of a job, as long as what it depends on is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    None,
    /// It fails the first two times.
    Twice,
    /// It fails each time.
    Always,
    /// It is rejected.
    Unwanted,
}

impl Trouble {
    pub(crate) fn of(number: u64) -> Self {
        // Any hundred numbers hold some of each, spread over all sorts.
        match number * 29 % 101 {
            1 => Self::Always,
            2 => Self::Unwanted,
            0..=16 => Self::Twice,
            _ => Self::None,
        }
    }

    pub(crate) fn fails(self, deliveries: u32) -> bool {
        self == Self::Always || self == Self::Twice && deliveries <= 2
    }

    /// Whether the job is never done, so that it is a dead letter in the end.
    pub(crate) fn is_hopeless(self) -> bool {
        matches!(self, Self::Always | Self::Unwanted)
    }
}

/// After how long a job for later may be taken.
pub(crate) fn delay(number: u64) -> Duration {
    Duration::from_millis(20 + number / 10 % 50 * 20)
}

pub(crate) fn priority(number: u64) -> u8 {
    u8::try_from(1 + number / 10 % 9).unwrap_or(1)
}

/// Whether the handler confirms a job itself; else it leaves that to the worker.
pub(crate) fn is_confirmed_by_its_handler(number: u64) -> bool {
    number.is_multiple_of(2)
}
