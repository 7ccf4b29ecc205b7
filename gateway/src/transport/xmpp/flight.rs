//! Pushes that were sent and not answered.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Instant,
};

use super::{config::LATE_MAX, jid::Jid};
use crate::model::{DeviceId, MessageId, RegistrationId};

/// A push on its way.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    /// To whom; nobody else can answer it.
    pub(super) address: Jid,
    pub(super) device: DeviceId,
    pub(super) message: MessageId,
    pub(super) registration: RegistrationId,
}

/// All of them, by the id of their stanza. A push is late when it has been given up, but may still be answered:
/// a server holds what it could not write to a phone that it hopes to see again (XEP-0198).
#[derive(Debug, Default)]
pub(super) struct Flights {
    /// When each is given up, in the order in which they were sent.
    due: VecDeque<(Instant, String)>,
    flights: HashMap<String, Flight>,
    /// The late ones, in the order in which they were given up.
    late: VecDeque<String>,
    /// Those that are not late.
    live: HashMap<(DeviceId, MessageId), String>,
}

impl Flights {
    /// A push has left.
    pub(super) fn begin(&mut self, id: String, flight: Flight, due: Instant) {
        self.due.push_back((due, id.clone()));
        if let Some(before) = self.live.insert((flight.device, flight.message), id.clone()) {
            self.late.push_back(before);
            self.forget_oldest();
        }
        self.flights.insert(id, flight);
    }

    /// Whether a message is on its way to this address.
    pub(super) fn has(&self, device: DeviceId, message: MessageId, address: &Jid) -> bool {
        let id = self.live.get(&(device, message));
        id.and_then(|id| self.flights.get(id)).is_some_and(|flight| flight.address == *address)
    }

    /// The push with this id was answered from this address, and whether it was late; `None`: there is none.
    pub(super) fn land(&mut self, id: &str, from: &Jid) -> Option<(Flight, bool)> {
        if self.flights.get(id)?.address != *from {
            return None;
        }
        let flight = self.flights.remove(id)?;
        let name = (flight.device, flight.message);
        let is_live = self.live.get(&name).is_some_and(|live| live == id);
        if is_live {
            self.live.remove(&name);
        }
        Some((flight, !is_live))
    }

    /// What goes to this address is given up; says which messages that are.
    pub(super) fn give_up(&mut self, device: DeviceId, address: &Jid) -> Vec<MessageId> {
        let Self { flights, late, live, .. } = self;
        let mut messages = Vec::new();
        live.retain(|(owner, message), id| {
            let given_up =
                *owner == device && flights.get(id).is_some_and(|flight| flight.address == *address);
            if given_up {
                messages.push(*message);
                late.push_back(id.clone());
            }
            !given_up
        });
        self.forget_oldest();
        messages
    }

    /// Everything that is on its way is given up: the stream has ended.
    pub(super) fn give_all_up(&mut self) {
        self.late.extend(std::mem::take(&mut self.live).into_values());
        self.due.clear();
        self.forget_oldest();
    }

    fn forget_oldest(&mut self) {
        let over = self.late.len().saturating_sub(LATE_MAX);
        for id in self.late.drain(..over) {
            self.flights.remove(&id);
        }
    }

    /// Nothing that was sent to the device counts any more.
    pub(super) fn forget(&mut self, device: DeviceId) {
        self.live.retain(|(owner, _), _| *owner != device);
        self.flights.retain(|_, flight| flight.device != device);
        let kept: HashSet<&String> = self.flights.keys().collect();
        self.late.retain(|id| kept.contains(id));
    }

    /// When [`overdue`](Self::overdue) is to be asked next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.due.front().map(|(due, _)| *due)
    }

    /// Where a push has been on its way for too long.
    pub(super) fn overdue(&mut self, now: Instant) -> Vec<(DeviceId, Jid)> {
        let mut silent = Vec::new();
        while self.due.front().is_some_and(|(due, _)| *due <= now) {
            let Some((_, id)) = self.due.pop_front() else { break };
            let Some(flight) = self.flights.get(&id) else { continue };
            if self.live.get(&(flight.device, flight.message)) == Some(&id) {
                silent.push((flight.device, flight.address.clone()));
            }
        }
        silent
    }
}
