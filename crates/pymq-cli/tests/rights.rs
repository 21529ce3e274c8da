//! A user with the rules that SECURITY.md gives to who operates a bus can use every tool, and is told
//! which rule is missing.

use tool::server::RedisServer;
use tool::{Running, run, until, until_listed};

mod tool;

const PAGE: &str = include_str!("../../../SECURITY.md");

/// The rules of the page, from `on` to the last one.
fn rules() -> Vec<&'static str> {
    let (_, rest) = PAGE.split_once("ACL SETUSER pymq-operator ").expect("the page has that user");
    let (rules, _) = rest.split_once("```").expect("its block ends");
    rules.split_whitespace().collect()
}

/// Makes that user, without one rule perhaps; says where it connects to.
fn admit(server: &RedisServer, without: &str) -> String {
    let mut words = vec!["ACL", "SETUSER", "operator", "reset"];
    words.extend(rules().into_iter().filter(|rule| *rule != without));
    server.raw().run(&words);
    format!("redis://operator:PASSWORD@127.0.0.1:{}", server.port())
}

/// A bus with something of everything, kept by a user who may do all.
fn inhabited(server: &RedisServer) -> Running {
    let url = server.url();
    run(&url, &["put", "jobs", "1", "2", "3"]).done();
    server.raw().run(&["LPUSH", "__pymq:{__eventbus:global:graves}:dead", "7"]);
    server.raw().run(&[
        "LPUSH",
        "__eventbus:global:__rpc_6f1c8a34-6f5c-4a43-8f6c-0d0f1e2a3b4c",
        "{}",
    ]);
    server.raw().run(&["LPUSH", "__pymq:{__eventbus:global:jobs}:held:gone-1.5.0", "8"]);
    let serve = Running::start(&url, &["serve", "shop.echo", "--", "cat"]);
    until_listed(&url, "shop.echo");
    serve
}

#[test]
fn the_rules_of_the_page_are_enough_for_every_tool() {
    let server = RedisServer::start();
    let _serve = inhabited(&server);
    let url = admit(&server, "");
    for words in [
        &["ls"][..],
        &["queues"],
        &["queues", "jobs", "--json"],
        &["peek", "jobs"],
        &["dead", "graves"],
        &["dead", "graves", "redrive", "--yes"],
        &["check", "--function", "shop.echo", "--waiting", "jobs=10"],
        &["call", "shop.echo", "1"],
        &["top", "--json", "-n", "2", "--every", "0.1"],
        &["pub", "news", "1"],
        &["get", "jobs"],
        &["purge", "jobs", "--yes"],
    ] {
        let ended = run(&url, words);
        assert_eq!(ended.code, Some(0), "{words:?}: {ended:?}");
        assert!(!ended.err.contains("ACL"), "{words:?}: {ended:?}");
    }
    let mut trace = Running::start(&url, &["trace", "-n", "1"]);
    until("it traces", || server.raw().run(&["PUBSUB", "NUMPAT"]).number() >= 2);
    run(&url, &["pub", "news", "1"]).done();
    assert_eq!(trace.end().code, Some(0));
    let doctor = run(&url, &["doctor", "--all", "--fix", "--yes"]);
    assert!(!doctor.out.contains("may not") && !doctor.out.contains("ACL rule"), "{doctor:?}");
    assert!(doctor.out.contains("FINE    rights: "), "{doctor:?}");
    assert!(doctor.err.contains("tidied 2 leftovers"), "{doctor:?}");
}

#[test]
fn a_rule_that_is_missing_is_named() {
    let server = RedisServer::start();
    let _serve = inhabited(&server);
    for (rule, words) in [
        ("+scan", &["queues"][..]),
        ("+pubsub|channels", &["ls"]),
        ("+psubscribe", &["trace", "-n", "1"]),
        ("+info", &["doctor"]),
        ("+config|get", &["doctor"]),
        ("+client|list", &["doctor"]),
        ("+acl|whoami", &["doctor"]),
        ("+pttl", &["doctor"]),
        ("+zscore", &["doctor"]),
        ("+lrange", &["peek", "jobs"]),
    ] {
        let url = admit(&server, rule);
        let ended = run(&url, words);
        let said = [ended.out.as_str(), ended.err.as_str()].concat();
        assert!(matches!(ended.code, Some(0 | 1)), "{rule}: {ended:?}");
        assert!(said.contains(rule), "{rule}: {said}");
    }
}
