//! Bytes in, replies and pushes out.
//!
//! The one invariant: nothing is believed before it is checked. A length is compared with its limit
//! before room is made for it, a byte is looked at a bounded number of times however it arrives, and
//! after the first malformed byte nothing more is read. Large payloads are slices of what was read, not
//! copies; small ones are copies, since a slice that is kept keeps all that was read with it.

use bytes::{Buf, Bytes, BytesMut};

use super::header::{
    Decoded, LONGEST_LINE, Malformed, end_of_string, length, line, number, pairs, short_header,
    shown,
};
use super::push::Push;
use super::reply::Reply;
use crate::transport::redis::refusal::Refusal;

/// What a server may send at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of one string. A message has 16 MiB at most; programs of others may put more, which is
    /// refused above the transport, with a word to the user.
    pub(crate) string: usize,
    /// Bytes of one reply, its items' book-keeping included.
    pub(crate) reply: usize,
    /// Aggregates in one another.
    pub(crate) depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { string: 128 << 20, reply: 1 << 30, depth: 16 }
    }
}

/// What an item of an aggregate costs beside its bytes.
const ITEM: usize = size_of::<Reply>();
/// What is smaller is copied: a read makes room for twice as much, which a slice would keep.
const SMALL: usize = 16 << 10;
/// The most items that room is made for at once, whatever a header says.
const ROOM: usize = 1024;

/// One thing that a server sent.
#[derive(Debug, PartialEq)]
pub(crate) enum Frame {
    /// The answer to the oldest command without one.
    Reply(Reply),
    /// Something unasked.
    Push(Push),
}

/// What was read and is not understood yet.
#[derive(Debug)]
pub(crate) struct Decoder {
    buffer: BytesMut,
    limits: Limits,
    /// Aggregates that are not complete, the outermost first.
    open: Vec<Open>,
    /// What the open aggregates hold, in bytes.
    weight: usize,
    /// How much has to be there before another look is worth it.
    need: usize,
    /// The names of the last event, since the next one is mostly of the same.
    names: [Bytes; 2],
}

/// An aggregate that is not complete.
#[derive(Debug)]
struct Open {
    kind: Kind,
    left: usize,
    items: Vec<Reply>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    List,
    Push,
    /// Says something about the value that comes after it; nobody here wants to know.
    Attribute,
}

/// The next thing in the buffer.
enum Item {
    Value(Reply),
    Open(Kind, usize),
}

impl Decoder {
    pub(crate) fn new(limits: Limits) -> Self {
        let (buffer, names) = (BytesMut::new(), [const { Bytes::new() }; 2]);
        Self { buffer, limits, open: Vec::new(), weight: 0, need: 1, names }
    }

    /// Where what is read is to be appended; there is room for some.
    pub(crate) fn room(&mut self, at_least: usize) -> &mut BytesMut {
        let missing = self.need.saturating_sub(self.buffer.len());
        self.buffer.reserve(missing.max(at_least));
        &mut self.buffer
    }

    /// The next thing that has arrived whole.
    ///
    /// # Errors
    /// Once, then for ever: what follows has no meaning.
    pub(crate) fn next(&mut self) -> Decoded<Frame> {
        while self.buffer.len() >= self.need {
            if self.open.is_empty()
                && let Some(push) = self.event()?
            {
                return Ok(Some(Frame::Push(push)));
            }
            if self.buffer.len() < self.need {
                break;
            }
            let Some(item) = self.item()? else { break };
            if let Some(frame) = self.fold(item)? {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    /// An event, taken whole: nearly all that a subscriber reads are events, and this is the way
    /// without book-keeping. `None` where it is something else, or not all of it is there.
    fn event(&mut self) -> Decoded<Push> {
        const MESSAGE: &[u8] = b">3\r\n$7\r\nmessage\r\n";
        const PATTERN_MESSAGE: &[u8] = b">4\r\n$8\r\npmessage\r\n";
        let (strings, begin) = if self.buffer.starts_with(MESSAGE) {
            (2, MESSAGE.len())
        } else if self.buffer.starts_with(PATTERN_MESSAGE) {
            (3, PATTERN_MESSAGE.len())
        } else {
            return Ok(None);
        };
        let mut parts = [(0, 0); 3];
        let mut at = begin;
        for part in &mut parts[..strings] {
            let (length, after) = match short_header(&self.buffer, at) {
                Some((length, after)) if length <= self.limits.string => (length, after),
                _ => match self.header(at)? {
                    Some(header) => header,
                    None => return Ok(None),
                },
            };
            *part = (after, after + length);
            at = after + length + 2;
            if self.buffer.len() < at {
                self.need = at;
                return Ok(None);
            }
            end_of_string(&self.buffer, after + length)?;
        }
        self.need = 1;
        Ok(Some(if strings == 2 {
            let topic = self.name(0, parts[0]);
            Push::Message { topic, payload: self.cut_event(at, parts[1]) }
        } else {
            let (pattern, topic) = (self.name(0, parts[0]), self.name(1, parts[1]));
            Push::PatternMessage { pattern, topic, payload: self.cut_event(at, parts[2]) }
        }))
    }

    /// A name in the buffer, once for all events that have it and follow each other.
    fn name(&mut self, number: usize, (from, to): (usize, usize)) -> Bytes {
        let (name, known) = (&self.buffer[from..to], &mut self.names[number]);
        if known[..] != *name {
            *known = Bytes::copy_from_slice(name);
        }
        known.clone()
    }

    /// Takes an event, which the buffer begins with; its payload.
    fn cut_event(&mut self, length: usize, (from, to): (usize, usize)) -> Bytes {
        if length >= SMALL {
            return self.buffer.split_to(length).freeze().slice(from..to);
        }
        let payload = Bytes::copy_from_slice(&self.buffer[from..to]);
        self.buffer.advance(length);
        payload
    }

    /// The length of an event's part, and where that begins.
    fn header(&mut self, at: usize) -> Decoded<(usize, usize)> {
        let Some((line, after)) = line(&self.buffer, at)? else {
            self.need = self.buffer.len() + 1;
            return Ok(None);
        };
        if line.first() != Some(&b'$') {
            return Err(Malformed("an event that is made of other things than strings".into()));
        }
        let length = self.string_length(&line[1..])?.unwrap_or_default();
        Ok(Some((length, after)))
    }

    /// The next value, or the beginning of an aggregate.
    fn item(&mut self) -> Decoded<Item> {
        let Some((line, after)) = line(&self.buffer, 0)? else {
            self.need = self.buffer.len() + 1;
            return Ok(None);
        };
        let Some((&kind, rest)) = line.split_first() else {
            return Err(Malformed("an empty line".into()));
        };
        let value = match kind {
            b'+' | b',' | b'(' => {
                let words = after - 2;
                let line = self.buffer.split_to(after).freeze();
                self.need = 1;
                return Ok(Some(Item::Value(Reply::Bytes(line.slice(1..words)))));
            }
            b'-' => Item::Value(refused(rest)),
            b':' => Item::Value(Reply::Number(number(rest)?)),
            b'#' => Item::Value(Reply::Number(i64::from(rest == b"t"))),
            b'_' => Item::Value(Reply::Nothing),
            b'*' | b'~' => match length(rest)? {
                Some(items) => Item::Open(Kind::List, items),
                None => Item::Value(Reply::Nothing),
            },
            b'%' => Item::Open(Kind::List, pairs(rest)?),
            b'|' => Item::Open(Kind::Attribute, pairs(rest)?),
            b'>' => Item::Open(Kind::Push, length(rest)?.unwrap_or_default()),
            b'$' | b'=' | b'!' => {
                let Some(length) = self.string_length(rest)? else {
                    self.buffer.advance(after);
                    self.need = 1;
                    return Ok(Some(Item::Value(Reply::Nothing)));
                };
                return self.string(kind, after, length);
            }
            _ => return Err(Malformed(format!("a reply of the unknown kind {}", shown(line)))),
        };
        self.buffer.advance(after);
        self.need = 1;
        Ok(Some(value))
    }

    /// Takes what the buffer begins with.
    fn cut(&mut self, length: usize) -> Bytes {
        if length >= SMALL {
            return self.buffer.split_to(length).freeze();
        }
        let copy = Bytes::copy_from_slice(&self.buffer[..length]);
        self.buffer.advance(length);
        copy
    }

    /// The string that begins at `from`.
    fn string(&mut self, kind: u8, from: usize, length: usize) -> Decoded<Item> {
        let whole = from + length + 2;
        if self.buffer.len() < whole {
            self.need = whole;
            return Ok(None);
        }
        end_of_string(&self.buffer, from + length)?;
        let bytes = self.cut(whole).slice(from..from + length);
        self.need = 1;
        Ok(Some(Item::Value(match kind {
            b'!' => refused(&bytes),
            // "txt:" or "mkd:" before the text.
            b'=' => Reply::Bytes(bytes.slice(4.min(bytes.len())..)),
            _ => Reply::Bytes(bytes),
        })))
    }

    /// The length of a string, if it is no null.
    fn string_length(&self, digits: &[u8]) -> Decoded<usize> {
        match length(digits)? {
            Some(length) if length > self.limits.string => {
                let most = self.limits.string;
                Err(Malformed(format!("a string of {length} bytes; {most} are read at most")))
            }
            length => Ok(length),
        }
    }

    /// Adds an item to the aggregate that it belongs to; what is complete by that is given out.
    fn fold(&mut self, item: Item) -> Decoded<Frame> {
        let (mut kind, mut value) = match item {
            Item::Value(value) => (Kind::List, value),
            Item::Open(kind, 0) => (kind, Reply::List(Vec::new())),
            Item::Open(kind, left) => {
                self.begin(kind, left)?;
                return Ok(None);
            }
        };
        loop {
            if self.open.is_empty() {
                self.weight = 0;
            }
            match kind {
                // As if it had not been there.
                Kind::Attribute => return Ok(None),
                // A push may stand between a reply's parts, and belongs to none.
                Kind::Push => return Ok(Some(Frame::Push(Push::of(value.items())))),
                Kind::List => {}
            }
            let Some(open) = self.open.last_mut() else { return Ok(Some(Frame::Reply(value))) };
            self.weight += ITEM + weight(&value);
            if self.weight > self.limits.reply {
                let most = self.limits.reply;
                return Err(Malformed(format!("a reply of more than {most} bytes")));
            }
            open.items.push(value);
            open.left -= 1;
            if open.left > 0 {
                return Ok(None);
            }
            kind = open.kind;
            value = Reply::List(std::mem::take(&mut open.items));
            self.open.pop();
        }
    }

    fn begin(&mut self, kind: Kind, left: usize) -> Result<(), Malformed> {
        if self.open.len() >= self.limits.depth {
            let most = self.limits.depth;
            return Err(Malformed(format!("a reply of more than {most} levels")));
        }
        if left.saturating_mul(ITEM) > self.limits.reply {
            return Err(Malformed(format!("an aggregate of {left} items")));
        }
        self.open.push(Open { kind, left, items: Vec::with_capacity(left.min(ROOM)) });
        Ok(())
    }
}

/// What its bytes cost; an aggregate's were counted as its items came.
fn weight(value: &Reply) -> usize {
    match value {
        Reply::Bytes(bytes) => bytes.len(),
        Reply::Refused(_) => LONGEST_LINE,
        Reply::Nothing | Reply::Number(_) | Reply::List(_) => 0,
    }
}

fn refused(words: &[u8]) -> Reply {
    Reply::Refused(Refusal::new(String::from_utf8_lossy(words)))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use redis::Value;

    use super::*;

    /// Small enough to be met by a test.
    const LIMITS: Limits = Limits { string: 100, reply: 10_000, depth: 4 };

    /// What comes out of `bytes` when they arrive in portions of `size`.
    fn decoded(bytes: &[u8], size: usize) -> Result<Vec<Frame>, Malformed> {
        let mut decoder = Decoder::new(LIMITS);
        let mut frames = Vec::new();
        for portion in bytes.chunks(size.max(1)) {
            decoder.room(1).extend_from_slice(portion);
            while let Some(frame) = decoder.next()? {
                frames.push(frame);
            }
        }
        Ok(frames)
    }

    fn only(bytes: &[u8]) -> Frame {
        let mut frames = decoded(bytes, bytes.len()).expect("well-formed");
        assert_eq!(frames.len(), 1, "{frames:?}");
        frames.remove(0)
    }

    fn malformed(bytes: &[u8]) -> String {
        decoded(bytes, bytes.len()).expect_err("it is malformed").0
    }

    fn text(words: &'static str) -> Reply {
        Reply::Bytes(Bytes::from_static(words.as_bytes()))
    }

    #[test]
    fn every_kind_of_reply_is_understood() {
        let cases: [(&[u8], Reply); 14] = [
            (b"+OK\r\n", text("OK")),
            (b"-ERR no such thing\r\n", Reply::Refused(Refusal::new("ERR no such thing"))),
            (b":-42\r\n", Reply::Number(-42)),
            (b"$3\r\na\r\n\r\n", text("a\r\n")),
            (b"$0\r\n\r\n", text("")),
            (b"$-1\r\n", Reply::Nothing),
            (b"_\r\n", Reply::Nothing),
            (b"#t\r\n", Reply::Number(1)),
            (b",3.5\r\n", text("3.5")),
            (b"(123456789012345678901\r\n", text("123456789012345678901")),
            (b"=6\r\ntxt:hi\r\n", text("hi")),
            (b"!7\r\nERR big\r\n", Reply::Refused(Refusal::new("ERR big"))),
            (b"*0\r\n", Reply::List(vec![])),
            (b"%1\r\n+k\r\n*2\r\n:1\r\n~1\r\n_\r\n", {
                let inner = vec![Reply::Number(1), Reply::List(vec![Reply::Nothing])];
                Reply::List(vec![text("k"), Reply::List(inner)])
            }),
        ];
        for (bytes, reply) in cases {
            assert_eq!(only(bytes), Frame::Reply(reply));
        }
    }

    #[test]
    fn what_is_small_keeps_nothing_else_that_was_read_with_it() {
        let bytes = b">3\r\n$7\r\nmessage\r\n$1\r\nt\r\n$2\r\nhi\r\n$3\r\nabc\r\n:1\r\n";
        let mut decoder = Decoder::new(LIMITS);
        decoder.room(1 << 15).extend_from_slice(bytes);
        let Ok(Some(Frame::Push(Push::Message { payload, .. }))) = decoder.next() else {
            panic!("an event comes first");
        };
        let Ok(Some(Frame::Reply(Reply::Bytes(string)))) = decoder.next() else {
            panic!("then comes a string");
        };
        assert!(payload.is_unique() && string.is_unique());
    }

    #[test]
    fn an_attribute_is_as_if_it_were_not_there() {
        let bytes = b"|1\r\n+ttl\r\n:3\r\n*2\r\n:1\r\n|1\r\n+a\r\n+b\r\n:2\r\n";
        let list = Reply::List(vec![Reply::Number(1), Reply::Number(2)]);
        assert_eq!(only(bytes), Frame::Reply(list));
    }

    #[test]
    fn pushes_are_told_from_replies_wherever_they_stand() {
        let bytes = b">3\r\n$7\r\nmessage\r\n$1\r\nt\r\n$2\r\nhi\r\n\
                      :1\r\n>4\r\n$8\r\npmessage\r\n$2\r\nt*\r\n$2\r\ntx\r\n$0\r\n\r\n\
                      >3\r\n$9\r\nsubscribe\r\n$1\r\nt\r\n:1\r\n>1\r\n+invalidate\r\n";
        let part = Bytes::from_static;
        let message = Push::Message { topic: part(b"t"), payload: part(b"hi") };
        let caught =
            Push::PatternMessage { pattern: part(b"t*"), topic: part(b"tx"), payload: part(b"") };
        let frames = [
            Frame::Push(message),
            Frame::Reply(Reply::Number(1)),
            Frame::Push(caught),
            Frame::Push(Push::Confirmed),
            Frame::Push(Push::Other),
        ];
        for size in 1..bytes.len() {
            assert_eq!(decoded(bytes, size).expect("well-formed"), frames);
        }
    }

    #[test]
    fn what_is_too_large_is_refused_before_it_is_read() {
        assert!(malformed(b"$101\r\n").contains("101 bytes"));
        assert!(malformed(b"$9223372036854775807\r\n").contains("bytes"));
        assert!(malformed(b"*1000000000\r\n").contains("1000000000 items"));
        assert!(malformed(b"%9223372036854775807\r\n").contains("items"));
        assert!(malformed(b">3\r\n$7\r\nmessage\r\n$1\r\nt\r\n$101\r\n").contains("101 bytes"));
        assert!(malformed(&b"*1\r\n".repeat(5)).contains("4 levels"));
        let long = [
            b"*100\r\n".to_vec(),
            [b"$100\r\n", [b'x'; 100].as_slice(), b"\r\n"].concat().repeat(100),
        ];
        assert!(malformed(&long.concat()).contains("more than 10000 bytes"));
        assert!(malformed(&[b'+'; LONGEST_LINE + 1]).contains("without an end"));
    }

    #[test]
    fn what_is_no_protocol_is_refused() {
        for bytes in [
            &b"$-5\r\n"[..],
            b"*-2\r\n",
            b":\r\n",
            b":1x\r\n",
            b"\r\n",
            b"HTTP/1.1 400\r\n",
            b"$1\r\nab\r\n",
            b"+a\rb\r\n",
            b"$?\r\n",
            b">3\r\n$7\r\nmessage\r\n:1\r\n",
        ] {
            malformed(bytes);
        }
    }

    /// The bytes of a value, as a server writes them.
    fn written(value: &Value, to: &mut Vec<u8>) {
        match value {
            Value::Nil => to.extend(b"_\r\n"),
            Value::Int(number) => to.extend(format!(":{number}\r\n").bytes()),
            Value::BulkString(bytes) => {
                to.extend(format!("${}\r\n", bytes.len()).bytes());
                to.extend(bytes);
                to.extend(b"\r\n");
            }
            Value::Array(items) => {
                to.extend(format!("*{}\r\n", items.len()).bytes());
                items.iter().for_each(|item| written(item, to));
            }
            other => unreachable!("not generated: {other:?}"),
        }
    }

    fn as_ours(value: Value) -> Reply {
        match value {
            Value::Int(number) => Reply::Number(number),
            Value::BulkString(bytes) => Reply::Bytes(Bytes::from(bytes)),
            Value::SimpleString(words) => Reply::Bytes(Bytes::from(words)),
            Value::Okay => text("OK"),
            Value::Array(items) | Value::Set(items) => {
                Reply::List(items.into_iter().map(as_ours).collect())
            }
            _ => Reply::Nothing,
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Nil),
            any::<i64>().prop_map(Value::Int),
            vec(any::<u8>(), 0..100).prop_map(Value::BulkString),
        ];
        leaf.prop_recursive(3, 40, 8, |inner| vec(inner, 0..8).prop_map(Value::Array))
    }

    proptest! {
        /// Beside a client that many programs use: the same values, however the bytes arrive.
        #[test]
        fn replies_are_read_as_another_client_reads_them(
            values in vec(value(), 1..5),
            size in 1..200_usize,
        ) {
            let (mut bytes, mut theirs) = (Vec::new(), Vec::new());
            for value in &values {
                let begin = bytes.len();
                written(value, &mut bytes);
                let value = redis::parse_redis_value(&bytes[begin..]).expect("well-formed");
                theirs.push(Frame::Reply(as_ours(value)));
            }
            prop_assert_eq!(decoded(&bytes, size), Ok(theirs));
        }

        /// Whatever a server sends, in whatever portions, means the same and does no harm.
        #[test]
        fn portions_do_not_matter(
            bytes in vec(prop_oneof![
                Just(b'\r'), Just(b'\n'), Just(b'$'), Just(b'*'), Just(b'>'), Just(b'1'), Just(b'3'),
                Just(b'-'), Just(b':'), Just(b'%'), Just(b'|'), any::<u8>(),
            ], 0..200),
            size in 1..200_usize,
        ) {
            let (whole, portions) = (decoded(&bytes, bytes.len()), decoded(&bytes, size));
            prop_assert_eq!(whole, portions);
        }
    }
}
