//! Another process that takes part: a provider, or an alternative in another environment.
//!
//! It says `ready`, then answers each line on its standard input with a line of its own, a number and how many
//! operations it is of; when its input ends, so does it. The process never outlives its [`Worker`].

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::Outcome;
use crate::round::Figure;

/// A process of ours.
pub(crate) struct Worker {
    process: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Worker {
    /// Starts a process; returns when it is ready.
    pub(crate) fn start(command: &mut Command) -> Outcome<Self> {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start {command:?}: {error}"))?;
        let questions = process.stdin.take().expect("its input was piped above");
        let answers = BufReader::new(process.stdout.take().expect("its output was piped above"));
        let mut worker = Self { process, questions, answers };
        match worker.line()?.as_str() {
            "ready" => Ok(worker),
            other => Err(format!("{command:?} said {other:?} instead of being ready").into()),
        }
    }

    /// This program once more, with other arguments.
    pub(crate) fn own(arguments: &[&str]) -> Outcome<Self> {
        Self::start(Command::new(std::env::current_exe()?).args(arguments))
    }

    /// Asks for a measurement.
    pub(crate) fn measure(&mut self, work: &str, span: Duration) -> Outcome<Figure> {
        self.begin(work, span)?;
        self.end()
    }

    /// Asks for one that others are asked for meanwhile.
    pub(crate) fn begin(&mut self, work: &str, span: Duration) -> Outcome<()> {
        Ok(writeln!(self.questions, "{work} {}", span.as_secs_f64())?)
    }

    /// Waits for what was measured.
    pub(crate) fn end(&mut self) -> Outcome<Figure> {
        let answer = self.line()?;
        let (number, operations) = answer.split_once(' ').unwrap_or((&answer, "0"));
        match (number.parse(), operations.parse()) {
            (Ok(number), Ok(operations)) => Ok(Figure { number, operations }),
            _ => Err(format!("a worker answered {answer:?} to a question").into()),
        }
    }

    /// Asks for a number.
    pub(crate) fn ask(&mut self, question: &str) -> Outcome<f64> {
        let answer = self.answer(question)?;
        answer.parse().map_err(|_| format!("{question}: answered {answer:?}").into())
    }

    fn answer(&mut self, question: &str) -> Outcome<String> {
        writeln!(self.questions, "{question}")?;
        self.line()
    }

    fn line(&mut self) -> Outcome<String> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            return Err("a worker ended early; what it said stands above".into());
        }
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Errors say that it is gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The other end: says that this process is ready.
pub(crate) fn ready() -> io::Result<()> {
    say("ready")
}

/// The other end: answers one question.
pub(crate) fn answer(number: impl FnOnce() -> Outcome<f64>) -> Outcome<()> {
    ready()?;
    io::stdin().read_line(&mut String::new())?;
    Ok(say(&number()?.to_string())?)
}

/// The other end: measures whenever it is asked to, for as long as it is told.
pub(crate) fn measures(mut measure: impl FnMut(Duration) -> Outcome<Figure>) -> Outcome<()> {
    ready()?;
    for question in io::stdin().lines() {
        let question = question?;
        let span = question.rsplit(' ').next().unwrap_or_default().parse()?;
        let Figure { number, operations } = measure(Duration::from_secs_f64(span))?;
        say(&format!("{number} {operations}"))?;
    }
    Ok(())
}

/// The other end: returns when whoever started this process is gone.
pub(crate) fn wait_for_the_end() -> io::Result<()> {
    io::copy(&mut io::stdin().lock(), &mut io::sink()).map(drop)
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
