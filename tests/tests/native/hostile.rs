//! Peers that are slow, broken, or mean harm.

use std::time::{Duration, Instant};

use harness::{Gateway, Response, Version, patience, raw};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

use crate::{bodies_until, phone, push};

/// What a peer may cost, and what a busy machine may add.
const DEADLINE: Duration = Duration::from_secs(10);
const SLACK: Duration = Duration::from_secs(3);

/// Sends some bytes, then goes on a byte at a time, and returns how long the gateway bore it.
async fn trickle(address: std::net::SocketAddr, start: String, more: bool) -> Duration {
    let begun = Instant::now();
    let mut stream = TcpStream::connect(address).await.expect("the gateway accepts");
    stream.write_all(start.as_bytes()).await.expect("the gateway listens at first");
    let mut answer = [0; 1024];
    let mut every = tokio::time::interval(Duration::from_millis(500));
    while begun.elapsed() < DEADLINE + 2 * SLACK {
        tokio::select! {
            read = stream.read(&mut answer) => if matches!(read, Ok(0) | Err(_)) { break },
            _ = every.tick(), if more => if stream.write_all(b"x").await.is_err() { break },
        }
    }
    begun.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_peers_cost_ten_seconds_at_most_and_nobody_else_anything() {
    let gateway = Gateway::new().start().await;
    let (_, mut phone) = phone(&gateway, Version::V5).await;
    let app = phone.register("app").await;
    let path = app.endpoint.split_once("/p/").map(|(_, token)| format!("/p/{token}")).expect("an endpoint");
    let slow_body = format!("POST {path} HTTP/1.1\r\nHost: x\r\nTTL: 60\r\nContent-Length: 4000\r\n\r\n");
    let starts = [
        (gateway.public, String::new(), false),
        (gateway.public, "POST /p/".to_owned(), true),
        (gateway.public, format!("POST {path} HTTP/1.1\r\nHost: x\r\nX: "), true),
        (gateway.public, slow_body.clone(), false),
        (gateway.public, slow_body, true),
        (gateway.mqtt, String::new(), false),
        // CONNECT that announces 100 bytes, of which one comes now and then.
        (gateway.mqtt, "\x10\x64".to_owned(), true),
    ];
    let mut peers = JoinSet::new();
    for (address, start, more) in starts {
        for _ in 0..8 {
            let start = start.clone();
            peers.spawn(async move { (start.clone(), more, trickle(address, start, more).await) });
        }
    }
    // While they dawdle, the others are served as if nothing were.
    for number in 0..20 {
        let begun = Instant::now();
        let body = number.to_string();
        push(&gateway, &app.endpoint, &body).await;
        assert_eq!(bodies_until(&mut phone, &body).await, [""; 0]);
        assert!(begun.elapsed() < Duration::from_secs(2), "push {number} took {:?}", begun.elapsed());
    }
    while let Some(peer) = peers.join_next().await {
        let (start, more, cost) = peer.expect("a peer ends by itself");
        assert!(cost <= DEADLINE + SLACK, "{start:?} (and more: {more}) was borne for {cost:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_body_is_not_a_message() {
    let gateway = Gateway::new().start().await;
    let (_, mut phone) = phone(&gateway, Version::V5).await;
    let app = phone.register("app").await;
    let path = app.endpoint.split_once("/p/").map(|(_, token)| format!("/p/{token}")).expect("an endpoint");
    let mut stream = TcpStream::connect(gateway.public).await.expect("the gateway accepts");
    let request = format!("POST {path} HTTP/1.1\r\nHost: x\r\nTTL: 60\r\nContent-Length: 10\r\n\r\nhalf");
    stream.write_all(request.as_bytes()).await.expect("the gateway reads");
    stream.shutdown().await.expect("half a connection can be closed");
    let mut answer = Vec::new();
    let read = tokio::time::timeout(patience(), stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "the gateway closes the connection");
    assert!(!answer.starts_with(b"HTTP/1.1 2"), "{:?}", String::from_utf8_lossy(&answer));
    push(&gateway, &app.endpoint, "fence").await;
    assert_eq!(bodies_until(&mut phone, "fence").await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_two_servers_may_read_differently_hide_nothing() {
    let gateway = Gateway::new().start().await;
    let (_, mut phone) = phone(&gateway, Version::V5).await;
    let app = phone.register("app").await;
    let path = app.endpoint.split_once("/p/").map(|(_, token)| format!("/p/{token}")).expect("an endpoint");
    let hidden = format!("POST {path} HTTP/1.1\r\nHost: x\r\nTTL: 60\r\nContent-Length: 8\r\n\r\nsmuggled");
    let length = format!("Content-Length: {}", 5 + hidden.len());
    // Each head is followed by an empty chunked body and, behind it, a request of its own.
    let refused = [
        format!("Transfer-Encoding : chunked\r\n{length}"),
        format!("Transfer-Encoding: chunked, identity\r\n{length}"),
        format!("Content-Length: 5\r\n{length}"),
        "Content-Length: +5".to_owned(),
        "Content-Length: 5, 6".to_owned(),
    ];
    // RFC 9112 §6.1 allows to refuse these or to go by Transfer-Encoding alone, and then to close.
    let both = [
        format!("{length}\r\nTransfer-Encoding: chunked"),
        format!("Transfer-Encoding: chunked\r\n{length}"),
    ];
    for head in refused.iter().chain(&both) {
        let bytes = format!("POST {path} HTTP/1.1\r\nHost: x\r\nTTL: 60\r\n{head}\r\n\r\n0\r\n\r\n{hidden}");
        let answer = raw(gateway.public, bytes.as_bytes(), DEADLINE + SLACK).await;
        let answer = answer.unwrap_or_else(|error| panic!("{head:?}: {error}"));
        let text = String::from_utf8_lossy(&answer);
        assert_eq!(
            text.matches("HTTP/1.1").count(),
            1,
            "one answer, and the connection closed: {head:?}: {text}"
        );
        assert!(both.contains(head) || text.starts_with("HTTP/1.1 400"), "{head:?}: {text}");
    }
    push(&gateway, &app.endpoint, "fence").await;
    let arrived = bodies_until(&mut phone, "fence").await;
    assert!(arrived.iter().all(String::is_empty), "the hidden request was served: {arrived:?}");
    assert!(arrived.len() <= both.len(), "what was refused arrived: {arrived:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn noise_is_answered_with_an_error_or_with_silence() {
    let gateway = Gateway::new().start().await;
    let (_, mut phone) = phone(&gateway, Version::V5).await;
    let app = phone.register("app").await;
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(100_000));
    let wide = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "X-Filler: y\r\n".repeat(10_000));
    let noises: [&[u8]; 6] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0\0\0\0\r\n\r\n",
        b"HELO x\r\n\r\n",
        long.as_bytes(),
        wide.as_bytes(),
        b"GET / HTTP/9.9\r\n\r\n",
    ];
    for noise in noises {
        let answer = raw(gateway.public, noise, DEADLINE + SLACK).await;
        if let Some(response) = answer.ok().filter(|bytes| !bytes.is_empty()) {
            let response = Response::parse(&response).expect("an answer is well-formed");
            assert!((400..500).contains(&response.status), "{response:?}");
        }
    }
    let connects: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff\xff\xff\xff\xff\xff",
        // CONNECT that announces 256 MB; a CONNECT of MQTT 9; PUBLISH before CONNECT.
        b"\x10\xff\xff\xff\x7f\x00\x04MQTT",
        b"\x10\x0c\x00\x04MQTT\x09\x02\x00\x3c\x00\x00",
        b"\x30\x05\x00\x01aXX",
    ];
    for bytes in connects {
        let answer = raw(gateway.mqtt, bytes, DEADLINE + SLACK).await;
        let closed = answer.as_ref().map_or_else(|error| !error.starts_with("not closed"), |_| true);
        assert!(closed, "{bytes:?}: {answer:?}");
    }
    push(&gateway, &app.endpoint, "fence").await;
    assert_eq!(bodies_until(&mut phone, "fence").await, [""; 0], "and the others are served on");
}
