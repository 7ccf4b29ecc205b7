//! The nouns of the gateway: what a device, a registration, an endpoint and a push message are.
//!
//! No I/O, no async, and no clock: time enters as a [`Moment`] that the caller read from
//! [`crate::clock`]. Every type is checked by construction, so a value that exists is valid.

mod address;
mod bounds;
mod device;
mod endpoint;
mod group;
mod habit;
pub mod history;
mod id;
mod numbered;
mod push;
mod registration;
mod tally;
mod time;
mod untold;
mod vapid;
mod waiting;

pub use address::Address;
pub use bounds::{Bound, Bounds, Waiting, WhenFull};
pub use device::{Device, DeviceState, Network, NetworkName, Power, Profile, Session};
pub use endpoint::{EndpointToken, MessageToken, PathToken};
pub use group::Group;
pub use habit::{Habit, Learnt};
pub use id::{DeviceId, MessageId, RegistrationId};
pub use numbered::{Numbered, Sum};
pub use push::{Coding, Pending, Phase, PushMessage, Topic, Ttl, Urgency};
pub use registration::{AppToken, Registration};
pub use tally::{Day, Messages, Spread, Tally};
pub use time::{LEAP_MS, Moment, UnixTime};
pub use untold::Untold;
pub use vapid::VapidKey;
pub use waiting::{Budgets, Preferences, Quiet, QuietChoice, RADIO_TAIL_S, WAKES_PER_HOUR};

/// A text that does not have the form its type asks for.
///
/// The message says what was expected; whoever shows it adds where the text came from.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("expected {expected}")]
pub struct Malformed {
    /// What a valid text looks like, as the end of the sentence "expected …".
    pub expected: &'static str,
}
