//! What waits: told to the planner as it changes, and read for delivery.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{
    NotStored, message_key,
    record::{self, Flaw, MessageHead},
    state::Core,
};
use crate::model::{DeviceId, MessageId, MessageToken, Moment, Pending, PushMessage, RegistrationId};

/// Reads what waits.
#[derive(Debug)]
pub struct Backlog {
    pub(super) arrivals: Option<mpsc::Receiver<Arrival>>,
    pub(super) core: Arc<Core>,
    pub(super) restored: Vec<Pending>,
}

/// A change of what waits, in order.
#[derive(Clone, Debug)]
pub enum Arrival {
    /// A message was accepted; `replaces` is the one whose Topic it takes over. A message that was
    /// withdrawn is accepted again when its withdrawal could not be written.
    Accepted {
        /// The message, for delivery without a read.
        message: Arc<PushMessage>,
        /// Not to be delivered any more, unless it is in flight already.
        replaces: Option<MessageId>,
    },
    /// A message has expired before its time, because too much waited for its registration.
    CrowdedOut(DeviceId, MessageId),
    /// A message is not to be delivered (any more): cancelled, its registration ended, or its write
    /// failed and its sender was told so.
    Withdrawn(DeviceId, MessageId),
}

impl Backlog {
    /// The changes since the store was opened. Can be taken once. A receiver that is not read makes
    /// appends `Busy` after some thousand messages.
    ///
    /// # Panics
    /// When taken twice.
    pub fn arrivals(&mut self) -> mpsc::Receiver<Arrival> {
        self.arrivals.take().expect("the arrivals are taken once")
    }

    /// Reads a message that waits for a device, from the commit queue or from the disk. `None`: it does not
    /// wait any more.
    ///
    /// # Errors
    /// [`NotStored::Disk`] when it cannot be read now.
    pub fn load(&self, device: DeviceId, id: MessageId) -> Result<Option<Arc<PushMessage>>, NotStored> {
        let number = id.0;
        let (expires_ms, owed, doubtful) = {
            let state = self.core.lock();
            if let Some((message, owed)) = state.volatile.get(&number) {
                return Ok(owed.copy(message, device));
            }
            let Some(slot) = state.waiting.get(number) else {
                return Ok(None);
            };
            let queued = state.queue.messages.get(&number).map(|queued| &queued.message);
            let flying = state.flying.get(&number).map(|flying| &flying.message);
            if let Some(message) = queued.or(flying) {
                return Ok(slot.owed.copy(message, device));
            }
            (slot.expires_ms, slot.owed, if number < state.doubtful { state.seen } else { None })
        };
        let key = message_key(number);
        let value = self.core.disk.read(&key).map_err(|error| {
            tracing::error!(%error, message = number, "a message cannot be read now");
            NotStored::Disk
        })?;
        // Whoever settled it in between has deleted it.
        let Some(value) = value else {
            return Ok(None);
        };
        match decode(&self.core, number, expires_ms, &value) {
            Ok((mut message, trusted)) => {
                if let Some(seen) = doubtful.filter(|_| trusted) {
                    message.expires = message.expires.min(end(&message, seen));
                    if message.expires <= seen.instant {
                        self.expire(&message);
                        return Ok(None);
                    }
                }
                Ok(owed.copy(&Arc::new(message), device))
            }
            Err(flaw) => {
                self.set_aside(number, &value, flaw);
                Ok(None)
            }
        }
    }

    /// Whose registration a message is for that waits: a device's, or a group's.
    #[must_use]
    pub fn owner(&self, id: MessageId) -> Option<DeviceId> {
        let state = self.core.lock();
        if let Some((message, _)) = state.volatile.get(&id.0) {
            return Some(message.device);
        }
        let registration = state.waiting.registration(id.0)?;
        state.accounts.registration(registration).map(|registration| registration.device)
    }

    /// Tells the store the time: what had to be kept without a clock to trust is judged by it.
    pub fn observe(&self, now: Moment) {
        self.core.lock().observe(now);
    }

    /// The number below which every message has been given out.
    #[must_use]
    pub fn next(&self) -> MessageId {
        MessageId(self.core.lock().next)
    }

    /// Another reader of the same messages, without the arrivals.
    #[must_use]
    pub fn reader(&self) -> Self {
        Self { arrivals: None, core: Arc::clone(&self.core), restored: Vec::new() }
    }

    /// What waits for these registrations, in order of arrival. Looks at everything that waits.
    #[must_use]
    pub fn waiting_for(&self, registrations: &[RegistrationId]) -> Vec<MessageId> {
        let state = self.core.lock();
        let wanted = state.waiting.iter().filter(|(_, registration, _)| registrations.contains(registration));
        wanted.map(|(number, ..)| MessageId(number)).collect()
    }

    /// What waited on disk when the store was opened, in order of arrival. Can be taken once.
    pub fn restored(&mut self) -> Vec<Pending> {
        std::mem::take(&mut self.restored)
    }

    /// The public name of a message.
    #[must_use]
    pub fn token(&self, id: MessageId) -> MessageToken {
        self.core.seal.token(id)
    }

    /// Ends a message whose time was over before anybody could know.
    fn expire(&self, message: &PushMessage) {
        let number = message.id.0;
        let mut state = self.core.lock();
        let Some(slot) = state.unwait(number) else {
            return;
        };
        state.deletions.push(number);
        state.withdraw(message.device, &slot.owed, number);
        self.core.announce(&mut state);
        self.core.work.notify_one();
    }

    /// A record that was whole when the store was opened has been damaged since.
    fn set_aside(&self, number: u64, value: &[u8], flaw: Flaw) {
        tracing::error!(message = number, %flaw, "a message is damaged; setting it aside");
        let mut state = self.core.lock();
        let Some(slot) = state.unwait(number) else {
            return;
        };
        state.deletions.push(number);
        let key = super::key(super::Space::Quarantine, &message_key(number));
        state.queue.writes.push((key, Some(value.to_vec())));
        if let Some(device) = state.accounts.registration(slot.registration).map(|found| found.device) {
            state.withdraw(device, &slot.owed, number);
        }
        self.core.announce(&mut state);
        self.core.work.notify_one();
    }
}

/// When a message expires by the wall clock.
fn end(message: &PushMessage, seen: Moment) -> Instant {
    let ttl = u64::from(message.ttl.as_secs()) * 1000;
    let left = message.accepted.0.saturating_add(ttl).saturating_sub(seen.wall.0);
    seen.instant + Duration::from_millis(left.min(ttl))
}

/// A message from its record, and whether its time was told by a clock that was trusted.
pub(super) fn decode(
    core: &Core,
    number: u64,
    expires_ms: u64,
    value: &[u8],
) -> Result<(PushMessage, bool), Flaw> {
    let (head, body) = record::decode_with::<MessageHead<'_>>(&message_key(number), value)?;
    let message = PushMessage {
        accepted: head.accepted,
        body: Bytes::copy_from_slice(body),
        coding: head.coding.into_owned(),
        device: head.device,
        expires: core.instant(expires_ms),
        id: MessageId(number),
        registration: head.registration,
        topic: head.topic.map(std::borrow::Cow::into_owned),
        ttl: head.ttl,
        urgency: head.urgency,
    };
    Ok((message, head.trusted))
}
