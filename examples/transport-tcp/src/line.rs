//! The connection that all operations share, and what happens when a future is dropped.
//!
//! Every operation is a request and the answer that bears its number; events and letters come
//! between the answers and go to the mailboxes of their streams. One task writes and one reads, so
//! that any thread may drop anything: what a drop has to say, it leaves with the writer.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use pymq::transport::{
    self, Answer, Claimed, Guard, Message, QueueSpec, Receipt, Sender, Settlement, StateSetter,
    States, pending, states,
};
use pymq::{Error, ErrorKind, Result};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpStream, tcp};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::frame::{self, Failure, How, Queue, Request, Said, broken};

/// A request before it is sent.
pub(crate) struct Ask {
    operation: &'static str,
    object: String,
    request: Request,
    parts: Vec<Bytes>,
    /// The queue that items go back to when nobody takes the answer.
    claims_from: Option<Arc<QueueSpec>>,
}

impl Ask {
    pub(crate) fn new(operation: &'static str, object: &str, request: Request) -> Self {
        let object = object.to_owned();
        Self { operation, object, request, parts: Vec::new(), claims_from: None }
    }

    /// The same with one part, as bytes.
    pub(crate) fn with(mut self, part: Bytes) -> Self {
        self.parts.push(part);
        self
    }

    /// The same with several.
    pub(crate) fn with_all(mut self, parts: Vec<Bytes>) -> Self {
        self.parts.extend(parts);
        self
    }

    /// The same as a claim, whose items go back to `queue` when nobody takes the answer.
    pub(crate) fn claiming(mut self, queue: &Arc<QueueSpec>) -> Self {
        self.claims_from = Some(Arc::clone(queue));
        self
    }
}

/// What the server answered.
#[derive(Debug)]
pub(crate) struct Reply {
    result: Result<Value, Failure>,
    pub(crate) parts: Vec<Bytes>,
}

impl Reply {
    fn value<R: DeserializeOwned>(&self) -> Result<R> {
        let value = self.result.as_ref().map_or(&Value::Null, |value| value);
        R::deserialize(value).map_err(|error| broken(error.to_string()))
    }
}

/// The connection, as operations and drops share it.
pub(crate) struct Line {
    outgoing: mpsc::UnboundedSender<Bytes>,
    /// Its sender goes with the reader.
    gone: watch::Receiver<()>,
    last: AtomicU64,
    state: Mutex<State>,
    /// What the bus is told of the connection.
    standing: StateSetter,
}

#[derive(Default)]
struct State {
    ended: Option<Ending>,
    asked: HashMap<u64, Asked>,
    streams: HashMap<u64, Mailbox>,
}

/// Why the connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Closed,
    Lost,
}

impl Ending {
    /// What an operation fails with that was not begun any more.
    fn before(self, ask: &Ask) -> Error {
        match self {
            Self::Closed => self.during(ask.operation, &ask.object),
            Self::Lost => {
                let why = "the server is gone; connect anew";
                Error::new(ErrorKind::Connection, ask.operation, ask.object.clone(), why)
            }
        }
    }

    /// What an operation fails with whose answer did not come.
    fn during(self, operation: &'static str, object: &str) -> Error {
        let (kind, why) = match self {
            Self::Closed => (ErrorKind::Closed, "the bus was closed; connect a new one"),
            Self::Lost => (ErrorKind::Ambiguous, "the server went away before it had answered"),
        };
        Error::new(kind, operation, object, why)
    }
}

/// Where the answer to a request goes.
struct Asked {
    answer: oneshot::Sender<Reply>,
    claims_from: Option<Arc<QueueSpec>>,
}

/// Where a stream's arrivals go.
#[derive(Clone)]
pub(crate) enum Mailbox {
    Events(Sender<Message>),
    Letters(Sender<Bytes>),
}

impl Mailbox {
    fn close(&self) {
        match self {
            Self::Events(sender) => sender.close(),
            Self::Letters(sender) => sender.close(),
        }
    }
}

impl Line {
    /// A connection over a socket, and the tasks that write and read it.
    pub(crate) fn over(socket: TcpStream) -> (Arc<Self>, [JoinHandle<()>; 2]) {
        let (from, to) = socket.into_split();
        // Unbounded, because drops must not wait; whoever asks waits for the answer, so it is as
        // long as there are operations at once.
        let (outgoing, frames) = mpsc::unbounded_channel();
        let (reads, gone) = watch::channel(());
        let (standing, _) = states(transport::State::connected());
        let state = Mutex::default();
        let line = Self { outgoing, gone, last: AtomicU64::new(0), state, standing };
        let line = Arc::new(line);
        let reading = read_all(from, Arc::clone(&line), reads);
        let tasks = [tokio::spawn(write_all(frames, to)), tokio::spawn(reading)];
        (line, tasks)
    }

    /// How it stands.
    pub(crate) fn states(&self) -> States {
        self.standing.subscribe()
    }

    /// Why it is over, if it is.
    pub(crate) fn ended(&self) -> Option<Ending> {
        self.state().ended
    }

    /// Waits until the socket is gone.
    pub(crate) async fn hung_up(&self) {
        let mut gone = self.gone.clone();
        while gone.changed().await.is_ok() {}
    }

    /// A panic cannot leave the state half-changed (no user code runs under the lock), so a
    /// poisoned lock is as good as any.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn number(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed)
    }

    /// An operation whose answer is a value.
    pub(crate) fn answer<'a, R>(self: &'a Arc<Self>, ask: Ask) -> Answer<'a, R>
    where
        R: DeserializeOwned + Send + 'a,
    {
        pending(self.ask(ask))
    }

    /// The same, for those who make something else of it.
    pub(crate) async fn ask<R: DeserializeOwned>(self: &Arc<Self>, ask: Ask) -> Result<R> {
        self.reply(ask).await?.value()
    }

    /// Asks and waits; dropping the future gives the operation up.
    pub(crate) async fn reply(self: &Arc<Self>, ask: Ask) -> Result<Reply> {
        let (operation, object) = (ask.operation, ask.object.clone());
        let mut asking = self.begin(ask)?;
        match (&mut asking.answer).await {
            Ok(Reply { result: Err(failure), .. }) => Err(failure.into_error(operation)),
            Ok(reply) => Ok(reply),
            Err(_) => {
                let ended = self.state().ended.unwrap_or(Ending::Lost);
                Err(ended.during(operation, &object))
            }
        }
    }

    fn begin(self: &Arc<Self>, ask: Ask) -> Result<Asking> {
        let (number, (sender, answer)) = (self.number(), oneshot::channel());
        let frame = frame::write(&(number, &ask.request), &ask.parts)?;
        let mut state = self.state();
        if let Some(ended) = state.ended {
            return Err(ended.before(&ask));
        }
        state.asked.insert(number, Asked { answer: sender, claims_from: ask.claims_from.clone() });
        // Under the lock, so that requests are written in the order of their numbers.
        let _ = self.outgoing.send(frame);
        drop(state);
        Ok(Asking { line: Arc::clone(self), number, answer, claims_from: ask.claims_from })
    }

    /// Asks without waiting; works on any thread.
    pub(crate) fn tell(&self, ask: Ask) -> bool {
        // A writer that is gone has taken the connection with it, and all that was held there.
        frame::write(&(self.number(), &ask.request), &ask.parts)
            .is_ok_and(|frame| self.outgoing.send(frame).is_ok())
    }

    /// A stream of arrivals into `mailbox`, to be asked for under its number.
    pub(crate) fn open_stream(self: &Arc<Self>, mailbox: Mailbox) -> Stream {
        let stream = self.number();
        self.state().streams.insert(stream, mailbox);
        Stream { line: Arc::clone(self), stream }
    }

    /// Ends what waits and listens; says whether it was not over before.
    pub(crate) fn end(&self, how: Ending) -> bool {
        let mut state = self.state();
        if state.ended.is_some() {
            return false;
        }
        state.ended = Some(how);
        self.standing.set(match how {
            Ending::Closed => transport::State::Closed,
            Ending::Lost => transport::State::away("the server is gone; connect anew"),
        });
        let (asked, streams) =
            (std::mem::take(&mut state.asked), std::mem::take(&mut state.streams));
        // Outside the lock, since dropping and closing wake those who wait.
        drop(state);
        drop(asked);
        streams.values().for_each(Mailbox::close);
        true
    }

    /// Takes what the server said to whom it is for.
    fn take(&self, said: Said, mut parts: Vec<Bytes>) {
        match said {
            Said::Answer { request, result } => {
                let asked = self.state().asked.remove(&request);
                let Some(Asked { answer, claims_from }) = asked else { return };
                if let Err(unread) = answer.send(Reply { result, parts }) {
                    self.give_back(claims_from.as_ref(), unread);
                }
            }
            Said::Event { stream, topic, pattern } => {
                if let (Some(Mailbox::Events(to)), Some(payload)) = (self.to(stream), parts.pop()) {
                    let (topic, pattern) = (topic.into(), pattern.map(Into::into));
                    to.send(Message { topic, payload, pattern });
                }
            }
            Said::Letter { stream } => {
                if let (Some(Mailbox::Letters(to)), Some(payload)) = (self.to(stream), parts.pop())
                {
                    to.send(payload);
                }
            }
            Said::Lagged { stream, missed } => match self.to(stream) {
                Some(Mailbox::Events(to)) => to.lagged(missed),
                Some(Mailbox::Letters(to)) => to.lagged(missed),
                None => {}
            },
            Said::Ended { stream } => {
                if let Some(mailbox) = self.to(stream) {
                    mailbox.close();
                }
            }
        }
    }

    fn to(&self, stream: u64) -> Option<Mailbox> {
        self.state().streams.get(&stream).cloned()
    }

    /// Returns the items of an answer that nobody took, uncounted; the newest first, so that the
    /// oldest comes to lie at the head.
    fn give_back(&self, queue: Option<&Arc<QueueSpec>>, unread: Reply) {
        let Some(queue) = queue else { return };
        for item in claimed(unread).into_iter().flatten().rev() {
            self.tell(settlement(queue, item.receipt, Settlement::Return));
        }
    }
}

/// A request whose answer is awaited.
struct Asking {
    line: Arc<Line>,
    number: u64,
    answer: oneshot::Receiver<Reply>,
    claims_from: Option<Arc<QueueSpec>>,
}

impl Drop for Asking {
    /// Dropped before its answer was read: what came too late goes back, by `give_back` here or in
    /// the reader, and what waits on the server is cancelled there.
    fn drop(&mut self) {
        self.answer.close();
        match self.answer.try_recv() {
            Ok(unread) => self.line.give_back(self.claims_from.as_ref(), unread),
            Err(_) if self.line.state().asked.contains_key(&self.number) => {
                let request = Request::Cancel { request: self.number };
                self.line.tell(Ask::new("cancel", "request", request));
            }
            Err(_) => {}
        }
    }
}

/// A stream's end; dropping it tells the server.
pub(crate) struct Stream {
    line: Arc<Line>,
    stream: u64,
}

impl Stream {
    /// Its number, which the server is told.
    pub(crate) fn number(&self) -> u64 {
        self.stream
    }

    fn ask(&self) -> Ask {
        Ask::new("unsubscribe", "stream", Request::EndStream { stream: self.stream })
    }
}

impl Guard for Stream {
    fn release(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move { self.line.ask(self.ask()).await })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Gone already where the connection is over. After `release` it is said twice, which does
        // no harm.
        if self.line.state().streams.remove(&self.stream).is_some() {
            self.line.tell(self.ask());
        }
    }
}

async fn write_all(mut frames: mpsc::UnboundedReceiver<Bytes>, mut to: tcp::OwnedWriteHalf) {
    while let Some(frame) = frames.recv().await {
        // The reader sees the same end.
        if to.write_all(&frame).await.is_err() {
            return;
        }
    }
}

async fn read_all(mut from: tcp::OwnedReadHalf, line: Arc<Line>, _reads: watch::Sender<()>) {
    while let Ok(Some((said, parts))) = frame::read::<Said>(&mut from).await {
        line.take(said, parts);
    }
    line.end(Ending::Lost);
}

/// What ends a lease.
pub(crate) fn settlement(queue: &QueueSpec, receipt: Receipt, how: Settlement) -> Ask {
    let Receipt { stored, number: lease } = receipt;
    let request = Request::Settle { queue: Queue::from(queue), lease, how: How(how) };
    Ask::new("settle", &queue.name, request).with(stored)
}

/// The items of a claim, as the server writes them.
pub(crate) fn claimed(reply: Reply) -> Result<Vec<Claimed>> {
    let heads: Vec<(u32, u64)> = reply.value()?;
    let items = heads.into_iter().zip(reply.parts.chunks_exact(2));
    let claimed = items.map(|((deliveries, number), parts)| {
        let receipt = Receipt { stored: parts[1].clone(), number };
        Claimed { payload: parts[0].clone(), deliveries, receipt }
    });
    Ok(claimed.collect())
}
