//! What strangers and stuck peers cost.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{
    house::{House, config},
    raw::{self, Client, Connect, PATIENCE},
};
use crate::{
    config::MqttConfig,
    model::DeviceId,
    transport::{Consignment, Event, Transport as _, battery, mqtt::Limits},
};

const DEVICE: DeviceId = DeviceId(7);

#[tokio::test]
async fn whoever_says_nothing_is_closed_and_holds_up_nobody() {
    let house = House::with(&config(), House::impatient(), Arc::default());
    let mut silent = Client::open(house.address, 4).await;
    let mut slow = Client::open(house.address, 4).await;
    slow.send(&Connect::of(DEVICE, 4).bytes()[..20]).await;
    let (mut client, _) = Client::connect(house.address, &Connect::of(DEVICE, 4)).await;
    assert_eq!(silent.next().await, None);
    assert_eq!(slow.next().await, None);
    client.ping().await;
}

#[tokio::test]
async fn strangers_make_room_for_devices() {
    let config = MqttConfig { max_connections: 3, ..config() };
    let house = House::with(&config, Limits::default(), Arc::default());
    let mut strangers = Vec::new();
    for _ in 0..3 {
        strangers.push(Client::open(house.address, 4).await);
    }
    let (mut client, _) = Client::connect(house.address, &Connect::of(DEVICE, 4)).await;
    assert_eq!(strangers[0].next().await, None, "the first had to go");
    client.ping().await;
}

#[tokio::test]
async fn devices_do_not_make_room_for_strangers() {
    let config = MqttConfig { max_connections: 2, ..config() };
    let house = House::with(&config, Limits::default(), Arc::default());
    let (mut one, _) = Client::connect(house.address, &Connect::of(DeviceId(1), 4)).await;
    let (mut two, _) = Client::connect(house.address, &Connect::of(DeviceId(2), 4)).await;
    let mut third = Client::open(house.address, 4).await;
    assert_eq!(third.next().await, None);
    one.ping().await;
    two.ping().await;
    drop(one);
    // Its place is free as soon as the gateway has seen it go.
    let again = async {
        loop {
            let mut client = Client::open(house.address, 4).await;
            client.send(&Connect::of(DeviceId(3), 4).bytes()).await;
            if client.next().await.is_some() {
                return;
            }
        }
    };
    timeout(PATIENCE, again).await.expect("a place in time");
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_given_up() {
    let mut house = House::with(&config(), House::impatient(), Arc::default());
    let (mut client, _) = Client::connect(house.address, &Connect::of(DEVICE, 4)).await;
    client.subscribe(&[(&format!("up/{DEVICE}/inbox/push/+"), 0)]).await;
    house.joined().await;
    // At QoS 0 everything that is written settles, until the socket takes no more.
    let handing = async {
        let mut id = 0;
        loop {
            id += 1;
            let item = battery::item(DEVICE, id, &[7; 5600]);
            let mut handed = house.room.hand_over(Consignment { device: DEVICE, items: vec![item.clone()] });
            while handed == Err(crate::transport::Turned::Full) {
                tokio::task::yield_now().await;
                handed = house.room.hand_over(Consignment { device: DEVICE, items: vec![item.clone()] });
            }
            while let Ok(report) = house.reports.try_recv() {
                if matches!(report.event, Event::Left(_)) {
                    return;
                }
            }
        }
    };
    timeout(PATIENCE, handing).await.expect("given up in time");
}

#[tokio::test]
async fn a_peer_that_does_not_read_can_be_taken_over_at_once() {
    let limits = Limits { write: Duration::from_secs(60), ..Limits::default() };
    let mut house = House::with(&config(), limits, Arc::default());
    let (mut stuck, _) = Client::connect(house.address, &Connect::of(DEVICE, 4)).await;
    stuck.subscribe(&[(&format!("up/{DEVICE}/inbox/push/+"), 0)]).await;
    house.joined().await;
    let stuffing = async {
        // Full twice with nothing settled in between: the write is stuck.
        for id in 1.. {
            let item = battery::item(DEVICE, id, &[7; 5600]);
            let mut full = 0;
            while house.room.hand_over(Consignment { device: DEVICE, items: vec![item.clone()] }).is_err() {
                full += 1;
                let quiet = timeout(Duration::from_millis(50), house.reports.recv()).await.is_err();
                if quiet && full > 2 {
                    return;
                }
            }
        }
    };
    timeout(PATIENCE, stuffing).await.expect("stuffed");
    let second = timeout(Duration::from_secs(2), Client::join(house.address, DEVICE, 4));
    let mut second = second.await.expect("at once");
    second.ping().await;
}

#[tokio::test]
async fn a_device_that_never_acknowledges_is_closed_and_leaves() {
    let mut house = House::with(&config(), House::impatient(), Arc::default());
    let mut client = Client::join(house.address, DEVICE, 5).await;
    house.joined().await;
    let items = vec![battery::item(DEVICE, 1, b"x")];
    assert_eq!(house.room.hand_over(Consignment { device: DEVICE, items }), Ok(()));
    client.published().await;
    client.put_out(0x83).await;
    house.left().await;
}

#[tokio::test]
async fn malformed_packets_end_their_own_connection_only() {
    let mut house = House::start().await;
    let mut bystander = Client::join(house.address, DEVICE, 4).await;
    house.joined().await;
    for bytes in [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        vec![0; 2000],
        vec![0xff; 2000],
        raw::packet(0x10, b"\0\x04MQTT"),
        [Connect::of(DeviceId(9), 5).bytes(), vec![0xf5; 50]].concat(),
        [Connect::of(DeviceId(9), 4).bytes(), raw::packet(0x82, &[0, 1])].concat(),
    ] {
        let mut hostile = Client::open(house.address, 4).await;
        hostile.send(&bytes).await;
        while hostile.next().await.is_some() {}
    }
    bystander.ping().await;
}

/// Hands pushes over, fifty a second, for as long as it takes until the device has left.
async fn pushed_until_it_leaves(house: &mut House) {
    let pushing = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        let mut id = 0;
        loop {
            // Reports first, all that there are: a push has more than one, and none may hide the end.
            tokio::select! {
                biased;
                report = house.reports.recv() => {
                    if matches!(report.expect("the room is there").event, Event::Left(_)) {
                        return;
                    }
                }
                _ = ticks.tick() => {
                    id += 1;
                    let items = vec![battery::item(DEVICE, id, b"x")];
                    // Full is no matter: what counts is that pushes flow.
                    let _ = house.room.hand_over(Consignment { device: DEVICE, items });
                }
            }
        }
    };
    timeout(PATIENCE, pushing).await.expect("given up although pushes flow");
}

#[tokio::test]
async fn a_silent_device_is_given_up_while_pushes_flow_to_it() {
    for level in [4, 5] {
        let mut house = House::start().await;
        let connect = Connect { keep_alive: 1, ..Connect::of(DEVICE, level) };
        let (mut client, _) = Client::connect(house.address, &connect).await;
        // QoS 0: nothing is ever acknowledged.
        client.subscribe(&[(&format!("up/{DEVICE}/inbox/push/+"), 0)]).await;
        house.joined().await;
        let reading = tokio::spawn(async move { while client.next().await.is_some() {} });
        pushed_until_it_leaves(&mut house).await;
        reading.await.expect("closed");
    }
}

#[tokio::test]
async fn the_oldest_unacknowledged_push_counts_whatever_else_is_acknowledged() {
    let limits = Limits { unacked: Duration::from_secs(1), ..Limits::default() };
    let mut house = House::with(&config(), limits, Arc::default());
    let mut client = Client::join(house.address, DEVICE, 4).await;
    house.joined().await;
    let acknowledging = tokio::spawn(async move {
        let mut first = None;
        while let Some(packet) = client.next().await {
            let pid = packet.published(4).pid.expect("QoS 1");
            if *first.get_or_insert(pid) != pid {
                // Fails when the gateway has closed.
                if client.try_send(&raw::puback(pid)).await.is_err() {
                    break;
                }
            }
        }
    });
    pushed_until_it_leaves(&mut house).await;
    acknowledging.await.expect("closed");
}
