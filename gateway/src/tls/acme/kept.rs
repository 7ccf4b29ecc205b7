//! What is kept of ACME: the account, and the certificate with its key. Each authority has a directory of its
//! own, so that a trial with another one leaves nothing behind that would be shown for the real one.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use instant_acme::AccountCredentials;
use tokio_rustls::rustls::sign::CertifiedKey;
use x509_cert::{Certificate, der::Decode as _};

use crate::{
    config::Acme,
    model::UnixTime,
    tls::{TlsError, files},
};

/// From when until when a certificate is good.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Life {
    pub(super) from: UnixTime,
    pub(super) until: UnixTime,
}

/// The files.
#[derive(Debug)]
pub(super) struct Kept {
    account: PathBuf,
    /// Key and chain in one, so that they are always of each other.
    certificate: PathBuf,
}

impl Kept {
    /// Makes the place for them.
    pub(super) fn open(settings: &Acme) -> Result<Self, TlsError> {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "-.".contains(c) { c } else { '_' };
        let authority: String =
            settings.directory.trim_start_matches("https://").chars().map(plain).collect();
        let dir = settings.dir.join(authority);
        files::make_dir(&dir).map_err(|error| failed(&dir, &error.to_string()))?;
        let certificate = dir.join(format!("{}.pem", settings.domain));
        Ok(Self { account: dir.join("account.json"), certificate })
    }

    /// The account, if there is one.
    pub(super) fn account(&self) -> Result<Option<AccountCredentials>, TlsError> {
        let refused = |what: &str| failed(&self.account, &format!("{what}; remove it for a new account"));
        match fs::read(&self.account) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map(Some).map_err(|error| refused(&error.to_string()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(refused(&error.to_string())),
        }
    }

    /// Keeps a new account.
    pub(super) fn keep_account(&self, credentials: &AccountCredentials) -> Result<(), TlsError> {
        let failed = |error: &dyn std::error::Error| failed(&self.account, &error.to_string());
        let text = serde_json::to_string(credentials).map_err(|error| failed(&error))?;
        files::replace(&self.account, &text).map_err(|error| failed(&error))
    }

    /// The certificate, if there is one.
    pub(super) fn certificate(&self) -> Result<Option<(Arc<CertifiedKey>, Life)>, TlsError> {
        if !self.certificate.exists() {
            return Ok(None);
        }
        let key = files::read(&self.certificate, &self.certificate)?;
        let life = self.life(&key)?;
        Ok(Some((key, life)))
    }

    /// Keeps a new one over the old one, if it is one.
    pub(super) fn keep_certificate(&self, pem: &str) -> Result<(Arc<CertifiedKey>, Life), TlsError> {
        let failed = |what: String| failed(&self.certificate, &what);
        let key = files::parse(pem.as_bytes()).map_err(failed)?;
        let life = self.life(&key)?;
        files::replace(&self.certificate, pem).map_err(|error| failed(error.to_string()))?;
        Ok((key, life))
    }

    fn life(&self, key: &CertifiedKey) -> Result<Life, TlsError> {
        let failed = |what: &str| failed(&self.certificate, what);
        let end_entity = key.end_entity_cert().map_err(|error| failed(&error.to_string()))?;
        let read = Certificate::from_der(end_entity).map_err(|error| failed(&error.to_string()))?;
        let validity = read.tbs_certificate.validity;
        let millis = |time: x509_cert::time::Time| {
            UnixTime(u64::try_from(time.to_unix_duration().as_millis()).unwrap_or(u64::MAX))
        };
        Ok(Life { from: millis(validity.not_before), until: millis(validity.not_after) })
    }
}

fn failed(path: &Path, what: &str) -> TlsError {
    TlsError::Acme { path: path.to_owned(), what: what.to_owned() }
}
