//! Subscriptions: one socket, one SUBSCRIBE for each name, however many subscribe to it here.
//!
//! The one invariant: a single task changes what is subscribed, in the order it was asked, so that
//! the routing table and the server agree whenever it rests. Messages are routed by the socket's
//! own task, straight into mailboxes, see `routes`.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::core::Stage;
use super::dialer::{Dialer, jitter};
use super::membership::{Membership, Request};
use super::purpose::Purpose;
use super::refusal::Refusal;
use super::resp::{Fault, Pushes, Socket};
use super::routes::{Name, Table, Target, deliver, lock};
use super::standing::Role;
use super::subscribing::{fetch_kept, one_by_one, portions, subscribe, unsubscribe};
use super::timing::ASK_AGAIN;
use crate::error::{ErrorKind, Result};
use crate::transport::Sender;

/// The asking side.
pub(super) struct PubSub {
    control: mpsc::UnboundedSender<Request>,
    next: AtomicU64,
    patience: Duration,
    dialer: Arc<Dialer>,
    table: Arc<Mutex<Table>>,
}

impl PubSub {
    /// Starts the task; it connects when the first name is asked for.
    pub(super) fn start(
        dialer: Arc<Dialer>,
        patience: Duration,
        stage: watch::Receiver<Stage>,
        runtime: &Handle,
    ) -> Self {
        // Unbounded, because drops on any thread must be able to send without waiting; at most two
        // requests lie in it for each subscription of the program.
        let (control, requests) = mpsc::unbounded_channel();
        let table = Arc::<Mutex<Table>>::default();
        let conductor = Conductor {
            dialer: Arc::clone(&dialer),
            table: Arc::clone(&table),
            requests,
            waiting: Vec::new(),
            refused: Refused::default(),
            stage,
        };
        runtime.spawn(conductor.run());
        Self { control, next: AtomicU64::new(0), patience, dialer, table }
    }

    /// How many events wait to be read, and how many their readers were too slow for.
    pub(super) fn load(&self) -> (usize, u64) {
        let mut seen = HashMap::new();
        for route in lock(&self.table).routes() {
            if let Target::Events(mailbox) = &route.target {
                seen.insert(route.id, mailbox.load());
            }
        }
        seen.into_values().fold((0, 0), |sum, load| (sum.0 + load.0, sum.1 + load.1))
    }

    /// Listens to all names; returns when the server has confirmed each.
    pub(super) async fn join(
        &self,
        purpose: Purpose<'_>,
        names: Vec<Name>,
        target: Target,
    ) -> Result<Membership> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (done, confirmed) = oneshot::channel();
        // Made before anything is sent: dropped while we wait, it takes the request back.
        let membership = Membership { control: self.control.clone(), id, names: names.clone() };
        if self.control.send(Request::Join { id, names, target, done }).is_err() {
            return Err(purpose.closed());
        }
        let patience = purpose.left().map_or(self.patience, |left| left.min(self.patience));
        match timeout(patience, confirmed).await {
            Ok(Ok(Ok(()))) => Ok(membership),
            Ok(Ok(Err(refusal))) => Err(purpose.refused(&refusal)),
            Ok(Err(_)) => Err(purpose.closed()),
            Err(_) => {
                let trouble = self.dialer.standing().trouble(Role::Subscriptions);
                let why = format!("not confirmed within {patience:?} ({trouble})");
                Err(purpose.error(ErrorKind::Connection, why))
            }
        }
    }
}

impl std::fmt::Debug for PubSub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PubSub").finish_non_exhaustive()
    }
}

impl From<(Joining, Target)> for Request {
    fn from((Joining { id, names, done }, target): (Joining, Target)) -> Self {
        Self::Join { id, names, target, done }
    }
}

/// A join that waits for the server.
struct Joining {
    id: u64,
    names: Vec<Name>,
    done: oneshot::Sender<Result<(), Refusal>>,
}

/// The task that alone changes subscriptions.
struct Conductor {
    dialer: Arc<Dialer>,
    table: Arc<Mutex<Table>>,
    requests: mpsc::UnboundedReceiver<Request>,
    waiting: Vec<Joining>,
    refused: Refused,
    stage: watch::Receiver<Stage>,
}

/// Why a connection is not used any more.
enum End {
    Lost(String),
    /// Of a slot of a cluster, to whose queues nobody listens any more.
    Idle,
    /// Nobody can ask any more.
    Over,
}

/// Also when the runtime ends and takes the task with it: then nothing comes any more.
impl Drop for Conductor {
    fn drop(&mut self) {
        for route in lock(&self.table).routes() {
            route.target.close();
        }
    }
}

/// What the server has taken back, to be asked for again.
#[derive(Default)]
struct Refused {
    groups: HashMap<u64, Vec<Name>>,
    again_at: Option<Instant>,
    attempts: u32,
}

impl Refused {
    /// Asks again later, and later still each time.
    fn put_off(&mut self) {
        let pause = Duration::from_millis(250) * 2_u32.saturating_pow(self.attempts.min(10));
        self.attempts += 1;
        let pause = pause.min(ASK_AGAIN);
        self.again_at =
            (!self.groups.is_empty()).then(|| Instant::now() + jitter(pause / 2, pause));
    }
}

impl Conductor {
    async fn run(mut self) {
        let mut stage = self.stage.clone();
        tokio::select! {
            () = self.serve() => {}
            // An error says that the transport is gone, which is the same news.
            _ = stage.wait_for(|stage| *stage > Stage::Open) => {}
        }
    }

    async fn serve(&mut self) {
        loop {
            let Some(first) = self.requests.recv().await else { return };
            self.note(first);
            let mut again = false;
            loop {
                let Some(socket) = self.connect().await else { return };
                let end = match self.restore(&socket, again).await {
                    Ok(()) => self.conduct(&socket).await,
                    Err(fault) => End::Lost(fault.to_string()),
                };
                again = true;
                socket.cut();
                match end {
                    End::Lost(why) => self.dialer.standing().lost(Role::Subscriptions, &why),
                    End::Idle => break,
                    End::Over => return,
                }
            }
        }
    }

    /// A new connection; what is asked meanwhile is noted.
    async fn connect(&mut self) -> Option<Socket> {
        let dialer = Arc::clone(&self.dialer);
        let table = Arc::clone(&self.table);
        let pushes: Pushes = Arc::new(move |push| deliver(&table, push));
        let mut dial = std::pin::pin!(dialer.dial(Role::Subscriptions, Some(pushes)));
        loop {
            tokio::select! {
                socket = &mut dial => return Some(socket),
                request = self.requests.recv() => self.note(request?),
            }
        }
    }

    /// Does what is asked until the connection ends, or nobody needs it.
    async fn conduct(&mut self, socket: &Socket) -> End {
        let mut doubted = pin!(self.dialer.doubted(Role::Subscriptions, socket));
        loop {
            let again_at = self.refused.again_at;
            let request = tokio::select! {
                () = socket.ended() => return End::Lost("the connection ended".to_owned()),
                _ = &mut doubted => return End::Lost("another server takes the writes".to_owned()),
                () = reached(again_at) => None,
                request = self.requests.recv() => match request {
                    None => return End::Over,
                    request => request,
                },
            };
            let outcome = match request {
                None => self.ask_again(socket).await,
                Some(Request::Join { id, names, target, done }) => {
                    // It may be allowed again by now, and events would come before the news of that.
                    let asked = self.ask_again(socket).await;
                    let joining = Joining { id, names, done };
                    match asked {
                        Ok(()) => self.join(socket, joining, &target).await,
                        Err(fault) => {
                            self.note(Request::from((joining, target)));
                            Err(fault)
                        }
                    }
                }
                Some(Request::Leave { id, names, done }) => {
                    let outcome = self.leave(socket, id, &names).await;
                    if let Err(Fault::Refused(refusal)) = &outcome {
                        tracing::warn!(?names, %refusal, "the server refuses to end a subscription");
                        // Whoever asked may not wait for it.
                        done.map(|done| done.send(Err(refusal.clone())));
                    }
                    outcome
                }
            };
            if let Err(Fault::Lost(why)) = outcome {
                return End::Lost(why);
            }
            if self.dialer.is_for_queues() && lock(&self.table).is_empty() {
                return End::Idle;
            }
        }
    }

    /// Asks for what was taken back; what is given again has missed something meanwhile.
    async fn ask_again(&mut self, socket: &Socket) -> Result<(), Fault> {
        for (id, names) in std::mem::take(&mut self.refused.groups) {
            match self.begin_again(socket, &names).await {
                Ok(()) => {
                    tracing::info!(?names, "the server allows a subscription again, after a gap");
                    let mut table = lock(&self.table);
                    names.iter().for_each(|name| table.set_refused(name, false));
                    table.routes().filter(|route| route.id == id).for_each(|route| {
                        route.target.gap();
                    });
                }
                Err(fault) => {
                    self.refused.groups.insert(id, names);
                    if let Fault::Lost(_) = fault {
                        return Err(fault);
                    }
                }
            }
        }
        self.refused.put_off();
        Ok(())
    }

    /// Subscribes to names in one step, and reads what was kept for the inboxes among them.
    async fn begin_again(&self, socket: &Socket, names: &[Name]) -> Result<(), Fault> {
        subscribe(socket, names).await?;
        for (name, mailbox) in self.inboxes(names) {
            fetch_kept(socket, &self.dialer.key(&name), &mailbox).await?;
        }
        Ok(())
    }

    /// The inboxes of those names.
    fn inboxes(&self, names: &[Name]) -> Vec<(Arc<str>, Sender<Bytes>)> {
        let table = lock(&self.table);
        let mut inboxes = Vec::new();
        for name in names {
            let Name::Topic(topic) = name else { continue };
            for route in table.topics.get(topic).into_iter().flat_map(|entry| &entry.routes) {
                if let Target::Inbox(mailbox) = &route.target {
                    inboxes.push((Arc::clone(topic), mailbox.clone()));
                }
            }
        }
        inboxes
    }

    /// Changes the table only: there is no server to tell.
    fn note(&mut self, request: Request) {
        match request {
            Request::Join { id, names, target, done } => {
                let mut table = lock(&self.table);
                for name in &names {
                    table.add(name, id, &target);
                }
                drop(table);
                self.waiting.push(Joining { id, names, done });
            }
            Request::Leave { id, names, .. } => {
                self.waiting.retain(|joining| joining.id != id);
                self.refused.groups.remove(&id);
                let mut table = lock(&self.table);
                for name in &names {
                    table.remove(name, id);
                }
            }
        }
    }

    async fn join(
        &mut self,
        socket: &Socket,
        joining: Joining,
        target: &Target,
    ) -> Result<(), Fault> {
        let id = joining.id;
        let mut new = joining.names.clone();
        {
            // In the table first: the server may publish in the moment it confirms.
            let mut table = lock(&self.table);
            new.retain(|name| table.add(name, id, target));
        }
        let mut outcome = subscribe(socket, &new).await;
        if let (Ok(()), Target::Inbox(mailbox), [Name::Topic(name)]) =
            (&outcome, target, &*joining.names)
        {
            outcome = fetch_kept(socket, &self.dialer.key(name), mailbox).await;
        }
        match outcome {
            Ok(()) => {
                let mut table = lock(&self.table);
                table.set_live(&joining.names, id);
                joining.names.iter().for_each(|name| table.set_refused(name, false));
                drop(table);
                // Whoever asked may have gone; then its membership says so too.
                let _ = joining.done.send(Ok(()));
                Ok(())
            }
            Err(Fault::Lost(why)) => {
                self.waiting.push(joining);
                Err(Fault::Lost(why))
            }
            Err(Fault::Refused(refusal)) => {
                let outcome = self.leave(socket, id, &joining.names).await;
                let _ = joining.done.send(Err(refusal));
                outcome
            }
        }
    }

    /// What the server sent before it knew is still delivered: the routes go last.
    async fn leave(&mut self, socket: &Socket, id: u64, names: &[Name]) -> Result<(), Fault> {
        self.waiting.retain(|joining| joining.id != id);
        self.refused.groups.remove(&id);
        let mut unused = names.to_vec();
        unused.retain(|name| lock(&self.table).is_only(name, id));
        let outcome = unsubscribe(socket, &unused).await;
        let mut table = lock(&self.table);
        for name in names {
            table.remove(name, id);
        }
        outcome
    }

    /// Subscribes to everything on a new connection, then tells of the gap. What was subscribed
    /// together is together again: whoever counts a function's topic must not find it without the
    /// marker of whom it belongs to.
    async fn restore(&mut self, socket: &Socket, again: bool) -> Result<(), Fault> {
        self.refused = Refused::default();
        let groups = lock(&self.table).groups();
        let mut refused: HashMap<u64, Refusal> = HashMap::new();
        for portion in portions(&groups) {
            let names: Vec<Name> = portion.iter().flat_map(|(_, names)| names.clone()).collect();
            match subscribe(socket, &names).await {
                Ok(()) => {}
                Err(Fault::Lost(why)) => return Err(Fault::Lost(why)),
                // One of them is forbidden by now; the others should not suffer.
                Err(Fault::Refused(_)) => one_by_one(socket, portion, &mut refused).await?,
            }
        }
        if again {
            let mut table = lock(&self.table);
            table.routes().filter(|route| route.live).for_each(|route| route.target.gap());
        }
        for (id, names) in &groups {
            for (name, mailbox) in self.inboxes(names) {
                match fetch_kept(socket, &self.dialer.key(&name), &mailbox).await {
                    Err(Fault::Refused(refusal)) => {
                        tracing::warn!(inbox = &*name, %refusal, "the server refuses what it kept");
                        refused.insert(*id, refusal);
                    }
                    outcome => outcome?,
                }
            }
        }
        self.take_refused(&groups, refused);
        Ok(())
    }

    /// Notes what the server refused; answers those who wait for the server.
    fn take_refused(&mut self, groups: &[(u64, Vec<Name>)], refused: HashMap<u64, Refusal>) {
        let mut table = lock(&self.table);
        for (id, names) in groups {
            names.iter().for_each(|name| table.set_refused(name, refused.contains_key(id)));
        }
        // A name that somebody else has, too, is there.
        for (_, names) in groups.iter().filter(|(id, _)| !refused.contains_key(id)) {
            names.iter().for_each(|name| table.set_refused(name, false));
        }
        for route in table.routes().filter(|route| route.live) {
            if let Some(refusal) = refused.get(&route.id) {
                route.target.refused(&refusal.to_string());
            }
        }
        for joining in std::mem::take(&mut self.waiting) {
            table.set_live(&joining.names, joining.id);
            let outcome = refused.get(&joining.id).cloned().map_or(Ok(()), Err);
            // Whoever asked may have gone; then its membership says so too.
            let _ = joining.done.send(outcome);
        }
        drop(table);
        let taken_back = groups.iter().filter(|(id, _)| refused.contains_key(id)).cloned();
        self.refused.groups = taken_back.collect();
        self.refused.put_off();
    }
}

/// Returns at a moment; without one, never.
async fn reached(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
