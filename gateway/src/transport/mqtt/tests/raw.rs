//! A client in bytes: independent of the library that the room uses.

use std::time::Duration;

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::model::DeviceId;

/// Nothing in these tests takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A packet from the gateway.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Packet {
    pub(crate) first: u8,
    pub(crate) body: Vec<u8>,
}

/// A PUBLISH, taken apart.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Published {
    pub(crate) body: Bytes,
    pub(crate) dup: bool,
    pub(crate) pid: Option<u16>,
    /// 5.0: the property bytes.
    pub(crate) properties: Vec<u8>,
    pub(crate) topic: String,
}

impl Packet {
    pub(crate) fn kind(&self) -> u8 {
        self.first >> 4
    }

    /// The packet id of PUBACK, SUBACK and the like.
    pub(crate) fn pid(&self) -> u16 {
        u16::from_be_bytes([self.body[0], self.body[1]])
    }

    pub(crate) fn published(&self, level: u8) -> Published {
        assert_eq!(self.kind(), 3, "a PUBLISH is expected, not {self:?}");
        let length = usize::from(self.pid());
        let topic = String::from_utf8(self.body[2..2 + length].to_vec()).expect("UTF-8");
        let mut rest = &self.body[2 + length..];
        let pid = (self.first & 6 != 0).then(|| {
            let pid = u16::from_be_bytes([rest[0], rest[1]]);
            rest = &rest[2..];
            pid
        });
        let mut properties = Vec::new();
        if level == 5 {
            let (length, header) = read_varint(rest).expect("whole");
            properties = rest[header..header + length].to_vec();
            rest = &rest[header + length..];
        }
        Published { body: Bytes::copy_from_slice(rest), dup: self.first & 8 != 0, pid, properties, topic }
    }
}

fn read_varint(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (at, &byte) in bytes.iter().enumerate().take(4) {
        value |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, at + 1));
        }
    }
    None
}

fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(value & 0x7f).expect("seven bits");
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// Takes a packet from the front of a buffer.
pub(crate) fn take_packet(buffer: &mut Vec<u8>) -> Option<Packet> {
    let (length, header) = read_varint(buffer.get(1..)?)?;
    let all = 1 + header + length;
    if buffer.len() < all {
        return None;
    }
    let packet: Vec<u8> = buffer.drain(..all).collect();
    Some(Packet { first: packet[0], body: packet[1 + header..].to_vec() })
}

pub(crate) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    [&[first][..], &varint(body.len()), body].concat()
}

fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("short");
    [&length.to_be_bytes()[..], text.as_bytes()].concat()
}

/// A CONNECT to be filled in.
#[derive(Clone, Debug)]
pub(crate) struct Connect {
    pub(crate) clean: bool,
    pub(crate) client_id: &'static str,
    pub(crate) keep_alive: u16,
    pub(crate) level: u8,
    pub(crate) password: Option<String>,
    pub(crate) properties: Vec<u8>,
    pub(crate) user: Option<String>,
    /// Topic, body, flags of the Will.
    pub(crate) will: Option<(String, Vec<u8>, u8)>,
}

impl Connect {
    /// A durable session of a paired device: its secret is its id.
    pub(crate) fn of(device: DeviceId, level: u8) -> Self {
        Self {
            clean: false,
            client_id: "x",
            keep_alive: 60,
            level,
            password: Some(device.to_string()),
            properties: Vec::new(),
            user: Some(device.to_string()),
            will: None,
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut flags = if self.clean { 2 } else { 0 };
        let mut body = text("MQTT");
        flags |= self.will.as_ref().map_or(0, |&(.., will)| 4 | will);
        flags |= if self.user.is_some() { 0x80 } else { 0 };
        flags |= if self.password.is_some() { 0x40 } else { 0 };
        body.extend([self.level, flags]);
        body.extend(self.keep_alive.to_be_bytes());
        if self.level == 5 {
            body.extend(varint(self.properties.len()));
            body.extend(&self.properties);
        }
        body.extend(text(self.client_id));
        if let Some((topic, message, _)) = &self.will {
            if self.level == 5 {
                body.push(0);
            }
            body.extend(text(topic));
            body.extend(u16::try_from(message.len()).expect("short").to_be_bytes());
            body.extend(message);
        }
        body.extend(self.user.as_deref().map(text).unwrap_or_default());
        body.extend(self.password.as_deref().map(text).unwrap_or_default());
        packet(0x10, &body)
    }
}

pub(crate) fn subscribe(level: u8, pid: u16, filters: &[(&str, u8)]) -> Vec<u8> {
    let mut body = pid.to_be_bytes().to_vec();
    if level == 5 {
        body.push(0);
    }
    for (filter, qos) in filters {
        body.extend(text(filter));
        body.push(*qos);
    }
    packet(0x82, &body)
}

pub(crate) fn unsubscribe(level: u8, pid: u16, filters: &[&str]) -> Vec<u8> {
    let mut body = pid.to_be_bytes().to_vec();
    if level == 5 {
        body.push(0);
    }
    for filter in filters {
        body.extend(text(filter));
    }
    packet(0xa2, &body)
}

/// `first` has the QoS: 0x30, 0x32, 0x34.
pub(crate) fn publish(
    level: u8,
    first: u8,
    pid: u16,
    topic: &str,
    properties: &[u8],
    message: &[u8],
) -> Vec<u8> {
    let mut body = text(topic);
    if first & 6 != 0 {
        body.extend(pid.to_be_bytes());
    }
    if level == 5 {
        body.extend(varint(properties.len()));
        body.extend(properties);
    }
    body.extend(message);
    packet(first, &body)
}

pub(crate) fn puback(pid: u16) -> Vec<u8> {
    packet(0x40, &pid.to_be_bytes())
}

pub(crate) fn pubrel(pid: u16) -> Vec<u8> {
    packet(0x62, &pid.to_be_bytes())
}

pub(crate) const PINGREQ: [u8; 2] = [0xc0, 0];
pub(crate) const DISCONNECT: [u8; 2] = [0xe0, 0];

/// A property with a text: Response Topic (8), Content Type (3), …
pub(crate) fn text_property(id: u8, value: &str) -> Vec<u8> {
    [&[id][..], &text(value)].concat()
}

/// User Property.
pub(crate) fn user_property(name: &str, value: &str) -> Vec<u8> {
    [&[0x26][..], &text(name), &text(value)].concat()
}

/// A client on a stream.
pub(crate) struct Client<S = TcpStream> {
    buffer: Vec<u8>,
    pub(crate) level: u8,
    stream: S,
}

impl Client {
    /// Opens a socket and says nothing.
    pub(crate) async fn open(address: std::net::SocketAddr, level: u8) -> Self {
        Self::over(TcpStream::connect(address).await.expect("connects"), level)
    }

    /// CONNECT; returns the client and CONNACK's flags and code.
    pub(crate) async fn connect(address: std::net::SocketAddr, connect: &Connect) -> (Self, Packet) {
        let mut client = Self::open(address, connect.level).await;
        client.send(&connect.bytes()).await;
        let connack = client.packet().await;
        assert_eq!(connack.kind(), 2, "{connack:?}");
        (client, connack)
    }

    /// Connects, and subscribes to everything unless a session was there.
    pub(crate) async fn join(address: std::net::SocketAddr, device: DeviceId, level: u8) -> Self {
        let (mut client, connack) = Self::connect(address, &Connect::of(device, level)).await;
        assert_eq!(connack.body[1], 0, "{connack:?}");
        if connack.body[0] == 0 {
            assert_eq!(client.subscribe(&[(&format!("up/{device}/inbox/#"), 1)]).await, [1]);
        }
        client
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(crate) fn over(stream: S, level: u8) -> Self {
        Self { buffer: Vec::new(), level, stream }
    }

    pub(crate) fn into_inner(self) -> S {
        self.stream
    }

    /// Sends to a gateway that may have closed.
    pub(crate) async fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let sent = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        timeout(PATIENCE, sent).await.expect("in time")
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).await.expect("written");
    }

    /// The next packet; `None` when the gateway has closed the connection.
    pub(crate) async fn next(&mut self) -> Option<Packet> {
        loop {
            if let Some(packet) = take_packet(&mut self.buffer) {
                return Some(packet);
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.buffer));
            match read.await.expect("the gateway answers or closes in time") {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }

    pub(crate) async fn packet(&mut self) -> Packet {
        self.next().await.expect("a packet, not the end")
    }

    pub(crate) async fn published(&mut self) -> Published {
        self.packet().await.published(self.level)
    }

    /// SUBSCRIBE; the codes of SUBACK.
    pub(crate) async fn subscribe(&mut self, filters: &[(&str, u8)]) -> Vec<u8> {
        self.send(&subscribe(self.level, 1, filters)).await;
        let suback = self.packet().await;
        assert_eq!((suback.kind(), suback.pid()), (9, 1), "{suback:?}");
        suback.body[if self.level == 5 { 3 } else { 2 }..].to_vec()
    }

    /// The gateway has seen everything sent so far, and has nothing else to say.
    pub(crate) async fn ping(&mut self) {
        self.send(&PINGREQ).await;
        assert_eq!(self.packet().await.first, 0xd0);
    }

    /// The gateway closes; on 5.0 with this reason.
    pub(crate) async fn put_out(&mut self, reason: u8) {
        if self.level == 5 {
            assert_eq!(self.packet().await, Packet { first: 0xe0, body: vec![reason, 0] });
        }
        assert_eq!(self.next().await, None);
    }
}
