//! Values: what is accepted, and what spans and serde make of it.

use bytes::Bytes;

use super::Line;
use super::rendering::{Numbers, Rendered, of_serde, of_spans};
use crate::wire::tags;
use crate::{codec, json};

/// What the span reader makes of `data`, as a line; `None` where it refuses it.
///
/// # Panics
/// Where serde reads another value than the spans have, or where a value does not survive its way
/// through the wire.
pub fn check(data: &[u8]) -> Option<Line> {
    let document = json::document(data).ok()?;
    serde_reads_what_the_spans_have(document);
    a_value_survives_its_tags(document);
    of_spans(document, Numbers::Exact)
}

fn serde_reads_what_the_spans_have(document: &[u8]) {
    let read = codec::decode_plain::<Rendered>("value", document).ok().map(|Rendered(line)| line);
    let expected = of_serde(document);
    if expected.as_ref().is_none_or(|line| !has_odd_key(document, line)) {
        assert_eq!(read, expected, "serde reads another value");
    }
}

/// Whether a key may be a lone surrogate, which the spans read as U+FFFD and serde refuses.
fn has_odd_key(document: &[u8], line: &str) -> bool {
    line.contains("sefbfbd:") && document.windows(2).any(|pair| pair == b"\\u")
}

/// A value that is sent comes back as it was, whatever keys it has.
fn a_value_survives_its_tags(document: &[u8]) {
    let sent = tags::escaped(document).unwrap_or_else(|| document.to_vec());
    assert!(json::document(&sent).is_ok() || nearly_too_deep(document), "what is sent is JSON");
    let received = tags::untagged(&sent).unwrap_or(sent);
    assert_eq!(Bytes::from(received), document, "a value is not what it was");
}

/// The wrapping of a value with keys of ours is one level more.
fn nearly_too_deep(document: &[u8]) -> bool {
    json::document(&[b"[", document, b"]"].concat()).is_err()
}
