//! Bytes that nobody should send, through every door of a Rust program: each is refused by name or is
//! plain data, nothing is lost, and the next good message is served.
//!
//! The inputs are the corpus of the fuzz targets, and what is too large to be kept in a file.
//! `tests/interop/test_hostile.py` does the same to whole programs, Python's among them.
#![cfg(feature = "redis")]

mod broken;
mod frames;
mod names;
mod target;

#[path = "../place/mod.rs"]
mod place;

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use place::guarded;
use place::server::Answer;
use pymq::ErrorKind;
use serde_json::Value;
use target::Target;

/// The inputs that a fuzz target begins with, by name.
fn corpus(of: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(of);
    let files = std::fs::read_dir(folder).expect("the corpus is there");
    let mut inputs: Vec<_> = files
        .map(|file| file.expect("a file of the corpus"))
        .map(|file| {
            let data = std::fs::read(file.path()).expect("a file of the corpus is readable");
            (file.file_name().to_string_lossy().into_owned(), data)
        })
        .collect();
    inputs.sort();
    inputs
}

/// Held by tests that make messages of many MiB, and by one that measures how large the process gets.
static LARGE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// What is too large for a corpus.
fn large() -> Vec<(String, Vec<u8>)> {
    let fields: Vec<String> = (0..10_000).map(|number| format!(r#""f{number}": 0"#)).collect();
    let inputs: [(&str, Vec<u8>); 8] = [
        ("200 deep", ["[".repeat(200), "]".repeat(200)].concat().into()),
        ("201 deep", ["[".repeat(201), "]".repeat(201)].concat().into()),
        ("100,000 deep", b"[".repeat(100_000)),
        ("100,000 deep in objects", br#"{"a":"#.repeat(100_000)),
        ("5,000 digits", b"9".repeat(5000)),
        ("10,000 fields", format!(r#"{{{}, "__type": "a.Reading"}}"#, fields.join(", ")).into()),
        ("a tag of 1 MiB", format!(r#"{{"__type": "{}"}}"#, "x".repeat(1 << 20)).into()),
        ("17 MiB", [b"\"", &b"x".repeat(17 << 20)[..], b"\""].concat()),
    ];
    inputs.map(|(name, data)| (name.to_owned(), data)).into()
}

#[tokio::test]
async fn what_arrives_is_data_or_an_error_and_an_item_is_never_lost() {
    let _large = LARGE.lock().await;
    let mut target = Target::start().await;
    for (name, data) in corpus("values").into_iter().chain(large()) {
        guarded(async {
            target.publish_everywhere(&data);
            target.queue_everywhere(&name, &Bytes::from(data)).await;
            target.check(&name).await;
        })
        .await;
    }
}

#[tokio::test]
async fn a_request_is_answered_where_that_is_sound_and_nowhere_else() {
    let mut target = Target::start().await;
    for (name, data) in corpus("envelopes") {
        guarded(async {
            target.publish_everywhere(&data);
            target.check(&name).await;
            target.forget_answers();
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_argument_is_data_or_a_type_error_at_its_caller() {
    let mut target = Target::start().await;
    for (name, data) in corpus("values") {
        let Ok(text) = String::from_utf8(data) else { continue };
        let list = "__rpc_6f1c8a34-6f5c-4a43-8f6c-0d0f1e2a3b4c";
        let request = format!(
            r#"{{"__obj": ["product", "{list}", [{text}], {{}}], "__type": "pymq.core.RpcRequest"}}"#
        );
        if serde_json::from_str::<Value>(&request).is_err() {
            continue; // Refused as a whole, so that nobody knows whom to answer.
        }
        target.raw.run(&["PUBLISH", "__eventbus:global:product", &request]);
        let key = format!("__eventbus:global:{list}");
        let Answer::List(reply) = target.raw.run(&["BRPOP", &key, "60"]) else {
            panic!("{name} was not answered: {request}");
        };
        let reply = reply.last().map(Answer::text).unwrap_or_default();
        assert!(reply.contains("TypeError"), "product({text}): {reply}");
        guarded(target.check(&name)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_is_data_or_an_error_at_its_caller() {
    let _large = LARGE.lock().await;
    let mut target = Target::start().await;
    let mut provider = target.server.raw();
    provider.run(&["SUBSCRIBE", "__eventbus:global:fake"]);
    for (name, data) in corpus("values").into_iter().chain(large()) {
        let stub = target.bus.stub::<(), Vec<i64>>("fake").timeout(Duration::from_millis(300));
        let call = tokio::spawn(async move { stub.call(()).await });
        let request = provider.read();
        let Answer::List(message) = request else { panic!("{request:?} is no message") };
        let request: Value = serde_json::from_str(&message[2].text()).expect("our own request");
        let list = request["__obj"][1].as_str().expect("a reply list");
        let (head, tail) = (r#"{"__obj": ["fake", "#, r#", "list", false], "__type": "#);
        let reply = [head.as_bytes(), &data, tail.as_bytes(), br#""pymq.core.RpcResponse"}"#];
        let key = format!("__eventbus:global:{list}");
        target.raw.run_bytes(&[b"LPUSH", key.as_bytes(), &reply.concat()]);
        let answer = call.await.expect("no panic");
        if let Err(error) = answer {
            let kinds = [ErrorKind::Decode, ErrorKind::Remote, ErrorKind::Timeout];
            assert!(kinds.contains(&error.kind()), "{name}: {error}");
        }
        target.raw.run(&["DEL", &key]);
        guarded(target.check(&name)).await;
    }
}
