//! What becomes of those who use a file that somebody damages, cuts short, replaces or deletes.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use pymq::ErrorKind;

use crate::place::{Peer, Place, until};

#[tokio::test]
async fn a_damaged_file_is_an_error_and_neither_a_signal_nor_a_hang() {
    let place = Place::new();
    let bus = place.bus().await;
    bus.queue::<u8>("queue").put(&1).await.expect("put");
    bus.close().await.expect("closed");
    let whole = std::fs::OpenOptions::new().read(true).write(true).open(place.file());
    let whole = whole.expect("it is ours");
    let mut head = vec![0; 1 << 20];
    whole.read_exact_at(&mut head, 0).expect("read");
    let size = whole.metadata().expect("it is there").len();
    let each = |word: fn(u64) -> u64| -> Vec<u8> {
        (0..32_000_u64).flat_map(|place| word(135_168 + 8 * place).to_le_bytes()).collect()
    };
    // What is behind the places of connections: numbers, lists, names; and, last, the lock.
    let damages = [
        (135_168, each(|_| u64::MAX)),
        (135_168, each(|place| place)),
        (135_168, each(|place| (513 << 20) + 8 * (place % 1000))),
        (1 << 20, vec![255; 64]),
        (64, vec![255; 40]),
    ];
    for (at, bytes) in damages {
        whole.write_all_at(&bytes, at).expect("written");
        end_of_a_stranger(&place).await;
        whole.write_all_at(&head, 0).expect("written");
        whole.write_all_at(&[0; 64], 1 << 20).expect("written");
    }
    for length in [size - 4096, 512 << 20, (1 << 20) + 8, 4096, 64, 0] {
        whole.set_len(length).expect("it is ours");
        end_of_a_stranger(&place).await;
    }
}

/// Another process uses the bus and ends by itself, with whatever error.
async fn end_of_a_stranger(place: &Place) {
    let mut stranger = place.child("stranger", 0);
    let status = stranger.ends().await;
    assert!(status.success(), "{status}: {:?}", stranger.lines.lock().expect("no panic"));
}

/// What is done to a file, while it is used, ends every operation of its user with an error; and its
/// user, by itself.
async fn everything_fails_when(what: &str, done: impl FnOnce(&Place)) {
    let place = Place::new();
    let user = place.child("user", 0);
    user.has_said("using").await;
    done(&place);
    everything_fails(what, user).await;
}

async fn everything_fails(what: &str, mut user: Peer) {
    for operation in ["use", "get", "recv", "call"] {
        until(&format!("{operation} to fail, {what}"), async || user.failed(operation)).await;
    }
    let status = user.ends().await;
    assert!(status.success(), "{what}: {status}");
}

fn opened(place: &Place) -> File {
    OpenOptions::new().read(true).write(true).open(place.file()).expect("it is ours")
}

#[tokio::test]
async fn a_file_that_is_cut_short_is_an_error_for_all_who_use_it_and_no_signal() {
    for length in [(512 << 20) + 4096, 1 << 20, 8192, 0] {
        let what = format!("cut to {length}");
        everything_fails_when(&what, |place| {
            opened(place).set_len(length).expect("it is ours");
        })
        .await;
    }
}

#[tokio::test]
async fn a_file_that_is_written_over_is_an_error_for_all_who_use_it() {
    let overwritten: [(&str, u64, Vec<u8>); 4] = [
        ("the head", 0, vec![255; 4096]),
        // An owner that there is not.
        ("the lock", 64, 0x3fff_fff0_u64.to_le_bytes().to_vec()),
        ("the lists", 135_168, vec![255; 4096]),
        ("all of it", 0, vec![0; 256 << 10]),
    ];
    for (what, at, bytes) in overwritten {
        let place = Place::new();
        let user = place.child("user", 0);
        user.has_said("using").await;
        // Again and again: whoever has the lock meanwhile mends it by giving it back.
        until(&format!("somebody to notice {what}"), async || {
            opened(&place).write_all_at(&bytes, at).expect("written");
            user.failed("use")
        })
        .await;
        everything_fails(what, user).await;
    }
}

#[tokio::test]
async fn another_bus_in_the_place_of_ones_own_is_an_error_and_is_left_as_it_is() {
    let other = Place::new();
    let bus = other.bus().await;
    bus.queue::<u32>("used").put_many(&[7, 8]).await.expect("put");
    everything_fails_when("copied over", |place| {
        std::fs::copy(other.file(), place.file()).expect("copied");
    })
    .await;
    everything_fails_when("moved there", |place| {
        std::fs::rename(other.file(), place.file()).expect("moved");
        std::fs::rename(place.file(), other.file()).expect("moved back");
    })
    .await;
    let kept = bus.queue::<u32>("used").get().await.expect("an item");
    assert_eq!(kept, 7);
}

#[tokio::test]
async fn a_bus_whose_file_was_deleted_says_so() {
    let place = Place::new();
    let bus = place.bus().await;
    std::fs::remove_file(place.file()).expect("it is there");
    let queue = bus.queue::<u8>("queue");
    until("the bus to notice", async || queue.try_get().await.is_err()).await;
    let error = queue.try_get().await.expect_err("it is gone");
    assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
    let waiting = queue.get().await.expect_err("it is gone");
    assert_eq!(waiting.kind(), ErrorKind::Connection);
}

#[tokio::test]
async fn a_subscription_on_a_file_that_is_gone_or_damaged_can_be_ended() {
    for is_damaged in [false, true] {
        let place = Place::new();
        let bus = place.bus().await;
        let mut events = bus.topic::<u8>("topic").subscribe().await.expect("subscribed");
        if is_damaged {
            opened(&place).write_all_at(&[255; 4096], 0).expect("written");
        } else {
            std::fs::remove_file(place.file()).expect("it is there");
        }
        while let Some(Ok(_)) = events.recv().await {}
        let ended = tokio::time::timeout(Duration::from_secs(180), events.unsubscribe()).await;
        ended.expect("it ends").expect("nothing is left of it");
        bus.close().await.expect("closed");
    }
}

#[tokio::test]
async fn whoever_leaves_takes_no_other_bus_along_that_lies_in_the_place_of_its_own() {
    let (place, other) = (Place::new(), Place::new());
    let (bus, theirs) = (place.bus().await, other.bus().await);
    theirs.queue::<u8>("queue").put(&7).await.expect("put");
    theirs.close().await.expect("closed");
    std::fs::rename(other.file(), place.file()).expect("moved");
    bus.close().await.expect("closed");
    let kept = place.bus().await.queue::<u8>("queue").get().await.expect("an item");
    assert_eq!(kept, 7);
}
