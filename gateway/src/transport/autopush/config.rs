//! The room's fixed limits. What an owner may set is in [`crate::config::AutopushConfig`].

use std::time::Duration;

use crate::transport::Window;

/// The largest message that a client may send: an acknowledgement of a whole window fits many times.
pub(super) const MESSAGE_MAX: usize = 64 * 1024;
/// In flight to one client.
pub(super) const WINDOW: Window = Window { bytes: 112_000, messages: 50 };
/// Messages that a client has been sent long ago and may still acknowledge.
pub(super) const PARKED_MAX: usize = 500;
/// Requests of one client that wait for the disk; beyond it, no more of its messages are looked at.
pub(super) const ASKS_MAX: usize = 64;
/// The longest silence that every client bears: Firefox asks by itself after it.
pub(super) const BEARS: Duration = Duration::from_secs(30 * 60);
/// A client that pings more often than this tells nothing of an interval.
pub(super) const PING_LEAST: Duration = Duration::from_secs(10);

/// How long things may take. Tests shorten them.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long connections may take to leave when the gateway stops.
    pub drain: Duration,
    /// From the handshake to `hello`.
    pub greeting: Duration,
    /// From our ping to the client's pong. The radio may have to be promoted first.
    pub pong: Duration,
    /// How long an unacknowledged message takes room in the window. KUnifiedPush acknowledges only
    /// for apps that do, and those that do not must not stall the others.
    pub unacked: Duration,
    /// How long one write may take.
    pub write: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            drain: Duration::from_secs(3),
            greeting: Duration::from_secs(5),
            pong: Duration::from_secs(30),
            unacked: Duration::from_secs(10),
            write: Duration::from_secs(20),
        }
    }
}
