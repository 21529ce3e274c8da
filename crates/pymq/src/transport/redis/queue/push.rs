//! Putting: plain pushes as the original's, or by a script where the queue is bounded, the items are
//! urgent or due later, or the put has an id.
//!
//! The one invariant: an error says whether the items are in the queue. A put is never repeated by
//! itself, unless it has an id: then a repetition is seen to be one.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::super::dialer::jitter;
use super::super::membership::Membership;
use super::super::purpose::{Purpose, Repeat};
use super::super::refusal::Refusal;
use super::super::replicated::Done;
use super::super::resp::{Batch, Command, Reply};
use super::super::routes::{Name, Target};
use super::super::{ABLE, Core};
use super::keys::Keys;
use super::lacking;
use super::scripts::{self, milliseconds};
use crate::error::{ErrorKind, Result};
use crate::transport::{Put, PutOptions, QueueSpec, refusals};

pub(super) async fn push(
    core: &Core,
    spec: &QueueSpec,
    items: Vec<Bytes>,
    options: PutOptions,
) -> Result<Put> {
    let purpose = Purpose::change("push", &spec.name).within(options.wait);
    core.check(&purpose)?;
    if let Some(what) = options.lacking(ABLE) {
        return Err(lacking(&purpose, what));
    }
    let _under_way = core.pushes.read().await;
    let keys = Keys::new(core, spec);
    let urgent = spec.priorities && options.priority > 0;
    let items = if urgent { prioritised(items, options.priority) } else { items };
    let plain = options.due.delay().is_zero() && options.id.is_none() && !urgent;
    // There is always space for nothing; whether the queue is shut down is said all the same.
    let maxsize = if items.is_empty() { usize::MAX } else { spec.maxsize };
    if maxsize == 0 && plain {
        return push_unbounded(core, &purpose, &keys, &items).await.map(|()| Put::Done);
    }
    push_by_script(core, purpose, &keys, &items, maxsize, &options).await
}

/// Items with their priority before them: a tab for each step, which decoders of JSON skip.
fn prioritised(items: Vec<Bytes>, priority: u8) -> Vec<Bytes> {
    let tabs = &b"\t\t\t\t\t\t\t\t\t"[..usize::from(priority.min(PutOptions::MOST_URGENT))];
    items.into_iter().map(|item| Bytes::from([tabs, &*item].concat())).collect()
}

/// A plain LPUSH, as the original's. Whether the queue is shut down is asked in the same write; in
/// that rare case the items are taken back, unless a consumer was faster: then they were put.
async fn push_unbounded(
    core: &Core,
    purpose: &Purpose<'_>,
    keys: &Keys,
    items: &[Bytes],
) -> Result<()> {
    let room = keys.list.len() + items.iter().map(Bytes::len).sum::<usize>();
    let put = Command::with_room("LPUSH", room).arg(&keys.list).args(items);
    let ask = Command::new("EXISTS").arg(&keys.shut);
    let done = core.changes.pipeline(*purpose, Batch::from_iter([put, ask.clone()])).await?;
    let confirmed = done.confirmed(purpose);
    let mut replies = done.reply.into_iter();
    if purpose.check(replies.next())?.number().is_none() {
        return Err(purpose.nonsense());
    }
    let mut shut = purpose.check(replies.next());
    if shut.as_ref().is_err_and(Refusal::is_a_clusters) {
        // The list was here, and of what is beside it another node knows more.
        // In the put's own time, for the items are in the queue already.
        let asks_again = Purpose { repeat: Repeat::Once, ..*purpose };
        shut = core.commands.run(asks_again, &ask).await;
    }
    match shut {
        Ok(reply) if reply.number() == Some(1) => withdraw(core, purpose, keys, items).await,
        Ok(_) => confirmed,
        Err(error) => {
            // The items are in the queue: that is what the caller asked about.
            tracing::warn!(queue = keys.name, %error, "pushed, but a shutdown would not be seen");
            confirmed
        }
    }
}

/// Takes items back from a queue that is shut down. Where that cannot be done they stay, which is
/// neither a put that was refused nor one that was done.
async fn withdraw(core: &Core, purpose: &Purpose<'_>, keys: &Keys, items: &[Bytes]) -> Result<()> {
    let arguments: Vec<&[u8]> = items.iter().map(|item| &**item).collect();
    let names = [keys.list.as_str()];
    match core.commands.script(*purpose, &scripts::WITHDRAW, &names, &arguments).await {
        Ok(found) if found.number() > Some(0) => {
            Err(refusals::shut_down(purpose.operation, purpose.object))
        }
        Ok(_) => Ok(()),
        Err(error) => {
            let why = format!(
                "the queue was shut down, and the items may be in it all the same ({})",
                error.message()
            );
            Err(purpose.error(ErrorKind::Ambiguous, why))
        }
    }
}

/// A put by script: of a bounded queue it checks the length, tried again until there is space:
/// consumers of bounded queues give a hint, and a poll makes up for those who do not.
async fn push_by_script(
    core: &Core,
    purpose: Purpose<'_>,
    keys: &Keys,
    items: &[Bytes],
    maxsize: usize,
    options: &PutOptions,
) -> Result<Put> {
    if maxsize > 0 && items.len() > maxsize {
        return Err(refusals::too_many(purpose.object, items.len(), maxsize));
    }
    let once = Once::of(keys, options);
    let mut hints = Hints::default();
    loop {
        let delay = options.due.delay();
        let done = once.try_put(core, purpose, keys, items, maxsize, delay).await?;
        match done.reply.number() {
            Some(-3) => return done.confirmed(&purpose).map(|()| Put::Already),
            Some(-2) => return Err(refusals::shut_down(purpose.operation, purpose.object)),
            Some(-1) => {}
            Some(0..) => {
                if !delay.is_zero() {
                    core.consumers.of(&keys.name).iter().for_each(|one| one.expect(delay));
                }
                return done.confirmed(&purpose).map(|()| Put::Done);
            }
            _ => return Err(purpose.nonsense()),
        }
        let left = options.wait.left();
        if left == Some(Duration::ZERO) {
            return Err(refusals::full(purpose.object, maxsize));
        }
        // Only here: what was sent is waited for, since its items may be in the queue.
        tokio::select! {
            () = core.closing() => return Err(purpose.closed()),
            () = hints.wait(core, purpose, keys, left) => {}
        }
    }
}

/// The hints of a bounded queue's consumers that there is space.
#[derive(Default)]
struct Hints {
    space: Arc<Notify>,
    membership: Option<Membership>,
}

impl Hints {
    /// Waits until there may be space: at once when it has begun to listen.
    async fn wait(
        &mut self,
        core: &Core,
        purpose: Purpose<'_>,
        keys: &Keys,
        left: Option<Duration>,
    ) {
        if self.membership.is_none() {
            let name = Name::Topic(keys.hint.as_str().into());
            let target = Target::Hint(Arc::clone(&self.space));
            // Without it, the poll alone has to do.
            self.membership = core.pubsub.join(purpose, vec![name], target).await.ok();
            if self.membership.is_some() {
                return;
            }
        }
        let poll = jitter(Duration::from_millis(50), Duration::from_millis(250));
        tokio::select! {
            () = self.space.notified() => {}
            () = sleep(left.map_or(poll, |left| left.min(poll))) => {}
        }
    }
}

/// The name of one put, the same for each attempt.
struct Once {
    /// The key that remembers it; one that is never there where it has no id.
    id: String,
    token: String,
    /// For how many ms it is remembered.
    window: String,
}

impl Once {
    fn of(keys: &Keys, options: &PutOptions) -> Self {
        let (id, window) = match &options.id {
            Some(id) => (keys.id(&id.id), milliseconds(id.window)),
            None => (keys.spare.clone(), "0".to_owned()),
        };
        Self { id, token: keys.token(), window }
    }

    async fn try_put(
        &self,
        core: &Core,
        purpose: Purpose<'_>,
        keys: &Keys,
        items: &[Bytes],
        maxsize: usize,
        delay: Duration,
    ) -> Result<Done<Reply>> {
        // With an id, doing it twice is doing it once.
        let repeat = if self.window == "0" { purpose.repeat } else { Repeat::Repeatable };
        let delay = if delay.is_zero() { "0".to_owned() } else { milliseconds(delay) };
        let maxsize = maxsize.to_string();
        let words = [&*maxsize, &delay, &self.token, &self.window, &keys.hint, keys.urgents()];
        let words = words.map(str::as_bytes).into_iter();
        let arguments: Vec<&[u8]> = words.chain(items.iter().map(|item| &**item)).collect();
        let names = [keys.list.as_str(), &keys.shut, &keys.later, &self.id];
        let purpose = Purpose { repeat, ..purpose };
        core.changes.script(purpose, &scripts::PUT, &names, &arguments).await
    }
}
