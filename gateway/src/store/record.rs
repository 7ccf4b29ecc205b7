//! Records: a version, a checksum and a body in postcard. The form is frozen: a change needs a new
//! [`VERSION`], and the old one stays readable (the tests hold the bytes of every version).

use std::borrow::Cow;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::model::{AppToken, Coding, DeviceId, RegistrationId, Topic, Ttl, UnixTime, Urgency};

/// The version of the records that are written.
const VERSION: u8 = 1;

/// Version and checksum, in bytes.
const PREFIX: usize = 5;

/// Everything of a push message but its number, which is its key, and its body, which follows.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct MessageHead<'a> {
    /// When it was accepted, by the wall clock.
    pub(super) accepted: UnixTime,
    /// Whether the wall clock was trusted then.
    pub(super) trusted: bool,
    /// What the application server was promised, in seconds.
    pub(super) ttl: Ttl,
    /// How much it matters.
    pub(super) urgency: Urgency,
    /// Where it goes.
    pub(super) device: DeviceId,
    /// Which app it is for.
    pub(super) registration: RegistrationId,
    /// Its name, if a later message may replace it.
    pub(super) topic: Option<Cow<'a, Topic>>,
    /// Its encryption headers.
    pub(super) coding: Cow<'a, Coding>,
}

/// The numbers that may have been given out.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Reserve {
    /// All that may have been are below this one.
    pub(super) limit: u64,
    /// The newest trusted wall time when this was written.
    pub(super) newest: UnixTime,
}

/// An endpoint that was a registration's once.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Tombstone {
    /// Whose it was.
    pub(super) device: DeviceId,
    /// Which app's it was.
    pub(super) token: AppToken,
    /// When it ended, about, by the wall clock.
    pub(super) at: UnixTime,
}

/// Why a record cannot be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Flaw {
    /// Its body is not what it should be.
    #[error("its body has another form")]
    Body,
    /// It is not what was written.
    #[error("its checksum is wrong")]
    Checksum,
    /// Shorter than version and checksum.
    #[error("it is cut short")]
    Short,
    /// A record of another version than those that were ever written.
    #[error("its version is {0}")]
    Version(u8),
}

/// A record of `value` below `key`.
pub(super) fn encode<T: Serialize>(key: &[u8], value: &T) -> Vec<u8> {
    encode_with(key, value, &[])
}

/// A record of `value` below `key`, followed by `tail` as it is.
pub(super) fn encode_with<T: Serialize>(key: &[u8], value: &T, tail: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(tail.len() + 128);
    bytes.extend_from_slice(&[VERSION, 0, 0, 0, 0]);
    // A vector takes everything, and no type of ours serializes a length that it does not know.
    let mut bytes = postcard::to_extend(value, bytes).expect("records serialize");
    bytes.extend_from_slice(tail);
    let sum = checksum(key, &bytes);
    bytes[1..PREFIX].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// Reads a record that has nothing behind its body.
pub(super) fn decode<T: DeserializeOwned>(key: &[u8], bytes: &[u8]) -> Result<T, Flaw> {
    match decode_with(key, bytes)? {
        (value, []) => Ok(value),
        (_, _) => Err(Flaw::Body),
    }
}

/// Reads a record, and gives what follows its body.
pub(super) fn decode_with<'a, T: DeserializeOwned>(
    key: &[u8],
    bytes: &'a [u8],
) -> Result<(T, &'a [u8]), Flaw> {
    let (prefix, body) = bytes.split_at_checked(PREFIX).ok_or(Flaw::Short)?;
    if prefix[0] != VERSION {
        return Err(Flaw::Version(prefix[0]));
    }
    if prefix[1..] != checksum(key, bytes).to_le_bytes() {
        return Err(Flaw::Checksum);
    }
    postcard::take_from_bytes(body).map_err(|_| Flaw::Body)
}

/// The key is part of it, so that a value under the wrong key is found out.
fn checksum(key: &[u8], record: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(&record[..1]);
    hasher.update(&record[PREFIX..]);
    hasher.finalize()
}
