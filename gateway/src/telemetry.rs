//! What the gateway says of itself: counters by phase, and the log.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::model::{Phase, RegistrationId};

/// Counts messages by phase since the start. Shared by all rooms.
#[derive(Debug, Default)]
pub struct Telemetry {
    /// Only those that were ever limited.
    limited: Mutex<BTreeMap<RegistrationId, u64>>,
    phases: [AtomicU64; Phase::ALL.len()],
}

impl Telemetry {
    /// `by` more messages have come to `phase`.
    pub fn count(&self, phase: Phase, by: u64) {
        self.phases[phase as usize].fetch_add(by, Ordering::Relaxed);
    }

    /// A message was refused because its registration gets too many. Says so in the log at the first,
    /// and each time that their number has doubled.
    pub fn limited(&self, registration: RegistrationId) {
        let mut limited = self.limited.lock().unwrap_or_else(PoisonError::into_inner);
        let count = limited.entry(registration).or_default();
        *count += 1;
        if count.is_power_of_two() {
            tracing::warn!(%registration, count, "a registration gets more messages than it may; answering 429");
        }
    }

    /// How many messages of each registration were refused because there were too many.
    #[must_use]
    pub fn all_limited(&self) -> BTreeMap<RegistrationId, u64> {
        self.limited.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many messages have come to `phase`.
    #[must_use]
    pub fn counted(&self, phase: Phase) -> u64 {
        self.phases[phase as usize].load(Ordering::Relaxed)
    }
}
