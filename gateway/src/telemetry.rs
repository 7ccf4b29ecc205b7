//! What the gateway says of itself: counters by phase, and the log.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::Phase;

/// Counts messages by phase since the start. Shared by all rooms.
#[derive(Debug, Default)]
pub struct Telemetry {
    phases: [AtomicU64; Phase::ALL.len()],
}

impl Telemetry {
    /// `by` more messages have come to `phase`.
    pub fn count(&self, phase: Phase, by: u64) {
        self.phases[phase as usize].fetch_add(by, Ordering::Relaxed);
    }

    /// How many messages have come to `phase`.
    #[must_use]
    pub fn counted(&self, phase: Phase) -> u64 {
        self.phases[phase as usize].load(Ordering::Relaxed)
    }
}
