//! The room's fixed limits. What an owner may set is in [`crate::config::MqttConfig`].

use std::time::Duration;

use crate::transport::Window;

/// Largest packet that a client may send. Everything that a device has to say is short, so the same
/// bound holds before and after the login and no silent stranger costs more than this.
pub(super) const PACKET_MAX: u32 = 16 * 1024;
/// Bytes that a connection may send before its login. A CONNECT with the longest id, secret and Will
/// that mean anything here takes a few hundred.
pub(super) const GREETING_MAX: usize = 4 * 1024;
/// The same with TLS: its handshake takes one to three thousand, and the record around CONNECT some more.
pub(super) const HANDSHAKE_MAX: usize = 8 * 1024;
/// In flight to a 3.1.1 client, which has no way to say how much it can take.
pub(super) const WINDOW_3_1_1: u16 = 20;
/// In flight to any client, whatever its Receive Maximum.
pub(super) const WINDOW_MAX: u16 = 100;
/// Bytes of bodies in flight: 20 of the largest messages.
pub(super) const WINDOW_BYTES: u32 = 112_000;
/// Subscriptions of one device.
pub(super) const FILTERS_MAX: usize = 32;
/// Length of one subscription.
pub(super) const FILTER_LENGTH_MAX: usize = 256;
/// Requests of one device that wait for the disk; beyond it, no more of its packets are looked at.
pub(super) const ASKS_MAX: usize = 64;
/// QoS 1 and 2 packets that a 5.0 client may have unanswered; less than [`ASKS_MAX`].
pub(super) const RECEIVE_MAX: u16 = 32;
/// QoS 2 messages that a 3.1.1 client, which cannot be told [`RECEIVE_MAX`], may leave without PUBREL.
pub(super) const UNRELEASED_MAX: u16 = 1024;
/// What may wait for room in one device's window before the connection is ended: a full window of
/// pushes, and answers to a device that does not acknowledge any.
pub(super) const ANSWERS_MAX: usize = 512;
/// Packet ids that are remembered for messages which have not come again.
pub(super) const REMEMBERED_MAX: usize = 2 * WINDOW_MAX as usize;

/// How long things may take. Tests shorten them.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From accepting a connection to its CONNACK, TLS handshake included.
    pub greeting: Duration,
    /// How long a connection may take to leave when the gateway stops.
    pub drain: Duration,
    /// How long the last words to a client that is being put out may take.
    pub farewell: Duration,
    /// How long the oldest message may stay unacknowledged before the connection is taken for dead.
    pub unacked: Duration,
    /// How long sent bytes may stay unacknowledged by the peer's TCP.
    pub user_timeout: Duration,
    /// How long one write may take.
    pub write: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            drain: Duration::from_secs(3),
            farewell: Duration::from_millis(500),
            greeting: Duration::from_secs(10),
            unacked: Duration::from_secs(300),
            user_timeout: Duration::from_secs(60),
            write: Duration::from_secs(10),
        }
    }
}

/// The window of a client with this Receive Maximum; `None` for 3.1.1.
pub(super) fn window(receive_maximum: Option<u16>) -> Window {
    Window { bytes: WINDOW_BYTES, messages: receive_maximum.map_or(WINDOW_3_1_1, |max| max.min(WINDOW_MAX)) }
}
