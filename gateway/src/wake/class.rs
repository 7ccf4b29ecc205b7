//! What waits for one device at one urgency.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use crate::model::{MessageId, Pending};

/// A message that has to leave leaves this long before it expires, so that it can arrive.
pub(super) const MARGIN: Duration = Duration::from_secs(1);

/// A message in a line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    /// When the planner heard of it.
    arrived: Instant,
    /// When it has to leave.
    due: Instant,
    pub(super) pending: Pending,
    pub(super) redelivery: bool,
    /// In flight when it was withdrawn: it does not come back.
    pub(super) withdrawn: bool,
}

/// Messages of one urgency: in order of arrival, by deadline, and by expiry.
#[derive(Debug, Default)]
pub(super) struct Class {
    deadlines: BTreeSet<(Instant, MessageId)>,
    /// Without volatile ones, which expire at birth.
    expiries: BTreeSet<(Instant, MessageId)>,
    waiting: BTreeMap<MessageId, Waiting>,
}

impl Waiting {
    pub(super) fn new(now: Instant, pending: Pending) -> Self {
        Self { arrived: now, due: now, pending, redelivery: false, withdrawn: false }
    }

    /// When it has to leave.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// The last moment at which it is worth sending.
    pub(super) fn last(&self) -> Instant {
        let last = self.pending.expires.checked_sub(MARGIN).unwrap_or(self.arrived);
        if self.pending.volatile { self.arrived } else { last.max(self.arrived) }
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
}

impl Class {
    /// A message waits, at most for `budget` since it arrived.
    pub(super) fn insert(&mut self, id: MessageId, mut waiting: Waiting, budget: Duration) {
        waiting.budget(budget);
        self.deadlines.insert((waiting.due, id));
        if !waiting.pending.volatile {
            self.expiries.insert((waiting.pending.expires, id));
        }
        self.waiting.insert(id, waiting);
    }

    pub(super) fn remove(&mut self, id: MessageId) -> Option<Waiting> {
        let waiting = self.waiting.remove(&id)?;
        self.deadlines.remove(&(waiting.due, id));
        self.expiries.remove(&(waiting.pending.expires, id));
        Some(waiting)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// In order of arrival.
    pub(super) fn ids(&self) -> impl Iterator<Item = MessageId> {
        self.waiting.keys().copied()
    }

    /// The first that has to leave, and when.
    pub(super) fn first_due(&self) -> Option<(Instant, &Waiting)> {
        let (due, id) = self.deadlines.first()?;
        self.waiting.get(id).map(|waiting| (*due, waiting))
    }

    /// A message is to leave later than it should.
    pub(super) fn postpone(&mut self, id: MessageId, until: Instant) {
        if let Some(waiting) = self.waiting.get_mut(&id) {
            self.deadlines.remove(&(waiting.due, id));
            waiting.due = until.min(waiting.last());
            self.deadlines.insert((waiting.due, id));
        }
    }

    /// Everything is to wait at most for `budget` since it arrived.
    pub(super) fn rebudget(&mut self, budget: Duration) {
        self.deadlines.clear();
        for (id, waiting) in &mut self.waiting {
            waiting.budget(budget);
            self.deadlines.insert((waiting.due, *id));
        }
    }

    /// When the first one expires.
    pub(super) fn first_expiry(&self) -> Option<Instant> {
        self.expiries.first().map(|(expires, _)| *expires)
    }

    /// Those that are about to expire.
    pub(super) fn expiring(&self, now: Instant) -> impl Iterator<Item = MessageId> {
        self.expiries.iter().take_while(move |(expires, _)| *expires <= now + MARGIN).map(|(_, id)| *id)
    }

    /// Removes what has expired.
    pub(super) fn expire(&mut self, now: Instant, over: &mut Vec<MessageId>) {
        while let Some(&(_, id)) = self.expiries.first().filter(|(expires, _)| *expires <= now) {
            self.remove(id);
            over.push(id);
        }
    }
}
