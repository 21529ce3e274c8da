//! Opening a transport: which one an address names, and the runtime that its tasks need.
//!
//! The one invariant: an address that names no transport of this build is an error that says what to use.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

#[cfg(all(feature = "ipc", target_os = "linux"))]
use super::ipc;
#[cfg(feature = "redis")]
use super::redis;
use super::{Settings, State, Transport, memory};
use crate::error::{Error, ErrorKind, Result};
use crate::name;

/// The addresses that errors offer in place of one that names no transport.
const SCHEMES: &str = "memory://, ipc://name or redis://host:port/db";

/// The schemes whose transport this build lacks, each with what an error says of it.
const ABSENT: &[(&str, &str)] = &[
    #[cfg(not(all(feature = "ipc", target_os = "linux")))]
    (
        "ipc://",
        "it needs Linux and the feature \"ipc\"; use redis:// between processes, memory:// within one",
    ),
    #[cfg(not(feature = "redis"))]
    ("redis://", "not compiled in; enable the feature \"redis\""),
];

/// Opens the transport that `url` names by its scheme.
///
/// # Errors
/// As [`connect_with`].
pub async fn connect(url: &str) -> Result<Arc<dyn Transport>> {
    connect_with(url, Settings::default()).await
}

/// Opens the transport that `url` names by its scheme, with more to say.
///
/// # Errors
/// `Config` for an unknown scheme or a malformed address, `Unsupported` for a transport that was
/// not compiled in and for a setting that it cannot honour, and what the transport itself says.
pub async fn connect_with(url: &str, settings: Settings) -> Result<Arc<dyn Transport>> {
    runtime()?;
    let Some((scheme, _)) = url.split_once("://") else {
        return Err(Error::config("address", format!("no scheme; use {SCHEMES}")));
    };
    match family(scheme) {
        "memory" => Ok(Arc::new(memory::Memory::connect_with(url, settings)?)),
        #[cfg(all(feature = "ipc", target_os = "linux"))]
        "ipc" => Ok(Arc::new(ipc::Ipc::connect_with(url, settings).await?)),
        #[cfg(feature = "redis")]
        "redis" => {
            let options = redis::RedisOptions::from_url(url)?.with_settings(settings)?;
            Ok(Arc::new(redis::Redis::with_options(options).await?))
        }
        _ => Err(unopened(scheme)),
    }
}

/// The scheme whose transport opens those of `scheme`, and reads the rest of the address.
fn family(scheme: &str) -> &str {
    let server = scheme.split_once('+').map_or(scheme, |(server, _)| server);
    match server {
        "redis" | "rediss" | "valkey" | "valkeys" => "redis",
        _ => scheme,
    }
}

/// Why no transport of this build opens the addresses of a scheme.
fn unopened(scheme: &str) -> Error {
    let family = family(scheme);
    match ABSENT.iter().find(|(absent, _)| absent.strip_suffix("://") == Some(family)) {
        Some(&(absent, why)) => Error::new(ErrorKind::Unsupported, "connect", absent, why),
        None => Error::config(format!("{scheme}://"), format!("unknown scheme; use {SCHEMES}")),
    }
}

/// The runtime that we are called on, whose tasks do the work.
pub(crate) fn runtime() -> Result<Handle> {
    let runtime = Handle::try_current().map_err(|_| {
        Error::config(
            "bus",
            "a bus is connected within a tokio runtime, whose tasks do its work: use \
             #[tokio::main], Runtime::block_on, or pymq::blocking, which brings one",
        )
    })?;
    // Tokio has no question for it, and says so when it is too late to be told by an error.
    if std::panic::catch_unwind(|| drop(tokio::time::sleep(Duration::ZERO))).is_err() {
        let why = "the tokio runtime has no timers; build it with enable_all()";
        return Err(Error::config("bus", why));
    }
    Ok(runtime)
}

/// Fails outside of a tokio runtime, whose timers keep the time of what is awaited there: any will
/// do. A bus that was closed says that first.
pub(crate) fn check_runtime(
    transport: &dyn Transport,
    operation: &'static str,
    object: &str,
) -> Result<()> {
    if Handle::try_current().is_ok() {
        return Ok(());
    }
    let object = name::shortened(object);
    if transport.states().now() == State::Closed {
        return Err(Error::closed(operation, object));
    }
    let why = "a bus is awaited within a tokio runtime, whose timers it needs: use #[tokio::main], \
               Runtime::block_on, or pymq::blocking, which brings one";
    Err(Error::new(ErrorKind::Config, operation, object, why))
}
