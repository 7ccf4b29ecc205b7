//! The battery of every room.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::house::{ALICE, APP, House, Peer};
use crate::{
    model::DeviceId,
    transport::{
        Report, Transport,
        battery::{self, Harness, Push},
    },
};

struct Door {
    house: House,
    peer: Peer,
    unacked: Vec<String>,
}

impl Harness for Door {
    async fn start() -> Self {
        let mut house = House::start().await;
        let mut peer = house.accept().await;
        peer.register(ALICE, APP).await;
        house.joined().await;
        let mut door = Self { house, peer, unacked: Vec::new() };
        // Whoever registers is there, and the battery begins with nobody.
        door.disconnect().await;
        door.house.event(|event| matches!(event, crate::transport::Event::Left(_)).then_some(())).await;
        door
    }

    fn room(&self) -> &dyn Transport {
        &*self.house.room
    }

    fn device(&self) -> DeviceId {
        self.house.device()
    }

    async fn connect(&mut self) {
        self.unacked.clear();
        self.peer.say(&format!("<presence from='{ALICE}' to='push.home.test'/>")).await;
    }

    async fn disconnect(&mut self) {
        self.peer.say(&format!("<presence type='unavailable' from='{ALICE}' to='push.home.test'/>")).await;
    }

    async fn next_push(&mut self) -> Push {
        let push = self.peer.hear().await.expect("a push");
        let text = push.split_once("<push ").and_then(|(_, rest)| rest.split_once('>')).expect("a push").1;
        let text = text.split_once('<').map_or("", |(text, _)| text);
        // An empty one ends within its tag: then what follows is the end of the stanza.
        let body = STANDARD.decode(text).expect("base64");
        self.unacked.push(push);
        Push { body: body.into(), redelivery: None }
    }

    async fn acknowledge(&mut self, nth: usize) {
        let push = self.unacked.remove(nth);
        self.peer.answer(&push, "result", "").await;
    }

    async fn next_report(&mut self) -> Report {
        self.house.reports.recv().await.expect("the room is there")
    }
}

battery::door!(Door);
