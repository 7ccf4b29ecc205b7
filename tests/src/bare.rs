//! A phone of few words: MQTT 5.0 on a bare socket, so that a test sees every packet, and when it went by.

use bytes::BytesMut;
use rumqttc::v5::mqttbytes::{
    Error, QoS,
    v5::{Connect, ConnectProperties, Filter, Login, Packet, PingReq, PubAck, Subscribe},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    gateway::{Device, Gateway},
    wait::within,
};

/// A connection that does nothing by itself: it neither pings nor acknowledges.
#[derive(Debug)]
pub struct BarePhone {
    /// What the gateway wants to be heard within, in seconds.
    pub keep_alive_s: u16,
    read: BytesMut,
    stream: TcpStream,
}

impl BarePhone {
    /// Connects and subscribes to all of its inbox.
    pub async fn connect(gateway: &Gateway, device: &Device) -> Self {
        let stream = TcpStream::connect(gateway.mqtt).await.expect("the gateway accepts");
        stream.set_nodelay(true).expect("a socket");
        let mut phone = Self { keep_alive_s: 0, read: BytesMut::new(), stream };
        let connect = Connect {
            keep_alive: 60,
            client_id: device.id.clone(),
            clean_start: true,
            properties: Some(ConnectProperties {
                session_expiry_interval: Some(u32::MAX),
                ..ConnectProperties::new()
            }),
        };
        let login = Login::new(&device.id, &device.secret);
        phone.send(Packet::Connect(connect, None, Some(login))).await;
        let Packet::ConnAck(answer) = phone.expect("CONNACK").await else { panic!("not a CONNACK") };
        phone.keep_alive_s =
            answer.properties.and_then(|it| it.server_keep_alive).expect("a Server Keep Alive");
        let filter = Filter::new(format!("up/{}/inbox/#", device.id), QoS::AtLeastOnce);
        phone.send(Packet::Subscribe(Subscribe { pkid: 1, filters: vec![filter], properties: None })).await;
        let answer = phone.expect("SUBACK").await;
        assert!(matches!(answer, Packet::SubAck(_)), "{answer:?}");
        phone
    }

    /// Writes a packet, in one go.
    pub async fn send(&mut self, packet: Packet) {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, None).expect("a packet can be written");
        self.stream.write_all(&bytes).await.expect("the gateway reads");
    }

    /// PINGREQ
    pub async fn ping(&mut self) {
        self.send(Packet::PingReq(PingReq)).await;
    }

    /// PUBACK
    pub async fn ack(&mut self, packet_id: u16) {
        self.send(Packet::PubAck(PubAck::new(packet_id, None))).await;
    }

    /// The next packet, whenever it comes; `None` when the connection has ended. May be dropped.
    pub async fn next(&mut self) -> Option<Packet> {
        loop {
            match Packet::read(&mut self.read, None) {
                Ok(packet) => return Some(packet),
                Err(Error::InsufficientBytes(_)) => {}
                Err(error) => panic!("the gateway sends what is no packet: {error}"),
            }
            let read = self.stream.read_buf(&mut self.read).await.ok();
            read.filter(|read| *read > 0)?;
        }
    }

    /// The next packet, in time.
    pub async fn expect(&mut self, what: &str) -> Packet {
        within(what, self.next()).await.unwrap_or_else(|| panic!("{what}: the connection has ended"))
    }
}
