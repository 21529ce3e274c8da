//! A master, its replicas and the sentinels that watch them: processes of a test's own.
//!
//! The one invariant: all of them die with their [`Watched`]. Sentinels are told to look often, where
//! they take it, so that a failover takes a second or two.

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::{Answer, Place, Raw, RedisServer};

/// Nothing here takes as long unless it hangs.
const GUARD: Duration = Duration::from_secs(180);
/// What the sentinels call the master.
const NAME: &str = "mymaster";

/// A sentinel, which ends with the test.
pub struct Sentinel {
    place: Place,
    port: u16,
    file: PathBuf,
    process: Child,
}

impl Sentinel {
    /// Starts one that is configured by these lines, on a free port.
    pub fn start(lines: &[String]) -> Self {
        Self::start_at(&Place::here(), lines)
    }

    /// The same in another network.
    fn start_at(place: &Place, lines: &[String]) -> Self {
        let (port, address) = (place.free_port(), &place.address);
        let name = format!("pymq-sentinel-{}-{port}.conf", std::process::id());
        let file = std::env::temp_dir().join(name);
        let socket = file.with_extension("socket");
        let mut text = format!("port {port}\nbind {address}\n{}\n", lines.join("\n"));
        if !place.is_here() {
            text += &format!("unixsocket {}\nsentinel announce-ip {address}\n", socket.display());
        }
        std::fs::write(&file, text).expect("the folder is writable");
        let binary = std::env::var("REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned());
        let mut command = place.command(&binary);
        let process = command
            .arg(&file)
            .arg("--sentinel")
            .stdout(Stdio::null())
            .spawn()
            .expect("a redis-server is there");
        let sentinel = Self { place: place.clone(), port, file, process };
        until("the sentinel listens", || match place.is_here() {
            true => TcpStream::connect(("127.0.0.1", port)).is_ok(),
            // It is made in the moment in which it begins to listen.
            false => socket.exists(),
        });
        sentinel
    }

    /// Its TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A plain connection, which is there whatever becomes of the network.
    pub fn raw(&self) -> Raw {
        match self.place.is_here() {
            true => Raw::connect(self.port),
            false => Raw::open(&self.file.with_extension("socket")),
        }
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        // Errors say that it is gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_file(&self.file);
        let _ = std::fs::remove_file(self.file.with_extension("socket"));
    }
}

/// One master, two replicas, three sentinels.
pub struct Watched {
    pub nodes: Vec<RedisServer>,
    pub sentinels: Vec<Sentinel>,
    /// The sentinel that is cut off from the others, and not asked.
    absent: Option<usize>,
}

impl Watched {
    /// Starts all; returns when everybody knows everybody.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with further arguments of the servers.
    pub fn start_with(arguments: &[&str]) -> Self {
        Self::start_at(&vec![Place::here(); 6], arguments)
    }

    /// The same at six places: three for the servers, and three for the sentinels.
    pub fn start_at(places: &[Place], arguments: &[&str]) -> Self {
        let (places, seats) = places.split_at(3);
        let node = |place: &Place, more: &[&str]| {
            let common =
                ["--repl-diskless-sync-delay", "0", "--replica-announce-ip", &place.address];
            RedisServer::start_at(place, &[&common, arguments, more].concat())
        };
        let mut nodes = vec![node(&places[0], &[])];
        let master = format!("{} {}", nodes[0].address(), nodes[0].port());
        nodes.extend(places[1..].iter().map(|place| node(place, &["--replicaof", &master])));
        let lines = [
            format!("sentinel monitor {NAME} {master} 2"),
            format!("sentinel down-after-milliseconds {NAME} 1000"),
            format!("sentinel failover-timeout {NAME} 10000"),
            format!("sentinel parallel-syncs {NAME} 2"),
        ];
        let sentinels: Vec<_> = seats.iter().map(|seat| Sentinel::start_at(seat, &lines)).collect();
        for sentinel in &sentinels {
            // Not all of their periods: one that pings so often takes what a replica said a second ago
            // for too old, and one that announces itself so often takes a promotion back. Those before
            // 7.0 do not take it, and are slower.
            let often = ["info-period", "ask-period"];
            let words = often.iter().flat_map(|what| [*what, "100"]);
            let debug: Vec<_> = ["SENTINEL", "DEBUG"].into_iter().chain(words).collect();
            sentinel.raw().run(&debug);
        }
        let watched = Self { nodes, sentinels, absent: None };
        watched.until_whole();
        watched
    }

    /// The address of the master, by way of the sentinels.
    pub fn url(&self) -> String {
        let host = |one: &Sentinel| format!("{}:{}", one.place.address, one.port);
        let hosts: Vec<_> = self.sentinels.iter().map(host).collect();
        format!("redis+sentinel://{}/{NAME}", hosts.join(","))
    }

    /// Which node the sentinels call the master.
    pub fn master(&self) -> usize {
        let named = self.present().find_map(|one| self.named_by(one));
        named.expect("a sentinel knows the master")
    }

    /// From now on that sentinel is not asked, which is cut off from the others, or all are.
    pub fn set_absent(&mut self, sentinel: Option<usize>) {
        self.absent = sentinel;
    }

    fn present(&self) -> impl Iterator<Item = &Sentinel> {
        let all = self.sentinels.iter().enumerate();
        all.filter(|(number, _)| self.absent != Some(*number)).map(|(_, one)| one)
    }

    fn named_by(&self, sentinel: &Sentinel) -> Option<usize> {
        let place = sentinel.raw().run(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME]);
        let port: u16 = place.texts().get(1)?.parse().ok()?;
        self.nodes.iter().position(|node| node.port() == port)
    }

    /// Kills the master with SIGKILL; returns which one it was.
    pub fn kill_master(&mut self) -> usize {
        let master = self.master();
        self.nodes[master].kill();
        master
    }

    /// Has the sentinels make another node the master; returns when they have.
    pub fn fail_over(&self) {
        let before = self.master();
        let leader = &self.sentinels[0];
        until("a failover is done", || {
            if self.named_by(leader) == Some(before) {
                // Refused while one goes on, and while no replica is good enough.
                leader.raw().run(&["SENTINEL", "FAILOVER", NAME]);
            }
            self.named_by(leader) != Some(before)
        });
        self.until_moved(before);
    }

    /// Makes a master of before a replica at once; the sentinels take their time for it.
    pub fn demote(&self, node: usize) {
        let number = self.master();
        // It may be the one once more.
        if number != node {
            let (master, port) = (&self.nodes[number], self.nodes[number].port().to_string());
            self.nodes[node].raw().run(&["REPLICAOF", master.address(), &port]);
        }
    }

    /// Returns when all sentinels that are asked name another master than that node.
    pub fn until_moved(&self, before: usize) {
        until("another master is named", || {
            self.present().all(|one| self.named_by(one).is_some_and(|now| now != before))
        });
    }

    /// Starts a node that was killed again, as a replica of the master.
    pub fn rejoin(&mut self, node: usize) {
        let master = &self.nodes[self.master()];
        let master = format!("{} {}", master.address(), master.port());
        let server = &mut self.nodes[node];
        server.set_argument("--replicaof", &master);
        server.restart();
    }

    /// Returns when the master has its two replicas, and the sentinels agree on that.
    pub fn until_whole(&self) {
        until("the master has its replicas and sentinels", || {
            let master = self.master();
            let info = self.nodes[master].raw().run(&["INFO", "replication"]).text();
            info.contains("role:master")
                && info.matches("state=online").count() == 2
                && self.sentinels.iter().all(|one| self.is_ready(one, master))
        });
    }

    /// Whether a sentinel knows that master, both replicas as such, and both other sentinels.
    fn is_ready(&self, sentinel: &Sentinel, master: usize) -> bool {
        let words = sentinel.raw().run(&["SENTINEL", "MASTER", NAME]).texts();
        let field = |name: &str| {
            let at = words.iter().position(|word| word == name)?;
            words.get(at + 1).map(String::as_str)
        };
        let replicas = match sentinel.raw().run(&["SENTINEL", "REPLICAS", NAME]) {
            Answer::List(replicas) => replicas,
            _ => Vec::new(),
        };
        let linked = |replica: &Answer| {
            let words = replica.texts();
            let at = words.iter().position(|word| word == "master-link-status");
            at.and_then(|at| words.get(at + 1)).is_some_and(|status| status == "ok")
                && words.contains(&"slave".to_owned())
        };
        self.named_by(sentinel) == Some(master)
            && field("flags") == Some("master")
            && field("num-other-sentinels") == Some("2")
            && replicas.iter().filter(|replica| linked(replica)).count() == 2
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let guard = Instant::now() + GUARD;
    while !holds() {
        assert!(Instant::now() < guard, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
