//! Which sentinels are asked, for whom, and what is said on arrival.
//!
//! The one invariant: nothing of this, printed in any way, shows the password. It only describes.

use std::fmt;

use super::super::options::{RedisEndpoint, RedisOptions, write_hosts};
use crate::transport::Settings;

/// Sentinels, and the name under which they watch a master.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedisSentinels {
    /// Host and port of each.
    pub hosts: Vec<(String, u16)>,
    /// What they call the master.
    pub master: String,
    /// The user that they want, which is not the one of the master.
    pub username: Option<String>,
    /// The password that they want.
    pub password: Option<String>,
}

impl RedisSentinels {
    /// Sentinels that want no password.
    pub fn new(hosts: Vec<(String, u16)>, master: impl Into<String>) -> Self {
        Self { hosts, master: master.into(), username: None, password: None }
    }

    /// How each of them is spoken to by those who reach the master so.
    pub(super) fn each(&self, options: &RedisOptions) -> Vec<RedisOptions> {
        let one = |(host, port): &(String, u16)| RedisOptions {
            endpoint: RedisEndpoint::Tcp(host.clone(), *port),
            database: 0,
            settings: Settings {
                username: self.username.clone(),
                password: self.password.clone(),
                ..options.settings.clone()
            },
            ..options.clone()
        };
        self.hosts.iter().map(one).collect()
    }
}

/// As an address has it.
impl fmt::Display for RedisSentinels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("redis+sentinel://")?;
        write_hosts(f, &self.hosts)?;
        write!(f, "/{}", self.master)
    }
}

impl fmt::Debug for RedisSentinels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSentinels")
            .field("hosts", &self.hosts)
            .field("master", &self.master)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "…"))
            .finish()
    }
}
