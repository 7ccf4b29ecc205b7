//! Timetables: what happens when, and which wakes come of it.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use proptest::prelude::*;

use super::{Order, Planner, Settings};
use crate::{
    model::{DeviceId, MessageId, NetworkName, Pending, Profile, RegistrationId, Urgency},
    transport::{Event, Joined, Parting, Pulse, Report, Turned, Window},
};

pub(super) const PHONE: DeviceId = DeviceId(7);
pub(super) const WIDE: Window = Window { bytes: 100_000, messages: 100 };

pub(super) fn joined(window: Window) -> Event {
    let network = NetworkName::of(Ipv4Addr::LOCALHOST.into());
    Event::Joined(Joined { heard: true, network, pulse: Pulse::Nobody, window })
}

/// A ping among the ids.
pub(super) const PING: i64 = 0;

/// A planner and a clock; reads like a schedule.
pub(super) struct World {
    pub(super) now: Instant,
    pub(super) planner: Planner,
    pub(super) start: Instant,
}

impl World {
    fn new() -> Self {
        Self::with(Settings::of_profile(Profile::Instant))
    }

    pub(super) fn with(settings: Settings) -> Self {
        #[expect(clippy::disallowed_methods, reason = "an Instant can only be made from another one")]
        let start = Instant::now();
        Self { now: start, planner: Planner::new(settings), start }
    }

    pub(super) fn at(&mut self, second: u64) -> &mut Self {
        self.now = self.start + Duration::from_secs(second);
        self
    }

    pub(super) fn push_as(&mut self, id: u64, urgency: Urgency, ttl: u64, registration: u64) -> &mut Self {
        self.planner.on_pending(
            self.now,
            &Pending {
                device: PHONE,
                expires: self.now + Duration::from_secs(ttl),
                id: MessageId(id),
                registration: RegistrationId(registration),
                size: 1000,
                urgency,
                volatile: ttl == 0,
            },
        );
        self
    }

    fn push_ttl(&mut self, id: u64, ttl: u64) -> &mut Self {
        self.push_as(id, Urgency::Normal, ttl, 1)
    }

    fn push(&mut self, id: u64) -> &mut Self {
        self.push_ttl(id, 86_400)
    }

    pub(super) fn report(&mut self, event: Event) -> &mut Self {
        self.planner.on_report(&Report { at: self.now, device: PHONE, event });
        self
    }

    pub(super) fn joins(&mut self) -> &mut Self {
        self.report(joined(WIDE))
    }

    pub(super) fn acks(&mut self, ids: &[u64]) -> &mut Self {
        self.report(Event::Acked(ids.iter().copied().map(MessageId).collect()))
    }

    pub(super) fn withdraw(&mut self, id: u64) -> &mut Self {
        self.planner.on_withdrawn(PHONE, MessageId(id));
        self
    }

    /// What the planner orders now: delivered ids, a negative one for a redelivery; and expired ids.
    pub(super) fn orders(&mut self) -> (Vec<i64>, Vec<u64>) {
        let (mut delivered, mut expired) = (Vec::new(), Vec::new());
        for order in self.planner.on_timeout(self.now) {
            match order {
                Order::Deliver(device, due) => {
                    assert_eq!(device, PHONE);
                    delivered.extend(due.iter().map(|(id, again)| {
                        let id = i64::try_from(id.0).expect("small");
                        if *again { -id } else { id }
                    }));
                }
                Order::Ping(_) => delivered.push(PING),
                Order::Expire(_, ids) => expired.extend(ids.iter().map(|id| id.0)),
            }
        }
        (delivered, expired)
    }

    pub(super) fn expect_wake(&mut self, ids: &[i64]) -> &mut Self {
        assert_eq!(self.orders(), (ids.to_vec(), vec![]));
        self
    }

    pub(super) fn expect_nothing(&mut self) -> &mut Self {
        self.expect_wake(&[])
    }

    pub(super) fn expect_expired(&mut self, ids: &[u64]) -> &mut Self {
        assert_eq!(self.orders(), (vec![], ids.to_vec()));
        self
    }
}

#[test]
fn a_device_is_present_from_its_session_s_start_to_its_end() {
    let mut world = World::new();
    let mut expect = |event: Option<Event>, present: bool| {
        if let Some(event) = event {
            world.report(event);
        }
        assert_eq!(world.planner.is_present(PHONE), present);
    };
    expect(None, false);
    expect(Some(joined(WIDE)), true);
    expect(Some(Event::Stirred), true);
    expect(Some(Event::Left(Parting::Closed)), false);
    expect(Some(joined(WIDE)), true);
    expect(Some(Event::Turned(vec![MessageId(1)], Turned::Absent)), false);
}

#[test]
fn what_waits_goes_in_one_wake_when_the_device_joins() {
    let mut world = World::new();
    world.at(0).push(1).push(2).expect_nothing();
    world.at(5).push(3).expect_nothing();
    world.at(60).joins().expect_wake(&[1, 2, 3]).expect_nothing();
    world.at(61).push(4).expect_wake(&[4]);
}

#[test]
fn the_unacknowledged_comes_again_in_order_and_marked() {
    let mut world = World::new();
    world.at(0).joins().push(1).push(2).push(3).expect_wake(&[1, 2, 3]);
    world.at(1).acks(&[2]).report(Event::Left(Parting::Closed)).push(4).expect_nothing();
    world.at(9).joins().expect_wake(&[-1, -3, 4]);
}

#[test]
fn a_window_is_filled_and_refilled_by_acknowledgements() {
    let mut world = World::new();
    world.at(0).report(joined(Window { bytes: 100_000, messages: 2 }));
    world.push(1).push(2).push(3).push(4).expect_wake(&[1, 2]).expect_nothing();
    world.at(1).acks(&[2]).expect_wake(&[3]);
    world.at(2).acks(&[1, 3]).expect_wake(&[4]);
}

#[test]
fn a_window_of_bytes_holds_one_message_at_least() {
    let mut world = World::new();
    world.at(0).report(joined(Window { bytes: 1500, messages: 20 }));
    world.push(1).push(2).expect_wake(&[1]);
    world.at(1).acks(&[1]).expect_wake(&[2]);
    let mut world = World::new();
    world.at(0).report(joined(Window { bytes: 10, messages: 20 })).push(1).expect_wake(&[1]);
}

#[test]
fn what_expires_is_never_delivered_and_is_swept() {
    let mut world = World::new();
    world.at(0).push_ttl(1, 30).push_ttl(2, 300).expect_nothing();
    assert_eq!(world.planner.next_wake(), Some(world.start + Duration::from_secs(30)));
    world.at(31).joins();
    assert_eq!(world.orders(), (vec![2], vec![1]));
}

#[test]
fn sweeps_come_at_most_every_ten_seconds() {
    let mut world = World::new();
    world.at(0).push_ttl(1, 30).push_ttl(2, 31).push_ttl(3, 90).expect_nothing();
    world.at(30).expect_expired(&[1]);
    assert_eq!(world.planner.next_wake(), Some(world.start + Duration::from_secs(40)));
    world.at(40).expect_expired(&[2]);
    world.at(90).expect_expired(&[3]);
    assert_eq!(world.planner.next_wake(), None);
}

#[test]
fn ttl_zero_goes_at_once_or_never() {
    let mut world = World::new();
    world.at(0).push_ttl(1, 0).expect_expired(&[1]);
    world.at(1).joins().push_ttl(2, 0).expect_wake(&[2]);
    world.at(2).report(Event::Left(Parting::Closed)).expect_expired(&[2]);
    world.at(3).joins().expect_nothing();
}

#[test]
fn the_withdrawn_is_not_delivered_and_not_redelivered() {
    let mut world = World::new();
    world.at(0).push(1).withdraw(1).joins().expect_nothing();
    world.at(1).push(2).expect_wake(&[2]);
    world.at(2).withdraw(2).report(Event::Left(Parting::Closed)).joins().expect_nothing();
}

#[test]
fn a_full_device_is_tried_again_after_a_second_or_an_acknowledgement() {
    let mut world = World::new();
    world.at(0).joins().push(1).push(2).expect_wake(&[1, 2]);
    let now = world.now;
    world.planner.on_turned(now, PHONE, &[MessageId(2)], Turned::Full);
    world.expect_nothing();
    assert_eq!(world.planner.next_wake(), Some(now + Duration::from_secs(1)));
    world.at(1).expect_wake(&[2]);
    let now = world.now;
    world.planner.on_turned(now, PHONE, &[MessageId(2)], Turned::Full);
    world.acks(&[1]).expect_wake(&[2]);
}

#[test]
fn what_is_too_large_waits_for_the_next_session_and_holds_up_nobody() {
    let mut world = World::new();
    world.at(0).joins().push(1).push(2).expect_wake(&[1, 2]);
    world.report(Event::Turned(vec![MessageId(1)], Turned::TooLarge)).push(3).expect_wake(&[3]);
    world.at(5).report(Event::Left(Parting::Closed)).joins().expect_wake(&[1, -2, -3]);
}

#[test]
fn what_is_given_up_for_this_session_may_still_be_acknowledged() {
    let mut world = World::new();
    let given_up = || Event::Turned(vec![MessageId(1), MessageId(2)], Turned::Parked);
    world.at(0).joins().push(1).push(2).expect_wake(&[1, 2]);
    world.at(10).report(given_up()).expect_nothing();
    world.acks(&[2]).at(20).report(Event::Left(Parting::Closed)).joins().expect_wake(&[1]);
}

#[test]
fn a_late_acknowledgement_settles_what_waits_again() {
    let mut world = World::new();
    world.at(0).joins().push(1).expect_wake(&[1]);
    world.at(1).report(Event::Left(Parting::Closed)).acks(&[1]).joins().expect_nothing();
}

#[test]
fn a_device_that_is_gone_costs_no_memory() {
    let mut world = World::new();
    world
        .at(0)
        .joins()
        .push(1)
        .expect_wake(&[1])
        .acks(&[1])
        .report(Event::Left(Parting::Closed))
        .expect_nothing();
    assert_eq!(format!("{:?}", world.planner).matches("Line {").count(), 0);
}

#[derive(Clone, Debug)]
enum Step {
    AckOldest,
    Join(u16),
    Leave,
    Pass(u64),
    Push(u64),
    Withdraw(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => prop_oneof![Just(0_u64), 1_u64..60, Just(86_400_u64)].prop_map(Step::Push),
        2 => Just(Step::AckOldest),
        1 => (1_u16..5).prop_map(Step::Join),
        1 => Just(Step::Leave),
        1 => (0_u64..40).prop_map(Step::Pass),
        1 => (0_u64..40).prop_map(Step::Withdraw),
    ]
}

proptest! {
    /// Whatever happens: nothing goes to an absent device, nothing twice within a session, nothing
    /// out of order within a wake, nothing expired, never more than the window; and once the device
    /// stays and acknowledges, nothing is left behind.
    #[test]
    fn any_timetable_keeps_the_rules(steps in proptest::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        let (mut next, mut second) = (1_u64, 0_u64);
        let mut window: Option<u16> = None;
        let mut flying: Vec<u64> = Vec::new();
        let mut alive: std::collections::BTreeMap<u64, Instant> = std::collections::BTreeMap::new();
        let mut steps = steps;
        steps.extend([Step::Leave, Step::Join(3)]);
        steps.extend(std::iter::repeat_n(Step::AckOldest, 200));
        for step in steps {
            match step {
                Step::Push(ttl) => {
                    world.push_ttl(next, ttl);
                    alive.insert(next, world.now + Duration::from_secs(ttl));
                    next += 1;
                }
                Step::AckOldest if !flying.is_empty() => {
                    let id = flying.remove(0);
                    alive.remove(&id);
                    world.acks(&[id]);
                }
                Step::AckOldest => {}
                Step::Join(messages) => {
                    flying.clear();
                    window = Some(messages);
                    world.report(joined(Window { bytes: 1_000_000, messages }));
                }
                Step::Leave => {
                    flying.clear();
                    window = None;
                    world.report(Event::Left(Parting::Closed));
                }
                Step::Pass(seconds) => {
                    second += seconds;
                    world.at(second);
                }
                Step::Withdraw(id) => {
                    world.withdraw(id);
                    if !flying.contains(&id) {
                        alive.remove(&id);
                    }
                }
            }
            let now = world.now;
            let (delivered, expired) = world.orders();
            let delivered: Vec<u64> = delivered.iter().map(|id| id.unsigned_abs()).collect();
            prop_assert!(delivered.is_sorted());
            for id in &delivered {
                prop_assert!(!flying.contains(id), "{id} twice");
                let expires = alive.get(id).copied();
                prop_assert!(expires.is_some_and(|at| at >= now), "{id} is over");
            }
            for id in &expired {
                prop_assert!(alive.remove(id).is_none_or(|at| at <= now), "{id} expired early");
            }
            flying.extend(&delivered);
            prop_assert!(delivered.is_empty() || flying.len() <= usize::from(window.unwrap_or(0)));
        }
        second += 100_000;
        world.at(second).orders();
        alive.retain(|id, _| flying.contains(id));
        prop_assert!(alive.is_empty(), "left behind: {alive:?}");
    }
}

#[test]
fn who_is_only_believed_to_be_there_is_not_awake() {
    let mut world = World::with(Settings::of_profile(Profile::Balanced));
    let Event::Joined(joined) = joined(WIDE) else { panic!("it joins") };
    world.at(0).push_as(1, Urgency::Low, 86_400, 1);
    world.at(10).report(Event::Joined(Joined { heard: false, ..joined.clone() }));
    assert_eq!(world.planner.on_timeout(world.now), []);
    world.at(20).report(Event::Joined(joined));
    assert_eq!(world.planner.on_timeout(world.now), [Order::Deliver(PHONE, vec![(MessageId(1), false)])]);
}
