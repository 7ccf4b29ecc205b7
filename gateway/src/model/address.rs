//! Where an app instance is reached whose distributor has an address instead of a connection.

use serde::{Deserialize, Serialize};

use super::UnixTime;

/// The address of a registration, in the words of its room (XMPP: the full JID that registered last).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Address {
    /// Until when the distributor was told that it holds. `None`: nobody knew the time then, and it does not end
    /// before it is renewed.
    pub expires: Option<UnixTime>,
    /// The address; at most 3071 bytes (RFC 7622 §3.1).
    pub text: Box<str>,
}
