//! Hostile and broken framing: what one peer sends as one request must never be read as two.

use super::*;

/// Sends `request`, which ends in the middle of nowhere, followed by a complete push.
async fn smuggle(gateway: &Gateway, request: &str) -> (Client, Reply) {
    let mut client = gateway.connect().await;
    let smuggled =
        format!("POST /p/{LIVE} HTTP/1.1\r\nHost: x\r\nTopic: smuggled\r\nContent-Length: 1\r\n\r\ns");
    client.send(format!("{request}{smuggled}")).await;
    let reply = client.reply().await;
    (client, reply)
}

fn smuggled(gateway: &Gateway) -> bool {
    gateway.pushed().iter().any(|push| push.topic.is_some())
}

#[tokio::test]
async fn rfc9112_6_1_both_framings_end_the_connection() {
    let gateway = Gateway::start().await;
    // hyper reads the chunks and forgets Content-Length, as the RFC allows; it must then close.
    for both in [
        "Content-Length: 300\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 300\r\n",
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
    ] {
        let request = format!("POST /p/{LIVE} HTTP/1.1\r\nHost: x\r\n{both}\r\n1\r\nx\r\n0\r\n\r\n");
        let (mut client, reply) = smuggle(&gateway, &request).await;
        assert_eq!((reply.status, reply.header("connection")), (201, Some("close")), "{both}");
        assert!(client.is_closed().await);
    }
    assert!(!smuggled(&gateway));
}

#[tokio::test]
async fn rfc9112_6_3_ambiguous_lengths_are_refused() {
    let gateway = Gateway::start().await;
    for framing in [
        "Content-Length: 1\r\nContent-Length: 2\r\n",
        "Content-Length: 1, 2\r\n",
        "Content-Length: +1\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 0x1\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Content-Length : 1\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Topic: a\r\n b\r\n",
        "Topic: a\0b\r\n",
    ] {
        let request = format!("POST /p/{LIVE} HTTP/1.1\r\nHost: x\r\n{framing}\r\n");
        let (mut client, reply) = smuggle(&gateway, &request).await;
        assert_eq!(reply.status, 400, "{framing}");
        assert!(client.is_closed().await, "{framing}");
    }
    let old = format!("POST /p/{LIVE} HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    assert_eq!(smuggle(&gateway, &old).await.1.status, 400);
    assert!(gateway.pushed().is_empty());
}

#[tokio::test]
async fn chunked_bodies_are_read_and_bounded() {
    let gateway = Gateway::start().await;
    let post = |chunks: String| {
        format!("POST /p/{LIVE} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}")
    };
    for (chunks, status) in [
        ("3\r\nabc\r\n2;ext=1\r\nde\r\n0\r\n\r\n".to_owned(), 201),
        ("0\r\nTrailer: ignored\r\n\r\n".to_owned(), 201),
        (format!("15fe\r\n{}\r\n0\r\n\r\n", "x".repeat(5630)), 201),
        (format!("15ff\r\n{}\r\n0\r\n\r\n", "x".repeat(5631)), 413),
        (format!("{}0\r\n\r\n", "1\r\nx\r\n".repeat(5631)), 413),
        ("zz\r\n".to_owned(), 400),
        ("-1\r\n".to_owned(), 400),
        ("1\r\nxx\r\n0\r\n\r\n".to_owned(), 400),
        ("ffffffffffffffffff\r\n".to_owned(), 400),
    ] {
        let mut client = gateway.connect().await;
        client.send(post(chunks.clone())).await;
        assert_eq!(client.reply().await.status, status, "{:.40}", chunks);
    }
    let lengths: Vec<_> = gateway.pushed().iter().map(|push| push.body.len()).collect();
    assert_eq!(lengths, [5, 0, 5630]);
}

#[tokio::test]
async fn a_large_body_is_refused_before_it_is_read_and_the_answer_arrives() {
    let gateway = Gateway::start().await;
    let mut client = gateway.connect().await;
    client.send(format!("POST /p/{LIVE} HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n\r\n")).await;
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.header("connection")), (413, Some("close")));

    // A sender that writes everything before it reads: nobody resets it before it has its answer.
    let mut client = gateway.connect().await;
    client.send(format!("POST /p/{LIVE} HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n\r\n")).await;
    client.send(vec![7; 4_000_000]).await;
    assert_eq!(client.reply().await.status, 413);
    assert!(gateway.pushed().is_empty());
}

#[tokio::test]
async fn a_body_that_nobody_wants_is_skipped_or_ends_the_connection() {
    let gateway = Gateway::start().await;
    let mut client = gateway.connect().await;
    let head = |framing: &str| format!("POST /p/{NOBODYS} HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n");
    for (framing, body) in [
        ("Content-Length: 5", "small".to_owned()),
        ("Transfer-Encoding: chunked", "5\r\nsmall\r\n0\r\n\r\n".to_owned()),
        ("Content-Length: 5630", "x".repeat(5630)),
    ] {
        client.send(head(framing)).await;
        client.send(body).await;
        let reply = client.reply().await;
        assert_eq!((reply.status, reply.header("connection")), (404, None), "{framing}");
    }
    let limits = Limits { body: Duration::from_millis(50), ..Limits::default() };
    let gateway = Gateway::with(limits, None).await;
    for (framing, beginning) in [
        ("Content-Length: 5631", String::new()),
        ("Content-Length: 5", "slow".to_owned()),
        ("Transfer-Encoding: chunked", format!("15ff\r\n{}\r\n", "x".repeat(5631))),
    ] {
        let mut client = gateway.connect().await;
        client.send(head(framing)).await;
        client.send(beginning).await;
        let reply = client.reply().await;
        assert_eq!((reply.status, reply.header("connection")), (404, Some("close")), "{framing}");
        assert!(client.is_closed().await);
    }
}

#[tokio::test]
async fn rfc9110_10_1_1_only_wanted_bodies_are_asked_for() {
    let gateway = Gateway::start().await;
    let head = |length| {
        format!(
            "POST /p/{LIVE} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    let mut client = gateway.connect().await;
    client.send(head(2)).await;
    assert_eq!(client.reply().await.status, 100);
    client.send("ok").await;
    assert_eq!(client.reply().await.status, 201);

    let mut client = gateway.connect().await;
    client.send(head(100_000)).await;
    assert_eq!(client.reply().await.status, 413);
}

#[tokio::test]
async fn a_truncated_body_is_not_queued() {
    let gateway = Gateway::start().await;
    for framing in ["Content-Length: 10\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"] {
        let mut client = gateway.connect().await;
        client.send(format!("POST /p/{LIVE} HTTP/1.1\r\nHost: x\r\n{framing}")).await;
        client.stream.shutdown().await.expect("open");
        assert_eq!(client.reply().await.status, 400);
        assert!(client.is_closed().await);
    }
    assert!(gateway.pushed().is_empty());
}

#[tokio::test]
async fn a_sender_that_closes_its_half_still_gets_its_answer() {
    let gateway = Gateway::start().await;
    let gate = Arc::new(Semaphore::new(0));
    gateway.script(Script::Gate(Arc::clone(&gate)));
    let mut client = gateway.connect().await;
    client.send(format!("POST /p/{LIVE} HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx")).await;
    client.stream.shutdown().await.expect("open");
    while gateway.pushed().is_empty() {
        assert_eq!(gateway.ask("GET", "/health", "", b"").await.status, 200);
    }
    gate.add_permits(1);
    assert_eq!(client.reply().await.status, 201);
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn heads_are_bounded() {
    let gateway = Gateway::start().await;
    let push =
        |headers: &str| format!("POST /p/{LIVE} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: 0\r\n\r\n");
    for (request, status) in [
        (push(&format!("X: {}\r\n", "a".repeat(12_000))), 201),
        (push(&format!("X: {}\r\n", "a".repeat(17_000))), 431),
        (push(&"X: a\r\n".repeat(101)), 431),
        (format!("GET /{} HTTP/1.1\r\n", "a".repeat(20_000)), 431),
    ] {
        let mut client = gateway.connect().await;
        client.send(&request).await;
        assert_eq!(client.reply().await.status, status, "{:.60}", request);
    }
}

#[tokio::test]
async fn other_protocols_are_shown_out() {
    let gateway = Gateway::start().await;
    for noise in [
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}",
        "\x10\0\x04MQTT\x04\r\n\r\n",
    ] {
        let mut client = gateway.connect().await;
        client.send(noise).await;
        while client.fill().await {}
        let said = String::from_utf8_lossy(&client.read);
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 400 "), "{said}");
    }
    assert_eq!(gateway.push(LIVE, "", b"x").await.status, 201);
}
