//! The I/O thread of a bus: it owns the sockets, the timers and every task, and never meets Python.
//!
//! An operation is tried once where it was begun, which is all that most of those in memory need,
//! and goes to the I/O thread if it must wait. The thread ends when the bus is closed or its last
//! handle is dropped; nothing is polled after that, and what still waited there is dropped there.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

/// What an operation does, wherever it runs.
pub(crate) type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// How long threads that look names up may take to end.
const LOOKUPS_END_WITHIN: Duration = Duration::from_millis(500);

/// A thread with a runtime.
pub(crate) struct Runtime {
    handle: Handle,
    /// Read while an operation is tried elsewhere; shut before the runtime goes.
    gate: Arc<RwLock<Gate>>,
    orders: UnboundedSender<Order>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Gate {
    Open,
    Shut,
}

/// An order to close a bus and to end with it.
pub(crate) struct Order {
    pub(crate) bus: pymq::Bus,
    /// How long the closing may take.
    pub(crate) until: Instant,
    /// Run when everything has ended, last of all on the thread.
    pub(crate) then: Box<dyn FnOnce() + Send>,
}

/// How far an operation came where it was begun.
pub(crate) enum Begun<T> {
    /// To its end.
    Done(T),
    /// It goes on without us.
    Running(JoinHandle<T>),
    /// Nowhere: the runtime has ended.
    Closed,
}

impl Runtime {
    pub(crate) fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(2)
            .thread_name("pymq-lookup")
            .thread_keep_alive(Duration::from_millis(100))
            .build()?;
        let handle = runtime.handle().clone();
        let gate = Arc::new(RwLock::new(Gate::Open));
        let (orders, received) = unbounded_channel();
        let behind = Arc::clone(&gate);
        let thread = thread::Builder::new()
            .name("pymq-io".to_owned())
            .spawn(move || run(runtime, &behind, received))?;
        Ok(Self { handle, gate, orders, thread: Mutex::new(Some(thread)) })
    }

    /// Begins an operation.
    pub(crate) fn begin<T: Send + 'static>(&self, mut work: Work<T>) -> Begun<T> {
        let gate = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        if *gate == Gate::Shut {
            return Begun::Closed;
        }
        let _entered = self.handle.enter();
        // Its waker may be forgotten: the task polls again, with one of its own.
        match work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => Begun::Done(result),
            Poll::Pending => Begun::Running(self.handle.spawn(work)),
        }
    }

    /// Orders the end, without waiting for it; an order that comes after the end is done already.
    pub(crate) fn order(&self, order: Order) {
        if let Err(late) = self.orders.send(order) {
            (late.0.then)();
        }
    }

    /// Waits for the thread, which must have ended but for its last steps.
    pub(crate) fn join(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // It panics only if a task's own clean-up does, and that has been printed.
        let _ = thread.map(thread::JoinHandle::join);
    }
}

/// What the I/O thread does: everything its tasks want, until it is ordered to end.
fn run(
    runtime: tokio::runtime::Runtime,
    gate: &RwLock<Gate>,
    mut orders: UnboundedReceiver<Order>,
) {
    let first = runtime.block_on(async {
        let order = orders.recv().await?;
        match tokio::time::timeout_at(order.until.into(), order.bus.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the broker was not told of the end"),
            Err(_) => tracing::debug!("the broker did not answer in time at the end"),
        }
        Some(order)
    });
    *gate.write().unwrap_or_else(PoisonError::into_inner) = Gate::Shut;
    runtime.shutdown_timeout(LOOKUPS_END_WITHIN);
    orders.close();
    let mut last = Vec::from_iter(first);
    while let Ok(order) = orders.try_recv() {
        last.push(order);
    }
    for Order { then, .. } in last {
        then();
    }
}
