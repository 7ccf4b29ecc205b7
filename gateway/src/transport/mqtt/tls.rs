//! The certificate of the TLS listener.

use std::{path::PathBuf, sync::Arc};

use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig, crypto,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};

use crate::config::MqttTls;

/// Why the certificate or the key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// No certificate in the file, or no file.
    #[error("{path}: not a PEM file with a certificate chain: {what}", path = path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
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

/// Reads certificate and key.
pub(super) fn acceptor(tls: &MqttTls) -> Result<TlsAcceptor, TlsError> {
    let bad_chain = |what: String| TlsError::Certificate { path: tls.certificate.clone(), what };
    let chain: Vec<_> = CertificateDer::pem_file_iter(&tls.certificate)
        .and_then(Iterator::collect)
        .map_err(|error| bad_chain(error.to_string()))?;
    if chain.is_empty() {
        return Err(bad_chain("it holds none".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_file(&tls.key)
        .map_err(|error| TlsError::Key { path: tls.key.clone(), what: error.to_string() })?;
    let pair =
        |what: String| TlsError::Pair { certificate: tls.certificate.clone(), key: tls.key.clone(), what };
    let config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| pair(error.to_string()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
