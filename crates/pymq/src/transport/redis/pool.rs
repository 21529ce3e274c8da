//! Connections for commands that wait at the server: one user at a time each.
//!
//! The one invariant: what is put back has nothing under way. It opens one when none is spare.

use std::sync::{Arc, Mutex, PoisonError};

use super::dialer::Dialer;
use super::resp::{Reply, Socket};
use super::standing::Role;

/// How many connections are kept when nobody waits.
const SPARE: usize = 4;

/// Connections for commands that wait at the server: one user at a time each.
#[derive(Debug)]
pub(super) struct Pool {
    dialer: Arc<Dialer>,
    spare: Mutex<Vec<Socket>>,
}

impl Pool {
    pub(super) fn new(dialer: Arc<Dialer>) -> Self {
        Self { dialer, spare: Mutex::default() }
    }

    /// A live connection: a spare one, else a new one, however long that takes.
    pub(super) async fn take(&self) -> Socket {
        match self.spare() {
            Some(socket) => socket,
            None => self.dialer.dial(Role::Waiting, None).await,
        }
    }

    /// Puts a connection back that has nothing under way.
    pub(super) fn put(&self, socket: Socket) {
        // On a cluster whoever waits at the same node next may have it.
        if let Some(nodes) = self.dialer.nodes() {
            return nodes.give_back(socket);
        }
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if socket.is_alive() && spare.len() < SPARE {
            spare.push(socket);
        }
    }

    /// Puts a connection back after an answer, unless the answer says that it leads to the wrong
    /// server.
    pub(super) fn put_after(&self, socket: Socket, replies: &[Reply]) {
        if let Some(refusal) = replies.iter().find_map(Reply::elsewhere) {
            self.clear();
            self.dialer.doubt(refusal);
        } else {
            self.put(socket);
        }
    }

    /// Ends the spare connections.
    pub(super) fn clear(&self) {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// A spare connection, if there is one.
    pub(super) fn spare(&self) -> Option<Socket> {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let socket = spare.pop()?;
            if socket.is_alive() {
                return Some(socket);
            }
        }
    }
}
