//! How a bus and its queues stand, told from time to time.

use std::collections::BTreeSet;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Gauge, Meter};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::Telemetry;
use crate::bus::Bus;
use crate::error::Result;
use crate::gauges::{Gauges, LOST_POSTS, by_state};
use crate::transport::{self, QueueStats};

/// A watch over a bus, see [`Telemetry::watch`]; dropping it ends it, on any thread.
#[derive(Debug)]
#[must_use = "dropping it ends the watch"]
pub struct Watch(JoinHandle<()>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Telemetry {
    /// Tells at this interval how the bus stands, until the watch is dropped or the bus closed: of
    /// each queue of its namespace `pymq.queue.items` by state (`waiting`, `delayed`, `leased`,
    /// `dead`), `pymq.queue.oldest` in seconds and `pymq.queue.consumers`; of the bus
    /// `pymq.bus.connected` (1 or 0), `pymq.bus.reconnects`, `pymq.bus.unread_events`,
    /// `pymq.bus.lost_events` and `pymq.bus.lost_posts`. One process of a namespace that watches is
    /// enough for the queues; listing them takes time that grows with all that the broker holds.
    ///
    /// # Errors
    /// `Config` outside a tokio runtime.
    pub fn watch(&self, bus: &Bus, every: Duration) -> Result<Watch> {
        let runtime = transport::runtime()?;
        let (teller, bus) = (Teller::new(&self.meter), bus.clone());
        Ok(Watch(runtime.spawn(teller.tell(bus, every))))
    }
}

struct Teller {
    items: Gauge<u64>,
    oldest: Gauge<f64>,
    consumers: Gauge<u64>,
    connected: Gauge<u64>,
    reconnects: Gauge<u64>,
    unread: Gauge<u64>,
    lost: Gauge<u64>,
    lost_posts: Gauge<u64>,
    /// The queues that were told of: one that is gone is empty.
    known: BTreeSet<String>,
}

impl Teller {
    fn new(meter: &Meter) -> Self {
        let gauge = |name: &'static str, what: &'static str, unit: &'static str| {
            meter.u64_gauge(name).with_description(what).with_unit(unit).build()
        };
        let oldest = meter.f64_gauge("pymq.queue.oldest").with_unit("s");
        Self {
            items: gauge("pymq.queue.items", "Items of a queue, by state.", "{item}"),
            oldest: oldest.with_description("For how long the first item has waited.").build(),
            consumers: gauge("pymq.queue.consumers", "Who holds or awaits items.", "{connection}"),
            connected: gauge("pymq.bus.connected", "Whether the bus has its broker.", "1"),
            reconnects: gauge("pymq.bus.reconnects", "How often it came back.", "{reconnect}"),
            unread: gauge("pymq.bus.unread_events", "Events that nobody has read yet.", "{event}"),
            lost: gauge("pymq.bus.lost_events", "Events that came too fast.", "{event}"),
            lost_posts: gauge("pymq.bus.lost_posts", LOST_POSTS, "{event}"),
            known: BTreeSet::new(),
        }
    }

    async fn tell(mut self, bus: Bus, every: Duration) {
        let mut ticks = interval(every.max(Duration::from_millis(10)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let gauges = Gauges::of(&bus).await;
            let over = gauges.health.state == transport::State::Closed;
            self.record(gauges);
            if over {
                return;
            }
        }
    }

    fn record(&mut self, Gauges { health, queues }: Gauges) {
        self.connected.record(health.state.is_connected().into(), &[]);
        self.reconnects.record(health.reconnects, &[]);
        self.unread.record(health.unread_events as u64, &[]);
        self.lost.record(health.lost_events, &[]);
        self.lost_posts.record(health.lost_posts, &[]);
        // Where nothing is known of the queues, the last that was known stands.
        let Some(queues) = queues else { return };
        let there: BTreeSet<_> = queues.iter().map(|(name, _)| name.clone()).collect();
        for gone in self.known.difference(&there) {
            self.record_queue(gone, &QueueStats::default());
        }
        for (name, stats) in &queues {
            self.record_queue(name, stats);
        }
        self.known = there;
    }

    fn record_queue(&self, name: &str, stats: &QueueStats) {
        let queue = KeyValue::new("queue", name.to_owned());
        for (state, items) in by_state(stats) {
            self.items.record(items as u64, &[queue.clone(), KeyValue::new("state", state)]);
        }
        let oldest = stats.oldest.unwrap_or_default().as_secs_f64();
        self.oldest.record(oldest, std::slice::from_ref(&queue));
        if let Some(consumers) = stats.consumers {
            self.consumers.record(consumers as u64, &[queue]);
        }
    }
}
