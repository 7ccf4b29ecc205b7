//! The least of MQTT 3.1.1 that a subscriber and a publisher at QoS 1 need.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use crate::Result;

/// Packet types as they stand in the first byte's upper half.
const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x30;
const PUBACK: u8 = 0x40;
const SUBACK: u8 = 0x90;

/// Name and secret of a client; both may be empty where the broker asks for none.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    /// User name, for the gateway the device id.
    pub(crate) user: String,
    /// Password.
    pub(crate) secret: String,
}

/// Opens a connection and waits for its CONNACK. `client` names the session, which is a lasting one: a
/// push that comes while nobody is connected has to wait.
pub(crate) fn connect(address: SocketAddr, client: &str, login: Option<&Login>) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(&hello(client, login)?)?;
    let mut connack = [0; 4];
    stream.read_exact(&mut connack)?;
    match connack {
        [0x20, 2, _, 0] => Ok(stream),
        other => Err(format!("{address} answered CONNECT with {other:?}").into()),
    }
}

/// A CONNECT for a lasting session.
pub(crate) fn hello(client: &str, login: Option<&Login>) -> Result<Vec<u8>> {
    let mut payload = string(client)?;
    let mut flags = 0;
    if let Some(login) = login {
        payload.extend(string(&login.user)?);
        payload.extend(string(&login.secret)?);
        flags |= 0b1100_0000;
    }
    let mut body = string("MQTT")?;
    // Protocol level 4, flags, keep-alive of 10 minutes: longer than any connection here lasts.
    body.extend([4, flags, 600_u16.to_be_bytes()[0], 600_u16.to_be_bytes()[1]]);
    body.extend(payload);
    packet(0x10, &body)
}

/// A SUBSCRIBE for one filter at QoS 1, with packet id 1.
pub(crate) fn subscribe(filter: &str) -> Result<Vec<u8>> {
    let mut body = vec![0, 1];
    body.extend(string(filter)?);
    body.push(1);
    packet(0x82, &body)
}

/// A PUBLISH at QoS 1 with packet id 1: this publisher has one message in flight.
pub(crate) fn publish(topic: &str, payload: &[u8]) -> Result<Vec<u8>> {
    let mut body = string(topic)?;
    body.extend([0, 1]);
    body.extend(payload);
    packet(PUBLISH | 0b10, &body)
}

/// A packet that a subscriber or publisher acts on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Incoming<'a> {
    /// A message; with QoS 1 it has an id to acknowledge.
    Publish {
        /// Packet id, unless QoS 0.
        id: Option<[u8; 2]>,
        /// What was published.
        payload: &'a [u8],
    },
    /// The answer to CONNECT.
    Connack {
        /// 0, or why not.
        code: u8,
    },
    /// What was published is safe with the broker.
    Puback,
    /// The subscription stands if the code is a granted QoS.
    Suback {
        /// Granted QoS, or 0x80.
        code: u8,
    },
    /// Anything else.
    Other,
}

/// The acknowledgement of a message.
pub(crate) fn puback(id: [u8; 2]) -> [u8; 4] {
    [PUBACK, 2, id[0], id[1]]
}

/// Takes the first packet off `bytes`: the packet and its length, `None` while bytes are missing.
pub(crate) fn first(bytes: &[u8]) -> Result<Option<(Incoming<'_>, usize)>> {
    let (mut length, mut digits) = (0_usize, 0);
    loop {
        let Some(&byte) = bytes.get(1 + digits) else { return Ok(None) };
        length |= usize::from(byte & 0x7f) << (7 * digits);
        digits += 1;
        if byte & 0x80 == 0 {
            break;
        }
        if digits == 4 {
            return Err("an MQTT packet's length has more than four digits".into());
        }
    }
    let Some(body) = bytes.get(1 + digits..1 + digits + length) else { return Ok(None) };
    let incoming = match bytes[0] & 0xf0 {
        PUBLISH => parse_publish(bytes[0], body).ok_or("a PUBLISH ends inside its header")?,
        CONNACK => Incoming::Connack { code: body.get(1).copied().unwrap_or(0xff) },
        PUBACK => Incoming::Puback,
        SUBACK => Incoming::Suback { code: body.get(2).copied().unwrap_or(0x80) },
        _ => Incoming::Other,
    };
    Ok(Some((incoming, 1 + digits + length)))
}

fn parse_publish(first: u8, body: &[u8]) -> Option<Incoming<'_>> {
    let topic = usize::from(u16::from_be_bytes(body.get(..2)?.try_into().ok()?));
    let rest = body.get(2 + topic..)?;
    if first & 0b110 == 0 {
        return Some(Incoming::Publish { id: None, payload: rest });
    }
    Some(Incoming::Publish { id: Some(rest.get(..2)?.try_into().ok()?), payload: rest.get(2..)? })
}

fn string(text: &str) -> Result<Vec<u8>> {
    let mut bytes = u16::try_from(text.len())?.to_be_bytes().to_vec();
    bytes.extend(text.as_bytes());
    Ok(bytes)
}

fn packet(first: u8, body: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = vec![first];
    let mut rest = u32::try_from(body.len())?;
    loop {
        let digit = u8::try_from(rest & 0x7f)?;
        rest >>= 7;
        if rest == 0 {
            bytes.push(digit);
            break;
        }
        bytes.push(digit | 0x80);
    }
    bytes.extend(body);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_is_read_back_once_it_is_whole() -> Result<()> {
        let bytes = publish("up/x/inbox/push/1", &[9; 1024])?;
        for end in 0..bytes.len() {
            assert_eq!(first(&bytes[..end])?, None, "{end} bytes");
        }
        let (incoming, length) = first(&bytes)?.ok_or("no packet")?;
        assert_eq!(length, bytes.len());
        assert_eq!(incoming, Incoming::Publish { id: Some([0, 1]), payload: &[9; 1024] });
        Ok(())
    }
}
