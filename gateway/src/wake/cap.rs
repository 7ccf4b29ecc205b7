//! Which registration has woken the device how often of late.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use crate::model::RegistrationId;

/// What the cap counts over.
const HOUR: Duration = Duration::from_secs(3600);

/// The wakes of the last hour, by the registration that caused them. Holds no more entries than there
/// were wakes, so nobody can fill it without being heard.
#[derive(Debug, Default)]
pub(super) struct Wakes(HashMap<RegistrationId, VecDeque<Instant>>);

impl Wakes {
    /// A registration has caused a wake.
    pub(super) fn count(&mut self, now: Instant, registration: RegistrationId) {
        self.0.retain(|_, wakes| wakes.back().is_some_and(|last| *last + HOUR > now));
        let wakes = self.0.entry(registration).or_default();
        while wakes.front().is_some_and(|first| *first + HOUR <= now) {
            wakes.pop_front();
        }
        wakes.push_back(now);
    }

    /// When a registration may cause a wake again, if it has caused `cap` in the last hour.
    pub(super) fn free_at(&self, now: Instant, registration: RegistrationId, cap: u16) -> Option<Instant> {
        let wakes = self.0.get(&registration)?;
        // The wake that has to be an hour old for fewer than `cap` to be younger.
        let decisive = wakes.len().checked_sub(usize::from(cap.max(1)))?;
        wakes.get(decisive).map(|wake| *wake + HOUR).filter(|free| *free > now)
    }
}
