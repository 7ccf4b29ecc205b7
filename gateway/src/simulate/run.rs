//! Drives the planner over a trace, and counts.

use std::{
    collections::{BTreeMap, HashMap},
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use super::{
    KeepAlive, Policy, end_us, micros,
    trace::{Happening, Kind},
};
use crate::{
    model::{
        DeviceId, DeviceState, Habit, MessageId, NetworkName, Pending, RegistrationId, Topic, Ttl, Urgency,
    },
    transport::{Event, Joined, Pulse, Report, Window},
    wake::{
        Order, Planner, Settings,
        keep_alive::{Keeper, LONGEST_S, Memory},
    },
};

const PHONE: DeviceId = DeviceId(1);

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// How long each push that left had waited, in microseconds, by urgency; sorted.
    pub delays_us: BTreeMap<Urgency, Vec<u64>>,
    /// Pushes that were too old before they could leave.
    pub expired: u64,
    /// The keep-alive at the end, in microseconds.
    pub keep_alive_us: u64,
    /// Wakes that only kept the connection alive.
    pub keep_alive_wakes: u64,
    /// Pushes that left after their deadline.
    pub missed: u64,
    /// All packets in order, in microseconds.
    pub packets_us: Vec<u64>,
    /// Pushes that still waited at the end.
    pub pending: u64,
    /// Wakes that brought a push whose time had come.
    pub push_wakes: u64,
}

struct Waiting {
    at_us: u64,
    deadline_us: u64,
    topic: Option<Topic>,
    urgency: Urgency,
}

struct Run<'a> {
    floor: Urgency,
    /// When the floor was said, in microseconds.
    floor_us: u64,
    keeper: Option<Keeper>,
    last_us: u64,
    next_id: u64,
    outcome: Outcome,
    planner: Planner,
    policy: &'a Policy,
    start: Instant,
    topics: HashMap<Topic, MessageId>,
    waiting: BTreeMap<MessageId, Waiting>,
}

/// Nothing was learnt before, and nothing is written down.
struct NoMemory;

impl Memory for NoMemory {
    fn recall(&self, _: DeviceId) -> Habit {
        Habit::default()
    }

    fn remember(&self, _: DeviceId, _: Habit) {}
}

/// Runs the planner over a trace. `start` is any instant.
#[must_use]
pub fn run(happenings: &[Happening], policy: &Policy, start: Instant) -> Outcome {
    let settings = Settings {
        cap: None,
        tau: Duration::from_micros(policy.tau_us),
        ..Settings::of_profile(policy.profile)
    };
    let mut run = Run {
        floor: Urgency::VeryLow,
        floor_us: 0,
        keeper: (policy.keep_alive == KeepAlive::Learnt).then(|| Keeper::new(Box::new(NoMemory), LONGEST_S)),
        last_us: 0,
        next_id: 1,
        outcome: Outcome { packets_us: vec![0], ..Outcome::default() },
        planner: Planner::new(settings),
        policy,
        start,
        topics: HashMap::new(),
        waiting: BTreeMap::new(),
    };
    run.join();
    run.orders(0);
    let end = end_us(happenings);
    let mut happenings = happenings.iter().peekable();
    loop {
        let due = run.planner.next_wake().map(|at| micros(at.saturating_duration_since(start)));
        let next = happenings.peek().map(|happening| happening.at_us);
        let Some(now) = due.into_iter().chain(next).min().filter(|now| *now < end) else { break };
        while let Some(happening) = happenings.next_if(|happening| happening.at_us <= now) {
            run.happen(happening);
        }
        run.orders(now);
    }
    run.finish()
}

impl Run<'_> {
    fn join(&mut self) {
        if let KeepAlive::Fixed(us) = self.policy.keep_alive {
            self.keep_alive(Duration::from_micros(us));
        }
        let network = NetworkName::of(Ipv4Addr::LOCALHOST.into());
        let window = Window { bytes: u32::MAX, messages: u16::MAX };
        self.report(
            0,
            Event::Joined(Joined { heard: true, network, pulse: Pulse::Gateway(Duration::MAX), window }),
        );
    }

    fn keep_alive(&mut self, silence: Duration) {
        self.outcome.keep_alive_us = micros(silence);
        self.planner.keep_alive(PHONE, silence);
    }

    fn instant(&self, us: u64) -> Instant {
        self.start + Duration::from_micros(us)
    }

    fn report(&mut self, at_us: u64, event: Event) {
        let report = Report { at: self.instant(at_us), device: PHONE, event };
        self.planner.on_report(&report);
        if let Some(silence) = self.keeper.as_mut().and_then(|keeper| keeper.on_report(&report)) {
            self.keep_alive(silence);
        }
    }

    fn happen(&mut self, happening: &Happening) {
        let at = happening.at_us;
        match &happening.kind {
            Kind::Contact => self.contact(at),
            Kind::Push { topic, ttl, urgency } => self.push(at, topic.as_ref(), *ttl, *urgency),
            Kind::State(floor) => {
                (self.floor, self.floor_us) = (*floor, at);
                self.report(
                    at,
                    Event::State(DeviceState { urgency: Some(*floor), ..DeviceState::default() }),
                );
                self.contact(at);
            }
        }
    }

    /// The phone speaks by itself.
    fn contact(&mut self, at: u64) {
        self.report(at, Event::Stirred);
        self.last_us = at;
        self.outcome.packets_us.push(at);
    }

    fn push(&mut self, at: u64, topic: Option<&Topic>, ttl: Ttl, urgency: Urgency) {
        let id = MessageId(self.next_id);
        self.next_id += 1;
        if let Some(old) = topic.and_then(|topic| self.topics.insert(topic.clone(), id)) {
            if self.waiting.remove(&old).is_some() {
                self.planner.on_withdrawn(PHONE, old);
            }
        }
        let pending = Pending {
            device: PHONE,
            expires: self.instant(at) + Duration::from_secs(ttl.as_secs().into()),
            id,
            registration: RegistrationId(1),
            size: 1,
            urgency,
            volatile: ttl == Ttl::ZERO,
        };
        let deadline_us = self.policy.deadline_us(at, urgency, ttl.as_secs());
        self.waiting.insert(id, Waiting { at_us: at, deadline_us, topic: topic.cloned(), urgency });
        self.planner.on_pending(self.instant(at), &pending);
    }

    fn orders(&mut self, now: u64) {
        loop {
            let orders = self.planner.on_timeout(self.instant(now));
            if orders.is_empty() {
                return;
            }
            for order in orders {
                match order {
                    Order::Deliver(_, due) => self.deliver(now, due.iter().map(|(id, _)| *id).collect()),
                    Order::Expire(_, ids) => {
                        let gone = ids.iter().filter(|id| self.waiting.remove(id).is_some()).count();
                        self.outcome.expired += gone as u64;
                    }
                    Order::Ping(_) => {
                        self.packet(now, false);
                        if let Some(keeper) = &mut self.keeper {
                            keeper.on_ping(self.start + Duration::from_micros(now), PHONE);
                        }
                        self.report(now, Event::Stirred);
                    }
                }
            }
        }
    }

    fn deliver(&mut self, now: u64, ids: Vec<MessageId>) {
        let mut due = false;
        for id in &ids {
            let Some(push) = self.waiting.remove(id) else { continue };
            due |= push.deadline_us <= now;
            // Whatever the floor has held was due when it fell at the earliest.
            let allowed = if push.at_us < self.floor_us {
                push.deadline_us.max(self.floor_us)
            } else {
                push.deadline_us
            };
            self.outcome.missed += u64::from(now > allowed);
            self.outcome.delays_us.entry(push.urgency).or_default().push(now - push.at_us);
            if let Some(topic) = push.topic.filter(|topic| self.topics.get(topic) == Some(id)) {
                self.topics.remove(&topic);
            }
        }
        self.packet(now, due);
        self.report(now, Event::Taken(ids.clone()));
        self.report(now, Event::Acked(ids));
    }

    /// A packet of ours; `due`: it had to leave for a push.
    fn packet(&mut self, now: u64, due: bool) {
        let silence = now - self.last_us;
        if silence >= self.policy.tau_us {
            if due || silence < self.outcome.keep_alive_us {
                self.outcome.push_wakes += 1;
            } else {
                self.outcome.keep_alive_wakes += 1;
            }
        }
        self.last_us = now;
        self.outcome.packets_us.push(now);
    }

    fn finish(mut self) -> Outcome {
        self.outcome.pending = self.waiting.len() as u64;
        self.outcome.delays_us.values_mut().for_each(|delays| delays.sort_unstable());
        self.outcome
    }
}
