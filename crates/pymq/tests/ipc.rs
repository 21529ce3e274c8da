//! Processes of one machine that talk without a server, and are killed at random while they do.
//!
//! A child is this test binary once more, told by its environment what to be. What it has surely done
//! it says in whole lines on its output, which outlive it.
#![cfg(all(feature = "ipc", target_os = "linux"))]

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pymq::transport::Shelf;
use pymq::transport::ipc;
use pymq::{Bus, Error, ErrorKind, PutOptions};

#[path = "place/shared.rs"]
mod shared;

/// What tells a child what it is, and where the bus lies.
const ROLE: &str = "PYMQ_IPC_ROLE";
const PLACE: &str = "PYMQ_IPC_PLACE";
const NUMBER: &str = "PYMQ_IPC_NUMBER";

/// A bus, in a directory of the test's own.
struct Place(shared::Directory);

impl Place {
    fn new() -> Self {
        Self(shared::Directory::new())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn url(&self) -> String {
        self.0.url()
    }

    fn file(&self) -> PathBuf {
        self.path().join("bus")
    }

    async fn bus(&self) -> Bus {
        Bus::connect(&self.url()).await.expect("the bus can be joined")
    }

    async fn refusal(&self) -> Error {
        Bus::connect(&self.url()).await.expect_err("it is refused")
    }

    fn child(&self, role: &str, number: usize) -> Peer {
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let mut process = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "a_child", "--ignored", "--nocapture", "--quiet"])
            .env(ROLE, role)
            .env(PLACE, self.url())
            .env(NUMBER, number.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let output = BufReader::new(process.stdout.take().expect("it is piped"));
        let written = Arc::clone(&lines);
        let reader = std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                written.lock().expect("no panic").push(line);
            }
        });
        Peer { process, lines, reader: Some(reader) }
    }
}

/// A child; killed when it is dropped.
struct Peer {
    process: Child,
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Peer {
    async fn has_said(&self, word: &str) {
        until(word, async || {
            self.lines.lock().expect("no panic").iter().any(|line| line.ends_with(word))
        })
        .await;
    }

    /// Kills it as `kill -9` does, and says what it had said.
    fn kill(&mut self) -> Vec<String> {
        let ended = self.process.try_wait().expect("it is a child of ours");
        self.process.kill().expect("it is a child of ours");
        self.process.wait().expect("it ends");
        if let Some(reader) = self.reader.take() {
            reader.join().expect("no panic");
        }
        let lines = std::mem::take(&mut *self.lines.lock().expect("no panic"));
        let by_itself = ended.filter(|_| !std::thread::panicking());
        assert!(by_itself.is_none(), "a child ended by itself: {ended:?} {lines:?}");
        lines
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if self.reader.is_some() {
            self.kill();
        }
    }
}

async fn until(what: &str, mut asked: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !asked().await {
        assert!(begun.elapsed() < Duration::from_secs(60), "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
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

#[test]
#[ignore = "a child of the tests here"]
fn a_child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let place = std::env::var(PLACE).expect("the parent says it");
    let number = std::env::var(NUMBER).expect("the parent says it").parse().expect("a number");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.expect("a runtime").block_on(async {
        let bus = Bus::connect(&place).await?;
        match role.as_str() {
            "producer" => produce(&bus, number).await,
            "consumer" => consume(&bus).await,
            "talker" => talk(&place, number).await,
            "listener" => listen(&bus).await,
            "holder" => hold(&bus).await,
            "sleeper" => hold_in_vain(&bus).await,
            "server" => serve(&bus).await,
            "stranger" => stay_a_while(&bus).await,
            other => panic!("no such role: {other}"),
        }
    });
    if let Err(error) = done {
        say(format!("error {error}"));
    }
}

/// An item that tells if it is torn: whose it is, its number, and that many more bytes.
fn item(producer: usize, number: usize) -> String {
    let filling = "x".repeat((producer * 7919 + number * 104_729) % 3000);
    format!("{producer} {number} {} {filling}", filling.len())
}

fn read(item: &str) -> (usize, usize) {
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

async fn listen(bus: &Bus) -> pymq::Result<()> {
    let _events = bus.topic::<String>("news").subscribe().await?;
    say("listening".to_owned());
    std::future::pending().await
}

async fn hold(bus: &Bus) -> pymq::Result<()> {
    let queue = bus.queue::<String>("held");
    let _held = (queue.claim().await?, queue.claim().await?);
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

#[tokio::test]
async fn two_processes_publish_queue_and_call_without_a_server() {
    let place = Place::new();
    let bus = place.bus().await;
    let server = place.child("server", 0);
    server.has_said("serving").await;
    assert_eq!(bus.stub::<_, i64>("sum").call((2, 3)).await.expect("a result"), 5);

    let listener = place.child("listener", 0);
    listener.has_said("listening").await;
    let received = bus.topic("news").publish(&"hello".to_owned()).await.expect("published");
    assert_eq!(received, Some(1));

    let producer = place.child("producer", 7);
    let first = bus.queue::<String>("items").get().await.expect("an item");
    assert_eq!(read(&first), (7, 0));
    drop(producer);
}

#[tokio::test]
async fn a_subscriber_that_is_killed_is_not_counted_any_more() {
    let place = Place::new();
    let bus = place.bus().await;
    let mut listener = place.child("listener", 0);
    listener.has_said("listening").await;
    let news = bus.topic::<&str>("news");
    assert_eq!(news.publish(&"hello").await.expect("published"), Some(1));
    listener.kill();
    assert_eq!(news.publish(&"hello").await.expect("published"), Some(0));
}

#[tokio::test]
async fn a_call_ends_when_its_provider_is_killed() {
    let place = Place::new();
    let bus = place.bus().await;
    let mut server = place.child("server", 0);
    server.has_said("serving").await;
    let called = {
        let bus = bus.clone();
        tokio::spawn(async move { bus.stub::<_, i64>("endless").call(()).await })
    };
    server.has_said("called").await;
    server.kill();
    let ended = tokio::time::timeout(Duration::from_secs(60), called).await.expect("it ends");
    let error = ended.expect("no panic").expect_err("nobody answers");
    assert_eq!(error.kind(), ErrorKind::ProviderLost, "{error}");
}

#[tokio::test]
async fn a_call_to_all_names_those_who_are_killed_in_it() {
    let place = Place::new();
    let bus = place.bus().await;
    let mut servers = [place.child("server", 0), place.child("server", 1)];
    for server in &servers {
        server.has_said("serving").await;
    }
    let called = {
        let bus = bus.clone();
        tokio::spawn(async move { bus.stub::<_, i64>("endless").call_all(()).await })
    };
    for server in &mut servers {
        server.has_said("called").await;
        server.kill();
    }
    let ended = tokio::time::timeout(Duration::from_secs(60), called).await.expect("it ends");
    let replies = ended.expect("no panic").expect("it was sent");
    let kinds: Vec<_> =
        replies.into_iter().map(|reply| reply.result.map_err(|e| e.kind())).collect();
    assert_eq!(kinds, [Err(ErrorKind::ProviderLost), Err(ErrorKind::ProviderLost)]);
    // Nobody is waited for who is gone for good.
    let nobody = bus.stub::<_, i64>("endless").call(()).await.expect_err("nobody is there");
    assert_eq!(nobody.kind(), ErrorKind::NoSuchRemote);
}

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
async fn items_outlive_every_process_that_used_the_bus() {
    let place = Place::new();
    let mut producer = place.child("producer", 1);
    producer.has_said("put 1 99").await;
    let put = producer.kill().iter().filter(|line| line.starts_with("put ")).count();
    let bus = place.bus().await;
    let queue = bus.queue::<String>("items");
    for number in 0..put {
        assert_eq!(read(&queue.get().await.expect("an item")), (1, number));
    }
}

/// How long the storm lasts, in seconds.
fn length() -> Duration {
    let told = std::env::var("PYMQ_IPC_STORM").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(told.unwrap_or(3))
}

/// What was surely done, of all that were killed.
#[derive(Default)]
struct Tally {
    put: HashSet<(usize, usize)>,
    got: HashMap<(usize, usize), usize>,
    kills: HashMap<&'static str, usize>,
}

impl Tally {
    fn note(&mut self, lines: &[String]) {
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            let number = |place: usize| words[place].parse::<usize>().expect("a number");
            match words[0] {
                "put" => drop(self.put.insert((number(1), number(2)))),
                "got" => *self.got.entry((number(1), number(2))).or_default() += 1,
                "error" => panic!("a child failed: {line}"),
                _ => {}
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_doubled_torn_or_hung_when_anyone_is_killed_at_any_moment() {
    const ROLES: [&str; 6] = ["producer", "producer", "consumer", "consumer", "talker", "talker"];
    let place = Place::new();
    let witness = place.bus().await;
    let mut talk = witness.pattern::<String>("talk.*").await.expect("subscribed");
    let heard = tokio::spawn(async move {
        let mut heard = 0;
        while let Some(event) = talk.recv().await {
            // Who cannot keep up loses events and is told; what comes is whole.
            if let Ok((_, event)) = event {
                read(&event);
                heard += 1;
            }
        }
        heard
    });
    let mut tally = Tally::default();
    let mut next = 0;
    let mut start = |role: &'static str| {
        next += 1;
        (role, place.child(role, next))
    };
    let mut peers: Vec<_> = ROLES.into_iter().map(&mut start).collect();
    let (begun, mut chance) = (Instant::now(), seed());
    while begun.elapsed() < length() {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        tokio::time::sleep(Duration::from_millis((chance >> 60) * 3)).await;
        let victim = (chance >> 33) as usize % peers.len();
        let (role, peer) = &mut peers[victim];
        tally.note(&peer.kill());
        *tally.kills.entry(role).or_default() += 1;
        let role = *role;
        peers[victim] = start(role);
    }
    // The producers go first, so that the others are killed in the middle of their work too.
    peers.sort_by_key(|(role, _)| *role != "producer");
    for (_, mut peer) in peers {
        tally.note(&peer.kill());
    }
    witness.close().await.expect("closed");
    let heard = heard.await.expect("no panic");

    // All are dead; what is left is there for whoever comes.
    let bus = place.bus().await;
    let queue = bus.queue::<String>("items").max_deliveries(0);
    while let Some(delivery) =
        queue.claim_timeout(Duration::from_millis(300)).await.expect("claims")
    {
        *tally.got.entry(read(&delivery)).or_default() += 1;
        delivery.ack().await.expect("acknowledged");
    }
    let stats = queue.stats().await.expect("stats");
    assert_eq!((stats.unfinished(), stats.dead), (0, 0));
    assert!(tally.put.len() > 100 && heard > 100, "{} put, {heard} heard", tally.put.len());
    assert!(tally.kills.len() == 3, "{:?}", tally.kills);

    let lost: Vec<_> = tally.put.iter().filter(|item| !tally.got.contains_key(item)).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    // Who is killed between its work and its acknowledgement has done it, and another does it again.
    let again: usize = tally.got.values().map(|times| times - 1).sum();
    let consumers = tally.kills["consumer"] + 2;
    assert!(again <= consumers, "{again} came again, {consumers} consumers were killed");
    // One put at most of each producer was not told of.
    let untold = tally.got.keys().filter(|item| !tally.put.contains(item)).count();
    assert!(untold <= tally.kills["producer"] + 2, "{untold} came that nobody had put");
}

fn seed() -> u64 {
    let told = std::env::var("PYMQ_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    told.unwrap_or_else(|| std::process::id().into())
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
async fn what_others_can_get_at_is_refused() {
    let place = Place::new();
    let bus = place.bus().await;
    let mode = |path: &Path| path.metadata().expect("it is there").permissions().mode() & 0o777;
    assert_eq!((mode(place.path()), mode(&place.file())), (0o700, 0o600));
    let allow = |path: &Path, mode| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("it is ours");
    };
    allow(place.path(), 0o770);
    assert_eq!(place.refusal().await.kind(), ErrorKind::Config);
    allow(place.path(), 0o700);
    allow(&place.file(), 0o644);
    assert_eq!(place.refusal().await.kind(), ErrorKind::Config);
    allow(&place.file(), 0o600);
    place.bus().await;
    drop(bus);
}

#[tokio::test]
async fn a_link_is_refused_and_not_followed() {
    let (place, elsewhere) = (Place::new(), Place::new());
    elsewhere.bus().await.queue::<u8>("queue").put(&1).await.expect("put");
    symlink(elsewhere.path(), place.path()).expect("a link");
    assert_eq!(place.refusal().await.kind(), ErrorKind::Config);
    std::fs::remove_file(place.path()).expect("it is there");
    std::fs::create_dir(place.path()).expect("a directory");
    std::fs::set_permissions(place.path(), PermissionsExt::from_mode(0o700)).expect("it is ours");
    symlink(elsewhere.file(), place.file()).expect("a link");
    let error = place.refusal().await;
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
}

#[tokio::test]
async fn a_file_that_is_no_bus_of_this_version_is_refused_and_left_as_it_is() {
    let place = Place::new();
    let bus = place.bus().await;
    bus.queue::<u8>("queue").put(&1).await.expect("put");
    // A file that is cut short ends every process that still has it mapped.
    bus.close().await.expect("closed");
    let overwrite = |at: u64, bytes: &[u8]| {
        use std::os::unix::fs::FileExt;
        let file = std::fs::OpenOptions::new().write(true).open(place.file()).expect("it is ours");
        file.write_all_at(bytes, at).expect("written");
    };
    overwrite(8, &[99]);
    let error = place.refusal().await;
    assert!(error.message().contains("another version"), "{error}");
    overwrite(8, &[3]);
    overwrite(16, &[99]);
    assert!(place.refusal().await.message().contains("C library"));
    overwrite(0, b"something");
    assert!(place.refusal().await.message().contains("no bus"));
    std::fs::write(place.file(), b"short").expect("written");
    assert!(place.refusal().await.message().contains("no bus"));
    assert_eq!(std::fs::read(place.file()).expect("read"), b"short");
}

#[tokio::test]
async fn a_damaged_file_is_an_error_and_neither_a_signal_nor_a_hang() {
    use std::os::unix::fs::FileExt;
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
        end_of_a_stranger(&place);
        whole.write_all_at(&head, 0).expect("written");
        whole.write_all_at(&[0; 64], 1 << 20).expect("written");
    }
    for length in [size - 4096, 512 << 20, (1 << 20) + 8, 4096, 64, 0] {
        whole.set_len(length).expect("it is ours");
        end_of_a_stranger(&place);
    }
}

/// Another process uses the bus and ends by itself, with whatever error.
fn end_of_a_stranger(place: &Place) {
    let mut stranger = place.child("stranger", 0);
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = stranger.process.try_wait().expect("it is a child of ours") {
            break status;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "a stranger hangs");
        std::thread::sleep(Duration::from_millis(2));
    };
    if let Some(reader) = stranger.reader.take() {
        reader.join().expect("no panic");
    }
    assert!(status.success(), "{status}: {:?}", stranger.lines.lock().expect("no panic"));
}

/// Whether this test may do what only the administrator may.
fn is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").expect("it is there")) == 0
}

#[tokio::test]
async fn what_belongs_to_another_user_is_refused() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let bus = place.bus().await;
    bus.queue::<u8>("queue").put(&1).await.expect("put");
    bus.close().await.expect("closed");
    let give =
        |path: &Path, user| std::os::unix::fs::chown(path, Some(user), None).expect("root may");
    for path in [place.file(), place.path().to_owned()] {
        give(&path, 65_534);
        let error = place.refusal().await;
        assert!(error.message().contains("another user"), "{error}");
        give(&path, 0);
    }
    assert_eq!(place.bus().await.queue::<u8>("queue").get().await.expect("an item"), 1);
}

#[tokio::test]
async fn where_nothing_can_be_written_it_is_said_and_a_directory_in_place_of_the_file_too() {
    let place = Place::new();
    std::fs::create_dir(place.path()).expect("a directory");
    std::fs::set_permissions(place.path(), PermissionsExt::from_mode(0o700)).expect("it is ours");
    std::fs::create_dir(place.file()).expect("a directory");
    assert_eq!(place.refusal().await.kind(), ErrorKind::Connection);
    std::fs::remove_dir(place.file()).expect("it is empty");
    let mount = |words: &[&str]| Command::new("mount").args(words).arg(place.path()).status();
    let words = ["-t", "tmpfs", "-o", "ro,mode=0700", "pymq-tests"];
    if !is_root() || !mount(&words).is_ok_and(|status| status.success()) {
        return;
    }
    let error = place.refusal().await;
    let _ = Command::new("umount").arg(place.path()).status();
    assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
    assert!(error.message().contains("Read-only"), "{error}");
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
        let delivery = queue.claim_timeout(Duration::from_secs(1)).await.expect("claims");
        let delivery = delivery.expect("an item");
        assert_eq!((*delivery, delivery.deliveries()), (item, deliveries));
        delivery.ack().await.expect("acknowledged");
    }
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
async fn addresses_that_mean_nothing_are_refused() {
    let long = format!("ipc://{}", "é".repeat(100));
    for url in ["ipc://", "ipc://name?option=1", "ipc://name#part", "ipc://\0", &long] {
        let error = Bus::connect(url).await.expect_err(url);
        assert_eq!(error.kind(), ErrorKind::Config, "{url}");
    }
}

#[tokio::test]
async fn any_name_of_a_bus_is_one_directory_below_our_own() {
    for odd in ["..", ".hidden", "a/b", "ä ö", "%41", "."] {
        let name = format!("{odd}-{}", std::process::id());
        let name = if odd == "a/b" { name } else { format!("{odd}{name}") };
        let (one, other) = {
            let url = format!("ipc://{name}");
            (Bus::connect(&url).await.expect(odd), Bus::connect(&url).await.expect(odd))
        };
        one.queue::<u8>("queue").put(&1).await.expect("put");
        assert_eq!(other.queue::<u8>("queue").get().await.expect("an item"), 1);
        one.close().await.expect("closed");
        other.close().await.expect("closed");
    }
}

#[tokio::test]
async fn what_a_dead_consumer_held_comes_back_to_the_head_and_counted() {
    let place = Place::new();
    let bus = place.bus().await;
    let queue = bus.queue::<String>("held");
    queue.put_many(&[item(0, 0), item(0, 1), item(0, 2)]).await.expect("put");
    let mut holder = place.child("holder", 0);
    holder.has_said("holding").await;
    assert_eq!(queue.stats().await.expect("stats").leased, 2);
    holder.kill();
    until("the death to be noticed", async || {
        queue.stats().await.is_ok_and(|stats| stats.leased == 0)
    })
    .await;
    for (number, deliveries) in [(0, 2), (1, 2), (2, 1)] {
        let delivery = queue.claim().await.expect("an item");
        assert_eq!((read(&delivery), delivery.deliveries()), ((0, number), deliveries));
        delivery.ack().await.expect("acknowledged");
    }
}

#[tokio::test]
async fn what_a_stopped_consumer_held_comes_back_when_its_lease_is_over_and_it_is_told() {
    let place = Place::new();
    let bus = place.bus().await;
    let queue = bus.queue::<String>("held");
    queue.put(&item(0, 0)).await.expect("put");
    let sleeper = place.child("sleeper", 0);
    sleeper.has_said("holding").await;
    let signal = |which: &str| {
        let sent = Command::new("kill").args([which, &sleeper.process.id().to_string()]).status();
        assert!(sent.expect("kill can be run").success());
    };
    signal("-STOP");
    let delivery = queue.claim().await.expect("an item");
    assert_eq!((read(&delivery), delivery.deliveries()), ((0, 0), 2));
    delivery.ack().await.expect("it is ours now");
    signal("-CONT");
    sleeper.has_said("late LeaseLost").await;
}
