//! What the server tells of those who use it: channels, queues by their keys, who holds items.
//!
//! The one invariant: only questions are asked. Finding queues walks over all keys of the database,
//! in steps that hold nobody up; a queue that neither holds anything nor has a consumer that waits
//! has no key and no channel, and is not found.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::cluster::Nodes;
use super::events::{count_command, counts};
use super::examine::examine;
use super::leftovers;
use super::purpose::Purpose;
use super::queue::{of_side_key, side_key};
use super::resp::{Batch, Command, Reply};
use super::{Core, Redis};
use crate::error::Result;
use crate::transport::{Answer, Finding, Holder, Inspect, Leftover, QueueSpec, Severity, pending};

/// How many channels are counted in one command.
const PORTION: usize = 1000;
/// How many keys a step of the walk looks at.
const STEP: &str = "1000";

impl Inspect for Redis {
    fn topics<'a>(&'a self, pattern: &'a str) -> Answer<'a, Vec<(String, usize)>> {
        pending(topics(&self.core, pattern))
    }

    fn queues<'a>(&'a self, pattern: &'a str) -> Answer<'a, Vec<String>> {
        pending(async move {
            let (mut queues, mut poll) = (BTreeSet::new(), self.cores.poll("list").await?);
            for voter in poll.voters() {
                let found = poll.hear(&voter, queues_of(&voter.core, pattern).await)?;
                queues.extend(found.into_iter().flatten());
            }
            poll.end()?;
            Ok(queues.into_iter().collect())
        })
    }

    fn holders<'a>(&'a self, queue: &'a Arc<QueueSpec>) -> Answer<'a, Vec<Holder>> {
        pending(async move { holders(&*self.of("list", queue)?, queue).await })
    }

    fn examine<'a>(&'a self, namespace: &'a str) -> Answer<'a, Vec<Finding>> {
        pending(async move {
            let Some(nodes) = self.core.dialer.nodes() else {
                return examine(&self.core, namespace).await;
            };
            let (mut findings, mut poll) = (Vec::new(), self.cores.poll("examine").await?);
            for voter in poll.voters() {
                let found = examine_node(&voter.core, namespace, &findings).await;
                findings.extend(poll.hear(&voter, found)?.unwrap_or_default());
            }
            poll.end()?;
            let absent = self.cores.absent().findings();
            findings.extend(of_cluster(nodes, absent.len()));
            findings.extend(absent);
            Ok(findings)
        })
    }

    fn leftovers<'a>(&'a self, pattern: &'a str) -> Answer<'a, Vec<Leftover>> {
        pending(async move {
            let (mut left, mut poll) = (Vec::new(), self.cores.poll("list").await?);
            for voter in poll.voters() {
                let found = leftovers::find(&voter.core, pattern).await;
                left.extend(poll.hear(&voter, found)?.unwrap_or_default());
            }
            poll.end()?;
            Ok(left)
        })
    }

    fn tidy<'a>(&'a self, leftover: &'a Leftover) -> Answer<'a, ()> {
        pending(async move {
            let queue = of_side_key(&leftover.name).map_or(&*leftover.name, |(list, _)| list);
            leftovers::tidy(&*self.cores.of("tidy", queue)?, leftover).await
        })
    }
}

/// How many nodes a cluster has, and whether every slot has one; those that do not answer are told of by
/// themselves.
fn of_cluster(nodes: &Nodes, absent: usize) -> Option<Finding> {
    let (masters, lacking) = nodes.coverage();
    let words = format!("{masters} nodes take writes");
    match lacking {
        0 if absent > 0 => None,
        0 => Some(Finding::new(Severity::Fine, "cluster", format!("{words}, every slot has one"))),
        lacking => {
            let words = format!("{words}, {lacking} slots have none: their queues cannot be used");
            let found = Finding::new(Severity::Broken, "cluster", words);
            Some(found.remedy("bring the missing node back, or CLUSTER ADDSLOTS"))
        }
    }
}

/// What there is to say of one node of a cluster beside what was found: what is well there is told of
/// the first of them.
async fn examine_node(core: &Core, namespace: &str, known: &[Finding]) -> Result<Vec<Finding>> {
    let mut findings = examine(core, namespace).await?;
    if known.is_empty() {
        return Ok(findings);
    }
    findings.retain(|finding| {
        let same =
            |other: &Finding| other.subject == finding.subject && other.words == finding.words;
        finding.severity != Severity::Fine && !known.iter().any(same)
    });
    let node = core.commands.server().unwrap_or_default();
    for finding in &mut findings {
        finding.words = format!("{node}: {}", finding.words);
    }
    Ok(findings)
}

async fn topics(core: &Core, pattern: &str) -> Result<Vec<(String, usize)>> {
    let names = channels(core, pattern).await?;
    let mut topics = Vec::with_capacity(names.len());
    for names in names.chunks(PORTION) {
        let purpose = Purpose::idempotent("count", pattern);
        let reply = core.commands.run(purpose, &count_command(names)).await?;
        topics.extend(names.iter().cloned().zip(counts(reply)));
    }
    Ok(topics)
}

/// The channels of that pattern with subscribers by exact name.
async fn channels(core: &Core, pattern: &str) -> Result<Vec<String>> {
    let purpose = Purpose::idempotent("list", pattern);
    core.check(&purpose)?;
    let command = Command::new("PUBSUB").arg("CHANNELS").arg(pattern);
    Ok(texts(core.commands.run(purpose, &command).await?))
}

/// Queues that a server knows of.
async fn queues_of(core: &Core, pattern: &str) -> Result<BTreeSet<String>> {
    let waited_for = waited_for(core, pattern).await?;
    Ok(waited_for.into_iter().chain(kept(core, pattern).await?).collect())
}

/// Queues for whose items somebody waits.
async fn waited_for(core: &Core, pattern: &str) -> Result<BTreeSet<String>> {
    let hints = channels(core, &side_key(pattern, "hint")).await?;
    Ok(hints.iter().filter_map(|hint| of_side_key(hint)).map(|(list, _)| list.to_owned()).collect())
}

/// Queues of which a server keeps anything.
async fn kept(core: &Core, pattern: &str) -> Result<BTreeSet<String>> {
    let lists = keys(core, pattern, Some("list")).await?;
    let beside = keys(core, &side_key(pattern, "*"), None).await?;
    let beside = beside.iter().filter_map(|key| of_side_key(key)).map(|(list, _)| list.to_owned());
    Ok(lists.into_iter().chain(beside).collect())
}

/// The keys of that pattern, found in a walk over all.
pub(super) async fn keys(core: &Core, pattern: &str, kind: Option<&str>) -> Result<Vec<String>> {
    let purpose = Purpose::idempotent("list", pattern);
    core.check(&purpose)?;
    let mut found = Vec::new();
    let mut cursor = Bytes::from_static(b"0");
    loop {
        let mut step = Command::new("SCAN").arg(&cursor).args(["MATCH", pattern, "COUNT", STEP]);
        if let Some(kind) = kind {
            step = step.args(["TYPE", kind]);
        }
        let mut reply = core.commands.run(purpose, &step).await?.items().into_iter();
        let next = reply.next().and_then(Reply::bytes);
        found.extend(reply.next().map(texts).unwrap_or_default());
        match next {
            Some(next) if next[..] != *b"0" => cursor = next,
            _ => return Ok(found),
        }
    }
}

async fn holders(core: &Core, spec: &QueueSpec) -> Result<Vec<Holder>> {
    let purpose = Purpose::idempotent("list", &spec.name);
    core.check(&purpose)?;
    let registry = side_key(&spec.name, "epochs");
    let question = [
        Command::new("TIME"),
        Command::new("ZRANGE").arg(&registry).args(["0", "-1", "WITHSCORES"]),
    ];
    let batch = question.into_iter().collect::<Batch>();
    let mut replies = core.commands.pipeline(purpose, &batch).await?.into_iter();
    let now = milliseconds(purpose.check(replies.next())?);
    let epochs = scores(purpose.check(replies.next())?);
    let held = |(epoch, _): &(String, f64)| {
        Command::new("LLEN").arg(side_key(&spec.name, &format!("held:{epoch}")))
    };
    let lengths = core.commands.pipeline(purpose, &epochs.iter().map(held).collect()).await?;
    let mut holders: Vec<Holder> = Vec::with_capacity(epochs.len());
    for ((epoch, end), length) in epochs.into_iter().zip(lengths) {
        // The policy behind the dot is nobody's name, nor is the mark of what was fetched ahead.
        let name = epoch.split('.').next().unwrap_or_default().trim_end_matches('+');
        let mut holder = Holder::new(name, purpose.check(Some(length))?.count());
        holder.left = Some(Duration::from_secs_f64((end - now).max(0.0) / 1000.0));
        match holders.iter_mut().find(|known| known.name == holder.name) {
            Some(known) => known.items += holder.items,
            None if holder.items > 0 => holders.push(holder),
            None => {}
        }
    }
    Ok(holders)
}

/// The server's clock, from `TIME`.
pub(super) fn milliseconds(time: Reply) -> f64 {
    let mut parts = texts(time).into_iter().map(|part| part.parse::<f64>().unwrap_or_default());
    let (seconds, micros) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    seconds * 1000.0 + micros / 1000.0
}

/// Members and scores, which come in pairs or one after the other.
fn scores(reply: Reply) -> Vec<(String, f64)> {
    let flat: Vec<_> = reply
        .items()
        .into_iter()
        .flat_map(|item| match item {
            Reply::List(pair) => pair,
            single => vec![single],
        })
        .collect();
    let pair = |pair: &[Reply]| {
        let [member, score] = pair else { return None };
        let score = match score {
            Reply::Number(whole) => *whole as f64,
            other => text(other.clone())?.parse().ok()?,
        };
        // No clock of ours reaches beyond; a score that does would end no calculation.
        let score = if f64::is_finite(score) { score.clamp(0.0, 1e15) } else { 0.0 };
        Some((text(member.clone())?, score))
    };
    flat.chunks(2).filter_map(pair).collect()
}

/// The texts of a list; what is no UTF-8 is nobody's name.
pub(super) fn texts(reply: Reply) -> Vec<String> {
    reply.items().into_iter().filter_map(text).collect()
}

fn text(reply: Reply) -> Option<String> {
    String::from_utf8(reply.bytes()?.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_read_in_pairs_and_in_a_row() {
        let bytes = |text: &'static str| Reply::Bytes(Bytes::from_static(text.as_bytes()));
        let row = Reply::List(vec![bytes("a"), bytes("1.5"), bytes("b"), bytes("inf")]);
        assert_eq!(scores(row), [("a".to_owned(), 1.5), ("b".to_owned(), 0.0)]);
        let pairs = Reply::List(vec![Reply::List(vec![bytes("a"), Reply::Number(7)])]);
        assert_eq!(scores(pairs), [("a".to_owned(), 7.0)]);
    }
}
