//! The session machine: bytes and events in, frames and reports out. No socket, no clock, no task.
//!
//! `mqtt-protocol-core` parses, builds, keeps the packet ids and obeys Receive Maximum and Maximum
//! Packet Size. What it leaves to its host is done here: login, take-over, authorization of every
//! SUBSCRIBE, PUBLISH and Will, topic filters, fixed-header flags, acknowledgements of what is no
//! longer known, keep-alive, and answers in the order of the requests.
//!
//! What has to wait for the house (the seat, the disk) leaves as an [`Ask`]; its answer comes back by
//! [`Session::admit`] or [`Session::answered`]. Bytes that arrive meanwhile are kept, and looked at
//! afterwards.

mod control;
mod delivery;
pub(super) mod framing;
mod hello;
mod news;
mod plan;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    net::IpAddr,
    time::{Duration, Instant},
};

use mqtt_protocol_core::mqtt::{
    Connection, Version as CoreVersion,
    common::Cursor,
    connection::{ConnectionOptions, Event},
    packet::Packet,
    result_code::{DisconnectReasonCode, MqttError},
    role,
};

use self::{
    control::Waiting,
    delivery::{Flight, Outbound},
    framing::{Framing, Peek, without_alias_maximum_0},
    news::Telling,
    plan::Hints,
};
use super::{
    config::{ASKS_MAX, PACKET_MAX, UNRELEASED_MAX, window},
    frames::{self, Incoming, Version, Will},
    wire,
};
use crate::{
    model::{AppToken, DeviceId, DeviceState, MessageId, Session as Durable, Urgency},
    transport::{About, Directory, Parting, RegisterRefusal, RegisterRequest, RegisteredAs, Window},
};

pub(super) use self::hello::{Admission, Admitted};

/// Something that has to wait for the disk. Asked one at a time, in order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Ask {
    Floor(Urgency),
    Register(RegisterRequest),
    Save(Durable),
    Unregister(AppToken),
}

/// What an [`Ask`] came to.
#[derive(Debug)]
pub(super) enum Answered {
    Done(Result<(), RegisterRefusal>),
    Registered(Result<RegisteredAs, RegisterRefusal>),
}

/// What the machine wants done, collected until the shell takes it.
#[derive(Debug, Default)]
pub(super) struct Out {
    /// Not wanted by any subscription.
    pub(super) absent: Vec<MessageId>,
    /// Acknowledged by the device.
    pub(super) acked: Vec<MessageId>,
    /// To be written, in one go.
    pub(super) bytes: Vec<u8>,
    /// The connection is to be closed once `bytes` are written.
    pub(super) close: bool,
    /// The device wants pushes from now on, or no longer.
    pub(super) joined: Option<bool>,
    /// The device is silent for as long as it was told to: its keep-alive is another one now.
    pub(super) obeys: bool,
    /// Pushes among `bytes`.
    pub(super) sent: Vec<MessageId>,
    /// Pushes among `bytes` that nobody will acknowledge: the device subscribed at QoS 0.
    pub(super) settled: Vec<MessageId>,
    /// What the device says of itself.
    pub(super) states: Vec<DeviceState>,
    /// The device has sent something.
    pub(super) stirred: bool,
    /// News that the device has taken.
    pub(super) told: Vec<About>,
    /// Larger than the device takes.
    pub(super) too_large: Vec<MessageId>,
}

/// What is left of a session when its connection has ended.
#[derive(Debug, Default)]
pub(super) struct Leftover {
    /// The durable session ends too (5.0: DISCONNECT with Session Expiry Interval 0).
    pub(super) forget: bool,
    /// Packet ids of what is unacknowledged, for a durable session.
    pub(super) packet_ids: Vec<(MessageId, u16)>,
    /// The Will, when it was to be published and says something of the device.
    pub(super) will: Option<DeviceState>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Greeting,
    Admission,
    Open,
    Closed,
}

/// One connection of one client.
pub(super) struct Session {
    /// CONNECT was good: the shell is to find a seat.
    admission: Option<Admission>,
    core: Connection<role::Server>,
    device: DeviceId,
    durable: bool,
    /// Granted subscriptions, in order.
    filters: Vec<(Box<str>, u8)>,
    flights: Vec<Flight>,
    forget: bool,
    framing: Framing,
    heard: Instant,
    hints: Hints,
    /// What the client is held to.
    keep_alive: u16,
    /// What the client asked for.
    keep_alive_asked: u16,
    max_keep_alive: u16,
    next_pid: u16,
    out: Out,
    outbound: VecDeque<Outbound>,
    /// Whose doing its end is.
    parting: Parting,
    phase: Phase,
    /// Packet ids of earlier connections of this session.
    remembered: Vec<(MessageId, u16)>,
    /// Bytes that could not be looked at yet.
    rest: Vec<u8>,
    source: IpAddr,
    telling: Telling,
    unacked_limit: Duration,
    version: Version,
    waiting: VecDeque<Waiting>,
    will: Option<Will>,
    window: Window,
}

impl Session {
    /// A connection from `source` that has said nothing yet.
    pub(super) fn new(source: IpAddr, max_keep_alive: u16, unacked_limit: Duration, now: Instant) -> Self {
        let options =
            ConnectionOptions::new().maximum_packet_size_recv(PACKET_MAX).receive_maximum(UNRELEASED_MAX);
        Self {
            admission: None,
            core: Connection::with_options(CoreVersion::Undetermined, options),
            device: DeviceId(0),
            durable: false,
            filters: Vec::new(),
            flights: Vec::new(),
            forget: false,
            framing: Framing::default(),
            heard: now,
            hints: Hints::default(),
            keep_alive: max_keep_alive,
            keep_alive_asked: 0,
            max_keep_alive,
            next_pid: 1,
            out: Out::default(),
            outbound: VecDeque::new(),
            parting: Parting::Ended,
            phase: Phase::Greeting,
            remembered: Vec::new(),
            rest: Vec::new(),
            source,
            telling: Telling::default(),
            unacked_limit,
            version: Version::V3,
            waiting: VecDeque::new(),
            will: None,
            window: window(None),
        }
    }

    /// Takes bytes from the client.
    pub(super) fn receive(&mut self, directory: &dyn Directory, bytes: &[u8], now: Instant) {
        if self.phase == Phase::Closed {
            return;
        }
        self.watch(now);
        self.heard = now;
        if self.rest.is_empty() && self.ready() {
            let used = self.feed(directory, bytes, now);
            self.rest.extend_from_slice(&bytes[used..]);
        } else {
            self.rest.extend_from_slice(bytes);
            self.resume(directory, now);
        }
        self.hint(now);
    }

    /// Whether the shell may read more: false while too much waits.
    pub(super) fn hungry(&self) -> bool {
        self.ready()
    }

    /// Looks at the bytes that had to wait.
    fn resume(&mut self, directory: &dyn Directory, now: Instant) {
        if self.rest.is_empty() || !self.ready() {
            return;
        }
        let rest = std::mem::take(&mut self.rest);
        let used = self.feed(directory, &rest, now);
        self.rest.extend_from_slice(&rest[used..]);
    }

    fn ready(&self) -> bool {
        matches!(self.phase, Phase::Greeting | Phase::Open) && self.waiting.len() < ASKS_MAX
    }

    /// Returns how many bytes were used.
    fn feed(&mut self, directory: &dyn Directory, bytes: &[u8], now: Instant) -> usize {
        let mut used = 0;
        while used < bytes.len() && self.ready() {
            let available = &bytes[used..];
            if self.framing.at_boundary() {
                match self.framing.peek(available) {
                    Peek::Frame => {}
                    Peek::Malformed => {
                        self.fail(MqttError::MalformedPacket);
                        break;
                    }
                    Peek::Nameless => {
                        self.fail(MqttError::ProtocolError);
                        break;
                    }
                    Peek::More => break,
                    Peek::Puback { pid, length } if self.stray(pid) => {
                        used += self.framing.skip(length);
                        self.out.stirred = true;
                        continue;
                    }
                    Peek::Puback { .. } => {}
                }
            }
            let chunk = self.framing.take(available.len());
            let mended = (self.phase == Phase::Greeting)
                .then(|| without_alias_maximum_0(&available[..chunk]))
                .flatten();
            let mut cursor = Cursor::new(mended.as_deref().unwrap_or(&available[..chunk]));
            let events = self.core.recv(&mut cursor);
            used += chunk;
            self.handle(directory, events, now);
        }
        if self.phase == Phase::Closed { bytes.len() } else { used }
    }

    fn handle(&mut self, directory: &dyn Directory, events: Vec<Event>, now: Instant) {
        for event in events {
            match event {
                Event::NotifyPacketReceived(packet) if self.phase != Phase::Closed => {
                    self.out.stirred = true;
                    self.packet(directory, packet.into(), now);
                }
                Event::NotifyError(error) => self.fail(error),
                Event::RequestClose => self.close(),
                Event::RequestSendPacket { packet, .. } => self.append(&packet),
                // Keep-alive is measured here, since 0 means the maximum; packet ids are handed out here.
                Event::NotifyPacketReceived(_)
                | Event::NotifyPacketIdReleased(_)
                | Event::RequestTimerCancel(_)
                | Event::RequestTimerReset { .. } => {}
            }
        }
    }

    fn packet(&mut self, directory: &dyn Directory, packet: Incoming, now: Instant) {
        match packet {
            Incoming::Connect(hello) => self.hello(directory, *hello),
            Incoming::Disconnect { keep, will } => {
                if !will {
                    self.will = None;
                }
                self.forget = !keep;
                self.parting = Parting::Closed;
                self.close();
            }
            Incoming::Pingreq => self.send(frames::pingresp(self.version)),
            Incoming::Puback(pid) => self.acknowledged(pid, now),
            Incoming::Publish(publication) => self.publication(publication, now),
            Incoming::Pubrel(pid) => self.send(frames::pubcomp(self.version, pid)),
            Incoming::Subscribe { pid, filters, identifier } => self.subscribe(pid, filters, identifier, now),
            Incoming::Unexpected => self.goodbye(DisconnectReasonCode::ProtocolError),
            Incoming::Unsubscribe { pid, filters } => self.unsubscribe(pid, &filters, now),
        }
    }

    /// Sends a packet through the connection, which may add to it or refuse it.
    fn send(&mut self, packet: Result<Packet, MqttError>) {
        let events = match packet {
            Ok(packet) => self.core.send(packet),
            Err(error) => vec![Event::NotifyError(error)],
        };
        for event in events {
            match event {
                Event::NotifyError(error) => {
                    tracing::debug!(device = %self.device, ?error, "a packet could not be sent");
                }
                Event::RequestClose => self.close(),
                Event::RequestSendPacket { packet, .. } => self.append(&packet),
                Event::NotifyPacketReceived(_)
                | Event::NotifyPacketIdReleased(_)
                | Event::RequestTimerCancel(_)
                | Event::RequestTimerReset { .. } => {}
            }
        }
    }

    fn append(&mut self, packet: &Packet) {
        frames::append(&mut self.out.bytes, packet);
    }

    /// The client has broken the protocol.
    fn fail(&mut self, error: MqttError) {
        if self.phase == Phase::Closed {
            return;
        }
        tracing::debug!(source = %self.source, device = %self.device, ?error, "a client broke the protocol");
        if error == MqttError::UnsupportedProtocolVersion && self.phase == Phase::Greeting {
            self.out.bytes.extend_from_slice(frames::unsupported_version(self.framing.connect_level()));
        }
        self.goodbye(error.into());
    }

    /// Ends the connection, with a word on 5.0.
    pub(super) fn goodbye(&mut self, reason: DisconnectReasonCode) {
        if self.phase == Phase::Open {
            if let Ok(Some(packet)) = frames::disconnect(self.version, reason) {
                self.send(Ok(packet));
            }
        }
        self.close();
    }

    fn close(&mut self) {
        self.phase = Phase::Closed;
        self.out.close = true;
        self.rest.clear();
    }

    /// When [`on_time`](Self::on_time) is due next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.phase != Phase::Open {
            return None;
        }
        let silent = self.heard + self.patience();
        Some(self.flights.first().map_or(silent, |oldest| silent.min(oldest.since + self.unacked_limit)))
    }

    /// One and a half times the keep-alive (MQTT 5.0 §3.1.2.10), or the longest one that it was told of.
    fn patience(&self) -> Duration {
        self.keep_alive().max(self.hints.longest()) * 3 / 2
    }

    /// Acts on what is overdue.
    pub(super) fn on_time(&mut self, now: Instant) {
        if self.phase != Phase::Open {
            return;
        }
        if now >= self.heard + self.patience() {
            tracing::debug!(device = %self.device, "keep-alive ran out");
            self.parting = Parting::Lost;
            self.goodbye(DisconnectReasonCode::KeepAliveTimeout);
        } else if self.flights.first().is_some_and(|oldest| now >= oldest.since + self.unacked_limit) {
            tracing::info!(device = %self.device, "a device answers but acknowledges nothing: closed");
            self.parting = Parting::Lost;
            self.goodbye(DisconnectReasonCode::ImplementationSpecificError);
        }
    }

    /// Whose doing it is that the session has closed.
    pub(super) fn parting(&self) -> Parting {
        self.parting
    }

    /// What is to be done now.
    pub(super) fn take(&mut self) -> Out {
        std::mem::take(&mut self.out)
    }

    /// The device, once it is admitted.
    pub(super) fn device(&self) -> DeviceId {
        self.device
    }

    /// Where it connects from.
    pub(super) fn source(&self) -> IpAddr {
        self.source
    }

    /// After so long without a packet of its own the client speaks.
    pub(super) fn keep_alive(&self) -> Duration {
        Duration::from_secs(self.hints.obeyed().unwrap_or(self.keep_alive).into())
    }

    /// The largest packet that the client takes.
    pub(super) fn window(&self) -> Window {
        self.window
    }

    /// Ends the session with its connection.
    pub(super) fn finish(mut self) -> Leftover {
        let will = self
            .will
            .take()
            .filter(|will| wire::outbox(self.device, &will.topic) == Some(wire::Outbox::State));
        let mut packet_ids: Vec<_> =
            self.flights.iter().filter_map(|flight| Some((flight.of.message()?, flight.pid))).collect();
        if self.durable && !self.forget {
            packet_ids.append(&mut self.remembered);
            packet_ids.truncate(super::config::REMEMBERED_MAX);
        } else {
            packet_ids.clear();
        }
        Leftover {
            forget: self.forget && self.durable,
            packet_ids,
            will: will.and_then(|will| wire::state(&will.body).ok()),
        }
    }
}
