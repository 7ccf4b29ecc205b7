//! TLS, with a certificate for `localhost` that is good for these tests only.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore, crypto,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};

use super::{
    house::{House, config},
    raw::{Client, Connect, PATIENCE},
};
use crate::{
    config::{MqttConfig, MqttTls},
    model::DeviceId,
    transport::{
        Consignment, Transport as _, battery,
        mqtt::{BoundRoom, MqttRoom},
    },
};

const DEVICE: DeviceId = DeviceId(7);

fn file(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src/transport/mqtt/tests/secure")).join(name)
}

fn settings(certificate: &str, key: &str) -> MqttConfig {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    MqttConfig { tls: Some(MqttTls { certificate: file(certificate), key: file(key), listen }), ..config() }
}

pub(super) fn start() -> (House, SocketAddr) {
    let listen = || std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let secure = listen();
    let address = secure.local_addr().expect("bound");
    let settings = settings("certificate.pem", "key.pem");
    let bound = BoundRoom::adopt(&settings, listen(), Some(secure)).expect("adopts");
    (House::open(bound.with_limits(House::impatient()), Arc::default()), address)
}

/// A client's end of a handshake.
pub(super) async fn handshake(address: SocketAddr) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(file("certificate.pem")).expect("a PEM file")).expect("added");
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    let stream = TcpStream::connect(address).await.expect("connects");
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("a handshake")
}

#[tokio::test]
async fn pushes_go_over_tls_while_a_silent_handshake_is_given_up() {
    let (mut house, address) = start();
    let mut silent = Client::open(address, 4).await;
    let mut client = Client::over(handshake(address).await, 5);
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
