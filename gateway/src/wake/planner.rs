//! The planner: which device gets which messages when.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use super::{Settings, line::Line};
use crate::{
    model::{DeviceId, MessageId, Pending},
    transport::{Event, Report, Turned},
};

/// Expired messages are swept out at most this often. They are never delivered meanwhile: each
/// order checks again.
const SWEEP_EVERY: Duration = Duration::from_secs(10);
/// While quiet hours hold something back, the local time is asked for at least this often: clocks are
/// set, and summer time begins and ends.
const LOOK_AGAIN: Duration = Duration::from_secs(600);

/// Decides; see [`Order`] for what comes of it. Each call takes the time, and none goes back in it.
#[derive(Debug, Default)]
pub struct Planner {
    /// Devices that something has happened to since the last orders.
    changed: BTreeSet<DeviceId>,
    /// What holds for devices without settings of their own.
    default: Settings,
    lines: HashMap<DeviceId, Line>,
    /// A moment, and the second of the local day that it was; `None` while nobody knows.
    local: Option<(Instant, u32)>,
    settings: HashMap<DeviceId, Settings>,
    /// When to look for expired messages; never later than the first expiry plus [`SWEEP_EVERY`].
    sweep_at: Option<Instant>,
    swept_at: Option<Instant>,
    /// When each device is to be looked at again.
    timers: BTreeSet<(Instant, DeviceId)>,
    /// The same by device.
    timer_of: HashMap<DeviceId, Instant>,
}

/// What the driver is to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Order {
    /// Hand these over to the device's transport in one go: one wake. The flag of each says whether
    /// the device may have seen it before.
    Deliver(DeviceId, Vec<(MessageId, bool)>),
    /// These are over for the device: their TTL ended, or they had none and could not go at once.
    Expire(DeviceId, Vec<MessageId>),
    /// Make the device's connection speak, or its network forgets it.
    Ping(DeviceId),
}

impl Planner {
    /// A planner that treats every device by `default` until [`Planner::configure`] says otherwise.
    #[must_use]
    pub fn new(default: Settings) -> Self {
        Self { default, ..Self::default() }
    }

    /// How a device is treated from now on, what waits for it already included.
    pub fn configure(&mut self, now: Instant, device: DeviceId, settings: Settings) {
        self.settings.insert(device, settings);
        self.on_line(device, |line| line.configure(now, settings));
    }

    /// A device is unpaired: nothing that was known of it is kept.
    pub fn forget(&mut self, device: DeviceId) {
        self.settings.remove(&device);
        let default = self.default;
        self.on_line(device, |line| line.forget(default));
    }

    /// The longest silence that a device's network bears, as far as is known, or is now to be tried.
    pub fn keep_alive(&mut self, device: DeviceId, silence: Duration) {
        self.line(device).keep_alive(silence);
    }

    /// How many messages of a device have left later than they may since this was asked last.
    pub fn take_missed(&mut self, device: DeviceId) -> u32 {
        self.lines.get_mut(&device).map_or(0, Line::take_missed)
    }

    /// Whether a device can take messages now, at least so far as is known.
    #[must_use]
    pub fn is_present(&self, device: DeviceId) -> bool {
        self.lines.get(&device).is_some_and(Line::is_present)
    }

    /// What [`Planner::keep_alive`] said last of a device.
    #[must_use]
    pub fn silence(&self, device: DeviceId) -> Option<Duration> {
        self.lines.get(&device)?.silence()
    }

    /// What time it is where the owner lives: the second of the local day, for quiet hours. `None`:
    /// the clock cannot be trusted, and nothing is held back on its word.
    pub fn on_local_time(&mut self, now: Instant, second_of_day: Option<u32>) {
        self.local = second_of_day.map(|second| (now, second));
    }

    /// A message waits, from now on.
    pub fn on_pending(&mut self, now: Instant, pending: &Pending) {
        self.line(pending.device).push(now, pending);
        if !pending.volatile {
            self.sweep_by(pending.expires);
        }
    }

    /// A message is not to be delivered (any more): replaced, cancelled, or never made safe.
    pub fn on_withdrawn(&mut self, device: DeviceId, id: MessageId) {
        self.on_line(device, |line| line.withdraw(id));
    }

    /// A transport has learnt something of a device.
    pub fn on_report(&mut self, report: &Report) {
        let Report { at, device, ref event } = *report;
        match event {
            Event::Acked(ids) => self.on_line(device, |line| {
                line.stir(at);
                ids.iter().for_each(|&id| line.settle(id));
            }),
            Event::Joined(joined) => self.line(device).join(at, joined),
            Event::Kept(ids) => self.on_line(device, |line| {
                line.touch(at);
                ids.iter().for_each(|&id| line.keep(id));
            }),
            Event::Left(_) => self.on_line(device, Line::leave),
            Event::Pulse(pulse) => self.on_line(device, |line| line.pulse(*pulse)),
            Event::State(said) => self.line(device).state(at, *said),
            Event::Stirred => self.on_line(device, |line| line.stir(at)),
            Event::Taken(_) => self.on_line(device, |line| line.touch(at)),
            Event::Turned(ids, why) => self.on_turned(at, device, ids, *why),
        }
    }

    /// A transport took nothing of an order, or the disk could not give it.
    pub fn on_turned(&mut self, now: Instant, device: DeviceId, ids: &[MessageId], why: Turned) {
        self.on_line(device, |line| ids.iter().for_each(|&id| line.turn_back(now, id, why)));
    }

    /// The line of a device, and note that something happens to it.
    fn line(&mut self, device: DeviceId) -> &mut Line {
        self.changed.insert(device);
        let settings = self.settings.get(&device).unwrap_or(&self.default);
        self.lines.entry(device).or_insert_with(|| Line::new(*settings))
    }

    fn on_line(&mut self, device: DeviceId, change: impl FnOnce(&mut Line)) {
        if let Some(line) = self.lines.get_mut(&device) {
            change(line);
            self.changed.insert(device);
        }
    }

    fn sweep_by(&mut self, expiry: Instant) {
        let at = self.swept_at.map_or(expiry, |last| expiry.max(last + SWEEP_EVERY));
        self.sweep_at = Some(self.sweep_at.map_or(at, |known| known.min(at)));
    }

    /// What is to be done now. To be called after each change, and when [`Planner::next_wake`] has come.
    pub fn on_timeout(&mut self, now: Instant) -> Vec<Order> {
        let mut orders = Vec::new();
        if self.sweep_at.is_some_and(|at| at <= now) {
            self.sweep(now, &mut orders);
        }
        while let Some(&(at, device)) = self.timers.first().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, device));
            self.timer_of.remove(&device);
            self.changed.insert(device);
        }
        for device in std::mem::take(&mut self.changed) {
            self.set_timer(device, None);
            let local = self.local;
            let Some(line) = self.lines.get_mut(&device) else { continue };
            let mut over = Vec::new();
            let _ = line.take_expired(now, &mut over);
            let quiet_until = quiet_until(now, local, line.settings());
            let due = line.take_due(now, quiet_until.is_some());
            if !due.is_empty() {
                orders.push(Order::Deliver(device, due));
            } else if line.take_ping(now) {
                orders.push(Order::Ping(device));
            }
            line.take_volatile(&mut over);
            let next = line.next(quiet_until);
            if line.is_idle() {
                self.lines.remove(&device);
            }
            self.set_timer(device, next);
            if !over.is_empty() {
                orders.push(Order::Expire(device, over));
            }
        }
        orders
    }

    fn set_timer(&mut self, device: DeviceId, at: Option<Instant>) {
        let old = match at {
            Some(at) => self.timer_of.insert(device, at),
            None => self.timer_of.remove(&device),
        };
        if let Some(old) = old {
            self.timers.remove(&(old, device));
        }
        self.timers.extend(at.map(|at| (at, device)));
    }

    fn sweep(&mut self, now: Instant, orders: &mut Vec<Order>) {
        self.swept_at = Some(now);
        self.sweep_at = None;
        let mut first: Option<Instant> = None;
        self.lines.retain(|&device, line| {
            let mut over = Vec::new();
            first = first.into_iter().chain(line.take_expired(now, &mut over)).min();
            if !over.is_empty() {
                orders.push(Order::Expire(device, over));
            }
            !line.is_idle()
        });
        if let Some(first) = first {
            self.sweep_by(first);
        }
    }

    /// When [`Planner::on_timeout`] is to be called next if nothing happens before.
    #[must_use]
    pub fn next_wake(&self) -> Option<Instant> {
        self.timers.first().map(|&(at, _)| at).into_iter().chain(self.sweep_at).min()
    }
}

/// Until when a device's quiet hours are to be believed, if it has them now.
fn quiet_until(now: Instant, local: Option<(Instant, u32)>, settings: &Settings) -> Option<Instant> {
    let (asked, second) = local?;
    let since = u32::try_from(now.saturating_duration_since(asked).as_secs()).unwrap_or_default();
    let left = settings.quiet?.remaining(second.wrapping_add(since))?;
    Some(now + left.min(LOOK_AGAIN))
}
