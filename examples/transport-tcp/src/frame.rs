//! What travels between a client and the server: frames of a head in JSON and parts of bytes.
//!
//! Payloads are parts and are never looked into. Both sides are of one version, so the heads are
//! plain serde types; a protocol that outlives its first version would say which one it speaks.

use std::time::Duration;

use bytes::Bytes;
use pymq::name::{Address, Form};
use pymq::transport::{Filter, QueueSpec, Settlement, Wait};
use pymq::{Error, ErrorKind, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The most that a part, and the most parts that a frame may have: a stranger's bytes must not
/// make us allocate whatever they say.
const LARGEST_PART: u32 = 64 << 20;
const MOST_PARTS: u32 = 1 << 20;

/// A request of a client; its payloads are the frame's other parts.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    Publish {
        topic: String,
    },
    Count {
        topics: Vec<String>,
    },
    PublishCounted {
        topics: Vec<String>,
    },
    Subscribe {
        stream: u64,
        topics: Vec<String>,
        patterns: Vec<String>,
    },
    OpenInbox {
        stream: u64,
        name: String,
        list: bool,
    },
    EndStream {
        stream: u64,
    },
    Send {
        name: String,
        list: bool,
        ttl: Duration,
    },
    Push {
        queue: Queue,
        wait: Option<Duration>,
    },
    Claim {
        queue: Queue,
        limit: usize,
        wait: Option<Duration>,
    },
    Settle {
        queue: Queue,
        lease: u64,
        how: How,
    },
    Extend {
        queue: Queue,
        lease: u64,
        duration: Duration,
    },
    Stats {
        queue: Queue,
    },
    Peek {
        queue: Queue,
        dead: bool,
        limit: usize,
    },
    Purge {
        queue: Queue,
        dead: bool,
    },
    Redrive {
        queue: Queue,
        limit: usize,
    },
    ShutDown {
        queue: Queue,
    },
    /// Give up an operation that waits.
    Cancel {
        request: u64,
    },
    Close,
}

/// What the server says; answers bear the number of their request, arrivals that of their stream.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Said {
    Answer { request: u64, result: Result<serde_json::Value, Failure> },
    Event { stream: u64, topic: String, pattern: Option<String> },
    Letter { stream: u64 },
    Lagged { stream: u64, missed: u64 },
    Ended { stream: u64 },
}

/// A [`QueueSpec`] on its way.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Queue {
    pub(crate) name: String,
    maxsize: usize,
    lease: Duration,
    max_deliveries: u32,
}

impl From<&QueueSpec> for Queue {
    fn from(spec: &QueueSpec) -> Self {
        let QueueSpec { name, maxsize, lease, max_deliveries, .. } = spec.clone();
        Self { name, maxsize, lease, max_deliveries }
    }
}

impl From<Queue> for QueueSpec {
    fn from(queue: Queue) -> Self {
        let Queue { name, maxsize, lease, max_deliveries } = queue;
        let mut spec = Self::new(name);
        (spec.maxsize, spec.lease, spec.max_deliveries) = (maxsize, lease, max_deliveries);
        spec
    }
}

/// A [`Settlement`] on its way.
#[derive(Debug, Serialize, Deserialize)]
#[serde(remote = "Settlement")]
enum SettlementForm {
    Ack,
    Requeue,
    Return,
    Reject,
}

/// A [`Settlement`] that serde can write.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct How(#[serde(with = "SettlementForm")] pub(crate) Settlement);

/// An [`Error`] on its way.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    kind: usize,
    object: String,
    message: String,
}

/// What the server can fail with; a failure travels as its place in this list.
const KINDS: [ErrorKind; 6] = [
    ErrorKind::Server,
    ErrorKind::Closed,
    ErrorKind::Config,
    ErrorKind::Full,
    ErrorKind::LeaseLost,
    ErrorKind::ShutDown,
];

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let kind = KINDS.iter().position(|kind| *kind == error.kind()).unwrap_or(0);
        Self { kind, object: error.object().to_owned(), message: error.message().to_owned() }
    }
}

impl Failure {
    /// The error again; `operation` is the client's word for what it did.
    pub(crate) fn into_error(self, operation: &'static str) -> Error {
        let kind = KINDS.get(self.kind).copied().unwrap_or(ErrorKind::Server);
        Error::new(kind, operation, self.object, self.message)
    }
}

pub(crate) fn address(name: String, list: bool) -> Address {
    Address::new(name, if list { Form::List } else { Form::Inbox })
}

pub(crate) fn filters(topics: Vec<String>, patterns: Vec<String>) -> Vec<Filter> {
    let patterns = patterns.into_iter().map(Filter::Pattern);
    topics.into_iter().map(Filter::Topic).chain(patterns).collect()
}

/// A [`Wait`] holds a moment of this machine's clock: its length travels.
pub(crate) fn wait(left: Option<Duration>) -> Wait {
    match left {
        Some(Duration::ZERO) => Wait::No,
        Some(left) => Wait::at_most(left),
        None => Wait::Forever,
    }
}

/// A frame: how many parts, then each with its length in front; the head is the first.
pub(crate) fn write(head: &impl Serialize, parts: &[Bytes]) -> Result<Bytes> {
    let head = serde_json::to_vec(head).map_err(|error| broken(error.to_string()))?;
    let length = head.len() + parts.iter().map(|part| part.len() + 4).sum::<usize>() + 8;
    let mut frame = Vec::with_capacity(length);
    frame.extend(size(parts.len() + 1, MOST_PARTS)?);
    for part in std::iter::once(&head[..]).chain(parts.iter().map(|part| &part[..])) {
        frame.extend(size(part.len(), LARGEST_PART)?);
        frame.extend_from_slice(part);
    }
    Ok(frame.into())
}

/// The next frame; `None` at the end of the connection. Not cancel-safe: each side has one task
/// that does nothing else.
pub(crate) async fn read<H: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
) -> Result<Option<(H, Vec<Bytes>)>> {
    let lost = |error: std::io::Error| broken(error.to_string());
    let count = match from.read_u32().await {
        Ok(count) => bounded(count, MOST_PARTS)?,
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(lost(error)),
    };
    let mut parts = Vec::new();
    for _ in 0..count {
        let length = bounded(from.read_u32().await.map_err(lost)?, LARGEST_PART)?;
        let mut part = Vec::new();
        let read = from.take(length.into()).read_to_end(&mut part).await.map_err(lost)?;
        if read < length as usize {
            return Err(broken("the connection ended within a frame"));
        }
        parts.push(Bytes::from(part));
    }
    let mut parts = parts.into_iter();
    let head = parts.next().ok_or_else(|| broken("a frame without a head"))?;
    let head = serde_json::from_slice(&head).map_err(|error| broken(error.to_string()))?;
    Ok(Some((head, parts.collect())))
}

fn size(length: usize, most: u32) -> Result<[u8; 4]> {
    let length = u32::try_from(length).map_err(|_| broken("more than four gigabytes"))?;
    Ok(bounded(length, most)?.to_be_bytes())
}

fn bounded(length: u32, most: u32) -> Result<u32> {
    if length > most {
        return Err(broken(format!("a length of {length}, where {most} is the most")));
    }
    Ok(length)
}

pub(crate) fn broken(why: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Decode, "read", "frame", why)
}
