//! Prometheus: what a bus does and how it stands, in the text format that is scraped.
//!
//! A program answers its `/metrics` with [`Metrics::text`]; there is no server in here.
//!
//! ```
//! use pymq::{Bus, prometheus::Metrics};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
//! let bus = Bus::connect("memory://").await?;
//! let metrics = Metrics::new();
//! bus.observe(metrics.clone());
//!
//! bus.queue("jobs").put(&"sweep").await?;
//! let text = metrics.text(&bus).await;
//! assert!(text.contains(r#"pymq_queue_items{queue="jobs",state="waiting"} 1"#));
//! assert!(text.contains(r#"messaging_client_sent_messages_total{messaging_destination_name="jobs""#));
//! # Ok(()) }
//! ```
//!
//! | series | of | labels |
//! |---|---|---|
//! | `rpc_client_call_duration_seconds`, `rpc_server_call_duration_seconds` | calls, exposed functions | `rpc_method`, `error_type` |
//! | `messaging_client_operation_duration_seconds` | publishing, putting, receiving | `messaging_destination_name`, `messaging_operation_name`, `error_type` |
//! | `messaging_process_duration_seconds` | handlers | `messaging_destination_name`, `error_type` |
//! | `messaging_client_sent_messages_total`, `messaging_client_consumed_messages_total` | messages | `messaging_destination_name`, `messaging_operation_name` |
//! | `pymq_redelivered_messages_total` | items that came once more | `messaging_destination_name` |
//! | `pymq_queue_items` | items of a queue | `queue`, `state`: `waiting`, `delayed`, `leased`, `dead` |
//! | `pymq_queue_oldest_seconds`, `pymq_queue_consumers` | a queue | `queue` |
//! | `pymq_connected`, `pymq_reconnects_total`, `pymq_unread_events`, `pymq_lost_events`, `pymq_lost_posts` | the bus | |
//!
//! The one invariant: a program that makes up names without end keeps a bounded number of series; from
//! the thousandth on of each kind, others are counted together as `_OTHER`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::bus::Bus;
use crate::gauges::{Gauges, LOST_POSTS, by_state};
use crate::telemetry::{End, Observation, Observer, Operation, Receipt, Verb};

/// What the text is, for the header of its answer.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The bounds that OpenTelemetry's conventions give for durations, in seconds.
const BOUNDS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
/// The most series of each kind that are told apart.
const MOST_SERIES: usize = 1000;
/// The name and the error of those that are not.
const OTHER: &str = "_OTHER";

/// Counts what a bus does; all clones are the same. See [`Bus::observe`] and [`text`](Self::text).
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    durations: Series<Durations>,
    messages: Series<u64>,
}

/// Values by family, then by the text of their labels.
type Series<T> = BTreeMap<Family, BTreeMap<String, T>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Family {
    Calls,
    Answers,
    Operations,
    Handlers,
    Sent,
    Consumed,
    Redelivered,
}

impl Family {
    fn name(self) -> &'static str {
        match self {
            Self::Calls => "rpc_client_call_duration_seconds",
            Self::Answers => "rpc_server_call_duration_seconds",
            Self::Operations => "messaging_client_operation_duration_seconds",
            Self::Handlers => "messaging_process_duration_seconds",
            Self::Sent => "messaging_client_sent_messages_total",
            Self::Consumed => "messaging_client_consumed_messages_total",
            Self::Redelivered => "pymq_redelivered_messages_total",
        }
    }

    fn help(self) -> &'static str {
        match self {
            Self::Calls => "How long calls took.",
            Self::Answers => "How long exposed functions took.",
            Self::Operations => "How long publishing, putting and receiving took.",
            Self::Handlers => "How long handlers took.",
            Self::Sent => "Messages that were sent.",
            Self::Consumed => "Messages that were received.",
            Self::Redelivered => "Items that came once more.",
        }
    }
}

#[derive(Debug, Default)]
struct Durations {
    /// How many were within each bound and not within the one before.
    within: [u64; BOUNDS.len()],
    count: u64,
    sum: f64,
}

impl Durations {
    fn add(&mut self, seconds: f64) {
        if let Some(place) = BOUNDS.iter().position(|bound| seconds <= *bound) {
            self.within[place] += 1;
        }
        self.count += 1;
        self.sum += seconds;
    }
}

/// A value of a series, made where there is room for one more.
fn entry<T: Default>(
    series: &mut Series<T>,
    family: Family,
    labels: impl Fn(Option<&str>) -> String,
) -> &mut T {
    let series = series.entry(family).or_default();
    let mut key = labels(None);
    if series.len() >= MOST_SERIES && !series.contains_key(&key) {
        key = labels(Some(OTHER));
    }
    series.entry(key).or_default()
}

impl Counts {
    fn time(&mut self, family: Family, subject: &Subject<'_>, took: Duration) {
        let labels = |other: Option<&str>| subject.labels(other, true);
        entry(&mut self.durations, family, labels).add(took.as_secs_f64());
    }

    fn count(&mut self, family: Family, subject: &Subject<'_>, messages: usize) {
        let labels = |other: Option<&str>| subject.labels(other, false);
        *entry(&mut self.messages, family, labels) += messages as u64;
    }
}

/// What something is counted for.
struct Subject<'a> {
    function: bool,
    name: &'a str,
    operation: Option<&'static str>,
    error: Option<&'a str>,
}

impl<'a> Subject<'a> {
    fn of(operation: &'static str, name: &'a str) -> Self {
        Self { function: false, name, operation: Some(operation), error: None }
    }

    /// Its labels as they are written; with its own name, or as one of many others.
    fn labels(&self, other: Option<&str>, with_error: bool) -> String {
        let label = if self.function { "rpc_method" } else { "messaging_destination_name" };
        let mut labels = String::new();
        write_label(&mut labels, label, other.unwrap_or(self.name));
        if let Some(operation) = self.operation {
            write_label(&mut labels, "messaging_operation_name", operation);
        }
        if let Some(error) = self.error.filter(|_| with_error) {
            write_label(&mut labels, "error_type", other.unwrap_or(error));
        }
        labels
    }
}

fn write_label(labels: &mut String, label: &str, value: &str) {
    if !labels.is_empty() {
        labels.push(',');
    }
    labels.push_str(label);
    labels.push_str("=\"");
    for character in value.chars() {
        match character {
            '\\' => labels.push_str("\\\\"),
            '"' => labels.push_str("\\\""),
            '\n' => labels.push_str("\\n"),
            other => labels.push(other),
        }
    }
    labels.push('"');
}

impl Metrics {
    /// Nothing has happened yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// All that was counted, and how the bus and every queue of its namespace stand now. Where the
    /// broker is away there is nothing of queues. Listing them takes time that grows with all that the
    /// broker holds, so of many processes few should be scraped often.
    pub async fn text(&self, bus: &Bus) -> String {
        let gauges = Gauges::of(bus).await;
        let mut text = self.counted();
        write_figures(&mut text, &gauges);
        text
    }

    fn counted(&self) -> String {
        let mut text = String::new();
        let counts = self.lock();
        for (family, series) in &counts.durations {
            head(&mut text, family.name(), "histogram", family.help());
            for (labels, durations) in series {
                write_durations(&mut text, family.name(), labels, durations);
            }
        }
        for (family, series) in &counts.messages {
            head(&mut text, family.name(), "counter", family.help());
            for (labels, count) in series {
                line(&mut text, family.name(), labels, count);
            }
        }
        text
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// Writing to text cannot fail.
fn line(text: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    let _ = match labels {
        "" => writeln!(text, "{name} {value}"),
        labels => writeln!(text, "{name}{{{labels}}} {value}"),
    };
}

fn write_durations(text: &mut String, name: &str, labels: &str, durations: &Durations) {
    let bucket = format!("{name}_bucket");
    let mut so_far = 0;
    for (bound, within) in BOUNDS.iter().zip(durations.within) {
        so_far += within;
        line(text, &bucket, &format!("{labels},le=\"{bound:?}\""), so_far);
    }
    line(text, &bucket, &format!("{labels},le=\"+Inf\""), durations.count);
    line(text, &format!("{name}_sum"), labels, durations.sum);
    line(text, &format!("{name}_count"), labels, durations.count);
}

fn write_figures(text: &mut String, Gauges { health, queues }: &Gauges) {
    let connected = u64::from(health.state.is_connected());
    let unread = health.unread_events as u64;
    for (name, kind, help, value) in [
        ("pymq_connected", "gauge", "Whether the bus has its broker.", connected),
        ("pymq_reconnects_total", "counter", "How often it came back.", health.reconnects),
        ("pymq_unread_events", "gauge", "Events that nobody has read yet.", unread),
        ("pymq_lost_events", "gauge", "Events that came too fast.", health.lost_events),
        ("pymq_lost_posts", "gauge", LOST_POSTS, health.lost_posts),
    ] {
        head(text, name, kind, help);
        line(text, name, "", value);
    }
    let Some(queues) = queues else { return };
    head(text, "pymq_queue_items", "gauge", "Items of a queue, by state.");
    for (name, stats) in queues {
        for (state, items) in by_state(stats) {
            let mut labels = queue(name);
            write_label(&mut labels, "state", state);
            line(text, "pymq_queue_items", &labels, items);
        }
    }
    let oldest = "For how long the first item has waited.";
    head(text, "pymq_queue_oldest_seconds", "gauge", oldest);
    for (name, stats) in queues {
        let oldest = stats.oldest.unwrap_or_default().as_secs_f64();
        line(text, "pymq_queue_oldest_seconds", &queue(name), oldest);
    }
    head(text, "pymq_queue_consumers", "gauge", "Who holds items or waits for some.");
    for (name, stats) in queues {
        if let Some(consumers) = stats.consumers {
            line(text, "pymq_queue_consumers", &queue(name), consumers);
        }
    }
}

fn queue(name: &str) -> String {
    let mut labels = String::new();
    write_label(&mut labels, "queue", name);
    labels
}

impl Observer for Metrics {
    fn begin(&self, operation: &Operation<'_>) -> Box<dyn Observation> {
        let Operation { verb, name, message, .. } = operation;
        if message.and_then(|message| message.deliveries).is_some_and(|times| times > 1) {
            self.lock().count(
                Family::Redelivered,
                &Subject { operation: None, ..Subject::of("", name) },
                1,
            );
        }
        let (metrics, name) = (self.clone(), (*name).to_owned());
        Box::new(Timed { metrics, verb: *verb, name, begun: Instant::now() })
    }

    fn received(&self, receipt: &Receipt<'_>) {
        let again = receipt.messages.iter().filter_map(|message| message.deliveries);
        let again = again.filter(|times| *times > 1).count();
        let mut counts = self.lock();
        let subject = Subject::of("receive", receipt.name);
        counts.time(Family::Operations, &subject, receipt.waited);
        counts.count(Family::Consumed, &subject, receipt.messages.len());
        if again > 0 {
            counts.count(Family::Redelivered, &Subject { operation: None, ..subject }, again);
        }
    }
}

struct Timed {
    metrics: Metrics,
    verb: Verb,
    name: String,
    begun: Instant,
}

impl Observation for Timed {
    fn end(&self, end: &End<'_>) {
        let (took, mut counts) = (self.begun.elapsed(), self.metrics.lock());
        let subject = Subject { error: end.error, ..Subject::of(self.verb.word(), &self.name) };
        let function = Subject { function: true, operation: None, ..subject };
        match self.verb {
            Verb::Call => counts.time(Family::Calls, &function, took),
            Verb::Serve => counts.time(Family::Answers, &function, took),
            Verb::Process => {
                counts.time(Family::Handlers, &Subject { operation: None, ..subject }, took);
                let consumed = Subject { error: None, ..Subject::of("process", &self.name) };
                counts.count(Family::Consumed, &consumed, end.messages);
            }
            Verb::Publish | Verb::Put => {
                counts.time(Family::Operations, &subject, took);
                counts.count(Family::Sent, &subject, end.messages);
            }
            Verb::Ack | Verb::Requeue | Verb::Reject => {
                counts.time(Family::Operations, &subject, took);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_stands_in_its_label_and_names_without_end_are_counted_together() {
        let metrics = Metrics::new();
        let end = End { messages: 1, error: Some("Timeout") };
        metrics.begin(&Operation::new(Verb::Publish, "a\"b\\c\nd")).end(&end);
        for number in 0..2 * MOST_SERIES {
            metrics.begin(&Operation::new(Verb::Publish, &format!("t{number}"))).end(&end);
        }
        let text = metrics.counted();
        assert!(text.contains(r#"{messaging_destination_name="a\"b\\c\nd","#), "{text}");
        let sent = format!("{}{{", Family::Sent.name());
        let lines: Vec<_> = text.lines().filter(|line| line.starts_with(&sent)).collect();
        assert_eq!(lines.len(), MOST_SERIES + 1);
        let others = lines.iter().find(|line| line.contains(OTHER)).expect("the others");
        assert!(others.ends_with(&format!(" {}", MOST_SERIES + 1)), "{others}");
    }

    #[test]
    fn the_buckets_of_a_histogram_add_up() {
        let mut durations = Durations::default();
        [0.001, 0.005, 0.3, 99.0].into_iter().for_each(|seconds| durations.add(seconds));
        let mut text = String::new();
        write_durations(&mut text, "d", r#"f="x""#, &durations);
        for line in [
            r#"d_bucket{f="x",le="0.005"} 2"#,
            r#"d_bucket{f="x",le="0.5"} 3"#,
            r#"d_bucket{f="x",le="10.0"} 3"#,
            r#"d_bucket{f="x",le="+Inf"} 4"#,
            r#"d_count{f="x"} 4"#,
        ] {
            assert!(text.lines().any(|one| one == line), "{line} in {text}");
        }
    }
}
