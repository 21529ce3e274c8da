//! How a bus stands to its broker, and how that changes.
//!
//! The one invariant: a question is answered with the newest state; of those between two looks only the last
//! one is seen, so that nobody who looks seldom holds anything up. It needs no runtime.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use futures_core::Stream;
use futures_core::future::BoxFuture;
use tokio::sync::watch;

/// How a bus stands to its broker.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// Every connection that is needed is there.
    Connected {
        /// Since when.
        since: SystemTime,
    },
    /// A connection that is needed is missing, and is being made anew.
    Away {
        /// Since when.
        since: SystemTime,
        /// Why, as far as is known: the last attempt's failure.
        why: Arc<str>,
    },
    /// The bus was closed, or the runtime that it was connected on has ended.
    Closed,
}

impl State {
    /// Connected from now on.
    pub fn connected() -> Self {
        Self::Connected { since: SystemTime::now() }
    }

    /// Away from now on.
    pub fn away(why: impl Into<Arc<str>>) -> Self {
        Self::Away { since: SystemTime::now(), why: why.into() }
    }

    /// Whether every connection that is needed is there.
    pub fn is_connected(&self) -> bool {
        matches!(self, Self::Connected { .. })
    }

    /// The state in one word: `connected`, `away`, `closed`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Connected { .. } => "connected",
            Self::Away { .. } => "away",
            Self::Closed => "closed",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Away { why, .. } => write!(f, "away ({why})"),
            state => f.write_str(state.word()),
        }
    }
}

/// What a health endpoint wants to know of a bus, as this process sees it; nothing is asked of the
/// broker for it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// How it stands to its broker.
    pub state: State,
    /// The server that is talked to, where there is one: of several the one that takes the writes.
    pub server: Option<String>,
    /// Nodes of a cluster that did not answer when all of them were asked last, as
    /// [`Bus::inspect`](crate::Bus::inspect) does: what lies there it could not tell.
    pub absent_nodes: Vec<String>,
    /// How often a lost connection came back.
    pub reconnects: u64,
    /// Events in the mailboxes of the live subscriptions that nobody has read yet.
    pub unread_events: usize,
    /// Events that the live subscriptions were too slow for, so far.
    pub lost_events: u64,
    /// Events that were posted, and lost on the way to the broker, so far.
    pub lost_posts: u64,
    /// Queues that this bus takes items from, or lately did.
    pub consumers: usize,
    /// How long ago the lease of an item in hand was last renewed, of several the longest; `None`
    /// where none is held, and in memory, where leases need no renewal.
    pub oldest_heartbeat: Option<Duration>,
}

impl Health {
    /// The health of a bus in that state of which nothing else is known.
    pub fn new(state: State) -> Self {
        Self {
            state,
            server: None,
            absent_nodes: Vec::new(),
            reconnects: 0,
            unread_events: 0,
            lost_events: 0,
            lost_posts: 0,
            consumers: 0,
            oldest_heartbeat: None,
        }
    }
}

/// A state that a transport sets, and its readers.
pub fn states(first: State) -> (StateSetter, States) {
    let (sender, receiver) = watch::channel(first);
    (StateSetter(sender), States::new(receiver))
}

/// The transport's end of a state; dropping it says `Closed`.
#[derive(Debug)]
pub struct StateSetter(watch::Sender<State>);

impl StateSetter {
    /// Sets the state; a transport that was closed stays so.
    pub fn set(&self, state: State) {
        self.0.send_if_modified(|old| {
            let changes = *old != State::Closed && *old != state;
            if changes {
                *old = state;
            }
            changes
        });
    }

    /// The state.
    pub fn now(&self) -> State {
        self.0.borrow().clone()
    }

    /// A reader, which is first told the state as it is.
    pub fn subscribe(&self) -> States {
        States::new(self.0.subscribe())
    }
}

/// The states of a bus: the one it is in first, then each that follows, until `Closed`.
///
/// ```
/// use pymq::{Bus, transport::State};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
/// let bus = Bus::connect("memory://").await?;
/// let mut states = bus.states();
/// assert!(states.next().await.expect("the state it is in").is_connected());
/// bus.close().await?;
/// assert_eq!(states.next().await, Some(State::Closed));
/// assert_eq!(states.next().await, None);
/// # Ok(()) }
/// ```
#[must_use = "states are read with `next`"]
pub struct States {
    receiver: watch::Receiver<State>,
    ended: bool,
    /// What a stream's reader waits for; `next` alone needs none.
    waiting: Option<BoxFuture<'static, watch::Receiver<State>>>,
}

impl States {
    fn new(mut receiver: watch::Receiver<State>) -> Self {
        receiver.mark_changed();
        Self { receiver, ended: false, waiting: None }
    }

    /// The state as it is now.
    pub fn now(&self) -> State {
        match self.receiver.has_changed() {
            Ok(_) => self.receiver.borrow().clone(),
            // The transport is gone.
            Err(_) => State::Closed,
        }
    }

    /// The next state that was not given yet; `None` after `Closed`. Cancel-safe.
    pub async fn next(&mut self) -> Option<State> {
        if self.ended {
            return None;
        }
        // An error says that the transport is gone.
        let state = match self.receiver.changed().await {
            Ok(()) => self.receiver.borrow_and_update().clone(),
            Err(_) => State::Closed,
        };
        self.ended = state == State::Closed;
        Some(state)
    }
}

impl Clone for States {
    fn clone(&self) -> Self {
        Self { receiver: self.receiver.clone(), ended: self.ended, waiting: None }
    }
}

impl Stream for States {
    type Item = State;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<State>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let mut receiver = self.receiver.clone();
        let waiting = self.waiting.get_or_insert_with(|| {
            Box::pin(async move {
                // An error says that the transport is gone, which `next` finds too.
                let _ = receiver.changed().await;
                receiver
            })
        });
        let Poll::Ready(receiver) = waiting.as_mut().poll(context) else { return Poll::Pending };
        self.waiting = None;
        let state = match receiver.has_changed() {
            Ok(_) => receiver.borrow().clone(),
            Err(_) => State::Closed,
        };
        self.receiver = receiver;
        self.receiver.mark_unchanged();
        self.ended = state == State::Closed;
        Poll::Ready(Some(state))
    }
}

impl fmt::Debug for States {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("States").field("now", &self.now()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reader_is_told_the_state_as_it_is_then_the_newest_until_it_is_closed() {
        let (setter, mut states) = states(State::connected());
        assert!(states.next().await.expect("a state").is_connected());
        setter.set(State::away("gone"));
        setter.set(State::away("still gone"));
        assert_eq!(states.next().await.expect("a state").to_string(), "away (still gone)");
        setter.set(State::Closed);
        setter.set(State::connected());
        assert_eq!(states.next().await, Some(State::Closed));
        assert_eq!(states.next().await, None);
        assert_eq!(states.now(), State::Closed);
    }

    #[tokio::test]
    async fn a_transport_that_is_gone_is_closed() {
        let (setter, mut states) = states(State::connected());
        let mut late = states.clone();
        assert!(states.next().await.is_some());
        drop(setter);
        assert_eq!(states.next().await, Some(State::Closed));
        assert_eq!(late.now(), State::Closed);
        assert!(late.next().await.is_some());
    }

    #[tokio::test]
    async fn as_a_stream_it_tells_the_same() {
        use futures_util::StreamExt;

        let (setter, states) = states(State::connected());
        let told = tokio::spawn(states.map(|state| state.word()).collect::<Vec<_>>());
        tokio::task::yield_now().await;
        setter.set(State::Closed);
        let told = told.await.expect("it does not panic");
        assert_eq!(told.last(), Some(&"closed"));
    }
}
