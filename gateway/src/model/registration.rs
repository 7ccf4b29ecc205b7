//! One app instance on one device, and its endpoint.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{DeviceId, EndpointToken, Malformed, RegistrationId, UnixTime, VapidKey};

/// The name that a distributor gives to an app instance: 1 to 100 bytes of text, unique within its
/// device (UnifiedPush: the connection token).
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct AppToken(Box<str>);

impl AppToken {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AppToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for AppToken {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        if (1..=100).contains(&text.len()) && !text.chars().any(char::is_control) {
            Ok(Self(text.into()))
        } else {
            Err(Malformed { expected: "1 to 100 bytes of text without control characters" })
        }
    }
}

/// A registration: it owns one endpoint for as long as it lives.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Registration {
    /// What the owner sees: an app's name, or what the distributor said of it.
    pub app: Box<str>,
    /// When it was made, by the wall clock.
    pub created: UnixTime,
    /// Whose app it is.
    pub device: DeviceId,
    /// The secret part of its endpoint.
    pub endpoint: EndpointToken,
    /// Its number, and its channel in the MQTT protocol.
    pub id: RegistrationId,
    /// The distributor's name for it.
    pub token: AppToken,
    /// The only application server that may push, if the app named one (RFC 8292 §4).
    pub vapid: Option<VapidKey>,
}
