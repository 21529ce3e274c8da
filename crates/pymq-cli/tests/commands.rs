//! What each command does on a real server, and how it ends.

use serde_json::json;
use tool::server::{Answer, RedisServer};
use tool::{Running, pymq, run, run_with, until, until_listed};

mod tool;

#[test]
fn what_is_published_is_shown_to_who_subscribes_with_topic_and_type() {
    let server = RedisServer::start();
    let url = server.url();
    let mut sub = Running::start(&url, &["sub", "till", "shop.*", "-n", "4", "--json"]);
    until_listed(&url, "till");
    until("the pattern", || server.raw().run(&["PUBSUB", "NUMPAT"]).number() == 1);
    let typed = r#"{"id": 12345678901234567890123, "__type": "shop.OrderPlaced"}"#;
    run(&url, &["pub", "till", "[1, 2]", "--header", "tenant=north"]).done();
    run(&url, &["pub", "till", "nobody's text", "--text"]).done();
    run_with(&url, &["pub", "shop.orders"], &format!("{typed}\n\n")).done();
    server.raw().run(&["PUBLISH", "__eventbus:global:shop.junk", "{no\u{1b}[2Jjson"]);
    assert!(sub.line().starts_with(
        r#"{"topic":"till","type":"list","value":[1,2],"headers":{"tenant":"north"},"sent":"#
    ));
    assert_eq!(sub.line(), r#"{"topic":"till","value":"nobody's text"}"#);
    assert_eq!(
        sub.line(),
        r#"{"topic":"shop.orders","type":"shop.OrderPlaced","value":{"id":12345678901234567890123}}"#
    );
    assert_eq!(sub.line(), r#"{"topic":"shop.junk","undecodable":"{no\u001b[2Jjson"}"#);
    assert_eq!(sub.end().code, Some(0));
}

#[test]
fn people_read_lines_that_cannot_speak_to_their_terminal() {
    let server = RedisServer::start();
    let url = server.url();
    let mut sub = Running::start(&url, &["sub", "*", "-n", "2"]);
    until("the pattern", || server.raw().run(&["PUBSUB", "NUMPAT"]).number() == 1);
    server.raw().run(&["PUBLISH", "__eventbus:global:a\u{1b}[2J", "\u{1b}]0;x"]);
    run(&url, &["pub", "a", "1"]).done();
    assert_eq!(sub.line(), r"a\u{1b}[2J  undecodable: \u{1b}]0;x");
    assert_eq!(sub.line(), "a  1");
}

#[test]
fn a_function_is_called_by_place_and_by_name_and_all_answer() {
    let server = RedisServer::start();
    let url = server.url();
    let echo = ["serve", "shop.echo", "--", "cat"];
    let (_one, _two) = (Running::start(&url, &echo), Running::start(&url, &echo));
    until("two providers", || {
        let listed = run(&url, &["ls", "--json"]).objects();
        listed.iter().any(|it| it["providers"].as_array().is_some_and(|all| all.len() == 2))
    });
    let call = run(&url, &["call", "shop.echo", "1", "-2.50", "a=\"x\"", "b={}"]);
    assert_eq!(call.done(), "{\"args\":[1,-2.50],\"kwargs\":{\"a\":\"x\",\"b\":{}}}\n");
    let all = run(&url, &["call", "shop.echo", "7", "--all", "--json"]).objects();
    assert_eq!(all.len(), 2);
    for answer in all {
        assert_eq!(answer["result"], json!({"args": [7], "kwargs": {}}));
        assert_eq!(answer["provider"].as_str().map(str::len), Some(32));
    }
}

#[test]
fn a_call_ends_with_the_code_of_its_reason() {
    let server = RedisServer::start();
    let url = server.url();
    let said = run(&url, &["call", "nobody"]).failed(3);
    assert!(said.contains("nobody exposes it"), "{said}");
    run(&url, &["call", "nobody", "--all", "--timeout", "5"]).failed(3);
    let _fails = Running::start(&url, &["serve", "fails", "--", "echo the reason >&2; exit 7"]);
    let _slow = Running::start(&url, &["serve", "slow", "--", "sleep 60"]);
    until_listed(&url, "fails");
    until_listed(&url, "slow");
    let said = run(&url, &["call", "fails"]).failed(1);
    assert!(said.contains("CommandFailed") && said.contains("the reason"), "{said}");
    let failed = run(&url, &["call", "fails", "--all", "--json"]);
    assert_eq!(failed.code, Some(1));
    let answer: serde_json::Value = serde_json::from_str(failed.out.trim()).expect("an object");
    assert_eq!(answer["error"]["type"], "CommandFailed");
    run(&url, &["call", "slow", "--timeout", "0.2"]).failed(4);
}

#[test]
fn items_go_in_are_seen_and_come_out_in_order() {
    let server = RedisServer::start();
    let url = server.url();
    run(&url, &["put", "jobs", "1", "{\"a\": [2]}"]).done();
    run_with(&url, &["put", "jobs", "-"], "\"three\"\n").done();
    run(&url, &["put", "jobs", "4", "--delay", "600"]).done();
    assert_eq!(run(&url, &["put", "jobs", "5", "--id", "x", "--json"]).objects()[0]["put"], true);
    assert_eq!(run(&url, &["put", "jobs", "5", "--id", "x", "--json"]).objects()[0]["put"], false);
    let facts = &run(&url, &["queues", "--json"]).objects()[0];
    assert_eq!((&facts["waiting"], &facts["delayed"]), (&json!(4), &json!(1)));
    assert_eq!(run(&url, &["peek", "jobs", "-n", "2"]).done(), "1\n{\"a\":[2]}\n");
    assert_eq!(run(&url, &["peek", "jobs", "--of", "delayed"]).done(), "4\n");
    let got = run(&url, &["get", "jobs", "-n", "4", "--json"]).objects();
    let values: Vec<_> = got.iter().map(|item| &item["value"]).collect();
    assert_eq!(values, [&json!(1), &json!({"a": [2]}), &json!("three"), &json!(5)]);
    let said = run(&url, &["get", "jobs"]).failed(3);
    assert!(said.contains("no item in \"jobs\""), "{said}");
    run(&url, &["get", "jobs", "--wait", "0.1"]).failed(4);
    assert_eq!(run(&url, &["purge", "jobs", "--yes"]).done(), "deleted 1 item\n");
    let said = run(&url, &["queues", "jobs"]).failed(3);
    assert!(said.contains("no queue \"jobs\""), "{said}");
}

#[test]
fn who_leases_items_and_what_died_is_shown_and_comes_back_after_a_yes() {
    let server = RedisServer::start();
    let url = server.url();
    run(&url, &["put", "jobs", "1", "2", "3"]).done();
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(async {
            let bus = pymq::Bus::connect(&url).await.expect("the server is there");
            let queue = bus.queue::<u32>("jobs");
            queue.claim().await.expect("an item").reject().await.expect("it is ours");
            queue.claim().await.expect("an item").reject().await.expect("it is ours");
            let _held = queue.claim().await.expect("an item");
            let facts = &run(&url, &["queues", "jobs", "--json"]).objects()[0];
            assert_eq!((&facts["leased"], &facts["dead"]), (&json!(1), &json!(2)));
            assert_eq!(facts["holders"][0]["items"], 1);
            assert!(run(&url, &["queues"]).done().contains("jobs: 1 item leased by"));
        });
    let letters = run(&url, &["dead", "jobs", "--json"]).objects();
    assert_eq!(letters.iter().map(|it| &it["value"]).collect::<Vec<_>>(), [&json!(1), &json!(2)]);
    for action in ["redrive", "purge"] {
        let said = run(&url, &["dead", "jobs", action]).failed(2);
        assert!(said.contains("--yes"), "{said}");
    }
    let redriven = run(&url, &["dead", "jobs", "redrive", "-n", "1", "--yes", "--json"]);
    assert_eq!(redriven.objects()[0]["redriven"], 1);
    let deleted = run(&url, &["dead", "jobs", "purge", "--yes"]).done();
    assert_eq!(deleted, "deleted 1 dead letter\n");
    run(&url, &["dead", "jobs", "purge", "--yes"]).failed(3);
}

#[test]
fn only_what_was_shown_is_gone_from_a_queue() {
    let server = RedisServer::start();
    let url = server.url();
    run(&url, &["put", "jobs", "1", "2"]).done();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut get = pymq(&url, &["get", "jobs", "-n", "2"]);
    let ended = tool::finish(get.stdout(writer).spawn().expect("it starts"));
    assert_eq!((ended.code, &*ended.err), (Some(0), ""));
    assert_eq!(run(&url, &["get", "jobs", "-n", "2"]).done(), "1\n2\n");
}

#[test]
fn a_pipe_that_is_closed_ends_every_command_quietly() {
    let server = RedisServer::start();
    let url = server.url();
    run(&url, &["put", "jobs", "1"]).done();
    for words in [
        &["queues"][..],
        &["queues", "--json"],
        &["ls"],
        &["peek", "jobs"],
        &["check"],
        &["completions", "bash"],
        &["man"],
        &["--help"],
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let ended = tool::finish(pymq(&url, words).stdout(writer).spawn().expect("it starts"));
        assert_eq!((ended.code, &*ended.err), (Some(0), ""), "{words:?}");
    }
}

#[test]
fn signals_end_a_command_with_their_codes_and_lose_nothing() {
    let server = RedisServer::start();
    let url = server.url();
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let mut sub = Running::start(&url, &["sub", "till"]);
        until_listed(&url, "till");
        sub.signal(signal);
        assert_eq!(sub.end().failed(code), "");
        until("nobody subscribes", || {
            run(&url, &["ls", "--json"]).objects().iter().all(|it| it["name"] != "till")
        });
    }
    let mut get = Running::start(&url, &["get", "jobs", "--follow"]);
    until("it waits", || {
        let text = server.raw().run(&["INFO", "clients"]).text();
        text.contains("blocked_clients:1")
    });
    get.signal("INT");
    get.end().failed(130);
    run(&url, &["put", "jobs", "1"]).done();
    assert_eq!(run(&url, &["get", "jobs"]).done(), "1\n");
}

#[test]
fn a_server_that_goes_away_ends_sub_unless_it_follows() {
    let mut server = RedisServer::start();
    let url = server.url();
    let mut leaves = Running::start(&url, &["sub", "till"]);
    let mut stays = Running::start(&url, &["sub", "till", "--follow", "-n", "1"]);
    until("both subscribe", || {
        let count = server.raw().run(&["PUBSUB", "NUMSUB", "__eventbus:global:till"]);
        matches!(count, Answer::List(pair) if pair.get(1) == Some(&Answer::Number(2)))
    });
    server.restart();
    let said = leaves.end().failed(5);
    assert!(said.contains("the server went away"), "{said}");
    until_listed(&url, "till");
    run(&url, &["pub", "till", "7"]).done();
    assert_eq!(stays.line(), "till  7");
    assert_eq!(stays.end().code, Some(0));
}

#[test]
fn without_a_server_every_command_says_so() {
    let url = "redis://127.0.0.1:1";
    for words in [
        &["pub", "t", "1"][..],
        &["sub", "t"],
        &["call", "f"],
        &["get", "q"],
        &["queues"],
        &["ls"],
        &["check"],
    ] {
        let ended = run(url, words);
        assert_eq!(ended.out, "");
        let said = ended.failed(5);
        assert!(said.contains("is a Redis server there?"), "{words:?}: {said}");
    }
}

#[test]
fn a_check_says_what_is_wrong() {
    let server = RedisServer::start();
    let url = server.url();
    assert!(run(&url, &["check"]).done().starts_with("well: answered in"));
    run(&url, &["put", "jobs", "1", "2"]).done();
    run(&url, &["check", "--waiting", "jobs=2"]).done();
    let wrong = run(&url, &["check", "--waiting", "jobs=1", "--function", "f", "--json"]);
    assert_eq!(wrong.code, Some(1));
    let found: serde_json::Value = serde_json::from_str(wrong.out.trim()).expect("an object");
    assert_eq!(found["well"], false);
    assert_eq!(wrong.err, "pymq: nobody provides \"f\"; 2 items wait in \"jobs\"\n");
    server.pause();
    run(&url, &["check", "--timeout", "0.3"]).failed(4);
    server.resume();
}
