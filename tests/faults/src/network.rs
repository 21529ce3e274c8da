//! A network of its own, joined to ours by a cable that can be pulled out.
//!
//! The one invariant: what is made is removed again, with everything in it. It needs root and
//! `ip`; where they are not, [`Island::make`] says so, and a proxy that swallows everything stands in.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

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

fn ip(words: &str) -> Result<(), String> {
    let run = Command::new("ip").args(words.split(' ')).output();
    let run = run.map_err(|error| format!("ip {words}: {error}"))?;
    if run.status.success() {
        Ok(())
    } else {
        Err(format!("ip {words}: {}", String::from_utf8_lossy(&run.stderr).trim()))
    }
}
