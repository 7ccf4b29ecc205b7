//! What a device is told of its registrations without having asked.

use super::{
    house::House,
    raw::{self, Client, Connect},
};
use crate::{
    model::{DeviceId, EndpointToken, Registration, RegistrationId, UnixTime},
    transport::{
        About, Consignment, Event, News, Notice, RegisteredAs, Tell, Transport as _, battery,
        mqtt::seat::lock,
    },
};

const DEVICE: DeviceId = DeviceId(7);

async fn ended(client: &mut Client, token: &str) -> u16 {
    let told = client.published().await;
    assert_eq!(told.topic, format!("up/{DEVICE}/inbox/unregistered"));
    assert_eq!(told.body, format!("{{\"token\":\"{token}\"}}").as_bytes());
    assert!(!told.dup);
    told.pid.expect("QoS 1")
}

fn notice(token: &str) -> Notice {
    Notice::Unregistered(DEVICE, token.parse().expect("a token"))
}

#[tokio::test]
async fn what_ends_while_the_device_is_there_is_told_at_once() {
    for level in [4, 5] {
        let mut house = House::start().await;
        let mut client = Client::join(house.address, DEVICE, level).await;
        house.joined().await;
        house.directory.ends(DEVICE, "t");
        house.room.tell(notice("t"));
        // Of another it hears nothing.
        house.directory.ends(DeviceId(8), "other");
        house.room.tell(Notice::Unregistered(DeviceId(8), "other".parse().expect("a token")));
        let pid = ended(&mut client, "t").await;
        // Told once, although it is asked for again before the answer.
        house.room.tell(notice("t"));
        client.ping().await;
        client.send(&raw::puback(pid)).await;
        client.ping().await;
        assert!(lock(&house.directory.news)[&DEVICE].is_empty(), "told");
    }
}

#[tokio::test]
async fn what_ended_meanwhile_is_told_until_it_is_acknowledged() {
    for level in [4, 5] {
        let mut house = House::start().await;
        house.directory.ends(DEVICE, "absent");
        let (mut client, _) = Client::connect(house.address, &Connect::of(DEVICE, level)).await;
        house.directory.ends(DEVICE, "unsubscribed");
        house.room.tell(notice("unsubscribed"));
        client.ping().await;
        client.subscribe(&[(&format!("up/{DEVICE}/inbox/#"), 1)]).await;
        let first = ended(&mut client, "absent").await;
        ended(&mut client, "unsubscribed").await;
        client.send(&raw::puback(first)).await;
        client.ping().await;
        drop(client);
        house.left().await;
        let mut client = Client::join(house.address, DEVICE, level).await;
        let second = ended(&mut client, "unsubscribed").await;
        client.send(&raw::puback(second)).await;
        client.ping().await;
        drop(client);
        house.left().await;
        Client::join(house.address, DEVICE, level).await.ping().await;
    }
}

#[tokio::test]
async fn endpoints_that_moved_are_told_half_a_window_at_a_time_and_hold_up_no_push() {
    let mut house = House::start().await;
    let registered = |number: u64| {
        let registration = Registration {
            app: "app".into(),
            created: UnixTime(0),
            device: DEVICE,
            endpoint: EndpointToken([1; 20]),
            id: RegistrationId(number),
            token: format!("t{number}").parse().expect("a token"),
            vapid: None,
        };
        Tell::Endpoint(RegisteredAs { endpoint: format!("https://new.example/p/{number}"), registration })
    };
    // More than the answers that may pile up at a client that takes none.
    let tell: Vec<_> = (0..1_000).map(registered).collect();
    lock(&house.directory.news).insert(DEVICE, vec![News { about: About::Origin, tell }]);
    let mut client = Client::join(house.address, DEVICE, 4).await;
    house.joined().await;
    let mut pids = std::collections::VecDeque::new();
    for number in 0..10 {
        let told = client.published().await;
        assert_eq!(told.topic, format!("up/{DEVICE}/inbox/endpoint"));
        let body = String::from_utf8(told.body.to_vec()).expect("UTF-8");
        assert!(body.contains(&format!("\"endpoint\":\"https://new.example/p/{number}\"")), "{body}");
        pids.push_back(told.pid.expect("QoS 1"));
    }
    client.ping().await;
    let items = vec![battery::item(DEVICE, 1, b"body")];
    assert_eq!(house.room.hand_over(Consignment { device: DEVICE, items }), Ok(()));
    // Although nothing of it is acknowledged.
    let push = client.published().await;
    assert!(push.topic.contains("/push/"), "{}", push.topic);
    client.send(&raw::puback(push.pid.expect("QoS 1"))).await;
    for _ in 10..1_000 {
        client.send(&raw::puback(pids.pop_front().expect("one in flight"))).await;
        pids.push_back(client.published().await.pid.expect("QoS 1"));
    }
    for pid in pids {
        client.send(&raw::puback(pid)).await;
    }
    client.ping().await;
    assert!(lock(&house.directory.news)[&DEVICE].is_empty(), "told");
    house.event(|event| matches!(event, Event::Acked(_)).then_some(())).await;
}
