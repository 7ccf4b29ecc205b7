//! The leak matrix: nothing of another device is readable or writable, by any version or listener.
//!
//! | what a device tries | 3.1.1 | 5.0 | TCP | TLS | WebSocket |
//! |---|---|---|---|---|---|
//! | SUBSCRIBE `#`, `+/…`, `$SYS/#`, another's inbox or outbox | x | x | x | x | x |
//! | SUBSCRIBE `$share/…` | x | x | x | x | x |
//! | PUBLISH to another's inbox or outbox, to `$SYS` | x | x | x | x | x |
//! | the same, retained | x | x | x | x | x |
//! | wildcard in PUBLISH | x | x | x | x | x |
//! | Will in another's inbox or outbox, or with a wildcard | x | x | x | x | x |
//! | topic alias | - | x | x | x | x |
//! | Response Topic in another's inbox | - | x | x | x | x |
//! | another's client id | x | x | x | x | x |

use super::{
    house::House,
    raw::{self, Connect, Packet, text_property},
    ways::{self, AnyClient, Way},
};
use crate::{
    model::DeviceId,
    transport::{Consignment, Transport as _, battery, mqtt::seat::lock},
};

const NOSY: DeviceId = DeviceId(7);
const VICTIM: DeviceId = DeviceId(8);

/// What belongs to another device.
fn foreign() -> [String; 4] {
    [
        format!("up/{VICTIM}/inbox/push/0000000000005"),
        format!("up/{VICTIM}/inbox/unregistered"),
        format!("up/{VICTIM}/outbox/register"),
        "$SYS/broker/clients".to_owned(),
    ]
}

/// The same attempt by every way and version, beside a victim that is connected. Afterwards a push to
/// the victim has to be the first thing that it hears, and nothing may have been registered.
async fn everywhere<F: AsyncFn(Way, u8)>(attempt: F) {
    let (mut house, ways) = ways::all();
    let mut victim = ways[0].0.join(VICTIM, 5).await;
    house.joined().await;
    for (number, (way, level)) in (1..).zip(ways) {
        attempt(way, level).await;
        heard_alone(&house, &mut victim, number).await;
    }
    assert!(lock(&house.directory.registered).is_empty(), "nothing was forged");
    assert!(lock(&house.directory.unregistered).is_empty());
}

async fn heard_alone(house: &House, victim: &mut AnyClient, number: u64) {
    let items = vec![battery::item(VICTIM, number, format!("{number}").as_bytes())];
    assert_eq!(house.room.hand_over(Consignment { device: VICTIM, items }), Ok(()));
    let heard = victim.published().await;
    assert_eq!(heard.body, number.to_string().as_bytes(), "{}", heard.topic);
    victim.send(&raw::puback(heard.pid.expect("QoS 1"))).await;
    victim.ping().await;
}

/// The connection ends; on 5.0 with this reason.
async fn put_out(client: &mut AnyClient, reason: u8) {
    client.put_out(reason).await;
}

#[tokio::test]
async fn no_filter_reaches_another_device() {
    everywhere(async |way, level| {
        let mut nosy = way.log_in(NOSY, level).await;
        for filter in [
            "#".to_owned(),
            "+/#".to_owned(),
            "+/+/inbox/#".to_owned(),
            "up/#".to_owned(),
            "up/+/inbox/push/+".to_owned(),
            "$SYS/#".to_owned(),
            format!("up/{VICTIM}/inbox/#"),
            format!("up/{VICTIM}/outbox/#"),
            format!("up/{NOSY}/#"),
            format!("up/{NOSY}/outbox/#"),
            format!("up/{NOSY}/inboxes/#"),
        ] {
            let refused = if level == 5 { 0x87 } else { 0x80 };
            assert_eq!(nosy.subscribe(&[(&filter, 1)]).await, [refused], "{filter} by {way:?} {level}");
        }
        for filter in [format!("$share/g/up/{NOSY}/inbox/#"), "$share/g/#".to_owned()] {
            let refused = if level == 5 { 0x9e } else { 0x80 };
            assert_eq!(nosy.subscribe(&[(&filter, 1)]).await, [refused], "{filter} by {way:?} {level}");
        }
        nosy.ping().await;
    })
    .await;
}

#[tokio::test]
async fn a_push_to_another_device_is_not_heard() {
    let (mut house, ways) = ways::all();
    let mut victim = ways[0].0.join(VICTIM, 5).await;
    house.joined().await;
    for (number, (way, level)) in (1..).zip(ways) {
        let mut nosy = way.join(NOSY, level).await;
        house.joined().await;
        heard_alone(&house, &mut victim, number).await;
        nosy.ping().await;
    }
}

#[tokio::test]
async fn no_publish_reaches_another_device() {
    everywhere(async |way, level| {
        for topic in foreign() {
            for first in [0x30, 0x32] {
                let mut forger = way.log_in(NOSY, level).await;
                forger.send(&raw::publish(level, first, 9, &topic, &[], br#"{"token":"forged"}"#)).await;
                match (level, first) {
                    (5, 0x32) => {
                        let puback = forger.packet().await;
                        assert_eq!(puback, Packet { first: 0x40, body: vec![0, 9, 0x87] }, "{topic}");
                    }
                    (5, _) => forger.ping().await,
                    _ => assert_eq!(forger.next().await, None, "{topic} by {way:?}"),
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn nothing_is_retained_for_another_device() {
    everywhere(async |way, level| {
        for topic in foreign() {
            let mut forger = way.log_in(NOSY, level).await;
            forger.send(&raw::publish(level, 0x33, 9, &topic, &[], br#"{"token":"forged"}"#)).await;
            put_out(&mut forger, 0x9a).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_wildcard_in_publish_ends_the_connection() {
    everywhere(async |way, level| {
        for topic in [format!("up/{NOSY}/outbox/#"), "up/+/outbox/register".to_owned(), "#".to_owned()] {
            let mut forger = way.log_in(NOSY, level).await;
            forger.send(&raw::publish(level, 0x32, 9, &topic, &[], br#"{"token":"forged"}"#)).await;
            let mut ended = false;
            while let Some(packet) = forger.next().await {
                assert_eq!((packet.first, packet.body[0] & 0x80), (0xe0, 0x80), "{topic}: {packet:?}");
                ended = true;
            }
            assert_eq!(ended, level == 5, "5.0 is told why");
        }
    })
    .await;
}

#[tokio::test]
async fn no_will_speaks_for_another_device() {
    everywhere(async |way, level| {
        let wildcard = format!("up/{NOSY}/outbox/#");
        for topic in foreign().into_iter().chain([wildcard, format!("up/{NOSY}/inbox/push/x")]) {
            for flags in [0, 0x08] {
                let will = Some((topic.clone(), br#"{"token":"forged"}"#.to_vec(), flags));
                let connect = Connect { will, ..Connect::of(NOSY, level) };
                let (mut forger, connack) = way.connect(&connect).await;
                assert_eq!(connack.body[1], if level == 5 { 0x87 } else { 5 }, "{topic} by {way:?}");
                assert_eq!(forger.next().await, None);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_topic_alias_leads_nowhere() {
    everywhere(async |way, level| {
        if level == 4 {
            return;
        }
        let own = format!("up/{NOSY}/outbox/register");
        for (topic, alias) in [("", 1), ("", 0), (&*own, 1), (&*own, 0), (&*foreign()[2], 1)] {
            let mut forger = way.log_in(NOSY, level).await;
            let body = br#"{"token":"forged"}"#;
            forger.send(&raw::publish(level, 0x32, 9, topic, &[0x23, 0, alias], body)).await;
            let packet = forger.packet().await;
            assert!(packet.first == 0xe0 && [0x82, 0x94].contains(&packet.body[0]), "{topic}: {packet:?}");
            assert_eq!(forger.next().await, None);
        }
    })
    .await;
}

#[tokio::test]
async fn an_answer_goes_to_no_other_inbox() {
    let (mut house, ways) = ways::all();
    let mut victim = ways[0].0.join(VICTIM, 5).await;
    house.joined().await;
    for (number, (way, level)) in (1..).zip(ways).filter(|(_, (_, level))| *level == 5) {
        let mut forger = way.join(NOSY, level).await;
        for topic in [format!("up/{VICTIM}/inbox/unregistered"), "$SYS/x".to_owned()] {
            let properties = text_property(8, &topic);
            let own = format!("up/{NOSY}/outbox/unregister");
            forger.send(&raw::publish(level, 0x32, 9, &own, &properties, br#"{"token":"t"}"#)).await;
            let answer = forger.published().await;
            assert_eq!(answer.topic, format!("up/{NOSY}/inbox/unregistered"));
            assert_eq!(forger.packet().await.first, 0x40);
        }
        heard_alone(&house, &mut victim, number).await;
    }
}

#[tokio::test]
async fn another_devices_client_id_takes_nothing_over() {
    everywhere(async |way, level| {
        // The victim's, as it was given; and the device id, as a guess.
        for client_id in ["x", Box::leak(VICTIM.to_string().into_boxed_str())] {
            let mut nosy = way.connect(&Connect { client_id, ..Connect::of(NOSY, level) }).await.0;
            nosy.ping().await;
            let stranger =
                Connect { password: Some("wrong".to_owned()), client_id, ..Connect::of(VICTIM, level) };
            let (mut stranger, connack) = way.connect(&stranger).await;
            assert_ne!(connack.body[1], 0);
            assert_eq!(stranger.next().await, None);
        }
    })
    .await;
}
