//! New databases from records: what a backup brings back, and what is left of a database that has grown
//! out of proportion.
//!
//! A new database is built beside the old one and takes its place by renames. Whatever moment the power
//! fails, [`recover`] finds one whole database:
//!
//! | what was done | what lies there | what [`recover`] makes of it |
//! |---|---|---|
//! | records are written | `db`, `db.part` | `db` |
//! | all of it is synced: `db.part` becomes `db.new` | `db`, `db.new` | `db` |
//! | `db` becomes `db.old` | `db.old`, `db.new` | `db.new` |
//! | `db.new` becomes `db` | `db.old`, `db` | `db` |
//! | `db.old` is removed | `db` | `db` |

use std::{
    fs::{self, File},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use super::disk::{self, give_up};

/// Bytes of keys and values that are written at a time.
const CHUNK: usize = 256 << 10;

/// A database that is being built below `<state>/db.part`.
pub(super) struct Builder {
    batch: sled::Batch,
    bytes: usize,
    db: sled::Db,
    path: PathBuf,
    state: PathBuf,
}

impl Builder {
    /// Writes all that is in `from` to `<state>/db.part` and makes it safe; or leaves nothing there.
    pub(super) fn copy(state: &Path, from: &sled::Db) -> io::Result<()> {
        let mut builder = Self::new(state)?;
        // Whatever sled panics at, ours is to be let go of with care.
        let copied = catch_unwind(AssertUnwindSafe(|| {
            for item in from.iter() {
                let (key, value) = item?;
                builder.put(&key, &value)?;
                // As in `Disk::scan`.
                from.contains_key(&key)?;
            }
            builder.write()
        }));
        let copied = copied.unwrap_or_else(|_| Err(io::Error::other("the database is damaged")));
        builder.seal(copied)
    }

    /// The store must be locked.
    pub(super) fn new(state: &Path) -> io::Result<Self> {
        let path = state.join("db.part");
        remove(&path)?;
        disk::prepare(&path)?;
        let db = disk::open_sled(&path).map_err(io::Error::other)?;
        Ok(Self { batch: sled::Batch::default(), bytes: 0, db, path, state: state.to_owned() })
    }

    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.batch.insert(key, value);
        self.bytes += key.len() + value.len();
        if self.bytes >= CHUNK {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        self.bytes = 0;
        self.db.apply_batch(std::mem::take(&mut self.batch))?;
        self.db.flush()?;
        disk::collect_garbage(64);
        Ok(())
    }

    /// Makes it safe, and gives it its name. Nothing may have `<state>/db` open.
    pub(super) fn finish(mut self) -> io::Result<()> {
        let (state, written) = (self.state.clone(), self.write());
        self.seal(written)?;
        take_place(&state)
    }

    /// Makes it safe if all of it was written, and sweeps it away if not.
    fn seal(self, written: io::Result<()>) -> io::Result<()> {
        let Self { db, path, .. } = self;
        give_up(db, &path);
        let sealed = written.and_then(|()| {
            for entry in fs::read_dir(&path)? {
                File::open(entry?.path())?.sync_all()?;
            }
            sync(&path)
        });
        if sealed.is_err() {
            // The room that it takes is what may be missing; a start sweeps it away, too.
            remove(&path).ok();
        }
        sealed
    }
}

/// The renames, each of them safe before the next. Nothing may have `<state>/db` open.
pub(super) fn take_place(state: &Path) -> io::Result<()> {
    #[cfg(test)]
    steps::pass(0)?;
    let name = |name: &str| state.join(name);
    remove(&name("db.old"))?;
    remove(&name("db.new"))?;
    fs::rename(name("db.part"), name("db.new"))?;
    sync(state)?;
    #[cfg(test)]
    steps::pass(1)?;
    if name("db").exists() {
        fs::rename(name("db"), name("db.old"))?;
        sync(state)?;
        #[cfg(test)]
        steps::pass(2)?;
    }
    fs::rename(name("db.new"), name("db"))?;
    sync(state)?;
    #[cfg(test)]
    steps::pass(3)?;
    remove(&name("db.old"))
}

/// Puts in order what a power cut has left behind. The store must be locked, and closed.
pub(super) fn recover(state: &Path) -> io::Result<()> {
    let name = |name: &str| state.join(name);
    if !name("db").exists() {
        for left in ["db.new", "db.old"] {
            if name(left).exists() {
                tracing::info!(database = %name(left).display(), "finishing a rebuild that was cut off");
                fs::rename(name(left), name("db"))?;
                sync(state)?;
                break;
            }
        }
    }
    let left = ["db.part", "db.new", "db.old"].map(name).into_iter().filter(|path| path.exists());
    let left: Vec<_> = left.collect();
    if !left.is_empty() {
        // A rename may have failed to become safe: a power cut must not give the name to another database
        // than the one that is written to from here on.
        sync(state)?;
    }
    left.iter().try_for_each(|path| remove(path))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

pub(super) fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// What a test does between the renames.
#[cfg(test)]
pub(super) mod steps {
    use std::{cell::RefCell, io};

    /// Is told the step that was done; its error is that of the next one.
    pub(in crate::store) type Hook = Box<dyn FnMut(u8) -> io::Result<()>>;

    thread_local! {
        pub(in crate::store) static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
    }

    pub(super) fn pass(step: u8) -> io::Result<()> {
        HOOK.with_borrow_mut(|hook| hook.as_mut().map_or(Ok(()), |hook| hook(step)))
    }
}
