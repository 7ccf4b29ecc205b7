//! New messages, and the way to take them back.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    Commit, Lookup, MAX_RECORD, NotStored,
    state::{Core, Queued, Slot, Undo},
};
use crate::model::{
    Bounds, Coding, EndpointToken, MessageId, MessageToken, Moment, PushMessage, Registration, Topic, Ttl,
    Urgency,
};

/// Appends messages, and takes them back.
#[derive(Clone, Debug)]
pub struct Intake(pub(super) Arc<Core>);

/// A message as admission has checked it, before it has a number.
#[derive(Clone, Debug)]
pub struct NewPush {
    /// Exactly what was sent.
    pub body: Bytes,
    /// Its encryption headers.
    pub coding: Coding,
    /// Where it goes.
    pub registration: Arc<Registration>,
    /// Its name, if a later message may replace it.
    pub topic: Option<Topic>,
    /// What the application server is promised.
    pub ttl: Ttl,
    /// How much it matters.
    pub urgency: Urgency,
}

/// What an append gave.
#[derive(Debug)]
pub struct Appended {
    /// Resolves when the message is safe.
    pub commit: Commit,
    /// Its number.
    pub id: MessageId,
    /// The last segment of its URL.
    pub token: MessageToken,
}

impl Intake {
    /// Queues a message for the disk and for delivery, both at once. A Topic replaces the waiting
    /// message of the same registration and Topic in the same batch. Where there is no room, the oldest
    /// messages of the same registration give way in the same batch, unless the [`Bounds`] say otherwise.
    /// TTL 0 never touches the disk: its commit is ready at once (the first of a run waits until its
    /// number is reserved).
    ///
    /// # Errors
    /// [`NotStored`]: nothing was queued. A message of a registration that has just ended is `Busy`:
    /// the next attempt will learn that it is gone.
    pub fn append(&self, push: NewPush, now: Moment) -> Result<Appended, NotStored> {
        let NewPush { body, coding, registration, topic, ttl, urgency } = push;
        if size(&body, &coding) > MAX_RECORD {
            tracing::error!(bytes = body.len(), limit = MAX_RECORD, "a message is too large for the store");
            return Err(NotStored::Disk);
        }
        let mut state = self.0.lock();
        match state.admit() {
            // It needs no disk, so long as its number was reserved.
            Err(NotStored::Disk) if ttl == Ttl::ZERO && state.takes_volatile() => {}
            admitted => admitted?,
        }
        if state.accounts.registration(registration.id).is_none() {
            return Err(NotStored::Busy);
        }
        state.observe(now);
        let expires = now.instant + Duration::from_secs(ttl.as_secs().into());
        let owed = state.owed(&registration);
        let slot = Slot {
            device: registration.device,
            expires_ms: self.0.since_epoch(expires),
            owed: owed.clone(),
            registration: registration.id,
            size: u16::try_from(body.len()).unwrap_or(u16::MAX),
            topic: topic.clone(),
        };
        let replaced = topic.clone().and_then(|topic| state.topics.get(&(registration.id, topic)).copied());
        // TTL 0 does not wait.
        let room = (ttl != Ttl::ZERO).then(|| state.loads.room(&slot, replaced, &state.waiting));
        let crowded_out = room.unwrap_or_else(|| Some(Vec::new())).ok_or(NotStored::Full)?;
        state.loads.crowd_out(registration.id, crowded_out.len());
        let number = state.next;
        state.next += 1;
        let message = Arc::new(PushMessage {
            accepted: now.wall,
            body,
            coding,
            device: registration.device,
            expires,
            id: MessageId(number),
            registration: registration.id,
            topic,
            ttl,
            urgency,
        });
        // What is replaced or gives way is dropped from the queue, or deleted together with the insertion
        // of its successor: a crash leaves one of the two.
        let (mut waiters, mut drops, mut owed_before) = (Vec::new(), Vec::new(), None);
        for old in replaced.into_iter().chain(crowded_out) {
            let Some(slot) = state.unwait(old) else { continue };
            if Some(old) == replaced {
                owed_before = Some(slot.owed.clone());
            } else {
                state.crowd_out(slot.device, &slot.owed, old);
            }
            match state.unqueue(old) {
                Some(mut queued) => {
                    waiters.append(&mut queued.waiters);
                    drops.append(&mut queued.drops);
                }
                None => drops.push((old, slot)),
            }
        }
        // What nobody is to get is over as soon as it has its number.
        let commit = if ttl == Ttl::ZERO || owed.is_nobody() {
            if !owed.is_nobody() {
                state.keep_volatile(Arc::clone(&message), owed.clone());
            }
            state.queue.waiters.append(&mut waiters);
            state.deletions.extend(drops.into_iter().map(|(old, _)| old));
            if number < state.limit {
                Commit::ready()
            } else {
                let (waiter, commit) = Commit::waiting();
                state.queue.waiters.push(waiter);
                commit
            }
        } else {
            let (waiter, commit) = Commit::waiting();
            waiters.push(waiter);
            state.wait(number, slot);
            state.queue.bytes += message.body.len();
            let queued = Queued { drops, message: Arc::clone(&message), trusted: now.trusted, waiters };
            state.queue.messages.insert(number, queued);
            commit
        };
        state.queue.reserve |= number >= state.limit;
        state.present(&message, &owed, replaced.zip(owed_before.as_ref()));
        self.0.announce(&mut state);
        drop(state);
        self.0.work.notify_one();
        let id = MessageId(number);
        Ok(Appended { commit, id, token: self.0.seal.token(id) })
    }

    /// How much may wait from now on. What waits already stays.
    pub fn bound(&self, bounds: Bounds) {
        self.0.lock().loads.bounds = bounds;
    }

    /// Takes a waiting message back (RFC 8030: `DELETE` of the message resource). `None`: there is
    /// no such message (any more), or the token was not made here.
    ///
    /// # Errors
    /// [`NotStored`]: nothing was changed.
    pub fn cancel(&self, token: &MessageToken) -> Result<Option<Commit>, NotStored> {
        let Some(MessageId(number)) = self.0.seal.open(token) else {
            return Ok(None);
        };
        let mut state = self.0.lock();
        if let Some((message, owed)) = state.volatile.remove(&number) {
            state.withdraw(message.device, &owed, number);
            self.0.announce(&mut state);
            return Ok(Some(Commit::ready()));
        }
        let Some(registration) = state.waiting.registration(number) else {
            return Ok(None);
        };
        state.admit()?;
        let Some(slot) = state.unwait(number) else {
            return Ok(None);
        };
        let owed = slot.owed.clone();
        let (waiter, commit) = Commit::waiting();
        state.queue.waiters.push(waiter);
        if let Some(mut queued) = state.unqueue(number) {
            // Its sender does not want it any more; what it has replaced ends with it.
            state.queue.waiters.append(&mut queued.waiters);
            for (old, slot) in queued.drops.drain(..) {
                state.queue.cancelled.push(old);
                state.queue.undo.push(Undo::Wait(old, slot));
            }
        } else {
            state.queue.cancelled.push(number);
            state.queue.undo.push(Undo::Wait(number, slot));
        }
        if let Some(device) = state.accounts.registration(registration).map(|found| found.device) {
            state.withdraw(device, &owed, number);
        }
        self.0.announce(&mut state);
        drop(state);
        self.0.work.notify_one();
        Ok(Some(commit))
    }

    /// What an endpoint is.
    #[must_use]
    pub fn lookup(&self, endpoint: &EndpointToken) -> Lookup {
        self.0.lock().accounts.lookup(endpoint)
    }
}

/// At most so many bytes long is the record of a message: the topic and the numbers need less than 128.
fn size(body: &Bytes, coding: &Coding) -> usize {
    let texts = [&coding.content_encoding, &coding.crypto_key, &coding.encryption];
    body.len() + 128 + texts.into_iter().flatten().map(|text| text.len() + 2).sum::<usize>()
}
