//! What a process did, in a file that survives it: one line for each thing, appended at once.
//!
//! The one invariant: a line is written before what it announces begins, or after what it reports
//! has ended, so that a kill can only make a history too short, never wrong. Nothing is judged here.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What a line says. `worker.py` writes the same letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// Items `item..item + number` are about to be put.
    Begun,
    /// They were put.
    Put,
    /// Nobody knows whether they were put.
    Ambiguous,
    /// They were not put.
    Refused,
    /// An item came, with its number of deliveries.
    Got,
    /// Its work is done; the lease is still ours.
    Done,
    /// Its confirmation was accepted.
    Acked,
    /// Its confirmation came too late.
    LeaseLost,
    /// Its confirmation failed otherwise.
    Unsettled,
    /// An event was received.
    Received,
    /// Events were missed: so many, or an unknown number (0).
    Missed,
    /// A call begins.
    Called,
    /// It was answered with that number.
    Answered,
    /// It failed; the word says how.
    Failed,
    /// A call is executed here.
    Executed,
    /// Bytes of memory in use.
    Memory,
    /// A job about to be put may be taken from then on, in µs of the system's clock.
    Due,
    /// It was put before under its id.
    Already,
    /// Its handler fails, at that delivery; its worker has it come again later.
    Failing,
    /// Its rejection was accepted.
    Rejected,
    /// So many dead letters were brought back.
    Redriven,
    /// A dead letter is there, with its number of deliveries; the word says why.
    Dead,
    /// The bus is closed, which took so many µs.
    Closed,
}

impl What {
    const ALL: [(Self, char); 23] = [
        (Self::Begun, 'b'),
        (Self::Put, 'o'),
        (Self::Ambiguous, 'a'),
        (Self::Refused, 'f'),
        (Self::Got, 'g'),
        (Self::Done, 'd'),
        (Self::Acked, 'k'),
        (Self::LeaseLost, 'l'),
        (Self::Unsettled, 'u'),
        (Self::Received, 'r'),
        (Self::Missed, 'x'),
        (Self::Called, 'c'),
        (Self::Answered, 'w'),
        (Self::Failed, 'e'),
        (Self::Executed, 's'),
        (Self::Memory, 'm'),
        (Self::Due, 't'),
        (Self::Already, 'y'),
        (Self::Failing, 'q'),
        (Self::Rejected, 'j'),
        (Self::Redriven, 'v'),
        (Self::Dead, 'h'),
        (Self::Closed, 'n'),
    ];

    fn letter(self) -> char {
        let found = Self::ALL.iter().find(|(what, _)| *what == self);
        found.map_or('?', |(_, letter)| *letter)
    }

    fn of(letter: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(_, known)| letter.chars().eq([*known]));
        found.map(|(what, _)| *what)
    }
}

/// A line of a history.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// Since the epoch of the system's clock.
    pub(crate) at: Duration,
    pub(crate) what: What,
    pub(crate) item: u64,
    pub(crate) number: u64,
    /// The kind of an error.
    pub(crate) word: String,
}

/// The writing end.
#[derive(Debug)]
pub(crate) struct History(Mutex<File>);

impl History {
    pub(crate) fn append_to(path: &Path) -> io::Result<Self> {
        Ok(Self(Mutex::new(OpenOptions::new().create(true).append(true).open(path)?)))
    }

    /// Appends lines in one step.
    pub(crate) fn note(&self, what: What, entries: impl IntoIterator<Item = (u64, u64)>) {
        self.append(what, entries, "");
    }

    /// Appends a line about an error.
    pub(crate) fn fail(&self, what: What, item: u64, number: u64, word: &str) {
        self.append(what, [(item, number)], word);
    }

    fn append(&self, what: What, entries: impl IntoIterator<Item = (u64, u64)>, word: &str) {
        let (at, letter) = (now().as_micros(), what.letter());
        let mut lines = String::new();
        for (item, number) in entries {
            let line = writeln!(lines, "{at} {letter} {item} {number} {word}");
            line.expect("a string takes what is written to it");
        }
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(lines.as_bytes()).expect("the folder of histories is writable");
    }
}

/// Reads a history; a last line that a kill cut short is left out.
pub(crate) fn read(path: &Path) -> Result<Vec<Line>, String> {
    Reader::of(path).next_lines()
}

/// The reading end, which reads each line once.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    path: &'a Path,
    /// How much of it was read, to the end of a line.
    read: u64,
}

impl<'a> Reader<'a> {
    pub(crate) fn of(path: &'a Path) -> Self {
        Self { path, read: 0 }
    }

    /// The lines that are new; a last one that is not whole comes later, or never.
    pub(crate) fn next_lines(&mut self) -> Result<Vec<Line>, String> {
        let named = |error: io::Error| format!("{}: {error}", self.path.display());
        let mut file = match File::open(self.path) {
            Ok(file) => file,
            // Killed before it wrote anything.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(named(error)),
        };
        let mut text = String::new();
        file.seek(io::SeekFrom::Start(self.read)).map_err(named)?;
        file.read_to_string(&mut text).map_err(named)?;
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        self.read += whole.len() as u64;
        let no_line = |line: &str| format!("{}: no line: {line:?}", self.path.display());
        whole.lines().map(|line| parse(line).ok_or_else(|| no_line(line))).collect()
    }
}

fn parse(line: &str) -> Option<Line> {
    let mut words = line.splitn(5, ' ');
    Some(Line {
        at: Duration::from_micros(words.next()?.parse().ok()?),
        what: What::of(words.next()?)?,
        item: words.next()?.parse().ok()?,
        number: words.next()?.parse().ok()?,
        word: words.next().unwrap_or_default().to_owned(),
    })
}

/// The system's clock, which all processes share.
pub(crate) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_a_line_that_was_cut_short_is_left_out() {
        let path = std::env::temp_dir().join(format!("pymq-history-{}", std::process::id()));
        let history = History::append_to(&path).expect("the temporary folder is writable");
        history.note(What::Got, [(7, 2)]);
        history.fail(What::Failed, 8, 0, "Timeout");
        OpenOptions::new()
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(b"17 g 9"))
            .expect("the file is there");
        let lines = read(&path).expect("whole lines");
        std::fs::remove_file(&path).expect("the file is there");
        let seen: Vec<_> =
            lines.iter().map(|line| (line.what, line.item, line.number, &*line.word)).collect();
        assert_eq!(seen, [(What::Got, 7, 2, ""), (What::Failed, 8, 0, "Timeout")]);
    }
}
