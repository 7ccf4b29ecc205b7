//! The battery of every room.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;

use super::house::{Client, House};
use crate::{
    model::DeviceId,
    transport::{
        Report, Transport,
        battery::{self, Harness, Push},
    },
};

const DEVICE: DeviceId = DeviceId(77);

struct Door {
    client: Option<Client>,
    house: House,
    unacked: Vec<Value>,
}

impl Harness for Door {
    async fn start() -> Self {
        Self { client: None, house: House::start().await, unacked: Vec::new() }
    }

    fn room(&self) -> &dyn Transport {
        &*self.house.room
    }

    fn device(&self) -> DeviceId {
        DEVICE
    }

    async fn connect(&mut self) {
        self.unacked.clear();
        self.client = Some(self.house.join(DEVICE).await);
    }

    async fn disconnect(&mut self) {
        self.client = None;
    }

    async fn next_push(&mut self) -> Push {
        let told = self.client.as_mut().expect("connected").hear().await.expect("a push");
        assert_eq!((&told["messageType"], &told["channelID"]), (&"notification".into(), &"app".into()));
        self.unacked.push(told["version"].clone());
        let body = URL_SAFE_NO_PAD.decode(told["data"].as_str().unwrap_or_default()).expect("base64url");
        Push { body: body.into(), redelivery: None }
    }

    async fn acknowledge(&mut self, nth: usize) {
        let version = self.unacked.remove(nth);
        self.client.as_mut().expect("connected").ack(&version).await;
    }

    async fn next_report(&mut self) -> Report {
        self.house.reports.recv().await.expect("the room is there")
    }
}

battery::door!(Door);
