//! What ingress needs of the store, so that its tests can put a scripted one in its place.

use crate::{
    model::{EndpointToken, MessageId, MessageToken, Moment},
    store::{Commit, Intake, Lookup, NewPush, NotStored},
};

/// The writing end of the queue of record. [`Intake`] says what each does.
pub(super) trait Queue: Send + Sync + 'static {
    /// Resolves when a write is safe.
    type Commit: Future<Output = Result<(), NotStored>> + Send;

    fn append(
        &self,
        push: NewPush,
        now: Moment,
    ) -> Result<(MessageId, MessageToken, Self::Commit), NotStored>;
    fn cancel(&self, token: &MessageToken) -> Result<Option<Self::Commit>, NotStored>;
    fn lookup(&self, endpoint: &EndpointToken) -> Lookup;
}

impl Queue for Intake {
    type Commit = Commit;

    fn append(&self, push: NewPush, now: Moment) -> Result<(MessageId, MessageToken, Commit), NotStored> {
        self.append(push, now).map(|appended| (appended.id, appended.token, appended.commit))
    }

    fn cancel(&self, token: &MessageToken) -> Result<Option<Commit>, NotStored> {
        self.cancel(token)
    }

    fn lookup(&self, endpoint: &EndpointToken) -> Lookup {
        self.lookup(endpoint)
    }
}
