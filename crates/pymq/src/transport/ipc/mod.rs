//! The transport between processes of one machine, without a server: `ipc://NAME`.
//!
//! All processes map one file, in which the whole broker lies: who subscribes, what is in the post, and
//! the queues. There is no process of its own that could die. Its invariant: each operation is one
//! step under one lock, done whole or not at all, whoever is killed when; see `heap`. What is above
//! that (`topics`, `addresses`, `shelves`, `items`) is plain code over words; what is
//! unsafe is in `mapping`, `sigbus`, `robust`, `futex` and `system`.
//!
//! It reaches processes of the same user on the same machine, and survives their end; what it does
//! not survive is the end of the machine, unless its directory is on a disk (`ipc:///directory`).

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{
    Answer, Capabilities, Health, Inspect, Limit, Settings, State, States, Transport, pending,
    states,
};
use crate::error::{Error, ErrorKind, Result};

mod addresses;
mod bell;
mod bus_directory;
mod bus_lock;
#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod damage_tests;
mod dead_letters;
mod doorbell;
mod events;
#[cfg(test)]
mod full_tests;
mod futex;
mod heap;
mod hub;
mod inboxes;
mod inspect;
mod items;
mod layout;
mod list;
mod locks;
mod lookout;
mod mapping;
mod names;
mod peers;
mod put_ids;
mod queues;
mod recipients;
mod robust;
mod routes;
mod shelves;
mod sigbus;
mod survey;
mod system;
mod topics;
mod treap;
mod waits;
mod watches;

use bus_directory::BusDirectory;
use hub::Hub;
use lookout::Lookout;
pub use survey::{Found, Member, buses, clean, look};

/// How long a look at the bus waits for its lock.
const GLANCE: Duration = Duration::from_millis(50);

/// One connection to a bus of this machine. Dropping it closes it.
pub struct Ipc {
    hub: Arc<Hub>,
    mailbox: Limit,
}

impl Ipc {
    /// Connects to the bus of that name, which is made where there is none: `ipc://NAME`, or
    /// `ipc:///directory` for one that lies there.
    ///
    /// # Errors
    /// `Config` for what is no such address and for a place that other users can get at, `Connection`
    /// if the place cannot be used, `Server` if it is full.
    pub async fn connect(url: &str) -> Result<Self> {
        Self::connect_with(url, Settings::default()).await
    }

    /// Connects as [`connect`](Self::connect) does, with more to say: how much a mailbox holds.
    ///
    /// # Errors
    /// `Unsupported` for any other setting, and as of [`connect`](Self::connect).
    pub async fn connect_with(url: &str, mut settings: Settings) -> Result<Self> {
        let mailbox = settings.mailbox.take().unwrap_or_default();
        // There is nobody to wait for.
        settings.connect_wait = None;
        settings.refuse_rest("ipc://")?;
        let place = BusDirectory::of(url)?;
        let (tell, told) = oneshot::channel();
        let spawned = std::thread::Builder::new().name("pymq-ipc".into()).spawn(move || {
            let (state, _) = states(State::connected());
            match Hub::join(place, state) {
                Ok((hub, light)) => {
                    let hub = Arc::new(hub);
                    // Whoever connects may have given up; then the connection ends at once.
                    if tell.send(Ok(Handle(Arc::clone(&hub)))).is_ok() {
                        live(&hub);
                    }
                    hub.leave(light);
                }
                Err(error) => drop(tell.send(Err(error))),
            }
        });
        let failed = |why: String| Error::new(ErrorKind::Connection, "connect", "ipc://", why);
        spawned.map_err(|error| failed(error.to_string()))?;
        let handle = told.await.map_err(|_| failed("its thread has ended".to_owned()))??;
        hub::listen(&handle.0);
        Ok(Self { hub: Arc::clone(&handle.0), mailbox })
    }
}

/// A hub on its way to whoever connects.
struct Handle(Arc<Hub>);

/// What the thread of a connection does as long as it is open.
fn live(hub: &Hub) {
    let mut lookout = Lookout::new(hub);
    while !hub.is_ending() {
        hub.catch_up();
        let more = hub.receive();
        hub.ripen();
        hub.look_for_damage();
        let now = Instant::now();
        let next = lookout.look(now);
        if !more {
            lookout.sleep(now, next);
        }
    }
}

impl Transport for Ipc {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            receiver_count: true,
            cross_process: true,
            put_options: true,
            letters: true,
            ..Capabilities::NONE
        }
    }

    fn states(&self) -> States {
        self.hub.state.subscribe()
    }

    fn health(&self) -> Health {
        let mut health = Health::new(self.hub.state.now());
        let loads: Vec<(usize, u64)> = {
            let recipients = self.hub.recipients();
            recipients.subscriptions.values().map(|subscribed| subscribed.sender.load()).collect()
        };
        (health.unread_events, health.lost_events) =
            loads.iter().fold((0, 0), |sum, load| (sum.0 + load.0, sum.1 + load.1));
        let looked = self.hub.attempt(GLANCE, "count", "ipc://", |step| {
            Ok(shelves::taken_from_by(step, self.hub.peer))
        });
        if let Ok(Some(consumers)) = looked {
            health.consumers = consumers;
        }
        health
    }

    fn ping(&self) -> Answer<'_, ()> {
        self.hub.run("ping", "ipc://", |_| Ok(()))
    }

    fn inspect(&self) -> Option<&dyn Inspect> {
        Some(self)
    }

    fn close(&self) -> Answer<'_, ()> {
        self.hub.end();
        pending(async {
            let mut states = self.hub.state.subscribe();
            while states.next().await.is_some_and(|state| state != State::Closed) {}
            Ok(())
        })
    }
}

impl Drop for Ipc {
    fn drop(&mut self) {
        self.hub.end();
    }
}

impl fmt::Debug for Ipc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ipc").field("state", &self.hub.state.now()).finish_non_exhaustive()
    }
}
