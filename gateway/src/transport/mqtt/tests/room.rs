//! What the room promises, over sockets.

use super::{
    house::{House, TestDirectory, config},
    raw::{self, Client, Connect, PATIENCE},
};
use crate::{
    model::{DeviceId, MessageId, Session},
    transport::{
        Consignment, Event, Item, Notice, Transport as _, Turned, battery,
        mqtt::{Limits, MqttRoom, RouterDied, seat::lock},
    },
};
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

const DEVICE: DeviceId = DeviceId(7);
const OTHER: DeviceId = DeviceId(8);

fn push(device: DeviceId, id: u64) -> Consignment {
    Consignment { device, items: vec![battery::item(device, id, b"body")] }
}

fn all(device: DeviceId) -> String {
    format!("up/{device}/inbox/#")
}

#[tokio::test]
async fn both_versions_are_served_on_one_port() {
    let mut house = House::start().await;
    let mut old = Client::join(house.address, DEVICE, 4).await;
    let mut new = Client::join(house.address, OTHER, 5).await;
    house.joined().await;
    house.joined().await;
    for (device, id) in [(DEVICE, 1), (OTHER, 2)] {
        assert_eq!(house.room.hand_over(push(device, id)), Ok(()));
    }
    for client in [&mut old, &mut new] {
        let published = client.published().await;
        assert_eq!(&published.body[..], b"body");
        client.send(&raw::puback(published.pid.expect("QoS 1"))).await;
    }
    let mut acked = Vec::new();
    for _ in 0..2 {
        acked.extend(
            house.event(|event| if let Event::Acked(ids) = event { Some(ids.clone()) } else { None }).await,
        );
    }
    acked.sort();
    assert_eq!(acked, [MessageId(1), MessageId(2)]);
}

#[tokio::test]
async fn a_device_receives_nothing_of_another() {
    let mut house = House::start().await;
    let mut one = Client::join(house.address, DEVICE, 5).await;
    let mut two = Client::join(house.address, OTHER, 5).await;
    house.joined().await;
    house.joined().await;
    assert_eq!(house.room.hand_over(push(DEVICE, 1)), Ok(()));
    assert_eq!(one.published().await.topic, format!("up/{DEVICE}/inbox/push/0000000000005"));
    two.ping().await;
}

#[tokio::test]
async fn a_second_connection_takes_the_session_over() {
    for level in [4, 5] {
        let mut house = House::start().await;
        let mut first = Client::join(house.address, DEVICE, level).await;
        house.joined().await;
        assert_eq!(house.room.hand_over(push(DEVICE, 1)), Ok(()));
        let sent = first.published().await;
        let mut second = Client::join(house.address, DEVICE, level).await;
        house.left().await;
        house.joined().await;
        first.put_out(0x8e).await;
        let mut again = push(DEVICE, 1);
        again.items[0].redelivery = true;
        assert_eq!(house.room.hand_over(again), Ok(()));
        let resent = second.published().await;
        assert_eq!((resent.pid, resent.dup), (sent.pid, true));
    }
}

#[tokio::test]
async fn many_connections_of_one_device_end_with_one() {
    let mut house = House::start().await;
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..30 {
        let address = house.address;
        clients.spawn(async move { Client::connect(address, &Connect::of(DEVICE, 4)).await.0 });
    }
    let mut clients = timeout(PATIENCE, clients.join_all()).await.expect("all are answered");
    let (mut last, _) = Client::connect(house.address, &Connect::of(DEVICE, 4)).await;
    last.subscribe(&[(&all(DEVICE), 1)]).await;
    house.joined().await;
    for client in &mut clients {
        client.put_out(0).await;
    }
    assert_eq!(house.room.hand_over(push(DEVICE, 1)), Ok(()));
    last.published().await;
}

#[tokio::test]
async fn a_durable_session_survives_a_restart_of_the_gateway() {
    let directory = Arc::<TestDirectory>::default();
    let house = House::with(&config(), Limits::default(), Arc::clone(&directory));
    let (mut client, connack) = Client::connect(house.address, &Connect::of(DEVICE, 4)).await;
    assert_eq!(connack.body, [0, 0], "no session yet");
    client.subscribe(&[(&all(DEVICE), 1)]).await;
    drop(house);
    let mut house = House::with(&config(), Limits::default(), directory);
    let (mut client, connack) = Client::connect(house.address, &Connect::of(DEVICE, 4)).await;
    assert_eq!(connack.body, [1, 0], "session present");
    house.joined().await;
    assert_eq!(house.room.hand_over(push(DEVICE, 1)), Ok(()));
    client.published().await;
}

#[tokio::test]
async fn unsubscribing_leaves_and_unsettles() {
    let mut house = House::start().await;
    let mut client = Client::join(house.address, DEVICE, 4).await;
    house.joined().await;
    let full = || Consignment {
        device: DEVICE,
        items: (1..=20).map(|id| battery::item(DEVICE, id, b"body")).collect(),
    };
    assert_eq!(house.room.hand_over(full()), Ok(()));
    let mut pids = Vec::new();
    for _ in 0..20 {
        pids.push(client.published().await.pid.expect("QoS 1"));
    }
    client.send(&raw::unsubscribe(4, 2, &[&all(DEVICE)])).await;
    assert_eq!(client.packet().await.first, 0xb0);
    house.left().await;
    assert_eq!(house.room.hand_over(full()), Err(Turned::Absent));
    client.subscribe(&[(&all(DEVICE), 1)]).await;
    house.joined().await;
    assert_eq!(house.room.hand_over(full()), Ok(()));
    house.event(|event| matches!(event, Event::Taken(ids) if ids.len() == 20).then_some(())).await;
    client.ping().await;
    client.send(&raw::puback(pids[0])).await;
    let acked = house.event(|event| if let Event::Acked(ids) = event { Some(ids.clone()) } else { None });
    assert_eq!(acked.await, [MessageId(1)], "it was in flight all the time, and not sent again");
}

#[tokio::test]
async fn a_clean_session_ends_the_durable_one() {
    let mut house = House::start().await;
    let client = Client::join(house.address, DEVICE, 4).await;
    house.joined().await;
    drop(client);
    house.left().await;
    let clean = Connect { clean: true, ..Connect::of(DEVICE, 4) };
    let (mut client, connack) = Client::connect(house.address, &clean).await;
    assert_eq!(connack.body, [0, 0]);
    assert_eq!(lock(&house.directory.sessions).get(&DEVICE), None);
    assert_eq!(house.room.hand_over(push(DEVICE, 1)), Err(Turned::Absent));
    client.subscribe(&[(&all(DEVICE), 1)]).await;
    house.joined().await;
    drop(client);
    house.left().await;
    let (_client, connack) = Client::connect(house.address, &Connect::of(DEVICE, 4)).await;
    assert_eq!(connack.body, [0, 0], "a clean session leaves nothing behind");
}

#[tokio::test]
async fn a_session_exists_from_its_connect() {
    let house = House::start().await;
    let (client, connack) = Client::connect(house.address, &Connect::of(DEVICE, 5)).await;
    assert_eq!(connack.body[..2], [0, 0]);
    drop(client);
    let (_client, connack) = Client::connect(house.address, &Connect::of(DEVICE, 5)).await;
    assert_eq!(connack.body[..2], [1, 0]);
}

#[tokio::test]
async fn redelivery_keeps_packet_id_and_message_id_over_a_reconnect() {
    for level in [4, 5] {
        let mut house = House::start().await;
        let mut client = Client::join(house.address, DEVICE, level).await;
        house.joined().await;
        let items: Vec<Item> = (1..=3).map(|id| battery::item(DEVICE, id, b"body")).collect();
        assert_eq!(house.room.hand_over(Consignment { device: DEVICE, items: items.clone() }), Ok(()));
        let mut sent = Vec::new();
        for _ in 0..3 {
            sent.push(client.published().await);
        }
        client.send(&raw::puback(sent[0].pid.expect("QoS 1"))).await;
        house.event(|event| matches!(event, Event::Acked(_)).then_some(())).await;
        drop(client);
        house.left().await;
        let mut client = Client::join(house.address, DEVICE, level).await;
        house.joined().await;
        let again = items[1..].iter().map(|item| Item { redelivery: true, ..item.clone() }).collect();
        assert_eq!(house.room.hand_over(Consignment { device: DEVICE, items: again }), Ok(()));
        for before in &sent[1..] {
            let after = client.published().await;
            assert!(after.dup);
            assert_eq!((after.pid, after.properties), (before.pid, before.properties.clone()));
        }
    }
}

#[tokio::test]
async fn an_expelled_device_is_told_and_closed() {
    for level in [4, 5] {
        let mut house = House::start().await;
        let mut client = Client::join(house.address, DEVICE, level).await;
        let mut bystander = Client::join(house.address, OTHER, level).await;
        house.joined().await;
        house.joined().await;
        house.room.tell(Notice::Expelled(DEVICE));
        timeout(Duration::from_secs(1), client.put_out(0x98)).await.expect("within a second");
        bystander.ping().await;
    }
}

#[tokio::test]
async fn a_device_that_is_expelled_between_login_and_seat_does_not_stay() {
    let house = House::start().await;
    let room = Arc::clone(&house.room);
    let expel = move || room.tell(Notice::Expelled(DEVICE));
    *lock(&house.directory.meanwhile) = Some(Box::new(expel));
    let (mut client, connack) = Client::connect(house.address, &Connect::of(DEVICE, 4)).await;
    assert_eq!(connack.body, [0, 3], "not welcomed on the strength of the old secret");
    assert_eq!(client.next().await, None);
}

#[tokio::test]
async fn a_device_that_is_expelled_while_its_session_is_written_does_not_stay() {
    let house = House::start().await;
    house.directory.disk.send_replace(false);
    let mut client = Client::open(house.address, 4).await;
    client.send(&Connect::of(DEVICE, 4).bytes()).await;
    while house.room.seats.of(DEVICE).is_none() {
        tokio::task::yield_now().await;
    }
    house.room.tell(Notice::Expelled(DEVICE));
    house.directory.disk.send_replace(true);
    while let Some(packet) = client.next().await {
        assert_eq!(packet.kind(), 2, "{packet:?}");
    }
}

#[tokio::test]
async fn stopping_says_goodbye_and_ends_in_time() {
    let house = House::start().await;
    let mut old = Client::join(house.address, DEVICE, 4).await;
    let mut new = Client::join(house.address, OTHER, 5).await;
    let mut silent = Client::open(house.address, 4).await;
    house.shutdown.send_replace(true);
    new.put_out(0x8b).await;
    old.put_out(0).await;
    assert_eq!(silent.next().await, None);
    let ended = timeout(Duration::from_secs(2), house.running).await.expect("in time");
    assert_eq!(ended.expect("no panic"), Ok(()));
    assert!(tokio::net::TcpStream::connect(house.address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn the_room_ends_when_its_router_has_died() {
    let mut house = House::start().await;
    let mut client = Client::join(house.address, DEVICE, 4).await;
    house.joined().await;
    house.room.post.kill_router().await;
    let ended = timeout(PATIENCE, house.running).await.expect("in time").expect("no panic");
    assert_eq!(ended, Err(RouterDied));
    assert_eq!(client.next().await, None);
    assert_eq!(house.room.hand_over(push(DEVICE, 1)), Err(Turned::Absent));
}

#[tokio::test]
async fn contacts_and_states_are_reported() {
    let mut house = House::start().await;
    let mut client = Client::join(house.address, DEVICE, 4).await;
    house.joined().await;
    client.ping().await;
    let next = house.event(|event| Some(event.clone())).await;
    assert_eq!(next, Event::Stirred);
    let topic = format!("up/{DEVICE}/outbox/state");
    client.send(&raw::publish(4, 0x30, 0, &topic, &[], br#"{"network":"wifi"}"#)).await;
    let state = house.event(|event| if let Event::State(state) = event { Some(*state) } else { None });
    assert_eq!(state.await.network, Some(crate::model::Network::Wifi));
}

#[tokio::test]
async fn pubacks_of_one_read_are_one_report() {
    let mut house = House::start().await;
    let mut client = Client::join(house.address, DEVICE, 4).await;
    house.joined().await;
    let items = (1..=5).map(|id| battery::item(DEVICE, id, b"body")).collect();
    assert_eq!(house.room.hand_over(Consignment { device: DEVICE, items }), Ok(()));
    let mut acks = Vec::new();
    for _ in 0..5 {
        acks.extend(raw::puback(client.published().await.pid.expect("QoS 1")));
    }
    client.send(&acks).await;
    let acked = house.event(|event| if let Event::Acked(ids) = event { Some(ids.len()) } else { None });
    assert_eq!(acked.await, 5);
}

#[tokio::test]
async fn what_is_larger_than_the_client_takes_is_turned_back() {
    let mut house = House::start().await;
    let properties = vec![0x27, 0, 0, 1, 0x2c]; // Maximum Packet Size 300
    let connect = Connect { properties, ..Connect::of(DEVICE, 5) };
    let (mut client, _) = Client::connect(house.address, &connect).await;
    client.subscribe(&[(&all(DEVICE), 1)]).await;
    house.joined().await;
    let (small, large) = (battery::item(DEVICE, 1, b"x"), battery::item(DEVICE, 2, &[7; 300]));
    let alone = Consignment { device: DEVICE, items: vec![large.clone()] };
    assert_eq!(house.room.hand_over(alone), Err(Turned::TooLarge));
    assert_eq!(house.room.hand_over(Consignment { device: DEVICE, items: vec![large, small] }), Ok(()));
    let turned = house
        .event(|event| if let Event::Turned(ids, why) = event { Some((ids.clone(), *why)) } else { None });
    assert_eq!(turned.await, (vec![MessageId(2)], Turned::TooLarge));
    assert_eq!(&client.published().await.body[..], b"x");
}

#[tokio::test]
async fn a_slow_disk_holds_up_neither_pushes_nor_pings() {
    let mut house = House::start().await;
    let mut client = Client::join(house.address, DEVICE, 4).await;
    house.joined().await;
    house.directory.disk.send_replace(false);
    let topic = format!("up/{DEVICE}/outbox/register");
    client.send(&raw::publish(4, 0x32, 9, &topic, &[], br#"{"token":"t"}"#)).await;
    client.ping().await;
    assert_eq!(house.room.hand_over(push(DEVICE, 1)), Ok(()));
    assert_eq!(&client.published().await.body[..], b"body");
    house.directory.disk.send_replace(true);
    assert!(client.published().await.topic.ends_with("inbox/endpoint"));
    assert_eq!(client.packet().await.pid(), 9);
}

#[tokio::test]
async fn a_session_that_cannot_be_written_is_not_promised() {
    let house = House::start().await;
    *lock(&house.directory.trouble) = Some(crate::transport::RegisterRefusal::InternalError);
    let (mut client, connack) = Client::connect(house.address, &Connect::of(DEVICE, 4)).await;
    assert_eq!(connack.body, [0, 3], "server unavailable");
    assert_eq!(client.next().await, None);
    // A session that is there already needs no disk.
    lock(&house.directory.sessions).insert(DEVICE, Session::default());
    let (_client, connack) = Client::connect(house.address, &Connect::of(DEVICE, 4)).await;
    assert_eq!(connack.body, [1, 0]);
}

#[tokio::test]
async fn a_listening_socket_may_be_handed_in() {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = socket.local_addr().expect("bound");
    // Whoever comes before the room runs is served when it does.
    let waiting = tokio::spawn(async move { Client::connect(address, &Connect::of(DEVICE, 4)).await.1 });
    let bound = crate::transport::mqtt::BoundRoom::adopt(&config(), socket, None).expect("adopts");
    assert_eq!(bound.local_addr(), address);
    let _house = House::open(bound, Arc::default());
    assert_eq!(waiting.await.expect("answered").body, [0, 0]);
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let house = House::start().await;
    let taken = crate::config::MqttConfig { listen: house.address, ..config() };
    let error = MqttRoom::bind(&taken).expect_err("it is taken").to_string();
    assert!(error.contains(&house.address.to_string()), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn churning_clients_harm_nobody() {
    let mut house = House::start().await;
    let mut bystanders = Vec::new();
    for id in 100..110 {
        bystanders.push((DeviceId(id), Client::join(house.address, DeviceId(id), 4).await));
        house.joined().await;
    }
    let mut churn = tokio::task::JoinSet::new();
    for lane in 0..4 {
        let address = house.address;
        churn.spawn(async move {
            for _ in 0..100 {
                drop(Client::join(address, DeviceId(lane), 4).await);
            }
        });
    }
    timeout(PATIENCE * 6, churn.join_all()).await.expect("all are served");
    for (number, (device, client)) in (1..).zip(&mut bystanders) {
        assert_eq!(house.room.hand_over(push(*device, number)), Ok(()));
        assert_eq!(&client.published().await.body[..], b"body", "{device}");
    }
}
