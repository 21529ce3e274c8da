//! `doctor`: what is wrong with a bus, the worst first, each with what to do about it.

use std::collections::HashMap;
use std::time::Duration;

use pymq::transport::{Finding, Leftover, QueueStats, Severity, Shelf};
use pymq::{Bus, ErrorKind, FunctionFacts};
use serde::Serialize;

use super::counted;
use crate::arguments::Doctor;
use crate::confirm::confirm;
use crate::failure::{Exit, Failure};
use crate::output::{Output, printable};

/// How long a queue is looked at: who takes items takes one meanwhile.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Serialize)]
struct Found<'a> {
    severity: &'static str,
    subject: &'a str,
    words: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    remedy: &'a str,
}

pub(super) async fn doctor(bus: &Bus, doctor: Doctor, output: &Output) -> Result<(), Failure> {
    let inspection = bus.inspect();
    let mut findings = vec![connection(bus).await?];
    findings.extend(supported(inspection.examine().await)?);
    for function in supported(inspection.functions().await)? {
        findings.extend(of_function(&function));
    }
    findings.extend(of_queues(bus).await?);
    let leftovers = supported(inspection.leftovers().await)?;
    findings.extend(leftovers.iter().map(left_behind));
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    for finding in &findings {
        show(finding, doctor.all, output)?;
    }
    if doctor.fix {
        fix(bus, leftovers, doctor.yes, output).await?;
    }
    let wrong = findings.iter().filter(|finding| finding.severity >= Severity::Risk).count();
    match wrong {
        0 => output.line("well: nothing that loses data was found"),
        _ => Err(Failure::new(Exit::Failed, format!("{} to see to", counted(wrong, "thing")))),
    }
}

/// What a transport cannot tell is no finding.
fn supported<T>(asked: pymq::Result<Vec<T>>) -> Result<Vec<T>, Failure> {
    match asked {
        Err(error) if error.kind() == ErrorKind::Unsupported => Ok(Vec::new()),
        asked => Ok(asked?),
    }
}

async fn connection(bus: &Bus) -> Result<Finding, Failure> {
    let ping = bus.ping().await?;
    let words = format!("{}, a round trip takes {:.2} ms", bus.state(), ping.as_secs_f64() * 1e3);
    Ok(Finding::new(Severity::Fine, "connection", words))
}

fn of_function(function: &FunctionFacts) -> Vec<Finding> {
    let FunctionFacts { name, providers, silent, others, .. } = function;
    let subject = format!("function {name}");
    let mut findings = Vec::new();
    if *silent > 0 {
        let words = format!(
            "{} connected, and did not answer within a second; calls to it wait until it is lost",
            if *silent == 1 {
                "1 provider is".to_owned()
            } else {
                format!("{silent} providers are")
            }
        );
        let found = Finding::new(Severity::Broken, &*subject, words);
        findings.push(found.remedy("look for a process that is stopped or hangs; restart it"));
    }
    if *others > 0 {
        let words = format!(
            "beside {} of this library, {others} of the original or other subscribers: calls to all \
             wait for them, and keyword arguments do not reach them",
            counted(providers.len(), "provider")
        );
        findings.push(Finding::new(Severity::Note, subject, words));
    }
    findings
}

async fn of_queues(bus: &Bus) -> Result<Vec<Finding>, Failure> {
    let names = supported(bus.inspect().queues().await)?;
    let mut findings = Vec::new();
    let mut before = HashMap::new();
    for name in &names {
        findings.extend(of_holders(bus, name).await?);
        let stats = bus.byte_queue(name).stats().await?;
        if stats.dead > 0 {
            let words = format!("{}: items that were given up", counted(stats.dead, "dead letter"));
            let found = Finding::new(Severity::Risk, format!("queue {name}"), words);
            let remedy = format!("pymq dead {name}, then pymq dead {name} redrive, or purge");
            findings.push(found.remedy(remedy));
        }
        if stats.waiting > 0 {
            before.insert(name, (stats, head(bus, name).await?));
        }
    }
    if before.is_empty() {
        return Ok(findings);
    }
    tokio::time::sleep(LOOK).await;
    for (name, (stats, first)) in before {
        let now = bus.byte_queue(name).stats().await?;
        if now.waiting >= stats.waiting && head(bus, name).await? == first {
            findings.push(stuck(name, &now));
        }
    }
    Ok(findings)
}

async fn head(bus: &Bus, name: &str) -> Result<Vec<bytes::Bytes>, Failure> {
    Ok(bus.byte_queue(name).peek(Shelf::Waiting, 1).await?)
}

fn stuck(name: &str, stats: &QueueStats) -> Finding {
    let consumers = match (stats.leased, stats.consumers) {
        (0, Some(0) | None) => "nobody has one in hand",
        (0, Some(_)) => "its consumers have none in hand",
        _ => "its consumers are busy with what they have in hand",
    };
    let waiting = counted(stats.waiting, "item");
    let words =
        format!("stuck: {waiting} waiting, none was taken while it was looked at; {consumers}");
    let found = Finding::new(Severity::Risk, format!("queue {name}"), words);
    found.remedy("start a consumer, or look at those that run")
}

async fn of_holders(bus: &Bus, name: &str) -> Result<Vec<Finding>, Failure> {
    let holders = supported(bus.inspect().holders(name).await)?;
    let dead = holders.into_iter().filter(|holder| holder.left == Some(Duration::ZERO));
    let found = dead.map(|holder| {
        let items = counted(holder.items, "item");
        let words =
            format!("the lease of {items} has run out: their consumer {} died", holder.name);
        Finding::new(Severity::Note, format!("queue {name}"), words)
            .remedy("nothing: any consumer, and this look at the queue, gives them back")
    });
    Ok(found.collect())
}

fn left_behind(leftover: &Leftover) -> Finding {
    let words = format!("{}: {}", leftover.name, leftover.words);
    Finding::new(Severity::Note, "leftover", words).remedy("pymq doctor --fix")
}

fn show(finding: &Finding, all: bool, output: &Output) -> Result<(), Failure> {
    let Finding { severity, subject, words, remedy, .. } = finding;
    let found = Found { severity: severity.word(), subject, words, remedy };
    output.object(&found)?;
    if *severity == Severity::Fine && !all {
        return Ok(());
    }
    let severity = severity.word().to_uppercase();
    output.line(&printable(&format!("{severity:<6}  {subject}: {words}")))?;
    match remedy.is_empty() {
        true => Ok(()),
        false => output.line(&printable(&format!("        → {remedy}"))),
    }
}

async fn fix(
    bus: &Bus,
    leftovers: Vec<Leftover>,
    yes: bool,
    output: &Output,
) -> Result<(), Failure> {
    if leftovers.is_empty() {
        output.say("nothing was left behind");
        return Ok(());
    }
    let things = counted(leftovers.len(), "leftover");
    confirm(output, yes, &format!("Tidy {things}?")).await?;
    for leftover in &leftovers {
        bus.inspect().tidy(leftover).await?;
    }
    for queue in bus.inspect().queues().await? {
        // Counting gives back what the dead hold.
        bus.byte_queue(&queue).stats().await?;
    }
    output.say(&format!("tidied {things}"));
    Ok(())
}
