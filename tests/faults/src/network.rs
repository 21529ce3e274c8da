//! Networks of our own: one that is joined to ours by a cable that can be pulled out, and one of several
//! hosts, some of which can be cut off from the others.
//!
//! The one invariant: what is made is removed again, with everything in it. It needs root and
//! `ip`; where they are not, [`Island::make`] and [`Lan::make`] say so, and their runs go on without.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::server::Place;

/// A network namespace with one cable to this one.
#[derive(Debug)]
pub(crate) struct Island {
    name: String,
    near: String,
    far: String,
    /// The address of this end of the cable.
    pub(crate) address: String,
}

impl Island {
    /// Makes one.
    ///
    /// # Errors
    /// Why this machine cannot.
    pub(crate) fn make() -> Result<Self, String> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = (std::process::id() + NUMBER.fetch_add(1, Ordering::Relaxed)) % 16000;
        // Two addresses of a net of four; 10.213 is nobody's in particular.
        let net = |last: u32| format!("10.213.{}.{}", number / 64, number % 64 * 4 + last);
        let island = Self {
            name: format!("pymq-faults-{number}"),
            near: format!("pqn{number}"),
            far: format!("pqf{number}"),
            address: net(1),
        };
        let Self { name, near, far, .. } = &island;
        ip(&format!("netns add {name}"))?;
        ip(&format!("link add {near} type veth peer name {far} netns {name}"))?;
        ip(&format!("addr add {}/30 dev {near}", net(1)))?;
        ip(&format!("link set {near} up"))?;
        ip(&format!("-n {name} addr add {}/30 dev {far}", net(2)))?;
        ip(&format!("-n {name} link set {far} up"))?;
        Ok(island)
    }

    /// Pulls the cable: nobody is told, packets vanish.
    pub(crate) fn pull(&self) -> Result<(), String> {
        ip(&format!("-n {} link set {} down", self.name, self.far))
    }

    /// Plugs it in again.
    pub(crate) fn plug(&self) -> Result<(), String> {
        ip(&format!("-n {} link set {} up", self.name, self.far))
    }

    /// What starts a program there.
    pub(crate) fn way(&self) -> [&str; 4] {
        ["ip", "netns", "exec", &self.name]
    }
}

impl Drop for Island {
    fn drop(&mut self) {
        // The cable goes with the namespace.
        let _ = ip(&format!("netns del {}", self.name));
        let _ = ip(&format!("link del {}", self.near));
    }
}

/// Hosts on two switches that are not joined: those on the same one reach each other. All of it lies in
/// namespaces of its own, so that no firewall and no address of the machine is in its way.
#[derive(Debug)]
pub(crate) struct Lan {
    /// Of the namespace of the switches; those of the hosts begin so.
    name: String,
    hosts: usize,
}

/// Where all hosts are at first, and where those are who are cut off.
const SWITCHES: [&str; 2] = ["near", "far"];

impl Lan {
    /// Makes one of so many hosts.
    ///
    /// # Errors
    /// Why this machine cannot.
    pub(crate) fn make(hosts: usize) -> Result<Self, String> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("pymq-lan-{}-{number}", std::process::id());
        // From here on it is removed, however far it comes.
        let lan = Self { name, hosts };
        let name = &lan.name;
        ip(&format!("netns add {name}"))?;
        for switch in SWITCHES {
            ip(&format!("-n {name} link add {switch} type bridge"))?;
            ip(&format!("-n {name} link set {switch} up"))?;
        }
        for host in 0..hosts {
            let (there, address) = (lan.namespace(host), address(host));
            ip(&format!("netns add {there}"))?;
            ip(&format!("-n {name} link add host{host} type veth peer name eth0 netns {there}"))?;
            lan.plug(host, SWITCHES[0])?;
            ip(&format!("-n {name} link set host{host} up"))?;
            ip(&format!("-n {there} addr add {address}/24 dev eth0"))?;
            ip(&format!("-n {there} link set lo up"))?;
            ip(&format!("-n {there} link set eth0 up"))?;
        }
        Ok(lan)
    }

    /// Where programs of a host run.
    pub(crate) fn place(&self, host: usize) -> Place {
        let way = ["ip", "netns", "exec", &self.namespace(host)].map(str::to_owned);
        Place { way: way.to_vec(), address: address(host) }
    }

    /// Cuts these hosts off from all others, but not from each other: nobody is told, packets vanish.
    pub(crate) fn cut_off(&self, hosts: &[usize]) -> Result<(), String> {
        hosts.iter().try_for_each(|host| self.plug(*host, SWITCHES[1]))
    }

    /// Joins all again.
    pub(crate) fn join(&self) -> Result<(), String> {
        (0..self.hosts).try_for_each(|host| self.plug(host, SWITCHES[0]))
    }

    fn plug(&self, host: usize, switch: &str) -> Result<(), String> {
        ip(&format!("-n {} link set host{host} master {switch}", self.name))
    }

    fn namespace(&self, host: usize) -> String {
        format!("{}-{host}", self.name)
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        // Cables go with the namespace of the switches.
        let _ = ip(&format!("netns del {}", self.name));
        for host in 0..self.hosts {
            let _ = ip(&format!("netns del {}", self.namespace(host)));
        }
    }
}

/// 10.213 is nobody's in particular.
fn address(host: usize) -> String {
    format!("10.213.0.{}", host + 1)
}

fn ip(words: &str) -> Result<(), String> {
    let run = Command::new("ip").args(words.split(' ')).output();
    let run = run.map_err(|error| format!("ip {words}: {error}"))?;
    if run.status.success() {
        Ok(())
    } else {
        Err(format!("ip {words}: {}", String::from_utf8_lossy(&run.stderr).trim()))
    }
}
