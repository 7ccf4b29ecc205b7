//! The doctor's own client: HTTP/1.1 and WebSocket, plain or by TLS, with the trust of this machine.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        self, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
        client::{
            WebPkiServerVerifier,
            danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        },
        crypto,
        pki_types::{CertificateDer, ServerName, UnixTime},
    },
};

use crate::clock::SharedClock;

/// How long a connection, a handshake, or an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// More than anything of ours that is asked for here.
const MAX_ANSWER: usize = 64 * 1024;

/// What both kinds of connections can do.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Where to go.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// A name or an address, without brackets.
    pub(super) host: String,
    /// As the `Host` header has it.
    pub(super) authority: String,
    pub(super) is_tls: bool,
    pub(super) port: u16,
}

impl Target {
    /// Of an `http` or `https` URL.
    pub(super) fn of(uri: &Uri) -> Option<Self> {
        let is_tls = uri.scheme_str()? == "https";
        let host = uri.host()?;
        let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host).to_owned();
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        Some(Self { authority: uri.authority()?.to_string(), host, is_tls, port })
    }
}

/// Opens connections.
pub(super) struct Dialer {
    clock: SharedClock,
    roots: Arc<RootCertStore>,
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").field("roots", &self.roots.len()).finish_non_exhaustive()
    }
}

/// The chain that a server showed, and what is to be said of it.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) verdict: Result<(), rustls::Error>,
    /// When the server's own certificate ends, seconds since 1970, where that could be told.
    pub(super) until: Option<u64>,
}

impl Dialer {
    pub(super) fn new(clock: SharedClock) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Self::trusting(roots, clock)
    }

    /// Trusts these, instead of whom this machine trusts.
    pub(super) fn trusting(roots: RootCertStore, clock: SharedClock) -> Self {
        Self { clock, roots: Arc::new(roots) }
    }

    /// Whether this machine trusts nobody, as one without the package `ca-certificates` does.
    pub(super) fn has_no_roots(&self) -> bool {
        self.roots.is_empty()
    }

    /// A connection to the first address that takes one. A certificate must be good, because the device's
    /// secret may follow.
    pub(super) async fn connect(
        &self,
        target: &Target,
        addresses: &[SocketAddr],
    ) -> Result<Box<dyn Stream>, String> {
        let tcp = connect(addresses).await?;
        if !target.is_tls {
            return Ok(Box::new(tcp));
        }
        let (stream, shown) = self.handshake(tcp, &target.host, &self.roots).await?;
        shown.verdict.map_err(|error| error.to_string())?;
        Ok(stream)
    }

    /// What a TLS server shows, good or bad, to somebody who trusts `own_root`, or whom this machine trusts.
    pub(super) async fn look(
        &self,
        host: &str,
        addresses: &[SocketAddr],
        own_root: Option<CertificateDer<'static>>,
    ) -> Result<Shown, String> {
        let roots = match own_root {
            Some(root) => {
                let mut roots = RootCertStore::empty();
                roots.add(root).map_err(|error| error.to_string())?;
                Arc::new(roots)
            }
            None => Arc::clone(&self.roots),
        };
        let tcp = connect(addresses).await?;
        Ok(self.handshake(tcp, host, &roots).await?.1)
    }

    async fn handshake(
        &self,
        tcp: TcpStream,
        host: &str,
        roots: &Arc<RootCertStore>,
    ) -> Result<(Box<dyn Stream>, Shown), String> {
        let provider = Arc::new(crypto::ring::default_provider());
        let now = UnixTime::since_unix_epoch(Duration::from_secs(self.clock.moment().wall.as_secs()));
        let verifier = if roots.is_empty() {
            None
        } else {
            WebPkiServerVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(&provider)).build().ok()
        };
        let witness = Arc::new(Witness {
            now,
            schemes: provider.signature_verification_algorithms.supported_schemes(),
            seen: Mutex::default(),
            verifier,
        });
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&witness) as _)
            .with_no_client_auth();
        let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
        let shaken = timeout(PATIENCE, TlsConnector::from(Arc::new(config)).connect(name, tcp)).await;
        let stream = shaken.map_err(|_| "no TLS handshake in time".to_owned())?.map_err(|e| e.to_string())?;
        let seen = witness.seen.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok((Box::new(stream), seen.ok_or("the server showed no certificate")?))
    }

    /// One request, one answer.
    pub(super) async fn ask(
        &self,
        target: &Target,
        addresses: &[SocketAddr],
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Bytes>, String> {
        let stream = self.connect(target, addresses).await?;
        let exchange = async {
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            // It ends with its stream, which ends with the sender.
            tokio::spawn(connection);
            sender.send_request(request).await
        };
        let response = timeout(PATIENCE, exchange).await.map_err(|_| late())?.map_err(|e| e.to_string())?;
        let (head, body) = response.into_parts();
        let body = timeout(PATIENCE, Limited::new(body, MAX_ANSWER).collect()).await.map_err(|_| late())?;
        Ok(Response::from_parts(head, body.map_err(|error| error.to_string())?.to_bytes()))
    }

    /// `GET` of a path.
    pub(super) async fn get(
        &self,
        target: &Target,
        addresses: &[SocketAddr],
        path: &str,
    ) -> Result<Response<Bytes>, String> {
        let request = Request::get(path).header("host", &target.authority).body(Full::default());
        self.ask(target, addresses, request.map_err(|error| error.to_string())?).await
    }
}

/// A connection by TCP to the first address that takes one.
pub(super) async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, String> {
    let mut last = "the name has no address".to_owned();
    for address in addresses {
        match timeout(PATIENCE, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = format!("{address}: {error}"),
            Err(_) => last = format!("{address}: no answer in {} s", PATIENCE.as_secs()),
        }
    }
    Err(last)
}

fn late() -> String {
    format!("no answer in {} s", PATIENCE.as_secs())
}

/// Whether only the owner's own machines can reach it (RFC 1918, 4193, 3927, 6598).
pub(super) fn private_kind(address: IpAddr) -> Option<&'static str> {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            match () {
                () if v4.is_loopback() || v4.is_unspecified() => Some("this machine itself"),
                () if v4.is_private() => Some("a private network"),
                () if v4.is_link_local() => Some("one cable"),
                () if first == 100 && (64..128).contains(&second) => {
                    Some("the shared range of providers' NAT (CGNAT) and of VPNs such as Tailscale")
                }
                () => None,
            }
        }
        IpAddr::V6(v6) if v6.is_loopback() || v6.is_unspecified() => Some("this machine itself"),
        IpAddr::V6(v6) if v6.is_unique_local() => Some("a private network"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some("one cable"),
        IpAddr::V6(_) => None,
    }
}

/// Takes every certificate and writes down what a careful client would have said of it: nothing is sent
/// before that is read. That the server holds the certificate's key is asked for as always.
#[derive(Debug)]
struct Witness {
    now: UnixTime,
    schemes: Vec<SignatureScheme>,
    seen: Mutex<Option<Shown>>,
    /// None if there is nobody to trust.
    verifier: Option<Arc<WebPkiServerVerifier>>,
}

/// In a hundred years every certificate has ended, and the error says when.
const CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let judge = |at| match &self.verifier {
            Some(verifier) => {
                verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp, at).map(drop)
            }
            None => Err(CertificateError::UnknownIssuer.into()),
        };
        let later = UnixTime::since_unix_epoch(Duration::from_secs(self.now.as_secs()) + CENTURY);
        let until = match judge(later) {
            Err(rustls::Error::InvalidCertificate(CertificateError::ExpiredContext {
                not_after, ..
            })) => Some(not_after.as_secs()),
            Ok(()) | Err(_) => None,
        };
        let mut chain = vec![end_entity.clone().into_owned()];
        chain.extend(intermediates.iter().map(|certificate| certificate.clone().into_owned()));
        let shown = Shown { chain, until, verdict: judge(self.now) };
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(shown);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = crypto::ring::default_provider().signature_verification_algorithms;
        crypto::verify_tls12_signature(message, certificate, signed, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = crypto::ring::default_provider().signature_verification_algorithms;
        crypto::verify_tls13_signature(message, certificate, signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}
