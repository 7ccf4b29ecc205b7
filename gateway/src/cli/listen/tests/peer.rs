//! The gateway's side of one connection, packet by packet.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
};

use bytes::BytesMut;
use rumqttc::v5::mqttbytes::{
    Error, QoS,
    v5::{
        ConnAck, ConnectReturnCode, Packet, PubAck, Publish, PublishProperties, SubAck, SubscribeReasonCode,
    },
};

/// A connection that was accepted. Everything is waited for, but not for ever.
pub(super) struct Peer {
    buffer: BytesMut,
    device: String,
    /// What the client asked for, in seconds.
    pub(super) keep_alive: u16,
    stream: TcpStream,
}

impl Peer {
    /// Takes the next connection and lets it in, if it logs in as told and wants a durable session.
    pub(super) fn accept(listener: &TcpListener, device: &str, secret: &str) -> Self {
        let mut peer = Self::connected(listener, device);
        let Packet::Connect(connect, None, Some(login)) = peer.read() else { panic!("expected CONNECT") };
        assert_eq!((login.username.as_str(), login.password.as_str()), (device, secret));
        assert!(!connect.clean_start);
        assert_eq!(connect.properties.unwrap().session_expiry_interval, Some(u32::MAX));
        peer.keep_alive = connect.keep_alive;
        peer.answer(ConnectReturnCode::Success);
        peer
    }

    /// Takes the next connection and turns it away.
    pub(super) fn refuse(listener: &TcpListener) {
        let mut peer = Self::connected(listener, "");
        let Packet::Connect(..) = peer.read() else { panic!("expected CONNECT") };
        peer.answer(ConnectReturnCode::NotAuthorized);
    }

    /// Answers subscription and registration.
    pub(super) fn register(&mut self, endpoint: &str) {
        let Packet::Subscribe(subscribe) = self.read() else { panic!("expected SUBSCRIBE") };
        assert_eq!(subscribe.filters[0].path, format!("up/{}/inbox/#", self.device));
        assert_eq!(subscribe.filters[0].qos, QoS::AtLeastOnce);
        let return_codes = vec![SubscribeReasonCode::Success(QoS::AtLeastOnce)];
        self.write(&Packet::SubAck(SubAck { pkid: subscribe.pkid, return_codes, properties: None }));
        let Packet::Publish(register) = self.read() else { panic!("expected PUBLISH") };
        assert_eq!(register.topic, format!("up/{}/outbox/register", self.device));
        let body: serde_json::Value = serde_json::from_slice(&register.payload).unwrap();
        assert_eq!(body["token"], "listen");
        self.write(&Packet::PubAck(PubAck::new(register.pkid, None)));
        let answer = serde_json::json!({ "token": "listen", "channel": "chan", "endpoint": endpoint });
        self.send("endpoint", &answer.to_string());
    }

    /// Sends a push that was accepted 25 ms before the clock of the tests.
    pub(super) fn push(&mut self, pkid: u16, body: &str, id: &str) {
        let user = [("message-id", id), ("accepted-at", "1799999999975")];
        let properties = PublishProperties {
            user_properties: user.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            ..PublishProperties::default()
        };
        let topic = format!("up/{}/inbox/push/chan", self.device);
        let mut publish = Publish::new(topic, QoS::AtLeastOnce, body.to_owned(), Some(properties));
        publish.pkid = pkid;
        self.write(&Packet::Publish(publish));
    }

    /// Sends the hint that nobody has to understand.
    pub(super) fn plan(&mut self) {
        self.send("plan", r#"{"keep_alive_s":900,"profile":"balanced"}"#);
    }

    /// Sends a message to the inbox at QoS 0, so that no acknowledgement comes between others.
    pub(super) fn send(&mut self, kind: &str, body: &str) {
        let topic = format!("up/{}/inbox/{kind}", self.device);
        self.write(&Packet::Publish(Publish::new(topic, QoS::AtMostOnce, body.to_owned(), None)));
    }

    pub(super) fn expect_ack(&mut self, pkid: u16) {
        let Packet::PubAck(ack) = self.read() else { panic!("expected PUBACK") };
        assert_eq!(ack.pkid, pkid);
    }

    /// DISCONNECT with reason 0, which may be left out; the codec insists on it. Then the
    /// connection is closed, as the client expects.
    pub(super) fn expect_disconnect(mut self) {
        while self.buffer.len() < 2 {
            assert!(self.more(), "expected DISCONNECT before the end");
        }
        assert_eq!(self.buffer[0], 0xe0, "{:?}", self.buffer);
        assert!(self.buffer[1] == 0 || self.buffer[2] == 0, "{:?}", self.buffer);
    }

    /// The connection ends, and nothing was acknowledged before.
    pub(super) fn expect_end(mut self) {
        while let Some(packet) = self.next() {
            assert!(!matches!(packet, Packet::PubAck(_)), "{packet:?}");
        }
    }

    fn connected(listener: &TcpListener, device: &str) -> Self {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(super::PATIENCE)).unwrap();
        Self { buffer: BytesMut::new(), device: device.to_owned(), keep_alive: 0, stream }
    }

    fn answer(&mut self, code: ConnectReturnCode) {
        self.write(&Packet::ConnAck(ConnAck { session_present: false, code, properties: None }));
    }

    fn read(&mut self) -> Packet {
        self.next().expect("a packet before the end")
    }

    /// `None` at the end of the connection.
    fn next(&mut self) -> Option<Packet> {
        loop {
            match Packet::read(&mut self.buffer, None) {
                Ok(packet) => return Some(packet),
                Err(Error::InsufficientBytes(_)) => {}
                Err(error) => panic!("{error}"),
            }
            if !self.more() {
                return None;
            }
        }
    }

    /// Reads on; `false` at the end of the connection.
    fn more(&mut self) -> bool {
        let mut chunk = [0; 4096];
        match self.stream.read(&mut chunk) {
            Ok(0) => false,
            Ok(length) => {
                self.buffer.extend_from_slice(&chunk[..length]);
                true
            }
            // Closed with something of ours unread.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => false,
            Err(error) => panic!("{error}"),
        }
    }

    fn write(&mut self, packet: &Packet) {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, None).unwrap();
        self.stream.write_all(&bytes).unwrap();
    }
}
