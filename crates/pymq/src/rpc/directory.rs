//! The providers of each function, as far as one caller knows them.
//!
//! The identities here are hints that save a question per call: a provider that turns out to be
//! gone is struck off and the next one taken, so a stale entry costs time, never a wrong result.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OnceCell;
use tokio::time::{Duration, Instant};

use crate::error::Result;
use crate::name::{Id, Namespace};
use crate::transport::{Ends, Transport};

/// How long an answer to "who is there" is taken as fresh.
const FRESH_FOR: Duration = Duration::from_secs(5);

/// The providers that a caller has heard of.
#[derive(Debug, Default)]
pub(super) struct Directory(Mutex<HashMap<String, Entry>>);

#[derive(Debug)]
struct Entry {
    providers: Vec<Known>,
    asked: Instant,
    /// When the last of them was struck off.
    left: Option<Instant>,
    turn: usize,
}

impl Entry {
    fn keep(&mut self, stays: impl Fn(&Known) -> bool) {
        let before = self.providers.len();
        self.providers.retain(stays);
        if before > 0 && self.providers.is_empty() {
            self.left = Some(Instant::now());
        }
    }
}

#[derive(Clone, Debug)]
struct Known {
    id: Id,
    instance: Arc<str>,
    open_calls: Arc<AtomicUsize>,
    /// Its end, where the broker tells of it; asked for once.
    ends: Arc<OnceCell<Option<Ends>>>,
}

/// What the directory says of a function.
#[derive(Debug)]
pub(super) enum Lookup {
    /// A provider, and whether it is time to ask again who is there.
    Chosen { choice: Choice, stale: bool },
    /// All that are known have been tried.
    AllTried,
    /// None is known at the moment.
    Unknown {
        /// When the last one was struck off, if there ever was one.
        left: Option<Instant>,
    },
}

impl Directory {
    /// The provider with the fewest open calls of ours; among equals they take turns.
    ///
    /// None of those that were `tried` is chosen again, and nothing is that was last heard of longer
    /// ago than `trusted`.
    pub(super) fn choose(&self, function: &str, tried: &[Id], trusted: Duration) -> Lookup {
        let mut functions = self.lock();
        let Some(entry) = functions.get_mut(function) else {
            return Lookup::Unknown { left: None };
        };
        let count = entry.providers.len();
        let asked_for = entry.asked.elapsed();
        if count == 0 || asked_for > trusted {
            return Lookup::Unknown { left: entry.left };
        }
        entry.turn = (entry.turn + 1) % count;
        let turn = entry.turn;
        let chosen = (0..count)
            .map(|offset| &entry.providers[(turn + offset) % count])
            .filter(|known| !tried.contains(&known.id))
            .min_by_key(|known| known.open_calls.load(Ordering::Relaxed));
        let Some(chosen) = chosen else { return Lookup::AllTried };
        chosen.open_calls.fetch_add(1, Ordering::Relaxed);
        let choice = Choice(chosen.clone());
        let stale = asked_for > FRESH_FOR;
        if stale {
            // Whoever sees it stale asks; the others go on with what is known.
            entry.asked = Instant::now();
        }
        Lookup::Chosen { choice, stale }
    }

    /// Notes the providers that answered just now.
    pub(super) fn learn(&self, namespace: &Namespace, function: &str, ids: &[Id]) {
        let mut functions = self.lock();
        let entry = functions.entry(function.to_owned()).or_insert_with(|| Entry {
            providers: Vec::new(),
            asked: Instant::now(),
            left: None,
            turn: 0,
        });
        entry.asked = Instant::now();
        entry.keep(|known| ids.contains(&known.id));
        for id in ids {
            if !entry.providers.iter().any(|known| known.id == *id) {
                entry.providers.push(Known {
                    id: *id,
                    instance: namespace.instance(*id).into(),
                    open_calls: Arc::default(),
                    ends: Arc::default(),
                });
            }
        }
    }

    /// Strikes a provider off.
    pub(super) fn forget(&self, function: &str, id: Id) {
        if let Some(entry) = self.lock().get_mut(function) {
            entry.keep(|known| known.id != id);
        }
    }

    /// Strikes a provider off that has ended for good: nobody waits for its return.
    pub(super) fn mourn(&self, function: &str, id: Id) {
        if let Some(entry) = self.lock().get_mut(function) {
            entry.keep(|known| known.id != id);
            if entry.providers.is_empty() {
                entry.left = None;
            }
        }
    }

    /// Strikes a provider off, whatever it provides.
    pub(super) fn forget_everywhere(&self, id: Id) {
        for entry in self.lock().values_mut() {
            entry.keep(|known| known.id != id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A provider chosen for one call; it counts as open until this is dropped.
#[derive(Debug)]
pub(super) struct Choice(Known);

impl Choice {
    pub(super) fn id(&self) -> Id {
        self.0.id
    }

    /// The topic of that provider alone.
    pub(super) fn instance(&self) -> &str {
        &self.0.instance
    }

    /// Its end, where the broker tells of it; before anything is sent to it, so that none is missed.
    pub(super) async fn ends(&self, transport: &dyn Transport) -> Result<Option<&Ends>> {
        let ends = self.0.ends.get_or_try_init(|| transport.ends(&self.0.instance));
        Ok(ends.await?.as_ref())
    }
}

impl Drop for Choice {
    fn drop(&mut self) {
        self.0.open_calls.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(directory: &Directory, function: &str) -> Lookup {
        directory.choose(function, &[], Duration::MAX)
    }

    fn choose(directory: &Directory) -> Choice {
        match look(directory, "f") {
            Lookup::Chosen { choice, .. } => choice,
            Lookup::AllTried | Lookup::Unknown { .. } => panic!("nobody is known"),
        }
    }

    #[tokio::test]
    async fn open_calls_spread_over_all_providers() {
        let (directory, ids) = (Directory::default(), [Id::random(), Id::random(), Id::random()]);
        directory.learn(&Namespace::default(), "f", &ids);
        let open: Vec<_> = (0..6).map(|_| choose(&directory)).collect();
        for id in ids {
            assert_eq!(open.iter().filter(|choice| choice.id() == id).count(), 2);
        }
    }

    #[tokio::test]
    async fn a_provider_that_is_struck_off_is_not_chosen() {
        let (directory, ids) = (Directory::default(), [Id::random(), Id::random()]);
        directory.learn(&Namespace::default(), "f", &ids);
        directory.forget("f", ids[0]);
        assert_eq!(choose(&directory).id(), ids[1]);
        directory.forget("f", ids[1]);
        assert!(matches!(look(&directory, "f"), Lookup::Unknown { left: Some(_) }));
        assert!(matches!(look(&directory, "g"), Lookup::Unknown { left: None }));
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_tried_or_not_heard_of_for_too_long_is_not_chosen() {
        let (directory, ids) = (Directory::default(), [Id::random(), Id::random()]);
        directory.learn(&Namespace::default(), "f", &ids);
        let Lookup::Chosen { choice, .. } = directory.choose("f", &ids[..1], Duration::MAX) else {
            panic!("the other one is there")
        };
        assert_eq!(choice.id(), ids[1]);
        assert!(matches!(directory.choose("f", &ids, Duration::MAX), Lookup::AllTried));
        tokio::time::advance(Duration::from_secs(60)).await;
        let trusted = Duration::from_secs(30);
        assert!(matches!(directory.choose("f", &[], trusted), Lookup::Unknown { .. }));
        directory.forget_everywhere(ids[1]);
        assert_eq!(choose(&directory).id(), ids[0]);
    }
}
