//! A server that is broken from the start, or means harm: whatever it answers, operations end, nobody
//! asks without pause, and memory stays bounded.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pymq::{Bus, Shelf};

/// Half a second, which each operation that takes a time is given.
const SHORT: Duration = Duration::from_millis(500);
/// What hangs takes longer.
const SOON: Duration = Duration::from_secs(60);

/// Fails an attack that hangs; most of its time it waits for answers that never come.
async fn guarded(attack: impl Future<Output = ()>) {
    tokio::time::timeout(Duration::from_secs(300), attack).await.expect("the attack hangs");
}

/// What is answered to a command.
#[derive(Clone, Copy, Debug)]
enum Says {
    /// This, to everything.
    Always(&'static [u8]),
    /// This, to what is neither `HELLO` nor `PING`.
    AfterHello(&'static [u8]),
    /// The first, and then the second for as long as anybody reads.
    Endless(&'static [u8], &'static [u8]),
}

/// A server that counts what it is asked.
struct Broken {
    says: Says,
    asked: AtomicUsize,
}

impl Broken {
    /// Listens for as long as the test runs; says where.
    fn start(says: Says) -> (Arc<Self>, String) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has free ports");
        let port = listener.local_addr().expect("bound").port();
        let broken = Arc::new(Self { says, asked: AtomicUsize::new(0) });
        let shared = Arc::clone(&broken);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let broken = Arc::clone(&shared);
                // Ends with the client.
                std::thread::spawn(move || broken.serve(client));
            }
        });
        (broken, format!("redis://127.0.0.1:{port}?reconnect_wait=1"))
    }

    fn serve(&self, client: TcpStream) -> std::io::Result<()> {
        let mut to = client.try_clone()?;
        let mut from = BufReader::new(client);
        while let Some(command) = read_command(&mut from)? {
            self.asked.fetch_add(1, Ordering::Relaxed);
            self.answer(&mut to, &command)?;
        }
        Ok(())
    }

    fn answer(&self, to: &mut TcpStream, command: &[u8]) -> std::io::Result<()> {
        match (self.says, command) {
            (Says::Always(words), _) => to.write_all(words),
            (_, b"HELLO") => {
                to.write_all(b"%2\r\n$7\r\nversion\r\n$5\r\n7.2.4\r\n$2\r\nid\r\n:5\r\n")
            }
            (_, b"PING") => to.write_all(b"+PONG\r\n"),
            (Says::AfterHello(words), _) => to.write_all(words),
            (Says::Endless(first, then), _) => {
                to.write_all(first)?;
                loop {
                    to.write_all(then)?;
                }
            }
        }
    }
}

/// The first word of the next command; `None` when the client is gone.
fn read_command(from: &mut BufReader<TcpStream>) -> std::io::Result<Option<Vec<u8>>> {
    let mut words = Vec::new();
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let number = |line: &str| line[1..].trim().parse::<usize>().expect("our own command");
    for _ in 0..number(&line) {
        line.clear();
        from.read_line(&mut line)?;
        let mut word = vec![0; number(&line) + 2];
        from.read_exact(&mut word)?;
        word.truncate(word.len() - 2);
        words.push(word);
    }
    Ok(words.into_iter().next())
}

/// An operation that was given half a second ends, however.
async fn soon<T>(what: &str, operation: impl Future<Output = T>) {
    let outcome = tokio::time::timeout(SOON, operation).await;
    assert!(outcome.is_ok(), "{what} does not end");
}

/// Everything that takes a time ends in it.
async fn timed(bus: &Bus) {
    let jobs = bus.queue::<u32>("jobs");
    let bounded = jobs.clone().maxsize(5);
    let stub = bus.stub::<(u32,), u32>("twice").timeout(SHORT);
    soon("put", jobs.put_timeout(&1, SHORT)).await;
    soon("try_put", jobs.try_put(&1)).await;
    soon("put with a limit", bounded.put_timeout(&1, SHORT)).await;
    soon("try_put with a limit", bounded.try_put(&1)).await;
    soon("get", jobs.get_timeout(SHORT)).await;
    soon("try_get", jobs.try_get()).await;
    soon("claim", jobs.claim_timeout(SHORT)).await;
    soon("call", stub.call((1,))).await;
    soon("call_all", stub.call_all((1,))).await;
    soon("ping", bus.ping()).await;
}

/// Everything else ends, too.
async fn untimed(bus: &Bus) {
    let jobs = bus.queue::<u32>("jobs");
    let _ = bus.topic("t").publish(&1).await;
    let _ = bus.topic::<u32>("t").subscribe().await;
    let _ = bus.expose_fn("f", |(): ()| async { Ok::<_, String>(1) }).await;
    let _ = jobs.put(&1).await;
    let _ = jobs.stats().await;
    let _ = jobs.peek(Shelf::Waiting, 10).await;
    let _ = jobs.purge().await;
    let _ = jobs.redrive(usize::MAX).await;
    let _ = jobs.shut_down().await;
}

/// Whoever waits for an item asks a few times a second.
async fn waits_without_asking_for_ever(broken: &Broken, bus: &Bus) {
    let jobs = bus.queue::<u32>("waited for");
    let before = broken.asked.load(Ordering::Relaxed);
    let _ = jobs.get_timeout(Duration::from_secs(3)).await;
    let asked = broken.asked.load(Ordering::Relaxed) - before;
    assert!(asked < 600, "{:?}: {asked} commands in three seconds", broken.says);
}

async fn attack(says: Says) {
    let (broken, url) = Broken::start(says);
    let Ok(bus) = Bus::connect(&url).await else { return };
    guarded(Box::pin(timed(&bus))).await;
    guarded(untimed(&bus)).await;
    guarded(waits_without_asking_for_ever(&broken, &bus)).await;
    guarded(async { bus.close().await.expect("closed") }).await;
}

#[tokio::test]
async fn numbers_that_make_no_sense_end_every_operation() {
    let attacks = [
        Says::Always(b"*3\r\n:-5\r\n:-5\r\n:-5\r\n"),
        Says::AfterHello(b"*3\r\n:-5\r\n:-5\r\n:-5\r\n"),
        Says::AfterHello(b"*3\r\n:1\r\n:1\r\n:1\r\n"),
        Says::AfterHello(b"*3\r\n:0\r\n:0\r\n:1\r\n"),
        Says::AfterHello(b"*3\r\n:9223372036854775807\r\n:0\r\n:0\r\n"),
        Says::AfterHello(b":-5\r\n"),
        Says::AfterHello(b":9223372036854775807\r\n"),
        Says::AfterHello(b"_\r\n"),
        Says::AfterHello(b"*0\r\n"),
        Says::AfterHello(b"$1\r\nx\r\n"),
    ];
    let attacks = attacks.map(|says| tokio::spawn(attack(says)));
    for attack in attacks {
        attack.await.expect("it ends");
    }
}

#[tokio::test]
async fn refusals_for_ever_end_every_operation() {
    let attacks = [
        Says::AfterHello(b"-NOSCRIPT No matching script. Please use EVAL.\r\n"),
        Says::AfterHello(b"-ERR unknown command\r\n"),
        Says::AfterHello(b"-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n"),
        Says::AfterHello(b"-READONLY You can't write against a read only replica.\r\n"),
        Says::AfterHello(b"-LOADING Redis is loading the dataset in memory\r\n"),
        Says::AfterHello(b"-OOM command not allowed when used memory > 'maxmemory'.\r\n"),
        Says::AfterHello(b"-\r\n"),
    ];
    let attacks = attacks.map(|says| tokio::spawn(attack(says)));
    for attack in attacks {
        attack.await.expect("it ends");
    }
}

#[tokio::test]
async fn silence_and_endless_answers_keep_no_operation_beyond_its_time() {
    let attacks = [
        Says::AfterHello(b""),
        Says::AfterHello(b"$8589934592\r\n"),
        Says::Endless(b"$8589934592\r\n", &[b'x'; 4096]),
        Says::Endless(b"*2147483647\r\n", b":1\r\n"),
        Says::Endless(b"+", &[b'x'; 4096]),
        Says::Endless(b"", b"*1\r\n"),
    ];
    for says in attacks {
        let (_broken, url) = Broken::start(says);
        let bus = Bus::connect(&url).await.expect("it says HELLO");
        guarded(Box::pin(timed(&bus))).await;
        guarded(async { bus.close().await.expect("closed") }).await;
    }
}

#[tokio::test]
async fn what_says_nothing_at_all_is_no_server() {
    let (_broken, url) = Broken::start(Says::Always(b""));
    let connecting = Bus::builder(&url).connect_timeout(SHORT).connect();
    let error = connecting.await.expect_err("it says nothing");
    assert_eq!(error.kind(), pymq::ErrorKind::Connection, "{error}");
}
