//! The queue of record: sled + postcard, made to keep a promise.
//!
//! Handles that cannot reverse the flow: [`Intake`] appends, [`Backlog`] reads, [`Ledger`] settles,
//! [`Accounts`] holds devices and registrations. All of them change one [`state`] in memory and queue
//! their writes for one [`committer`], which turns whatever has queued up into one atomic batch, makes
//! it durable with one fdatasync, and only then resolves the [`Commit`]s of that batch.
//!
//! # Map
//! [`record`] what a value looks like · [`seal`] the public names of messages · [`disk`] the database
//! itself · [`open`] reading it back · [`state`] and [`registers`] what is known in memory · [`shares`] who
//! of a group has a message still to come · [`loads`] how much waits for whom ·
//! [`committer`] group commit · [`recovery`] what happens when the disk fails · [`intake`], [`backlog`],
//! [`ledger`], [`accounts`] the handles · [`archive`] and [`restore`] backups · [`rebuild`] a database
//! made anew, [`proportion`] when it is · [`stand_in`] a copy to deliver from while the disk cannot be written to.
//!
//! # On disk
//! `<state>/lock` is held (flock) while the store is open. `<state>/db/` is one sled 0.34 database
//! (`db` the log, `conf`, `snap.*`), and everything lies in its default tree, so that one `Batch` over
//! several keyspaces is atomic. The first byte of a key is its keyspace, see [`Space`]; integers in
//! keys are big-endian, so that messages lie in order of arrival.
//!
//! A value is a record: one byte version (1), four bytes CRC-32 (little-endian; over the key, the
//! version and the body), then the body in postcard. The body of a push message follows its record's
//! postcard part as it is, up to the end of the value. A record is at most [`MAX_RECORD`] bytes: sled
//! moves pages above 128 KB, and a page holds up to 20 records, into files that nobody syncs.
//!
//! A record that cannot be read (CRC, version, form), or a message whose registration is missing, is
//! moved to the quarantine keyspace under its old key, byte for byte, and reported as an error; it
//! never keeps the gateway from starting. A database whose `format` is newer than [`FORMAT`] is not
//! touched: [`OpenError::Newer`].
//!
//! # When the disk fails
//! After a failed write or fsync nothing of that batch is acknowledged, ever: its commits resolve
//! [`NotStored::Disk`], its messages are withdrawn, its accounts are rolled back, and so is all that
//! was queued behind it. sled accepts no write after an I/O error, and the kernel may have marked
//! pages as clean that never reached the disk; so the committer waits until a probe file can be
//! written and synced, drops the database together with its cached pages, opens it again from what
//! is truly on disk, puts the keys of the failed batch right, and only then accepts again.
//!
//! A disk that cannot be written to when the gateway starts is the same failure, before the first batch: what is
//! stored is read from a copy in memory until the probe succeeds.

mod accounts;
mod archive;
mod backlog;
mod committer;
mod disk;
mod head_start;
mod intake;
mod ledger;
mod loads;
mod open;
mod proportion;
mod rebuild;
mod record;
mod recovery;
mod registers;
mod restore;
mod seal;
mod shares;
mod slots;
mod stand_in;
mod state;
#[cfg(test)]
mod tests;

use std::{
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::sync::oneshot;

pub use accounts::Accounts;
pub use archive::{Archive, BackupError, Contents, verify};
pub use backlog::{Arrival, Backlog};
pub use committer::{Closer, Heart};
pub use intake::{Appended, Intake, NewPush};
pub use ledger::Ledger;
pub use restore::{RestoreError, restore};

use crate::model::{DeviceId, EndpointToken, Moment, Registration, UnixTime};

/// The newest format of the whole that this program reads. It writes the oldest one that says all that
/// there is to say: 1, or from the first group on 2, because a release that knows no groups would set their
/// records aside and have nobody to deliver their messages to.
const FORMAT: u32 = 2;

/// The longest value, in bytes.
const MAX_RECORD: usize = 6 * 1024;

/// The keyspaces: first byte of every key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
enum Space {
    /// + registration id (8 bytes): its [`crate::model::Address`].
    Address = b'j',
    /// + device id (8 bytes): a [`crate::model::Device`].
    Device = b'd',
    /// + device id (8 bytes), number (4 bytes): a [`crate::model::history::Sheet`].
    History = b'e',
    /// + device id (8 bytes): the lowest urgency that the device wants, a [`crate::model::Urgency`].
    Floor = b'f',
    /// + group id (8 bytes): a [`crate::model::Group`] (from format 2 on).
    Group = b'g',
    /// + device id (8 bytes): a [`crate::model::Habit`].
    Habit = b'h',
    /// + message number (8 bytes): [`record::MessageHead`], then the body.
    Message = b'm',
    /// + a name: see [`Meta`].
    Meta = b'x',
    /// + device id (8 bytes): its [`crate::model::Preferences`].
    Preferences = b'p',
    /// + a whole other key: its value, unreadable, as it was found.
    Quarantine = b'q',
    /// + endpoint token (20 bytes): a [`crate::model::Registration`].
    Registration = b'r',
    /// + device id (8 bytes): a [`crate::model::Session`].
    Session = b's',
    /// + message number (8 bytes): which members of a group have not acknowledged it (from format 2 on).
    Shares = b'a',
    /// + device id (8 bytes): a [`crate::model::Tally`].
    Tally = b'w',
    /// + endpoint token (20 bytes): [`record::Tombstone`].
    Tombstone = b't',
    /// + device id (8 bytes): its [`crate::model::Untold`].
    Untold = b'n',
}

/// The names in the keyspace [`Space::Meta`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Meta {
    /// The version of the whole: a `u32`.
    Format,
    /// 32 random bytes, made once: the key of all message tokens.
    TokenKey,
    /// [`record::Reserve`]: every message number below it may have been given out.
    Reserve,
}

impl Meta {
    fn key(self) -> sled::IVec {
        let name: &[u8] = match self {
            Self::Format => b"format",
            Self::Reserve => b"reserve",
            Self::TokenKey => b"token-key",
        };
        key(Space::Meta, name)
    }
}

/// A key; up to 22 bytes need no allocation.
fn key(space: Space, rest: &[u8]) -> sled::IVec {
    let mut bytes = [0; 22];
    let end = 1 + rest.len();
    match bytes.get_mut(1..end) {
        Some(slot) => {
            slot.copy_from_slice(rest);
            bytes[0] = space as u8;
            sled::IVec::from(&bytes[..end])
        }
        None => sled::IVec::from([&[space as u8], rest].concat()),
    }
}

fn message_key(number: u64) -> sled::IVec {
    key(Space::Message, &number.to_be_bytes())
}

fn device_key(space: Space, device: DeviceId) -> sled::IVec {
    key(space, &device.0.to_be_bytes())
}

fn sheet_key(device: DeviceId, number: u32) -> sled::IVec {
    let mut rest = [0; 12];
    rest[..8].copy_from_slice(&device.0.to_be_bytes());
    rest[8..].copy_from_slice(&number.to_be_bytes());
    key(Space::History, &rest)
}

fn endpoint_key(space: Space, endpoint: &EndpointToken) -> sled::IVec {
    key(space, &endpoint.0)
}

/// The opened store: one handle for each kind of work, to be given to the room that does it.
#[derive(Debug)]
pub struct Store {
    /// Devices and registrations.
    pub accounts: Accounts,
    /// Backups.
    pub archive: Archive,
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
    /// Opens or creates the database below `dir` and reads back what waits. `now` is asked once, with the
    /// newest trusted time that was recorded (1970 if none was): whoever tells the time may doubt it.
    ///
    /// # Errors
    /// [`OpenError`], which names the file and the remedy.
    pub fn open(dir: &Path, now: impl FnOnce(UnixTime) -> Moment) -> Result<Self, OpenError> {
        open::store(dir, None, now, committer::Pace::default())
    }

    /// The same, for whoever delivers: if the disk can be read but not written to, from a copy in `scratch`, which
    /// lies in memory at best. Until the disk works again nothing is accepted: [`NotStored::Disk`].
    ///
    /// # Errors
    /// As [`open`](Self::open); also where the copy has no room in `scratch`.
    pub fn open_readable(
        dir: &Path,
        scratch: &Path,
        now: impl FnOnce(UnixTime) -> Moment,
    ) -> Result<Self, OpenError> {
        open::store(dir, Some(scratch), now, committer::Pace::default())
    }
}

/// Why the store did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{0} is in use by another process: stop it, or let the command speak to it")]
    InUse(PathBuf),
    /// The file system refused.
    #[error("cannot open {0}: {1}")]
    Io(PathBuf, String),
    /// A later release wrote it.
    #[error(
        "{0} has format {1}, but this release knows formats up to {FORMAT}: install the newer release again; nothing was changed"
    )]
    Newer(PathBuf, u32),
}

/// Resolves when a write is safe: on disk, or not needed any more. Dropping it does not undo the write.
#[derive(Debug)]
pub struct Commit(Option<oneshot::Receiver<Result<(), NotStored>>>);

/// Who waits for a write.
type Waiter = oneshot::Sender<Result<(), NotStored>>;

impl Commit {
    /// Nothing has to be written.
    fn ready() -> Self {
        Self(None)
    }

    fn waiting() -> (Waiter, Self) {
        let (waiter, receiver) = oneshot::channel();
        (waiter, Self(Some(receiver)))
    }
}

impl Future for Commit {
    type Output = Result<(), NotStored>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            None => Poll::Ready(Ok(())),
            // A committer that is gone has written nothing more.
            Some(receiver) => {
                Pin::new(receiver).poll(context).map(|outcome| outcome.unwrap_or(Err(NotStored::Disk)))
            }
        }
    }
}

/// The store could not make a write safe; the sender is to try again later (503).
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotStored {
    /// Shutting down, or more is queued than the disk or the planner can take.
    #[error("the store is busy")]
    Busy,
    /// The disk refused: full, read-only, or broken.
    #[error("the disk refused the write")]
    Disk,
    /// As much waits for the registration or its device as may, and nothing gives way.
    #[error("too much waits for this registration or its device")]
    Full,
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
