//! The push message (RFC 8030) and what its headers say.

use std::{fmt, str::FromStr, time::Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{DeviceId, Malformed, MessageId, RegistrationId, UnixTime};

/// How much a message matters (RFC 8030 §5.3). Ordered: `VeryLow < High`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Urgency {
    /// Power and Wi-Fi: advertisements.
    VeryLow,
    /// Power or Wi-Fi: topic updates.
    Low,
    /// Neither: chat messages. What a request without `Urgency` means.
    #[default]
    Normal,
    /// Even on a low battery: calls, time-sensitive alerts.
    High,
}

impl Urgency {
    /// The word of RFC 8030 §5.3.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::VeryLow => "very-low",
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
        }
    }
}

impl fmt::Display for Urgency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Urgency {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        match text {
            "very-low" => Ok(Self::VeryLow),
            "low" => Ok(Self::Low),
            "normal" => Ok(Self::Normal),
            "high" => Ok(Self::High),
            _ => Err(Malformed { expected: "one of very-low, low, normal, high" }),
        }
    }
}

/// How long a message may wait, in seconds, never above [`Ttl::MAX`] (RFC 8030 §5.2 lets a server shorten it).
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Ttl(u32);

impl Ttl {
    /// 30 days: longer than any phone that comes back is away.
    pub const MAX: Self = Self(30 * 86_400);
    /// One day: what a request without `TTL` gets unless the gateway is strict.
    pub const DEFAULT: Self = Self(86_400);
    /// Deliver now or never.
    pub const ZERO: Self = Self(0);

    /// Shortens to [`Ttl::MAX`].
    #[must_use]
    pub fn from_secs(seconds: u64) -> Self {
        u32::try_from(seconds).map_or(Self::MAX, |seconds| Self(seconds.min(Self::MAX.0)))
    }

    /// Seconds.
    #[must_use]
    pub fn as_secs(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name under which a later message replaces an earlier one (RFC 8030 §5.4): 1 to 32
/// characters of the base64url alphabet.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Topic(Box<str>);

impl Topic {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Topic {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if (1..=32).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(Malformed { expected: "1 to 32 characters of A-Z, a-z, 0-9, - and _" })
        }
    }
}

/// How the body is encrypted, as the application server said it. Opaque to the gateway, needed by
/// the app: `aes128gcm` (RFC 8291) carries everything in the body, legacy `aesgcm` needs two headers.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Coding {
    /// `Content-Encoding`, lower case; absent when the sender gave none.
    pub content_encoding: Option<Box<str>>,
    /// `Crypto-Key`, with aesgcm, without any `p256ecdsa` part (RFC 8292 §4.2: the key is not forwarded).
    pub crypto_key: Option<Box<str>>,
    /// `Encryption`, with aesgcm.
    pub encryption: Option<Box<str>>,
}

impl Coding {
    /// What goes before the body for whoever is given nothing but bytes: legacy `aesgcm` keeps its two
    /// headers the way the common-proxies gateway writes them, everything else needs none.
    #[must_use]
    pub fn aesgcm_prefix(&self) -> Option<String> {
        if self.content_encoding.as_deref() != Some("aesgcm") {
            return None;
        }
        let encryption = self.encryption.as_deref().unwrap_or_default();
        let crypto_key = self.crypto_key.as_deref().unwrap_or_default();
        Some(format!("aesgcm\nEncryption: {encryption}\nCrypto-Key: {crypto_key}\n"))
    }
}

/// A push message on its way.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PushMessage {
    /// When it was accepted, by the wall clock, trusted or not.
    pub accepted: UnixTime,
    /// Exactly what the application server sent.
    pub body: Bytes,
    /// Its encryption headers.
    pub coding: Coding,
    /// Where it goes.
    pub device: DeviceId,
    /// When it expires, on the monotonic clock of this process.
    pub expires: Instant,
    /// Its number.
    pub id: MessageId,
    /// Which app it is for.
    pub registration: RegistrationId,
    /// Its name, if a later message may replace it.
    pub topic: Option<Topic>,
    /// What the application server was promised.
    pub ttl: Ttl,
    /// How much it matters.
    pub urgency: Urgency,
}

/// What the planner needs to know of a message that waits: everything but the body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pending {
    /// Where it goes.
    pub device: DeviceId,
    /// When it expires.
    pub expires: Instant,
    /// Its number.
    pub id: MessageId,
    /// Which app it is for.
    pub registration: RegistrationId,
    /// Bytes that it takes on the wire, about.
    pub size: u32,
    /// How much it matters.
    pub urgency: Urgency,
    /// TTL 0: it is nowhere but in memory, and is dropped when it cannot go at once.
    pub volatile: bool,
}

impl PushMessage {
    /// The planner's view of this message.
    #[must_use]
    pub fn pending(&self) -> Pending {
        Pending {
            device: self.device,
            expires: self.expires,
            id: self.id,
            registration: self.registration,
            size: u32::try_from(self.body.len()).unwrap_or(u32::MAX),
            urgency: self.urgency,
            volatile: self.ttl == Ttl::ZERO,
        }
    }
}

/// The life of a push message: one set of words for state, log, metric and documentation.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Phase {
    /// Checked, and queued for the disk and for delivery.
    Accepted,
    /// The distributor has taken it over; it leaves the disk.
    Acked,
    /// The application server took it back (`DELETE`).
    Cancelled,
    /// Its TTL ended first, or it gave way to newer ones of its registration.
    Expired,
    /// Never accepted: the application server was told why.
    Refused,
    /// A newer message with its Topic took its place.
    Replaced,
    /// Written to the connection of a device.
    Sent,
    /// On disk: a power cut does not lose it.
    Stored,
}

impl Phase {
    /// Every phase, in the order of a life.
    pub const ALL: [Self; 8] = [
        Self::Accepted,
        Self::Stored,
        Self::Sent,
        Self::Acked,
        Self::Expired,
        Self::Replaced,
        Self::Refused,
        Self::Cancelled,
    ];

    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Acked => "acked",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Refused => "refused",
            Self::Replaced => "replaced",
            Self::Sent => "sent",
            Self::Stored => "stored",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ttl_is_shortened_to_thirty_days() {
        assert_eq!(Ttl::from_secs(u64::MAX), Ttl::MAX);
        assert_eq!(Ttl::from_secs(2_592_001).as_secs(), 2_592_000);
        assert_eq!(Ttl::from_secs(60).as_secs(), 60);
    }

    #[test]
    fn urgency_is_ordered_and_exact() {
        assert!(Urgency::VeryLow < Urgency::Low && Urgency::Normal < Urgency::High);
        assert!("High".parse::<Urgency>().is_err());
        assert!("very low".parse::<Urgency>().is_err());
    }

    #[test]
    fn topics_are_short_base64url() {
        assert!("abc-_09".parse::<Topic>().is_ok());
        for wrong in ["", "a=", "a b", "é", &"a".repeat(33)] {
            assert!(wrong.parse::<Topic>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_aesgcm_needs_a_prefix() {
        let coding = |encoding: &str| Coding {
            content_encoding: Some(encoding.into()),
            crypto_key: Some("dh=B".into()),
            encryption: Some("salt=A".into()),
        };
        assert_eq!(coding("aes128gcm").aesgcm_prefix(), None);
        let prefix = coding("aesgcm").aesgcm_prefix();
        assert_eq!(prefix.as_deref(), Some("aesgcm\nEncryption: salt=A\nCrypto-Key: dh=B\n"));
    }
}
