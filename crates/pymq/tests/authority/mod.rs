//! A certificate authority of a test's own: what it signs lies in files, as servers want them.
//!
//! The one invariant: the files go with it. It knows nothing of PyMQ nor of Redis.
#![allow(
    unreachable_pub,
    missing_debug_implementations,
    reason = "a module of tests, not of the library"
)]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};

/// Until when a certificate is good.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Good {
    Now,
    UntilYesterday,
}

/// Signs certificates.
pub struct Authority {
    folder: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, as files.
#[derive(Clone)]
pub struct Files {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("pymq-tls-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(DnType::CommonName, format!("authority {number}"));
        let key = KeyPair::generate().expect("there is randomness");
        let issuer = CertifiedIssuer::self_signed(parameters, key).expect("it can sign itself");
        let authority = Self { folder, issuer };
        authority.write("ca.pem", &authority.issuer.pem());
        authority
    }

    /// Its own certificate.
    pub fn ca(&self) -> String {
        text(&self.folder.join("ca.pem"))
    }

    /// A certificate for those names and addresses.
    pub fn issue(&self, names: &[&str], good: Good) -> Files {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let file = format!("{}-{}", names.join("-"), if good == Good::Now { "new" } else { "old" });
        let mut parameters = CertificateParams::new(names).expect("names are names");
        if good == Good::UntilYesterday {
            parameters.not_after = date_time_ymd(2001, 1, 1);
        }
        let key = KeyPair::generate().expect("there is randomness");
        let certificate = parameters.signed_by(&key, &self.issuer).expect("it can sign");
        Files {
            certificate: self.write(&format!("{file}.pem"), &certificate.pem()),
            key: self.write(&format!("{file}.key"), &key.serialize_pem()),
        }
    }

    fn write(&self, name: &str, content: &str) -> String {
        let path = self.folder.join(name);
        std::fs::write(&path, content).expect("the temporary folder is writable");
        text(&path)
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn text(path: &Path) -> String {
    path.to_str().expect("the temporary folder has a plain name").to_owned()
}
