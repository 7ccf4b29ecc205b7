//! Packets that only the open broker sends: any QoS, any topic.

use std::time::Instant;

use mqtt_protocol_core::mqtt::{
    Connection,
    connection::Event,
    packet::{Packet, Qos, v3_1_1, v5_0},
    result_code::{MqttError, SubackReasonCode, SubackReturnCode},
    role,
};

use super::super::message::Parcel;
use crate::transport::mqtt::frames::{self, Version};

/// What a SUBSCRIBE comes to for one filter.
#[derive(Clone, Copy, Debug)]
pub(super) enum Grant {
    Granted(Qos),
    Invalid,
    TooMany,
}

/// SUBACK.
pub(super) fn suback(version: Version, pid: u16, grants: &[Grant]) -> Result<Packet, MqttError> {
    Ok(match version {
        Version::V3 => {
            let codes = grants.iter().map(|grant| match grant {
                Grant::Granted(Qos::AtMostOnce) => SubackReturnCode::SuccessMaximumQos0,
                Grant::Granted(Qos::AtLeastOnce) => SubackReturnCode::SuccessMaximumQos1,
                Grant::Granted(Qos::ExactlyOnce) => SubackReturnCode::SuccessMaximumQos2,
                Grant::Invalid | Grant::TooMany => SubackReturnCode::Failure,
            });
            v3_1_1::Suback::builder().packet_id(pid).return_codes(codes.collect()).build()?.into()
        }
        Version::V5 => {
            let codes = grants.iter().map(|grant| match grant {
                Grant::Granted(Qos::AtMostOnce) => SubackReasonCode::GrantedQos0,
                Grant::Granted(Qos::AtLeastOnce) => SubackReasonCode::GrantedQos1,
                Grant::Granted(Qos::ExactlyOnce) => SubackReasonCode::GrantedQos2,
                Grant::Invalid => SubackReasonCode::TopicFilterInvalid,
                Grant::TooMany => SubackReasonCode::QuotaExceeded,
            });
            v5_0::Suback::builder().packet_id(pid).reason_codes(codes.collect()).build()?.into()
        }
    })
}

/// PUBLISH.
pub(super) fn publish(
    version: Version,
    parcel: &Parcel,
    pid: Option<u16>,
    dup: bool,
    now: Instant,
) -> Result<Packet, MqttError> {
    let qos = match parcel.qos {
        0 => Qos::AtMostOnce,
        1 => Qos::AtLeastOnce,
        _ => Qos::ExactlyOnce,
    };
    let (topic, body) = (&*parcel.message.topic, parcel.message.body.as_slice());
    Ok(match version {
        Version::V3 => {
            let publish =
                v3_1_1::Publish::builder().topic_name(topic)?.qos(qos).dup(dup).retain(parcel.retain);
            publish.packet_id(pid).payload(body).build()?.into()
        }
        Version::V5 => {
            let publish = v5_0::Publish::builder().topic_name(topic)?.qos(qos).dup(dup).retain(parcel.retain);
            publish.packet_id(pid).props(parcel.properties(now)).payload(body).build()?.into()
        }
    })
}

/// Sends a packet through the connection; says whether it took it.
pub(super) fn send(
    core: &mut Connection<role::Server>,
    bytes: &mut Vec<u8>,
    packet: Result<Packet, MqttError>,
) -> bool {
    let events = match packet {
        Ok(packet) => core.send(packet),
        Err(error) => vec![Event::NotifyError(error)],
    };
    let mut sent = false;
    for event in events {
        if let Event::RequestSendPacket { packet, .. } = event {
            frames::append(bytes, &packet);
            sent = true;
        } else if let Event::NotifyError(error) = event {
            tracing::debug!(?error, "open broker: a packet could not be sent");
        }
    }
    sent
}

/// A packet id that nothing in flight has; they go round.
pub(super) fn packet_id(core: &mut Connection<role::Server>, next: &mut u16) -> Option<u16> {
    for _ in 0..u16::MAX {
        let pid = *next;
        *next = next.checked_add(1).unwrap_or(1);
        if core.register_packet_id(pid).is_ok() {
            return Some(pid);
        }
    }
    None
}
