//! What was counted of one device.

use serde::{Deserialize, Serialize};

use super::Urgency;

/// Days that are kept besides today.
const DAYS_MAX: usize = 31;
/// Upper ends of the buckets of a [`Spread`], in milliseconds.
const ENDS_MS: [u32; 19] = [
    100, 250, 500, 1_000, 2_000, 5_000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000, 600_000, 900_000,
    1_800_000, 3_600_000, 7_200_000, 14_400_000, 86_400_000,
];

/// Everything that is kept of one device: of bounded size.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Tally {
    /// The latest first; the first is today, as far as anybody knows.
    days: Vec<Day>,
    /// How long messages waited, by urgency, from very-low to high.
    delays: [Spread; 4],
    /// Messages that left later than their urgency allows, although the device was there.
    pub missed: u32,
    /// Messages by what became of them.
    pub messages: Messages,
}

/// Messages of one device, by phase of life.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Messages {
    /// Came.
    pub accepted: u32,
    /// Were taken over by the device.
    pub acked: u32,
    /// Were over before they could leave: their TTL ended.
    pub expired: u32,
    /// Were replaced by a newer one of their Topic.
    pub replaced: u32,
    /// Were written to the device's connection.
    pub sent: u32,
}

/// Wakes of one day, by cause.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Day {
    /// Days since 1970, local; 0 while the clock is not to be trusted.
    pub day: u32,
    /// By the device itself: not counted as ours.
    pub client: u32,
    /// What delivering at once would have cost.
    pub at_once: u32,
    /// By pings of the gateway.
    pub keep_alive: u32,
    /// By messages.
    pub push: u32,
    /// By coming back after the connection was lost.
    pub reconnect: u32,
    /// By what was not needed: a ping of a connection that had just spoken, or coming back after the
    /// gateway had closed the connection.
    pub waste: u32,
}

/// How long something took, in buckets.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Spread {
    counts: [u32; ENDS_MS.len() + 1],
    max_ms: u32,
}

impl Day {
    /// All that the gateway has to answer for.
    #[must_use]
    pub fn total(&self) -> u32 {
        self.keep_alive + self.push + self.reconnect + self.waste
    }
}

impl Tally {
    /// The counts of a day, which becomes today. A clock that goes back changes nothing: the latest day
    /// goes on. `None`: nobody knows, which is the same.
    pub fn today(&mut self, day: Option<u32>) -> &mut Day {
        let latest = self.days.first().map_or(0, |latest| latest.day);
        let day = day.unwrap_or_default().max(latest);
        match self.days.first_mut() {
            // What was counted before the clock was right belongs to the first day that is known.
            Some(first) if first.day == 0 => first.day = day,
            Some(first) if first.day == day => {}
            Some(_) | None => {
                self.days.insert(0, Day { day, ..Day::default() });
                self.days.truncate(DAYS_MAX);
            }
        }
        &mut self.days[0]
    }

    /// The days on which anything happened, the latest first: today and the 30 before it.
    #[must_use]
    pub fn days(&self) -> &[Day] {
        &self.days
    }

    /// A message of this urgency left after so many milliseconds.
    pub fn delayed(&mut self, urgency: Urgency, ms: u64) {
        self.delays[urgency as usize].add(ms);
    }

    /// How long messages of this urgency waited.
    #[must_use]
    pub fn delay(&self, urgency: Urgency) -> &Spread {
        &self.delays[urgency as usize]
    }
}

impl Spread {
    fn add(&mut self, ms: u64) {
        let ms = u32::try_from(ms).unwrap_or(u32::MAX);
        let at = ENDS_MS.partition_point(|end| *end < ms);
        if self.counts[at] == u32::MAX {
            // Halved, it still says the same.
            self.counts.iter_mut().for_each(|count| *count /= 2);
        }
        self.counts[at] += 1;
        self.max_ms = self.max_ms.max(ms);
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|count| u64::from(*count)).sum()
    }

    /// The longest, in milliseconds.
    #[must_use]
    pub fn max_ms(&self) -> u32 {
        self.max_ms
    }

    /// What so many percent did not exceed, in milliseconds: the end of the bucket, or the longest.
    #[must_use]
    pub fn percentile_ms(&self, percent: u64) -> u32 {
        let wanted = (self.count() * percent).div_ceil(100);
        let mut seen = 0;
        for (count, end) in self.counts.iter().zip(ENDS_MS) {
            seen += u64::from(*count);
            if seen >= wanted {
                return end.min(self.max_ms);
            }
        }
        self.max_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thirty_days_are_kept_besides_today_and_no_clock_undoes_one() {
        let mut tally = Tally::default();
        tally.today(None).push += 1;
        tally.today(Some(20_000)).push += 1;
        assert_eq!((tally.days().len(), tally.days()[0].push), (1, 2), "before the clock was right");
        for day in 20_001..20_100 {
            tally.today(Some(day)).push += day;
        }
        assert_eq!((tally.days().len(), tally.days()[30].day), (31, 20_069));
        tally.today(Some(3)).push += 1;
        tally.today(None).push += 1;
        assert_eq!((tally.days()[0].day, tally.days()[0].push), (20_099, 20_101));
    }

    #[test]
    fn percentiles_are_the_ends_of_buckets_and_never_beyond_the_longest() {
        let mut tally = Tally::default();
        assert_eq!(tally.delay(Urgency::Low).percentile_ms(50), 0);
        for ms in (1..=99).map(|_| 900).chain([400_000]) {
            tally.delayed(Urgency::Low, ms);
        }
        let spread = tally.delay(Urgency::Low);
        let got = (spread.percentile_ms(50), spread.percentile_ms(99), spread.percentile_ms(100));
        assert_eq!((got, spread.max_ms(), spread.count()), ((1000, 1000, 400_000), 400_000, 100));
        tally.delayed(Urgency::Low, u64::MAX);
        assert_eq!(tally.delay(Urgency::Low).max_ms(), u32::MAX);
    }
}
