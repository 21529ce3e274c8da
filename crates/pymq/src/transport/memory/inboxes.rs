//! Addressed messages: to the reader of an address, or kept until it comes or they expire.
//!
//! An address has one reader at most; a new one takes it over, and the old one's mailbox ends.
//! Nothing here runs on a clock: what has expired is thrown away when the reader comes, or when twice as
//! much is kept as after the last clearing.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_core::future::BoxFuture;
use tokio::time::Instant;

use super::{Broker, ConnectionId, Memory};
use crate::error::Result;
use crate::name::Address;
use crate::transport::{Answer, Guard, Inbox, Inboxes, Limit, Sender, answer, mailbox};

/// How many messages are kept before expired ones are looked for.
const CLEARING: usize = 64;

impl Inboxes for Memory {
    fn open_inbox<'a>(&'a self, address: &'a Address) -> Answer<'a, Inbox> {
        answer(self.open_inbox_now(address))
    }

    fn send<'a>(&'a self, address: &'a Address, payload: Bytes, ttl: Duration) -> Answer<'a, bool> {
        answer(
            self.check_open("send", address.name())
                .map(|()| self.broker.inboxes.send(address, payload, ttl)),
        )
    }
}

impl Memory {
    fn open_inbox_now(&self, address: &Address) -> Result<Inbox> {
        let (sender, messages) = mailbox(Limit::default());
        let mut state = self.broker.inboxes.lock();
        self.check_open("open", address.name())?;
        let (number, unseated, expired) = state.open(address, self.id, sender);
        drop(state);
        drop(expired);
        if let Some(reader) = unseated {
            reader.sender.close();
        }
        let (broker, address) = (Arc::downgrade(&self.broker), address.clone());
        Ok(Inbox::new(messages, Box::new(Opened { broker, address, number })))
    }
}

/// Gives the address up when it is dropped.
struct Opened {
    broker: Weak<Broker>,
    address: Address,
    number: u64,
}

impl Guard for Opened {
    fn release(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        drop(self);
        Box::pin(std::future::ready(Ok(())))
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if let Some(broker) = self.broker.upgrade() {
            broker.inboxes.lock().close(&self.address, self.number);
        }
    }
}

/// All addresses of a broker.
#[derive(Default)]
pub(super) struct Addresses(Mutex<Register>);

impl Addresses {
    /// Gives up what a connection reads; its readers still get what is in their mailboxes.
    pub(super) fn leave(&self, connection: ConnectionId) {
        let mut state = self.lock();
        let readers = state.addresses.values_mut().map(|held| &mut held.reader);
        let ended: Vec<_> = readers
            .filter_map(|reader| reader.take_if(|reader| reader.connection == connection))
            .collect();
        state.addresses.retain(|_, held| !held.is_empty());
        drop(state);
        ended.iter().for_each(|reader| reader.sender.close());
    }

    fn send(&self, address: &Address, payload: Bytes, ttl: Duration) -> bool {
        let mut state = self.lock();
        let reader = state.addresses.get(address).and_then(|held| held.reader.as_ref());
        if let Some(sender) = reader.map(|reader| reader.sender.clone()) {
            drop(state);
            sender.send(payload);
            return true;
        }
        let expired = state.keep(address, payload, ttl);
        drop(state);
        drop(expired);
        false
    }

    /// A panic cannot leave the state half-changed (no user code runs under the lock), so a
    /// poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, Register> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct Register {
    addresses: HashMap<Address, Held>,
    kept: usize,
    clear_at: usize,
    last: u64,
}

#[derive(Default)]
struct Held {
    reader: Option<Reader>,
    kept: VecDeque<Kept>,
}

struct Reader {
    number: u64,
    connection: ConnectionId,
    sender: Sender<Bytes>,
}

struct Kept {
    payload: Bytes,
    /// `None`: longer than any clock can tell.
    until: Option<Instant>,
}

impl Held {
    fn is_empty(&self) -> bool {
        self.reader.is_none() && self.kept.is_empty()
    }
}

impl Kept {
    fn has_expired(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

impl Register {
    /// Seats a reader and gives it what was kept; hands back its predecessor and what had expired.
    fn open(
        &mut self,
        address: &Address,
        connection: ConnectionId,
        sender: Sender<Bytes>,
    ) -> (u64, Option<Reader>, Vec<Kept>) {
        self.last += 1;
        let number = self.last;
        let held = self.addresses.entry(address.clone()).or_default();
        let kept = std::mem::take(&mut held.kept);
        self.kept -= kept.len();
        let now = Instant::now();
        let (expired, fresh): (Vec<_>, Vec<_>) =
            kept.into_iter().partition(|message| message.has_expired(now));
        fresh.into_iter().for_each(|message| sender.send(message.payload));
        (number, held.reader.replace(Reader { number, connection, sender }), expired)
    }

    fn close(&mut self, address: &Address, number: u64) {
        let Some(held) = self.addresses.get_mut(address) else { return };
        held.reader.take_if(|reader| reader.number == number);
        if held.is_empty() {
            self.addresses.remove(address);
        }
    }

    /// Keeps a message; hands back what had expired, to be dropped without the lock.
    fn keep(&mut self, address: &Address, payload: Bytes, ttl: Duration) -> Vec<Kept> {
        let message = Kept { payload, until: Instant::now().checked_add(ttl) };
        match self.addresses.get_mut(address) {
            Some(held) => held.kept.push_back(message),
            None => {
                let held = Held { reader: None, kept: VecDeque::from([message]) };
                self.addresses.insert(address.clone(), held);
            }
        }
        self.kept += 1;
        if self.kept >= self.clear_at.max(CLEARING) { self.clear() } else { Vec::new() }
    }

    fn clear(&mut self) -> Vec<Kept> {
        let now = Instant::now();
        let mut expired = Vec::new();
        self.addresses.retain(|_, held| {
            let kept = std::mem::take(&mut held.kept);
            for message in kept {
                if message.has_expired(now) {
                    expired.push(message);
                } else {
                    held.kept.push_back(message);
                }
            }
            !held.is_empty()
        });
        self.kept -= expired.len();
        self.clear_at = self.kept * 2;
        expired
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::Form;
    use crate::transport::Arrival;

    fn address(name: &str) -> Address {
        Address::new(name, Form::Inbox)
    }

    fn memory() -> Memory {
        Memory::connect("memory://").expect("a memory address")
    }

    #[test]
    fn what_expired_is_not_delivered() {
        let memory = memory();
        let inboxes = &memory.broker.inboxes;
        inboxes.send(&address("a"), Bytes::from("old"), Duration::ZERO);
        inboxes.send(&address("a"), Bytes::from("new"), Duration::MAX);
        let mut inbox = memory.open_inbox_now(&address("a")).expect("an open connection");
        let arrival = inbox.recv_blocking(None).expect("no deadline");
        assert_eq!(arrival, Some(Arrival::Message(Bytes::from("new"))));
    }

    #[test]
    fn what_nobody_will_ever_read_is_thrown_away() {
        let memory = memory();
        let inboxes = &memory.broker.inboxes;
        inboxes.send(&address("kept"), Bytes::new(), Duration::MAX);
        for number in 0..10_000 {
            inboxes.send(&address(&number.to_string()), Bytes::new(), Duration::ZERO);
        }
        let state = inboxes.lock();
        assert!(state.addresses.len() <= CLEARING && state.kept == state.addresses.len());
        assert!(state.addresses.contains_key(&address("kept")));
    }

    #[test]
    fn a_new_reader_takes_the_address_over_and_the_old_one_cannot_close_it() {
        let memory = memory();
        let mut old = memory.open_inbox_now(&address("a")).expect("an open connection");
        let mut new = memory.open_inbox_now(&address("a")).expect("an open connection");
        assert_eq!(old.recv_blocking(None).expect("no deadline"), None);
        drop(old);
        assert!(memory.broker.inboxes.send(&address("a"), Bytes::from("b"), Duration::ZERO));
        let arrival = new.recv_blocking(None).expect("no deadline");
        assert_eq!(arrival, Some(Arrival::Message(Bytes::from("b"))));
        drop(new);
        assert!(memory.broker.inboxes.lock().addresses.is_empty());
    }
}
