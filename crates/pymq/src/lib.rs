//! PyMQ.
pub mod error;
pub mod name;
pub mod transport;

pub use error::{Error, ErrorKind, RemoteError, Result};
