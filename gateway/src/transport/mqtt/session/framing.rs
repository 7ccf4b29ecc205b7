//! Where packets begin. The connection of `mqtt-protocol-core` takes a stream; this looks at the
//! first bytes of each packet for what it does not check.

use crate::transport::mqtt::config::PACKET_MAX;

/// What the next bytes are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::transport::mqtt) enum Peek {
    /// A packet.
    Frame,
    /// No packet may begin like this (MQTT 5.0 §2.1.3: reserved flags).
    Malformed,
    /// Not enough of it is there.
    More,
    /// A packet that needs a packet id and has 0 (MQTT 5.0 §2.2.1). The connection lets it pass, and
    /// panics where it has to answer it.
    Nameless,
    /// A PUBACK, `length` bytes long.
    Puback { pid: u16, length: usize },
}

/// Finds the boundaries between packets.
#[derive(Debug, Default)]
pub(in crate::transport::mqtt) struct Framing {
    /// Protocol level of the first packet, if it looks like a CONNECT.
    level: u8,
    /// Bytes of the current packet that are still to come.
    left: usize,
}

impl Framing {
    /// Whether the next byte begins a packet.
    pub(in crate::transport::mqtt) fn at_boundary(&self) -> bool {
        self.left == 0
    }

    /// The protocol level that the last CONNECT asked for; 0 when it was cut short.
    pub(in crate::transport::mqtt) fn connect_level(&self) -> u8 {
        self.level
    }

    /// Looks at the beginning of a packet.
    pub(in crate::transport::mqtt) fn peek(&mut self, bytes: &[u8]) -> Peek {
        let Some(&first) = bytes.first() else { return Peek::More };
        let expected_flags = match first >> 4 {
            // PUBLISH has flags of its own.
            3 => first & 0x0f,
            // PUBREL, SUBSCRIBE, UNSUBSCRIBE.
            6 | 8 | 10 => 2,
            _ => 0,
        };
        if first & 0x0f != expected_flags {
            return Peek::Malformed;
        }
        let mut remaining = 0;
        for (at, &byte) in bytes.iter().skip(1).take(4).enumerate() {
            remaining |= usize::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                return self.begun(first, 2 + at, remaining, bytes);
            }
        }
        // Four bytes that all say "more follows": the connection knows the error.
        if bytes.len() >= 5 {
            self.left = usize::MAX;
            return Peek::Frame;
        }
        Peek::More
    }

    fn begun(&mut self, first: u8, header: usize, remaining: usize, bytes: &[u8]) -> Peek {
        let length = header + remaining;
        if length > PACKET_MAX as usize {
            // Not waited for: the connection refuses it by its header.
            self.left = usize::MAX;
            return Peek::Frame;
        }
        if first == 0x10 {
            if bytes.len() < length {
                // Looked at whole: a client that stops within it is bounded by the greeting's deadline.
                return Peek::More;
            }
            // Length and name of the protocol, then its level.
            let body = &bytes[header..length];
            let name = body.get(..2).map_or(0, |length| usize::from(length[0]) << 8 | usize::from(length[1]));
            if let Some(&[level, flags]) = body.get(2 + name..4 + name) {
                self.level = level;
                if !sound(flags) {
                    return Peek::Malformed;
                }
            }
        }
        // Where the packet id is, in what has one from a client; PUBLISH has its topic before it.
        let at = match first >> 4 {
            3 if first & 6 == 0 => length,
            3 => match bytes.get(header..header + 2) {
                Some(&[high, low]) => header + 2 + usize::from(u16::from_be_bytes([high, low])),
                _ if remaining >= 2 => return Peek::More,
                _ => length,
            },
            4..=8 | 10 => header,
            _ => length,
        };
        if at + 2 <= length {
            match bytes.get(at..at + 2) {
                None => return Peek::More,
                Some(&[0, 0]) => return Peek::Nameless,
                Some(_) => {}
            }
        }
        if first == 0x40 && remaining >= 2 {
            let Some(&[high, low]) = bytes.get(header..header + 2) else { return Peek::More };
            if bytes.len() < length {
                return Peek::More;
            }
            self.left = length;
            return Peek::Puback { pid: u16::from_be_bytes([high, low]), length };
        }
        self.left = length;
        Peek::Frame
    }

    /// Passes over a packet that was peeked at whole; returns its length.
    pub(in crate::transport::mqtt) fn skip(&mut self, length: usize) -> usize {
        self.left = 0;
        length
    }

    /// How many of the available bytes belong to the current packet; they count as taken.
    pub(in crate::transport::mqtt) fn take(&mut self, available: usize) -> usize {
        let taken = available.min(self.left);
        self.left -= taken;
        taken
    }
}

/// Whether CONNECT flags go together (MQTT 5.0 §3.1.2.3 to §3.1.2.7): the reserved one is 0, a Will
/// has a QoS that exists, and without a Will nothing is said of it.
fn sound(flags: u8) -> bool {
    let (reserved, will, will_qos, will_retain) =
        (flags & 1 != 0, flags & 4 != 0, (flags >> 3) & 3, flags & 0x20 != 0);
    !reserved && if will { will_qos < 3 } else { will_qos == 0 && !will_retain }
}

/// A 5.0 CONNECT that sets Topic Alias Maximum to 0, which says that it takes none and is what leaving
/// it out means (MQTT 5.0 §3.1.2.11.5), but which the connection of `mqtt-protocol-core` 0.7.9 does
/// not survive: with 1 instead. Whoever uses aliases towards clients must not do so then.
pub(in crate::transport::mqtt) fn without_alias_maximum_0(packet: &[u8]) -> Option<Vec<u8>> {
    let (&first, after) = packet.split_first()?;
    let name = after.get(varint(after)?.1..)?;
    let level = name.get(2 + usize::from(u16::from_be_bytes([*name.first()?, *name.get(1)?]))..)?;
    if first != 0x10 || *level.first()? != 5 {
        return None;
    }
    // Level, flags and keep-alive.
    let properties = level.get(4..)?;
    let (length, header) = varint(properties)?;
    let mut rest = properties.get(header..)?.get(..length)?;
    let begin = packet.len() - properties.len() + header;
    let mut changed = None;
    while let Some((&id, value)) = rest.split_first() {
        let text =
            |value: &[u8]| Some(2 + usize::from(u16::from_be_bytes([*value.first()?, *value.get(1)?])));
        let size = match id {
            // Request Problem Information, Request Response Information.
            0x17 | 0x19 => 1,
            // Receive Maximum, Topic Alias Maximum.
            0x21 | 0x22 => 2,
            // Session Expiry Interval, Maximum Packet Size.
            0x11 | 0x27 => 4,
            // Authentication Method, Authentication Data.
            0x15 | 0x16 => text(value)?,
            // User Property.
            0x26 => text(value)? + text(value.get(text(value)?..)?)?,
            // Not of CONNECT: the connection refuses it.
            _ => break,
        };
        if id == 0x22 && value.get(..2)? == [0, 0] {
            let at = begin + length - value.len() + 1;
            changed.get_or_insert_with(|| packet.to_vec())[at] = 1;
        }
        rest = value.get(size..)?;
    }
    changed
}

/// A Variable Byte Integer and its own length (MQTT 5.0 §1.5.5).
fn varint(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (at, &byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, at + 1));
        }
    }
    None
}
