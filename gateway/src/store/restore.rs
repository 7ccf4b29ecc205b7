//! A backup becomes a state again.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use super::{
    Meta, OpenError,
    archive::{self, BackupError, Contents, Entry, Reader},
    disk::Disk,
    rebuild::{self, Builder},
    record::{self, Reserve},
};

/// Numbers that were given out after the backup was made are not given out again, or devices would take
/// new messages for ones that they have seen: so many are left out at least …
const LEFT_OUT: u64 = 1 << 40;

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Of the file.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// There is a state already.
    #[error(
        "{0} is not empty: it knows {1} device(s), {2} registration(s) and {3} message(s); move it away, or restore into another --state-dir; nothing was changed"
    )]
    NotEmpty(PathBuf, u64, u64, u64),
    /// Of the state.
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl From<io::Error> for RestoreError {
    fn from(error: io::Error) -> Self {
        Self::Backup(error.into())
    }
}

/// Makes the state below `dir` what it was when the backup was made. All of the backup is checked before
/// anything is written. A state that knows no device is empty; other files of the same name in it, such
/// as a certificate authority that was just made, give way. Cut off in the middle, it can be run again.
///
/// # Errors
/// [`RestoreError`].
pub fn restore(dir: &Path, backup: &Path) -> Result<Contents, RestoreError> {
    let contents = archive::verify(File::open(backup)?)?;
    if dir.exists() {
        refuse_full(dir)?;
    } else {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    let _lock = super::disk::lock(dir)?;
    rebuild::recover(dir)?;

    let mut builder = Builder::new(dir)?;
    let mut reader = Reader::new(File::open(backup)?)?;
    let reserve = Meta::Reserve.key();
    let mut files = Vec::new();
    while let Some(entry) = reader.next()? {
        match entry {
            Entry::Record(key, value) if *key == *reserve => builder.put(&key, &further(&key, value)?)?,
            Entry::Record(key, value) => builder.put(&key, &value)?,
            Entry::File(path, length) => {
                let part = part(&dir.join(&path));
                if let Some(parent) = part.parent() {
                    DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
                }
                let options = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).clone();
                let mut file = options.open(&part)?;
                reader.content(length, &mut file)?;
                file.sync_all()?;
                files.push(dir.join(path));
            }
        }
    }
    for file in files {
        fs::rename(part(&file), &file)?;
        let mut above = file.parent();
        while let Some(parent) = above.filter(|parent| parent.starts_with(dir)) {
            rebuild::sync(parent)?;
            above = parent.parent();
        }
    }
    // Last: a state with a database is a state that was restored.
    builder.finish()?;
    if let Some(parent) = dir.canonicalize()?.parent() {
        rebuild::sync(parent)?;
    }
    Ok(contents)
}

fn part(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

/// A state that knows somebody is not overwritten.
fn refuse_full(dir: &Path) -> Result<(), RestoreError> {
    if !["db", "db.new", "db.old"].iter().any(|name| dir.join(name).exists()) {
        return Ok(());
    }
    let disk = Disk::open(dir, None)?;
    let (mut found, meta) = (Contents::default(), super::Space::Meta as u8);
    let mut others = 0;
    let seen = disk.scan(|key, _| {
        found.count(key);
        others += u64::from(key.first() != Some(&meta));
    });
    disk.close();
    seen?;
    if others == 0 {
        return Ok(());
    }
    Err(RestoreError::NotEmpty(dir.to_owned(), found.devices, found.registrations, found.messages))
}

/// The reserve of message numbers, moved on.
fn further(key: &[u8], value: Vec<u8>) -> io::Result<Vec<u8>> {
    let Ok(Reserve { limit, newest }) = record::decode::<Reserve>(key, &value) else {
        // Opening sets it aside.
        return Ok(value);
    };
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
    // … and a random number more, for a backup that is restored twice.
    let more = LEFT_OUT + u64::from_le_bytes(random) % LEFT_OUT;
    Ok(record::encode(key, &Reserve { limit: limit.saturating_add(more), newest }))
}
