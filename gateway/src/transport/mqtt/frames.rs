//! One vocabulary over the packets of both versions: what comes in is read into [`Incoming`], what
//! goes out is built for the version that the client speaks.

mod incoming;

use mqtt_protocol_core::mqtt::{
    packet::{
        AssignedClientIdentifier, ContentType, CorrelationData, GenericPacketTrait as _, MaximumQos,
        MessageExpiryInterval, Packet, Properties, Qos, ReceiveMaximum, RetainAvailable, ServerKeepAlive,
        SessionExpiryInterval, SharedSubscriptionAvailable, SubscriptionIdentifierAvailable,
        TopicAliasMaximum, UserProperty, WildcardSubscriptionAvailable, v3_1_1, v5_0,
    },
    result_code::{
        ConnectReasonCode, ConnectReturnCode, DisconnectReasonCode, MqttError, PubackReasonCode,
        PubcompReasonCode, PubrecReasonCode, SubackReasonCode, SubackReturnCode, UnsubackReasonCode,
    },
};

pub(super) use self::incoming::{Hello, Incoming, Publication, Will};
use super::{
    config::RECEIVE_MAX,
    wire::{self, Answer, CONTENT_TYPE, FilterRefusal},
};
use crate::transport::Item;

/// The protocol versions that are spoken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Version {
    /// MQTT 3.1.1
    V3,
    /// MQTT 5.0
    V5,
}

/// Why a CONNECT is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Refusal {
    BadAuthenticationMethod,
    NotAuthorized,
    QosNotSupported,
    RetainNotSupported,
    Throttled,
    Unavailable,
}

/// A CONNACK that refuses.
pub(super) fn refusal(version: Version, refusal: Refusal) -> Result<Packet, MqttError> {
    Ok(match version {
        Version::V3 => {
            let code = match refusal {
                Refusal::Throttled | Refusal::Unavailable => ConnectReturnCode::ServerUnavailable,
                Refusal::BadAuthenticationMethod
                | Refusal::NotAuthorized
                | Refusal::QosNotSupported
                | Refusal::RetainNotSupported => ConnectReturnCode::NotAuthorized,
            };
            v3_1_1::Connack::builder().session_present(false).return_code(code).build()?.into()
        }
        Version::V5 => {
            let code = match refusal {
                Refusal::BadAuthenticationMethod => ConnectReasonCode::BadAuthenticationMethod,
                Refusal::NotAuthorized => ConnectReasonCode::NotAuthorized,
                Refusal::QosNotSupported => ConnectReasonCode::QosNotSupported,
                Refusal::RetainNotSupported => ConnectReasonCode::RetainNotSupported,
                Refusal::Throttled => ConnectReasonCode::QuotaExceeded,
                Refusal::Unavailable => ConnectReasonCode::ServerUnavailable,
            };
            v5_0::Connack::builder().session_present(false).reason_code(code).build()?.into()
        }
    })
}

/// What a 5.0 client is told of its session in CONNACK.
pub(super) struct Terms<'a> {
    /// For a client that came without a client id.
    pub(super) client_id: Option<&'a str>,
    /// When it is not what the client asked for.
    pub(super) keep_alive: Option<u16>,
    pub(super) present: bool,
    /// When it is not what the client asked for.
    pub(super) session_expiry: Option<u32>,
}

/// A CONNACK that welcomes. Maximum Packet Size is added by the connection itself.
pub(super) fn welcome(version: Version, terms: &Terms<'_>) -> Result<Packet, MqttError> {
    if version == Version::V3 {
        let connack = v3_1_1::Connack::builder().session_present(terms.present);
        return Ok(connack.return_code(ConnectReturnCode::Accepted).build()?.into());
    }
    let mut properties: Properties = vec![
        MaximumQos::new(1)?.into(),
        ReceiveMaximum::new(RECEIVE_MAX)?.into(),
        RetainAvailable::new(0)?.into(),
        SharedSubscriptionAvailable::new(0)?.into(),
        SubscriptionIdentifierAvailable::new(0)?.into(),
        TopicAliasMaximum::new(0)?.into(),
        WildcardSubscriptionAvailable::new(1)?.into(),
    ];
    if let Some(client_id) = terms.client_id {
        properties.push(AssignedClientIdentifier::new(client_id)?.into());
    }
    if let Some(keep_alive) = terms.keep_alive {
        properties.push(ServerKeepAlive::new(keep_alive)?.into());
    }
    if let Some(expiry) = terms.session_expiry {
        properties.push(SessionExpiryInterval::new(expiry)?.into());
    }
    let connack = v5_0::Connack::builder().session_present(terms.present).props(properties);
    Ok(connack.reason_code(ConnectReasonCode::Success).build()?.into())
}

/// PUBACK.
pub(super) fn puback(version: Version, pid: u16, reason: PubackReasonCode) -> Result<Packet, MqttError> {
    Ok(match version {
        Version::V3 => v3_1_1::Puback::builder().packet_id(pid).build()?.into(),
        // Success is what an absent reason code means.
        Version::V5 if reason == PubackReasonCode::Success => {
            v5_0::Puback::builder().packet_id(pid).build()?.into()
        }
        Version::V5 => v5_0::Puback::builder().packet_id(pid).reason_code(reason).build()?.into(),
    })
}

/// PUBREC; only 3.1.1 clients may publish at QoS 2, but a 5.0 one is answered too.
pub(super) fn pubrec(version: Version, pid: u16) -> Result<Packet, MqttError> {
    Ok(match version {
        Version::V3 => v3_1_1::Pubrec::builder().packet_id(pid).build()?.into(),
        Version::V5 => {
            v5_0::Pubrec::builder().packet_id(pid).reason_code(PubrecReasonCode::Success).build()?.into()
        }
    })
}

/// PUBCOMP.
pub(super) fn pubcomp(version: Version, pid: u16) -> Result<Packet, MqttError> {
    Ok(match version {
        Version::V3 => v3_1_1::Pubcomp::builder().packet_id(pid).build()?.into(),
        Version::V5 => v5_0::Pubcomp::builder()
            .packet_id(pid)
            .reason_code(PubcompReasonCode::PacketIdentifierNotFound)
            .build()?
            .into(),
    })
}

/// PINGRESP.
pub(super) fn pingresp(version: Version) -> Result<Packet, MqttError> {
    Ok(match version {
        Version::V3 => v3_1_1::Pingresp::builder().build()?.into(),
        Version::V5 => v5_0::Pingresp::builder().build()?.into(),
    })
}

/// What a SUBSCRIBE comes to for one filter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Grant {
    /// The disk did not take it.
    Failed,
    Granted(u8),
    Refused(FilterRefusal),
    /// The device has as many as it may have.
    TooMany,
}

/// SUBACK.
pub(super) fn suback(version: Version, pid: u16, grants: &[Grant]) -> Result<Packet, MqttError> {
    Ok(match version {
        Version::V3 => {
            let codes = grants.iter().map(|grant| match grant {
                Grant::Granted(0) => SubackReturnCode::SuccessMaximumQos0,
                Grant::Granted(_) => SubackReturnCode::SuccessMaximumQos1,
                Grant::Failed | Grant::Refused(_) | Grant::TooMany => SubackReturnCode::Failure,
            });
            v3_1_1::Suback::builder().packet_id(pid).return_codes(codes.collect()).build()?.into()
        }
        Version::V5 => {
            let codes = grants.iter().map(|grant| match grant {
                Grant::Failed => SubackReasonCode::ImplementationSpecificError,
                Grant::Granted(0) => SubackReasonCode::GrantedQos0,
                Grant::Granted(_) => SubackReasonCode::GrantedQos1,
                Grant::Refused(FilterRefusal::Foreign) => SubackReasonCode::NotAuthorized,
                Grant::Refused(FilterRefusal::Invalid) => SubackReasonCode::TopicFilterInvalid,
                Grant::Refused(FilterRefusal::Shared) => SubackReasonCode::SharedSubscriptionsNotSupported,
                Grant::TooMany => SubackReasonCode::QuotaExceeded,
            });
            v5_0::Suback::builder().packet_id(pid).reason_codes(codes.collect()).build()?.into()
        }
    })
}

/// UNSUBACK; `known` says for each filter whether there was such a subscription, `None` that the
/// disk did not take the change.
pub(super) fn unsuback(version: Version, pid: u16, known: &[Option<bool>]) -> Result<Packet, MqttError> {
    Ok(match version {
        Version::V3 => v3_1_1::Unsuback::builder().packet_id(pid).build()?.into(),
        Version::V5 => {
            let codes = known.iter().map(|known| match known {
                None => UnsubackReasonCode::ImplementationSpecificError,
                Some(false) => UnsubackReasonCode::NoSubscriptionExisted,
                Some(true) => UnsubackReasonCode::Success,
            });
            v5_0::Unsuback::builder().packet_id(pid).reason_codes(codes.collect()).build()?.into()
        }
    })
}

/// Appends a packet as it goes over the wire.
pub(super) fn append(bytes: &mut Vec<u8>, packet: &Packet) {
    let begin = bytes.len();
    for slice in packet.to_buffers() {
        bytes.extend_from_slice(&slice);
    }
    // MQTT 5.0 §3.14.2.2 allows to leave empty properties out, but some clients wait for them.
    if let [0xe0, 1, reason] = bytes[begin..] {
        bytes.truncate(begin);
        bytes.extend([0xe0, 2, reason, 0]);
    }
}

/// DISCONNECT: 3.1.1 has none from the server.
pub(super) fn disconnect(
    version: Version,
    reason: DisconnectReasonCode,
) -> Result<Option<Packet>, MqttError> {
    Ok(match version {
        Version::V3 => None,
        Version::V5 => Some(v5_0::Disconnect::builder().reason_code(reason).build()?.into()),
    })
}

/// PUBLISH with a push; at QoS 1 with a packet id, else at QoS 0.
pub(super) fn push(version: Version, item: &Item, pid: Option<u16>) -> Result<Packet, MqttError> {
    let qos = if pid.is_some() { Qos::AtLeastOnce } else { Qos::AtMostOnce };
    let dup = pid.is_some() && item.redelivery;
    let body: &[u8] = &item.message.body;
    if version == Version::V3 {
        let publish = v3_1_1::Publish::builder().topic_name(wire::push_topic(item))?.qos(qos).dup(dup);
        let publish = match item.message.coding.aesgcm_prefix() {
            Some(prefix) => publish.payload([prefix.as_bytes(), body].concat()),
            None => publish.payload(body),
        };
        return Ok(publish.packet_id(pid).build()?.into());
    }
    let mut properties: Properties =
        vec![MessageExpiryInterval::new(item.remaining_s)?.into(), ContentType::new(CONTENT_TYPE)?.into()];
    for (name, value) in wire::user_properties(item) {
        properties.push(UserProperty::new(name, value)?.into());
    }
    let publish = v5_0::Publish::builder().topic_name(wire::push_topic(item))?.qos(qos).dup(dup);
    Ok(publish.packet_id(pid).props(properties).payload(body).build()?.into())
}

/// PUBLISH with an answer.
pub(super) fn answer(version: Version, answer: &Answer, pid: Option<u16>) -> Result<Packet, MqttError> {
    let qos = if pid.is_some() { Qos::AtLeastOnce } else { Qos::AtMostOnce };
    let body = answer.body.as_slice();
    if version == Version::V3 {
        let publish = v3_1_1::Publish::builder().topic_name(answer.topic.as_str())?.qos(qos);
        return Ok(publish.packet_id(pid).payload(body).build()?.into());
    }
    let mut properties: Properties = vec![ContentType::new("application/json")?.into()];
    if let Some(data) = &answer.correlation {
        properties.push(CorrelationData::new(data.clone())?.into());
    }
    let publish = v5_0::Publish::builder().topic_name(answer.topic.as_str())?.qos(qos);
    Ok(publish.packet_id(pid).props(properties).payload(body).build()?.into())
}

/// The answer to a CONNECT of a version that is not spoken (MQTT 3.1.1 §3.1.2.2, 5.0 §3.1.2.2), in
/// the shape that a client of that level is likeliest to understand.
pub(super) fn unsupported_version(level: u8) -> &'static [u8] {
    if level > 5 { &[0x20, 3, 0, 0x84, 0] } else { &[0x20, 2, 0, 1] }
}
