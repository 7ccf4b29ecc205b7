//! How often somebody may be wrong: token buckets for wrong logins, in bounded memory.
//!
//! A bucket is kept as the instant at which it will be full again (the "theoretical arrival time" of
//! the generic cell rate algorithm), so a full bucket needs no memory. Only wrong logins cost a token.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

use crate::model::DeviceId;

/// Wrong logins from one source at once. Generous, because one address may be a whole household
/// behind NAT, or a reverse proxy.
const SOURCE_BURST: u32 = 60;
/// After that, one more in this time: an unpaired phone that keeps trying every few seconds
/// does not shut out its neighbours.
const SOURCE_INTERVAL: Duration = Duration::from_secs(1);
/// Wrong logins for one device at once.
const DEVICE_BURST: u32 = 20;
/// After that, one more in this time.
const DEVICE_INTERVAL: Duration = Duration::from_secs(5);
/// Sources, and devices, that are remembered: about 200 KB in all at the worst.
const REMEMBERED: usize = 4096;

/// The owner is told of throttled sources once in this time: a log on an SD card is not a stranger's to fill.
const QUIET: Duration = Duration::from_secs(60);

/// Counts wrong logins by source and by device.
#[derive(Debug)]
pub(super) struct Throttle {
    devices: Buckets<DeviceId>,
    quiet_until: Option<Instant>,
    sources: Buckets<IpAddr>,
}

/// What a wrong login has led to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Charged {
    /// The device has had enough wrong ones for now.
    DeviceEmpty,
    /// It was one of those that are forgiven.
    Forgiven,
    /// That was the source's last one for now.
    SourceEmpty {
        /// Whether it is time to tell the owner.
        tell: bool,
    },
}

impl Default for Throttle {
    fn default() -> Self {
        Self {
            devices: Buckets::new(DEVICE_BURST, DEVICE_INTERVAL),
            quiet_until: None,
            sources: Buckets::new(SOURCE_BURST, SOURCE_INTERVAL),
        }
    }
}

impl Throttle {
    /// Whether logins from `source` are not even looked at now.
    pub(super) fn blocks(&self, source: IpAddr, now: Instant) -> bool {
        self.sources.is_empty(&network(source), now)
    }

    /// Notes a wrong login. `device` is the id that was tried, whether or not anybody has it.
    pub(super) fn charge(&mut self, source: IpAddr, device: Option<DeviceId>, now: Instant) -> Charged {
        let device_empty = device.is_some_and(|device| {
            let empty = self.devices.is_empty(&device, now);
            if !empty {
                self.devices.take(device, now);
            }
            empty
        });
        let source = network(source);
        self.sources.take(source, now);
        if self.sources.is_empty(&source, now) {
            let tell = self.quiet_until.is_none_or(|quiet| quiet <= now);
            if tell {
                self.quiet_until = Some(now + QUIET);
            }
            Charged::SourceEmpty { tell }
        } else if device_empty {
            Charged::DeviceEmpty
        } else {
            Charged::Forgiven
        }
    }
}

/// How many clients of one source register themselves at once.
const ENROLMENT_BURST: u32 = 20;
/// After that, one more in this time.
const ENROLMENT_INTERVAL: Duration = Duration::from_secs(180);

/// Counts clients that register themselves, by source: 20 at once, then 20 an hour.
#[derive(Debug)]
pub(super) struct Enrolments(Buckets<IpAddr>);

impl Default for Enrolments {
    fn default() -> Self {
        Self(Buckets::new(ENROLMENT_BURST, ENROLMENT_INTERVAL))
    }
}

impl Enrolments {
    /// Counts one more, unless there were too many.
    pub(super) fn take(&mut self, source: IpAddr, now: Instant) -> bool {
        let source = network(source);
        let room = !self.0.is_empty(&source, now);
        if room {
            self.0.take(source, now);
        }
        room
    }
}

/// What counts as one source: an IPv4 address, or the /64 that one IPv6 subscriber has at least.
fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
    }
}

#[derive(Debug)]
struct Buckets<K> {
    full_at: HashMap<K, Instant>,
    interval: Duration,
    /// A bucket that will be full later than this is empty.
    patience: Duration,
}

impl<K: Copy + Eq + Hash> Buckets<K> {
    fn new(burst: u32, interval: Duration) -> Self {
        Self { full_at: HashMap::new(), interval, patience: interval * (burst - 1) }
    }

    fn is_empty(&self, key: &K, now: Instant) -> bool {
        self.full_at.get(key).is_some_and(|full| full.saturating_duration_since(now) > self.patience)
    }

    fn take(&mut self, key: K, now: Instant) {
        if self.full_at.len() >= REMEMBERED && !self.full_at.contains_key(&key) {
            self.make_room(now);
        }
        let full = self.full_at.entry(key).or_insert(now);
        *full = now.max(*full) + self.interval;
    }

    /// Forgets the buckets that are full again; if that is not enough, the fuller half, so that
    /// the work is spread over many logins.
    fn make_room(&mut self, now: Instant) {
        self.full_at.retain(|_, full| *full > now);
        if self.full_at.len() < REMEMBERED {
            return;
        }
        let mut instants: Vec<Instant> = self.full_at.values().copied().collect();
        let middle = instants.len() / 2;
        let median = *instants.select_nth_unstable(middle).1;
        // Equal instants are common under a flood: of those, only as many go as are needed.
        let mut surplus = middle;
        self.full_at.retain(|_, full| {
            let drop = *full <= median && surplus > 0;
            surplus -= usize::from(drop);
            !drop
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::{Clock as _, ManualClock},
        model::UnixTime,
    };

    fn now() -> Instant {
        ManualClock::new(UnixTime(0)).moment().instant
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_source_is_blocked_after_its_burst_and_forgiven_with_time() {
        let (mut throttle, start) = (Throttle::default(), now());
        let home = address("192.0.2.1");
        for _ in 1..SOURCE_BURST {
            assert_eq!(throttle.charge(home, None, start), Charged::Forgiven);
            assert!(!throttle.blocks(home, start));
        }
        assert_eq!(throttle.charge(home, None, start), Charged::SourceEmpty { tell: true });
        assert!(throttle.blocks(home, start));
        assert!(!throttle.blocks(address("192.0.2.2"), start), "others notice nothing");
        assert!(throttle.blocks(home, start + SOURCE_INTERVAL - Duration::from_millis(1)));
        assert!(!throttle.blocks(home, start + SOURCE_INTERVAL));
    }

    #[test]
    fn the_owner_is_told_once_a_minute_however_many_are_throttled() {
        let (mut throttle, start) = (Throttle::default(), now());
        let mut told = |at: Instant| -> usize {
            let sources = (0..20).map(|last| IpAddr::from([192, 0, 2, last]));
            let charges = sources.flat_map(|source| std::iter::repeat_n(source, 2 * SOURCE_BURST as usize));
            charges
                .filter(|source| {
                    let charged = throttle.charge(*source, None, at);
                    matches!(charged, Charged::SourceEmpty { tell: true })
                })
                .count()
        };
        assert_eq!((told(start), told(start + QUIET / 2), told(start + QUIET)), (1, 0, 1));
    }

    #[test]
    fn trying_once_an_interval_is_never_blocked() {
        let (mut throttle, start) = (Throttle::default(), now());
        let home = address("192.0.2.1");
        for step in 0..1000 {
            let at = start + SOURCE_INTERVAL * step;
            assert!(!throttle.blocks(home, at));
            throttle.charge(home, None, at);
        }
    }

    #[test]
    fn a_device_has_its_own_count_over_all_sources() {
        let (mut throttle, start) = (Throttle::default(), now());
        let device = Some(DeviceId(7));
        for last in 0..DEVICE_BURST {
            let source = IpAddr::from([198, 51, 100, u8::try_from(last).expect("small")]);
            assert_eq!(throttle.charge(source, device, start), Charged::Forgiven);
        }
        let stranger = address("203.0.113.1");
        assert_eq!(throttle.charge(stranger, device, start), Charged::DeviceEmpty);
        assert_eq!(throttle.charge(stranger, Some(DeviceId(8)), start), Charged::Forgiven);
        assert!(!throttle.blocks(stranger, start), "a device's count blocks no source");
        assert_eq!(throttle.charge(stranger, device, start + DEVICE_INTERVAL), Charged::Forgiven);
    }

    #[test]
    fn one_ipv6_network_is_one_source() {
        let (mut throttle, start) = (Throttle::default(), now());
        for last in 0..SOURCE_BURST {
            throttle.charge(address(&format!("2001:db8::{last:x}")), None, start);
        }
        assert!(throttle.blocks(address("2001:db8::ffff:1"), start));
        assert!(!throttle.blocks(address("2001:db8:0:1::1"), start));
    }

    #[test]
    fn an_ipv4_address_is_the_same_source_in_ipv6_clothes() {
        let (mut throttle, start) = (Throttle::default(), now());
        for _ in 0..SOURCE_BURST {
            throttle.charge(address("::ffff:192.0.2.1"), None, start);
        }
        assert!(throttle.blocks(address("192.0.2.1"), start));
        assert!(!throttle.blocks(address("::ffff:192.0.2.2"), start), "mapped addresses share no /64");
    }

    #[test]
    fn memory_is_bounded_and_the_worst_are_remembered() {
        let (mut throttle, start) = (Throttle::default(), now());
        let worst = address("192.0.2.1");
        for _ in 0..SOURCE_BURST {
            throttle.charge(worst, None, start);
        }
        for number in 0..20_000_u32 {
            let other =
                IpAddr::from((u32::from(std::net::Ipv4Addr::new(10, 0, 0, 0)) + number).to_be_bytes());
            throttle.charge(other, Some(DeviceId(u64::from(number))), start);
            assert!(throttle.sources.full_at.len() <= REMEMBERED);
            assert!(throttle.devices.full_at.len() <= REMEMBERED);
        }
        assert!(throttle.blocks(worst, start), "a flood of others must not whitewash it");
    }

    #[test]
    fn full_buckets_are_forgotten_first() {
        let (mut throttle, start) = (Throttle::default(), now());
        for number in 0..u64::try_from(REMEMBERED).expect("small") {
            throttle.charge(address("192.0.2.1"), Some(DeviceId(number)), start);
        }
        throttle.charge(address("192.0.2.1"), Some(DeviceId(u64::MAX)), start + DEVICE_INTERVAL);
        assert_eq!(throttle.devices.full_at.len(), 1);
    }
}
