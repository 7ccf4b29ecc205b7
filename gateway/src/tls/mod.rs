//! The TLS listeners' handshakes, and the certificates that they show: kept by somebody else in files, issued by
//! the gateway's own authority, or ordered by ACME.

mod acme;
mod authority;
mod files;
#[cfg(test)]
mod tests;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
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
    server::TlsStream,
};

pub use self::{acme::Renewal, authority::Authority};
use self::{authority::Issued, files::Stamp};
use crate::{config::Certificate, model::Moment};

/// Why the certificate or the key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// What ACME has to keep cannot be read or written.
    #[error("{path}: what was ordered by ACME: {what}", path = path.display())]
    Acme {
        /// The file or directory.
        path: PathBuf,
        /// What was wrong.
        what: String,
    },
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
pub struct Acceptor(Arc<Shared>);

struct Shared {
    acceptor: TlsAcceptor,
    looked: Mutex<Looked>,
    /// Of the listener, for the log.
    name: &'static str,
    shown: Arc<Shown>,
    source: Source,
}

enum Source {
    /// [`Renewal`] puts it there.
    Acme,
    Files {
        certificate: PathBuf,
        key: PathBuf,
    },
    Own {
        authority: Box<Authority>,
        configured: Vec<String>,
    },
}

#[derive(Debug, Default)]
struct Looked {
    issued: Option<Issued>,
    /// Not to be looked again before.
    next: Option<Instant>,
    stamp: Stamp,
}

/// The certificates of the moment.
#[derive(Debug, Default)]
struct Shown {
    /// For everybody.
    key: RwLock<Option<Arc<CertifiedKey>>>,
    /// For the authority that wants to see that the name leads here, while it does.
    proof: RwLock<Option<Arc<CertifiedKey>>>,
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let which = if acme::is_challenge(&hello) { &self.proof } else { &self.key };
        which.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Shown {
    fn prove(&self, proof: Option<Arc<CertifiedKey>>) {
        *self.proof.write().unwrap_or_else(PoisonError::into_inner) = proof;
    }

    fn set(&self, key: Arc<CertifiedKey>) {
        *self.key.write().unwrap_or_else(PoisonError::into_inner) = Some(key);
    }
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acceptor").field("shown", &self.0.shown).finish_non_exhaustive()
    }
}

impl Acceptor {
    /// Reads the certificate, or opens the gateway's own authority.
    ///
    /// `name` is the listener's, for the log.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn new(name: &'static str, certificate: &Certificate) -> Result<Self, TlsError> {
        let shown = Arc::<Shown>::default();
        let mut looked = Looked::default();
        let source = match certificate {
            Certificate::Acme(_) => Source::Acme,
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
        let mut config = server_config(Arc::clone(&shown)).map_err(TlsError::Library)?;
        if matches!(source, Source::Acme) {
            // A list refuses those who offer nothing of it, so what is spoken here is in it, too.
            config.alpn_protocols = vec![b"http/1.1".to_vec(), acme::ALPN.to_vec()];
        }
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Ok(Self(Arc::new(Shared { acceptor, looked: Mutex::new(looked), name, shown, source })))
    }

    /// The handshake, with the certificate as it is now.
    pub fn accept<S>(&self, stream: S, now: Moment) -> tokio_rustls::Accept<S>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.look(now, false);
        self.0.acceptor.accept(stream)
    }

    /// Whether a public authority only looked whether it would get here, and has nothing to say.
    #[must_use]
    pub fn was_challenge<S>(&self, stream: &TlsStream<S>) -> bool {
        stream.get_ref().1.alpn_protocol() == Some(acme::ALPN)
    }

    /// SHA-256 of the gateway's own authority, as long as it uses one.
    #[must_use]
    pub fn fingerprint(&self) -> Option<String> {
        match &self.0.source {
            Source::Acme | Source::Files { .. } => None,
            Source::Own { authority, .. } => Some(authority.fingerprint()),
        }
    }

    /// Sees whether there is another certificate to show: when it is due, or `at_once`.
    pub fn look(&self, now: Moment, at_once: bool) {
        let mut looked = lock(&self.0.looked);
        if !at_once && looked.next.is_some_and(|next| now.instant < next) {
            return;
        }
        looked.next = Some(now.instant + LOOK_EVERY);
        let found = match &self.0.source {
            Source::Acme => return,
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
                tracing::info!("{} has a new certificate", self.0.name);
            }
            // Once for each change of the files.
            Err(error) => tracing::error!(%error, "{}: the certificate of before stays in use", self.0.name),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
