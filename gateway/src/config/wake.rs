//! `[wake]`, checked.

use std::{str::FromStr, time::Duration};

use super::{
    ConfigError, WakeConfig,
    check::Checker,
    raw::{RawBudgets, RawWake, Whole},
};
use crate::model::{Budgets, Malformed, Profile, RADIO_TAIL_S, WAKES_PER_HOUR};

/// More would be none, at one wake in each radio tail of a second.
const MOST_WAKES: u16 = 3600;
/// No radio is known to stay up for longer.
const MOST_TAIL_S: u16 = 60;
/// What waits longer than half a day is no message.
const MOST_BUDGET_S: u16 = 43_200;

impl Checker<'_> {
    /// `[wake]`
    pub(super) fn wake(&self, raw: &RawWake) -> Result<WakeConfig, ConfigError> {
        let key = "wake.max_wakes_per_registration_per_hour";
        let wakes =
            self.within(key, raw.max_wakes_per_registration_per_hour, 0, MOST_WAKES, WAKES_PER_HOUR)?;
        let tail = self.within("wake.radio_tail_s", raw.radio_tail_s, 0, MOST_TAIL_S, RADIO_TAIL_S)?;
        Ok(WakeConfig {
            balanced: self.budgets("wake.balanced", &raw.balanced, Profile::Balanced)?,
            max_wakes: (wakes > 0).then_some(wakes),
            profile: self.read("wake.profile", raw.profile.as_deref())?.unwrap_or_default(),
            quiet: match raw.quiet_hours.as_deref() {
                Some("none") => None,
                said => self.read("wake.quiet_hours", said)?,
            },
            saver: self.budgets("wake.saver", &raw.saver, Profile::Saver)?,
            tail: Duration::from_secs(tail.into()),
        })
    }

    fn budgets(&self, table: &str, raw: &RawBudgets, profile: Profile) -> Result<Budgets, ConfigError> {
        let usual = Budgets::of_profile(profile);
        let seconds = |name: &str, raw: Option<Whole>, usual: Duration| {
            let usual = u16::try_from(usual.as_secs()).unwrap_or(MOST_BUDGET_S);
            let read = self.within(&format!("{table}.{name}"), raw, 0, MOST_BUDGET_S, usual)?;
            Ok::<_, ConfigError>(Duration::from_secs(read.into()))
        };
        let budgets = Budgets {
            high: Duration::ZERO,
            normal: seconds("normal_s", raw.normal_s, usual.normal)?,
            low: seconds("low_s", raw.low_s, usual.low)?,
            very_low: seconds("very_low_s", raw.very_low_s, usual.very_low)?,
        };
        let Budgets { high: _, normal, low, very_low } = budgets;
        if normal > low || low > very_low {
            let (normal, low, very_low) = (normal.as_secs(), low.as_secs(), very_low.as_secs());
            return Err(self.error(
                table,
                &format!("what matters less may not wait shorter: normal_s is {normal}, low_s {low}, very_low_s {very_low}; write them so that each is at least the one before"),
            ));
        }
        Ok(budgets)
    }

    fn read<T: FromStr<Err = Malformed>>(
        &self,
        key: &str,
        raw: Option<&str>,
    ) -> Result<Option<T>, ConfigError> {
        let read = raw.map(|text| text.parse().map_err(|Malformed { expected }| (text, expected)));
        read.transpose()
            .map_err(|(text, expected)| self.error(key, &format!("`{text}` is not known; write {expected}")))
    }
}
