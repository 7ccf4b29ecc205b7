//! Random operations against a model that is too simple to be wrong.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::model::{Bound, Bounds};

/// So many messages may wait for a registration; more makes the oldest of them give way.
const MOST: usize = 4;

/// One step; numbers choose among what there is.
#[derive(Clone, Debug)]
enum Step {
    Append {
        registration: u8,
        topic: Option<u8>,
        now: bool,
    },
    Cancel(usize),
    /// Everything so far is on disk.
    Flush,
    /// The steps happen while nothing is written, and then the disk refuses them all.
    Outage(Vec<Step>),
    Put(u8),
    Remove(u8),
    Reopen,
    Settle(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let append = (1..4_u8, prop::option::of(0..2_u8), prop::bool::weighted(0.15))
        .prop_map(|(registration, topic, now)| Step::Append { registration, topic, now });
    let simple = prop_oneof![
        8 => append,
        2 => any::<usize>().prop_map(Step::Cancel),
        3 => Just(Step::Flush),
        1 => (1..4_u8).prop_map(Step::Put),
        1 => (1..4_u8).prop_map(Step::Remove),
        4 => any::<usize>().prop_map(Step::Settle),
    ];
    prop_oneof![
        20 => simple.clone(),
        1 => Just(Step::Reopen),
        1 => prop::collection::vec(simple, 1..10).prop_map(Step::Outage),
    ]
}

/// What should be so.
#[derive(Clone, Debug, Default, PartialEq)]
struct Truth {
    /// Messages that wait: registration, topic, body.
    messages: BTreeMap<u64, (u8, Option<u8>, String)>,
    registrations: BTreeSet<u8>,
    tombstones: BTreeSet<u8>,
}

struct Run {
    commits: Vec<Commit>,
    /// What the planner believes to wait.
    planner: BTreeSet<u64>,
    /// Which message took whose place, by its Topic or for want of room, since the last outage began.
    replaced: BTreeMap<u64, Vec<u64>>,
    /// What ended for good although nothing could be written.
    settled: BTreeSet<u64>,
    truth: Truth,
    world: World,
}

impl Run {
    fn new() -> Self {
        let world = World::empty();
        world.wait(world.accounts.put_device(device(1))).expect("written");
        bound(&world);
        Self {
            commits: Vec::new(),
            planner: BTreeSet::new(),
            replaced: BTreeMap::new(),
            settled: BTreeSet::new(),
            truth: Truth::default(),
            world,
        }
    }

    fn step(mut self, step: Step) -> Self {
        match step {
            Step::Append { registration, topic, now } => self.append(registration, topic, now),
            Step::Cancel(which) => {
                if let Some(number) = self.choose(which) {
                    let commit = self.world.cancel(MessageId(number)).expect("accepted");
                    self.commits.push(commit.expect("it waits"));
                    self.truth.messages.remove(&number);
                }
            }
            Step::Flush => self.flush(Ok(())),
            Step::Outage(steps) => self = self.outage(steps),
            Step::Put(id) => {
                let commit = self.world.accounts.put_registration(registration(1, id));
                self.commits.push(commit.expect("accepted"));
                self.truth.registrations.insert(id);
                self.truth.tombstones.remove(&id);
            }
            Step::Remove(id) => {
                let commit = self.world.accounts.remove_registration(RegistrationId(id.into()));
                let commit = commit.expect("accepted");
                assert_eq!(commit.is_some(), self.truth.registrations.remove(&id));
                if let Some(commit) = commit {
                    self.commits.push(commit);
                    self.truth.tombstones.insert(id);
                    self.truth.messages.retain(|_, message| message.0 != id);
                }
            }
            Step::Reopen => {
                self.flush(Ok(()));
                self.world = self.world.reopen();
                bound(&self.world);
                self.planner = self.world.ids().into_iter().collect();
                let expected: Vec<_> = self.truth.messages.keys().copied().collect();
                assert_eq!(self.world.ids(), expected);
            }
            Step::Settle(which) => {
                self.plan();
                // What the planner has not been shown yet, nobody can have acknowledged.
                if let Some(number) = self.choose(which).filter(|number| self.planner.contains(number)) {
                    self.world.settle(MessageId(number));
                    self.truth.messages.remove(&number);
                    self.planner.remove(&number);
                    self.settled.insert(number);
                }
            }
        }
        self
    }

    fn append(&mut self, id: u8, topic: Option<u8>, now: bool) {
        let body = format!("{id} {topic:?} {}", self.truth.messages.len());
        let push = NewPush {
            registration: Arc::new(registration(1, id)),
            topic: topic.map(|topic| format!("t{topic}").parse().expect("a topic")),
            ttl: if now { Ttl::ZERO } else { Ttl::DEFAULT },
            ..push(&body)
        };
        let appended = self.world.append(push);
        if !self.truth.registrations.contains(&id) {
            assert_eq!(appended.map(drop), Err(NotStored::Busy));
            return;
        }
        let appended = appended.expect("accepted");
        self.commits.push(appended.commit);
        let same =
            |message: &(u8, Option<u8>, String)| topic.is_some() && (message.0, message.1) == (id, topic);
        let old = self.truth.messages.iter().find(|(_, message)| same(message)).map(|(number, _)| *number);
        let own = self
            .truth
            .messages
            .iter()
            .filter(|(number, message)| message.0 == id && !now && Some(**number) != old);
        let own: Vec<u64> = own.map(|(number, _)| *number).collect();
        let crowded_out = own.len().saturating_sub(MOST - 1);
        let ended: Vec<u64> = old.into_iter().chain(own.into_iter().take(crowded_out)).collect();
        for number in &ended {
            self.truth.messages.remove(number);
        }
        self.replaced.insert(appended.id.0, ended);
        if now {
            // Accepted at once, and so is what it replaces.
            self.settled.insert(appended.id.0);
            self.world.settle(appended.id);
        } else {
            self.truth.messages.insert(appended.id.0, (id, topic, body));
        }
    }

    fn outage(mut self, steps: Vec<Step>) -> Self {
        // A number that is not reserved would make a TTL 0 message wait for the disk.
        self.flush(Ok(()));
        let (before, truth) = (self.world.core().lock().next, self.truth.clone());
        self.replaced.clear();
        self.settled.clear();
        let gate = Arc::clone(&self.world.intake.0);
        let gate = gate.disk.faults.gate.lock().expect("the gate is free");
        self.world.faults().write.store(true, Ordering::SeqCst);
        for step in steps {
            if !matches!(step, Step::Flush) {
                self = self.step(step);
            }
        }
        drop(gate);
        for commit in std::mem::take(&mut self.commits) {
            // Some are safe because their message was settled; that none is safe that is not, shows below.
            bounded(&self.world.runtime, commit).ok();
        }
        self.world.faults().write.store(false, Ordering::SeqCst);
        eventually("it accepts again", || {
            let state = self.world.core().lock();
            state.mode == state::Mode::Open && !state.busy && !state.is_urgent()
        });
        self.truth = truth;
        for settled in std::mem::take(&mut self.settled) {
            let mut ended = vec![settled];
            while let Some(number) = ended.pop() {
                self.truth.messages.remove(&number);
                ended.extend(self.replaced.get(&number).into_iter().flatten());
            }
        }
        assert!(self.truth.messages.keys().all(|number| *number < before));
        self
    }

    fn choose(&self, which: usize) -> Option<u64> {
        let count = self.truth.messages.len();
        self.truth.messages.keys().nth(which.checked_rem(count)?).copied()
    }

    fn flush(&mut self, expected: Result<(), NotStored>) {
        for commit in std::mem::take(&mut self.commits) {
            assert_eq!(bounded(&self.world.runtime, commit), expected);
        }
    }

    /// Does what the planner does with arrivals.
    fn plan(&mut self) {
        while let Ok(arrival) = self.world.arrivals.try_recv() {
            match arrival {
                Arrival::Accepted { message, replaces } => {
                    if message.ttl != Ttl::ZERO {
                        self.planner.insert(message.id.0);
                    }
                    if let Some(old) = replaces {
                        self.planner.remove(&old.0);
                    }
                }
                Arrival::CrowdedOut(_, id) | Arrival::Withdrawn(_, id) => {
                    self.planner.remove(&id.0);
                }
            }
        }
    }

    fn check(&mut self) {
        self.plan();
        for (number, (_, _, body)) in &self.truth.messages {
            let loaded = self.world.load(MessageId(*number)).expect("it waits");
            assert_eq!(loaded.body, body);
        }
        let waiting: BTreeSet<_> =
            self.world.core().lock().waiting.iter().map(|(number, ..)| number).collect();
        assert_eq!(waiting, self.truth.messages.keys().copied().collect());
        for id in 1..4 {
            let lookup = self.world.intake.lookup(&EndpointToken([id; 20]));
            assert_eq!(matches!(lookup, Lookup::Live(_)), self.truth.registrations.contains(&id));
            assert_eq!(matches!(lookup, Lookup::Gone), self.truth.tombstones.contains(&id));
        }
    }
}

fn bound(world: &World) {
    let registration = Bound { bytes: u64::MAX, messages: u32::try_from(MOST).expect("small") };
    world.intake.bound(Bounds { registration, ..Bounds::default() });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_store_does_what_the_model_does(steps in prop::collection::vec(step(), 1..60)) {
        let mut run = Run::new().step(Step::Put(1)).step(Step::Put(2));
        for step in steps {
            run = run.step(step);
            run.check();
        }
        run = run.step(Step::Flush);
        run.check();
        prop_assert_eq!(&run.planner, &run.truth.messages.keys().copied().collect());
        run.step(Step::Reopen).check();
    }
}
