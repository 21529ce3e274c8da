//! What a run found: counts of what really happened, times of recovery, and what was wrong.
//!
//! The one invariant: a run that proves too little fails as one that finds something wrong does, and
//! only the first kind is ever tried again.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use crate::crew::Kind;

/// The findings of one run, or of several together.
#[derive(Debug, Default)]
pub(crate) struct Report {
    counts: BTreeMap<String, u64>,
    recoveries: BTreeMap<(String, Kind), Vec<Duration>>,
    wrong: Vec<String>,
    /// What happened too seldom.
    short: Vec<String>,
    notes: Vec<String>,
}

impl Report {
    /// Counts something that happened.
    pub(crate) fn count(&mut self, what: &str, times: usize) {
        *self.counts.entry(what.to_owned()).or_default() += times as u64;
    }

    /// How often something happened.
    pub(crate) fn counted(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or(0)
    }

    /// How long it took until all was well after a fault.
    pub(crate) fn recovered(&mut self, fault: &str, kind: Kind, after: Duration) {
        self.recoveries.entry((fault.to_owned(), kind)).or_default().push(after);
    }

    /// All that was counted.
    pub(crate) fn counts(&self) -> &BTreeMap<String, u64> {
        &self.counts
    }

    /// Notes what must hold and does not.
    pub(crate) fn must(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.wrong.push(what());
        }
    }

    /// The same for an outcome.
    pub(crate) fn take<T>(&mut self, outcome: Result<T, String>) -> Option<T> {
        outcome.map_err(|error| self.wrong.push(error)).ok()
    }

    /// A run in which something happened less often proves nothing.
    pub(crate) fn enough(&mut self, what: &str, least: u64) {
        let counted = self.counted(what);
        if counted < least {
            self.short.push(format!("only {counted} {what}: too few, {least} needed"));
        }
    }

    /// Says something that is neither a count nor wrong.
    pub(crate) fn say(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Whether nothing is wrong, and enough happened to say so.
    pub(crate) fn is_well(&self) -> bool {
        self.wrong.is_empty() && self.short.is_empty()
    }

    /// Whether all that it has against it is that too little happened.
    pub(crate) fn is_short(&self) -> bool {
        self.wrong.is_empty() && !self.short.is_empty()
    }

    /// In words, a line for each kind of thing.
    pub(crate) fn words(&self) -> String {
        let mut words = String::new();
        let counts: Vec<_> =
            self.counts.iter().map(|(what, count)| format!("{count} {what}")).collect();
        let mut line = |text: &str| writeln!(words, "  {text}").expect("a string takes text");
        line(&counts.join(", "));
        self.notes.iter().for_each(|note| line(note));
        // The first ones tell; thousands of the same kind do not tell more.
        for wrong in self.wrong.iter().chain(&self.short).take(20) {
            line(&format!("WRONG: {wrong}"));
        }
        if self.wrong.len() > 20 {
            line(&format!("WRONG: and {} more", self.wrong.len() - 20));
        }
        words
    }

    /// Adds all that another found.
    pub(crate) fn absorb(&mut self, mut other: Self) {
        for (what, count) in std::mem::take(&mut other.counts) {
            *self.counts.entry(what).or_default() += count;
        }
        self.wrong.append(&mut other.wrong);
        self.short.append(&mut other.short);
        self.notes.append(&mut other.notes);
        self.add_recoveries(other);
    }

    /// Adds another's times of recovery.
    pub(crate) fn add_recoveries(&mut self, other: Self) {
        for (fault, mut times) in other.recoveries {
            self.recoveries.entry(fault).or_default().append(&mut times);
        }
    }

    /// The table of times of recovery.
    pub(crate) fn table(&self) -> String {
        let mut table = String::from(
            "| recovery after | who | n | median | longest |\n|---|---|--:|--:|--:|\n",
        );
        for (fault, who, n, median, longest) in self.times() {
            writeln!(table, "| {fault} | {who} | {n} | {median:.2} s | {longest:.2} s |")
                .expect("a string takes text");
        }
        table
    }

    /// The same for programs, in seconds.
    pub(crate) fn recoveries(&self) -> Vec<serde_json::Value> {
        let row = |(after, who, n, median, longest)| {
            serde_json::json!({
                "after": after, "who": who, "n": n, "median": median, "longest": longest,
            })
        };
        self.times().map(row).collect()
    }

    /// Fault, who recovered, how often, the median and the longest time in seconds.
    fn times(&self) -> impl Iterator<Item = (&str, &'static str, usize, f64, f64)> {
        self.recoveries.iter().map(|((fault, kind), times)| {
            let mut times: Vec<_> = times.iter().map(Duration::as_secs_f64).collect();
            times.sort_by(f64::total_cmp);
            let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
            (fault.as_str(), kind.name(), times.len(), median, longest)
        })
    }
}
