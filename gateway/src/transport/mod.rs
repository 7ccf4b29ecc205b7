//! The door between the gateway and every protocol that a phone may speak.
//!
//! A room is given a [`Directory`] (who is this, which endpoint) and a sender of [`Report`]s. It is
//! handed [`Consignment`]s and told [`Notice`]s. It knows no store, no planner and no other room;
//! whatever it learns goes back as data. [`hand_over`](Transport::hand_over) never waits: a room that
//! cannot take a consignment turns it back, and the messages stay where they are safe.

pub mod autopush;
#[cfg(test)]
mod battery;
mod directory;
pub mod fake;
mod flying;
mod history;
pub mod mqtt;
pub mod ntfy;
mod post;
pub mod web;
#[cfg(feature = "xmpp")]
pub mod xmpp;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

pub use directory::{
    About, Claim, Directory, EnrolRefusal, Enrolment, Future, Invitation, Login, News, RegisterRefusal,
    RegisterRequest, RegisteredAs, Tell,
};

pub use history::History;
pub use post::{Later, Post, Posted};

use crate::model::{
    AppToken, DeviceId, DeviceState, MessageId, MessageToken, NetworkName, Profile, PushMessage,
};

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

    /// Makes the connection of a device with [`Pulse::Gateway`] speak once, to keep it alive. Never waits.
    ///
    /// # Errors
    /// [`Turned::Absent`] where there is no such device, or nothing that the room could send.
    fn ping(&self, _device: DeviceId) -> Result<(), Turned> {
        Err(Turned::Absent)
    }

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
    /// Not before the device joins again: nobody who is there takes it (ntfy: no subscriber of the topic; XMPP:
    /// no client that is able to), or it has been left unacknowledged for so long that others are not to wait
    /// behind it (Autopush). It may still be acknowledged.
    Parked,
    /// Not on this connection, because the device said that it cannot take packets of this size (MQTT 5.0 Maximum
    /// Packet Size). For the rest as [`Turned::Parked`].
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

/// How a device is there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Joined {
    /// Whether it has just been heard, so that its radio is up. Else it is only believed to be there.
    pub heard: bool,
    /// The network that it comes from.
    pub network: NetworkName,
    /// Who keeps the connection alive.
    pub pulse: Pulse,
    /// How much it may have in flight.
    pub window: Window,
}

/// Who keeps an idle connection alive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pulse {
    /// The device speaks when it has sent nothing for this long (MQTT: its keep-alive; a client that
    /// pings by itself). Its ping is a contact, for which what can wait may wait.
    Device(Duration),
    /// The gateway has to, by [`Transport::ping`], after at most this long without a packet: the most
    /// that the client bears. [`Duration::MAX`]: whatever the network bears.
    Gateway(Duration),
    /// Nobody: somebody else's business (XMPP: the server's).
    Nobody,
}

/// How a device's connection ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Parting {
    /// The device said good-bye or closed its end.
    Closed,
    /// The gateway closed it: shutdown, removal, a broken protocol. Tells nothing of the network.
    Ended,
    /// It fell silent: a keep-alive or an acknowledgement did not come in time, the network broke it, or
    /// the device came back by another connection without having ended this one.
    Lost,
}

/// How the gateway treats a device: told whenever it changes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Plan {
    /// The longest silence that its network is known, or now supposed, to bear.
    pub keep_alive: Duration,
    /// How long its messages may wait for company.
    pub profile: Profile,
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
    Joined(Joined),
    /// The device cannot receive any more; what was in flight is unsettled.
    Left(Parting),
    /// Who keeps the connection alive, and how, has changed since [`Event::Joined`].
    Pulse(Pulse),
    /// What the device says of itself.
    State(DeviceState),
    /// The device's radio is up: it has just sent something.
    Stirred,
    /// These were written to the device's connection, which in the room's protocol is all that is known
    /// of them (acknowledgement level "socket"). They stay where [`History`] finds them until they
    /// expire or are [`Acked`](Self::Acked), and are not handed over again.
    Kept(Vec<MessageId>),
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
    /// What the planner now does for this device; a room that can tells it (MQTT: `inbox/plan`).
    Plan(DeviceId, Plan),
    /// A registration was revoked at the gateway: tell the device if it is there.
    Unregistered(DeviceId, AppToken),
}
