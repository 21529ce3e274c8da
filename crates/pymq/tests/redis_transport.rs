//! Events and inboxes over a live server: what is subscribed arrives, and the server agrees.
#![cfg(feature = "redis")]

mod driver;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use driver::server::{Answer, Raw, RedisServer};
use driver::{GUARD, blocked, bytes, connect, until};
use pymq::ErrorKind;
use pymq::name::{Address, Form, matches};
use pymq::transport::redis::{Redis, RedisOptions};
use pymq::transport::{Arrival, Events, Filter, Inbox, Inboxes, Subscription, Transport};

fn topic(name: &str) -> Filter {
    Filter::Topic(name.to_owned())
}

fn pattern(name: &str) -> Filter {
    Filter::Pattern(name.to_owned())
}

/// The next message's topic, payload and pattern.
async fn next(subscription: &mut Subscription) -> (String, String, Option<String>) {
    let arrival = tokio::time::timeout(GUARD, subscription.recv()).await.expect("it arrives");
    match arrival {
        Some(Arrival::Message(message)) => (
            message.topic.to_string(),
            String::from_utf8_lossy(&message.payload).into_owned(),
            message.pattern.map(|pattern| pattern.to_string()),
        ),
        other => panic!("expected a message, not {other:?}"),
    }
}

async fn next_reply(inbox: &mut Inbox) -> Arrival<Bytes> {
    let arrival = tokio::time::timeout(GUARD, inbox.recv()).await.expect("it arrives");
    arrival.expect("the inbox is open")
}

#[tokio::test]
async fn an_event_reaches_exact_and_pattern_subscribers_and_is_counted() {
    let server = RedisServer::start();
    let redis = connect(&server).await;
    let mut exact = redis.subscribe(&[topic("shop.a")]).await.expect("subscribed");
    let mut glob = redis.subscribe(&[pattern("shop.*")]).await.expect("subscribed");
    let received = redis.publish("shop.a", bytes("1")).await.expect("published");
    // One socket of ours by name and once more by pattern, as Redis counts.
    assert_eq!(received, Some(2));
    assert_eq!(next(&mut exact).await, ("shop.a".into(), "1".into(), None));
    assert_eq!(next(&mut glob).await, ("shop.a".into(), "1".into(), Some("shop.*".into())));
    assert_eq!(redis.publish("nobody", bytes("1")).await.expect("published"), Some(0));
}

#[tokio::test]
async fn many_local_subscribers_share_one_subscription_and_the_last_one_ends_it() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    let redis = connect(&server).await;
    let mut first = redis.subscribe(&[topic("t")]).await.expect("subscribed");
    let second = redis.subscribe(&[topic("t")]).await.expect("subscribed");
    assert_eq!(raw.run(&["PUBLISH", "t", "x"]).number(), 1);
    second.end().await.expect("ended");
    assert_eq!(raw.run(&["PUBLISH", "t", "y"]).number(), 1);
    assert_eq!(next(&mut first).await.1, "x");
    assert_eq!(next(&mut first).await.1, "y");
    first.end().await.expect("ended");
    assert_eq!(raw.run(&["PUBLISH", "t", "z"]).number(), 0);
}

#[tokio::test]
async fn dropping_a_subscription_on_a_thread_without_a_runtime_ends_it() {
    let server = RedisServer::start();
    let redis = connect(&server).await;
    let subscription = redis.subscribe(&[topic("t"), pattern("p*")]).await.expect("subscribed");
    std::thread::spawn(move || drop(subscription)).join().expect("a drop does not panic");
    let mut raw = server.raw();
    until("unsubscribed", || raw.run(&["PUBLISH", "t", ""]).number() == 0).await;
    // The one command follows the other.
    until("no pattern either", || raw.run(&["PUBSUB", "NUMPAT"]).number() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_come_and_go_at_once_end_as_the_server_has_them() {
    let server = RedisServer::start();
    let redis = Arc::new(connect(&server).await);
    let mut tasks = Vec::new();
    for number in 0..8 {
        let redis = Arc::clone(&redis);
        tasks.push(tokio::spawn(async move {
            for round in 0..50 {
                let mut subscription = redis.subscribe(&[topic("same")]).await.expect("subscribed");
                let sent = format!("{number}.{round}");
                redis.publish("same", bytes(&sent)).await.expect("published");
                while next(&mut subscription).await.1 != sent {}
                match round % 2 {
                    0 => drop(subscription),
                    _ => subscription.end().await.expect("ended"),
                }
            }
        }));
    }
    for task in tasks {
        task.await.expect("no task panics");
    }
    let mut raw = server.raw();
    until("unsubscribed", || raw.run(&["PUBLISH", "same", ""]).number() == 0).await;
}

#[tokio::test]
async fn all_exact_names_of_a_call_are_subscribed_by_one_command() {
    let server = RedisServer::start();
    let redis = connect(&server).await;
    let mut raw = server.raw();
    let before = calls_of_subscribe(&mut raw);
    let names = [topic("f"), topic("marker"), topic("instance")];
    let _subscription = redis.subscribe(&names).await.expect("subscribed");
    assert_eq!(calls_of_subscribe(&mut raw), before + 1);
}

fn calls_of_subscribe(raw: &mut Raw) -> usize {
    let text = raw.run(&["INFO", "commandstats"]).text();
    let line = text.lines().find(|line| line.starts_with("cmdstat_subscribe:"));
    let calls = line.and_then(|line| line.split(['=', ',']).nth(1));
    calls.map_or(0, |calls| calls.parse().expect("INFO counts calls"))
}

#[tokio::test]
async fn counts_are_of_exact_subscribers_and_taken_with_the_publish() {
    let server = RedisServer::start();
    let redis = connect(&server).await;
    let topics = ["f".to_owned(), "marker".to_owned(), "nobody".to_owned()];
    let mut provider = redis.subscribe(&[topic("f"), topic("marker")]).await.expect("subscribed");
    let _spy = redis.subscribe(&[pattern("*")]).await.expect("subscribed");
    assert_eq!(redis.count(&topics).await.expect("counted"), [1, 1, 0]);
    let counts = redis.publish_counted(&topics, bytes("request")).await.expect("published");
    assert_eq!(counts, [1, 1, 0]);
    assert_eq!(next(&mut provider).await, ("f".into(), "request".into(), None));
}

#[tokio::test]
async fn globs_match_here_as_they_do_on_the_server() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    let parts =
        ["a", "b", "-", "]", "[", "^", "*", "?", "\\", "[ab]", "[^a]", "[a-c]", "[]", "[\\]]"];
    let mut random = 12345_u64;
    let mut pick = |count: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) as usize % count
    };
    let mut matched = 0;
    for _ in 0..3000 {
        let glob: String = (0..1 + pick(4)).map(|_| parts[pick(parts.len())]).collect();
        let text: String = (0..1 + pick(3)).map(|_| ["a", "b", "-", "]", "["][pick(5)]).collect();
        raw.run(&["FLUSHDB"]);
        raw.run(&["SET", &text, ""]);
        let keys = raw.run(&["SCAN", "0", "MATCH", &glob, "COUNT", "100"]);
        let Answer::List(answer) = keys else { panic!("SCAN answers a list") };
        let expected = !answer[1].texts().is_empty();
        assert_eq!(matches(glob.as_bytes(), text.as_bytes()), expected, "{glob:?} on {text:?}");
        matched += usize::from(expected);
    }
    assert!(matched > 100, "only {matched} matches: the comparison says little");
}

#[tokio::test]
async fn an_inbox_gets_what_is_sent_and_what_was_kept_while_it_was_away() {
    let server = RedisServer::start();
    let redis = connect(&server).await;
    let address = Address::new("inbox:1", Form::Inbox);
    let minute = Duration::from_secs(60);
    assert!(!redis.send(&address, bytes("early"), minute).await.expect("sent"));
    assert!(!redis.send(&address, bytes("early too"), minute).await.expect("sent"));
    let mut inbox = redis.open_inbox(&address).await.expect("opened");
    assert!(redis.send(&address, bytes("live"), minute).await.expect("sent"));
    for expected in ["early", "early too", "live"] {
        assert_eq!(next_reply(&mut inbox).await, Arrival::Message(bytes(expected)));
    }
    assert_eq!(server.raw().run(&["EXISTS", "inbox:1"]).number(), 0);
}

#[tokio::test]
async fn a_message_for_nobody_expires() {
    let server = RedisServer::start();
    let redis = connect(&server).await;
    let address = Address::new("inbox:1", Form::Inbox);
    redis.send(&address, bytes("x"), Duration::from_millis(1)).await.expect("sent");
    let mut raw = server.raw();
    until("expired", || raw.run(&["EXISTS", "inbox:1"]).number() == 0).await;
}

#[tokio::test]
async fn a_list_inbox_reads_what_the_original_pushes_and_writes_what_it_pops() {
    let server = RedisServer::start();
    let redis = connect(&server).await;
    let mut raw = server.raw();
    let address = Address::new("replies", Form::List);
    let mut inbox = redis.open_inbox(&address).await.expect("opened");
    raw.run(&["LPUSH", "replies", "one"]);
    assert_eq!(next_reply(&mut inbox).await, Arrival::Message(bytes("one")));
    let other = Address::new("others", Form::List);
    redis.send(&other, bytes("two"), Duration::from_secs(300)).await.expect("sent");
    assert_eq!(raw.run(&["BRPOP", "others", "1"]).texts(), ["others", "two"]);
    redis.send(&other, bytes("three"), Duration::from_secs(300)).await.expect("sent");
    let left = raw.run(&["TTL", "others"]).number();
    assert!((1..=300).contains(&left), "{left}");
}

#[tokio::test]
async fn a_list_inbox_that_is_dropped_while_it_waits_loses_nothing() {
    let server = RedisServer::start();
    let redis = connect(&server).await;
    let mut raw = server.raw();
    for round in 0..100 {
        let address = Address::new("replies", Form::List);
        let inbox = redis.open_inbox(&address).await.expect("opened");
        until("it waits", || blocked(&mut raw) == 1).await;
        drop(inbox);
        until("it waits no more", || blocked(&mut raw) == 0).await;
        raw.run(&["LPUSH", "replies", &round.to_string()]);
        assert_eq!(raw.run(&["RPOP", "replies"]).text(), round.to_string());
    }
    // They use each other's connections: on a busy machine many a one was not back in time.
    let clients = raw.run(&["CLIENT", "LIST"]).text();
    assert!(clients.lines().filter(|line| line.contains("name=pymq-waiting")).count() < 50);
}

#[tokio::test]
async fn a_bus_that_only_publishes_has_one_connection() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    let redis = connect(&server).await;
    redis.publish("t", bytes("x")).await.expect("published");
    let clients = raw.run(&["CLIENT", "LIST"]).text();
    assert_eq!(clients.lines().filter(|line| line.contains("name=pymq-")).count(), 1);
    assert!(raw.run(&["PUBSUB", "CHANNELS"]).texts().is_empty());
}

#[tokio::test]
async fn any_payload_passes_as_it_is() {
    let server = RedisServer::start();
    let redis = connect(&server).await;
    let mut subscription = redis.subscribe(&[topic("t")]).await.expect("subscribed");
    for payload in [vec![], vec![0, 255, 13, 10], vec![7; 3 << 20]] {
        redis.publish("t", Bytes::from(payload.clone())).await.expect("published");
        let arrival = tokio::time::timeout(GUARD, subscription.recv()).await.expect("in time");
        let Some(Arrival::Message(message)) = arrival else { panic!("not {arrival:?}") };
        assert!(message.payload == payload);
    }
}

#[tokio::test]
async fn closed_says_closed_and_everything_that_waits_ends() {
    let server = RedisServer::start();
    let redis = connect(&server).await;
    let mut subscription = redis.subscribe(&[topic("t")]).await.expect("subscribed");
    let mut live = redis.open_inbox(&Address::new("i", Form::Inbox)).await.expect("opened");
    let mut list = redis.open_inbox(&Address::new("l", Form::List)).await.expect("opened");
    redis.close().await.expect("closed");
    redis.close().await.expect("closed again");
    assert_eq!(tokio::time::timeout(GUARD, subscription.recv()).await.expect("it ends"), None);
    assert_eq!(tokio::time::timeout(GUARD, live.recv()).await.expect("it ends"), None);
    assert_eq!(tokio::time::timeout(GUARD, list.recv()).await.expect("it ends"), None);
    let publish = redis.publish("t", bytes("x")).await.expect_err("closed");
    assert_eq!(publish.kind(), ErrorKind::Closed);
    let subscribe = redis.subscribe(&[topic("t")]).await.expect_err("closed");
    assert_eq!(subscribe.kind(), ErrorKind::Closed);
    let open = redis.open_inbox(&Address::new("i", Form::Inbox)).await.expect_err("closed");
    assert_eq!(open.kind(), ErrorKind::Closed);
    let mut raw = server.raw();
    until("no connection is left", || !raw.run(&["CLIENT", "LIST"]).text().contains("name=pymq-"))
        .await;
}

#[tokio::test]
async fn a_dropped_transport_leaves_no_connection() {
    let server = RedisServer::start();
    let redis = connect(&server).await;
    let _subscription = redis.subscribe(&[topic("t")]).await.expect("subscribed");
    let _list = redis.open_inbox(&Address::new("l", Form::List)).await.expect("opened");
    std::thread::spawn(move || drop(redis)).join().expect("a drop does not panic");
    let mut raw = server.raw();
    until("no connection is left", || !raw.run(&["CLIENT", "LIST"]).text().contains("name=pymq-"))
        .await;
}

#[tokio::test]
async fn passwords_are_needed_and_never_shown() {
    let server = RedisServer::start_with(&["--requirepass", "secret"]);
    let good = format!("redis://:secret@127.0.0.1:{}/2", server.port());
    let redis = Redis::connect(&good).await.expect("the password fits");
    redis.publish("t", bytes("x")).await.expect("published");
    let bad = format!("redis://:wrongsecret@127.0.0.1:{}/2", server.port());
    for url in [bad, server.url()] {
        let error = Redis::connect(&url).await.expect_err("the password does not fit");
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(!format!("{error:?}").contains("wrongsecret"), "{error:?}");
    }
}

#[tokio::test]
async fn options_name_user_database_and_client() {
    let server = RedisServer::start();
    server.raw().run(&["ACL", "SETUSER", "me", "on", ">pass", "~*", "&*", "+@all"]);
    let mut options = RedisOptions::from_url(&server.url()).expect("an address");
    options.settings.username = Some("me".to_owned());
    options.settings.password = Some("pass".to_owned());
    options.database = 3;
    options.settings.client_name = Some("mine".to_owned());
    let _redis = Redis::with_options(options).await.expect("connected");
    let clients = server.raw().run(&["CLIENT", "LIST"]).text();
    let mine = clients.lines().find(|line| line.contains("name=mine")).expect("it is named");
    assert!(mine.contains(" db=3 ") && mine.contains(" user=me "), "{mine}");
}

#[tokio::test]
async fn a_unix_socket_serves_as_well() {
    let socket = std::env::temp_dir().join(format!("pymq-{}.sock", std::process::id()));
    let path = socket.to_str().expect("a path that is text");
    let _server = RedisServer::start_with(&["--unixsocket", path]);
    let redis = Redis::connect(&format!("redis+unix://{path}?db=1")).await.expect("connected");
    let mut subscription = redis.subscribe(&[topic("t")]).await.expect("subscribed");
    redis.publish("t", bytes("x")).await.expect("published");
    assert_eq!(next(&mut subscription).await.1, "x");
}

#[cfg(not(feature = "tls"))]
#[tokio::test]
async fn tls_is_refused_by_name_where_it_is_not_compiled_in() {
    let error = pymq::transport::connect("rediss://:secret@127.0.0.1:1").await;
    let error = error.expect_err("there is no TLS");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("enable the feature \"tls\""), "{error}");
    assert!(!error.to_string().contains("secret"));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_a_connection_error() {
    let mut server = RedisServer::start();
    server.kill();
    let error = Redis::connect(&server.url()).await.expect_err("nobody is there");
    assert_eq!(error.kind(), ErrorKind::Connection);
    assert!(error.is_retryable());
}

#[tokio::test]
async fn a_forbidden_subscription_says_so_and_harms_no_other() {
    let server = RedisServer::start();
    server.raw().run(&[
        "ACL",
        "SETUSER",
        "me",
        "on",
        ">pass",
        "~*",
        "resetchannels",
        "&ok*",
        "+@all",
    ]);
    let url = format!("redis://me:pass@127.0.0.1:{}/0", server.port());
    let redis = Redis::connect(&url).await.expect("connected");
    let mut fine = redis.subscribe(&[topic("ok")]).await.expect("subscribed");
    let error = redis.subscribe(&[topic("forbidden")]).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Server, "{error}");
    redis.publish("ok", bytes("still here")).await.expect("published");
    assert_eq!(next(&mut fine).await.1, "still here");
}
