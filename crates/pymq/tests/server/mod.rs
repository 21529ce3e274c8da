//! A real redis-server of a test's own: started on a free port, killed, stopped and started again.
//!
//! The one invariant: the process dies with its [`RedisServer`], whatever the test does. It also
//! holds a plain blocking connection, [`Raw`], for looking at the server behind the library's back;
//! it knows nothing of PyMQ.
#![allow(
    dead_code,
    unreachable_pub,
    missing_debug_implementations,
    reason = "each test binary uses its own part of this module"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub mod clustered;
pub mod watched;

/// Where a server runs: here, or in a network of its own on this machine.
#[derive(Clone, Debug)]
pub struct Place {
    /// What starts a program there.
    pub way: Vec<String>,
    /// Under which address it is known to those who are there.
    pub address: String,
}

impl Place {
    /// On this machine, for this machine.
    pub fn here() -> Self {
        Self { way: Vec::new(), address: "127.0.0.1".to_owned() }
    }

    fn is_here(&self) -> bool {
        self.way.is_empty()
    }

    /// A port that nobody listens on there. No two servers in other networks have the same one, so that it
    /// says which of them is meant.
    fn free_port(&self) -> u16 {
        static LAST: AtomicU16 = AtomicU16::new(7000);
        if self.is_here() { free_port() } else { LAST.fetch_add(1, Ordering::Relaxed) }
    }

    /// A program that starts there.
    fn command(&self, program: &str) -> Command {
        let mut words = self.way.iter().map(String::as_str).chain([program]);
        let mut command = Command::new(words.next().unwrap_or(program));
        command.args(words);
        command
    }
}

/// A redis-server that belongs to one test.
pub struct RedisServer {
    place: Place,
    port: u16,
    folder: PathBuf,
    arguments: Vec<String>,
    process: Option<Child>,
}

impl RedisServer {
    /// Starts a server on a free port; returns when it answers.
    ///
    /// The binary is `$REDIS_SERVER`, or `redis-server` on the path.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// [`start`](Self::start) with further arguments of the server, e.g. `--requirepass secret`.
    pub fn start_with(arguments: &[&str]) -> Self {
        Self::start_at(&Place::here(), arguments)
    }

    /// The same in another network.
    pub fn start_at(place: &Place, arguments: &[&str]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder =
            std::env::temp_dir().join(format!("pymq-redis-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        // Another process may take the port between our asking for it and the server's binding:
        // then the server ends at once, and another port is tried.
        for _ in 0..20 {
            let mut server = Self {
                place: place.clone(),
                port: place.free_port(),
                folder: folder.clone(),
                arguments: Vec::clone(&arguments),
                process: None,
            };
            if server.spawn() {
                return server;
            }
            std::mem::forget(server);
        }
        panic!("no redis-server could be started; set REDIS_SERVER to its path");
    }

    /// The address for `Redis::connect`, database 0.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Its TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address at which others find it.
    pub fn address(&self) -> &str {
        &self.place.address
    }

    /// Kills the server with SIGKILL; the port stays reserved for [`restart`](Self::restart).
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("our own child can be killed");
            process.wait().expect("a killed child ends");
        }
    }

    /// Kills the server if it lives and starts it again on the same port, empty.
    pub fn restart(&mut self) {
        self.kill();
        let deadline = Instant::now() + Duration::from_secs(180);
        while !self.spawn() {
            assert!(Instant::now() < deadline, "port {} stayed taken", self.port);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// From the next [`restart`](Self::restart) on it is started with that argument, whatever it was
    /// before.
    fn set_argument(&mut self, name: &str, value: &str) {
        match self.arguments.iter().position(|argument| argument == name) {
            Some(at) => self.arguments[at + 1] = value.to_owned(),
            None => self.arguments.extend([name.to_owned(), value.to_owned()]),
        }
    }

    /// Stops the process as a debugger does (SIGSTOP): sockets stay open, nothing answers.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// Lets a paused process go on (SIGCONT).
    pub fn resume(&self) {
        self.signal("CONT");
    }

    /// Whether it was started and not killed since.
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Takes the server's folder away: whatever it saves from now on fails.
    pub fn lose_folder(&self) {
        std::fs::remove_dir_all(&self.folder).expect("it is there");
    }

    /// A plain connection to look at the server with; it is there whatever becomes of the network.
    pub fn raw(&self) -> Raw {
        match self.place.is_here() {
            true => Raw::connect(self.port),
            false => Raw::open(&self.socket()),
        }
    }

    /// Where it listens beside its port, if that is in another network.
    fn socket(&self) -> PathBuf {
        self.folder.join("socket")
    }

    fn signal(&self, name: &str) {
        let process = self.process.as_ref().expect("the server is running");
        let done = Command::new("kill")
            .args([format!("-{name}"), process.id().to_string()])
            .status()
            .expect("kill(1) is there");
        assert!(done.success());
    }

    /// Starts the process; `false` when it ended at once, i.e. the port was taken.
    fn spawn(&mut self) -> bool {
        let log = self.folder.join(format!("{}.log", self.port));
        let _ = std::fs::remove_file(&log);
        let binary = std::env::var("REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned());
        let mut command = self.place.command(&binary);
        if !self.place.is_here() {
            command.args(["--protected-mode", "no", "--unixsocket"]).arg(self.socket());
        }
        let process = command
            .args(["--port", &self.port.to_string(), "--bind", &self.place.address])
            // Nothing here that the oldest server we serve does not know.
            .args(["--save", "", "--appendonly", "no"])
            .arg("--dir")
            .arg(&self.folder)
            .arg("--logfile")
            .arg(&log)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {binary}: {error}; set REDIS_SERVER"));
        // Before the tests, where we may: that a server stands still is for them to bring about.
        let _ = Command::new("renice")
            .args(["-n", "-10", "-p", &process.id().to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        let process = self.process.insert(process);
        let deadline = Instant::now() + Duration::from_secs(180);
        loop {
            // Its own log says so; that somebody answers on the port does not: it may be another.
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            if log.contains("Ready to accept connections") {
                return true;
            }
            if !matches!(process.try_wait(), Ok(None)) {
                self.process = None;
                return false;
            }
            assert!(Instant::now() < deadline, "redis-server does not open its port");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // A stopped process dies of SIGKILL too. Errors say that it is gone already.
            let _ = process.kill();
            let _ = process.wait();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A port of this machine that nobody listens on.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has free ports");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// What a server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// `+`, or a bulk string.
    Text(Vec<u8>),
    /// `:`.
    Number(i64),
    /// `*`.
    List(Vec<Answer>),
    /// Nil.
    Nothing,
    /// `-`.
    Error(String),
}

impl Answer {
    /// The text, as UTF-8.
    pub fn text(&self) -> String {
        match self {
            Self::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            other => panic!("expected a text, the server said {other:?}"),
        }
    }

    /// The number.
    pub fn number(&self) -> i64 {
        match self {
            Self::Number(number) => *number,
            other => panic!("expected a number, the server said {other:?}"),
        }
    }

    /// The texts of a list.
    pub fn texts(&self) -> Vec<String> {
        match self {
            Self::List(items) => items.iter().map(Self::text).collect(),
            other => panic!("expected a list, the server said {other:?}"),
        }
    }
}

/// What bytes go through.
trait Wire: Read + Write + Send {}

impl<T: Read + Write + Send> Wire for T {}

/// A plain blocking connection that speaks RESP2 and nothing more.
pub struct Raw {
    stream: BufReader<Box<dyn Wire>>,
}

impl Raw {
    /// Connects to a server that listens at a path.
    #[cfg(unix)]
    pub fn open(path: &Path) -> Self {
        let stream = std::os::unix::net::UnixStream::connect(path).expect("the server accepts");
        stream.set_read_timeout(Some(Duration::from_secs(120))).expect("a timeout can be set");
        Self { stream: BufReader::new(Box::new(stream)) }
    }

    /// The same, where there are none.
    #[cfg(not(unix))]
    pub fn open(path: &Path) -> Self {
        panic!("nothing listens at {} on this system", path.display())
    }

    /// Connects to a server on this machine.
    pub fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the server accepts");
        stream.set_nodelay(true).expect("TCP has no delay option");
        stream.set_read_timeout(Some(Duration::from_secs(120))).expect("a timeout can be set");
        Self { stream: BufReader::new(Box::new(stream)) }
    }

    /// Does one command, words as they are.
    pub fn run(&mut self, words: &[&str]) -> Answer {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        self.run_bytes(&words)
    }

    /// Does one command of raw bytes.
    pub fn run_bytes(&mut self, words: &[&[u8]]) -> Answer {
        self.write(words);
        self.read()
    }

    /// Sends a command without reading its answer.
    pub fn write(&mut self, words: &[&[u8]]) {
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            bytes.extend_from_slice(word);
            bytes.extend_from_slice(b"\r\n");
        }
        self.stream.get_mut().write_all(&bytes).expect("the server reads");
    }

    /// Reads one answer, or one message on a subscribed connection.
    pub fn read(&mut self) -> Answer {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("the server answers");
        let line = line.trim_end();
        let (kind, rest) = line.split_at_checked(1).expect("an answer is never empty");
        let length = || rest.parse::<i64>().expect("lengths are numbers");
        match kind {
            "+" => Answer::Text(rest.as_bytes().to_vec()),
            "-" => Answer::Error(rest.to_owned()),
            ":" => Answer::Number(length()),
            "$" if length() < 0 => Answer::Nothing,
            "*" if length() < 0 => Answer::Nothing,
            "$" => {
                let mut bytes = vec![0; length() as usize + 2];
                self.stream.read_exact(&mut bytes).expect("a bulk string is as long as it says");
                bytes.truncate(bytes.len() - 2);
                Answer::Text(bytes)
            }
            "*" => Answer::List((0..length()).map(|_| self.read()).collect()),
            other => panic!("no RESP2 answer begins with {other:?}"),
        }
    }
}
