//! The two client libraries behind one face.

use std::{net::SocketAddr, time::Duration};

use rumqttc::{self as v4, v5};
use tokio::{sync::mpsc::UnboundedSender, task::JoinHandle};

use super::{Heard, Push, Version, fresh_client_id, sent};
use crate::gateway::Device;

/// Longer than any test: pings would be writes in a test of idleness.
const KEEP_ALIVE: Duration = Duration::from_secs(120);
const QUEUE: usize = 256;

#[derive(Debug)]
pub(super) enum Client {
    V4(v4::AsyncClient),
    V5(v5::AsyncClient),
}

impl Client {
    pub(super) fn connect(
        address: SocketAddr,
        device: &Device,
        version: Version,
        clean: bool,
        speak: UnboundedSender<Heard>,
    ) -> (Self, JoinHandle<()>) {
        let (host, port) = (address.ip().to_string(), address.port());
        match version {
            Version::V4 => {
                let mut options = v4::MqttOptions::new(fresh_client_id(), host, port);
                options.set_credentials(&device.id, &device.secret);
                options.set_clean_session(clean).set_keep_alive(KEEP_ALIVE).set_manual_acks(true);
                let (client, connection) = v4::AsyncClient::new(options, QUEUE);
                (Self::V4(client), tokio::spawn(listen_v4(connection, speak)))
            }
            Version::V5 => {
                let mut options = v5::MqttOptions::new(fresh_client_id(), host, port);
                options.set_credentials(&device.id, &device.secret);
                options.set_clean_start(clean).set_keep_alive(KEEP_ALIVE).set_manual_acks(true);
                options.set_session_expiry_interval(Some(if clean { 0 } else { u32::MAX }));
                let (client, connection) = v5::AsyncClient::new(options, QUEUE);
                (Self::V5(client), tokio::spawn(listen_v5(connection, speak)))
            }
        }
    }

    pub(super) async fn ack(&self, push: &Push) {
        match self {
            Self::V4(client) => {
                let mut publish = v4::Publish::new(&push.topic, v4::QoS::AtLeastOnce, Vec::new());
                publish.pkid = push.packet_id;
                sent(client.ack(&publish)).await;
            }
            Self::V5(client) => {
                let qos = v5::mqttbytes::QoS::AtLeastOnce;
                let mut publish = v5::mqttbytes::v5::Publish::new(&push.topic, qos, Vec::new(), None);
                publish.pkid = push.packet_id;
                sent(client.ack(&publish)).await;
            }
        }
    }

    pub(super) async fn disconnect(&self) {
        match self {
            Self::V4(client) => sent(client.disconnect()).await,
            Self::V5(client) => sent(client.disconnect()).await,
        }
    }

    pub(super) async fn publish(&self, topic: &str, payload: &[u8]) {
        let payload = payload.to_vec();
        match self {
            Self::V4(client) => sent(client.publish(topic, v4::QoS::AtLeastOnce, false, payload)).await,
            Self::V5(client) => {
                sent(client.publish(topic, v5::mqttbytes::QoS::AtLeastOnce, false, payload)).await;
            }
        }
    }

    pub(super) async fn subscribe(&self, filter: &str) {
        match self {
            Self::V4(client) => sent(client.subscribe(filter, v4::QoS::AtLeastOnce)).await,
            Self::V5(client) => sent(client.subscribe(filter, v5::mqttbytes::QoS::AtLeastOnce)).await,
        }
    }
}

async fn listen_v4(mut connection: v4::EventLoop, speak: UnboundedSender<Heard>) {
    use v4::{ConnectionError, Event, Packet, SubscribeReasonCode};
    loop {
        let heard = match connection.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(connack))) => {
                Heard::Connected { server_keep_alive: None, session_present: connack.session_present }
            }
            Ok(Event::Incoming(Packet::PubAck(_))) => Heard::PubAck("Success".into()),
            Ok(Event::Incoming(Packet::Publish(publish))) => Heard::Push(Push {
                content_type: None,
                dup: publish.dup,
                expiry_s: None,
                packet_id: publish.pkid,
                payload: publish.payload,
                properties: Vec::new(),
                topic: publish.topic,
            }),
            Ok(Event::Incoming(Packet::SubAck(suback))) => {
                let granted = suback.return_codes.into_iter().map(|code| match code {
                    SubscribeReasonCode::Success(qos) => Ok(qos as u8),
                    SubscribeReasonCode::Failure => Err("Failure".into()),
                });
                Heard::SubAck(granted.collect())
            }
            Ok(_) => continue,
            Err(ConnectionError::ConnectionRefused(code)) => Heard::Refused(format!("{code:?}")),
            Err(error) => Heard::Lost(format!("{error:?}")),
        };
        // Polling on after the end would connect again, behind the back of the test.
        let ended = matches!(heard, Heard::Lost(_) | Heard::Refused(_));
        if speak.send(heard).is_err() || ended {
            return;
        }
    }
}

async fn listen_v5(mut connection: v5::EventLoop, speak: UnboundedSender<Heard>) {
    use v5::{
        ConnectionError, Event,
        mqttbytes::v5::{Packet, SubscribeReasonCode},
    };
    loop {
        let heard = match connection.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(connack))) => Heard::Connected {
                server_keep_alive: connack.properties.and_then(|properties| properties.server_keep_alive),
                session_present: connack.session_present,
            },
            Ok(Event::Incoming(Packet::PubAck(puback))) => Heard::PubAck(format!("{:?}", puback.reason)),
            Ok(Event::Incoming(Packet::Publish(publish))) => {
                let properties = publish.properties.unwrap_or_default();
                Heard::Push(Push {
                    content_type: properties.content_type,
                    dup: publish.dup,
                    expiry_s: properties.message_expiry_interval,
                    packet_id: publish.pkid,
                    payload: publish.payload,
                    properties: properties.user_properties,
                    topic: String::from_utf8_lossy(&publish.topic).into_owned(),
                })
            }
            Ok(Event::Incoming(Packet::SubAck(suback))) => {
                let granted = suback.return_codes.into_iter().map(|code| {
                    if let SubscribeReasonCode::Success(qos) = code {
                        Ok(qos as u8)
                    } else {
                        Err(format!("{code:?}"))
                    }
                });
                Heard::SubAck(granted.collect())
            }
            Ok(_) => continue,
            Err(ConnectionError::ConnectionRefused(code)) => Heard::Refused(format!("{code:?}")),
            Err(error) => Heard::Lost(format!("{error:?}")),
        };
        let ended = matches!(heard, Heard::Lost(_) | Heard::Refused(_));
        if speak.send(heard).is_err() || ended {
            return;
        }
    }
}
