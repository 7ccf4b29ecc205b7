//! A client's connection as a machine: bytes in, bytes out, and everything else in the [`House`].
//!
//! `mqtt-protocol-core` answers PUBLISH, PUBREC, PUBREL and PINGREQ by itself here, maps topic aliases
//! and counts Receive Maximum. Sessions, subscriptions, retained messages and Wills are the host's.

mod hello;
mod packets;

use std::time::{Duration, Instant};

use mqtt_protocol_core::mqtt::{
    Connection, Version as CoreVersion,
    common::Cursor,
    connection::{ConnectionOptions, Event},
    packet::{GenericPacket, Packet, Property, RetainHandling, SubEntry},
    result_code::{DisconnectReasonCode, MqttError, PubrecReasonCode},
    role,
};

use super::{
    house::{Expiry, Flight, House, Kick, Seat},
    message::{Message, Subscription, read_filter},
};
use crate::transport::mqtt::{
    config::{PACKET_MAX, RECEIVE_MAX, WINDOW_MAX},
    frames::{self, Version},
    session::framing::{Framing, Peek, without_alias_maximum_0},
};

/// How long a client may take to say CONNECT.
const GREETING: Duration = Duration::from_secs(10);
/// Written at once at most, before the next is looked at.
const CHUNK: usize = 64 * 1024;

/// What the shell is to do.
#[derive(Debug, Default)]
pub(in crate::transport::mqtt) struct Out {
    pub(in crate::transport::mqtt) bytes: Vec<u8>,
    pub(in crate::transport::mqtt) close: bool,
}

/// How the connection came to its end.
#[derive(Clone, Copy, Debug, Default)]
struct Parting {
    /// The client said good-bye: its Will is void.
    clean: bool,
    /// Session Expiry Interval of DISCONNECT.
    expiry: Option<Expiry>,
}

pub(in crate::transport::mqtt) struct Session {
    core: Connection<role::Server>,
    framing: Framing,
    heard: Instant,
    /// `None`: never too long silent.
    keep_alive: Option<Duration>,
    kick: Kick,
    out: Out,
    parting: Parting,
    /// Session Expiry Interval of CONNECT was 0, which DISCONNECT may not change.
    passing: bool,
    rest: Vec<u8>,
    /// From CONNECT on.
    seat: Option<Seat>,
    slot: u64,
    version: Version,
    window: usize,
}

impl Session {
    /// A connection that has said nothing yet.
    pub(in crate::transport::mqtt) fn new(slot: u64, kick: Kick, now: Instant) -> Self {
        let options =
            ConnectionOptions::new().maximum_packet_size_recv(PACKET_MAX).receive_maximum(RECEIVE_MAX);
        let mut core = Connection::with_options(CoreVersion::Undetermined, options);
        core.set_auto_pub_response(true);
        core.set_auto_ping_response(true);
        core.set_auto_map_topic_alias_send(true);
        Self {
            core,
            framing: Framing::default(),
            heard: now,
            keep_alive: None,
            kick,
            out: Out::default(),
            parting: Parting::default(),
            passing: false,
            rest: Vec::new(),
            seat: None,
            slot,
            version: Version::V3,
            window: usize::from(WINDOW_MAX),
        }
    }

    /// Takes bytes from the client.
    pub(in crate::transport::mqtt) fn receive(&mut self, house: &mut House, bytes: &[u8], now: Instant) {
        self.heard = now;
        let mut all = std::mem::take(&mut self.rest);
        all.extend_from_slice(bytes);
        let mut used = 0;
        while used < all.len() && !self.out.close {
            let available = &all[used..];
            if self.framing.at_boundary() {
                match self.framing.peek(available) {
                    Peek::More => break,
                    Peek::Malformed => {
                        self.fail(MqttError::MalformedPacket);
                        break;
                    }
                    Peek::Nameless => {
                        self.fail(MqttError::ProtocolError);
                        break;
                    }
                    Peek::Puback { pid, length } if self.stray(house, pid) => {
                        used += self.framing.skip(length);
                        continue;
                    }
                    Peek::Puback { .. } | Peek::Frame => {}
                }
            }
            let chunk = &available[..self.framing.take(available.len())];
            let mended = if self.seat.is_none() { without_alias_maximum_0(chunk) } else { None };
            if mended.is_some() {
                self.core.set_auto_map_topic_alias_send(false);
            }
            let events = self.core.recv(&mut Cursor::new(mended.as_deref().unwrap_or(chunk)));
            used += chunk.len();
            self.handle(house, events, now);
        }
        if !self.out.close {
            self.rest.extend_from_slice(&all[used..]);
            self.deliver(house, now);
        }
    }

    /// Whether a PUBACK is for nothing in flight, as one that comes twice is.
    fn stray(&self, house: &mut House, pid: u16) -> bool {
        let client = self.seat.as_ref().and_then(|seat| house.client(seat));
        client.is_some_and(|client| !client.flights.iter().any(|flight| flight.pid == pid))
    }

    fn handle(&mut self, house: &mut House, events: Vec<Event>, now: Instant) {
        for event in events {
            match event {
                Event::NotifyPacketReceived(packet) if !self.out.close => self.packet(house, packet, now),
                Event::NotifyError(error) => self.fail(error),
                Event::RequestClose => self.out.close = true,
                Event::RequestSendPacket { packet, .. } => frames::append(&mut self.out.bytes, &packet),
                // Keep-alive is measured here.
                Event::NotifyPacketReceived(_)
                | Event::NotifyPacketIdReleased(_)
                | Event::RequestTimerCancel(_)
                | Event::RequestTimerReset { .. } => {}
            }
        }
    }

    fn packet(&mut self, house: &mut House, packet: GenericPacket<u16>, now: Instant) {
        match packet {
            GenericPacket::V3_1_1Connect(connect) => self.hello(house, hello::read_3_1_1(&connect), now),
            GenericPacket::V5_0Connect(connect) => self.hello(house, hello::read_5_0(&connect), now),
            GenericPacket::V3_1_1Publish(publish) => {
                let body = publish.payload().as_slice().to_vec();
                let (qos, topic) = (publish.qos() as u8, publish.topic_name());
                let message = Message::new(topic, body, qos, publish.retain(), Vec::new(), now);
                self.publication(house, publish.packet_id(), message, now);
            }
            GenericPacket::V5_0Publish(publish) => {
                if publish
                    .props()
                    .iter()
                    .any(|property| matches!(property, Property::SubscriptionIdentifier(_)))
                {
                    return self.goodbye(DisconnectReasonCode::ProtocolError);
                }
                let (body, properties) = (publish.payload().as_slice().to_vec(), publish.props().clone());
                let (qos, topic) = (publish.qos() as u8, publish.topic_name());
                let message = Message::new(topic, body, qos, publish.retain(), properties, now);
                self.publication(house, publish.packet_id(), message, now);
            }
            GenericPacket::V3_1_1Puback(ack) => self.landed(house, ack.packet_id()),
            GenericPacket::V5_0Puback(ack) => self.landed(house, ack.packet_id()),
            GenericPacket::V3_1_1Pubrec(ack) => self.received(house, ack.packet_id()),
            GenericPacket::V5_0Pubrec(ack) => match ack.reason_code() {
                None | Some(PubrecReasonCode::Success | PubrecReasonCode::NoMatchingSubscribers) => {
                    self.received(house, ack.packet_id());
                }
                Some(_) => self.landed(house, ack.packet_id()),
            },
            GenericPacket::V3_1_1Pubcomp(ack) => self.landed(house, ack.packet_id()),
            GenericPacket::V5_0Pubcomp(ack) => self.landed(house, ack.packet_id()),
            GenericPacket::V3_1_1Pubrel(_) | GenericPacket::V5_0Pubrel(_) => self.note_receiving(house),
            GenericPacket::V3_1_1Subscribe(subscribe) => {
                self.subscribe(house, subscribe.packet_id(), subscribe.entries(), None, now);
            }
            GenericPacket::V5_0Subscribe(subscribe) => {
                let mut identifier = None;
                for property in subscribe.props() {
                    if let Property::SubscriptionIdentifier(id) = property {
                        identifier = Some(id.val());
                    }
                }
                self.subscribe(house, subscribe.packet_id(), subscribe.entries(), identifier, now);
            }
            GenericPacket::V3_1_1Unsubscribe(unsubscribe) => {
                let filters = unsubscribe.entries().iter().map(|filter| filter.as_str());
                self.unsubscribe(house, unsubscribe.packet_id(), filters);
            }
            GenericPacket::V5_0Unsubscribe(unsubscribe) => {
                let filters = unsubscribe.entries().iter().map(|filter| filter.as_str());
                self.unsubscribe(house, unsubscribe.packet_id(), filters);
            }
            GenericPacket::V3_1_1Disconnect(_) => {
                self.parting.clean = true;
                self.out.close = true;
            }
            GenericPacket::V5_0Disconnect(disconnect) => {
                self.parting.clean = disconnect
                    .reason_code()
                    .is_none_or(|reason| reason == DisconnectReasonCode::NormalDisconnection);
                for property in disconnect.props().iter().flatten() {
                    if let Property::SessionExpiryInterval(expiry) = property {
                        if self.passing && expiry.val() > 0 {
                            // MQTT 5.0 §3.14.2.2.2
                            return self.goodbye(DisconnectReasonCode::ProtocolError);
                        }
                        self.parting.expiry = Some(hello::expiry(expiry.val()));
                    }
                }
                self.out.close = true;
            }
            // Answered by the connection itself.
            GenericPacket::V3_1_1Pingreq(_) | GenericPacket::V5_0Pingreq(_) => {}
            GenericPacket::V3_1_1Connack(_)
            | GenericPacket::V5_0Connack(_)
            | GenericPacket::V3_1_1Suback(_)
            | GenericPacket::V5_0Suback(_)
            | GenericPacket::V3_1_1Unsuback(_)
            | GenericPacket::V5_0Unsuback(_)
            | GenericPacket::V3_1_1Pingresp(_)
            | GenericPacket::V5_0Pingresp(_)
            | GenericPacket::V5_0Auth(_) => self.goodbye(DisconnectReasonCode::ProtocolError),
        }
    }

    fn publication(&mut self, house: &mut House, pid: Option<u16>, message: Message, now: Instant) {
        if pid == Some(0) {
            return self.goodbye(DisconnectReasonCode::ProtocolError);
        }
        if message.topic.is_empty() || message.topic.contains(['#', '+', '\0']) {
            return self.goodbye(DisconnectReasonCode::TopicNameInvalid);
        }
        if message.qos == 2 {
            self.note_receiving(house);
        }
        // `$` topics are the server's, and this one has none to say anything about.
        if let (Some(seat), false) = (&self.seat, message.topic.starts_with('$')) {
            house.publish(seat.name(), message, now);
        }
    }

    /// A second connection of the client is to know which QoS 2 messages have come already.
    fn note_receiving(&mut self, house: &mut House) {
        if let Some(client) = self.seat.as_ref().and_then(|seat| house.client(seat)) {
            client.receiving = self.core.get_qos2_publish_handled().into_iter().collect();
        }
    }

    fn subscribe(
        &mut self,
        house: &mut House,
        pid: u16,
        entries: &[SubEntry],
        identifier: Option<u32>,
        now: Instant,
    ) {
        let Some(seat) = self.seat.clone() else { return };
        if pid == 0 {
            return self.goodbye(DisconnectReasonCode::ProtocolError);
        }
        let (mut grants, mut retained) = (Vec::new(), Vec::new());
        for entry in entries {
            let options = entry.sub_opts();
            let Some((group, filter)) = read_filter(entry.topic_filter()) else {
                grants.push(packets::Grant::Invalid);
                continue;
            };
            if group.is_some() && options.nl() {
                // MQTT 5.0 §3.8.3.1
                return self.goodbye(DisconnectReasonCode::ProtocolError);
            }
            let subscription = Subscription {
                filter: filter.into(),
                group: group.map(Into::into),
                identifier,
                no_local: options.nl(),
                qos: options.qos() as u8,
                retain_as_published: options.rap(),
            };
            grants.push(match house.subscribe(&seat, subscription.clone()) {
                None => packets::Grant::TooMany,
                Some(new) => {
                    let handling = match options.rh() {
                        RetainHandling::SendRetained => true,
                        RetainHandling::SendRetainedIfNotExists => new,
                        RetainHandling::DoNotSendRetained => false,
                    };
                    if handling && group.is_none() {
                        retained.push(subscription);
                    }
                    packets::Grant::Granted(options.qos())
                }
            });
        }
        self.send(packets::suback(self.version, pid, &grants));
        for subscription in retained {
            house.send_retained(&seat, &subscription, now);
        }
    }

    fn unsubscribe<'a>(&mut self, house: &mut House, pid: u16, filters: impl Iterator<Item = &'a str>) {
        let Some(seat) = self.seat.clone() else { return };
        if pid == 0 {
            return self.goodbye(DisconnectReasonCode::ProtocolError);
        }
        let known: Vec<_> = filters
            .map(|filter| {
                let read = read_filter(filter);
                Some(read.is_some_and(|(group, filter)| house.unsubscribe(&seat, group, filter)))
            })
            .collect();
        self.send(frames::unsuback(self.version, pid, &known));
    }

    /// A message in flight has been acknowledged to the end.
    fn landed(&mut self, house: &mut House, pid: u16) {
        if let Some(client) = self.seat.as_ref().and_then(|seat| house.client(seat)) {
            client.flights.retain(|flight| flight.pid != pid);
        }
    }

    /// PUBREC: from now on PUBREL is repeated, no longer PUBLISH.
    fn received(&mut self, house: &mut House, pid: u16) {
        let client = self.seat.as_ref().and_then(|seat| house.client(seat));
        let flight = client.and_then(|client| client.flights.iter_mut().find(|flight| flight.pid == pid));
        if let Some(flight) = flight {
            flight.received = true;
        }
    }

    /// A ticket has come.
    pub(super) fn called(&mut self, house: &mut House, now: Instant) {
        if let Some(seat) = &self.seat {
            house.told(seat);
        }
        self.deliver(house, now);
    }

    /// Writes what waits, in order, as far as the client's window allows. Called again after a write
    /// it goes on where it stopped.
    pub(in crate::transport::mqtt) fn deliver(&mut self, house: &mut House, now: Instant) {
        let Some(client) = self.seat.as_ref().and_then(|seat| house.client(seat)) else { return };
        while !self.out.close && self.out.bytes.len() < CHUNK {
            let Some(parcel) = client.queue.front() else { return };
            if parcel.message.expired(now) {
                client.queue.pop_front();
                continue;
            }
            let vacant = client.flights.len() < self.window
                && self.core.get_receive_maximum_vacancy_for_send().is_none_or(|vacancy| vacancy > 0);
            if parcel.qos > 0 && !vacant {
                return;
            }
            let Some(parcel) = client.queue.pop_front() else { return };
            if parcel.qos == 0 {
                let packet = packets::publish(self.version, &parcel, None, false, now);
                packets::send(&mut self.core, &mut self.out.bytes, packet);
                continue;
            }
            // A window of 65,535 ids are taken at most, so there is one.
            let Some(pid) = packets::packet_id(&mut self.core, &mut client.next_pid) else { return };
            let packet = packets::publish(self.version, &parcel, Some(pid), false, now);
            if packets::send(&mut self.core, &mut self.out.bytes, packet) {
                client.flights.push(Flight { parcel, pid, received: false });
            } else {
                // Larger than the client takes: it is as if it had been delivered (MQTT 5.0 §3.1.2.11.4).
                self.core.release_packet_id(pid);
            }
        }
    }

    fn send(&mut self, packet: Result<Packet, MqttError>) {
        packets::send(&mut self.core, &mut self.out.bytes, packet);
    }

    /// The client has broken the protocol.
    fn fail(&mut self, error: MqttError) {
        if error == MqttError::UnsupportedProtocolVersion && self.seat.is_none() {
            self.out.bytes.extend_from_slice(frames::unsupported_version(self.framing.connect_level()));
        }
        self.goodbye(error.into());
    }

    /// Ends the connection, with a word on 5.0.
    pub(super) fn goodbye(&mut self, reason: DisconnectReasonCode) {
        if self.seat.is_some() && !self.out.close {
            if let Ok(Some(packet)) = frames::disconnect(self.version, reason) {
                self.send(Ok(packet));
            }
        }
        self.out.close = true;
    }

    /// When [`on_time`](Self::on_time) is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.seat {
            None => Some(self.heard + GREETING),
            Some(_) => self.keep_alive.map(|keep_alive| self.heard + keep_alive * 3 / 2),
        }
    }

    /// Ends what has been silent for too long.
    pub(in crate::transport::mqtt) fn on_time(&mut self, now: Instant) {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.goodbye(DisconnectReasonCode::KeepAliveTimeout);
        }
    }

    /// What is to be done now.
    pub(in crate::transport::mqtt) fn take(&mut self) -> Out {
        let close = self.out.close;
        Out { bytes: std::mem::take(&mut self.out.bytes), close }
    }

    /// The connection is gone.
    pub(in crate::transport::mqtt) fn finish(self, house: &mut House, now: Instant) {
        if let Some(seat) = &self.seat {
            house.leave(seat, self.parting.clean, self.parting.expiry, now);
        }
    }
}
