//! What is sent: a text of 64 bytes as JSON, the same for every side.

/// The text.
pub(crate) fn text() -> String {
    "x".repeat(62)
}

/// The text as it travels.
pub(crate) fn payload() -> Vec<u8> {
    format!("{:?}", text()).into_bytes()
}

/// What a topic or a queue is called on the server.
pub(crate) fn key(name: &str) -> String {
    format!("__eventbus:global:{name}")
}
