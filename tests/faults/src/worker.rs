//! A worker process in Rust: it does one thing until its standard input ends, and writes down what
//! it did. `worker.py` is its twin.
//!
//! The one invariant: histories are written as [`history`](crate::history) says. It judges nothing
//! and repairs nothing: an error is noted, and the next thing is tried.
//!
//!     worker ROLE ADDRESS HISTORY [option=value]...

use std::collections::HashMap;
use std::io::Read as _;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use pymq::transport::{Arrival, Filter, Settlement, Wait};
use pymq::{Bus, ByteDelivery, ByteQueue, ErrorKind, Result};
use serde_json::Value;
use tokio::sync::watch;

use crate::history::{History, What};

mod jobs;
mod leave;

/// How long a worker waits after an error before it goes on.
const BREATH: Duration = Duration::from_millis(20);

/// Runs a worker; returns when it is told to end.
pub(crate) fn run(words: &[String]) -> std::result::Result<(), String> {
    let [role, url, history, options @ ..] = words else {
        return Err("usage: worker ROLE ADDRESS HISTORY [option=value]...".to_owned());
    };
    let history = History::append_to(Path::new(history)).map_err(|error| error.to_string())?;
    let options = options.iter().filter_map(|option| option.split_once('='));
    let options = options.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let stopped = watch_input();
        let bus = connect(url, stopped.clone()).await;
        let (url, history) = (url.clone(), Arc::new(history));
        let worker = Worker { url, bus, history, options: Options(options), stopped };
        let mut stopped = worker.stopped.clone();
        let work = async {
            match role.as_str() {
                "produce" => worker.produce().await,
                "consume" => worker.consume().await,
                "take" => worker.take().await,
                "publish" => worker.publish().await,
                "subscribe" => worker.subscribe().await,
                "serve" => worker.serve().await,
                "call" => worker.call().await,
                "churn" => worker.churn().await,
                "leave" => worker.leave().await,
                "offer" => worker.offer().await,
                "work" => worker.work().await,
                "redrive" => worker.redrive().await,
                "letters" => worker.letters().await,
                #[cfg(target_os = "linux")]
                "come" => crate::passerby::come(&worker.url).await,
                #[cfg(target_os = "linux")]
                "clean" => crate::passerby::clean(&worker.url).await,
                unknown => Err(format!("no role {unknown:?}")),
            }
        };
        tokio::select! {
            outcome = work => outcome?,
            // A worker hears of it by itself, and finishes what it has in hand.
            _ = stopped.wait_for(|stopped| *stopped), if role != "work" => {}
        }
        let begun = Instant::now();
        // An error says that the server is not there to be told.
        let _ = worker.bus.close().await;
        let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        // Whose end others depend on.
        if ["serve", "churn"].contains(&role.as_str()) {
            worker.history.note(What::Closed, [(0, took)]);
        }
        Ok(())
    })
}

/// A server may be on its way back when a worker starts.
async fn connect(url: &str, stopped: watch::Receiver<bool>) -> Bus {
    loop {
        match Bus::connect(url).await {
            Ok(bus) => return bus,
            Err(error) if *stopped.borrow() => panic!("told to end before it began: {error}"),
            Err(_) => tokio::time::sleep(BREATH).await,
        }
    }
}

/// Turns true when standard input ends.
fn watch_input() -> watch::Receiver<bool> {
    let (sender, receiver) = watch::channel(false);
    std::thread::spawn(move || {
        let mut rest = Vec::new();
        // An error is an end as well.
        let _ = std::io::stdin().read_to_end(&mut rest);
        sender.send_replace(true);
    });
    receiver
}

#[derive(Clone)]
struct Options(HashMap<String, String>);

impl Options {
    fn get<T: FromStr>(&self, key: &str, default: T) -> T {
        self.0.get(key).and_then(|value| value.parse().ok()).unwrap_or(default)
    }

    fn seconds(&self, key: &str, default: f64) -> Duration {
        Duration::from_secs_f64(self.get(key, default))
    }

    fn text<'a>(&'a self, key: &str, default: &'a str) -> &'a str {
        self.0.get(key).map_or(default, String::as_str)
    }

    /// The file that says that it may go on.
    fn sign(&self) -> Option<&Path> {
        self.0.get("begins").map(Path::new)
    }

    fn queue_of(&self, bus: &Bus) -> ByteQueue {
        let (lease, most) = (self.seconds("lease", 30.0), self.get("max_deliveries", 0));
        bus.byte_queue(self.text("queue", "work")).with(|spec| {
            spec.lease = lease;
            spec.max_deliveries = most;
        })
    }
}

struct Worker {
    url: String,
    bus: Bus,
    history: Arc<History>,
    options: Options,
    stopped: watch::Receiver<bool>,
}

type Outcome = std::result::Result<(), String>;

impl Worker {
    fn queue(&self) -> ByteQueue {
        self.options.queue_of(&self.bus)
    }

    /// Puts `count` numbers from `first` on, `batch` at a time, while fewer than `most` wait.
    async fn produce(&self) -> Outcome {
        let queue = self.queue();
        let (first, count) = (self.options.get("first", 0_u64), self.options.get("count", 1_u64));
        let (batch, most) = (self.options.get("batch", 1_u64), self.options.get("most", 5000));
        let pause = self.options.seconds("pause", 0.0);
        let mut next = first;
        while next < first + count {
            if (next - first) % (batch * 8) == 0 {
                self.wait_for_space(&queue, most).await;
            }
            let size = batch.min(first + count - next);
            let items = (next..next + size).map(|item| Bytes::from(item.to_string())).collect();
            self.history.note(What::Begun, [(next, size)]);
            match queue.put(items, Wait::Forever).await {
                Ok(_) => self.history.note(What::Put, [(next, size)]),
                Err(error) => {
                    self.not_put(next, size, &error);
                    tokio::time::sleep(BREATH).await;
                }
            }
            next += size;
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
        }
        Ok(())
    }

    /// Notes that items were not put, or that nobody knows.
    fn not_put(&self, first: u64, count: u64, error: &pymq::Error) {
        let what = match error.kind() {
            ErrorKind::Ambiguous => What::Ambiguous,
            _ => What::Refused,
        };
        self.history.fail(what, first, count, &format!("{:?}", error.kind()));
    }

    async fn wait_for_space(&self, queue: &ByteQueue, most: usize) {
        while queue.stats().await.map_or(0, |stats| stats.waiting) > most {
            tokio::time::sleep(BREATH).await;
        }
    }

    /// Works with leases: what it has claimed is noted, done, noted, confirmed, noted. It stays with the
    /// first one until the file `begins` is there.
    async fn consume(&self) -> Outcome {
        let queue = self.queue();
        let (many, pause) = (self.options.get("many", 1), self.options.seconds("pause", 0.0));
        let (stop_at, dies_of) = (self.options.text("stop_at", ""), self.options.get("dies_of", 0));
        let mut begins = self.options.sign();
        let how = match self.options.text("how", "ack") {
            "requeue" => Settlement::Requeue,
            "reject" => Settlement::Reject,
            _ => Settlement::Ack,
        };
        loop {
            let claimed = match queue.claim_many(many, Wait::Forever).await {
                Ok(claimed) => claimed,
                Err(error) => {
                    self.history.fail(What::Failed, 0, 0, &format!("{:?}", error.kind()));
                    tokio::time::sleep(BREATH).await;
                    continue;
                }
            };
            let claimed: Vec<_> =
                claimed.into_iter().map(|item| (number_of(&item), item)).collect();
            let got = claimed.iter().map(|(number, item)| (*number, u64::from(item.deliveries())));
            self.history.note(What::Got, got);
            if dies_of != 0 && claimed.iter().any(|(number, _)| *number == dies_of) {
                std::process::abort();
            }
            stay_if(stop_at == "got").await;
            stay_until(begins.take()).await;
            tokio::time::sleep(pause).await;
            self.history.note(What::Done, claimed.iter().map(|(number, _)| (*number, 0)));
            stay_if(stop_at == "done").await;
            let numbers: Vec<_> = claimed.iter().map(|(number, _)| *number).collect();
            let confirmations = claimed.into_iter().map(|(_, item)| item.settle(how));
            let outcomes = join_all(confirmations).await;
            numbers
                .into_iter()
                .zip(outcomes)
                .for_each(|(item, outcome)| outcome_of(&self.history, What::Acked, item, outcome));
            stay_if(stop_at == "acked").await;
        }
    }

    /// Takes items for good, as programs written for the original do.
    async fn take(&self) -> Outcome {
        let queue = self.bus.queue::<u64>(self.options.text("queue", "work"));
        let queue = queue.lease(self.options.seconds("lease", 30.0)).max_deliveries(0);
        let stop_at = self.options.text("stop_at", "");
        loop {
            match queue.get().await {
                Ok(item) => self.history.note(What::Got, [(item, 1)]),
                Err(error) => {
                    self.history.fail(What::Failed, 0, 0, &format!("{:?}", error.kind()));
                    tokio::time::sleep(BREATH).await;
                }
            }
            stay_if(stop_at == "got").await;
        }
    }

    /// Publishes `count` numbers from `first` on.
    async fn publish(&self) -> Outcome {
        let topic = self.options.text("topic", "news");
        let (first, count) = (self.options.get("first", 0_u64), self.options.get("count", 1_u64));
        let (pause, size) = (self.options.seconds("pause", 0.0), self.options.get("size", 0));
        let padding = " ".repeat(size);
        for number in first..first + count {
            let payload = Bytes::from(format!("{number}{padding}"));
            match self.bus.publish_bytes(topic, payload).await {
                Ok(_) => self.history.note(What::Put, [(number, 1)]),
                Err(error) => self.not_put(number, 1, &error),
            }
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
        }
        Ok(())
    }

    /// Notes every event, and every loss that is told of; stays with the first one until the
    /// file `begins` is there.
    async fn subscribe(&self) -> Outcome {
        let filter = Filter::Topic(self.options.text("topic", "news").to_owned());
        let mut begins = self.options.sign();
        let subscribed = self.bus.subscribe_bytes(&filter).await;
        let mut subscription = subscribed.map_err(|error| error.to_string())?;
        self.history.note(What::Executed, [(0, 0)]);
        while let Some(arrival) = subscription.recv().await {
            match arrival {
                Arrival::Message(message) => {
                    self.history.note(What::Received, [(number_in(&message.payload), 0)]);
                }
                Arrival::Lagged(missed) => {
                    self.history.note(What::Missed, [(0, missed)]);
                }
                Arrival::Gap | Arrival::Refused(_) => self.history.note(What::Missed, [(0, 0)]),
            }
            // Only the first event takes long.
            stay_until(begins.take()).await;
        }
        Ok(())
    }

    /// Exposes `double`, which notes each call before it answers, or never does, or cannot.
    async fn serve(&self) -> Outcome {
        let (history, hangs) = (Arc::clone(&self.history), self.options.get("hangs", 0_u64));
        let large = self.options.get("large", 0) != 0;
        let spoils = self.options.get("spoils", 0) != 0;
        let name = self.options.text("name", "double");
        let serving = self.bus.expose_fn(name, move |(number,): (u64,)| {
            let history = Arc::clone(&history);
            async move {
                history.note(What::Executed, [(number, 0)]);
                stay_if(hangs != 0 && number >= hangs).await;
                history.note(What::Done, [(number, 0)]);
                match (large, spoils) {
                    (_, true) => spoiled(number),
                    // The number of a call may be the length of its answer.
                    (true, _) => Ok("x".repeat(number as usize).into()),
                    _ => Ok::<Value, String>((number * 2).into()),
                }
            }
        });
        let _service = serving.await.map_err(|error| error.to_string())?;
        self.history.note(What::Executed, [(0, 0)]);
        std::future::pending().await
    }

    /// Calls `double` with `count` numbers from `first` on, one after the other.
    async fn call(&self) -> Outcome {
        let (first, count) = (self.options.get("first", 0_u64), self.options.get("count", 1_u64));
        let stub = self.bus.stub::<(u64,), Value>(self.options.text("name", "double"));
        let timeout = self.options.seconds("timeout", 0.0);
        let stub = if timeout.is_zero() { stub } else { stub.timeout(timeout) };
        let (all, pause) = (self.options.get("all", 0) != 0, self.options.seconds("pause", 0.0));
        for number in first..first + count {
            self.history.note(What::Called, [(number, 0)]);
            let answers = match all {
                false => stub.call((number,)).await.map(|answer| vec![Ok(answer)]),
                true => {
                    let replies = stub.call_all((number,)).await;
                    replies.map(|all| all.into_iter().map(|reply| reply.result).collect())
                }
            };
            for answer in answers.unwrap_or_else(|error| vec![Err(error)]) {
                match answer {
                    Ok(answer) => self.history.note(What::Answered, [(number, value_of(&answer))]),
                    Err(error) => {
                        let kind = format!("{:?}", error.kind());
                        self.history.fail(What::Failed, number, 0, &kind);
                        tokio::time::sleep(BREATH).await;
                    }
                }
            }
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
        }
        self.history.note(What::Done, [(0, 0)]);
        std::future::pending().await
    }

    /// Sends `count` messages, calls and subscriptions through one process (or of one sort `only`,
    /// to find who leaks), and notes how much memory it uses after each tenth of them.
    async fn churn(&self) -> Outcome {
        let count = self.options.get("count", 1000_u64);
        let queue = self.queue();
        let doubling = self
            .bus
            .expose_fn("double", |(number,): (u64,)| async move { Ok::<u64, String>(number * 2) });
        let _service = doubling.await.map_err(|error| error.to_string())?;
        let stub = self.bus.stub::<(u64,), u64>("double");
        let topic = self.bus.topic::<u64>("churn");
        let only = self.options.0.get("only").and_then(|sort| sort.parse::<u64>().ok());
        for number in 0..count {
            if number % (count / 10).max(1) == 0 {
                self.history.note(What::Memory, [(number, memory())]);
            }
            let round = async {
                match only.unwrap_or(number % 5) {
                    0 => {
                        let mut events = topic.subscribe().await?;
                        topic.publish(&number).await?;
                        events.recv().await.transpose()?;
                        events.unsubscribe().await?;
                    }
                    1 => drop(stub.call((number,)).await?),
                    2 => drop(self.bus.topic::<u64>("nobody").publish(&number).await?),
                    _ => {
                        queue.put(vec![Bytes::from(number.to_string())], Wait::Forever).await?;
                        if let Some(item) = queue.claim(Wait::Forever).await? {
                            item.settle(Settlement::Ack).await?;
                        }
                    }
                }
                Ok::<(), pymq::Error>(())
            };
            round.await.map_err(|error| error.to_string())?;
        }
        self.history.note(What::Memory, [(count, memory())]);
        Ok(())
    }
}

/// By turns an answer that can be had, an error, and what cannot be sent as either.
fn spoiled(number: u64) -> std::result::Result<Value, String> {
    const TOO_LARGE: usize = 17 << 20;
    match number % 6 {
        1 => Err("as asked".to_owned()),
        2 => panic!("as asked"),
        3 => Ok("x".repeat(TOO_LARGE).into()),
        4 => Ok((0..300).fold(Value::Null, |inner, _| Value::Array(vec![inner]))),
        5 => Err("x".repeat(TOO_LARGE)),
        _ => Ok((number * 2).into()),
    }
}

/// Notes how a settlement ended: well, as `what` says, or not.
fn outcome_of(history: &History, what: What, item: u64, outcome: Result<()>) {
    match outcome.map_err(|error| error.kind()) {
        Ok(()) => history.note(what, [(item, 0)]),
        Err(ErrorKind::LeaseLost) => history.note(What::LeaseLost, [(item, 0)]),
        Err(kind) => history.fail(What::Unsettled, item, 0, &format!("{kind:?}")),
    }
}

/// What an answer says: a number, or as many letters.
fn value_of(answer: &Value) -> u64 {
    answer.as_u64().or_else(|| Some(answer.as_str()?.len() as u64)).unwrap_or(u64::MAX)
}

/// Resident memory of this process, in bytes.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

/// Waits for its killer.
async fn stay_if(here: bool) {
    if here {
        std::future::pending::<()>().await;
    }
}

/// Waits for a sign.
async fn stay_until(sign: Option<&Path>) {
    while sign.is_some_and(|sign| !sign.exists()) {
        tokio::time::sleep(BREATH).await;
    }
}

fn number_of(item: &ByteDelivery) -> u64 {
    number_in(item.payload())
}

/// The number that an item or event is; spaces may stand around it.
fn number_in(payload: &Bytes) -> u64 {
    std::str::from_utf8(payload).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(u64::MAX)
}
