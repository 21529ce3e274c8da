//! The laws of the house, each a function from sources to what breaks it.

use std::collections::BTreeMap;
use std::path::Path;

use crate::source::Source;

/// From the bottom up: a module knows what stands below it, and its own parts. Those of one floor do
/// not know each other, except where [`CIRCLE`] says so.
const FLOORS: [&[&str]; 10] = [
    &["error"],
    &["draft", "name", "json", "sync"],
    &["wire"],
    &["limits", "transport"],
    &["codec", "drain_list", "telemetry"],
    &["rpc", "queue"],
    &["inspect"],
    &["topic", "bus", "builder"],
    &["gauges"],
    &["blocking", "otel", "prometheus", "conformance", "proof", "guide", "testing"],
];

/// Topics hold the bus that made them, since a handle keeps its bus alive; the bus makes topics, and a
/// builder makes the bus.
const CIRCLE: [&str; 3] = ["topic", "bus", "builder"];

/// Nothing knows what is above it, by whichever path or name of the crate's root.
pub(crate) fn nothing_imports_upward(sources: &[Source]) -> Vec<String> {
    let front = front_door(sources);
    let mut broken = Vec::new();
    for source in sources {
        let here = source.room();
        if here.is_empty() {
            // `lib.rs` is the front door: it names everything.
            continue;
        }
        let Some(floor) = floor_of(&here) else {
            broken.push(format!("{} stands on no floor", source.path.display()));
            continue;
        };
        for path in &source.paths {
            let [root, named, ..] = &path[..] else { continue };
            let there = front.get(named.as_str()).map_or(named.as_str(), String::as_str);
            if root != "crate" || there == here {
                continue;
            }
            let circle = CIRCLE.contains(&here.as_str()) && CIRCLE.contains(&there);
            if floor_of(there).is_some_and(|other| other >= floor) && !circle {
                broken.push(format!("{} knows {}", source.path.display(), path.join("::")));
            }
        }
    }
    broken
}

fn floor_of(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

/// What `lib.rs` hands out at the crate's root, and from which module.
fn front_door(sources: &[Source]) -> BTreeMap<&str, String> {
    let front = sources.iter().filter(|source| source.room().is_empty());
    let paths = front.flat_map(|source| &source.paths);
    paths
        .filter(|path| path.len() > 1 && floor_of(&path[0]).is_some())
        .filter_map(|path| Some((path.last()?.as_str(), path[0].clone())))
        .collect()
}

/// What the transports share beside the contract itself; every other room among them is a transport.
const SHARED: [&str; 10] = [
    "capabilities",
    "connect",
    "dead_letter_log",
    "ends",
    "inspect",
    "mailbox",
    "queue",
    "refusals",
    "settings",
    "state",
];

/// The contract's own room and the one that opens transports: they know all of them.
const OPEN: [&str; 2] = ["mod", "connect"];

/// The transports: those that are known, and each that comes to stand beside them.
fn transports(sources: &[Source]) -> Vec<String> {
    let rooms = sources.iter().filter(|source| source.is_in("transport"));
    let names =
        rooms.filter_map(|source| source.path.iter().nth(1)).map(|name| name.to_string_lossy());
    let names = names.map(|name| name.trim_end_matches(".rs").to_owned());
    let new = names.filter(|name| name != "mod" && !SHARED.contains(&name.as_str()));
    ["memory", "redis", "ipc"].map(str::to_owned).into_iter().chain(new).collect()
}

/// Transports move bytes: no JSON, no Python, and no transport knows another.
pub(crate) fn transports_move_bytes(sources: &[Source]) -> Vec<String> {
    const STRANGE: [&str; 5] = ["serde", "serde_json", "json5", "pyo3", "jiter"];
    let (transports, mut broken) = (transports(sources), Vec::new());
    for source in sources.iter().filter(|source| source.is_in("transport")) {
        for path in &source.paths {
            let strange = STRANGE.contains(&path[0].as_str());
            let neighbour = match &path[..] {
                [root, transport, other, ..] if root == "crate" && transport == "transport" => {
                    let own = source.path.iter().nth(1).map(|word| word.to_string_lossy());
                    let own = own.as_deref().map(|own| own.trim_end_matches(".rs"));
                    transports.contains(other)
                        && own.is_some_and(|own| !OPEN.contains(&own) && own != other)
                }
                _ => false,
            };
            if strange || neighbour {
                broken.push(format!("{} knows {}", source.path.display(), path.join("::")));
            }
        }
    }
    broken
}

/// The room in which Redis's protocol is spoken.
const PROTOCOL: &str = "transport/redis/resp";

/// Sockets are opened by transports alone, Redis's in its protocol's room, and that room knows neither
/// topics nor queues nor calls: of the crate only errors, addresses and options.
pub(crate) fn a_protocol_is_one_room(sources: &[Source]) -> Vec<String> {
    const KNOWS: [&str; 6] = ["resp", "address", "options", "tls", "refusal", "latch"];
    let (transports, mut broken) = (transports(sources), Vec::new());
    for source in sources {
        let inside = source.is_in(PROTOCOL);
        // TLS is spoken, or refused, around a socket that the room has opened.
        let around = ["tls.rs", "no_tls.rs"]
            .iter()
            .any(|file| source.path == Path::new("transport/redis").join(file));
        let elsewhere = source.is_in("transport")
            && source.path.iter().nth(1).is_some_and(|own| {
                let own = own.to_string_lossy();
                let own = own.trim_end_matches(".rs");
                own != "redis" && transports.iter().any(|transport| transport == own)
            });
        for path in &source.paths {
            let socket = match &path[..] {
                [root, net, ..] => ["tokio", "std"].contains(&root.as_str()) && net == "net",
                _ => false,
            };
            let stranger = match &path[..] {
                [root, transport, redis, room, ..]
                    if (root.as_str(), transport.as_str(), redis.as_str())
                        == ("crate", "transport", "redis") =>
                {
                    !KNOWS.contains(&room.as_str())
                }
                [root, room, ..] if root == "crate" => {
                    !["error", "transport"].contains(&room.as_str())
                }
                _ => false,
            };
            if (socket && !inside && !around && !elsewhere) || (stranger && inside) {
                broken.push(format!("{} knows {}", source.path.display(), path.join("::")));
            }
        }
    }
    broken
}

/// Where a thread may wait for the async core: the blocking shell, and the runner of the conformance suite.
const WAITS: [&str; 2] = ["blocking", "conformance"];

/// The crate waits nowhere but at its edges.
pub(crate) fn blocking_is_at_the_edge(sources: &[Source]) -> Vec<String> {
    let mut broken = Vec::new();
    for source in sources.iter().filter(|source| !WAITS.contains(&&*source.room())) {
        for word in source.paths.iter().flatten().chain(&source.methods) {
            if ["block_on", "block_in_place"].contains(&word.as_str()) {
                broken.push(format!("{} waits: {word}", source.path.display()));
            }
        }
    }
    broken
}

/// The names of the wire's fields, and the tags of its envelopes.
const FIELDS: [&str; 7] = [
    "__type",
    "__types",
    "__obj",
    "__list",
    "__meta",
    "pymq.core.RpcRequest",
    "pymq.core.RpcResponse",
];

/// Each field of the wire is named in one text of the file `home`, and in no other.
pub(crate) fn fields_are_named_once(home: Option<&str>, sources: &[Source]) -> Vec<String> {
    let mut broken = Vec::new();
    for field in FIELDS {
        let mut is_known = false;
        for source in sources {
            for text in source.texts.iter().filter(|text| names(text, field)) {
                let at_home = home.is_some_and(|home| source.path == Path::new(home));
                if !at_home || is_known {
                    broken.push(format!("{} names {text}", source.path.display()));
                }
                is_known |= at_home;
            }
        }
    }
    broken
}

/// Whether a text names a field, and not a word that only begins like it.
fn names(text: &str, field: &str) -> bool {
    let goes_on = |rest: &str| rest.starts_with(|next: char| next.is_alphanumeric() || next == '_');
    text.match_indices(field).any(|(start, _)| !goes_on(&text[start + field.len()..]))
}

/// The lines of a Python source that name a field of the wire in a text of one line.
pub(crate) fn fields_in_python(source: &str) -> Vec<&str> {
    let quoted = |line: &str, field: &str| {
        ['"', '\''].iter().any(|quote| line.contains(&format!("{quote}{field}")))
    };
    let names = |line: &&str| FIELDS.iter().any(|field| quoted(line, field));
    source.lines().filter(names).collect()
}
