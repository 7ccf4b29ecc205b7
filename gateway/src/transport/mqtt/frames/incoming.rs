//! What a client sends, read into one vocabulary for both versions.

use mqtt_protocol_core::mqtt::{
    packet::{GenericPacket, Property, Qos, SubEntry, v3_1_1, v5_0},
    result_code::DisconnectReasonCode,
};

use super::Version;

/// A packet from a client.
#[derive(Debug)]
pub(in crate::transport::mqtt) enum Incoming {
    Connect(Box<Hello>),
    /// `keep`: 5.0 Session Expiry Interval was not set to 0. `will`: the Will is to be published.
    Disconnect {
        keep: bool,
        will: bool,
    },
    Pingreq,
    Puback(u16),
    Publish(Publication),
    Pubrel(u16),
    Subscribe {
        pid: u16,
        filters: Vec<(Box<str>, u8)>,
        identifier: bool,
    },
    /// A packet that only servers send, or that needs what was never agreed on.
    Unexpected,
    Unsubscribe {
        pid: u16,
        filters: Vec<Box<str>>,
    },
}

/// CONNECT.
#[derive(Debug)]
pub(in crate::transport::mqtt) struct Hello {
    /// 5.0: the client wants an authentication exchange.
    pub(in crate::transport::mqtt) auth: bool,
    pub(in crate::transport::mqtt) clean: bool,
    pub(in crate::transport::mqtt) keep_alive: u16,
    pub(in crate::transport::mqtt) maximum_packet_size: Option<u32>,
    pub(in crate::transport::mqtt) nameless: bool,
    pub(in crate::transport::mqtt) password: Option<Vec<u8>>,
    /// `None` on 3.1.1.
    pub(in crate::transport::mqtt) receive_maximum: Option<u16>,
    /// 0 on 3.1.1.
    pub(in crate::transport::mqtt) session_expiry: u32,
    pub(in crate::transport::mqtt) user: Option<String>,
    pub(in crate::transport::mqtt) version: Version,
    pub(in crate::transport::mqtt) will: Option<Will>,
}

/// The Will of a CONNECT.
#[derive(Debug)]
pub(in crate::transport::mqtt) struct Will {
    pub(in crate::transport::mqtt) body: Vec<u8>,
    pub(in crate::transport::mqtt) qos: Qos,
    pub(in crate::transport::mqtt) retain: bool,
    pub(in crate::transport::mqtt) topic: String,
}

/// PUBLISH.
#[derive(Debug)]
pub(in crate::transport::mqtt) struct Publication {
    pub(in crate::transport::mqtt) body: Vec<u8>,
    pub(in crate::transport::mqtt) correlation: Option<Vec<u8>>,
    /// 0 at QoS 0.
    pub(in crate::transport::mqtt) pid: u16,
    pub(in crate::transport::mqtt) qos: Qos,
    pub(in crate::transport::mqtt) response_topic: Option<String>,
    pub(in crate::transport::mqtt) retain: bool,
    /// 5.0: only servers may send one.
    pub(in crate::transport::mqtt) subscription_identifier: bool,
    pub(in crate::transport::mqtt) topic: String,
}

fn filters(entries: &[SubEntry]) -> Vec<(Box<str>, u8)> {
    entries.iter().map(|entry| (entry.topic_filter().into(), entry.sub_opts().qos() as u8)).collect()
}

impl From<GenericPacket<u16>> for Incoming {
    fn from(packet: GenericPacket<u16>) -> Self {
        match packet {
            GenericPacket::V3_1_1Connect(connect) => Self::Connect(Box::new(hello_3_1_1(&connect))),
            GenericPacket::V5_0Connect(connect) => Self::Connect(Box::new(hello_5_0(&connect))),
            GenericPacket::V3_1_1Publish(publish) => Self::Publish(Publication {
                body: publish.payload().as_slice().to_vec(),
                correlation: None,
                pid: publish.packet_id().unwrap_or_default(),
                qos: publish.qos(),
                response_topic: None,
                retain: publish.retain(),
                subscription_identifier: false,
                topic: publish.topic_name().to_owned(),
            }),
            GenericPacket::V5_0Publish(publish) => Self::Publish(publication_5_0(&publish)),
            GenericPacket::V3_1_1Puback(ack) => Self::Puback(ack.packet_id()),
            GenericPacket::V5_0Puback(ack) => Self::Puback(ack.packet_id()),
            GenericPacket::V3_1_1Pubrel(release) => Self::Pubrel(release.packet_id()),
            GenericPacket::V5_0Pubrel(release) => Self::Pubrel(release.packet_id()),
            GenericPacket::V3_1_1Subscribe(subscribe) => Self::Subscribe {
                pid: subscribe.packet_id(),
                filters: filters(subscribe.entries()),
                identifier: false,
            },
            GenericPacket::V5_0Subscribe(subscribe) => Self::Subscribe {
                pid: subscribe.packet_id(),
                filters: filters(subscribe.entries()),
                identifier: subscribe
                    .props()
                    .iter()
                    .any(|property| matches!(property, Property::SubscriptionIdentifier(_))),
            },
            GenericPacket::V3_1_1Unsubscribe(unsubscribe) => Self::Unsubscribe {
                pid: unsubscribe.packet_id(),
                filters: unsubscribe.entries().iter().map(|filter| filter.as_str().into()).collect(),
            },
            GenericPacket::V5_0Unsubscribe(unsubscribe) => Self::Unsubscribe {
                pid: unsubscribe.packet_id(),
                filters: unsubscribe.entries().iter().map(|filter| filter.as_str().into()).collect(),
            },
            GenericPacket::V3_1_1Pingreq(_) | GenericPacket::V5_0Pingreq(_) => Self::Pingreq,
            GenericPacket::V3_1_1Disconnect(_) => Self::Disconnect { keep: true, will: false },
            GenericPacket::V5_0Disconnect(disconnect) => Self::Disconnect {
                keep: !disconnect.props().iter().flatten().any(
                    |property| matches!(property, Property::SessionExpiryInterval(expiry) if expiry.val() == 0),
                ),
                will: disconnect
                    .reason_code()
                    .is_some_and(|reason| reason != DisconnectReasonCode::NormalDisconnection),
            },
            GenericPacket::V3_1_1Connack(_)
            | GenericPacket::V5_0Connack(_)
            | GenericPacket::V3_1_1Pubrec(_)
            | GenericPacket::V5_0Pubrec(_)
            | GenericPacket::V3_1_1Pubcomp(_)
            | GenericPacket::V5_0Pubcomp(_)
            | GenericPacket::V3_1_1Suback(_)
            | GenericPacket::V5_0Suback(_)
            | GenericPacket::V3_1_1Unsuback(_)
            | GenericPacket::V5_0Unsuback(_)
            | GenericPacket::V3_1_1Pingresp(_)
            | GenericPacket::V5_0Pingresp(_)
            | GenericPacket::V5_0Auth(_) => Self::Unexpected,
        }
    }
}

fn hello_3_1_1(connect: &v3_1_1::Connect) -> Hello {
    let will = connect.will_topic().map(|topic| Will {
        body: connect.will_payload().unwrap_or_default().to_vec(),
        qos: connect.will_qos(),
        retain: connect.will_retain(),
        topic: topic.to_owned(),
    });
    Hello {
        auth: false,
        clean: connect.clean_session(),
        keep_alive: connect.keep_alive(),
        maximum_packet_size: None,
        nameless: connect.client_id().is_empty(),
        password: connect.password().map(<[u8]>::to_vec),
        receive_maximum: None,
        session_expiry: 0,
        user: connect.user_name().map(str::to_owned),
        version: Version::V3,
        will,
    }
}

fn hello_5_0(connect: &v5_0::Connect) -> Hello {
    let will = connect.will_topic().map(|topic| Will {
        body: connect.will_payload().unwrap_or_default().to_vec(),
        qos: connect.will_qos(),
        retain: connect.will_retain(),
        topic: topic.to_owned(),
    });
    let mut hello = Hello {
        auth: false,
        clean: connect.clean_start(),
        keep_alive: connect.keep_alive(),
        maximum_packet_size: None,
        nameless: connect.client_id().is_empty(),
        password: connect.password().map(<[u8]>::to_vec),
        // What an absent Receive Maximum means (MQTT 5.0 §3.1.2.11.3).
        receive_maximum: Some(u16::MAX),
        session_expiry: 0,
        user: connect.user_name().map(str::to_owned),
        version: Version::V5,
        will,
    };
    for property in connect.props() {
        if let Property::ReceiveMaximum(max) = property {
            hello.receive_maximum = Some(max.val());
        } else if let Property::MaximumPacketSize(max) = property {
            hello.maximum_packet_size = Some(max.val());
        } else if let Property::SessionExpiryInterval(expiry) = property {
            hello.session_expiry = expiry.val();
        } else if let Property::AuthenticationMethod(_) = property {
            hello.auth = true;
        }
    }
    hello
}

fn publication_5_0(publish: &v5_0::Publish) -> Publication {
    let mut publication = Publication {
        body: publish.payload().as_slice().to_vec(),
        correlation: None,
        pid: publish.packet_id().unwrap_or_default(),
        qos: publish.qos(),
        response_topic: None,
        retain: publish.retain(),
        subscription_identifier: false,
        topic: publish.topic_name().to_owned(),
    };
    for property in publish.props() {
        if let Property::ResponseTopic(topic) = property {
            publication.response_topic = Some(topic.val().to_owned());
        } else if let Property::CorrelationData(data) = property {
            publication.correlation = Some(data.val().to_vec());
        } else if let Property::SubscriptionIdentifier(_) = property {
            publication.subscription_identifier = true;
        }
    }
    publication
}
