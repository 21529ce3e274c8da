//! A bus and its I/O thread, shared by everything that is made from it.
//!
//! The one invariant: the thread ends at [`close`](crate::bus::Bus), or with the last who has a share.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::runtime::{Closing, Runtime};

/// How long the last words to the broker may take when a bus was dropped unclosed.
const FAREWELL: Duration = Duration::from_secs(1);

/// A bus and its thread, shared by everything made from it.
pub(crate) struct Connection {
    runtime: Arc<Runtime>,
    bus: pymq::Bus,
}

impl Connection {
    pub(crate) fn new(runtime: Arc<Runtime>, bus: pymq::Bus) -> Arc<Self> {
        Arc::new(Self { runtime, bus })
    }

    pub(crate) fn runtime(&self) -> &Arc<Runtime> {
        &self.runtime
    }

    pub(crate) fn bus(&self) -> &pymq::Bus {
        &self.bus
    }

    /// Orders the end of everything; `then` is run when it has come, last of all on the thread.
    pub(crate) fn order_end(&self, within: Duration, then: impl FnOnce() + Send + 'static) {
        let now = Instant::now();
        let until = now.checked_add(within).unwrap_or(now + Duration::from_secs(86_400));
        self.runtime.end_with(Closing { bus: self.bus.clone(), until, then: Box::new(then) });
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.order_end(FAREWELL, || {});
    }
}
