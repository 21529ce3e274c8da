//! What programs that ended badly leave on a server, and how it is cleared up.
//!
//! The one invariant: nothing is deleted. Answers to callers of the original get the time to live that
//! their provider should have given them; what an epoch holds that is not registered is registered, so
//! that it goes back to its queue as what any dead consumer held.

use std::time::Duration;

use super::Core;
use super::inspect::{keys, milliseconds};
use super::purpose::Purpose;
use super::queue::{of_side_key, side_key};
use super::refusal::Refusal;
use super::resp::{Command, Reply};
use super::timing::TAKEN_UNNOTED;
use crate::error::Result;
use crate::transport::Leftover;

/// How long the original keeps answers that nobody fetches.
const KEPT: Duration = Duration::from_secs(300);
/// What names of answers to callers of the original have behind their namespace.
const ANSWERS: &str = "__rpc_";

/// Everything under names of that pattern, which ends in a star.
pub(super) async fn find(core: &Core, pattern: &str) -> Result<Vec<Leftover>> {
    let mut found = Vec::new();
    let answers = [pattern.trim_end_matches('*'), ANSWERS, "*"].concat();
    for name in keys(core, &answers, Some("list")).await? {
        if unless_moved(never_ends(core, &name).await)? {
            let words = "answers to a caller of the original that nobody fetched, kept for ever; \
                         tidying keeps them for 300 s more";
            found.push(Leftover::new(name, words));
        }
    }
    for name in keys(core, &side_key(pattern, "held:*"), Some("list")).await? {
        if unless_moved(is_unregistered(core, &name).await)? {
            let words = "items of a consumer that nothing knows of; tidying lets them go back to \
                         their queue";
            found.push(Leftover::new(name, words));
        }
    }
    Ok(found)
}

/// What another node of a cluster has by now, or will have in a moment, is not here.
fn unless_moved(asked: Result<bool>) -> Result<bool> {
    match asked {
        Err(error) if Refusal::has_left(&error) => Ok(false),
        asked => asked,
    }
}

/// Looks once more, since its owner may have come, then does it.
pub(super) async fn tidy(core: &Core, leftover: &Leftover) -> Result<()> {
    let name = &leftover.name;
    let purpose = Purpose::idempotent("tidy", name);
    let command = match held_of(name) {
        Some((queue, epoch)) if is_unregistered(core, name).await? => {
            let registry = side_key(queue, "epochs");
            let end = lease_end(core, purpose).await?;
            Command::new("ZADD").arg(registry).arg("NX").arg(format!("{end:.0}")).arg(epoch)
        }
        None if name.contains(ANSWERS) && never_ends(core, name).await? => {
            Command::new("PEXPIRE").arg(name).number(KEPT.as_millis())
        }
        _ => return Ok(()),
    };
    let reply = core.commands.run(purpose, &command).await?;
    purpose.check(Some(reply)).map(drop)
}

/// Until when what nothing is known of is left to its taker, by the server's clock: on a cluster it may live,
/// and say so in a moment.
async fn lease_end(core: &Core, purpose: Purpose<'_>) -> Result<f64> {
    if core.dialer.home().is_none() {
        return Ok(0.0);
    }
    let now = milliseconds(core.commands.run(purpose, &Command::new("TIME")).await?);
    Ok(now + TAKEN_UNNOTED.as_secs_f64() * 1000.0)
}

async fn never_ends(core: &Core, key: &str) -> Result<bool> {
    let purpose = Purpose::idempotent("look at", key);
    let left = core.commands.run(purpose, &Command::new("PTTL").arg(key)).await?;
    Ok(left.number() == Some(-1))
}

async fn is_unregistered(core: &Core, held: &str) -> Result<bool> {
    let Some((queue, epoch)) = held_of(held) else { return Ok(false) };
    let purpose = Purpose::idempotent("look at", held);
    let registry = side_key(queue, "epochs");
    let score = Command::new("ZSCORE").arg(registry).arg(epoch);
    Ok(core.commands.run(purpose, &score).await? == Reply::Nothing)
}

/// Of which queue and which epoch a list holds the items.
fn held_of(key: &str) -> Option<(&str, &str)> {
    let (queue, what) = of_side_key(key)?;
    Some((queue, what.strip_prefix("held:")?))
}
