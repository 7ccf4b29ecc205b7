//! How much a stranger may cost.

use std::time::Duration;

/// The largest head of a request, in bytes. An honest one has less than 2 KB.
pub(super) const MAX_HEAD: usize = 16 * 1024;
/// How many connections beyond the limit are told so; more wait in the kernel's queue.
pub(super) const STANDING: usize = 32;

/// For the peer's TCP to acknowledge what was sent, in ms.
pub(super) const USER_TIMEOUT: u32 = 60_000;

/// For the head of a request on such a connection.
pub(super) const STANDING_HEAD: Duration = Duration::from_secs(1);

/// Bounds of the public listener. A connection costs at most about 26 KB while it sends a head, one
/// body more while it sends that, and no longer than these times.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// For the whole body, from the end of the head.
    pub body: Duration,
    /// For the disk to confirm a write.
    pub commit: Duration,
    /// For requests in flight when the gateway stops.
    pub drain: Duration,
    /// For the whole head, from its first byte (on a new connection from the start).
    pub head: Duration,
    /// Between two requests. More than the minute after which nginx lets go of an idle upstream
    /// connection: whoever closes first must not be us, or a push is lost in between.
    pub idle: Duration,
    /// For the peer to close after we did.
    pub linger: Duration,
    /// How many connections at once.
    pub max_connections: usize,
    /// For the peer to take any byte of an answer.
    pub write: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: Duration::from_secs(10),
            commit: Duration::from_secs(30),
            drain: Duration::from_secs(10),
            head: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            linger: Duration::from_secs(2),
            max_connections: 1024,
            write: Duration::from_secs(10),
        }
    }
}
