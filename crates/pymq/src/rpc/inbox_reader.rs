//! The task that reads a caller's one inbox, and hands each response to its call.
//!
//! Its end, whatever ended it, ends every call: nobody waits for an answer that nobody reads.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::RETURN_WITHIN;
use super::directory::Directory;
use super::pending::Pending;
use crate::transport::{Arrival, Inbox};
use crate::wire::{Response, ResponseKind, Said};

/// The task, which ends with its caller.
#[derive(Debug)]
pub(super) struct InboxReader(JoinHandle<()>);

impl InboxReader {
    pub(super) fn start(
        runtime: &Handle,
        inbox: Inbox,
        pending: &Arc<Pending>,
        directory: &Arc<Directory>,
        gap: &Arc<LastGap>,
    ) -> Self {
        let reading = Reading {
            pending: Arc::clone(pending),
            directory: Arc::clone(directory),
            gap: Arc::clone(gap),
        };
        Self(runtime.spawn(async move { reading.read(inbox).await }))
    }
}

impl Drop for InboxReader {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// When the inbox last lost its connection, or messages.
#[derive(Debug, Default)]
pub(super) struct LastGap(Mutex<Option<Instant>>);

impl LastGap {
    fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether it was so recently that providers may still be on their way back.
    pub(super) fn is_recent(&self) -> bool {
        let gap = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        gap.is_some_and(|gap| gap.elapsed() < RETURN_WITHIN)
    }
}

/// What the task tells.
struct Reading {
    pending: Arc<Pending>,
    directory: Arc<Directory>,
    gap: Arc<LastGap>,
}

impl Reading {
    async fn read(self, mut inbox: Inbox) {
        while let Some(arrival) = inbox.recv().await {
            match arrival {
                Arrival::Message(text) => match Response::decode(&text) {
                    Ok(response) => self.hear(response.said()),
                    Err(error) => tracing::warn!(%error, "malformed response dropped"),
                },
                Arrival::Gap | Arrival::Lagged(_) | Arrival::Refused(_) => {
                    self.gap.note();
                    self.pending.gap();
                }
            }
        }
    }

    fn hear(&self, said: Option<Said>) {
        let Some(said) = said else { return };
        if said.ours.kind == ResponseKind::Left {
            self.directory.forget_everywhere(said.ours.provider);
        }
        self.pending.route(said);
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.pending.close();
    }
}
