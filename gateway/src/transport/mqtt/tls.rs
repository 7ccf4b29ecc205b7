//! The TLS listener's handshakes, and the certificate that they show.

mod authority;
mod files;
#[cfg(test)]
mod tests;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, ServerConfig, crypto,
        server::{ClientHello, ResolvesServerCert},
        sign::CertifiedKey,
    },
};

pub use self::authority::Authority;
use self::{authority::Issued, files::Stamp};
use super::seat::lock;
use crate::{config::Certificate, model::Moment};

/// Why the certificate or the key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The gateway's own certificate authority can be neither read nor made.
    #[error("{path}: the gateway's own certificate authority: {what}; give it back from a backup, or remove the file and pair every device again", path = path.display())]
    Authority {
        /// Its file.
        path: PathBuf,
        /// What was wrong.
        what: String,
    },
    /// No certificate in the file, or no file.
    #[error("{path}: not a PEM file with a certificate chain: {what}", path = path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What was wrong.
        what: String,
    },
    /// The authority can issue no certificate for these names.
    #[error("no certificate can be issued for {names}: {what}")]
    Issue {
        /// The names.
        names: String,
        /// What was wrong.
        what: String,
    },
    /// No key in the file, or no file.
    #[error("{path}: not a PEM file with a private key: {what}", path = path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What was wrong.
        what: String,
    },
    /// The TLS library refuses its settings, or has no randomness.
    #[error("TLS cannot be set up: {0}")]
    Library(rustls::Error),
    /// The two do not go together.
    #[error("certificate {certificate} and key {key} do not go together: {what}",
        certificate = certificate.display(), key = key.display())]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What was wrong.
        what: String,
    },
}

/// How often the files are looked at, at most, and only when somebody connects: nothing wakes an idle
/// gateway.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the TLS handshakes of one listener have in common. It outlives its certificates: those who come
/// back resume their session (RFC 8446 §2.2, RFC 5077) whatever certificate is shown by now.
#[derive(Clone)]
pub(super) struct Acceptor(Arc<Shared>);

struct Shared {
    acceptor: TlsAcceptor,
    looked: Mutex<Looked>,
    shown: Arc<Shown>,
    source: Source,
}

enum Source {
    Files { certificate: PathBuf, key: PathBuf },
    Own { authority: Box<Authority>, configured: Vec<String> },
}

#[derive(Debug, Default)]
struct Looked {
    issued: Option<Issued>,
    /// Not to be looked again before.
    next: Option<Instant>,
    stamp: Stamp,
}

/// The certificate of the moment.
#[derive(Debug, Default)]
struct Shown(RwLock<Option<Arc<CertifiedKey>>>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Shown {
    fn set(&self, key: Arc<CertifiedKey>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(key);
    }
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acceptor").field("shown", &self.0.shown).finish_non_exhaustive()
    }
}

impl Acceptor {
    /// Reads the certificate, or opens the gateway's own authority.
    pub(super) fn new(certificate: &Certificate) -> Result<Self, TlsError> {
        let shown = Arc::<Shown>::default();
        let mut looked = Looked::default();
        let source = match certificate {
            Certificate::Files { certificate, key } => {
                // Before reading: what changes meanwhile is read again.
                looked.stamp = files::stamp(certificate, key);
                shown.set(files::read(certificate, key)?);
                Source::Files { certificate: certificate.clone(), key: key.clone() }
            }
            Certificate::Own { dir, names } => {
                Source::Own { authority: Box::new(Authority::open(dir)?), configured: names.clone() }
            }
        };
        let config = server_config(Arc::clone(&shown)).map_err(TlsError::Library)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Ok(Self(Arc::new(Shared { acceptor, looked: Mutex::new(looked), shown, source })))
    }

    /// The handshake, with the certificate as it is now.
    pub(super) fn accept<S>(&self, stream: S, now: Moment) -> tokio_rustls::Accept<S>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.look(now, false);
        self.0.acceptor.accept(stream)
    }

    /// SHA-256 of the gateway's own authority, as long as it uses one.
    pub(super) fn fingerprint(&self) -> Option<String> {
        match &self.0.source {
            Source::Files { .. } => None,
            Source::Own { authority, .. } => Some(authority.fingerprint()),
        }
    }

    /// Sees whether there is another certificate to show: when it is due, or `at_once`.
    pub(super) fn look(&self, now: Moment, at_once: bool) {
        let mut looked = lock(&self.0.looked);
        if !at_once && looked.next.is_some_and(|next| now.instant < next) {
            return;
        }
        looked.next = Some(now.instant + LOOK_EVERY);
        let found = match &self.0.source {
            Source::Files { certificate, key } => {
                let stamp = files::stamp(certificate, key);
                if stamp == looked.stamp && !at_once {
                    return;
                }
                looked.stamp = stamp;
                files::read(certificate, key)
            }
            Source::Own { authority, configured } => {
                let names = authority::names(configured);
                if looked.issued.as_ref().is_some_and(|issued| issued.serves(&names, now)) {
                    return;
                }
                authority.issue(names, now).map(|issued| Arc::clone(&looked.issued.insert(issued).key))
            }
        };
        match found {
            Ok(key) => {
                self.0.shown.set(key);
                tracing::info!("MQTT over TLS has a new certificate");
            }
            // Once for each change of the files.
            Err(error) => tracing::error!(%error, "the TLS certificate of before stays in use"),
        }
    }
}

fn server_config(shown: Arc<Shown>) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(shown);
    // Sealed, so that a thousand sleeping phones cost no memory; the keys change every six hours.
    config.ticketer = crypto::ring::Ticketer::new()?;
    // A device has one connection, and each brings a new ticket.
    config.send_tls13_tickets = 1;
    Ok(config)
}
