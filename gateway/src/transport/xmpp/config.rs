//! The room's fixed limits. What an owner may set is in [`crate::config::XmppConfig`].

use std::time::Duration;

use crate::transport::Window;

/// In flight to one account.
pub(super) const WINDOW: Window = Window { bytes: 112_000, messages: 50 };
/// The longest stanza that is read, in bytes; of a longer one nothing but its head is.
pub(super) const STANZA_MAX: usize = 64 * 1024;
/// How deep elements may lie in a stanza.
pub(super) const DEPTH_MAX: usize = 16;
/// The longest name, attribute or piece of text. A longer attribute would end the stream, and with it everybody's
/// pushes, so it is above what servers let their users send (Prosody and ejabberd: 256 KiB).
pub(super) const TOKEN_MAX: usize = 1024 * 1024;
/// What waits to be written, in bytes, before no more deliveries are looked at.
pub(super) const OUTBOX_FULL: usize = 256 * 1024;
/// What waits to be written, in bytes, before nothing more is read: who takes no answers asks nothing.
pub(super) const OUTBOX_MAX: usize = 4 * 1024 * 1024;
/// Registrations under way at once. They share the disk's commits.
pub(super) const ASKS_MAX: usize = 64;
/// Registrations that wait for their turn; beyond it they are told to come again.
pub(super) const ASKS_WAITING_MAX: usize = 1024;
/// Pushes without an answer that are remembered, for answers that come late.
pub(super) const LATE_MAX: usize = 16_384;
/// Before this a renewal is answered without a write: some clients renew whenever they connect.
pub(super) const RENEW_AFTER_MS: u64 = 3_600_000;
/// How long a registration is announced to hold, in ms. Conversations renews what has less than a day left.
pub(super) const ANNOUNCED_MS: u64 = 7 * 86_400_000;
/// How long it is kept beyond that, in ms: a phone that was away renews when it comes back.
pub(super) const GRACE_MS: u64 = 30 * 86_400_000;
/// How often registrations are looked for whose time is over.
pub(super) const SWEEP: Duration = Duration::from_secs(3600);
/// Characters of a device's name: what the registry allows of an account's name.
pub(super) const NAME_MAX: usize = 64;

/// How long things may take. Tests shorten them.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a phone may take to answer a push before it counts as out of coverage.
    pub answer: Duration,
    /// The shortest and the longest pause before connecting again.
    pub back_off: (Duration, Duration),
    /// How long the last words may take when the gateway stops.
    pub drain: Duration,
    /// From connecting to the end of the handshake.
    pub greeting: Duration,
    /// The longest silence on our side: white space is sent then (RFC 6120 §4.6.1).
    pub keep_alive: Duration,
    /// How long the server may say nothing before it is pinged, and how long it may take to answer that.
    pub silence: (Duration, Duration),
    /// The shortest and the longest pause before a phone that did not answer is tried again.
    pub try_again: (Duration, Duration),
    /// How long writing may make no progress.
    pub write: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            answer: seconds(60),
            back_off: (seconds(2), seconds(60)),
            drain: seconds(2),
            greeting: seconds(20),
            keep_alive: seconds(60),
            silence: (seconds(120), seconds(30)),
            try_again: (seconds(15 * 60), seconds(4 * 3600)),
            write: seconds(30),
        }
    }
}
