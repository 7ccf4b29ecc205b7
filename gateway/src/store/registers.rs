//! Devices, registrations, sessions and tombstones in memory, and their records.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{
    FORMAT, Lookup, Meta, Space, device_key, endpoint_key,
    record::{self, Tombstone},
    sheet_key,
};
use crate::model::{
    Address, AppToken, Device, DeviceId, EndpointToken, Group, Habit, Preferences, Registration,
    RegistrationId, Session, Tally, Untold, Urgency,
    history::{self, Sheet, Sheets},
};

/// All accounts.
#[derive(Debug, Default)]
pub(super) struct Registers {
    addresses: BTreeMap<RegistrationId, Address>,
    pub(super) devices: BTreeMap<DeviceId, Arc<Device>>,
    endpoints: HashMap<EndpointToken, Endpoint>,
    floors: BTreeMap<DeviceId, Urgency>,
    pub(super) groups: BTreeMap<DeviceId, Arc<Group>>,
    habits: BTreeMap<DeviceId, Habit>,
    histories: BTreeMap<DeviceId, Sheets>,
    names: HashMap<(DeviceId, AppToken), RegistrationId>,
    preferences: BTreeMap<DeviceId, Preferences>,
    pub(super) registrations: BTreeMap<RegistrationId, Arc<Registration>>,
    sessions: BTreeMap<DeviceId, Session>,
    tallies: BTreeMap<DeviceId, Tally>,
    untold: BTreeMap<DeviceId, Untold>,
}

/// What an endpoint is.
#[derive(Clone, Debug)]
pub(super) enum Endpoint {
    Gone(Arc<Tombstone>),
    Live(RegistrationId),
}

/// What an entry was before: setting it again takes the change back.
#[derive(Debug)]
pub(super) enum AccountUndo {
    Address(RegistrationId, Option<Address>),
    Device(DeviceId, Option<Arc<Device>>),
    Endpoint(EndpointToken, Option<Endpoint>),
    Floor(DeviceId, Option<Urgency>),
    Group(DeviceId, Option<Arc<Group>>),
    Habit(DeviceId, Option<Habit>),
    Preferences(DeviceId, Option<Preferences>),
    Registration(RegistrationId, Option<Arc<Registration>>),
    Session(DeviceId, Option<Session>),
    Sheet(DeviceId, u32, Option<Sheet>),
    Tally(DeviceId, Option<Box<Tally>>),
    Untold(DeviceId, Option<Untold>),
}

impl Registers {
    pub(super) fn lookup(&self, endpoint: &EndpointToken) -> Lookup {
        match self.endpoints.get(endpoint) {
            Some(Endpoint::Gone(_)) => Lookup::Gone,
            Some(Endpoint::Live(id)) => {
                self.registrations.get(id).map_or(Lookup::Unknown, |found| Lookup::Live(Arc::clone(found)))
            }
            None => Lookup::Unknown,
        }
    }

    pub(super) fn address(&self, registration: RegistrationId) -> Option<&Address> {
        self.addresses.get(&registration)
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = (RegistrationId, &Address)> {
        self.addresses.iter().map(|(id, address)| (*id, address))
    }

    pub(super) fn named(&self, device: DeviceId, token: &AppToken) -> Option<&Arc<Registration>> {
        self.registrations.get(self.names.get(&(device, token.clone()))?)
    }

    pub(super) fn registration(&self, id: RegistrationId) -> Option<&Arc<Registration>> {
        self.registrations.get(&id)
    }

    /// The format of the whole that says all that is known.
    pub(super) fn format(&self) -> u32 {
        if self.groups.is_empty() { 1 } else { FORMAT }
    }

    pub(super) fn floor(&self, device: DeviceId) -> Option<Urgency> {
        self.floors.get(&device).copied()
    }

    pub(super) fn habit(&self, device: DeviceId) -> Option<&Habit> {
        self.habits.get(&device)
    }

    pub(super) fn history(&self, device: DeviceId) -> Sheets {
        self.histories.get(&device).cloned().unwrap_or_default()
    }

    /// The sheets of a device that are too old, or too many.
    pub(super) fn outdated(&self, device: DeviceId) -> Vec<u32> {
        let Some(sheets) = self.histories.get(&device) else { return Vec::new() };
        let mut kept = sheets.clone();
        history::prune(&mut kept);
        sheets.keys().filter(|number| !kept.contains_key(number)).copied().collect()
    }

    pub(super) fn preferences(&self, device: DeviceId) -> Option<&Preferences> {
        self.preferences.get(&device)
    }

    pub(super) fn session(&self, device: DeviceId) -> Option<&Session> {
        self.sessions.get(&device)
    }

    pub(super) fn tally(&self, device: DeviceId) -> Option<&Tally> {
        self.tallies.get(&device)
    }

    /// Whose an endpoint was before it ended.
    pub(super) fn tombstone(&self, endpoint: &EndpointToken) -> Option<&Tombstone> {
        match self.endpoints.get(endpoint)? {
            Endpoint::Gone(tombstone) => Some(tombstone),
            Endpoint::Live(_) => None,
        }
    }

    pub(super) fn untold(&self, device: DeviceId) -> Option<&Untold> {
        self.untold.get(&device)
    }

    pub(super) fn set_address(&mut self, id: RegistrationId, address: Option<Address>) -> AccountUndo {
        AccountUndo::Address(id, set(&mut self.addresses, id, address))
    }

    pub(super) fn set_device(&mut self, id: DeviceId, device: Option<Arc<Device>>) -> AccountUndo {
        AccountUndo::Device(id, set(&mut self.devices, id, device))
    }

    pub(super) fn set_endpoint(&mut self, token: EndpointToken, endpoint: Option<Endpoint>) -> AccountUndo {
        let old = match endpoint {
            Some(endpoint) => self.endpoints.insert(token, endpoint),
            None => self.endpoints.remove(&token),
        };
        AccountUndo::Endpoint(token, old)
    }

    pub(super) fn set_floor(&mut self, device: DeviceId, floor: Option<Urgency>) -> AccountUndo {
        AccountUndo::Floor(device, set(&mut self.floors, device, floor))
    }

    pub(super) fn set_group(&mut self, id: DeviceId, group: Option<Arc<Group>>) -> AccountUndo {
        AccountUndo::Group(id, set(&mut self.groups, id, group))
    }

    pub(super) fn set_habit(&mut self, device: DeviceId, habit: Option<Habit>) -> AccountUndo {
        AccountUndo::Habit(device, set(&mut self.habits, device, habit))
    }

    pub(super) fn set_preferences(&mut self, device: DeviceId, chosen: Option<Preferences>) -> AccountUndo {
        AccountUndo::Preferences(device, set(&mut self.preferences, device, chosen))
    }

    pub(super) fn set_registration(
        &mut self,
        id: RegistrationId,
        registration: Option<Arc<Registration>>,
    ) -> AccountUndo {
        if let Some(old) = self.registrations.get(&id) {
            let name = (old.device, old.token.clone());
            if self.names.get(&name) == Some(&id) {
                self.names.remove(&name);
            }
        }
        if let Some(new) = &registration {
            self.names.insert((new.device, new.token.clone()), id);
        }
        AccountUndo::Registration(id, set(&mut self.registrations, id, registration))
    }

    pub(super) fn set_session(&mut self, device: DeviceId, session: Option<Session>) -> AccountUndo {
        AccountUndo::Session(device, set(&mut self.sessions, device, session))
    }

    pub(super) fn set_sheet(&mut self, device: DeviceId, number: u32, sheet: Option<Sheet>) -> AccountUndo {
        let sheets = self.histories.entry(device).or_default();
        let old = set(sheets, number, sheet);
        if sheets.is_empty() {
            self.histories.remove(&device);
        }
        AccountUndo::Sheet(device, number, old)
    }

    pub(super) fn set_tally(&mut self, device: DeviceId, tally: Option<Tally>) -> AccountUndo {
        AccountUndo::Tally(device, set(&mut self.tallies, device, tally).map(Box::new))
    }

    pub(super) fn set_untold(&mut self, device: DeviceId, untold: Option<Untold>) -> AccountUndo {
        AccountUndo::Untold(device, set(&mut self.untold, device, untold))
    }

    /// Takes a change back.
    pub(super) fn undo(&mut self, undo: AccountUndo) {
        match undo {
            AccountUndo::Address(id, old) => drop(self.set_address(id, old)),
            AccountUndo::Device(id, old) => drop(self.set_device(id, old)),
            AccountUndo::Endpoint(token, old) => drop(self.set_endpoint(token, old)),
            AccountUndo::Floor(device, old) => drop(self.set_floor(device, old)),
            AccountUndo::Group(id, old) => drop(self.set_group(id, old)),
            AccountUndo::Habit(id, old) => drop(self.set_habit(id, old)),
            AccountUndo::Preferences(id, old) => drop(self.set_preferences(id, old)),
            AccountUndo::Registration(id, old) => drop(self.set_registration(id, old)),
            AccountUndo::Session(device, old) => drop(self.set_session(device, old)),
            AccountUndo::Sheet(device, number, old) => drop(self.set_sheet(device, number, old)),
            AccountUndo::Tally(device, old) => drop(self.set_tally(device, old.map(|old| *old))),
            AccountUndo::Untold(device, old) => drop(self.set_untold(device, old)),
        }
    }

    /// What the disk is to hold below the key of an account, as far as memory knows.
    pub(super) fn record(&self, key: &[u8]) -> Option<Vec<u8>> {
        if *key == *Meta::Format.key() {
            return Some(record::encode(key, &self.format()));
        }
        let (&space, rest) = key.split_first()?;
        if let Ok(id) = rest.try_into().map(u64::from_be_bytes).map(DeviceId) {
            if space == Space::Address as u8 {
                return self.addresses.get(&RegistrationId(id.0)).map(|address| record::encode(key, address));
            }
            if space == Space::Device as u8 {
                return self.devices.get(&id).map(|device| record::encode(key, &**device));
            }
            if space == Space::Floor as u8 {
                return self.floors.get(&id).map(|floor| record::encode(key, floor));
            }
            if space == Space::Group as u8 {
                return self.groups.get(&id).map(|group| record::encode(key, &**group));
            }
            if space == Space::Habit as u8 {
                return self.habits.get(&id).map(|habit| record::encode(key, habit));
            }
            if space == Space::Preferences as u8 {
                return self.preferences.get(&id).map(|chosen| record::encode(key, chosen));
            }
            if space == Space::Session as u8 {
                return self.sessions.get(&id).map(|session| record::encode(key, session));
            }
            if space == Space::Tally as u8 {
                return self.tallies.get(&id).map(|tally| record::encode(key, tally));
            }
            if space == Space::Untold as u8 {
                return self.untold.get(&id).map(|untold| record::encode(key, untold));
            }
            return None;
        }
        if space == Space::History as u8 {
            let (device, number) = sheet_of(rest)?;
            return self.histories.get(&device)?.get(&number).map(|sheet| record::encode(key, sheet));
        }
        let token = EndpointToken(rest.try_into().ok()?);
        match self.endpoints.get(&token)? {
            Endpoint::Gone(tombstone) if space == Space::Tombstone as u8 => {
                Some(record::encode(key, &**tombstone))
            }
            Endpoint::Live(id) if space == Space::Registration as u8 => {
                self.registrations.get(id).map(|registration| record::encode(key, &**registration))
            }
            Endpoint::Gone(_) | Endpoint::Live(_) => None,
        }
    }

    /// Takes over what was read from disk; other keyspaces are not its business.
    pub(super) fn load(&mut self, space: Space, key: &[u8], value: &[u8]) -> Result<(), record::Flaw> {
        let rest = key.get(1..).unwrap_or_default();
        let device = || rest.try_into().map(u64::from_be_bytes).map(DeviceId).map_err(|_| record::Flaw::Body);
        let endpoint = || rest.try_into().map(EndpointToken).map_err(|_| record::Flaw::Body);
        match space {
            Space::Address => {
                drop(self.set_address(RegistrationId(device()?.0), Some(record::decode(key, value)?)));
            }
            Space::Device => {
                let found: Device = record::decode(key, value)?;
                debug_assert_eq!(key, &*device_key(space, found.id));
                drop(self.set_device(device()?, Some(Arc::new(found))));
            }
            Space::Registration => {
                let found: Registration = record::decode(key, value)?;
                debug_assert_eq!(key, &*endpoint_key(space, &found.endpoint));
                drop(self.set_endpoint(endpoint()?, Some(Endpoint::Live(found.id))));
                drop(self.set_registration(found.id, Some(Arc::new(found))));
            }
            Space::Floor => drop(self.set_floor(device()?, Some(record::decode(key, value)?))),
            Space::Group => {
                drop(self.set_group(device()?, Some(Arc::new(record::decode(key, value)?))));
            }
            Space::Habit => drop(self.set_habit(device()?, Some(record::decode(key, value)?))),
            Space::History => {
                let (device, number) = sheet_of(rest).ok_or(record::Flaw::Body)?;
                let found: Sheet = record::decode(key, value)?;
                debug_assert_eq!(key, &*sheet_key(device, number));
                drop(self.set_sheet(device, number, Some(found)));
            }
            Space::Preferences => {
                drop(self.set_preferences(device()?, Some(record::decode(key, value)?)));
            }
            Space::Session => drop(self.set_session(device()?, Some(record::decode(key, value)?))),
            Space::Tally => drop(self.set_tally(device()?, Some(record::decode(key, value)?))),
            Space::Tombstone => {
                let found = Arc::new(record::decode(key, value)?);
                drop(self.set_endpoint(endpoint()?, Some(Endpoint::Gone(found))));
            }
            Space::Untold => drop(self.set_untold(device()?, Some(record::decode(key, value)?))),
            Space::Message | Space::Meta | Space::Quarantine | Space::Shares => {}
        }
        Ok(())
    }
}

/// Whose sheet a key names, and which.
fn sheet_of(rest: &[u8]) -> Option<(DeviceId, u32)> {
    let (device, number) = rest.split_at_checked(8)?;
    let device = DeviceId(u64::from_be_bytes(device.try_into().ok()?));
    Some((device, u32::from_be_bytes(number.try_into().ok()?)))
}

fn set<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) -> Option<V> {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    }
}
