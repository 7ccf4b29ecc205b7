//! Timetables of waiting: who waits for what, and for how long.

use std::time::Duration;

use super::{
    Settings,
    tests::{PHONE, PING, WIDE, World, joined},
};
use crate::{
    model::{DeviceState, Network, NetworkName, Power, Profile, Urgency, WAKES_PER_HOUR},
    transport::{Event, Joined, Parting, Pulse, Window},
};
use Urgency::{High, Low, Normal, VeryLow};

const MINUTE: u64 = 60;
const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// A phone that joined at 0, and whose radio sleeps from second 10 on.
fn phone(profile: Profile) -> World {
    let mut world = World::with(Settings::of_profile(profile));
    world.at(0).joins().expect_nothing();
    world
}

impl World {
    fn push_at(&mut self, second: u64, id: u64, urgency: Urgency) -> &mut Self {
        self.at(second).push_as(id, urgency, DAY, 1)
    }

    fn stirs(&mut self) -> &mut Self {
        self.report(Event::Stirred)
    }

    fn says(&mut self, state: DeviceState) -> &mut Self {
        self.stirs().report(Event::State(state))
    }

    fn next_is(&mut self, second: u64) -> &mut Self {
        assert_eq!(self.planner.next_wake(), Some(self.start + Duration::from_secs(second)));
        self
    }

    fn kept_alive(&mut self, pulse: Pulse) -> &mut Self {
        let network = NetworkName::of(std::net::Ipv4Addr::LOCALHOST.into());
        self.report(Event::Joined(Joined { heard: true, network, pulse, window: WIDE }))
    }
}

fn floor(urgency: Urgency) -> DeviceState {
    DeviceState { urgency: Some(urgency), ..DeviceState::default() }
}

#[test]
fn each_urgency_waits_for_as_long_as_its_profile_says() {
    for (profile, normal, low, very_low) in
        [(Profile::Balanced, 15, 15 * MINUTE, HOUR), (Profile::Saver, 60, 30 * MINUTE, 4 * HOUR)]
    {
        for (urgency, wait) in [(Normal, normal), (Low, low), (VeryLow, very_low)] {
            let mut world = phone(profile);
            world.push_at(100, 1, urgency).expect_nothing().next_is(100 + wait);
            world.at(100 + wait - 1).expect_nothing();
            world.at(100 + wait).expect_wake(&[1]);
        }
        phone(profile).push_at(100, 1, High).expect_wake(&[1]);
    }
    for urgency in [VeryLow, Low, Normal, High] {
        phone(Profile::Instant).push_at(100, 1, urgency).expect_wake(&[1]);
    }
}

#[test]
fn what_waits_leaves_with_the_first_that_has_to() {
    let mut world = phone(Profile::Balanced);
    world.push_at(100, 1, VeryLow).expect_nothing();
    world.push_at(200, 2, Low).expect_nothing();
    world.push_at(300, 3, Normal).expect_nothing().next_is(315);
    world.at(315).expect_wake(&[1, 2, 3]);
}

#[test]
fn urgency_high_takes_everything_along() {
    let mut world = phone(Profile::Saver);
    world.push_at(100, 1, VeryLow).push_at(101, 2, Normal).expect_nothing();
    world.push_at(110, 3, High).expect_wake(&[1, 2, 3]);
}

#[test]
fn every_contact_is_a_free_ride() {
    for contact in [Event::Stirred, Event::Acked(vec![]), joined(WIDE)] {
        let mut world = phone(Profile::Balanced);
        world.push_at(100, 1, VeryLow).expect_nothing();
        world.at(200).report(contact).expect_wake(&[1]);
    }
}

#[test]
fn a_radio_that_is_up_makes_everything_immediate() {
    let mut world = phone(Profile::Balanced);
    world.push_at(9, 1, VeryLow).expect_wake(&[1]);
    // It was up until 19, by the packet that carried the first.
    world.push_at(18, 2, Low).expect_wake(&[2]);
    world.push_at(28, 3, Normal).expect_nothing();
    // What went down counts as well as what came up.
    world.at(30).report(Event::Taken(vec![])).expect_wake(&[3]);
}

#[test]
fn what_can_wait_waits_for_the_ping_that_is_paid_for() {
    let mut world = World::with(Settings::of_profile(Profile::Balanced));
    world.at(0).kept_alive(Pulse::Device(Duration::from_secs(600))).expect_nothing();
    world.push_at(100, 1, Low).expect_nothing().next_is(1000);
    // The device's ping.
    world.at(600).stirs().expect_wake(&[1]);
    // It is silent for too long: the deadline holds all the same.
    world.push_at(700, 2, Low).expect_nothing().at(1600).expect_wake(&[2]);
}

#[test]
fn the_gateway_pings_in_time_and_sends_what_waits_instead() {
    let mut world = World::with(Settings::of_profile(Profile::Balanced));
    world.at(0).kept_alive(Pulse::Gateway(Duration::from_secs(600))).expect_nothing().next_is(600);
    world.at(600).expect_wake(&[PING]);
    world.expect_nothing().next_is(1200);
    world.push_at(700, 1, Low).expect_nothing().next_is(1200);
    world.at(1200).expect_wake(&[1]);
    // What the network bears is learnt.
    world.planner.keep_alive(PHONE, Duration::from_secs(300));
    world.expect_nothing().next_is(1500);
    // More than the client bears is of no use.
    world.planner.keep_alive(PHONE, Duration::from_secs(900));
    world.expect_nothing().next_is(1800);
    // Only the sweep of what would have expired is left.
    world.report(Event::Left(Parting::Closed)).expect_nothing().next_is(700 + DAY);
}

#[test]
fn an_endless_keep_alive_is_none() {
    let mut world = World::with(Settings::of_profile(Profile::Balanced));
    world.at(0).kept_alive(Pulse::Gateway(Duration::MAX)).expect_nothing();
    assert_eq!(world.planner.next_wake(), None);
    world.kept_alive(Pulse::Gateway(Duration::ZERO)).expect_nothing().next_is(1);
}

#[test]
fn what_lies_below_the_floor_waits_until_it_falls() {
    let mut world = phone(Profile::Balanced);
    world.says(floor(Normal)).expect_nothing();
    world.push_at(100, 1, Low).push_at(101, 2, VeryLow).push_at(102, 3, Normal).expect_nothing();
    world.at(117).expect_wake(&[3]);
    world.push_at(DAY / 2, 4, High).expect_wake(&[4]);
    world.at(DAY / 2 + 5).says(floor(Low)).expect_wake(&[1]);
    // Nobody has asked for it in time.
    world.at(2 * DAY).expect_expired(&[2]);
    world.says(floor(VeryLow)).expect_nothing();
}

#[test]
fn below_the_floor_ttl_zero_is_over_at_once() {
    let mut world = phone(Profile::Balanced);
    world.says(floor(High)).expect_nothing();
    world.at(1).push_as(1, Normal, 0, 1).expect_expired(&[1]);
}

#[test]
fn the_unimportant_waits_for_power_or_wifi_but_does_not_expire() {
    let said = |power, network| DeviceState { power, network, ..DeviceState::default() };
    let mut world = phone(Profile::Balanced);
    world.says(said(Some(Power::Battery), Some(Network::Mobile))).expect_nothing();
    world.push_at(1, 1, Low).push_at(1, 2, VeryLow).push_at(1, 3, Normal).expect_wake(&[3]);
    // No free ride either: on mobile networks bytes cost too.
    world.at(HOUR).stirs().expect_nothing();
    world.at(2 * HOUR).says(said(Some(Power::Charging), None)).expect_wake(&[1]);
    world.next_is(DAY);
    world.at(DAY).expect_wake(&[2]);
}

#[test]
fn what_expires_sooner_than_it_may_wait_leaves_in_time() {
    let mut world = phone(Profile::Saver);
    world.at(100).push_as(1, Low, 600, 1).expect_nothing().next_is(699);
    world.at(699).expect_wake(&[1]);
    world.at(800).push_as(2, Low, 1, 1).expect_wake(&[2]);
    world.at(900).push_as(3, VeryLow, 0, 1).expect_wake(&[3]);
}

#[test]
fn what_is_replaced_takes_its_deadline_with_it() {
    let mut world = phone(Profile::Balanced);
    world.push_at(100, 1, Normal).expect_nothing();
    world.at(110).withdraw(1).push_as(2, Normal, DAY, 1).expect_nothing().next_is(125);
    world.at(115).expect_nothing();
    world.at(125).expect_wake(&[2]);
}

#[test]
fn in_quiet_hours_only_urgency_high_passes() {
    let quiet = Some("22:00-07:00".parse().expect("hours"));
    let mut world = World::with(Settings { quiet, ..Settings::default() });
    // The trace begins at 21:00.
    let start = world.start;
    world.planner.on_local_time(start, Some(75_600));
    world.at(0).joins().expect_nothing();
    world.push_at(HOUR - 15, 1, Normal).expect_nothing();
    world.push_at(HOUR, 2, Low).stirs().expect_nothing();
    world.push_at(2 * HOUR, 3, High).expect_wake(&[3]);
    // A short life ends in the night, although its sender hoped otherwise.
    world.at(3 * HOUR).push_as(4, Normal, 600, 1).expect_nothing();
    world.at(4 * HOUR).expect_expired(&[4]);
    // Clocks are set: the hours are looked at again and again.
    world.next_is(4 * HOUR + 600);
    world.at(10 * HOUR - 1).expect_nothing();
    world.at(10 * HOUR).expect_wake(&[1, 2]);
}

#[test]
fn without_a_clock_that_can_be_trusted_there_are_no_quiet_hours() {
    let quiet = Some("00:00-23:59".parse().expect("hours"));
    let mut world = World::with(Settings { quiet, ..Settings::default() });
    world.at(0).joins().push_at(0, 1, Normal).expect_wake(&[1]);
    let now = world.now;
    world.planner.on_local_time(now, Some(0));
    world.push_at(1, 2, Normal).expect_nothing();
    world.planner.on_local_time(now, None);
    world.stirs().expect_wake(&[2]);
}

#[test]
fn one_registration_cannot_wake_a_device_all_the_time() {
    let mut world = World::with(Settings { cap: Some(2), ..Settings::default() });
    world.at(0).joins().expect_nothing();
    world.push_at(100, 1, Normal).at(115).expect_wake(&[1]);
    world.push_at(200, 2, Normal).at(215).expect_wake(&[2]);
    world.push_at(300, 3, Normal).at(315).expect_nothing();
    // Another's wake takes it along.
    world.at(400).push_as(4, Normal, DAY, 2).at(415).expect_wake(&[3, 4]);
    world.push_at(500, 5, Normal).at(515).expect_nothing().next_is(115 + HOUR);
    // Urgency high is not counted and not held.
    world.push_at(600, 6, High).expect_wake(&[5, 6]);
    world.at(700).push_as(7, Normal, 100, 1).at(715).expect_nothing();
    world.at(799).expect_wake(&[7]);
    world.push_at(900, 8, Normal).at(915).expect_nothing().next_is(215 + HOUR);
    world.at(215 + HOUR).expect_wake(&[8]);
}

/// The most wakes in any hour, over four hours in which one registration gets `each` messages every
/// `period` seconds, 600 at the beginning. The phone acknowledges after a second.
fn wakes_an_hour_by_a_hot_endpoint(cap: Option<u16>, each: u64, period: u64) -> usize {
    const TAIL: u64 = 10;
    let mut world = World::with(Settings { cap, ..Settings::of_profile(Profile::Balanced) });
    world.at(0).joins().expect_nothing();
    let (mut id, mut contact, mut wakes, mut under_way) = (0, 0, Vec::new(), Vec::new());
    for second in 60..60 + 4 * HOUR {
        world.at(second);
        if !under_way.is_empty() {
            contact = second;
            world.acks(&std::mem::take(&mut under_way));
        }
        let pushes = if second == 60 {
            600
        } else if second % period == 0 {
            each
        } else {
            0
        };
        for _ in 0..pushes {
            id += 1;
            world.push_as(id, Normal, DAY, 1);
        }
        let (delivered, expired) = world.orders();
        assert!(expired.is_empty(), "nothing is over so soon");
        if !delivered.is_empty() {
            if contact + TAIL < second {
                wakes.push(second);
            }
            contact = second;
            under_way.extend(delivered.iter().map(|id| id.unsigned_abs()));
        }
    }
    let within = |first: &u64| wakes.iter().filter(|wake| (*first..first + HOUR).contains(*wake)).count();
    wakes.iter().map(within).max().unwrap_or_default()
}

#[test]
fn a_hot_endpoint_costs_its_phone_at_most_12_wakes_an_hour() {
    // What the rate limit lets through of 1,000 a second; and what wakes a phone most often.
    for (each, period) in [(10, 1), (10, 11), (100, 20), (1, 30), (1, 60)] {
        let most = wakes_an_hour_by_a_hot_endpoint(Some(WAKES_PER_HOUR), each, period);
        assert!((1..=12).contains(&most), "{each} each {period} s: {most}");
    }
    let uncapped = wakes_an_hour_by_a_hot_endpoint(None, 100, 20);
    assert!(uncapped > 60, "it is the cap that does it: {uncapped}");
}

#[test]
fn a_device_is_treated_differently_from_one_second_to_the_next() {
    let mut world = phone(Profile::Saver);
    world.push_at(100, 1, Low).expect_nothing().next_is(100 + 30 * MINUTE);
    world.planner.configure(world.now, PHONE, Settings::of_profile(Profile::Balanced));
    world.expect_nothing().next_is(100 + 15 * MINUTE);
    world.at(200);
    world.planner.configure(world.now, PHONE, Settings::of_profile(Profile::Instant));
    world.expect_wake(&[1]);
    // It left as soon as its owner wanted it to.
    assert_eq!(world.planner.take_missed(PHONE), 0);
    world.push_at(300, 2, VeryLow).expect_wake(&[2]);
    world.planner.forget(PHONE);
    world.push_at(400, 3, VeryLow).expect_nothing();
}

#[test]
fn a_full_window_goes_on_within_its_wake() {
    let mut world = World::with(Settings { cap: Some(1), ..Settings::default() });
    world.at(0).report(joined(Window { bytes: 100_000, messages: 2 })).expect_nothing();
    for id in 1..=5 {
        world.push_at(100, id, Normal);
    }
    world.at(115).expect_wake(&[1, 2]);
    // Nothing to be done before an acknowledgement, and no timer that says otherwise.
    world.next_is(100 + DAY);
    world.at(116).acks(&[1, 2]).expect_wake(&[3, 4]);
    world.at(117).acks(&[3]).expect_wake(&[5]);
}

#[test]
fn urgency_high_is_first_through_a_narrow_window() {
    let mut world = phone(Profile::Balanced);
    world.report(Event::Left(Parting::Lost)).push_at(50, 1, Normal).push_at(50, 2, Low).push_at(51, 3, High);
    world.at(60).report(joined(Window { bytes: 100_000, messages: 1 })).expect_wake(&[3]);
    world.acks(&[3]).expect_wake(&[1]);
}

#[test]
fn the_unacknowledged_costs_no_wake_of_its_own() {
    let mut world = phone(Profile::Balanced);
    world.push_at(1, 1, Normal).expect_wake(&[1]);
    world.at(2).report(Event::Left(Parting::Lost)).expect_nothing().next_is(1 + DAY);
    world.at(500).joins().expect_wake(&[-1]);
}

#[test]
fn a_contact_counts_however_late_it_is_heard_of() {
    // A radio without a tail, and a report that was held up on its way.
    for (tau, late) in [(0, 0), (10, 11)] {
        let mut world = World::with(Settings { tau: Duration::from_secs(tau), ..Settings::default() });
        world.at(0).joins().expect_nothing();
        world.push_at(100, 1, Low).expect_nothing();
        world.at(200).stirs().at(200 + late).expect_wake(&[1]);
    }
}
