//! Short traces whose cost can be counted by hand, and many whose cost is compared with the optimum.

use std::time::Duration;

use proptest::prelude::*;

use super::{
    KeepAlive, Policy,
    energy::RADIOS,
    optimum, reference,
    run::{self, Outcome},
    trace::{self, Happening, Kind},
};
use crate::{
    clock::{Clock as _, ManualClock},
    model::{Profile, UnixTime, Urgency},
};

fn policy(profile: Profile, keep_alive_s: u64) -> Policy {
    Policy { keep_alive: KeepAlive::Fixed(keep_alive_s * 1_000_000), profile, tau_us: 10_000_000 }
}

fn run_of(lines: &[&str], policy: &Policy) -> (Outcome, u64) {
    let text = [&[trace::HEADER], lines].concat().join("\n");
    let happenings = trace::read(&text).unwrap();
    let start = ManualClock::new(UnixTime(0)).moment().instant;
    let outcome = run::run(&happenings, policy, start);
    let optimum = optimum::wakes(&happenings, policy, outcome.keep_alive_us);
    (outcome, optimum)
}

/// A keep-alive that never comes within a day.
const NEVER: u64 = 100_000;

#[test]
fn the_count_is_the_one_that_is_written_down() {
    for (what, lines, keep_alive, pushes, pings) in [
        ("nothing lasts no time", &[][..], 60, 0, 0),
        ("pings at 1680, 3360, …, 85680 of 86400 s", &["0,contact,,,"], 1680, 0, 51),
        ("not at the end itself", &["0,contact,,,"], 43_200, 0, 1),
        ("at the connection's own tail", &["9.999,push,high,,"], NEVER, 0, 0),
        ("at exactly τ it is a wake", &["10,push,high,,"], NEVER, 1, 0),
        ("a burst is one wake", &["100,push,high,,", "109,push,high,,", "118,push,high,,"], NEVER, 1, 0),
        ("low waits for high", &["100,push,low,,", "200,push,high,,"], NEVER, 1, 0),
        ("low waits for a contact", &["100,push,low,,", "200,contact,,,"], NEVER, 0, 0),
        ("at one instant the contact first", &["100,push,high,,", "100,contact,,,"], NEVER, 0, 0),
        ("low waits for the ping", &["42500,push,low,,"], 43_000, 0, 2),
        ("a newer one replaces", &["100,push,low,,a", "200,push,low,,a"], NEVER, 1, 0),
        ("below the floor nothing", &["100,state,high,,", "200,push,low,,"], NEVER, 0, 0),
        ("until it falls", &["100,state,high,,", "200,push,low,,", "300,state,low,,"], NEVER, 0, 0),
        ("TTL 0 below the floor", &["100,state,high,,", "200,push,low,0,"], NEVER, 0, 0),
        ("TTL 0 wakes", &["100,push,low,0,"], NEVER, 1, 0),
    ] {
        let (outcome, optimum) = run_of(lines, &policy(Profile::Balanced, keep_alive));
        assert_eq!((outcome.push_wakes, outcome.keep_alive_wakes), (pushes, pings), "{what}");
        assert_eq!(optimum, pushes + pings, "{what}: optimum");
        assert_eq!(outcome.missed, 0, "{what}");
    }
}

#[test]
fn what_never_left_is_told_apart() {
    let (outcome, _) = run_of(
        &[
            "1000,state,high,,",
            "2000,push,low,60,",
            "2000,push,low,,",
            "2000,push,low,,t",
            "2001,push,low,,t",
        ],
        &policy(Profile::Balanced, NEVER),
    );
    assert_eq!((outcome.expired, outcome.pending), (1, 2), "{outcome:?}");
}

#[test]
fn delays_are_those_of_the_budget() {
    let (outcome, _) = run_of(&["100,push,normal,,", "200,push,low,61,"], &policy(Profile::Balanced, NEVER));
    assert_eq!(outcome.delays_us[&Urgency::Normal], [15_000_000]);
    assert_eq!(outcome.delays_us[&Urgency::Low], [60_000_000], "a second before it expires");
}

#[test]
fn an_isolated_wake_costs_what_was_published() {
    let joules = |radio: usize| RADIOS[radio].mah(&[0]) * 3.6 * super::energy::VOLTS;
    assert!((joules(0) - 12.59).abs() < 0.01, "{}", joules(0));
    assert!((joules(1) - 0.0383).abs() < 0.001, "{}", joules(1));
    assert!(RADIOS[0].mah(&[0, 5_000_000]) < 1.5 * RADIOS[0].mah(&[0]), "a second one in the tail is cheap");
}

#[test]
fn learning_ends_at_the_longest() {
    let happenings = reference::trace(3, 1, 0);
    let learnt = Policy { keep_alive: KeepAlive::Learnt, ..policy(Profile::Balanced, 1) };
    let start = ManualClock::new(UnixTime(0)).moment().instant;
    assert_eq!(run::run(&happenings, &learnt, start).keep_alive_us, 1_680_000_000);
}

#[test]
fn the_reference_trace_costs_the_optimum() {
    let happenings = reference::trace(20, 1, 0);
    let start = ManualClock::new(UnixTime(0)).moment().instant;
    let mut daily = Vec::new();
    for profile in [Profile::Instant, Profile::Balanced, Profile::Saver] {
        let policy = policy(profile, 1680);
        let outcome = run::run(&happenings, &policy, start);
        let wakes = outcome.push_wakes + outcome.keep_alive_wakes;
        assert_eq!(wakes, optimum::wakes(&happenings, &policy, 1_680_000_000), "{profile:?}");
        assert_eq!((outcome.missed, outcome.expired), (0, 0));
        daily.push(wakes);
    }
    assert!(daily.is_sorted_by(|more, fewer| more > fewer), "{daily:?}");
}

/// Wakes a day that are not the phone's own doing, when it pings by itself every so many seconds.
fn daily_wakes(policy: &Policy, pings_every_s: Option<u64>) -> u64 {
    const DAYS: u64 = 20;
    let mut happenings = reference::trace(DAYS, 1, 0);
    if let Some(every) = pings_every_s {
        let pings = (every..DAYS * 86_400).step_by(usize::try_from(every).expect("small"));
        happenings.extend(pings.map(|at_s| Happening { at_us: at_s * 1_000_000, kind: Kind::Contact }));
        happenings.sort_by_key(|happening| happening.at_us);
    }
    let start = ManualClock::new(UnixTime(0)).moment().instant;
    let outcome = run::run(&happenings, policy, start);
    assert_eq!((outcome.missed, outcome.expired), (0, 0));
    (outcome.push_wakes + outcome.keep_alive_wakes) / DAYS
}

#[test]
fn phones_with_their_own_clients_are_woken_a_tenth_as_often_as_ntfy_wakes_them() {
    // As ntfy is installed: it sends a ping every 45 s, whatever the client does, and every push at once.
    let ntfy = policy(Profile::Instant, 45);
    let ours = Policy { keep_alive: KeepAlive::Learnt, ..policy(Profile::Balanced, 1) };
    for (client, pings_every_s, ntfy_wakes, our_wakes) in [
        ("Firefox, by Autopush", None, 1939, 71),
        ("Sunup, by Autopush", Some(60), 1454, 19),
        ("KUnifiedPush, by Autopush", Some(300), 1754, 28),
        ("the ntfy app, by WebSocket", Some(180), 1475, 26),
    ] {
        let (theirs, gateways) = (daily_wakes(&ntfy, pings_every_s), daily_wakes(&ours, pings_every_s));
        assert_eq!((theirs, gateways), (ntfy_wakes, our_wakes), "{client}");
        assert!(gateways * 10 <= theirs, "{client}");
    }
}

fn line() -> impl Strategy<Value = String> {
    let urgency = prop::sample::select(vec!["very-low", "low", "normal", "high"]);
    let ttl = prop::sample::select(vec!["", "0", "1", "20", "1000", "7200"]);
    let topic = prop::sample::select(vec!["", "", "a", "b"]);
    prop_oneof![
        8 => (urgency.clone(), ttl, topic).prop_map(|(urgency, ttl, topic)| format!("push,{urgency},{ttl},{topic}")),
        2 => Just("contact,,,".to_owned()),
        1 => urgency.prop_map(|floor| format!("state,{floor},,")),
    ]
}

proptest! {
    #[test]
    fn every_trace_costs_the_optimum(
        lines in prop::collection::vec((prop_oneof![0_u64..20, 0_u64..2000], line()), 0..60),
        profile in prop::sample::select(vec![Profile::Instant, Profile::Balanced, Profile::Saver]),
        keep_alive_s in 60_u64..3000,
    ) {
        let mut at = Duration::ZERO;
        let mut text = vec![trace::HEADER.to_owned()];
        for (gap, line) in lines {
            at += Duration::from_secs(gap);
            text.push(format!("{},{line}", at.as_secs()));
        }
        let text: Vec<&str> = text.iter().skip(1).map(String::as_str).collect();
        let (outcome, optimum) = run_of(&text, &policy(profile, keep_alive_s));
        prop_assert_eq!(outcome.push_wakes + outcome.keep_alive_wakes, optimum);
        prop_assert_eq!(outcome.missed, 0);
    }
}
