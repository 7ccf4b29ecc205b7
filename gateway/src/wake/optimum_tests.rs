//! The planner against the offline optimum, over random traces.
//!
//! The optimum knows the whole trace. It is a shortest path: over every second at which a packet may go
//! by, with all silences that break no promise, it looks for the fewest wakes. The planner sees one
//! second after the other. Both must come to the same number.
//!
//! Packets have a reason: something that waits, a contact, or a silence that has become as long as it
//! may be. And a radio that is up makes everything immediate. Without these two any plan could keep
//! the radio up for ever and call that no wake.
//!
//! Quiet hours are the one thing that foresight helps with: who knows that something urgent comes soon
//! after they begin sends the rest just before, and has one wake for both. So a trace with quiet hours may
//! cost one wake more than the optimum, and never two.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    ops::{Range, RangeInclusive},
    time::{Duration, Instant},
};

use proptest::prelude::*;

use super::{Order, Planner, Settings};
use crate::{
    model::{
        Budgets, DeviceId, DeviceState, MessageId, NetworkName, Pending, Profile, Quiet, RegistrationId,
        Urgency,
    },
    transport::{Event, Joined, Pulse, Report, Window},
};

const PHONE: DeviceId = DeviceId(7);
/// Noon: when quiet hours begin here, in seconds of the local day.
const QUIET_FROM_S: u64 = 43_200;
const TRACES: u32 = 10_000;
const URGENCIES: [Urgency; 4] = [Urgency::VeryLow, Urgency::Low, Urgency::Normal, Urgency::High];

#[derive(Clone, Copy, Debug)]
struct Push {
    at: u64,
    /// When a newer one takes its place.
    replaced: Option<u64>,
    topic: Option<u8>,
    ttl: u64,
    urgency: Urgency,
}

/// Who breaks a long silence.
#[derive(Clone, Copy, Debug)]
enum Alive {
    Device(u64),
    Gateway(u64),
    Nobody,
}

/// One day of a phone, in seconds. It joins at 0.
#[derive(Clone, Debug)]
struct Trace {
    alive: Alive,
    budgets: Budgets,
    /// When the phone speaks by itself, and the floor that it may say then.
    contacts: Vec<(u64, Option<Urgency>)>,
    end: u64,
    pushes: Vec<Push>,
    /// When only urgency high passes; whole minutes.
    quiet: Option<Range<u64>>,
    tau: u64,
}

impl Push {
    /// It could be sent in this second, or its turn is yet to come: neither expired nor replaced.
    fn lives(&self, second: u64) -> bool {
        second < self.at + self.ttl.max(1) && self.replaced.is_none_or(|replaced| second < replaced)
    }
}

impl Trace {
    fn budget(&self, urgency: Urgency) -> u64 {
        let budgets = self.budgets;
        match urgency {
            Urgency::High => budgets.high,
            Urgency::Normal => budgets.normal,
            Urgency::Low => budgets.low,
            Urgency::VeryLow => budgets.very_low,
        }
        .as_secs()
    }

    /// The second in which a push has to leave at the latest.
    fn deadline(&self, push: &Push) -> u64 {
        // In the second in which it expires it is too late.
        push.at + self.budget(push.urgency).min(push.ttl.saturating_sub(1))
    }

    fn floor(&self, second: u64) -> Urgency {
        let mut said = self.contacts.iter().filter(|(at, _)| *at <= second).filter_map(|(_, floor)| *floor);
        said.next_back().unwrap_or(Urgency::VeryLow)
    }

    fn silence(&self) -> u64 {
        match self.alive {
            Alive::Device(most) | Alive::Gateway(most) => most,
            Alive::Nobody => u64::MAX,
        }
    }

    /// The first second from this one on in which quiet hours let a push pass.
    fn passes(&self, push: &Push, second: u64) -> u64 {
        let quiet = self.quiet.as_ref().filter(|quiet| quiet.contains(&second));
        quiet.filter(|_| push.urgency < Urgency::High).map_or(second, |quiet| quiet.end)
    }

    /// The fewest wakes that keep every promise.
    fn optimum(&self) -> u64 {
        // The fewest wakes, by the second of a packet and what had to stay behind then.
        let mut best = BTreeMap::from([((0, self.left_behind(0, self.come(0..=0))), 0)]);
        let mut fewest: Option<u64> = None;
        while let Some(((last, left), wakes)) = best.pop_first() {
            let limit = self.next_packet_by(last, left);
            if limit > self.end {
                fewest = Some(fewest.map_or(wakes, |known: u64| known.min(wakes)));
            }
            let sendable: Vec<&Push> = self.wanted(last, left).filter(|push| push.at <= limit).collect();
            let reason = |next: u64| {
                let goes =
                    |push: &&Push| push.at <= next && push.lives(next) && self.passes(push, next) == next;
                next == limit || sendable.iter().any(goes)
            };
            for next in (last + 1..=limit.min(self.end)).filter(|next| reason(*next)) {
                let more = wakes + u64::from(next - last >= self.tau);
                let stays = self.left_behind(next, left | self.come(last + 1..=next));
                best.entry((next, stays)).and_modify(|known| *known = more.min(*known)).or_insert(more);
            }
        }
        fewest.expect("a packet each second keeps every promise")
    }

    /// The pushes of these seconds, as a set: one bit each.
    fn come(&self, seconds: RangeInclusive<u64>) -> u32 {
        let come = |(index, push): (usize, &Push)| u32::from(seconds.contains(&push.at)) << index;
        self.pushes.iter().enumerate().map(come).sum()
    }

    /// Those of a set that a packet in this second must not take along, and that are not over yet.
    fn left_behind(&self, second: u64, set: u32) -> u32 {
        let stays = |(index, push): (usize, &Push)| {
            let held = push.urgency < self.floor(second) || self.passes(push, second) > second;
            u32::from(held && push.lives(second)) << index
        };
        set & self.pushes.iter().enumerate().map(stays).sum::<u32>()
    }

    /// What a packet has left behind or comes after it, and is not below the floor that was said by then.
    fn wanted(&self, last: u64, left: u32) -> impl Iterator<Item = &Push> {
        let floor = self.floor(last);
        let waits = move |(index, push): &(usize, &Push)| push.at > last || (left >> index) & 1 == 1;
        let pushes = self.pushes.iter().enumerate().filter(waits).map(|(_, push)| push);
        pushes.filter(move |push| push.urgency >= floor)
    }

    /// After a packet: the second in which the next one has to go by.
    fn next_packet_by(&self, last: u64, left: u32) -> u64 {
        let contact = self.contacts.iter().map(|(at, _)| *at).filter(|at| *at > last);
        let demands = self.wanted(last, left).filter_map(|push| {
            let first = self.passes(push, push.at.max(last + 1));
            let awake = first - last < self.tau;
            let due = if awake { first } else { self.passes(push, self.deadline(push).max(last + 1)) };
            push.lives(due).then_some(due)
        });
        contact.chain(demands).chain([last.saturating_add(self.silence())]).min().expect("never empty")
    }
}

/// The planner's day.
struct Run<'a> {
    last: u64,
    now: Instant,
    planner: Planner,
    second: u64,
    sent: Vec<Option<u64>>,
    trace: &'a Trace,
    wakes: u64,
}

impl Run<'_> {
    fn report(&mut self, event: Event) {
        self.planner.on_report(&Report { at: self.now, device: PHONE, event });
    }

    fn packet(&mut self) {
        self.wakes += u64::from(self.second - self.last >= self.trace.tau);
        self.last = self.second;
    }

    fn push(&mut self, index: usize) {
        let push = self.trace.pushes[index];
        if let Some(topic) = push.topic {
            let older = &self.trace.pushes[..index];
            if let Some(replaced) = older.iter().rposition(|older| older.topic == Some(topic)) {
                self.planner.on_withdrawn(PHONE, MessageId(replaced as u64));
            }
        }
        self.planner.on_pending(
            self.now,
            &Pending {
                device: PHONE,
                expires: self.now + Duration::from_secs(push.ttl),
                id: MessageId(index as u64),
                registration: RegistrationId(1),
                size: 1,
                urgency: push.urgency,
                volatile: push.ttl == 0,
            },
        );
    }

    fn deliver(&mut self, ids: &[(MessageId, bool)]) -> Result<(), TestCaseError> {
        for (id, again) in ids {
            let index = usize::try_from(id.0).expect("small");
            let (push, second) = (&self.trace.pushes[index], self.second);
            prop_assert!(!again && self.sent[index].is_none(), "{index} twice");
            prop_assert!(second == push.at || second < push.at + push.ttl, "{index} had expired");
            prop_assert!(push.urgency >= self.trace.floor(second), "{index} lies below the floor");
            prop_assert!(self.trace.passes(push, second) == second, "{index} left in quiet hours");
            let replaced = push.replaced;
            prop_assert!(replaced.is_none_or(|at| second < at), "{index} was replaced");
            self.sent[index] = Some(second);
        }
        self.packet();
        self.report(Event::Acked(ids.iter().map(|(id, _)| *id).collect()));
        Ok(())
    }

    fn obey(&mut self) -> Result<(), TestCaseError> {
        let mut writes = 0;
        loop {
            let orders = self.planner.on_timeout(self.now);
            if orders.is_empty() {
                prop_assert!(writes <= 1, "{writes} writes in one second");
                return Ok(());
            }
            for order in orders {
                match order {
                    Order::Deliver(_, ids) => self.deliver(&ids)?,
                    Order::Expire(..) => continue,
                    Order::Ping(_) => {
                        self.packet();
                        self.report(Event::Stirred);
                    }
                }
                writes += 1;
            }
        }
    }

    /// Whatever had to leave has left in time: by its deadline, or when the floor fell after that, or
    /// quiet hours ended.
    fn nothing_missed(&self) -> Result<(), TestCaseError> {
        let trace = self.trace;
        for (index, push) in trace.pushes.iter().enumerate() {
            let deadline = trace.deadline(push);
            let fell = trace.contacts.iter().map(|(at, _)| *at).filter(|at| *at > deadline);
            let ended = trace.quiet.as_ref().map(|quiet| quiet.end).filter(|at| *at > deadline);
            let may = |at: &u64| push.urgency >= trace.floor(*at) && trace.passes(push, *at) == *at;
            let due = [deadline].into_iter().chain(fell).chain(ended).filter(may).min();
            let Some(due) = due.filter(|due| *due <= trace.end) else { continue };
            let over = !push.lives(due);
            let late = self.sent[index].is_none_or(|sent| sent > due);
            prop_assert!(over || !late, "{index} was due in second {due} and left {:?}", self.sent[index]);
        }
        Ok(())
    }
}

/// The planner's wakes.
fn planned(trace: &Trace) -> Result<u64, TestCaseError> {
    #[expect(clippy::disallowed_methods, reason = "an Instant can only be made from another one")]
    let start = Instant::now();
    let tau = Duration::from_secs(trace.tau);
    let minute = |second: u64| u16::try_from(second / 60).expect("of one day");
    let hours = |quiet: &Range<u64>| {
        let until = minute(QUIET_FROM_S + quiet.end - quiet.start);
        Quiet::try_from((minute(QUIET_FROM_S), until)).expect("two times of a day")
    };
    let quiet = trace.quiet.as_ref().map(hours);
    let balanced = Settings::of_profile(Profile::Balanced);
    let mut planner = Planner::new(Settings { budgets: trace.budgets, cap: None, quiet, tau, ..balanced });
    let until_quiet = trace.quiet.as_ref().map_or(0, |quiet| quiet.start);
    planner.on_local_time(start, u32::try_from(QUIET_FROM_S - until_quiet).ok());
    let sent = vec![None; trace.pushes.len()];
    let mut run = Run { last: 0, now: start, planner, second: 0, sent, trace, wakes: 0 };
    let (network, window) =
        (NetworkName::of(Ipv4Addr::LOCALHOST.into()), Window { bytes: 1000, messages: 1000 });
    let pulse = match trace.alive {
        Alive::Device(most) => Pulse::Device(Duration::from_secs(most)),
        // Half of the promise is the network's.
        Alive::Gateway(most) => {
            run.planner.keep_alive(PHONE, Duration::from_secs(most));
            Pulse::Gateway(Duration::from_secs(most + 1))
        }
        Alive::Nobody => Pulse::Nobody,
    };
    run.report(Event::Joined(Joined { heard: true, network, pulse, window }));
    for second in 0..=trace.end {
        (run.second, run.now) = (second, start + Duration::from_secs(second));
        let mut called = run.planner.next_wake().is_some_and(|at| at <= run.now);
        let ping = matches!(trace.alive, Alive::Device(most) if second == run.last + most);
        let said: Vec<_> = trace.contacts.iter().filter(|(at, _)| *at == second).collect();
        if ping || !said.is_empty() {
            run.packet();
            run.report(Event::Stirred);
            called = true;
        }
        for urgency in said.into_iter().filter_map(|(_, floor)| *floor) {
            run.report(Event::State(DeviceState { urgency: Some(urgency), ..DeviceState::default() }));
        }
        for index in 0..trace.pushes.len() {
            if trace.pushes[index].at == second {
                run.push(index);
                called = true;
            }
        }
        if called || second == 0 {
            run.obey()?;
        }
    }
    run.nothing_missed()?;
    Ok(run.wakes)
}

/// Of each Topic, the next one takes the place of the one before.
fn replace(pushes: &mut [Push]) {
    let mut newest = std::collections::HashMap::new();
    for push in pushes.iter_mut().rev() {
        if let Some(topic) = push.topic {
            push.replaced = newest.insert(topic, push.at);
        }
    }
}

fn urgency() -> impl Strategy<Value = Urgency> {
    proptest::sample::select(&URGENCIES[..])
}

fn budgets(end: u64) -> impl Strategy<Value = Budgets> {
    let seconds = move || (0..end / 2).prop_map(Duration::from_secs);
    let any = (seconds(), seconds(), seconds());
    prop_oneof![
        1 => Just(Budgets::of_profile(Profile::Instant)),
        1 => Just(Budgets::of_profile(Profile::Balanced)),
        1 => Just(Budgets::of_profile(Profile::Saver)),
        // The same shapes in other sizes, so that all deadlines come within a trace.
        4 => any.prop_map(|(normal, low, very_low)| Budgets { high: Duration::ZERO, normal, low, very_low }),
    ]
}

fn trace() -> impl Strategy<Value = Trace> {
    let end = prop_oneof![9 => Just(200_u64), 1 => Just(1500_u64)];
    end.prop_flat_map(|end| {
        let alive = prop_oneof![
            (2..end / 4).prop_map(Alive::Device),
            (2..end / 4).prop_map(Alive::Gateway),
            Just(Alive::Nobody),
        ];
        let ttl = prop_oneof![1 => Just(0_u64), 4 => 1..end, 3 => Just(86_400_u64)];
        let push = (0..end, proptest::option::weighted(0.3, 0_u8..3), ttl, urgency())
            .prop_map(|(at, topic, ttl, urgency)| Push { at, replaced: None, topic, ttl, urgency });
        let contact = (1..end, proptest::option::weighted(0.4, urgency()));
        (
            alive,
            budgets(end),
            proptest::collection::vec(contact, 0..8),
            proptest::collection::vec(push, 0..25),
            proptest::option::of((0..end, 1..=end / 60)),
            1_u64..15,
        )
            .prop_map(move |(alive, budgets, mut contacts, mut pushes, quiet, tau)| {
                let quiet = quiet.map(|(from, minutes)| from..from + 60 * minutes);
                contacts.sort_by_key(|(at, _)| *at);
                pushes.sort_by_key(|push| push.at);
                replace(&mut pushes);
                Trace { alive, budgets, contacts, end, pushes, quiet, tau }
            })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(TRACES))]

    #[test]
    fn no_plan_has_fewer_wakes(trace in trace()) {
        let (wakes, optimum) = (planned(&trace)?, trace.optimum());
        let foresight = u64::from(trace.quiet.is_some());
        prop_assert!((optimum..=optimum + foresight).contains(&wakes), "{wakes}, optimum {optimum}");
    }
}

/// The optimum itself, by hand: three pushes within reach of one ping, one that is not.
#[test]
fn the_optimum_is_what_a_person_would_count() {
    let push = |at, urgency| Push { at, replaced: None, topic: None, ttl: 86_400, urgency };
    let mut trace = Trace {
        alive: Alive::Gateway(100),
        budgets: Budgets { normal: Duration::from_secs(50), ..Budgets::NONE },
        contacts: vec![],
        end: 199,
        pushes: vec![push(60, Urgency::Normal), push(70, Urgency::Normal), push(99, Urgency::Normal)],
        quiet: None,
        tau: 10,
    };
    assert_eq!(trace.optimum(), 1);
    trace.pushes.push(push(150, Urgency::High));
    assert_eq!(trace.optimum(), 2);
    trace.contacts.push((145, None));
    assert_eq!(trace.optimum(), 2);
    trace.end = 300;
    assert_eq!(trace.optimum(), 3);
}

/// What foresight is worth in quiet hours: a push sent just before them shares the wake of an urgent one.
#[test]
fn quiet_hours_cost_at_most_one_wake_more_than_foresight_would() {
    let push = |at, urgency| Push { at, replaced: None, topic: None, ttl: 86_400, urgency };
    let mut trace = Trace {
        alive: Alive::Nobody,
        budgets: Budgets { normal: Duration::from_secs(50), ..Budgets::NONE },
        contacts: vec![],
        end: 199,
        pushes: vec![push(80, Urgency::Normal)],
        quiet: Some(90..150),
        tau: 10,
    };
    assert_eq!((planned(&trace).expect("keeps its promises"), trace.optimum()), (1, 1));
    trace.pushes.push(push(95, Urgency::High));
    assert_eq!((planned(&trace).expect("keeps its promises"), trace.optimum()), (2, 1));
    // In the night there is no way round two.
    trace.pushes[0].at = 91;
    assert_eq!((planned(&trace).expect("keeps its promises"), trace.optimum()), (2, 2));
}
