//! What the planner goes by: the rules of the house, and what comes of them for one device.

use std::time::Duration;

use crate::model::{Budgets, Preferences, Profile, Quiet, QuietChoice, RADIO_TAIL_S, WAKES_PER_HOUR};

/// See [`RADIO_TAIL_S`].
pub const TAU: Duration = Duration::from_secs(RADIO_TAIL_S as u64);
/// See [`WAKES_PER_HOUR`].
pub const CAP: u16 = WAKES_PER_HOUR;

/// What the planner goes by for one device.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Settings {
    /// How long a message of each urgency may wait for company.
    pub budgets: Budgets,
    /// So many wakes an hour may one registration cause by messages that can wait; `None`: any
    /// number. Beyond them its messages wait for another's wake, for a contact, or for their TTL's end.
    pub cap: Option<u16>,
    /// What the budgets are called.
    pub profile: Profile,
    /// When only urgency high passes.
    pub quiet: Option<Quiet>,
    /// A radio is up for this long after a packet in either direction.
    pub tau: Duration,
}

impl Settings {
    /// Those of a profile, without quiet hours.
    #[must_use]
    pub const fn of_profile(profile: Profile) -> Self {
        Self { budgets: Budgets::of_profile(profile), cap: Some(CAP), profile, quiet: None, tau: TAU }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::of_profile(Profile::default())
    }
}

/// The rules of the house, from which each device's [`Settings`] come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Policy {
    /// What `balanced` means here.
    pub balanced: Budgets,
    /// See [`Settings::cap`].
    pub cap: Option<u16>,
    /// The profile of devices whose owner has chosen none.
    pub profile: Profile,
    /// The quiet hours of devices whose owner has chosen none.
    pub quiet: Option<Quiet>,
    /// What `saver` means here.
    pub saver: Budgets,
    /// See [`Settings::tau`].
    pub tau: Duration,
}

impl Policy {
    /// What the planner goes by for a device whose owner has chosen this.
    #[must_use]
    pub fn settings(&self, chosen: &Preferences) -> Settings {
        let profile = chosen.profile.unwrap_or(self.profile);
        Settings {
            budgets: match profile {
                Profile::Instant => Budgets::NONE,
                Profile::Balanced => self.balanced,
                Profile::Saver => self.saver,
            },
            cap: self.cap,
            profile,
            quiet: match chosen.quiet {
                None => self.quiet,
                Some(QuietChoice::Hours(hours)) => Some(hours),
                Some(QuietChoice::Never) => None,
            },
            tau: self.tau,
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            balanced: Budgets::of_profile(Profile::Balanced),
            cap: Some(CAP),
            profile: Profile::default(),
            quiet: None,
            saver: Budgets::of_profile(Profile::Saver),
            tau: TAU,
        }
    }
}
