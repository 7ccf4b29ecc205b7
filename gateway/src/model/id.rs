//! Names of devices, registrations and messages.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::Malformed;

/// Lower-case Crockford base32: no letter that is mistaken for a digit, safe in MQTT topics and URLs.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// 13 characters of 5 bits hold 64 bits.
const LENGTH: usize = 13;

fn write_base32(value: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut text = [0_u8; LENGTH];
    for (place, slot) in text.iter_mut().rev().enumerate() {
        *slot = ALPHABET[((value >> (5 * place)) & 31) as usize];
    }
    f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
}

fn read_base32(text: &str) -> Result<u64, Malformed> {
    let malformed = Malformed { expected: "13 characters of 0-9 and a-z without i, l, o, u" };
    if text.len() != LENGTH {
        return Err(malformed);
    }
    let mut value: u64 = 0;
    for byte in text.bytes() {
        let digit = ALPHABET.iter().position(|&known| known == byte).ok_or(malformed.clone())? as u64;
        // 65 bits are written, so the first digit may only be 0 to f.
        if value >> 59 != 0 {
            return Err(malformed);
        }
        value = (value << 5) | digit;
    }
    Ok(value)
}

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_base32(self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = Malformed;

            fn from_str(text: &str) -> Result<Self, Malformed> {
                read_base32(text).map(Self)
            }
        }
    };
}

random_id! {
    /// One paired distributor; 64 random bits, written as 13 characters of base32. Not a secret.
    DeviceId
}

random_id! {
    /// One app instance on a device; 64 random bits. Its text is the `channel` of the MQTT protocol.
    /// Never part of an endpoint (RFC 8030 §8.2: nothing may correlate the endpoints of one device).
    RegistrationId
}

/// One push message: a number that only grows, also over restarts, so that order of arrival is
/// order of numbers. Outsiders see a [`super::MessageToken`] instead.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct MessageId(pub u64);

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_their_text() {
        for value in [0, 1, 31, 32, u64::MAX, u64::MAX - 1, 1 << 63, 0x0123_4567_89ab_cdef] {
            let text = DeviceId(value).to_string();
            assert_eq!(text.len(), LENGTH);
            assert_eq!(text.parse::<DeviceId>(), Ok(DeviceId(value)));
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in
            ["", "0", "000000000000i", "000000000000A", "00000000000000", "g000000000000", "zzzzzzzzzzzzz"]
        {
            assert!(text.parse::<DeviceId>().is_err(), "{text}");
        }
    }
}
