//! Pushes, acknowledgements, redelivery, and patience.

use super::*;
use crate::{model::Coding, transport::mqtt::wire};

fn with_coding(encoding: &str) -> Item {
    let mut item = push(1);
    Arc::make_mut(&mut item.message).coding = Coding {
        content_encoding: Some(encoding.into()),
        crypto_key: Some("dh=BB".into()),
        encryption: Some("salt=AA".into()),
    };
    item
}

#[test]
fn a_3_1_1_push_is_the_body_as_it_came() {
    let mut world = World::subscribed(4);
    world.deliver(vec![push(1)]);
    let published = world.published();
    assert_eq!(published.topic, inbox("push/0000000000005"));
    assert_eq!((&published.body[..], published.dup), (&b"body"[..], false));
    assert_eq!(world.out.sent, ids(&[1]));
    world.receive(&raw::puback(published.pid.expect("QoS 1")));
    assert_eq!(world.out.acked, ids(&[1]));
}

#[test]
fn a_3_1_1_aesgcm_push_keeps_its_headers() {
    let mut world = World::subscribed(4);
    world.deliver(vec![with_coding("aesgcm")]);
    let expected = b"aesgcm\nEncryption: salt=AA\nCrypto-Key: dh=BB\nbody";
    assert_eq!(&world.published().body[..], expected);
}

#[test]
fn a_5_0_push_carries_its_properties() {
    let mut world = World::subscribed(5);
    let item = with_coding("aesgcm");
    world.deliver(vec![item.clone()]);
    let published = world.published();
    let expected = [
        vec![2, 0, 0, 0x0e, 0x10],
        raw::text_property(3, "application/octet-stream"),
        raw::user_property("message-id", &item.token.to_string()),
        raw::user_property("content-encoding", "aesgcm"),
        raw::user_property("encryption", "salt=AA"),
        raw::user_property("crypto-key", "dh=BB"),
        raw::user_property("accepted-at", "0"),
    ];
    assert_eq!(published.properties, expected.concat());
    assert_eq!(&published.body[..], b"body");
}

#[test]
fn the_size_of_a_5_0_push_is_known_before_it_is_built() {
    for length in [0, 1, 20, 100, 127, 128, 4096, 5630, 16_200, 16_384] {
        for encoding in ["aesgcm", "aes128gcm"] {
            let mut world = World::subscribed(5);
            let mut item = with_coding(encoding);
            Arc::make_mut(&mut item.message).body = vec![1; length].into();
            world.deliver(vec![item.clone()]);
            assert_eq!(world.out.bytes.len(), wire::packet_size_5_0(&item), "{length}");
        }
    }
}

#[test]
fn what_is_due_is_written_together_and_acknowledged_in_any_order() {
    let mut world = World::subscribed(4);
    world.deliver((1..=4).map(push).collect());
    let pids: Vec<_> = (0..4).map(|_| world.published().pid.expect("QoS 1")).collect();
    let acks = [raw::puback(pids[3]), raw::puback(pids[0]), raw::puback(pids[2])].concat();
    world.receive(&acks);
    assert_eq!(world.out.acked, ids(&[4, 1, 3]));
    assert!(world.silent());
}

#[test]
fn a_receive_maximum_is_obeyed_and_the_rest_follows() {
    let connect = Connect { properties: vec![0x21, 0, 2], ..Connect::of(DEVICE, 5) };
    let filters = vec![(inbox("#").into(), 1)];
    let mut world = World::with(&connect, Admitted { filters, ..Admitted::default() });
    assert_eq!(world.session.window().messages, 2);
    world.deliver((1..=4).map(push).collect());
    assert_eq!(world.out.sent, ids(&[1, 2]));
    let first = world.published();
    world.receive(&raw::puback(first.pid.expect("QoS 1")));
    assert_eq!(world.out.sent, ids(&[1, 2, 3]));
}

#[test]
fn windows_are_capped() {
    assert_eq!(World::open(4).session.window().messages, 20);
    assert_eq!(World::open(5).session.window().messages, 100);
}

#[test]
fn a_push_that_no_filter_wants_is_turned_back() {
    let filters = vec![(inbox("push/0000000000009").into(), 1)];
    let mut world = World::with(&Connect::of(DEVICE, 4), Admitted { filters, ..Admitted::default() });
    world.deliver(vec![push(1)]);
    assert_eq!(world.out.absent, ids(&[1]));
    assert!(world.silent());
}

#[test]
fn a_subscription_at_qos_0_settles_by_writing() {
    let filters = vec![(inbox("#").into(), 0)];
    let mut world = World::with(&Connect::of(DEVICE, 4), Admitted { filters, ..Admitted::default() });
    world.deliver(vec![push(1)]);
    assert_eq!(world.published().pid, None);
    assert_eq!((world.out.sent.clone(), world.out.settled.clone()), (ids(&[1]), ids(&[1])));
}

#[test]
fn redelivery_has_its_old_packet_id_and_dup() {
    let mut world = World::subscribed(5);
    world.deliver(vec![push(1), push(2), push(3)]);
    let pids: Vec<_> = (0..3).map(|_| world.published().pid.expect("QoS 1")).collect();
    world.receive(&raw::puback(pids[1]));
    let packet_ids = world.finish().packet_ids;
    assert_eq!(packet_ids, [(MessageId(1), pids[0]), (MessageId(3), pids[2])]);

    let admitted = Admitted { filters: vec![(inbox("#").into(), 1)], packet_ids, present: true };
    let mut world = World::with(&Connect::of(DEVICE, 5), admitted);
    let again = |id| Item { redelivery: true, ..push(id) };
    // 1 has expired meanwhile; 4, 5 and 6 are new, and take nobody's number.
    world.deliver(vec![again(3), push(4), push(5), push(6)]);
    let third = world.published();
    assert_eq!((third.pid, third.dup), (Some(pids[2]), true));
    for _ in 0..3 {
        let new = world.published();
        assert!(!new.dup && !pids[..1].contains(&new.pid.expect("QoS 1")) && new.pid != Some(pids[2]));
    }
    let left = world.finish().packet_ids;
    assert!(left.contains(&(MessageId(1), pids[0])), "still not acknowledged");
}

#[test]
fn a_clean_session_remembers_no_packet_ids() {
    let connect = Connect { clean: true, ..Connect::of(DEVICE, 4) };
    let filters = vec![(inbox("#").into(), 1)];
    let mut world = World::with(&connect, Admitted { filters, ..Admitted::default() });
    world.deliver(vec![push(1)]);
    assert_eq!(world.finish().packet_ids, []);
}

#[test]
fn late_and_repeated_pubacks_do_no_harm() {
    for level in [4, 5] {
        let packet_ids = vec![(MessageId(8), 40)];
        let admitted = Admitted { filters: vec![(inbox("#").into(), 1)], packet_ids, present: true };
        let mut world = World::with(&Connect::of(DEVICE, level), admitted);
        world.receive(&raw::puback(40));
        assert_eq!(world.out.acked, ids(&[8]), "what an earlier connection brought");
        world.receive(&[raw::puback(40), raw::puback(999)].concat());
        world.deliver(vec![push(1)]);
        let pid = world.published().pid.expect("QoS 1");
        world.receive(&[raw::puback(pid), raw::puback(pid), raw::PINGREQ.to_vec()].concat());
        assert_eq!(world.out.acked, ids(&[8, 1]));
        assert_eq!(world.packet().first, 0xd0);
        assert!(world.silent());
    }
}

#[test]
fn a_5_0_puback_with_reason_and_text_counts() {
    let mut world = World::subscribed(5);
    world.deliver(vec![push(1)]);
    let pid = world.published().pid.expect("QoS 1").to_be_bytes();
    let reason = raw::text_property(0x1f, "taken");
    let mut body = vec![pid[0], pid[1], 0, u8::try_from(reason.len()).expect("short")];
    body.extend(reason);
    world.receive(&raw::packet(0x40, &body));
    assert_eq!(world.out.acked, ids(&[1]));
}

#[test]
fn what_is_in_flight_is_not_sent_twice_on_one_connection() {
    let mut world = World::subscribed(4);
    world.deliver(vec![push(1)]);
    world.published();
    world.deliver(vec![Item { redelivery: true, ..push(1) }]);
    assert!(world.silent());
    assert_eq!(world.out.sent, ids(&[1, 1]), "reported as taken again");
}

#[test]
fn packet_ids_are_not_used_again_at_once() {
    let mut world = World::subscribed(4);
    let mut seen = std::collections::HashSet::new();
    for id in 0..1000 {
        world.deliver(vec![push(id)]);
        let pid = world.published().pid.expect("QoS 1");
        assert!(seen.insert(pid), "{pid}");
        world.receive(&raw::puback(pid));
    }
}

#[test]
fn silence_ends_the_connection_even_while_pushes_flow() {
    for level in [4, 5] {
        let mut world = World::subscribed(level);
        for second in 1..90 {
            world.pass(Duration::from_secs(1));
            assert!(!world.out.close, "{second}");
        }
        assert_eq!(world.session.deadline(), Some(world.now + Duration::from_secs(1)));
        world.deliver(vec![push(1)]);
        world.published();
        world.pass(Duration::from_secs(1));
        world.ended(0x8d);
    }
}

#[test]
fn a_device_that_pings_but_acknowledges_nothing_is_taken_for_dead() {
    for level in [4, 5] {
        let mut world = World::subscribed(level);
        world.deliver(vec![push(1)]);
        world.published();
        for _ in 0..10 {
            world.pass(Duration::from_secs(29));
            world.receive(&raw::PINGREQ);
            world.packet();
        }
        world.deliver(vec![push(2)]);
        world.published();
        world.pass(Duration::from_secs(10));
        world.ended(0x83);
    }
}

#[test]
fn nobody_is_put_out_for_housekeeping() {
    for level in [4, 5] {
        let mut world = World::subscribed(level);
        world.deliver(vec![push(1)]);
        let pid = world.published().pid.expect("QoS 1");
        world.receive(&raw::puback(pid));
        // A month of a phone that pings in time and hears nothing.
        let keep_alive = world.session.keep_alive();
        for _ in 0..30 * 24 * 60 {
            world.pass(keep_alive);
            assert!(world.silent(), "{:?}", world.out);
            world.receive(&raw::PINGREQ);
            assert_eq!(world.packet().first, 0xd0);
        }
        world.pass(keep_alive * 3 / 2);
        world.ended(0x8d);
    }
}
