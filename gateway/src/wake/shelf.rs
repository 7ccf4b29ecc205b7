//! What waits, for the rooms whose clients read it again.

use crate::{
    clock::SharedClock,
    model::{MessageId, Moment, PushMessage, RegistrationId},
    store::Backlog,
    transport::{History, Item},
};

/// Reads the backlog.
#[derive(Debug)]
pub struct Shelf {
    backlog: Backlog,
    clock: SharedClock,
}

impl Shelf {
    /// Reads what `backlog` reads.
    #[must_use]
    pub fn new(backlog: Backlog, clock: SharedClock) -> Self {
        Self { backlog, clock }
    }
}

impl History for Shelf {
    fn next(&self) -> MessageId {
        self.backlog.next()
    }

    fn read(&self, ids: &[MessageId]) -> Vec<Item> {
        let now = self.clock.moment();
        let read = |id: &MessageId| {
            let message = self.backlog.load(self.backlog.owner(*id)?, *id).ok().flatten()?;
            (message.expires > now.instant).then(|| Item {
                remaining_s: remaining_s(&message, now),
                redelivery: false,
                token: self.backlog.token(*id),
                message,
            })
        };
        // A read of an SD card may take milliseconds: the worker's other tasks move on meanwhile.
        tokio::task::block_in_place(|| ids.iter().filter_map(read).collect())
    }

    fn waiting(&self, registrations: &[RegistrationId]) -> Vec<MessageId> {
        self.backlog.waiting_for(registrations)
    }
}

/// Seconds until a message expires, begun ones included.
pub(super) fn remaining_s(message: &PushMessage, now: Moment) -> u32 {
    let left = message.expires.saturating_duration_since(now.instant);
    u32::try_from(left.as_millis().div_ceil(1000)).unwrap_or(u32::MAX)
}
