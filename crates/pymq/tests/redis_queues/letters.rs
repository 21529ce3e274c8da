//! Dead letters over a live server: what is written down of every end, and what older peers left.

use pymq::transport::{DeadLetter, Failure, Reason};

use super::*;

const DEAD: &str = "__pymq:{q}:dead";

/// The queue by a handle that gives items up soon and keeps few letters.
fn strict(max_deliveries: u32, max_dead_letters: usize) -> Arc<QueueSpec> {
    let mut spec = QueueSpec::new("q");
    (spec.max_deliveries, spec.max_dead_letters) = (max_deliveries, max_dead_letters);
    Arc::new(spec)
}

async fn letters(redis: &Redis) -> Vec<DeadLetter> {
    redis.letters(&queue("q"), 0, 99).await.expect("read")
}

fn told(letter: &DeadLetter) -> (String, Reason, Option<u32>) {
    (text(&letter.payload), letter.failure.reason, letter.deliveries)
}

async fn reject(redis: &Redis, queue: &Arc<QueueSpec>, failure: Failure) {
    let options = SettleOptions::default().failure(failure);
    let item = get(redis, queue).await;
    redis.settle(queue, item.receipt, Settlement::Reject, options).await.expect("rejected");
}

#[tokio::test]
async fn items_of_consumers_that_died_or_closed_have_letters_too() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    let (doomed, leaving, other) =
        (connect(&server).await, connect(&server).await, connect(&server).await);
    put(&other, &strict(1, 0), &["a", "b"]).await;
    let _a = get(&doomed, &strict(1, 0)).await;
    killed(&mut raw, &other).await;
    let _b = get(&leaving, &strict(1, 0)).await;
    leaving.close().await.expect("closed");
    let all = letters(&other).await;
    let died = |item: &str| (item.to_owned(), Reason::TooManyDeliveries, Some(1));
    assert_eq!(all.iter().map(told).collect::<Vec<_>>(), [died("a"), died("b")]);
    for letter in all {
        assert!(letter.died.expect("it is written down").elapsed().expect("it is past") < GUARD);
    }
}

#[tokio::test]
async fn what_older_versions_and_other_programs_left_is_read_moved_and_thrown_away() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    let redis = connect(&server).await;
    let queue = queue("q");
    raw.run(&["LPUSH", DEAD, "old", "  marked", "", "\0letter\0no letter"]);
    put(&redis, &queue, &["new"]).await;
    let failure = Failure::new(Reason::Failed).error("ValueError", "no \0 good").origin("h:1");
    reject(&redis, &queue, failure).await;
    let all = letters(&redis).await;
    let bare = |item: &str| (item.to_owned(), Reason::Unknown, None);
    let expected = [
        bare("old"),
        bare("marked"),
        bare(""),
        bare("\0letter\0no letter"),
        ("new".to_owned(), Reason::Failed, Some(1)),
    ];
    assert_eq!(all.iter().map(told).collect::<Vec<_>>(), expected);
    assert_eq!(all[4].failure.words, "no   good");
    assert_eq!(redis.peek(&queue, Shelf::Dead, 9).await.expect("peeked")[4], "new");
    let which = Letters::These(vec![all[4].receipt.clone(), all[0].receipt.clone()]);
    assert_eq!(redis.redrive(&queue, which, &queue).await.expect("moved"), 2);
    assert_eq!(raw.run(&["LRANGE", "q", "0", "-1"]).texts(), ["new", "old"]);
    let which = Letters::These(vec![all[1].receipt.clone(); 2]);
    assert_eq!(redis.discard(&queue, which).await.expect("gone"), 1);
    assert_eq!(redis.discard(&queue, Letters::Oldest(1)).await.expect("gone"), 1);
    assert_eq!(raw.run(&["LLEN", DEAD]).number(), 1);
}

#[tokio::test]
async fn a_letter_that_somebody_put_into_a_queue_as_it_was_is_the_item_in_it() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    let redis = connect(&server).await;
    let queue = queue("q");
    put(&redis, &queue, &["x"]).await;
    for round in 0..3 {
        reject(&redis, &queue, Failure::new(Reason::Rejected)).await;
        let all = letters(&redis).await;
        assert_eq!(told(&all[0]), ("x".to_owned(), Reason::Rejected, Some(1)), "{round}");
        let stored = raw.run(&["LINDEX", DEAD, "0"]).text();
        assert_eq!(stored.matches("letter").count(), 1, "none is in another");
        // As an older version redrives, or an operator.
        raw.run(&["RPOPLPUSH", DEAD, "q"]);
    }
    assert_eq!(text(&get(&redis, &queue).await.payload), "x");
}

#[tokio::test]
async fn as_many_letters_are_kept_as_the_consumer_says_whoever_gives_its_items_back() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    let (doomed, other) = (connect(&server).await, connect(&server).await);
    let three = strict(1, 3);
    for number in 0..5 {
        put(&other, &three, &[&number.to_string()]).await;
        reject(&other, &three, Failure::new(Reason::Rejected)).await;
    }
    let kept = |letters: Vec<DeadLetter>| -> Vec<String> {
        letters.iter().map(|letter| text(&letter.payload)).collect()
    };
    assert_eq!(kept(letters(&other).await), ["2", "3", "4"]);
    put(&other, &three, &["5", "6"]).await;
    assert_eq!(doomed.claim(&three, 2, Wait::No).await.expect("claimed").len(), 2);
    killed(&mut raw, &other).await;
    assert_eq!(letters(&other).await.len(), 3);
    // Whoever keeps all is not bound by that.
    put(&other, &queue("q"), &["7"]).await;
    reject(&other, &queue("q"), Failure::new(Reason::Rejected)).await;
    assert_eq!(letters(&other).await.len(), 4);
}

#[tokio::test]
async fn letters_move_to_another_queue_in_any_number() {
    const MANY: usize = 2500;
    let server = RedisServer::start();
    let (redis, elsewhere) = (connect(&server).await, queue("elsewhere"));
    let items: Vec<String> = (0..MANY).map(|number| number.to_string()).collect();
    let mut raw = server.raw();
    let mut words = vec!["LPUSH", DEAD];
    words.extend(items.iter().map(String::as_str));
    raw.run(&words);
    let all = redis.letters(&queue("q"), 0, MANY).await.expect("read");
    let odd = all.into_iter().skip(1).step_by(2).map(|letter| letter.receipt).collect();
    let moved = redis.redrive(&queue("q"), Letters::These(odd), &elsewhere).await;
    assert_eq!(moved.expect("moved"), MANY / 2);
    let moved = redis.redrive(&queue("q"), Letters::Oldest(usize::MAX), &elsewhere).await;
    assert_eq!(moved.expect("moved"), MANY / 2);
    assert_eq!(raw.run(&["LINDEX", "elsewhere", "-1"]).text(), "1");
    assert_eq!(raw.run(&["LLEN", "elsewhere"]).number() as usize, MANY);
}
