//! What the gateway says of itself: counters by phase, and signs of life.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::{Notify, futures::Notified};

use crate::model::{Phase, RegistrationId};

/// Counts messages by phase since the start. Shared by all rooms.
#[derive(Debug, Default)]
pub struct Telemetry {
    /// Only those that were ever limited.
    limited: Mutex<BTreeMap<RegistrationId, u64>>,
    /// The planner's sign of life.
    pub planner: Pulse,
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

/// A loop that is asked whether it still goes round, by way of whatever it waits for anyway.
#[derive(Debug, Default)]
pub struct Pulse {
    answered: Notify,
    asked: Notify,
}

impl Pulse {
    /// The loop shows that it has come round.
    pub fn answer(&self) {
        self.answered.notify_waiters();
    }

    /// Resolves at the first answer after this call.
    pub fn answered(&self) -> Notified<'_> {
        self.answered.notified()
    }

    /// Asks the loop and waits for its answer.
    pub async fn ask(&self) {
        let answered = self.answered();
        self.asked.notify_one();
        answered.await;
    }

    /// For the loop: resolves when it is asked.
    pub async fn asked(&self) {
        self.asked.notified().await;
    }
}
