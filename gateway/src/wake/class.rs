//! What waits for one device at one urgency.

use std::time::{Duration, Instant};

use crate::model::{MessageId, Numbered, Pending, RegistrationId, Sum, Urgency};

/// A message that has to leave leaves this long before it expires, so that it can arrive.
pub(super) const MARGIN: Duration = Duration::from_secs(1);

/// A message in a line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    /// When the planner heard of it.
    arrived: Instant,
    /// When it has to leave.
    due: Instant,
    pub(super) expires: Instant,
    pub(super) redelivery: bool,
    pub(super) registration: RegistrationId,
    pub(super) size: u32,
    pub(super) urgency: Urgency,
    pub(super) volatile: bool,
    /// In flight when it was withdrawn: it does not come back.
    pub(super) withdrawn: bool,
}

/// Messages of one urgency, in order of arrival: those that have to leave first, or expire first, are found
/// by way of their blocks.
#[derive(Debug, Default)]
pub(super) struct Class {
    /// When the first message came, from which the times of all count.
    since: Option<Instant>,
    waiting: Numbered<Kept, Soonest>,
}

/// A message that is not in flight, in 48 bytes with its number: tens of thousands may wait. Times are in ns.
#[derive(Clone, Copy, Debug)]
struct Kept {
    arrived: u64,
    due: u64,
    expires: u64,
    redelivery: bool,
    registration: RegistrationId,
    size: u32,
    urgency: Urgency,
    volatile: bool,
}

const _: () = assert!(size_of::<(u64, Kept)>() <= 48);

/// Of a block of messages, the earliest times.
#[derive(Debug)]
struct Soonest {
    due: u64,
    /// `u64::MAX` where there are none but volatile ones, which expire at birth.
    expires: u64,
}

impl Sum<Kept> for Soonest {
    fn of(entries: &[(u64, Kept)]) -> Self {
        let nothing = Self { due: u64::MAX, expires: u64::MAX };
        entries.iter().fold(nothing, |Self { due, expires }, (_, kept)| Self {
            due: due.min(kept.due),
            expires: expires.min(kept.expiry()),
        })
    }
}

impl Waiting {
    pub(super) fn new(now: Instant, pending: &Pending) -> Self {
        let &Pending { device: _, expires, id: _, registration, size, urgency, volatile } = pending;
        Self {
            arrived: now,
            due: now,
            expires,
            redelivery: false,
            registration,
            size,
            urgency,
            volatile,
            withdrawn: false,
        }
    }

    /// When it has to leave.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// The last moment at which it is worth sending.
    pub(super) fn last(&self) -> Instant {
        let last = self.expires.checked_sub(MARGIN).unwrap_or(self.arrived);
        if self.volatile { self.arrived } else { last.max(self.arrived) }
    }

    /// It can be held back at all: it has time left.
    pub(super) fn can_wait(&self, now: Instant) -> bool {
        now < self.last()
    }

    fn budget(&mut self, budget: Duration) {
        // A budget beyond the end of time is none.
        let due = self.arrived.checked_add(budget);
        self.due = due.map_or(self.last(), |due| due.min(self.last()));
    }

    fn keep(&self, since: Instant) -> Kept {
        let &Self { redelivery, registration, size, urgency, volatile, .. } = self;
        let nanos = |at: Instant| nanos(since, at);
        Kept {
            arrived: nanos(self.arrived),
            due: nanos(self.due),
            expires: nanos(self.expires),
            redelivery,
            registration,
            size,
            urgency,
            volatile,
        }
    }
}

impl Kept {
    fn waiting(&self, since: Instant) -> Waiting {
        let &Self { redelivery, registration, size, urgency, volatile, .. } = self;
        let instant = |nanos: u64| since + Duration::from_nanos(nanos);
        Waiting {
            arrived: instant(self.arrived),
            due: instant(self.due),
            expires: instant(self.expires),
            redelivery,
            registration,
            size,
            urgency,
            volatile,
            withdrawn: false,
        }
    }

    /// When it is to be looked for as expired.
    fn expiry(&self) -> u64 {
        if self.volatile { u64::MAX } else { self.expires }
    }
}

impl Class {
    /// A message waits, at most for `budget` since it arrived.
    pub(super) fn insert(&mut self, id: MessageId, mut waiting: Waiting, budget: Duration) {
        let since = *self.since.get_or_insert(waiting.arrived);
        waiting.budget(budget);
        self.waiting.insert(id.0, waiting.keep(since));
    }

    pub(super) fn remove(&mut self, id: MessageId) -> Option<Waiting> {
        let kept = self.waiting.remove(id.0)?;
        Some(kept.waiting(self.since?))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// In order of arrival.
    pub(super) fn ids(&self) -> impl Iterator<Item = MessageId> {
        self.waiting.iter().map(|(id, _)| MessageId(id))
    }

    /// When the first one has to leave.
    pub(super) fn first_due(&self) -> Option<Instant> {
        let due = self.waiting.blocks().map(|(soonest, _)| soonest.due).min()?;
        Some(self.since? + Duration::from_nanos(due))
    }

    /// The first that has to leave by `now`.
    pub(super) fn first_due_by(&self, now: Instant) -> Option<(MessageId, Waiting)> {
        let since = self.since?;
        let (soonest, entries) = self.waiting.blocks().min_by_key(|(soonest, _)| soonest.due)?;
        if soonest.due > nanos(since, now) {
            return None;
        }
        let (id, kept) = entries.iter().find(|(_, kept)| kept.due == soonest.due)?;
        Some((MessageId(*id), kept.waiting(since)))
    }

    /// A message is to leave later than it should.
    pub(super) fn postpone(&mut self, id: MessageId, until: Instant) {
        let Some(since) = self.since else { return };
        self.waiting.change(id.0, |kept| kept.due = nanos(since, until.min(kept.waiting(since).last())));
    }

    /// Everything is to wait at most for `budget` since it arrived.
    pub(super) fn rebudget(&mut self, budget: Duration) {
        let Some(since) = self.since else { return };
        self.waiting.change_all(|kept| {
            let mut waiting = kept.waiting(since);
            waiting.budget(budget);
            *kept = waiting.keep(since);
        });
    }

    /// When the first one expires.
    pub(super) fn first_expiry(&self) -> Option<Instant> {
        let expires = self.waiting.blocks().map(|(soonest, _)| soonest.expires);
        let first = expires.min().filter(|expires| *expires < u64::MAX)?;
        Some(self.since? + Duration::from_nanos(first))
    }

    /// Those that are about to expire, the first first.
    pub(super) fn expiring(&self, now: Instant) -> impl Iterator<Item = MessageId> {
        self.expiring_by(now + MARGIN).into_iter()
    }

    /// Removes what has expired.
    pub(super) fn expire(&mut self, now: Instant, over: &mut Vec<MessageId>) {
        let expired = self.expiring_by(now);
        for id in &expired {
            self.waiting.remove(id.0);
        }
        over.extend(expired);
    }

    fn expiring_by(&self, last: Instant) -> Vec<MessageId> {
        let Some(since) = self.since else { return Vec::new() };
        let last = nanos(since, last).min(u64::MAX - 1);
        let blocks = self.waiting.blocks().filter(|(soonest, _)| soonest.expires <= last);
        let entries = blocks.flat_map(|(_, entries)| entries).filter(|(_, kept)| kept.expiry() <= last);
        let mut expiring: Vec<(u64, u64)> = entries.map(|(id, kept)| (kept.expires, *id)).collect();
        expiring.sort_unstable();
        expiring.into_iter().map(|(_, id)| MessageId(id)).collect()
    }
}

/// An instant before `since` is taken for it: whoever asks is past both.
fn nanos(since: Instant, at: Instant) -> u64 {
    u64::try_from(at.saturating_duration_since(since).as_nanos()).unwrap_or(u64::MAX)
}
