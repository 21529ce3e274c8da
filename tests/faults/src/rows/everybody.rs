//! Everybody who works while servers come and go: producers and consumers of queues, a publisher with its
//! subscribers, a provider with its callers, in both languages.
//!
//! The one invariant: what is judged is what they wrote down, and what lies on the servers at the end.

use std::collections::HashSet;
use std::time::Duration;

use crate::check::{self, Alone, Promise, since};
use crate::crew::{GUARD, Hand, Kind, stories};
use crate::history::{Line, What};
use crate::report::Report;
use crate::scene::{PREFIX, Scene};
use crate::server::{Place, Raw};

/// More than any run comes to.
const MANY: u64 = 10_000_000;

/// Items are taken as they come.
pub(super) const AT_ONCE: [&str; 2] = ["most=500", "pause=0"];
/// Fewer are taken than are put: some always wait, which a master that fails takes with it.
pub(super) const SLOWLY: [&str; 2] = ["most=100", "pause=0.05"];

/// Where they work, and on what.
pub(super) struct Terms<'a> {
    pub(super) place: Place,
    pub(super) url: &'a str,
    /// How many replicas puts and settlements wait for.
    pub(super) replicas: u32,
    pub(super) queues: &'a [&'a str],
    /// How many items wait at most, and for how long consumers have one in hand.
    pub(super) backlog: [&'a str; 2],
    /// The topic, and the end of the function's name.
    pub(super) name: &'a str,
    /// Which events may come late.
    pub(super) unsure: fn(&[Line]) -> HashSet<u64>,
}

/// Those who work.
pub(super) struct Everybody {
    name: String,
    queues: Vec<Queue>,
    subscribers: Vec<Hand>,
    publisher: Hand,
    provider: Hand,
    callers: Vec<Hand>,
    /// Which events may come late.
    unsure: fn(&[Line]) -> HashSet<u64>,
}

/// A queue, with a producer and a consumer in each language.
struct Queue {
    name: String,
    producers: Vec<Hand>,
    consumers: Vec<Hand>,
}

impl Everybody {
    /// Starts all of them.
    pub(super) fn hire(scene: &Scene, terms: &Terms<'_>) -> Self {
        let Terms { place, url, replicas, queues, backlog: [most, pause], name, unsure } = terms;
        let way: Vec<_> = place.way.iter().map(String::as_str).collect();
        let careful = format!("{url}?replicas={replicas}");
        let numbers = |place: usize| {
            [format!("first={}", 1 + place as u64 * MANY), format!("count={MANY}")].to_vec()
        };
        let hire = |kind, role: &str, url: &str, more: &[String]| {
            scene.crew.hire_through(&way, kind, role, url, more)
        };
        let each = |role: &str, url: &str, more: &[String]| -> Vec<Hand> {
            let kinds = Kind::OURS.into_iter().enumerate();
            let words = |place| [&numbers(place)[..], more].concat();
            kinds.map(|(place, kind)| hire(kind, role, url, &words(place))).collect()
        };
        let queue = |name: &&str| Queue {
            name: (*name).to_owned(),
            producers: each(
                "produce",
                &careful,
                &words(&["pause=0.03", most, &format!("queue={name}")]),
            ),
            consumers: each(
                "consume",
                &careful,
                &words(&["lease=3", pause, &format!("queue={name}")]),
            ),
        };
        // Not the same: who listens to events might be taken for a provider that is not ours.
        let (topic, function) = (format!("topic={name}"), format!("name=double-{name}"));
        let rust = |role: &str, more: &[&str]| hire(Kind::Rust, role, url, &words(more));
        Self {
            name: (*name).to_owned(),
            queues: queues.iter().map(queue).collect(),
            subscribers: each("subscribe", url, &words(&[&topic])),
            publisher: rust("publish", &["pause=0.03", &format!("count={MANY}"), &topic]),
            provider: rust("serve", &[&function]),
            callers: each("call", url, &words(&["timeout=20", "pause=0.03", &function])),
            unsure: *unsure,
        }
    }

    /// Events and calls arrive later than that.
    pub(super) fn is_heard(
        &self,
        moment: Duration,
        after: &str,
        report: &mut Report,
    ) -> Result<(), String> {
        let events = (&self.subscribers, What::Received, "an event");
        let calls = (&self.callers, What::Answered, "a call");
        goes_on(&[events, calls], moment, after, report)
    }

    /// Items are put and confirmed later than that, on every queue, which takes the replicas.
    pub(super) fn works(
        &self,
        moment: Duration,
        after: &str,
        report: &mut Report,
    ) -> Result<(), String> {
        self.queues.iter().try_for_each(|queue| {
            let puts = (&queue.producers, What::Put, "a put");
            let confirmations = (&queue.consumers, What::Acked, "a confirmation");
            goes_on(&[puts, confirmations], moment, after, report)
        })
    }

    /// How many items were put later than that.
    pub(super) fn put_since(&self, moment: Duration) -> Result<usize, String> {
        let producers = self.queues.iter().flat_map(|queue| &queue.producers);
        let put = |line: &Line| line.what == What::Put && line.at > moment;
        let counts = producers.map(|hand| Ok(hand.lines()?.into_iter().filter(put).count()));
        counts.sum()
    }

    /// Ends it and judges; `server` says which one has a queue. What a master confirmed `alone` counts as
    /// confirmed by nobody.
    pub(super) fn finish(
        &mut self,
        server: impl Fn(&str) -> Raw,
        alone: &Alone,
        report: &mut Report,
    ) -> Result<(), String> {
        let all = |hands: &mut [Hand]| hands.iter_mut().try_for_each(Hand::finish);
        self.queues.iter_mut().try_for_each(|queue| all(&mut queue.producers))?;
        all(&mut self.callers)?;
        self.publisher.finish()?;
        let last = self.hear_to_the_end(&mut server(&self.queues[0].name))?;
        all(&mut self.subscribers)?;
        for Queue { name, producers, consumers } in &mut self.queues {
            Scene::drained_at(&mut server(name), name)?;
            all(consumers)?;
            let workers = stories(producers.iter().chain(&*consumers))?;
            let left = Scene::left_at(&mut server(name), name);
            let workers = alone.discount(workers, &left, report);
            check::queue(report, &workers, &left, Promise::NothingButClaims);
        }
        self.provider.finish()?;
        check::provider(report, &self.provider.story()?);
        for caller in &self.callers {
            check::caller(report, &caller.story()?);
        }
        let mut unsure = (self.unsure)(&self.publisher.lines()?);
        // It ended while it published this one, and may not have noted that it was done.
        unsure.insert(last - 1);
        for subscriber in &self.subscribers {
            check::subscriber(report, &subscriber.story()?, last + 1, &unsure);
        }
        Ok(())
    }

    /// Publishes one more event, which all subscribers hear; its number.
    fn hear_to_the_end(&self, server: &mut Raw) -> Result<u64, String> {
        let lines = self.publisher.lines()?;
        let last = lines.last().map_or(0, |line| line.item) + 2;
        server.run(&["PUBLISH", &format!("{PREFIX}{}", self.name), &last.to_string()]);
        for hand in &self.subscribers {
            hand.line(GUARD, |line| line.what == What::Received && line.item == last)?;
        }
        Ok(last)
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// Everybody does later than that what they are there for.
fn goes_on(
    what: &[(&Vec<Hand>, What, &str)],
    moment: Duration,
    after: &str,
    report: &mut Report,
) -> Result<(), String> {
    for (hands, wanted, words) in what {
        for hand in *hands {
            let line = hand.line(GUARD, |line| line.what == *wanted && line.at > moment);
            let line = line.map_err(|why| format!("{after}: {words}: {why}"))?;
            if !moment.is_zero() {
                report.recovered(&format!("{after}: {words}"), hand.kind, since(moment, &line));
            }
        }
    }
    Ok(())
}
