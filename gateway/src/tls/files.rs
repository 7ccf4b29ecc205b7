//! Certificates in PEM files, and secrets on disk.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::Path,
    sync::Arc,
};

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

/// Certificate chain and key from one text.
pub(super) fn parse(pem: &[u8]) -> Result<Arc<CertifiedKey>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|error| error.to_string())?;
    let private = PrivateKeyDer::from_pem_slice(pem).map_err(|error| error.to_string())?;
    let key = CertifiedKey::from_der(chain, private, &crypto::ring::default_provider());
    key.map(Arc::new).map_err(|error| error.to_string())
}

/// Makes a directory that only its owner enters.
pub(super) fn make_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Writes a file that only its owner reads, durably, whatever its name stands for already.
pub(super) fn write(path: &Path, text: &str) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Puts a file in the place of another, or of none: at every moment one of the two is there, whole.
pub(super) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    write(&new, text)?;
    fs::rename(&new, path)?;
    sync_dir(path)
}

/// Makes durable what was renamed or linked to `path`.
pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}
