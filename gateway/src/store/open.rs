//! Reading back what a database holds, setting aside what cannot be read, and starting the committer.

use std::{
    collections::HashMap,
    io,
    path::Path,
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use tokio::sync::mpsc;

use super::{
    Accounts, Archive, Backlog, FORMAT, Intake, Ledger, Meta, OpenError, Space, Store,
    committer::{self, Pace, RECORD_TIME_MS},
    disk::Disk,
    key, proportion,
    record::{self, Flaw, MessageHead, Reserve},
    seal::Seal,
    shares::Owed,
    state::{ARRIVALS, Core, Mode, Slot, State},
};
use crate::model::{DeviceId, MessageId, Moment, Pending, Ttl, UnixTime};

/// Opens or creates the store below `dir`, or a copy in `scratch` as long as the disk cannot be written to.
pub(super) fn store(
    dir: &Path,
    scratch: Option<&Path>,
    now: impl FnOnce(UnixTime) -> Moment,
    pace: Pace,
) -> Result<Store, OpenError> {
    let mut disk = Disk::open(dir, scratch)?;
    let path = disk.path();
    let failed = |error: io::Error| OpenError::Io(path.clone(), error.to_string());
    let reserve = read_reserve(&disk).map_err(failed)?;
    let newest = match &reserve {
        Some((_, _, Ok(Reserve { newest, .. }))) => *newest,
        Some((.., Err(_))) | None => UnixTime::default(),
    };
    let now = now(newest);
    let mut found = Found::new(now);
    found.read_meta(&disk, reserve).map_err(failed)?;
    if let Some(format) = found.format.filter(|format| *format > FORMAT) {
        disk.close();
        return Err(OpenError::Newer(path, format));
    }
    if disk.stands_in() && (found.format.is_none() || found.token_key.is_none()) {
        return Err(failed(io::Error::other("a new database cannot be written: the disk refuses it")));
    }
    let mut live = 0;
    let scanned = disk.scan(|key, value| {
        live += (key.len() + value.len()) as u64;
        found.see(key, value);
    });
    scanned.map_err(failed)?;
    found.end_orphans(&disk).map_err(failed)?;
    found.share_out();
    let token_key = found.complete(&disk).map_err(failed)?;
    let size = disk.size().map_err(failed)?;
    if !disk.stands_in() && size > proportion::at_rest(live) {
        tracing::info!(size, live, "the database has grown out of proportion; writing it anew");
        if let Err(error) = disk.rebuild() {
            tracing::warn!(%error, "the database could not be written anew; going on with the old one");
            if !disk.is_open() {
                disk = Disk::open(dir, scratch)?;
            }
        }
    }
    if disk.stands_in() {
        // As after a batch that failed: the committer probes the disk, and opens the true one.
        (found.state.mode, found.state.broken) = (Mode::Failed, true);
    }

    let (arrivals, receiver) = mpsc::channel(ARRIVALS);
    let newest = found.state.newest;
    // What was accepted on another word than this clock's is judged again when it can be.
    found.state.doubtful = if now.trusted { 0 } else { found.state.next };
    let core = Arc::new(Core {
        arrivals,
        disk,
        epoch: now.instant,
        pace,
        seal: Seal::new(&token_key),
        state: Mutex::new(found.state),
        work: Condvar::new(),
    });
    Ok(Store {
        accounts: Accounts(Arc::clone(&core)),
        archive: Archive(Arc::clone(&core)),
        backlog: Backlog { arrivals: Some(receiver), core: Arc::clone(&core), restored: found.restored },
        closer: committer::start(&core).map_err(failed)?,
        intake: Intake(Arc::clone(&core)),
        ledger: Ledger(core),
        newest,
    })
}

/// What cannot be read, what it should have been, and why it is not.
type Odd = (Vec<u8>, &'static str, Option<Flaw>);

/// A key, its value, and what that says.
type ReadReserve = (sled::IVec, sled::IVec, Result<Reserve, Flaw>);

fn read_reserve(disk: &Disk) -> io::Result<Option<ReadReserve>> {
    let key = Meta::Reserve.key();
    Ok(disk.read(&key)?.map(|value| {
        let reserve = record::decode(&key, &value);
        (key, value, reserve)
    }))
}

/// What was found on disk.
struct Found {
    format: Option<u32>,
    now: Moment,
    /// By key.
    odd: HashMap<Vec<u8>, Odd>,
    restored: Vec<Pending>,
    shares: HashMap<u64, Vec<DeviceId>>,
    state: State,
    token_key: Option<[u8; 32]>,
}

impl Found {
    fn new(now: Moment) -> Self {
        let state = State { next: 1, wall: now.wall, ..State::default() };
        let (odd, restored, shares) = (HashMap::new(), Vec::new(), HashMap::new());
        Self { format: None, now, odd, restored, shares, state, token_key: None }
    }

    /// Reads the format first: nothing else may be touched when it is a newer one.
    fn read_meta(&mut self, disk: &Disk, reserve: Option<ReadReserve>) -> io::Result<()> {
        let mut odd = Vec::new();
        let read = |meta: Meta| -> io::Result<Option<(sled::IVec, sled::IVec)>> {
            let key = meta.key();
            Ok(disk.read(&key)?.map(|value| (key, value)))
        };
        if let Some((key, value)) = read(Meta::Format)? {
            match record::decode(&key, &value) {
                Ok(format) => self.format = Some(format),
                Err(flaw) => odd.push((key, value, flaw)),
            }
        }
        if let Some((key, value)) = read(Meta::TokenKey)? {
            match record::decode(&key, &value) {
                Ok(token_key) => self.token_key = Some(token_key),
                Err(flaw) => odd.push((key, value, flaw)),
            }
        }
        if let Some((key, value, reserve)) = reserve {
            match reserve {
                Ok(Reserve { limit, newest }) => {
                    (self.state.next, self.state.limit) = (limit, limit);
                    (self.state.newest, self.state.recorded) = (newest, newest);
                }
                Err(flaw) => {
                    // Where no number can have been: far above any that was counted up to by now.
                    self.state.next = self.now.wall.0 << 16;
                    odd.push((key, value, flaw));
                }
            }
        }
        for (key, value, flaw) in odd {
            self.odd.insert(key.to_vec(), (value.to_vec(), "a record of the store itself", Some(flaw)));
        }
        Ok(())
    }

    /// Takes in one key of the database.
    fn see(&mut self, key: &[u8], value: &[u8]) {
        let space = key.first().and_then(|first| {
            [Space::Address, Space::Device, Space::Floor, Space::Group, Space::Habit, Space::History]
                .into_iter()
                .chain([Space::Message, Space::Meta, Space::Preferences, Space::Quarantine])
                .chain([Space::Registration, Space::Session, Space::Shares, Space::Tally])
                .chain([Space::Tombstone, Space::Untold])
                .find(|space| *space as u8 == *first)
        });
        let what = match space {
            Some(Space::Address) => "the address of a registration",
            Some(Space::Device) => "a device",
            Some(Space::Floor) => "the floor of a device",
            Some(Space::Group) => "a group",
            Some(Space::Habit) => "what was learnt of a device",
            Some(Space::History) => "what happened to a device",
            Some(Space::Message) => "a push message",
            Some(Space::Preferences) => "a device's preferences",
            Some(Space::Registration) => "a registration",
            Some(Space::Session) => "a session",
            Some(Space::Shares) => "the shares of a push message",
            Some(Space::Tally) => "what was counted of a device",
            Some(Space::Tombstone) => "a tombstone",
            Some(Space::Untold) => "what a device is still to be told",
            // Read already, or never.
            Some(Space::Meta | Space::Quarantine) => return,
            None => "something unknown",
        };
        let seen = match space {
            Some(Space::Message) => self.see_message(key, value),
            Some(Space::Shares) => self.see_shares(key, value),
            Some(space) => self.state.accounts.load(space, key, value),
            None => Err(Flaw::Body),
        };
        if let Err(flaw) = seen {
            self.odd.insert(key.to_vec(), (value.to_vec(), what, Some(flaw)));
        }
    }

    fn see_message(&mut self, key: &[u8], value: &[u8]) -> Result<(), Flaw> {
        let (head, body) = record::decode_with::<MessageHead<'_>>(key, value)?;
        let number = number_of(key)?;
        if head.trusted {
            // Whatever wrote it has recorded the time as well, if that was older than this.
            self.state.trusted_at(head.accepted, RECORD_TIME_MS);
        }
        let left = remaining(head.ttl, head.accepted, head.trusted, self.now);
        let (registration, topic) = (head.registration, head.topic.map(std::borrow::Cow::into_owned));
        self.restored.push(Pending {
            device: head.device,
            expires: self.now.instant + left,
            id: MessageId(number),
            registration,
            size: u32::try_from(body.len()).unwrap_or(u32::MAX),
            urgency: head.urgency,
            volatile: false,
        });
        let size = u16::try_from(body.len()).unwrap_or(u16::MAX);
        let expires_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        let device = head.device;
        self.state.wait(number, Slot { device, expires_ms, owed: Owed::Own, registration, size, topic });
        self.state.next = self.state.next.max(number.saturating_add(1));
        Ok(())
    }

    fn see_shares(&mut self, key: &[u8], value: &[u8]) -> Result<(), Flaw> {
        self.shares.insert(number_of(key)?, record::decode(key, value)?);
        Ok(())
    }

    /// Gives each member of a group its share of what waits: as it was written, but to nobody who has left
    /// since. Where nothing can be read of it, every member gets the message rather than none.
    fn share_out(&mut self) {
        let Self { restored, shares, state, .. } = self;
        state.shares_on_disk = shares.keys().copied().collect();
        let mut shared = Vec::with_capacity(restored.len());
        for pending in restored.drain(..) {
            let Some(group) = state.accounts.groups.get(&pending.device) else {
                shared.push(pending);
                continue;
            };
            let number = pending.id.0;
            let mut members = group.members.clone();
            match shares.get(&number) {
                Some(left) => members.retain(|member| left.contains(member)),
                None => drop(state.shares_changed.insert(number)),
            }
            if members.is_empty() {
                state.unwait(number);
                state.deletions.push(number);
                continue;
            }
            shared.extend(members.iter().map(|&device| Pending { device, ..pending }));
            state.waiting.change_owed(number, |owed| *owed = Owed::Shared(members.into()));
        }
        *restored = shared;
        // Shares of no message: deleting once more what is not there takes them along.
        let State { deletions, waiting, .. } = state;
        deletions.extend(shares.keys().filter(|number| !waiting.contains(**number)));
        deletions.sort_unstable();
        deletions.dedup();
    }

    /// A message of a registration that is not there can go nowhere. Mostly the registration has been removed,
    /// and there was no time to delete all that waited for it: that is done now. Where a registration cannot be
    /// read, the message may still be of use to somebody who repairs that.
    fn end_orphans(&mut self, disk: &Disk) -> io::Result<()> {
        let Self { odd, restored, state, .. } = self;
        let mut orphans = Vec::new();
        restored.retain(|pending| {
            let known = state.accounts.registration(pending.registration).is_some();
            if !known {
                orphans.push(pending.id.0);
            }
            known
        });
        if orphans.is_empty() {
            return Ok(());
        }
        for number in &orphans {
            state.unwait(*number);
        }
        if !odd.keys().any(|key| key.first() == Some(&(Space::Registration as u8))) {
            tracing::info!(messages = orphans.len(), "deleting what waited for removed registrations");
            state.deletions.append(&mut orphans);
            return Ok(());
        }
        for number in orphans {
            let key = super::message_key(number);
            if let Some(value) = disk.read(&key)? {
                odd.insert(key.to_vec(), (value.to_vec(), "a push message without registration", None));
            }
        }
        Ok(())
    }

    /// Writes down what a new database lacks, and moves what cannot be read out of the way. An existing
    /// database that is whole is not written to. Gives the key of the message tokens.
    fn complete(&mut self, disk: &Disk) -> io::Result<[u8; 32]> {
        let mut batch = sled::Batch::default();
        for (odd, (value, what, flaw)) in &self.odd {
            let flaw = flaw.map(|flaw| flaw.to_string()).unwrap_or_default();
            // The whole key of an endpoint would be a capability.
            let start = odd.get(..4).unwrap_or(odd);
            tracing::error!(key = ?start, what, flaw, "cannot be read; setting it aside");
            batch.remove(odd.as_slice());
            batch.insert(key(Space::Quarantine, odd), value.as_slice());
        }
        if self.format.is_none() {
            disk.sync_new()?;
            let key = Meta::Format.key();
            let value = record::encode(&key, &self.state.accounts.format());
            batch.insert(key, value);
        }
        let token_key = match self.token_key {
            Some(token_key) => token_key,
            None => {
                let mut fresh = [0; 32];
                getrandom::fill(&mut fresh).map_err(|error| io::Error::other(error.to_string()))?;
                let key = Meta::TokenKey.key();
                let value = record::encode(&key, &fresh);
                batch.insert(key, value);
                fresh
            }
        };
        // Where the disk cannot be written to, what cannot be read lies there until the next start.
        let is_lacking = self.format.is_none() || self.token_key.is_none() || !self.odd.is_empty();
        if is_lacking && !disk.stands_in() {
            disk.write([batch])?;
        }
        Ok(token_key)
    }
}

/// The number in the key of a message, or of its shares.
fn number_of(key: &[u8]) -> Result<u64, Flaw> {
    key.get(1..).and_then(|rest| rest.try_into().ok()).map(u64::from_be_bytes).ok_or(Flaw::Body)
}

/// How long a message may still wait: its TTL is counted down over a restart only by a clock that was
/// trusted at both ends; the promise is kept rather than the deadline, until [`Backlog::load`] knows better.
fn remaining(ttl: Ttl, accepted: UnixTime, trusted: bool, now: Moment) -> Duration {
    let ttl = Duration::from_secs(ttl.as_secs().into());
    if trusted && now.trusted {
        ttl.saturating_sub(Duration::from_millis(now.wall.0.saturating_sub(accepted.0)))
    } else {
        ttl
    }
}
