//! What happens after a failed write: everything that is not on disk is taken back at once; when the
//! disk works again, the keys of the failed batch are put right before anything else is written.
//!
//! A batch whose fsync failed may or may not be on disk after the database was opened again, so nothing
//! is assumed: each of its keys gets the value that memory holds after the rollback.

use std::sync::Arc;

use super::{
    Waiter, backlog,
    committer::Job,
    message_key,
    shares::shares_key,
    state::{Core, Mode, Slot, State, Undo},
};
use crate::model::DeviceId;

/// What is to be put right when the disk works again.
#[derive(Debug, Default)]
pub(super) struct Repair {
    /// Account keys of failed batches.
    keys: Vec<sled::IVec>,
    /// Messages of failed batches: their senders were told to try again.
    failed: Vec<Failed>,
    /// Messages that wait again.
    revived: Vec<u64>,
}

/// A message whose batch failed.
#[derive(Debug)]
struct Failed {
    number: u64,
    /// What it was to replace, or what was to give way to it.
    drops: Vec<u64>,
    /// Itself as a waiting message.
    slot: Slot,
}

impl State {
    /// Takes back everything that is not on disk; gives those who wait for it.
    pub(super) fn fail(&mut self, job: Job) -> Vec<Waiter> {
        let mut waiters = job.waiters;
        waiters.append(&mut self.queue.waiters);
        // From the newest change to the oldest: messages in the queue, what was queued with them, the
        // messages of the batch, and what was in the batch with them.
        while let Some((number, queued)) = self.queue.messages.pop_last() {
            waiters.extend(queued.waiters);
            if let Some(slot) = self.unwait(number) {
                self.withdraw(queued.message.device, &slot.owed, number);
            }
            queued.drops.into_iter().for_each(|dropped| self.revive(dropped));
        }
        self.queue.bytes = 0;
        self.queue.writes.clear();
        // Nobody has left after all.
        self.queue.releases.clear();
        let queued = std::mem::take(&mut self.queue.undo);
        self.roll_back(queued);
        while let Some((number, flying)) = self.flying.pop_last() {
            waiters.extend(flying.waiters);
            match self.unwait(number) {
                Some(slot) => {
                    self.withdraw(flying.message.device, &slot.owed, number);
                    let drops = flying.drops.iter().map(|(old, _)| *old).collect();
                    self.repair.failed.push(Failed { number, drops, slot });
                    flying.drops.into_iter().for_each(|dropped| self.revive(dropped));
                }
                // It was settled meanwhile, so what it replaced is to be nowhere either.
                None => self.deletions.extend(flying.drops.into_iter().map(|(old, _)| old)),
            }
        }
        self.roll_back(job.undo);
        self.repair.keys.extend(job.writes.into_iter().map(|(key, _)| key));
        self.shares_changed.extend(job.shares.into_iter().map(|(number, _)| number));
        self.deletions.extend(job.deletions);
        self.deletions.append(&mut self.queue.cancelled);
        let Self { deletions, waiting, .. } = self;
        deletions.retain(|number| !waiting.contains(*number));
        self.queue.reserve = false;
        waiters
    }

    fn roll_back(&mut self, undo: Vec<Undo>) {
        for undo in undo.into_iter().rev() {
            match undo {
                Undo::Account(undo) => self.accounts.undo(undo),
                Undo::Wait(number, slot) => self.revive((number, slot)),
            }
        }
    }

    fn revive(&mut self, (number, slot): (u64, Slot)) {
        self.wait_again(number, slot);
        self.repair.revived.push(number);
    }
}

/// Tries to get the disk back.
pub(super) fn attempt(core: &Core) {
    if core.lock().mode != Mode::Failed {
        return;
    }
    if let Err(error) = core.disk.reopen() {
        tracing::warn!(%error, "the disk does not work yet");
        return;
    }
    // Nothing is accepted meanwhile, so only settlements change the state under our feet.
    let repair = std::mem::take(&mut core.lock().repair);
    if let Err(error) = put_right(core, &repair) {
        tracing::warn!(%error, "the disk does not work yet");
        let mut state = core.lock();
        // What came back counts again, and keeps its place before anything newer.
        state.repair = repair;
        return;
    }
    tracing::info!("the disk works again; accepting messages");
}

fn put_right(core: &Core, repair: &Repair) -> std::io::Result<()> {
    let mut batch = sled::Batch::default();
    {
        let state = core.lock();
        for key in &repair.keys {
            match state.accounts.record(key) {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
    }
    // A batch that is on disk after all has deleted what its messages replaced or crowded out: then those stay.
    let mut adopted = Vec::new();
    for Failed { number, drops, slot } in &repair.failed {
        let key = message_key(*number);
        let Some(value) = core.disk.read(&key)? else { continue };
        // They went together, if they went.
        if let Some(old) = drops.first() {
            if core.disk.read(&message_key(*old))?.is_none() {
                adopted.push((*number, slot.clone(), value));
                continue;
            }
        }
        batch.remove(key);
        batch.remove(shares_key(*number));
    }
    core.disk.write([batch])?;
    let mut found = Vec::new();
    for number in &repair.revived {
        found.push((*number, core.disk.read(&message_key(*number))?));
    }
    let mut state = core.lock();
    for (number, value) in found {
        wait_on(core, &mut state, number, value.as_deref());
    }
    for (number, slot, value) in adopted {
        if state.accounts.registration(slot.registration).is_some() {
            state.wait_again(number, slot);
            wait_on(core, &mut state, number, Some(&value));
        }
    }
    if state.mode == Mode::Failed {
        state.mode = Mode::Open;
    }
    state.broken = false;
    state.queue.reserve = state.next > state.limit;
    core.announce(&mut state);
    Ok(())
}

/// Tells the planner of a message that waits again, or that it is lost.
fn wait_on(core: &Core, state: &mut State, number: u64, value: Option<&[u8]>) {
    let Some(slot) = state.waiting.get(number) else {
        return;
    };
    match value.map(|value| backlog::decode(core, number, slot.expires_ms, value)) {
        Some(Ok((message, _))) => {
            state.present(&Arc::new(message), &slot.owed, None);
        }
        Some(Err(_)) | None => {
            tracing::error!(message = number, "a message was lost when the disk failed");
            let device = state.accounts.registration(slot.registration).map(|found| found.device);
            state.unwait(number);
            state.withdraw(device.unwrap_or(DeviceId(0)), &slot.owed, number);
        }
    }
}
