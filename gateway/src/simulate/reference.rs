//! The reference trace: 64 pushes a day in bursts, with a day's rhythm. Seeded, and the same everywhere.
//!
//! Six of ten arrivals are one push, the others bursts of 2 to 5 with gaps of 0.5 to 30 s. They come by the
//! weight of the hour. Urgencies: high 6 %, normal 54 %, low 25 %, very-low 15 %.

use super::trace::{Happening, Kind};
use crate::model::{Ttl, Urgency};

/// Pushes a day.
const DAILY: u64 = 64;
/// How many bursts begin in each hour, compared with other hours.
const RHYTHM: [u64; 24] =
    [2, 1, 1, 1, 1, 2, 4, 8, 10, 10, 10, 10, 12, 11, 10, 10, 10, 11, 12, 12, 11, 9, 6, 4];
const DAY_US: u64 = 86_400_000_000;

/// SplitMix64 (Steele, Lea, Flood 2014): ten lines that give the same numbers in every language.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// 0 to `sides` - 1. The bias of the remainder is below 1 in 10^12 for what is asked here.
    fn throw(&mut self, sides: u64) -> u64 {
        self.next() % sides.max(1)
    }
}

/// A trace of so many days, with so many contacts a day that the phone makes by itself.
#[must_use]
pub fn trace(days: u64, seed: u64, contacts: u64) -> Vec<Happening> {
    let mut dice = Dice(seed);
    let mut happenings = Vec::new();
    for day in 0..days {
        let mut left = DAILY;
        while left > 0 {
            let mut at_us = moment(&mut dice);
            let burst = if dice.throw(10) < 6 { 1 } else { 2 + dice.throw(4) }.min(left);
            left -= burst;
            for _ in 0..burst {
                let kind = Kind::Push { topic: None, ttl: Ttl::DEFAULT, urgency: urgency(&mut dice) };
                happenings.push(Happening { at_us: day * DAY_US + at_us.min(DAY_US - 1_000), kind });
                at_us += 500_000 + dice.throw(29_500) * 1_000;
            }
        }
        for _ in 0..contacts {
            happenings.push(Happening { at_us: day * DAY_US + moment(&mut dice), kind: Kind::Contact });
        }
    }
    happenings.sort_by_key(|happening| happening.at_us);
    happenings
}

/// A moment of the day in whole milliseconds, by its rhythm.
fn moment(dice: &mut Dice) -> u64 {
    let mut weight = dice.throw(RHYTHM.iter().sum());
    let mut hour = 0;
    for (candidate, share) in (0..).zip(RHYTHM) {
        hour = candidate;
        if weight < share {
            break;
        }
        weight -= share;
    }
    (hour * 3_600_000 + dice.throw(3_600_000)) * 1_000
}

fn urgency(dice: &mut Dice) -> Urgency {
    match dice.throw(100) {
        0..6 => Urgency::High,
        6..60 => Urgency::Normal,
        60..85 => Urgency::Low,
        _ => Urgency::VeryLow,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_trace_and_another_seed_another() {
        assert_eq!(trace(3, 1, 5), trace(3, 1, 5));
        assert_ne!(trace(3, 1, 5), trace(3, 2, 5));
        let mut dice = Dice(0);
        assert_eq!(dice.next(), 0xe220_a839_7b1d_cdaf, "the published first number of seed 0");
    }

    #[test]
    fn it_has_the_mix_that_it_claims() {
        let happenings = trace(200, 1, 60);
        let mut counts = [0_u32; 5];
        for happening in &happenings {
            counts[match happening.kind {
                Kind::Push { urgency, .. } => urgency as usize,
                Kind::Contact | Kind::State(_) => 4,
            }] += 1;
        }
        assert_eq!(counts[..4].iter().sum::<u32>(), 200 * 64);
        assert_eq!(counts[4], 200 * 60);
        for (count, share) in counts[..4].iter().zip([15, 25, 54, 6]) {
            let right = 200 * 64 * share / 100;
            assert!(count.abs_diff(right) * 10 <= right, "{count} of about {right}");
        }
        assert!(happenings.is_sorted_by_key(|happening| happening.at_us));
    }
}
