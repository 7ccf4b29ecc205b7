//! What is known of a device, and where its registrations are reached: what it has said, what was learnt of it, what its
//! owner has chosen.

use std::sync::Arc;

use super::{
    Accounts, Commit, NotStored, Space, address_key, device_key, encode, set_untold, sheet_key, write,
};
use crate::model::{
    Address, DeviceId, Habit, Preferences, Registration, RegistrationId, Session, Tally, Untold, Urgency,
    history::Sheets,
};

impl Accounts {
    /// Where a registration is reached, if its room has said so.
    #[must_use]
    pub fn address(&self, registration: RegistrationId) -> Option<Address> {
        self.0.lock().accounts.address(registration).cloned()
    }

    /// Every registration that has an address, with it.
    #[must_use]
    pub fn addresses(&self) -> Vec<(Arc<Registration>, Address)> {
        let state = self.0.lock();
        let known = |(id, address): (_, &Address)| {
            Some((Arc::clone(state.accounts.registration(id)?), address.clone()))
        };
        state.accounts.addresses().filter_map(known).collect()
    }

    /// Writes down where a registration is reached, unless it has ended.
    ///
    /// # Errors
    /// [`NotStored`]: nothing was changed.
    pub fn put_address(&self, registration: RegistrationId, address: Address) -> Result<Commit, NotStored> {
        let key = address_key(registration);
        let value = encode(&key, &address)?;
        self.change(|state| {
            let accounts = &mut state.accounts;
            if accounts.registration(registration).is_some()
                && accounts.address(registration) != Some(&address)
            {
                let undo = accounts.set_address(registration, Some(address));
                write(state, undo, key, Some(value));
            }
        })
    }

    /// The lowest urgency that a device wants, if it has ever said so.
    #[must_use]
    pub fn floor(&self, device: DeviceId) -> Option<Urgency> {
        self.0.lock().accounts.floor(device)
    }

    /// Writes down the lowest urgency that a device wants, unless it is paired no longer.
    ///
    /// # Errors
    /// [`NotStored`]: nothing was changed.
    pub fn put_floor(&self, device: DeviceId, floor: Urgency) -> Result<Commit, NotStored> {
        let key = device_key(Space::Floor, device);
        let value = encode(&key, &floor)?;
        self.change(|state| {
            if state.accounts.devices.contains_key(&device) && state.accounts.floor(device) != Some(floor) {
                let undo = state.accounts.set_floor(device, Some(floor));
                write(state, undo, key, Some(value));
            }
        })
    }

    /// What was learnt of a device's networks.
    #[must_use]
    pub fn habit(&self, device: DeviceId) -> Habit {
        self.0.lock().accounts.habit(device).cloned().unwrap_or_default()
    }

    /// Writes down what was learnt of a device's networks.
    ///
    /// # Errors
    /// [`NotStored`]: nothing was changed.
    pub fn put_habit(&self, device: DeviceId, habit: Habit) -> Result<Commit, NotStored> {
        let key = device_key(Space::Habit, device);
        let value = encode(&key, &habit)?;
        self.change(|state| {
            if state.accounts.habit(device) != Some(&habit) {
                let undo = state.accounts.set_habit(device, Some(habit));
                write(state, undo, key, Some(value));
            }
        })
    }

    /// What was counted of a device up to the last write.
    #[must_use]
    pub fn tally(&self, device: DeviceId) -> Tally {
        self.0.lock().accounts.tally(device).cloned().unwrap_or_default()
    }

    /// What happened to a device up to the last write.
    #[must_use]
    pub fn history(&self, device: DeviceId) -> Sheets {
        self.0.lock().accounts.history(device)
    }

    /// Writes down what was counted of a device and what happened to it, in one batch, unless it is paired
    /// no longer. Sheets that are too old or too many end with it.
    ///
    /// # Errors
    /// [`NotStored`]: nothing was changed.
    pub fn put_tally(&self, device: DeviceId, tally: Tally, sheets: Sheets) -> Result<Commit, NotStored> {
        let key = device_key(Space::Tally, device);
        let value = encode(&key, &tally)?;
        let mut written = Vec::with_capacity(sheets.len());
        for (number, sheet) in sheets {
            let key = sheet_key(device, number);
            let value = encode(&key, &sheet)?;
            written.push((number, sheet, key, value));
        }
        self.change(|state| {
            if !state.accounts.devices.contains_key(&device) {
                return;
            }
            if state.accounts.tally(device) != Some(&tally) {
                let undo = state.accounts.set_tally(device, Some(tally));
                write(state, undo, key, Some(value));
            }
            for (number, sheet, key, value) in written {
                let undo = state.accounts.set_sheet(device, number, Some(sheet));
                write(state, undo, key, Some(value));
            }
            for number in state.accounts.outdated(device) {
                let undo = state.accounts.set_sheet(device, number, None);
                write(state, undo, sheet_key(device, number), None);
            }
        })
    }

    /// What the owner has chosen for a device.
    #[must_use]
    pub fn preferences(&self, device: DeviceId) -> Preferences {
        self.0.lock().accounts.preferences(device).copied().unwrap_or_default()
    }

    /// Writes down what the owner has chosen for a device.
    ///
    /// # Errors
    /// [`NotStored`]: nothing was changed.
    pub fn put_preferences(&self, device: DeviceId, chosen: Preferences) -> Result<Commit, NotStored> {
        let key = device_key(Space::Preferences, device);
        let chosen = (!chosen.is_empty()).then_some(chosen);
        let value = chosen.as_ref().map(|chosen| encode(&key, chosen)).transpose()?;
        self.change(|state| {
            if state.accounts.preferences(device) != chosen.as_ref() {
                let undo = state.accounts.set_preferences(device, chosen);
                write(state, undo, key, value);
            }
        })
    }

    /// What a device was told of its registrations, and was not.
    #[must_use]
    pub fn untold(&self, device: DeviceId) -> Untold {
        self.0.lock().accounts.untold(device).cloned().unwrap_or_default()
    }

    /// Writes down what a device was told of its registrations, and was not.
    ///
    /// # Errors
    /// [`NotStored`]: nothing was changed.
    pub fn put_untold(&self, device: DeviceId, untold: Untold) -> Result<Commit, NotStored> {
        let key = device_key(Space::Untold, device);
        encode(&key, &untold)?;
        self.change(|state| set_untold(state, device, untold))
    }

    /// A device's durable session.
    #[must_use]
    pub fn session(&self, device: DeviceId) -> Option<Session> {
        self.0.lock().accounts.session(device).cloned()
    }

    /// Writes down, or with `None` forgets, a device's session.
    ///
    /// # Errors
    /// [`NotStored`]: nothing was changed. `Disk` also for one that is longer than a record may be.
    pub fn put_session(&self, device: DeviceId, session: Option<Session>) -> Result<Commit, NotStored> {
        let key = device_key(Space::Session, device);
        let value = session.as_ref().map(|session| encode(&key, session)).transpose()?;
        self.change(|state| {
            if state.accounts.session(device) != session.as_ref() {
                let undo = state.accounts.set_session(device, session);
                write(state, undo, key, value);
            }
        })
    }
}
