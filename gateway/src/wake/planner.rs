//! The planner: which device gets which messages when.
//!
//! For now everything is due at once, so a device is woken as soon as something waits and it can
//! take it; what arrives while its window is full goes with the next acknowledgement.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use super::line::Line;
use crate::{
    model::{DeviceId, MessageId, Pending},
    transport::{Event, Report, Turned},
};

/// Expired messages are swept out at most this often. They are never delivered meanwhile: each
/// order checks again.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// Decides; see [`Order`] for what comes of it.
#[derive(Debug, Default)]
pub struct Planner {
    /// Devices that something has happened to since the last orders.
    changed: BTreeSet<DeviceId>,
    lines: HashMap<DeviceId, Line>,
    /// Devices that are left alone for a while.
    paused: BTreeSet<(Instant, DeviceId)>,
    /// When to look for expired messages; never later than the first expiry plus [`SWEEP_EVERY`].
    sweep_at: Option<Instant>,
    swept_at: Option<Instant>,
}

/// What the driver is to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Order {
    /// Hand these over to the device's transport in one go: one wake. The flag of each says whether
    /// the device may have seen it before.
    Deliver(DeviceId, Vec<(MessageId, bool)>),
    /// These are over: their TTL ended, or they had none and could not go at once.
    Expire(Vec<MessageId>),
}

impl Planner {
    /// A message waits.
    pub fn on_pending(&mut self, pending: &Pending) {
        self.lines.entry(pending.device).or_default().push(pending);
        self.changed.insert(pending.device);
        if !pending.volatile {
            self.sweep_by(pending.expires);
        }
    }

    /// A message is not to be delivered (any more): replaced, cancelled, or never made safe.
    pub fn on_withdrawn(&mut self, device: DeviceId, id: MessageId) {
        if let Some(line) = self.lines.get_mut(&device) {
            line.withdraw(id);
            self.changed.insert(device);
        }
    }

    /// A transport has learnt something of a device.
    pub fn on_report(&mut self, report: &Report) {
        let Report { at, device, ref event } = *report;
        match event {
            Event::Acked(ids) => self.on_line(device, |line| ids.iter().for_each(|&id| line.settle(id))),
            Event::Joined(joined) => {
                self.lines.entry(device).or_default().join(joined.window);
                self.changed.insert(device);
            }
            Event::Left(_) => self.on_line(device, Line::leave),
            Event::Turned(ids, why) => self.on_turned(at, device, ids, *why),
            // Nothing waits for a contact while everything is due at once.
            Event::Pulse(_) | Event::State(_) | Event::Stirred | Event::Taken(_) => {}
        }
    }

    /// A transport took nothing of an order, or the disk could not give it.
    pub fn on_turned(&mut self, now: Instant, device: DeviceId, ids: &[MessageId], why: Turned) {
        let mut paused = None;
        self.on_line(device, |line| {
            ids.iter().for_each(|&id| line.turn_back(now, id, why));
            paused = line.paused_until();
        });
        self.paused.extend(paused.map(|until| (until, device)));
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
        let mut over = Vec::new();
        if self.sweep_at.is_some_and(|at| at <= now) {
            self.sweep(now, &mut over);
        }
        while let Some(&(until, device)) = self.paused.first().filter(|(until, _)| *until <= now) {
            self.paused.remove(&(until, device));
            self.changed.insert(device);
        }
        for device in std::mem::take(&mut self.changed) {
            let Some(line) = self.lines.get_mut(&device) else { continue };
            let due = line.take_due(now);
            if !due.is_empty() {
                orders.push(Order::Deliver(device, due));
            }
            line.take_volatile(&mut over);
            if line.is_idle() {
                self.lines.remove(&device);
            }
        }
        if !over.is_empty() {
            orders.push(Order::Expire(over));
        }
        orders
    }

    fn sweep(&mut self, now: Instant, over: &mut Vec<MessageId>) {
        self.swept_at = Some(now);
        self.sweep_at = None;
        let mut first: Option<Instant> = None;
        self.lines.retain(|_, line| {
            first = first.into_iter().chain(line.take_expired(now, over)).min();
            !line.is_idle()
        });
        if let Some(first) = first {
            self.sweep_by(first);
        }
    }

    /// When [`Planner::on_timeout`] is to be called next if nothing happens before.
    #[must_use]
    pub fn next_wake(&self) -> Option<Instant> {
        self.paused.first().map(|&(until, _)| until).into_iter().chain(self.sweep_at).min()
    }
}
