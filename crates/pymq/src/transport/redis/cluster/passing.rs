//! Events that are on their way from one node to another while a subscription changes nodes.
//!
//! The one invariant: nobody hears an event twice, or an earlier one after a later one. What is published
//! at a node reaches the others a moment later, in order (in practice up to some tens of milliseconds). So
//! who comes from another node has a probe published there, and listens once that has arrived: nothing comes
//! behind it that was heard there already. What is published meanwhile is missed, as with any lost
//! connection, and told as that.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use uuid::Uuid;

use super::super::resp::{Command, Fault, Push, Pushes, Socket, Subscribing};
use super::slots::Place;

/// For so long something may be on its way from a node.
const RECENT: Duration = Duration::from_secs(10);
/// After so long almost all who listen have followed to another node.
const FOLLOWED: Duration = Duration::from_millis(500);
/// After so long all who listen have followed to another node.
const GATHERED: Duration = Duration::from_secs(2);
/// A probe that takes longer does not come.
const PATIENCE: Duration = Duration::from_millis(500);
/// What a node that is gone has sent is there by then.
const LAST: Duration = Duration::from_millis(100);

/// At which nodes events were listened to of late.
#[derive(Debug, Default)]
pub(super) struct Trail(Mutex<Vec<(Place, Instant)>>);

impl Trail {
    /// The nodes before this one; it is the last one from now on.
    pub(super) fn go_to(&self, place: &Place) -> Vec<Place> {
        let mut trail = self.lock();
        // Until now it was at the last one, however long ago it came there.
        if let Some((_, at)) = trail.last_mut() {
            *at = Instant::now();
        }
        trail.retain(|(before, at)| before != place && at.elapsed() < RECENT);
        let before = trail.iter().map(|(place, _)| place.clone()).collect();
        trail.push((place.clone(), Instant::now()));
        before
    }

    /// Whether it leads to this node since a moment ago only.
    pub(super) fn is_fresh(&self) -> bool {
        let trail = self.lock();
        trail.len() > 1 && trail.last().is_some_and(|(_, at)| at.elapsed() < GATHERED)
    }

    /// Returns when almost all who listen will have followed.
    pub(super) async fn followed(&self) {
        let since = |trail: &[(Place, Instant)]| match trail {
            [.., _, (_, at)] => Some(*at),
            _ => None,
        };
        let since = since(&self.lock());
        if let Some(since) = since {
            sleep_until(since + FOLLOWED).await;
        }
    }

    /// Somebody listens there still.
    pub(super) fn is_at(&self, place: &Place) {
        if let Some((_, at)) = self.lock().iter_mut().find(|(known, _)| known == place) {
            *at = Instant::now();
        }
    }

    /// A panic cannot leave it half-changed, so a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, Vec<(Place, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What arrives on a connection for the room of nodes itself.
pub(super) struct Ear {
    channel: String,
    /// What it has other nodes publish there.
    probe: String,
    /// How many of those have come back.
    probes: watch::Sender<usize>,
    /// The node has lost the slot.
    left: Notify,
}

impl Ear {
    /// One for a connection on which that channel is the room's own.
    pub(super) fn new(channel: &str) -> Arc<Self> {
        let probe = Uuid::new_v4().simple().to_string();
        let probes = watch::Sender::new(0);
        Arc::new(Self { channel: channel.to_owned(), probe, probes, left: Notify::new() })
    }

    /// Takes pushes, and passes on those that are not the room's.
    pub(super) fn hearing(self: &Arc<Self>, pushes: Pushes) -> Pushes {
        let ear = Arc::clone(self);
        Arc::new(move |push| match push {
            Push::Left => ear.left.notify_one(),
            Push::Message { topic, payload } if *topic == *ear.channel.as_bytes() => {
                let ours = *payload == *ear.probe.as_bytes();
                ear.probes.send_modify(|probes| *probes += usize::from(ours));
            }
            push => pushes(push),
        })
    }

    /// Returns when the node has lost the slot.
    pub(super) async fn left(&self) {
        self.left.notified().await;
    }

    /// Returns when nothing is on its way any more from nodes to which `others` leads, as far as they can
    /// be reached.
    pub(super) async fn let_pass(
        &self,
        socket: &Socket,
        others: impl IntoIterator<Item = impl Future<Output = Result<Socket, Fault>>>,
    ) -> Result<(), Fault> {
        let channel = [&self.channel];
        let hears = match socket.subscribing(Subscribing::To, &channel).await {
            Err(Fault::Lost(why)) => return Err(Fault::Lost(why)),
            outcome => outcome.is_ok(),
        };
        let probe = |other| async move {
            let publish = Command::new("PUBLISH").arg(&self.channel).arg(&self.probe);
            let published = async { Socket::run(&other.await?, &publish).await };
            timeout(PATIENCE, published).await.is_ok_and(|published| published.is_ok())
        };
        let probed = join_all(others.into_iter().map(probe)).await;
        let wanted = probed.iter().filter(|probed| **probed).count();
        let mut probes = self.probes.subscribe();
        let all = timeout(PATIENCE, probes.wait_for(|probes| *probes >= wanted));
        if !hears || all.await.is_err() || wanted < probed.len() {
            sleep(LAST).await;
        }
        if hears { socket.subscribing(Subscribing::NoMore, &channel).await } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_changes_nodes_knows_where_it_was_of_late() {
        let (trail, place) = (Trail::default(), |host: &str| (host.to_owned(), 1));
        assert!(trail.go_to(&place("a")).is_empty());
        assert!(trail.go_to(&place("a")).is_empty());
        assert!(!trail.is_fresh());
        assert_eq!(trail.go_to(&place("b")), [place("a")]);
        assert!(trail.is_fresh());
        assert_eq!(trail.go_to(&place("a")), [place("b")]);
        tokio::time::advance(RECENT / 2).await;
        assert!(!trail.is_fresh());
        trail.is_at(&place("a"));
        tokio::time::advance(RECENT / 2).await;
        assert_eq!(trail.go_to(&place("c")), [place("a")]);
        // What is published at a node comes from there however long that was the only one.
        tokio::time::advance(RECENT * 2).await;
        assert_eq!(trail.go_to(&place("d")), [place("c")]);
        assert!(trail.is_fresh());
    }
}
