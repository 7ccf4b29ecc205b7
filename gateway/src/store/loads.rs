//! How much waits for each registration and each device, and what gives way when that is enough.

use std::collections::{HashMap, hash_map::Entry};

use super::{slots::Slots, state::Slot};
use crate::model::{Bound, Bounds, DeviceId, Numbered, RegistrationId, Waiting, WhenFull};

/// What waits, counted. Only those for which something waits, or has given way, are known.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Loads {
    pub(super) bounds: Bounds,
    /// Messages that have given way.
    crowded_out: HashMap<RegistrationId, u64>,
    devices: HashMap<DeviceId, Load>,
    registrations: HashMap<RegistrationId, Queue>,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Load {
    bytes: u64,
    messages: u32,
}

/// What waits for a registration, in order of arrival.
#[derive(Debug, Default, Eq, PartialEq)]
struct Queue {
    load: Load,
    numbers: Numbered<()>,
}

impl Loads {
    /// What is to expire before its time, so that a message may wait that takes the place of `replaced`:
    /// the oldest messages of its registration, no more of them than needed. `None`: there is no room for it.
    ///
    /// What was here before the bounds were lowered stays, as long as nothing becomes more.
    pub(super) fn room(&self, slot: &Slot, replaced: Option<u64>, waiting: &Slots) -> Option<Vec<u64>> {
        let mut freed = Load::default();
        if let Some(old) = replaced.and_then(|old| waiting.size(old)) {
            freed.add(old);
        }
        if self.fits(slot, freed) {
            return Some(Vec::new());
        }
        let own = self.registrations.get(&slot.registration)?;
        // Where the others alone fill the device, nothing is to expire in vain.
        if self.bounds.when_full == WhenFull::Refuse || !self.fits(slot, own.load) {
            return None;
        }
        let mut oldest = Vec::new();
        for (number, ()) in own.numbers.iter().filter(|(number, ())| Some(*number) != replaced) {
            if let Some(old) = waiting.size(number) {
                freed.add(old);
            }
            oldest.push(number);
            if self.fits(slot, freed) {
                return Some(oldest);
            }
        }
        None
    }

    /// Whether a message may wait when so much has gone.
    fn fits(&self, slot: &Slot, freed: Load) -> bool {
        let fits = |load: Option<Load>, bound: Bound| {
            let load = load.unwrap_or_default();
            let messages = load.messages.saturating_sub(freed.messages) + 1;
            let bytes = load.bytes.saturating_sub(freed.bytes) + u64::from(slot.size);
            // The successor of a message that was no smaller makes nothing worse.
            (messages <= bound.messages || messages <= load.messages)
                && (bytes <= bound.bytes || bytes <= load.bytes)
        };
        let Bounds { device, registration, .. } = self.bounds;
        fits(self.registrations.get(&slot.registration).map(|own| own.load), registration)
            && fits(self.devices.get(&slot.device).copied(), device)
    }

    pub(super) fn add(&mut self, number: u64, slot: &Slot) {
        self.devices.entry(slot.device).or_default().add(slot.size);
        let own = self.registrations.entry(slot.registration).or_default();
        own.load.add(slot.size);
        own.numbers.insert(number, ());
    }

    pub(super) fn remove(&mut self, number: u64, slot: &Slot) {
        if let Entry::Occupied(mut device) = self.devices.entry(slot.device) {
            device.get_mut().remove(slot.size);
            if *device.get() == Load::default() {
                device.remove();
            }
        }
        if let Entry::Occupied(mut own) = self.registrations.entry(slot.registration) {
            own.get_mut().load.remove(slot.size);
            own.get_mut().numbers.remove(number);
            if own.get().numbers.is_empty() {
                own.remove();
            }
        }
    }

    /// Messages of a registration have given way. Says so in the log at the first, and each time that their
    /// number has doubled.
    pub(super) fn crowd_out(&mut self, registration: RegistrationId, by: usize) {
        if by == 0 {
            return;
        }
        let count = self.crowded_out.entry(registration).or_default();
        let before = count.checked_ilog2();
        *count += by as u64;
        if count.checked_ilog2() != before {
            tracing::warn!(%registration, count, "more messages wait for a registration than may; its oldest expire early");
        }
    }

    /// Nothing is counted any more of a registration that has ended.
    pub(super) fn forget(&mut self, registration: RegistrationId) {
        self.crowded_out.remove(&registration);
    }

    /// Bytes of the bodies of all that waits, and how many messages that is.
    pub(super) fn total(&self) -> (u64, u64) {
        let add = |(bytes, messages), load: &Load| (bytes + load.bytes, messages + u64::from(load.messages));
        self.devices.values().fold((0, 0), add)
    }

    pub(super) fn waiting(&self, registration: RegistrationId) -> Waiting {
        let Load { bytes, messages } =
            self.registrations.get(&registration).map(|own| own.load).unwrap_or_default();
        let crowded_out = self.crowded_out.get(&registration).copied().unwrap_or_default();
        Waiting { bytes, crowded_out, messages }
    }

    /// Whether the same waits.
    #[cfg(test)]
    pub(super) fn counts_as(&self, other: &Self) -> bool {
        self.devices == other.devices && self.registrations == other.registrations
    }
}

impl Load {
    fn add(&mut self, size: u16) {
        self.bytes += u64::from(size);
        self.messages += 1;
    }

    fn remove(&mut self, size: u16) {
        self.bytes = self.bytes.saturating_sub(size.into());
        self.messages = self.messages.saturating_sub(1);
    }
}
