//! Commands: words in, the bytes that a server reads out.
//!
//! The one invariant: a command is encoded once, and what is in a word never matters, since its
//! length stands before it. How many answers belong to it is known here and nowhere else.

use bytes::{BufMut, BytesMut};

/// A command: a name and words.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    words: usize,
    body: Vec<u8>,
}

impl Command {
    /// A command of that name.
    pub(crate) fn new(name: &str) -> Self {
        Self::with_room(name, 0)
    }

    /// The same with room for that many bytes of words.
    pub(crate) fn with_room(name: &str, bytes: usize) -> Self {
        let body = Vec::with_capacity(name.len() + bytes + 64);
        Self { words: 0, body }.arg(name)
    }

    /// Appends a word.
    pub(crate) fn arg(mut self, word: impl AsRef<[u8]>) -> Self {
        self.push(word.as_ref());
        self
    }

    /// Appends words.
    pub(crate) fn args<T: AsRef<[u8]>>(mut self, words: impl IntoIterator<Item = T>) -> Self {
        words.into_iter().for_each(|word| self.push(word.as_ref()));
        self
    }

    /// Appends a number.
    pub(crate) fn number(self, number: impl TryInto<i64>) -> Self {
        self.arg(number.try_into().unwrap_or(i64::MAX).to_string())
    }

    fn push(&mut self, word: &[u8]) {
        self.words += 1;
        put_word(&mut self.body, word);
    }
}

/// What is sent for one command.
pub(crate) trait Written: Sync {
    /// Appends it.
    fn write(&self, to: &mut BytesMut);
}

impl Written for Command {
    fn write(&self, to: &mut BytesMut) {
        header(to, b'*', self.words);
        to.extend_from_slice(&self.body);
    }
}

/// A command of words that lie elsewhere: they are copied once, to where the socket writes from.
pub(crate) struct Words<'a, const COUNT: usize>(pub(crate) [&'a [u8]; COUNT]);

impl<const COUNT: usize> Written for Words<'_, COUNT> {
    fn write(&self, to: &mut BytesMut) {
        to.reserve(self.0.iter().map(|word| word.len() + LONGEST_HEADER).sum());
        header(to, b'*', COUNT);
        for word in self.0 {
            put_word(to, word);
        }
    }
}

/// Several commands that go in one write.
#[derive(Clone, Debug, Default)]
pub(crate) struct Batch {
    commands: usize,
    bytes: Vec<u8>,
}

impl FromIterator<Command> for Batch {
    fn from_iter<T: IntoIterator<Item = Command>>(commands: T) -> Self {
        let mut batch = Self::default();
        batch.extend(commands);
        batch
    }
}

impl Extend<Command> for Batch {
    fn extend<T: IntoIterator<Item = Command>>(&mut self, commands: T) {
        for command in commands {
            self.commands += 1;
            header(&mut self.bytes, b'*', command.words);
            self.bytes.extend_from_slice(&command.body);
        }
    }
}

impl Batch {
    /// How many commands, and so how many answers.
    pub(super) fn len(&self) -> usize {
        self.commands
    }

    /// Appends what is sent.
    pub(super) fn write(&self, to: &mut BytesMut) {
        to.extend_from_slice(&self.bytes);
    }
}

/// The kind, at most twenty digits, and the end of the line.
const LONGEST_HEADER: usize = 23;

/// Appends a word, and how long it is.
fn put_word(to: &mut impl BufMut, word: &[u8]) {
    header(to, b'$', word.len());
    to.put_slice(word);
    to.put_slice(b"\r\n");
}

/// Appends a kind and a length.
fn header(to: &mut impl BufMut, kind: u8, length: usize) {
    // Written from the last byte on.
    let mut line = [0; LONGEST_HEADER];
    line[21..].copy_from_slice(b"\r\n");
    let (mut left, mut first) = (length, 21);
    loop {
        first -= 1;
        line[first] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    line[first - 1] = kind;
    to.put_slice(&line[first - 1..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(command: &Command) -> Vec<u8> {
        let mut bytes = BytesMut::new();
        command.write(&mut bytes);
        bytes.to_vec()
    }

    #[test]
    fn a_word_may_hold_anything() {
        let command = Command::new("SET").arg("k\r\n$1").arg([0, 255]).number(-7);
        assert_eq!(
            sent(&command),
            b"*4\r\n$3\r\nSET\r\n$5\r\nk\r\n$1\r\n$2\r\n\x00\xff\r\n$2\r\n-7\r\n"
        );
    }

    #[test]
    fn words_are_written_as_those_of_a_command() {
        let (words, mut bytes) = ([&b"PUBLISH"[..], b"a\r\n", b""], BytesMut::new());
        Words(words).write(&mut bytes);
        assert_eq!(bytes, sent(&Command::new("PUBLISH").args(&words[1..])));
    }

    #[test]
    fn lengths_have_all_their_digits() {
        for length in [0, 9, 10, 123_456_789, usize::MAX] {
            let mut line = Vec::new();
            header(&mut line, b'$', length);
            assert_eq!(line, format!("${length}\r\n").as_bytes());
        }
    }

    #[test]
    fn a_batch_is_its_commands_in_a_row() {
        let commands = [Command::new("PING"), Command::new("GET").args(["a", "b"])];
        let batch: Batch = commands.iter().cloned().collect();
        let mut bytes = BytesMut::new();
        batch.write(&mut bytes);
        assert_eq!(bytes, [sent(&commands[0]), sent(&commands[1])].concat());
        assert_eq!(batch.len(), 2);
    }
}
