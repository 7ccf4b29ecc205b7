//! Legacy pushes by way of `/aesgcm`, for apps that are given nothing but bytes.

use super::*;
use crate::{
    admission::tests::signer::Signer,
    model::{Coding, Urgency},
};

const LEGACY: &str = "Content-Encoding: aesgcm\r\nEncryption: salt=SALT\r\nCrypto-Key: dh=DH;p256ecdsa=K\r\n";

fn way(origin: &str, endpoint: EndpointToken) -> String {
    format!("/aesgcm?e={}", format!("{origin}/p/{endpoint}").replace(':', "%3A").replace('/', "%2F"))
}

#[tokio::test]
async fn the_headers_of_an_aesgcm_push_go_before_its_body() {
    let gateway = Gateway::start().await;
    let headers = format!("{LEGACY}TTL: 60\r\nUrgency: high\r\nTopic: room\r\n");
    let reply = gateway.ask("POST", &way(BASE, LIVE), &headers, b"\0\xff").await;
    assert_eq!((reply.status, reply.header("ttl")), (201, Some("60")));
    assert_eq!(reply.header("location"), Some(&*format!("{BASE}/m/{MESSAGE}")));
    let pushed = gateway.pushed().remove(0);
    assert_eq!(&pushed.body[..], b"aesgcm\nEncryption: salt=SALT\nCrypto-Key: dh=DH\n\0\xff");
    // A second prefix would be one too many.
    assert_eq!(pushed.coding, Coding::default());
    assert_eq!((pushed.urgency, pushed.topic.is_some()), (Urgency::High, true));
    let largest = gateway.ask("POST", &way(BASE, LIVE), LEGACY, &[0; 5630]).await;
    assert_eq!(largest.status, 201);
}

#[tokio::test]
async fn aesgcm_is_for_endpoints_of_this_gateway_only() {
    let gateway = Gateway::start().await;
    for (path, status, named) in [
        (way("https://other.example", LIVE), 403, "not an endpoint of this gateway"),
        (way(&format!("{BASE}.example"), LIVE), 403, "not an endpoint of this gateway"),
        (way("https://127.0.0.1:8080", NOBODYS), 403, "not an endpoint of this gateway"),
        (format!("/aesgcm?e={BASE}/upAbCdEfGhIjKl"), 400, "e must be"),
        ("/aesgcm?e=file:///etc/passwd".into(), 400, "e must be"),
        ("/aesgcm".into(), 400, "e must be"),
        (way(BASE, NOBODYS), 404, "no such endpoint"),
        (way(BASE, GONE), 410, "removed"),
    ] {
        let reply = gateway.ask("POST", &path, LEGACY, b"x").await;
        assert_eq!(reply.status, status, "{path}");
        assert!(reply.body.contains(named), "{path}: {}", reply.body);
    }
    assert!(gateway.pushed().is_empty());
}

#[tokio::test]
async fn what_is_not_aesgcm_is_refused_there() {
    let gateway = Gateway::start().await;
    for headers in [
        "",
        "Content-Encoding: aes128gcm\r\n",
        "Content-Encoding: aesgcm\r\n",
        "Content-Encoding: aesgcm\r\nEncryption: salt=S\r\n",
        "Content-Encoding: aesgcm\r\nCrypto-Key: dh=D\r\n",
        "Encryption: salt=S\r\nCrypto-Key: dh=D\r\n",
    ] {
        let reply = gateway.ask("POST", &way(BASE, LIVE), headers, b"x").await;
        assert_eq!(reply.status, 400, "{headers}");
        assert!(reply.body.contains("Content-Encoding: aesgcm"), "{}", reply.body);
    }
    assert!(gateway.pushed().is_empty());
}

#[tokio::test]
async fn aesgcm_asks_a_bound_endpoint_s_sender_who_it_is() {
    let ours = Signer::new();
    let gateway = Gateway::with(Limits::default(), Some(ours.key())).await;
    assert_eq!(gateway.ask("POST", &way(BASE, BOUND), LEGACY, b"x").await.status, 401);
    let signed = format!("{LEGACY}Authorization: {}\r\n", ours.authorization(BASE, NOW + 60));
    assert_eq!(gateway.ask("POST", &way(BASE, BOUND), &signed, b"x").await.status, 201);
}

#[tokio::test]
async fn aesgcm_is_discovered() {
    let gateway = Gateway::start().await;
    for path in ["/aesgcm".to_owned(), way(BASE, NOBODYS)] {
        let reply = gateway.ask("GET", &path, "", b"").await;
        assert_eq!((reply.status, reply.body.as_str()), (200, r#"{"unifiedpush":{"gateway":"aesgcm"}}"#));
        assert_eq!(reply.header("access-control-allow-origin"), Some("*"));
        assert_eq!(reply.header("content-type"), Some("application/json"));
    }
}
