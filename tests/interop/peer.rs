//! One process on the bus, driven by the JSON lines of `peer.py`, over the public API of this crate.
//!
//! Every command is a task of its own, so a waiting `get` stops nobody, and answers come as they
//! are ready. What Rust says in types of its own (an absent item, a kind of error) is answered in
//! the words of the lines, so that one test reads all peers; values are described as they come.
//!
//!     interop_peer redis://127.0.0.1:6379 NAME
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it talks to the tests that run it")]

use std::collections::HashMap;
use std::io::BufRead as _;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use pymq::rpc::StubReply;
use pymq::{Bus, Delivery, ErrorKind, Queue, Service, Stub};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::description::Described;
use crate::failure::{Failure, as_exception};
use crate::received::Received;
use crate::remotes::Remotes;
use crate::traces::Traces;

mod description;
mod failure;
mod received;
mod remotes;
mod shared_types;
mod traces;

fn main() {
    let [_, url, name] = &std::env::args().collect::<Vec<_>>()[..] else {
        eprintln!("usage: interop_peer ADDRESS NAME");
        std::process::exit(2);
    };
    let runtime = Runtime::new().expect("threads can be started");
    let bus = runtime.block_on(Bus::connect(url)).expect("the tests' server is there");
    let peer = Arc::new(Peer::new(bus, name));
    say(&json!({"ready": {"pymq": "rust", "name": name}}));
    for line in std::io::stdin().lock().lines() {
        let command = line.expect("the tests write UTF-8");
        let command: Value = serde_json::from_str(&command).expect("the tests write JSON");
        if command["do"] == "exit" {
            break;
        }
        runtime.spawn(answer(Arc::clone(&peer), command));
    }
    peer.remotes.release();
    runtime.block_on(peer.bus.close()).expect("the server is still there");
}

/// Answers one command; its failure is its answer.
async fn answer(peer: Arc<Peer>, command: Value) {
    let mut answer = match peer.run(&command).await {
        Ok(value) => json!({"value": value}),
        Err(failure) => failure.in_words_of_the_lines(),
    };
    answer["id"] = command["id"].clone();
    say(&answer);
}

/// One line out, whole whoever else writes.
fn say(answer: &Value) {
    println!("{answer}");
}

struct Peer {
    bus: Bus,
    remotes: Arc<Remotes>,
    received: Received,
    services: Mutex<HashMap<String, Service>>,
    traces: OnceLock<Traces>,
    /// What `get` has claimed from queues in manual mode, by queue.
    claimed: Mutex<HashMap<String, Vec<Delivery<Described>>>>,
}

impl Peer {
    fn new(bus: Bus, name: &str) -> Self {
        Self {
            bus,
            remotes: Remotes::new(name),
            received: Received::default(),
            services: Mutex::default(),
            traces: OnceLock::new(),
            claimed: Mutex::default(),
        }
    }

    async fn run(&self, command: &Value) -> Result<Value, Failure> {
        let text = |key: &str| command[key].as_str().unwrap_or_default();
        match text("do") {
            "subscribe" => self.subscribe(command).await,
            "unsubscribe" => {
                self.received.unsubscribe(text("subscription")).await?;
                Ok(Value::Null)
            }
            "publish" => self.publish(command).await,
            "received" => {
                let count = command["count"].as_u64().unwrap_or(0);
                let timeout = seconds(&command["timeout"]).unwrap_or(Duration::from_secs(60));
                Ok(self.received.drain(usize::try_from(count).unwrap_or(usize::MAX), timeout).await)
            }
            "put" => {
                self.queue(command).put(&value_of(command)?).await?;
                Ok(Value::Null)
            }
            "get" => self.get(command).await,
            "get_nowait" => {
                self.queue(command).try_get().await?.map(|item| item.0).ok_or(Failure::Empty)
            }
            "task_done" => self.task_done(text("queue")).await,
            "work" => self.work(command).await,
            "qsize" => Ok(json!(self.queue(command).len().await?)),
            "expose" => self.expose(text("name"), command["channel"].as_str()).await,
            "unexpose" => self.unexpose(text("channel")).await,
            "call" => self.call(command).await,
            "ran" => Ok(json!(self.remotes.ran())),
            "multiplied" => Ok(json!(self.remotes.multiplied())),
            "release" => {
                self.remotes.release();
                Ok(Value::Null)
            }
            "trace" => {
                self.traces.get_or_init(|| Traces::of(&self.bus));
                Ok(Value::Null)
            }
            "spans" => Ok(self.traces.get().map(Traces::ended).unwrap_or_default()),
            "decode" => decode(text("hex"), command["type"].as_str()).await,
            unknown => Err(Failure::Command(format!("a Rust peer knows no command {unknown:?}"))),
        }
    }

    async fn subscribe(&self, command: &Value) -> Result<Value, Failure> {
        let name = command["subscription"].as_str().unwrap_or_default();
        let hint = command["type"].as_str();
        // A program of Rust names the topic of its type itself.
        let default = hint.map(|class| format!("shared_types.{class}"));
        let channel = command["channel"].as_str().map(str::to_owned).or(default);
        let channel = channel.ok_or_else(|| Failure::Command("subscribe to what?".to_owned()))?;
        let stream = match command["pattern"].as_bool() {
            Some(true) => received::pattern(&self.bus, &channel).await?,
            _ => received::topic(&self.bus, &channel, hint).await?,
        };
        self.received.keep(name, stream);
        Ok(Value::Null)
    }

    async fn publish(&self, command: &Value) -> Result<Value, Failure> {
        let value = value_of(command)?;
        let class = ["object", "named", "exception"].iter().find_map(|kind| value.0[kind].as_str());
        let channel = command["channel"].as_str().or(class);
        let channel = channel.ok_or_else(|| Failure::Command("publish where?".to_owned()))?;
        Ok(json!(self.bus.topic::<Described>(channel).publish(&value).await?))
    }

    fn queue(&self, command: &Value) -> Queue<Described> {
        let options = &command["options"];
        let queue = self.bus.queue(command["queue"].as_str().unwrap_or_default());
        let queue = match seconds(&options["lease"]) {
            Some(lease) => queue.lease(lease),
            None => queue,
        };
        match options["max_deliveries"].as_u64() {
            Some(most) => queue.max_deliveries(u32::try_from(most).unwrap_or(u32::MAX)),
            None => queue,
        }
    }

    async fn get(&self, command: &Value) -> Result<Value, Failure> {
        let (queue, timeout) = (self.queue(command), seconds(&command["timeout"]));
        if command["options"]["ack"] != "manual" {
            let item = match timeout {
                None => Some(queue.get().await?),
                Some(timeout) => queue.get_timeout(timeout).await?,
            };
            return item.map(|item| item.0).ok_or(Failure::Empty);
        }
        let delivery = match timeout {
            None => queue.claim().await?,
            Some(timeout) => queue.claim_timeout(timeout).await?.ok_or(Failure::Empty)?,
        };
        let item = delivery.0.clone();
        let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        claimed.entry(queue.name().to_owned()).or_default().push(delivery);
        Ok(item)
    }

    async fn task_done(&self, queue: &str) -> Result<Value, Failure> {
        let oldest = {
            let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
            let open = claimed.get_mut(queue).filter(|open| !open.is_empty());
            open.map(|open| open.remove(0))
        };
        let oldest = oldest.ok_or_else(|| Failure::Command("nothing is claimed".to_owned()))?;
        oldest.ack().await?;
        Ok(Value::Null)
    }

    /// Works until the process ends: each item is noted, with its deliveries, before it is settled.
    async fn work(&self, command: &Value) -> Result<Value, Failure> {
        let jobs = self.queue(command);
        let pause = seconds(&command["pause"]).unwrap_or_default();
        let done = self.bus.queue::<(Described, u32)>(command["done"].as_str().unwrap_or_default());
        loop {
            let job = jobs.claim().await?;
            tokio::time::sleep(pause).await;
            done.put(&((*job).clone(), job.deliveries())).await?;
            job.ack().await?;
        }
    }

    async fn expose(&self, name: &str, channel: Option<&str>) -> Result<Value, Failure> {
        let default = format!("shared_types.{name}");
        let channel = channel.unwrap_or(&default);
        let service = self.remotes.expose(&self.bus, name, channel).await?;
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        services.insert(channel.to_owned(), service);
        Ok(Value::Null)
    }

    async fn unexpose(&self, channel: &str) -> Result<Value, Failure> {
        let service = self.services.lock().unwrap_or_else(PoisonError::into_inner).remove(channel);
        service.ok_or_else(|| Failure::Command(format!("{channel} is not exposed")))?.drain().await;
        Ok(Value::Null)
    }

    /// A missing remote is an absent value here unless `rpc` asks for the error, as in Python.
    async fn call(&self, command: &Value) -> Result<Value, Failure> {
        let multi = command["multi"].as_bool().unwrap_or(false);
        let called =
            if multi { self.call_all(command).await } else { self.call_one(command).await };
        match called {
            Err(Failure::Bus(error)) if error.kind() == ErrorKind::NoSuchRemote => {
                match command["rpc"].as_bool() {
                    Some(true) => Err(error.into()),
                    _ if multi => Ok(json!([])),
                    _ => Ok(Value::Null),
                }
            }
            called => called,
        }
    }

    async fn call_one(&self, command: &Value) -> Result<Value, Failure> {
        Ok(self.stub(command).call(arguments(command)?).await?.0)
    }

    /// Errors stand among the results, as exceptions.
    async fn call_all(&self, command: &Value) -> Result<Value, Failure> {
        let replies = self.stub(command).call_all(arguments(command)?).await?;
        let described = replies.into_iter().map(|StubReply { result, .. }| match result {
            Ok(value) => value.0,
            Err(error) => {
                let (class, arguments) = as_exception(&error);
                json!({"exception": class, "args": arguments})
            }
        });
        Ok(described.collect())
    }

    fn stub(&self, command: &Value) -> Stub<Described, Described> {
        let stub = self.bus.stub(command["name"].as_str().unwrap_or_default());
        match seconds(&command["timeout"]) {
            Some(timeout) => stub.timeout(timeout),
            None => stub,
        }
    }
}

/// The arguments of a call as one value: a tuple, or names with values.
fn arguments(command: &Value) -> Result<Described, Failure> {
    let positional = command["args"].as_array().cloned().unwrap_or_default();
    let keywords = command["kwargs"].as_object().cloned().unwrap_or_default();
    match (positional.is_empty(), keywords.is_empty()) {
        (_, true) => Ok(Described(Value::Array(positional))),
        (true, false) => {
            let pairs: Value = keywords.into_iter().map(|(key, item)| json!([key, item])).collect();
            Ok(Described(json!({"dict": pairs})))
        }
        (false, false) => {
            let why = "a stub of Rust takes positional or keyword arguments, not both";
            Err(Failure::Command(why.to_owned()))
        }
    }
}

fn value_of(command: &Value) -> Result<Described, Failure> {
    match command.get("value") {
        Some(value) => Ok(Described(value.clone())),
        None => Err(Failure::Command("a Rust peer cannot evaluate an expression".to_owned())),
    }
}

fn seconds(value: &Value) -> Option<Duration> {
    value.as_f64().map(Duration::from_secs_f64)
}

/// What bytes are, read from a bus in memory into the type that `hint` names.
async fn decode(hex: &str, hint: Option<&str>) -> Result<Value, Failure> {
    let bytes: Option<Vec<u8>> = (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok())
        .collect();
    let bytes = bytes.ok_or_else(|| Failure::Command("no hexadecimal digits".to_owned()))?;
    let bus = Bus::connect("memory://").await?;
    let mut stream = received::topic(&bus, "decoded", hint).await?;
    bus.publish_bytes("decoded", bytes.into()).await?;
    Ok(stream.next().await.expect("the bus is open")?)
}
