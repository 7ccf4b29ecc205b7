//! Messages that come in by a room, from others than application servers.

use bytes::Bytes;

use super::Future;
use crate::model::{Registration, Topic, Urgency};

/// A message that a room was given for a registration. It waits for a day.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Posted {
    /// What the app gets.
    pub body: Bytes,
    /// Where it goes.
    pub registration: Registration,
    /// Under which it replaces the one before it.
    pub topic: Option<Topic>,
    /// How much it matters.
    pub urgency: Urgency,
}

/// It cannot be taken in now: too many for this registration, or the gateway cannot write.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("it cannot be taken in now")]
pub struct Later;

/// Takes messages in.
pub trait Post: Send + Sync {
    /// Answers when the message is safe.
    fn post(&self, posted: Posted) -> Future<'_, Result<(), Later>>;
}
