//! PyMQ.
mod codec;
pub mod error;
mod json;
pub mod name;
pub mod rpc;
pub mod transport;
pub mod wire;

pub use error::{Error, ErrorKind, RemoteError, Result};
