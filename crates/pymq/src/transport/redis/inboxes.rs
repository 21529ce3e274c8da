//! Addressed messages: live inboxes over subscriptions, the original's reply lists over BRPOP.
//!
//! The one invariant: a message is either given to its reader or lies in a list that expires. An
//! item that a closed list inbox had already taken into its mailbox is gone with it, as a reply
//! whose caller left.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_core::future::BoxFuture;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::dialer::jitter;
use super::events::publish;
use super::purpose::Purpose;
use super::queue::side_key;
use super::refusal::Cause;
use super::resp::{Command, Fault, Reply, Socket};
use super::routes::{Name, Target};
use super::script::Script;
use super::timing::SLICE;
use super::{Core, Redis};
use crate::error::Result;
use crate::name::{Address, Form};
use crate::transport::{Answer, Guard, Inbox, Inboxes, Limit, Sender, mailbox, pending};

/// How long an item lives that a closing reader gives back to its list, as the original has it.
const KEPT: Duration = Duration::from_secs(300);

/// Publishes, or keeps where nobody listens, in one step: between the two a reader could come back.
static DELIVER: Script = Script::new(include_str!("deliver.lua"));

impl Inboxes for Redis {
    fn open_inbox<'a>(&'a self, address: &'a Address) -> Answer<'a, Inbox> {
        pending(open(&self.core, address))
    }

    fn send<'a>(&'a self, address: &'a Address, payload: Bytes, ttl: Duration) -> Answer<'a, bool> {
        pending(send(&self.core, address, payload, ttl))
    }
}

async fn open(core: &Arc<Core>, address: &Address) -> Result<Inbox> {
    let purpose = Purpose::change("open", address.name());
    core.check(&purpose)?;
    let (sender, receiver) = mailbox(Limit::default());
    match address.form() {
        Form::Inbox => {
            let names = vec![Name::Topic(address.name().into())];
            let target = Target::Inbox(sender);
            let membership = core.pubsub.join(purpose, names, target).await?;
            Ok(Inbox::new(receiver, Box::new(membership)))
        }
        Form::List => {
            let (end, ended) = oneshot::channel();
            let reader = ListReader {
                core: Arc::clone(core),
                list: core.dialer.key(address.name()).into_owned(),
                mailbox: sender,
            };
            let task = core.runtime.spawn(reader.run(ended));
            Ok(Inbox::new(receiver, Box::new(Reading { end: Some(end), task: Some(task) })))
        }
    }
}

async fn send(core: &Core, address: &Address, payload: Bytes, ttl: Duration) -> Result<bool> {
    let purpose = Purpose::change("send", address.name());
    core.check(&purpose)?;
    let ttl = || ttl.as_millis().clamp(1, i64::MAX as u128).to_string();
    let key = core.dialer.key(address.name());
    match address.form() {
        Form::List => {
            let push = Command::new("LPUSH").arg(&*key).arg(&payload);
            let expire = Command::new("PEXPIRE").arg(&*key).arg(ttl());
            core.commands.transaction(purpose, vec![push, expire]).await?;
            Ok(false)
        }
        Form::Inbox => {
            let receivers = publish(core, &purpose, address.name(), &payload).await?;
            if receivers.is_some_and(|receivers| receivers > 0) {
                return Ok(true);
            }
            // Nobody has it, so that publishing again cannot make it two.
            let keys = [&*key];
            let ttl = ttl();
            let arguments: [&[u8]; 3] = [&payload, ttl.as_bytes(), address.name().as_bytes()];
            let reply = core.commands.script(purpose, &DELIVER, &keys, &arguments).await?;
            Ok(reply.number() > Some(0))
        }
    }
}

/// A list inbox's end.
struct Reading {
    end: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<()>>,
}

impl Drop for Reading {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            // Refused only when the reader has ended already.
            let _ = end.send(());
        }
    }
}

impl Guard for Reading {
    fn release(mut self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        let task = self.task.take();
        drop(self);
        Box::pin(async move {
            if let Some(task) = task {
                // An error says that the runtime is shutting down, and the reader with it.
                let _ = task.await;
            }
            Ok(())
        })
    }
}

struct ListReader {
    core: Arc<Core>,
    list: String,
    mailbox: Sender<Bytes>,
}

impl ListReader {
    async fn run(self, end: oneshot::Receiver<()>) {
        let core = Arc::clone(&self.core);
        let _reading = core.readers.read().await;
        let mut ended = std::pin::pin!(async {
            tokio::select! {
                _ = end => {}
                () = core.closing() => {}
            }
        });
        loop {
            let socket = tokio::select! {
                socket = self.core.pool.take() => socket,
                () = &mut ended => break,
            };
            let (finished, outcome) = {
                let mut reading = std::pin::pin!(self.read(&socket, &mut ended));
                reading.as_mut().await
            };
            match outcome {
                Ok(()) => self.core.pool.put(socket),
                // A reply may have been on its way.
                Err(_) => self.mailbox.gap(),
            }
            if finished {
                break;
            }
        }
        self.mailbox.close();
    }

    /// Reads until the end (`true`) or until the connection fails.
    async fn read(
        &self,
        socket: &Socket,
        ended: &mut (impl Future<Output = ()> + Unpin),
    ) -> (bool, Result<(), Fault>) {
        let pop = Command::new("BRPOP").arg(&self.list).number(SLICE.as_secs());
        loop {
            let mut answer = std::pin::pin!(socket.run(&pop));
            let outcome = tokio::select! {
                outcome = &mut answer => outcome,
                () = &mut *ended => {
                    let spare = self.core.dialer.key(&side_key(&self.list, "spare")).into_owned();
                    let outcome = self.core.unblock(socket, &spare, answer).await;
                    return (true, self.give_back(outcome).await);
                }
            };
            match outcome {
                Ok(reply) => {
                    if let Some(item) = popped(reply) {
                        self.mailbox.send(item);
                    }
                }
                Err(Fault::Lost(why)) => return (false, Err(Fault::Lost(why))),
                Err(Fault::Refused(refusal)) => {
                    let why = refusal.explained(&self.list);
                    tracing::warn!(list = self.list, why, "the server refuses a reply list");
                    tokio::select! {
                        () = tokio::time::sleep(jitter(SLICE / 10, SLICE / 2)) => {}
                        () = &mut *ended => return (true, Ok(())),
                    }
                }
            }
        }
    }

    async fn give_back(&self, outcome: Result<Reply, Fault>) -> Result<(), Fault> {
        let reply = match outcome {
            Err(Fault::Refused(refusal)) if refusal.cause() == Cause::Ended => return Ok(()),
            outcome => outcome?,
        };
        let Some(item) = popped(reply) else { return Ok(()) };
        let push = Command::new("RPUSH").arg(&self.list).arg(&item);
        let expire = Command::new("PEXPIRE").arg(&self.list).number(KEPT.as_millis() as u64);
        let purpose = Purpose::change("close", &self.list);
        if let Err(error) = self.core.commands.transaction(purpose, vec![push, expire]).await {
            tracing::warn!(%error, "a reply that came while its inbox closed is lost");
        }
        Ok(())
    }
}

/// The item in BRPOP's answer.
fn popped(reply: Reply) -> Option<Bytes> {
    reply.items().into_iter().nth(1)?.bytes()
}
