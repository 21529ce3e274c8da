//! What the subscriptions of this process have received and nobody has drained yet.
//!
//! Each subscription is a task that owns its stream; ending one waits until the broker knows. A
//! value that does not fit its hint is noted on stderr and left out, as a Python peer does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_core::future::BoxFuture;
use pymq::{Bus, Events, PatternEvents, Result};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::description::{Describe, Described};
use crate::shared_types::{Drawing, Folder, Marker, MyEvent, Order, OutOfStock, Point, Reading};

/// All subscriptions and their events.
#[derive(Debug, Default)]
pub(crate) struct Received {
    events: Arc<watch::Sender<Vec<Value>>>,
    subscriptions: Mutex<HashMap<String, Listening>>,
}

#[derive(Debug)]
struct Listening {
    end: oneshot::Sender<()>,
    task: JoinHandle<Result<()>>,
}

impl Received {
    /// Keeps the events of `stream` under the name of its subscription.
    pub(crate) fn keep(&self, name: &str, stream: Box<dyn Stream>) {
        let (end, ended) = oneshot::channel();
        let task = tokio::spawn(listen(stream, name.to_owned(), Arc::clone(&self.events), ended));
        let mut subscriptions = self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner);
        subscriptions.insert(name.to_owned(), Listening { end, task });
    }

    /// Ends the subscription called `name` and waits until the broker knows.
    ///
    /// # Errors
    /// Those of the bus.
    pub(crate) async fn unsubscribe(&self, name: &str) -> Result<()> {
        let listening = {
            let mut all = self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner);
            all.remove(name)
        };
        let Some(Listening { end, task }) = listening else { return Ok(()) };
        // A task that has ended by itself needs no telling.
        let _ = end.send(());
        task.await.expect("it does not panic")
    }

    /// Waits for `count` events, at most `timeout`, and takes all there are.
    pub(crate) async fn drain(&self, count: usize, timeout: Duration) -> Value {
        let mut events = self.events.subscribe();
        // At the timeout, what there is is the answer; the sender is ours.
        let _ = tokio::time::timeout(timeout, events.wait_for(|all| all.len() >= count)).await;
        Value::Array(self.events.send_replace(Vec::new()))
    }
}

async fn listen(
    mut stream: Box<dyn Stream>,
    name: String,
    events: Arc<watch::Sender<Vec<Value>>>,
    mut ended: oneshot::Receiver<()>,
) -> Result<()> {
    loop {
        // Cancel-safe: a stream that says so, a one-shot.
        tokio::select! {
            event = stream.next() => match event {
                Some(Ok(value)) => {
                    let event = json!({"subscription": name, "value": value});
                    events.send_modify(|all| all.push(event));
                }
                Some(Err(error)) => eprintln!("{name}: {error}"),
                None => return Ok(()),
            },
            _ = &mut ended => return stream.end().await,
        }
    }
}

/// Events of any type, described.
pub(crate) trait Stream: Send {
    /// The next one; cancel-safe.
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Value>>>;
    /// Ends it and waits until the broker knows.
    fn end(self: Box<Self>) -> BoxFuture<'static, Result<()>>;
}

impl<T: Describe + DeserializeOwned + 'static> Stream for Events<T> {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Value>>> {
        Box::pin(async { Some(self.recv().await?.map(|value| value.describe())) })
    }

    fn end(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(self.unsubscribe())
    }
}

impl Stream for PatternEvents<Described> {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Value>>> {
        Box::pin(async { Some(self.recv().await?.map(|(_, value)| value.describe())) })
    }

    fn end(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(self.unsubscribe())
    }
}

/// Subscribes to a pattern, its events described as they come.
///
/// # Errors
/// Those of the bus.
pub(crate) async fn pattern(bus: &Bus, pattern: &str) -> Result<Box<dyn Stream>> {
    Ok(Box::new(bus.pattern::<Described>(pattern).await?))
}

/// Subscribes to a topic; `hint` names the type that its events are read into, in the words of
/// Python's annotations.
///
/// # Errors
/// Those of the bus.
pub(crate) async fn topic(bus: &Bus, name: &str, hint: Option<&str>) -> Result<Box<dyn Stream>> {
    async fn of<T>(bus: &Bus, name: &str) -> Result<Box<dyn Stream>>
    where
        T: Describe + DeserializeOwned + 'static,
    {
        Ok(Box::new(bus.topic::<T>(name).subscribe().await?))
    }
    match hint {
        Some("Reading") => of::<Reading>(bus, name).await,
        Some("Marker") => of::<Marker>(bus, name).await,
        Some("MyEvent") => of::<MyEvent>(bus, name).await,
        Some("Order") => of::<Order>(bus, name).await,
        Some("Point") => of::<Point>(bus, name).await,
        Some("Drawing") => of::<Drawing>(bus, name).await,
        Some("Folder") => of::<Folder>(bus, name).await,
        Some("OutOfStock") => of::<OutOfStock>(bus, name).await,
        Some("List[Reading]") => of::<Vec<Reading>>(bus, name).await,
        Some("bool") => of::<bool>(bus, name).await,
        Some("int") => of::<i128>(bus, name).await,
        Some("float") => of::<f64>(bus, name).await,
        Some("str") => of::<String>(bus, name).await,
        _ => of::<Described>(bus, name).await,
    }
}
