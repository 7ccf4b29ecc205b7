//! A device in bytes: MQTT 3.1.1 or 5.0, acknowledging what and when it is told to.

use std::{
    collections::VecDeque,
    io::{Error, ErrorKind, Read as _, Result, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

/// An answer that the gateway owes comes within this.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection that has been welcomed.
#[derive(Debug)]
pub(crate) struct Mqtt {
    /// Came while an answer was waited for.
    early: VecDeque<Heard>,
    level: u8,
    /// The gateway knew the device's subscription.
    pub(crate) present: bool,
    /// Since when.
    pub(crate) since: Instant,
    stream: TcpStream,
    unread: Vec<u8>,
}

/// What the gateway says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Heard {
    /// A PUBLISH at QoS 1.
    Publish(Publish),
    /// PINGRESP.
    Pong,
    /// SUBACK, with its first code.
    SubAck(u8),
    /// Anything else, by its packet type.
    Other(u8),
}

/// A PUBLISH.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Publish {
    pub(crate) body: Vec<u8>,
    /// The User Property `message-id` (5.0).
    pub(crate) message_id: Option<String>,
    /// `None` at QoS 0.
    pub(crate) packet_id: Option<u16>,
    pub(crate) topic: String,
}

impl Mqtt {
    /// CONNECT with a durable session. `PermissionDenied`: the credentials were refused.
    pub(crate) fn connect(address: SocketAddr, level: u8, device: &str, secret: &str) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let since = Instant::now();
        let mut client =
            Self { early: VecDeque::new(), level, present: false, since, stream, unread: Vec::new() };
        let mut body = [&text("MQTT")[..], &[level, 0xc0, 0, 120]].concat();
        if level == 5 {
            // Session Expiry Interval: never. Receive Maximum: 65,535.
            body.extend([8, 0x11, 0xff, 0xff, 0xff, 0xff, 0x21, 0xff, 0xff]);
        }
        for field in ["crash", device, secret] {
            body.extend(text(field));
        }
        client.stream.write_all(&packet(0x10, &body))?;
        match client.packet(PATIENCE)? {
            Some((0x20, body)) if body.get(1) == Some(&0) => client.present = body[0] & 1 == 1,
            // Bad user name or password, not authorized; in both versions.
            Some((0x20, body)) if matches!(body.get(1), Some(4 | 5 | 0x86 | 0x87)) => {
                return Err(ErrorKind::PermissionDenied.into());
            }
            // Unavailable, as at a shutdown.
            Some((0x20, body)) => return Err(Error::other(format!("CONNACK {:?}", body.get(1)))),
            Some(_) => return Err(ErrorKind::InvalidData.into()),
            None => return Err(ErrorKind::TimedOut.into()),
        }
        Ok(client)
    }

    /// Subscribes to the whole inbox; the code of the answer, `None` if there is none. What comes before it is
    /// heard later: the gateway may know a subscription whose SUBACK the last process could not send any more, and
    /// then it delivers at once.
    pub(crate) fn subscribe(&mut self, device: &str) -> Result<Option<u8>> {
        let mut body = vec![0, 1];
        if self.level == 5 {
            body.push(0);
        }
        body.extend(text(&format!("up/{device}/inbox/#")));
        body.push(1);
        self.stream.write_all(&packet(0x82, &body))?;
        while let Some(heard) = self.read(PATIENCE)? {
            match heard {
                Heard::SubAck(code) => return Ok(Some(code)),
                Heard::Publish(_) | Heard::Pong | Heard::Other(_) => self.early.push_back(heard),
            }
        }
        Ok(None)
    }

    /// PUBACKs, in one write.
    pub(crate) fn ack(&mut self, packet_ids: &[u16]) -> Result<()> {
        let bytes: Vec<u8> = packet_ids.iter().flat_map(|id| packet(0x40, &id.to_be_bytes())).collect();
        self.stream.write_all(&bytes)
    }

    /// PINGREQ.
    pub(crate) fn ping(&mut self) -> Result<()> {
        self.stream.write_all(&[0xc0, 0])
    }

    /// What is heard next; `None` after `limit`.
    pub(crate) fn hear(&mut self, limit: Duration) -> Result<Option<Heard>> {
        match self.early.pop_front() {
            Some(heard) => Ok(Some(heard)),
            None => self.read(limit),
        }
    }

    fn read(&mut self, limit: Duration) -> Result<Option<Heard>> {
        let Some((first, body)) = self.packet(limit)? else { return Ok(None) };
        let heard = match first >> 4 {
            3 => self.publish(first, &body).map(Heard::Publish).ok_or(Error::from(ErrorKind::InvalidData))?,
            9 => Heard::SubAck(body.last().copied().unwrap_or(0x80)),
            13 => Heard::Pong,
            other => Heard::Other(other),
        };
        Ok(Some(heard))
    }

    fn publish(&self, first: u8, body: &[u8]) -> Option<Publish> {
        let (topic, mut rest) = take_text(body)?;
        let mut packet_id = None;
        if first & 6 != 0 {
            let (id, behind) = rest.split_first_chunk::<2>()?;
            (packet_id, rest) = (Some(u16::from_be_bytes(*id)), behind);
        }
        let mut message_id = None;
        if self.level == 5 {
            let (length, header) = varint(rest)?;
            message_id = property(rest.get(header..header + length)?, "message-id");
            rest = &rest[header + length..];
        }
        Some(Publish { body: rest.to_vec(), message_id, packet_id, topic })
    }

    fn packet(&mut self, limit: Duration) -> Result<Option<(u8, Vec<u8>)>> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some((length, header)) = self.unread.get(1..).and_then(varint) {
                let all = 1 + header + length;
                if self.unread.len() >= all {
                    let packet: Vec<u8> = self.unread.drain(..all).collect();
                    return Ok(Some((packet[0], packet[1 + header..].to_vec())));
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.stream.set_read_timeout(Some(left))?;
            let mut chunk = [0; 16_384];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => self.unread.extend_from_slice(&chunk[..read]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("texts are short");
    [&length.to_be_bytes()[..], text.as_bytes()].concat()
}

fn take_text(bytes: &[u8]) -> Option<(String, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    let (text, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    Some((String::from_utf8(text.to_vec()).ok()?, rest))
}

/// A User Property's value among PUBLISH's properties (MQTT 5.0 §3.3.2.3).
fn property(mut bytes: &[u8], wanted: &str) -> Option<String> {
    while let Some((id, rest)) = bytes.split_first() {
        bytes = match id {
            0x01 => rest.get(1..)?,
            0x23 => rest.get(2..)?,
            0x02 => rest.get(4..)?,
            0x03 | 0x08 | 0x09 => {
                rest.get(2 + usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?]))..)?
            }
            0x26 => {
                let (name, rest) = take_text(rest)?;
                let (value, rest) = take_text(rest)?;
                if name == wanted {
                    return Some(value);
                }
                rest
            }
            _ => return None,
        };
    }
    None
}

fn varint(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (at, &byte) in bytes.iter().enumerate().take(4) {
        value |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, at + 1));
        }
    }
    None
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut length = body.len();
    loop {
        let low = u8::try_from(length & 0x7f).expect("seven bits");
        length >>= 7;
        if length == 0 {
            bytes.push(low);
            break;
        }
        bytes.push(low | 0x80);
    }
    bytes.extend_from_slice(body);
    bytes
}
