//! What a bus is connected with: honoured, or refused by name.

use std::time::Duration;

use place::Place;
use pymq::transport::{Heartbeat, Limit, Settings};
use pymq::{Bus, BusBuilder, ErrorKind};

mod place;

everywhere!(
    a_namespace_keeps_programs_apart,
    a_small_mailbox_loses_the_oldest_and_says_so,
    a_message_over_the_limit_is_refused_at_its_sender,
    a_limit_that_cannot_be_is_refused_before_connecting,
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
        assert!(error.message().contains("at most 100"), "{error}");
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

#[test]
fn a_bus_whose_runtime_has_ended_is_closed() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let bus = runtime.block_on(Bus::connect("memory://")).expect("connected");
    let mut notes = runtime.block_on(bus.topic::<u32>("notes").subscribe()).expect("subscribed");
    drop(runtime);
    let other = tokio::runtime::Runtime::new().expect("another runtime");
    other.block_on(async {
        assert_eq!(bus.state().word(), "closed");
        let error = bus.topic("notes").publish(&1).await.expect_err("closed");
        assert_eq!(error.kind(), ErrorKind::Closed);
        let error = bus.queue::<u32>("jobs").get().await.expect_err("closed");
        assert_eq!(error.kind(), ErrorKind::Closed);
        assert!(notes.recv().await.is_none());
    });
}
