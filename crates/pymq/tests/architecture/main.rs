//! What ARCHITECTURE.md and the pages beside it say is true: paths exist, ways can be walked, invariants
//! hold in the sources. Each law is tried on a planted violation too, or its silence would mean nothing.

mod documents;
mod laws;
mod source;

use std::path::{Path, PathBuf};

use source::{Source, sources};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn library() -> Vec<Source> {
    sources(&root().join("crates/pymq/src"))
}

/// Every source of the Python package.
fn python() -> Vec<PathBuf> {
    files(&root().join("python/pymq"), "py")
}

/// Every file of a folder, and of those in it, whose name ends so.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder of the repository") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.extension().is_some_and(|extension| extension == ending) {
            found.push(path);
        }
    }
    found
}

#[track_caller]
fn holds(law: impl Fn(&[Source]) -> Vec<String>) {
    let broken = law(&library());
    assert!(broken.is_empty(), "{broken:#?}");
}

/// A law finds what was planted, and nothing where the same words are harmless.
#[track_caller]
fn finds(law: impl Fn(&[Source]) -> Vec<String>, planted: &[(&str, &str)]) {
    for (path, text) in planted {
        let harmless = ["/* ", text, " */ // ", "\n#[cfg(test)] mod tests { ", text, " }"].concat();
        let sources = |text: &str| [front(), Source::new(*path, text)];
        assert_ne!(law(&sources(text)), [""; 0], "{path}: {text}");
        assert_eq!(law(&sources(&harmless)), [""; 0], "{path}: {harmless}");
    }
}

/// The front door, as far as the planted ones use it.
fn front() -> Source {
    Source::new("lib.rs", "pub use bus::Bus; pub use rpc::{Remote, Stub}; pub use wire::tags as t;")
}

#[test]
fn every_file_is_named_after_what_it_holds() {
    const EMPTY: [&str; 7] = ["util", "utils", "helper", "helpers", "manager", "misc", "common"];
    let mut files = [files(&root().join("crates"), "rs"), python()].concat();
    let is_empty = |path: &PathBuf| {
        let stem = path.file_stem().expect("a file has a name").to_string_lossy();
        EMPTY.contains(&stem.trim_matches('_'))
    };
    files.retain(is_empty);
    assert!(files.is_empty(), "{files:?}");
}

#[test]
fn nothing_imports_upward() {
    holds(laws::nothing_imports_upward);
}

#[test]
fn an_import_upward_is_found_however_it_is_written() {
    finds(
        laws::nothing_imports_upward,
        &[
            ("transport/memory/mod.rs", "use crate::rpc::Caller;"),
            ("transport/memory/mod.rs", "use crate::{error::Error, rpc::{self, Caller}};"),
            ("transport/memory/queues.rs", "use super::super::super::rpc::Caller;"),
            ("transport/memory/mod.rs", "fn f(bus: crate::Bus) {}"),
            ("transport/mailbox.rs", "use crate :: codec :: encode;"),
            ("limits.rs", "fn f() { crate::codec::encode() }"),
            (
                "drain_list.rs",
                "macro_rules! m { () => { $crate::rpc::Stub } } fn f() { crate::Stub; }",
            ),
            ("json.rs", "use crate::wire::Request;"),
            ("error.rs", "use super::name::Id;"),
            ("queue/mod.rs", "use crate::rpc::Remote;"),
            ("topic.rs", "use crate::blocking::Bus;"),
        ],
    );
    let new = [front(), Source::new("novelty.rs", "")];
    assert_eq!(laws::nothing_imports_upward(&new), ["novelty.rs stands on no floor"]);
}

#[test]
fn what_stands_below_may_be_imported() {
    let fine = [
        front(),
        Source::new("rpc/caller.rs", "use crate::{codec, wire::Request}; use super::pending::P;"),
        Source::new("topic.rs", "use crate::bus::Core; use crate::Bus;"),
        Source::new("wire.rs", "mod inner { use super::tags; } fn f() { self.codec.encode() }"),
    ];
    assert_eq!(laws::nothing_imports_upward(&fine), [""; 0]);
}

#[test]
fn transports_move_bytes() {
    holds(laws::transports_move_bytes);
}

#[test]
fn a_transport_that_reads_json_or_knows_another_is_found() {
    finds(
        laws::transports_move_bytes,
        &[
            ("transport/redis/inbox.rs", "use serde::Serialize;"),
            ("transport/redis/queue/mod.rs", "fn f() { let v = serde_json::to_vec(&1); }"),
            ("transport/mailbox.rs", "fn f() { ::pyo3::attach() }"),
            ("transport/memory/events.rs", "use super::super::redis::Redis;"),
            ("transport/redis/mod.rs", "use crate::transport::{Arrival, memory::Memory};"),
        ],
    );
}

#[test]
fn a_protocol_is_one_room() {
    holds(laws::a_protocol_is_one_room);
}

#[test]
fn a_socket_elsewhere_and_a_protocol_that_knows_queues_are_found() {
    finds(
        laws::a_protocol_is_one_room,
        &[
            ("transport/redis/link.rs", "use tokio::net::TcpStream;"),
            ("transport/redis/queue/claimer.rs", "use tokio::{net::UnixStream, time};"),
            ("rpc/caller.rs", "fn f() { std::net::TcpStream::connect(a) }"),
            ("transport/redis/resp/driver.rs", "use super::super::queue::State;"),
            ("transport/redis/resp/wire.rs", "use crate::transport::redis::routes::Routes;"),
            ("transport/redis/resp/reply.rs", "use crate::name::Namespace;"),
        ],
    );
    let own = Source::new("transport/carrier/link.rs", "use tokio::net::TcpStream;");
    assert_eq!(laws::a_protocol_is_one_room(&[own]), [""; 0], "a transport opens its own sockets");
}

#[test]
fn blocking_is_at_the_edge() {
    holds(laws::blocking_is_at_the_edge);
}

#[test]
fn a_wait_inside_is_found() {
    finds(
        laws::blocking_is_at_the_edge,
        &[
            ("rpc/caller.rs", "fn f() { tokio::runtime::Handle::current().block_on(g()) }"),
            ("bus.rs", "fn f() { tokio::task::block_in_place(|| ()) }"),
        ],
    );
}

/// Where fields are named, for the crates on top of the library too.
const TAGS: &str = "wire/tags.rs";

#[test]
fn fields_of_the_wire_are_named_once() {
    holds(|sources| laws::fields_are_named_once(Some(TAGS), sources));
    for above in ["pymq-python", "pymq-cli", "pymq-macros"] {
        let sources = sources(&root().join("crates").join(above).join("src"));
        assert_ne!(sources.len(), 0, "{above}");
        let broken = laws::fields_are_named_once(None, &sources);
        assert!(broken.is_empty(), "{above}: {broken:#?}");
    }
    // The original's own classes for users, which write and read its messages by themselves.
    let exempt = root().join("python/pymq/json.py");
    for path in python().into_iter().filter(|path| *path != exempt) {
        let text = std::fs::read_to_string(&path).expect("UTF-8");
        assert_eq!(laws::fields_in_python(&text), [""; 0], "{}", path.display());
    }
}

#[test]
fn a_field_that_is_named_elsewhere_is_found() {
    finds(
        |sources| laws::fields_are_named_once(Some(TAGS), sources),
        &[
            ("codec.rs", r#"const TYPE: &str = "__type";"#),
            ("wire.rs", r#"const TYPES: &str = "__types";"#),
            ("wire/tags.rs", r#"const TYPE: &str = "__type"; fn f() { g(b"\"__type\":") }"#),
            ("rpc/provider.rs", r##"fn f() { w.write(br#"{"__obj": [1]}"#) }"##),
            ("wires.rs", r#"fn f() -> String { format!("{{\"__list\": {x}}}") }"#),
            ("transport/redis/mod.rs", r#"matches!(x, "pymq.core.RpcRequest")"#),
        ],
    );
    let fine = [
        Source::new(TAGS, r#"const TYPE: &str = "__type"; const TYPES: &str = "__types";"#),
        Source::new("codec.rs", r#"fn f() { g("__typed", "pymq.core.RpcRequests") }"#),
    ];
    assert_eq!(laws::fields_are_named_once(Some(TAGS), &fine), [""; 0]);
}

#[test]
fn a_field_that_python_names_is_found() {
    let source = "tag = doc.pop(\"__type\", None)\nname = '__list'\nself.__meta = 1\n__types: int";
    let found = ["tag = doc.pop(\"__type\", None)", "name = '__list'"];
    assert_eq!(laws::fields_in_python(source), found);
}
