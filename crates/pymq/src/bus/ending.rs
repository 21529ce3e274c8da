//! How a bus ends: drained, closed, or with the runtime that it was connected on.
//!
//! The order of the end is one: nothing new is taken, what runs has its time, callers are answered,
//! then the transport closes and gives back what is held. A function that ends its own bus does not
//! wait for itself.

use std::sync::{Arc, Weak};

use futures_util::future::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::Bus;
use crate::drain_list::DrainList;
use crate::error::Result;
use crate::queue;
use crate::rpc::current_call;
use crate::transport::Transport;

impl Bus {
    /// Ends everything in good order, then closes.
    ///
    /// Nothing new is taken: subscriptions end when what had arrived has been read; exposed
    /// functions answer the calls that had arrived, and workers finish the items in hand, and may
    /// use the bus for that; `subscribe`, `expose`, `get` and `claim` fail with `Closed`, those
    /// that wait too. When they have, the bus closes as [`close`](Self::close) does. It waits as
    /// long as functions and workers take, and so does whoever drains the bus meanwhile; dropping
    /// its future leaves the bus draining, and `close` ends that at once. A function or handler that
    /// drains its own bus does not wait for itself: then this returns at once, and the bus closes when
    /// they have ended. What was begun as bytes
    /// ([`provide`](Self::provide), [`subscribe_bytes`](Self::subscribe_bytes)) is its holder's to
    /// end, before.
    ///
    /// ```
    /// # use pymq::{Bus, ErrorKind};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
    /// let bus = Bus::connect("memory://").await?;
    /// let mut notes = bus.topic::<String>("notes").subscribe().await?;
    /// bus.topic("notes").publish(&"last").await?;
    /// bus.drain().await?;
    /// assert_eq!(notes.recv().await.expect("it had arrived")?, "last");
    /// assert!(notes.recv().await.is_none());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// If the broker could not be told; the bus is closed all the same.
    pub async fn drain(&self) -> Result<()> {
        if self.ends_after_this_call(|bus| async move { bus.drain_now().await }) {
            return Ok(());
        }
        if queue::is_of_bus(&self.0.drain_list) {
            // The drain waits for the handler, so the handler does not wait for the drain.
            self.end_apart(|bus| async move { bus.drain_now().await });
            return Ok(());
        }
        self.on_runtime(|bus| async move { bus.drain_now().await }).await
    }

    /// Ends everything: streams end, what waits fails with `Closed`, held items go back to their
    /// queues. Closing again does nothing.
    ///
    /// Calls that its functions have finished are answered first, as far as that takes no more than
    /// a second; those that still run are answered with an error, and those that have not begun go to
    /// other providers. A function that closes its own bus is answered, too: then this returns at
    /// once, and the bus closes when the answer is on its way.
    ///
    /// # Errors
    /// If the broker could not be told; the bus is closed all the same.
    pub async fn close(&self) -> Result<()> {
        if self.ends_after_this_call(|bus| async move { bus.close_now().await }) {
            return Ok(());
        }
        self.on_runtime(|bus| async move { bus.close_now().await }).await
    }

    /// Ends the bus here or, outside of any runtime, on its own, whose timers it needs for that.
    async fn on_runtime<F>(&self, end: impl FnOnce(Self) -> F) -> Result<()>
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let ending = end(self.clone());
        match Handle::try_current() {
            Ok(_) => ending.await,
            // An error says that the runtime has ended, and the bus was closed with it.
            Err(_) => self.0.runtime.spawn(ending).await.unwrap_or(Ok(())),
        }
    }

    async fn drain_now(&self) -> Result<()> {
        self.0.drain_list.drain().await;
        self.0.providers.sent().await;
        self.close_now().await
    }

    async fn close_now(&self) -> Result<()> {
        self.0.drain_list.close();
        self.0.caller.close();
        self.0.providers.farewell().await;
        self.0.transport.close().await
    }

    /// Whether a call that this bus answers runs here; then `end` is run once it is answered, since
    /// it would wait for itself.
    fn ends_after_this_call<F>(&self, end: impl FnOnce(Self) -> F + Send + 'static) -> bool
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let call = current_call().filter(|call| self.0.providers.serves(call));
        let Some(call) = call else { return false };
        self.end_apart(|bus| async move {
            call.ended().await;
            end(bus).await
        });
        true
    }

    /// Ends the bus without anybody who waits for it.
    fn end_apart<F>(&self, end: impl FnOnce(Self) -> F)
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let ending = end(self.clone());
        self.0.runtime.spawn(async move {
            if let Err(error) = ending.await {
                tracing::debug!(%error, "the broker was not told of the bus's end");
            }
        });
    }
}

/// Closes a bus whose runtime ends before the bus does, since nothing of it works any more.
pub(super) struct RuntimeEnding {
    transport: Weak<dyn Transport>,
    drain_list: Weak<DrainList>,
    armed: bool,
}

impl RuntimeEnding {
    pub(super) fn new(transport: &Arc<dyn Transport>, drain_list: &Arc<DrainList>) -> Self {
        let (transport, drain_list) = (Arc::downgrade(transport), Arc::downgrade(drain_list));
        Self { transport, drain_list, armed: true }
    }

    /// Returns when the bus is gone; dropped before, it closes the bus.
    pub(super) async fn watch(mut self, bus_is_gone: oneshot::Receiver<()>) {
        // An error is the news: its sender goes with the bus.
        let _ = bus_is_gone.await;
        self.armed = false;
    }
}

impl Drop for RuntimeEnding {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        if let Some(drain_list) = self.drain_list.upgrade() {
            drain_list.close();
        }
        if let Some(transport) = self.transport.upgrade() {
            // There is no runtime to wait on: what can be done at once is all that can be done.
            let _ = transport.close().now_or_never();
        }
    }
}
