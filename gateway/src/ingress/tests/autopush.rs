//! Endpoints below `/wpush/`: what is asked of a request, and what an error looks like.

use serde_json::Value;

use super::*;
use crate::admission::tests::signer::Signer;

const CODED: &str = "TTL: 60\r\nContent-Encoding: aes128gcm\r\n";

impl Gateway {
    async fn wpush(&self, endpoint: EndpointToken, headers: &str, body: &[u8]) -> (u16, u64, Reply) {
        let reply = self.ask("POST", &format!("/wpush/v1/{endpoint}"), headers, body).await;
        let json: Value = serde_json::from_str(&reply.body).unwrap_or_default();
        if !json.is_null() {
            assert_eq!(json["code"], reply.status, "{json}");
            for key in ["error", "message", "more_info"] {
                assert!(json[key].as_str().is_some_and(|text| !text.is_empty()), "{key} in {json}");
            }
        }
        (reply.status, json["errno"].as_u64().unwrap_or_default(), reply)
    }
}

#[tokio::test]
async fn a_push_is_201_with_location_and_ttl() {
    let gateway = Gateway::start().await;
    for path in ["/wpush/v1/", "/wpush/v2/", "/wpush/"] {
        let reply = gateway.ask("POST", &format!("{path}{LIVE}"), CODED, b"x").await;
        assert_eq!((reply.status, reply.header("ttl")), (201, Some("60")), "{path}");
        assert_eq!(reply.header("location"), Some(&*format!("{BASE}/m/{MESSAGE}")));
    }
    assert_eq!(gateway.ask("DELETE", &format!("/m/{MESSAGE}"), "", b"").await.status, 204);
}

#[tokio::test]
async fn what_is_gone_is_410_for_a_day_and_what_never_was_404() {
    let gateway = Gateway::start().await;
    let (status, errno, reply) = gateway.wpush(GONE, CODED, b"x").await;
    assert_eq!((status, errno, reply.header("cache-control")), (410, 106, Some("max-age=86400")));
    let (status, errno, _) = gateway.wpush(NOBODYS, CODED, b"x").await;
    assert_eq!((status, errno), (404, 102));
    let reply = gateway.ask("POST", "/wpush/v2/nonsense", CODED, b"x").await;
    assert_eq!(reply.status, 404);
    assert!(reply.body.contains(r#""errno":102"#), "{}", reply.body);
}

#[tokio::test]
async fn crypto_headers_are_judged_by_their_coding() {
    let gateway = Gateway::start().await;
    let salt = "Encryption: keyid=p;salt=AAAA\r\n";
    let dh = "Crypto-Key: keyid=p;dh=BBBB\r\n";
    for (headers, body, expected) in [
        ("Content-Encoding: aes128gcm\r\n".to_owned(), &b"x"[..], (201, 0)),
        (format!("Content-Encoding: aes128gcm\r\n{salt}"), b"x", (400, 110)),
        (format!("Content-Encoding: aes128gcm\r\n{dh}"), b"x", (400, 110)),
        (format!("Content-Encoding: aesgcm\r\n{salt}{dh}"), b"x", (201, 0)),
        (format!("Content-Encoding: aesgcm\r\n{dh}"), b"x", (400, 110)),
        (format!("Content-Encoding: aesgcm\r\n{salt}"), b"x", (400, 110)),
        ("Content-Encoding: gzip\r\n".to_owned(), b"x", (400, 110)),
        (String::new(), b"x", (400, 110)),
        (String::new(), b"", (201, 0)),
    ] {
        let (status, errno, _) = gateway.wpush(LIVE, &format!("TTL: 1\r\n{headers}"), body).await;
        assert_eq!((status, errno), expected, "{headers}");
    }
}

#[tokio::test]
async fn each_error_has_autopushs_number() {
    let gateway = Gateway::start().await;
    for (headers, expected) in [
        ("TTL: x\r\n", (400, 112)),
        ("TTL: 1\r\nTopic: a b\r\n", (400, 113)),
        ("TTL: 1\r\nAuthorization: vapid t=a.b.c,k=x\r\n", (401, 109)),
        ("TTL: 1\r\nAuthorization: WebPush a.b.c\r\n", (401, 109)),
    ] {
        let (status, errno, _) =
            gateway.wpush(LIVE, &format!("{headers}Content-Encoding: aes128gcm\r\n"), b"x").await;
        assert_eq!((status, errno), expected, "{headers}");
    }
    let (status, errno, _) = gateway.wpush(LIVE, CODED, &[b'x'; 5_631]).await;
    assert_eq!((status, errno), (413, 104));
    gateway.script(Script::Refuse(NotStored::Disk));
    let (status, errno, reply) = gateway.wpush(LIVE, CODED, b"x").await;
    assert_eq!((status, errno), (503, 201));
    assert!(reply.header("retry-after").is_some());
}

#[tokio::test]
async fn vapid_is_asked_of_a_bound_endpoint_and_verified_wherever_it_is_sent() {
    let (ours, theirs) = (Signer::new(), Signer::new());
    let gateway = Gateway::with(Limits::default(), Some(ours.key())).await;
    let vapid = |signer: &Signer, audience, exp| {
        format!("{CODED}Authorization: {}\r\n", signer.authorization(audience, exp))
    };
    let (soon, past, far) = (NOW + 60, NOW - 3600, NOW + 2 * 86_400);
    for (endpoint, headers, expected) in [
        (BOUND, vapid(&ours, BASE, soon), (201, 0)),
        (BOUND, CODED.to_owned(), (401, 109)),
        (BOUND, "TTL: 1\r\n".to_owned(), (401, 109)),
        (BOUND, vapid(&theirs, BASE, soon), (401, 109)),
        (BOUND, vapid(&ours, BASE, past), (401, 109)),
        (BOUND, vapid(&ours, BASE, far), (401, 109)),
        (BOUND, vapid(&ours, "https://other.example", soon), (401, 109)),
        (LIVE, vapid(&theirs, BASE, soon), (201, 0)),
        (LIVE, vapid(&theirs, BASE, past), (401, 109)),
        (LIVE, CODED.to_owned(), (201, 0)),
    ] {
        let (status, errno, _) = gateway.wpush(endpoint, &headers, b"x").await;
        assert_eq!((status, errno), expected, "{endpoint} {headers}");
    }
}

#[tokio::test]
async fn the_legacy_credentials_go_with_the_legacy_coding() {
    let ours = Signer::new();
    let gateway = Gateway::with(Limits::default(), Some(ours.key())).await;
    let token = ours.token(&format!(r#"{{"aud":"{BASE}","exp":{}}}"#, NOW + 60));
    for scheme in ["Bearer", "WebPush"] {
        let headers = format!(
            "TTL: 60\r\nContent-Encoding: aesgcm\r\nEncryption: keyid=p;salt=AAAA\r\nCrypto-Key: keyid=p;dh=BBBB;p256ecdsa={}\r\nAuthorization: {scheme} {token}\r\n",
            ours.key()
        );
        let (status, errno, _) = gateway.wpush(BOUND, &headers, b"x").await;
        assert_eq!((status, errno), (201, 0), "{scheme}");
    }
    let coding = gateway.pushed()[0].coding.clone();
    assert_eq!(coding.crypto_key.as_deref(), Some("keyid=p;dh=BBBB"), "the signing key is not passed on");
}
