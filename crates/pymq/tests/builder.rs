//! What a bus is connected with: honoured, or refused by name.

use std::time::Duration;

use place::Place;
use pymq::rpc::Function;
use pymq::transport::{Heartbeat, Limit, Settings};
use pymq::{Bus, BusBuilder, CallOptions, ErrorKind, ExposeOptions, PutOptions, Shelf};

mod place;

everywhere!(
    a_namespace_keeps_programs_apart,
    a_small_mailbox_loses_the_oldest_and_says_so,
    a_message_over_the_limit_is_refused_at_its_sender,
    a_limit_that_cannot_be_is_refused_before_connecting,
    every_length_and_count_is_honoured_or_refused_and_nothing_panics,
);

fn builder(place: &Place) -> BusBuilder {
    Bus::builder(&place.url())
}

async fn a_namespace_keeps_programs_apart(place: &Place) {
    let shop = builder(place).namespace("shop").connect().await.expect("connected");
    let other = place.bus().await;
    shop.queue("jobs").put(&1).await.expect("put");
    assert_eq!(other.queue::<u32>("jobs").try_get().await.expect("asked"), None);
    assert_eq!(shop.queue::<u32>("jobs").get().await.expect("got"), 1);
}

async fn a_small_mailbox_loses_the_oldest_and_says_so(place: &Place) {
    let small = Limit { messages: 2, bytes: 1 << 20 };
    let bus = builder(place).mailbox(small).connect().await.expect("connected");
    let mut events = bus.topic::<u32>("t").subscribe().await.expect("subscribed");
    let mut fence = bus.topic::<u32>("fence").subscribe().await.expect("subscribed");
    for n in 0..5 {
        bus.topic("t").publish(&n).await.expect("published");
    }
    bus.topic("fence").publish(&0).await.expect("published");
    fence.recv().await.expect("open").expect("so the others have arrived too");
    let lagged = events.recv().await.expect("open").expect_err("three are gone");
    assert_eq!(lagged.kind(), ErrorKind::Lagged);
    assert!(lagged.message().starts_with("3 events"), "{lagged}");
    assert_eq!(events.recv().await.expect("open").expect("it goes on"), 3);
}

async fn a_message_over_the_limit_is_refused_at_its_sender(place: &Place) {
    let bus = builder(place).largest_message(100).connect().await.expect("connected");
    let text = "x".repeat(200);
    let refused = [
        bus.topic("t").publish(&text).await.expect_err("too large"),
        bus.stub::<_, ()>("f").call((&text,)).await.expect_err("too large"),
        bus.stub::<_, ()>("f").call_all((&text,)).await.expect_err("too large"),
        bus.queue("q").put(&text).await.expect_err("too large"),
    ];
    for error in refused {
        assert_eq!(error.kind(), ErrorKind::Encode, "{error}");
    }
    bus.topic("t").publish(&"short").await.expect("published");
}

async fn a_limit_that_cannot_be_is_refused_before_connecting(place: &Place) {
    let none = Limit { messages: 0, bytes: 1 };
    for (builder, named) in [
        (builder(place).mailbox(none), "mailbox"),
        (builder(place).largest_message(0), "largest_message"),
        (builder(place).largest_message(17 << 20), "largest_message"),
    ] {
        let error = builder.connect().await.expect_err("refused");
        assert_eq!((error.kind(), error.object()), (ErrorKind::Config, named));
    }
}

/// The lengths and counts at which arithmetic goes wrong.
const LENGTHS: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_nanos(1),
    Duration::from_secs(u64::MAX / 1000),
    Duration::from_secs(i64::MAX as u64),
    Duration::MAX,
];
const COUNTS: [usize; 4] = [0, 1, 1 << 40, usize::MAX];

async fn every_length_and_count_is_honoured_or_refused_and_nothing_panics(place: &Place) {
    let long = Duration::from_secs(60);
    let bus = place.bus().await;
    for length in LENGTHS {
        for builder in [
            builder(place).connect_timeout(length),
            builder(place).reconnect_wait(length),
            builder(place).connect_wait(length),
            builder(place).heartbeat(length, length),
            builder(place).heartbeat(length, long),
            builder(place).heartbeat(long, length),
            builder(place).call_timeout(length),
        ] {
            // Refused, or as good as any other: nothing is lost by an odd length.
            match builder.connect().await {
                Ok(bus) => drop(bus.topic("t").publish(&1).await),
                Err(error) => assert_ne!(error.kind(), ErrorKind::Closed, "{length:?}: {error}"),
            }
        }
        let queue = bus.queue::<u32>("lengths").lease(length);
        queue.put_timeout(&1, length).await.expect("there is room");
        let delivery = queue.claim().await.expect("an item");
        // A lease of no length may be over by now.
        drop(delivery.extend(length).await);
        drop(delivery.ack().await);
        // Another queue: an item whose lease is over comes back when it likes.
        let queue = bus.queue::<u32>("waits");
        let left = (length > long).then_some(1);
        if let Some(item) = &left {
            queue.put(item).await.expect("put");
        }
        assert_eq!(queue.get_timeout(length).await.expect("asked"), left, "{length:?}");
        queue.put_with(&1, PutOptions::new().wait(length)).await.expect("put");
        drop(queue.put_with(&1, PutOptions::new().delay(length)).await);
        drop(queue.put_with(&1, PutOptions::new().id("an id").within(length)).await);
        queue.purge().await.expect("purged");
        let stub = bus.stub::<(), u32>("nobody").timeout(length);
        stub.call(()).await.expect_err("nobody is there");
        drop(stub.call_all(()).await);
        let options = CallOptions::default().legacy_grace(length).timeout(long);
        drop(bus.stub::<(), u32>("nobody").options(options).call_all(()).await);
    }
    for count in COUNTS {
        let queue = bus.queue::<u32>("counts").prefetch(count).maxsize(count);
        let queue = queue.max_deliveries(count as u32).max_dead_letters(count);
        drop(queue.put_timeout(&1, long).await);
        drop(queue.get_many(count, Duration::ZERO).await);
        drop(queue.claim_many(count, Duration::ZERO).await);
        drop(queue.peek(Shelf::Waiting, count).await);
        drop(queue.redrive(count).await);
        match queue.work(count, async |_: u32| Ok::<(), String>(())) {
            Ok(worker) => drop(worker.drain().await),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Config, "{count}: {error}"),
        }
        let limit = Limit { messages: count, bytes: count };
        drop(builder(place).mailbox(limit).largest_message(count).connect().await);
        let one = Function::of_one_value("f", |(): ()| async { Ok::<_, String>(1) });
        match bus.expose_with(one, ExposeOptions::default().concurrency(count)).await {
            Ok(_service) => {
                let called = bus.stub::<(), u32>("f").timeout(long).call(()).await;
                assert_eq!(called.expect("answered"), 1, "{count}");
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Config, "{count}: {error}"),
        }
        queue.purge().await.expect("purged");
    }
}

#[tokio::test]
async fn what_memory_cannot_honour_is_unsupported_by_its_name() {
    let second = Duration::from_secs(1);
    let memory = || Bus::builder("memory://");
    for (builder, named) in [
        (memory().username("me"), "username"),
        (memory().password("secret"), "password"),
        (memory().client_name("mine"), "client_name"),
        (memory().connect_timeout(second), "connect_timeout"),
        (memory().reconnect_wait(second), "reconnect_wait"),
        (memory().heartbeat(second, second), "heartbeat"),
    ] {
        let error = builder.connect().await.expect_err(named);
        assert_eq!((error.kind(), error.object()), (ErrorKind::Unsupported, "memory://"));
        assert!(error.message().contains(&format!("{named:?}")), "{error}");
    }
}

#[test]
fn a_builder_shows_nobody_a_password() {
    for address in ["redis://me:secret@host", "redis://host?password=secret", "secret"] {
        let shown = format!("{:?}", Bus::builder(address).password("secret").client_name("mine"));
        assert!(shown.contains("mine") && !shown.contains("secret"), "{shown}");
    }
}

#[cfg(feature = "redis")]
mod redis_settings {
    use pymq::transport::redis::RedisOptions;

    use super::place::server::RedisServer;
    use super::*;

    #[tokio::test]
    async fn credentials_need_not_stand_in_the_address() {
        let server = RedisServer::start();
        server.raw().run(&["ACL", "SETUSER", "me", "on", ">secret", "~*", "&*", "+@all"]);
        let bus = Bus::builder(&server.url())
            .username("me")
            .password("secret")
            .client_name("mine")
            .connect_timeout(Duration::from_secs(30))
            .reconnect_wait(Duration::from_secs(30))
            .heartbeat(Duration::from_secs(1), Duration::from_secs(30))
            .connect()
            .await
            .expect("connected");
        let clients = server.raw().run(&["CLIENT", "LIST"]).text();
        let mine = clients.lines().find(|line| line.contains("name=mine")).expect("it is named");
        assert!(mine.contains(" user=me "), "{mine}");
        drop(bus);
        let wrong = Bus::builder(&server.url()).username("me").password("wrongsecret").connect();
        let error = wrong.await.expect_err("it does not fit");
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(!format!("{error:?}").contains("wrongsecret"));
    }

    #[test]
    fn what_is_said_twice_or_would_cut_living_connections_is_refused() {
        let mut settings = Settings::default();
        settings.password = Some("other".to_owned());
        let options = RedisOptions::from_url("redis://me:secret@localhost").expect("an address");
        let error = options.with_settings(settings).expect_err("two passwords");
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().contains("\"password\"") && !error.to_string().contains("secret"));
    }

    #[tokio::test]
    async fn a_heartbeat_shorter_than_a_waiting_command_is_refused() {
        let mut settings = Settings::default();
        settings.heartbeat =
            Some(Heartbeat { period: Duration::from_secs(1), limit: Duration::from_secs(5) });
        let error = pymq::transport::connect_with("redis://127.0.0.1:1", settings).await;
        assert_eq!(error.expect_err("too short").kind(), ErrorKind::Config);
    }
}

#[tokio::test]
async fn a_namespace_whose_names_could_be_anothers_is_refused() {
    for name in ["", ":", "a:", "a:b", ":a"] {
        let error = Bus::builder("memory://").namespace(name).connect().await.expect_err(name);
        assert_eq!(error.kind(), ErrorKind::Config, "{name:?}: {error}");
    }
}

#[test]
fn connecting_outside_a_runtime_is_an_error_that_says_so() {
    use futures_util::FutureExt;

    for url in ["memory://", "redis://127.0.0.1:1"] {
        let connecting = Bus::connect(url).now_or_never().expect("it does not wait");
        let error = connecting.expect_err("there is no runtime");
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("tokio runtime"), "{error}");
    }
}
