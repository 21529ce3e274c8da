//! The runs, and which rows of `docs/guarantees.md` each of them shows.
//!
//! The one invariant: a run stands by itself, on a server of its own, and gives a report.

use crate::report::Report;
use crate::scene::Setting;

mod storms;

/// A run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) name: &'static str,
    pub(crate) rows: &'static [u32],
    pub(crate) work: fn(&Setting) -> Report,
}

/// All of them; the long ones first, since several go on at once.
pub(crate) const ALL: &[Run] = &[
    Run { name: "mixed storm", rows: &[1, 3, 7, 8, 13, 16], work: storms::mixed },
    Run { name: "restarts", rows: &[2], work: storms::restarts },
];
