//! The runs, and which rows of `docs/guarantees.md` each of them shows.
//!
//! The one invariant: a run stands by itself, on a server of its own, and gives a report.

use crate::report::Report;
use crate::scene::Setting;

mod answers;
mod calls;
mod clusters;
mod crashes;
mod cuts;
mod ends;
mod events;
mod everybody;
mod failovers;
mod forgotten;
mod half_done;
mod half_open;
mod interrupts;
mod leaks;
mod letters;
#[cfg(target_os = "linux")]
mod local;
mod nobody;
mod offsets;
mod once;
mod owners;
mod refusals;
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

/// Those that are too long for a brief run of all; they are done where they are asked for.
pub(crate) const LONG: &[&str] = &["moving slots"];

/// All of them; the long ones first, since several go on at once.
pub(crate) const ALL: &[Run] = &[
    Run { name: "leaks", rows: &[], work: leaks::run },
    #[cfg(target_os = "linux")]
    Run { name: "without a server", rows: &[33], work: local::storm },
    Run { name: "mixed storm", rows: &[1, 3, 7, 8, 13, 16], work: storms::mixed },
    Run { name: "jobs", rows: &[1, 8, 9, 30, 32], work: storms::jobs },
    Run { name: "restarts", rows: &[2], work: storms::restarts },
    Run { name: "failovers", rows: &[15], work: failovers::run },
    Run { name: "moving slots", rows: &[15], work: clusters::run },
    Run { name: "executed once", rows: &[25], work: once::run },
    Run { name: "half-done scripts", rows: &[23], work: half_done::run },
    Run { name: "takers", rows: &[1], work: storms::takers },
    Run { name: "event storm", rows: &[3, 8], work: events::storm },
    Run { name: "call storm", rows: &[8, 11], work: calls::storm },
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
    Run { name: "refusals", rows: &[17], work: refusals::run },
    Run { name: "switched", rows: &[18], work: refusals::switched },
    Run { name: "regular ends", rows: &[22], work: ends::run },
    Run { name: "forgotten registrations", rows: &[24], work: forgotten::run },
    Run { name: "nobody of ours", rows: &[26], work: nobody::run },
    Run { name: "interrupts", rows: &[31], work: interrupts::run },
    Run { name: "crashes", rows: &[28], work: crashes::run },
    Run { name: "owners", rows: &[19], work: owners::run },
    Run { name: "answers", rows: &[20, 21], work: answers::run },
    #[cfg(target_os = "linux")]
    Run { name: "stopped in a step", rows: &[34], work: local::stopped },
    #[cfg(target_os = "linux")]
    Run { name: "full memory", rows: &[35], work: local::full },
    #[cfg(target_os = "linux")]
    Run { name: "lost provider without a server", rows: &[11], work: local::lost_provider },
];

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> std::path::PathBuf {
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
    }

    fn page() -> String {
        let page = std::fs::read_to_string(root().join("docs/guarantees.md"));
        page.expect("the page of guarantees is there")
    }

    #[test]
    fn the_page_of_guarantees_names_every_run_and_no_other() {
        let page = page();
        let named = page.split('`').filter_map(|word| word.strip_prefix("faults: "));
        for name in named {
            assert!(ALL.iter().any(|run| run.name == name), "no run {name:?}");
        }
        for run in ALL {
            assert!(page.contains(&format!("`faults: {}`", run.name)), "{:?} is missing", run.name);
        }
    }

    #[test]
    fn a_run_stands_in_the_rows_that_it_shows() {
        let page = page();
        for run in ALL {
            for row in run.rows {
                let start = format!("| {row} | ");
                let line = page.lines().find(|line| line.starts_with(&start));
                let line = line.unwrap_or_else(|| panic!("there is no row {row}"));
                assert!(line.contains(&format!("`faults: {}`", run.name)), "{}: {line}", run.name);
            }
        }
    }

    #[test]
    fn tests_that_the_page_names_are_there() {
        let page = page();
        let named = page.split('`').filter_map(|word| word.split_once("::"));
        for (path, test) in named {
            let text = std::fs::read_to_string(root().join(path));
            let text = text.unwrap_or_else(|error| panic!("{path}: {error}"));
            let there = ["fn", "def"].iter().any(|word| text.contains(&format!("{word} {test}(")));
            assert!(there, "{path} has no test {test}");
        }
    }
}
