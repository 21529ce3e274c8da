//! The transport: the contract, spoken to the server over one socket.
//!
//! Each operation says here what it asks and what it makes of the answer; how a question finds its
//! answer, and what a drop does, is the [`Line`]'s.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pymq::name::{Address, Form};
use pymq::transport::{
    Answer, Capabilities, Claimed, DeadLetter, Ends, Events, Filter, Health, Inbox, Inboxes,
    Inspect, Letters, Limit, Put, PutOptions, QueueSpec, QueueStats, Queues, Receipt,
    SettleOptions, Settlement, Shelf, States, Subscription, Transport, Wait, answer, mailbox,
    pending, posted,
};
use pymq::{Error, ErrorKind, Result};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::frame::{Queue, Request};
use crate::line::{Ask, Ending, Line, Mailbox, claimed, settlement};

/// How much the mailbox of one subscription or inbox holds before the oldest messages go.
pub const MAILBOX: Limit = Limit { messages: 10_000, bytes: 16 << 20 };

/// What is not said of queues here: they know no later, no ids, no priorities.
const ABLE: Capabilities = Capabilities::NONE;

/// How long `close` waits for the server.
const HANGS_UP_WITHIN: Duration = Duration::from_secs(5);

/// A connection to a server of [`serve`](crate::serve); dropping it closes it.
///
/// It does not reconnect: when the server is gone, streams end and operations fail with
/// `Connection`, or `Ambiguous` where they had been begun.
pub struct Tcp {
    line: Arc<Line>,
    tasks: [JoinHandle<()>; 2],
}

impl Tcp {
    /// Connects to `host:port`.
    ///
    /// # Errors
    /// `Connection` if nobody listens there.
    pub async fn connect(address: &str) -> Result<Arc<Self>> {
        let unreachable = |error: std::io::Error| {
            let why = format!("{error}; start a server there with `pymq-tcp {address}`");
            Error::new(ErrorKind::Connection, "connect", address, why).with_source(error)
        };
        let socket = TcpStream::connect(address).await.map_err(unreachable)?;
        socket.set_nodelay(true).map_err(unreachable)?;
        let (line, tasks) = Line::over(socket);
        Ok(Arc::new(Self { line, tasks }))
    }
}

impl Transport for Tcp {
    fn capabilities(&self) -> Capabilities {
        let mut able = ABLE;
        able.receiver_count = true;
        able.cross_process = true;
        // No originals: they speak Redis.
        able
    }

    fn states(&self) -> States {
        self.line.states()
    }

    fn health(&self) -> Health {
        Health::new(self.line.states().now())
    }

    fn ping(&self) -> Answer<'_, ()> {
        // Any question will do: its answer is the sign of life.
        pending(async {
            let ask = Ask::new("ping", "server", Request::Count { topics: Vec::new() });
            self.line.ask::<Vec<usize>>(ask).await.map(drop)
        })
    }

    fn inspect(&self) -> Option<&dyn Inspect> {
        // The server could tell, but nothing in the protocol asks for it.
        None
    }

    fn close(&self) -> Answer<'_, ()> {
        pending(async move {
            if self.line.end(Ending::Closed) {
                self.line.tell(Ask::new("close", "bus", Request::Close));
            }
            // The server hangs up when it has given back what was held here; one that does not
            // answer finds out when the socket goes.
            let _ = timeout(HANGS_UP_WITHIN, self.line.hung_up()).await;
            Ok(())
        })
    }
}

impl Drop for Tcp {
    fn drop(&mut self) {
        self.line.end(Ending::Closed);
        // The socket goes with its tasks, by which the server knows.
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl fmt::Debug for Tcp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tcp").field("ended", &self.line.ended()).finish_non_exhaustive()
    }
}

impl Events for Tcp {
    fn publish<'a>(&'a self, topic: &'a str, payload: Bytes) -> Answer<'a, Option<usize>> {
        let request = Request::Publish { topic: topic.to_owned() };
        self.line.answer(Ask::new("publish", topic, request).with(payload))
    }

    fn post<'a>(&'a self, topic: &'a str, payload: Bytes) -> Answer<'a, ()> {
        posted(self.publish(topic, payload))
    }

    fn subscribe<'a>(&'a self, filters: &'a [Filter]) -> Answer<'a, Subscription> {
        pending(async move {
            let (sender, messages) = mailbox(MAILBOX);
            let guard = self.line.open_stream(Mailbox::Events(sender));
            let (mut topics, mut patterns) = (Vec::new(), Vec::new());
            for filter in filters {
                match filter {
                    Filter::Topic(topic) => topics.push(topic.clone()),
                    Filter::Pattern(pattern) => patterns.push(pattern.clone()),
                }
            }
            let request = Request::Subscribe { stream: guard.number(), topics, patterns };
            self.line.ask::<()>(Ask::new("subscribe", "filters", request)).await?;
            Ok(Subscription::new(messages, Box::new(guard)))
        })
    }

    fn count<'a>(&'a self, topics: &'a [String]) -> Answer<'a, Vec<usize>> {
        let request = Request::Count { topics: topics.to_vec() };
        self.line.answer(Ask::new("count", "topics", request))
    }

    fn publish_counted<'a>(
        &'a self,
        topics: &'a [String],
        payload: Bytes,
    ) -> Answer<'a, Vec<usize>> {
        let request = Request::PublishCounted { topics: topics.to_vec() };
        self.line.answer(Ask::new("publish", "topics", request).with(payload))
    }

    /// The server does not tell.
    fn ends<'a>(&'a self, topic: &'a str) -> Answer<'a, Option<Ends>> {
        pending(async move {
            // Whoever asks on a connection that has ended hears of that.
            self.count(&[topic.to_owned()]).await.map(|_| None)
        })
    }
}

impl Inboxes for Tcp {
    fn open_inbox<'a>(&'a self, address: &'a Address) -> Answer<'a, Inbox> {
        pending(async move {
            let (sender, messages) = mailbox(MAILBOX);
            let guard = self.line.open_stream(Mailbox::Letters(sender));
            let (name, list) = (address.name().to_owned(), address.form() == Form::List);
            let request = Request::OpenInbox { stream: guard.number(), name, list };
            self.line.ask::<()>(Ask::new("open", address.name(), request)).await?;
            Ok(Inbox::new(messages, Box::new(guard)))
        })
    }

    fn send<'a>(&'a self, address: &'a Address, payload: Bytes, ttl: Duration) -> Answer<'a, bool> {
        let (name, list) = (address.name().to_owned(), address.form() == Form::List);
        let request = Request::Send { name, list, ttl };
        self.line.answer(Ask::new("send", address.name(), request).with(payload))
    }
}

fn lacking(operation: &'static str, queue: &QueueSpec, what: &str) -> Error {
    let why = format!("pymq-tcp has no {what}");
    Error::new(ErrorKind::Unsupported, operation, &queue.name, why)
}

impl Queues for Tcp {
    fn push<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        items: Vec<Bytes>,
        options: PutOptions,
    ) -> Answer<'a, Put> {
        if let Some(what) = options.lacking(ABLE) {
            return answer(Err(lacking("push", queue, what)));
        }
        let request = Request::Push { queue: Queue::from(&**queue), wait: options.wait.left() };
        let ask = Ask::new("push", &queue.name, request).with_all(items);
        pending(async move { self.line.ask::<()>(ask).await.map(|()| Put::Done) })
    }

    fn claim<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        limit: usize,
        wait: Wait,
    ) -> Answer<'a, Vec<Claimed>> {
        let request = Request::Claim { queue: Queue::from(&**queue), limit, wait: wait.left() };
        let ask = Ask::new("claim", &queue.name, request).claiming(queue);
        pending(async move { claimed(self.line.reply(ask).await?) })
    }

    fn settle<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        receipt: Receipt,
        how: Settlement,
        options: SettleOptions,
    ) -> Answer<'a, ()> {
        match options.lacking(ABLE) {
            Some(what) => answer(Err(lacking("settle", queue, what))),
            None => self.line.answer(settlement(queue, receipt, how)),
        }
    }

    fn settle_soon(
        &self,
        queue: &Arc<QueueSpec>,
        receipt: Receipt,
        how: Settlement,
        _options: SettleOptions,
    ) -> bool {
        self.line.tell(settlement(queue, receipt, how))
    }

    /// Nothing is fetched ahead here, so nothing is shown later than it comes.
    fn show(&self, _queue: &Arc<QueueSpec>, _receipt: &Receipt) {}

    fn extend<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        receipt: &'a Receipt,
        duration: Duration,
    ) -> Answer<'a, ()> {
        let request =
            Request::Extend { queue: Queue::from(&**queue), lease: receipt.number, duration };
        self.line.answer(Ask::new("extend", &queue.name, request).with(receipt.stored.clone()))
    }

    fn stats<'a>(&'a self, queue: &'a Arc<QueueSpec>) -> Answer<'a, QueueStats> {
        pending(async move {
            let request = Request::Stats { queue: Queue::from(&**queue) };
            let (waiting, leased, dead) =
                self.line.ask(Ask::new("count", &queue.name, request)).await?;
            Ok(QueueStats::new(waiting, leased, dead))
        })
    }

    fn peek<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        from: Shelf,
        limit: usize,
    ) -> Answer<'a, Vec<Bytes>> {
        pending(async move {
            if from == Shelf::Delayed {
                return Ok(Vec::new());
            }
            let dead = from == Shelf::Dead;
            let request = Request::Peek { queue: Queue::from(&**queue), dead, limit };
            Ok(self.line.reply(Ask::new("peek", &queue.name, request)).await?.parts)
        })
    }

    fn purge<'a>(&'a self, queue: &'a Arc<QueueSpec>, shelf: Shelf) -> Answer<'a, usize> {
        if shelf == Shelf::Delayed {
            return answer(Ok(0));
        }
        let dead = shelf == Shelf::Dead;
        let request = Request::Purge { queue: Queue::from(&**queue), dead };
        self.line.answer(Ask::new("purge", &queue.name, request))
    }

    /// Nothing is known of them here but their bytes, and the oldest come first.
    fn letters<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        skip: usize,
        limit: usize,
    ) -> Answer<'a, Vec<DeadLetter>> {
        pending(async move {
            let most = skip.saturating_add(limit);
            let dead = self.peek(queue, Shelf::Dead, most).await?;
            let unnamed = || Receipt { stored: Bytes::new(), number: 0 };
            let letters = dead.into_iter().skip(skip);
            Ok(letters.map(|payload| DeadLetter::new(payload, unnamed())).collect())
        })
    }

    fn redrive<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        which: Letters,
        to: &'a Arc<QueueSpec>,
    ) -> Answer<'a, usize> {
        match which {
            Letters::Oldest(limit) if to.name == queue.name => {
                let request = Request::Redrive { queue: Queue::from(&**queue), limit };
                self.line.answer(Ask::new("redrive", &queue.name, request))
            }
            _ => answer(Err(lacking("redrive", queue, "dead letters that move one by one"))),
        }
    }

    fn discard<'a>(&'a self, queue: &'a Arc<QueueSpec>, which: Letters) -> Answer<'a, usize> {
        match which {
            Letters::Oldest(usize::MAX) => self.purge(queue, Shelf::Dead),
            _ => answer(Err(lacking("discard", queue, "dead letters that go one by one"))),
        }
    }

    fn shut_down<'a>(&'a self, queue: &'a Arc<QueueSpec>) -> Answer<'a, ()> {
        let request = Request::ShutDown { queue: Queue::from(&**queue) };
        self.line.answer(Ask::new("shut down", &queue.name, request))
    }
}
