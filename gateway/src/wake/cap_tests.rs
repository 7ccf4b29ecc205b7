//! The cap on wakes of one registration, over random traces.
//!
//! There is no optimum to compare with: which registration a wake is put down to is a rule, and a plan
//! that knew what comes could put it down to another one. So what is held here does not ask the planner whom
//! it counted:
//! - in no hour has a registration caused more wakes than the cap that nothing but its own messages, and
//!   those only while they could wait, had asked for;
//! - what leaves late leaves as soon as it may: up to the second before, its registration had that many wakes
//!   behind it within the hour;
//! - everything leaves before it expires, and what may not be capped leaves in time;
//! - the cap never costs a wake: without it there would have been at least as many.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use proptest::prelude::*;

use super::{Order, Planner, Settings};
use crate::{
    model::{Budgets, DeviceId, MessageId, NetworkName, Pending, Profile, RegistrationId, Urgency},
    transport::{Event, Joined, Pulse, Report, Window},
};

const PHONE: DeviceId = DeviceId(7);
const TRACES: u32 = 10_000;
const END: u64 = 4 * HOUR;
const HOUR: u64 = 3600;

/// All times in seconds.
#[derive(Clone, Copy, Debug)]
struct Push {
    at: u64,
    registration: u64,
    ttl: u64,
    urgency: Urgency,
}

#[derive(Clone, Debug)]
struct Trace {
    budgets: Budgets,
    cap: u16,
    contacts: Vec<u64>,
    pushes: Vec<Push>,
    silence: u64,
    tau: u64,
}

/// What went by: when, what was in it, whether it woke the phone, and how long it had been silent.
#[derive(Clone, Debug)]
struct Packet {
    at: u64,
    pushes: Vec<usize>,
    silent: u64,
    woke: bool,
}

impl Trace {
    /// The last second in which a push is worth sending.
    fn last(&self, push: &Push) -> u64 {
        push.at + push.ttl.saturating_sub(1)
    }

    /// When it has to leave, but for the cap.
    fn deadline(&self, push: &Push) -> u64 {
        (push.at + self.budgets.of(push.urgency).as_secs()).min(self.last(push))
    }

    /// The cap may delay it.
    fn can_wait(&self, push: &Push, second: u64) -> bool {
        self.budgets.of(push.urgency) > Duration::ZERO && second < self.last(push)
    }

    /// What the planner makes of it, with this cap.
    fn run(&self, cap: Option<u16>) -> Vec<Packet> {
        #[expect(clippy::disallowed_methods, reason = "an Instant can only be made from another one")]
        let start = Instant::now();
        let tau = Duration::from_secs(self.tau);
        let settings =
            Settings { budgets: self.budgets, cap, tau, ..Settings::of_profile(Profile::Balanced) };
        let mut planner = Planner::new(settings);
        let mut packets: Vec<Packet> = Vec::new();
        let went = |packets: &mut Vec<Packet>, at: u64, own: bool, pushes: Vec<usize>| {
            let silent = at - packets.last().map_or(at, |last| last.at);
            packets.push(Packet { at, pushes, silent, woke: !own && silent >= self.tau });
        };
        let report = |planner: &mut Planner, at: u64, event: Event| {
            planner.on_report(&Report { at: start + Duration::from_secs(at), device: PHONE, event });
        };
        let network = NetworkName::of(Ipv4Addr::LOCALHOST.into());
        let window = Window { bytes: u32::MAX, messages: u16::MAX };
        let pulse = Pulse::Gateway(Duration::from_secs(self.silence));
        report(&mut planner, 0, Event::Joined(Joined { heard: true, network, pulse, window }));
        went(&mut packets, 0, true, Vec::new());
        let mut now = 0;
        loop {
            let instant = start + Duration::from_secs(now);
            if now > 0 && self.contacts.contains(&now) {
                report(&mut planner, now, Event::Stirred);
                went(&mut packets, now, true, Vec::new());
            }
            for (index, push) in self.pushes.iter().enumerate().filter(|(_, push)| push.at == now) {
                let pending = Pending {
                    device: PHONE,
                    expires: instant + Duration::from_secs(push.ttl),
                    id: MessageId(index as u64),
                    registration: RegistrationId(push.registration),
                    size: 1,
                    urgency: push.urgency,
                    volatile: push.ttl == 0,
                };
                planner.on_pending(instant, &pending);
            }
            loop {
                let orders = planner.on_timeout(instant);
                if orders.is_empty() {
                    break;
                }
                for order in orders {
                    match order {
                        Order::Deliver(_, due) => {
                            let ids: Vec<_> = due.iter().map(|(id, _)| *id).collect();
                            let pushes = ids.iter().map(|id| usize::try_from(id.0).expect("small"));
                            went(&mut packets, now, false, pushes.collect());
                            report(&mut planner, now, Event::Acked(ids));
                        }
                        Order::Expire(..) => {}
                        Order::Ping(_) => {
                            went(&mut packets, now, false, Vec::new());
                            report(&mut planner, now, Event::Stirred);
                        }
                    }
                }
            }
            let arrivals = self.pushes.iter().map(|push| push.at).chain(self.contacts.iter().copied());
            let timer = planner.next_wake().map(|at| at.saturating_duration_since(start).as_secs());
            let next = arrivals.filter(|at| *at > now).chain(timer.map(|at| at.max(now + 1))).min();
            match next.filter(|next| *next <= END) {
                Some(next) => now = next,
                None => return packets,
            }
        }
    }

    /// Somebody else than this registration, or what cannot wait, had asked for this packet.
    fn has_other_reason(&self, packet: &Packet, sent: &[Option<u64>], registration: u64) -> bool {
        let asks = |(push, sent): (&Push, &Option<u64>)| {
            let waits = push.at <= packet.at && sent.is_none_or(|sent| sent >= packet.at);
            let due = self.deadline(push) <= packet.at;
            waits && due && (push.registration != registration || !self.can_wait(push, packet.at))
        };
        packet.silent >= self.silence || self.pushes.iter().zip(sent).any(asks)
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let packets = self.run(Some(self.cap));
        let mut sent = vec![None; self.pushes.len()];
        for packet in &packets {
            for &push in &packet.pushes {
                prop_assert!(sent[push].is_none(), "{push} twice");
                sent[push] = Some(packet.at);
            }
        }
        let within_an_hour = |wakes: &[u64], end: u64| {
            wakes.iter().filter(|at| (end + 1).saturating_sub(HOUR) <= **at && **at <= end).count()
        };
        let cap = usize::from(self.cap);
        for registration in 0..3 {
            let alone: Vec<u64> = packets
                .iter()
                .filter(|packet| packet.woke && !self.has_other_reason(packet, &sent, registration))
                .filter(|packet| {
                    packet.pushes.iter().any(|push| self.pushes[*push].registration == registration)
                })
                .map(|packet| packet.at)
                .collect();
            for at in &alone {
                prop_assert!(within_an_hour(&alone, *at) <= cap, "{registration} in second {at}: {alone:?}");
            }
            let is_due = |push: &usize, at: u64| {
                let push = &self.pushes[*push];
                push.registration == registration && self.deadline(push) <= at
            };
            let answered: Vec<u64> = packets
                .iter()
                .filter(|packet| packet.woke && packet.pushes.iter().any(|push| is_due(push, packet.at)))
                .map(|packet| packet.at)
                .collect();
            let own = |(_, push): &(usize, &Push)| push.registration == registration;
            for (index, push) in self.pushes.iter().enumerate().filter(own) {
                let (deadline, last) = (self.deadline(push), self.last(push));
                if last > END && deadline > END {
                    continue;
                }
                let Some(left) = sent[index] else {
                    prop_assert!(last > END, "{index} never left");
                    prop_assert!(within_an_hour(&answered, END) >= cap, "{index} was held for nothing");
                    continue;
                };
                prop_assert!(left <= last, "{index} had expired");
                for before in [deadline, left.saturating_sub(1)] {
                    if before < left && before >= deadline {
                        prop_assert!(self.can_wait(push, before), "{index} may not be capped");
                        let wakes = within_an_hour(&answered, before);
                        prop_assert!(wakes >= cap, "{index} waited in {before} after {wakes} wakes");
                    }
                }
            }
        }
        let wakes = |packets: &[Packet]| packets.iter().filter(|packet| packet.woke).count();
        let (capped, uncapped) = (wakes(&packets), wakes(&self.run(None)));
        prop_assert!(capped <= uncapped, "{capped} wakes, {uncapped} without the cap");
        Ok(())
    }
}

fn trace() -> impl Strategy<Value = Trace> {
    let urgency = prop_oneof![
        1 => Just(Urgency::High),
        6 => Just(Urgency::Normal),
        3 => Just(Urgency::Low),
        2 => Just(Urgency::VeryLow),
    ];
    let ttl = prop_oneof![1 => Just(0_u64), 3 => 1..2 * HOUR, 6 => Just(86_400_u64)];
    let push = (0..END, 0..3_u64, ttl, urgency).prop_map(|(at, registration, ttl, urgency)| Push {
        at,
        registration,
        ttl,
        urgency,
    });
    let seconds = || (0..1200_u64).prop_map(Duration::from_secs);
    let budgets = prop_oneof![
        1 => Just(Budgets::of_profile(Profile::Instant)),
        2 => Just(Budgets::of_profile(Profile::Balanced)),
        2 => (seconds(), seconds(), seconds())
            .prop_map(|(normal, low, very_low)| Budgets { high: Duration::ZERO, normal, low, very_low }),
    ];
    let silence = prop_oneof![2 => Just(86_400_u64), 1 => 300..3000_u64];
    let pushes = proptest::collection::vec(push, 0..40);
    (budgets, 1..5_u16, proptest::collection::vec(1..END, 0..6), pushes, silence, 1..30_u64).prop_map(
        |(budgets, cap, contacts, mut pushes, silence, tau)| {
            pushes.sort_by_key(|push| push.at);
            Trace { budgets, cap, contacts, pushes, silence, tau }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(TRACES))]

    #[test]
    fn the_cap_holds_delays_no_longer_than_it_must_and_costs_no_wake(trace in trace()) {
        trace.check()?;
    }
}

/// By hand: two wakes an hour, and the third message waits until the first of them is an hour old.
#[test]
fn the_third_wake_of_the_hour_waits_for_its_end() {
    let push = |at| Push { at, registration: 1, ttl: 86_400, urgency: Urgency::Normal };
    let trace = Trace {
        budgets: Budgets { normal: Duration::from_secs(60), ..Budgets::NONE },
        cap: 2,
        contacts: vec![],
        pushes: vec![push(100), push(500), push(900), push(5000)],
        silence: 86_400,
        tau: 10,
    };
    trace.check().expect("it holds");
    let wakes = |cap| trace.run(cap).iter().filter(|it| it.woke).map(|it| it.at).collect::<Vec<_>>();
    assert_eq!(wakes(None), [160, 560, 960, 5060]);
    assert_eq!(wakes(Some(2)), [160, 560, 160 + HOUR, 5060]);
}
