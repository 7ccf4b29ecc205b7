//! The wall clock in 1970, ten years ahead, and back.

use super::*;

const HOUR: Duration = Duration::from_secs(3600);
const YEARS_MS: i64 = 3653 * 86_400_000;

fn left(world: &World) -> Vec<u64> {
    let now = world.clock.moment().instant;
    world.restored.iter().map(|pending| (pending.expires - now).as_secs()).collect()
}

#[test]
fn a_leap_and_a_restart_end_nothing_and_the_way_back_shows_the_right_time() {
    let mut world = World::new();
    let short = world.stored(NewPush { ttl: Ttl::from_secs(2 * 3600), ..push("short") });
    let long = world.stored(push("long"));
    let newest = world.core().lock().newest;
    world.clock.jump(YEARS_MS, false);
    let leapt = world.stored(push("leapt"));
    assert_eq!((world.accepted().0, world.accepted().0, world.accepted().0), (short, long, leapt));
    let world = world.reopen();
    assert_eq!(world.ids(), [short.0, long.0, leapt.0], "nothing is dropped, and nothing is there twice");
    assert_eq!(left(&world), [7200, 86_400, 86_400]);
    assert_eq!(world.core().lock().newest, newest, "the floor is where it was");

    world.clock.advance(HOUR);
    world.clock.jump(-YEARS_MS, true);
    world.backlog.observe(world.clock.moment());
    let now = world.clock.moment().instant;
    let rest = |id| world.load(id).map(|message| (message.expires - now).as_secs());
    assert_eq!((rest(short), rest(long)), (Some(3600), Some(86_400 - 3600)));
    assert_eq!(rest(leapt), Some(86_400 - 3600), "its time was never trusted, and counts from the opening");
}

#[test]
fn what_ended_unnoticed_is_not_delivered_once_the_clock_is_right() {
    let mut world = World::new();
    let short = world.stored(NewPush { ttl: Ttl::from_secs(60), ..push("short") });
    // It was off for an hour, and woke up in 1970.
    let start = i64::try_from(START.0).expect("a date");
    world.clock.jump(-start, false);
    world = world.reopen();
    assert_eq!(world.ids(), [short.0]);
    assert!(world.load(short).is_some(), "as long as nobody knows better, the promise is kept");
    world.clock.jump(start + 3_600_000, true);
    world.backlog.observe(world.clock.moment());
    assert_eq!(world.load(short), None);
    assert_eq!(world.withdrawn(), short);
    eventually("it is off the disk", || world.after_kill().ids().is_empty());
}

#[test]
fn a_jump_while_running_changes_no_ttl() {
    let world = World::new();
    let id = world.stored(push("x"));
    for by in [YEARS_MS, -2 * YEARS_MS, YEARS_MS] {
        world.clock.jump(by, true);
        world.backlog.observe(world.clock.moment());
        let message = world.load(id).expect("it waits");
        assert_eq!(message.expires - world.clock.moment().instant, Duration::from_secs(86_400));
    }
}

#[test]
fn trust_that_was_misplaced_moves_the_newest_time_by_four_weeks_at_most() {
    let world = World::new();
    world.stored(push("now"));
    let before = world.core().lock().recorded;
    world.clock.jump(YEARS_MS, true);
    world.stored(push("later"));
    let world = world.reopen();
    // And an hour, by which the time on disk may be late.
    let bound = before.0 + crate::model::LEAP_MS + 3_600_000;
    assert!(world.newest.0 <= bound, "{:?} after {before:?}", world.newest);
}

#[test]
fn whoever_tells_the_time_is_asked_with_the_newest_on_disk() {
    let world = World::new();
    world.stored(push("x"));
    let (dir, clock) = world.close();
    let mut asked = None;
    let store = Store::open(dir.path(), |newest| {
        asked = Some(newest);
        clock.moment()
    });
    assert!(store.is_ok());
    assert_eq!(asked, Some(START));
}
