use super::*;

const DAY: u64 = 86_400_000;
const YEARS: u64 = 3653 * DAY;
/// A year after the release.
const T: u64 = 1_793_491_200_000 + 365 * DAY;

/// A machine: its wall clock, its uptime, and what its time servers have said.
struct Machine {
    heard: Option<UnixTime>,
    start: Instant,
    trust: Trust,
    uptime: Duration,
    wall: u64,
}

impl Machine {
    fn new(wall: u64, newest: u64) -> Self {
        let start = SystemClock::default().moment().instant;
        let mut trust = Trust::new();
        trust.raise_floor(UnixTime(newest), start);
        Self { heard: None, start, trust, uptime: Duration::ZERO, wall }
    }

    fn pass(&mut self, by: Duration) {
        self.uptime += by;
        self.wall += millis(by);
    }

    fn trusts(&mut self) -> bool {
        let heard = self.heard;
        self.trust.judge(self.start + self.uptime, UnixTime(self.wall), || heard)
    }
}

#[test]
fn a_clock_in_the_past_is_not_believed_until_it_is_right() {
    for past in [0, build_time().0 - 1, T - 1] {
        let mut machine = Machine::new(past, T);
        machine.pass(Duration::ZERO);
        assert!(!machine.trusts(), "{past}");
        machine.wall = T + DAY;
        assert!(machine.trusts());
    }
    assert!(!Machine::new(0, 0).trusts(), "with nothing on disk there is the release");
    assert!(Machine::new(T + YEARS, 0).trusts(), "with nothing on disk there is nothing to expire");
}

#[test]
fn a_leap_of_ten_years_is_not_believed_and_does_no_harm_afterwards() {
    let mut machine = Machine::new(T, T);
    assert!(machine.trusts());
    machine.wall += YEARS;
    assert!(!machine.trusts());
    machine.pass(Duration::from_secs(60));
    assert!(!machine.trusts());
    machine.wall -= YEARS;
    assert!(machine.trusts(), "it came back");
}

#[test]
fn a_new_store_learns_what_time_it_is_by_the_first_look() {
    let mut machine = Machine::new(T, 0);
    assert!(machine.trusts());
    machine.wall += YEARS;
    assert!(!machine.trusts());
}

#[test]
fn a_month_without_power_is_no_leap_and_time_that_passes_is_none() {
    let mut machine = Machine::new(T + 27 * DAY, T);
    assert!(machine.trusts());
    machine.pass(Duration::from_millis(YEARS));
    assert!(machine.trusts());
}

#[test]
fn a_leap_is_believed_after_a_steady_hour() {
    let mut machine = Machine::new(T + YEARS, T);
    assert!(!machine.trusts());
    machine.pass(Duration::from_secs(3000));
    assert!(!machine.trusts());
    // It was not put right, but moved: the hour begins again.
    machine.wall += DAY;
    machine.pass(Duration::from_secs(600));
    assert!(!machine.trusts());
    machine.pass(Duration::from_secs(3599));
    assert!(!machine.trusts());
    machine.pass(Duration::from_secs(1));
    assert!(machine.trusts());
    machine.wall -= YEARS;
    assert!(machine.trusts(), "and yet the floor is where it was");
}

#[test]
fn the_word_of_a_time_server_outweighs_everything_else() {
    for wall in [T + YEARS, T - 100 * DAY] {
        let mut machine = Machine::new(wall, T);
        machine.heard = Some(UnixTime(wall - 1000));
        assert!(machine.trusts());
        // The file that was touched then says nothing about a clock that has jumped since.
        machine.wall = 1000;
        assert!(!machine.trusts());
    }
}

#[test]
fn a_time_server_that_is_heard_late_is_noticed() {
    let mut machine = Machine::new(1000, T);
    assert!(!machine.trusts());
    machine.wall = T - 10;
    machine.heard = Some(UnixTime(machine.wall));
    machine.pass(ASK_AGAIN);
    machine.wall = T - 10;
    assert!(machine.trusts());
}

#[test]
fn the_sign_is_a_file_that_was_touched() {
    let dir = tempfile::tempdir().expect("a directory is made");
    let sign = dir.path().join("synchronized");
    assert_eq!(synchronized(&sign), None);
    std::fs::write(&sign, "").expect("written");
    let at = UNIX_EPOCH + Duration::from_millis(T);
    std::fs::File::options().write(true).open(&sign).expect("opened").set_modified(at).expect("touched");
    assert_eq!(synchronized(&sign), Some(UnixTime(T)));
}

#[test]
fn a_fast_clock_gains_in_both_its_times_and_says_how_long_a_timer_has_to_run() {
    let clock = SystemClock::at_speed(1000);
    let before = clock.moment();
    std::thread::park_timeout(Duration::from_millis(5));
    let after = clock.moment();
    let (passed, shown) = (after.instant - before.instant, after.wall.0 - before.wall.0);
    assert!(passed >= Duration::from_secs(1) && shown.abs_diff(millis(passed)) < 500, "{passed:?} {shown}");
    assert_eq!(clock.real(Duration::from_secs(60)), Duration::from_millis(60));
    assert_eq!(SystemClock::default().real(Duration::from_secs(60)), Duration::from_secs(60));
}
