//! Simulated networks, and what is learnt of them.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use proptest::prelude::*;

use super::{FLOOR_S, Keeper, LONGEST_S, Memory};
use crate::{
    clock::{Clock as _, ManualClock},
    model::{DeviceId, Habit, Learnt, NetworkName, UnixTime},
    transport::{Event, Joined, Parting, Pulse, Report, Window},
};

const PHONE: DeviceId = DeviceId(7);
const WEEK_S: u64 = 7 * 86_400;

/// What was written, by device, and how often.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<(HashMap<DeviceId, Habit>, usize)>>);

impl Memory for Paper {
    fn recall(&self, device: DeviceId) -> Habit {
        self.0.lock().unwrap().0.get(&device).cloned().unwrap_or_default()
    }

    fn remember(&self, device: DeviceId, habit: Habit) {
        let mut paper = self.0.lock().unwrap();
        paper.0.insert(device, habit);
        paper.1 += 1;
    }
}

/// Who drives the keep-alive, and when it can change.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Client {
    /// Obeys `inbox/plan` at once.
    Native,
    /// MQTT 5.0: obeys Server Keep Alive when it connects, which it does once an hour in any case.
    AtConnect,
    /// Is pinged by the gateway.
    Pinged,
}

/// A phone in networks that forget a connection after a silence, and the keeper that listens.
struct World {
    asked: BTreeSet<u64>,
    client: Client,
    /// The keep-alive of the current connection.
    every: u64,
    keeper: Keeper,
    last: Instant,
    losses: Vec<Instant>,
    /// Bears no longer silence than this, in seconds.
    nat: u64,
    network: NetworkName,
    now: Instant,
    paper: Paper,
    start: Instant,
}

impl World {
    fn new(client: Client, nat: u64) -> Self {
        let paper = Paper::default();
        let start = ManualClock::new(UnixTime(0)).moment().instant;
        let mut world = Self {
            asked: BTreeSet::new(),
            client,
            every: 0,
            keeper: Keeper::new(Box::new(paper.clone()), LONGEST_S),
            last: start,
            losses: Vec::new(),
            nat,
            network: network(1),
            now: start,
            paper,
            start,
        };
        world.join();
        world
    }

    fn tell(&mut self, event: Event) {
        let report = Report { at: self.now, device: PHONE, event };
        if let Some(ask) = self.keeper.on_report(&report) {
            if self.client != Client::AtConnect {
                self.set(ask.as_secs());
            }
        }
    }

    /// The connection is kept alive in another way from now on.
    fn set(&mut self, every: u64) {
        if self.every != every {
            self.every = every;
            let report = Report { at: self.now, device: PHONE, event: Event::Pulse(self.pulse()) };
            self.keeper.on_report(&report);
        }
    }

    fn pulse(&self) -> Pulse {
        match self.client {
            Client::Pinged => Pulse::Gateway(Duration::MAX),
            Client::Native | Client::AtConnect => Pulse::Device(Duration::from_secs(self.every)),
        }
    }

    fn join(&mut self) {
        let known = self.paper.recall(PHONE).of(&self.network);
        self.every = known.ask_s.into();
        let window = Window { bytes: 1, messages: 1 };
        let (network, pulse) = (self.network.clone(), self.pulse());
        self.last = self.now;
        self.tell(Event::Joined(Joined { heard: true, network, pulse, window }));
    }

    fn lose(&mut self) {
        self.losses.push(self.now);
        self.tell(Event::Left(Parting::Lost));
        self.now += Duration::from_secs(2);
        self.join();
    }

    /// Lives so many seconds with nothing but its keep-alive.
    fn live(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        while self.now < end {
            self.asked.insert(self.every);
            self.now = self.last + Duration::from_secs(self.every);
            let borne = self.every < self.nat;
            if self.client == Client::Pinged {
                self.keeper.on_ping(self.now, PHONE);
            }
            if borne {
                self.last = self.now;
                self.tell(Event::Stirred);
                let since_start = self.now.duration_since(self.start).as_secs();
                if self.client == Client::AtConnect && since_start % 3600 < self.every {
                    self.tell(Event::Left(Parting::Closed));
                    self.join();
                }
            } else {
                self.lose();
            }
        }
    }

    fn learnt(&self) -> Learnt {
        self.paper.recall(PHONE).of(&self.network)
    }

    /// Learns the network, and checks every bound on the way.
    fn learn(&mut self, drops: usize) {
        let before = self.losses.len();
        self.asked.clear();
        let mut hours = 0;
        while !self.learnt().settled {
            self.live(3600);
            hours += 1;
            assert!(hours < 200, "{:?}", self.learnt());
        }
        let lost = self.losses.len() - before;
        let probes = self.asked.len();
        assert!(probes <= 9, "{} s: {probes} probes: {:?}", self.nat, self.asked);
        assert!(lost <= drops, "{} s: {lost} lost: {:?}", self.nat, self.asked);
        let right = self.nat.min(LONGEST_S.into());
        let ask = u64::from(self.learnt().ask_s);
        assert!(ask <= right && ask * 10 >= right * 9, "{} s: {:?}", self.nat, self.learnt());
    }
}

fn network(number: u8) -> NetworkName {
    NetworkName::of(IpAddr::from([192, 0, number, 1]))
}

const CLIENTS: [Client; 3] = [Client::Native, Client::AtConnect, Client::Pinged];

#[test]
fn each_nat_is_learnt_within_a_tenth_then_hardly_ever_lost() {
    for client in CLIENTS {
        for minutes in [1, 5, 15, 30, 60] {
            let mut world = World::new(client, minutes * 60);
            world.learn(4);
            let (lost, writes) = (world.losses.len(), world.paper.0.lock().unwrap().1);
            world.live(4 * WEEK_S);
            assert_eq!(world.losses.len(), lost, "{client:?}, {minutes} min: lost once it was known");
            assert_eq!(
                world.paper.0.lock().unwrap().1,
                writes,
                "{client:?}, {minutes} min: nothing to write"
            );
            assert!(writes <= 13, "{client:?}, {minutes} min: {writes} writes");
        }
    }
}

/// A phone that has just connected subscribes, registers and talks: that says nothing of silences.
#[test]
fn chat_teaches_nothing() {
    let mut world = World::new(Client::Native, 900);
    for pause in [1, 2, 5, 20, 44, 60, 89] {
        world.now += Duration::from_secs(pause);
        world.tell(Event::Stirred);
        assert_eq!(world.learnt().ask_s, Learnt::FIRST_S, "after {pause} s");
    }
    // Nor does a connection that ends while something is on its way.
    world.tell(Event::Taken(vec![]));
    world.tell(Event::Left(Parting::Lost));
    world.join();
    assert_eq!(world.learnt().ask_s, Learnt::FIRST_S);
    assert_eq!(world.learnt().failed_s, None);
}

#[test]
fn changing_networks_are_each_learnt_once() {
    for client in CLIENTS {
        let nats = [60, 300, 900, 1800, 3600];
        let mut world = World::new(client, nats[0]);
        for (number, nat) in (1..).zip(nats) {
            world.tell(Event::Left(Parting::Lost));
            (world.network, world.nat) = (network(number), nat);
            world.join();
            world.learn(4);
        }
        // Four weeks between home, office and mobile, which it leaves without a word each time.
        let lost = world.losses.len();
        for day in 0..28_u8 {
            for hour in 0..6_u8 {
                let at = (day + hour) % 5;
                world.tell(Event::Left(Parting::Lost));
                (world.network, world.nat) = (network(at + 1), nats[usize::from(at)]);
                world.join();
                world.live(4 * 3600);
            }
        }
        assert!(world.losses.len() - lost <= 4, "{client:?}: at most one a week");
        for (number, nat) in (1..).zip(nats) {
            let ask = u64::from(world.paper.recall(PHONE).of(&network(number)).ask_s);
            assert!(ask <= nat && ask * 10 >= nat.min(LONGEST_S.into()) * 9, "{client:?}, {nat} s: {ask}");
        }
    }
}

#[test]
fn a_network_that_bears_less_than_before_is_learnt_again() {
    for (before, after) in [(3600, 300), (900, 60), (900, 400), (300, 250)] {
        let mut world = World::new(Client::Native, before);
        world.learn(4);
        world.nat = after;
        let lost = world.losses.len();
        world.live(86_400);
        let ask = u64::from(world.learnt().ask_s);
        assert!(ask <= after && ask * 10 >= after * 9, "{before} -> {after}: {:?}", world.learnt());
        // Two to be sure that it is not a tunnel, and four to learn it.
        assert!(world.losses.len() <= lost + 6, "{before} -> {after}: {}", world.losses.len() - lost);
        let lost = world.losses.len();
        world.live(4 * WEEK_S);
        assert!(world.losses.len() <= lost + 4, "{before} -> {after}: at most one a week");
    }
}

#[test]
fn one_loss_is_a_tunnel_and_costs_little() {
    let mut world = World::new(Client::Native, 900);
    world.learn(4);
    let settled = world.learnt().ask_s;
    world.now = world.last + Duration::from_secs(settled.into());
    world.lose();
    world.live(86_400);
    assert!(world.learnt().settled && world.learnt().ask_s * 100 >= settled * 94, "{:?}", world.learnt());
}

#[test]
fn moving_going_and_staying_away_say_nothing() {
    let quiet = |parting: Parting, silence: u64, away: u64, to: u8| {
        let mut world = World::new(Client::Native, 3600);
        world.now += Duration::from_secs(silence);
        world.tell(Event::Left(parting));
        let provisional = world.learnt();
        world.now += Duration::from_secs(away);
        world.network = network(to);
        world.join();
        (provisional, world.paper.recall(PHONE).of(&network(1)))
    };
    let first = u64::from(Learnt::FIRST_S);
    assert_eq!(
        quiet(Parting::Lost, first, 2, 1).1.failed_s,
        Some(Learnt::FIRST_S),
        "the ping did not arrive"
    );
    // Supposed at once, because the next CONNACK must not ask for the same again.
    assert_eq!(quiet(Parting::Lost, first, 2, 2).0.failed_s, Some(Learnt::FIRST_S));
    for (what, (_, learnt)) in [
        ("closed", quiet(Parting::Closed, first, 2, 1)),
        ("ended by us", quiet(Parting::Ended, first, 2, 1)),
        ("moved", quiet(Parting::Lost, first, 2, 2)),
        ("no network at all", quiet(Parting::Lost, first * 3 / 2, 3600, 1)),
        ("noticed before its ping was due", quiet(Parting::Lost, first / 2, 2, 1)),
    ] {
        assert_eq!(learnt, Learnt::default(), "{what}");
    }
}

#[test]
fn an_unanswered_push_tells_which_silence_failed() {
    let mut world = World::new(Client::Native, 3600);
    world.now += Duration::from_secs(100);
    world.tell(Event::Taken(Vec::new()));
    world.now += Duration::from_secs(30);
    world.lose();
    assert_eq!(world.learnt().failed_s, Some(100));
    // And one that is answered, which was borne.
    world.now += Duration::from_secs(90);
    world.tell(Event::Taken(Vec::new()));
    world.now += Duration::from_secs(1);
    world.tell(Event::Acked(Vec::new()));
    assert_eq!(world.learnt().borne_s, 90);
}

#[test]
fn a_silence_that_came_by_itself_spares_the_probes() {
    let mut world = World::new(Client::Native, 3600);
    world.now += Duration::from_secs(2000);
    world.tell(Event::Stirred);
    assert_eq!((world.learnt().ask_s, world.learnt().settled), (LONGEST_S, true));
}

#[test]
fn less_than_the_worst_carrier_bears_the_floor() {
    let mut world = World::new(Client::Native, 40);
    world.live(3600);
    assert_eq!(world.learnt().ask_s, FLOOR_S);
    assert!(world.losses.len() <= 4, "{}", world.losses.len());
}

#[test]
fn the_owner_s_bound_is_never_passed() {
    let paper = Paper::default();
    let mut world = World::new(Client::Native, 3600);
    world.keeper = Keeper::new(Box::new(paper.clone()), 200);
    world.paper = paper;
    world.join();
    world.live(86_400);
    assert!(world.asked.iter().all(|asked| *asked <= 200), "{:?}", world.asked);
    assert!(world.learnt().settled);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_nat_is_learnt_within_the_bounds(nat in 46_u64..4000) {
        World::new(Client::Native, nat).learn(4);
    }

    #[test]
    fn no_evidence_breaks_it(
        evidence in prop::collection::vec((any::<bool>(), any::<u32>(), 0_u32..100_000), 0..200),
        cap in 0_u32..100_000,
    ) {
        let mut learnt = Learnt::default();
        for (borne, any, small) in evidence {
            for silence in [any, small] {
                if borne {
                    super::bear(&mut learnt, silence, cap);
                } else {
                    super::fail(&mut learnt, silence, cap);
                }
                prop_assert!(learnt.ask_s <= LONGEST_S);
                prop_assert!(learnt.failed_s.is_none_or(|failed| failed > learnt.borne_s));
            }
        }
    }
}
