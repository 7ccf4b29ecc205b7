//! Bodies that have arrived a moment ago: what leaves soon needs no read.

use std::{collections::BTreeMap, sync::Arc};

use crate::model::{DeviceId, MessageId, PushMessage};

/// Bytes of bodies that are kept. What waits longer than these take to come is read from the disk.
const MOST: usize = 1 << 20;

/// The newest messages that have not left yet, of devices that were there when they came.
#[derive(Debug, Default)]
pub(super) struct Fresh {
    bytes: usize,
    /// By device too, because the members of a group get a message each for itself. The oldest first.
    messages: BTreeMap<(MessageId, DeviceId), Arc<PushMessage>>,
}

impl Fresh {
    /// Keeps a message, and lets the oldest go where that is too much.
    pub(super) fn add(&mut self, message: Arc<PushMessage>) {
        self.bytes += message.body.len();
        if let Some(before) = self.messages.insert((message.id, message.device), message) {
            self.bytes -= before.body.len();
        }
        while self.bytes > MOST {
            let Some((_, oldest)) = self.messages.pop_first() else { break };
            self.bytes -= oldest.body.len();
        }
    }

    /// Gives a message away: it leaves, or is over.
    pub(super) fn take(&mut self, device: DeviceId, id: MessageId) -> Option<Arc<PushMessage>> {
        let message = self.messages.remove(&(id, device))?;
        self.bytes -= message.body.len();
        Some(message)
    }
}
