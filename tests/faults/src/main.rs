//! Faults, injected into real processes and sockets, and the proof of what they must not do.
//!
//! ```text
//! pymq-faults run [--seed N] [--items N] [--minutes M] [--rows 1,2,…] [--brief] [--hours H]
//!                 [--at-once N] [--json FILE] [--python PATH] [--original PATH] [--peer PATH]
//! pymq-faults list
//! ```
//!
//! The one invariant: every run prints its seed and how often each fault really happened, and fails
//! if that was too seldom to mean anything. Rows are those of `docs/guarantees.md`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its report is what it is for")]

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

mod chance;
mod check;
mod crew;
mod history;
mod job;
#[cfg(target_os = "linux")]
mod local;
mod network;
#[cfg(target_os = "linux")]
mod passerby;
mod peer;
mod proxy;
mod report;
mod resp;
mod rows;
mod scene;
#[path = "../../../crates/pymq/tests/server/mod.rs"]
mod server;
mod storm;
mod worker;

use report::Report;
use rows::Run;
use scene::Setting;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match words.split_first() {
        Some((first, rest)) if first == "run" => Order::parse(rest).and_then(Order::run_for_long),
        Some((first, rest)) if first == "worker" => worker::run(rest),
        Some((first, _)) if first == "list" => {
            for run in rows::ALL {
                println!("{}: rows {:?}", run.name, run.rows);
            }
            Ok(())
        }
        _ => Err("usage: pymq-faults run|list; the head of src/main.rs says more".to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("pymq-faults: {why}");
            ExitCode::FAILURE
        }
    }
}

/// What the command line asks for.
struct Order {
    setting: Setting,
    rows: BTreeSet<String>,
    at_once: usize,
    /// Where what was found is written for programs.
    json: Option<String>,
    /// Begins again with the next seed until so much time has passed.
    length: Duration,
}

impl Order {
    fn parse(words: &[String]) -> Result<Self, String> {
        let mut order = Self {
            setting: Setting {
                seed: 2718,
                items: 2000,
                patience: Duration::from_secs(300),
                brief: false,
                python: "python3".to_owned(),
                original: None,
                peer: None,
            },
            rows: BTreeSet::new(),
            at_once: 4,
            json: None,
            length: Duration::ZERO,
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let setting = &mut order.setting;
            if word == "--brief" {
                setting.brief = true;
                continue;
            }
            let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
            match word.as_str() {
                "--seed" => setting.seed = number(word, value)?,
                "--items" => setting.items = number(word, value)?,
                "--minutes" => {
                    setting.patience = Duration::from_secs_f64(60.0 * number::<f64>(word, value)?);
                }
                "--rows" => order.rows = value.split(',').map(str::to_owned).collect(),
                "--at-once" => order.at_once = number::<usize>(word, value)?.max(1),
                "--hours" => {
                    order.length = Duration::from_secs_f64(3600.0 * number::<f64>(word, value)?);
                }
                "--json" => order.json = Some(value.clone()),
                "--python" => setting.python.clone_from(value),
                "--original" => setting.original = Some(value.clone()),
                "--peer" => setting.peer = Some(value.clone()),
                _ => return Err(format!("unknown option {word}")),
            }
        }
        Ok(order)
    }

    fn run_for_long(mut self) -> Result<(), String> {
        let began = Instant::now();
        loop {
            self.run()?;
            if began.elapsed() >= self.length {
                return Ok(());
            }
            self.setting.seed += 1;
        }
    }

    /// Does the runs that show the rows, several at once: most of their time they wait.
    fn run(&self) -> Result<(), String> {
        let runs: Vec<&Run> = rows::ALL.iter().filter(|run| self.wants(run)).collect();
        if runs.is_empty() {
            return Err("no run shows these rows; try `pymq-faults list`".to_owned());
        }
        println!("seed {}", self.setting.seed);
        let (next, all) = (AtomicUsize::new(0), Mutex::new(Findings::default()));
        std::thread::scope(|scope| {
            for _ in 0..self.at_once.min(runs.len()) {
                scope.spawn(|| {
                    while let Some(run) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        self.show(run, &all);
                    }
                });
            }
        });
        let found = all.into_inner().expect("no run panics here");
        println!("{}", found.together.table());
        // Once more and last, since of a long output often only the end is kept.
        print!("{}", found.wrong);
        if let Some(path) = &self.json {
            self.write(path, &found)?;
        }
        match found.failed.is_empty() {
            true => Ok(()),
            false => {
                Err(format!("seed {}: failed: {}", self.setting.seed, found.failed.join(", ")))
            }
        }
    }

    fn write(&self, path: &str, found: &Findings) -> Result<(), String> {
        let whole = serde_json::json!({
            "seed": self.setting.seed,
            "brief": self.setting.brief,
            "runs": found.runs,
            "recoveries": found.together.recoveries(),
        });
        std::fs::write(path, format!("{whole:#}\n")).map_err(|error| format!("{path}: {error}"))
    }

    fn wants(&self, run: &Run) -> bool {
        let all = self.rows.is_empty() && !(self.setting.brief && rows::LONG.contains(&run.name));
        all || self.rows.contains(run.name)
            || run.rows.iter().any(|row| self.rows.contains(&row.to_string()))
    }

    fn work(&self, run: &Run) -> Report {
        std::panic::catch_unwind(|| (run.work)(&self.setting)).unwrap_or_else(|_| {
            let mut report = Report::default();
            report.must(false, || "the run itself failed, see above".to_owned());
            report
        })
    }

    fn show(&self, run: &Run, all: &Mutex<Findings>) {
        let began = Instant::now();
        let mut report = self.work(run);
        if report.is_short() {
            // A busy machine can be too slow for a run to say anything; it says so, and tries once more.
            println!("{}: once more, since it was\n{}", run.name, report.words());
            report = self.work(run);
        }
        let (well, seconds) = (report.is_well(), began.elapsed().as_secs_f64());
        let verdict = if well { "well" } else { "WRONG" };
        let mut all = all.lock().expect("no run panics here");
        println!("{} ({seconds:.1} s): {verdict}", run.name);
        print!("{}", report.words());
        all.runs.push(serde_json::json!({
            "name": run.name,
            "rows": run.rows,
            "well": well,
            "seconds": seconds,
            "counts": report.counts(),
        }));
        if !well {
            all.failed.push(run.name);
            all.wrong += &format!("{}:\n{}", run.name, report.words());
        }
        all.together.add_recoveries(report);
    }
}

/// What the runs found so far.
#[derive(Default)]
struct Findings {
    together: Report,
    runs: Vec<serde_json::Value>,
    failed: Vec<&'static str>,
    /// What those say.
    wrong: String,
}

fn number<T: std::str::FromStr>(word: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{word} needs a number, not {value:?}"))
}
