//! What a server says of itself, and whether it is one that we can use.
//!
//! The one invariant: a server that could not do what a bus promises is refused when we connect, by
//! name and with what to use instead. A field that is missing is no reason: proxies leave some out.

use super::reply::Reply;
use crate::transport::redis::refusal::{Cause, Refusal};

/// Which kind of server is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// One that keeps data, by itself, and takes the writes.
    Server,
    /// One that tells where such a server is.
    Sentinel,
    /// A node of a cluster that takes the writes of some slots.
    Node,
    /// Any node of a cluster: it tells who has which slots.
    Member,
}

/// What `HELLO` answered.
#[derive(Debug, Default)]
struct Hello {
    version: String,
    mode: String,
    role: String,
}

impl Hello {
    /// Reads field, value, field, value.
    fn read(reply: &Reply) -> Self {
        let mut hello = Self::default();
        let mut words = reply.clone().items().into_iter();
        while let (Some(field), Some(value)) = (words.next(), words.next()) {
            let text = |reply: Reply| {
                reply.bytes().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            };
            let (Some(field), Some(value)) = (text(field), text(value)) else { continue };
            match &*field {
                "version" => hello.version = value,
                "mode" => hello.mode = value,
                "role" => hello.role = value,
                _ => {}
            }
        }
        hello
    }
}

/// Refuses what cannot serve a bus. A cluster may have a single node: `nodes` says how many there
/// are, where that was asked.
pub(super) fn check(
    hello: &Reply,
    nodes: Option<usize>,
    expected: Expected,
) -> Result<(), Refusal> {
    let Hello { version, mode, role } = Hello::read(hello);
    let is_sentinel = mode == "sentinel" || role == "sentinel";
    if expected == Expected::Sentinel {
        if is_sentinel || mode.is_empty() {
            return Ok(());
        }
        let why = "this is no sentinel, but a server that keeps data; use redis://host:port for it";
        return Err(Refusal::found(Cause::Sentinel, why));
    }
    if is_sentinel {
        let why = "this is a sentinel, which keeps no data; to use the master that it watches, \
                   write redis+sentinel://host:port/NAME";
        return Err(Refusal::found(Cause::Sentinel, why));
    }
    let clustered = matches!(expected, Expected::Node | Expected::Member);
    if clustered && !mode.is_empty() && mode != "cluster" {
        let why = "this server is no node of a cluster; use redis://host:port for it";
        return Err(Refusal::found(Cause::Cluster, why));
    }
    if matches!(&*role, "replica" | "slave") && expected != Expected::Member {
        let why = "this is a replica, which takes no writes; connect to its master (it says \
                   which: INFO replication)";
        return Err(Refusal::found(Cause::ReadOnly, why));
    }
    if mode == "cluster" && !clustered && nodes.is_none_or(|nodes| nodes > 1) {
        let why = "this is a node of a cluster, whose keys lie on several servers; to use the \
                   cluster, write redis+cluster://host:port,host:port";
        return Err(Refusal::found(Cause::Cluster, why));
    }
    if !is_recent(&version) {
        let why = format!("this server is version {version}");
        return Err(Refusal::found(Cause::TooOld, why));
    }
    Ok(())
}

/// Whether `HELLO` says that the server belongs to a cluster.
pub(super) fn is_clustered(hello: &Reply) -> bool {
    Hello::read(hello).mode == "cluster"
}

/// How many nodes `CLUSTER INFO` knows.
pub(super) fn nodes(info: Reply) -> Option<usize> {
    let info = info.bytes()?;
    let text = std::str::from_utf8(&info).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("cluster_known_nodes:"))?;
    line.trim().parse().ok()
}

/// 6.2 or later; what names no such number is another kind of server, and its own to know.
fn is_recent(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
    match (parts.next().flatten(), parts.next().flatten()) {
        (Some(major), Some(minor)) => (major, minor) >= (6, 2),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn hello(version: &'static str, mode: &'static str, role: &'static str) -> Reply {
        let words = ["server", "redis", "version", version, "mode", mode, "role", role];
        Reply::List(words.map(|word| Reply::Bytes(Bytes::from_static(word.as_bytes()))).into())
    }

    #[test]
    fn what_cannot_serve_a_bus_is_refused_by_name() {
        for (reply, nodes, named) in [
            (hello("7.2.4", "standalone", "replica"), None, "a replica"),
            (hello("7.2.4", "sentinel", "sentinel"), None, "a sentinel"),
            (hello("7.2.4", "cluster", "master"), Some(3), "a node of a cluster"),
            (hello("6.0.16", "standalone", "master"), None, "6.0.16"),
        ] {
            let refusal = check(&reply, nodes, Expected::Server).expect_err(named);
            assert!(refusal.to_string().contains(named), "{refusal}");
        }
        for (reply, nodes) in [
            (hello("6.2.0", "standalone", "master"), None),
            (hello("255.255.255", "standalone", "master"), None),
            (hello("8.0.1", "cluster", "master"), Some(1)),
            (Reply::Nothing, None),
        ] {
            assert_eq!(check(&reply, nodes, Expected::Server), Ok(()));
        }
        let sentinel = hello("7.2.4", "sentinel", "sentinel");
        assert_eq!(check(&sentinel, None, Expected::Sentinel), Ok(()));
        let server = hello("7.2.4", "standalone", "master");
        let refusal = check(&server, None, Expected::Sentinel).expect_err("it keeps data");
        assert!(refusal.to_string().contains("no sentinel"), "{refusal}");
    }
}
