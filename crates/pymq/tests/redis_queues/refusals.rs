//! Whatever a server refuses, forgets or is asked by strangers: no item is lost, no error lies.

use super::*;
use crate::driver::server::Answer;
use pymq::transport::{Letters, SettleOptions};

const EPOCHS: &str = "__pymq:{q}:epochs";

/// A connection of a user who may do everything but some commands.
async fn without(server: &RedisServer, commands: &[&str]) -> Arc<Redis> {
    allow(server, "w", &["+@all"]);
    deny(server, "w", commands);
    let url = format!("redis://w:PASSWORD@127.0.0.1:{}", server.port());
    Arc::new(Redis::connect(&url).await.expect("it may connect"))
}

pub(super) fn allow(server: &RedisServer, user: &str, rules: &[&str]) {
    let mut words = vec!["ACL", "SETUSER", user, "on", ">PASSWORD", "~*", "&*"];
    words.extend(rules);
    server.raw().run(&words);
}

pub(super) fn deny(server: &RedisServer, user: &str, commands: &[&str]) {
    let rules: Vec<String> = commands.iter().map(|command| format!("-{command}")).collect();
    let mut words = vec!["ACL", "SETUSER", user];
    words.extend(rules.iter().map(String::as_str));
    server.raw().run(&words);
}

/// The queue by another policy.
fn with_policy(max_deliveries: u32) -> Arc<QueueSpec> {
    queue_with("q", |spec| spec.max_deliveries = max_deliveries)
}

/// Every item that lies anywhere, marks aside.
pub(super) fn all(raw: &mut Raw) -> Vec<String> {
    // In one step: what is on its way from one list to another is in one of them.
    const LOOK: &str = "local found = {} \
            for _, key in ipairs(redis.call('KEYS', '*q*')) do \
                if redis.call('TYPE', key).ok == 'list' then \
                    for _, item in ipairs(redis.call('LRANGE', key, 0, -1)) do \
                        found[#found + 1] = item end end end \
            return found";
    let items = raw.run(&["EVAL", LOOK, "0"]).texts();
    // The item is the last part of a dead letter.
    let bare = |item: String| item.rsplit('\0').next().map(|item| item.trim_start().to_owned());
    let mut found: Vec<_> = items.into_iter().filter_map(bare).collect();
    found.sort();
    found
}

/// As if its process had died long ago: whoever reaps next gives back what is held.
fn expire(raw: &mut Raw) {
    for epoch in raw.run(&["ZRANGE", EPOCHS, "0", "-1"]).texts() {
        raw.run(&["ZADD", EPOCHS, "XX", "0", &epoch]);
    }
}

/// What is left of a consumer that died with these items, oldest first.
fn dead_consumer(raw: &mut Raw, epoch: &str, items: &[&str]) {
    for item in items {
        raw.run(&["LPUSH", &format!("__pymq:{{q}}:held:{epoch}"), item]);
    }
    raw.run(&["ZADD", EPOCHS, "1", epoch]);
}

const EVERY: [&str; 8] = ["rpush", "lpush", "lrem", "lpop", "rpop", "lrange", "zadd", "zrem"];

#[tokio::test]
async fn a_settlement_that_is_denied_a_command_keeps_its_item_and_is_done_when_it_is_allowed() {
    let server = RedisServer::start();
    for how in [Settlement::Requeue, Settlement::Return, Settlement::Reject, Settlement::Ack] {
        for command in ["rpush", "lpush", "lrem", "evalsha"] {
            let mut raw = server.raw();
            raw.run(&["FLUSHALL"]);
            let redis = without(&server, &[]).await;
            let queue = queue("q");
            put(&redis, &queue, &["x"]).await;
            let item = get(&redis, &queue).await;
            deny(&server, "w", &[command]);
            let outcome =
                redis.settle(&queue, item.receipt.clone(), how, SettleOptions::default()).await;
            if outcome.is_err() {
                assert_eq!(all(&mut raw), ["x"], "{how:?} without {command}");
                allow(&server, "w", &["+@all"]);
                // By itself, or by whoever asks again.
                let again = redis.settle(&queue, item.receipt, how, SettleOptions::default());
                again.await.expect("it is allowed now");
            }
            allow(&server, "w", &["+@all"]);
            assert_eq!(stats(&redis, &queue).await.1, 0, "{how:?} without {command}");
            assert_eq!(all(&mut raw).len(), usize::from(how != Settlement::Ack));
            redis.close().await.expect("closed");
        }
    }
}

#[tokio::test]
async fn a_settlement_that_was_refused_is_done_by_itself_and_says_so_to_who_asks_again() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    let redis = connect(&server).await;
    for how in [Settlement::Ack, Settlement::Requeue, Settlement::Return, Settlement::Reject] {
        raw.run(&["FLUSHALL"]);
        let queue = queue("q");
        put(&redis, &queue, &["x"]).await;
        let item = get(&redis, &queue).await;
        raw.run(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
        let settle = || redis.settle(&queue, item.receipt.clone(), how, SettleOptions::default());
        let refused = match settle().await {
            // Before 7.0 scripts write all the same.
            Ok(()) if how != Settlement::Ack => None,
            outcome => Some(outcome.expect_err("no replica is there")),
        };
        assert!(refused.as_ref().is_none_or(pymq::Error::is_retryable), "{refused:?}");
        raw.run(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
        until("it is settled", || keys(&mut raw, "__pymq:{q}:held:*").is_empty()).await;
        if refused.is_some() {
            settle().await.expect("it was done");
        }
        let twice = settle().await.expect_err("once is enough");
        assert_eq!(twice.kind(), ErrorKind::LeaseLost);
    }
}

#[tokio::test]
async fn a_reaper_that_is_denied_a_command_loses_and_doubles_nothing() {
    let server = RedisServer::start();
    for command in EVERY {
        let mut raw = server.raw();
        raw.run(&["FLUSHALL"]);
        dead_consumer(&mut raw, "dead-1.2", &["a", " b", "c"]);
        let redis = without(&server, &[command]).await;
        for _ in 0..3 {
            // Refused or not.
            let _ = redis.stats(&queue("q")).await;
            assert_eq!(all(&mut raw), ["a", "b", "c"], "without {command}");
        }
        redis.close().await.expect("closed");
    }
}

#[tokio::test]
async fn a_bus_that_closes_without_a_right_loses_and_doubles_nothing() {
    let server = RedisServer::start();
    for command in EVERY {
        let mut raw = server.raw();
        raw.run(&["FLUSHALL"]);
        let redis = without(&server, &[]).await;
        let queue = queue("q");
        put(&redis, &queue, &["a", "b", "c"]).await;
        let held = redis.claim(&queue, 3, Wait::No).await.expect("claimed");
        assert_eq!(held.len(), 3);
        deny(&server, "w", &[command]);
        redis.close().await.expect("closed");
        assert_eq!(all(&mut raw), ["a", "b", "c"], "without {command}");
    }
}

#[tokio::test]
async fn a_redrive_without_a_right_or_into_a_key_of_another_type_loses_and_doubles_nothing() {
    let server = RedisServer::start();
    for command in ["rpop", "lpush", "lrange", "lpos", "lrem", "llen", "ltrim", "type"] {
        let mut raw = server.raw();
        raw.run(&["FLUSHALL"]);
        raw.run(&["LPUSH", "__pymq:{q}:dead", "a", "b"]);
        let (redis, queue) = (without(&server, &[]).await, queue("q"));
        let letters = redis.letters(&queue, 0, 9).await.expect("read");
        let these = Letters::These(letters.into_iter().map(|letter| letter.receipt).collect());
        deny(&server, "w", &[command]);
        if command == "type" {
            raw.run(&["SET", "q", "no list"]);
        }
        for which in [Letters::Oldest(10), these.clone()] {
            let moved = redis.redrive(&queue, which, &queue).await;
            match moved {
                Err(refused) => assert_eq!(refused.kind(), ErrorKind::Server, "{command}"),
                Ok(moved) => assert!(moved == 2 || raw.run(&["LLEN", "q"]).number() == 2),
            }
            assert_eq!(all(&mut raw), ["a", "b"], "without {command}");
        }
        for which in [Letters::Oldest(1), these] {
            // Discarded or not, never another one than was named.
            let _ = redis.discard(&queue, which).await;
        }
        assert!(all(&mut raw).iter().all(|item| ["a", "b"].contains(&item.as_str())));
        redis.close().await.expect("closed");
    }
}

#[tokio::test]
async fn a_claim_without_a_right_fails_and_loses_nothing() {
    let server = RedisServer::start();
    for command in ["lmove", "blmove", "zadd", "lrem", "time", "evalsha", "eval", "exists"] {
        let mut raw = server.raw();
        raw.run(&["FLUSHALL"]);
        raw.run(&["LPUSH", "q", "x"]);
        let redis = without(&server, &[command]).await;
        for wait in [Wait::No, Wait::at_most(Duration::from_millis(300))] {
            if let Ok(items) = redis.claim(&queue("q"), 1, wait).await {
                for item in items {
                    let settled = redis
                        .settle(
                            &queue("q"),
                            item.receipt,
                            Settlement::Return,
                            SettleOptions::default(),
                        )
                        .await;
                    assert!(settled.is_ok() || command == "lrem", "{command}: {settled:?}");
                }
            }
            assert_eq!(all(&mut raw), ["x"], "without {command}");
        }
        redis.close().await.expect("closed");
        assert_eq!(all(&mut raw), ["x"], "without {command}");
    }
}

#[tokio::test]
async fn what_is_taken_is_registered_though_a_right_was_taken_away_meanwhile() {
    let server = RedisServer::start();
    for command in ["lrem", "zrange"] {
        let mut raw = server.raw();
        raw.run(&["FLUSHALL"]);
        let redis = without(&server, &[]).await;
        let empty = redis.claim(&queue("q"), 1, Wait::No).await.expect("it may");
        assert!(empty.is_empty());
        deny(&server, "w", &[command]);
        raw.run(&["LPUSH", "q", "x"]);
        // Whether it is handed out or not: were its process killed now, others would give it back.
        let _claimed = redis.claim(&queue("q"), 1, Wait::at_most(Duration::from_millis(300))).await;
        assert_eq!(all(&mut raw), ["x"], "without {command}");
        for held in keys(&mut raw, "__pymq:{q}:held:*") {
            let epoch = held.trim_start_matches("__pymq:{q}:held:");
            let registered = raw.run(&["ZRANK", EPOCHS, epoch]);
            assert!(matches!(registered, Answer::Number(_)), "without {command}: {registered:?}");
        }
        redis.close().await.expect("closed");
    }
}

#[tokio::test]
async fn where_dead_letters_cannot_lie_items_stay_and_other_consumers_get_theirs_back() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    let redis = connect(&server).await;
    raw.run(&["SET", "__pymq:{q}:dead", "no list"]);
    dead_consumer(&mut raw, "dead-1.1", &["last time"]);
    dead_consumer(&mut raw, "dead-2.5", &["innocent"]);
    let error = redis.stats(&queue("q")).await.expect_err("an item cannot be given up");
    assert_eq!(error.kind(), ErrorKind::Server);
    assert!(error.to_string().contains("dead"), "the key is named: {error}");
    assert_eq!(all(&mut raw), ["innocent", "last time"]);
    assert_eq!(raw.run(&["LRANGE", "q", "0", "-1"]).texts(), [" innocent"]);
    raw.run(&["DEL", "__pymq:{q}:dead"]);
    assert_eq!(stats(&redis, &queue("q")).await, (1, 0, 1));
}

#[tokio::test]
async fn who_merely_looks_decides_nothing() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    let worker = connect(&server).await;
    let patient = with_policy(0);
    put(&worker, &patient, &["x"]).await;
    let _item = get(&worker, &patient).await;
    let monitor = connect(&server).await;
    let strict = with_policy(1);
    let looked = std::cell::Cell::new((0, 0, 0));
    while looked.get().0 == 0 {
        expire(&mut raw);
        looked.set(stats(&monitor, &strict).await);
    }
    assert_eq!(looked.get(), (1, 0, 0), "it is back, since its consumer never gives up");
}

#[tokio::test]
async fn an_item_taken_after_the_server_forgot_everything_is_registered() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    let redis = connect(&server).await;
    let queue = queue("q");
    put(&redis, &queue, &["a"]).await;
    let first = get(&redis, &queue).await;
    let waiting = tokio::spawn({
        let (redis, queue) = (Arc::clone(&redis), Arc::clone(&queue));
        async move { get(&redis, &queue).await }
    });
    until("it waits", || blocked(&mut raw) == 1).await;
    raw.run(&["FLUSHALL"]);
    raw.run(&["LPUSH", "q", "b"]);
    let second = waiting.await.expect("no panic");
    assert_eq!(text(&second.payload), "b");
    let registered = raw.run(&["ZRANGE", EPOCHS, "0", "-1"]).texts();
    let held = keys(&mut raw, "__pymq:{q}:held:*");
    assert_eq!(held.len(), 1);
    assert!(registered.iter().any(|epoch| held[0].ends_with(epoch.as_str())), "{registered:?}");
    let late = redis.settle(&queue, first.receipt, Settlement::Ack, SettleOptions::default()).await;
    assert_eq!(late.expect_err("the server forgot it").kind(), ErrorKind::LeaseLost);
    ack(&redis, &queue, second).await;
}

#[tokio::test]
async fn consumers_that_get_nothing_leave_no_key_and_idle_ones_send_nothing() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    let redis = connect(&server).await;
    let queue = |number| leased(&format!("q{number}"), Duration::from_secs(3));
    for number in 0..50 {
        let queue = queue(number);
        assert!(redis.claim(&queue, 1, Wait::No).await.expect("claimed").is_empty());
        let brief = Wait::at_most(Duration::from_millis(5));
        assert!(redis.claim(&queue, 1, brief).await.expect("claimed").is_empty());
    }
    assert!(keys(&mut raw, "*").is_empty());
    for number in 0..50 {
        let queue = queue(number);
        put(&redis, &queue, &["x"]).await;
        ack(&redis, &queue, get(&redis, &queue).await).await;
    }
    until("they are forgotten", || keys(&mut raw, "*").is_empty()).await;
    let count = |raw: &mut Raw| {
        let text = raw.run(&["INFO", "stats"]).text();
        let line = text.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
        line.expect("INFO counts").trim().parse::<u64>().expect("a number")
    };
    // A slow machine still sends the last words of some; one that keeps leases never ends.
    let mut sent = Vec::new();
    while sent.last().is_none_or(|sent| *sent >= 60) {
        assert!(sent.len() < 10, "commands for nothing: {sent:?}");
        let before = count(&mut raw);
        // Time is what has to pass: in it each lease would be kept three times, which is more than a
        // hundred commands; our own question and signs of life are a few.
        tokio::time::sleep(Duration::from_secs(3)).await;
        sent.push(count(&mut raw) - before);
    }
}

#[tokio::test]
async fn a_lease_is_its_handles_whatever_others_of_the_process_ask_for() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    let redis = connect(&server).await;
    let (short, long) = (leased("q", Duration::from_secs(5)), queue("q"));
    put(&redis, &long, &["long", "extended", "short"]).await;
    let _long = get(&redis, &long).await;
    let extended = get(&redis, &short).await;
    redis.extend(&short, &extended.receipt, Duration::from_secs(3600)).await.expect("extended");
    let _short = get(&redis, &short).await;
    let now: f64 = {
        let time = raw.run(&["TIME"]).texts();
        time[0].parse::<f64>().expect("seconds") * 1000.0
    };
    let mut left: Vec<f64> = raw
        .run(&["ZRANGE", EPOCHS, "0", "-1", "WITHSCORES"])
        .texts()
        .chunks(2)
        .map(|pair| (pair[1].parse::<f64>().expect("a score") - now) / 1000.0)
        .collect();
    left.sort_by(f64::total_cmp);
    assert!(left.len() == 3 && left[0] < 7.0, "{left:?}");
    assert!(left[1] > 20.0 && left[1] < 32.0 && left[2] > 3500.0, "{left:?}");
}

#[tokio::test]
async fn a_strangers_entry_in_the_registry_costs_the_server_little() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    let redis = connect(&server).await;
    for part in 0..20 {
        let items: Vec<String> = (0..1000).map(|number| format!("{part}-{number}")).collect();
        let mut words = vec!["LPUSH", "__pymq:{q}:held:forged"];
        words.extend(items.iter().map(String::as_str));
        raw.run(&words);
    }
    for (score, name) in
        [("-inf", "forged"), ("0", ""), ("0", "*"), ("0", "x.99999999999999999999")]
    {
        raw.run(&["ZADD", EPOCHS, score, name]);
    }
    assert_eq!(stats(&redis, &queue("q")).await, (20_000, 0, 0));
    assert_eq!(raw.run(&["EXISTS", EPOCHS]).number(), 0);
}

#[tokio::test]
async fn settling_newest_first_among_many_looks_never_far() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    let redis = connect(&server).await;
    let queue = queue("q");
    for _ in 0..5 {
        let items = (0..1000).map(|number| bytes(&number.to_string())).collect();
        redis.push(&queue, items, Wait::No.into()).await.expect("put");
    }
    let mut held = Vec::new();
    while held.len() < 5000 {
        held.extend(redis.claim(&queue, 500, Wait::No).await.expect("claimed"));
    }
    for key in keys(&mut raw, "__pymq:{q}:held:*") {
        assert!(raw.run(&["LLEN", &key]).number() <= 2000, "one list is not endless");
    }
    while let Some(item) = held.pop() {
        redis.settle_soon(&queue, item.receipt, Settlement::Ack, SettleOptions::default());
    }
    until("all are confirmed", || keys(&mut raw, "__pymq:{q}:held:*").is_empty()).await;
    assert_eq!(stats(&redis, &queue).await, (0, 0, 0));
}

#[tokio::test]
async fn a_wait_that_ends_while_writes_are_paused_leaves_the_server_alive_and_replies_in_step() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    let redis = connect(&server).await;
    let queue = queue("q");
    for pause in ["WRITE", "ALL"] {
        for before in [true, false] {
            if before {
                raw.run(&["CLIENT", "PAUSE", "1500", pause]);
            }
            let brief = redis.claim(&queue, 1, Wait::at_most(Duration::from_millis(100)));
            let mut left = Box::pin(redis.claim(&queue, 1, Wait::Forever));
            let _ = tokio::time::timeout(Duration::from_millis(50), &mut left).await;
            if !before {
                raw.run(&["CLIENT", "PAUSE", "1500", pause]);
            }
            drop(left);
            // Nothing, or that the server does not answer.
            drop(brief.await);
        }
        raw.run(&["CLIENT", "UNPAUSE"]);
        for number in 0..20 {
            let item = number.to_string();
            put(&redis, &queue, &[&item]).await;
            let claimed = get(&redis, &queue).await;
            assert_eq!(text(&claimed.payload), item, "each its own answer");
            ack(&redis, &queue, claimed).await;
        }
    }
    assert_eq!(stats(&redis, &queue).await, (0, 0, 0));
}

#[tokio::test]
async fn a_put_into_a_queue_that_is_shut_down_says_what_became_of_the_items() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    raw.run(&["SET", "__pymq:{q}:shutdown", "1"]);
    allow(&server, "w", &["+publish", "+lpush", "+exists"]);
    let url = format!("redis://w:PASSWORD@127.0.0.1:{}", server.port());
    let publisher = Redis::connect(&url).await.expect("it may connect");
    let queue = queue("q");
    let error = publisher.push(&queue, vec![bytes("x")], Wait::No.into()).await.expect_err("told");
    assert_eq!((error.kind(), raw.run(&["LLEN", "q"]).number()), (ErrorKind::Ambiguous, 1));
    let redis = connect(&server).await;
    let items = ["x", "y", "y"].map(bytes).to_vec();
    let error = redis.push(&queue, items, Wait::No.into()).await.expect_err("shut down");
    assert_eq!((error.kind(), raw.run(&["LLEN", "q"]).number()), (ErrorKind::ShutDown, 1));
}
