//! Rounds of claiming: one write that confirms what is done, takes what is there and registers who has it.
//!
//! The one invariant: the write that may take an item also registers the item's epoch, by a command
//! behind the one that takes. So a process that is killed at any command leaves no item in a list that
//! no reaper finds, even if the server had forgotten its registry or executes a command of a dead
//! connection late.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::super::Core;
use super::super::purpose::Purpose;
use super::super::refusal::{Cause, Refusal};
use super::super::resp::{Batch, Command, Reply};
use super::consumer::Consumer;
use super::getters::Want;
use super::keys::{Epoch, HeldList, Keys};
use super::pending_settlement::PendingSettlement;
use super::send_settlements::take_reply;
use super::{copy, lease, scripts};
use crate::error::{ErrorKind, Result};
use crate::transport::Wait;

/// The wait at the server after which the consumer listens for hints and counts among those that wait: only
/// an idle consumer pays for them.
pub(super) const FIRST_SLICE: Duration = Duration::from_secs(1);

/// One round of claiming.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) epoch: Epoch,
    /// Confirmations that ride along.
    pub(super) acks: Vec<PendingSettlement>,
    pub(super) want: Want,
    /// The epoch's lists that may be at the server, those too into which this round takes nothing: the
    /// epoch is registered as a whole, or what is not named would grow old beside what is.
    pub(super) lists: Vec<HeldList>,
    /// The time to wait for the first item; `None` is not at all.
    pub(super) slice: Option<Duration>,
    pub(super) bounded: bool,
    /// Until when the epoch is registered, by the server's clock, if it surely is; else a script
    /// finds out.
    pub(super) lease_end: Option<i64>,
    pub(super) began: Instant,
}

impl Round {
    /// Its commands: confirmations, takes, registration, and what else belongs to the same write.
    pub(super) fn commands(&self, consumer: &Consumer) -> Batch {
        let keys = consumer.keys();
        let mut commands: Batch = self.acks.iter().map(|ack| ack.confirm(keys)).collect();
        let take = |name, held: &str| {
            Command::new(name).arg(&keys.list).arg(held).arg("RIGHT").arg("LEFT")
        };
        let held = keys.held(self.epoch.shown());
        let mut moves = self.want.now;
        // Each item moves from the queue into our list in one step of the server, so that it is in one of
        // the two whenever either side dies.
        if let Some(slice) = self.slice {
            // Zero would wait for ever.
            let wait = format!("{:.3}", slice.as_secs_f64().max(0.001));
            commands.extend([take("BLMOVE", &held).arg(wait)]);
            moves -= 1;
        }
        if keys.policy().priorities {
            commands.extend([self.take_first(keys, moves)]);
        } else {
            commands.extend(std::iter::repeat_n(take("LMOVE", &held), moves));
        }
        if self.fetches_ahead() && !keys.policy().priorities {
            let ahead = take("LMOVE", &keys.held(self.epoch.ahead()));
            commands.extend(std::iter::repeat_n(ahead, self.want.ahead));
        }
        // Behind the takes, where it can be seen whether anything was taken. The server executes the whole
        // write, whether we live or not.
        commands.extend([self.registration(consumer, keys)]);
        if self.asks_for_shutdown() {
            // Of a key that is named twice it says 2: one command tells both.
            let ask = Command::new("EXISTS").arg(&keys.shut).arg(&keys.shut).arg(&keys.later);
            commands.extend([ask]);
        }
        if self.bounded {
            // Producers that wait for space hear of it at once; a poll makes up for a hint that is lost.
            commands.extend([Command::new("PUBLISH").arg(&keys.hint).arg("space")]);
        }
        commands
    }

    /// Takes the most urgent items. The script is sent as text: to a server that does not know the digest,
    /// the queue would look empty.
    fn take_first(&self, keys: &Keys, now: usize) -> Command {
        let held = keys.held(self.epoch.shown());
        let names = [keys.list.as_str(), &held, &keys.held(self.epoch.ahead()), &keys.spare];
        let words = [keys.urgents(), &*now.to_string(), &self.want.ahead.to_string()];
        scripts::TAKE_FIRST.teach(&names, &words.map(str::as_bytes))
    }

    /// Registers the epoch. Where it surely is registered, a short command does, which changes
    /// something only for a server that forgot; else a script that first looks whether anything was
    /// taken, so that who gets nothing leaves no key.
    fn registration(&self, consumer: &Consumer, keys: &Keys) -> Command {
        match self.lease_end {
            Some(end) => {
                let mut command = Command::new("ZADD").arg(&keys.epochs).arg("NX");
                for place in &self.lists {
                    command = command.number(end).arg(keys.name(*place));
                }
                command
            }
            // By its text: a server that does not know the digest would refuse, after the take.
            None => lease::keep(consumer, &self.lists, self.waits_long()),
        }
    }

    /// Whether it waits for long enough to be counted as a consumer, though it gets nothing.
    pub(super) fn waits_long(&self) -> bool {
        self.slice.is_some_and(|slice| slice >= FIRST_SLICE)
    }

    fn fetches_ahead(&self) -> bool {
        self.want.ahead > 0
    }

    /// The number of its commands that take items: one for each item, or one script for all, behind the command
    /// that waits.
    fn takes(&self, consumer: &Consumer) -> usize {
        if consumer.keys().policy().priorities {
            1 + usize::from(self.slice.is_some())
        } else {
            self.want.now + self.want.ahead
        }
    }

    /// Into which list each item goes that it takes, in their order.
    fn places_taken(&self) -> impl Iterator<Item = HeldList> + use<> {
        let Want { now, ahead } = self.want;
        let shown = std::iter::repeat_n(self.epoch.shown(), now);
        shown.chain(std::iter::repeat_n(self.epoch.ahead(), ahead))
    }

    /// The script says so by itself; in a wait, the next one does.
    fn asks_for_shutdown(&self) -> bool {
        self.slice.is_none() && self.lease_end.is_some()
    }
}

/// The result of a round.
pub(super) struct Brought {
    pub(super) items: Vec<(HeldList, Bytes)>,
    /// The server's memory is full.
    pub(super) full: bool,
    /// The wait was ended by us.
    pub(super) ended: bool,
    pub(super) refused: Option<Refusal>,
    pub(super) shut: bool,
}

impl Brought {
    /// Notes what a command answered that takes an item into a list.
    fn note(&mut self, place: Option<HeldList>, reply: Reply) {
        match (place, reply) {
            (Some(place), Reply::Bytes(stored)) => self.items.push((place, stored)),
            (_, Reply::Refused(refusal)) if refusal.cause() == Cause::Full => self.full = true,
            // Our own doing: nothing was taken.
            (_, Reply::Refused(refusal)) if refusal.cause() == Cause::Ended => self.ended = true,
            (_, Reply::Refused(refusal)) => self.refused = Some(refusal),
            _ => {}
        }
    }
}

/// Takes in the answer of a round: all but the items, which are the caller's to hand out.
pub(super) async fn digest(
    core: &Core,
    consumer: &Consumer,
    mut round: Round,
    replies: Vec<Reply>,
    wait: Wait,
) -> Result<Brought> {
    let mut brought =
        Brought { items: Vec::new(), full: false, ended: false, refused: None, shut: false };
    let asks_for_shutdown = round.asks_for_shutdown();
    let mut replies = replies.into_iter();
    for settling in std::mem::take(&mut round.acks) {
        take_reply(core, consumer, settling, replies.next().unwrap_or(Reply::Nothing)).await;
    }
    let mut places = round.places_taken();
    for reply in replies.by_ref().take(round.takes(consumer)) {
        match reply {
            Reply::List(items) => {
                items.into_iter().for_each(|item| brought.note(places.next(), item));
            }
            reply => brought.note(places.next(), reply),
        }
    }
    let registration = replies.next().unwrap_or(Reply::Nothing);
    if brought.full && brought.items.is_empty() {
        let taken = take_by_script(core, consumer, &round, wait).await;
        brought.items = taken?;
        return Ok(brought);
    }
    let registered = match registration {
        Reply::Refused(refusal) if brought.items.is_empty() => {
            // A full server refuses to register what nothing was taken for: that is no failure.
            let refusal = Some(refusal).filter(|refusal| refusal.cause() != Cause::Full);
            brought.refused = brought.refused.or(refusal);
            return Ok(brought);
        }
        // Items came and their registration was refused: once more by itself, before they are handed out.
        Reply::Refused(_) => lease::beat(core, consumer, &[round.epoch]).await,
        reply => {
            brought.shut = note_registration(consumer, &round, reply, brought.items.is_empty());
            Ok(())
        }
    };
    if asks_for_shutdown {
        let flags = replies.next().and_then(|reply| reply.number());
        brought.shut = flags.is_some_and(|flags| consumer.note_flags(flags));
    }
    if let Err(error) = registered {
        // Held by an epoch that nobody else finds: it must not stay so.
        consumer.give_back(brought.items);
        return Err(copy(&error, "claim"));
    }
    Ok(brought)
}

/// Notes what the registration of a round says; returns whether the queue is shut down, as far as it
/// says so.
fn note_registration(consumer: &Consumer, round: &Round, reply: Reply, empty: bool) -> bool {
    if round.lease_end.is_some() {
        if empty && round.slice.is_some() {
            // The script of the next round looks at everything again.
            consumer.note_doubt(round.epoch);
        }
        return false;
    }
    lease::note_kept(consumer, &round.lists, round.began, reply).shut
}

/// For a server whose memory is full: it refuses BLMOVE, but consumers must be able to drain. Nothing
/// is fetched ahead there.
async fn take_by_script(
    core: &Core,
    consumer: &Consumer,
    round: &Round,
    wait: Wait,
) -> Result<Vec<(HeldList, Bytes)>> {
    let keys = consumer.keys();
    let place = round.epoch.shown();
    let held = keys.held(place);
    let purpose = Purpose::change("claim", &keys.name).within(wait);
    let names = [keys.list.as_str(), &held, &keys.spare];
    let want = round.want.now.to_string();
    // Both by their text, in one write.
    let take = if keys.policy().priorities {
        round.take_first(keys, round.want.now)
    } else {
        scripts::TAKE.teach(&names, &[want.as_bytes()])
    };
    let commands = Batch::from_iter([take, lease::keep(consumer, &round.lists, false)]);
    let replies = core.commands.pipeline(purpose, &commands).await.inspect_err(|error| {
        if error.kind() == ErrorKind::Ambiguous {
            consumer.doubt(round.epoch);
        }
    });
    let mut replies = replies.map_err(|error| copy(&error, "claim"))?.into_iter();
    let taken = purpose.check(replies.next())?.items();
    if let Some(reply) = replies.next() {
        lease::note_kept(consumer, &round.lists, round.began, reply);
    }
    Ok(taken.into_iter().filter_map(Reply::bytes).map(|stored| (place, stored)).collect())
}
