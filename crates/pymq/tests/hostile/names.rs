//! Names that nobody should give: served as any other, or refused by name.

use pymq::{Bus, ErrorKind, Namespace};
use serde_json::Value;

use crate::place::{Place, guarded};

/// Names that are odd for Redis, for a shell, for a path, for a glob.
fn odd() -> Vec<String> {
    let short = [
        " ",
        "a b",
        "\r\nDEL work\r\n",
        "\0",
        "{}",
        "}",
        "{",
        "{a}b{c}",
        "*",
        "?",
        "[a-z]",
        "\\",
        "a[",
        "../../etc/passwd",
        "/",
        "ä\u{1f389}",
        "\u{feff}",
        "$9\r\n",
        "__rpc_x",
        ":",
        "__pymq:global:x",
        "__eventbus:global:x",
        "%s%n",
        "'; --",
    ];
    let mut names: Vec<String> = short.map(str::to_owned).into();
    names.push("x".repeat(64 * 1024));
    names
}

async fn every_name_is_a_name(bus: &Bus) {
    for name in odd() {
        let shown: String = name.chars().take(40).collect();
        let mut events = bus.topic::<Value>(&name).subscribe().await.expect(&shown);
        let mut strange = bus.topic::<Value>(format!("{name}!")).subscribe().await.ok();
        bus.topic(&name).publish(&Value::from(1)).await.expect(&shown);
        assert_eq!(events.recv().await.expect("open").expect(&shown), 1, "{shown:?}");
        if let Some(strange) = &mut strange {
            bus.topic(format!("{name}!")).publish(&Value::from(2)).await.expect(&shown);
            assert_eq!(strange.recv().await.expect("open").expect(&shown), 2, "{shown:?}");
        }
        let queue = bus.queue::<i64>(&name);
        queue.put(&3).await.expect(&shown);
        queue.claim().await.expect(&shown).requeue().await.expect(&shown);
        assert_eq!(queue.get().await.expect(&shown), 3, "{shown:?}");
        let service = bus.expose_fn(&name, |(a,): (i64,)| async move { Ok::<_, String>(a) });
        let _service = service.await.expect(&shown);
        assert_eq!(bus.stub::<_, i64>(&name).call((4,)).await.expect(&shown), 4, "{shown:?}");
    }
}

async fn a_name_that_none_can_carry_is_refused(bus: &Bus) {
    for name in ["", &"x".repeat(64 * 1024 + 1)] {
        let topic = bus.topic::<i64>(name);
        let queue = bus.queue::<i64>(name);
        let function = |(a,): (i64,)| async move { Ok::<_, String>(a) };
        let mut refusals = vec![
            queue.put(&1).await.err(),
            queue.try_get().await.err(),
            bus.expose_fn(name, function).await.err(),
            bus.stub::<_, i64>(name).call((1,)).await.err(),
        ];
        // The empty topic is one: peers of the original publish on it.
        if !name.is_empty() {
            refusals.push(topic.publish(&1).await.err());
            refusals.push(topic.subscribe().await.err());
            refusals.push(bus.pattern::<i64>(name).await.err());
        }
        for (place, refusal) in refusals.into_iter().enumerate() {
            let error = refusal.unwrap_or_else(|| panic!("operation {place} took the name"));
            assert_eq!(error.kind(), ErrorKind::Config, "operation {place}: {error}");
        }
    }
}

#[tokio::test]
async fn any_name_works_in_memory() {
    let bus = Place::memory().bus().await;
    guarded(every_name_is_a_name(&bus)).await;
    guarded(a_name_that_none_can_carry_is_refused(&bus)).await;
}

#[tokio::test]
async fn any_name_works_over_redis_and_writes_to_no_other() {
    let place = Place::redis();
    let Place::Redis(server) = &place else { unreachable!("it is Redis") };
    server.raw().run(&["LPUSH", "work", "an item of somebody"]);
    for namespace in ["global", "a b\r\n{*}[", "{", "}"] {
        let bus = Bus::connect_in(&server.url(), Namespace::new(namespace)).await;
        let bus = bus.expect("connected");
        guarded(every_name_is_a_name(&bus)).await;
        guarded(a_name_that_none_can_carry_is_refused(&bus)).await;
        bus.close().await.expect("closed");
    }
    assert_eq!(server.raw().run(&["LRANGE", "work", "0", "-1"]).texts(), ["an item of somebody"]);
}
