//! Counts, shows and deletes the items of a queue, and shuts it down.
//!
//! The one invariant: looking decides no item's fate, and what this process gave back a moment ago is seen.

use bytes::Bytes;

use super::super::Core;
use super::super::purpose::Purpose;
use super::super::resp::{Command, Reply};
use super::item::{priority, unmarked};
use super::keys::Keys;
use super::{give_back, letter_format, scripts, send_settlements};
use crate::error::Result;
use crate::transport::{QueueSpec, QueueStats, Shelf};

pub(super) async fn stats(core: &Core, spec: &QueueSpec) -> Result<QueueStats> {
    let purpose = Purpose::idempotent("count", &spec.name);
    core.check(&purpose)?;
    quieten(core, spec).await;
    let keys = Keys::new(core, spec);
    give_back::reap(core, &keys).await?;
    let names = [keys.epochs.as_str(), &keys.list, &keys.dead, &keys.later, &keys.waits];
    let arguments = [keys.helds.as_bytes(), keys.urgents().as_bytes()];
    let reply = core.commands.script(purpose, &scripts::STATS, &names, &arguments).await?;
    let mut counts = reply.items().into_iter().map(|reply| reply.count());
    let mut count = || counts.next().unwrap_or_default();
    let mut stats = QueueStats::new(count(), count(), count());
    stats.delayed = count();
    stats.consumers = Some(count());
    Ok(stats)
}

/// Has done what only waits for company: it should not count as leased, and what was given back a
/// moment ago waits.
pub(super) async fn quieten(core: &Core, spec: &QueueSpec) {
    for consumer in core.consumers.of(&spec.name) {
        send_settlements::flush(core, &consumer).await;
        consumer.calm().await;
    }
}

pub(super) async fn peek(
    core: &Core,
    spec: &QueueSpec,
    from: Shelf,
    limit: usize,
) -> Result<Vec<Bytes>> {
    let purpose = Purpose::idempotent("peek", &spec.name);
    core.check(&purpose)?;
    if limit == 0 {
        return Ok(Vec::new());
    }
    let keys = Keys::new(core, spec);
    let items = match keys.shelf(from) {
        Some(_) if from == Shelf::Waiting && spec.priorities => {
            most_urgent(core, purpose, &keys, limit).await?
        }
        Some(key) => tail(core, purpose, key, 0, limit).await?,
        None => first_due(core, purpose, &keys, limit).await?,
    };
    let shown = |item: Bytes| match from {
        Shelf::Dead => letter_format::read(item, 0).payload,
        Shelf::Waiting | Shelf::Delayed => unmarked(&item, spec.priorities).0,
    };
    Ok(items.into_iter().map(shown).collect())
}

/// Up to `limit` of the items that wait, the most urgent first.
pub(super) async fn most_urgent(
    core: &Core,
    purpose: Purpose<'_>,
    keys: &Keys,
    limit: usize,
) -> Result<Vec<Bytes>> {
    // The first of the plain list may lead for its own list, whose others it comes before.
    let mut items = tail(core, purpose, &keys.list, 0, limit).await?;
    for list in keys.urgent() {
        items.extend(tail(core, purpose, &list, 0, limit).await?);
    }
    items.sort_by_key(|item| std::cmp::Reverse(priority(item)));
    items.truncate(limit);
    Ok(items)
}

/// Up to `limit` of the items that are due later, in the order of their time.
pub(super) async fn first_due(
    core: &Core,
    purpose: Purpose<'_>,
    keys: &Keys,
    limit: usize,
) -> Result<Vec<Bytes>> {
    let last = i64::try_from(limit).unwrap_or(i64::MAX) - 1;
    let command = Command::new("ZRANGE").arg(&keys.later).arg("0").arg(last.to_string());
    let members = core.commands.run(purpose, &command).await?.items();
    // Behind the colon of what makes it unique.
    let item = |member: Bytes| {
        let colon = member.iter().position(|&byte| byte == b':');
        member.slice(colon.map_or(0, |colon| colon + 1)..)
    };
    Ok(members.into_iter().filter_map(Reply::bytes).map(item).collect())
}

/// Up to `limit` items after the first `skip` from the head of a list, which is its right end.
pub(super) async fn tail(
    core: &Core,
    purpose: Purpose<'_>,
    key: &str,
    skip: usize,
    limit: usize,
) -> Result<Vec<Bytes>> {
    let from_end = |place: usize| i64::try_from(place).map_or(i64::MIN, |place| -place);
    let first = from_end(skip.saturating_add(limit)).to_string();
    let last = from_end(skip.saturating_add(1)).to_string();
    let command = Command::new("LRANGE").arg(key).arg(first).arg(last);
    let items = core.commands.run(purpose, &command).await?.items();
    Ok(items.into_iter().rev().filter_map(Reply::bytes).collect())
}

pub(super) async fn purge(core: &Core, spec: &QueueSpec, shelf: Shelf) -> Result<usize> {
    let purpose = Purpose::change("purge", &spec.name);
    core.check(&purpose)?;
    quieten(core, spec).await;
    let keys = Keys::new(core, spec);
    let mut names: Vec<String> = keys.shelf(shelf).into_iter().map(str::to_owned).collect();
    if shelf == Shelf::Waiting {
        names.extend(keys.urgent());
    }
    let mut commands: Vec<_> = names.iter().map(|list| Command::new("LLEN").arg(list)).collect();
    if shelf != Shelf::Dead {
        commands.push(Command::new("ZCOUNT").arg(&keys.later).arg("-inf").arg("+inf"));
        names.push(keys.later.clone());
    }
    let counted = commands.len();
    commands.push(Command::new("UNLINK").args(names));
    if shelf == Shelf::Waiting {
        commands.push(Command::new("DEL").arg(&keys.shut));
        commands.push(Command::new("PUBLISH").arg(&keys.hint).arg("purge"));
    }
    let replies = core.commands.transaction(purpose, commands).await?;
    core.consumers.of(&spec.name).iter().for_each(|consumer| consumer.poke());
    Ok(replies.iter().take(counted).map(Reply::count).sum())
}

pub(super) async fn shut_down(core: &Core, spec: &QueueSpec) -> Result<()> {
    let purpose = Purpose::repeatable("shut down", &spec.name);
    core.check(&purpose)?;
    let keys = Keys::new(core, spec);
    let names = [keys.shut.as_str(), &keys.spare];
    core.commands.script(purpose, &scripts::SHUT_DOWN, &names, &[keys.hint.as_bytes()]).await?;
    core.consumers.of(&spec.name).iter().for_each(|consumer| consumer.poke());
    Ok(())
}

impl Keys {
    /// The list in which the items of a shelf lie; those for later are in none.
    fn shelf(&self, shelf: Shelf) -> Option<&str> {
        match shelf {
            Shelf::Waiting => Some(&self.list),
            Shelf::Dead => Some(&self.dead),
            Shelf::Delayed => None,
        }
    }
}
