//! Points in time, as data. Only [`crate::clock`] makes them.

use std::time::Instant;

use serde::{Deserialize, Serialize};

/// Wall-clock time in milliseconds since 1970-01-01T00:00:00Z. May be wrong: see [`Moment::trusted`].
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct UnixTime(pub u64);

impl UnixTime {
    /// Whole seconds since 1970.
    #[must_use]
    pub fn as_secs(self) -> u64 {
        self.0 / 1000
    }
}

/// 28 days in milliseconds: so far ahead of what is known a wall clock is doubtful, and so much it may
/// move the newest time on disk at once.
pub const LEAP_MS: u64 = 28 * 86_400_000;

/// "Now", read once and handed down, so that one decision sees one time.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Monotonic time: what deadlines and TTLs count on while the process runs.
    pub instant: Instant,
    /// Whether `wall` may be believed. A board without battery clock wakes up in the past; until
    /// the clock is trusted nothing expires on its word and no VAPID `exp` is judged.
    pub trusted: bool,
    /// Wall-clock time: what goes to disk and what JWTs are judged by.
    pub wall: UnixTime,
}
