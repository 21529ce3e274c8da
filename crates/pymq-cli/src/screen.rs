//! The terminal as a whole screen: keys come one by one, and what is drawn takes the place of what was
//! there.
//!
//! The one invariant: the terminal is as it was when the [`Screen`] is gone. Ctrl-C stays a signal.

use std::io::{self, IsTerminal, Read, Write};
use std::process::{Command, Stdio};
use std::thread;

use tokio::sync::mpsc;

use crate::failure::{Exit, Failure};

/// What somebody pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Char(char),
    Up,
    Down,
    Enter,
    Escape,
    Backspace,
}

/// A screen of our own, and its keys.
#[derive(Debug)]
pub(crate) struct Screen {
    keys: mpsc::Receiver<Key>,
    /// How the terminal was set, as `stty` writes it.
    before: String,
}

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// Usage where there is none.
    pub(crate) fn open() -> Result<Self, Failure> {
        let nowhere =
            "top draws on a terminal, and here is none; say --json, or pymq queues, for programs";
        if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
            return Err(Failure::usage(nowhere));
        }
        let before = stty(&["-g"]).ok_or_else(|| Failure::usage(nowhere))?;
        // Its end puts back what this changes, also where a later step fails.
        let screen = Self { keys: keys(), before };
        stty(&["-icanon", "-echo"]).ok_or_else(|| Failure::usage(nowhere))?;
        // Characters wider than one column would break a line: the terminal cuts it instead.
        screen.write("\x1b[?1049h\x1b[?25l\x1b[?7l")?;
        Ok(screen)
    }

    /// Columns and rows, as they are now.
    pub(crate) fn size(&self) -> (usize, usize) {
        let said = stty(&["size"]).unwrap_or_default();
        let mut numbers = said.split_whitespace().map(|number| number.parse().unwrap_or(0));
        match (numbers.next(), numbers.next()) {
            (Some(rows @ 1..), Some(columns @ 1..)) => (columns, rows),
            _ => (80, 24),
        }
    }

    /// The next key.
    pub(crate) async fn key(&mut self) -> Result<Key, Failure> {
        let hung_up = || Failure::new(Exit::Failed, "the terminal was closed");
        self.keys.recv().await.ok_or_else(hung_up)
    }

    /// Draws lines, which are no wider than the screen, over what was there.
    pub(crate) fn draw(&self, lines: &[String]) -> Result<(), Failure> {
        let mut frame = String::from("\x1b[H");
        for (row, line) in lines.iter().enumerate() {
            if row > 0 {
                frame.push_str("\r\n");
            }
            frame.push_str(line);
            frame.push_str("\x1b[0m\x1b[K");
        }
        frame.push_str("\x1b[J");
        self.write(&frame)
    }

    fn write(&self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        Ok(out.flush()?)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        let _ = self.write("\x1b[?7h\x1b[?25h\x1b[?1049l");
        let _ = stty(&[self.before.trim()]);
    }
}

/// Asks the terminal, or sets it; the program does so on every system with terminals of this kind.
fn stty(words: &[&str]) -> Option<String> {
    let asked = Command::new("stty").args(words).stdin(Stdio::inherit()).output().ok()?;
    asked.status.success().then(|| String::from_utf8_lossy(&asked.stdout).into_owned())
}

/// Keys, read by a thread, since no runtime can wait for a terminal.
fn keys() -> mpsc::Receiver<Key> {
    let (sender, keys) = mpsc::channel(64);
    thread::spawn(move || {
        let mut bytes = [0; 64];
        let mut stdin = io::stdin().lock();
        while let Ok(count @ 1..) = stdin.read(&mut bytes) {
            for key in read_keys(&bytes[..count]) {
                // An error says that the command has ended.
                if sender.blocking_send(key).is_err() {
                    return;
                }
            }
        }
    });
    keys
}

/// The keys that a terminal sent in one go.
fn read_keys(bytes: &[u8]) -> Vec<Key> {
    let text = String::from_utf8_lossy(bytes);
    let mut keys = Vec::new();
    let mut rest = &*text;
    while let Some(first) = rest.chars().next() {
        let arrow = |letter: &str| {
            ["\x1b[", "\x1bO"]
                .iter()
                .any(|start| rest.strip_prefix(start).is_some_and(|it| it.starts_with(letter)))
        };
        let (key, length) = match first {
            _ if arrow("A") => (Some(Key::Up), 3),
            _ if arrow("B") => (Some(Key::Down), 3),
            // Other sequences mean nothing here.
            '\x1b' if rest.len() > 1 => (None, rest.len()),
            '\x1b' => (Some(Key::Escape), 1),
            '\r' | '\n' => (Some(Key::Enter), 1),
            '\x7f' | '\x08' => (Some(Key::Backspace), 1),
            control if control.is_control() => (None, control.len_utf8()),
            character => (Some(Key::Char(character)), character.len_utf8()),
        };
        keys.extend(key);
        rest = rest.get(length..).unwrap_or_default();
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_apart_from_what_a_terminal_sends_for_others() {
        assert_eq!(read_keys(b"q"), [Key::Char('q')]);
        assert_eq!(read_keys(b"\x1b[A\x1bOB\r"), [Key::Up, Key::Down, Key::Enter]);
        assert_eq!(read_keys(b"\x1b"), [Key::Escape]);
        assert_eq!(read_keys(b"\x1b[15~"), []);
        assert_eq!(read_keys("é\x7f".as_bytes()), [Key::Char('é'), Key::Backspace]);
    }
}
