//! What is wrong with a bus is found from the screen, and what passes on it is seen.

use serde_json::Value;
use tool::server::RedisServer;
use tool::server::clustered::{Clustered, LONG};
use tool::{Running, run, until, until_listed};

mod tool;

/// What the doctor says is worse than a note, by subject.
fn worse_than_notes(url: &str) -> Vec<(String, String)> {
    let ended = run(url, &["doctor", "--json"]);
    assert!(matches!(ended.code, Some(0 | 1)), "{ended:?}");
    let findings = ended.out.lines().map(|line| serde_json::from_str(line).expect("an object"));
    let text = |finding: &Value, member: &str| finding[member].as_str().unwrap_or("").to_owned();
    findings
        .filter(|finding: &Value| finding["severity"] == "risk" || finding["severity"] == "broken")
        .map(|finding: Value| (text(&finding, "subject"), text(&finding, "words")))
        .collect()
}

#[test]
fn a_bus_that_is_well_is_well() {
    let server = RedisServer::start_with(&["--appendonly", "yes", "--maxmemory", "100mb"]);
    let ended = run(&server.url(), &["doctor"]);
    assert_eq!(ended.done(), "well: nothing that loses data was found\n");
    let all = run(&server.url(), &["doctor", "--all"]).done();
    for subject in ["connection", "version", "TLS", "persistence", "clock", "rights", "old peers"] {
        assert!(all.contains(&format!("FINE    {subject}: ")), "{subject}: {all}");
    }
}

#[test]
fn planted_faults_are_found_each_with_a_remedy() {
    let server = RedisServer::start();
    let url = server.url();
    server.raw().run(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    run(&url, &["put", "stuck", "1", "2"]).done();
    for number in 0..500 {
        let item = number.to_string();
        server.raw().run(&["LPUSH", "__pymq:{__eventbus:global:graves}:dead", &item]);
    }
    let serve = Running::start(&url, &["serve", "hangs", "--", "cat"]);
    until_listed(&url, "hangs");
    serve.signal("STOP");
    let found = worse_than_notes(&url);
    for (subject, words) in [
        ("maxmemory-policy", "allkeys-lru: a full server deletes whole queues"),
        ("persistence", "a restart of the server loses every queue"),
        ("queue stuck", "stuck: 2 items waiting"),
        ("queue graves", "500 dead letters"),
        ("function hangs", "did not answer within a second"),
    ] {
        let named = found.iter().any(|(about, said)| about == subject && said.contains(words));
        assert!(named, "{subject}: {found:#?}");
    }
    let screen = run(&url, &["doctor"]);
    assert_eq!(screen.code, Some(1));
    assert!(screen.out.lines().next().is_some_and(|line| line.starts_with("BROKEN")));
    assert!(screen.out.contains("→ pymq dead graves"), "{}", screen.out);
    assert!(screen.err.ends_with("things to see to\n"), "{}", screen.err);
    serve.signal("CONT");
}

#[test]
fn what_was_left_behind_is_tidied_after_a_yes_and_nothing_is_lost() {
    let server = RedisServer::start();
    let url = server.url();
    let list = "__eventbus:global:__rpc_6f1c8a34-6f5c-4a43-8f6c-0d0f1e2a3b4c";
    server.raw().run(&["LPUSH", list, "{}"]);
    server.raw().run(&["LPUSH", "__pymq:{__eventbus:global:jobs}:held:gone-1.5.0", "7"]);
    let screen = run(&url, &["doctor"]).out;
    assert_eq!(screen.matches("NOTE    leftover: ").count(), 2, "{screen}");
    let said = run(&url, &["doctor", "--fix"]).failed(2);
    assert!(said.contains("Tidy 2 leftovers?"), "{said}");
    let fixed = run(&url, &["doctor", "--fix", "--yes"]);
    assert!(fixed.err.contains("tidied 2 leftovers"), "{fixed:?}");
    assert!(server.raw().run(&["TTL", list]).number() > 0);
    assert_eq!(run(&url, &["get", "jobs"]).done(), "7\n");
    assert!(!run(&url, &["doctor"]).out.contains("leftover"));
}

#[test]
fn events_and_calls_are_seen_as_they_pass() {
    let server = RedisServer::start();
    let url = server.url();
    let _serve = Running::start(&url, &["serve", "shop.echo", "--", "cat"]);
    until_listed(&url, "shop.echo");
    let mut trace = Running::start(&url, &["trace", "shop.*", "--json"]);
    until("it traces", || server.raw().run(&["PUBSUB", "NUMPAT"]).number() == 2);
    run(&url, &["pub", "till", "1"]).done();
    run(&url, &["pub", "shop.sold", "{\"__type\": \"shop.Sold\", \"id\": 1}"]).done();
    run(&url, &["call", "shop.echo", "2", "a=3"]).done();
    let mut next = || serde_json::from_str::<Value>(&trace.line()).expect("an object");
    let (event, request) = (next(), next());
    // A caller that waits for long asks again.
    let answer = std::iter::repeat_with(next).find(|line| line["kind"] != "request");
    let answer = answer.expect("it is read to the answer");
    assert_eq!((&event["topic"], &event["type"]), (&"shop.sold".into(), &"shop.Sold".into()));
    assert_eq!((&request["kind"], &request["args"][0]), (&"request".into(), &2.into()));
    assert_eq!(request["kwargs"]["a"], 3);
    assert_eq!((&answer["kind"], &answer["call"]), (&"answer".into(), &request["call"]));
    assert_eq!(answer["value"]["args"][0], 2);
    trace.signal("INT");
    trace.end().failed(130);
}

#[test]
fn a_bench_says_figures_beside_the_bare_servers_and_leaves_nothing() {
    let server = RedisServer::start();
    let figures = run(&server.url(), &["bench", "--time", "0.2", "--json"]).objects();
    assert_eq!(figures.len(), 4);
    for figure in figures {
        assert!(figure["micros"].as_f64() > Some(0.0), "{figure}");
        assert!(figure["raw_micros"].as_f64() > Some(0.0), "{figure}");
    }
    until("nothing is left", || server.raw().run(&["KEYS", "*"]).texts().is_empty());
    let figures = run("memory://bench", &["bench", "--time", "0.1", "--json"]).objects();
    assert!(figures.iter().all(|figure| figure["raw_micros"].is_null()));
}

#[test]
fn what_the_other_nodes_of_a_cluster_know_is_shown_though_one_is_gone() {
    let mut cluster = Clustered::start_with(3, &["--cluster-require-full-coverage", "no"]);
    cluster.set_patience(LONG);
    let url = format!("{}?reconnect_wait=0.5", cluster.url());
    let home = cluster.owner(cluster.slot_of("{__pymq}"));
    let gone = (home + 1) % 3;
    let node = format!("127.0.0.1:{}", cluster.nodes[gone].port());
    let at = |wanted: usize| {
        let mut names = (0..).map(|number| format!("jobs{number}"));
        let key = |name: &String| cluster.slot_of(&format!("__eventbus:global:{name}"));
        names.find(|name| cluster.owner(key(name)) == wanted).expect("each node has slots")
    };
    let (known, lost) = (at(home), at(gone));
    for queue in [&known, &lost] {
        run(&cluster.url(), &["put", queue, "1"]).done();
    }
    run(&cluster.url(), &["queues"]).done();
    cluster.nodes[gone].kill();
    for command in ["queues", "ls"] {
        let shown = run(&url, &[command]);
        assert!(shown.out.contains(&known) && !shown.out.contains(&lost), "{shown:?}");
        let said = shown.failed(5);
        assert!(said.contains(&format!("not all is shown: {node} could not be asked")), "{said}");
    }
    run(&url, &["queues", &known]).done();
    let said = run(&url, &["queues", &lost]).failed(5);
    assert!(!said.contains("holds nothing"), "{said}");
    let examined = run(&url, &["doctor"]);
    let lines = examined.out.lines();
    let named = lines.filter(|line| line.starts_with(&format!("BROKEN  node {node}: ")));
    assert_eq!((examined.code, named.count()), (Some(1), 1), "{examined:?}");
}
