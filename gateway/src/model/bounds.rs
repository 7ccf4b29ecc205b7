//! How much may wait.

/// How much may wait on disk for one registration or one device.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bound {
    /// Bytes of bodies.
    pub bytes: u64,
    /// Messages.
    pub messages: u32,
}

/// How much may wait at once, and what becomes of more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bounds {
    /// For one device, by all of its registrations.
    pub device: Bound,
    /// For one registration.
    pub registration: Bound,
    /// What becomes of more.
    pub when_full: WhenFull,
}

/// What a message comes to for which there is no room.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum WhenFull {
    /// The oldest messages of the same registration expire before their time. Those of others never do:
    /// where the registration has nothing to give, the message is refused.
    #[default]
    ExpireOldest,
    /// It is refused, and nothing that was accepted gives way.
    Refuse,
}

/// How much waits for a registration.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Waiting {
    /// Bytes of bodies.
    pub bytes: u64,
    /// Messages that have given way to newer ones since the start.
    pub crowded_out: u64,
    /// Messages.
    pub messages: u32,
}

impl Default for Bounds {
    /// No registration can fill its device, and five full devices are what a start reads in two seconds.
    fn default() -> Self {
        Self {
            device: Bound { bytes: 32 << 20, messages: 20_000 },
            registration: Bound { bytes: 8 << 20, messages: 5_000 },
            when_full: WhenFull::default(),
        }
    }
}
