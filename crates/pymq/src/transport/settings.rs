//! The settings of a connection, whether its address says them or the program beside it.
//!
//! The one invariant: a transport takes each setting that is given, or
//! [`refuse_rest`](Settings::refuse_rest) refuses it by name, so that none is silently ignored. It
//! only describes, and nothing printed of it shows a password. A new setting is a field here, a line
//! of [`named`](Settings::named) and one of [`over`](Settings::over), and a method of
//! [`BusBuilder`](crate::BusBuilder); the compiler asks for the lines.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::Limit;
use crate::error::{Error, ErrorKind, Result};

/// What [`connect_with`](super::connect_with) is told beside the address; `None` is the usual.
///
/// A transport takes out what it honours and calls [`refuse_rest`](Self::refuse_rest) on what is
/// left; so a setting that is added later is refused where nobody has thought of it.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// The user to log in as.
    pub username: Option<String>,
    /// The password.
    pub password: Option<String>,
    /// That TLS is to be spoken, and how.
    pub tls: Option<Tls>,
    /// The name by which the broker's own tools show our connections.
    pub client_name: Option<String>,
    /// How long one attempt to connect may take.
    pub connect_timeout: Option<Duration>,
    /// How long connecting waits for a broker that is not there yet; not at all by default.
    pub connect_wait: Option<Duration>,
    /// How long an operation waits for a lost connection to come back before it fails with
    /// `Connection`.
    pub reconnect_wait: Option<Duration>,
    /// How a dead connection is noticed.
    pub heartbeat: Option<Heartbeat>,
    /// How much a subscriber may lag before it loses the oldest events.
    pub mailbox: Option<Limit>,
}

/// How a dead connection is noticed: by a question that gets no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// How often the broker is asked for a sign of life.
    pub period: Duration,
    /// For how long it may give none before the connection is given up and made anew.
    pub limit: Duration,
}

impl Default for Heartbeat {
    /// Asked every 5 s, given up after 10 s: a harmless stall of a server should not cut
    /// subscribers off.
    fn default() -> Self {
        Self { period: Duration::from_secs(5), limit: Duration::from_secs(10) }
    }
}

/// How far the certificate of a broker is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsVerification {
    /// A trusted authority signed it, and it names the host that we connect to.
    #[default]
    Full,
    /// A trusted authority signed it, for whatever host: whoever has any certificate of that
    /// authority can pose as the broker.
    Chain,
    /// Not at all: anybody between us and the broker can read and change everything, the
    /// password too. Each connection made so is logged as a warning.
    Nothing,
}

/// How TLS is spoken; by default with the system's trusted authorities and no certificate of ours.
///
/// The files are read for each new connection, so that renewed ones are used from the next
/// reconnect on. TLS 1.2 and 1.3 are spoken, nothing older.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tls {
    /// The authorities trusted instead of the system's: a PEM file, or a folder of them as OpenSSL
    /// has it.
    pub ca: Option<PathBuf>,
    /// Our certificate, and what leads from it to its authority: a PEM file. Needs `key`.
    pub certificate: Option<PathBuf>,
    /// The private key of `certificate`: a PEM file without a password.
    pub key: Option<PathBuf>,
    /// How far the broker's certificate is looked at.
    pub verification: TlsVerification,
}

impl Tls {
    /// The same with the authorities to trust instead of the system's.
    #[must_use]
    pub fn ca(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca = Some(path.into());
        self
    }

    /// The same with a certificate of ours and its key.
    #[must_use]
    pub fn certificate(mut self, path: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.certificate = Some(path.into());
        self.key = Some(key.into());
        self
    }

    /// The same, looking so far at the broker's certificate.
    #[must_use]
    pub fn verification(mut self, verification: TlsVerification) -> Self {
        self.verification = verification;
        self
    }
}

impl Settings {
    /// How long one attempt to connect may take: 5 s by default.
    pub fn connect_timeout(&self) -> Duration {
        self.connect_timeout.unwrap_or(Duration::from_secs(5))
    }

    /// How long connecting waits for a broker that is not there yet: not at all by default.
    pub fn connect_wait(&self) -> Duration {
        self.connect_wait.unwrap_or_default()
    }

    /// How long an operation waits for a lost connection to come back: 10 s by default.
    pub fn reconnect_wait(&self) -> Duration {
        self.reconnect_wait.unwrap_or(Duration::from_secs(10))
    }

    /// Refuses whatever was given and not taken.
    ///
    /// # Errors
    /// `Unsupported`, naming the first such setting and `transport`.
    pub fn refuse_rest(self, transport: &str) -> Result<()> {
        match self.named().into_iter().find(|(_, given)| given.is_some()) {
            None => Ok(()),
            Some((setting, _)) => {
                let why = format!("{setting:?} means nothing on this transport; leave it out");
                Err(Error::new(ErrorKind::Unsupported, "connect", transport, why))
            }
        }
    }

    /// These, and what `address` says of the others. Of the program's word and the address's the
    /// program's holds, but who logs in, and how, is to be said once.
    ///
    /// # Errors
    /// The name of a setting that was said twice.
    #[cfg(feature = "redis")]
    pub(super) fn over(self, address: Self) -> Result<Self, &'static str> {
        let tls = match (self.tls, address.tls) {
            // A scheme says no more than that there is TLS.
            (Some(_), Some(said)) if said != Tls::default() => return Err("tls"),
            (ours, said) => ours.or(said),
        };
        Ok(Self {
            username: once("username", self.username, address.username)?,
            password: once("password", self.password, address.password)?,
            tls,
            client_name: self.client_name.or(address.client_name),
            connect_timeout: self.connect_timeout.or(address.connect_timeout),
            connect_wait: self.connect_wait.or(address.connect_wait),
            reconnect_wait: self.reconnect_wait.or(address.reconnect_wait),
            heartbeat: self.heartbeat.or(address.heartbeat),
            mailbox: self.mailbox.or(address.mailbox),
        })
    }

    /// Each setting by its name, with what may be shown of it where it was given.
    fn named(&self) -> [(&'static str, Option<&dyn fmt::Debug>); 9] {
        // All fields by name: one that is added does not compile until it is listed here.
        let Self {
            username,
            password,
            tls,
            client_name,
            connect_timeout,
            connect_wait,
            reconnect_wait,
            heartbeat,
            mailbox,
        } = self;
        [
            ("username", shown(username.as_ref())),
            ("password", password.as_ref().map(|_| &"…" as &dyn fmt::Debug)),
            ("tls", shown(tls.as_ref())),
            ("client_name", shown(client_name.as_ref())),
            ("connect_timeout", shown(connect_timeout.as_ref())),
            ("connect_wait", shown(connect_wait.as_ref())),
            ("reconnect_wait", shown(reconnect_wait.as_ref())),
            ("heartbeat", shown(heartbeat.as_ref())),
            ("mailbox", shown(mailbox.as_ref())),
        ]
    }
}

fn shown<T: fmt::Debug>(setting: Option<&T>) -> Option<&dyn fmt::Debug> {
    setting.map(|given| given as &dyn fmt::Debug)
}

#[cfg(feature = "redis")]
fn once<T>(
    name: &'static str,
    ours: Option<T>,
    said: Option<T>,
) -> Result<Option<T>, &'static str> {
    match (ours, said) {
        (Some(_), Some(_)) => Err(name),
        (ours, said) => Ok(ours.or(said)),
    }
}

/// Those that were given.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Settings");
        for (name, given) in self.named() {
            if let Some(given) = given {
                shown.field(name, given);
            }
        }
        shown.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_took_is_refused_by_its_name() {
        assert!(Settings::default().refuse_rest("memory://").is_ok());
        let settings = Settings { client_name: Some("me".into()), ..Settings::default() };
        let error = settings.refuse_rest("memory://").expect_err("nobody took it");
        assert_eq!((error.kind(), error.object()), (ErrorKind::Unsupported, "memory://"));
        assert!(error.message().contains("\"client_name\""), "{error}");
    }

    #[test]
    fn the_password_is_never_shown() {
        let settings = Settings { password: Some("secret".into()), ..Settings::default() };
        let error = settings.clone().refuse_rest("memory://").expect_err("nobody took it");
        assert!(!format!("{settings:?} {error} {error:?}").contains("secret"));
    }
}
