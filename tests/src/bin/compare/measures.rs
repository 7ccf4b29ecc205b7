//! What is collected, and the arithmetic on it.

use std::collections::BTreeMap;

/// Whose figure it is; the order of the table's columns.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Side {
    /// This project.
    Gateway,
    /// ntfy.
    Ntfy,
    /// mosquitto.
    Mosquitto,
}

impl Side {
    /// All, in the order of the columns.
    pub(crate) const ALL: [Self; 3] = [Self::Gateway, Self::Ntfy, Self::Mosquitto];

    /// As it is called in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Ntfy => "ntfy",
            Self::Mosquitto => "mosquitto",
        }
    }
}

/// Who is connected while pushes come in.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Case {
    /// Nobody: everything waits.
    Alone,
    /// One subscriber, which acknowledges.
    Connected,
}

impl Case {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Alone, Self::Connected];

    /// As it is called in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Alone => "nobody connected",
            Self::Connected => "one subscriber",
        }
    }
}

/// What is measured.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Measure {
    /// Answered pushes per second with this many in flight.
    Rate(Case, usize),
    /// Time to arrival in ms, at this percentile.
    Arrival(u8),
    /// Time to the answer in ms, at this percentile.
    Answer(u8),
    /// Processor time per push in ms, at 16 in flight.
    Cpu(Case),
    /// KB written to disk per push, at 16 in flight.
    Disk(Case),
    /// MB resident a few seconds after the start.
    IdleMemory,
    /// MB resident after bursts of as many pushes for each server.
    EqualMemory(Case),
    /// MB resident after the bursts that measure rates, of as many pushes as each server takes.
    BurstMemory(Case),
    /// Thousands of pushes that were accepted in those bursts.
    BurstPushes(Case),
    /// ms from the start after kill -9 to the first answer, with [`crate::recovery::WAITING`] messages.
    Recovery,
    /// The same with [`crate::recovery::MANY`] …
    ManyRecovery,
    /// … and the most MB resident until then.
    ManyMemory,
    /// The generator's own processor time as a part of one core, at 16 in flight.
    Generator(Case),
}

/// Everything that was measured, round by round.
#[derive(Debug, Default)]
pub(crate) struct Measures {
    samples: BTreeMap<(Measure, Side), Vec<f64>>,
    /// What each server says it is.
    pub(crate) versions: BTreeMap<Side, String>,
}

impl Measures {
    /// Adds one round's figure.
    pub(crate) fn add(&mut self, side: Side, measure: Measure, value: f64) {
        self.samples.entry((measure, side)).or_default().push(value);
    }

    /// The median over the rounds, if it was measured.
    pub(crate) fn median(&self, side: Side, measure: Measure) -> Option<f64> {
        self.samples.get(&(measure, side)).map(|samples| median(samples))
    }

    /// What the rounds gave.
    pub(crate) fn rounds(&self, side: Side, measure: Measure) -> &[f64] {
        self.samples.get(&(measure, side)).map_or(&[], Vec::as_slice)
    }
}

/// The median; 0 of nothing.
pub(crate) fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// The nearest-rank percentile; 0 of nothing.
pub(crate) fn percentile(samples: &mut [f64], percent: u8) -> f64 {
    samples.sort_by(f64::total_cmp);
    let rank = (samples.len() * usize::from(percent)).div_ceil(100).max(1);
    samples.get(rank - 1).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_count_lies_between() {
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]).to_bits(), 2.5_f64.to_bits());
    }

    #[test]
    fn the_99th_of_a_hundred_is_the_last_but_one() {
        let mut samples: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(percentile(&mut samples, 99).to_bits(), 99_f64.to_bits());
        assert_eq!(percentile(&mut samples, 50).to_bits(), 50_f64.to_bits());
    }
}
