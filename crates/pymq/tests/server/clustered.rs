//! A cluster of three masters with a replica each: processes of a test's own.
//!
//! The one invariant: all of them die with their [`Clustered`].

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::{Answer, Place, Raw, RedisServer};

/// Nothing here takes as long unless it hangs.
const GUARD: Duration = Duration::from_secs(180);
/// What has not got about among the nodes by then is said once more.
const AGAIN: Duration = Duration::from_secs(2);
const SLOTS: u16 = 16384;
/// Where none is to be taken for dead, though one may stand still for a while on a busy machine; an
/// election that fails is repeated after four times as long.
pub const LONG: &str = "5000";

/// Three masters that share the slots, and three replicas.
pub struct Clustered {
    pub nodes: Vec<RedisServer>,
}

impl Clustered {
    /// Starts all; returns when everybody knows everybody.
    pub fn start() -> Self {
        Self::start_with(6, &[])
    }

    /// Three masters without replicas and one node without slots, for all tests of a program that run
    /// at once: the last of them ends it.
    pub fn shared() -> Arc<Self> {
        static LAST: Mutex<Weak<Clustered>> = Mutex::new(Weak::new());
        let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        last.upgrade().unwrap_or_else(|| {
            let cluster = Arc::new(Self::start_with(4, &[]));
            cluster.set_patience(LONG);
            *last = Arc::downgrade(&cluster);
            cluster
        })
    }

    /// From six nodes on three are replicas; any other beyond the first three has no slots.
    /// Each node is started with further arguments.
    pub fn start_with(count: usize, arguments: &[&str]) -> Self {
        Self::start_at(&vec![Place::here(); count], arguments)
    }

    /// The same with a node at each of these places.
    pub fn start_at(places: &[Place], arguments: &[&str]) -> Self {
        let count = places.len();
        let node = |number: usize| {
            let file = format!("nodes-{number}.conf");
            let timeout = ["--cluster-node-timeout", "1000"];
            let words = ["--cluster-enabled", "yes", "--cluster-config-file", file.as_str()];
            let more =
                ["--repl-diskless-sync-delay", "0", "--cluster-replica-validity-factor", "0"];
            RedisServer::start_at(
                &places[number],
                &[&words[..], &timeout, &more, arguments].concat(),
            )
        };
        let nodes: Vec<_> = (0..count).map(node).collect();
        let cluster = Self { nodes };
        for number in 0..count {
            // Or all begin with the same one, and none is the newest.
            cluster.run(number, &["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]);
        }
        for (number, (first, last)) in
            [(0, 5460), (5461, 10922), (10923, SLOTS - 1)].iter().enumerate()
        {
            // Not as a range: those before 7.0 do not take one.
            let slots: Vec<_> = (*first..=*last).map(|slot| slot.to_string()).collect();
            let words = ["CLUSTER", "ADDSLOTS"].into_iter().chain(slots.iter().map(String::as_str));
            cluster.run(number, &words.collect::<Vec<_>>());
        }
        for node in &cluster.nodes[1..] {
            cluster.run(0, &["CLUSTER", "MEET", node.address(), &node.port().to_string()]);
        }
        until("the nodes know each other", || {
            (0..count).all(|number| {
                cluster.info(number).contains(&format!("cluster_known_nodes:{count}"))
            })
        });
        for number in (3..6).filter(|_| count >= 6) {
            let master = cluster.id(number - 3);
            until("a replica knows its master", || {
                cluster.run(number, &["CLUSTER", "REPLICATE", &master])
                    == Answer::Text(b"OK".to_vec())
            });
        }
        cluster.until_whole();
        cluster
    }

    /// After how many milliseconds a silent node is taken for dead, from now on; first it is one second,
    /// so that nodes find each other quickly.
    pub fn set_patience(&self, milliseconds: &str) {
        for number in 0..self.nodes.len() {
            self.run(number, &["CONFIG", "SET", "cluster-node-timeout", milliseconds]);
        }
    }

    /// The address of the cluster.
    pub fn url(&self) -> String {
        let hosts: Vec<_> = self.nodes.iter().map(place_of).collect();
        format!("redis+cluster://{}", hosts.join(","))
    }

    /// The same by one of its nodes alone.
    pub fn url_of(&self, node: usize) -> String {
        format!("redis+cluster://{}", place_of(&self.nodes[node]))
    }

    /// Returns when every node that lives finds the cluster well, and every replica has its master.
    pub fn until_whole(&self) {
        until("the cluster is whole", || {
            let well = |number: usize| {
                let info = self.info(number);
                let state = info.contains("cluster_state:ok");
                let assigned = info.contains(&format!("cluster_slots_ok:{SLOTS}"));
                let replication = self.raw(number).run(&["INFO", "replication"]).text();
                let linked = !replication.contains("master_link_status:down");
                state && assigned && linked
            };
            // One that was away may take itself for a master still.
            let count = self.nodes.len();
            (0..count).all(well) && (count < 6 || self.masters().len() == count - 3)
        });
    }

    /// Kills every node and starts it again, with what it had written down.
    pub fn stop_and_start(&mut self) {
        self.nodes.iter_mut().for_each(RedisServer::kill);
        self.nodes.iter_mut().for_each(RedisServer::restart);
        self.until_whole();
    }

    /// The nodes that take writes, or would if they had a slot.
    pub fn masters(&self) -> Vec<usize> {
        let is_master = |number: &usize| {
            self.raw(*number).run(&["INFO", "replication"]).text().contains("role:master")
        };
        (0..self.nodes.len()).filter(is_master).collect()
    }

    /// Which node has a slot: by its own word, since others hear of it later.
    pub fn owner(&self, slot: u16) -> usize {
        let all = || 0..self.nodes.len();
        let says_so = all().find(|number| self.owner_by(*number, slot) == Some(*number));
        let owner = says_so.or_else(|| all().find_map(|number| self.owner_by(number, slot)));
        owner.expect("a node knows who has the slot")
    }

    fn owner_by(&self, asked: usize, slot: u16) -> Option<usize> {
        if !self.nodes[asked].is_running() {
            return None;
        }
        let Answer::List(ranges) = self.run(asked, &["CLUSTER", "SLOTS"]) else { return None };
        for range in ranges {
            let Answer::List(words) = range else { continue };
            let (first, last) = (words[0].number(), words[1].number());
            if (first..=last).contains(&i64::from(slot))
                && let Answer::List(master) = &words[2]
            {
                let port = master[1].number();
                return self.nodes.iter().position(|node| i64::from(node.port()) == port);
            }
        }
        None
    }

    /// The slot of a key, as the servers compute it.
    pub fn slot_of(&self, key: &str) -> u16 {
        let slot = self.run(0, &["CLUSTER", "KEYSLOT", key]).number();
        u16::try_from(slot).expect("a slot is no larger")
    }

    /// Moves a slot with all its keys, as `redis-cli --cluster reshard` does.
    pub fn move_slot(&self, slot: u16, to: usize) {
        let from = self.owner(slot);
        if from != to {
            self.begin_moving(slot, from, to);
            self.finish_moving(slot, from, to);
        }
    }

    /// Opens a slot for its keys to move; none has yet.
    pub fn begin_moving(&self, slot: u16, from: usize, to: usize) {
        until_done("the slot is open", || {
            self.open(slot, self.stand_in(from)?, self.stand_in(to)?)
        });
    }

    /// Moves the keys of a slot that is open, and then it; returns when all agree who has it.
    pub fn finish_moving(&self, slot: u16, from: usize, to: usize) {
        let mut handed = None::<Instant>;
        until_done("all agree who has the slot", || {
            // A master may give way meanwhile, where a busy machine makes the others think that it is gone:
            // whoever took its place goes on.
            let (from, to) = (self.stand_in(from)?, self.stand_in(to)?);
            if handed.is_none_or(|handed| handed.elapsed() > AGAIN) {
                self.hand_over(slot, from, to)?;
                if handed.replace(Instant::now()).is_some() {
                    // Two nodes may have taken the same epoch for two slots at the same time: then those who
                    // hear of the one believe the other. The newest of all is believed.
                    self.run(to, &["CLUSTER", "BUMPEPOCH"]);
                }
            }
            let other = (0..self.nodes.len()).find_map(|node| {
                let now = self.owner_by(node, slot).filter(|now| *now != to)?;
                Some(format!("node {node} says that node {now} has it, not node {to}"))
            });
            other.map_or(Ok(()), Err)
        });
    }

    /// Moves what is left of a slot, and says to all who has it from now on. What was done is done again
    /// without harm.
    fn hand_over(&self, slot: u16, from: usize, to: usize) -> Result<(), String> {
        if self.owner_by(from, slot) == Some(from) {
            self.open(slot, from, to)?;
            self.move_keys(slot, from, to)?;
        }
        self.agree_on_the_epoch()?;
        let (number, target) = (slot.to_string(), self.id(to));
        // In this order, as redis-cli does: else nobody might have it for a moment.
        let others = (0..self.nodes.len()).filter(|node| ![to, from].contains(node));
        let running = others.filter(|node| self.nodes[*node].is_running());
        for node in [to, from].into_iter().chain(running) {
            let words = ["CLUSTER", "SETSLOT", &number, "NODE", &target];
            match done(&self.run(node, &words)) {
                // A replica hears of it from the others.
                Err(why) if why.contains("only with masters") => {}
                outcome => outcome.map_err(|why| format!("node {node}: {why}"))?,
            }
        }
        Ok(())
    }

    /// Whether the node that takes a slot next is believed: it takes the epoch after the newest that it knows
    /// of. Where that is not the newest of all, what the slot's last node said before, and arrives late, counts
    /// for more; then nobody has the slot, and its keys are gone.
    fn agree_on_the_epoch(&self) -> Result<(), String> {
        let running = (0..self.nodes.len()).filter(|node| self.nodes[*node].is_running());
        let epoch = |node: usize| {
            let info = self.info(node);
            let line = info.lines().find_map(|line| line.strip_prefix("cluster_current_epoch:"));
            line.map(str::to_owned)
        };
        let mut epochs = running.map(epoch);
        let first = epochs.next();
        match epochs.all(|epoch| Some(epoch) == first) {
            true => Ok(()),
            false => Err("not all know of the newest epoch".to_owned()),
        }
    }

    fn open(&self, slot: u16, from: usize, to: usize) -> Result<(), String> {
        let (number, source, target) = (slot.to_string(), self.id(from), self.id(to));
        let opened = self.run(to, &["CLUSTER", "SETSLOT", &number, "IMPORTING", &source]);
        match done(&opened) {
            // It was told so before, and the other one was not.
            Err(why) if why.contains("already the owner") => {}
            outcome => outcome.map_err(|why| format!("node {to}: {why}"))?,
        }
        let opened = self.run(from, &["CLUSTER", "SETSLOT", &number, "MIGRATING", &target]);
        done(&opened).map_err(|why| format!("node {from}: {why}"))
    }

    fn move_keys(&self, slot: u16, from: usize, to: usize) -> Result<(), String> {
        let (number, target) = (slot.to_string(), &self.nodes[to]);
        let port = target.port().to_string();
        let (mut replace, guard) = (None, Instant::now() + GUARD);
        loop {
            let keys = self.run(from, &["CLUSTER", "GETKEYSINSLOT", &number, "100"]).texts();
            if keys.is_empty() {
                return Ok(());
            }
            let words = ["MIGRATE", target.address(), &port, "", "0", "5000"].into_iter();
            let words = words.chain(replace).chain(["KEYS"]);
            let words: Vec<_> = words.chain(keys.iter().map(String::as_str)).collect();
            match done(&self.run(from, &words)) {
                // Its time was over, so that the keys may be at both, and those here are used.
                Err(why) if why.starts_with("IOERR") && Instant::now() < guard => {
                    replace = Some("REPLACE");
                }
                outcome => outcome.map_err(|why| format!("keys do not move: {why}"))?,
            }
        }
    }

    /// The master that has what a node had: itself, or the one that took its place.
    fn stand_in(&self, node: usize) -> Result<usize, String> {
        let replication = self.raw(node).run(&["INFO", "replication"]).text();
        let line = replication.lines().find_map(|line| line.strip_prefix("master_port:"));
        let Some(port) = line.and_then(|port| port.trim().parse::<u16>().ok()) else {
            return Ok(node);
        };
        let master = self.nodes.iter().position(|node| node.port() == port);
        master.ok_or_else(|| format!("node {node} follows a master that is none of ours"))
    }

    /// Returns when another node has a slot, by all that live.
    pub fn until_moved(&self, slot: u16, before: usize) {
        until("another node has the slot", || {
            let others = (0..self.nodes.len()).filter(|number| *number != before);
            others.filter_map(|asked| self.owner_by(asked, slot)).all(|now| now != before)
        });
    }

    /// Has a replica of that master take its place, without any loss.
    pub fn fail_over(&self, master: usize) {
        let id = self.id(master);
        let replica = (0..self.nodes.len()).find(|number| {
            let nodes = self.run(*number, &["CLUSTER", "NODES"]).text();
            nodes.lines().any(|line| line.contains("myself,slave") && line.contains(&id))
        });
        let replica = replica.expect("it has a replica");
        // An election may fail, and is given up after five seconds.
        let again = Duration::from_secs(6);
        let mut asked = None::<Instant>;
        until("the replica is the master", || {
            if asked.is_none_or(|asked| asked.elapsed() > again) {
                self.run(replica, &["CLUSTER", "FAILOVER"]);
                asked = Some(Instant::now());
            }
            self.raw(replica).run(&["INFO", "replication"]).text().contains("role:master")
        });
    }

    fn id(&self, node: usize) -> String {
        self.run(node, &["CLUSTER", "MYID"]).text()
    }

    fn info(&self, node: usize) -> String {
        self.run(node, &["CLUSTER", "INFO"]).text()
    }

    fn run(&self, node: usize, words: &[&str]) -> Answer {
        self.raw(node).run(words)
    }

    /// A plain connection to a node.
    pub fn raw(&self, node: usize) -> Raw {
        self.nodes[node].raw()
    }
}

fn place_of(node: &RedisServer) -> String {
    format!("{}:{}", node.address(), node.port())
}

/// Whether a node did what it was told to do.
fn done(answer: &Answer) -> Result<(), String> {
    match answer {
        Answer::Error(why) => Err(why.clone()),
        _ => Ok(()),
    }
}

/// Tries until it is done; what kept it from that is told in the end.
fn until_done(what: &str, mut attempt: impl FnMut() -> Result<(), String>) {
    let guard = Instant::now() + GUARD;
    while let Err(why) = attempt() {
        assert!(Instant::now() < guard, "waited in vain until {what}: {why}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let guard = Instant::now() + GUARD;
    while !holds() {
        assert!(Instant::now() < guard, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
