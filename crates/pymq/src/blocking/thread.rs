//! The thread behind a blocking bus: it drives sockets, timers and tasks while others wait.
//!
//! The one invariant: the runtime lives as long as any handle of the bus, so that whatever is polled
//! on another thread finds it. It knows nothing of what is waited for.

use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

use crate::builder::BusBuilder;
use crate::error::{Error, Result};
use crate::transport::unparking_waker;

/// How long the last words to the broker may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// A bus and its thread, shared by everything made from it.
pub(super) struct BusThread {
    bus: crate::Bus,
    thread: Thread,
}

impl BusThread {
    pub(super) fn connect(builder: BusBuilder) -> Result<Arc<Self>> {
        let thread = Thread::start()?;
        let bus = thread.wait(builder.connect())?;
        Ok(Arc::new(Self { bus, thread }))
    }

    pub(super) fn bus(&self) -> &crate::Bus {
        &self.bus
    }

    pub(super) fn wait<F: Future>(&self, future: F) -> F::Output {
        self.thread.wait(future)
    }
}

impl Drop for BusThread {
    fn drop(&mut self) {
        self.thread.end(Some(self.bus.clone()));
    }
}

impl fmt::Debug for BusThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bus.fmt(f)
    }
}

/// A thread with a runtime.
struct Thread {
    handle: Handle,
    id: ThreadId,
    running: Mutex<Option<Running>>,
}

struct Running {
    end: oneshot::Sender<Option<crate::Bus>>,
    thread: JoinHandle<()>,
}

impl Thread {
    fn start() -> Result<Self> {
        let no_thread = |error: std::io::Error| {
            let why = "the system gives no thread; end some, or raise the limit";
            Error::config("thread", why).with_source(error)
        };
        let runtime = Builder::new_current_thread()
            .enable_all()
            .thread_name("pymq-call")
            .build()
            .map_err(no_thread)?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("pymq".to_owned())
            .spawn(move || run(runtime, ended))
            .map_err(no_thread)?;
        let id = thread.thread().id();
        Ok(Self { handle, id, running: Mutex::new(Some(Running { end, thread })) })
    }

    /// Polls on the calling thread; timers and sockets are driven by ours.
    fn wait<F: Future>(&self, future: F) -> F::Output {
        // What it waits for would never come: a panic is an answer to the caller at least.
        assert!(
            thread::current().id() != self.id,
            "an async function of a blocking bus waits on the bus's own thread; \
             expose it with expose_fn, or use the async bus in it"
        );
        let _entered = self.handle.enter();
        let waker = unparking_waker();
        let mut context = Context::from_waker(&waker);
        let mut future = pin!(future);
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return output;
            }
            thread::park();
        }
    }

    /// Says farewell for `bus` and ends; waits for that, except where it is the thread itself that
    /// dropped the last handle.
    fn end(&self, bus: Option<crate::Bus>) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Running { end, thread }) = running else { return };
        // It listens until it is told.
        let _ = end.send(bus);
        if self.id != thread::current().id() {
            // It panics only if a task's own clean-up does, and that has been printed.
            let _ = thread.join();
        }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.end(None);
    }
}

fn run(runtime: Runtime, ended: oneshot::Receiver<Option<crate::Bus>>) {
    runtime.block_on(async {
        let Ok(Some(bus)) = ended.await else { return };
        match tokio::time::timeout(FAREWELL, bus.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the broker was not told of the end"),
            Err(_) => tracing::debug!("the broker did not answer in time at the end"),
        }
    });
    // A function that runs on a thread of the pool is not waited for.
    runtime.shutdown_background();
}
