//! What becomes of those who use a bus when the place where it lies is full.

use std::process::Command;
use std::time::Duration;

use pymq::{Bus, ErrorKind};

use crate::place::{Place, is_root, until};

/// A directory of so many bytes, with nothing in it; `None` where only the administrator may make one.
struct Small(Place);

impl Small {
    fn new(size: &str) -> Option<Self> {
        let place = Place::new();
        std::fs::create_dir(place.path()).expect("a directory");
        let options = format!("size={size},mode=0700");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "pymq-tests"])
            .arg(place.path())
            .status();
        let is_there = is_root() && mount.is_ok_and(|status| status.success());
        is_there.then_some(Self(place))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

/// Puts items until there is no space; says how many there were.
async fn fill(bus: &Bus, queue: &str, size: usize) -> usize {
    let queue = bus.queue::<String>(queue);
    let item = "x".repeat(size);
    for count in 0.. {
        if let Err(error) = queue.put(&item).await {
            assert_eq!(error.kind(), ErrorKind::Server, "{error}");
            return count;
        }
    }
    unreachable!("it is full at some time")
}

#[tokio::test]
async fn what_lies_in_a_full_place_can_be_taken_whoever_held_it_and_then_there_is_space_again() {
    let Some(small) = Small::new("16m") else { return };
    let bus = small.0.bus().await;
    let mut quiet = bus.topic::<u32>("quiet").subscribe().await.expect("subscribed");
    let held = bus.queue::<String>("held");
    held.put_many(&vec!["held".to_owned(); 5000]).await.expect("put");
    let mut hoarder = small.0.child("hoarder", 5000);
    hoarder.has_said("holding").await;
    bus.topic::<u32>("quiet").publish(&1).await.expect("published");
    let large = fill(&bus, "filling", 100_000).await;
    let count = large + fill(&bus, "filling", 1000).await + fill(&bus, "filling", 10).await;
    assert!(large > 50, "{large} items");
    // Who comes is told so too, or finds the little that it needs.
    if let Err(error) = Bus::connect(&small.0.url()).await {
        assert_eq!(error.kind(), ErrorKind::Server, "{error}");
    }
    assert_eq!(quiet.recv().await.expect("open").expect("it came before"), 1);
    hoarder.kill();
    until("what a dead one held to come back", async || {
        held.stats().await.is_ok_and(|stats| (stats.waiting, stats.leased) == (5000, 0))
    })
    .await;
    for _ in 0..5000 {
        assert_eq!(held.get().await.expect("it is there"), "held");
    }
    let filling = bus.queue::<String>("filling");
    for _ in 0..count {
        let item = filling.get_timeout(Duration::from_secs(60)).await.expect("it can be taken");
        assert!(item.expect("as many as were put").starts_with('x'));
    }
    let again = fill(&bus, "filling", 100_000).await;
    assert!(again > large / 2, "{large} items at first, {again} then");
}

#[tokio::test]
async fn a_bus_for_which_there_is_no_space_is_an_error_and_leaves_nothing() {
    let Some(small) = Small::new("400k") else { return };
    let error = small.0.refusal().await;
    assert_eq!(error.kind(), ErrorKind::Server, "{error}");
    let left = std::fs::read_dir(small.0.path()).expect("it is there").count();
    assert_eq!(left, 0);
}
