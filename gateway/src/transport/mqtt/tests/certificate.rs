//! Which certificate is shown: files that change under way, the gateway's own authority, and sessions that
//! are resumed whatever it is.

use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc};

use rcgen::{CertificateParams, KeyPair};
use tokio_rustls::rustls::{
    ALL_VERSIONS, ClientConfig, HandshakeKind,
    pki_types::{CertificateDer, pem::PemObject as _},
    version::{TLS12, TLS13},
};

use super::{
    house::config,
    raw::{Client, Connect},
    secure::{shake, start_with, trusting},
};
use crate::{
    config::{Certificate, MqttConfig, Tls},
    model::DeviceId,
    tls::Authority,
    transport::mqtt::MqttRoom,
};

const DEVICE: DeviceId = DeviceId(7);

fn settings(certificate: Certificate) -> MqttConfig {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    MqttConfig { tls: Some(Tls { certificate, listen }), ..config() }
}

fn files(dir: &Path) -> Certificate {
    Certificate::Files { certificate: dir.join("chain.pem"), key: dir.join("key.pem") }
}

fn own(dir: &Path) -> Certificate {
    Certificate::Own { dir: dir.to_owned(), names: vec!["push.example.org".to_owned()] }
}

/// Writes a new certificate for `localhost`, as a renewal does: each file replaced by another.
fn renew(dir: &Path) -> CertificateDer<'static> {
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let certificate = certificate.self_signed(&key).expect("a certificate");
    for (name, text) in [("chain.pem", certificate.pem()), ("key.pem", key.serialize_pem())] {
        fs::write(dir.join("new"), text).expect("written");
        fs::rename(dir.join("new"), dir.join(name)).expect("replaced");
    }
    certificate.der().clone()
}

fn trust(root: &CertificateDer<'_>) -> Arc<ClientConfig> {
    trusting(root.clone(), ALL_VERSIONS)
}

#[tokio::test]
async fn those_who_come_back_resume_their_session() {
    for version in [&TLS12, &TLS13] {
        let dir = tempfile::tempdir().expect("a directory");
        let root = renew(dir.path());
        let (_house, address) = start_with(&settings(files(dir.path())));
        let config = trusting(root, &[version]);
        let mut kinds = Vec::new();
        for _ in 0..3 {
            let stream = shake(address, &config, "localhost").await.expect("a handshake");
            let mut client = Client::over(stream, 4);
            client.send(&Connect::of(DEVICE, 4).bytes()).await;
            // By then the ticket has come, too.
            assert_eq!(client.packet().await.kind(), 2);
            kinds.push(client.into_inner().get_ref().1.handshake_kind());
            // A ticket survives the certificate that it was given under.
            renew(dir.path());
        }
        let resumed = Some(HandshakeKind::Resumed);
        assert_eq!(kinds, [Some(HandshakeKind::Full), resumed, resumed], "{version:?}");
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_and_connections_live_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = renew(dir.path());
    let (house, address) = start_with(&settings(files(dir.path())));
    let stream = shake(address, &trust(&first), "localhost").await.expect("a handshake");
    let mut client = Client::over(stream, 4);
    client.send(&Connect::of(DEVICE, 4).bytes()).await;
    assert_eq!(client.packet().await.kind(), 2);

    let second = renew(dir.path());
    house.room.reload();
    shake(address, &trust(&second), "localhost").await.expect("the new certificate");
    shake(address, &trust(&first), "localhost").await.expect_err("the old one is gone");
    client.ping().await;

    // Half of a renewal, or a mistake: the one of before stays.
    fs::write(dir.path().join("key.pem"), "nothing").expect("written");
    house.room.reload();
    shake(address, &trust(&second), "localhost").await.expect("still the second");
    let third = renew(dir.path());
    house.room.reload();
    shake(address, &trust(&third), "localhost").await.expect("the third");
    client.ping().await;
}

#[tokio::test]
async fn a_renewed_certificate_is_noticed_without_being_told() {
    let dir = tempfile::tempdir().expect("a directory");
    renew(dir.path());
    let (_house, address) = start_with(&settings(files(dir.path())));
    let second = renew(dir.path());
    let noticed = async { while shake(address, &trust(&second), "localhost").await.is_err() {} };
    tokio::time::timeout(super::raw::PATIENCE, noticed).await.expect("within seconds");
}

#[tokio::test]
async fn the_gateways_own_authority_outlives_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let tls = dir.path().join("tls");
    let first = MqttRoom::bind(&settings(own(&tls))).expect("binds").fingerprint().expect("an authority");
    let mode = |name: &str| fs::metadata(tls.join(name)).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode("authority.pem"), 0o600);
    assert_eq!(fs::metadata(&tls).expect("there").permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::read_dir(&tls).expect("readable").count(), 2, "nothing is left behind");

    // A backup has the one file that counts.
    let copy = tempfile::tempdir().expect("a directory");
    fs::copy(tls.join("authority.pem"), copy.path().join("authority.pem")).expect("copied");
    for dir in [tls.as_path(), copy.path()] {
        let bound = MqttRoom::bind(&settings(own(dir))).expect("binds");
        assert_eq!(bound.fingerprint().as_deref(), Some(first.as_str()));
        drop(bound);
        let (_house, address) = start_with(&settings(own(dir)));
        let root = CertificateDer::from_pem_file(dir.join("ca.pem")).expect("a certificate");
        for name in ["push.example.org", "localhost", "127.0.0.1"] {
            shake(address, &trust(&root), name).await.expect(name);
        }
        shake(address, &trust(&root), "elsewhere.example").await.expect_err("another name");
        // The authority is in the chain, for those who know only its fingerprint.
        let stream = shake(address, &trust(&root), "localhost").await.expect("a handshake");
        assert_eq!(stream.get_ref().1.peer_certificates().expect("a chain")[1], root);
    }
}

#[test]
fn a_damaged_authority_is_named_and_never_replaced() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("authority.pem");
    fs::write(&path, "nothing").expect("written");
    let error = Authority::open(dir.path()).expect_err("damaged").to_string();
    assert!(error.contains("authority.pem") && error.contains("backup"), "{error}");
    assert_eq!(fs::read_to_string(&path).expect("there"), "nothing");
}

#[test]
fn two_that_make_an_authority_at_once_agree() {
    let dir = tempfile::tempdir().expect("a directory");
    let open = || Authority::open(dir.path()).expect("opens").fingerprint();
    let all: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
        threads.into_iter().map(|thread| thread.join().expect("ends")).collect()
    });
    assert!(all.iter().all(|one| *one == all[0]), "{all:?}");
}
