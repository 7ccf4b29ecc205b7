//! Subscriptions, registrations, and what a device says of itself.

use super::*;
use crate::{
    model::{AppToken, Urgency},
    transport::RegisterRefusal,
};

fn register(level: u8, first: u8, pid: u16, json: &str) -> Vec<u8> {
    raw::publish(level, first, pid, &outbox("register"), &[], json.as_bytes())
}

#[tokio::test]
async fn a_subscription_is_durable_before_it_is_granted() {
    for level in [4, 5] {
        let mut world = World::open(level);
        world.receive(&raw::subscribe(level, 9, &[(&inbox("#"), 2)]));
        assert!(world.silent() && world.out.joined.is_none());
        let ask = world.answer().await;
        let saved = Ask::Save(crate::model::Session { filters: vec![(inbox("#").into(), 1)] });
        assert_eq!(ask, saved);
        let suback = world.packet();
        assert_eq!((suback.first, suback.pid(), suback.body.last()), (0x90, 9, Some(&1)));
        assert_eq!(world.out.joined, Some(true));
        // The same again changes nothing, and needs no disk.
        world.receive(&raw::subscribe(level, 10, &[(&inbox("#"), 1)]));
        assert_eq!(world.packet().pid(), 10);
    }
}

#[test]
fn a_clean_session_needs_no_disk() {
    let connect = Connect { clean: true, ..Connect::of(DEVICE, 4) };
    let mut world = World::with(&connect, Admitted::default());
    world.receive(&raw::subscribe(4, 1, &[(&inbox("#"), 1)]));
    assert_eq!(world.packet().first, 0x90);
    assert!(world.session.ask().is_none());
}

#[test]
fn each_filter_is_judged_by_itself() {
    let foreign = format!("up/{}/inbox/#", DeviceId(8));
    let shared = format!("$share/g/{}", inbox("#"));
    let invalid = inbox("#/x");
    let own = inbox("push/+");
    let long = inbox(&"x".repeat(300));
    let wanted = [(foreign.as_str(), 1), ("#", 0), (&shared, 1), (&invalid, 1), (&own, 0), (&long, 1)];
    for (level, codes) in [(4, [0x80, 0x80, 0x80, 0x80, 0, 0x80]), (5, [0x87, 0x87, 0x9e, 0x8f, 0, 0x8f])] {
        let connect = Connect { clean: true, ..Connect::of(DEVICE, level) };
        let mut world = World::with(&connect, Admitted::default());
        world.receive(&raw::subscribe(level, 1, &wanted));
        assert!(world.packet().body.ends_with(&codes), "{level}");
    }
}

#[test]
fn a_device_has_so_many_subscriptions_and_no_more() {
    let connect = Connect { clean: true, ..Connect::of(DEVICE, 5) };
    let mut world = World::with(&connect, Admitted::default());
    let filters: Vec<_> = (0..33).map(|number| inbox(&number.to_string())).collect();
    let wanted: Vec<_> = filters.iter().map(|filter| (filter.as_str(), 1)).collect();
    world.receive(&raw::subscribe(5, 1, &wanted));
    let suback = world.packet();
    assert_eq!(suback.body[suback.body.len() - 2..], [1, 0x97]);
}

#[test]
fn a_subscription_that_the_disk_does_not_take_is_not_granted() {
    for (level, code) in [(4, 0x80), (5, 0x83)] {
        let mut world = World::open(level);
        world.receive(&raw::subscribe(level, 1, &[(&inbox("#"), 1), ("x", 1)]));
        assert!(world.session.ask().is_some());
        let failed = Answered::Done(Err(RegisterRefusal::InternalError));
        world.session.answered(&*world.directory.clone(), failed, world.now);
        world.collect();
        let suback = world.packet();
        assert_eq!(suback.body[suback.body.len() - 2], code);
        assert_eq!(world.out.joined, None);
    }
}

#[tokio::test]
async fn unsubscribing_leaves() {
    for level in [4, 5] {
        let mut world = World::subscribed(level);
        let mut packet = raw::unsubscribe(level, 3, &[&inbox("#"), "x"]);
        world.receive(&packet);
        world.answer().await;
        let unsuback = world.packet();
        assert_eq!((unsuback.first, unsuback.pid()), (0xb0, 3));
        if level == 5 {
            assert_eq!(unsuback.body[3..], [0, 0x11]);
        }
        assert_eq!(world.out.joined, Some(false));
        world.deliver(vec![push(1)]);
        assert_eq!(world.out.absent, ids(&[1]));
        // Again, with nothing to change: answered all the same.
        packet[3] = 4;
        world.receive(&packet);
        assert_eq!(world.packet().first, 0xb0);
    }
}

#[tokio::test]
async fn a_registration_is_acknowledged_when_it_is_durable_and_answered() {
    for level in [4, 5] {
        let mut world = World::subscribed(level);
        world.receive(&register(level, 0x32, 5, r#"{"token":"t1","app":"Chat"}"#));
        assert!(world.silent(), "nothing before the disk");
        world.answer().await;
        let answer = world.published();
        assert_eq!(answer.topic, inbox("endpoint"));
        let expected = format!(
            r#"{{"token":"t1","channel":"0000000000005","endpoint":"{}"}}"#,
            crate::transport::mqtt::tests::house::endpoint("t1")
        );
        assert_eq!(answer.body, expected.as_bytes());
        assert!(answer.pid.is_some());
        let puback = world.packet();
        assert_eq!((puback.first, puback.pid()), (0x40, 5), "after the answer");
    }
}

#[tokio::test]
async fn nobody_is_answered_who_has_not_subscribed() {
    let mut world = World::open(4);
    world.receive(&register(4, 0x32, 5, r#"{"token":"t1"}"#));
    world.answer().await;
    assert_eq!(world.packet().first, 0x40);
    assert!(world.silent());
}

#[tokio::test]
async fn pubacks_come_in_the_order_of_the_publishes() {
    let mut world = World::subscribed(5);
    let state = |pid| raw::publish(5, 0x32, pid, &outbox("state"), &[], br#"{"screen":"on"}"#);
    world.receive(&[state(1), register(5, 0x32, 2, r#"{"token":"a"}"#), state(3)].concat());
    assert_eq!(world.out.states.len(), 2, "what is said counts at once");
    assert_eq!(world.out.states[0].screen, Some(true));
    assert_eq!(world.packet().pid(), 1);
    assert!(world.silent());
    world.answer().await;
    world.published();
    assert_eq!((world.packet().pid(), world.packet().pid()), (2, 3));
}

#[tokio::test]
async fn a_floor_is_in_force_at_once_and_acknowledged_when_it_is_on_disk() {
    for (level, failed) in [(4, None), (5, Some(0x80))] {
        let mut world = World::subscribed(level);
        let state = |pid| raw::publish(level, 0x32, pid, &outbox("state"), &[], br#"{"urgency":"low"}"#);
        world.receive(&state(1));
        assert_eq!(world.out.states[0].urgency, Some(Urgency::Low));
        assert!(world.silent());
        assert_eq!(world.answer().await, Ask::Floor(Urgency::Low));
        let puback = world.packet();
        assert_eq!((puback.pid(), puback.body.get(2).copied()), (1, None));
        world.receive(&state(2));
        assert!(world.session.ask().is_some());
        let full = Answered::Done(Err(RegisterRefusal::InternalError));
        world.session.answered(&*world.directory, full, world.now);
        world.collect();
        let puback = world.packet();
        assert_eq!((puback.pid(), puback.body.get(2).copied()), (2, failed), "{level}");
    }
}

#[tokio::test]
async fn unregistering_is_confirmed() {
    let mut world = World::subscribed(4);
    world.receive(&raw::publish(4, 0x32, 6, &outbox("unregister"), &[], br#"{"token":"t"}"#));
    let ask = world.answer().await;
    assert_eq!(ask, Ask::Unregister("t".parse::<AppToken>().expect("a token")));
    let answer = world.published();
    assert_eq!((answer.topic, &answer.body[..]), (inbox("unregistered"), &br#"{"token":"t"}"#[..]));
    assert_eq!(world.packet().pid(), 6);
}

#[tokio::test]
async fn refusals_name_the_token_and_the_reason() {
    for (trouble, reason) in [
        (RegisterRefusal::ActionRequired, "ACTION_REQUIRED"),
        (RegisterRefusal::InternalError, "INTERNAL_ERROR"),
        (RegisterRefusal::Unauthorized, "UNAUTHORIZED"),
    ] {
        let mut world = World::subscribed(4);
        *crate::transport::mqtt::seat::lock(&world.directory.trouble) = Some(trouble);
        world.receive(&register(4, 0x32, 5, r#"{"token":"t"}"#));
        world.answer().await;
        let answer = world.published();
        assert_eq!(answer.topic, inbox("refused"));
        assert_eq!(answer.body, format!(r#"{{"token":"t","reason":"{reason}"}}"#).as_bytes());
        assert_eq!(world.packet().pid(), 5);
    }
}

#[test]
fn what_cannot_be_understood_is_refused_and_nothing_else_is_harmed() {
    let long = format!(r#"{{"token":"{}"}}"#, "x".repeat(101));
    for json in [
        "",
        "{",
        "[]",
        "null",
        r#"{"token":7}"#,
        r#"{"token":""}"#,
        &long,
        r#"{"urgency":"urgent"}"#,
        "\u{0}\u{1}",
    ] {
        let mut world = World::subscribed(4);
        world.receive(&register(4, 0x32, 5, json));
        assert_eq!(world.published().topic, inbox("refused"), "{json}");
        assert_eq!(world.packet().pid(), 5);
        world.receive(&raw::publish(4, 0x32, 6, &outbox("state"), &[], json.as_bytes()));
        world.deliver(vec![push(1)]);
        assert_eq!(world.out.sent, ids(&[1]));
        assert!(!world.out.close);
    }
}

#[tokio::test]
async fn a_5_0_answer_goes_where_the_device_wants_it() {
    let mut world = World::subscribed(5);
    let mut properties = raw::text_property(8, &inbox("answers/1"));
    properties.extend(raw::text_property(9, "42"));
    let json = br#"{"token":"t"}"#;
    world.receive(&raw::publish(5, 0x32, 5, &outbox("register"), &properties, json));
    world.answer().await;
    let answer = world.published();
    assert_eq!(answer.topic, inbox("answers/1"));
    let data = raw::text_property(9, "42");
    assert!(answer.properties.windows(data.len()).any(|window| window == data));
}

#[test]
fn publishing_elsewhere_ends_a_3_1_1_connection_and_is_refused_on_5_0() {
    let other = format!("up/{}/outbox/register", DeviceId(8));
    for topic in [inbox("push/x"), other, "x".to_owned(), "$SYS/x".to_owned()] {
        for first in [0x30, 0x32, 0x34] {
            let mut world = World::open(4);
            world.receive(&raw::publish(4, first, 1, &topic, &[], b"{}"));
            world.ended(0);
        }
        let mut world = World::open(5);
        world.receive(&raw::publish(5, 0x30, 0, &topic, &[], b"{}"));
        assert!(world.silent());
        world.receive(&raw::publish(5, 0x32, 1, &topic, &[], b"{}"));
        assert_eq!(world.packet(), Packet { first: 0x40, body: vec![0, 1, 0x87] });
        assert!(!world.out.close);
    }
}

#[test]
fn an_unknown_leaf_of_the_outbox_is_acknowledged_and_ignored() {
    let mut world = World::open(4);
    world.receive(&raw::publish(4, 0x32, 1, &outbox("later"), &[], b"?"));
    assert_eq!(world.packet().pid(), 1);
    assert!(world.session.ask().is_none());
}

#[tokio::test]
async fn a_3_1_1_client_may_publish_at_qos_2_and_retain() {
    let mut world = World::subscribed(4);
    let publish = register(4, 0x35, 5, r#"{"token":"t"}"#);
    world.receive(&publish);
    assert!(world.silent());
    world.answer().await;
    world.published();
    assert_eq!(world.packet(), Packet { first: 0x50, body: vec![0, 5] });
    let again = register(4, 0x3d, 5, r#"{"token":"t"}"#);
    world.receive(&again);
    assert_eq!(world.packet().first, 0x50, "the same PUBREC");
    assert!(world.session.ask().is_none(), "it was done once");
    world.receive(&raw::pubrel(5));
    assert_eq!(world.packet(), Packet { first: 0x70, body: vec![0, 5] });
}

#[test]
fn a_5_0_client_is_held_to_what_it_was_told() {
    let topic = outbox("state");
    let alias = [0x23, 0, 1];
    for (packet, reason) in [
        (raw::publish(5, 0x34, 1, &topic, &[], b"{}"), 0x9b),
        (raw::publish(5, 0x33, 1, &topic, &[], b"{}"), 0x9a),
        (raw::publish(5, 0x32, 1, &topic, &alias, b"{}"), 0x94),
        (raw::publish(5, 0x32, 0, &topic, &[], b"{}"), 0x82),
        (raw::publish(5, 0x32, 1, &topic, &[0x0b, 1], b"{}"), 0x82),
        (raw::publish(5, 0x32, 1, &outbox("+"), &[], b"{}"), 0x90),
        (raw::packet(0x82, &[0, 1, 2, 0x0b, 1, 0, 1, b'x', 1]), 0xa1),
        (raw::packet(0xf0, &[0]), 0x82),
    ] {
        let mut world = World::open(5);
        world.receive(&packet);
        world.ended(reason);
    }
}

#[tokio::test]
async fn too_many_requests_wait_unread_and_none_is_lost() {
    let mut world = World::subscribed(4);
    let many: Vec<u8> =
        (1..=200_u16).flat_map(|pid| register(4, 0x32, pid, &format!(r#"{{"token":"{pid}"}}"#))).collect();
    world.receive(&many);
    assert!(!world.session.hungry());
    for _ in 0..200 {
        world.answer().await;
    }
    assert!(world.session.hungry());
    let mut acknowledged = 0;
    while let Some(packet) = raw::take_packet(&mut world.out.bytes) {
        acknowledged += u16::from(packet.first == 0x40);
    }
    assert_eq!(acknowledged, 200);
}

#[tokio::test]
async fn a_device_that_asks_and_takes_no_answer_is_closed() {
    let mut world = World::subscribed(5);
    for round in 0..700_u16 {
        world.receive(&register(5, 0x32, round % 20 + 1, r#"{"token":"t"}"#));
        if world.out.close {
            assert!(round > 500, "{round}");
            assert!(world.out.bytes.ends_with(&[0xe0, 2, 0x97, 0]));
            return;
        }
        world.answer().await;
    }
    panic!("memory is not bounded");
}
