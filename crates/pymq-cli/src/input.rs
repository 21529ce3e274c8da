//! Values from the command line, or one a line from the standard input.

use std::io::{self, BufRead};
use std::thread;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::failure::{Exit, Failure};
use crate::value;

/// Values in order.
#[derive(Debug)]
pub(crate) struct Values {
    given: std::vec::IntoIter<String>,
    lines: Option<mpsc::Receiver<io::Result<String>>>,
    as_text: bool,
    number: usize,
}

impl Values {
    /// Those that were given; where none was, or `-`, the lines of the standard input.
    pub(crate) fn new(given: Vec<String>, as_text: bool) -> Self {
        let from_input = given.is_empty() || given == ["-"];
        let (given, lines) = match from_input {
            true => (Vec::new(), Some(lines())),
            false => (given, None),
        };
        Self { given: given.into_iter(), lines, as_text, number: 0 }
    }

    /// The next one; a line that is empty is passed over.
    ///
    /// # Errors
    /// Usage for what is no JSON, naming its place.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            self.number += 1;
            let (text, what) = match &mut self.lines {
                None => match self.given.next() {
                    Some(text) => (text, format!("value {}", self.number)),
                    None => return Ok(None),
                },
                Some(lines) => match lines.recv().await {
                    Some(Ok(line)) if line.trim().is_empty() => continue,
                    Some(Ok(line)) => (line, format!("line {}", self.number)),
                    Some(Err(error)) => {
                        let words = format!("cannot read the input: {error}");
                        return Err(Failure::new(Exit::Failed, words));
                    }
                    None => return Ok(None),
                },
            };
            return value::written(&text, self.as_text, &what).map(Some);
        }
    }
}

/// The lines of the standard input, read by a thread, since no runtime can wait for a terminal.
fn lines() -> mpsc::Receiver<io::Result<String>> {
    let (sender, lines) = mpsc::channel(64);
    thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            let failed = line.is_err();
            // An error says that the command has ended.
            if sender.blocking_send(line).is_err() || failed {
                return;
            }
        }
    });
    lines
}
