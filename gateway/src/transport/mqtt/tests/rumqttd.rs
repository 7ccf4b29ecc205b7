//! What was found in rumqttd 0.20, row by row, through the gateway's own listeners.
//!
//! | # | what rumqttd does | the test |
//! |---|---|---|
//! | 1 | `$share` with a persistent session kills the router | `row_01_shared_subscriptions_do_not_kill_the_router` |
//! | 2 | handshakes in the accept loop | `row_02_a_silent_handshake_holds_up_nobody` |
//! | 3 | a slot used again resets strangers | `row_03_churn_resets_nobody` |
//! | 4 | no keep-alive while pushes flow | `session: silence_ends_the_connection_even_while_pushes_flow` |
//! | 5 | no write timeout | `limits: a_peer_that_does_not_read_is_given_up` |
//! | 6 | PUBACK out of order disconnects | `row_06_pubacks_in_any_order` |
//! | 7 | redelivery with a new packet id and DUP=0 | `room: redelivery_keeps_packet_id_and_message_id_over_a_reconnect` |
//! | 8 | an absent subscriber loses what was acknowledged | `tests: offline::what_waited_comes_in_order` |
//! | 9 | filters and names are never freed | `row_09_a_device_has_one_name_and_one_filter_for_ever` |
//! | 10 | a restart forgets sessions | `room: a_durable_session_survives_a_restart_of_the_gateway` |
//! | 11 | no authorization | `leak: no_filter_reaches_another_device` |
//! | 12 | a refused CONNECT gets no CONNACK | `row_12_a_refused_connect_is_told_why` |
//! | 13 | panics above its connection maximum | `row_13_more_connections_than_there_may_be` |
//! | 14 | UNSUBSCRIBE of the unknown unanswered, `a/#/b` granted | `row_14_filters_are_judged_and_unsubscribe_is_answered` |
//! | 15 | Receive Maximum and the like ignored | `row_15_receive_maximum_is_obeyed`, `room: what_is_larger_than_the_client_takes_is_turned_back` |
//! | 16 | topic aliases by filter | `row_16_no_topic_alias_is_used` |
//! | 17 | a port per version | `room: both_versions_are_served_on_one_port` |
//! | 18 | no shutdown | `room: stopping_says_goodbye_and_ends_in_time` |
//! | 19 | an old TLS stack by default | `row_19_one_tls_stack_is_built` |
//! | 20 | links block | `router: a_busy_router_is_knocked_at_again` |
//! | 21 | `dup`, `qos`, `pkid` are hidden | `room: redelivery_keeps_packet_id_and_message_id_over_a_reconnect` |

use std::sync::Arc;

use super::{
    house::{House, config},
    raw::{self, Client, Connect},
    ways::{self, Way},
};
use crate::{
    config::MqttConfig,
    model::DeviceId,
    transport::{Consignment, Event, Transport as _, battery, mqtt::Limits},
};

const DEVICE: DeviceId = DeviceId(7);

fn pushes(device: DeviceId, ids: std::ops::RangeInclusive<u64>) -> Consignment {
    Consignment { device, items: ids.map(|id| battery::item(device, id, b"body")).collect() }
}

#[tokio::test]
async fn row_01_shared_subscriptions_do_not_kill_the_router() {
    let mut house = House::start().await;
    for level in [4, 5] {
        let mut client = Client::join(house.address, DEVICE, level).await;
        let refused = client.subscribe(&[(&format!("$share/g/up/{DEVICE}/inbox/#"), 1)]).await;
        assert!(refused[0] >= 0x80);
        house.joined().await;
        assert_eq!(house.room.hand_over(pushes(DEVICE, 1..=1)), Ok(()));
        client.published().await;
        drop(client);
        house.left().await;
        let mut client = Client::join(house.address, DEVICE, level).await;
        house.joined().await;
        assert_eq!(house.room.hand_over(pushes(DEVICE, 1..=1)), Ok(()));
        client.published().await;
        client.send(&raw::DISCONNECT).await;
        house.left().await;
    }
    assert!(!house.running.is_finished());
}

#[tokio::test]
async fn row_02_a_silent_handshake_holds_up_nobody() {
    let (_house, ways) = ways::all();
    let silent: Vec<_> = {
        let mut silent = Vec::new();
        for (way, _) in &ways {
            let (Way::Tcp(address) | Way::Tls(address) | Way::Web(address)) = *way;
            silent.push(tokio::net::TcpStream::connect(address).await.expect("connects"));
        }
        silent
    };
    for (way, level) in ways {
        way.log_in(DEVICE, level).await.ping().await;
    }
    drop(silent);
}

#[tokio::test]
async fn row_03_churn_resets_nobody() {
    let mut house = House::start().await;
    let mut bystander = Client::join(house.address, DEVICE, 4).await;
    house.joined().await;
    for id in 100..300 {
        let mut client = Client::join(house.address, DeviceId(id), 4).await;
        client.send(&raw::DISCONNECT).await;
    }
    assert_eq!(house.room.hand_over(pushes(DEVICE, 1..=1)), Ok(()));
    bystander.published().await;
}

#[tokio::test]
async fn row_06_pubacks_in_any_order() {
    for level in [4, 5] {
        let mut house = House::start().await;
        let mut client = Client::join(house.address, DEVICE, level).await;
        house.joined().await;
        assert_eq!(house.room.hand_over(pushes(DEVICE, 1..=4)), Ok(()));
        let mut pids = Vec::new();
        for _ in 0..4 {
            pids.push(client.published().await.pid.expect("QoS 1"));
        }
        let mut acked = 0;
        for at in [3, 0, 2, 1] {
            client.send(&raw::puback(pids[at])).await;
        }
        while acked < 4 {
            acked +=
                house.event(|event| if let Event::Acked(ids) = event { Some(ids.len()) } else { None }).await;
        }
        client.ping().await;
    }
}

#[tokio::test]
async fn row_09_a_device_has_one_name_and_one_filter_for_ever() {
    let mut house = House::start().await;
    let mut link_names = std::collections::BTreeSet::new();
    for client_id in ["a", "b", "c"] {
        let connect = Connect { client_id, ..Connect::of(DEVICE, 4) };
        let (mut client, _) = Client::connect(house.address, &connect).await;
        client
            .subscribe(&[
                (&format!("up/{DEVICE}/inbox/{client_id}/#"), 1),
                (&format!("up/{DEVICE}/inbox/#"), 1),
            ])
            .await;
        house.joined().await;
        link_names.extend(house.room.seats.of(DEVICE).map(|seat| seat.device));
        client.send(&raw::DISCONNECT).await;
        house.left().await;
    }
    assert_eq!(link_names.len(), 1, "whatever the client calls itself and subscribes to");
}

#[tokio::test]
async fn row_12_a_refused_connect_is_told_why() {
    let (_house, ways) = ways::all();
    for (way, level) in ways {
        let wrong = Connect { password: Some("wrong".to_owned()), ..Connect::of(DEVICE, level) };
        let (mut client, connack) = way.connect(&wrong).await;
        assert_eq!(connack.body[1], if level == 5 { 0x87 } else { 5 });
        assert_eq!(client.next().await, None);
    }
}

#[tokio::test]
async fn row_13_more_connections_than_there_may_be() {
    let config = MqttConfig { max_connections: 4, ..config() };
    let mut house = House::with(&config, Limits::default(), Arc::default());
    let mut devices = Vec::new();
    for id in 1..=4 {
        devices.push(Client::join(house.address, DeviceId(id), 4).await);
        house.joined().await;
    }
    for _ in 0..50 {
        let mut late = Client::open(house.address, 4).await;
        assert_eq!(late.next().await, None);
    }
    for (id, device) in (1..).zip(&mut devices) {
        assert_eq!(house.room.hand_over(pushes(DeviceId(id), id..=id)), Ok(()));
        device.published().await;
    }
}

#[tokio::test]
async fn row_14_filters_are_judged_and_unsubscribe_is_answered() {
    let (_house, ways) = ways::all();
    for (way, level) in ways {
        let mut client = way.log_in(DEVICE, level).await;
        let invalid = format!("up/{DEVICE}/inbox/#/b");
        let refused = if level == 5 { 0x8f } else { 0x80 };
        assert_eq!(client.subscribe(&[(&invalid, 1)]).await, [refused]);
        client.send(&raw::unsubscribe(level, 9, &["never/subscribed"])).await;
        let unsuback = client.packet().await;
        assert_eq!((unsuback.first, unsuback.pid()), (0xb0, 9));
        if level == 5 {
            assert_eq!(unsuback.body.last(), Some(&0x11), "no subscription existed");
        }
    }
}

#[tokio::test]
async fn row_15_receive_maximum_is_obeyed() {
    let mut house = House::start().await;
    let connect = Connect { properties: vec![0x21, 0, 2], ..Connect::of(DEVICE, 5) };
    let (mut client, _) = Client::connect(house.address, &connect).await;
    client.subscribe(&[(&format!("up/{DEVICE}/inbox/#"), 1)]).await;
    house.joined().await;
    assert_eq!(house.room.hand_over(pushes(DEVICE, 1..=3)), Err(crate::transport::Turned::Full));
    assert_eq!(house.room.hand_over(pushes(DEVICE, 1..=2)), Ok(()));
    client.published().await;
    client.published().await;
    client.ping().await;
    // And the other way round: 32 are allowed, the 33rd is one too many.
    house.directory.disk.send_replace(false);
    let topic = format!("up/{DEVICE}/outbox/register");
    for pid in 1..=33 {
        client.send(&raw::publish(5, 0x32, pid, &topic, &[], br#"{"token":"t"}"#)).await;
    }
    client.put_out(0x93).await;
}

#[tokio::test]
async fn row_16_no_topic_alias_is_used() {
    let mut house = House::start().await;
    let connect = Connect { properties: vec![0x22, 0, 9], ..Connect::of(DEVICE, 5) };
    let (mut client, _) = Client::connect(house.address, &connect).await;
    client.subscribe(&[(&format!("up/{DEVICE}/inbox/#"), 1)]).await;
    house.joined().await;
    assert_eq!(house.room.hand_over(pushes(DEVICE, 1..=3)), Ok(()));
    for _ in 0..3 {
        assert!(client.published().await.topic.starts_with("up/"), "each names its topic");
    }
}

#[test]
fn row_19_one_tls_stack_is_built() {
    let lock = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock"));
    let stacks: Vec<_> =
        lock.split("[[package]]").filter(|one| one.contains("name = \"rustls-webpki\"")).collect();
    assert_eq!(stacks.len(), 1, "{stacks:?}");
    assert!(!stacks[0].contains("version = \"0.102"), "the old one has open advisories");
}
