//! The one that asks nodes who has which slots: one of them for as long as it answers and nobody finds
//! its answer wrong, then the next. One that is silent does not keep it from the others.
//!
//! The one invariant: a node that is cut off from the others, or has just started, is not believed: it
//! says itself that its cluster is down.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
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
/// While a node is silent for longer, the next one is asked as well.
const SILENT: Duration = Duration::from_millis(200);
/// Pauses grow for so many rounds: whoever hears of a new master late is late for it.
const ROUNDS: u32 = 4;

/// Asks one node after the other, for ever.
pub(super) async fn walk(hosts: Vec<Place>, options: RedisOptions, known: Arc<Known>) {
    let mut walk = Walk { hosts, options, known, turn: 0, attempts: 0, troubles: HashMap::new() };
    loop {
        let node = walk.find().await;
        if let Err(fault) = node.watch(&walk.known).await {
            walk.fails(&node.place, fault);
        }
        sleep(BREATH).await;
    }
}

/// The way from node to node.
struct Walk {
    hosts: Vec<Place>,
    options: RedisOptions,
    known: Arc<Known>,
    /// Whose turn it is.
    turn: usize,
    /// How often in a row a node did not answer well.
    attempts: usize,
    /// Why each did not that was asked since.
    troubles: HashMap<Place, Fault>,
}

impl Walk {
    /// The first node that answers well. Those that are silent are waited for while others are asked.
    async fn find(&mut self) -> Node {
        let (mut answers, mut asked) = (FuturesUnordered::new(), Vec::new());
        loop {
            let places = self.places();
            if let Some(place) = self.next_of(&places, &asked) {
                let patience = patience(&self.options, places.len());
                answers.push(Node::enter(at(&self.options, &place), place.clone(), patience));
                asked.push(place);
            }
            let (place, answer) = tokio::select! {
                Some(answer) = answers.next() => answer,
                () = sleep(SILENT), if asked.len() < places.len() => continue,
            };
            match answer {
                Ok((node, map)) => {
                    self.known.map.send_if_modified(|known| known.update(map));
                    self.attempts = 0;
                    self.troubles.clear();
                    return node;
                }
                Err(fault) => self.fails(&place, fault),
            }
            asked.retain(|one| *one != place);
            let round = u32::try_from(self.attempts / places.len()).unwrap_or(ROUNDS).min(ROUNDS);
            // One that is gone should not keep us from the others.
            sleep(if round == 0 { BREATH } else { back_off(round) }).await;
        }
    }

    /// Every node that is known, and those that were named.
    fn places(&self) -> Vec<Place> {
        let mut places = self.known.map.borrow().nodes();
        for host in &self.hosts {
            if !places.contains(host) {
                places.push(host.clone());
            }
        }
        places
    }

    /// Whose turn it is among those that are not asked already.
    fn next_of(&mut self, places: &[Place], asked: &[Place]) -> Option<Place> {
        let place = |turn: &usize| &places[turn % places.len()];
        let mut turns = self.turn..self.turn + places.len();
        let turn = turns.find(|turn| !asked.contains(place(turn)))?;
        self.turn = turn + 1;
        Some(place(&turn).clone())
    }

    /// Notes that a node did not answer well; when none did, that is known.
    fn fails(&mut self, place: &Place, fault: Fault) {
        let server = at(&self.options, place).shown();
        tracing::debug!(server, %fault, "a node of the cluster does not answer");
        self.attempts += 1;
        self.troubles.insert(place.clone(), named(fault, &server));
        let places = self.places();
        let all: Option<Vec<_>> =
            places.iter().map(|one| self.troubles.get(one).cloned()).collect();
        if let Some(all) = all {
            self.known.trouble.send_replace(all.into_iter().reduce(worse));
        }
    }
}

/// Of what keeps us from several nodes, what may pass by itself counts.
fn worse(one: Fault, other: Fault) -> Fault {
    match (one, other) {
        (Fault::Lost(why), Fault::Refused(_)) => Fault::Lost(why),
        (_, other) => other,
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

/// A node that answered.
struct Node {
    place: Place,
    socket: Socket,
    /// How long an answer is waited for.
    patience: Duration,
}

impl Node {
    /// Comes to a node and asks it.
    async fn enter(
        options: RedisOptions,
        place: Place,
        patience: Duration,
    ) -> (Place, Result<(Self, Map), Fault>) {
        let enter = async {
            let opened = Socket::open(&options, Expected::Member, "nodes", None);
            let socket = within(patience, opened).await?;
            let node = Self { place: place.clone(), socket, patience };
            let map = node.ask().await?;
            Ok((node, map))
        };
        let entered = enter.await;
        (place, entered)
    }

    /// Asks from time to time, until it fails, or somebody doubts what it says in vain.
    async fn watch(&self, known: &Known) -> Result<(), Fault> {
        loop {
            let doubted = tokio::select! {
                () = self.socket.ended() => {
                    return Err(Fault::Lost("the connection ended".to_owned()));
                }
                () = known.doubted.notified() => true,
                () = sleep(ASK) => false,
            };
            sleep(BREATH).await;
            let map = self.ask().await?;
            let changes = known.map.send_if_modified(|known| known.update(map));
            if doubted && !changes {
                return Ok(());
            }
        }
    }

    async fn ask(&self) -> Result<Map, Fault> {
        within(self.patience, ask(&self.socket, &self.place)).await
    }
}

/// What comes of it in that time.
async fn within<T>(
    patience: Duration,
    asked: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    let late = || Fault::Lost(format!("no answer within {patience:?}"));
    timeout(patience, asked).await.unwrap_or_else(|_| Err(late()))
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
