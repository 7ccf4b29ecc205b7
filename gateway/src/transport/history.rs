//! What still waits, for rooms whose clients read it again.

use super::Item;
use crate::model::{MessageId, RegistrationId};

/// Reads what waits, without changing it. A read of the disk may take milliseconds.
pub trait History: Send + Sync {
    /// The number that the next message will have: no message has it or a higher one.
    fn next(&self) -> MessageId;

    /// The messages with these numbers that still wait, in the same order.
    fn read(&self, ids: &[MessageId]) -> Vec<Item>;

    /// What waits for these registrations, in order of arrival.
    fn waiting(&self, registrations: &[RegistrationId]) -> Vec<MessageId>;
}
