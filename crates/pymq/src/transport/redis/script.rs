//! Scripts: called by digest, taught by text, found again by the lines that errors name.
//!
//! The one invariant: a script that was called can be found by its digest for as long as the process
//! lives. It sends nothing.

use std::sync::{Mutex, OnceLock, PoisonError};

use super::resp::Command;

/// A script and the digest the server knows it by.
pub(super) struct Script {
    text: &'static str,
    digest: OnceLock<String>,
}

/// What stands around a word in a command, mostly.
const HEADER: usize = 8;

/// The scripts that were called, to find one by its digest.
static CALLED: Mutex<Vec<&'static Script>> = Mutex::new(Vec::new());

impl Script {
    pub(super) const fn new(text: &'static str) -> Self {
        Self { text, digest: OnceLock::new() }
    }

    /// A line of the script of that digest, counted from 1 as the server does.
    pub(super) fn line(digest: &str, number: usize) -> Option<&'static str> {
        let called = CALLED.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |script: &&&Script| script.digest.get().is_some_and(|known| known == digest);
        called.iter().find(is_it)?.text.lines().nth(number.checked_sub(1)?)
    }

    /// What a server calls it.
    pub(super) fn digest(&'static self) -> &'static str {
        self.digest.get_or_init(|| {
            CALLED.lock().unwrap_or_else(PoisonError::into_inner).push(self);
            sha1_smol::Sha1::from(self.text).digest().to_string()
        })
    }

    /// The call by digest: short, and unknown to a server that never saw the text.
    pub(super) fn call(&'static self, keys: &[&str], arguments: &[&[u8]]) -> Command {
        Self::complete("EVALSHA", self.digest(), keys, arguments)
    }

    /// The call by text: always understood.
    pub(super) fn teach(&self, keys: &[&str], arguments: &[&[u8]]) -> Command {
        Self::complete("EVAL", self.text, keys, arguments)
    }

    fn complete(name: &str, script: &str, keys: &[&str], arguments: &[&[u8]]) -> Command {
        let words = keys.iter().map(|key| key.as_bytes()).chain(arguments.iter().copied());
        let room = words.map(|word| word.len() + HEADER).sum::<usize>();
        let command = Command::with_room(name, script.len() + room).arg(script);
        command.number(keys.len()).args(keys).args(arguments)
    }
}

/// What a server will have been taught by the words before it, where nobody hears whether it knows a
/// script: the text stands once in all of them.
#[derive(Default)]
pub(super) struct Lesson {
    taught: Vec<&'static str>,
}

impl Lesson {
    /// The call by text the first time, and by digest from then on.
    pub(super) fn call(
        &mut self,
        script: &'static Script,
        keys: &[&str],
        arguments: &[&[u8]],
    ) -> Command {
        let digest = script.digest();
        if self.taught.contains(&digest) {
            return script.call(keys, arguments);
        }
        self.taught.push(digest);
        script.teach(keys, arguments)
    }
}
