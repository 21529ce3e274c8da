//! Who looks at a bus learns who is there, and changes nothing.

use std::time::Duration;

use place::Place;
use pymq::transport::Severity;
use pymq::{Bus, ErrorKind, FunctionFacts};

mod place;

everywhere!(
    topics_are_listed_with_their_subscribers_and_without_functions,
    functions_are_listed_with_their_providers_and_open_calls,
    queues_are_listed_while_they_hold_anything,
    who_holds_items_is_listed,
    a_namespace_is_looked_at_alone,
);

async fn topics_are_listed_with_their_subscribers_and_without_functions(place: &Place) {
    let bus = place.bus().await;
    let [first, second] = place.buses().await;
    let _one = first.topic::<u32>("shop.a").subscribe().await.expect("a subscription");
    let _two = second.topic::<u32>("shop.a").subscribe().await.expect("a subscription");
    let _pattern = first.pattern::<u32>("shop.*").await.expect("a subscription");
    let _service = expose(&first, "f").await;
    let topics = bus.inspect().topics().await.expect("a list");
    let topics: Vec<_> = topics.iter().map(|it| (it.name.as_str(), it.subscribers)).collect();
    assert_eq!(topics, [("shop.a", 2)]);
}

async fn functions_are_listed_with_their_providers_and_open_calls(place: &Place) {
    let bus = place.bus().await;
    let [first, second] = place.buses().await;
    let service = expose(&first, "g").await;
    let _idle = expose(&second, "f").await;
    let _busy = expose(&first, "f").await;
    let calls: Vec<_> = (0..3)
        .map(|_| {
            let stub = bus.stub::<(), ()>("f");
            tokio::spawn(async move { stub.call(()).await })
        })
        .collect();
    // One that stood still for a moment is silent in that.
    let all_speak = |functions: &[FunctionFacts]| functions.iter().all(|it| it.silent == 0);
    let functions =
        until(&bus, |functions| open_calls(functions, "f") == 3 && all_speak(functions)).await;
    let names: Vec<_> = functions.iter().map(|it| (&*it.name, it.providers.len())).collect();
    assert_eq!(names, [("f", 2), ("g", 1)]);
    assert!(functions.iter().all(|it| it.others == 0), "{functions:?}");
    service.drain().await;
    until(&bus, |functions| functions.len() == 1).await;
    calls.iter().for_each(tokio::task::JoinHandle::abort);
}

async fn queues_are_listed_while_they_hold_anything(place: &Place) {
    let bus = place.bus().await;
    let (waits, later) = (bus.queue::<u32>("waits"), bus.queue::<u32>("is later"));
    waits.put(&1).await.expect("a put");
    let delay = pymq::PutOptions::new().delay(Duration::from_secs(600));
    later.put_with(&1, delay).await.expect("a put");
    let dead = bus.queue::<u32>("dead");
    dead.put(&1).await.expect("a put");
    dead.claim().await.expect("an item").reject().await.expect("it is ours");
    let held = bus.queue::<u32>("held");
    held.put(&1).await.expect("a put");
    let item = held.claim().await.expect("an item");
    assert_eq!(
        bus.inspect().queues().await.expect("a list"),
        ["dead", "held", "is later", "waits"]
    );
    item.ack().await.expect("it is ours");
    assert_eq!(waits.get().await.expect("an item"), 1);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while bus.inspect().queues().await.expect("a list") != ["dead", "is later"] {
        assert!(tokio::time::Instant::now() < deadline, "empty queues stay listed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn who_holds_items_is_listed(place: &Place) {
    let bus = place.bus().await;
    let [first, second] = place.buses().await;
    let queue = bus.queue::<u32>("jobs");
    queue.put_many(&[1, 2, 3]).await.expect("a put");
    let _one = first.queue::<u32>("jobs").claim().await.expect("an item");
    let _two = second.queue::<u32>("jobs").claim_many(2, Duration::ZERO).await.expect("items");
    let holders = bus.inspect().holders("jobs").await.expect("a list");
    let mut items: Vec<_> = holders.iter().map(|holder| holder.items).collect();
    items.sort_unstable();
    assert_eq!(items, [1, 2]);
    assert!(holders.iter().all(|holder| holder.left != Some(Duration::ZERO)), "{holders:?}");
    assert_eq!(queue.stats().await.expect("numbers").leased, 3);
}

async fn a_namespace_is_looked_at_alone(place: &Place) {
    let here = place.bus().await;
    let there = Bus::builder(&place.url()).namespace("o*[a]").connect().await.expect("a bus");
    let _topic = there.topic::<u32>("t").subscribe().await.expect("a subscription");
    let _service = expose(&there, "f").await;
    there.queue("q").put(&1).await.expect("a put");
    assert!(here.inspect().topics().await.expect("a list").is_empty());
    assert!(here.inspect().functions().await.expect("a list").is_empty());
    assert!(here.inspect().queues().await.expect("a list").is_empty());
    let (topics, queues) = (there.inspect().topics().await, there.inspect().queues().await);
    assert_eq!(topics.expect("a list").len(), 1);
    assert_eq!(queues.expect("a list"), ["q"]);
    assert_eq!(there.inspect().functions().await.expect("a list").len(), 1);
}

#[tokio::test]
async fn a_transport_that_cannot_be_looked_at_says_so() {
    let bus = Place::uncounted().bus().await;
    let inspection = bus.inspect();
    let errors = [
        inspection.topics().await.map(drop),
        inspection.functions().await.map(drop),
        inspection.queues().await.map(drop),
        inspection.holders("q").await.map(drop),
        inspection.examine().await.map(drop),
    ];
    for error in errors.map(|outcome| outcome.expect_err("it tells nothing")) {
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }
}

#[cfg(feature = "redis")]
mod server {
    use super::place::server::RedisServer;
    use super::*;

    async fn severity(url: &str, subject: &str) -> Severity {
        let bus = Bus::connect(url).await.expect("the server is there");
        let findings = bus.inspect().examine().await.expect("findings");
        let about = findings.iter().filter(|finding| finding.subject.starts_with(subject));
        let worst = about.map(|finding| finding.severity).max();
        worst.unwrap_or_else(|| panic!("nothing about {subject} in {findings:#?}"))
    }

    #[tokio::test]
    async fn settings_that_lose_data_are_found() {
        let safe = ["--appendonly", "yes", "--maxmemory", "100mb"];
        let server = RedisServer::start_with(&safe);
        for subject in ["maxmemory-policy", "client-output", "timeout", "clock", "persistence"] {
            assert_eq!(severity(&server.url(), subject).await, Severity::Fine, "{subject}");
        }
        for (setting, value) in [
            ("maxmemory-policy", "allkeys-lru"),
            ("client-output-buffer-limit", "pubsub 1024 0 0"),
            ("timeout", "3"),
        ] {
            server.raw().run(&["CONFIG", "SET", setting, value]);
            assert_eq!(severity(&server.url(), setting).await, Severity::Risk, "{setting}");
        }
        server.raw().run(&["CONFIG", "SET", "appendonly", "no"]);
        assert_eq!(severity(&server.url(), "persistence").await, Severity::Risk);
    }

    #[tokio::test]
    async fn each_right_that_lacks_is_named_and_nothing_is_changed() {
        let server = RedisServer::start();
        let rules = "ACL SETUSER clerk on >secret ~* &__eventbus:global:* +@all -lmove -psubscribe \
                     -pubsub|numsub";
        let words: Vec<_> = rules.split_whitespace().collect();
        server.raw().run(&words);
        let url = server.url().replace("://", "://clerk:secret@");
        let bus = Bus::connect(&url).await.expect("the server is there");
        let findings = bus.inspect().examine().await.expect("findings");
        let lacking: Vec<_> = findings
            .iter()
            .filter(|finding| finding.severity == Severity::Broken)
            .map(|finding| finding.subject.as_str())
            .collect();
        assert_eq!(lacking, ["right +psubscribe", "right +pubsub|numsub", "right +lmove"]);
        assert!(server.raw().run(&["KEYS", "*"]).texts().is_empty());
    }

    #[tokio::test]
    async fn a_user_who_may_everything_is_told_so_without_a_change() {
        let server = RedisServer::start();
        server.raw().run(&["LPUSH", "__eventbus:global:pymq-doctor", "an item"]);
        assert_eq!(severity(&server.url(), "rights").await, Severity::Fine);
        assert_eq!(server.raw().run(&["KEYS", "*"]).texts(), ["__eventbus:global:pymq-doctor"]);
        let length = server.raw().run(&["LLEN", "__eventbus:global:pymq-doctor"]);
        assert_eq!(length.number(), 1);
        assert!(server.raw().run(&["PUBSUB", "CHANNELS", "__eventbus:*"]).texts().is_empty());
    }

    #[tokio::test]
    async fn a_user_who_may_nearly_nothing_is_told_that_without_a_change() {
        let server = RedisServer::start();
        let rules = "ACL SETUSER guest on >secret ~* &* +@all -multi -config -info";
        let words: Vec<_> = rules.split_whitespace().collect();
        server.raw().run(&words);
        let url = server.url().replace("://", "://guest:secret@");
        assert_eq!(severity(&url, "right +multi").await, Severity::Broken);
        assert_eq!(severity(&url, "server").await, Severity::Note);
        assert!(server.raw().run(&["KEYS", "*"]).texts().is_empty());
    }

    #[tokio::test]
    async fn a_peer_of_another_library_is_noticed() {
        let server = RedisServer::start();
        assert_eq!(severity(&server.url(), "old peers").await, Severity::Fine);
        let mut old = server.raw();
        old.run(&["SUBSCRIBE", "__eventbus:global:f"]);
        assert_eq!(severity(&server.url(), "old peers").await, Severity::Note);
    }
}

/// A function that never returns.
async fn expose(bus: &Bus, name: &str) -> pymq::Service {
    let service = bus.expose_fn(name, |_: ()| std::future::pending::<Result<(), String>>()).await;
    service.expect("it is exposed")
}

fn open_calls(functions: &[FunctionFacts], name: &str) -> usize {
    let named = functions.iter().filter(|function| function.name == name);
    let providers = named.flat_map(|function| &function.providers);
    providers.filter_map(|provider| provider.open_calls).sum()
}

async fn until(bus: &Bus, done: impl Fn(&[FunctionFacts]) -> bool) -> Vec<FunctionFacts> {
    loop {
        let functions = bus.inspect().functions().await.expect("a list");
        if done(&functions) {
            return functions;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
