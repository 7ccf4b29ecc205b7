//! Devices and registrations: answered from memory, changed through the committer.

mod known;

use std::sync::Arc;

use serde::Serialize;

use super::{
    Commit, FORMAT, Lookup, MAX_RECORD, Meta, NotStored, Space, device_key, endpoint_key, key,
    record::{self, Tombstone},
    registers::{AccountUndo, Endpoint},
    sheet_key,
    state::{Core, Release, State, Undo},
};
use crate::model::{
    AppToken, Device, DeviceId, EndpointToken, Group, Registration, RegistrationId, Untold, Waiting,
};

/// Devices and registrations. Reads answer from memory. A change is visible at once, and is taken
/// back when it could not be written.
#[derive(Clone, Debug)]
pub struct Accounts(pub(super) Arc<Core>);

impl Accounts {
    /// A device.
    #[must_use]
    pub fn device(&self, id: DeviceId) -> Option<Arc<Device>> {
        self.0.lock().accounts.devices.get(&id).cloned()
    }

    /// All devices, oldest first.
    #[must_use]
    pub fn devices(&self) -> Vec<Arc<Device>> {
        let mut devices: Vec<_> = self.0.lock().accounts.devices.values().cloned().collect();
        devices.sort_by_key(|device| (device.created, device.id));
        devices
    }

    /// Adds or changes a device.
    ///
    /// # Errors
    /// [`NotStored`]: nothing was changed.
    pub fn put_device(&self, device: Device) -> Result<Commit, NotStored> {
        let (id, key) = (device.id, device_key(Space::Device, device.id));
        let value = encode(&key, &device)?;
        self.change(|state| {
            if state.accounts.devices.get(&id).is_some_and(|known| **known == device) {
                return;
            }
            let undo = state.accounts.set_device(id, Some(Arc::new(device)));
            write(state, undo, key, Some(value));
        })
    }

    /// A group.
    #[must_use]
    pub fn group(&self, id: DeviceId) -> Option<Arc<Group>> {
        self.0.lock().accounts.groups.get(&id).cloned()
    }

    /// All groups, oldest first.
    #[must_use]
    pub fn groups(&self) -> Vec<Arc<Group>> {
        let mut groups: Vec<_> = self.0.lock().accounts.groups.values().cloned().collect();
        groups.sort_by_key(|group| (group.created, group.id));
        groups
    }

    /// Adds or changes a group. Whoever is a member no longer loses its share of what waits, once the
    /// change is on disk.
    ///
    /// # Errors
    /// [`NotStored`]: nothing was changed.
    pub fn put_group(&self, group: Group) -> Result<Commit, NotStored> {
        encode(&device_key(Space::Group, group.id), &group)?;
        self.change(|state| {
            if state.accounts.groups.get(&group.id).is_none_or(|known| **known != group) {
                set_group(state, group);
            }
        })
    }

    /// Removes a group, its registrations (their endpoints become tombstones) and their waiting messages,
    /// all in one batch, and notes for each of `tell` which endpoints it has still to hear of. `None`: no
    /// such group.
    ///
    /// # Errors
    /// [`NotStored`]: nothing was changed.
    pub fn remove_group(&self, id: DeviceId, tell: &[DeviceId]) -> Result<Option<Commit>, NotStored> {
        if self.group(id).is_none() {
            return Ok(None);
        }
        self.change(|state| {
            end_all(state, id, tell);
            let undo = state.accounts.set_group(id, None);
            write(state, undo, device_key(Space::Group, id), None);
        })
        .map(Some)
    }

    /// Removes a device, all that is known of it, its registrations (their endpoints become tombstones) and their waiting
    /// messages, and its place in groups, all in one batch. `None`: no such device.
    ///
    /// # Errors
    /// [`NotStored`]: nothing was changed.
    pub fn remove_device(&self, id: DeviceId) -> Result<Option<Commit>, NotStored> {
        if self.device(id).is_none() {
            return Ok(None);
        }
        self.change(|state| {
            let undo = state.accounts.set_device(id, None);
            write(state, undo, device_key(Space::Device, id), None);
            if state.accounts.floor(id).is_some() {
                let undo = state.accounts.set_floor(id, None);
                write(state, undo, device_key(Space::Floor, id), None);
            }
            if state.accounts.habit(id).is_some() {
                let undo = state.accounts.set_habit(id, None);
                write(state, undo, device_key(Space::Habit, id), None);
            }
            for number in state.accounts.history(id).into_keys() {
                let undo = state.accounts.set_sheet(id, number, None);
                write(state, undo, sheet_key(id, number), None);
            }
            if state.accounts.tally(id).is_some() {
                let undo = state.accounts.set_tally(id, None);
                write(state, undo, device_key(Space::Tally, id), None);
            }
            if state.accounts.preferences(id).is_some() {
                let undo = state.accounts.set_preferences(id, None);
                write(state, undo, device_key(Space::Preferences, id), None);
            }
            if state.accounts.session(id).is_some() {
                let undo = state.accounts.set_session(id, None);
                write(state, undo, device_key(Space::Session, id), None);
            }
            if state.accounts.untold(id).is_some() {
                let undo = state.accounts.set_untold(id, None);
                write(state, undo, device_key(Space::Untold, id), None);
            }
            end_all(state, id, &[]);
            let groups = state.accounts.groups.values();
            for group in groups.filter(|group| group.members.contains(&id)).cloned().collect::<Vec<_>>() {
                let mut group = (*group).clone();
                group.members.retain(|member| *member != id);
                set_group(state, group);
            }
        })
        .map(Some)
    }

    /// A registration.
    #[must_use]
    pub fn registration(&self, id: RegistrationId) -> Option<Arc<Registration>> {
        self.0.lock().accounts.registration(id).cloned()
    }

    /// What an endpoint is.
    #[must_use]
    pub fn lookup(&self, endpoint: &EndpointToken) -> Lookup {
        self.0.lock().accounts.lookup(endpoint)
    }

    /// The registration of a device's app instance.
    #[must_use]
    pub fn registration_of(&self, device: DeviceId, token: &AppToken) -> Option<Arc<Registration>> {
        self.0.lock().accounts.named(device, token).cloned()
    }

    /// All registrations of a device, or of all, oldest first.
    #[must_use]
    pub fn registrations(&self, device: Option<DeviceId>) -> Vec<Arc<Registration>> {
        let state = self.0.lock();
        let all = state.accounts.registrations.values();
        let mut found: Vec<_> =
            all.filter(|each| device.is_none_or(|device| each.device == device)).cloned().collect();
        drop(state);
        found.sort_by_key(|registration| (registration.created, registration.id));
        found
    }

    /// How much waits for a registration.
    #[must_use]
    pub fn waiting(&self, id: RegistrationId) -> Waiting {
        self.0.lock().loads.waiting(id)
    }

    /// Adds or changes a registration. One that changes its endpoint leaves a tombstone at the old one.
    ///
    /// # Errors
    /// [`NotStored`]: nothing was changed.
    pub fn put_registration(&self, registration: Registration) -> Result<Commit, NotStored> {
        let key = endpoint_key(Space::Registration, &registration.endpoint);
        let value = encode(&key, &registration)?;
        self.change(|state| {
            let known = state.accounts.registration(registration.id).cloned();
            if known.as_ref().is_some_and(|known| **known == registration) {
                return;
            }
            if let Some(known) = known.filter(|known| known.endpoint != registration.endpoint) {
                bury(state, &known);
            }
            if matches!(state.accounts.lookup(&registration.endpoint), Lookup::Gone) {
                let tombstone = endpoint_key(Space::Tombstone, &registration.endpoint);
                state.queue.writes.push((tombstone, None));
            }
            let (id, endpoint) = (registration.id, registration.endpoint);
            let undo = state.accounts.set_endpoint(endpoint, Some(Endpoint::Live(id)));
            state.queue.undo.push(Undo::Account(undo));
            let undo = state.accounts.set_registration(id, Some(Arc::new(registration)));
            write(state, undo, key, Some(value));
        })
    }

    /// Ends a registration: tombstone, and its waiting messages are withdrawn. `None`: no such registration.
    ///
    /// # Errors
    /// [`NotStored`]: nothing was changed.
    pub fn remove_registration(&self, id: RegistrationId) -> Result<Option<Commit>, NotStored> {
        self.revoke_registration(id, &[])
    }

    /// The same, and in the same batch notes for each of `tell` that it has still to hear of it.
    ///
    /// # Errors
    /// [`NotStored`]: nothing was changed.
    pub fn revoke_registration(
        &self,
        id: RegistrationId,
        tell: &[DeviceId],
    ) -> Result<Option<Commit>, NotStored> {
        if self.registration(id).is_none() {
            return Ok(None);
        }
        self.change(|state| {
            // Somebody else may have been faster since.
            if let Some(registration) = state.accounts.registration(id).cloned() {
                end(state, &registration, tell);
            }
        })
        .map(Some)
    }

    /// Whose an endpoint was before it ended, and which app's.
    #[must_use]
    pub fn ended(&self, endpoint: &EndpointToken) -> Option<(DeviceId, AppToken)> {
        let state = self.0.lock();
        let tombstone = state.accounts.tombstone(endpoint)?;
        Some((tombstone.device, tombstone.token.clone()))
    }

    /// Ends a registration as if it had never been: without a tombstone, for endpoints that strangers
    /// may think of. What waits for it is withdrawn. `None`: no such registration.
    ///
    /// # Errors
    /// [`NotStored`]: nothing was changed.
    pub fn forget_registration(&self, id: RegistrationId) -> Result<Option<Commit>, NotStored> {
        if self.registration(id).is_none() {
            return Ok(None);
        }
        self.change(|state| {
            let Some(registration) = state.accounts.registration(id).cloned() else { return };
            let undo = state.accounts.set_endpoint(registration.endpoint, None);
            write(state, undo, endpoint_key(Space::Registration, &registration.endpoint), None);
            withdraw_all(state, &registration);
        })
        .map(Some)
    }

    /// A key of this gateway, the same for ever, for a purpose of its own.
    #[must_use]
    pub fn key(&self, purpose: &str) -> [u8; 32] {
        self.0.seal.derive(purpose)
    }

    /// Makes a change; its commit resolves together with everything that was queued before it, so that
    /// "nothing to change" is only said of what is on disk.
    fn change(&self, change: impl FnOnce(&mut State)) -> Result<Commit, NotStored> {
        let mut state = self.0.lock();
        state.admit()?;
        change(&mut state);
        self.0.announce(&mut state);
        if state.queue.writes.is_empty() && !state.busy {
            return Ok(Commit::ready());
        }
        let (waiter, commit) = Commit::waiting();
        state.queue.waiters.push(waiter);
        drop(state);
        self.0.work.notify_one();
        Ok(commit)
    }
}

fn encode<T: Serialize>(key: &[u8], value: &T) -> Result<Vec<u8>, NotStored> {
    let bytes = record::encode(key, value);
    if bytes.len() > MAX_RECORD {
        tracing::error!(bytes = bytes.len(), limit = MAX_RECORD, "a record is too large for the store");
        return Err(NotStored::Disk);
    }
    Ok(bytes)
}

fn address_key(registration: RegistrationId) -> sled::IVec {
    key(Space::Address, &registration.0.to_be_bytes())
}

fn write(state: &mut State, undo: AccountUndo, key: sled::IVec, value: Option<Vec<u8>>) {
    state.queue.undo.push(Undo::Account(undo));
    state.queue.writes.push((key, value));
}

/// Writes a group down, and notes whose shares end with it.
fn set_group(state: &mut State, group: Group) {
    // Of whatever kind the database was: from now on it has groups.
    let format = Meta::Format.key();
    if state.accounts.groups.is_empty() {
        state.queue.writes.push((format.clone(), Some(record::encode(&format, &FORMAT))));
    }
    let (id, below) = (group.id, state.next);
    let left = state.accounts.groups.get(&id).map(|known| known.members.clone()).unwrap_or_default();
    let left = left.into_iter().filter(|member| !group.members.contains(member));
    state.queue.releases.extend(left.map(|member| Release { group: id, member, below }));
    let key = device_key(Space::Group, id);
    let value = record::encode(&key, &group);
    let undo = state.accounts.set_group(id, Some(Arc::new(group)));
    write(state, undo, key, Some(value));
}

/// Writes down what a device is still to be told.
fn set_untold(state: &mut State, device: DeviceId, untold: Untold) {
    let untold = Some(untold).filter(|untold| !untold.is_empty());
    if state.accounts.untold(device) == untold.as_ref() {
        return;
    }
    let key = device_key(Space::Untold, device);
    let value = untold.as_ref().map(|untold| record::encode(&key, untold));
    let undo = state.accounts.set_untold(device, untold);
    write(state, undo, key, value);
}

/// Ends the registrations of a device or group.
fn end_all(state: &mut State, owner: DeviceId, tell: &[DeviceId]) {
    let all = state.accounts.registrations.values();
    let own: Vec<_> = all.filter(|registration| registration.device == owner).cloned().collect();
    for registration in own {
        end(state, &registration, tell);
    }
}

/// Ends a registration and withdraws what waits for it; `tell` have still to hear of it.
fn end(state: &mut State, registration: &Registration, tell: &[DeviceId]) {
    for &device in tell {
        let mut untold = state.accounts.untold(device).cloned().unwrap_or_default();
        untold.end(registration.endpoint);
        set_untold(state, device, untold);
    }
    bury(state, registration);
    withdraw_all(state, registration);
}

/// Forgets a registration, and withdraws what waits for it.
fn withdraw_all(state: &mut State, registration: &Registration) {
    let undo = state.accounts.set_registration(registration.id, None);
    state.queue.undo.push(Undo::Account(undo));
    if state.accounts.address(registration.id).is_some() {
        let undo = state.accounts.set_address(registration.id, None);
        write(state, undo, address_key(registration.id), None);
    }
    state.loads.forget(registration.id);
    let own = |found: RegistrationId| found == registration.id;
    let numbers: Vec<u64> =
        state.waiting.iter().filter(|(_, of, _)| own(*of)).map(|(number, ..)| number).collect();
    for number in numbers {
        let Some(slot) = state.unwait(number) else { continue };
        let owed = slot.owed.clone();
        if let Some(mut queued) = state.unqueue(number) {
            state.queue.waiters.append(&mut queued.waiters);
            for (old, slot) in queued.drops {
                state.deletions.push(old);
                state.queue.undo.push(Undo::Wait(old, slot));
            }
        } else {
            state.deletions.push(number);
            state.queue.undo.push(Undo::Wait(number, slot));
        }
        state.withdraw(registration.device, &owed, number);
    }
    let volatile: Vec<u64> = state
        .volatile
        .iter()
        .filter(|(_, (found, _))| own(found.registration))
        .map(|(number, _)| *number)
        .collect();
    for number in volatile {
        if let Some((_, owed)) = state.volatile.remove(&number) {
            state.withdraw(registration.device, &owed, number);
        }
    }
}

/// Turns an endpoint into a tombstone.
fn bury(state: &mut State, registration: &Registration) {
    let tombstone =
        Tombstone { device: registration.device, token: registration.token.clone(), at: state.wall };
    let key = endpoint_key(Space::Tombstone, &registration.endpoint);
    let value = record::encode(&key, &tombstone);
    let undo = state.accounts.set_endpoint(registration.endpoint, Some(Endpoint::Gone(Arc::new(tombstone))));
    write(state, undo, key, Some(value));
    state.queue.writes.push((endpoint_key(Space::Registration, &registration.endpoint), None));
}
