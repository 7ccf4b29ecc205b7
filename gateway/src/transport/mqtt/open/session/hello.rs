//! CONNECT, and what it is answered.

use std::time::{Duration, Instant};

use mqtt_protocol_core::mqtt::{
    common::Cursor,
    packet::{
        AssignedClientIdentifier, Packet, Properties, Property, ServerKeepAlive, TopicAliasMaximum, v3_1_1,
        v5_0,
    },
    result_code::{ConnectReasonCode, ConnectReturnCode, MqttError},
};

use super::{Session, packets};
use crate::transport::mqtt::{
    config::WINDOW_MAX,
    frames::Version,
    open::{
        house::{Arrival, Expiry, Flight, House, Will},
        message::Message,
    },
};

/// The longest keep-alive that is granted: short, so that a suite meets Server Keep Alive.
const KEEP_ALIVE_MAX: u16 = 60;
/// Topic aliases of a client.
const ALIASES: u16 = 10;

/// CONNECT, read from either version.
pub(super) struct Hello {
    auth: bool,
    clean: bool,
    expiry: Expiry,
    keep_alive: u16,
    name: String,
    receive_maximum: Option<u16>,
    version: Version,
    will: Option<(String, Vec<u8>, u8, bool, Properties)>,
}

/// Session Expiry Interval.
pub(super) fn expiry(seconds: u32) -> Expiry {
    (seconds != u32::MAX).then(|| Duration::from_secs(seconds.into()))
}

pub(super) fn read_3_1_1(connect: &v3_1_1::Connect) -> Hello {
    let will = connect.will_topic().map(|topic| {
        let body = connect.will_payload().unwrap_or_default().to_vec();
        (topic.to_owned(), body, connect.will_qos() as u8, connect.will_retain(), Properties::new())
    });
    let clean = connect.clean_session();
    Hello {
        auth: false,
        clean,
        expiry: clean.then_some(Duration::ZERO),
        keep_alive: connect.keep_alive(),
        name: connect.client_id().to_owned(),
        receive_maximum: None,
        version: Version::V3,
        will,
    }
}

pub(super) fn read_5_0(connect: &v5_0::Connect) -> Hello {
    let will = connect.will_topic().map(|topic| {
        let body = connect.will_payload().unwrap_or_default().to_vec();
        (
            topic.to_owned(),
            body,
            connect.will_qos() as u8,
            connect.will_retain(),
            connect.will_props().clone(),
        )
    });
    let mut hello = Hello {
        auth: false,
        clean: connect.clean_start(),
        expiry: Some(Duration::ZERO),
        keep_alive: connect.keep_alive(),
        name: connect.client_id().to_owned(),
        receive_maximum: None,
        version: Version::V5,
        will,
    };
    for property in connect.props() {
        if let Property::SessionExpiryInterval(seconds) = property {
            hello.expiry = expiry(seconds.val());
        } else if let Property::AuthenticationMethod(_) = property {
            hello.auth = true;
        } else if let Property::ReceiveMaximum(max) = property {
            hello.receive_maximum = Some(max.val());
        }
    }
    hello
}

impl Session {
    pub(super) fn hello(&mut self, house: &mut House, hello: Hello, now: Instant) {
        self.version = hello.version;
        let nameless = hello.name.is_empty();
        if hello.auth {
            return self.refuse(ConnectReasonCode::BadAuthenticationMethod);
        }
        if nameless && !hello.clean && hello.version == Version::V3 {
            // MQTT 3.1.1 §3.1.3.1
            return self.refuse(ConnectReasonCode::ClientIdentifierNotValid);
        }
        let wrong = |topic: &str| topic.is_empty() || topic.contains(['#', '+', '\0']);
        if hello.will.as_ref().is_some_and(|(topic, ..)| wrong(topic)) {
            return self.refuse(ConnectReasonCode::TopicNameInvalid);
        }
        let name = if nameless { format!("open-{}-{}", self.slot, house.arrivals()) } else { hello.name };
        let will = hello.will.map(|(topic, body, qos, retain, properties)| {
            let mut delay = Duration::ZERO;
            for property in &properties {
                if let Property::WillDelayInterval(seconds) = property {
                    delay = Duration::from_secs(seconds.val().into());
                }
            }
            Will { delay, message: Message::new(&topic, body, qos, retain, properties, now) }
        });
        let arrival = Arrival {
            clean: hello.clean,
            expiry: hello.expiry,
            kick: self.kick.clone(),
            name: name.clone().into(),
            slot: self.slot,
            will,
        };
        let Ok((seat, present)) = house.arrive(arrival, now) else {
            return self.refuse(ConnectReasonCode::ServerUnavailable);
        };
        self.passing = hello.version == Version::V5 && hello.expiry == Some(Duration::ZERO);
        self.window = hello.receive_maximum.unwrap_or(WINDOW_MAX).min(WINDOW_MAX).into();
        let granted = hello.keep_alive.min(KEEP_ALIVE_MAX);
        let changed = granted != hello.keep_alive;
        self.keep_alive = (granted > 0).then(|| Duration::from_secs(granted.into()));
        let id = nameless.then_some(name.as_str());
        self.send(welcome(self.version, present, id, changed.then_some(granted)));
        let client = house.client(&seat);
        let (flights, receiving) =
            client.map_or_else(Default::default, |client| (client.flights.clone(), client.receiving.clone()));
        self.core.restore_qos2_publish_handled(receiving.into_iter().collect());
        self.seat = Some(seat);
        self.repeat(house, flights, now);
    }

    /// Sends again what the client has not acknowledged, in order (MQTT 5.0 §4.4).
    fn repeat(&mut self, house: &mut House, flights: Vec<Flight>, now: Instant) {
        let mut kept = Vec::with_capacity(flights.len());
        let mut waiting = Vec::new();
        for flight in flights {
            let vacant = self.core.get_receive_maximum_vacancy_for_send().is_none_or(|vacancy| vacancy > 0);
            if !vacant || kept.len() >= self.window {
                // A smaller window than last time: the rest has its turn later, as if it were new.
                waiting.extend((!flight.received).then_some(flight.parcel));
                continue;
            }
            if self.core.register_packet_id(flight.pid).is_err() {
                continue;
            }
            let packet = packets::publish(self.version, &flight.parcel, Some(flight.pid), true, now);
            if flight.received {
                // The connection learns by replay what the client has said to an earlier one, and
                // answers as it would have: with PUBREL.
                packets::send(&mut self.core, &mut Vec::new(), packet);
                let [high, low] = flight.pid.to_be_bytes();
                let events = self.core.recv(&mut Cursor::new(&[0x50, 2, high, low][..]));
                self.handle(house, events, now);
                kept.push(flight);
            } else if packets::send(&mut self.core, &mut self.out.bytes, packet) {
                kept.push(flight);
            } else {
                self.core.release_packet_id(flight.pid);
            }
        }
        if let Some(client) = self.seat.as_ref().and_then(|seat| house.client(seat)) {
            client.flights = kept;
            waiting.into_iter().rev().for_each(|parcel| client.queue.push_front(parcel));
        }
    }

    fn refuse(&mut self, reason: ConnectReasonCode) {
        self.send(refusal(self.version, reason));
        self.out.close = true;
    }
}

fn refusal(version: Version, reason: ConnectReasonCode) -> Result<Packet, MqttError> {
    Ok(match version {
        Version::V3 => {
            // 3.1.1 has few words.
            let code = if reason == ConnectReasonCode::ClientIdentifierNotValid {
                ConnectReturnCode::IdentifierRejected
            } else if reason == ConnectReasonCode::ServerUnavailable {
                ConnectReturnCode::ServerUnavailable
            } else {
                ConnectReturnCode::NotAuthorized
            };
            v3_1_1::Connack::builder().session_present(false).return_code(code).build()?.into()
        }
        Version::V5 => v5_0::Connack::builder().session_present(false).reason_code(reason).build()?.into(),
    })
}

/// CONNACK; Maximum Packet Size and Receive Maximum are added by the connection itself.
fn welcome(
    version: Version,
    present: bool,
    id: Option<&str>,
    keep_alive: Option<u16>,
) -> Result<Packet, MqttError> {
    if version == Version::V3 {
        let connack = v3_1_1::Connack::builder().session_present(present);
        return Ok(connack.return_code(ConnectReturnCode::Accepted).build()?.into());
    }
    let mut properties: Properties = vec![TopicAliasMaximum::new(ALIASES)?.into()];
    if let Some(id) = id {
        properties.push(AssignedClientIdentifier::new(id)?.into());
    }
    if let Some(keep_alive) = keep_alive {
        properties.push(ServerKeepAlive::new(keep_alive)?.into());
    }
    let connack = v5_0::Connack::builder().session_present(present).props(properties);
    Ok(connack.reason_code(ConnectReasonCode::Success).build()?.into())
}
