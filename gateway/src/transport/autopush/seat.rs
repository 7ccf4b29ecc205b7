//! Who is here, and how much is on its way to them.
//!
//! At most one connection per device: a second one of the same device waits until the first has left.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{mpsc, watch};

use super::config::WINDOW;
use crate::{
    model::{AppToken, DeviceId, MessageId},
    transport::{Item, Turned, flying::Flying},
};

/// What a connection is told.
#[derive(Debug)]
pub(super) enum Mail {
    Deliver(Vec<Item>),
    /// The device was removed, or has a new secret.
    End,
    Ping,
    /// The device has connected again.
    TakenOver,
    Unregistered(AppToken),
}

/// Locks, and goes on with what a panicked holder left: every change below is complete in itself.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One device's connection.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) device: DeviceId,
    flying: Mutex<Flying>,
    /// Told when the seat is free again.
    left: watch::Sender<()>,
    mail: mpsc::UnboundedSender<Mail>,
}

impl Seat {
    /// Passes messages on to the connection, if its window has room for all of them.
    pub(super) fn accept(&self, items: Vec<Item>) -> Result<(), Turned> {
        let mut flying = lock(&self.flying);
        if !flying.has_room(WINDOW, &items) {
            return Err(Turned::Full);
        }
        items.iter().for_each(|item| flying.start(item));
        drop(flying);
        self.mail.send(Mail::Deliver(items)).map_err(|_| Turned::Absent)
    }

    /// These take no room in the window any more.
    pub(super) fn settle(&self, ids: &[MessageId]) {
        lock(&self.flying).land(ids);
    }

    /// Tells the connection something; nothing happens when it is gone.
    pub(super) fn tell(&self, mail: Mail) {
        let _ = self.mail.send(mail);
    }
}

/// All seats.
#[derive(Debug, Default)]
pub(super) struct Seats(Mutex<HashMap<DeviceId, Arc<Seat>>>);

impl Seats {
    /// The seat of a device that is here.
    pub(super) fn of(&self, device: DeviceId) -> Option<Arc<Seat>> {
        lock(&self.0).get(&device).cloned()
    }

    /// Takes the device's seat over, once whoever has it has left.
    pub(super) async fn take(&self, device: DeviceId) -> (Arc<Seat>, mpsc::UnboundedReceiver<Mail>) {
        loop {
            let mut left = {
                let mut seats = lock(&self.0);
                match seats.get(&device) {
                    None => {
                        let (mail, mailbox) = mpsc::unbounded_channel();
                        let seat = Arc::new(Seat {
                            device,
                            flying: Mutex::default(),
                            left: watch::channel(()).0,
                            mail,
                        });
                        seats.insert(device, Arc::clone(&seat));
                        return (seat, mailbox);
                    }
                    Some(seat) => {
                        seat.tell(Mail::TakenOver);
                        seat.left.subscribe()
                    }
                }
            };
            // Free for whoever asks first, so ask again.
            let _ = left.changed().await;
        }
    }

    /// Takes nothing more for this seat.
    pub(super) fn close(&self, seat: &Arc<Seat>) {
        let mut seats = lock(&self.0);
        if seats.get(&seat.device).is_some_and(|there| Arc::ptr_eq(there, seat)) {
            seats.remove(&seat.device);
        }
    }

    /// Gives a closed seat up: everything about its connection has been reported.
    pub(super) fn leave(seat: &Seat) {
        seat.left.send_replace(());
    }
}
