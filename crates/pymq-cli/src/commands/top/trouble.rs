//! What there is to see to on a bus under watch, the worst first, each a line.

use pymq::QueueStats;
use pymq::transport::{Finding, Severity};

use super::super::counted;
use super::watch::{FunctionWatch, QueueWatch, Watch};

/// Of what the broker was found to be, the notes too that are about others than the broker.
const OLD_PEERS: &str = "old peers";

/// What is wrong with one thing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) subject: String,
    pub(super) words: String,
}

impl Trouble {
    fn new(subject: impl Into<String>, words: impl Into<String>) -> Self {
        Self { subject: subject.into(), words: words.into() }
    }

    /// It on one line.
    pub(super) fn line(&self) -> String {
        format!("! {}: {}", self.subject, self.words)
    }
}

/// Everything that is wrong, as far as it is watched.
pub(super) fn troubles(watch: &Watch) -> Vec<Trouble> {
    let functions = watch.functions.iter().filter_map(|(name, it)| of_function(name, it));
    let stuck = watch.queues.iter().filter_map(|(name, it)| untaken(name, it));
    let dead = watch.queues.iter().filter_map(|(name, it)| given_up(name, &it.stats));
    let found = watch.findings.iter().filter(|finding| matters(finding));
    let found = found.map(|it| Trouble::new(&*it.subject, &*it.words));
    functions.chain(stuck).chain(dead).chain(found).collect()
}

fn of_function(name: &str, function: &FunctionWatch) -> Option<Trouble> {
    let words = match function.providers() {
        _ if function.is_forsaken() => "nobody provides it any more".to_owned(),
        (_, 0) => return None,
        (_, 1) => "1 provider does not answer".to_owned(),
        (_, silent) => format!("{silent} providers do not answer"),
    };
    Some(Trouble::new(format!("function {name}"), words))
}

fn untaken(name: &str, queue: &QueueWatch) -> Option<Trouble> {
    let QueueStats { waiting, leased, consumers, .. } = queue.stats;
    // What came this moment is about to be taken.
    let alone = waiting > 0 && leased == 0 && consumers == Some(0) && queue.has_waited();
    let words = format!("{}, and nobody takes any", super::waiting(waiting));
    alone.then(|| Trouble::new(format!("queue {name}"), words))
}

fn given_up(name: &str, stats: &QueueStats) -> Option<Trouble> {
    let words = counted(stats.dead, "dead letter");
    (stats.dead > 0).then(|| Trouble::new(format!("queue {name}"), words))
}

fn matters(finding: &Finding) -> bool {
    finding.severity >= Severity::Risk
        || (finding.severity == Severity::Note && finding.subject == OLD_PEERS)
}
