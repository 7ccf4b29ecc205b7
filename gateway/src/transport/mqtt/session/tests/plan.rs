//! The keep-alive: asked for by the client, learnt by the gateway, and told without a wake.

use super::*;
use crate::{
    model::Profile,
    transport::{Plan, mqtt::seat::lock},
};

fn plan(seconds: u64) -> Plan {
    Plan { keep_alive: Duration::from_secs(seconds), profile: Profile::Balanced }
}

impl World {
    fn plan(&mut self, seconds: u64) {
        self.session.plan(plan(seconds), self.now);
        self.collect();
    }

    fn later(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn told(&mut self) -> String {
        let hint = self.published();
        assert_eq!((hint.topic, hint.pid), (inbox("plan"), None));
        String::from_utf8(hint.body.to_vec()).expect("JSON")
    }
}

/// A connection whose client has asked for `asked` in a network that bears `learnt`; the Server Keep Alive
/// that it got, if it got one.
fn asked(level: u8, asked: u16, learnt: Option<u64>) -> (World, Option<u16>) {
    let mut world = World::new(level);
    *lock(&world.directory.learnt) = learnt.map(Duration::from_secs);
    world.receive(&Connect { keep_alive: asked, ..Connect::of(DEVICE, level) }.bytes());
    let filters = vec![(inbox("#").into(), 1)];
    world.admit(Admitted { filters, present: true, ..Admitted::default() });
    let connack = world.packet();
    let at = connack.body.windows(3).position(|window| window[0] == 0x13 && level == 5);
    let told = at.map(|at| u16::from_be_bytes([connack.body[at + 1], connack.body[at + 2]]));
    (world, told)
}

#[test]
fn a_5_0_client_gets_what_its_network_bears_and_never_more_than_the_owner_allows() {
    for (wanted, learnt, told) in [
        (60, Some(300), Some(300)),
        (600, Some(300), Some(300)),
        (300, Some(300), None),
        (60, Some(5000), Some(900)),
        (0, Some(135), Some(135)),
        (0, None, Some(900)),
        (60, None, None),
        (1000, None, Some(900)),
    ] {
        let (mut world, got) = asked(5, wanted, learnt);
        assert_eq!(got, told, "asked {wanted}, learnt {learnt:?}");
        let held = u64::from(told.unwrap_or(wanted));
        world.pass(Duration::from_millis(held * 1500 - 1));
        assert!(world.silent());
        world.pass(Duration::from_millis(1));
        world.ended(0x8d);
    }
}

#[test]
fn a_3_1_1_client_is_held_to_its_own_keep_alive_until_it_was_told_another() {
    let (mut world, _) = asked(4, 60, Some(300));
    world.pass(Duration::from_millis(89_999));
    assert!(world.silent());
    world.receive(&raw::PINGREQ);
    world.packet();
    world.plan(300);
    assert_eq!(world.told(), r#"{"keep_alive_s":300,"profile":"balanced"}"#);
    // It may obey from now on, or not.
    world.pass(Duration::from_millis(449_999));
    assert!(world.silent());
    world.pass(Duration::from_millis(1));
    world.ended(0);
}

#[test]
fn a_sleeping_radio_is_not_woken_for_a_plan() {
    for level in [4, 5] {
        let (mut world, _) = asked(level, 60, None);
        world.later(30);
        world.plan(300);
        world.plan(450);
        assert!(world.silent(), "it sleeps");
        world.later(30);
        world.receive(&raw::PINGREQ);
        assert_eq!(world.packet().first, 0xd0);
        assert_eq!(world.told(), r#"{"keep_alive_s":450,"profile":"balanced"}"#, "with the ping's answer");
        world.plan(450);
        assert!(world.silent(), "it is said once");
        world.later(30);
        world.plan(300);
        assert!(world.silent());
        world.deliver(vec![push(1)]);
        assert!(world.published().topic.contains("/push/"));
        assert_eq!(world.told(), r#"{"keep_alive_s":300,"profile":"balanced"}"#, "with a push");
    }
}

#[test]
fn an_impatient_3_1_1_client_is_left_alone() {
    let (mut world, _) = asked(4, 29, None);
    world.plan(300);
    assert!(world.silent());
    let (mut world, _) = asked(4, 30, None);
    world.plan(5000);
    assert_eq!(world.told(), r#"{"keep_alive_s":900,"profile":"balanced"}"#);
}

#[test]
fn who_is_silent_for_longer_than_it_said_obeys() {
    let (mut world, _) = asked(4, 60, None);
    world.plan(300);
    world.told();
    assert_eq!(world.session.keep_alive(), Duration::from_secs(60));
    world.later(62);
    world.receive(&raw::PINGREQ);
    assert!(!world.out.obeys, "a ping may be a little late");
    world.later(299);
    world.receive(&raw::PINGREQ);
    assert!(world.out.obeys);
    assert_eq!(world.session.keep_alive(), Duration::from_secs(300));
}

#[test]
fn a_plan_goes_to_who_wants_it() {
    let filters = vec![(inbox("push/+").into(), 1)];
    let admitted = Admitted { filters, present: true, ..Admitted::default() };
    let mut world = World::with(&Connect::of(DEVICE, 5), admitted);
    world.plan(300);
    assert!(world.silent());
}
