//! What is known in memory: which messages wait, what is queued for the disk, and the accounts.
//!
//! One mutex guards all of it, so that an append, the removal of its registration and a Topic's
//! replacement always see each other whole. Nothing waits for the disk while it is held.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot};

use super::{
    Arrival, NotStored, Waiter,
    committer::{BATCH_DELETIONS, Pace},
    disk::Disk,
    loads::Loads,
    recovery::Repair,
    registers::{AccountUndo, Registers},
    seal::Seal,
    shares::Owed,
    slots::Slots,
};
use crate::model::{DeviceId, LEAP_MS, MessageId, Moment, PushMessage, RegistrationId, Topic, UnixTime};

/// Bytes of bodies that may be queued for the disk.
const QUEUE_BYTES: usize = 16 << 20;
/// Messages, and likewise account writes, that may be queued for the disk.
const QUEUE_LENGTH: usize = 16_384;
/// Arrivals that the channel holds, and that are held back behind it, before appends are refused.
pub(super) const ARRIVALS: usize = 1024;
/// Messages with TTL 0 that can be loaded; older ones have had their moment.
const VOLATILE: usize = 256;
/// Message numbers that are reserved at a time: one write in a million messages, or in a run.
pub(super) const RESERVED: u64 = 1 << 20;

/// What all handles share.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) arrivals: mpsc::Sender<Arrival>,
    pub(super) disk: Disk,
    /// The moment of opening, from which [`Slot::expires_ms`] counts.
    pub(super) epoch: Instant,
    pub(super) pace: Pace,
    pub(super) seal: Seal,
    pub(super) state: Mutex<State>,
    /// Wakes the committer.
    pub(super) work: Condvar,
}

/// What is known.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) accounts: Registers,
    /// Who waits for a sign of life of the committer.
    pub(super) beats: Vec<oneshot::Sender<()>>,
    /// The last batch failed, and was not put right yet.
    pub(super) broken: bool,
    /// A batch is being written.
    pub(super) busy: bool,
    /// Messages on disk that need not be there any more; their deletion rides with the next batch.
    pub(super) deletions: Vec<u64>,
    /// Messages below this number were here when the store was opened by a clock that was not trusted:
    /// their time may have come to an end without anybody noticing.
    pub(super) doubtful: u64,
    /// What the committer is writing right now.
    pub(super) flying: BTreeMap<u64, Flying>,
    /// Arrivals that the planner may not see yet, or that its channel has no room for, in order.
    pub(super) held: VecDeque<Arrival>,
    /// Every number below it is reserved on disk. No other number is shown to anybody: it could be
    /// given out again after a crash, and a device drops what it believes to have seen.
    pub(super) limit: u64,
    /// What waits, counted.
    pub(super) loads: Loads,
    pub(super) mode: Mode,
    /// The newest trusted wall time.
    pub(super) newest: UnixTime,
    /// The next message number.
    pub(super) next: u64,
    /// A device has acknowledged something while it was being written.
    pub(super) overtaken: bool,
    pub(super) queue: Queue,
    /// The newest trusted wall time on disk.
    pub(super) recorded: UnixTime,
    pub(super) repair: Repair,
    /// The last moment whose wall time was trusted.
    pub(super) seen: Option<Moment>,
    /// Messages whose record of shares on disk is behind; it is written with the next batch.
    pub(super) shares_changed: BTreeSet<u64>,
    /// Messages that may have a record of shares on disk.
    pub(super) shares_on_disk: BTreeSet<u64>,
    /// Which waiting message has a Topic.
    pub(super) topics: HashMap<(RegistrationId, Topic), u64>,
    /// Messages with TTL 0, and who has not acknowledged them.
    pub(super) volatile: BTreeMap<u64, (Arc<PushMessage>, Owed)>,
    /// Every message that waits and is, or is to be, on disk.
    pub(super) waiting: Slots,
    /// The wall time that was read last, trusted or not.
    pub(super) wall: UnixTime,
}

/// What the store does.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Mode {
    /// Nothing is accepted any more; what is queued is written.
    Closing,
    /// The disk has failed and is probed.
    Failed,
    /// It accepts.
    #[default]
    Open,
}

/// A waiting message: what is known of each, however many wait.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) device: DeviceId,
    /// When it expires, in ms since [`Core::epoch`].
    pub(super) expires_ms: u64,
    pub(super) owed: Owed,
    pub(super) registration: RegistrationId,
    /// Bytes of its body.
    pub(super) size: u16,
    pub(super) topic: Option<Topic>,
}

/// What waits for the next batch.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Bytes of bodies.
    pub(super) bytes: usize,
    /// Messages on disk that were taken back: unlike other deletions they are all in the next batch, by which that is
    /// answered.
    pub(super) cancelled: Vec<u64>,
    pub(super) messages: BTreeMap<u64, Queued>,
    /// Who is a member no longer once the batch is safe.
    pub(super) releases: Vec<Release>,
    /// A number was given out that is not reserved yet.
    pub(super) reserve: bool,
    /// What to do, newest first, when the batch fails.
    pub(super) undo: Vec<Undo>,
    pub(super) waiters: Vec<Waiter>,
    pub(super) writes: Vec<Write>,
}

/// A member has left: its shares of what was accepted before end.
#[derive(Clone, Debug)]
pub(super) struct Release {
    pub(super) group: DeviceId,
    pub(super) member: DeviceId,
    /// The number of the first message that it has no share of.
    pub(super) below: u64,
}

/// A key and its new value, or its removal.
pub(super) type Write = (sled::IVec, Option<Vec<u8>>);

/// A message that is not on disk.
#[derive(Debug)]
pub(super) struct Queued {
    /// The messages on disk that it replaces, or that give way to it: removed in the same batch, or back if
    /// the batch fails.
    pub(super) drops: Vec<(u64, Slot)>,
    pub(super) message: Arc<PushMessage>,
    pub(super) trusted: bool,
    /// Its own sender, and those whose messages it has replaced before they were written.
    pub(super) waiters: Vec<Waiter>,
}

/// A message that is being written.
#[derive(Debug)]
pub(super) struct Flying {
    pub(super) drops: Vec<(u64, Slot)>,
    pub(super) message: Arc<PushMessage>,
    pub(super) waiters: Vec<Waiter>,
}

/// How to take back what was changed in memory.
#[derive(Debug)]
pub(super) enum Undo {
    Account(AccountUndo),
    /// A message that was withdrawn waits again.
    Wait(u64, Slot),
}

impl Core {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is complete before anything that could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The instant that is `ms` after the store was opened.
    pub(super) fn instant(&self, ms: u64) -> Instant {
        self.epoch + Duration::from_millis(ms)
    }

    /// The opposite of [`instant`](Self::instant), rounded up: nothing expires early.
    pub(super) fn since_epoch(&self, instant: Instant) -> u64 {
        let nanos = instant.saturating_duration_since(self.epoch).as_nanos();
        u64::try_from(nanos.div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }

    /// Shows the planner what it may see by now.
    pub(super) fn announce(&self, state: &mut State) {
        while let Some(arrival) = state.held.front() {
            let shown = match arrival {
                Arrival::Accepted { message, .. } => message.id.0 < state.limit,
                Arrival::CrowdedOut(_, id) | Arrival::Withdrawn(_, id) => id.0 < state.limit,
            };
            if !shown {
                return;
            }
            match self.arrivals.try_reserve() {
                Ok(permit) => {
                    if let Some(arrival) = state.held.pop_front() {
                        permit.send(arrival);
                    }
                }
                Err(mpsc::error::TrySendError::Full(())) => {
                    // The committer tries again.
                    self.work.notify_one();
                    return;
                }
                // Nobody delivers any more: what is on disk waits for the next start.
                Err(mpsc::error::TrySendError::Closed(())) => state.held.clear(),
            }
        }
    }
}

impl State {
    /// Refuses work that would be too much, or that could not be made safe.
    pub(super) fn admit(&self) -> Result<(), NotStored> {
        match self.mode {
            Mode::Closing => return Err(NotStored::Busy),
            Mode::Failed => return Err(NotStored::Disk),
            Mode::Open => {}
        }
        if self.queue.bytes >= QUEUE_BYTES
            || self.queue.messages.len() >= QUEUE_LENGTH
            || self.queue.writes.len() >= QUEUE_LENGTH
            || self.held.len() >= ARRIVALS
        {
            return Err(NotStored::Busy);
        }
        Ok(())
    }

    /// Whether a message that needs no disk can be accepted while the disk has failed.
    pub(super) fn takes_volatile(&self) -> bool {
        self.mode == Mode::Failed && self.next < self.limit && self.held.len() < ARRIVALS
    }

    /// Whether the committer has something to do at once.
    pub(super) fn is_urgent(&self) -> bool {
        let queue = &self.queue;
        self.mode != Mode::Open
            || queue.reserve
            || !queue.messages.is_empty()
            || !queue.writes.is_empty()
            || !queue.waiters.is_empty()
            || self.deletions.len() >= BATCH_DELETIONS
            || self.shares_changed.len() >= BATCH_DELETIONS
    }

    /// Whether there is something to write that may wait for company: the ends of messages and of shares.
    pub(super) fn has_ends(&self) -> bool {
        !(self.deletions.is_empty() && self.shares_changed.is_empty())
    }

    /// Whether arrivals wait for room in the planner's channel.
    pub(super) fn is_blocked(&self) -> bool {
        !self.held.is_empty() && !self.queue.reserve
    }

    /// Notes the time that a caller has read.
    pub(super) fn observe(&mut self, now: Moment) {
        self.wall = now.wall;
        if now.trusted {
            self.seen = Some(now);
            self.trusted_at(now.wall, LEAP_MS);
        }
    }

    /// Notes a trusted wall time. Trust may have been misplaced, so that one reading moves the newest time
    /// by `leap_ms` at most beyond the one on disk: it must not make every right time look old.
    pub(super) fn trusted_at(&mut self, wall: UnixTime, leap_ms: u64) {
        let bound = if self.recorded == UnixTime::default() { u64::MAX } else { self.recorded.0 + leap_ms };
        self.newest = self.newest.max(UnixTime(wall.0.min(bound)));
    }

    /// A message waits from now on.
    pub(super) fn wait(&mut self, number: u64, slot: Slot) {
        if let Some(topic) = slot.topic.clone() {
            self.topics.insert((slot.registration, topic), number);
        }
        self.insert(number, slot);
    }

    fn insert(&mut self, number: u64, slot: Slot) {
        if let Some(before) = self.waiting.remove(number) {
            self.loads.remove(number, &before);
        }
        self.loads.add(number, &slot);
        self.waiting.insert(number, slot);
    }

    /// A message does not wait any more.
    pub(super) fn unwait(&mut self, number: u64) -> Option<Slot> {
        let slot = self.waiting.remove(number)?;
        self.loads.remove(number, &slot);
        if let Some(topic) = slot.topic.clone() {
            let name = (slot.registration, topic);
            if self.topics.get(&name) == Some(&number) {
                self.topics.remove(&name);
            }
        }
        Some(slot)
    }

    /// A message that was withdrawn waits again; a newer one of its Topic keeps the Topic.
    pub(super) fn wait_again(&mut self, number: u64, slot: Slot) {
        if slot.owed != Owed::Own {
            // Shares may have ended that were not written any more.
            self.shares_changed.insert(number);
        }
        match slot.topic.clone() {
            Some(topic) if self.topics.contains_key(&(slot.registration, topic.clone())) => {
                self.insert(number, slot);
            }
            Some(_) | None => self.wait(number, slot),
        }
    }

    /// Takes a message out of the queue before it is written; `None`: it is not there.
    pub(super) fn unqueue(&mut self, number: u64) -> Option<Queued> {
        let queued = self.queue.messages.remove(&number)?;
        self.queue.bytes -= queued.message.body.len();
        Some(queued)
    }

    /// A message with TTL 0 can be loaded for a while.
    pub(super) fn keep_volatile(&mut self, message: Arc<PushMessage>, owed: Owed) {
        self.volatile.insert(message.id.0, (message, owed));
        if self.volatile.len() > VOLATILE {
            self.volatile.pop_first();
        }
    }

    /// A message expires before its time, to make room for newer ones of its registration.
    pub(super) fn crowd_out(&mut self, own: DeviceId, owed: &Owed, number: u64) {
        for &device in owed.devices(&own) {
            self.held.push_back(Arrival::CrowdedOut(device, MessageId(number)));
        }
    }

    /// A message is not to be delivered, to whomever it was; `own` is the device of its registration.
    pub(super) fn withdraw(&mut self, own: DeviceId, owed: &Owed, number: u64) {
        for &device in owed.devices(&own) {
            self.held.push_back(Arrival::Withdrawn(device, MessageId(number)));
        }
    }
}
