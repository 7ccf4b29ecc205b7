//! Who is here, and what is on its way to them.
//!
//! A seat is one device's connection as the rest of the house sees it. There is at most one per
//! device; a second connection of the same device waits until the first has left it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{mpsc, watch};

use super::wire;
use crate::{
    model::{DeviceId, MessageId},
    transport::{Consignment, Item, Plan, Turned, Window},
};

/// Why a connection is to end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Ending {
    /// The owner has removed the device, or changed its secret.
    Expelled,
    /// The gateway is stopping.
    Stopping,
    /// The device has connected again.
    TakenOver,
}

/// What a connection is told besides pushes.
#[derive(Debug)]
pub(super) enum Mail {
    /// There is something to tell of its registrations: the house knows what.
    News,
    /// How the device is treated from now on.
    Plan(Plan),
    /// Larger than the client takes.
    TooLarge(Vec<MessageId>),
}

/// Locks, and goes on with what a panicked holder left: every change below is complete in itself.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One device's connection.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) device: DeviceId,
    desk: Mutex<Desk>,
    ending: watch::Sender<Option<Ending>>,
    /// Told when the seat is free again.
    left: watch::Sender<()>,
    mail: mpsc::UnboundedSender<Mail>,
    /// 5.0 Maximum Packet Size of the client.
    packet_max: Option<u32>,
    window: Window,
}

#[derive(Debug, Default)]
struct Desk {
    bytes: usize,
    joined: bool,
    parcels: HashMap<MessageId, Parcel>,
}

#[derive(Debug)]
struct Parcel {
    /// Until the connection collects it.
    item: Option<Item>,
    size: usize,
}

/// What the connection itself holds of its seat.
#[derive(Debug)]
pub(super) struct Occupant {
    pub(super) ending: watch::Receiver<Option<Ending>>,
    pub(super) mail: mpsc::UnboundedReceiver<Mail>,
}

impl Seat {
    fn new(device: DeviceId, window: Window, packet_max: Option<u32>) -> (Arc<Self>, Occupant) {
        let (ending, ended) = watch::channel(None);
        let (mail, mailbox) = mpsc::unbounded_channel();
        let seat = Self {
            desk: Mutex::default(),
            device,
            ending,
            left: watch::channel(()).0,
            mail,
            packet_max,
            window,
        };
        (Arc::new(seat), Occupant { ending: ended, mail: mailbox })
    }

    /// How much the device may have in flight.
    pub(super) fn window(&self) -> Window {
        self.window
    }

    /// Puts a consignment on the desk; the ids are to be announced to the connection.
    pub(super) fn accept(&self, consignment: Consignment) -> Result<Vec<MessageId>, Turned> {
        let fits =
            |item: &Item| self.packet_max.is_none_or(|max| wire::packet_size_5_0(item) <= max as usize);
        let (items, large): (Vec<_>, Vec<_>) = consignment.items.into_iter().partition(fits);
        let mut desk = lock(&self.desk);
        if !desk.joined {
            return Err(Turned::Absent);
        }
        if items.is_empty() && !large.is_empty() {
            return Err(Turned::TooLarge);
        }
        let added: usize = items.iter().map(|item| item.message.body.len()).sum();
        if desk.parcels.len() + items.len() > usize::from(self.window.messages)
            || desk.bytes + added > self.window.bytes as usize
        {
            return Err(Turned::Full);
        }
        let mut ids = Vec::with_capacity(items.len());
        for item in items {
            let (id, size) = (item.message.id, item.message.body.len());
            desk.bytes += size;
            if let Some(before) = desk.parcels.insert(id, Parcel { item: Some(item), size }) {
                desk.bytes -= before.size;
            }
            ids.push(id);
        }
        drop(desk);
        if !large.is_empty() {
            let ids = large.iter().map(|item| item.message.id).collect();
            // A connection that is gone reports Left, which settles these too.
            let _ = self.mail.send(Mail::TooLarge(ids));
        }
        Ok(ids)
    }

    /// Takes announced items off the desk; they still count as in flight.
    pub(super) fn collect(&self, ids: impl Iterator<Item = MessageId>) -> Vec<Item> {
        let mut desk = lock(&self.desk);
        ids.filter_map(|id| desk.parcels.get_mut(&id)?.item.take()).collect()
    }

    /// These are no longer in flight.
    pub(super) fn settle(&self, ids: &[MessageId]) {
        let mut desk = lock(&self.desk);
        for id in ids {
            if let Some(parcel) = desk.parcels.remove(id) {
                desk.bytes -= parcel.size;
            }
        }
    }

    /// Pushes are accepted from now on, or no longer; then nothing is in flight any more. Returns
    /// whether that is a change.
    pub(super) fn set_joined(&self, joined: bool) -> bool {
        let mut desk = lock(&self.desk);
        let changed = desk.joined != joined;
        if !joined {
            *desk = Desk::default();
        }
        desk.joined = joined;
        changed
    }

    /// Ends the connection. The first reason stands.
    pub(super) fn end(&self, why: Ending) {
        self.ending.send_if_modified(|ending| ending.is_none() && ending.replace(why).is_none());
    }

    /// Tells the connection something; nothing happens when it is gone.
    pub(super) fn tell(&self, mail: Mail) {
        let _ = self.mail.send(mail);
    }
}

/// All seats, and the packet ids of devices that have left theirs.
#[derive(Debug, Default)]
pub(super) struct Seats {
    packet_ids: Mutex<HashMap<DeviceId, Vec<(MessageId, u16)>>>,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    seats: HashMap<DeviceId, Arc<Seat>>,
    /// Whoever takes a seat from now on is to leave it at once.
    stopping: bool,
}

impl Seats {
    /// The seat of a device that is here.
    pub(super) fn of(&self, device: DeviceId) -> Option<Arc<Seat>> {
        lock(&self.taken).seats.get(&device).cloned()
    }

    /// Takes the device's seat over, once whoever has it has left.
    pub(super) async fn take(
        &self,
        device: DeviceId,
        window: Window,
        packet_max: Option<u32>,
    ) -> (Arc<Seat>, Occupant) {
        loop {
            let mut left = {
                let mut taken = lock(&self.taken);
                match taken.seats.get(&device) {
                    None => {
                        let (seat, occupant) = Seat::new(device, window, packet_max);
                        taken.seats.insert(device, Arc::clone(&seat));
                        if taken.stopping {
                            seat.end(Ending::Stopping);
                        }
                        return (seat, occupant);
                    }
                    Some(seat) => {
                        seat.end(Ending::TakenOver);
                        seat.left.subscribe()
                    }
                }
            };
            // Free for whoever asks first, so ask again.
            let _ = left.changed().await;
        }
    }

    /// Gives a seat up.
    pub(super) fn leave(&self, seat: &Arc<Seat>) {
        seat.set_joined(false);
        let mut taken = lock(&self.taken);
        if taken.seats.get(&seat.device).is_some_and(|there| Arc::ptr_eq(there, seat)) {
            taken.seats.remove(&seat.device);
        }
        drop(taken);
        seat.left.send_replace(());
    }

    /// Forgets what a device has left behind: it is paired no longer, or with another secret.
    pub(super) fn forget(&self, device: DeviceId) {
        lock(&self.packet_ids).remove(&device);
    }

    /// Ends every connection, also of those who are about to sit down.
    pub(super) fn stop(&self) {
        let mut taken = lock(&self.taken);
        taken.stopping = true;
        for seat in taken.seats.values() {
            seat.end(Ending::Stopping);
        }
    }

    /// The packet ids of the device's last connection, once.
    pub(super) fn recall(&self, device: DeviceId) -> Vec<(MessageId, u16)> {
        lock(&self.packet_ids).remove(&device).unwrap_or_default()
    }

    /// Keeps the packet ids of what a durable session has unacknowledged.
    pub(super) fn remember(&self, device: DeviceId, packet_ids: Vec<(MessageId, u16)>) {
        let mut known = lock(&self.packet_ids);
        if packet_ids.is_empty() {
            known.remove(&device);
        } else {
            known.insert(device, packet_ids);
        }
    }
}
