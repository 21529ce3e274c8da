//! A server that answers nonsense: nothing is taken for an answer, memory stays bounded, and the
//! next connection serves.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pymq::{Bus, ErrorKind};

use crate::LARGE;
use crate::place::guarded;
use crate::place::server::RedisServer;

/// What stands between a program and its server.
#[derive(Default)]
struct Between {
    /// Answers go on byte by byte.
    split: bool,
    /// Sent in place of the next answer, and then nothing more on that connection.
    poison: Mutex<Option<Vec<u8>>>,
    poisoned: AtomicUsize,
}

impl Between {
    fn poison(&self) -> MutexGuard<'_, Option<Vec<u8>>> {
        self.poison.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens for as long as the test runs; says where.
    fn start(self: &Arc<Self>, server: &RedisServer) -> String {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has free ports");
        let port = listener.local_addr().expect("bound").port();
        let (between, upstream) = (Arc::clone(self), server.port());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", upstream)) else { continue };
                between.join(client, server);
            }
        });
        format!("redis://127.0.0.1:{port}/0")
    }

    fn join(self: &Arc<Self>, client: TcpStream, server: TcpStream) {
        client.set_nodelay(true).expect("TCP has no delay option");
        let mut asking = client.try_clone().expect("a socket can be cloned");
        let mut asked = server.try_clone().expect("a socket can be cloned");
        std::thread::spawn(move || {
            // Both ends of a copy may go at any time: that is the end of it.
            let _ = std::io::copy(&mut asking, &mut asked);
            let _ = asked.shutdown(Shutdown::Both);
        });
        let between = Arc::clone(self);
        std::thread::spawn(move || {
            let _ = between.answer(server, &client);
            let _ = client.shutdown(Shutdown::Both);
        });
    }

    fn answer(&self, mut server: TcpStream, mut client: &TcpStream) -> std::io::Result<()> {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let length = server.read(&mut buffer)?;
            if length == 0 {
                return Ok(());
            }
            let poison = self.poison().take();
            if let Some(poison) = poison {
                // Before it can be seen.
                self.poisoned.fetch_add(1, Ordering::Relaxed);
                client.write_all(&poison)?;
                // From here on silence, as if the rest were on its way.
                while server.read(&mut buffer)? > 0 {}
                return Ok(());
            }
            match self.split {
                false => client.write_all(&buffer[..length])?,
                true => buffer[..length].iter().try_for_each(|byte| client.write_all(&[*byte]))?,
            }
        }
    }
}

/// The largest that this process has ever been, in MiB.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is there");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a peak is told");
    let kib: usize = line.split_whitespace().nth(1).expect("a number").parse().expect("a number");
    kib >> 10
}

/// One of everything.
async fn serve(bus: &Bus) -> pymq::Result<()> {
    let mut events = bus.topic::<String>("t").subscribe().await?;
    bus.topic("t").publish(&"event".to_owned()).await?;
    while events
        .recv()
        .await
        .expect("the bus is open")
        .is_err_and(|e| e.kind() == ErrorKind::Lagged)
    {}
    bus.queue("q").put(&"item".to_owned()).await?;
    assert_eq!(bus.queue::<String>("q").get().await?, "item");
    let twice = |(a,): (i64,)| async move { Ok::<_, String>(2 * a) };
    let _service = bus.expose_fn("twice", twice).await?;
    assert_eq!(bus.stub::<_, i64>("twice").call((4,)).await?, 8);
    Ok(())
}

#[tokio::test]
async fn answers_that_come_byte_by_byte_are_whole() {
    let server = RedisServer::start();
    let between = Arc::new(Between { split: true, ..Between::default() });
    let bus = Bus::connect(&between.start(&server)).await.expect("connected");
    guarded(async {
        for _ in 0..5 {
            serve(&bus).await.expect("served");
        }
    })
    .await;
}

#[tokio::test]
async fn nonsense_in_place_of_an_answer_is_an_error_and_the_next_connection_serves() {
    const NONSENSE: [&[u8]; 18] = [
        b"$9999999999\r\nx",
        b"$-5\r\n",
        b"$x\r\n",
        b"*1000000000\r\n:1\r\n",
        b"*-7\r\n",
        b"*9223372036854775807\r\n",
        b"%1000000000\r\n+a\r\n",
        b"%-3\r\n",
        b"~1000000000\r\n",
        b">1000000000\r\n",
        b"|1\r\n+a\r\n+b\r\n",
        b"!9999999999\r\n",
        b"!-3\r\n",
        b"=9999999999\r\n",
        b"(99999999999999999999999999\r\n",
        b":99999999999999999999999999\r\n",
        b"\x00\xff\xfe",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ];
    let server = RedisServer::start();
    let _alone = LARGE.lock().await;
    let before = peak();
    let attacks = NONSENSE.map(|nonsense| tokio::spawn(attack(between_of(&server), nonsense)));
    for attack in attacks {
        attack.await.expect("an attack does no harm");
    }
    assert!(peak() - before < 512, "{} MiB more", peak() - before);
}

fn between_of(server: &RedisServer) -> (Arc<Between>, String) {
    let between = Arc::<Between>::default();
    let url = between.start(server);
    (between, url)
}

async fn attack((between, url): (Arc<Between>, String), nonsense: &'static [u8]) {
    let told = nonsense.escape_ascii().to_string();
    // A namespace has no colon.
    let space = pymq::Namespace::new(&told.replace(':', "."));
    let bus = Bus::connect_in(&url, space).await.expect("connected");
    guarded(async {
        serve(&bus).await.expect(&told);
        *between.poison() = Some(nonsense.to_vec());
        // Whichever connection got it: what waits there ends, and nonsense is nobody's count.
        let counted = bus.topic("nobody").publish(&1).await;
        assert!(matches!(counted, Ok(Some(0) | None) | Err(_)), "{told}: {counted:?}");
        // Another connection than the one that was counted on may have got it, a little later.
        while between.poisoned.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    guarded(async {
        while let Err(error) = serve(&bus).await {
            assert!(error.kind() != ErrorKind::Decode, "{told}: {error}");
        }
    })
    .await;
    bus.close().await.expect("closed");
}
