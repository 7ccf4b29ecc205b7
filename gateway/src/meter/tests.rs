//! Timetables of one phone, and what the meter makes of them.

use std::sync::Arc;

use super::*;
use crate::{
    clock::{Clock as _, ManualClock},
    model::{Day, DeviceState, NetworkName, RegistrationId, UnixTime},
    transport::{Joined, Pulse, Window},
};

const PHONE: DeviceId = DeviceId(7);
const TAU: Duration = Duration::from_secs(10);
const TODAY: u32 = 20_000;
/// What the wall clock shows at the start.
const WALL_S: u64 = 86_400 * 20_000;

/// What was written, and how often.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<(Tally, usize, Sheets)>>);

impl Archive for Paper {
    fn history(&self, _: DeviceId) -> Sheets {
        self.0.lock().unwrap().2.clone()
    }

    fn recall(&self, device: DeviceId) -> Option<Tally> {
        (device == PHONE).then(|| self.0.lock().unwrap().0.clone())
    }

    fn write(&self, _: DeviceId, tally: Tally, sheets: Sheets) {
        let mut paper = self.0.lock().unwrap();
        (paper.0, paper.1) = (tally, paper.1 + 1);
        paper.2.extend(sheets);
    }
}

struct World {
    /// By how many seconds the wall clock has been set; `None`: it cannot be trusted.
    ahead: Option<u64>,
    meter: Meter,
    paper: Paper,
    start: Instant,
}

impl World {
    fn new() -> Self {
        let paper = Paper::default();
        let start = ManualClock::new(UnixTime(0)).moment().instant;
        Self { ahead: Some(0), meter: Meter::new(Box::new(paper.clone()), TAU), paper, start }
    }

    fn at(&self, second: u64) -> At {
        let wall = self.ahead.map(|ahead| UnixTime((WALL_S + second + ahead) * 1000));
        At { day: Some(TODAY), instant: self.start + Duration::from_secs(second), wall }
    }

    fn tell(&self, second: u64, event: Event) {
        let report = Report { at: self.at(second).instant, device: PHONE, event };
        self.meter.on_report(self.at(second), &report);
    }

    fn join(&self, second: u64) {
        let (network, pulse) = (NetworkName::of([192, 0, 2, 1].into()), Pulse::Gateway(Duration::MAX));
        self.tell(
            second,
            Event::Joined(Joined { heard: true, network, pulse, window: Window { bytes: 1, messages: 1 } }),
        );
    }

    fn push(&self, second: u64, id: u64, urgency: Urgency) {
        self.meter.on_pending(
            self.at(second),
            &Pending {
                device: PHONE,
                expires: self.start + Duration::from_secs(90_000),
                id: MessageId(id),
                registration: RegistrationId(1),
                size: 1,
                urgency,
                volatile: false,
            },
        );
    }

    /// These leave together and are acknowledged.
    fn leave(&self, second: u64, ids: &[u64]) {
        let ids: Vec<_> = ids.iter().copied().map(MessageId).collect();
        self.tell(second, Event::Taken(ids.clone()));
        self.tell(second, Event::Acked(ids));
    }

    fn tally(&self) -> Tally {
        self.meter.tally(PHONE).unwrap()
    }
}

#[test]
fn pushes_that_left_together_would_have_been_wakes_of_their_own() {
    let world = World::new();
    world.join(0);
    for (id, second) in (1..=4).zip([100, 200, 205, 300]) {
        world.push(second, id, Urgency::Low);
    }
    world.leave(1000, &[1, 2, 3, 4]);
    world.meter.on_ping(world.at(2000), PHONE);
    world.tell(2000, Event::Stirred);
    let tally = world.tally();
    // At 0 the phone came back, after we had been away; at 205 its radio would have been up still.
    let expected =
        Day { day: TODAY, at_once: 1 + 3 + 1, keep_alive: 1, push: 1, reconnect: 1, ..Day::default() };
    assert_eq!(tally.days(), [expected]);
    assert_eq!(tally.days()[0].total(), 3);
    let low = tally.delay(Urgency::Low);
    assert_eq!((low.percentile_ms(50), low.percentile_ms(95), low.max_ms()), (900_000, 900_000, 900_000));
    assert_eq!(tally.delay(Urgency::High).count(), 0);
    assert_eq!((tally.messages.accepted, tally.messages.sent, tally.messages.acked), (4, 4, 4));
}

#[test]
fn what_the_phone_does_by_itself_is_kept_apart() {
    let world = World::new();
    world.join(0);
    world.tell(60, Event::Stirred);
    world.push(60, 1, Urgency::Normal);
    world.leave(60, &[1]);
    world.tell(120, Event::Stirred);
    let today = world.tally().days()[0];
    assert_eq!((today.client, today.push, today.total(), today.at_once), (2, 0, 1, 1));
}

#[test]
fn who_is_only_believed_to_be_there_was_not_woken() {
    let world = World::new();
    let (network, pulse) = (NetworkName::of([192, 0, 2, 1].into()), Pulse::Nobody);
    let window = Window { bytes: 1, messages: 1 };
    world.tell(0, Event::Joined(Joined { heard: false, network, pulse, window }));
    assert_eq!(world.tally().days(), []);
    world.push(100, 1, Urgency::High);
    world.leave(100, &[1]);
    let today = world.tally().days()[0];
    assert_eq!((today.push, today.total(), today.at_once), (1, 1, 1));
}

#[test]
fn reconnects_and_waste_are_told_apart() {
    let world = World::new();
    for (second, parting) in [(0, Parting::Lost), (100, Parting::Ended), (200, Parting::Closed)] {
        world.tell(second, Event::Stirred);
        world.join(second);
        world.tell(second + 50, Event::Left(parting));
    }
    world.join(300);
    world.meter.on_ping(world.at(309), PHONE);
    let today = world.tally().days()[0];
    assert_eq!((today.reconnect, today.waste, today.client), (2, 1 + 1, 1));
}

#[test]
fn it_writes_with_a_message_and_once_an_hour_and_never_for_nothing() {
    let world = World::new();
    world.join(0);
    let writes = || world.paper.0.lock().unwrap().1;
    for (id, second) in (1..).zip((0..7200).step_by(60)) {
        world.push(second, id, Urgency::Normal);
        world.leave(second, &[id]);
    }
    assert_eq!(writes(), 1);
    assert!(world.paper.0.lock().unwrap().2.len() == 1, "what happened was written with it");
    for second in (7200..90_000).step_by(60) {
        world.tell(second, Event::Stirred);
    }
    assert_eq!(writes(), 1, "pings alone are no reason");
    world.meter.close();
    world.meter.close();
    assert_eq!(writes(), 2);
    assert_eq!(world.paper.recall(PHONE), Some(world.tally()));
    world.meter.forget(PHONE);
    world.meter.on_missed(DeviceId(8), 1);
    assert_eq!(world.meter.tally(DeviceId(8)), None, "nobody is counted who is not paired");
}

/// Seconds, and what was noted.
fn noted(world: &World) -> Vec<(u64, Noted)> {
    world.meter.history(PHONE).into_iter().map(|(at, event)| (at / 10, event)).collect()
}

#[test]
fn what_happens_is_noted_without_what_the_gateway_did_itself() {
    let world = World::new();
    world.join(0);
    world.push(100, 1, Urgency::Low);
    world.push(130, 2, Urgency::High);
    world.leave(130, &[1, 2]);
    world.tell(135, Event::Stirred);
    world.meter.on_ping(world.at(500), PHONE);
    world.tell(501, Event::Stirred);
    let state = |urgency| DeviceState { urgency, ..DeviceState::default() };
    world.tell(600, Event::State(state(Some(Urgency::Normal))));
    world.tell(605, Event::State(state(Some(Urgency::Normal))));
    world.tell(606, Event::State(state(None)));
    let (contact, floor) = (Noted::Contact, Noted::Floor(Urgency::Normal));
    let expected = [
        (0, contact),
        (100, Noted::Push(Urgency::Low)),
        (130, Noted::Push(Urgency::High)),
        (600, contact),
        (600, floor),
    ];
    assert_eq!(noted(&world), expected);
    // The same from what was written, and the floor goes on with it.
    world.meter.close();
    let later = World { meter: Meter::new(Box::new(world.paper.clone()), TAU), ..world };
    assert_eq!(noted(&later), expected);
    later.tell(700, Event::State(state(Some(Urgency::Normal))));
    later.push(800, 3, Urgency::Normal);
    assert_eq!(noted(&later)[5..], [(800, Noted::Push(Urgency::Normal))]);
}

#[test]
fn clocks_that_are_wrong_or_set_do_not_move_what_happened() {
    let mut world = World { ahead: None, ..World::new() };
    world.push(10, 1, Urgency::High);
    world.tell(11, Event::State(DeviceState { urgency: Some(Urgency::Low), ..DeviceState::default() }));
    assert_eq!(noted(&world), [], "nobody knows when that was");
    world.ahead = Some(0);
    world.push(100, 2, Urgency::High);
    for (second, ahead) in [(200, Some(86_400 * 365)), (300, None), (400, Some(0))] {
        world.ahead = ahead;
        world.push(second, second, Urgency::High);
    }
    let push = Noted::Push(Urgency::High);
    let floor = (0, Noted::Floor(Urgency::Low));
    assert_eq!(noted(&world), [floor, (0, push), (100, push), (200, push), (300, push)]);
}
