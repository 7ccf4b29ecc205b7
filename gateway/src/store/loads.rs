//! How much waits for each registration and each device, and whether that is enough.

use std::collections::{HashMap, hash_map::Entry};

use super::state::Slot;
use crate::model::{Bound, Bounds, DeviceId, RegistrationId};

/// What waits, counted. Only those for which something waits are known.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Loads {
    pub(super) bounds: Bounds,
    devices: HashMap<DeviceId, Load>,
    registrations: HashMap<RegistrationId, Load>,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Load {
    bytes: u64,
    messages: u32,
}

impl Loads {
    /// Whether a message may wait as well, if it takes the place of `replaced`. What was here before the
    /// bounds were lowered stays: then only what makes the load smaller is taken.
    pub(super) fn has_room(&self, slot: &Slot, replaced: Option<&Slot>) -> bool {
        let Bounds { device, registration } = self.bounds;
        let freed = replaced.map(|old| Load { bytes: old.size.into(), messages: 1 }).unwrap_or_default();
        let fits = |load: Option<&Load>, bound: Bound| {
            let load = load.copied().unwrap_or_default();
            let messages = load.messages.saturating_sub(freed.messages) + 1;
            let bytes = load.bytes.saturating_sub(freed.bytes) + u64::from(slot.size);
            // The successor of a message that was no smaller makes nothing worse.
            (messages <= bound.messages || messages <= load.messages)
                && (bytes <= bound.bytes || bytes <= load.bytes)
        };
        fits(self.registrations.get(&slot.registration), registration)
            && fits(self.devices.get(&slot.device), device)
    }

    pub(super) fn add(&mut self, slot: &Slot) {
        let devices = self.devices.entry(slot.device).or_default();
        let registrations = self.registrations.entry(slot.registration).or_default();
        for load in [devices, registrations] {
            load.bytes += u64::from(slot.size);
            load.messages += 1;
        }
    }

    pub(super) fn remove(&mut self, slot: &Slot) {
        less(self.devices.entry(slot.device), slot);
        less(self.registrations.entry(slot.registration), slot);
    }
}

fn less<K>(entry: Entry<'_, K, Load>, slot: &Slot) {
    if let Entry::Occupied(mut entry) = entry {
        let load = entry.get_mut();
        load.bytes = load.bytes.saturating_sub(slot.size.into());
        load.messages = load.messages.saturating_sub(1);
        if *load == Load::default() {
            entry.remove();
        }
    }
}
