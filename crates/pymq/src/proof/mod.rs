//! What must hold of any bytes whatever: the checks that property tests and fuzz targets share.
//!
//! The one invariant: each check takes bytes from anybody, and panics only where this library is
//! wrong. It is compiled for tests and fuzzing, and is no part of what users see; other programs
//! (Python, a Redis server) are compared with in `fuzz/`.

pub mod arguments;
pub mod envelopes;
pub mod globs;
#[cfg(test)]
pub(crate) mod properties;
mod rendering;
pub mod values;

/// A value on one line, so that what different readers made of it can be compared: `n`, `t`, `f`,
/// `i` and an integer, `d` and a float's bits, `s` and a text's bytes, `[…,]`, `{key:value,…}`.
///
/// A text with a lone surrogate, which Rust cannot hold, is written as U+FFFD alone.
pub type Line = String;

pub use rendering::Rendered;
