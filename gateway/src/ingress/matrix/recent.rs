//! Which events a registration has had lately: a homeserver that was not told so says it again.

use std::{
    collections::{HashSet, VecDeque},
    hash::{BuildHasher as _, RandomState},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::model::RegistrationId;

/// How long an event is known: the longest pause that Synapse makes before it tries again.
const WINDOW: Duration = Duration::from_secs(3600);
/// How many events are known, of all registrations. What falls out early is at worst one message twice.
const MAX_EVENTS: usize = 4096;

/// Events by registration, as hashes with a secret of this process: an id can be long, and nobody can
/// choose two that collide.
#[derive(Debug, Default)]
pub(in crate::ingress) struct Recent {
    secret: RandomState,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    known: HashSet<u64>,
    /// In the order in which they came.
    order: VecDeque<(Instant, u64)>,
}

impl Recent {
    /// Whether the registration has had this event.
    pub(super) fn knows(&self, registration: RegistrationId, event: &str, now: Instant) -> bool {
        let key = self.secret.hash_one((registration, event));
        // Every change is complete before anything that could panic.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.forget(now);
        state.known.contains(&key)
    }

    /// The registration has had this event.
    pub(super) fn remember(&self, registration: RegistrationId, event: &str, now: Instant) {
        let key = self.secret.hash_one((registration, event));
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.known.insert(key) {
            state.order.push_back((now, key));
        }
        state.forget(now);
    }
}

impl State {
    fn forget(&mut self, now: Instant) {
        while let Some(&(at, key)) = self.order.front() {
            if self.order.len() <= MAX_EVENTS && now.saturating_duration_since(at) < WINDOW {
                break;
            }
            self.order.pop_front();
            self.known.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::{Clock as _, ManualClock},
        model::UnixTime,
    };

    const ONE: RegistrationId = RegistrationId(1);
    const OTHER: RegistrationId = RegistrationId(2);

    #[test]
    fn an_event_is_known_for_an_hour_and_to_its_registration() {
        let clock = ManualClock::new(UnixTime(0));
        let now = || clock.moment().instant;
        let recent = Recent::default();
        assert!(!recent.knows(ONE, "$a", now()));
        recent.remember(ONE, "$a", now());
        assert!(recent.knows(ONE, "$a", now()));
        assert!(!recent.knows(OTHER, "$a", now()) && !recent.knows(ONE, "$b", now()));
        clock.advance(WINDOW - Duration::from_secs(1));
        assert!(recent.knows(ONE, "$a", now()));
        clock.advance(Duration::from_secs(1));
        assert!(!recent.knows(ONE, "$a", now()));
    }

    #[test]
    fn the_oldest_make_room() {
        let now = ManualClock::new(UnixTime(0)).moment().instant;
        let recent = Recent::default();
        for number in 0..=MAX_EVENTS {
            recent.remember(ONE, &number.to_string(), now);
        }
        assert!(!recent.knows(ONE, "0", now) && recent.knows(ONE, "1", now));
        let state = recent.state.lock().expect("no panic");
        assert_eq!((state.known.len(), state.order.len()), (MAX_EVENTS, MAX_EVENTS));
    }
}
