//! What is left when nobody uses a bus, and who takes it away.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use pymq::Bus;
use pymq::transport::{Shelf, ipc};

use crate::children::item;
use crate::place::Place;

#[tokio::test]
async fn a_bus_is_looked_at_without_joining_it_and_what_the_dead_left_is_cleaned_away() {
    let place = Place::new();
    assert_eq!(ipc::look(&place.url()).expect("looked"), None);
    let bus = place.bus().await;
    let queue = bus.queue::<String>("held");
    queue.put_many(&[item(0, 0), item(0, 1), item(0, 2)]).await.expect("put");
    let mut holder = place.child("holder", 0);
    holder.has_said("holding").await;
    let look = || ipc::look(&place.url()).expect("looked").expect("it is there");
    let found = look();
    assert_eq!((found.living.len(), found.dead.len(), found.queues, found.items), (2, 0, 1, 3));
    let holders: Vec<_> = found.living.iter().filter(|member| member.holds == 2).collect();
    assert_eq!(holders[0].process, holder.process.id());
    assert!(found.bytes > 0 && !found.has_leftovers(), "{found:?}");

    bus.close().await.expect("closed");
    holder.kill();
    std::fs::write(place.path().join(".new-999999999-0"), b"unfinished").expect("written");
    let found = look();
    assert_eq!((found.living.len(), found.dead.len(), found.unfinished), (0, 1, 1));
    assert!(found.has_leftovers(), "{found:?}");
    let cleaned = ipc::clean(&place.url()).expect("cleaned").expect("items are on it");
    assert_eq!((cleaned.dead.len(), cleaned.unfinished, cleaned.items), (0, 0, 3));

    let bus = place.bus().await;
    let queue = bus.byte_queue("held");
    let stats = queue.stats().await.expect("stats");
    assert_eq!(queue.purge(Shelf::Waiting).await.expect("purged"), 3, "{stats:?}");
    bus.close().await.expect("closed");
    assert_eq!(ipc::clean(&place.url()).expect("cleaned"), None);
}

#[tokio::test]
async fn all_buses_of_a_user_are_listed_and_empty_ones_of_the_dead_go() {
    let name = format!("listed/{}", std::process::id());
    let url = format!("ipc://{name}");
    let bus = Bus::connect(&url).await.expect("a bus");
    let listed = || {
        let buses = ipc::buses().expect("listed");
        buses.into_iter().find(|bus| bus.address == url)
    };
    assert_eq!(listed().expect("it is listed").living[0].process, std::process::id());
    let inspection = bus.inspect();
    let named = inspection.leftovers().await.expect("listed");
    assert!(named.iter().all(|leftover| leftover.name != url), "{named:?}");
    bus.close().await.expect("closed");
    assert_eq!(listed(), None);
}

#[tokio::test]
async fn the_last_to_leave_takes_an_unused_bus_along_and_a_used_one_stays() {
    let place = Place::new();
    let (one, other) = (place.bus().await, place.bus().await);
    one.queue::<u8>("queue").put(&1).await.expect("put");
    one.close().await.expect("closed");
    other.close().await.expect("closed");
    assert!(place.file().exists());
    let bus = place.bus().await;
    assert_eq!(bus.queue::<u8>("queue").get().await.expect("an item"), 1);
    bus.close().await.expect("closed");
    assert!(!place.file().exists());
}

#[tokio::test]
async fn items_outlive_a_restart_of_the_system_where_they_lie_on_a_disk() {
    let place = Place::new();
    let bus = place.bus().await;
    let queue = bus.queue::<u8>("queue");
    queue.put_many(&[1, 2]).await.expect("put");
    let held = queue.claim().await.expect("an item");
    // As after a restart: those who were there are not, and their locks are as they were left.
    use std::os::unix::fs::FileExt;
    let file = std::fs::OpenOptions::new().write(true).open(place.file()).expect("it is ours");
    file.write_all_at(&[7; 8], 24).expect("written");
    // Between its two halves it has a hole.
    let size = file.metadata().expect("it is there").len();
    let parts = [(0, 3 << 20), (512 << 20, size - (512 << 20))];
    let copy = parts.map(|(at, length)| {
        let mut part = vec![0; usize::try_from(length).expect("it is short")];
        let read = std::fs::File::open(place.file()).expect("it is ours");
        read.read_exact_at(&mut part, at).expect("read");
        (at, part)
    });
    std::mem::forget(held);
    bus.close().await.expect("closed");
    let _ = std::fs::remove_file(place.file());
    let file = std::fs::File::create(place.file()).expect("it is ours");
    file.set_len(size).expect("it is ours");
    copy.iter().for_each(|(at, part)| file.write_all_at(part, *at).expect("written"));
    std::fs::set_permissions(place.file(), PermissionsExt::from_mode(0o600)).expect("it is ours");

    let bus = place.bus().await;
    let queue = bus.queue::<u8>("queue");
    for (item, deliveries) in [(1, 2), (2, 1)] {
        let delivery = queue.claim_timeout(Duration::from_secs(60)).await.expect("claims");
        let delivery = delivery.expect("an item");
        assert_eq!((*delivery, delivery.deliveries()), (item, deliveries));
        delivery.ack().await.expect("acknowledged");
    }
}
