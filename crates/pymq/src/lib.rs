//! PyMQ.
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod error;
pub mod name;
pub mod transport;

pub use error::{Error, ErrorKind, RemoteError, Result};
