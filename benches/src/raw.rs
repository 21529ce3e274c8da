//! The raw limit: a hand-written blocking client that does the same commands and nothing else.
//!
//! Commands are encoded before the clock starts, answers are parsed where they lie, TCP_NODELAY is
//! set. It has no dispatch, no time limits and no reconnection: it is what a client of Redis could
//! at best come near to.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::ops::Range;

use crate::Outcome;

/// A command as it is sent.
pub(crate) fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// A connection that speaks RESP2.
pub(crate) struct Raw {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// The bytes in the buffer that were received and not yet parsed.
    unread: Range<usize>,
}

impl Raw {
    /// Connects to `host:port`.
    pub(crate) fn connect(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; 1 << 20], unread: 0..0 })
    }

    /// Sends encoded commands.
    pub(crate) fn write(&mut self, commands: &[u8]) -> io::Result<()> {
        self.stream.write_all(commands)
    }

    /// Does one command and throws its answer away; an error of the server is an error.
    pub(crate) fn run(&mut self, words: &[&[u8]]) -> io::Result<()> {
        self.write(&command(words))?;
        self.next().map(drop)
    }

    /// Sends one encoded command and waits for its answer.
    pub(crate) fn exchange(&mut self, command: &[u8]) -> Outcome<()> {
        self.write(command)?;
        Ok(self.skip(1)?)
    }

    /// Waits for `count` answers.
    pub(crate) fn skip(&mut self, count: usize) -> io::Result<()> {
        (0..count).try_for_each(|_| self.next().map(drop))
    }

    /// Waits for one answer or message; its last string (a message's payload) is what is returned.
    pub(crate) fn next(&mut self) -> io::Result<&[u8]> {
        loop {
            if let Some(last) = self.parse()? {
                return Ok(&self.buffer[last]);
            }
            self.fill()?;
        }
    }

    /// One answer or message that is there already.
    pub(crate) fn next_ready(&mut self) -> io::Result<Option<&[u8]>> {
        Ok(self.parse()?.map(|last| &self.buffer[last]))
    }

    fn parse(&mut self) -> io::Result<Option<Range<usize>>> {
        let received = &self.buffer[..self.unread.end];
        let Some(value) = Value::parse(received, self.unread.start)? else { return Ok(None) };
        self.unread.start = value.end;
        Ok(Some(value.last))
    }

    /// Waits for bytes.
    pub(crate) fn fill(&mut self) -> io::Result<()> {
        if self.unread.is_empty() {
            self.unread = 0..0;
        } else if self.unread.end == self.buffer.len() {
            self.buffer.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
            if self.unread.end == self.buffer.len() {
                self.buffer.resize(self.buffer.len() * 2, 0);
            }
        }
        match self.stream.read(&mut self.buffer[self.unread.end..])? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.unread.end += count;
                Ok(())
            }
        }
    }
}

/// Where a value ends, and where its last string lies.
struct Value {
    end: usize,
    last: Range<usize>,
}

impl Value {
    /// The value at `start`; `None` where it is not all there yet.
    #[inline]
    fn parse(bytes: &[u8], start: usize) -> io::Result<Option<Self>> {
        let mut value = Self { end: start, last: start..start };
        let mut missing: usize = 1;
        while missing > 0 {
            missing -= 1;
            let Some(line) = line(bytes, value.end) else { return Ok(None) };
            let text = line.start + 1..line.end;
            value.end = line.end + 2;
            match bytes[line.start] {
                b'$' => {
                    let Some(length) = number(&bytes[text]) else { continue };
                    value.last = value.end..value.end + length;
                    value.end += length + 2;
                    if value.end > bytes.len() {
                        return Ok(None);
                    }
                }
                b'*' => missing += number(&bytes[text]).unwrap_or(0),
                b'+' | b':' => value.last = text,
                _ => return Err(io::Error::other(String::from_utf8_lossy(&bytes[line]))),
            }
        }
        Ok(Some(value))
    }
}

/// The line at `start`, without its end; `None` where the end is not there yet.
#[inline]
fn line(bytes: &[u8], start: usize) -> Option<Range<usize>> {
    let length = bytes.get(start..)?.iter().position(|byte| *byte == b'\r')?;
    (start + length + 1 < bytes.len()).then_some(start..start + length)
}

/// A length; `None` is the nil of RESP2.
#[inline]
fn number(digits: &[u8]) -> Option<usize> {
    if digits.first() == Some(&b'-') {
        return None;
    }
    Some(digits.iter().fold(0, |number, digit| number * 10 + usize::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &[u8] = b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$4\r\na\r\nb\r\n";

    #[test]
    fn a_message_is_parsed_to_its_payload_once_it_is_whole() {
        let value = Value::parse(MESSAGE, 0).expect("no error").expect("a whole message");
        assert_eq!((&MESSAGE[value.last], value.end), (&b"a\r\nb"[..], MESSAGE.len()));
        for length in 0..MESSAGE.len() {
            assert!(Value::parse(&MESSAGE[..length], 0).expect("no error").is_none());
        }
    }

    #[test]
    fn numbers_nils_and_errors_are_told_apart() {
        let number = Value::parse(b":12\r\n", 0).expect("no error").expect("whole");
        assert_eq!(&b":12\r\n"[number.last], b"12");
        let nil = Value::parse(b"$-1\r\n", 0).expect("no error").expect("whole");
        assert_eq!(nil.end, 5);
        assert!(Value::parse(b"-ERR no\r\n", 0).is_err());
    }

    #[test]
    fn commands_are_arrays_of_strings() {
        assert_eq!(command(&[b"GET", b"k"]), b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n");
    }
}
