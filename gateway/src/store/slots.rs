//! Which messages wait, in 32 bytes each: tens of thousands may.

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use super::{shares::Owed, state::Slot};
use crate::model::{DeviceId, Numbered, RegistrationId, Topic};

/// Waiting messages by number.
#[derive(Debug, Default)]
pub(super) struct Slots {
    kept: Numbered<Kept>,
    sources: Sources,
}

/// What is kept of a [`Slot`].
#[derive(Debug)]
struct Kept {
    expires_ms: u64,
    /// What few messages have.
    rest: Option<Box<Rest>>,
    size: u16,
    /// The place of its device and registration among the sources.
    source: u32,
}

const _: () = assert!(size_of::<(u64, Kept)>() <= 32);

#[derive(Debug)]
struct Rest {
    owed: Owed,
    topic: Option<Topic>,
}

/// The devices and registrations for which something waits, each once.
#[derive(Debug, Default)]
struct Sources {
    /// Places that are free again.
    free: Vec<u32>,
    known: Vec<Source>,
    places: HashMap<(DeviceId, RegistrationId), u32>,
}

#[derive(Debug)]
struct Source {
    device: DeviceId,
    /// Messages that wait for it.
    messages: u32,
    registration: RegistrationId,
}

impl Slots {
    pub(super) fn contains(&self, number: u64) -> bool {
        self.kept.contains(number)
    }

    pub(super) fn get(&self, number: u64) -> Option<Slot> {
        let kept = self.kept.get(number)?;
        let rest = kept.rest.as_deref();
        let source = self.sources.at(kept.source);
        Some(Slot {
            device: source.device,
            expires_ms: kept.expires_ms,
            owed: rest.map_or(Owed::Own, |rest| rest.owed.clone()),
            registration: source.registration,
            size: kept.size,
            topic: rest.and_then(|rest| rest.topic.clone()),
        })
    }

    /// Who is still to acknowledge a message.
    pub(super) fn owed(&self, number: u64) -> Option<&Owed> {
        self.kept.get(number).map(Kept::owed)
    }

    pub(super) fn registration(&self, number: u64) -> Option<RegistrationId> {
        Some(self.sources.at(self.kept.get(number)?.source).registration)
    }

    /// Bytes of the body of a message.
    pub(super) fn size(&self, number: u64) -> Option<u16> {
        self.kept.get(number).map(|kept| kept.size)
    }

    /// Every message, in order, with its registration and who is still to acknowledge it.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, RegistrationId, &Owed)> {
        let registration = |kept: &Kept| self.sources.at(kept.source).registration;
        self.kept.iter().map(move |(number, kept)| (number, registration(kept), kept.owed()))
    }

    pub(super) fn insert(&mut self, number: u64, slot: Slot) -> Option<Slot> {
        let before = self.remove(number);
        let Slot { device, expires_ms, owed, registration, size, topic } = slot;
        let rest = Rest { owed, topic };
        let source = self.sources.enter(device, registration);
        self.kept.insert(number, Kept { expires_ms, rest: rest.kept(), size, source });
        before
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<Slot> {
        let Kept { expires_ms, rest, size, source } = self.kept.remove(number)?;
        let rest = rest.map_or(Rest { owed: Owed::Own, topic: None }, |rest| *rest);
        let (device, registration) = self.sources.leave(source);
        Some(Slot { device, expires_ms, owed: rest.owed, registration, size, topic: rest.topic })
    }

    /// Changes who is still to acknowledge a message; `None`: it does not wait.
    pub(super) fn change_owed<R>(&mut self, number: u64, change: impl FnOnce(&mut Owed) -> R) -> Option<R> {
        self.kept.change(number, |kept| {
            let mut rest = kept.rest.take().map_or(Rest { owed: Owed::Own, topic: None }, |rest| *rest);
            let changed = change(&mut rest.owed);
            kept.rest = rest.kept();
            changed
        })
    }
}

impl Kept {
    fn owed(&self) -> &Owed {
        self.rest.as_ref().map_or(&Owed::Own, |rest| &rest.owed)
    }
}

impl Rest {
    fn kept(self) -> Option<Box<Self>> {
        (self.owed != Owed::Own || self.topic.is_some()).then(|| Box::new(self))
    }
}

impl Sources {
    fn at(&self, place: u32) -> &Source {
        &self.known[place as usize]
    }

    /// One more message waits for it; its place.
    fn enter(&mut self, device: DeviceId, registration: RegistrationId) -> u32 {
        let Self { free, known, places } = self;
        let place = *places.entry((device, registration)).or_insert_with(|| {
            let source = Source { device, messages: 0, registration };
            match free.pop() {
                Some(place) => {
                    known[place as usize] = source;
                    place
                }
                None => {
                    known.push(source);
                    u32::try_from(known.len() - 1)
                        .expect("each has a message, and those fill the memory before")
                }
            }
        });
        known[place as usize].messages += 1;
        place
    }

    /// One message less waits for it.
    fn leave(&mut self, place: u32) -> (DeviceId, RegistrationId) {
        let source = &mut self.known[place as usize];
        source.messages -= 1;
        let (device, registration) = (source.device, source.registration);
        if source.messages == 0 {
            self.places.remove(&(device, registration));
            self.free.push(place);
        }
        (device, registration)
    }
}
