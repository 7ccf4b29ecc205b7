//! The service manager's watchdog (systemd: sd_watchdog_enabled(3)), fed by progress only.
//!
//! A timer that runs proves that the timer runs. So each round asks every part that could get stuck, by
//! way of its own queue, and the manager hears of it only when all have answered. An idle gateway writes
//! nothing for that, and without a watchdog there is not even a timer.

use std::{env, pin::Pin, time::Duration};

use super::{ServiceState, notify};

/// Resolves when the part that it asks has come round to its queue.
type Sign = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A part that could get stuck: its name, and how it is asked.
pub type Vital = (&'static str, Box<dyn Fn() -> Sign + Send + Sync>);

/// How often the service manager wants to hear of us.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Watchdog {
    period: Duration,
}

impl Watchdog {
    /// The watchdog that the environment asks this process for, if any.
    #[must_use]
    pub fn from_env() -> Option<Self> {
        let number = |name| env::var(name).ok().map(|text| text.parse::<u64>());
        Self::new(
            number("WATCHDOG_USEC")?.ok()?,
            number("WATCHDOG_PID").and_then(Result::ok),
            std::process::id(),
        )
    }

    fn new(period_us: u64, meant: Option<u64>, own: u32) -> Option<Self> {
        let ours = meant.is_none_or(|pid| pid == u64::from(own));
        (ours && period_us > 0).then_some(Self { period: Duration::from_micros(period_us) })
    }

    /// Asks all of `vitals` twice in each period and tells the service manager when all have answered.
    pub async fn feed(self, vitals: Vec<Vital>) {
        let round = self.period / 2;
        loop {
            let mut alive = true;
            for (name, ask) in &vitals {
                if tokio::time::timeout(round, ask()).await.is_err() {
                    alive = false;
                    tracing::error!(part = name, "no sign of life; the watchdog is not fed");
                }
            }
            if alive {
                notify(ServiceState::Alive);
            }
            tokio::time::sleep(round).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watchdog_meant_for_another_process_is_none() {
        let two_seconds = Some(Watchdog { period: Duration::from_secs(2) });
        assert_eq!(Watchdog::new(2_000_000, None, 7), two_seconds);
        assert_eq!(Watchdog::new(2_000_000, Some(7), 7), two_seconds);
        assert_eq!(Watchdog::new(2_000_000, Some(8), 7), None);
        assert_eq!(Watchdog::new(0, None, 7), None);
    }
}
