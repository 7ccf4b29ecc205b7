//! How often a registration may be pushed to: one application server that runs wild must not slow the
//! others down. Counted per registration, never per source: one homeserver serves many users.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::model::RegistrationId;

/// Registrations are forgotten, if they have been quiet, when so many are known.
const SWEEP: usize = 1024;

/// What a registration may have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rate {
    /// Messages that it may have at once after a rest.
    pub burst: u16,
    /// Messages a second that it may have for ever; 0: as many as come.
    pub per_second: u16,
}

/// Meters messages by registration: the generic cell rate algorithm, which needs one time for each.
#[derive(Debug)]
pub struct Meter {
    rate: Rate,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When each registration will have made up for what it had. Those that have are forgotten.
    due: HashMap<RegistrationId, Instant>,
    sweep_at: usize,
}

/// A registration has had too much.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TooMany {
    /// After so many seconds there is room for one more, at least 1.
    pub retry_after_s: u32,
}

impl Meter {
    /// Meters at `rate`.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self { rate, state: Mutex::new(State { sweep_at: SWEEP, ..State::default() }) }
    }

    /// One more message for a registration.
    ///
    /// # Errors
    /// [`TooMany`]: it does not count then.
    pub fn charge(&self, registration: RegistrationId, now: Instant) -> Result<(), TooMany> {
        if self.rate.per_second == 0 {
            return Ok(());
        }
        let each = Duration::from_secs(1) / u32::from(self.rate.per_second);
        let most = each * u32::from(self.rate.burst);
        // Every change is complete before anything that could panic.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let due = state.due.get(&registration).copied().unwrap_or(now).max(now) + each;
        let ahead = due.saturating_duration_since(now);
        if ahead > most {
            let wait = (ahead - most).as_millis().div_ceil(1000);
            return Err(TooMany { retry_after_s: u32::try_from(wait).unwrap_or(u32::MAX).max(1) });
        }
        state.due.insert(registration, due);
        if state.due.len() > state.sweep_at {
            state.due.retain(|_, due| *due > now);
            state.sweep_at = SWEEP.max(2 * state.due.len());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::{Clock as _, ManualClock},
        model::UnixTime,
    };

    const HOT: RegistrationId = RegistrationId(1);
    const QUIET: RegistrationId = RegistrationId(2);

    #[test]
    fn a_burst_goes_through_and_then_the_rate() {
        let clock = ManualClock::new(UnixTime(0));
        let meter = Meter::new(Rate { burst: 5, per_second: 2 });
        let now = || clock.moment().instant;
        let taken = |meter: &Meter| (0..20).filter(|_| meter.charge(HOT, now()).is_ok()).count();
        assert_eq!(taken(&meter), 5);
        assert_eq!(meter.charge(HOT, now()), Err(TooMany { retry_after_s: 1 }));
        assert_eq!(meter.charge(QUIET, now()), Ok(()), "the others notice nothing");
        clock.advance(Duration::from_secs(1));
        assert_eq!(taken(&meter), 2);
        clock.advance(Duration::from_secs(3600));
        assert_eq!(taken(&meter), 5);
    }

    #[test]
    fn a_slow_rate_says_when_to_come_back() {
        let now = ManualClock::new(UnixTime(0)).moment().instant;
        let meter = Meter::new(Rate { burst: 1, per_second: 1 });
        assert_eq!(meter.charge(HOT, now), Ok(()));
        assert_eq!(meter.charge(HOT, now + Duration::from_millis(1)), Err(TooMany { retry_after_s: 1 }));
        assert_eq!(meter.charge(HOT, now + Duration::from_secs(1)), Ok(()));
        let free = Meter::new(Rate { burst: 1, per_second: 0 });
        assert!((0..10_000).all(|_| free.charge(HOT, now).is_ok()));
    }

    #[test]
    fn who_is_quiet_is_forgotten() {
        let now = ManualClock::new(UnixTime(0)).moment().instant;
        let meter = Meter::new(Rate { burst: 10, per_second: 10 });
        for number in 0..100_000 {
            let at = now + Duration::from_millis(number);
            assert_eq!(meter.charge(RegistrationId(number), at), Ok(()));
        }
        let known = meter.state.lock().expect("no panic").due.len();
        assert!(known <= 2 * SWEEP, "{known}");
    }
}
