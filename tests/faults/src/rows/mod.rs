//! The runs, and which rows of `docs/guarantees.md` each of them shows.
//!
//! The one invariant: a run stands by itself, on a server of its own, and gives a report.

use crate::report::Report;
use crate::scene::Setting;

mod calls;
mod cuts;
mod events;
mod half_open;
mod leaks;
mod letters;
mod restarts;
mod server_full;
mod steps;
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
    Run { name: "leaks", rows: &[], work: leaks::run },
    Run { name: "mixed storm", rows: &[1, 3, 7, 8, 13, 16], work: storms::mixed },
    Run { name: "restarts", rows: &[2], work: storms::restarts },
    Run { name: "takers", rows: &[1], work: storms::takers },
    Run { name: "half-open", rows: &[6], work: half_open::run },
    Run { name: "cuts", rows: &[8], work: cuts::run },
    Run { name: "steps", rows: &[1], work: steps::run },
    Run { name: "lost provider", rows: &[11], work: calls::run },
    Run { name: "idle connections", rows: &[3], work: restarts::idle },
    Run { name: "recovery", rows: &[2, 3, 7], work: restarts::run },
    Run { name: "slow subscriber", rows: &[10], work: events::run },
    Run { name: "full server", rows: &[12], work: server_full::run },
    Run { name: "bait", rows: &[], work: steps::bait },
    Run { name: "crash loop", rows: &[9], work: letters::crash_loop },
    Run { name: "slept too long", rows: &[13], work: letters::slept },
];
