//! What RFC 8030, RFC 8292 and UnifiedPush ask of the resources.

use super::*;
use crate::{admission::tests::signer::Signer, model::Urgency};

#[tokio::test]
async fn rfc8030_5_a_push_is_created_with_location_and_ttl() {
    let gateway = Gateway::start().await;
    for method in ["POST", "PUT"] {
        let reply = gateway.ask(method, &format!("/p/{LIVE}"), "TTL: 60\r\n", b"secret").await;
        assert_eq!(reply.status, 201);
        assert_eq!(reply.header("location"), Some(&*format!("{BASE}/m/{MESSAGE}")));
        assert_eq!(reply.header("ttl"), Some("60"));
        assert_eq!(reply.header("content-length"), Some("0"));
        assert_eq!(reply.header("access-control-allow-origin"), Some("*"));
    }
    assert_eq!(gateway.pushed().len(), 2);
    assert_eq!((gateway.counted(Phase::Accepted), gateway.counted(Phase::Stored)), (2, 2));
}

#[tokio::test]
async fn what_was_sent_is_what_is_queued() {
    let gateway = Gateway::start().await;
    let headers = "Content-Encoding: aesgcm\r\nEncryption: salt=S\r\nCrypto-Key: dh=D;p256ecdsa=K\r\n\
                   TTL: 5\r\nUrgency: high\r\nTopic: room\r\n";
    assert_eq!(gateway.push(LIVE, headers, b"\0\xff binary").await.status, 201);
    let pushed = gateway.pushed();
    assert_eq!(&pushed[0].body[..], b"\0\xff binary");
    assert_eq!(pushed[0].coding.content_encoding.as_deref(), Some("aesgcm"));
    assert_eq!(pushed[0].coding.crypto_key.as_deref(), Some("dh=D"));
    assert_eq!(pushed[0].coding.encryption.as_deref(), Some("salt=S"));
    assert_eq!(pushed[0].registration.endpoint, LIVE);
    assert_eq!(pushed[0].topic.as_ref().map(|topic| topic.as_str()), Some("room"));
    assert_eq!((pushed[0].ttl.as_secs(), pushed[0].urgency), (5, Urgency::High));
}

#[tokio::test]
async fn rfc8030_5_1_receipts_are_never_promised() {
    let gateway = Gateway::start().await;
    let reply = gateway.push(LIVE, "Prefer: respond-async\r\n", b"x").await;
    assert_eq!((reply.status, reply.header("link")), (201, None));
}

#[tokio::test]
async fn rfc8030_5_2_the_shortened_ttl_is_said() {
    let gateway = Gateway::start().await;
    for (sent, said) in [("", "86400"), ("TTL: 9999999999\r\n", "2592000"), ("TTL: 0\r\n", "0")] {
        assert_eq!(gateway.push(LIVE, sent, b"x").await.header("ttl"), Some(said), "{sent}");
    }
    // TTL 0 never is on disk, so it is not counted there.
    assert_eq!((gateway.counted(Phase::Accepted), gateway.counted(Phase::Stored)), (3, 2));
}

#[tokio::test]
async fn rfc8030_5_malformed_headers_are_400_and_say_why() {
    let gateway = Gateway::start().await;
    for (headers, named) in [
        ("TTL: soon\r\n", "TTL"),
        ("TTL: 1\r\nTTL: 1\r\n", "TTL"),
        ("Urgency: low, high\r\n", "Urgency"),
        ("Urgency: urgent\r\n", "Urgency"),
        ("Topic: not/base64url\r\n", "Topic"),
    ] {
        let reply = gateway.push(LIVE, headers, b"x").await;
        assert_eq!(reply.status, 400, "{headers}");
        let error: serde_json::Value = serde_json::from_str(&reply.body).expect("JSON");
        assert_eq!(error["code"], 400);
        assert!(error["error"].as_str().expect("a text").contains(named), "{error}");
        assert_eq!(reply.header("retry-after"), None);
    }
    assert!(gateway.pushed().is_empty());
    assert_eq!(gateway.counted(Phase::Refused), 5);
}

#[tokio::test]
async fn rfc8030_7_2_bodies_up_to_5630_bytes_fit() {
    let gateway = Gateway::start().await;
    for length in [0, 1, 4096, 5630] {
        assert_eq!(gateway.push(LIVE, "", &vec![7; length]).await.status, 201, "{length}");
    }
    let lengths: Vec<_> = gateway.pushed().iter().map(|push| push.body.len()).collect();
    assert_eq!(lengths, [0, 1, 4096, 5630]);
    assert_eq!(gateway.push(LIVE, "", &vec![7; 5631]).await.status, 413);
}

#[tokio::test]
async fn rfc8030_7_3_unknown_endpoints_are_404_and_removed_ones_410() {
    let gateway = Gateway::start().await;
    for method in ["POST", "PUT", "GET"] {
        for (endpoint, status) in [(NOBODYS.to_string(), 404), (GONE.to_string(), 410), ("short".into(), 404)]
        {
            let reply = gateway.ask(method, &format!("/p/{endpoint}"), "", b"x").await;
            assert_eq!(reply.status, status, "{method} {endpoint}");
            assert!(reply.body.starts_with(&format!("{{\"code\":{status},\"error\":\"")), "{}", reply.body);
        }
    }
    assert!(gateway.pushed().is_empty());
}

#[tokio::test]
async fn rfc8292_4_2_a_bound_endpoint_takes_its_application_server_only() {
    let (ours, theirs) = (Signer::new(), Signer::new());
    let gateway = Gateway::with(Limits::default(), Some(ours.key())).await;
    let authorization =
        |signer: &Signer, exp| format!("Authorization: {}\r\n", signer.authorization(BASE, exp));
    assert_eq!(gateway.push(BOUND, &authorization(&ours, NOW + 60), b"x").await.status, 201);

    let absent = gateway.push(BOUND, "", b"x").await;
    assert_eq!((absent.status, absent.header("www-authenticate")), (401, Some("vapid")));
    for invalid in [authorization(&theirs, NOW + 60), authorization(&ours, NOW - 3600)] {
        let reply = gateway.push(BOUND, &invalid, b"x").await;
        assert_eq!((reply.status, reply.header("www-authenticate")), (403, None));
    }
    assert_eq!(gateway.pushed().len(), 1);
}

#[tokio::test]
async fn an_unbound_endpoint_ignores_credentials() {
    let gateway = Gateway::start().await;
    for scheme in ["Bearer tk_ntfy", "Basic eDp5", "vapid t=expired, k=foreign"] {
        assert_eq!(gateway.push(LIVE, &format!("Authorization: {scheme}\r\n"), b"x").await.status, 201);
    }
}

#[tokio::test]
async fn what_passes_is_503_with_retry_after() {
    let gateway =
        Gateway::with(Limits { commit: Duration::from_millis(20), ..Limits::default() }, None).await;
    for (script, seconds) in [
        (Script::Refuse(NotStored::Busy), "1"),
        (Script::Refuse(NotStored::Disk), "30"),
        (Script::Break(NotStored::Disk), "30"),
        (Script::Gate(Arc::new(Semaphore::new(0))), "30"),
    ] {
        gateway.script(script.clone());
        for (method, path) in [("POST", format!("/p/{LIVE}")), ("DELETE", format!("/m/{MESSAGE}"))] {
            let reply = gateway.ask(method, &path, "", b"").await;
            assert_eq!(
                (reply.status, reply.header("retry-after")),
                (503, Some(seconds)),
                "{method} {script:?}"
            );
        }
    }
    gateway.script(Script::Store);
    assert_eq!(gateway.push(LIVE, "", b"x").await.status, 201);
}

#[tokio::test]
async fn what_may_not_wait_as_well_is_429_with_retry_after() {
    let gateway = Gateway::start().await;
    gateway.script(Script::Refuse(NotStored::Full));
    let reply = gateway.push(LIVE, "", b"x").await;
    assert_eq!((reply.status, reply.header("retry-after")), (429, Some("60")));
}

#[tokio::test]
async fn the_answer_waits_for_the_disk() {
    let gateway = Gateway::start().await;
    let gate = Arc::new(Semaphore::new(0));
    gateway.script(Script::Gate(Arc::clone(&gate)));
    let mut client = gateway.connect().await;
    client.send(format!("POST /p/{LIVE} HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx")).await;
    // Another request is answered meanwhile, so the first has had every chance.
    while gateway.pushed().is_empty() {
        assert_eq!(gateway.ask("GET", "/health", "", b"").await.status, 200);
    }
    let early = client.stream.try_read(&mut [0; 1]).expect_err("no answer yet");
    assert_eq!(early.kind(), std::io::ErrorKind::WouldBlock);
    gate.add_permits(1);
    assert_eq!(client.reply().await.status, 201);
}

#[tokio::test]
async fn rfc8030_5_a_message_can_be_taken_back() {
    let gateway = Gateway::start().await;
    let taken = gateway.ask("DELETE", &format!("/m/{MESSAGE}"), "", b"").await;
    assert_eq!((taken.status, taken.body.as_str(), taken.header("content-type")), (204, "", None));
    assert_eq!(gateway.counted(Phase::Cancelled), 1);
    for unknown in [MessageToken([0; 24]).to_string(), "short".into()] {
        assert_eq!(gateway.ask("DELETE", &format!("/m/{unknown}"), "", b"").await.status, 404);
    }
}

#[tokio::test]
async fn unifiedpush_discovery_is_answered() {
    let gateway = Gateway::start().await;
    let reply = gateway.ask("GET", &format!("/p/{LIVE}?up=1"), "", b"").await;
    assert_eq!((reply.status, reply.body.as_str()), (200, r#"{"unifiedpush":{"version":1}}"#));
    assert_eq!(reply.header("access-control-allow-origin"), Some("*"));
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let head = gateway.ask("HEAD", &format!("/p/{LIVE}"), "", b"").await;
    assert_eq!((head.status, head.header("content-length")), (200, Some("29")));
}

#[tokio::test]
async fn browsers_may_push() {
    let gateway = Gateway::start().await;
    for path in [format!("/p/{LIVE}"), format!("/m/{MESSAGE}")] {
        let reply = gateway.ask("OPTIONS", &path, "Origin: https://a.example\r\n", b"").await;
        assert_eq!((reply.status, reply.header("access-control-allow-origin")), (204, Some("*")));
        let allowed = reply.header("access-control-allow-headers").expect("some");
        for name in ["TTL", "Urgency", "Topic", "Authorization", "Content-Encoding"] {
            assert!(allowed.split(", ").any(|found| found == name), "{name}");
        }
    }
}

#[tokio::test]
async fn other_methods_are_405_and_other_paths_404() {
    let gateway = Gateway::start().await;
    for (method, path, allow) in [
        ("DELETE", format!("/p/{LIVE}"), "POST, PUT, GET, HEAD, OPTIONS"),
        ("POST", format!("/m/{MESSAGE}"), "DELETE, OPTIONS"),
        ("POST", "/".into(), "GET, HEAD"),
        ("BREW", "/health".into(), "GET, HEAD"),
    ] {
        let reply = gateway.ask(method, &path, "", b"").await;
        assert_eq!((reply.status, reply.header("allow")), (405, Some(allow)), "{method} {path}");
    }
    for path in ["/p", "/wpush/v2/x", "/favicon.ico", "/..", "/%2e%2e/p"] {
        assert_eq!(gateway.ask("GET", path, "", b"").await.status, 404, "{path}");
    }
    assert_eq!(gateway.ask("GET", "/health", "", b"").await.body, "ok\n");
    assert!(gateway.ask("GET", "/", "", b"").await.body.contains("UnifiedPush"));
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let gateway = Gateway::start().await;
    let mut client = gateway.connect().await;
    let path = format!("/p/{LIVE}");
    for _ in 0..5 {
        assert_eq!(client.ask("POST", &path, "", b"x").await.status, 201);
        assert_eq!(client.ask("POST", "/p/unknown", "", b"a small body is drained").await.status, 404);
        assert_eq!(client.ask("HEAD", &path, "", b"").await.status, 200);
        assert_eq!(client.ask("POST", &path, "TTL: x\r\n", b"x").await.status, 400);
    }
    // Pipelined, in order.
    let one = |ttl| format!("POST {path} HTTP/1.1\r\nHost: x\r\nTTL: {ttl}\r\nContent-Length: 1\r\n\r\nx");
    client.send((1..=20).map(one).collect::<String>()).await;
    for ttl in 1..=20 {
        assert_eq!(client.reply().await.header("ttl"), Some(&*ttl.to_string()));
    }
}
