//! The broker: a bus in the memory of this process, lent to everybody who connects.
//!
//! Each client has a connection of its own to it, and whatever ends the client ends that one: so
//! leases, subscriptions and inboxes of the dead are given back. Requests of one client are begun
//! in their order; one that waits does so beside the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::FutureExt as _;
use pymq::name::Id;
use pymq::transport::memory::Memory;
use pymq::transport::{
    Arrival, Claimed, Events as _, Inbox, Inboxes as _, Letters, Message, Queues as _, Receipt,
    SettleOptions, Shelf, Subscription, Transport as _,
};
use pymq::{Error, ErrorKind, Result};
use serde::Serialize;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream, tcp};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::frame::{self, Request, Said, address, broken, filters, wait};

/// How many frames may wait for a client that does not read. Beyond that its subscriptions wait,
/// and lose the oldest events in their own mailboxes, which is told.
const WAITING_FRAMES: usize = 64;

/// Serves everybody who connects, until the future is dropped; then all connections end.
///
/// # Errors
/// `Server` when the listener fails.
pub async fn serve(listener: TcpListener) -> Result<()> {
    let broker = format!("memory://{}", Id::random());
    // Holds the broker while nobody is connected.
    let _broker = Memory::connect(&broker)?;
    let mut clients = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.map_err(failed)?;
        let memory = Arc::new(Memory::connect(&broker)?);
        // A client whose connection breaks has ended; there is nobody left to tell.
        clients.spawn(async move { drop(attend(socket, memory).await) });
        while clients.try_join_next().is_some() {}
    }
}

fn failed(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Server, "serve", "listener", error.to_string()).with_source(error)
}

/// Serves one client until it goes away.
async fn attend(socket: TcpStream, memory: Arc<Memory>) -> Result<()> {
    socket.set_nodelay(true).map_err(failed)?;
    let (mut from, to) = socket.into_split();
    let (outgoing, frames) = mpsc::channel(WAITING_FRAMES);
    let mut tasks = JoinSet::new();
    tasks.spawn(write_all(frames, to));
    let mut client = Client { memory, outgoing, waiting: Arc::default(), streams: HashMap::new() };
    while let Some(((number, request), parts)) = frame::read(&mut from).await? {
        if matches!(request, Request::Close) {
            break;
        }
        client.begin(&mut tasks, number, request, parts).await;
        while tasks.try_join_next().is_some() {}
    }
    client.memory.close().await
}

async fn write_all(mut frames: mpsc::Receiver<Bytes>, mut to: tcp::OwnedWriteHalf) {
    while let Some(frame) = frames.recv().await {
        if to.write_all(&frame).await.is_err() {
            return;
        }
    }
}

/// What the server has for one client.
struct Client {
    memory: Arc<Memory>,
    outgoing: mpsc::Sender<Bytes>,
    /// Operations that wait, by request.
    waiting: Arc<Mutex<HashMap<u64, Stop>>>,
    streams: HashMap<u64, Stop>,
}

/// Ends a task from outside.
struct Stop {
    stop: oneshot::Sender<()>,
    stopped: oneshot::Receiver<()>,
}

impl Stop {
    /// With what the task watches, and what it drops when it has ended.
    fn new() -> (Self, oneshot::Receiver<()>, oneshot::Sender<()>) {
        let ((stop, told), (ended, stopped)) = (oneshot::channel(), oneshot::channel());
        (Self { stop, stopped }, told, ended)
    }

    async fn stop(self) {
        drop(self.stop);
        // Nothing is ever sent: the error says that the task has let go of its end.
        let _ = self.stopped.await;
    }
}

impl Client {
    /// Does a request, or begins what has to wait.
    async fn begin(
        &mut self,
        tasks: &mut JoinSet<()>,
        number: u64,
        request: Request,
        parts: Vec<Bytes>,
    ) {
        let result = match request {
            Request::Cancel { request } => return self.cancel(request).await,
            Request::EndStream { stream } => {
                if let Some(stream) = self.streams.remove(&stream) {
                    stream.stop().await;
                }
                done(())
            }
            Request::Subscribe { stream, topics, patterns } => {
                let subscribed = self.memory.subscribe(&filters(topics, patterns)).await;
                subscribed.and_then(|subscription| {
                    let passing = pass_events(subscription, stream, self.outgoing.clone());
                    self.stream(tasks, stream, passing);
                    done(())
                })
            }
            Request::OpenInbox { stream, name, list } => {
                let opened = self.memory.open_inbox(&address(name, list)).await;
                opened.and_then(|inbox| {
                    let passing = pass_letters(inbox, stream, self.outgoing.clone());
                    self.stream(tasks, stream, passing);
                    done(())
                })
            }
            other => {
                let mut working = Box::pin(execute(Arc::clone(&self.memory), other, parts));
                match (&mut working).now_or_never() {
                    Some(result) => result,
                    None => return self.wait_for(tasks, number, working),
                }
            }
        };
        answer(&self.outgoing, number, result).await;
    }

    fn stream(
        &mut self,
        tasks: &mut JoinSet<()>,
        number: u64,
        passing: impl Future<Output = ()> + Send + 'static,
    ) {
        let (stop, told, ended) = Stop::new();
        self.streams.insert(number, stop);
        tasks.spawn(async move {
            tokio::select! {
                () = passing => {}
                _ = told => {}
            }
            drop(ended);
        });
    }

    fn wait_for(
        &self,
        tasks: &mut JoinSet<()>,
        number: u64,
        working: impl Future<Output = Done> + Send + 'static,
    ) {
        let (stop, told, ended) = Stop::new();
        let (waiting, outgoing) = (Arc::clone(&self.waiting), self.outgoing.clone());
        lock(&waiting).insert(number, stop);
        tasks.spawn(async move {
            // Only the work is cancelled, never its answer: what it had claimed would be lost.
            let result = tokio::select! {
                result = working => result,
                _ = told => Err(Error::new(ErrorKind::Closed, "wait", "request", "cancelled")),
            };
            lock(&waiting).remove(&number);
            answer(&outgoing, number, result).await;
            drop(ended);
        });
    }

    /// Cancels, and waits until that is done: what the client asks next must find it so.
    async fn cancel(&self, request: u64) {
        let found = lock(&self.waiting).remove(&request);
        if let Some(stop) = found {
            stop.stop().await;
        }
    }
}

/// A panic cannot leave the map half-changed, so a poisoned lock is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What an operation gives: a value for the head, and parts.
type Done = Result<(Value, Vec<Bytes>)>;

fn done(value: impl Serialize) -> Done {
    with_parts(value, Vec::new())
}

fn with_parts(value: impl Serialize, parts: Vec<Bytes>) -> Done {
    let value = serde_json::to_value(value).map_err(|error| broken(error.to_string()))?;
    Ok((value, parts))
}

async fn answer(outgoing: &mpsc::Sender<Bytes>, request: u64, result: Done) {
    let (result, parts) = match result {
        Ok((value, parts)) => (Ok(value), parts),
        Err(error) => (Err(error.into()), Vec::new()),
    };
    tell(outgoing, &Said::Answer { request, result }, &parts).await;
}

/// Says something; `false` when nobody listens any more.
async fn tell(outgoing: &mpsc::Sender<Bytes>, said: &Said, parts: &[Bytes]) -> bool {
    match frame::write(said, parts) {
        Ok(frame) => outgoing.send(frame).await.is_ok(),
        Err(_) => false,
    }
}

async fn execute(memory: Arc<Memory>, request: Request, mut parts: Vec<Bytes>) -> Done {
    let mut part = || parts.pop().ok_or_else(|| broken("a request without its payload"));
    match request {
        Request::Publish { topic } => done(memory.publish(&topic, part()?).await?),
        Request::Count { topics } => done(memory.count(&topics).await?),
        Request::PublishCounted { topics } => done(memory.publish_counted(&topics, part()?).await?),
        Request::Send { name, list, ttl } => {
            done(memory.send(&address(name, list), part()?, ttl).await?)
        }
        Request::Push { queue, wait: left } => {
            memory.push(&Arc::new(queue.into()), parts, wait(left).into()).await?;
            done(())
        }
        Request::Claim { queue, limit, wait: left } => {
            claimed(memory.claim(&Arc::new(queue.into()), limit, wait(left)).await?)
        }
        Request::Settle { queue, lease, how } => {
            let receipt = Receipt { stored: part()?, number: lease };
            let options = SettleOptions::default();
            done(memory.settle(&Arc::new(queue.into()), receipt, how.0, options).await?)
        }
        Request::Extend { queue, lease, duration } => {
            let receipt = Receipt { stored: part()?, number: lease };
            done(memory.extend(&Arc::new(queue.into()), &receipt, duration).await?)
        }
        Request::Stats { queue } => {
            let stats = memory.stats(&Arc::new(queue.into())).await?;
            done((stats.waiting, stats.leased, stats.dead))
        }
        Request::Peek { queue, dead, limit } => {
            let items = memory.peek(&Arc::new(queue.into()), shelf(dead), limit).await?;
            with_parts((), items)
        }
        Request::Purge { queue, dead } => {
            done(memory.purge(&Arc::new(queue.into()), shelf(dead)).await?)
        }
        Request::Redrive { queue, limit } => {
            let queue = Arc::new(queue.into());
            done(memory.redrive(&queue, Letters::Oldest(limit), &queue).await?)
        }
        Request::ShutDown { queue } => done(memory.shut_down(&Arc::new(queue.into())).await?),
        Request::Subscribe { .. }
        | Request::OpenInbox { .. }
        | Request::EndStream { .. }
        | Request::Cancel { .. }
        | Request::Close => Err(broken("not an operation")),
    }
}

/// Counts and lease numbers in the head; payloads and what the transport stores in turn as parts.
fn claimed(items: Vec<Claimed>) -> Done {
    let heads: Vec<_> = items.iter().map(|item| (item.deliveries, item.receipt.number)).collect();
    let parts = items.into_iter().flat_map(|item| [item.payload, item.receipt.stored]).collect();
    with_parts(heads, parts)
}

fn shelf(dead: bool) -> Shelf {
    if dead { Shelf::Dead } else { Shelf::Waiting }
}

/// Passes events on until the client or the subscription ends.
async fn pass_events(mut from: Subscription, stream: u64, outgoing: mpsc::Sender<Bytes>) {
    while let Some(arrival) = from.recv().await {
        let told = match arrival {
            Arrival::Message(Message { topic, payload, pattern }) => {
                let (topic, pattern) = (topic.to_string(), pattern.map(|by| by.to_string()));
                tell(&outgoing, &Said::Event { stream, topic, pattern }, &[payload]).await
            }
            Arrival::Lagged(missed) => tell(&outgoing, &Said::Lagged { stream, missed }, &[]).await,
            // Memory has no connection that could be lost.
            Arrival::Gap | Arrival::Refused(_) => true,
        };
        if !told {
            return;
        }
    }
    tell(&outgoing, &Said::Ended { stream }, &[]).await;
}

/// Passes letters on until the client or the inbox ends.
async fn pass_letters(mut from: Inbox, stream: u64, outgoing: mpsc::Sender<Bytes>) {
    while let Some(arrival) = from.recv().await {
        let told = match arrival {
            Arrival::Message(payload) => {
                tell(&outgoing, &Said::Letter { stream }, &[payload]).await
            }
            Arrival::Lagged(missed) => tell(&outgoing, &Said::Lagged { stream, missed }, &[]).await,
            // Memory has no connection that could be lost.
            Arrival::Gap | Arrival::Refused(_) => true,
        };
        if !told {
            return;
        }
    }
    tell(&outgoing, &Said::Ended { stream }, &[]).await;
}
