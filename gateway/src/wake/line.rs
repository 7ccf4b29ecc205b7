//! What one device has waiting and in flight.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    Settings,
    cap::Wakes,
    class::{Class, MARGIN, Waiting},
    gate::{Gate, gate, merge},
};
use crate::{
    model::{DeviceState, MessageId, Pending, RegistrationId, Urgency},
    transport::{Joined, Pulse, Turned, Window},
};

/// How long a device that turned something back as `Full` is left alone, unless it acknowledges
/// something first. Also the pause after a read error of the disk.
const PAUSE: Duration = Duration::from_secs(1);
/// What leaves so much after its deadline has missed it.
const GRACE: Duration = Duration::from_secs(1);
/// No connection is kept alive by more than one packet in this time, whatever it is said to need.
const LEAST_SILENCE: Duration = Duration::from_secs(1);
/// The urgencies, as [`Line::classes`] has them.
const URGENCIES: [Urgency; 4] = [Urgency::VeryLow, Urgency::Low, Urgency::Normal, Urgency::High];

/// One device's messages.
#[derive(Debug)]
pub(super) struct Line {
    /// What is due does not fit into the window: only an acknowledgement helps.
    blocked: bool,
    classes: [Class; 4],
    /// The last packet in either direction.
    contact: Option<Instant>,
    /// Handed over, not settled.
    flying: BTreeMap<MessageId, Waiting>,
    /// Bytes in flight.
    flying_bytes: u32,
    /// Until when something other than the planner has held messages back: the device, the owner, or the
    /// window.
    free_since: Option<Instant>,
    /// The longest silence that the device's network bears, if it is known.
    keep_alive: Option<Duration>,
    /// Written to the device's connection, and kept for those who read again until they expire.
    kept: BTreeMap<MessageId, Instant>,
    /// Messages that have left later than they may since this was asked last.
    missed: u32,
    /// The device said that it cannot take these: not before its next session.
    parked: BTreeMap<MessageId, Waiting>,
    /// Nothing is handed over before this.
    paused_until: Option<Instant>,
    pulse: Pulse,
    settings: Settings,
    state: DeviceState,
    /// The device has spoken since the last orders.
    stirred: bool,
    /// Those that go in this round or never (TTL 0).
    volatile: Vec<(MessageId, Urgency)>,
    wakes: Wakes,
    /// What the device can take; `None` while it is away.
    window: Option<Window>,
}

impl Line {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            blocked: false,
            classes: Default::default(),
            contact: None,
            flying: BTreeMap::new(),
            flying_bytes: 0,
            free_since: None,
            keep_alive: None,
            kept: BTreeMap::new(),
            missed: 0,
            parked: BTreeMap::new(),
            paused_until: None,
            pulse: Pulse::Nobody,
            settings,
            state: DeviceState::default(),
            stirred: false,
            volatile: Vec::new(),
            wakes: Wakes::default(),
            window: None,
        }
    }

    fn class(&mut self, urgency: Urgency) -> &mut Class {
        &mut self.classes[urgency as usize]
    }

    fn insert(&mut self, id: MessageId, waiting: Waiting) {
        let urgency = waiting.urgency;
        let budget = self.settings.budgets.of(urgency);
        if waiting.volatile {
            self.volatile.push((id, urgency));
        }
        self.class(urgency).insert(id, waiting, budget);
    }

    pub(super) fn push(&mut self, now: Instant, pending: &Pending) {
        self.insert(pending.id, Waiting::new(now, pending));
    }

    /// What waits was held back by what was chosen before, until now.
    pub(super) fn configure(&mut self, now: Instant, settings: Settings) {
        self.free_since = self.free_since.max(Some(now));
        self.treat(settings);
    }

    fn treat(&mut self, settings: Settings) {
        self.settings = settings;
        for urgency in URGENCIES {
            self.class(urgency).rebudget(settings.budgets.of(urgency));
        }
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn keep_alive(&mut self, silence: Duration) {
        self.keep_alive = Some(silence);
    }

    pub(super) fn silence(&self) -> Option<Duration> {
        self.keep_alive
    }

    pub(super) fn pulse(&mut self, pulse: Pulse) {
        self.pulse = pulse;
    }

    pub(super) fn state(&mut self, at: Instant, said: DeviceState) {
        self.free_since = self.free_since.max(Some(at));
        merge(&mut self.state, said);
    }

    /// The device is unpaired: what it said and what was learnt of it ends with it.
    pub(super) fn forget(&mut self, default: Settings) {
        self.treat(default);
        (self.keep_alive, self.state) = (None, DeviceState::default());
    }

    /// Nothing is known of the device any more: the line can be dropped.
    pub(super) fn is_idle(&self) -> bool {
        self.window.is_none()
            && self.flying.is_empty()
            && self.kept.is_empty()
            && self.parked.is_empty()
            && self.classes.iter().all(Class::is_empty)
            && self.state == DeviceState::default()
            && self.keep_alive.is_none()
    }

    /// The device can take messages.
    pub(super) fn is_present(&self) -> bool {
        self.window.is_some()
    }

    /// A packet went by.
    pub(super) fn touch(&mut self, at: Instant) {
        self.contact = self.contact.max(Some(at));
    }

    /// The device has spoken: its radio is up, whatever the clock says by now.
    pub(super) fn stir(&mut self, at: Instant) {
        self.touch(at);
        self.stirred = true;
    }

    /// The device can take messages; whatever was in flight is unsettled.
    pub(super) fn join(&mut self, at: Instant, joined: &Joined) {
        self.unsettle();
        for (id, parked) in std::mem::take(&mut self.parked) {
            self.insert(id, parked);
        }
        if joined.heard {
            self.stir(at);
        }
        (self.blocked, self.paused_until) = (false, None);
        self.free_since = self.free_since.max(Some(at));
        (self.pulse, self.window) = (joined.pulse, Some(joined.window));
    }

    /// The device is away; whatever was in flight is unsettled.
    pub(super) fn leave(&mut self) {
        self.unsettle();
        (self.blocked, self.stirred) = (false, false);
        (self.contact, self.window) = (None, None);
    }

    fn unsettle(&mut self) {
        self.flying_bytes = 0;
        for (id, mut flown) in std::mem::take(&mut self.flying) {
            flown.redelivery = true;
            self.wait_again(id, flown);
        }
    }

    /// A message comes back from its flight.
    fn wait_again(&mut self, id: MessageId, flown: Waiting) {
        if flown.volatile {
            // It had its one chance: it is over with the next orders.
            self.volatile.push((id, flown.urgency));
        } else if !flown.withdrawn {
            self.insert(id, flown);
        }
    }

    /// The device has taken a message over, however long ago it was handed over.
    pub(super) fn settle(&mut self, id: MessageId) {
        self.land(id);
        let _waited = self.remove(id);
        self.kept.remove(&id);
        self.paused_until = None;
    }

    /// A message was written to the device's connection, and that is all that will be known of it.
    pub(super) fn keep(&mut self, id: MessageId) {
        let flown = self.land(id);
        let Some(written) = flown.or_else(|| self.remove(id)) else { return };
        if !written.volatile && !written.withdrawn {
            self.kept.insert(id, written.expires);
        }
    }

    fn land(&mut self, id: MessageId) -> Option<Waiting> {
        let flown = self.flying.remove(&id)?;
        self.flying_bytes = self.flying_bytes.saturating_sub(flown.size);
        self.blocked = false;
        Some(flown)
    }

    fn remove(&mut self, id: MessageId) -> Option<Waiting> {
        let parked = self.parked.remove(&id);
        parked.or_else(|| self.classes.iter_mut().find_map(|class| class.remove(id)))
    }

    /// A message is not to be delivered any more. In flight it stays, to be acknowledged, but it is
    /// not redelivered.
    pub(super) fn withdraw(&mut self, id: MessageId) {
        let _waited = self.remove(id);
        self.kept.remove(&id);
        if let Some(flown) = self.flying.get_mut(&id) {
            flown.withdrawn = true;
        }
    }

    /// A message came back from the transport.
    pub(super) fn turn_back(&mut self, now: Instant, id: MessageId, why: Turned) {
        if let Some(flown) = self.land(id) {
            if matches!(why, Turned::Parked | Turned::TooLarge) && !flown.withdrawn && !flown.volatile {
                self.parked.insert(id, flown);
            } else {
                self.wait_again(id, flown);
            }
        }
        match why {
            Turned::Absent => self.window = None,
            Turned::Full => self.paused_until = Some(now + PAUSE),
            Turned::Parked | Turned::TooLarge => {}
        }
    }

    /// Moves what the device is to have now into flight, in order; each with whether the device may
    /// have seen it before.
    pub(super) fn take_due(&mut self, now: Instant, quiet: bool) -> Vec<(MessageId, bool)> {
        let stirred = std::mem::take(&mut self.stirred);
        if quiet || self.blocked {
            self.free_since = self.free_since.max(Some(now));
        }
        let Some(window) = self.window else { return Vec::new() };
        if self.paused_until.is_some_and(|until| now < until) {
            // Its radio may be asleep again by then; what it could have had now is not to wait longer.
            self.stirred = stirred;
            return Vec::new();
        }
        self.paused_until = None;
        let awake = stirred || self.contact.is_some_and(|last| now < last + self.settings.tau);
        let cause = if awake { None } else { self.cause(now, quiet) };
        if !awake && cause.is_none() && self.silent_until().is_none_or(|at| now < at) {
            return Vec::new();
        }
        let due = self.load(now, window, quiet);
        if !due.is_empty() {
            if let Some(registration) = cause.flatten() {
                self.wakes.count(now, registration);
            }
            self.touch(now);
        }
        due
    }

    /// What wakes the device now, if something does: the registration that has to answer for it,
    /// unless what is due can answer for itself.
    fn cause(&mut self, now: Instant, quiet: bool) -> Option<Option<RegistrationId>> {
        let mut first: Option<(Instant, Option<RegistrationId>)> = None;
        for urgency in URGENCIES {
            let budget = self.settings.budgets.of(urgency);
            let cap = self.settings.cap.filter(|_| budget > Duration::ZERO);
            let class = &mut self.classes[urgency as usize];
            match gate(urgency, &self.state, quiet) {
                Gate::Shut => continue,
                Gate::UntilExpiry => {
                    let volatile = self.volatile.iter().any(|(_, of)| *of == urgency);
                    if volatile || class.expiring(now).next().is_some() {
                        first = Some((now, None));
                    }
                    continue;
                }
                Gate::Open => {}
            }
            while let Some((id, waiting)) = class.first_due_by(now) {
                let registration = waiting.registration;
                let free = cap
                    .filter(|_| waiting.can_wait(now))
                    .and_then(|cap| self.wakes.free_at(now, registration, cap));
                if let Some(free) = free {
                    class.postpone(id, free);
                    continue;
                }
                // Urgency high never has to answer; its wake takes the others along.
                if urgency == Urgency::High {
                    return Some(None);
                }
                if first.is_none_or(|(known, _)| waiting.due() < known) {
                    first = Some((waiting.due(), Some(registration)));
                }
                break;
            }
        }
        first.map(|(_, registration)| registration)
    }

    /// Fills the window: urgency high first, then the rest as it came.
    fn load(&mut self, now: Instant, window: Window, quiet: bool) -> Vec<(MessageId, bool)> {
        let room = usize::from(window.messages).saturating_sub(self.flying.len());
        let mut high = Vec::new();
        let mut rest = Vec::new();
        for urgency in URGENCIES {
            let class = &self.classes[urgency as usize];
            let list = if urgency == Urgency::High { &mut high } else { &mut rest };
            // One more than fits shows that something is left.
            match gate(urgency, &self.state, quiet) {
                Gate::Open => list.extend(class.ids().take(room + 1).map(|id| (id, urgency))),
                Gate::Shut => {}
                Gate::UntilExpiry => {
                    list.extend(class.expiring(now).take(room + 1).map(|id| (id, urgency)));
                    list.extend(self.volatile.iter().filter(|(_, of)| *of == urgency));
                }
            }
        }
        rest.sort_unstable();
        let mut due = Vec::new();
        for (id, urgency) in high.into_iter().chain(rest) {
            let Some(waiting) = self.class(urgency).remove(id) else { continue };
            let size = waiting.size;
            let fits = self.flying.len() < usize::from(window.messages)
                // One message always goes, however large, or it would wait for ever.
                && (self.flying.is_empty() || self.flying_bytes.saturating_add(size) <= window.bytes);
            if !fits {
                let budget = self.settings.budgets.of(urgency);
                self.class(urgency).insert(id, waiting, budget);
                self.blocked = true;
                break;
            }
            let late =
                now.saturating_duration_since(waiting.due().max(self.free_since.unwrap_or(waiting.due())));
            if !waiting.redelivery && late > GRACE {
                self.missed += 1;
            }
            due.push((id, waiting.redelivery));
            self.flying.insert(id, waiting);
            self.flying_bytes = self.flying_bytes.saturating_add(size);
        }
        due.sort_unstable();
        due
    }

    /// How many messages have left later than they may since this was asked last.
    pub(super) fn take_missed(&mut self) -> u32 {
        std::mem::take(&mut self.missed)
    }

    /// Says whether the connection has to be kept alive by a ping now.
    pub(super) fn take_ping(&mut self, now: Instant) -> bool {
        let silent = self.silent_until().is_some_and(|at| at <= now);
        if silent {
            self.touch(now);
        }
        silent
    }

    /// When the gateway has to make the connection speak, unless it does before.
    fn silent_until(&self) -> Option<Instant> {
        let Pulse::Gateway(most) = self.pulse else { return None };
        self.window?;
        let silence = self.keep_alive.map_or(most, |learnt| learnt.min(most)).max(LEAST_SILENCE);
        self.contact?.checked_add(silence)
    }

    /// When something is to be done for this device if nothing happens before. `quiet_until`: when to
    /// look at its quiet hours again.
    pub(super) fn next(&self, quiet_until: Option<Instant>) -> Option<Instant> {
        self.window?;
        let mut at = self.silent_until();
        let mut by = |other: Option<Instant>| at = at.into_iter().chain(other).min();
        if self.paused_until.is_some() {
            by(self.paused_until);
            return at;
        }
        if self.blocked {
            return at;
        }
        for urgency in URGENCIES {
            let class = &self.classes[urgency as usize];
            match gate(urgency, &self.state, quiet_until.is_some()) {
                Gate::Open => by(class.first_due()),
                Gate::Shut if class.is_empty() => {}
                Gate::Shut => by(quiet_until),
                Gate::UntilExpiry => by(class.first_expiry().and_then(|expires| expires.checked_sub(MARGIN))),
            }
        }
        at
    }

    /// Removes what could only have gone at once.
    pub(super) fn take_volatile(&mut self, over: &mut Vec<MessageId>) {
        for (id, urgency) in std::mem::take(&mut self.volatile) {
            let _waited = self.class(urgency).remove(id);
            if !self.flying.contains_key(&id) {
                over.push(id);
            }
        }
    }

    /// Removes what has expired, and says when the next one will.
    pub(super) fn take_expired(&mut self, now: Instant, over: &mut Vec<MessageId>) -> Option<Instant> {
        self.parked.retain(|&id, waiting| {
            let alive = now < waiting.expires;
            if !alive {
                over.push(id);
            }
            alive
        });
        self.kept.retain(|&id, &mut expires| {
            let alive = now < expires;
            if !alive {
                over.push(id);
            }
            alive
        });
        self.classes.iter_mut().for_each(|class| class.expire(now, over));
        let parked = self.parked.values().map(|waiting| waiting.expires);
        let kept = self.kept.values().copied();
        self.classes.iter().filter_map(Class::first_expiry).chain(parked).chain(kept).min()
    }
}
