//! What ARCHITECTURE.md says is true: its paths exist, its invariants hold in the sources.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder of the repository") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("UTF-8");
            found.push((path, text));
        }
    }
    found
}

/// The code of a file without its comments and tests.
fn code(text: &str) -> String {
    let code = text.split("#[cfg(test)]").next().unwrap_or(text);
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn every_path_that_the_documents_name_exists() {
    let mut missing = Vec::new();
    for document in ["ARCHITECTURE.md", "CONTRIBUTING.md", "README.md"] {
        let text = std::fs::read_to_string(root().join(document)).expect("the document");
        for path in text.split(['`', '(', ')']).filter(|word| looks_like_a_path(word)) {
            if !root().join(path).exists() {
                missing.push(format!("{document}: {path}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

fn looks_like_a_path(word: &str) -> bool {
    const ROOTS: [&str; 7] =
        ["crates/", "python/", "tests/", "docs/", "benches/", "examples/", "scripts/"];
    ROOTS.iter().any(|root| word.starts_with(root))
        && !word.contains([' ', '*', '\n', '…'])
        && !word.contains("NAME")
}

#[test]
fn every_dependency_is_argued_for() {
    let page = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("the document");
    let (_, table) = page.split_once("## Why each run-time dependency").expect("its chapter");
    for name in ["pymq", "pymq-macros", "pymq-python"] {
        let path = root().join("crates").join(name).join("Cargo.toml");
        let manifest = std::fs::read_to_string(path).expect("a crate's manifest");
        let (_, rest) = manifest.split_once("\n[dependencies]\n").expect("it depends on something");
        let lines = rest.lines().take_while(|line| !line.is_empty());
        for dependency in lines.filter_map(|line| line.split(['.', ' ']).next()) {
            let named =
                dependency.starts_with("pymq") || table.contains(&format!("`{dependency}`"));
            assert!(named, "{name} depends on {dependency}: why?");
        }
    }
}

#[test]
fn transports_know_no_json_and_no_calls() {
    for (path, text) in sources(&root().join("crates/pymq/src/transport")) {
        for word in ["serde", "crate::rpc", "crate::codec", "crate::wire", "pyo3"] {
            assert!(!code(&text).contains(word), "{} names {word}", path.display());
        }
    }
}

#[test]
fn sockets_to_redis_are_opened_and_read_in_one_room() {
    let room = Path::new("transport/redis/resp");
    for (path, text) in sources(&root().join("crates/pymq/src")) {
        let code = code(&text);
        let inside = path.to_string_lossy().contains(&*room.to_string_lossy());
        // TLS is spoken around a socket that the room opened.
        let around = path.to_string_lossy().ends_with("tls.rs");
        assert!(!code.contains("tokio::net") || inside || around, "{}", path.display());
    }
}

#[test]
fn field_names_of_the_wire_are_in_one_place() {
    for (path, text) in sources(&root().join("crates/pymq/src")) {
        for field in ["\"__type\"", "\"__obj\"", "\"__list\"", "\"__types\"", "pymq.core.Rpc"] {
            assert!(
                !code(&text).contains(field) || path.to_string_lossy().contains("src/wire"),
                "{} names {field}",
                path.display()
            );
        }
    }
}

#[test]
fn nothing_imports_upward() {
    let order =
        ["error", "name", "transport", "json", "wire", "codec", "rpc", "queue", "topic", "bus"];
    // What each layer must not know: everything behind it in the order.
    let source = root().join("crates/pymq/src");
    for (path, text) in sources(&source) {
        let relative = path.strip_prefix(&source).expect("below the sources");
        let first = relative.iter().next().and_then(|part| part.to_str()).unwrap_or_default();
        let layer = first.trim_end_matches(".rs");
        let Some(place) = order.iter().position(|name| *name == layer) else { continue };
        // Topics hold the bus that made them, which is argued there: a handle keeps its bus alive.
        for above in
            order[place + 1..].iter().filter(|above| !(layer == "topic" && **above == "bus"))
        {
            let import = format!("crate::{above}::");
            assert!(!code(&text).contains(&import), "{} imports {above}", path.display());
        }
    }
}
