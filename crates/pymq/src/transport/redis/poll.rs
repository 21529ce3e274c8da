//! A question that is put to every server: the one that there is, or each node of a cluster that takes writes.
//!
//! The one invariant: what some nodes know is told though others do not answer, and these are named. It is an
//! error only if none answers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::Core;
use super::refusal::Refusal;
use super::timing::TOLD_AGAIN;
use crate::error::{Error, ErrorKind, Result};
use crate::transport::{Finding, Severity};

/// The nodes that did not answer when all of them were asked last.
#[derive(Debug, Default)]
pub(super) struct Absent(Mutex<BTreeMap<String, Missing>>);

#[derive(Debug)]
struct Missing {
    why: String,
    told: Instant,
}

impl Absent {
    /// Where they are.
    pub(super) fn names(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    /// What is wrong, and what to do about it.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let finding = |(name, Missing { why, .. }): (&String, &Missing)| {
            let words = format!("cannot be asked ({why}): what lies there is not looked at");
            Finding::new(Severity::Broken, format!("node {name}"), words)
                .remedy("bring it back, or CLUSTER FAILOVER TAKEOVER at a replica of it")
        };
        self.lock().iter().map(finding).collect()
    }

    /// Forgets those that are not among the nodes any more.
    pub(super) fn keep(&self, nodes: &[String]) {
        self.lock().retain(|name, _| nodes.contains(name));
    }

    fn answers(&self, name: &str) {
        self.lock().remove(name);
    }

    fn note(&self, name: &str, why: &str) {
        let mut absent = self.lock();
        let told = absent.get(name).map(|known| known.told);
        let told = told.filter(|told| told.elapsed() < TOLD_AGAIN);
        let missing = Missing { why: why.to_owned(), told: told.unwrap_or_else(Instant::now) };
        absent.insert(name.to_owned(), missing);
        drop(absent);
        if told.is_none() {
            tracing::warn!(node = name, why, "cannot ask a node; what lies there is not shown");
        }
    }

    /// A panic cannot leave it half-changed, so a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Missing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A server to ask.
pub(super) struct Voter {
    /// Where it is, if it is one of several.
    name: Option<String>,
    pub(super) core: Arc<Core>,
}

/// One question, and who has not answered it.
pub(super) struct Poll<'a> {
    absent: &'a Absent,
    answered: bool,
    failure: Option<Error>,
    voters: Vec<Voter>,
}

impl<'a> Poll<'a> {
    /// One for the only server.
    pub(super) fn of_one(core: Arc<Core>, absent: &'a Absent) -> Self {
        Self { voters: vec![Voter { name: None, core }], ..Self::of_several(absent) }
    }

    /// One for nodes, which are added.
    pub(super) fn of_several(absent: &'a Absent) -> Self {
        Self { absent, answered: false, failure: None, voters: Vec::new() }
    }

    /// Adds a node, or that it cannot be reached.
    pub(super) fn add(&mut self, name: String, core: Result<Arc<Core>>) {
        match core {
            Ok(core) => self.voters.push(Voter { name: Some(name), core }),
            Err(error) => self.miss(&name, error),
        }
    }

    /// Whom to ask, once.
    pub(super) fn voters(&mut self) -> Vec<Voter> {
        std::mem::take(&mut self.voters)
    }

    /// Takes in what one answered; nothing if it is a node that cannot be asked.
    ///
    /// # Errors
    /// What the only server fails with, and what has to do with the question rather than with the node.
    pub(super) fn hear<T>(&mut self, voter: &Voter, answer: Result<T>) -> Result<Option<T>> {
        match (answer, &voter.name) {
            (Err(error), Some(name)) if is_away(&error) => {
                self.miss(name, error);
                Ok(None)
            }
            (answer, name) => {
                let found = answer?;
                self.answered = true;
                name.iter().for_each(|name| self.absent.answers(name));
                Ok(Some(found))
            }
        }
    }

    /// Ends it.
    ///
    /// # Errors
    /// Why one of them did not answer, where none did.
    pub(super) fn end(self) -> Result<()> {
        match self.failure {
            Some(error) if !self.answered => Err(error),
            _ => Ok(()),
        }
    }

    fn miss(&mut self, name: &str, error: Error) {
        self.absent.note(name, error.message());
        self.failure = Some(error);
    }
}

/// Whether a node did not answer, or its cluster is down.
fn is_away(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Connection | ErrorKind::Ambiguous)
        || Refusal::is_a_clusters(error)
}
