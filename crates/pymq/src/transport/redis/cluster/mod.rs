//! The nodes of a cluster: which of them has a slot, and that a slot moves.
//!
//! The one invariant: a connection that this room gives out leads to a node that said itself that it
//! has the slot, and its owner is told in the moment in which another node is known to have it. What
//! follows is the usual way of a lost connection; nothing else in the house knows that there are
//! nodes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::passing::{Ear, Trail};
use self::slots::Map;
pub(super) use self::slots::{Place, slot_of};
use super::options::{RedisEndpoint, RedisOptions};
use super::refusal::Refusal;
use super::resp::{Command, Expected, Fault, Pushes, Socket, Subscribing, WeakSocket};

mod passing;
mod slots;
mod walker;

/// Why a connection ended that led to a node of before.
const MOVED: &str = "another node of the cluster has the slot by now";

/// A slot, and a key that lies in it.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    number: u16,
    key: String,
    /// Events are published there.
    events: bool,
}

impl Slot {
    /// The slot of a key.
    pub(super) fn of(key: &str) -> Self {
        Self { number: slot_of(key), key: key.to_owned(), events: false }
    }

    /// The same, where it is that of events and calls.
    pub(super) fn of_events(key: &str) -> Self {
        Self { events: true, ..Self::of(key) }
    }

    /// A key that lies in it.
    pub(super) fn key(&self) -> &str {
        &self.key
    }
}

/// Why one ended that led to a node without any slots.
const GONE: &str = "this node of the cluster takes no writes any more";

/// The nodes, and who has which slots.
#[derive(Debug)]
pub(super) struct Nodes {
    options: RedisOptions,
    known: Arc<Known>,
    /// The one that asks; it ends with the room.
    walker: Mutex<JoinSet<()>>,
    /// The connections that all slots of a node share, each with its task.
    shared: Mutex<HashMap<(Place, &'static str), Seat>>,
    /// Connections on which nobody waits just now.
    spare: Mutex<HashMap<Place, Vec<Socket>>>,
    /// Where events were listened to.
    trail: Arc<Trail>,
    /// Where they were published.
    published: Trail,
    /// Whether any was published since the last change of nodes without waiting for the answer.
    posted: AtomicBool,
}

/// How many connections to a node are kept on which nobody waits.
const SPARE: usize = 4;

/// A connection that is shared, or will be; locked while one opens it and others wait for it.
type Seat = Arc<tokio::sync::Mutex<WeakSocket>>;

/// What is known, and that somebody found it wrong.
#[derive(Debug, Default)]
struct Known {
    map: watch::Sender<Map>,
    doubted: Notify,
    /// Why nothing is known, while that is so.
    trouble: watch::Sender<Option<Fault>>,
}

impl Nodes {
    /// Begins to ask; needs a runtime.
    pub(super) fn watch(hosts: Vec<Place>, options: &RedisOptions) -> Self {
        let known = Arc::<Known>::default();
        let mut walker = JoinSet::new();
        walker.spawn(walker::walk(hosts, options.clone(), Arc::clone(&known)));
        let walker = Mutex::new(walker);
        Self {
            options: options.clone(),
            known,
            walker,
            shared: Mutex::default(),
            spare: Mutex::default(),
            trail: Arc::default(),
            published: Trail::default(),
            posted: AtomicBool::new(false),
        }
    }

    /// Ends the connection on which it asks.
    pub(super) fn close(&self) {
        self.walker.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
        self.seats().clear();
        self.spares().clear();
    }

    /// Somebody found that a node does not have what it should: asks again, now.
    pub(super) fn doubt(&self) {
        self.known.doubted.notify_one();
    }

    /// The same, where the node said who has it.
    pub(super) fn refused(&self, refusal: &Refusal) {
        if let Some((slot, place)) = refusal.moved_to() {
            self.known.map.send_if_modified(|map| map.learn(slot, place));
        }
        self.doubt();
    }

    /// Whether events are published at this node for so short a time that some who listen may not be there
    /// yet, and hear by way of the node before.
    pub(super) fn gathers(&self) -> bool {
        self.published.is_fresh()
    }

    /// Returns when whoever listens to events will be where they are published: at once, unless that has
    /// just changed.
    pub(super) async fn gathered(&self) {
        self.published.followed().await;
    }

    /// Every node that takes writes.
    pub(super) async fn masters(&self) -> Result<Vec<Place>, Fault> {
        self.learned().await?;
        Ok(self.known.map.borrow().nodes())
    }

    /// How many nodes take writes, and how many slots have none.
    pub(super) fn coverage(&self) -> (usize, usize) {
        let map = self.known.map.borrow();
        (map.nodes().len(), map.lacking())
    }

    /// A connection of its owner's own to the node that has a slot; it ends when another one has it.
    pub(super) async fn open(
        &self,
        slot: &Slot,
        role: &str,
        pushes: Option<Pushes>,
    ) -> Result<Socket, Fault> {
        let place = self.owner(slot.number).await?;
        let ear = Ear::new(slot.key());
        let listens = pushes.is_some();
        let pushes = pushes.map(|pushes| ear.hearing(pushes));
        let socket = self.enter(slot, &place, role, pushes).await?;
        if listens {
            stay(&socket, slot).await.inspect_err(|fault| self.blame(slot, &place, fault))?;
        }
        if listens && slot.events {
            let before = self.trail.go_to(&place);
            if !before.is_empty() {
                ear.let_pass(&socket, before.iter().map(|place| self.member(place))).await?;
            }
        }
        let (moved, known) = (self.moved_from(slot, &place), Arc::clone(&self.known));
        let trail = Arc::clone(&self.trail);
        let ends = async move {
            tokio::select! {
                () = moved => {}
                () = ear.left() => known.doubted.notify_one(),
            }
            trail.is_at(&place);
        };
        socket.cut_when(ends, MOVED);
        Ok(socket)
    }

    /// Notes that an event is published without waiting for the answer.
    pub(super) fn note_post(&self) {
        self.posted.store(true, Ordering::Relaxed);
    }

    /// Returns when what was posted at the nodes before has come to this one: any node takes a post, and
    /// what is published here from now on must not overtake it.
    async fn let_posts_pass(
        &self,
        slot: &Slot,
        place: &Place,
        before: &[Place],
    ) -> Result<(), Fault> {
        let ear = Ear::new(slot.key());
        let pushes = ear.hearing(Arc::new(drop));
        let socket = self.enter(slot, place, "posts", Some(pushes)).await?;
        ear.let_pass(&socket, before.iter().map(|place| self.member(place))).await
    }

    /// A connection to a node, whatever it has: the one that is shared, or one for the moment.
    pub(super) async fn member(&self, place: &Place) -> Result<Socket, Fault> {
        let shared = self.seats().get(&(place.clone(), "commands")).cloned();
        let known = match shared {
            Some(seat) => seat.lock().await.upgrade().filter(Socket::is_alive),
            None => None,
        };
        match known {
            Some(socket) => Ok(socket),
            None => Socket::open(&at(&self.options, place), Expected::Member, "nodes", None).await,
        }
    }

    /// The connection to the node that has a slot which all its slots share. It does not end when
    /// another one has the slot: see [`moved_from`](Self::moved_from).
    pub(super) async fn shared(&self, slot: &Slot, role: &'static str) -> Result<Socket, Fault> {
        let place = self.owner(slot.number).await?;
        if slot.events {
            let before = self.published.go_to(&place);
            // Before they pass: what is posted meanwhile is noted anew.
            if !before.is_empty()
                && self.posted.swap(false, Ordering::Relaxed)
                && let Err(fault) = self.let_posts_pass(slot, &place, &before).await
            {
                self.note_post();
                return Err(fault);
            }
        }
        let seat = self.seat(&place, role);
        let mut seat = seat.lock().await;
        if let Some(socket) = seat.upgrade().filter(Socket::is_alive) {
            match has(&socket, slot).await {
                Ok(()) => return Ok(socket),
                Err(Fault::Lost(_)) => {}
                Err(refused) => {
                    self.blame(slot, &place, &refused);
                    return Err(refused);
                }
            }
        }
        let socket = self.enter(slot, &place, role, None).await?;
        socket.cut_when(self.knows(|map, place| !map.has(place), &place), GONE);
        *seat = socket.downgrade();
        Ok(socket)
    }

    /// A connection on which one waits at the node that has a slot; it ends when another one has it. Who
    /// does not wait any more [gives it back](Self::give_back).
    pub(super) async fn waiting(&self, slot: &Slot, role: &str) -> Result<Socket, Fault> {
        let place = self.owner(slot.number).await?;
        let spare = self.spares().get_mut(&place).and_then(Vec::pop);
        let socket = match spare.filter(Socket::is_alive) {
            Some(socket) => socket,
            None => {
                let socket = self.enter(slot, &place, role, None).await?;
                socket.cut_when(self.misplaced(socket.downgrade(), &place), MOVED);
                socket
            }
        };
        socket.set_label(u32::from(slot.number) + 1);
        // Before it was labelled, nobody looked after it.
        match self.known.map.borrow().owner(slot.number) == Some(&place) {
            true => Ok(socket),
            false => Err(Fault::Lost(MOVED.to_owned())),
        }
    }

    /// Keeps a connection that has nothing under way for whoever waits at that node next.
    pub(super) fn give_back(&self, socket: Socket) {
        socket.set_label(0);
        if let Some(place) = socket.place().filter(|_| socket.is_alive()).cloned() {
            let mut spares = self.spares();
            spares.retain(|_, spare| {
                spare.retain(Socket::is_alive);
                !spare.is_empty()
            });
            let spare = spares.entry(place).or_default();
            if spare.len() < SPARE {
                spare.push(socket);
            }
        }
    }

    /// Returns when somebody waits on a connection for a slot that another node has, or nobody does and the
    /// node has none.
    fn misplaced(
        &self,
        socket: WeakSocket,
        place: &Place,
    ) -> impl Future<Output = ()> + Send + use<> {
        let elsewhere = move |map: &Map, place: &Place| {
            let label = socket.upgrade().map_or(0, |socket| socket.label());
            match label.checked_sub(1).and_then(|slot| u16::try_from(slot).ok()) {
                Some(slot) => map.owner(slot).is_some_and(|now| now != place),
                None => !map.has(place),
            }
        };
        self.knows(elsewhere, place)
    }

    /// Connects, and has the node say itself whether it has the slot.
    async fn enter(
        &self,
        slot: &Slot,
        place: &Place,
        role: &str,
        pushes: Option<Pushes>,
    ) -> Result<Socket, Fault> {
        let options = at(&self.options, place);
        let enter = async {
            let socket = Socket::open(&options, Expected::Node, role, pushes).await?;
            has(&socket, slot).await.map(|()| socket)
        };
        let entered = tokio::select! {
            entered = enter => entered,
            () = self.moved_from(slot, place) => Err(Fault::Lost(MOVED.to_owned())),
        };
        let named = |words: &str| format!("the node {}: {words}", options.shown());
        entered.inspect_err(|fault| self.blame(slot, place, fault)).map_err(|fault| match fault {
            Fault::Lost(why) => Fault::Lost(named(&why)),
            Fault::Refused(refusal) => Fault::Refused(refusal.reworded(named)),
        })
    }

    /// Notes that a node is not where a slot is.
    fn blame(&self, slot: &Slot, place: &Place, fault: &Fault) {
        match fault {
            Fault::Refused(refusal) => self.refused(refusal),
            Fault::Lost(_) => {
                self.known.map.send_if_modified(|map| map.unlearn(slot.number, place));
                self.doubt();
            }
        }
    }

    /// Returns once anything is known, or every host that was named refuses us for good.
    async fn learned(&self) -> Result<(), Fault> {
        let (mut map, mut trouble) = (self.known.map.subscribe(), self.known.trouble.subscribe());
        let refuses = |trouble: &Option<Fault>| matches!(trouble, Some(Fault::Refused(refusal)) if !refusal.passes());
        let limit = self.options.settings.connect_timeout();
        let known = async {
            tokio::select! {
                // Errors are impossible: we hold the senders.
                biased;
                _ = map.wait_for(|map| !map.is_empty()) => true,
                _ = trouble.wait_for(refuses) => false,
            }
        };
        if timeout(limit, known).await == Ok(true) {
            return Ok(());
        }
        let trouble = self.known.trouble.borrow().clone();
        Err(match trouble {
            Some(Fault::Refused(refusal)) => Fault::Refused(refusal),
            Some(Fault::Lost(why)) => Fault::Lost(format!("no node answers ({why})")),
            None => Fault::Lost(format!("no node answers within {limit:?}")),
        })
    }

    /// The node that has a slot, as far as that is known.
    pub(super) fn known_owner(&self, slot: &Slot) -> Option<Place> {
        self.known.map.borrow().owner(slot.number).cloned()
    }

    /// The node that has a slot.
    async fn owner(&self, slot: u16) -> Result<Place, Fault> {
        self.learned().await?;
        let owner = self.known.map.borrow().owner(slot).cloned();
        owner.ok_or_else(|| {
            self.doubt();
            Fault::Lost(format!("no node of the cluster has the slot {slot} just now"))
        })
    }

    /// Returns when another node has the slot.
    pub(super) fn moved_from(
        &self,
        slot: &Slot,
        place: &Place,
    ) -> impl Future<Output = ()> + Send + use<> {
        let slot = slot.number;
        self.knows(move |map, place| map.owner(slot).is_some_and(|now| now != place), place)
    }

    /// Returns when something is known of a node.
    fn knows<F>(&self, what: F, place: &Place) -> impl Future<Output = ()> + Send + use<F>
    where
        F: Fn(&Map, &Place) -> bool + Send + Sync + 'static,
    {
        let (mut map, place) = (self.known.map.subscribe(), place.clone());
        async move {
            // An error says that the room is gone: then nobody knows any more.
            if map.wait_for(|map| what(map, &place)).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Returns when anything is known anew.
    pub(super) fn news(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut map = self.known.map.subscribe();
        async move {
            if map.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// The place of a connection that is shared. Those of nodes that have left are given up.
    fn seat(&self, place: &Place, role: &'static str) -> Seat {
        let mut seats = self.seats();
        let key = (place.clone(), role);
        if !seats.contains_key(&key) {
            let map = self.known.map.borrow();
            seats.retain(|(place, _), _| map.has(place));
        }
        Arc::clone(seats.entry(key).or_default())
    }

    /// A panic cannot leave it half-changed, so a poisoned lock is as good as any.
    fn seats(&self) -> MutexGuard<'_, HashMap<(Place, &'static str), Seat>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spares(&self) -> MutexGuard<'_, HashMap<Place, Vec<Socket>>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way to one node.
pub(super) fn at(options: &RedisOptions, (host, port): &Place) -> RedisOptions {
    RedisOptions { endpoint: RedisEndpoint::Tcp(host.clone(), *port), ..options.clone() }
}

/// Has a node say whether it has a slot.
async fn has(socket: &Socket, slot: &Slot) -> Result<(), Fault> {
    match socket.run(&Command::new("EXISTS").arg(&slot.key)).await {
        // While a slot is on its way its keys are asked for elsewhere, and it is still had here.
        Err(Fault::Refused(refusal)) if refusal.passes() && !refusal.is_on_its_way() => {
            Err(Fault::Refused(refusal))
        }
        Err(Fault::Lost(why)) => Err(Fault::Lost(why)),
        _ => Ok(()),
    }
}

/// Has a node tell at once when it loses a slot: it ends subscriptions to channels of that slot then.
/// Before 7.0 there are none; what others say of the slot is later, and does too.
async fn stay(socket: &Socket, slot: &Slot) -> Result<(), Fault> {
    match socket.subscribing(Subscribing::ToSlot, &[slot.key()]).await {
        Err(Fault::Refused(refusal)) if !refusal.passes() => Ok(()),
        outcome => outcome,
    }
}

/// How long a node's answer is waited for that has others beside it.
fn patience(options: &RedisOptions, nodes: usize) -> Duration {
    options.settings.connect_timeout() / u32::try_from(nodes.clamp(1, 4)).unwrap_or(1)
}
