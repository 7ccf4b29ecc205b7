//! A phone: a distributor on rumqttc, MQTT 3.1.1 or 5.0, that acknowledges only when it is told to.

mod client;

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::JoinHandle};

use self::client::Client;
use crate::{
    gateway::{Device, Gateway},
    wait::{patience, within},
};

/// Which MQTT it speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Version {
    /// MQTT 3.1.1
    V4,
    /// MQTT 5.0
    V5,
}

impl Version {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V5];
}

/// What a phone hears.
#[derive(Debug)]
pub(crate) enum Heard {
    /// CONNACK with success.
    Connected { server_keep_alive: Option<u16>, session_present: bool },
    /// The connection ended, and how the client library put it.
    Lost(String),
    /// PUBACK, with its reason on 5.0.
    PubAck(String),
    /// A message.
    Push(Push),
    /// CONNACK with another code.
    Refused(String),
    /// SUBACK: for each filter, whether it was granted.
    SubAck(Vec<Result<u8, String>>),
}

/// A message as it arrived.
#[derive(Clone, Debug)]
pub struct Push {
    /// Content Type (5.0).
    pub content_type: Option<String>,
    /// Whether it is marked as sent before.
    pub dup: bool,
    /// Message Expiry Interval (5.0), seconds.
    pub expiry_s: Option<u32>,
    /// Its packet id.
    pub packet_id: u16,
    /// The body.
    pub payload: Bytes,
    /// User Properties (5.0).
    pub properties: Vec<(String, String)>,
    /// Its topic.
    pub topic: String,
}

impl Push {
    /// A User Property.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// A registration as its endpoint was announced.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct App {
    /// The last level of its pushes' topic.
    pub channel: String,
    /// Where its application server pushes to.
    pub endpoint: String,
}

/// A connected phone. Its connection is cut, without DISCONNECT, when it goes out of scope.
#[derive(Debug)]
pub struct Phone {
    client: Client,
    device: String,
    heard: mpsc::UnboundedReceiver<Heard>,
    /// Server Keep Alive (5.0), seconds.
    pub server_keep_alive: Option<u16>,
    /// Whether the gateway still had its session.
    pub session_present: bool,
    /// Heard, but not asked for yet.
    stash: VecDeque<Heard>,
    task: JoinHandle<()>,
}

impl Drop for Phone {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Phone {
    /// Connects with a durable session; panics if the gateway refuses.
    pub async fn connect(gateway: &Gateway, device: &Device, version: Version) -> Self {
        Self::try_connect(gateway, device, version)
            .await
            .unwrap_or_else(|refusal| panic!("CONNECT of {} was refused: {refusal}", device.id))
    }

    /// Connects with a session that ends with the connection.
    pub async fn connect_clean(gateway: &Gateway, device: &Device, version: Version) -> Self {
        Self::open(gateway, device, version, true).await.expect("CONNECT is accepted")
    }

    /// Connects with a durable session.
    ///
    /// # Errors
    /// The name of the CONNACK code, or what became of the connection.
    pub async fn try_connect(gateway: &Gateway, device: &Device, version: Version) -> Result<Self, String> {
        Self::open(gateway, device, version, false).await
    }

    async fn open(gateway: &Gateway, device: &Device, version: Version, clean: bool) -> Result<Self, String> {
        let (speak, heard) = mpsc::unbounded_channel();
        let (client, task) = Client::connect(gateway.mqtt, device, version, clean, speak);
        let (device, stash) = (device.id.clone(), VecDeque::new());
        let mut phone =
            Self { client, device, heard, server_keep_alive: None, session_present: false, stash, task };
        (phone.session_present, phone.server_keep_alive) = phone
            .hear("CONNACK", |heard| match heard {
                Heard::Connected { server_keep_alive, session_present } => {
                    Some(Ok((*session_present, *server_keep_alive)))
                }
                Heard::Lost(how) | Heard::Refused(how) => Some(Err(how.clone())),
                Heard::PubAck(_) | Heard::Push(_) | Heard::SubAck(_) => None,
            })
            .await?;
        Ok(phone)
    }

    /// Acknowledges a message.
    pub async fn ack(&self, push: &Push) {
        self.client.ack(push).await;
    }

    /// Returns when the gateway has read everything that this phone has sent: acknowledgements have
    /// no answer, so an empty report of the phone's state is sent behind them and its PUBACK awaited.
    pub async fn settle(&mut self) {
        self.publish("outbox/state", b"{}").await;
    }

    /// Leaves with DISCONNECT.
    pub async fn disconnect(mut self) {
        self.settle().await;
        self.client.disconnect().await;
        let _ = self.lost().await;
    }

    /// The next push message of an app, in order of arrival; panics if none comes.
    pub async fn expect_push(&mut self) -> Push {
        self.expect("a push message", |push| push.topic.contains("/inbox/push/").then(|| push.clone())).await
    }

    /// The next message on another topic of the inbox, acknowledged; as JSON.
    pub async fn expect_control(&mut self, name: &str) -> Value {
        let topic = format!("up/{}/inbox/{name}", self.device);
        let push = self.expect(name, |push| (push.topic == topic).then(|| push.clone())).await;
        if push.packet_id != 0 {
            self.ack(&push).await;
        }
        serde_json::from_slice(&push.payload)
            .unwrap_or_else(|error| panic!("{name} is not JSON ({error}): {:?}", push.payload))
    }

    /// The next message on another topic of the inbox, if it has come by now.
    pub fn control(&mut self, name: &str) -> Option<Value> {
        let topic = format!("up/{}/inbox/{name}", self.device);
        while let Ok(heard) = self.heard.try_recv() {
            self.stash.push_back(heard);
        }
        let place =
            self.stash.iter().position(|heard| matches!(heard, Heard::Push(push) if push.topic == topic))?;
        let Some(Heard::Push(push)) = self.stash.remove(place) else { return None };
        serde_json::from_slice(&push.payload).ok()
    }

    async fn expect(&mut self, what: &str, mut wanted: impl FnMut(&Push) -> Option<Push>) -> Push {
        let heard = self
            .hear(what, |heard| match heard {
                Heard::Push(push) => wanted(push).map(Ok),
                Heard::Lost(how) => Some(Err(how.clone())),
                Heard::Connected { .. } | Heard::PubAck(_) | Heard::Refused(_) | Heard::SubAck(_) => None,
            })
            .await;
        heard.unwrap_or_else(|how| panic!("expected {what}, but the connection ended: {how}"))
    }

    /// Waits until the connection has ended, and says how.
    pub async fn lost(&mut self) -> String {
        self.hear("the end of the connection", |heard| match heard {
            Heard::Lost(how) => Some(how.clone()),
            Heard::Connected { .. }
            | Heard::PubAck(_)
            | Heard::Push(_)
            | Heard::Refused(_)
            | Heard::SubAck(_) => None,
        })
        .await
    }

    /// Publishes at QoS 1 below `up/{device}/` and returns the PUBACK's reason.
    pub async fn publish(&mut self, topic: &str, payload: &[u8]) -> String {
        self.publish_to(&format!("up/{}/{topic}", self.device), payload).await
    }

    /// Publishes at QoS 1 to any topic; returns the PUBACK's reason, or how the connection ended.
    pub async fn publish_to(&mut self, topic: &str, payload: &[u8]) -> String {
        self.client.publish(topic, payload).await;
        self.hear("PUBACK", |heard| match heard {
            Heard::PubAck(reason) => Some(reason.clone()),
            Heard::Lost(how) => Some(how.clone()),
            Heard::Connected { .. } | Heard::Push(_) | Heard::Refused(_) | Heard::SubAck(_) => None,
        })
        .await
    }

    /// Asks for an endpoint, as a distributor does for an app.
    pub async fn register(&mut self, token: &str) -> App {
        self.register_with(json!({ "token": token })).await
    }

    /// Asks for an endpoint that only one application server may push to.
    pub async fn register_bound(&mut self, token: &str, vapid: &str) -> App {
        self.register_with(json!({ "token": token, "app": "bound", "vapid": vapid })).await
    }

    async fn register_with(&mut self, request: Value) -> App {
        self.publish("outbox/register", request.to_string().as_bytes()).await;
        let answer = self.expect_control("endpoint").await;
        assert_eq!(answer["token"], request["token"], "the answer is for this app");
        let text =
            |key: &str| answer[key].as_str().unwrap_or_else(|| panic!("no {key}: {answer}")).to_owned();
        App { channel: text("channel"), endpoint: text("endpoint") }
    }

    /// Subscribes to all of its inbox.
    pub async fn subscribe(&mut self) {
        let filter = format!("up/{}/inbox/#", self.device);
        assert_eq!(self.subscribe_to(&filter).await, Ok(1), "its own inbox is granted at QoS 1");
    }

    /// Subscribes to any filter; the granted QoS, or the SUBACK's reason.
    pub async fn subscribe_to(&mut self, filter: &str) -> Result<u8, String> {
        self.client.subscribe(filter).await;
        self.hear("SUBACK", |heard| match heard {
            Heard::SubAck(codes) => Some(codes.first().cloned().unwrap_or(Err("empty SUBACK".into()))),
            Heard::Lost(how) => Some(Err(how.clone())),
            Heard::Connected { .. } | Heard::PubAck(_) | Heard::Push(_) | Heard::Refused(_) => None,
        })
        .await
    }

    /// The first of what was or will be heard that `wanted` gives a value for; the rest is kept in order.
    async fn hear<T>(&mut self, what: &str, mut wanted: impl FnMut(&Heard) -> Option<T>) -> T {
        for place in 0..self.stash.len() {
            if let Some(value) = wanted(&self.stash[place]) {
                self.forget(place);
                return value;
            }
        }
        let deadline = tokio::time::sleep(patience());
        tokio::pin!(deadline);
        loop {
            let heard = tokio::select! {
                heard = self.heard.recv() => heard,
                () = &mut deadline => panic!("{what}: not heard within {:?}, but {:?}", patience(), self.stash),
            };
            let Some(heard) = heard else { panic!("{what}: not heard before the end, but {:?}", self.stash) };
            let value = wanted(&heard);
            let keep = value.is_none() || matches!(heard, Heard::Lost(_));
            if keep {
                self.stash.push_back(heard);
            }
            if let Some(value) = value {
                return value;
            }
        }
    }

    /// The end of a connection stays known, whoever has asked for it.
    fn forget(&mut self, place: usize) {
        if !matches!(self.stash[place], Heard::Lost(_)) {
            self.stash.remove(place);
        }
    }

    /// The device's id.
    #[must_use]
    pub fn device(&self) -> &str {
        &self.device
    }
}

/// A client id of its own for every connection: the session must belong to the device.
fn fresh_client_id() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    format!("phone-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Requests to the client library never block for long: its queue is drained by the connection's task.
async fn sent<E: std::fmt::Debug>(request: impl Future<Output = Result<(), E>>) {
    // An error means that the connection has ended, which whoever waits for the answer will hear.
    let _ = within("the client takes a request", request).await;
}
