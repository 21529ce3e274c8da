//! Addressed messages over the shared file: see [`addresses`](super::addresses).

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_core::future::BoxFuture;

use super::hub::Hub;
use super::peers::Step;
use super::{Ipc, addresses};
use crate::error::Result;
use crate::name::Address;
use crate::transport::{Answer, Guard, Inbox, Inboxes, Limit, mailbox, pending};

impl Inboxes for Ipc {
    fn open_inbox<'a>(&'a self, address: &'a Address) -> Answer<'a, Inbox> {
        let seated = self.hub.run("open", address.name(), move |step| {
            let number = addresses::sit_down(step, self.hub.peer, address)?;
            let (sender, messages) = mailbox(Limit::default());
            // Before the step is over and anything comes.
            self.hub.recipients().seats.insert(number, sender);
            let hub = Arc::downgrade(&self.hub);
            let guard = Seated { hub, address: address.clone(), number };
            let more = addresses::give_kept(step, address, number)?;
            Ok((Inbox::new(messages, Box::new(guard)), more.then_some(number)))
        });
        pending(async move {
            let (inbox, more) = seated.await?;
            let Some(number) = more else { return Ok(inbox) };
            let some = |step: &mut Step<'_>| addresses::give_kept(step, address, number);
            while self.hub.run("open", address.name(), some).await? {}
            Ok(inbox)
        })
    }

    fn send<'a>(&'a self, address: &'a Address, payload: Bytes, ttl: Duration) -> Answer<'a, bool> {
        let keep = u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX);
        self.hub
            .run("send", address.name(), move |step| addresses::send(step, address, &payload, keep))
    }
}

/// Gives the address up when it is dropped.
struct Seated {
    hub: Weak<Hub>,
    address: Address,
    number: u64,
}

impl Guard for Seated {
    fn release(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        drop(self);
        Box::pin(std::future::ready(Ok(())))
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        let (address, number) = (self.address.clone(), self.number);
        let Some(hub) = self.hub.upgrade() else { return };
        hub.soon(move |hub, patience| {
            // What lies there for the reader is taken first: its place is about to go.
            let left =
                hub.take_all_post(patience, |step| addresses::leave(step, &address, number))?;
            if left {
                hub.recipients().seats.remove(&number);
            }
            Ok(left)
        });
    }
}
