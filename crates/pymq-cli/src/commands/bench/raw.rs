//! The bare server: one blocking socket, or two for what goes to and fro.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use pymq::transport::redis::{RedisEndpoint, RedisOptions};

use super::Work;
use crate::failure::{Exit, Failure};

/// Two connections.
pub(super) struct Raw {
    one: Socket,
    other: Socket,
}

struct Socket(BufReader<TcpStream>);

impl Raw {
    /// Connects barely; nothing where that cannot be done.
    pub(super) fn connect(url: &str) -> Option<Self> {
        let options = RedisOptions::from_url(url).ok()?;
        Some(Self { one: Socket::connect(&options)?, other: Socket::connect(&options)? })
    }

    /// How long each operation of a slice took.
    pub(super) fn slice(
        &mut self,
        name: &str,
        work: Work,
        slice: Duration,
    ) -> Result<Vec<Duration>, Failure> {
        self.measure(name, work, slice).map_err(|error| {
            Failure::new(Exit::Connection, format!("the bare connection broke: {error}"))
        })
    }

    fn measure(
        &mut self,
        name: &str,
        work: Work,
        slice: Duration,
    ) -> std::io::Result<Vec<Duration>> {
        let Self { one, other } = self;
        let payload = "{\"id\": 1}";
        // The name alone is a function's, whose provider would wonder.
        let topic = format!("{name}-topic");
        let (list, there, back) =
            (format!("{name}-raw"), format!("{name}-there"), format!("{name}-back"));
        if matches!(work, Work::Call) {
            other.ask(&["SUBSCRIBE", &there])?;
            one.ask(&["SUBSCRIBE", &back])?;
        }
        let (end, mut times) = (Instant::now() + slice, Vec::new());
        while times.is_empty() || Instant::now() < end {
            let begun = Instant::now();
            match work {
                Work::Ping => one.ask(&["PING"])?,
                Work::Publish => one.ask(&["PUBLISH", &topic, payload])?,
                Work::Queue => {
                    one.ask(&["LPUSH", &list, payload])?;
                    one.ask(&["RPOP", &list])?;
                }
                Work::Call => {
                    // Each is told of what it sent itself, and of what the other sends.
                    one.ask(&["PUBLISH", &there, payload])?;
                    other.read()?;
                    other.ask(&["PUBLISH", &back, payload])?;
                    one.read()?;
                }
            }
            times.push(begun.elapsed());
        }
        if matches!(work, Work::Call) {
            other.ask(&["UNSUBSCRIBE", &there])?;
            one.ask(&["UNSUBSCRIBE", &back])?;
        }
        Ok(times)
    }
}

impl Socket {
    fn connect(options: &RedisOptions) -> Option<Self> {
        let RedisEndpoint::Tcp(host, port) = &options.endpoint else { return None };
        if options.settings.tls.is_some() {
            return None;
        }
        let stream = TcpStream::connect((host.as_str(), *port)).ok()?;
        stream.set_nodelay(true).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        let mut socket = Self(BufReader::new(stream));
        let mut hello = vec!["HELLO", "3"];
        if let Some(password) = &options.settings.password {
            hello.extend([
                "AUTH",
                options.settings.username.as_deref().unwrap_or("default"),
                password,
            ]);
        }
        socket.ask(&hello).ok()?;
        socket.ask(&["SELECT", &options.database.to_string()]).ok()?;
        Some(socket)
    }

    /// Sends a command and reads one answer.
    fn ask(&mut self, words: &[&str]) -> std::io::Result<()> {
        let mut command = format!("*{}\r\n", words.len());
        for word in words {
            command.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.0.get_mut().write_all(command.as_bytes())?;
        self.read()
    }

    /// Reads one answer or message and lets go of it.
    fn read(&mut self) -> std::io::Result<()> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let (kind, rest) = line.split_at_checked(1).unwrap_or(("", ""));
        let count = rest.trim().parse::<usize>().unwrap_or_default();
        match kind {
            "-" | "!" => return Err(std::io::Error::other(rest.trim().to_owned())),
            "$" | "=" if !rest.starts_with('-') => {
                let mut bytes = vec![0; count + 2];
                self.0.read_exact(&mut bytes)?;
            }
            "*" | "~" | ">" => (0..count).try_for_each(|_| self.read())?,
            "%" => (0..2 * count).try_for_each(|_| self.read())?,
            _ => {}
        }
        Ok(())
    }
}
