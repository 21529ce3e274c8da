//! Looks at a server as a bus needs it: what it is, what it would lose, what we may do there.
//!
//! The one invariant: nothing is changed. Rights are found by queueing commands in a transaction
//! that is bound to be refused, since servers judge rights when a command is queued. What may not be
//! asked is a note, never a failure.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use super::Core;
use super::inspect::texts;
use super::purpose::Purpose;
use super::refusal::{Cause, Refusal};
use super::resp::{Batch, Command, Reply};
use crate::error::Result;
use crate::name::Namespace;
use crate::transport::{Finding, Severity};

/// Clocks that differ by less are as good as equal.
const SAME_TIME: Duration = Duration::from_secs(1);
/// A limit on what waits for a subscriber, in bytes, below which bursts cut it off.
const LITTLE_OUTPUT: u64 = 8 << 20;
/// Shorter times of a server's `timeout` end connections between our signs of life.
const SHORT_TIMEOUT: u64 = 15;

/// Everything that can be looked at.
pub(super) async fn examine(core: &Core, namespace: &str) -> Result<Vec<Finding>> {
    let purpose = Purpose::idempotent("examine", "server");
    core.check(&purpose)?;
    let info = facts(core, "INFO", None).await?;
    let mut settings = HashMap::new();
    for name in ["client-output-buffer-limit", "timeout", "save", "appendfsync"] {
        settings.extend(facts(core, "CONFIG", Some(name)).await?.unwrap_or_default());
    }
    let settings = (!settings.is_empty()).then_some(settings);
    let mut findings = vec![transport(core)];
    match &info {
        Some(info) => findings.extend(of_server(info, settings.as_ref())),
        None => findings.push(hidden("server", "INFO", "+info")),
    }
    match &settings {
        Some(settings) => findings.extend(of_settings(settings)),
        None => findings.push(hidden("settings", "CONFIG GET", "+config|get")),
    }
    findings.push(clock(core).await?);
    findings.extend(strangers(core).await?);
    findings.extend(rights(core, namespace).await?);
    Ok(findings)
}

fn hidden(subject: &str, command: &str, rule: &str) -> Finding {
    let words = format!("cannot be looked at: this user may not run {command}");
    Finding::new(Severity::Note, subject, words).remedy(format!("ACL rule {rule}, to look at it"))
}

/// `INFO`, or `CONFIG GET` of a name, as names and values; `None` where that is forbidden.
async fn facts(
    core: &Core,
    command: &'static str,
    setting: Option<&str>,
) -> Result<Option<HashMap<String, String>>> {
    let purpose = Purpose::idempotent("look at", command);
    let command = match setting {
        Some(name) => Command::new(command).arg("GET").arg(name),
        None => Command::new(command),
    };
    let Some(reply) = allowed(core, purpose, command).await? else { return Ok(None) };
    if let Reply::Bytes(text) = &reply {
        let text = String::from_utf8_lossy(text);
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        return Ok(Some(lines.map(|(name, value)| (name.into(), value.trim().into())).collect()));
    }
    let words = texts(reply);
    let pairs = words.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone()));
    Ok(Some(pairs.collect()))
}

/// A reply, or nothing where the server refuses the command.
async fn allowed(core: &Core, purpose: Purpose<'_>, command: Command) -> Result<Option<Reply>> {
    let replies = core.commands.pipeline(purpose, &Batch::from_iter([command])).await?;
    Ok(replies.into_iter().next().filter(|reply| !matches!(reply, Reply::Refused(_))))
}

/// How we are connected.
fn transport(core: &Core) -> Finding {
    let server = core.dialer.standing().server();
    if server.starts_with("rediss") {
        return Finding::new(Severity::Fine, "TLS", format!("{server}: TLS"));
    }
    if server.starts_with("redis+unix://") || is_local(server) {
        return Finding::new(Severity::Fine, "TLS", format!("{server}: without a network between"));
    }
    let words = format!("{server}: anybody on the way reads messages and the password");
    let scheme = server.split(':').next().unwrap_or_default().replacen("redis", "rediss", 1);
    Finding::new(Severity::Note, "TLS", words).remedy(format!("use {scheme}://"))
}

/// Whether all hosts are this one.
fn is_local(server: &str) -> bool {
    let hosts = server.split_once("://").map_or(server, |(_, hosts)| hosts);
    let hosts = hosts.rsplit_once('@').map_or(hosts, |(_, hosts)| hosts);
    let local =
        |host| ["127.", "localhost", "[::1]"].iter().any(|local| str::starts_with(host, local));
    hosts.split(',').all(local)
}

fn of_server(
    info: &HashMap<String, String>,
    settings: Option<&HashMap<String, String>>,
) -> Vec<Finding> {
    let text = |name: &str| info.get(name).map_or("", String::as_str);
    let number = |name: &str| text(name).parse::<u64>().unwrap_or_default();
    let version = match text("valkey_version") {
        "" => format!("Redis {}", text("redis_version")),
        version => format!("Valkey {version}"),
    };
    let days = number("uptime_in_seconds") / 86_400;
    let words = format!("{version}, up for {days} days, {} clients", text("connected_clients"));
    let mut findings = vec![Finding::new(Severity::Fine, "version", words)];
    findings.push(eviction(text("maxmemory_policy"), number("maxmemory"), number("evicted_keys")));
    findings.push(memory(number("used_memory"), number("maxmemory")));
    let saves = settings.and_then(|settings| settings.get("save")).map(String::as_str);
    findings.push(persistence(text("aof_enabled") == "1", saves));
    for (name, what) in [
        ("rdb_last_bgsave_status", "the last snapshot"),
        ("aof_last_write_status", "the last write to the append-only file"),
    ] {
        if text(name) == "err" {
            let words = format!("{what} failed; what is in memory now would not survive a restart");
            let found = Finding::new(Severity::Broken, "persistence", words);
            findings.push(found.remedy("look at the server's log and its disk"));
        }
    }
    let (clients, most) = (number("connected_clients"), number("maxclients"));
    if most > 0 && clients * 10 >= most * 9 {
        let words = format!("{clients} of {most} clients are connected; more are turned away");
        let found = Finding::new(Severity::Risk, "maxclients", words);
        findings.push(found.remedy("CONFIG SET maxclients MORE"));
    }
    findings
}

/// What the server deletes when its memory is full.
fn eviction(policy: &str, maxmemory: u64, evicted: u64) -> Finding {
    let subject = "maxmemory-policy";
    let yet = match (evicted, maxmemory) {
        (0, 0) => "; not yet, since no maxmemory is set".to_owned(),
        (0, _) => String::new(),
        (keys, _) => format!("; {keys} keys are gone that way already"),
    };
    let remedy = "CONFIG SET maxmemory-policy noeviction";
    if policy.starts_with("allkeys") {
        let severity = if evicted > 0 { Severity::Broken } else { Severity::Risk };
        let words = format!("{policy}: a full server deletes whole queues{yet}");
        Finding::new(severity, subject, words).remedy(remedy)
    } else if policy.starts_with("volatile") {
        let words = format!(
            "{policy}: a full server deletes replies that wait for their callers and the ids of \
             puts, no queue{yet}"
        );
        Finding::new(Severity::Note, subject, words).remedy(remedy)
    } else if policy.is_empty() {
        Finding::new(Severity::Note, subject, "the server does not say it")
    } else {
        Finding::new(Severity::Fine, subject, format!("{policy}: a full server deletes nothing"))
    }
}

fn memory(used: u64, maxmemory: u64) -> Finding {
    let mebibytes = |bytes: u64| format!("{} MiB", bytes >> 20);
    if maxmemory == 0 {
        let words = format!(
            "{} used, no limit: queues that nobody empties take the whole machine",
            mebibytes(used)
        );
        return Finding::new(Severity::Note, "maxmemory", words)
            .remedy("CONFIG SET maxmemory BYTES");
    }
    let words = format!("{} of {} used", mebibytes(used), mebibytes(maxmemory));
    if used * 10 >= maxmemory * 9 {
        let words = format!("{words}: puts will be refused");
        let found = Finding::new(Severity::Risk, "maxmemory", words);
        return found.remedy("get or purge items, or CONFIG SET maxmemory MORE");
    }
    Finding::new(Severity::Fine, "maxmemory", words)
}

fn persistence(appends: bool, saves: Option<&str>) -> Finding {
    let subject = "persistence";
    match (appends, saves) {
        (true, _) => {
            let words = "append-only file: queues survive a restart, but for what came last \
                         (appendfsync)";
            Finding::new(Severity::Fine, subject, words)
        }
        (false, None) => {
            let words = "no append-only file: queues lose what came after the last snapshot, or \
                         everything";
            Finding::new(Severity::Risk, subject, words).remedy("CONFIG SET appendonly yes")
        }
        (false, Some("")) => {
            let words = "none: a restart of the server loses every queue";
            Finding::new(Severity::Risk, subject, words).remedy("CONFIG SET appendonly yes")
        }
        (false, Some(save)) => {
            let words = format!("snapshots only (save {save}): a crash loses what came after one");
            Finding::new(Severity::Risk, subject, words).remedy("CONFIG SET appendonly yes")
        }
    }
}

fn of_settings(settings: &HashMap<String, String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(limits) = settings.get("client-output-buffer-limit") {
        findings.push(output_buffer(limits));
    }
    let seconds = settings.get("timeout").and_then(|text| text.parse::<u64>().ok());
    findings.extend(seconds.map(idle_timeout));
    findings
}

/// How much may wait for a subscriber before the server cuts it off.
fn output_buffer(limits: &str) -> Finding {
    let subject = "client-output-buffer-limit";
    let words: Vec<_> = limits.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "pubsub");
    let hard = at.and_then(|at| words.get(at + 1)).and_then(|bytes| bytes.parse::<u64>().ok());
    match hard {
        Some(bytes) if bytes > 0 && bytes < LITTLE_OUTPUT => {
            let words = format!(
                "pubsub {} KiB: a burst of events cuts a subscriber off, which misses what comes \
                 until it is back",
                bytes >> 10
            );
            let remedy = "CONFIG SET client-output-buffer-limit \"pubsub 33554432 8388608 60\"";
            Finding::new(Severity::Risk, subject, words).remedy(remedy)
        }
        Some(0) => Finding::new(
            Severity::Note,
            subject,
            "pubsub without limit: a subscriber that stands still takes the server's memory",
        ),
        Some(bytes) => {
            let words = format!("pubsub {} MiB may wait for a subscriber", bytes >> 20);
            Finding::new(Severity::Fine, subject, words)
        }
        None => Finding::new(Severity::Note, subject, "the server does not say it"),
    }
}

fn idle_timeout(seconds: u64) -> Finding {
    let remedy = "CONFIG SET timeout 0";
    match seconds {
        0 => Finding::new(Severity::Fine, "timeout", "0: idle connections stay"),
        1..SHORT_TIMEOUT => {
            let words = format!("{seconds} s: connections are cut between signs of life");
            Finding::new(Severity::Risk, "timeout", words).remedy(remedy)
        }
        _ => {
            let words = format!("{seconds} s: idle connections of the original's peers are cut");
            Finding::new(Severity::Note, "timeout", words).remedy(remedy)
        }
    }
}

/// How far the server's clock is from ours, by which `put(at=…)` is late or early.
async fn clock(core: &Core) -> Result<Finding> {
    let asked = SystemTime::now();
    let purpose = Purpose::idempotent("look at", "clock");
    let Some(reply) = allowed(core, purpose, Command::new("TIME")).await? else {
        return Ok(hidden("clock", "TIME", "+time"));
    };
    let way = asked.elapsed().unwrap_or_default() / 2;
    let here = asked.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default() + way;
    let mut parts = texts(reply).into_iter().map(|part| part.parse::<u64>().unwrap_or_default());
    let (seconds, micros) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let there = Duration::from_secs(seconds) + Duration::from_micros(micros.min(999_999));
    let apart = here.abs_diff(there);
    let words = format!("{} ms from this machine's", apart.as_millis());
    if apart < SAME_TIME {
        return Ok(Finding::new(Severity::Fine, "clock", words));
    }
    let words = format!("{words}: items that are put for a time of day are late or early by that");
    Ok(Finding::new(Severity::Risk, "clock", words).remedy("synchronise both clocks (NTP)"))
}

/// Clients that are not of this library and wait for messages: peers of the original most likely.
async fn strangers(core: &Core) -> Result<Vec<Finding>> {
    let purpose = Purpose::idempotent("look at", "clients");
    let command = Command::new("CLIENT").arg("LIST");
    let Some(reply) = allowed(core, purpose, command).await? else {
        return Ok(vec![hidden("old peers", "CLIENT LIST", "+client|list")]);
    };
    let text = reply.bytes().unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let found: Vec<_> = text.lines().filter_map(stranger).collect();
    let words = match found.as_slice() {
        [] => return Ok(vec![Finding::new(Severity::Fine, "old peers", "none is connected")]),
        [only] => format!("a client that is not of this library waits for messages: {only}"),
        several => format!(
            "{} clients that are not of this library wait for messages: {}",
            several.len(),
            several[..several.len().min(3)].join("; ")
        ),
    };
    let words = format!(
        "{words}. If it is the original pymq: calls of its functions are executed by all of its \
         providers, keyword arguments do not reach them, what it takes from a queue is gone if it \
         dies, and it knows no delays, retries and dead letters"
    );
    let found = Finding::new(Severity::Note, "old peers", words);
    Ok(vec![found.remedy("docs/departures.md; upgrade those programs")])
}

/// Where a client that is not ours waits, from its line of `CLIENT LIST`.
fn stranger(line: &str) -> Option<String> {
    let fields: HashMap<_, _> = line.split(' ').filter_map(|field| field.split_once('=')).collect();
    let text = |name: &str| fields.get(name).copied().unwrap_or_default();
    let counted = |name: &str| text(name).parse::<u64>().unwrap_or_default() > 0;
    let waits = counted("sub")
        || counted("psub")
        || matches!(text("cmd"), "brpop" | "blpop" | "subscribe" | "psubscribe");
    // A bus of ours speaks RESP3 on every connection, whatever its name.
    let ours = text("name").starts_with("pymq-") || text("resp") == "3";
    (waits && !ours).then(|| {
        let library = match text("lib-name") {
            "" => "unknown library",
            name => name,
        };
        format!("{} ({library}, {})", text("addr"), text("cmd"))
    })
}

/// What a bus does, as a user's rights are asked: command, words, and what lacks without it.
/// `K` stands for a key of the namespace, `C` for a channel, `P` for the pattern of all: the rules of a
/// server compare patterns as they are written.
const NEEDED: [(&str, &[&str], &str); 38] = [
    ("PUBLISH", &["C", "x"], "publishing, calls"),
    ("SUBSCRIBE", &["C"], "subscribing, functions"),
    ("UNSUBSCRIBE", &["C"], "unsubscribing"),
    ("PSUBSCRIBE", &["P"], "patterns"),
    ("PUNSUBSCRIBE", &["C"], "patterns"),
    ("PUBSUB", &["NUMSUB", "C"], "calls"),
    ("LPUSH", &["K", "x"], "putting"),
    ("RPUSH", &["K", "x"], "giving items back"),
    ("LPOP", &["K"], "giving items back"),
    ("RPOP", &["K"], "getting"),
    ("BRPOP", &["K", "1"], "answers of the original's providers"),
    ("LMOVE", &["K", "K", "RIGHT", "LEFT"], "getting"),
    ("BLMOVE", &["K", "K", "RIGHT", "LEFT", "1"], "getting"),
    ("LREM", &["K", "1", "x"], "confirming"),
    ("LRANGE", &["K", "0", "0"], "peeking, recovering"),
    ("LLEN", &["K"], "counting"),
    ("LPOS", &["K", "x"], "confirming"),
    ("EXISTS", &["K"], "queues that are shut down"),
    ("DEL", &["K"], "purging"),
    ("UNLINK", &["K"], "purging"),
    ("GET", &["K"], "puts with an id"),
    ("SET", &["K", "x"], "puts with an id, shutdown"),
    ("PEXPIRE", &["K", "1000"], "answers to callers that are away"),
    ("ZADD", &["K", "1", "x"], "leases, delays"),
    ("ZREM", &["K", "x"], "leases, delays"),
    ("ZRANGE", &["K", "0", "0"], "leases, delays"),
    ("ZCOUNT", &["K", "0", "1"], "counting"),
    ("TIME", &[], "leases, delays"),
    ("EVAL", &["return 1", "1", "K"], "queues other than plain puts"),
    ("EVALSHA", &["x", "1", "K"], "queues other than plain puts"),
    ("PING", &[], "noticing a broken connection early"),
    ("CLIENT", &["UNBLOCK", "0"], "ending a wait at once"),
    ("PUBSUB", &["CHANNELS", "x"], "pymq ls, queues, top"),
    ("SCAN", &["0"], "pymq ls, queues, top"),
    ("INFO", &[], "pymq doctor, warnings of a server that deletes queues"),
    ("CONFIG", &["GET", "timeout"], "pymq doctor"),
    ("CLIENT", &["LIST"], "pymq doctor"),
    ("ACL", &["WHOAMI"], "pymq doctor"),
];

/// How many of the last ones only tools need.
const FOR_TOOLS: usize = 6;

/// What this user may not do that a bus does, rule by rule.
async fn rights(core: &Core, namespace: &str) -> Result<Vec<Finding>> {
    let purpose = Purpose::idempotent("look at", "rights");
    // GET of nothing cannot be queued by anybody, which dooms the transaction. That it does is seen
    // before anything is asked that would change something if it were done.
    let doom = || Command::new("GET");
    let first = [Command::new("MULTI"), doom(), Command::new("EXEC")];
    let replies = core.commands.pipeline(purpose, &first.into_iter().collect()).await?;
    for (reply, rule) in [(replies.first(), "+multi"), (replies.get(2), "+exec")] {
        if reply.and_then(denied).is_some() {
            let words = "calls, and ending a wait at once; without it no other right can be asked";
            return Ok(vec![lacks(Severity::Broken, rule, words)]);
        }
    }
    if !replies.iter().skip(1).all(|reply| matches!(reply, Reply::Refused(_))) {
        let words = "this server does not refuse a transaction of which a command is malformed; \
                     rights cannot be asked without using them";
        return Ok(vec![Finding::new(Severity::Note, "rights", words)]);
    }
    let begin = [Command::new("MULTI"), doom()];
    let asked = NEEDED.iter().map(|(command, words, _)| dry_run(command, words, namespace));
    let batch = begin.into_iter().chain(asked).chain([Command::new("EXEC")]).collect();
    let replies = core.commands.pipeline(purpose, &batch).await?;
    let mut missing = Vec::new();
    for (place, ((command, words, what), reply)) in
        NEEDED.iter().zip(replies.iter().skip(2)).enumerate()
    {
        let Some(refusal) = denied(reply) else { continue };
        let severity = match place + FOR_TOOLS < NEEDED.len() {
            true => Severity::Broken,
            false => Severity::Note,
        };
        missing.push(lacks(severity, &rule(command, words, refusal, namespace), what));
    }
    missing.dedup_by(|one, other| one.subject == other.subject);
    if missing.is_empty() {
        let words = format!("all that a bus does in the namespace {namespace:?} is allowed");
        return Ok(vec![Finding::new(Severity::Fine, "rights", words)]);
    }
    Ok(missing)
}

fn lacks(severity: Severity, rule: &str, what: &str) -> Finding {
    let words = format!("this user lacks it; it is needed for: {what}");
    let remedy = format!("ACL SETUSER … {rule} (SECURITY.md has the least that suffices)");
    Finding::new(severity, format!("right {rule}"), words).remedy(remedy)
}

fn dry_run(command: &str, words: &[&str], namespace: &str) -> Command {
    let space = Namespace::new(namespace);
    let (name, all) = (space.whole("pymq-doctor"), space.whole_pattern("*"));
    let words = words.iter().map(|word| match *word {
        "K" | "C" => name.as_str(),
        "P" => all.as_str(),
        other => other,
    });
    Command::new(command).args(words)
}

fn denied(reply: &Reply) -> Option<&Refusal> {
    match reply {
        Reply::Refused(refusal) if refusal.cause() == Cause::Denied => Some(refusal),
        _ => None,
    }
}

/// The rule that a refusal asks for.
fn rule(command: &str, words: &[&str], refusal: &Refusal, namespace: &str) -> String {
    let command = command.to_lowercase();
    match refusal.reach() {
        Some(kind) => format!("{kind}__eventbus:{namespace}:*"),
        None if ["pubsub", "client", "config", "acl"].contains(&&*command) => {
            format!("+{command}|{}", words.first().map_or("", |word| *word).to_lowercase())
        }
        None => format!("+{command}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_that_deletes_queues_is_a_risk_and_broken_once_it_did() {
        assert_eq!(eviction("allkeys-lru", 0, 0).severity, Severity::Risk);
        assert_eq!(eviction("allkeys-lfu", 100, 7).severity, Severity::Broken);
        assert_eq!(eviction("volatile-ttl", 100, 0).severity, Severity::Note);
        assert_eq!(eviction("noeviction", 100, 0).severity, Severity::Fine);
    }

    #[test]
    fn only_the_limit_of_subscribers_counts() {
        let default = "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60";
        assert_eq!(output_buffer(default).severity, Severity::Fine);
        assert_eq!(output_buffer("normal 1 1 1 pubsub 1024 0 0").severity, Severity::Risk);
        assert_eq!(output_buffer("pubsub 0 0 0").severity, Severity::Note);
        assert_eq!(output_buffer("").severity, Severity::Note);
    }

    #[test]
    fn a_client_that_waits_and_is_not_ours_is_a_neighbour() {
        let old = "id=3 addr=10.0.0.7:5 name= sub=1 psub=0 cmd=subscribe lib-name=redis-py resp=2";
        assert_eq!(stranger(old).as_deref(), Some("10.0.0.7:5 (redis-py, subscribe)"));
        assert_eq!(stranger("id=3 addr=a name=pymq-subscriptions sub=1 cmd=subscribe"), None);
        assert_eq!(stranger("id=3 addr=a name=me sub=1 cmd=subscribe resp=3"), None);
        assert_eq!(stranger("id=3 addr=a name= sub=0 psub=0 cmd=get"), None);
    }

    #[test]
    fn a_server_on_this_machine_needs_no_tls() {
        assert!(is_local("redis://127.0.0.1:6379"));
        assert!(is_local("redis://me@localhost/0"));
        assert!(is_local("redis+cluster://127.0.0.1:1,localhost:2"));
        assert!(!is_local("redis://db.example"));
        assert!(!is_local("redis+sentinel://127.0.0.1:1,db.example/m"));
    }
}
