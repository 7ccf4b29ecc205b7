//! Bad input of those who speak Autopush: it ends their own connection, without a Close frame, and nothing else.

use std::net::SocketAddr;

use harness::{Gateway, Sunup, patience, raw};

const CHANNEL: &str = "1a2b3c4d-0000-4000-8000-00000000abcd";
const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const HELLO: &[u8] = br#"{"messageType":"hello"}"#;
pub(crate) const FIN: u8 = 0x80;
pub(crate) const MASKED: u8 = 0x80;
pub(crate) const CONTINUATION: u8 = 0;
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const PING: u8 = 9;

/// A frame with the mask 0, which changes nothing.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..126 => frame.push(MASKED | u8::try_from(short).unwrap()),
        long => {
            frame.push(MASKED | 127);
            frame.extend_from_slice(&u64::try_from(long).unwrap().to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

/// What the gateway sends after the handshake, until it ends the connection: by text, nothing else.
async fn heard(address: SocketAddr, frames: &[&[u8]]) -> Vec<u8> {
    let bytes = [UPGRADE.as_bytes(), &frames.concat()].concat();
    let heard = raw(address, &bytes, patience()).await.expect("the handshake is answered");
    let end = heard.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    assert!(heard.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&heard));
    heard[end..].to_vec()
}

fn is_hello(heard: &[u8]) -> bool {
    heard.first() == Some(&(FIN | TEXT)) && heard.windows(11).any(|part| part == b"use_webpush")
}

/// A phone that is to notice nothing of all that.
async fn bystander(gateway: &Gateway) -> (Sunup, String) {
    let mut phone = Sunup::connect(gateway.public, "/", None).await;
    let endpoint = phone.register(CHANNEL).await;
    (phone, endpoint)
}

async fn expect_untouched(gateway: &Gateway, (mut phone, endpoint): (Sunup, String)) {
    let push =
        gateway.post(&endpoint).ttl(60).header("Urgency", "high").header("Content-Encoding", "aes128gcm");
    push.body("still there").send().await.expect(201);
    assert_eq!(phone.expect_push().await.data, b"still there");
    phone.fence().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_may_come_in_fragments_with_a_ping_between_them() {
    let gateway = Gateway::new().start().await;
    let frames = [
        &frame(TEXT, &HELLO[..5])[..],
        &frame(FIN | PING, b"in between"),
        &frame(CONTINUATION, &HELLO[5..9]),
        &frame(CONTINUATION, b""),
        &frame(FIN | CONTINUATION, &HELLO[9..]),
        // What is no JSON ends it.
        &frame(FIN | TEXT, b"end"),
    ];
    let heard = heard(gateway.public, &frames).await;
    let pong = [&[0x8a, 10], &b"in between"[..]].concat();
    assert!(heard.windows(pong.len()).any(|part| part == pong), "{heard:?}");
    assert!(heard.windows(11).any(|part| part == b"use_webpush"), "{heard:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_lie_end_their_own_connection() {
    let gateway = Gateway::new().start().await;
    let phone = bystander(&gateway).await;
    let announced = |length: u64| [&[FIN | TEXT, MASKED | 127][..], &length.to_be_bytes(), &[0; 4]].concat();
    let flood: Vec<u8> = (0..2_000).flat_map(|_| frame(CONTINUATION, &[b'x'; 100])).collect();
    let unmasked = [&[FIN | TEXT, u8::try_from(HELLO.len()).unwrap()], HELLO].concat();
    for (what, lie) in [
        ("a frame without a mask", unmasked),
        ("reserved bits", frame(FIN | 0x70 | TEXT, HELLO)),
        ("an opcode that there is not", frame(FIN | 3, HELLO)),
        ("a control frame that is too long", frame(FIN | PING, &[b'x'; 200])),
        ("a control frame in fragments", frame(PING, b"x")),
        ("a continuation of nothing", frame(FIN | CONTINUATION, HELLO)),
        ("a new message within another", [frame(TEXT, b"{"), frame(FIN | TEXT, HELLO)].concat()),
        ("2^63 bytes announced", announced(1 << 63)),
        ("the largest number announced", announced(u64::MAX)),
        ("a message that is too long", frame(FIN | TEXT, &[b' '; 70_000])),
        ("fragments without an end", [frame(TEXT, b"{"), flood].concat()),
        ("text that is not UTF-8", frame(FIN | TEXT, b"{\"messageType\":\"\xff\"}")),
        ("binary", frame(FIN | BINARY, HELLO)),
        ("brackets without an end", frame(FIN | TEXT, &[b'['; 60_000])),
        ("braces without an end", frame(FIN | TEXT, "{\"a\":".repeat(10_000).as_bytes())),
    ] {
        assert_eq!(heard(gateway.public, &[&lie]).await, b"", "{what}, first");
        let greeted = heard(gateway.public, &[&frame(FIN | TEXT, HELLO), &lie]).await;
        // Nothing is a Close frame: what follows the hello would be one.
        assert!(greeted.is_empty() || is_hello(&greeted), "{what}: {greeted:?}");
        assert!(greeted.len() < 130 && !greeted.contains(&0x88), "{what}: {greeted:?}");
    }
    expect_untouched(&gateway, phone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_frame_is_waited_for_as_long_as_a_hello() {
    let gateway = Gateway::new().start().await;
    let phone = bystander(&gateway).await;
    // 1,000 bytes are announced, and one comes: five seconds later the connection has ended.
    let half = [&[FIN | TEXT, MASKED | 126, 3, 232][..], &[0; 4], b"{"].concat();
    assert_eq!(heard(gateway.public, &[&half]).await, b"");
    expect_untouched(&gateway, phone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_make_no_sense_are_borne() {
    let gateway = Gateway::new().start().await;
    let phone = bystander(&gateway).await;
    let long = "x".repeat(10_000);
    let updates = vec![r#"{"channelID":"x","version":"x"}"#; 1_500].join(",");
    let messages = [
        r#"{"messageType":"ack","updates":"all"}"#.to_owned(),
        format!(r#"{{"messageType":"ack","updates":[{updates}]}}"#),
        format!(r#"{{"messageType":"{long}"}}"#),
        format!(r#"{{"messageType":"unregister","channelID":"{long}"}}"#),
        format!(r#"{{"messageType":"register","channelID":"{long}"}}"#),
        r#"{"messageType":"register","channelID":{"a":[1]},"key":{}}"#.to_owned(),
        r#"{"messageType":"register","channelID":"","key":null}"#.to_owned(),
        r#"{"messageType":"nack","version":[],"code":"x"}"#.to_owned(),
        r#"{"messageType":"broadcast_subscribe","broadcasts":7}"#.to_owned(),
        r#"{"messageType":["hello"]}"#.to_owned(),
        r#"{"messageType":"ping"}"#.to_owned(),
    ];
    let mut frames = vec![frame(FIN | TEXT, HELLO)];
    frames.extend(messages.iter().map(|message| frame(FIN | TEXT, message.as_bytes())));
    frames.push(frame(FIN | TEXT, b"end"));
    let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
    let heard = heard(gateway.public, &frames).await;
    // The ping came after all of them, and was answered.
    assert!(heard.ends_with(&[FIN | TEXT, 2, b'{', b'}']), "{}", String::from_utf8_lossy(&heard));
    let text = String::from_utf8_lossy(&heard);
    assert_eq!(text.matches("\"status\":400").count(), 4, "{text}");
    assert!(!text.contains("pushEndpoint"), "{text}");
    expect_untouched(&gateway, phone).await;
}
