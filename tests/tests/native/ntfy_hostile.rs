//! Bad input of those who listen by ntfy's WebSocket: it ends their own connection, without a Close frame, and
//! nothing else.

use std::net::SocketAddr;

use harness::{Gateway, Stream, eventually, patience, raw};

use crate::autopush_hostile::{BINARY, CONTINUATION, FIN, MASKED, PING, TEXT, frame};

const TOPIC: &str = "upAbCdEf012345";
const OTHER: &str = "upGhIjKl678901";
const CLOSE: u8 = 8;
const PONG: u8 = 10;

fn upgrade(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// The frames that come after the handshake until the connection ends, each with its opcode.
async fn heard(address: SocketAddr, said: &[u8]) -> Vec<(u8, String)> {
    let bytes = [upgrade(&format!("/{TOPIC}/ws")).as_bytes(), said].concat();
    let heard = raw(address, &bytes, patience()).await.expect("the handshake is answered");
    assert!(heard.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&heard));
    let head = heard.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    let mut rest = &heard[head..];
    let mut frames = Vec::new();
    while let [first, length, after @ ..] = rest {
        let (length, after) = match (*length, after) {
            (126, [high, low, after @ ..]) => (usize::from(u16::from_be_bytes([*high, *low])), after),
            (length, after) => (usize::from(length), after),
        };
        let (payload, after) = after.split_at_checked(length).expect("a whole frame");
        frames.push((first & 0x0f, String::from_utf8_lossy(payload).into_owned()));
        rest = after;
    }
    frames
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_lie_end_their_own_subscription() {
    let gateway = Gateway::new().start().await;
    let mut stream = Stream::open(&gateway, &format!("/{OTHER}/json"), &[]).await.opened().await;
    let announced = |length: u64| [&[FIN | TEXT, MASKED | 127][..], &length.to_be_bytes(), &[0; 4]].concat();
    let flood: Vec<u8> = (0..2_000).flat_map(|_| frame(CONTINUATION, &[b'x'; 100])).collect();
    for (what, lie) in [
        ("a frame without a mask", vec![FIN | TEXT, 1, b'x']),
        ("reserved bits", frame(FIN | 0x70 | TEXT, b"x")),
        ("an opcode that there is not", frame(FIN | 3, b"x")),
        ("a control frame that is too long", frame(FIN | PING, &[b'x'; 200])),
        ("a control frame in fragments", frame(PING, b"x")),
        ("a continuation of nothing", frame(FIN | CONTINUATION, b"x")),
        ("a new message within another", [frame(TEXT, b"x"), frame(FIN | TEXT, b"x")].concat()),
        ("2^63 bytes announced", announced(1 << 63)),
        ("the largest number announced", announced(u64::MAX)),
        ("a message that is too long", frame(FIN | BINARY, &[b'x'; 1_025])),
        ("fragments without an end", [frame(TEXT, b"x"), flood].concat()),
        ("text that is not UTF-8", frame(FIN | TEXT, b"\xff")),
    ] {
        for (opcode, payload) in heard(gateway.public, &lie).await {
            assert!(opcode == TEXT && payload.contains("\"event\":\"open\""), "{what}: {opcode} {payload}");
        }
    }
    gateway.post(&format!("/{OTHER}?up=1")).body("still there").send().await.expect(200);
    stream.message().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_subscriber_says_in_fragments_is_borne_and_its_ping_answered() {
    let gateway = Gateway::new().start().await;
    let said = [
        frame(TEXT, b"noth"),
        frame(FIN | PING, b"in between"),
        frame(CONTINUATION, b""),
        frame(FIN | CONTINUATION, b"ing"),
        frame(FIN | BINARY, &[0xff; 1_024]),
        frame(FIN | PING, b"last"),
        // What has no mask ends it.
        vec![FIN | TEXT, 0],
    ];
    let heard = heard(gateway.public, &said.concat()).await;
    let pongs: Vec<_> = heard.iter().filter(|(opcode, _)| *opcode == PONG).collect();
    assert_eq!(pongs.last().map(|(_, payload)| payload.as_str()), Some("last"), "{heard:?}");
    assert!(heard.iter().all(|(opcode, _)| *opcode != CLOSE), "{heard:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn line_7_a_stopping_gateway_sends_no_close_frame() {
    let mut gateway = Gateway::new().start().await;
    let address = gateway.public;
    let subscriber = tokio::spawn(async move { heard(address, b"").await });
    eventually("the subscriber is there", async || {
        let list = gateway.cli(["registration", "list", "--json"]).await.json().to_string();
        list.contains(TOPIC).then_some(())
    })
    .await;
    assert_eq!(gateway.terminate().await.code(), Some(0));
    for (opcode, payload) in subscriber.await.unwrap() {
        assert!(opcode == TEXT && payload.contains("\"event\":\"open\""), "{opcode} {payload}");
    }
}
