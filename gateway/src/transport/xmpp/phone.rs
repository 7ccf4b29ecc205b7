//! Which clients of each account are believed to be there.
//!
//! A component is told little: a client's directed presence when it connects, and its end. So a client is believed
//! to be there until a push to it comes back or is not answered, and then tried again now and then.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use super::{Limits, jid::Jid};
use crate::model::DeviceId;

/// One account.
#[derive(Debug)]
struct Phone {
    /// How long it is left alone the next time.
    pause: Duration,
    there: HashSet<Jid>,
    try_at: Option<Instant>,
}

/// What has changed for an account.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Change {
    /// Nothing.
    None,
    /// It can be sent something that it could not be sent before.
    Arrived,
    /// It can be sent nothing any more.
    Gone,
    /// One client has gone, and others are there.
    Fewer,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Phones(HashMap<DeviceId, Phone>);

impl Phones {
    /// A client is there, or believed to be.
    pub(super) fn arrive(&mut self, device: DeviceId, address: Jid, limits: &Limits) -> Change {
        let phone = self.0.entry(device).or_insert_with(|| Phone {
            pause: limits.try_again.0,
            there: HashSet::new(),
            try_at: None,
        });
        if phone.there.insert(address) { Change::Arrived } else { Change::None }
    }

    /// A client was heard: it need not be looked for.
    pub(super) fn heard(&mut self, device: DeviceId, limits: &Limits) {
        if let Some(phone) = self.0.get_mut(&device) {
            (phone.pause, phone.try_at) = (limits.try_again.0, None);
        }
    }

    /// A client is not there; whoever has not said so itself is tried again.
    pub(super) fn depart(&mut self, device: DeviceId, address: &Jid) -> Change {
        let Some(phone) = self.0.get_mut(&device) else { return Change::None };
        match (phone.there.remove(address), phone.there.is_empty()) {
            (false, _) => Change::None,
            (true, true) => Change::Gone,
            (true, false) => Change::Fewer,
        }
    }

    /// A client that is not there is to be tried again, later each time.
    pub(super) fn try_later(&mut self, device: DeviceId, now: Instant, limits: &Limits) {
        if let Some(phone) = self.0.get_mut(&device) {
            if phone.try_at.is_none() {
                phone.try_at = Some(now + phone.pause);
                phone.pause = (phone.pause * 2).min(limits.try_again.1);
            }
        }
    }

    /// Whether this client is believed to be there.
    pub(super) fn is_there(&self, device: DeviceId, address: &Jid) -> bool {
        self.0.get(&device).is_some_and(|phone| phone.there.contains(address))
    }

    /// The account was removed; says whether it was there.
    pub(super) fn remove(&mut self, device: DeviceId) -> bool {
        self.0.remove(&device).is_some_and(|phone| !phone.there.is_empty())
    }

    /// Nobody is there any more; says who was.
    pub(super) fn clear(&mut self) -> Vec<DeviceId> {
        let all = std::mem::take(&mut self.0).into_iter();
        all.filter(|(_, phone)| !phone.there.is_empty()).map(|(device, _)| device).collect()
    }

    /// When [`overdue`](Self::overdue) is to be asked next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.0.values().filter_map(|phone| phone.try_at).min()
    }

    /// Who is to be tried again now.
    pub(super) fn overdue(&mut self, now: Instant) -> Vec<DeviceId> {
        let due = self.0.iter_mut().filter(|(_, phone)| phone.try_at.is_some_and(|at| at <= now));
        due.map(|(device, phone)| {
            phone.try_at = None;
            *device
        })
        .collect()
    }
}
