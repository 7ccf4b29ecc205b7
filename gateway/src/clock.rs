//! The only reader of system time.
//!
//! Everything else takes a [`Moment`]. A Raspberry Pi has no battery clock and may wake up in the past,
//! or in any year at all; so the wall clock is believed only after [`Trust`] has judged it.

use std::{
    fmt,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::model::{LEAP_MS, Moment, UnixTime};

/// systemd-timesyncd touches it whenever it has heard from a time server.
const SYNCHRONIZED: &str = "/run/systemd/timesync/synchronized";

/// How long an answer about that file holds.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// How long a wall clock that has leapt ahead must go on steadily before it is believed without any
/// word from a time server: other time daemons leave no sign, but put a clock right within minutes.
const STEADY: Duration = Duration::from_secs(3600);

/// By how many milliseconds a steady clock may drift, or be nudged, while that is waited for.
const NUDGE_MS: u64 = 60_000;

/// Where "now" comes from: the system, or a test.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Now.
    fn moment(&self) -> Moment;

    /// How long a timer has to run for so much of this clock's time to pass. What waits for a peer, and not for
    /// a time, does not ask: no clock makes a socket faster.
    fn real(&self, pause: Duration) -> Duration {
        pause
    }

    /// The second of the local day, for quiet hours: by `TZ`, else by `/etc/localtime`, else UTC.
    fn second_of_day(&self, wall: UnixTime) -> u32 {
        let Some(instant) = timestamp(wall) else { return 0 };
        let time = instant.to_zoned(jiff::tz::TimeZone::system()).time();
        let whole = |part: i8| u32::try_from(part).unwrap_or_default();
        whole(time.hour()) * 3600 + whole(time.minute()) * 60 + whole(time.second())
    }

    /// The local day, counted from 1 January 1970.
    fn day(&self, wall: UnixTime) -> u32 {
        let Some(instant) = timestamp(wall) else { return 0 };
        let east = i64::from(jiff::tz::TimeZone::system().to_offset(instant).seconds());
        u32::try_from((instant.as_second() + east).div_euclid(86_400)).unwrap_or_default()
    }
}

/// The same time for a library that writes it. `None`: further away than it can.
#[must_use]
pub fn timestamp(wall: UnixTime) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_millisecond(i64::try_from(wall.0).ok()?).ok()
}

/// A clock that is shared by every room.
pub type SharedClock = Arc<dyn Clock>;

/// The clocks of this machine.
#[derive(Debug)]
pub struct SystemClock {
    speed: u32,
    start: Instant,
    trust: Mutex<Trust>,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::at_speed(1)
    }
}

impl SystemClock {
    /// Clocks that from now on run so many times as fast as they should: for tests that cannot wait a day.
    #[must_use]
    pub fn at_speed(speed: u32) -> Self {
        #[expect(clippy::disallowed_methods, reason = "the one place that reads the clocks")]
        let start = Instant::now();
        Self { speed: speed.max(1), start, trust: Mutex::new(Trust::new()) }
    }

    /// Tells it the newest time on disk: every wall time before it is wrong, and one that is far beyond
    /// it is doubtful.
    pub fn raise_floor(&self, newest: UnixTime) {
        let now = self.read().0;
        self.trust.lock().unwrap_or_else(PoisonError::into_inner).raise_floor(newest, now);
    }

    /// What the clocks show, and what they have gained.
    fn read(&self) -> (Instant, UnixTime) {
        #[expect(clippy::disallowed_methods, reason = "the one place that reads the clocks")]
        let (instant, system) = (Instant::now(), SystemTime::now());
        let gained = instant.saturating_duration_since(self.start).saturating_mul(self.speed - 1);
        (instant + gained, unix_time(system + gained))
    }
}

impl Clock for SystemClock {
    fn moment(&self) -> Moment {
        let (instant, wall) = self.read();
        let mut trust = self.trust.lock().unwrap_or_else(PoisonError::into_inner);
        let trusted = trust.judge(instant, wall, || synchronized(Path::new(SYNCHRONIZED)));
        Moment { instant, trusted, wall }
    }

    fn real(&self, pause: Duration) -> Duration {
        pause / self.speed
    }
}

/// When a time server was heard last, by the wall clock.
fn synchronized(sign: &Path) -> Option<UnixTime> {
    std::fs::metadata(sign).and_then(|found| found.modified()).ok().map(unix_time)
}

/// Whether the wall clock is to be believed.
///
/// It is, if a time server was heard while it showed about the same time. Without that word it must not
/// be earlier than the newest time on disk or the month of the release, and not more than 28 days ahead
/// of what it should be by the newest time that is known; or it must have stood there for an hour.
#[derive(Debug)]
struct Trust {
    /// When the file was looked at, and what it said.
    asked: Option<(Instant, Option<UnixTime>)>,
    /// The newest wall time known to lie in the past.
    floor: UnixTime,
    /// A believed time, and when that was.
    known: Option<(UnixTime, Instant)>,
    /// A leap: where to, and when it was seen first.
    leap: Option<(UnixTime, Instant)>,
}

impl Trust {
    fn new() -> Self {
        Self { asked: None, floor: build_time(), known: None, leap: None }
    }

    fn raise_floor(&mut self, newest: UnixTime, now: Instant) {
        if newest == UnixTime::default() {
            return;
        }
        self.floor = self.floor.max(newest);
        // What was believed without it does not count.
        self.known = Some((self.floor, now));
    }

    fn judge(&mut self, now: Instant, wall: UnixTime, ask: impl FnOnce() -> Option<UnixTime>) -> bool {
        if wall >= self.floor {
            let (known, since) = *self.known.get_or_insert((wall, now));
            if wall.0 <= after(known, since, now).saturating_add(LEAP_MS) {
                return true;
            }
        }
        let asked = self.asked.filter(|(at, _)| now.saturating_duration_since(*at) < ASK_AGAIN);
        let (_, heard) = *self.asked.insert(asked.unwrap_or_else(|| (now, ask())));
        if heard.is_some_and(|heard| heard.0.abs_diff(wall.0) <= LEAP_MS) {
            return true;
        }
        if wall < self.floor {
            return false;
        }
        match self.leap {
            Some((to, since)) if after(to, since, now).abs_diff(wall.0) <= NUDGE_MS => {
                now.saturating_duration_since(since) >= STEADY
            }
            Some(_) | None => {
                self.leap = Some((wall, now));
                false
            }
        }
    }
}

/// What a wall clock shows that has gone on from `wall` at `since`.
fn after(wall: UnixTime, since: Instant, now: Instant) -> u64 {
    wall.0.saturating_add(millis(now.saturating_duration_since(since)))
}

fn unix_time(system: SystemTime) -> UnixTime {
    UnixTime(millis(system.duration_since(UNIX_EPOCH).unwrap_or_default()))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// 2026-11-01, the month of this release: no honest clock is earlier. A constant rather than the
/// time of compilation, so that two builds give the same bytes.
fn build_time() -> UnixTime {
    UnixTime(1_793_491_200_000)
}

/// A clock that stands still until it is told to move. For tests.
#[derive(Debug)]
pub struct ManualClock {
    elapsed_ms: AtomicU64,
    /// By how much the wall clock has jumped.
    jumped_ms: AtomicI64,
    start: Instant,
    trusted: AtomicBool,
    wall: UnixTime,
}

impl ManualClock {
    /// Starts at `wall`, trusted.
    #[must_use]
    pub fn new(wall: UnixTime) -> Self {
        #[expect(clippy::disallowed_methods, reason = "an Instant can only be made from another one")]
        let start = Instant::now();
        Self {
            elapsed_ms: AtomicU64::new(0),
            jumped_ms: AtomicI64::new(0),
            start,
            trusted: AtomicBool::new(true),
            wall,
        }
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        self.elapsed_ms.fetch_add(millis(by), Ordering::Relaxed);
    }

    /// The wall clock jumps, by so many milliseconds, and is believed or not from now on.
    pub fn jump(&self, by_ms: i64, trusted: bool) {
        self.jumped_ms.fetch_add(by_ms, Ordering::Relaxed);
        self.trusted.store(trusted, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn moment(&self) -> Moment {
        let elapsed = self.elapsed_ms.load(Ordering::Relaxed);
        let wall = (self.wall.0 + elapsed).saturating_add_signed(self.jumped_ms.load(Ordering::Relaxed));
        Moment {
            instant: self.start + Duration::from_millis(elapsed),
            trusted: self.trusted.load(Ordering::Relaxed),
            wall: UnixTime(wall),
        }
    }
}

#[cfg(test)]
mod tests;
