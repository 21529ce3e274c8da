//! The end of a socket, and everybody who waits for it.
//!
//! The one invariant: who is in the line when the end is reached is woken, and who comes later finds
//! it reached. Every command stands in the line while it waits for its answer, so that standing
//! there costs little: a place in a table, found and given back without looking at the others.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// An end that comes once.
#[derive(Default)]
pub(super) struct Latch {
    reached: AtomicBool,
    wakers: Mutex<Wakers>,
}

/// Those who wait, and the places of those who do not any more.
#[derive(Default)]
struct Wakers {
    slots: Vec<Option<Waker>>,
    free: Vec<usize>,
}

impl Latch {
    pub(super) fn is_reached(&self) -> bool {
        self.reached.load(Ordering::Acquire)
    }

    /// Reaches it and wakes all who wait.
    pub(super) fn reach(&self) {
        let mut wakers = self.lock();
        self.reached.store(true, Ordering::Release);
        let woken = std::mem::take(&mut wakers.slots);
        drop(wakers);
        woken.into_iter().flatten().for_each(Waker::wake);
    }

    /// Returns when it is reached. Cancel-safe.
    pub(super) fn wait(&self) -> Waiting<'_> {
        Waiting { latch: self, place: None }
    }

    /// A panic cannot leave the line half-changed, so a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, Wakers> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One who waits.
pub(super) struct Waiting<'a> {
    latch: &'a Latch,
    place: Option<usize>,
}

impl Future for Waiting<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut wakers = self.latch.lock();
        // Asked under the lock: then it is reached either before this or with us among the wakers.
        if self.latch.is_reached() {
            return Poll::Ready(());
        }
        let place = self.place.or_else(|| wakers.free.pop()).unwrap_or(wakers.slots.len());
        match wakers.slots.get_mut(place) {
            Some(Some(waker)) => waker.clone_from(context.waker()),
            Some(empty) => *empty = Some(context.waker().clone()),
            None => wakers.slots.push(Some(context.waker().clone())),
        }
        drop(wakers);
        self.place = Some(place);
        Poll::Pending
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Some(place) = self.place else { return };
        let mut wakers = self.latch.lock();
        // There are no places any more once the end is reached.
        let waker = wakers.slots.get_mut(place).and_then(Option::take);
        if waker.is_some() {
            wakers.free.push(place);
        }
        drop(wakers);
        // Dropped outside the lock: it may run code of its owner's.
        drop(waker);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn the_end_wakes_all_who_wait_and_those_who_come_later_do_not_wait() {
        let end = Arc::new(Latch::default());
        let waiting: Vec<_> = (0..100)
            .map(|_| {
                let end = Arc::clone(&end);
                tokio::spawn(async move { end.wait().await })
            })
            .collect();
        while end.lock().slots.len() < 100 {
            tokio::task::yield_now().await;
        }
        end.reach();
        for outcome in join_all(waiting).await {
            outcome.expect("nobody panics");
        }
        end.wait().await;
        assert!(end.is_reached());
    }

    #[test]
    fn places_of_those_who_left_are_used_again() {
        let (end, mut context) = (Latch::default(), Context::from_waker(Waker::noop()));
        for _ in 0..1000 {
            let (mut one, mut other) = (end.wait(), end.wait());
            assert!(Pin::new(&mut one).poll(&mut context).is_pending());
            assert!(Pin::new(&mut other).poll(&mut context).is_pending());
            assert!(Pin::new(&mut one).poll(&mut context).is_pending());
        }
        assert_eq!(end.lock().slots.len(), 2);
        assert!(end.lock().slots.iter().all(Option::is_none));
    }
}
