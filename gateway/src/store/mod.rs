//! The queue of record: sled + postcard, made to keep a promise.
//!
//! Handles that cannot reverse the flow: [`Intake`] appends, [`Backlog`] reads, [`Ledger`] settles,
//! [`Accounts`] holds devices and registrations. All of them queue their writes for one committer.

use std::{
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::sync::mpsc;

use crate::model::{
    AppToken, Coding, Device, DeviceId, EndpointToken, MessageId, MessageToken, Moment, Pending, Phase,
    PushMessage, Registration, RegistrationId, Session, Topic, Ttl, UnixTime, Urgency,
};

/// The opened store: one handle for each kind of work, to be given to the room that does it.
#[derive(Debug)]
pub struct Store {
    /// Devices and registrations.
    pub accounts: Accounts,
    /// What waits.
    pub backlog: Backlog,
    /// Ends the committer in order.
    pub closer: Closer,
    /// New messages.
    pub intake: Intake,
    /// Ends of messages.
    pub ledger: Ledger,
    /// The newest wall time found on disk: the clock's floor.
    pub newest: UnixTime,
}

impl Store {
    /// Opens or creates the database below `dir` and reads back what waits.
    ///
    /// # Errors
    /// [`OpenError`], which names the file and the remedy.
    pub fn open(_dir: &Path, _now: Moment) -> Result<Self, OpenError> {
        unimplemented!()
    }
}

/// Why the store did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{0} is in use by another process: stop it, or let the command speak to it")]
    InUse(std::path::PathBuf),
    /// The file system refused.
    #[error("cannot open {0}: {1}")]
    Io(std::path::PathBuf, String),
}

/// Ends the committer: writes what is queued, then stops.
#[derive(Debug)]
pub struct Closer {}

impl Closer {
    /// Commits everything that is queued and waits until the database is closed. Later appends are `Busy`.
    pub async fn close(self) {
        unimplemented!()
    }
}

/// Appends messages, and takes them back.
#[derive(Clone, Debug)]
pub struct Intake {}

/// A message as admission has checked it, before it has a number.
#[derive(Clone, Debug)]
pub struct NewPush {
    /// Exactly what was sent.
    pub body: bytes::Bytes,
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

/// Resolves when a write is safe: on disk, or not needed any more. Dropping it does not undo the write.
#[derive(Debug)]
pub struct Commit {}

impl std::future::Future for Commit {
    type Output = Result<(), NotStored>;
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        unimplemented!()
    }
}

/// The store could not make a write safe; the sender is to try again later (503).
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotStored {
    /// Shutting down, or more is queued than the disk can take.
    #[error("the store is busy")]
    Busy,
    /// The disk refused: full, read-only, or broken.
    #[error("the disk refused the write")]
    Disk,
}

/// What is known of an endpoint.
#[derive(Clone, Debug)]
pub enum Lookup {
    /// It was a registration's, once: 410.
    Gone,
    /// It is this registration's.
    Live(Arc<Registration>),
    /// Never heard of it: 404.
    Unknown,
}

impl Intake {
    /// Queues a message for the disk and for delivery, both at once. A Topic replaces the waiting
    /// message of the same registration and Topic in the same batch. TTL 0 never touches the disk:
    /// its commit is ready at once.
    ///
    /// # Errors
    /// [`NotStored`]: nothing was queued.
    pub fn append(&self, _push: NewPush, _now: Moment) -> Result<Appended, NotStored> {
        unimplemented!()
    }

    /// Takes a waiting message back (RFC 8030: `DELETE` of the message resource). `None`: there is
    /// no such message (any more), or the token was not made here.
    ///
    /// # Errors
    /// [`NotStored`]: nothing was changed.
    pub fn cancel(&self, _token: &MessageToken) -> Result<Option<Commit>, NotStored> {
        unimplemented!()
    }

    /// What an endpoint is.
    #[must_use]
    pub fn lookup(&self, _endpoint: &EndpointToken) -> Lookup {
        unimplemented!()
    }
}

/// Reads what waits.
#[derive(Debug)]
pub struct Backlog {}

/// A change of what waits, in order.
#[derive(Clone, Debug)]
pub enum Arrival {
    /// A message was accepted; `replaces` is the one whose Topic it takes over.
    Accepted {
        /// The message, for delivery without a read.
        message: Arc<PushMessage>,
        /// Not to be delivered any more, unless it is in flight already.
        replaces: Option<MessageId>,
    },
    /// A message is not to be delivered (any more): cancelled, its registration ended, or its write
    /// failed and its sender was told so.
    Withdrawn(DeviceId, MessageId),
}

impl Backlog {
    /// The changes since the store was opened. Can be taken once.
    ///
    /// # Panics
    /// When taken twice.
    pub fn arrivals(&mut self) -> mpsc::Receiver<Arrival> {
        unimplemented!()
    }

    /// Reads a message that waits, from the commit queue or from the disk. `None`: it does not wait any more.
    ///
    /// # Errors
    /// [`NotStored::Disk`] when it cannot be read now.
    pub fn load(&self, _id: MessageId) -> Result<Option<Arc<PushMessage>>, NotStored> {
        unimplemented!()
    }

    /// What waited on disk when the store was opened, in order of arrival. Can be taken once.
    pub fn restored(&mut self) -> Vec<Pending> {
        unimplemented!()
    }

    /// The public name of a message.
    #[must_use]
    pub fn token(&self, _id: MessageId) -> MessageToken {
        unimplemented!()
    }
}

/// Ends messages.
#[derive(Clone, Debug)]
pub struct Ledger {}

impl Ledger {
    /// Ends messages: `Acked` or `Expired`. One that is not written yet is not written at all, and
    /// its commit resolves at once; the deletion of others rides with the next batch, at the latest
    /// after two seconds.
    pub fn settle(&self, _ids: &[MessageId], _how: Phase) {
        unimplemented!()
    }
}

/// Devices and registrations. Reads answer from memory.
#[derive(Clone, Debug)]
pub struct Accounts {}

impl Accounts {
    /// A device.
    #[must_use]
    pub fn device(&self, _id: DeviceId) -> Option<Arc<Device>> {
        unimplemented!()
    }
    /// All devices, oldest first.
    #[must_use]
    pub fn devices(&self) -> Vec<Arc<Device>> {
        unimplemented!()
    }
    /// Adds or changes a device.
    ///
    /// # Errors
    /// [`NotStored`]: nothing was changed.
    pub fn put_device(&self, _device: Device) -> Result<Commit, NotStored> {
        unimplemented!()
    }
    /// Removes a device, its session, its registrations (their endpoints become tombstones) and
    /// their waiting messages, all in one batch. `None`: no such device.
    ///
    /// # Errors
    /// [`NotStored`]: nothing was changed.
    pub fn remove_device(&self, _id: DeviceId) -> Result<Option<Commit>, NotStored> {
        unimplemented!()
    }
    /// A registration.
    #[must_use]
    pub fn registration(&self, _id: RegistrationId) -> Option<Arc<Registration>> {
        unimplemented!()
    }
    /// What an endpoint is.
    #[must_use]
    pub fn lookup(&self, _endpoint: &EndpointToken) -> Lookup {
        unimplemented!()
    }
    /// The registration of a device's app instance.
    #[must_use]
    pub fn registration_of(&self, _device: DeviceId, _token: &AppToken) -> Option<Arc<Registration>> {
        unimplemented!()
    }
    /// All registrations of a device, or of all, oldest first.
    #[must_use]
    pub fn registrations(&self, _device: Option<DeviceId>) -> Vec<Arc<Registration>> {
        unimplemented!()
    }
    /// Adds or changes a registration.
    ///
    /// # Errors
    /// [`NotStored`]: nothing was changed.
    pub fn put_registration(&self, _registration: Registration) -> Result<Commit, NotStored> {
        unimplemented!()
    }
    /// Ends a registration: tombstone, and its waiting messages are withdrawn. `None`: no such registration.
    ///
    /// # Errors
    /// [`NotStored`]: nothing was changed.
    pub fn remove_registration(&self, _id: RegistrationId) -> Result<Option<Commit>, NotStored> {
        unimplemented!()
    }
    /// A device's durable session.
    #[must_use]
    pub fn session(&self, _device: DeviceId) -> Option<Session> {
        unimplemented!()
    }
    /// Writes down, or with `None` forgets, a device's session.
    ///
    /// # Errors
    /// [`NotStored`]: nothing was changed.
    pub fn put_session(&self, _device: DeviceId, _session: Option<Session>) -> Result<Commit, NotStored> {
        unimplemented!()
    }
}
