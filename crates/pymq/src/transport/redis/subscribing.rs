//! What is said to the server about subscriptions: names in commands, and the inboxes' kept messages.
//!
//! The one invariant: names that belong together are subscribed to in one command. It keeps nothing:
//! the table is `routes`', the order of changes `pubsub`'s.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::refusal::Refusal;
use super::resp::{Batch, Command, Fault, Reply, Socket, Subscribing};
use super::routes::Name;
use crate::error::Result;
use crate::transport::Sender;

/// How many names go into one SUBSCRIBE after a reconnect.
const CHUNK: usize = 1000;
/// How many names of a subscription stand in the log.
const SHOWN: usize = 3;

/// Groups of names, as many to a command as go well; a group is never cut.
pub(super) fn portions(groups: &[(u64, Vec<Name>)]) -> impl Iterator<Item = &[(u64, Vec<Name>)]> {
    let mut names = 0;
    groups.chunk_by(move |(_, one), (_, next)| {
        names += one.len();
        let fits = names + next.len() <= CHUNK;
        if !fits {
            names = 0;
        }
        fits
    })
}

fn split(names: &[Name]) -> (Vec<Arc<str>>, Vec<Arc<str>>) {
    let (mut topics, mut patterns) = (Vec::new(), Vec::new());
    for name in names {
        match name {
            Name::Topic(topic) => topics.push(Arc::clone(topic)),
            Name::Pattern(pattern) => patterns.push(Arc::clone(pattern)),
        }
    }
    (topics, patterns)
}

/// All exact names in one command: the server begins with them in one step.
pub(super) async fn subscribe(socket: &Socket, names: &[Name]) -> Result<(), Fault> {
    let (topics, patterns) = split(names);
    socket.subscribing(Subscribing::To, &topics).await?;
    socket.subscribing(Subscribing::ToPatterns, &patterns).await
}

/// Names that are in use elsewhere are not told to the server, but its answer to anything comes
/// behind their messages.
pub(super) async fn unsubscribe(socket: &Socket, names: &[Name]) -> Result<(), Fault> {
    if names.is_empty() {
        return match socket.pipeline(&Batch::from_iter([Command::new("PING")])).await {
            // Also where the user may not ask for it.
            Ok(_) | Err(Fault::Refused(_)) => Ok(()),
            Err(Fault::Lost(why)) => Err(Fault::Lost(why)),
        };
    }
    let (topics, patterns) = split(names);
    socket.subscribing(Subscribing::NoMore, &topics).await?;
    socket.subscribing(Subscribing::NoMorePatterns, &patterns).await
}

/// Subscribes to each group by itself, since one of them is forbidden; notes whose are.
pub(super) async fn one_by_one(
    socket: &Socket,
    groups: &[(u64, Vec<Name>)],
    refused: &mut HashMap<u64, Refusal>,
) -> Result<(), Fault> {
    for (id, names) in groups {
        match subscribe(socket, names).await {
            Ok(()) => {}
            Err(Fault::Lost(why)) => return Err(Fault::Lost(why)),
            Err(Fault::Refused(refusal)) => {
                let names = &names[..names.len().min(SHOWN)];
                tracing::warn!(
                    ?names,
                    %refusal,
                    "the server refuses a subscription that it had accepted; asking again"
                );
                refused.insert(*id, refusal);
            }
        }
    }
    Ok(())
}

/// Reads what was kept for an inbox while nobody listened, oldest first. Who may not read that would
/// miss answers some day, and is told at once.
pub(super) async fn fetch_kept(
    socket: &Socket,
    key: &str,
    mailbox: &Sender<Bytes>,
) -> Result<(), Fault> {
    let commands = Batch::from_iter([
        Command::new("MULTI"),
        Command::new("LRANGE").arg(key).arg("0").arg("-1"),
        Command::new("DEL").arg(key),
        Command::new("EXEC"),
    ]);
    let replies = socket.pipeline(&commands).await?;
    let refused = |reply: &Reply| match reply {
        Reply::Refused(refusal) => Some(refusal.clone()),
        _ => None,
    };
    match replies.iter().find_map(refused) {
        // Of a cluster's node that will soon not have it, or does no more: then the next one is asked.
        Some(refusal) if refusal.is_on_its_way() => return Ok(()),
        Some(refusal) if refusal.is_elsewhere() => return Err(Fault::Lost(refusal.to_string())),
        Some(refusal) => return Err(Fault::Refused(refusal)),
        None => {}
    }
    let answers = replies.into_iter().next_back().map(Reply::items).unwrap_or_default();
    let kept = answers.into_iter().next().map(Reply::items).unwrap_or_default();
    for message in kept.into_iter().rev().filter_map(Reply::bytes) {
        mailbox.send(message);
    }
    Ok(())
}
