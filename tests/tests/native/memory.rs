//! Whatever hostile clients send, the gateway's memory stays where it is.

use std::net::SocketAddr;

use harness::{Device, Gateway, Phone, Version, within};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{bodies_until, own_kb, phone, push};

fn text(text: &str) -> Vec<u8> {
    [&u16::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat()
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    assert!(body.len() < 128, "a Remaining Length of one byte");
    [&[first, u8::try_from(body.len()).unwrap()][..], body].concat()
}

/// CONNECT of MQTT 3.1.1 with a clean session.
fn connect(device: &str, secret: &str) -> Vec<u8> {
    let head = [&text("MQTT")[..], &[4, 0xc2, 0, 60]].concat();
    packet(0x10, &[head, text("x"), text(device), text(secret)].concat())
}

/// Opens, sends what it is given, and reads whatever comes until the gateway has ended it.
async fn borne(address: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).await.expect("the gateway accepts");
    // It may have been put out before everything was sent.
    let _ = stream.write_all(bytes).await;
    let mut heard = [0; 4096];
    let end = async { while matches!(stream.read(&mut heard).await, Ok(1..)) {} };
    within("the gateway ends a hostile connection", end).await;
}

/// What a stranger or a paired device with bad intent sends, and must be put out for.
fn hostile(device: &Device) -> Vec<Vec<u8>> {
    let login = connect(&device.id, &device.secret);
    let outbox = text(&format!("up/{}/outbox/state", device.id));
    let after_login = |rest: &[u8]| [&login[..], rest].concat();
    let numbered = |pid: u16| packet(0x34, &[&outbox[..], &pid.to_be_bytes(), b"{}"].concat());
    vec![
        // Lengths that lie, before, after and within the login; a wrong secret.
        [&[0x10, 0xff, 0xff, 0xff, 0x7f][..], &[b'x'; 60_000]].concat(),
        after_login(&[&[0x30, 0xff, 0xff, 0xff, 0x7f][..], &[b'x'; 60_000]].concat()),
        [&[0x10, 0x0e, 0, 4][..], b"MQTT\x04\xc2\0\x3c\xff\xffab"].concat(),
        connect(&device.id, "wrong"),
        // QoS 2 messages that are never released, until it is enough.
        after_login(&(1..=2000).flat_map(numbered).collect::<Vec<_>>()),
        // Topics of length 0, what is not UTF-8, reserved bits, a second CONNECT.
        after_login(&packet(0x30, &[0, 0, b'x'])),
        after_login(&packet(0x30, &[0, 2, 0xc3, 0x28])),
        after_login(&packet(0xc7, &[])),
        after_login(&login),
        // A flood of pings, and something that ends it.
        after_login(&[[0xc0, 0].repeat(20_000), vec![0, 0]].concat()),
    ]
}

/// Requests at the HTTP listener for MQTT over WebSocket that lie about a frame's length.
fn hostile_by_web_socket() -> Vec<Vec<u8>> {
    let request = "GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";
    let frame = |length: u64| {
        [request.as_bytes(), &[0x82, 0xff], &length.to_be_bytes(), &[1, 2, 3, 4], &[b'x'; 30_000]].concat()
    };
    vec![frame(u64::MAX >> 1), frame(1 << 40), frame(1 << 24)]
}

async fn round(gateway: &Gateway, device: &Device, bystander: &mut Phone, endpoint: &str, number: usize) {
    let (mqtt, public) = (gateway.mqtt, gateway.public);
    for bytes in hostile(device) {
        borne(mqtt, &bytes).await;
    }
    for bytes in hostile_by_web_socket() {
        borne(public, &bytes).await;
    }
    // One that asks and never reads: its socket is dropped with everything still in it.
    let mut deaf = TcpStream::connect(mqtt).await.expect("the gateway accepts");
    deaf.write_all(&connect(&device.id, &device.secret)).await.expect("it reads");
    let _ = deaf.write_all(&[0xc0, 0].repeat(20_000)).await;
    drop(deaf);

    let body = number.to_string();
    push(gateway, endpoint, &body).await;
    assert_eq!(bodies_until(bystander, &body).await, [""; 0], "the bystander noticed nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_clients_leave_the_memory_as_it_is() {
    let gateway = Gateway::new().start().await;
    let hostile = gateway.pair("hostile").await;
    let (_, mut bystander) = phone(&gateway, Version::V5).await;
    let app = bystander.register("app").await;
    // What is kept for ever after the first time (buffers of the threads, tables of who was wrong) is no growth.
    for number in 0..5 {
        round(&gateway, &hostile, &mut bystander, &app.endpoint, number).await;
    }
    let before = own_kb(&gateway);
    for number in 5..30 {
        round(&gateway, &hostile, &mut bystander, &app.endpoint, number).await;
    }
    let after = own_kb(&gateway);
    assert!(after <= before + 2048, "{before} KB became {after} KB in 350 hostile connections");
}
