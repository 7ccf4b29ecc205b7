//! The ends of messages.

use std::sync::Arc;

use super::state::Core;
use crate::model::{DeviceId, MessageId, Phase};

/// Ends messages.
#[derive(Clone, Debug)]
pub struct Ledger(pub(super) Arc<Core>);

impl Ledger {
    /// Ends messages for a device: `Acked` or `Expired`. A group's message ends with the last share of it.
    /// One that is not written yet is not written at all, and
    /// its commit resolves at once; the deletion of others rides with the next batch, at the latest
    /// after two seconds. Numbers that do not wait are no error.
    pub fn settle(&self, device: DeviceId, ids: &[MessageId], how: Phase) {
        let mut waiters = Vec::new();
        let mut state = self.0.lock();
        let idle = !state.has_ends();
        for &MessageId(number) in ids {
            if !state.settle_share(device, number) {
                continue;
            }
            if state.volatile.remove(&number).is_some() || state.unwait(number).is_none() {
                continue;
            }
            if let Some(mut queued) = state.unqueue(number) {
                waiters.append(&mut queued.waiters);
                state.deletions.extend(queued.drops.into_iter().map(|(old, _)| old));
                continue;
            }
            if let Some(flying) = state.flying.get_mut(&number) {
                waiters.append(&mut flying.waiters);
                state.overtaken |= how == Phase::Acked;
            }
            state.deletions.push(number);
        }
        // The committer sleeps without a limit as long as there is nothing to write.
        if idle && state.has_ends() {
            self.0.work.notify_one();
        }
        drop(state);
        tracing::trace!(%device, count = ids.len(), how = how.as_str(), "settled");
        for waiter in waiters {
            // A sender that has gone away does not need the answer.
            waiter.send(Ok(())).ok();
        }
    }
}
