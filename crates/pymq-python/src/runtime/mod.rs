//! The I/O thread of a bus: it owns the sockets, the timers and every task, and never meets Python.
//!
//! An operation is tried once where it was begun, which is all that most of those in memory need.
//! If it must wait it goes to the I/O thread, unless the thread that waits for it is to drive the
//! runtime itself ([`IoDriver`]). The I/O thread ends when the bus is closed or its last handle is
//! dropped; nothing is polled after that, and what still waited there is dropped there.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use crate::log::Speaking;
use crate::runtime::io_driver::{Expecting, IoDriver, Need, Turn};

pub(crate) mod io_driver;

/// What an operation does, wherever it runs.
pub(crate) type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// How long a thread may drive for an operation of its own; so long is no short operation.
const LONGEST_TURN: Duration = Duration::from_millis(20);
/// How long threads that look names up may take to end.
const LOOKUPS_END_WITHIN: Duration = Duration::from_millis(500);

/// A thread with a runtime.
pub(crate) struct Runtime {
    handle: Handle,
    driven: Arc<Driven>,
    /// Each with what fetches the I/O thread to it.
    closings: UnboundedSender<(Closing, Need)>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

/// What the I/O thread drives, and others for a while.
struct Driven {
    /// Read while it is entered; gone when the bus has ended.
    runtime: RwLock<Option<tokio::runtime::Runtime>>,
    io_driver: Arc<IoDriver>,
}

/// A bus to close, and to end with it.
pub(crate) struct Closing {
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
    /// It waits for something.
    Waits(Work<T>),
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
        let driven = Driven { runtime: RwLock::new(Some(runtime)), io_driver: IoDriver::new() };
        let driven = Arc::new(driven);
        let (closings, received) = unbounded_channel();
        let theirs = Arc::clone(&driven);
        let speaking = Speaking::begin();
        let thread = thread::Builder::new().name("pymq-io".to_owned()).spawn(move || {
            let _speaking = speaking;
            run(&theirs, received);
        })?;
        Ok(Self { handle, driven, closings, thread: Mutex::new(Some(thread)) })
    }

    /// Begins an operation.
    pub(crate) fn begin<T: Send + 'static>(&self, mut work: Work<T>) -> Begun<T> {
        let runtime = self.driven.enter();
        if runtime.is_none() {
            return Begun::Closed;
        }
        let _entered = self.handle.enter();
        // Its waker may be forgotten: whoever goes on with it polls again, with one of its own.
        match work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => Begun::Done(result),
            Poll::Pending => Begun::Waits(work),
        }
    }

    /// The right to drive, if the thread that waits is the one to do so.
    pub(crate) fn turn(&self) -> Option<Turn<'_>> {
        self.driven.io_driver.take()
    }

    /// Does an operation on the calling thread, which drives all others meanwhile, as far as it
    /// comes in a short time.
    pub(crate) fn drive<T>(&self, _turn: Turn<'_>, mut work: Work<T>) -> Begun<T> {
        let runtime = self.driven.enter();
        let Some(runtime) = &*runtime else { return Begun::Closed };
        let done =
            runtime.block_on(async { tokio::time::timeout(LONGEST_TURN, work.as_mut()).await });
        match done {
            Ok(result) => Begun::Done(result),
            Err(_) => Begun::Waits(work),
        }
    }

    /// The right to drive for whoever serves so many sources, all that there are.
    pub(crate) fn turn_to_serve(&self, sources: usize) -> Option<Turn<'_>> {
        self.driven.io_driver.take_to_serve(sources)
    }

    /// Drives on the calling thread until something has come, for a short time at most; says whether
    /// it has.
    pub(crate) fn serve(
        &self,
        _turn: &Turn<'_>,
        until: Option<Instant>,
        come: impl Future<Output = ()>,
    ) -> bool {
        let runtime = self.driven.enter();
        let Some(runtime) = &*runtime else { return false };
        let longest = Instant::now() + LONGEST_TURN;
        let until = until.map_or(longest, |until| until.min(longest));
        runtime.block_on(async { tokio::time::timeout_at(until.into(), come).await.is_ok() })
    }

    /// Goes on with an operation on the I/O thread; where that has ended, it is dropped at once.
    pub(crate) fn spawn<T: Send + 'static>(&self, work: Work<T>) -> JoinHandle<T> {
        let need = self.need();
        self.handle.spawn(async move {
            let _need = need;
            work.await
        })
    }

    /// Has the I/O thread drive as long as this lives.
    pub(crate) fn need(&self) -> Need {
        self.driven.io_driver.need()
    }

    /// Notes, as long as this lives, that something may arrive.
    pub(crate) fn expect(&self) -> Expecting {
        self.driven.io_driver.expect()
    }

    /// Notes that what began at `begun` on the I/O thread, and was waited for, is over.
    pub(crate) fn over(&self, begun: Instant) {
        self.driven.io_driver.over(begun);
    }

    /// Orders the end, without waiting for it; one that comes after the end is done already.
    pub(crate) fn end_with(&self, closing: Closing) {
        if let Err(late) = self.closings.send((closing, self.need())) {
            let (closing, _need) = late.0;
            (closing.then)();
        }
    }

    /// Waits for the thread, which must have ended but for its last steps.
    pub(crate) fn join(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // It panics only if a task's own clean-up does, and that has been printed.
        let _ = thread.map(thread::JoinHandle::join);
    }
}

impl Driven {
    fn enter(&self) -> RwLockReadGuard<'_, Option<tokio::runtime::Runtime>> {
        self.runtime.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drives until the bus is to be closed, or nobody can say so any more.
    fn await_closing(
        &self,
        closings: &mut UnboundedReceiver<(Closing, Need)>,
    ) -> Option<(Closing, Need)> {
        loop {
            let entered = self.enter();
            let runtime = entered.as_ref()?;
            // Both may be dropped at any time: what was not received stays to be received.
            let closing = runtime.block_on(async {
                tokio::select! {
                    closing = closings.recv() => Some(closing),
                    () = self.io_driver.may_step_aside() => None,
                }
            });
            drop(entered);
            match closing {
                Some(closing) => return closing,
                None => self.io_driver.stand_aside(),
            }
        }
    }

    fn close(&self, closing: &Closing) {
        let closing =
            async { tokio::time::timeout_at(closing.until.into(), closing.bus.close()).await };
        let entered = self.enter();
        match entered.as_ref().map(|runtime| runtime.block_on(closing)) {
            Some(Ok(Ok(()))) | None => {}
            Some(Ok(Err(error))) => tracing::debug!(%error, "the broker was not told of the end"),
            Some(Err(_)) => tracing::debug!("the broker did not answer in time at the end"),
        }
    }
}

/// What the I/O thread does: everything its tasks want, until it is ordered to end.
fn run(driven: &Driven, mut closings: UnboundedReceiver<(Closing, Need)>) {
    let first = driven.await_closing(&mut closings);
    if let Some((closing, _)) = &first {
        driven.close(closing);
    }
    let runtime = driven.runtime.write().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(runtime) = runtime {
        runtime.shutdown_timeout(LOOKUPS_END_WITHIN);
    }
    closings.close();
    let mut last = Vec::from_iter(first);
    while let Ok(closing) = closings.try_recv() {
        last.push(closing);
    }
    for (Closing { then, .. }, _) in last {
        then();
    }
}
