//! TLS around a socket, by rustls: whom we trust, who we are, and what a refusal means.
//!
//! The one invariant: without being told otherwise by [`TlsVerification`], nothing is said to a
//! server before its certificate was found to be signed by who is trusted, for the host that was
//! asked for. It keeps nothing: files are read and trust is built anew for each connection.

use std::fmt::Display;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore,
    SignatureScheme,
};
use rustls_native_certs::{CertificateResult, load_certs_from_paths, load_native_certs};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::options::{RedisEndpoint, RedisOptions};
use super::refusal::{Cause, Refusal};
use super::resp::Fault;
use super::sentinel::RedisSentinels;
use crate::error::{Error, Result};
use crate::transport::{Tls, TlsVerification};

const NO_CERTIFICATE: &str =
    "if the server demands a certificate of its clients, give cert=PATH and key=PATH";

/// Refuses options whose files cannot be used, before anything is tried.
pub(super) fn check(options: &RedisOptions) -> Result<()> {
    let Some(tls) = &options.settings.tls else { return Ok(()) };
    let mut hosts = hosts(&options.endpoint).into_iter();
    let checked = hosts.try_for_each(|host| server_name(host).map(drop)).and_then(|()| config(tls));
    checked.map(drop).map_err(|why| Error::config(options.shown(), why))
}

/// The hosts that an address names.
fn hosts(endpoint: &RedisEndpoint) -> Vec<&str> {
    match endpoint {
        RedisEndpoint::Tcp(host, _) => vec![host],
        RedisEndpoint::Unix(_) => Vec::new(),
        RedisEndpoint::Sentinels(RedisSentinels { hosts, .. }) | RedisEndpoint::Cluster(hosts) => {
            hosts.iter().map(|(host, _)| host.as_str()).collect()
        }
    }
}

/// Speaks TLS on a connected socket.
pub(super) async fn secure(
    stream: TcpStream,
    host: &str,
    tls: &Tls,
) -> Result<TlsStream<TcpStream>, Fault> {
    let name = server_name(host).map_err(untrusted)?;
    if tls.verification == TlsVerification::Nothing {
        tracing::warn!(host, "connecting without verifying the server's certificate");
    }
    let wanted = tls.clone();
    // Aside, because files are read.
    let config = tokio::task::spawn_blocking(move || config(&wanted))
        .await
        .map_err(|_| Fault::Lost("the runtime is shutting down".to_owned()))?
        .map_err(untrusted)?;
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(name, stream).await.map_err(|error| refusal(&error))
}

/// What it may mean that a server leaves right after the handshake: in TLS 1.3 it looks at our
/// certificate only then.
pub(super) fn explain(fault: Fault, failure: Option<&io::Error>, tls: &Tls) -> Fault {
    let Fault::Lost(why) = fault else { return fault };
    match (failure.and_then(alert), &tls.certificate) {
        (Some(AlertDescription::CertificateRequired), None) => {
            untrusted(format!("{why}; {NO_CERTIFICATE}"))
        }
        (_, None) => Fault::Lost(format!("{why}; {NO_CERTIFICATE}")),
        (Some(_), Some(_)) => {
            untrusted(format!("{why}: the server does not accept our certificate"))
        }
        (None, Some(_)) => Fault::Lost(why),
    }
}

/// What the other side complained of before it left.
fn alert(error: &io::Error) -> Option<AlertDescription> {
    match error.get_ref()?.downcast_ref()? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}

fn untrusted(why: String) -> Fault {
    Fault::Refused(Refusal::found(Cause::Untrusted, why))
}

fn server_name(host: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(host.to_owned())
        .map_err(|_| format!("{host:?} is no host name that a certificate could have"))
}

/// A broken handshake, in words that help.
fn refusal(error: &io::Error) -> Fault {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(cause) = inner else { return Fault::Lost(format!("no TLS handshake: {error}")) };
    let advice = match cause {
        rustls::Error::InvalidCertificate(cause) => certificate_advice(cause),
        rustls::Error::InvalidMessage(_) => {
            "the server does not speak TLS here; use redis://, or \
                                             its TLS port"
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => NO_CERTIFICATE,
        rustls::Error::AlertReceived(AlertDescription::HandshakeFailure)
        | rustls::Error::PeerIncompatible(_) => "it must speak TLS 1.2 or later",
        _ => "see the server's log",
    };
    untrusted(format!("{cause}; {advice}"))
}

fn certificate_advice(cause: &CertificateError) -> &'static str {
    match cause {
        CertificateError::UnknownIssuer => {
            "the authority that signed the server's certificate is not trusted here: name its \
             certificate with ca=PATH"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "the server's certificate is for another host: connect by a name that is in it"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the server's certificate has run out: renew it, or look at this machine's clock"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the server's certificate is from the future: look at this machine's clock"
        }
        _ => "the server's certificate cannot be trusted",
    }
}

/// Whom we trust and who we are. The provider of the cryptography is named here, so that neither
/// the program nor another library has to choose one for the whole process.
fn config(tls: &Tls) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let verifier = Arc::new(Verifier::new(tls, provider)?);
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let (Some(certificate), Some(key)) = (&tls.certificate, &tls.key) else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| unreadable("cert", certificate, &error))?;
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| unreadable("key (PEM, without a password)", key, &error))?;
    builder.with_client_auth_cert(chain, private).map_err(|error| {
        let (certificate, key) = (certificate.display(), key.display());
        format!("{certificate} and {key} are no client certificate and its key: {error}")
    })
}

fn unreadable(what: &str, path: &Path, error: &dyn Display) -> String {
    format!("cannot read the {what} in {}: {error}", path.display())
}

fn roots(tls: &Tls) -> Result<RootCertStore, String> {
    let (found, place) = match &tls.ca {
        None => (load_native_certs(), "of the system; name one with ca=PATH".to_owned()),
        Some(path) => {
            let folder = path.is_dir();
            let path = path.as_path();
            let found = load_certs_from_paths((!folder).then_some(path), folder.then_some(path));
            (found, format!("in {}", path.display()))
        }
    };
    let CertificateResult { certs, errors, .. } = found;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certs);
    match errors.first() {
        _ if !roots.is_empty() => Ok(roots),
        Some(error) => Err(format!("no trusted authority {place}: {error}")),
        None => Err(format!("no trusted authority {place}")),
    }
}

/// Looks at a server's certificate as far as it was told to.
#[derive(Debug)]
struct Verifier {
    trust: Trust,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug)]
enum Trust {
    Full(Arc<WebPkiServerVerifier>),
    Chain(RootCertStore),
    Anybody,
}

impl Verifier {
    fn new(tls: &Tls, provider: Arc<CryptoProvider>) -> Result<Self, String> {
        let trust = match tls.verification {
            TlsVerification::Full => {
                let roots = Arc::new(roots(tls)?);
                let full =
                    WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider));
                Trust::Full(full.build().map_err(|error| error.to_string())?)
            }
            TlsVerification::Chain => Trust::Chain(roots(tls)?),
            TlsVerification::Nothing => Trust::Anybody,
        };
        Ok(Self { trust, provider })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &self.trust {
            Trust::Full(full) => full.verify_server_cert(certificate, chain, name, ocsp, now),
            Trust::Chain(roots) => {
                let parsed = ParsedCertificate::try_from(certificate)?;
                let algorithms = self.provider.signature_verification_algorithms.all;
                verify_server_cert_signed_by_trust_anchor(&parsed, roots, chain, now, algorithms)?;
                Ok(ServerCertVerified::assertion())
            }
            Trust::Anybody => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
