//! TLS, with a certificate for `localhost` that is good for these tests only.

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ALL_VERSIONS, ClientConfig, RootCertStore, SupportedProtocolVersion, crypto,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};

use super::{
    house::{House, config},
    raw::{Client, Connect, PATIENCE},
};
use crate::{
    config::{Certificate, MqttConfig, Tls},
    model::DeviceId,
    transport::{Consignment, Transport as _, battery, mqtt::MqttRoom},
};

const DEVICE: DeviceId = DeviceId(7);
/// The most that a TLS record holds (RFC 8446 §5.1), in bytes.
const RECORD_MAX: usize = 16_384;
/// What TLS 1.3 adds to it (RFC 8446 §5.2): the inner type and the tag, in bytes.
const RECORD_OVERHEAD: usize = 17;

/// A socket that keeps what comes down, as it was on the wire.
struct Tapped {
    down: Arc<Mutex<Vec<u8>>>,
    stream: TcpStream,
}

impl AsyncRead for Tapped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, into))?;
        self.down.lock().expect("unpoisoned").extend_from_slice(&into.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tapped {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// How much each TLS record holds, in bytes, in order.
fn records(mut wire: &[u8]) -> Vec<usize> {
    let mut held = Vec::new();
    while let [_, _, _, high, low, rest @ ..] = wire {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        held.push(length - RECORD_OVERHEAD);
        wire = &rest[length..];
    }
    held
}

fn file(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src/transport/mqtt/tests/secure")).join(name)
}

fn settings(certificate: &str, key: &str) -> MqttConfig {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let certificate = Certificate::Files { certificate: file(certificate), key: file(key) };
    MqttConfig { tls: Some(Tls { certificate, listen }), ..config() }
}

/// A room with these settings for its TLS listener, and where that is.
pub(super) fn start_with(settings: &MqttConfig) -> (House, SocketAddr) {
    let bound = MqttRoom::bind(settings).expect("binds");
    let address = bound.secure_addr().expect("with TLS");
    (House::open(bound.with_limits(House::impatient()), Arc::default()), address)
}

pub(super) fn start() -> (House, SocketAddr) {
    start_with(&settings("certificate.pem", "key.pem"))
}

/// A client that trusts this certificate, and keeps the tickets that it gets.
pub(super) fn trusting(
    root: CertificateDer<'_>,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(root.into_owned()).expect("added");
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

pub(super) fn test_root() -> CertificateDer<'static> {
    CertificateDer::from_pem_file(file("certificate.pem")).expect("a PEM file")
}

/// A handshake with whoever is called `name`.
pub(super) async fn shake(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
    name: &'static str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(name).expect("a name");
    let stream = TcpStream::connect(address).await.expect("connects");
    timeout(PATIENCE, TlsConnector::from(Arc::clone(config)).connect(name, stream)).await.expect("in time")
}

/// A client's end of a handshake.
pub(super) async fn handshake(address: SocketAddr) -> TlsStream<TcpStream> {
    let config = trusting(test_root(), ALL_VERSIONS);
    shake(address, &config, "localhost").await.expect("a handshake")
}

async fn connect(address: SocketAddr, level: u8) -> Client<TlsStream<TcpStream>> {
    Client::over(handshake(address).await, level)
}

#[tokio::test]
async fn either_level_is_served_over_tls() {
    for level in [4, 5] {
        let (mut house, address) = start();
        let mut client = connect(address, level).await;
        client.send(&Connect::of(DEVICE, level).bytes()).await;
        assert_eq!(client.packet().await.kind(), 2);
        client.subscribe(&[(&format!("up/{DEVICE}/inbox/#"), 1)]).await;
        house.joined().await;
        let items = vec![battery::item(DEVICE, 1, b"x")];
        assert_eq!(house.room.hand_over(Consignment { device: DEVICE, items }), Ok(()));
        assert_eq!(client.published().await.body.len(), 1, "level {level}");
    }
}

#[tokio::test]
async fn everything_due_leaves_in_as_few_records_as_it_fits() {
    const MESSAGES: u64 = 8;
    for level in [4, 5] {
        for size in [50, 4_000] {
            let (mut house, address) = start();
            let down = Arc::new(Mutex::new(Vec::new()));
            let stream = TcpStream::connect(address).await.expect("connects");
            let tapped = Tapped { down: Arc::clone(&down), stream };
            let tls = TlsConnector::from(trusting(test_root(), ALL_VERSIONS));
            let name = ServerName::try_from("localhost").expect("a name");
            let stream = tls.connect(name, tapped).await.expect("a handshake");
            let mut client = Client::over(stream, level);
            client.send(&Connect::of(DEVICE, level).bytes()).await;
            assert_eq!(client.packet().await.kind(), 2);
            client.subscribe(&[(&format!("up/{DEVICE}/inbox/#"), 1)]).await;
            house.joined().await;
            down.lock().expect("unpoisoned").clear();
            let items = (1..=MESSAGES).map(|id| battery::item(DEVICE, id, &vec![b'x'; size])).collect();
            assert_eq!(house.room.hand_over(Consignment { device: DEVICE, items }), Ok(()));
            for _ in 0..MESSAGES {
                assert_eq!(client.published().await.body.len(), size, "level {level}");
            }
            let held = records(&down.lock().expect("unpoisoned"));
            let bytes: usize = held.iter().sum();
            assert!(bytes > size * 8, "{bytes}");
            assert_eq!(held.len(), bytes.div_ceil(RECORD_MAX), "level {level}: {held:?}");
        }
    }
}

#[tokio::test]
async fn what_is_sent_before_the_login_is_bounded() {
    let (_house, address) = start();
    // A ClientHello of 60,000 bytes that never ends, in records of 4,000.
    let mut hello = vec![1, 0, 0xea, 0x60];
    hello.resize(4_000, 0);
    let record = [&[22, 3, 1, 0x0f, 0xa0][..], &hello].concat();
    let next = [&[22, 3, 1, 0x0f, 0xa0][..], &[0; 4_000]].concat();
    let mut stranger = Client::open(address, 4).await;
    for bytes in [&record, &next, &next] {
        stranger.send(bytes).await;
    }
    // At once, not only when its time is over.
    let gone = timeout(Duration::from_secs(5), async { while stranger.next().await.is_some() {} }).await;
    gone.expect("closed");
}

#[tokio::test]
async fn pushes_go_over_tls_while_a_silent_handshake_is_given_up() {
    let (mut house, address) = start();
    let mut silent = Client::open(address, 4).await;
    let mut client = connect(address, 5).await;
    client.send(&Connect::of(DEVICE, 5).bytes()).await;
    assert_eq!(client.packet().await.kind(), 2);
    client.subscribe(&[(&format!("up/{DEVICE}/inbox/#"), 1)]).await;
    house.joined().await;
    let items = vec![battery::item(DEVICE, 1, &[7; 5000])];
    assert_eq!(house.room.hand_over(Consignment { device: DEVICE, items }), Ok(()));
    assert_eq!(client.published().await.body.len(), 5000);
    let gone = timeout(Duration::from_secs(2), silent.next()).await.expect("given up");
    assert_eq!(gone, None);
}

#[tokio::test]
async fn a_plain_client_at_the_tls_port_is_closed() {
    let (_house, address) = start();
    let mut client = Client::open(address, 4).await;
    client.send(&Connect::of(DEVICE, 4).bytes()).await;
    let ended = async { while client.next().await.is_some() {} };
    timeout(PATIENCE, ended).await.expect("closed");
}

#[test]
fn a_bad_certificate_is_named_before_anything_runs() {
    for (certificate, key, named) in [
        ("missing.pem", "key.pem", "missing.pem: not a PEM file with a certificate chain"),
        ("key.pem", "key.pem", "key.pem: not a PEM file with a certificate chain"),
        ("certificate.pem", "certificate.pem", "certificate.pem: not a PEM file with a private key"),
    ] {
        let error = MqttRoom::bind(&settings(certificate, key)).expect_err("unusable").to_string();
        assert!(error.contains(named), "{error}");
    }
}
