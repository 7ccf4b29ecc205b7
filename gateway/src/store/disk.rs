//! The database: opened with care, written with one fdatasync per batch, given up and opened again
//! after an error. What it does about sled's habits is said where it is done.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError, RwLock},
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg, PosixFadviseAdvice, posix_fadvise},
};

use super::{OpenError, rebuild, stand_in};

/// sled's page cache; what waits lies on disk, and most messages leave before they are read back.
const CACHE_BYTES: u64 = 2 << 20;

/// How often a key is asked for after it was written or read, so that sled's cache notices.
const TOUCHES: usize = 5;

/// What a probe writes before the database is tried again: more than sled needs to open.
const PROBE_BYTES: usize = 1 << 20;

/// How many milliseconds sled's threads are given to let go of the file.
const RELEASE_TRIES: u32 = 5_000;

/// The database below `<state>/db`, or its place while it cannot be used.
#[derive(Debug)]
pub(super) struct Disk {
    files: RwLock<Option<Files>>,
    /// Held while a batch is written, and while a copy is made of what lies between two batches.
    quiet: Mutex<()>,
    state: PathBuf,
    /// Stands in for a disk that fails.
    #[cfg(test)]
    pub(super) faults: Faults,
}

/// What to fail, and what was done.
#[cfg(test)]
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// Batches that were made durable.
    pub(super) commits: std::sync::atomic::AtomicU64,
    /// No write begins while it is held.
    pub(super) gate: std::sync::Mutex<()>,
    /// Every fdatasync fails, after the write.
    pub(super) sync: std::sync::atomic::AtomicBool,
    /// Every write fails, before anything is written.
    pub(super) write: std::sync::atomic::AtomicBool,
}

#[cfg(test)]
impl Faults {
    fn strike(fault: &std::sync::atomic::AtomicBool) -> io::Result<()> {
        if fault.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(io::Error::from_raw_os_error(Errno::EIO as i32));
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Files {
    db: sled::Db,
    /// sled's log again, on a descriptor of our own: `flush` calls sync_file_range, which promises nothing.
    log: File,
    /// Held as long as the database is; sled's own lock comes too late to protect the sweep before it.
    lock: Flock<File>,
    /// This is a copy: the disk could be read, but not written to.
    stands_in: bool,
}

impl Disk {
    /// Opens or creates `<state>/db`. Where the disk can be read but not written to, a copy of it in `scratch`, if
    /// that is given: then [`stands_in`](Self::stands_in) is true until it was [`reopen`](Self::reopen)ed.
    pub(super) fn open(state: &Path, scratch: Option<&Path>) -> Result<Self, OpenError> {
        create_dir(state).map_err(|error| io_error(state, &error))?;
        let lock = lock(state)?;
        let disk = Self {
            files: RwLock::new(None),
            quiet: Mutex::default(),
            state: state.to_owned(),
            #[cfg(test)]
            faults: Faults::default(),
        };
        let files = open_locked(state, lock).or_else(|(error, lock)| disk.stand_in(scratch, error, lock))?;
        *disk.files.write().unwrap_or_else(PoisonError::into_inner) = Some(files);
        Ok(disk)
    }

    /// Copies what could not be opened, unless the disk works and something else is wrong.
    fn stand_in(
        &self,
        scratch: Option<&Path>,
        error: OpenError,
        lock: Flock<File>,
    ) -> Result<Files, OpenError> {
        let Some(scratch) = scratch else { return Err(error) };
        if self.probe().is_ok() {
            return Err(error);
        }
        match stand_in::open(&self.state, scratch) {
            Ok((db, log)) => {
                tracing::error!(%error, "the disk refuses to be written to; delivering what is stored, and refusing messages until it works again");
                Ok(Files { db, log, lock, stands_in: true })
            }
            Err(why) => {
                tracing::error!(error = %why, scratch = %scratch.display(), "nor can what is stored be copied to where it could be opened");
                Err(error)
            }
        }
    }

    /// Whether this is a copy that nobody may write to.
    pub(super) fn stands_in(&self) -> bool {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        files.as_ref().is_some_and(|files| files.stands_in)
    }

    /// Where the database lies, for messages.
    pub(super) fn path(&self) -> PathBuf {
        self.state.join("db")
    }

    /// Where everything lies.
    pub(super) fn state(&self) -> &Path {
        &self.state
    }

    /// Makes the files of a new database safe: a file is only safe when its directory is, up to the
    /// first directory that was there before.
    pub(super) fn sync_new(&self) -> io::Result<()> {
        let path = self.path();
        for file in ["db", "conf"] {
            File::open(path.join(file))?.sync_all()?;
        }
        let above = self.state.canonicalize()?;
        for dir in [Some(&*path), Some(&*self.state), above.parent()].into_iter().flatten() {
            File::open(dir)?.sync_all()?;
        }
        Ok(())
    }

    /// Reads one value, which is not needed again soon.
    ///
    /// A backlog is read in order, and each value counts as one access to a page of a dozen: sled's cache would keep
    /// four or five pages in each shard (see [`scan`](Self::scan)), where it keeps one with [`TOUCHES`] more.
    pub(super) fn read(&self, key: &[u8]) -> io::Result<Option<sled::IVec>> {
        let value = self.with(|files| {
            let value = files.db.get(key)?;
            touch(&files.db, key)?;
            Ok(value)
        });
        collect_garbage(1);
        value
    }

    /// Shows every key and value, in order.
    ///
    /// sled's cache forgets only where 64 accesses have come together in one of its 256 shards, and a
    /// scan counts as one access per page of a dozen records: it would keep everything. Asking for each
    /// key once more makes it count.
    pub(super) fn scan(&self, mut each: impl FnMut(&[u8], &[u8])) -> io::Result<()> {
        self.with(|files| {
            for item in files.db.iter() {
                let (key, value) = item?;
                each(&key, &value);
                files.db.contains_key(&key)?;
            }
            Ok(())
        })
    }

    /// Shows every key and value as they lie between two batches: the next batch waits.
    pub(super) fn copy(&self, each: impl FnMut(&[u8], &[u8])) -> io::Result<()> {
        let _quiet = self.quiet.lock().unwrap_or_else(PoisonError::into_inner);
        self.scan(each)
    }

    /// Makes batches durable, in this order and each atomic by itself, with one fdatasync. After an error the
    /// database must not be written to again, but [`reopen`](Self::reopen)ed.
    pub(super) fn write(&self, batches: impl IntoIterator<Item = sled::Batch>) -> io::Result<()> {
        self.write_fresh(batches, &[])
    }

    /// Like [`write`](Self::write); the batches bring these keys, whose values are not needed soon.
    ///
    /// sled's cache counts two accesses to a page for each value that is put into it, about 20 until the page is
    /// full and the next one begins, and so it would keep three or four full pages in each shard (see
    /// [`scan`](Self::scan)). With [`TOUCHES`] more it keeps one, which it never gives up.
    pub(super) fn write_fresh(
        &self,
        batches: impl IntoIterator<Item = sled::Batch>,
        fresh: &[sled::IVec],
    ) -> io::Result<()> {
        let _quiet = self.quiet.lock().unwrap_or_else(PoisonError::into_inner);
        self.with(|files| {
            #[cfg(test)]
            drop(self.faults.gate.lock());
            #[cfg(test)]
            Faults::strike(&self.faults.write)?;
            if files.stands_in {
                return Err(io::Error::other("what was opened is a copy: nothing written to it would last"));
            }
            for batch in batches {
                files.db.apply_batch(batch)?;
            }
            // Before the flush, because whoever looks at a page that is too full splits it.
            for key in fresh {
                touch(&files.db, key)?;
            }
            files.db.flush()?;
            #[cfg(test)]
            Faults::strike(&self.faults.sync)?;
            files.log.sync_data()?;
            collect_garbage(64);
            #[cfg(test)]
            self.faults.commits.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            Ok(())
        })
    }

    /// Lets go of the database, and opens it again from what is truly on disk.
    pub(super) fn reopen(&self) -> Result<(), OpenError> {
        self.probe().map_err(|error| io_error(&self.state, &error))?;
        let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
        let lock = match files.take() {
            // It goes when there is something better: what is stored can be read meanwhile.
            Some(Files { db, log, lock, stands_in: true }) => {
                return match open_locked(&self.state, lock) {
                    Ok(opened) => {
                        *files = Some(opened);
                        let_go(db);
                        Ok(())
                    }
                    Err((error, lock)) => {
                        *files = Some(Files { db, log, lock, stands_in: true });
                        Err(error)
                    }
                };
            }
            Some(Files { db, log, lock, stands_in: false }) => {
                give_up(db, &self.path());
                // The kernel may hold pages as clean that it failed to write: a log continued behind
                // such a page would be cut off there after a power failure.
                log.sync_data().ok();
                posix_fadvise(&log, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).ok();
                lock
            }
            None => self::lock(&self.state)?,
        };
        match open_locked(&self.state, lock) {
            Ok(opened) => *files = Some(opened),
            // The lock goes with the error; nobody else is expected to take it meanwhile.
            Err((error, _lock)) => return Err(error),
        }
        Ok(())
    }

    /// Bytes of the database's files.
    pub(super) fn size(&self) -> io::Result<u64> {
        // Not while two databases change places.
        let _files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = 0;
        for entry in std::fs::read_dir(self.path())? {
            bytes += entry?.metadata()?.len();
        }
        Ok(bytes)
    }

    /// Bytes of its log alone: nearly all of it, for little.
    pub(super) fn length(&self) -> io::Result<u64> {
        self.with(|files| Ok(files.log.metadata()?.len()))
    }

    /// Whether it can be read, and written to if the disk lets us.
    pub(super) fn is_open(&self) -> bool {
        self.files.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Writes what lives to a new database, which takes the place of this one. The next batch waits for all of it,
    /// reads only until the two have changed places. After an error the old one goes on, unless
    /// [`is_open`](Self::is_open) says that it is to be [`reopen`](Self::reopen)ed.
    pub(super) fn rebuild(&self) -> io::Result<()> {
        let _quiet = self.quiet.lock().unwrap_or_else(PoisonError::into_inner);
        self.with(|files| rebuild::Builder::copy(&self.state, &files.db))?;
        let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
        let Some(Files { db, log, lock, .. }) = files.take() else {
            return Err(io::Error::other("the database is closed"));
        };
        give_up(db, &self.path());
        drop(log);
        let placed = rebuild::take_place(&self.state);
        let opened = open_locked(&self.state, lock);
        *files = Some(opened.map_err(|(error, _lock)| io::Error::other(error))?);
        placed
    }

    /// Closes the database; every later call fails.
    pub(super) fn close(&self) {
        let files = self.files.write().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Files { db, log, lock, .. }) = files {
            give_up(db, &self.path());
            drop((log, lock));
        }
    }

    /// Whether files can be written and synced at all.
    fn probe(&self) -> io::Result<()> {
        #[cfg(test)]
        Faults::strike(&self.faults.write).and_then(|()| Faults::strike(&self.faults.sync))?;
        let path = self.state.join("probe");
        let probed = std::fs::write(&path, vec![0x55; PROBE_BYTES])
            .and_then(|()| File::open(&path))
            .and_then(|file| file.sync_all());
        // It is removed whether it was written or not, and truncated by the next one if that fails.
        std::fs::remove_file(&path).ok();
        probed
    }

    /// sled panics where a page is not what it expects; that is one more way for a disk to fail.
    fn with<T>(&self, work: impl FnOnce(&Files) -> io::Result<T>) -> io::Result<T> {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        let Some(files) = files.as_ref() else {
            return Err(io::Error::other("the database is closed"));
        };
        catch_unwind(AssertUnwindSafe(|| work(files)))
            .unwrap_or_else(|_| Err(io::Error::other("the database is damaged")))
    }
}

/// Asks for a key often enough that sled's cache lets go of the page before its own.
fn touch(db: &sled::Db, key: &[u8]) -> sled::Result<()> {
    for _ in 0..TOUCHES {
        db.contains_key(key)?;
    }
    Ok(())
}

/// Frees what sled has replaced. Its garbage collector does a little at every 128th operation, but
/// counts a whole batch as one, and falls behind for ever: 4 KB stayed for each message written and
/// deleted. A thread that only reads keeps what it has replaced (whole pages, to a megabyte) until it
/// does something again, so that whoever touches sled passes it on at once.
pub(super) fn collect_garbage(rounds: u32) {
    for _ in 0..rounds {
        crossbeam_epoch::pin().flush();
    }
}

/// Drops a database. sled syncs on drop and panics when that fails, which it may after a failure; and
/// its threads let go of its file, and of the lock on it, a little later.
pub(super) fn give_up(db: sled::Db, path: &Path) {
    let_go(db);
    for _ in 0..RELEASE_TRIES {
        let Ok(file) = File::open(path.join("db")) else {
            return;
        };
        if Flock::lock(file, FlockArg::LockExclusiveNonblock).is_ok() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    tracing::warn!("the database is still locked; it may not open again at once");
}

fn let_go(db: sled::Db) {
    if catch_unwind(AssertUnwindSafe(|| drop(db))).is_err() {
        tracing::warn!("the database did not close cleanly; what was acknowledged is safe");
    }
}

fn io_error(path: &Path, error: &io::Error) -> OpenError {
    OpenError::Io(path.to_owned(), error.to_string())
}

/// Creates a directory that nobody else may enter: bodies are encrypted, endpoints are not.
fn create_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

pub(super) fn lock(state: &Path) -> Result<Flock<File>, OpenError> {
    let path = state.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        // On a read-only disk one that is there will do.
        .or_else(|error| File::open(&path).map_err(|_| error))
        .map_err(|error| io_error(&path, &error))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| {
        if errno == Errno::EWOULDBLOCK {
            OpenError::InUse(state.to_owned())
        } else {
            io_error(&path, &errno.into())
        }
    })
}

/// Opens the database under the lock, which comes back with an error.
fn open_locked(state: &Path, lock: Flock<File>) -> Result<Files, (OpenError, Flock<File>)> {
    let path = state.join("db");
    let opened = rebuild::recover(state)
        .and_then(|()| prepare(&path))
        .map_err(|error| io_error(&path, &error))
        .and_then(|()| open_sled(&path))
        .and_then(|db| {
            let log = path.join("db");
            let file = OpenOptions::new().read(true).write(true).open(&log);
            let file = file.map_err(|error| io_error(&log, &error))?;
            // sled has renamed a new snapshot into place and zeroed the segments that it makes superfluous.
            // Without that snapshot the gap where they were looks like the end of the log, and everything
            // behind it would be dropped: its name must be safe before our first fdatasync makes the zeros so.
            File::open(&path).and_then(|dir| dir.sync_all()).map_err(|error| io_error(&path, &error))?;
            Ok((db, file))
        });
    match opened {
        Ok((db, log)) => Ok(Files { db, log, lock, stands_in: false }),
        Err(error) => Err((error, lock)),
    }
}

/// Makes the directory, and sweeps what a kill left behind while sled wrote it. An unfinished snapshot it would
/// take for a snapshot, an unfinished `conf` for settings, and never open again. `conf` holds nothing but
/// the settings of [`open_sled`], and is written again from them.
pub(super) fn prepare(path: &Path) -> io::Result<()> {
    create_dir(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))?;
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            tracing::info!(file = %entry.path().display(), "removing an unfinished snapshot");
            std::fs::remove_file(entry.path())?;
        }
        if name == "conf" && !is_whole_conf(&std::fs::read(entry.path())?) {
            tracing::info!(file = %entry.path().display(), "removing an unfinished file of settings");
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// `conf` ends in the CRC-32 of what comes before, written after it by a second write.
fn is_whole_conf(conf: &[u8]) -> bool {
    conf.split_last_chunk::<4>()
        .is_some_and(|(rest, sum)| rest.len() > 4 && crc32fast::hash(rest).to_le_bytes() == *sum)
}

/// Opens sled: once more after an error, which may be a passing one (sled truncates its file from two
/// threads while it opens, and its lock may linger), and without a snapshot that is damaged.
pub(super) fn open_sled(path: &Path) -> Result<sled::Db, OpenError> {
    let attempt = || {
        catch_unwind(|| {
            sled::Config::new()
                .path(path)
                .mode(sled::Mode::LowSpace)
                .cache_capacity(CACHE_BYTES)
                .flush_every_ms(None)
                .open()
        })
        .unwrap_or_else(|_| Err(sled::Error::ReportableBug("the database is damaged".to_owned())))
    };
    attempt()
        .or_else(|error| {
            tracing::warn!(%error, path = %path.display(), "opening the database once more");
            set_damaged_snapshots_aside(path)?;
            attempt()
        })
        .map_err(|error| OpenError::Io(path.to_owned(), error.to_string()))
}

/// A snapshot only saves time: without it sled reads its whole log.
fn set_damaged_snapshots_aside(path: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("snap.") && !is_whole(&std::fs::read(entry.path())?) {
            tracing::error!(file = %entry.path().display(), "a snapshot is damaged; rebuilding from the log");
            std::fs::rename(entry.path(), path.join(format!("damaged.{name}")))?;
        }
    }
    Ok(())
}

/// A snapshot ends in its length (8 bytes) and the CRC-32 of what comes before both.
fn is_whole(snapshot: &[u8]) -> bool {
    let Some((rest, sum)) = snapshot.split_last_chunk::<4>() else {
        return false;
    };
    rest.len() > 8 && crc32fast::hash(&rest[..rest.len() - 8]).to_le_bytes() == *sum
}
