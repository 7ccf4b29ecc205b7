//! Messages of groups: one record holds the body for all, and each member has its share of it, from
//! acceptance to acknowledgement.
//!
//! Who has a share is fixed when a message is accepted: a device that joins later does not get what was
//! there before it. The shares that are left lie in a record beside the message, so that an
//! acknowledgement writes a few bytes and never the body again; the last one deletes both.

use std::{slice, sync::Arc};

use super::{
    Arrival, Space, key,
    state::{Release, State},
};
use crate::model::{DeviceId, MessageId, PushMessage, Registration};

/// Who is still to acknowledge a message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Owed {
    /// The device of its registration.
    Own,
    /// These members of a group; when nobody is left, the message is over.
    Shared(Box<[DeviceId]>),
}

/// What the end of a share comes to.
enum Settled {
    /// Nobody else waits for it.
    Last,
    /// The device had no share (any more).
    Nothing,
    /// Others still wait for it.
    Partly,
}

impl Owed {
    /// Who it is; `own` is the device of the registration.
    pub(super) fn devices<'a>(&'a self, own: &'a DeviceId) -> &'a [DeviceId] {
        match self {
            Self::Own => slice::from_ref(own),
            Self::Shared(members) => members,
        }
    }

    /// Whether it is a group's message that no member is to get.
    pub(super) fn is_nobody(&self) -> bool {
        matches!(self, Self::Shared(members) if members.is_empty())
    }

    /// The message as this device is to get it; `None`: it has no share. The body is not copied. Where there
    /// are no shares it is whoever's it was when it was accepted, also if its registration has gone to
    /// another device since.
    pub(super) fn copy(&self, message: &Arc<PushMessage>, device: DeviceId) -> Option<Arc<PushMessage>> {
        match self {
            Self::Own => Some(Arc::clone(message)),
            Self::Shared(members) => {
                members.contains(&device).then(|| Arc::new(PushMessage { device, ..(**message).clone() }))
            }
        }
    }

    fn settle(&mut self, device: DeviceId) -> Settled {
        let Self::Shared(members) = self else { return Settled::Last };
        let left: Box<[_]> = members.iter().copied().filter(|member| *member != device).collect();
        if left.len() == members.len() {
            return Settled::Nothing;
        }
        *members = left;
        if members.is_empty() { Settled::Last } else { Settled::Partly }
    }
}

impl State {
    /// Who is to get a message of this registration that is accepted now.
    pub(super) fn owed(&self, registration: &Registration) -> Owed {
        match self.accounts.groups.get(&registration.device) {
            Some(group) => Owed::Shared(group.members.as_slice().into()),
            None => Owed::Own,
        }
    }

    /// Ends a device's share of a message. `true`: it was the last one, and the message is over.
    pub(super) fn settle_share(&mut self, device: DeviceId, number: u64) -> bool {
        let (settled, stored) = match self.volatile.get_mut(&number) {
            Some((_, owed)) => (Some(owed.settle(device)), false),
            None => (self.waiting.change_owed(number, |owed| owed.settle(device)), true),
        };
        match settled.unwrap_or(Settled::Nothing) {
            Settled::Last => true,
            Settled::Nothing => false,
            Settled::Partly => {
                // What is still in the queue is written as it is by then.
                if stored && !self.queue.messages.contains_key(&number) {
                    self.shares_changed.insert(number);
                }
                false
            }
        }
    }

    /// Ends the shares of a device that is a member no longer, and withdraws them.
    pub(super) fn release(&mut self, release: &Release) {
        let &Release { group, member, below } = release;
        let shares = |own: DeviceId, owed: &Owed| own == group && owed.devices(&own).contains(&member);
        let waiting = self.waiting.iter().take_while(|(number, ..)| *number < below);
        let waiting = waiting.filter(|(_, registration, owed)| {
            let registration = self.accounts.registration(*registration);
            registration.is_some_and(|registration| shares(registration.device, owed))
        });
        let volatile = self.volatile.range(..below);
        let volatile = volatile.filter(|(_, (message, owed))| shares(message.device, owed));
        let numbers = waiting.map(|(number, ..)| number).chain(volatile.map(|(number, _)| *number));
        for number in numbers.collect::<Vec<_>>() {
            if self.settle_share(member, number) && self.volatile.remove(&number).is_none() {
                self.unwait(number);
                self.deletions.push(number);
            }
            self.withdraw(member, &Owed::Own, number);
        }
    }

    /// Tells the planner of a message that waits, once for each device that is to get it. Only who
    /// still waited for the one that it `replaces` hears of that.
    pub(super) fn present(
        &mut self,
        message: &Arc<PushMessage>,
        owed: &Owed,
        replaces: Option<(u64, &Owed)>,
    ) {
        for &device in owed.devices(&message.device) {
            let replaces = replaces
                .filter(|(_, owed)| owed.devices(&message.device).contains(&device))
                .map(|(number, _)| MessageId(number));
            if let Some(message) = owed.copy(message, device) {
                self.held.push_back(Arrival::Accepted { message, replaces });
            }
        }
    }
}

/// Where the shares of a message lie.
pub(super) fn shares_key(number: u64) -> sled::IVec {
    key(Space::Shares, &number.to_be_bytes())
}
