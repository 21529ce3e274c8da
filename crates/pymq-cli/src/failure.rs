//! How a command ends: a sentence for people, a code for scripts.

use std::fmt;
use std::io;

use pymq::{Error, ErrorKind};

/// The exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// What was asked is done.
    Done = 0,
    /// It was tried and failed: a function raised, the server refused, something was found.
    Failed = 1,
    /// The command line cannot be understood: a flag, JSON, an address, a context.
    Usage = 2,
    /// There is nothing: no provider, no item, no such queue.
    Nothing = 3,
    /// The time was over.
    Timeout = 4,
    /// The server cannot be reached, or went away.
    Connection = 5,
    /// Ctrl-C.
    Interrupted = 130,
    /// SIGTERM.
    Terminated = 143,
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// Why a command did not do what it was asked, or ends early.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    words: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, words: impl Into<String>) -> Self {
        Self { exit, words: words.into() }
    }

    /// The command line is wrong.
    pub(crate) fn usage(words: impl Into<String>) -> Self {
        Self::new(Exit::Usage, words)
    }

    /// There is nothing of what was asked for.
    pub(crate) fn nothing(words: impl Into<String>) -> Self {
        Self::new(Exit::Nothing, words)
    }

    /// An end that needs no words.
    pub(crate) fn silent(exit: Exit) -> Self {
        Self::new(exit, "")
    }

    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// A sentence, empty where none is needed.
    pub(crate) fn words(&self) -> &str {
        &self.words
    }

    /// The same failure with more to say.
    pub(crate) fn and(mut self, more: &str) -> Self {
        self.words.push_str(more);
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit = match error.kind() {
            ErrorKind::Config | ErrorKind::Encode => Exit::Usage,
            ErrorKind::NoSuchRemote => Exit::Nothing,
            ErrorKind::Timeout => Exit::Timeout,
            ErrorKind::Connection | ErrorKind::Ambiguous | ErrorKind::ProviderLost => {
                Exit::Connection
            }
            _ => Exit::Failed,
        };
        Self::new(exit, error.to_string())
    }
}

/// Output that cannot be written: whoever read it has gone, which is no failure, or the disk is full.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::silent(Exit::Done),
            _ => Self::new(Exit::Failed, format!("cannot write the output: {error}")),
        }
    }
}
