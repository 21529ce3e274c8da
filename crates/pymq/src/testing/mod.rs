//! A bus for tests of programs: in memory, nobody else's, and it tells what happens on it.
//!
//! What passes here passes over Redis, since the bus in memory serialises and both keep one contract.
//! Time is tokio's: under `tokio::time::pause` (`#[tokio::test(start_paused = true)]`) nobody waits for
//! what is due in an hour.
//!
//! ```
//! use std::time::Duration;
//! use pymq::PutOptions;
//! use pymq::testing::TestBus;
//!
//! #[tokio::main(flavor = "current_thread", start_paused = true)]
//! async fn main() -> pymq::Result<()> {
//!     let bus = TestBus::new()?;
//!     // The program under test: for each order, a reminder tomorrow.
//!     let mails = bus.queue::<u32>("mails");
//!     let mut orders = bus.topic::<u32>("orders").subscribe().await?;
//!     tokio::spawn(async move {
//!         while let Some(Ok(order)) = orders.recv().await {
//!             let tomorrow = PutOptions::new().delay(Duration::from_secs(86_400));
//!             mails.put_with(&order, tomorrow).await.expect("put");
//!         }
//!     });
//!
//!     bus.topic::<u32>("orders").publish(&7).await?;
//!     bus.until_handled().await?;
//!     assert_eq!(bus.put()[0].item::<u32>()?, 7);
//!     assert_eq!(bus.queue::<u32>("mails").get().await?, 7); // at once
//!     Ok(())
//! }
//! ```

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;

use self::recorder::Recorder;
use crate::bus::Bus;
use crate::codec;
use crate::error::{Error, ErrorKind, Result};
use crate::name::Namespace;
use crate::transport::Failure;

mod recorder;

/// How often every task gets its turn before a look counts.
const TURNS: usize = 20;
/// How long it takes from a look to the next while something is under way: at first, and at most.
const LOOKS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));
/// Nothing in a test takes so long.
const PATIENCE: Duration = Duration::from_secs(10);

/// A [`Bus`] in memory of a test's own.
#[derive(Debug)]
pub struct TestBus {
    bus: Bus,
    recorder: Arc<Recorder>,
}

impl TestBus {
    /// A bus on which nothing has happened yet.
    ///
    /// # Errors
    /// `Config` outside a tokio runtime.
    pub fn new() -> Result<Self> {
        let namespace = Namespace::default();
        let recorder = Arc::new(Recorder::new(namespace.clone())?);
        let bus = Bus::over(Arc::<Recorder>::clone(&recorder), namespace)?;
        Ok(Self { bus, recorder })
    }

    /// A handle for the program under test.
    pub fn bus(&self) -> Bus {
        self.bus.clone()
    }

    /// The events that were published so far, in their order.
    pub fn published(&self) -> Vec<Published> {
        self.recorder.notes().published.clone()
    }

    /// The items that were put into queues so far, now or for later, in their order.
    pub fn put(&self) -> Vec<PutItem> {
        self.recorder.notes().put.clone()
    }

    /// How items failed so far: given back or up by a worker, or a consumer that said why.
    pub fn failed(&self) -> Vec<Failed> {
        self.recorder.notes().failed.clone()
    }

    /// Waits until every event that was published is handled, and those that came of it: until
    /// everybody who has begun to read a stream of events waits for the next one, or has dropped it.
    /// Queues have a [`join`](crate::Queue::join) of their own.
    ///
    /// # Errors
    /// `Timeout` after 10 s, with the topics that are still being handled.
    pub async fn until_handled(&self) -> Result<()> {
        self.until_handled_within(PATIENCE).await
    }

    /// [`until_handled`](Self::until_handled), for so long at most.
    ///
    /// # Errors
    /// `Timeout` after that.
    pub async fn until_handled_within(&self, timeout: Duration) -> Result<()> {
        tokio::time::timeout(timeout, self.handled()).await.map_err(|_| {
            let busy = self.recorder.busy().join(", ");
            let why =
                format!("after {timeout:?} somebody still handles what came, or reads no more");
            Error::new(ErrorKind::Timeout, "wait", busy, why)
        })
    }

    async fn handled(&self) {
        let (mut quiet, mut pause) = (None, LOOKS.0);
        loop {
            for _ in 0..TURNS {
                tokio::task::yield_now().await;
            }
            let count = self.recorder.count_if_quiet();
            // Seen twice with nothing in between: one reader may have published to another that had
            // been looked at before.
            if count.is_some() && count == quiet {
                return;
            }
            quiet = count;
            if quiet.is_none() {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LOOKS.1);
            }
        }
    }
}

/// All that a bus can do.
impl Deref for TestBus {
    type Target = Bus;

    fn deref(&self) -> &Bus {
        &self.bus
    }
}

/// An event that was published.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Published {
    /// The topic, without the namespace.
    pub topic: String,
    /// The bytes that were published.
    pub payload: Bytes,
}

impl Published {
    /// The event.
    ///
    /// # Errors
    /// `Decode` if it is no `T`.
    pub fn event<T: DeserializeOwned>(&self) -> Result<T> {
        codec::decode_message(&self.topic, &self.payload).map(|(event, _)| event)
    }
}

/// An item that was put into a queue.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PutItem {
    /// The queue, without the namespace.
    pub queue: String,
    /// The bytes that were put.
    pub payload: Bytes,
}

impl PutItem {
    /// The item.
    ///
    /// # Errors
    /// `Decode` if it is no `T`.
    pub fn item<T: DeserializeOwned>(&self) -> Result<T> {
        codec::decode_message(&self.queue, &self.payload).map(|(item, _)| item)
    }
}

/// An item that was given back or up, and why.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Failed {
    /// The queue, without the namespace.
    pub queue: String,
    /// What is known of it.
    pub failure: Failure,
}
