//! Which accounts are there, and how much is on its way to each.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::mpsc;

use super::config::WINDOW;
use crate::{
    model::{DeviceId, MessageId},
    transport::{Consignment, Item, Turned, flying::Flying},
};

/// What the task that owns the stream is told.
#[derive(Debug)]
pub(super) enum Mail {
    /// For the seat with this number: when it is another by now, all of it is known to be unsettled.
    Deliver(DeviceId, u64, Vec<Item>),
    /// The device was removed.
    Expelled(DeviceId),
}

/// One account that can be sent something.
#[derive(Debug, Default)]
struct Seat {
    flying: Flying,
    number: u64,
}

/// All seats.
#[derive(Debug)]
pub(super) struct Seats {
    inner: Mutex<Inner>,
    mail: mpsc::UnboundedSender<Mail>,
}

#[derive(Debug, Default)]
struct Inner {
    last: u64,
    seats: HashMap<DeviceId, Seat>,
}

impl Seats {
    pub(super) fn new(mail: mpsc::UnboundedSender<Mail>) -> Self {
        Self { inner: Mutex::default(), mail }
    }

    /// Goes on with what a panicked holder left: every change below is complete in itself.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes messages on to the stream, if the account's window has room for all of them.
    pub(super) fn hand_over(&self, consignment: Consignment) -> Result<(), Turned> {
        let Consignment { device, items } = consignment;
        let mut inner = self.lock();
        let seat = inner.seats.get_mut(&device).ok_or(Turned::Absent)?;
        if !seat.flying.has_room(WINDOW, &items) {
            return Err(Turned::Full);
        }
        items.iter().for_each(|item| seat.flying.start(item));
        // Under the lock, so that what is for one seat is never behind what is for its successor.
        self.mail.send(Mail::Deliver(device, seat.number, items)).map_err(|_| Turned::Absent)
    }

    /// Tells the stream's task something; nothing happens when that has ended.
    pub(super) fn tell(&self, mail: Mail) {
        let _ = self.mail.send(mail);
    }

    /// These take no room in the window any more.
    pub(super) fn settle(&self, device: DeviceId, ids: &[MessageId]) {
        if let Some(seat) = self.lock().seats.get_mut(&device) {
            seat.flying.land(ids);
        }
    }

    /// A device takes a seat, with nothing on its way to it.
    pub(super) fn take(&self, device: DeviceId) {
        let mut inner = self.lock();
        inner.last += 1;
        let number = inner.last;
        inner.seats.insert(device, Seat { number, ..Seat::default() });
    }

    /// Whether the device still has this seat.
    pub(super) fn has(&self, device: DeviceId, number: u64) -> bool {
        self.lock().seats.get(&device).is_some_and(|seat| seat.number == number)
    }

    /// A device leaves its seat.
    pub(super) fn leave(&self, device: DeviceId) {
        self.lock().seats.remove(&device);
    }
}
