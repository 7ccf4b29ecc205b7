//! A paired distributor and what it says of itself.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{DeviceId, Malformed, UnixTime, Urgency};

/// A paired distributor.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Device {
    /// When it was paired, by the wall clock.
    pub created: UnixTime,
    /// Its id: the MQTT user name, and the second level of all its topics.
    pub id: DeviceId,
    /// What its owner calls it.
    pub name: Box<str>,
    /// Written since the first release, and read by nobody: [`super::Preferences`] says what the owner
    /// has chosen, and can say that nothing was.
    pub profile: Profile,
    /// SHA-256 of its secret. The secret has 256 random bits, so no slow hash is needed.
    pub secret_hash: [u8; 32],
    /// Which transport it speaks, by the room's name.
    pub transport: Box<str>,
}

/// How long messages of each urgency may wait for company before they wake the device.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Normal waits seconds, low minutes.
    #[default]
    Balanced,
    /// Nothing waits.
    Instant,
    /// Normal waits a minute, low half an hour.
    Saver,
}

impl Profile {
    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Balanced => "balanced",
            Self::Instant => "instant",
            Self::Saver => "saver",
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Profile {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        match text {
            "balanced" => Ok(Self::Balanced),
            "instant" => Ok(Self::Instant),
            "saver" => Ok(Self::Saver),
            _ => Err(Malformed { expected: "one of instant, balanced, saver" }),
        }
    }
}

/// A durable session of a device, as its transport wrote it down: for MQTT the subscribed filters
/// (MQTT 5.0 §4.1, 3.1.1 §4.1). The messages of the session are the store's, not part of it.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Session {
    /// Topic filters with the granted QoS, in order of subscription.
    pub filters: Vec<(Box<str>, u8)>,
}

/// What a device says of itself (`outbox/state`): each part is absent until it has been said.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct DeviceState {
    /// Whether it hangs on Wi-Fi.
    pub network: Option<Network>,
    /// How it is powered.
    pub power: Option<Power>,
    /// Whether its screen is on.
    pub screen: Option<bool>,
    /// The lowest urgency that it wants now (RFC 8030 §5.3).
    pub urgency: Option<Urgency>,
}

/// What a device is connected by.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// Every byte costs, and waking the radio costs most.
    Mobile,
    /// Waking is nearly free.
    Wifi,
}

/// How a device is powered.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Power {
    /// On battery.
    Battery,
    /// Plugged in.
    Charging,
    /// On battery, and there is little left.
    Low,
}

/// The network that a device is connected through, as far as can be told from outside: the source's
/// /24 (IPv4) or /48 (IPv6) prefix. What one network bears says nothing of another.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct NetworkName(Box<str>);

impl NetworkName {
    /// The network of a source address.
    #[must_use]
    pub fn of(source: IpAddr) -> Self {
        match source.to_canonical() {
            IpAddr::V4(address) => {
                let [a, b, c, _] = address.octets();
                Self(format!("{a}.{b}.{c}.0/24").into())
            }
            IpAddr::V6(address) => {
                let [a, b, c, ..] = address.segments();
                Self(format!("{a:x}:{b:x}:{c:x}::/48").into())
            }
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NetworkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_a_prefix() {
        for (source, network) in [
            ("192.0.2.17", "192.0.2.0/24"),
            ("::ffff:192.0.2.200", "192.0.2.0/24"),
            ("2001:db8:7:1::9", "2001:db8:7::/48"),
        ] {
            assert_eq!(NetworkName::of(source.parse().unwrap()).as_str(), network);
        }
    }
}
