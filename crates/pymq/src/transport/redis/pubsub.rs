//! Subscriptions: one socket, one SUBSCRIBE for each name, however many listen to it here.
//!
//! The one invariant: a single task changes what is subscribed, in the order it was asked, so that
//! the routing table and the server agree whenever it rests. Messages are routed by the socket's
//! own task, straight into mailboxes, see `routes`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_core::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::link::{Dialer, Purpose, Stage};
use super::refusal::Refusal;
use super::resp::{Batch, Command, Fault, Pushes, Reply, Subscribing, Wire};
use super::routes::{Name, Table, Target, deliver, lock};
use crate::error::{ErrorKind, Result};
use crate::transport::{Guard, Sender};

/// How many names go into one SUBSCRIBE after a reconnect.
const CHUNK: usize = 1000;

/// The asking side.
pub(super) struct PubSub {
    control: mpsc::UnboundedSender<Request>,
    next: AtomicU64,
    patience: Duration,
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
        let table = Arc::default();
        let waiting = Vec::new();
        runtime.spawn(Conductor { dialer, table, requests, waiting, stage }.run());
        Self { control, next: AtomicU64::new(0), patience }
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
        match timeout(self.patience, confirmed).await {
            Ok(Ok(Ok(()))) => Ok(membership),
            Ok(Ok(Err(refusal))) => Err(purpose.refused(&refusal)),
            Ok(Err(_)) => Err(purpose.closed()),
            Err(_) => {
                let why = format!("not confirmed within {:?}", self.patience);
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

/// Being subscribed; dropping it ends that.
pub(super) struct Membership {
    control: mpsc::UnboundedSender<Request>,
    id: u64,
    names: Vec<Name>,
}

impl Membership {
    fn leave(&mut self, done: Option<oneshot::Sender<Result<(), Refusal>>>) {
        let names = std::mem::take(&mut self.names);
        if !names.is_empty() {
            // Refused only when the task has ended, and every subscription with it.
            let _ = self.control.send(Request::Leave { id: self.id, names, done });
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.leave(None);
    }
}

impl Guard for Membership {
    fn release(mut self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        let (done, left) = oneshot::channel();
        let first = match self.names.first() {
            Some(Name::Topic(name) | Name::Pattern(name)) => name.to_string(),
            None => String::new(),
        };
        self.leave(Some(done));
        Box::pin(async move {
            match left.await {
                Ok(Err(refusal)) => Err(Purpose::change("unsubscribe", &first).refused(&refusal)),
                // An error says that the task has ended: then the socket is gone too.
                Ok(Ok(())) | Err(_) => Ok(()),
            }
        })
    }
}

enum Request {
    Join { id: u64, names: Vec<Name>, target: Target, done: oneshot::Sender<Result<(), Refusal>> },
    Leave { id: u64, names: Vec<Name>, done: Option<oneshot::Sender<Result<(), Refusal>>> },
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
    stage: watch::Receiver<Stage>,
}

impl Conductor {
    async fn run(mut self) {
        let mut stage = self.stage.clone();
        tokio::select! {
            () = self.serve() => {}
            // An error says that the transport is gone, which is the same news.
            _ = stage.wait_for(|stage| *stage > Stage::Open) => {}
        }
        for route in lock(&self.table).routes() {
            route.target.close();
        }
    }

    async fn serve(&mut self) {
        let Some(first) = self.requests.recv().await else { return };
        self.note(first);
        let mut again = false;
        loop {
            let Some(wire) = self.connect().await else { return };
            if self.restore(&wire, again).await.is_ok() {
                if again {
                    tracing::info!("subscriptions are back, after a gap");
                }
                again = true;
                if !self.conduct(&wire).await {
                    return;
                }
                tracing::warn!("lost the connection for subscriptions");
            }
            wire.cut();
        }
    }

    /// A new connection; what is asked meanwhile is noted.
    async fn connect(&mut self) -> Option<Wire> {
        let dialer = Arc::clone(&self.dialer);
        let table = Arc::clone(&self.table);
        let pushes: Pushes = Arc::new(move |push| deliver(&table, push));
        let mut dial = std::pin::pin!(dialer.dial("subscriptions", Some(pushes)));
        loop {
            tokio::select! {
                wire = &mut dial => return Some(wire),
                request = self.requests.recv() => self.note(request?),
            }
        }
    }

    /// Does what is asked until the connection ends; `false` when nobody can ask any more.
    async fn conduct(&mut self, wire: &Wire) -> bool {
        loop {
            let request = tokio::select! {
                () = wire.ended() => return true,
                request = self.requests.recv() => request,
            };
            let outcome = match request {
                None => return false,
                Some(Request::Join { id, names, target, done }) => {
                    self.join(wire, Joining { id, names, done }, &target).await
                }
                Some(Request::Leave { id, names, done }) => {
                    let outcome = self.leave(wire, id, &names).await;
                    if let Err(Fault::Refused(refusal)) = &outcome {
                        tracing::warn!(?names, %refusal, "the server refuses to end a subscription");
                        // Whoever asked may not wait for it.
                        done.map(|done| done.send(Err(refusal.clone())));
                    }
                    outcome
                }
            };
            if let Err(Fault::Lost(_)) = outcome {
                return true;
            }
        }
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
                let mut table = lock(&self.table);
                for name in &names {
                    table.remove(name, id);
                }
            }
        }
    }

    async fn join(&mut self, wire: &Wire, joining: Joining, target: &Target) -> Result<(), Fault> {
        let id = joining.id;
        let mut new = joining.names.clone();
        {
            // In the table first: the server may publish in the moment it confirms.
            let mut table = lock(&self.table);
            new.retain(|name| table.add(name, id, target));
        }
        let mut outcome = subscribe(wire, &new).await;
        if let (Ok(()), Target::Inbox(mailbox), [Name::Topic(name)]) =
            (&outcome, target, &*joining.names)
        {
            outcome = fetch_kept(wire, name, mailbox).await;
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
                let outcome = self.leave(wire, id, &joining.names).await;
                let _ = joining.done.send(Err(refusal));
                outcome
            }
        }
    }

    /// What the server sent before it knew is still delivered: the routes go last.
    async fn leave(&mut self, wire: &Wire, id: u64, names: &[Name]) -> Result<(), Fault> {
        self.waiting.retain(|joining| joining.id != id);
        let mut unused = names.to_vec();
        unused.retain(|name| lock(&self.table).is_only(name, id));
        let outcome = unsubscribe(wire, &unused).await;
        let mut table = lock(&self.table);
        for name in names {
            table.remove(name, id);
        }
        outcome
    }

    /// Subscribes to everything on a new connection, then tells of the gap.
    async fn restore(&mut self, wire: &Wire, again: bool) -> Result<(), Fault> {
        let names: Vec<Name> = {
            let table = lock(&self.table);
            let topics = table.topics.keys().map(|topic| Name::Topic(Arc::clone(topic)));
            let patterns = table.patterns.keys().map(|glob| Name::Pattern(Arc::clone(glob)));
            topics.chain(patterns).collect()
        };
        let mut refused: HashMap<Name, Refusal> = HashMap::new();
        for chunk in names.chunks(CHUNK) {
            match subscribe(wire, chunk).await {
                Ok(()) => {}
                Err(Fault::Lost(why)) => return Err(Fault::Lost(why)),
                // One of them is forbidden by now; the others should not suffer.
                Err(Fault::Refused(_)) => one_by_one(wire, chunk, &mut refused).await?,
            }
        }
        let mut inboxes = Vec::new();
        for (name, entry) in &lock(&self.table).topics {
            for route in &entry.routes {
                if let Target::Inbox(mailbox) = &route.target {
                    inboxes.push((Arc::clone(name), mailbox.clone()));
                }
            }
        }
        if again {
            lock(&self.table)
                .routes()
                .filter(|route| route.live)
                .for_each(|route| route.target.gap());
        }
        for (name, mailbox) in inboxes {
            match fetch_kept(wire, &name, &mailbox).await {
                Err(Fault::Refused(refusal)) => {
                    tracing::warn!(inbox = &*name, %refusal, "the server refuses what it had kept");
                    refused.insert(Name::Topic(name), refusal);
                }
                outcome => outcome?,
            }
        }
        for name in &names {
            lock(&self.table).set_refused(name, refused.contains_key(name));
        }
        for joining in std::mem::take(&mut self.waiting) {
            let refusal = joining.names.iter().find_map(|name| refused.get(name));
            let outcome = refusal.cloned().map_or(Ok(()), Err);
            lock(&self.table).set_live(&joining.names, joining.id);
            // Whoever asked may have gone; then its membership says so too.
            let _ = joining.done.send(outcome);
        }
        Ok(())
    }
}

fn split(names: &[Name]) -> (Vec<Arc<str>>, Vec<Arc<str>>) {
    let (mut topics, mut patterns) = (Vec::new(), Vec::new());
    for name in names {
        match name {
            Name::Topic(topic) => topics.push(Arc::clone(topic)),
            Name::Pattern(pattern) => patterns.push(Arc::clone(pattern)),
        }
    }
    (topics, patterns)
}

/// All exact names in one command: the server begins with them in one step.
async fn subscribe(wire: &Wire, names: &[Name]) -> Result<(), Fault> {
    let (topics, patterns) = split(names);
    wire.subscribing(Subscribing::To, &topics).await?;
    wire.subscribing(Subscribing::ToPatterns, &patterns).await
}

/// Names that are in use elsewhere are not told to the server, but its answer to anything comes
/// behind their messages.
async fn unsubscribe(wire: &Wire, names: &[Name]) -> Result<(), Fault> {
    if names.is_empty() {
        return match wire.pipeline(&Batch::from_iter([Command::new("PING")])).await {
            // Also where the user may not ask for it.
            Ok(_) | Err(Fault::Refused(_)) => Ok(()),
            Err(Fault::Lost(why)) => Err(Fault::Lost(why)),
        };
    }
    let (topics, patterns) = split(names);
    wire.subscribing(Subscribing::NoMore, &topics).await?;
    wire.subscribing(Subscribing::NoMorePatterns, &patterns).await
}

async fn one_by_one(
    wire: &Wire,
    names: &[Name],
    refused: &mut HashMap<Name, Refusal>,
) -> Result<(), Fault> {
    for name in names {
        match subscribe(wire, std::slice::from_ref(name)).await {
            Ok(()) => {}
            Err(Fault::Lost(why)) => return Err(Fault::Lost(why)),
            Err(Fault::Refused(refusal)) => {
                tracing::warn!(?name, %refusal, "the server refuses a subscription it had accepted");
                refused.insert(name.clone(), refusal);
            }
        }
    }
    Ok(())
}

/// Reads what was kept for an inbox while nobody listened, oldest first. Who may not read that would
/// miss answers some day, and is told at once.
async fn fetch_kept(wire: &Wire, name: &str, mailbox: &Sender<Bytes>) -> Result<(), Fault> {
    let commands = Batch::from_iter([
        Command::new("MULTI"),
        Command::new("LRANGE").arg(name).arg("0").arg("-1"),
        Command::new("DEL").arg(name),
        Command::new("EXEC"),
    ]);
    let replies = wire.pipeline(&commands).await?;
    let refused = |reply: &Reply| match reply {
        Reply::Refused(refusal) => Some(refusal.clone()),
        _ => None,
    };
    if let Some(refusal) = replies.iter().find_map(refused) {
        return Err(Fault::Refused(refusal));
    }
    let answers = replies.into_iter().next_back().map(Reply::items).unwrap_or_default();
    let kept = answers.into_iter().next().map(Reply::items).unwrap_or_default();
    for message in kept.into_iter().rev().filter_map(Reply::bytes) {
        mailbox.send(message);
    }
    Ok(())
}
