//! When the gateway's own certificate is replaced.

use std::time::Duration;

use super::authority::{Authority, names};
use crate::{
    clock::{Clock as _, ManualClock},
    model::{Moment, UnixTime},
};

const DAY: Duration = Duration::from_secs(86_400);

#[test]
fn a_certificate_is_renewed_before_it_ends_and_when_the_names_change() {
    let dir = tempfile::tempdir().expect("a directory");
    let authority = Authority::open(dir.path()).expect("opens");
    let clock = ManualClock::new(UnixTime(1_800_000_000_000));
    let names = vec!["a.example".to_owned()];
    let issued = authority.issue(names.clone(), clock.moment()).expect("issued");
    assert!(issued.serves(&names, clock.moment()));
    assert!(!issued.serves(&["b.example".to_owned()], clock.moment()), "another name");
    clock.advance(364 * DAY);
    assert!(issued.serves(&names, clock.moment()), "a month is left");
    clock.advance(2 * DAY);
    assert!(!issued.serves(&names, clock.moment()), "less than a month is left");
    let wrong = Moment { trusted: false, ..clock.moment() };
    assert!(issued.serves(&names, wrong), "a wrong clock proves nothing");
}

#[test]
fn a_board_without_a_clock_has_a_certificate_until_it_knows_the_day() {
    let dir = tempfile::tempdir().expect("a directory");
    let authority = Authority::open(dir.path()).expect("opens");
    let clock = ManualClock::new(UnixTime(1_800_000_000_000));
    let past = Moment { trusted: false, wall: UnixTime(0), ..clock.moment() };
    let issued = authority.issue(vec!["a.example".to_owned()], past).expect("issued");
    assert!(issued.serves(&["a.example".to_owned()], past));
    assert!(!issued.serves(&["a.example".to_owned()], clock.moment()), "now it knows");
}

#[test]
fn this_machine_is_named_without_repetition() {
    let names = names(&["localhost".to_owned(), "push.example.org".to_owned()]);
    assert_eq!(names[..2], ["localhost", "push.example.org"]);
    let mut once = names.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), names.len(), "{names:?}");
    assert!(names.contains(&"127.0.0.1".to_owned()), "{names:?}");
}
