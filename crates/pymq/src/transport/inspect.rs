//! What a broker tells of its users, for people who operate it.
//!
//! It is a part of the contract that a transport may leave out
//! ([`Transport::inspect`](super::Transport::inspect) is `None` then), since no program needs it to
//! send or receive. The one invariant: looking changes nothing.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{Answer, QueueSpec};

/// Subscribers, queues, and the holders of items.
///
/// Of a broker of several nodes it tells what those know that answer, and fails only if none does;
/// [`Health::absent_nodes`](super::Health::absent_nodes) names the others.
pub trait Inspect: fmt::Debug + Send + Sync {
    /// The topics that match a glob pattern and have subscribers by exact name, with how many.
    fn topics<'a>(&'a self, pattern: &'a str) -> Answer<'a, Vec<(String, usize)>>;

    /// The queues whose name matches a glob pattern and that hold anything, or on which somebody
    /// waits as far as the broker knows. May take time that grows with all that the broker holds.
    fn queues<'a>(&'a self, pattern: &'a str) -> Answer<'a, Vec<String>>;

    /// The consumers that hold items of a queue on lease, even if that has run out.
    fn holders<'a>(&'a self, queue: &'a Arc<QueueSpec>) -> Answer<'a, Vec<Holder>>;

    /// What the broker is, how it is set up and what this connection may do there, each with what
    /// follows for a bus and how to mend it. `namespace` names what the rights should reach.
    fn examine<'a>(&'a self, namespace: &'a str) -> Answer<'a, Vec<Finding>>;

    /// What was left behind under names of that pattern and nobody will come for.
    fn leftovers<'a>(&'a self, pattern: &'a str) -> Answer<'a, Vec<Leftover>>;

    /// Does with a leftover what its owner should have done. What has found its owner since is left
    /// alone.
    fn tidy<'a>(&'a self, leftover: &'a Leftover) -> Answer<'a, ()>;
}

/// Something that was left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Leftover {
    /// Its whole name on the broker.
    pub name: String,
    /// What it is, and what tidying does with it.
    pub words: String,
}

impl Leftover {
    /// A leftover of that name.
    pub fn new(name: impl Into<String>, words: impl Into<String>) -> Self {
        Self { name: name.into(), words: words.into() }
    }
}

/// A consumer that holds items of a queue on lease.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// Names the consumer's connection as far as the broker knows it.
    pub name: String,
    /// How many items it holds.
    pub items: usize,
    /// How long its lease still lasts unless it is renewed: zero where it has run out, `None` where
    /// leases end with their connection only.
    pub left: Option<Duration>,
}

impl Holder {
    /// A holder of that many items.
    pub fn new(name: impl Into<String>, items: usize) -> Self {
        Self { name: name.into(), items, left: None }
    }
}

/// How much a [`Finding`] matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// As it should be.
    Fine,
    /// It could not be looked at, or is worth knowing.
    Note,
    /// It loses data, or will, under a load or a fault that has not come yet.
    Risk,
    /// Something does not work now.
    Broken,
}

impl Severity {
    /// In one word: `fine`, `note`, `risk`, `broken`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Note => "note",
            Self::Risk => "risk",
            Self::Broken => "broken",
        }
    }
}

/// What was found when something was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// What was looked at: a setting, a right, in the broker's own words.
    pub subject: String,
    /// How much it matters.
    pub severity: Severity,
    /// What is so, and what follows.
    pub words: String,
    /// What to do about it: a command of the broker where there is one; empty where there is nothing
    /// to do.
    pub remedy: String,
}

impl Finding {
    /// A finding without a remedy.
    pub fn new(severity: Severity, subject: impl Into<String>, words: impl Into<String>) -> Self {
        Self { subject: subject.into(), severity, words: words.into(), remedy: String::new() }
    }

    /// The same with what to do about it.
    #[must_use]
    pub fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: remedy.into(), ..self }
    }
}
