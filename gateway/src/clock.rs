//! The only reader of system time.
//!
//! Everything else takes a [`Moment`]. A Raspberry Pi has no battery clock and may wake up in the
//! past, so the wall clock is believed only once it is later than both the newest time on disk and the
//! month of the release.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::model::{Moment, UnixTime};

/// Where "now" comes from: the system, or a test.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Now.
    fn moment(&self) -> Moment;

    /// The second of the local day, for quiet hours: by `TZ`, else by `/etc/localtime`, else UTC.
    fn second_of_day(&self, wall: UnixTime) -> u32 {
        let instant = i64::try_from(wall.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        let Some(instant) = instant else { return 0 };
        let time = instant.to_zoned(jiff::tz::TimeZone::system()).time();
        let whole = |part: i8| u32::try_from(part).unwrap_or_default();
        whole(time.hour()) * 3600 + whole(time.minute()) * 60 + whole(time.second())
    }
}

/// A clock that is shared by every room.
pub type SharedClock = Arc<dyn Clock>;

/// The clocks of this machine.
#[derive(Debug, Default)]
pub struct SystemClock {
    /// The newest wall time known to lie in the past, in ms: from the disk, or from the build.
    floor: AtomicU64,
}

impl SystemClock {
    /// A clock that distrusts every wall time before `floor` (the newest time found on disk).
    #[must_use]
    pub fn new(floor: UnixTime) -> Self {
        Self { floor: AtomicU64::new(floor.0.max(build_time().0)) }
    }

    /// Raises the floor: called with the newest time on disk once the store is open.
    pub fn raise_floor(&self, floor: UnixTime) {
        self.floor.fetch_max(floor.0, Ordering::Relaxed);
    }
}

impl Clock for SystemClock {
    fn moment(&self) -> Moment {
        #[expect(clippy::disallowed_methods, reason = "the one place that reads the clocks")]
        let (instant, system) = (Instant::now(), SystemTime::now());
        let wall = UnixTime(millis(system.duration_since(UNIX_EPOCH).unwrap_or_default()));
        Moment { instant, trusted: wall.0 >= self.floor.load(Ordering::Relaxed), wall }
    }
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
    start: Moment,
    elapsed_ms: AtomicU64,
}

impl ManualClock {
    /// Starts at `wall`, trusted.
    #[must_use]
    pub fn new(wall: UnixTime) -> Self {
        #[expect(clippy::disallowed_methods, reason = "an Instant can only be made from another one")]
        let instant = Instant::now();
        Self { start: Moment { instant, trusted: true, wall }, elapsed_ms: AtomicU64::new(0) }
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        self.elapsed_ms.fetch_add(millis(by), Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn moment(&self) -> Moment {
        let elapsed = self.elapsed_ms.load(Ordering::Relaxed);
        Moment {
            instant: self.start.instant + Duration::from_millis(elapsed),
            trusted: self.start.trusted,
            wall: UnixTime(self.start.wall.0 + elapsed),
        }
    }
}
