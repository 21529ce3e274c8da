//! Everybody who works while servers come and go: producers and consumers of queues, a publisher with its
//! subscribers, a provider with its callers, in both languages.
//!
//! The one invariant: what is judged is what they wrote down, and what lies on the servers at the end.

use std::collections::HashSet;
use std::time::Duration;

use crate::check::{self, Promise, since};
use crate::crew::{GUARD, Hand, Kind, stories};
use crate::history::{Line, What};
use crate::report::Report;
use crate::scene::{PREFIX, Scene};
use crate::server::Raw;

/// More than any run comes to.
const MANY: u64 = 10_000_000;

/// Those who work.
pub(super) struct Everybody {
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
    /// Puts and settlements wait for so many replicas; `unsure` says which events may come late.
    pub(super) fn hire(
        scene: &Scene,
        url: &str,
        replicas: u32,
        queues: &[&str],
        unsure: fn(&[Line]) -> HashSet<u64>,
    ) -> Self {
        let careful = format!("{url}?replicas={replicas}");
        let numbers = |place: usize| {
            [format!("first={}", 1 + place as u64 * MANY), format!("count={MANY}")].to_vec()
        };
        let each = |role: &str, url: &str, more: &[String]| -> Vec<Hand> {
            let kinds = Kind::OURS.into_iter().enumerate();
            let words = |place| [&numbers(place)[..], more].concat();
            kinds.map(|(place, kind)| scene.crew.hire(kind, role, url, &words(place))).collect()
        };
        let queue = |name: &&str| Queue {
            name: (*name).to_owned(),
            producers: each(
                "produce",
                &careful,
                &words(&["pause=0.03", "most=500", &format!("queue={name}")]),
            ),
            consumers: each("consume", &careful, &words(&["lease=3", &format!("queue={name}")])),
        };
        let rust = |role: &str, more: &[&str]| scene.crew.hire(Kind::Rust, role, url, &words(more));
        Self {
            queues: queues.iter().map(queue).collect(),
            subscribers: each("subscribe", url, &[]),
            publisher: rust("publish", &["pause=0.03", &format!("count={MANY}")]),
            provider: rust("serve", &[]),
            callers: each("call", url, &words(&["timeout=20", "pause=0.03"])),
            unsure,
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

    /// Ends it and judges; `port` says which server has a queue.
    pub(super) fn finish(
        &mut self,
        port: impl Fn(&str) -> u16,
        report: &mut Report,
    ) -> Result<(), String> {
        let all = |hands: &mut [Hand]| hands.iter_mut().try_for_each(Hand::finish);
        self.queues.iter_mut().try_for_each(|queue| all(&mut queue.producers))?;
        all(&mut self.callers)?;
        self.publisher.finish()?;
        let last = self.hear_to_the_end(port(&self.queues[0].name))?;
        all(&mut self.subscribers)?;
        for Queue { name, producers, consumers } in &mut self.queues {
            Scene::drained_at(port(name), name)?;
            all(consumers)?;
            let workers = stories(producers.iter().chain(&*consumers))?;
            let left = Scene::left_at(port(name), name);
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
    fn hear_to_the_end(&self, port: u16) -> Result<u64, String> {
        let lines = self.publisher.lines()?;
        let last = lines.last().map_or(0, |line| line.item) + 2;
        Raw::connect(port).run(&["PUBLISH", &format!("{PREFIX}news"), &last.to_string()]);
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
