//! When a certificate is ordered. The orders themselves are tried with a real authority, in `tests`.

use super::*;
use crate::clock::{Clock as _, ManualClock};

const DAY: Duration = Duration::from_secs(86_400);

#[test]
fn a_certificate_is_due_at_two_thirds_of_its_time() {
    let clock = ManualClock::new(UnixTime(1_800_000_000_000));
    let from = clock.moment().wall;
    let life = Life { from, until: UnixTime(from.0 + 90 * 86_400_000) };
    assert_eq!(life.due_in(clock.moment()), 60 * DAY);
    clock.advance(59 * DAY);
    assert_eq!(life.due_in(clock.moment()), DAY);
    clock.advance(2 * DAY);
    assert_eq!(life.due_in(clock.moment()), Duration::ZERO, "and stays due");
    let wrong = Moment { trusted: false, ..clock.moment() };
    assert_eq!(life.due_in(wrong), LOOK, "a wrong clock proves nothing");
}

#[test]
fn failures_leave_the_authority_in_peace() {
    let waits: Vec<_> = (1..=12).map(after).collect();
    let first_hour = waits.iter().scan(Duration::ZERO, |at, wait| {
        *at += *wait;
        Some(*at)
    });
    assert_eq!(first_hour.take_while(|at| at.as_secs() < 3600).count(), 4, "with the first: five orders");
    assert_eq!(waits[11], AGAIN_MAX);
    assert_eq!(after(u32::MAX), AGAIN_MAX);
}
