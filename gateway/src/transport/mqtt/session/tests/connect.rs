//! CONNECT: who gets in, and on which terms.

use super::*;

#[test]
fn wrong_logins_are_told_in_the_words_of_their_version() {
    let stranger = |level, user: Option<&str>, password: Option<&str>| Connect {
        password: password.map(str::to_owned),
        user: user.map(str::to_owned),
        ..Connect::of(DEVICE, level)
    };
    let id = DEVICE.to_string();
    for (user, password, v3, v5) in [
        (Some(id.as_str()), Some("wrong"), 5, 0x87),
        (Some("nobody"), Some("wrong"), 5, 0x87),
        (Some(id.as_str()), None, 5, 0x87),
        (None, None, 5, 0x87),
        (Some("throttled"), Some("x"), 3, 0x97),
    ] {
        for (level, code) in [(4, v3), (5, v5)] {
            let mut world = World::new(level);
            world.receive(&stranger(level, user, password).bytes());
            let connack = world.packet();
            assert_eq!((connack.first, connack.body[1]), (0x20, code), "{user:?} {level}");
            assert!(world.out.close && world.session.admission().is_none());
        }
    }
}

#[test]
fn other_protocol_levels_are_refused_in_kind() {
    for (level, connack) in [(3, &[0, 1][..]), (6, &[0x84, 0][..])] {
        let mut world = World::new(4);
        let mut bytes = Connect::of(DEVICE, 4).bytes();
        bytes[8] = level;
        world.receive(&bytes);
        let got = world.packet();
        assert_eq!(got.first, 0x20);
        assert!(got.body.ends_with(connack), "{level}: {got:?}");
        assert!(world.out.close);
    }
}

#[test]
fn a_5_0_client_is_told_every_limit() {
    let mut world = World::new(5);
    let connect = Connect { client_id: "", keep_alive: 0, clean: true, ..Connect::of(DEVICE, 5) };
    world.receive(&connect.bytes());
    let admission = world.admit(Admitted::default());
    assert!(admission.clean && !admission.durable);
    let connack = world.packet();
    assert_eq!(connack.body[..2], [0, 0]);
    let mut told = connack.body[3..].to_vec();
    let id = DEVICE.to_string();
    for property in [
        vec![0x24, 1],                 // Maximum QoS
        vec![0x25, 0],                 // Retain Available
        vec![0x2a, 0],                 // Shared Subscription Available
        vec![0x29, 0],                 // Subscription Identifier Available
        vec![0x28, 1],                 // Wildcard Subscription Available
        vec![0x22, 0, 0],              // Topic Alias Maximum
        vec![0x21, 0, 32],             // Receive Maximum
        vec![0x27, 0, 0, 0x40, 0],     // Maximum Packet Size
        vec![0x13, 3, 0x84],           // Server Keep Alive: 900
        raw::text_property(0x12, &id), // Assigned Client Identifier
    ] {
        let at = told.windows(property.len()).position(|window| window == property);
        let at = at.unwrap_or_else(|| panic!("{property:x?} in {told:x?}"));
        told.drain(at..at + property.len());
    }
    assert!(told.is_empty(), "nothing else is told: {told:x?}");
}

#[test]
fn a_keep_alive_within_the_maximum_is_the_clients() {
    let mut world = World::new(5);
    world.receive(&Connect { keep_alive: 899, ..Connect::of(DEVICE, 5) }.bytes());
    world.admit(Admitted::default());
    let connack = world.packet();
    assert!(!connack.body.windows(3).any(|window| window == [0x13, 3, 0x83]));
    world.pass(Duration::from_secs(1348));
    assert!(world.silent());
    world.pass(Duration::from_secs(1));
    world.ended(0x8d);
}

#[test]
fn a_durable_session_tells_a_5_0_client_that_it_does_not_expire() {
    let mut world = World::new(5);
    world.receive(
        &Connect { clean: true, properties: vec![0x11, 0, 0, 0, 9], ..Connect::of(DEVICE, 5) }.bytes(),
    );
    let admission = world.admit(Admitted::default());
    assert!(admission.clean && admission.durable, "a Session Expiry Interval was asked for");
    let connack = world.packet();
    assert!(connack.body.windows(5).any(|window| window == [0x11, 0xff, 0xff, 0xff, 0xff]), "{connack:?}");
}

#[test]
fn session_present_is_what_the_house_says() {
    for level in [4, 5] {
        for present in [false, true] {
            let mut world = World::new(level);
            world.receive(&Connect::of(DEVICE, level).bytes());
            world.admit(Admitted { present, ..Admitted::default() });
            assert_eq!(world.packet().body[..2], [u8::from(present), 0]);
            assert_eq!(world.out.joined, None, "nothing is subscribed");
        }
    }
}

#[test]
fn a_restored_subscription_joins_at_once() {
    let world = World::subscribed(4);
    assert_eq!(world.out.joined, Some(true));
}

#[test]
fn a_will_stays_in_the_devices_own_outbox() {
    let will = |topic: String, flags| Some((topic, br#"{"screen":"off"}"#.to_vec(), flags));
    for level in [4, 5] {
        for topic in
            [inbox("push/x"), format!("up/{}/outbox/state", DeviceId(8)), outbox("#"), "x".to_owned()]
        {
            let mut world = World::new(level);
            world.receive(&Connect { will: will(topic, 0), ..Connect::of(DEVICE, level) }.bytes());
            assert_eq!(world.packet().body[1], if level == 5 { 0x87 } else { 5 });
            assert!(world.out.close);
        }
        let connect = Connect { will: will(outbox("state"), 8), ..Connect::of(DEVICE, level) };
        let left = World::with(&connect, Admitted::default()).finish();
        assert_eq!(left.will.and_then(|state| state.screen), Some(false));
        let mut world = World::with(&connect, Admitted::default());
        world.receive(&raw::DISCONNECT);
        assert!(world.out.close);
        assert_eq!(world.finish().will, None, "it said goodbye");
    }
    for (flags, code) in [(0x20, 0x9a), (0x10, 0x9b)] {
        let mut world = World::new(5);
        world.receive(&Connect { will: will(outbox("state"), flags), ..Connect::of(DEVICE, 5) }.bytes());
        assert_eq!(world.packet().body[1], code);
    }
}

#[test]
fn an_authentication_exchange_is_not_offered() {
    let mut world = World::new(5);
    let properties = raw::text_property(0x15, "SCRAM-SHA-1");
    world.receive(&Connect { properties, ..Connect::of(DEVICE, 5) }.bytes());
    assert_eq!(world.packet().body[1], 0x8c);
}

#[test]
fn what_follows_connect_waits_for_the_seat() {
    let mut world = World::new(4);
    let mut bytes = Connect::of(DEVICE, 4).bytes();
    bytes.extend(raw::PINGREQ);
    world.receive(&bytes);
    assert!(world.silent() && !world.session.hungry());
    world.receive(&raw::PINGREQ);
    world.admit(Admitted::default());
    assert_eq!(world.packet().kind(), 2);
    assert_eq!((world.packet().first, world.packet().first), (0xd0, 0xd0));
}

#[test]
fn a_device_without_a_seat_is_asked_to_come_back() {
    for (level, code) in [(4, 3), (5, 0x88)] {
        let mut world = World::new(level);
        world.receive(&Connect::of(DEVICE, level).bytes());
        world.session.turn_away();
        world.collect();
        assert_eq!(world.packet().body[1], code);
        assert!(world.out.close);
    }
}

#[test]
fn a_5_0_client_may_end_its_session_as_it_leaves() {
    let mut world = World::open(5);
    world.receive(&raw::packet(0xe0, &[0, 5, 0x11, 0, 0, 0, 0]));
    assert!(world.finish().forget);
    let mut world = World::open(5);
    world.receive(&raw::packet(0xe0, &[0]));
    assert!(!world.finish().forget);
}

#[test]
fn a_client_that_takes_no_topic_alias_may_say_so() {
    for before in [vec![], raw::user_property("a", "b"), vec![0x11, 0, 0, 0, 9, 0x21, 0, 9]] {
        for maximum in [0, 1] {
            let mut world = World::new(5);
            let properties = [&before[..], &[0x22, 0, maximum], &raw::user_property("c", "d")].concat();
            world.receive(&Connect { properties, ..Connect::of(DEVICE, 5) }.bytes());
            world.admit(Admitted::default());
            assert_eq!(world.packet().body[..2], [0, 0]);
        }
    }
}

#[test]
fn a_connect_of_many_topic_alias_maxima_is_refused() {
    let mut world = World::new(5);
    world.receive(&Connect { properties: vec![0x22, 0, 0, 0x22, 0, 0], ..Connect::of(DEVICE, 5) }.bytes());
    assert!(world.out.close && world.session.admission().is_none());
}
