//! Who listens to what, and what that means for the devices that own it.
//!
//! Connections are many: clients overlap theirs, and share topics. A device is there as long as one
//! connection listens to one of its topics.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use super::config::{MAIL_MAX, WINDOW, WRITTEN_MAX};
use crate::{
    model::{DeviceId, MessageId, NetworkName, RegistrationId},
    transport::{Consignment, Event, Item, Joined, Parting, Pulse, Turned, flying::Flying},
};

/// What a connection is told. It ends when nobody can tell it anything any more.
#[derive(Clone, Debug)]
pub(super) enum Mail {
    Item(Arc<Item>),
    Ping,
}

/// How a connection listens.
#[derive(Clone, Debug)]
pub(super) struct Listener {
    pub(super) login: Option<DeviceId>,
    pub(super) network: NetworkName,
    /// The owners of its topics; each once.
    pub(super) owners: Vec<DeviceId>,
    pub(super) pulse: Pulse,
    /// Sorted.
    pub(super) registrations: Vec<RegistrationId>,
}

/// A connection's place; it leaves when this is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    hub: Arc<Hub>,
    number: u64,
    pub(super) parting: Parting,
}

/// All connections.
#[derive(Debug)]
pub(super) struct Hub {
    /// In the order in which it happened: who comes and goes is reported under the lock.
    events: mpsc::UnboundedSender<(DeviceId, Event)>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    connections: HashMap<u64, Connection>,
    next: u64,
    present: HashMap<DeviceId, Present>,
    /// Messages that were written to a device, here or before: what its cursor may acknowledge.
    written: HashMap<DeviceId, BTreeSet<MessageId>>,
}

/// A message that was written to a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    pub(super) id: MessageId,
    /// In whose line it is. Another device's than the owner's if it came before its topic was claimed.
    pub(super) line: DeviceId,
    /// Whose topic it is.
    pub(super) owner: DeviceId,
}

#[derive(Debug)]
struct Connection {
    /// When the client last spoke.
    heard: Instant,
    listener: Listener,
    /// `None`: it is to end.
    mail: Option<mpsc::Sender<Mail>>,
    /// It was pinged and has not answered yet.
    owes_pong: bool,
}

impl Connection {
    /// Whether it has been silent for longer than its client ever is, as one that the network has lost.
    fn is_overdue(&self, now: Instant) -> bool {
        let silence = now.saturating_duration_since(self.heard);
        self.owes_pong
            || matches!(self.listener.pulse, Pulse::Device(every) if silence > every.saturating_mul(3) / 2)
    }
}

/// A device that is there.
#[derive(Debug, Default)]
struct Present {
    connections: Vec<u64>,
    /// Handed over and not written yet.
    flying: Flying,
}

impl Hub {
    pub(super) fn new(events: mpsc::UnboundedSender<(DeviceId, Event)>) -> Arc<Self> {
        Arc::new(Self { events, inner: Mutex::default() })
    }

    /// Every change is complete before anything that could panic.
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, device: DeviceId, event: Event) {
        // Nobody listens any more when the process is about to end.
        let _ = self.events.send((device, event));
    }

    /// A connection listens from now on.
    ///
    /// A device that comes by another one while all that it has are overdue has lost these: nothing else shows
    /// it what its network does not bear. One that overlaps connections that are alive has lost nothing.
    pub(super) fn attach(self: &Arc<Self>, listener: Listener, now: Instant) -> (Seat, mpsc::Receiver<Mail>) {
        let (mail, mailbox) = mpsc::channel(MAIL_MAX);
        let mut inner = self.inner();
        inner.next += 1;
        let number = inner.next;
        let Inner { connections, present, .. } = &mut *inner;
        for &owner in &listener.owners {
            let present = present.entry(owner).or_default();
            let (network, pulse) = (listener.network.clone(), listener.pulse);
            let joined = Event::Joined(Joined { heard: true, network, pulse, window: WINDOW });
            let mut others = present.connections.iter().filter_map(|number| connections.get(number));
            if present.connections.is_empty() {
                self.report(owner, joined);
            } else if others.all(|other| other.is_overdue(now)) {
                present.flying = Flying::default();
                self.report(owner, Event::Left(Parting::Lost));
                self.report(owner, joined);
            } else {
                self.report(owner, Event::Stirred);
                self.report(owner, Event::Pulse(pulse));
            }
            present.connections.push(number);
        }
        connections.insert(number, Connection { heard: now, listener, mail: Some(mail), owes_pong: false });
        drop(inner);
        (Seat { hub: Arc::clone(self), number, parting: Parting::Closed }, mailbox)
    }

    fn detach(&self, seat: &Seat) {
        let mut inner = self.inner();
        let Some(Connection { listener, .. }) = inner.connections.remove(&seat.number) else { return };
        for owner in listener.owners {
            let Some(present) = inner.present.get_mut(&owner) else { continue };
            present.connections.retain(|number| *number != seat.number);
            if present.connections.is_empty() {
                inner.present.remove(&owner);
                self.report(owner, Event::Left(seat.parting));
            }
        }
    }

    /// Passes messages on to whoever listens to them.
    pub(super) fn hand_over(&self, consignment: Consignment) -> Result<(), Turned> {
        let Consignment { device, items } = consignment;
        let mut inner = self.inner();
        let Inner { connections, present, .. } = &mut *inner;
        let present = present.get_mut(&device).ok_or(Turned::Absent)?;
        if !present.flying.has_room(WINDOW, &items) {
            return Err(Turned::Full);
        }
        let mut unheard = Vec::new();
        for item in items {
            let (id, registration) = (item.message.id, item.message.registration);
            let item = Arc::new(item);
            let mut heard = false;
            for number in &present.connections {
                let Some(connection) = connections.get_mut(number) else { continue };
                if connection.listener.registrations.binary_search(&registration).is_err() {
                    continue;
                }
                let sent = connection.mail.as_ref().map(|mail| mail.try_send(Mail::Item(Arc::clone(&item))));
                match sent {
                    Some(Ok(())) => heard = true,
                    // It reads too slowly, or not at all: it will ask for what it has missed.
                    Some(Err(_)) => connection.mail = None,
                    None => {}
                }
            }
            if heard {
                present.flying.start(&item);
            } else {
                unheard.push(id);
            }
        }
        drop(inner);
        if !unheard.is_empty() {
            // Until the device joins again; who listens to them before that reads them by itself.
            self.report(device, Event::Turned(unheard, Turned::Parked));
        }
        Ok(())
    }

    /// Whether the device is there; its connections are to speak.
    pub(super) fn ping(&self, device: DeviceId) -> Result<(), Turned> {
        let inner = self.inner();
        let present = inner.present.get(&device).ok_or(Turned::Absent)?;
        for connection in present.connections.iter().filter_map(|number| inner.connections.get(number)) {
            // One whose mailbox is full is about to speak.
            let _ = connection.mail.as_ref().map(|mail| mail.try_send(Mail::Ping));
        }
        Ok(())
    }

    /// Ends the connections that this device has logged in for, or whose topics it owns.
    pub(super) fn expel(&self, device: DeviceId) {
        for connection in self.inner().connections.values_mut() {
            let listener = &connection.listener;
            if listener.login == Some(device) || listener.owners.contains(&device) {
                connection.mail = None;
            }
        }
    }

    /// These were written to a connection.
    pub(super) fn written(&self, messages: &[Written]) {
        let mut inner = self.inner();
        for &Written { id, line, owner } in messages {
            if let Some(present) = inner.present.get_mut(&line) {
                present.flying.land(&[id]);
            }
            let written = inner.written.entry(owner).or_default();
            written.insert(id);
            if written.len() > WRITTEN_MAX {
                written.pop_first();
            }
        }
        let lines: HashSet<DeviceId> = messages.iter().map(|written| written.line).collect();
        for line in lines {
            let own = messages.iter().filter(|written| written.line == line).map(|written| written.id);
            self.report(line, Event::Kept(own.collect()));
        }
    }

    /// The device has these: only what was written to it can be meant.
    pub(super) fn acknowledge(&self, device: DeviceId, ids: impl Iterator<Item = MessageId>) {
        let mut inner = self.inner();
        let Some(written) = inner.written.get_mut(&device) else { return };
        let acked: Vec<MessageId> = ids.filter(|id| written.remove(id)).collect();
        if !acked.is_empty() {
            self.report(device, Event::Acked(acked));
        }
    }
}

impl Seat {
    /// The connection has been asked for a sign of life.
    pub(super) fn pinged(&self) {
        if let Some(connection) = self.hub.inner().connections.get_mut(&self.number) {
            connection.owes_pong = true;
        }
    }

    /// The client has sent something; `interval`, if it has shown how often it pings by itself. Both are reported
    /// of all whose topics it listens to.
    pub(super) fn stir(&self, now: Instant, interval: Option<Duration>) {
        let mut inner = self.hub.inner();
        let Some(connection) = inner.connections.get_mut(&self.number) else { return };
        (connection.heard, connection.owes_pong) = (now, false);
        if let Some(interval) = interval {
            connection.listener.pulse = Pulse::Device(interval);
        }
        for &owner in &connection.listener.owners {
            if interval.is_some() {
                self.hub.report(owner, Event::Pulse(connection.listener.pulse));
            }
            self.hub.report(owner, Event::Stirred);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.hub.detach(self);
    }
}
