//! The battery of every room.

use bytes::Bytes;

use super::{
    house::House,
    raw::{Client, Published, puback},
};
use crate::{
    model::DeviceId,
    transport::{
        Report, Transport,
        battery::{self, Harness, Push},
    },
};

const DEVICE: DeviceId = DeviceId(77);

struct Door<const LEVEL: u8> {
    client: Option<Client>,
    house: House,
    unacked: Vec<Published>,
}

impl<const LEVEL: u8> Harness for Door<LEVEL> {
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
        self.client = Some(Client::join(self.house.address, DEVICE, LEVEL).await);
    }

    async fn disconnect(&mut self) {
        self.client = None;
    }

    async fn next_push(&mut self) -> Push {
        let published = self.client.as_mut().expect("connected").published().await;
        let push = Push { body: Bytes::clone(&published.body), redelivery: Some(published.dup) };
        self.unacked.push(published);
        push
    }

    async fn acknowledge(&mut self, nth: usize) {
        let pid = self.unacked.remove(nth).pid.expect("QoS 1");
        self.client.as_mut().expect("connected").send(&puback(pid)).await;
    }

    async fn next_report(&mut self) -> Report {
        self.house.reports.recv().await.expect("the room is there")
    }
}

mod v3 {
    use super::*;

    battery::door!(Door<4>);
}

mod v5 {
    use super::*;

    battery::door!(Door<5>);
}
