//! What packets cost a battery, by published radio profiles.

/// A radio, as it was measured.
#[derive(Clone, Copy, Debug)]
pub struct Radio {
    /// Its name, with the source.
    pub name: &'static str,
    /// Energy of waking it up, in J.
    promotion_j: f64,
    /// Power while it stays up, in W.
    tail_w: f64,
    /// How long it stays up after a packet, in s.
    tail_s: f64,
}

/// The voltage by which energy becomes charge: the nominal one of a phone's battery.
pub const VOLTS: f64 = 3.85;

/// Huang et al., "A Close Examination of Performance and Power Characteristics of 4G LTE Networks",
/// MobiSys 2012: promotion 260 ms at 1,211 mW and tail 11.576 s at 1,060 mW on LTE, 79 ms at 124 mW and
/// 238 ms at 119 mW on Wi-Fi.
pub const RADIOS: [Radio; 2] = [
    Radio { name: "lte-huang-2012", promotion_j: 0.2601 * 1.2107, tail_w: 1.0600, tail_s: 11.576 },
    Radio { name: "wifi-huang-2012", promotion_j: 0.0791 * 0.1244, tail_w: 0.1193, tail_s: 0.2382 },
];

impl Radio {
    /// The charge that packets at these microseconds (in order) take, in mAh: over the busy periods,
    /// promotion energy + tail power × (busy + tail). A period goes on while packets come within the tail.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "ten years of microseconds are below 2^53")]
    pub fn mah(&self, packets_us: &[u64]) -> f64 {
        let seconds = |us: u64| us as f64 / 1e6;
        let mut joules = 0.0;
        let mut last: Option<u64> = None;
        for &at in packets_us {
            let gap = last.map(|last| seconds(at - last)).filter(|gap| *gap < self.tail_s);
            joules += match gap {
                Some(gap) => self.tail_w * gap,
                None => self.promotion_j + self.tail_w * self.tail_s,
            };
            last = Some(at);
        }
        joules / 3.6 / VOLTS
    }
}
