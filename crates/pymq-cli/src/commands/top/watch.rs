//! What is known of a bus: counted on the way, looked up once a second.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use pymq::name::{Id, matches};
use pymq::transport::{Arrival, Finding, Shelf, State};
use pymq::wire::{Metadata, Passing};
use pymq::{Bus, ErrorKind, FunctionFacts, QueueStats, TopicFacts, Traffic};
use serde::Serialize;

use crate::value::Shown;

/// How many depths and times are kept.
const KEPT: usize = 24;
const TIMES: usize = 200;
/// How many topics and open calls are kept in mind.
const MOST: usize = 10_000;
/// How often it is looked at how the broker is set up.
const EXAMINED_EVERY: Duration = Duration::from_secs(20);

/// A bus under watch.
pub(super) struct Watch {
    traffic: Traffic,
    pattern: Option<String>,
    looked: Instant,
    pub(super) state: State,
    pub(super) queues: BTreeMap<String, QueueWatch>,
    pub(super) topics: BTreeMap<String, TopicWatch>,
    pub(super) functions: BTreeMap<String, FunctionWatch>,
    /// Calls that were seen and not answered yet.
    open: HashMap<Id, Instant>,
    /// What the broker was found to be, and when.
    pub(super) findings: Vec<Finding>,
    examined: Option<Instant>,
}

#[derive(Default)]
pub(super) struct QueueWatch {
    pub(super) stats: QueueStats,
    pub(super) oldest: Option<Duration>,
    /// How many waited, the latest last.
    pub(super) depths: VecDeque<usize>,
    /// The first item, and since when it is that.
    head: Option<(Bytes, Instant)>,
}

#[derive(Default)]
pub(super) struct TopicWatch {
    pub(super) subscribers: usize,
    pub(super) rate: f64,
    since: u64,
    last: Option<Bytes>,
}

#[derive(Default)]
pub(super) struct FunctionWatch {
    pub(super) facts: Option<FunctionFacts>,
    /// Whether somebody of this library has provided it since it is watched.
    was_provided: bool,
    pub(super) rate: f64,
    since: u64,
    times: VecDeque<Duration>,
}

/// One thing that was seen, for programs.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(super) enum Seen<'a> {
    Queue {
        name: &'a str,
        waiting: usize,
        delayed: usize,
        leased: usize,
        dead: usize,
        oldest: Option<f64>,
    },
    Topic {
        name: &'a str,
        subscribers: usize,
        rate: f64,
    },
    Function {
        name: &'a str,
        providers: usize,
        silent: usize,
        rate: f64,
        p50: Option<f64>,
        p95: Option<f64>,
    },
    Trouble {
        subject: &'a str,
        words: &'a str,
    },
}

impl Watch {
    pub(super) async fn begin(bus: &Bus, pattern: Option<String>) -> pymq::Result<Self> {
        Ok(Self {
            traffic: bus.inspect().traffic().await?,
            pattern,
            looked: Instant::now(),
            state: bus.state(),
            queues: BTreeMap::new(),
            topics: BTreeMap::new(),
            functions: BTreeMap::new(),
            open: HashMap::new(),
            findings: Vec::new(),
            examined: None,
        })
    }

    fn fits(&self, name: &str) -> bool {
        self.pattern.as_ref().is_none_or(|it| matches(it.as_bytes(), name.as_bytes()))
    }

    /// Hears one message.
    pub(super) async fn listen(&mut self) {
        match self.traffic.recv().await {
            Some(Arrival::Message(passing)) => self.note(passing),
            Some(_) => {}
            // The bus was closed, which the next look tells.
            None => std::future::pending().await,
        }
    }

    fn note(&mut self, passing: Passing) {
        match passing {
            Passing::Event { topic, payload }
                if self.fits(&topic)
                    && (self.topics.len() < MOST || self.topics.contains_key(&topic)) =>
            {
                let topic = self.topics.entry(topic).or_default();
                topic.since += 1;
                topic.last = Some(payload);
            }
            Passing::Request { function, call, .. } if self.fits(&function) => {
                if let Some(call) = call
                    && self.open.len() < MOST
                {
                    self.open.insert(call, Instant::now());
                }
            }
            Passing::Answer { function, call, .. } if self.fits(&function) => {
                let took = call.and_then(|call| self.open.remove(&call)).map(|at| at.elapsed());
                let function = self.functions.entry(function).or_default();
                function.since += 1;
                if let Some(took) = took {
                    push(&mut function.times, took, TIMES);
                }
            }
            _ => {}
        }
    }

    /// What is to be looked up now. It does not hold up what is heard meanwhile, since a provider that
    /// does not answer is waited for.
    pub(super) fn look(
        &self,
        bus: &Bus,
    ) -> impl Future<Output = pymq::Result<Look>> + Send + use<> {
        let examines = self.examined.is_none_or(|at| at.elapsed() >= EXAMINED_EVERY);
        Look::at(bus.clone(), self.pattern.clone(), examines)
    }

    /// Takes in what was looked up, and counts what has come since the last time.
    pub(super) fn take(&mut self, look: Look) {
        let Look { topics, functions, queues, findings } = look;
        let passed = self.looked.elapsed().as_secs_f64().max(0.001);
        self.looked = Instant::now();
        self.open.retain(|_, begun| begun.elapsed() < Duration::from_secs(600));
        for topic in self.topics.values_mut() {
            topic.rate = std::mem::take(&mut topic.since) as f64 / passed;
            topic.subscribers = 0;
        }
        for function in self.functions.values_mut() {
            function.rate = std::mem::take(&mut function.since) as f64 / passed;
            function.facts = None;
        }
        for facts in topics {
            self.topics.entry(facts.name).or_default().subscribers = facts.subscribers;
        }
        for facts in functions {
            let function = self.functions.entry(facts.name.clone()).or_default();
            function.facts = Some(facts);
            function.was_provided = true;
        }
        self.queues.retain(|name, _| queues.iter().any(|(there, ..)| there == name));
        for (name, stats, head) in queues {
            let watch = self.queues.entry(name).or_default();
            watch.stats = stats;
            push(&mut watch.depths, stats.waiting, KEPT);
            watch.note_head(head, stats.oldest);
        }
        if let Some(findings) = findings {
            self.findings = findings;
            self.examined = Some(Instant::now());
        }
    }

    /// Everything that was seen.
    pub(super) fn seen(&self) -> impl Iterator<Item = Seen<'_>> {
        let queues = self.queues.iter().map(|(name, queue)| {
            let QueueStats { waiting, delayed, leased, dead, .. } = queue.stats;
            let oldest = queue.oldest.map(|age| age.as_secs_f64());
            Seen::Queue { name, waiting, delayed, leased, dead, oldest }
        });
        let topics = self.topics.iter().map(|(name, topic)| Seen::Topic {
            name,
            subscribers: topic.subscribers,
            rate: topic.rate,
        });
        let functions = self.functions.iter().map(|(name, function)| {
            let (providers, silent) = function.providers();
            let (p50, p95) = (function.percentile(50), function.percentile(95));
            let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
            let (p50, p95, rate) = (seconds(p50), seconds(p95), function.rate);
            Seen::Function { name, providers, silent, rate, p50, p95 }
        });
        queues.chain(topics).chain(functions)
    }

    pub(super) fn last_event(&self, name: &str) -> String {
        let last = self.topics.get(name).and_then(|topic| topic.last.as_ref());
        last.map_or_else(
            || "no event since it is watched".to_owned(),
            |last| Shown::of(last).line(),
        )
    }

    pub(super) fn providers(&self, name: &str) -> Vec<String> {
        let facts = self.functions.get(name).and_then(|function| function.facts.as_ref());
        let Some(facts) = facts else { return vec!["nobody provides it".to_owned()] };
        let open = |calls: Option<usize>| calls.map_or("?".to_owned(), |calls| calls.to_string());
        let providers = facts.providers.iter();
        let lines = providers.map(|it| format!("provider {}  {} open", it.id, open(it.open_calls)));
        let silent =
            (facts.silent > 0).then(|| format!("{} connected, not answering", facts.silent));
        let others =
            (facts.others > 0).then(|| format!("{} of the original, or others", facts.others));
        lines.chain(silent).chain(others).collect()
    }
}

/// What was looked up at one moment.
pub(super) struct Look {
    topics: Vec<TopicFacts>,
    functions: Vec<FunctionFacts>,
    queues: Vec<(String, QueueStats, Option<Bytes>)>,
    /// How the broker is set up changes seldom, and is not looked at each time.
    findings: Option<Vec<Finding>>,
}

impl Look {
    async fn at(bus: Bus, pattern: Option<String>, examines: bool) -> pymq::Result<Self> {
        let fits =
            |name: &str| pattern.as_ref().is_none_or(|it| matches(it.as_bytes(), name.as_bytes()));
        let mut topics = told(bus.inspect().topics().await)?;
        topics.retain(|facts| fits(&facts.name));
        let mut functions = told(bus.inspect().functions().await)?;
        functions.retain(|facts| fits(&facts.name));
        let mut queues = Vec::new();
        for name in told(bus.inspect().queues().await)?.into_iter().filter(|name| fits(name)) {
            let queue = bus.byte_queue(&name);
            let stats = queue.stats().await?;
            let head = match stats.waiting {
                0 => None,
                _ => queue.peek(Shelf::Waiting, 1).await?.pop(),
            };
            queues.push((name, stats, head));
        }
        let findings = match examines {
            true => Some(told(bus.inspect().examine().await)?),
            false => None,
        };
        Ok(Self { topics, functions, queues, findings })
    }
}

impl QueueWatch {
    /// Whether items waited at the last two looks.
    pub(super) fn has_waited(&self) -> bool {
        self.depths.len() > 1 && self.depths.iter().rev().take(2).all(|depth| *depth > 0)
    }

    /// How old the first item is: as it says itself, else at least as long as it is watched.
    fn note_head(&mut self, head: Option<Bytes>, known: Option<Duration>) {
        let since = match (&self.head, &head) {
            (Some((before, since)), Some(now)) if before == now => *since,
            _ => Instant::now(),
        };
        let sent = head.clone().and_then(|head| Metadata::detach(head).0?.sent()?.elapsed().ok());
        self.oldest = head.as_ref().map(|_| known.or(sent).unwrap_or_else(|| since.elapsed()));
        self.head = head.map(|head| (head, since));
    }
}

impl FunctionWatch {
    /// Whether those who provided it have gone.
    pub(super) fn is_forsaken(&self) -> bool {
        self.was_provided && self.facts.is_none()
    }

    /// How many answer, and how many do not.
    pub(super) fn providers(&self) -> (usize, usize) {
        self.facts.as_ref().map_or((0, 0), |facts| (facts.providers.len(), facts.silent))
    }

    /// How long calls take, as far as they were seen.
    pub(super) fn percentile(&self, percent: usize) -> Option<Duration> {
        let mut times: Vec<_> = self.times.iter().copied().collect();
        times.sort_unstable();
        let place = (times.len() * percent).div_ceil(100).saturating_sub(1);
        times.get(place).copied()
    }
}

fn push<T>(line: &mut VecDeque<T>, value: T, most: usize) {
    if line.len() == most {
        line.pop_front();
    }
    line.push_back(value);
}

/// What a transport cannot tell is not shown.
fn told<T>(asked: pymq::Result<Vec<T>>) -> pymq::Result<Vec<T>> {
    match asked {
        Err(error) if error.kind() == ErrorKind::Unsupported => Ok(Vec::new()),
        asked => asked,
    }
}
