//! TLS, where it is not compiled in: said to whoever asks for it, before anything is sent.
//!
//! The one invariant: nothing that was to go over TLS ever goes without. What it stands in for is
//! `tls.rs`.

use std::io;

use tokio::net::TcpStream;

use super::options::RedisOptions;
use super::refusal::{Cause, Refusal};
use super::resp::Fault;
use crate::error::{Error, ErrorKind, Result};
use crate::transport::Tls;

const MISSING: &str = "TLS is not compiled in; enable the feature \"tls\"";

/// Refuses options that ask for TLS.
pub(super) fn check(options: &RedisOptions) -> Result<()> {
    Err(Error::new(ErrorKind::Unsupported, "connect", options.shown(), MISSING))
}

/// Refuses.
pub(super) async fn secure(_: TcpStream, _: &str, _: &Tls) -> Result<TcpStream, Fault> {
    Err(Fault::Refused(Refusal::found(Cause::Untrusted, MISSING)))
}

/// There is nothing to explain.
pub(super) fn explain(fault: Fault, _: Option<&io::Error>, _: &Tls) -> Fault {
    fault
}
