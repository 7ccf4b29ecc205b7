//! A certificate that somebody else keeps, in PEM files.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path, sync::Arc};

use tokio_rustls::rustls::{
    crypto,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};

use super::TlsError;

/// By what a changed file is told: its place, time (s, ns) and size.
pub(super) type Stamp = [Option<(u64, i64, i64, u64)>; 2];

/// How the files look now.
pub(super) fn stamp(certificate: &Path, key: &Path) -> Stamp {
    [certificate, key].map(|path| {
        let found = fs::metadata(path).ok()?;
        Some((found.ino(), found.mtime(), found.mtime_nsec(), found.size()))
    })
}

/// Reads certificate and key.
pub(super) fn read(certificate: &Path, key: &Path) -> Result<Arc<CertifiedKey>, TlsError> {
    let bad_chain = |what: String| TlsError::Certificate { path: certificate.to_owned(), what };
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| bad_chain(error.to_string()))?;
    if chain.is_empty() {
        return Err(bad_chain("it holds none".to_owned()));
    }
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| TlsError::Key { path: key.to_owned(), what: error.to_string() })?;
    CertifiedKey::from_der(chain, private, &crypto::ring::default_provider()).map(Arc::new).map_err(|error| {
        TlsError::Pair { certificate: certificate.to_owned(), key: key.to_owned(), what: error.to_string() }
    })
}
