//! How long messages may wait, and when a device is not to be disturbed.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Malformed, Profile, Urgency};

/// How long a radio stays up after a packet, unless the configuration says otherwise, in seconds: about
/// the tail of LTE and 5G (5 to 11.6 s).
pub const RADIO_TAIL_S: u16 = 10;
/// Wakes an hour that one registration may cause by what can wait, unless the configuration says
/// otherwise: one in five minutes.
pub const WAKES_PER_HOUR: u16 = 12;

/// How long a message of each urgency may wait for company.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Budgets {
    /// Time-sensitive.
    pub high: Duration,
    /// What a request without `Urgency` means.
    pub normal: Duration,
    /// Topic updates.
    pub low: Duration,
    /// Advertisements.
    pub very_low: Duration,
}

impl Budgets {
    /// Nothing waits.
    pub const NONE: Self =
        Self { high: Duration::ZERO, normal: Duration::ZERO, low: Duration::ZERO, very_low: Duration::ZERO };

    /// What a profile means unless the configuration says otherwise.
    #[must_use]
    pub const fn of_profile(profile: Profile) -> Self {
        let (normal, low, very_low) = match profile {
            Profile::Instant => return Self::NONE,
            Profile::Balanced => (15, 15 * 60, 3600),
            Profile::Saver => (60, 30 * 60, 4 * 3600),
        };
        Self {
            high: Duration::ZERO,
            normal: Duration::from_secs(normal),
            low: Duration::from_secs(low),
            very_low: Duration::from_secs(very_low),
        }
    }

    /// How long a message of this urgency may wait.
    #[must_use]
    pub const fn of(&self, urgency: Urgency) -> Duration {
        match urgency {
            Urgency::High => self.high,
            Urgency::Normal => self.normal,
            Urgency::Low => self.low,
            Urgency::VeryLow => self.very_low,
        }
    }
}

/// Quiet hours: a part of each day, by the local clock, in which only urgency high passes. May span
/// midnight. The end is not part of it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "(u16, u16)", into = "(u16, u16)")]
pub struct Quiet {
    /// Minute of the day.
    from: u16,
    /// Minute of the day, another one.
    until: u16,
}

const DAY_MINUTES: u16 = 24 * 60;

impl Quiet {
    const EXPECTED: Malformed =
        Malformed { expected: "two different times of the day such as 22:00-07:00 (local time)" };

    /// How long quiet hours still last at a second of the local day; `None` outside them.
    #[must_use]
    pub fn remaining(&self, second_of_day: u32) -> Option<Duration> {
        const DAY: u32 = DAY_MINUTES as u32 * 60;
        let since = (second_of_day % DAY + DAY - u32::from(self.from) * 60) % DAY;
        let length = (u32::from(self.until) * 60 + DAY - u32::from(self.from) * 60) % DAY;
        (since < length).then(|| Duration::from_secs((length - since).into()))
    }
}

impl TryFrom<(u16, u16)> for Quiet {
    type Error = Malformed;

    fn try_from((from, until): (u16, u16)) -> Result<Self, Malformed> {
        if from < DAY_MINUTES && until < DAY_MINUTES && from != until {
            Ok(Self { from, until })
        } else {
            Err(Self::EXPECTED)
        }
    }
}

impl From<Quiet> for (u16, u16) {
    fn from(quiet: Quiet) -> Self {
        (quiet.from, quiet.until)
    }
}

impl fmt::Display for Quiet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, until } = self;
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, until / 60, until % 60)
    }
}

impl FromStr for Quiet {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let (from, until) = text.split_once('-').ok_or(Self::EXPECTED)?;
        let time = |text: &str| {
            let (hour, minute) = text.split_once(':')?;
            let number = |text: &str, limit: u16| {
                let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
                text.parse::<u16>().ok().filter(|number| digits && *number < limit)
            };
            Some(number(hour, 24)? * 60 + number(minute, 60)?)
        };
        let read = |text: &str| time(text.trim()).ok_or(Self::EXPECTED);
        Self::try_from((read(from)?, read(until)?))
    }
}

/// What the owner has chosen for one device; the configuration answers for the rest.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Preferences {
    /// How long its messages may wait.
    pub profile: Option<Profile>,
    /// When it is not to be disturbed.
    pub quiet: Option<QuietChoice>,
}

/// Quiet hours, or none whatever the configuration says.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum QuietChoice {
    /// These.
    Hours(Quiet),
    /// None.
    Never,
}

impl Preferences {
    /// Nothing was chosen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_hours_may_span_midnight() {
        let night: Quiet = "22:00-07:00".parse().unwrap();
        let hours = |hours: u64| Some(Duration::from_secs(hours * 3600));
        for (hour, remaining) in [(21, None), (22, hours(9)), (0, hours(7)), (6, hours(1)), (7, None)] {
            assert_eq!(night.remaining(hour * 3600), remaining, "{hour}:00");
        }
        let noon: Quiet = "12:00-13:30".parse().unwrap();
        assert_eq!(noon.remaining(13 * 3600), Some(Duration::from_secs(1800)));
        assert_eq!(noon.remaining(11 * 3600), None);
    }

    #[test]
    fn quiet_hours_are_two_different_times() {
        assert_eq!("22:00-07:00".parse::<Quiet>().unwrap().to_string(), "22:00-07:00");
        for wrong in
            ["", "22:00", "22-7", "22:00-24:00", "22:60-07:00", "07:00-07:00", "+2:00-03:00", "1:00-2:00"]
        {
            assert!(wrong.parse::<Quiet>().is_err(), "{wrong}");
        }
        assert!(postcard::from_bytes::<Quiet>(&postcard::to_allocvec(&(1440_u16, 3_u16)).unwrap()).is_err());
    }
}
