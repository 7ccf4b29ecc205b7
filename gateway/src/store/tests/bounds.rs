//! How much may wait: of what is more, the oldest of the same registration expire early, or it is refused.

use super::*;
use crate::model::{Bound, Bounds, WhenFull};

/// Room for so many messages, and for as many bytes as anybody likes; more is refused.
fn messages(registration: u32, device: u32) -> Bounds {
    let bound = |messages| Bound { bytes: u64::MAX, messages };
    Bounds { device: bound(device), registration: bound(registration), when_full: WhenFull::Refuse }
}

/// The same, but the oldest gives way.
fn making_room(registration: u32, device: u32) -> Bounds {
    Bounds { when_full: WhenFull::ExpireOldest, ..messages(registration, device) }
}

/// A world of two registrations of one device.
fn bounded_by(bounds: Bounds) -> World {
    let world = World::new();
    world.wait(world.accounts.put_registration(registration(1, 2))).expect("written");
    world.intake.bound(bounds);
    world
}

fn to_second(body: &str) -> NewPush {
    NewPush { registration: Arc::new(registration(1, 2)), ..push(body) }
}

fn refused(appended: Result<Appended, NotStored>) -> bool {
    matches!(appended, Err(NotStored::Full))
}

#[test]
fn a_full_registration_takes_no_more_until_one_has_ended() {
    let world = bounded_by(messages(3, 100));
    let ids = ["1", "2", "3"].map(|body| world.stored(push(body)));
    assert!(refused(world.append(push("4"))));
    world.stored(to_second("of another"));
    world.append(volatile("does not wait")).expect("accepted");

    world.settle(ids[0]);
    world.stored(push("4"));
    assert!(refused(world.append(push("5"))));
    world.wait(world.cancel(ids[1]).map(|commit| commit.expect("it waits"))).expect("written");
    world.stored(push("5"));

    // The bounds are no property of the disk: whatever waits is kept, and counted.
    let world = world.reopen();
    assert_eq!(world.ids().len(), 4);
    world.intake.bound(messages(2, 100));
    assert!(refused(world.append(push("6"))));
    assert!(world.ids().into_iter().all(|number| world.load(MessageId(number)).is_some()));
}

#[test]
fn a_full_device_takes_no_more_by_any_registration() {
    let world = bounded_by(messages(2, 3));
    world.stored(push("1"));
    world.stored(push("2"));
    world.stored(to_second("3"));
    assert!(refused(world.append(to_second("4"))));
    // With the registration all of its messages end.
    let ended = world.accounts.remove_registration(RegistrationId(1));
    world.wait(ended.map(|commit| commit.expect("it is there"))).expect("written");
    world.stored(to_second("4"));
    world.assert_counted();
}

#[test]
fn bytes_are_bounded_too() {
    let bound = |bytes| Bound { bytes, messages: 100 };
    let bounds = Bounds { device: bound(1000), registration: bound(10), when_full: WhenFull::Refuse };
    let mut world = bounded_by(bounds);
    world.stored(push("12345678"));
    assert!(refused(world.append(push("123"))));
    world.stored(push("12"));
    assert!(refused(world.append(push("1"))));
    world.stored(push(""));

    // As many of the oldest give way as are needed, and no more.
    world.intake.bound(Bounds { when_full: WhenFull::ExpireOldest, ..bounds });
    while world.arrivals.try_recv().is_ok() {}
    let new = world.stored(push("1"));
    assert_eq!(world.crowded_out(), MessageId(1));
    assert_eq!(world.accepted().0, new);
    let new = world.stored(push("0123456789"));
    assert_eq!([2, 3, 4].map(|_| world.crowded_out().0), [2, 3, 4]);
    assert_eq!(world.accepted().0, new);
    assert_eq!(world.reopen().ids(), [new.0]);
}

#[test]
fn a_topic_takes_the_place_of_its_forerunner() {
    let world = bounded_by(messages(2, 2));
    world.stored(with_topic("old", "news"));
    world.stored(push("other"));
    assert!(refused(world.append(with_topic("more", "weather"))));
    let new = world.stored(with_topic("new", "news"));
    assert!(refused(world.append(push("more"))));
    let world = world.reopen();
    assert!(world.ids().contains(&new.0));
    assert_eq!(world.ids().len(), 2);
}

#[test]
fn the_oldest_of_the_same_registration_gives_way() {
    let mut world = bounded_by(making_room(3, 100));
    let other = world.stored(to_second("of another, and older"));
    let ids = ["1", "2", "3"].map(|body| world.stored(push(body)));
    for _ in 0..4 {
        world.accepted();
    }
    let new = world.stored(push("4"));
    // Nobody is told of more than has room.
    assert_eq!(world.crowded_out(), ids[0]);
    assert_eq!(world.accepted(), (new, None));
    assert_eq!(world.load(ids[0]), None);
    let waiting = world.accounts.waiting(RegistrationId(1));
    assert_eq!((waiting.messages, waiting.crowded_out), (3, 1));
    assert_eq!(world.accounts.waiting(RegistrationId(2)).crowded_out, 0);
    // What has no place on disk takes none.
    world.append(volatile("does not wait")).expect("accepted");
    // It went with the write that its successor came with, whatever ends the process.
    let after = world.after_kill();
    assert_eq!(after.ids(), [other.0, ids[1].0, ids[2].0, new.0]);
}

#[test]
fn nothing_of_another_registration_gives_way() {
    let mut world = bounded_by(making_room(3, 3));
    let first = world.stored(push("1"));
    let [old, other] = [to_second("2"), to_second("3")].map(|push| world.stored(push));
    for _ in 0..3 {
        world.accepted();
    }
    world.stored(to_second("4"));
    assert_eq!(world.crowded_out(), old);
    world.settle(first);
    world.stored(to_second("5"));
    // Where the others fill the device, there is nothing to give.
    assert!(refused(world.append(push("6"))));
    assert_eq!(world.accounts.waiting(RegistrationId(1)).crowded_out, 0);
    assert!(world.reopen().ids().contains(&other.0));
}

#[test]
fn a_topic_crowds_nobody_out_but_its_forerunner() {
    let mut world = bounded_by(making_room(2, 100));
    let old = world.stored(with_topic("old", "news"));
    let other = world.stored(push("other"));
    let new = world.stored(with_topic("new", "news"));
    assert_eq!([(); 3].map(|()| world.accepted()), [(old, None), (other, None), (new, Some(old))]);
    // And with a message that gives way its Topic is free.
    world.stored(push("more"));
    assert_eq!(world.crowded_out(), other);
    world.accepted();
    let last = world.stored(push("yet more"));
    assert_eq!(world.crowded_out(), new);
    world.accepted();
    let again = world.stored(with_topic("again", "news"));
    world.crowded_out();
    assert_eq!(world.accepted(), (again, None));
    assert_eq!(world.reopen().ids(), [last.0, again.0]);
}

#[test]
fn what_gives_way_before_it_is_written_is_answered_with_its_successor() {
    let world = bounded_by(making_room(2, 100));
    world.stored(push("reserves numbers"));
    let core = Arc::clone(&world.intake.0);
    let gate = core.disk.faults.gate.lock().expect("the gate is free");
    let appended: Vec<_> =
        (0..5).map(|number| world.append(push(&format!("{number}"))).expect("accepted")).collect();
    drop(gate);
    let ids: Vec<_> = appended.iter().map(|appended| appended.id.0).collect();
    for appended in appended {
        bounded(&world.runtime, appended.commit).expect("written, or not needed any more");
    }
    assert_eq!(world.reopen().ids(), ids[3..]);
}

#[test]
fn what_gave_way_to_a_message_that_was_not_stored_waits_again() {
    let mut world = bounded_by(making_room(2, 100));
    let ids = ["1", "2"].map(|body| world.stored(push(body)));
    while world.arrivals.try_recv().is_ok() {}
    world.faults().sync.store(true, Ordering::SeqCst);
    let failed = world.append(push("3")).expect("queued");
    let failed_id = failed.id;
    assert_eq!(bounded(&world.runtime, failed.commit), Err(NotStored::Disk));
    world.faults().sync.store(false, Ordering::SeqCst);
    let mut accepted = None;
    eventually("the disk is used again", || {
        accepted = world.append(push("4")).ok();
        accepted.is_some()
    });
    bounded(&world.runtime, accepted.expect("accepted").commit).expect("written");
    let after = world.reopen();
    // The disk may have kept the batch that it failed to sync: then the successor is there.
    let found = after.ids();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.contains(&ids[1].0) || found.contains(&failed_id.0), "{found:?}");
}
