//! The master behind sentinels: found by asking all of them, left at once when it is another one.
//!
//! The one invariant: a connection that this room gave out is cut in the moment in which the
//! sentinels name another master, so that nobody goes on with a server whose writes will be thrown
//! away. What follows is the usual way of a lost connection; nothing else in the house knows that
//! there are sentinels. `council` decides whom to believe, `watcher` listens to one of them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::council::{Belief, Council, HostPort, Word};
pub use self::hosts::RedisSentinels;
use super::options::{RedisEndpoint, RedisOptions};
use super::refusal::{Cause, Refusal};
use super::resp::{Expected, Fault, Pushes, Socket};

mod council;
mod hosts;
mod watcher;

/// How long the first answer waits for company: one sentinel alone may be behind the others.
const COMPANY: Duration = Duration::from_millis(250);
/// Why a connection ended that led to a master of before.
const MOVED: &str = "the sentinels name another master by now";

/// The master that sentinels name.
#[derive(Debug)]
pub(super) struct Master {
    sentinels: RedisSentinels,
    options: RedisOptions,
    council: Arc<Chamber>,
    /// One for each sentinel; they end with the room.
    watchers: Mutex<JoinSet<()>>,
}

/// The council, and who waits for its belief.
#[derive(Debug)]
struct Chamber {
    council: Mutex<Council>,
    belief: watch::Sender<Belief>,
}

impl Chamber {
    fn hear(&self, number: usize, word: Word) {
        let mut council = self.council.lock().unwrap_or_else(PoisonError::into_inner);
        council.hear(number, word);
        // Sent under the lock, so that a later belief is not overtaken by an earlier one.
        self.belief.send_if_modified(|belief| {
            let now = council.belief(belief.place());
            if let (Some(before), Some(master)) = (belief.place(), now.place())
                && before != master
            {
                let (master, before) = (shown(master), shown(before));
                tracing::info!(master, before, "the sentinels name another master");
            }
            let changes = *belief != now;
            *belief = now;
            changes
        });
    }
}

impl Master {
    /// Begins to listen to the sentinels; needs a runtime.
    pub(super) fn watch(sentinels: RedisSentinels, options: &RedisOptions) -> Self {
        let each = sentinels.each(options);
        let council = Mutex::new(Council::new(each.len()));
        let council = Arc::new(Chamber { council, belief: watch::Sender::new(Belief::Asking) });
        let mut watchers = JoinSet::new();
        for (number, sentinel) in each.into_iter().enumerate() {
            let (council, master) = (Arc::clone(&council), sentinels.master.clone());
            let hear = move |word| council.hear(number, word);
            watchers.spawn(watcher::watch(sentinel, master, hear));
        }
        Self { sentinels, options: options.clone(), council, watchers: Mutex::new(watchers) }
    }

    /// Ends the connections to the sentinels.
    pub(super) fn close(&self) {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }

    /// The master, as people write it, if it is known.
    pub(super) fn shown(&self) -> Option<String> {
        let believed = self.council.belief.borrow();
        let (host, port) = believed.place()?.clone();
        Some(
            RedisOptions { endpoint: RedisEndpoint::Tcp(host, port), ..self.options.clone() }
                .shown(),
        )
    }

    /// A connection to the master, which ends when it is another one.
    pub(super) async fn open(&self, role: &str, pushes: Option<Pushes>) -> Result<Socket, Fault> {
        let place = self.place().await?;
        let (host, port) = place.clone();
        let endpoint = RedisEndpoint::Tcp(host, port);
        let options = RedisOptions { endpoint, ..self.options.clone() };
        let opened = tokio::select! {
            opened = Socket::open(&options, Expected::Server, role, pushes) => opened,
            () = self.moved_from(&place) => Err(Fault::Lost(MOVED.to_owned())),
        };
        let named = |words: &str| format!("the master {}: {words}", options.shown());
        let socket = opened.map_err(|fault| match fault {
            Fault::Lost(why) => Fault::Lost(named(&why)),
            Fault::Refused(refusal) => Fault::Refused(refusal.reworded(named)),
        })?;
        socket.cut_when(self.moved_from(&place), MOVED);
        Ok(socket)
    }

    /// Where the master is: the first answer, and for a moment those of the others.
    async fn place(&self) -> Result<HostPort, Fault> {
        let mut belief = self.council.belief.subscribe();
        let heard = belief.wait_for(|belief| !matches!(belief, Belief::Asking));
        // An error of the inner kind is impossible: we hold the sender.
        let limit = self.options.settings.connect_timeout();
        if timeout(limit, heard).await.is_err() {
            let why = format!("no sentinel answered within {limit:?}");
            return Err(Fault::Lost(why));
        }
        let agreed = |belief: &Belief| !matches!(belief, Belief::Master { agreed: false, .. });
        // Nobody else speaks: then the first answer has to do.
        let _ = timeout(COMPANY, belief.wait_for(agreed)).await;
        let believed = belief.borrow().clone();
        match believed {
            Belief::Master { place, .. } => Ok(place),
            Belief::Asking => Err(Fault::Lost("no sentinel has answered yet".to_owned())),
            Belief::Silence(why) => Err(Fault::Lost(format!("no sentinel answers ({why})"))),
            Belief::NoSuchMaster => {
                let name = &self.sentinels.master;
                let why = format!(
                    "no sentinel watches a master {name:?}; SENTINEL MASTERS lists those that it does"
                );
                Err(Fault::Refused(Refusal::found(Cause::Sentinel, why)))
            }
        }
    }

    /// Returns when the master is another one.
    fn moved_from(&self, place: &HostPort) -> impl Future<Output = ()> + Send + use<> {
        let (mut belief, place) = (self.council.belief.subscribe(), place.clone());
        async move {
            let elsewhere = |belief: &Belief| belief.place().is_some_and(|now| *now != place);
            // An error says that the room is gone: then nobody knows any more.
            if belief.wait_for(elsewhere).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Returns when the sentinels say anything new.
    pub(super) fn news(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut belief = self.council.belief.subscribe();
        async move {
            if belief.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

fn shown((host, port): &HostPort) -> String {
    RedisEndpoint::Tcp(host.clone(), *port).to_string()
}
