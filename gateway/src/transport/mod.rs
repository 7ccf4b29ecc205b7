//! The door between the gateway and every protocol that a phone may speak.
//!
//! A room is given a [`Directory`] (who is this, which endpoint) and a sender of [`Report`]s. It is
//! handed [`Consignment`]s and told [`Notice`]s. It knows no store, no planner and no other room;
//! whatever it learns goes back as data. [`hand_over`](Transport::hand_over) never waits: a room that
//! cannot take a consignment turns it back, and the messages stay where they are safe.

#[cfg(test)]
mod battery;
mod directory;
pub mod fake;
pub mod mqtt;

use std::{sync::Arc, time::Instant};

pub use directory::{Directory, Future, Login, RegisterRefusal, RegisterRequest, RegisteredAs};

use crate::model::{AppToken, DeviceId, DeviceState, MessageId, MessageToken, PushMessage};

/// A protocol room.
pub trait Transport: Send + Sync {
    /// Takes what one device is due, in order, to be written to it in one go. Never waits.
    ///
    /// `Ok` means that each message will come back as [`Report::Acked`], as [`Report::Turned`], or
    /// is unsettled when the device's [`Report::Left`] arrives.
    ///
    /// # Errors
    /// [`Turned`]: nothing of the consignment was taken.
    fn hand_over(&self, consignment: Consignment) -> Result<(), Turned>;

    /// The room's name: the `transport` of its devices.
    fn name(&self) -> &'static str;

    /// Something that the owner changed. Never waits.
    fn tell(&self, notice: Notice);
}

/// Messages for one device: one wake.
#[derive(Clone, Debug)]
pub struct Consignment {
    /// Who gets it.
    pub device: DeviceId,
    /// What, in the order of delivery; never empty.
    pub items: Vec<Item>,
}

/// One message of a consignment.
#[derive(Clone, Debug)]
pub struct Item {
    /// The message.
    pub message: Arc<PushMessage>,
    /// Whether the device may have seen it before (MQTT: DUP).
    pub redelivery: bool,
    /// Seconds until it expires.
    pub remaining_s: u32,
    /// The stable `message-id` that the distributor sees.
    pub token: MessageToken,
}

/// Why a room did not take something.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Turned {
    /// The device is not there (any more).
    Absent,
    /// The device has as much in flight as it may; more when something is acknowledged.
    Full,
    /// The device said that it cannot take packets of this size (MQTT 5.0 Maximum Packet Size).
    TooLarge,
}

/// How much a device may have in flight.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Window {
    /// Bytes of bodies.
    pub bytes: u32,
    /// Messages (MQTT 5.0: Receive Maximum, capped).
    pub messages: u16,
}

/// What a room has learnt of a device.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Report {
    /// When, on the monotonic clock.
    pub at: Instant,
    /// Of whom.
    pub device: DeviceId,
    /// What.
    pub event: Event,
}

/// The outcomes and contacts that a room reports.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// The device has taken these over: they leave the disk.
    Acked(Vec<MessageId>),
    /// The device is able to receive from now on (for MQTT: connected *and* subscribed to pushes).
    /// Everything unsettled is to be handed over again. Sent again when the window changes or the
    /// device takes its own session over; implies that whatever was in flight is unsettled.
    Joined(Window),
    /// The device cannot receive any more; what was in flight is unsettled.
    Left,
    /// What the device says of itself.
    State(DeviceState),
    /// The device's radio is up: it has just sent something.
    Stirred,
    /// These were written to the device's connection.
    Taken(Vec<MessageId>),
    /// These were accepted by `hand_over` but could not be written.
    Turned(Vec<MessageId>, Turned),
}

/// What the owner has changed under a room's feet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Notice {
    /// The device's credentials ended (removed or rotated): close its connection within a second.
    Expelled(DeviceId),
    /// A registration was revoked at the gateway: tell the device if it is there.
    Unregistered(DeviceId, AppToken),
}
