//! How much may wait: what is more is refused, and nothing that was accepted gives way.

use super::*;
use crate::model::{Bound, Bounds};

/// Room for so many messages, and for as many bytes as anybody likes.
fn messages(registration: u32, device: u32) -> Bounds {
    let bound = |messages| Bound { bytes: u64::MAX, messages };
    Bounds { device: bound(device), registration: bound(registration) }
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
    let world = bounded_by(Bounds { device: bound(1000), registration: bound(10) });
    world.stored(push("12345678"));
    assert!(refused(world.append(push("123"))));
    world.stored(push("12"));
    assert!(refused(world.append(push("1"))));
    world.stored(push(""));
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
