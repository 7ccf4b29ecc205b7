//! TLS to a gateway that is its own certificate authority, known by the fingerprint in a pairing URI.
//!
//! rumqttc's own TLS pulls a webpki with open advisories, but it also speaks over Unix sockets: so the
//! connection is made here, and reaches it through a socket of which only this user knows, for as long as
//! it takes to open it once.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use ring::digest::{SHA256, digest};
use tokio::{
    io::copy_bidirectional,
    net::{TcpStream, UnixListener},
    task::JoinHandle,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
        client::{
            WebPkiServerVerifier,
            danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        },
        crypto::{CryptoProvider, ring::default_provider, verify_tls12_signature, verify_tls13_signature},
        pki_types::{CertificateDer, ServerName, UnixTime},
    },
};

use super::address::{Address, Pin};

/// Connects with TLS. An authority other than the pinned one is [`io::ErrorKind::InvalidData`].
pub(super) async fn connect(address: &Address, pin: Pin) -> io::Result<TlsStream<TcpStream>> {
    let provider = Arc::new(default_provider());
    let verifier = Pinned { pin, provider: Arc::clone(&provider) };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    let name = address.host.trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(name).map_err(io::Error::other)?;
    let stream = TcpStream::connect(address.to_string()).await?;
    stream.set_nodelay(true)?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// A Unix socket behind which the gateway is, once; dropping it ends both.
#[derive(Debug)]
pub(super) struct Bridge {
    pub(super) path: PathBuf,
    carrying: JoinHandle<()>,
}

impl Bridge {
    /// Opens it in a directory that belongs to this user only.
    pub(super) fn open(dir: &Path, mut gateway: TlsStream<TcpStream>) -> io::Result<Self> {
        let path = dir.join(format!("listen-{}.sock", std::process::id()));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&path)?;
        let carrying = tokio::spawn(async move {
            if let Ok((mut client, _)) = listener.accept().await {
                drop(listener);
                // Either end tells the other by closing.
                let _ = copy_bidirectional(&mut client, &mut gateway).await;
            }
        });
        Ok(Self { path, carrying })
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.carrying.abort();
        let _ = fs::remove_file(&self.path);
    }
}

/// Trusts what the authority with this fingerprint has signed for the host. The gateway sends the
/// authority's certificate along.
#[derive(Debug)]
struct Pinned {
    pin: Pin,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let pinned =
            |certificate: &&CertificateDer<'_>| digest(&SHA256, certificate).as_ref() == self.pin.as_slice();
        let authority = intermediates.iter().find(pinned);
        let authority = authority.ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
            .build()
            .map_err(|error| Error::General(error.to_string()))?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
