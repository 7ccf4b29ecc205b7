//! How much may wait.

/// How much may wait on disk for one registration or one device.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bound {
    /// Bytes of bodies.
    pub bytes: u64,
    /// Messages.
    pub messages: u32,
}

/// How much may wait at once. What is more is not accepted; what was accepted is never dropped for it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bounds {
    /// For one device, by all of its registrations.
    pub device: Bound,
    /// For one registration.
    pub registration: Bound,
}

impl Default for Bounds {
    /// No registration can fill its device, and five full devices are what a start reads in two seconds.
    fn default() -> Self {
        Self {
            device: Bound { bytes: 32 << 20, messages: 20_000 },
            registration: Bound { bytes: 8 << 20, messages: 5_000 },
        }
    }
}
