//! What one device has waiting and in flight.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::{
    model::{MessageId, Pending},
    transport::{Turned, Window},
};

/// How long a device that turned something back as `Full` is left alone, unless it acknowledges
/// something first. Also the pause after a read error of the disk.
const PAUSE: Duration = Duration::from_secs(1);

/// One device's messages, in order of arrival.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Handed over, not settled: each with its size in bytes.
    flying: BTreeMap<MessageId, Waiting>,
    /// Bytes in flight.
    flying_bytes: u32,
    /// Nothing is handed over before this.
    paused_until: Option<Instant>,
    /// Still to be handed over.
    waiting: BTreeMap<MessageId, Waiting>,
    /// Those that go in this round or never (TTL 0).
    volatile: Vec<MessageId>,
    /// What the device can take; `None` while it is away.
    window: Option<Window>,
}

/// A message in a line.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    expires: Instant,
    /// The device said that it cannot take it: not before its next session.
    parked: bool,
    redelivery: bool,
    size: u32,
    volatile: bool,
    /// In flight when it was withdrawn: it does not come back.
    withdrawn: bool,
}

impl Line {
    pub(super) fn push(&mut self, pending: &Pending) {
        let Pending { device: _, expires, id, registration: _, size, urgency: _, volatile } = *pending;
        let waiting = Waiting { expires, parked: false, redelivery: false, size, volatile, withdrawn: false };
        if volatile {
            self.volatile.push(id);
        }
        self.waiting.insert(id, waiting);
    }

    /// A message comes back from its flight.
    fn wait_again(&mut self, id: MessageId, flown: Waiting) {
        if flown.volatile {
            self.volatile.push(id);
        } else if !flown.withdrawn {
            self.waiting.insert(id, flown);
        }
    }

    /// Nothing is known of the device any more: the line can be dropped.
    pub(super) fn is_idle(&self) -> bool {
        self.window.is_none() && self.waiting.is_empty() && self.flying.is_empty()
    }

    /// The device can take messages; whatever was in flight is unsettled.
    pub(super) fn join(&mut self, window: Window) {
        self.unsettle();
        for waiting in self.waiting.values_mut() {
            waiting.parked = false;
        }
        self.paused_until = None;
        self.window = Some(window);
    }

    /// The device is away; whatever was in flight is unsettled.
    pub(super) fn leave(&mut self) {
        self.unsettle();
        self.window = None;
    }

    fn unsettle(&mut self) {
        self.flying_bytes = 0;
        for (id, flown) in std::mem::take(&mut self.flying) {
            self.wait_again(id, Waiting { redelivery: true, ..flown });
        }
    }

    /// The device has taken a message over, however long ago it was handed over.
    pub(super) fn settle(&mut self, id: MessageId) {
        self.land(id);
        self.waiting.remove(&id);
        self.paused_until = None;
    }

    fn land(&mut self, id: MessageId) -> Option<Waiting> {
        let flown = self.flying.remove(&id)?;
        self.flying_bytes = self.flying_bytes.saturating_sub(flown.size);
        Some(flown)
    }

    /// A message is not to be delivered any more. In flight it stays, to be acknowledged, but it is
    /// not redelivered.
    pub(super) fn withdraw(&mut self, id: MessageId) {
        self.waiting.remove(&id);
        if let Some(flown) = self.flying.get_mut(&id) {
            flown.withdrawn = true;
        }
    }

    /// A message came back from the transport.
    pub(super) fn turn_back(&mut self, now: Instant, id: MessageId, why: Turned) {
        if let Some(mut flown) = self.land(id) {
            flown.parked = why == Turned::TooLarge;
            self.wait_again(id, flown);
        }
        match why {
            Turned::Absent => self.window = None,
            Turned::Full => self.paused_until = Some(now + PAUSE),
            Turned::TooLarge => {}
        }
    }

    /// When the device may be tried again, if it is held back for a while.
    pub(super) fn paused_until(&self) -> Option<Instant> {
        self.paused_until
    }

    /// Moves what the device may have now into flight, in order.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<(MessageId, bool)> {
        let Some(window) = self.window else { return Vec::new() };
        if self.paused_until.is_some_and(|until| now < until) {
            return Vec::new();
        }
        self.paused_until = None;
        let mut due = Vec::new();
        for (&id, waiting) in &self.waiting {
            let fits = self.flying.len() < usize::from(window.messages)
                // One message always goes, however large, or it would wait for ever.
                && (self.flying.is_empty() || self.flying_bytes.saturating_add(waiting.size) <= window.bytes);
            if !fits {
                break;
            }
            if waiting.parked || waiting.is_over(now) {
                continue;
            }
            self.flying.insert(id, *waiting);
            self.flying_bytes = self.flying_bytes.saturating_add(waiting.size);
            due.push((id, waiting.redelivery));
        }
        for (id, _) in &due {
            self.waiting.remove(id);
        }
        due
    }

    /// Removes what could only have gone at once.
    pub(super) fn take_volatile(&mut self, over: &mut Vec<MessageId>) {
        for id in self.volatile.drain(..) {
            self.waiting.remove(&id);
            if !self.flying.contains_key(&id) {
                over.push(id);
            }
        }
    }

    /// Removes what has expired, and says when the next one will.
    pub(super) fn take_expired(&mut self, now: Instant, over: &mut Vec<MessageId>) -> Option<Instant> {
        let mut first: Option<Instant> = None;
        self.waiting.retain(|&id, waiting| {
            if waiting.is_over(now) {
                over.push(id);
                return false;
            }
            first = Some(first.map_or(waiting.expires, |known| known.min(waiting.expires)));
            true
        });
        first
    }
}

impl Waiting {
    /// A volatile message expires at its birth, but goes in the round in which it came.
    fn is_over(&self, now: Instant) -> bool {
        !self.volatile && self.expires <= now
    }
}
