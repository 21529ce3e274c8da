//! The one that asks nodes who has which slots: one of them for as long as it answers and nobody finds
//! its answer wrong, then the next.
//!
//! The one invariant: a node that is cut off from the others, or has just started, is not believed: it
//! says itself that its cluster is down.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::super::dialer::back_off;
use super::super::options::RedisOptions;
use super::super::resp::{Batch, Command, Expected, Fault, Reply, Socket};
use super::slots::{Map, Place};
use super::{Known, at, patience};

/// How often a node is asked.
const ASK: Duration = Duration::from_secs(1);
/// Between two questions, however often somebody doubts.
const BREATH: Duration = Duration::from_millis(20);

/// Asks one node after the other, for ever.
pub(super) async fn walk(hosts: Vec<Place>, options: RedisOptions, known: Arc<Known>) {
    let (mut attempts, mut trouble) = (0_u32, None);
    for number in 0_usize.. {
        let mut places = known.map.borrow().nodes();
        places.extend(hosts.iter().cloned());
        let place = &places[number % places.len()];
        let (options, patience) = (at(&options, place), patience(&options, places.len()));
        match ask_on(&options, place, patience, &known).await {
            Ok(()) => (attempts, trouble) = (0, None),
            Err(fault) => {
                attempts += 1;
                let server = options.shown();
                tracing::debug!(server, %fault, "a node of the cluster does not answer");
                trouble = Some(worse(trouble, named(fault, &server)));
                if (attempts as usize).is_multiple_of(places.len()) {
                    known.trouble.send_replace(trouble.take());
                }
            }
        }
        // One that is gone should not keep us from the others.
        let round = attempts / u32::try_from(places.len()).unwrap_or(u32::MAX).max(1);
        sleep(if round == 0 { BREATH } else { back_off(round) }).await;
    }
}

/// Of what keeps us from several nodes, what may pass by itself counts.
fn worse(before: Option<Fault>, fault: Fault) -> Fault {
    match before {
        Some(Fault::Lost(why)) if matches!(fault, Fault::Refused(_)) => Fault::Lost(why),
        _ => fault,
    }
}

/// The same with the name of the node.
fn named(fault: Fault, server: &str) -> Fault {
    match fault {
        Fault::Lost(why) => Fault::Lost(format!("{server}: {why}")),
        Fault::Refused(refusal) => {
            Fault::Refused(refusal.reworded(|words| format!("{server}: {words}")))
        }
    }
}

/// Asks a node until it fails, or somebody doubts what it says in vain.
async fn ask_on(
    options: &RedisOptions,
    place: &Place,
    patience: Duration,
    known: &Known,
) -> Result<(), Fault> {
    let late = || Fault::Lost(format!("no answer within {patience:?}"));
    let opened = Socket::open(options, Expected::Member, "nodes", None);
    let socket = timeout(patience, opened).await.unwrap_or_else(|_| Err(late()))?;
    let mut doubted = false;
    loop {
        let asked = ask(&socket, place);
        let map = timeout(patience, asked).await.unwrap_or_else(|_| Err(late()))?;
        let changes = known.map.send_if_modified(|known| known.update(map));
        if doubted && !changes {
            return Ok(());
        }
        doubted = tokio::select! {
            () = socket.ended() => return Err(Fault::Lost("the connection ended".to_owned())),
            () = known.doubted.notified() => true,
            () = sleep(ASK) => false,
        };
        sleep(BREATH).await;
    }
}

/// Who has which slots, by a node that is one with the others.
async fn ask(socket: &Socket, place: &Place) -> Result<Map, Fault> {
    let ask = |what: &str| Command::new("CLUSTER").arg(what);
    let mut replies =
        socket.pipeline(&Batch::from_iter([ask("INFO"), ask("SLOTS")])).await?.into_iter();
    // What may not be asked is taken for well.
    let info = replies.next().and_then(Reply::bytes).unwrap_or_default();
    if String::from_utf8_lossy(&info).contains("cluster_state:fail") {
        return Err(Fault::Lost(match lost(socket).await?.as_str() {
            "" => {
                "its cluster is down: slots have no node, or it is cut off from the others".into()
            }
            lost => format!("its cluster is down: {lost} cannot be reached, and has slots"),
        }));
    }
    match replies.next() {
        Some(Reply::Refused(refusal)) => Err(Fault::Refused(refusal)),
        answer => Map::read(answer.unwrap_or(Reply::Nothing), place)
            .ok_or_else(|| Fault::Lost("its answer makes no sense; is it a node?".to_owned())),
    }
}

/// The nodes that are lost, by one that lives, and have slots that no other one took.
async fn lost(socket: &Socket) -> Result<String, Fault> {
    let asked = socket.run(&Command::new("CLUSTER").arg("NODES")).await;
    let nodes = match asked {
        Err(Fault::Lost(why)) => return Err(Fault::Lost(why)),
        // What may not be asked is not known.
        asked => asked.ok().and_then(Reply::bytes).unwrap_or_default(),
    };
    // Id, address, flags, master, two times, epoch, state of the link, slots.
    let place = |line: &str| {
        let words: Vec<_> = line.split(' ').collect();
        let flags = words.get(2)?;
        let gone = flags.contains("master") && flags.split(',').any(|flag| flag == "fail");
        let place = words[1].split('@').next()?;
        (gone && words.len() > 8).then(|| place.to_owned())
    };
    let nodes = String::from_utf8_lossy(&nodes);
    Ok(nodes.lines().filter_map(place).collect::<Vec<_>>().join(", "))
}
