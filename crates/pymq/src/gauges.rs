//! What is counted of a bus from time to time: its health, and its queues as they stand.
//!
//! The one invariant: a program that counts is never held up by a broker that is away; then the queues are
//! simply not known. It asks what anybody may ask ([`Bus::health`], [`Bus::inspect`]).

use std::time::Duration;

use tokio::time::timeout;

use crate::bus::Bus;
use crate::error::Result;
use crate::transport::{Health, QueueStats};

/// How long the broker may take to say how its queues stand.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the gauge of [`Health::lost_posts`] says of itself.
pub(crate) const LOST_POSTS: &str =
    "Events published without waiting that did not get to the broker.";

/// How a bus stands at a moment.
#[derive(Debug)]
pub(crate) struct Gauges {
    pub(crate) health: Health,
    /// Every queue of the namespace that holds something or is waited on; `None` where the broker
    /// does not say.
    pub(crate) queues: Option<Vec<(String, QueueStats)>>,
}

impl Gauges {
    pub(crate) async fn of(bus: &Bus) -> Self {
        let health = bus.health();
        if !health.state.is_connected() {
            return Self { health, queues: None };
        }
        let queues = match timeout(PATIENCE, queues(bus)).await {
            Ok(Ok(queues)) => Some(queues),
            Ok(Err(error)) => {
                tracing::debug!(%error, "the queues of the bus are not counted");
                None
            }
            Err(_) => {
                tracing::debug!("the broker did not say in time how its queues stand");
                None
            }
        };
        Self { health, queues }
    }
}

async fn queues(bus: &Bus) -> Result<Vec<(String, QueueStats)>> {
    let mut queues = Vec::new();
    for name in bus.inspect().queues().await? {
        let stats = bus.byte_queue(&name).stats().await?;
        queues.push((name, stats));
    }
    Ok(queues)
}

/// How many items a queue has, by the word for their state.
pub(crate) fn by_state(stats: &QueueStats) -> [(&'static str, usize); 4] {
    [
        ("waiting", stats.waiting),
        ("delayed", stats.delayed),
        ("leased", stats.leased),
        ("dead", stats.dead),
    ]
}
