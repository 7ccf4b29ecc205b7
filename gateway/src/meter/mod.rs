//! What each device's wakes cost its owner, and what delivering at once would have cost.
//!
//! A wake is a packet, in either direction, after at least τ of silence on the device's connection. The
//! meter hears what the planner hears and keeps two lines of packets for each device: the real one, and
//! one in which every push went when it came, with the same contacts and pings. It decides nothing.

#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    model::{
        DeviceId, MessageId, Numbered, Pending, Tally, UnixTime, Urgency,
        history::{self, Happened, History, Noted, Sheets},
    },
    transport::{Event, Parting, Report},
};

/// While something changes, it is written at most this often.
const WRITE_EVERY: Duration = Duration::from_secs(3600);

/// Where tallies are kept. Neither call may wait.
pub trait Archive: Send + Sync {
    /// What happened to a device up to the last write.
    fn history(&self, device: DeviceId) -> Sheets;

    /// What was counted of a device up to the last write; `None` when it is not paired.
    fn recall(&self, device: DeviceId) -> Option<Tally>;

    /// Writes it down, together with what happened since.
    fn write(&self, device: DeviceId, tally: Tally, sheets: Sheets);
}

/// A moment, and what the clock shows then, if it can be trusted.
#[derive(Clone, Copy, Debug)]
pub struct At {
    /// Days since 1970, local.
    pub day: Option<u32>,
    /// When.
    pub instant: Instant,
    /// When, by the wall clock.
    pub wall: Option<UnixTime>,
}

/// Counts. Shared by the driver, which tells it everything, and the console, which asks.
pub struct Meter {
    archive: Box<dyn Archive>,
    gauges: Mutex<HashMap<DeviceId, Gauge>>,
    tau: Duration,
}

/// Why there was a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Cause {
    Client,
    KeepAlive,
    Push,
    Reconnect,
    Waste,
}

/// One device.
#[derive(Debug)]
struct Gauge {
    /// When what happens was noted first, and what time it was then, in tenths of a second since 1970. From
    /// there on the monotonic clock counts: no clock that is set moves what comes later.
    anchor: Option<(Instant, u64)>,
    /// Something was counted since the last write.
    changed: bool,
    connected: bool,
    /// The last packet there was.
    contact: Option<Instant>,
    /// The last packet there would have been.
    at_once: Option<Instant>,
    /// The lowest urgency that the device wants.
    floor: Urgency,
    history: History,
    parting: Option<Parting>,
    /// When the first message came.
    since: Option<Instant>,
    tally: Tally,
    /// When each message that has not left yet came.
    waiting: Numbered<Came>,
    written: Option<Instant>,
}

/// When a message came, in ns since the first one of its device, and in the last two bits its urgency: tens
/// of thousands may wait.
#[derive(Debug)]
struct Came(u64);

impl Came {
    fn new(since: Instant, at: Instant, urgency: Urgency) -> Self {
        Self((nanos(since, at) << 2) | urgency as u64)
    }

    fn urgency(&self) -> Urgency {
        match self.0 & 3 {
            0 => Urgency::VeryLow,
            1 => Urgency::Low,
            2 => Urgency::Normal,
            _ => Urgency::High,
        }
    }

    fn waited_ms(&self, since: Instant, until: Instant) -> u64 {
        nanos(since, until).saturating_sub(self.0 >> 2) / 1_000_000
    }
}

impl Meter {
    /// A meter for radios that stay up for `tau` after a packet.
    #[must_use]
    pub fn new(archive: Box<dyn Archive>, tau: Duration) -> Self {
        Self { archive, gauges: Mutex::default(), tau }
    }

    /// What was counted of a device; `None` when it is not paired.
    #[must_use]
    pub fn tally(&self, device: DeviceId) -> Option<Tally> {
        let known = self.lock().get(&device).map(|gauge| gauge.tally.clone());
        known.or_else(|| self.archive.recall(device))
    }

    /// What happened to a device: [`history::read`].
    #[must_use]
    pub fn history(&self, device: DeviceId) -> Vec<Happened> {
        let gauges = self.lock();
        let mut sheets = self.archive.history(device);
        if let Some(gauge) = gauges.get(&device) {
            sheets.extend(gauge.history.unwritten());
        }
        history::read(&sheets)
    }

    /// A message waits. The write of what was counted rides with the message's own.
    pub fn on_pending(&self, at: At, pending: &Pending) {
        let written = self.on(pending.device, |gauge| {
            let since = *gauge.since.get_or_insert(at.instant);
            gauge.waiting.insert(pending.id.0, Came::new(since, at.instant, pending.urgency));
            gauge.tally.messages.accepted += 1;
            gauge.changed = true;
            gauge.note(at, Some(Noted::Push(pending.urgency)));
            if gauge.connected {
                gauge.instead(at, self.tau);
            }
            gauge.take_due(at.instant)
        });
        if let Some(Some((tally, sheets))) = written {
            self.archive.write(pending.device, tally, sheets);
        }
    }

    /// A message is over before it has left: expired, replaced or cancelled.
    pub fn on_over(&self, device: DeviceId, id: MessageId, replaced: bool) {
        self.on(device, |gauge| {
            gauge.waiting.remove(id.0);
            gauge.tally.messages.replaced += u32::from(replaced);
            gauge.changed = true;
        });
    }

    /// Messages of a device have expired.
    pub fn on_expired(&self, device: DeviceId, ids: &[MessageId]) {
        self.on(device, |gauge| {
            let gone = ids.iter().filter(|id| gauge.waiting.remove(id.0).is_some()).count();
            let gone = u32::try_from(gone).unwrap_or(u32::MAX);
            gauge.tally.messages.expired += gone;
            gauge.changed |= gone > 0;
        });
    }

    /// So many messages left later than they may wait.
    pub fn on_missed(&self, device: DeviceId, missed: u32) {
        self.on(device, |gauge| gauge.tally.missed += missed);
    }

    /// The gateway has sent a ping.
    pub fn on_ping(&self, at: At, device: DeviceId) {
        self.on(device, |gauge| gauge.packet(at, self.tau, Cause::KeepAlive));
    }

    /// A transport has learnt something.
    pub fn on_report(&self, now: At, report: &Report) {
        let (at, tau) = (At { instant: report.at, ..now }, self.tau);
        self.on(report.device, |gauge| match &report.event {
            Event::Joined(joined) if !joined.heard => gauge.connected = true,
            Event::Joined(_) => {
                let cause = match gauge.parting.take() {
                    _ if gauge.connected => Cause::Client,
                    Some(Parting::Closed) => Cause::Client,
                    Some(Parting::Ended) => Cause::Waste,
                    Some(Parting::Lost) | None => Cause::Reconnect,
                };
                gauge.connected = true;
                gauge.packet(at, tau, cause);
            }
            Event::Left(parting) => {
                gauge.parting = Some(*parting);
                (gauge.connected, gauge.contact, gauge.at_once) = (false, None, None);
            }
            Event::Acked(ids) => {
                gauge.tally.messages.acked += count(ids);
                // What was taken over without having been seen to leave has left.
                for id in ids {
                    gauge.waiting.remove(id.0);
                }
                gauge.answer(at, tau);
            }
            Event::State(said) => {
                if gauge.connected {
                    gauge.packet(at, tau, Cause::Client);
                }
                gauge.floor = said.urgency.unwrap_or(gauge.floor);
                gauge.note(at, None);
            }
            // CONNECT and SUBSCRIBE: part of coming back.
            Event::Stirred if !gauge.connected => {}
            Event::Stirred => gauge.packet(at, tau, Cause::Client),
            Event::Kept(ids) | Event::Taken(ids) => {
                gauge.packet(at, tau, Cause::Push);
                gauge.tally.messages.sent += count(ids);
                let Some(since) = gauge.since else { return };
                for id in ids {
                    if let Some(came) = gauge.waiting.remove(id.0) {
                        gauge.tally.delayed(came.urgency(), came.waited_ms(since, at.instant));
                    }
                }
            }
            Event::Pulse(_) | Event::Turned(..) => {}
        });
    }

    /// A device is unpaired.
    pub fn forget(&self, device: DeviceId) {
        self.lock().remove(&device);
    }

    /// Writes down what was not written yet: the gateway ends.
    pub fn close(&self) {
        let mut gauges = self.lock();
        for (device, gauge) in gauges.iter_mut().filter(|(_, gauge)| gauge.changed) {
            gauge.changed = false;
            self.archive.write(*device, gauge.tally.clone(), gauge.history.take());
        }
    }

    fn on<T>(&self, device: DeviceId, change: impl FnOnce(&mut Gauge) -> T) -> Option<T> {
        let mut gauges = self.lock();
        let gauge = match gauges.entry(device) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                let tally = self.archive.recall(device)?;
                unknown.insert(Gauge::new(tally, History::after(self.archive.history(device))))
            }
        };
        Some(change(gauge))
    }

    /// A panic while it was held has at most lost a count.
    fn lock(&self) -> MutexGuard<'_, HashMap<DeviceId, Gauge>> {
        self.gauges.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gauge {
    fn new(tally: Tally, history: History) -> Self {
        Self {
            anchor: None,
            at_once: None,
            changed: false,
            connected: false,
            contact: None,
            floor: history.floor(),
            history,
            parting: None,
            since: None,
            tally,
            waiting: Numbered::default(),
            written: None,
        }
    }

    /// A packet that there was.
    fn packet(&mut self, at: At, tau: Duration, cause: Cause) {
        let woke = asleep(self.contact, at.instant, tau);
        self.contact = self.contact.max(Some(at.instant));
        let today = self.tally.today(at.day);
        match (cause, woke) {
            (Cause::KeepAlive, false) | (Cause::Waste, true) => today.waste += 1,
            (_, false) => {}
            (Cause::Client, true) => today.client += 1,
            (Cause::KeepAlive, true) => today.keep_alive += 1,
            (Cause::Push, true) => today.push += 1,
            (Cause::Reconnect, true) => today.reconnect += 1,
        }
        if woke && matches!(cause, Cause::Client | Cause::Reconnect | Cause::Waste) {
            self.note(at, Some(Noted::Contact));
        }
        self.changed = true;
        match cause {
            Cause::Push => {}
            // The same contacts: what the phone does by itself costs the owner of neither anything.
            Cause::Client => self.at_once = self.at_once.max(Some(at.instant)),
            Cause::KeepAlive | Cause::Reconnect | Cause::Waste => self.instead(at, tau),
        }
    }

    /// A packet that there would have been, too, had everything been delivered at once.
    fn instead(&mut self, at: At, tau: Duration) {
        if asleep(self.at_once, at.instant, tau) {
            self.tally.today(at.day).at_once += 1;
        }
        self.at_once = self.at_once.max(Some(at.instant));
    }

    /// The answer to a message: no contact of the device's own.
    fn answer(&mut self, at: At, tau: Duration) {
        if asleep(self.contact, at.instant, tau) {
            self.tally.today(at.day).push += 1;
        }
        self.contact = self.contact.max(Some(at.instant));
        self.changed = true;
    }

    /// Notes what happened, and the floor if that is another one. Before the clock is trusted nobody knows how
    /// long it is after what was noted last, and nothing is.
    fn note(&mut self, at: At, event: Option<Noted>) {
        let last = self.history.last_ds();
        let begin = at.wall.map(|wall| (at.instant, (wall.0 / 100).max(last)));
        let Some((since, wall)) = self.anchor.or(begin) else { return };
        self.anchor = Some((since, wall));
        let passed = at.instant.saturating_duration_since(since).as_millis() / 100;
        let now = wall.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX));
        if self.floor != self.history.floor() {
            self.history.note(now, Noted::Floor(self.floor));
            self.changed = true;
        }
        if let Some(event) = event {
            self.history.note(now, event);
        }
    }

    /// What is to be written, if it is time to.
    fn take_due(&mut self, now: Instant) -> Option<(Tally, Sheets)> {
        // The first time, an hour from now: a start is no reason to write.
        let written = *self.written.get_or_insert(now);
        if !self.changed || now.saturating_duration_since(written) < WRITE_EVERY {
            return None;
        }
        (self.changed, self.written) = (false, Some(now));
        Some((self.tally.clone(), self.history.take()))
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meter").field("tau", &self.tau).finish_non_exhaustive()
    }
}

/// As far as 62 bits go, which is 146 years.
fn nanos(since: Instant, at: Instant) -> u64 {
    u64::try_from(at.saturating_duration_since(since).as_nanos()).unwrap_or(u64::MAX).min(u64::MAX >> 2)
}

fn asleep(last: Option<Instant>, now: Instant, tau: Duration) -> bool {
    last.is_none_or(|last| now.saturating_duration_since(last) >= tau)
}

fn count(ids: &[MessageId]) -> u32 {
    u32::try_from(ids.len()).unwrap_or(u32::MAX)
}
