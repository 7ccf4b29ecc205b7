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
            // Length and name of the protocol, then its level. A short CONNECT is waited for whole:
            // a client that stops within it is bounded by the greeting's deadline.
            let name = match bytes.get(header..header + 2) {
                Some(&[high, low]) => usize::from(u16::from_be_bytes([high, low])),
                _ if remaining >= 2 => return Peek::More,
                _ => 0,
            };
            let at = 2 + name;
            if at + 1 < remaining.min(16) {
                let Some(&[level, flags]) = bytes.get(header + at..header + at + 2) else {
                    return Peek::More;
                };
                self.level = level;
                if !sound(flags) {
                    return Peek::Malformed;
                }
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
