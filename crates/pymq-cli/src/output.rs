//! What a command says: data on the standard output, talk on the standard error.
//!
//! The one invariant: a line is written whole, in one write, or not at all, so that an end in the
//! middle leaves no half of a JSON object.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::failure::{Exit, Failure};

/// The two streams.
#[derive(Debug)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether programs read it.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Whether a person reads it.
    pub(crate) fn is_terminal(&self) -> bool {
        io::stdout().is_terminal()
    }

    /// A line of data for people; nothing where programs read.
    pub(crate) fn line(&self, text: &str) -> Result<(), Failure> {
        if self.json {
            return Ok(());
        }
        self.write(text.to_owned())
    }

    /// One object for programs; nothing where people read.
    pub(crate) fn object(&self, object: &impl Serialize) -> Result<(), Failure> {
        if !self.json {
            return Ok(());
        }
        let text = serde_json::to_string(object);
        let text = text.map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
        self.write(text)
    }

    /// The same thing for both.
    pub(crate) fn both(&self, text: &str, object: &impl Serialize) -> Result<(), Failure> {
        self.line(text)?;
        self.object(object)
    }

    /// Data as it is, whoever reads.
    pub(crate) fn write(&self, mut text: String) -> Result<(), Failure> {
        text.push('\n');
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        Ok(out.flush()?)
    }

    /// Talk.
    pub(crate) fn say(&self, text: &str) {
        // Nobody is left to be told that nobody listens.
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// The sentence by which a command ends.
    pub(crate) fn fail(&self, failure: &Failure) {
        if !failure.words().is_empty() {
            self.say(&format!("pymq: {}", printable(failure.words())));
        }
    }
}

/// Shows why the words of a command line were not understood, or the help that they asked for.
pub(crate) fn refusal_of_words(error: &clap::Error) -> Exit {
    let text = error.render().to_string();
    // Nobody is left to be told that nobody listens.
    if error.use_stderr() {
        let _ = io::stderr().write_all(text.as_bytes());
        Exit::Usage
    } else {
        let _ = io::stdout().write_all(text.as_bytes());
        Exit::Done
    }
}

/// A text that a terminal only shows: what would move its cursor or hide what follows is escaped.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match is_harmless(character) {
            true => shown.push(character),
            false => shown.extend(character.escape_unicode()),
        }
    }
    shown
}

/// Whether a character is shown, and nothing more.
pub(crate) fn is_harmless(character: char) -> bool {
    !character.is_control()
        && !matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_speak_to_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\nc\u{202e}"), "a\\u{1b}[2Jb\\u{a}c\\u{202e}");
        assert_eq!(printable("Grüße, 世界"), "Grüße, 世界");
    }
}
