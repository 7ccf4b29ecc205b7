//! MQTT over WebSocket at `/mqtt` of the HTTP listener, in bytes.

use futures_util::{SinkExt as _, StreamExt as _};
use harness::{Device, Gateway, within};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Bytes, Message, client::IntoClientRequest as _},
};

use crate::{absent, push};

fn text(text: &str) -> Vec<u8> {
    [&u16::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat()
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    assert!(body.len() < 128, "a Remaining Length of one byte");
    [&[first, u8::try_from(body.len()).unwrap()][..], body].concat()
}

/// A client whose packets may come in any pieces.
struct Web {
    heard: Vec<u8>,
    socket: WebSocketStream<TcpStream>,
}

impl Web {
    async fn open(gateway: &Gateway) -> Self {
        let stream = TcpStream::connect(gateway.public).await.unwrap();
        let mut request = format!("ws://{}/mqtt", gateway.public).into_client_request().unwrap();
        request.headers_mut().insert("Sec-WebSocket-Protocol", "mqtt".parse().unwrap());
        let (socket, response) = within("the handshake", client_async(request, stream)).await.unwrap();
        assert_eq!(response.headers()["Sec-WebSocket-Protocol"], "mqtt");
        Self { heard: Vec::new(), socket }
    }

    async fn send(&mut self, bytes: &[u8]) {
        let message = Message::Binary(Bytes::copy_from_slice(bytes));
        within("sending", self.socket.send(message)).await.unwrap();
    }

    /// The next packet: its first byte, and what follows the length.
    async fn packet(&mut self) -> (u8, Vec<u8>) {
        loop {
            if let [first, rest @ ..] = &self.heard[..]
                && let Some(end) = rest.iter().take(4).position(|byte| byte & 0x80 == 0)
            {
                let length =
                    rest[..=end].iter().rev().fold(0, |sum, byte| sum * 128 + usize::from(byte & 0x7f));
                if let Some(body) = rest[end + 1..].get(..length) {
                    let packet = (*first, body.to_vec());
                    self.heard.drain(..end + 2 + length);
                    return packet;
                }
            }
            let message = within("a message", self.socket.next()).await.expect("open").unwrap();
            if let Message::Binary(bytes) = message {
                self.heard.extend_from_slice(&bytes);
            }
        }
    }

    /// CONNECT with a clean session; the Reason Code of CONNACK.
    async fn connect(&mut self, device: &Device, secret: &str, level: u8) -> u8 {
        let properties: &[u8] = if level == 5 { &[0] } else { &[] };
        let variable = [&text("MQTT")[..], &[level, 0b1100_0010, 0, 60], properties].concat();
        let login = [text("web"), text(&device.id), text(secret)].concat();
        self.send(&packet(0x10, &[variable, login].concat())).await;
        let (first, connack) = self.packet().await;
        assert_eq!(first, 0x20, "CONNACK");
        connack[1]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_arrives_over_a_web_socket_and_is_settled_by_its_puback() {
    let gateway = Gateway::new().start().await;
    for level in [4, 5] {
        let (device, endpoint) = absent(&gateway).await;
        let properties: &[u8] = if level == 5 { &[0] } else { &[] };
        let filter = text(&format!("up/{}/inbox/push/+", device.id));
        let subscribe = packet(0x82, &[&[0, 1], properties, &filter, &[1]].concat());
        for body in ["first", "second"] {
            let mut web = Web::open(&gateway).await;
            assert_eq!(web.connect(&device, &device.secret, level).await, 0);
            // In two frames: packets and frames have nothing to do with each other (MQTT 5.0 §6.0).
            web.send(&subscribe[..5]).await;
            web.send(&subscribe[5..]).await;
            let (first, suback) = web.packet().await;
            assert_eq!((first, suback.last()), (0x90, Some(&1)), "granted");
            push(&gateway, &endpoint, body).await;
            let (first, publish) = web.packet().await;
            assert_eq!(first, 0x32, "PUBLISH, QoS 1, and no copy of what was acknowledged");
            assert!(publish.ends_with(body.as_bytes()), "{body} by {level}");
            let topic = usize::from(u16::from_be_bytes([publish[0], publish[1]]));
            web.send(&packet(0x40, &publish[2 + topic..4 + topic])).await;
            web.send(&[0xc0, 0]).await;
            assert_eq!(web.packet().await, (0xd0, Vec::new()), "all of it is read");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_is_answered_over_a_web_socket() {
    let gateway = Gateway::new().start().await;
    for (level, refused) in [(4, 5), (5, 0x87)] {
        let (device, _) = absent(&gateway).await;
        let mut web = Web::open(&gateway).await;
        assert_eq!(web.connect(&device, "wrong", level).await, refused);
    }
}
