//! Items whose leases are being extended, which may take them into another list.
//!
//! The one invariant: a settlement that did not find its item is lost only if the item is not on its way
//! into another list, and has not gone there since.

use std::sync::Arc;

use tokio::sync::MutexGuard;
use tokio::time::Instant;

use super::super::pending_settlement::PendingSettlement;
use super::Consumer;
use crate::transport::Receipt;

/// An item whose lease is being extended, and the settlements that did not find it meanwhile.
#[derive(Debug)]
pub(super) struct Extension {
    receipt: Receipt,
    held_up: Vec<PendingSettlement>,
}

/// An extension that is under way; dropped, it is over.
#[derive(Debug)]
pub(crate) struct OpenExtension {
    consumer: Arc<Consumer>,
    receipt: Receipt,
}

impl OpenExtension {
    pub(crate) fn receipt(&self) -> &Receipt {
        &self.receipt
    }
}

impl Drop for OpenExtension {
    fn drop(&mut self) {
        self.consumer.end_extending(&self.receipt);
    }
}

impl Consumer {
    /// Notes that the lease of an item is being extended.
    pub(crate) fn begin_extending(self: &Arc<Self>, receipt: &Receipt) -> OpenExtension {
        let receipt = receipt.clone();
        let extension = Extension { receipt: receipt.clone(), held_up: Vec::new() };
        self.lock().extensions.push(extension);
        OpenExtension { consumer: Arc::clone(self), receipt }
    }

    /// Held while a lease is extended.
    pub(crate) async fn turn_to_extend(&self) -> MutexGuard<'_, ()> {
        self.extending.lock().await
    }

    fn end_extending(&self, receipt: &Receipt) {
        let mut state = self.lock();
        let ended = state.extensions.iter().position(|extension| extension.receipt == *receipt);
        let ended = ended.map(|place| state.extensions.swap_remove(place));
        drop(state);
        for settling in ended.into_iter().flat_map(|extension| extension.held_up) {
            self.settled(settling, 0);
        }
    }

    /// Has a settlement that did not find its item follow it into another list; gives it back where
    /// there is none.
    pub(super) fn follow(&self, settling: PendingSettlement) -> Option<PendingSettlement> {
        let mut state = self.lock();
        let receipt = settling.receipt();
        let mut extensions = state.extensions.iter_mut();
        if let Some(extension) = extensions.find(|extension| extension.receipt == *receipt) {
            extension.held_up.push(settling);
            return None;
        }
        let moved = state.epochs.leave_moved(receipt);
        drop(state);
        let Some(place) = moved else { return Some(settling) };
        self.keep_settlement(settling.at(place), Instant::now());
        None
    }
}
