//! The room's fixed limits. What an owner may set is in [`crate::config::NtfyConfig`].

use std::time::Duration;

use crate::transport::Window;

/// Handed over to one device and not written yet.
pub(super) const WINDOW: Window = Window { bytes: 112_000, messages: 50 };
/// What may lie at one connection: a client that reads slower than others of its device is ended.
pub(super) const MAIL_MAX: usize = 256;
/// Topics of one connection. ntfy's app has about 30; 8 KB of path hold 546 of its topics.
pub(super) const TOPICS_MAX: usize = 1000;
/// Messages that are read from the disk in one go.
pub(super) const CHUNK: usize = 16;
/// What a WebSocket's client may say, in bytes: it has nothing to say.
pub(super) const SAID_MAX: usize = 1024;
/// A WebSocket that pings more often than this tells nothing of an interval.
pub(super) const PING_LEAST: Duration = Duration::from_secs(10);
/// Topics that were pushed to before anybody subscribed.
pub(super) const AWAITED_MAX: usize = 256;
/// Messages that are kept for each of them.
pub(super) const AWAITED_MESSAGES: u32 = 16;
/// Messages of a device that are remembered as written, for its cursor to acknowledge.
pub(super) const WRITTEN_MAX: usize = 4096;
/// Sources whose new topics are counted.
pub(super) const SOURCES_MAX: usize = 4096;
/// The time in which the new topics of a source are counted.
pub(super) const SOURCE_WINDOW: Duration = Duration::from_secs(3600);

/// How long things may take. Tests shorten them.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a topic that was pushed to waits for its first subscriber.
    pub awaited: Duration,
    /// How long connections may take to leave when the gateway stops.
    pub drain: Duration,
    /// The longest silence of a stream, if the planner orders nothing before: the app hangs up after
    /// 77 s, and KUnifiedPush's proxies after 60 s.
    pub keepalive: Duration,
    /// From our ping to the client's pong. The radio may have to be promoted first.
    pub pong: Duration,
    /// How often topics are looked for that nobody has subscribed to.
    pub sweep: Duration,
    /// How long one write to a WebSocket may take.
    pub write: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            awaited: Duration::from_secs(3600),
            drain: Duration::from_secs(3),
            keepalive: Duration::from_secs(50),
            pong: Duration::from_secs(30),
            sweep: Duration::from_secs(60),
            write: Duration::from_secs(20),
        }
    }
}
