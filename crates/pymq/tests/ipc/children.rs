//! What a child does, by its role.

use std::io::Write as _;
use std::time::Duration;

use pymq::{Bus, PutOptions, Wait};

use crate::place::{NUMBER, PLACE, ROLE, until};

/// Runs the role that the environment names; nothing where it names none.
pub(crate) fn be_one() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let place = std::env::var(PLACE).expect("the parent says it");
    let number = std::env::var(NUMBER).expect("the parent says it").parse().expect("a number");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.expect("a runtime").block_on(async {
        let bus = Bus::connect(&place).await?;
        match role.as_str() {
            "producer" => produce(&bus, number).await,
            "packer" => pack(&bus, number).await,
            "consumer" => consume(&bus).await,
            "talker" => talk(&place, number).await,
            "subscriber" => subscribe(&bus).await,
            "holder" => hold(&bus).await,
            "hoarder" => hoard(&bus, number).await,
            "sleeper" => hold_in_vain(&bus).await,
            "server" => serve(&bus).await,
            "stranger" => stay_a_while(&bus).await,
            "user" => use_until_all_fails(&bus).await,
            other => panic!("no such role: {other}"),
        }
    });
    if let Err(error) = done {
        say(format!("error {error}"));
    }
}

/// One write of a whole line.
fn say(line: String) {
    let mut line = line.into_bytes();
    line.insert(0, b'\n');
    line.push(b'\n');
    std::io::stdout().write_all(&line).expect("somebody reads");
    std::io::stdout().flush().expect("somebody reads");
}

/// An item that tells if it is torn: whose it is, its number, and that many more bytes.
pub(crate) fn item(producer: usize, number: usize) -> String {
    let filling = "x".repeat((producer * 7919 + number * 104_729) % 3000);
    format!("{producer} {number} {} {filling}", filling.len())
}

pub(crate) fn read(item: &str) -> (usize, usize) {
    let mut words = item.splitn(4, ' ');
    let mut number = || words.next().and_then(|word| word.parse().ok()).expect("a number");
    let (producer, own, length): (usize, usize, usize) = (number(), number(), number());
    assert_eq!(words.next().map(str::len), Some(length), "the item is torn");
    (producer, own)
}

async fn produce(bus: &Bus, producer: usize) -> pymq::Result<()> {
    let queue = bus.queue::<String>("items");
    for number in 0.. {
        queue.put(&item(producer, number)).await?;
        say(format!("put {producer} {number}"));
    }
    Ok(())
}

/// How many items a packer puts in one step.
pub(crate) const PACK: usize = 10;

async fn pack(bus: &Bus, producer: usize) -> pymq::Result<()> {
    let queue = bus.queue::<String>("items");
    for begin in (0..).step_by(PACK) {
        let items: Vec<_> = (begin..begin + PACK).map(|number| item(producer, number)).collect();
        queue.put_many(&items).await?;
        say(items.iter().enumerate().fold(String::new(), |lines, (place, _)| {
            lines + &format!("put {producer} {}\n", begin + place)
        }));
        // Consumers are to keep up.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

async fn consume(bus: &Bus) -> pymq::Result<()> {
    let queue = bus.queue::<String>("items").max_deliveries(0);
    loop {
        let delivery = queue.claim().await?;
        let (producer, number) = read(&delivery);
        say(format!("got {producer} {number}"));
        delivery.ack().await?;
    }
}

/// Comes and goes, and does a little of everything.
async fn talk(place: &str, number: usize) -> pymq::Result<()> {
    for round in 0.. {
        let bus = Bus::connect(place).await?;
        let _all = bus.pattern::<String>("talk.*").await?;
        let topic = bus.topic::<String>(format!("talk.{number}"));
        let mut own = topic.subscribe().await?;
        for event in 0..20 {
            let event = item(number, round * 20 + event);
            topic.publish(&event).await?;
            assert_eq!(own.recv().await.expect("the bus is open")?, event);
        }
        let bounded = bus.queue::<usize>("bounded").maxsize(2);
        let _ = bounded.put_with(&round, PutOptions::new().wait(Duration::from_millis(5))).await;
        let _ = bounded.get_timeout(Duration::from_millis(5)).await;
        bus.close().await?;
    }
    Ok(())
}

async fn subscribe(bus: &Bus) -> pymq::Result<()> {
    let _events = bus.topic::<String>("news").subscribe().await?;
    say("subscribed".to_owned());
    std::future::pending().await
}

async fn hold(bus: &Bus) -> pymq::Result<()> {
    let queue = bus.queue::<String>("held");
    let _held = (queue.claim().await?, queue.claim().await?);
    say("holding".to_owned());
    std::future::pending().await
}

async fn hoard(bus: &Bus, count: usize) -> pymq::Result<()> {
    let queue = bus.queue::<String>("held").max_deliveries(0);
    let mut held = Vec::new();
    while held.len() < count {
        held.extend(queue.claim_many(count - held.len(), Wait::Forever).await?);
    }
    say("holding".to_owned());
    std::future::pending().await
}

async fn hold_in_vain(bus: &Bus) -> pymq::Result<()> {
    let held = bus.queue::<String>("held").lease(Duration::from_secs(1)).claim().await?;
    say("holding".to_owned());
    until("being stopped, and the item taken", async || {
        bus.queue::<String>("held").stats().await.is_ok_and(|stats| stats.unfinished() == 0)
    })
    .await;
    let late = held.ack().await.expect_err("another has it");
    say(format!("late {:?}", late.kind()));
    std::future::pending().await
}

/// Does a little of everything, and ends.
async fn stay_a_while(bus: &Bus) -> pymq::Result<()> {
    let mut events = bus.topic::<u8>("topic").subscribe().await?;
    bus.topic::<u8>("topic").publish(&1).await?;
    // Where the file is damaged nothing may come.
    let _ = tokio::time::timeout(Duration::from_secs(1), events.recv()).await;
    let queue = bus.queue::<u8>("queue");
    queue.put_with(&2, PutOptions::new().delay(Duration::from_millis(1))).await?;
    queue.put(&3).await?;
    queue.get_timeout(Duration::from_secs(1)).await?;
    bus.close().await
}

async fn serve(bus: &Bus) -> pymq::Result<()> {
    let _quick = bus.expose_fn("sum", |(a, b): (i64, i64)| async move { Ok::<_, String>(a + b) });
    let _quick = _quick.await?;
    let endless = bus.expose_fn("endless", |(): ()| async {
        say("called".to_owned());
        std::future::pending::<Result<i64, String>>().await
    });
    let _endless = endless.await?;
    say("serving".to_owned());
    std::future::pending().await
}

/// Puts, takes, publishes, calls and waits, until each of these has failed.
async fn use_until_all_fails(bus: &Bus) -> pymq::Result<()> {
    let _service = bus.expose_fn("endless", |(): ()| async {
        std::future::pending::<Result<i64, String>>().await
    });
    let _service = _service.await?;
    let mut events = bus.topic::<String>("news").subscribe().await?;
    let (used, empty) = (bus.queue::<u32>("used"), bus.queue::<u32>("empty"));
    let news = bus.topic::<u32>("elsewhere");
    say("using".to_owned());
    let tell = |what: &str, error: pymq::Error| say(format!("{what} failed {:?}", error.kind()));
    tokio::join!(
        async {
            loop {
                let used = async {
                    used.put(&1).await?;
                    used.get().await?;
                    news.publish(&1).await
                };
                if let Err(error) = used.await {
                    return tell("use", error);
                }
                tokio::time::sleep(Duration::from_micros(100)).await;
            }
        },
        async { tell("get", empty.get().await.expect_err("nothing is put")) },
        async {
            let event = events.recv().await.expect("the bus is open");
            tell("recv", event.expect_err("nothing is published"));
        },
        async {
            let call = bus.stub::<_, i64>("endless").call(()).await;
            tell("call", call.expect_err("nothing answers"));
        },
    );
    Ok(())
}
