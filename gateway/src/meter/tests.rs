//! Timetables of one phone, and what the meter makes of them.

use std::sync::Arc;

use super::*;
use crate::{
    clock::{Clock as _, ManualClock},
    model::{Day, NetworkName, RegistrationId, UnixTime},
    transport::{Joined, Pulse, Window},
};

const PHONE: DeviceId = DeviceId(7);
const TAU: Duration = Duration::from_secs(10);
const TODAY: u32 = 20_000;

/// What was written, and how often.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<(Tally, usize)>>);

impl Archive for Paper {
    fn recall(&self, device: DeviceId) -> Option<Tally> {
        (device == PHONE).then(|| self.0.lock().unwrap().0.clone())
    }

    fn write(&self, _: DeviceId, tally: Tally) {
        let mut paper = self.0.lock().unwrap();
        *paper = (tally, paper.1 + 1);
    }
}

struct World {
    meter: Meter,
    paper: Paper,
    start: Instant,
}

impl World {
    fn new() -> Self {
        let paper = Paper::default();
        let start = ManualClock::new(UnixTime(0)).moment().instant;
        Self { meter: Meter::new(Box::new(paper.clone()), TAU), paper, start }
    }

    fn at(&self, second: u64) -> At {
        At { day: Some(TODAY), instant: self.start + Duration::from_secs(second) }
    }

    fn tell(&self, second: u64, event: Event) {
        let report = Report { at: self.at(second).instant, device: PHONE, event };
        self.meter.on_report(Some(TODAY), &report);
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
