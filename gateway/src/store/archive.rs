//! Backups: the whole state in one file, as it was between two batches.
//!
//! # Form
//! `UPGWBKP\n`, the version (`u32`), then entries, each a byte that says what follows. All integers are
//! little-endian.
//!
//! | byte | what | form |
//! |---|---|---|
//! | 1 | a record of the database | length of key (`u16`) and value (`u32`), key, value |
//! | 2 | another file of the state | length of path (`u16`) and content (`u64`), path, content |
//! | 0 | the end | number of records and of files (`u64` each), SHA-256 of everything before it |
//!
//! Records are those of the disk, byte for byte, so that a backup is as readable as the database that it
//! was made of: an older format opens, a newer one is refused.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read, Write},
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use ring::digest;

use super::{FORMAT, Meta, Space, message_key, record, state::Core};

const MAGIC: &[u8; 8] = b"UPGWBKP\n";
/// The newest form that is read, and the one that is written.
const VERSION: u32 = 1;
/// No key and no value of a database is longer.
const MAX_VALUE: u32 = 1 << 20;
/// Files of the state that are not part of a backup: the database itself, and what only a running
/// gateway has.
const OWN: [&str; 3] = ["db", "lock", "probe"];

/// What a backup holds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Contents {
    /// Devices that are paired.
    pub devices: u64,
    /// Other files, such as those of the certificate authority.
    pub files: u64,
    /// Push messages that wait.
    pub messages: u64,
    /// Records of any kind.
    pub records: u64,
    /// Endpoints that live.
    pub registrations: u64,
}

impl Contents {
    pub(super) fn count(&mut self, key: &[u8]) {
        self.records += 1;
        let first = key.first().copied();
        self.devices += u64::from(first == Some(Space::Device as u8));
        self.messages += u64::from(first == Some(Space::Message as u8));
        self.registrations += u64::from(first == Some(Space::Registration as u8));
    }
}

/// Why a file is no backup that can be used.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Not what was written.
    #[error("the backup is damaged ({0}): take another copy of it; nothing was changed")]
    Damaged(&'static str),
    /// It cannot be read, or not be written.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A later release made it.
    #[error(
        "the backup has {0} {1}, but this release knows those up to {2}: install the release that made it; nothing was changed"
    )]
    Newer(&'static str, u32, u32),
    /// Something else.
    #[error("this is no backup of a gateway; nothing was changed")]
    NotABackup,
}

/// Makes backups of an open store.
#[derive(Clone, Debug)]
pub struct Archive(pub(super) Arc<Core>);

impl Archive {
    /// Writes everything that is on disk. Batches wait meanwhile, so `out` should be a file. What is
    /// acknowledged but not deleted yet is left out.
    ///
    /// # Errors
    /// Of the disk, or of `out`.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<Contents> {
        let mut writer = Writer::new(out)?;
        let mut failed = Ok(());
        let over: BTreeSet<_> = self.0.lock().deletions.iter().map(|number| message_key(*number)).collect();
        self.0.disk.copy(|key, value| {
            if failed.is_ok() && !over.contains(key) {
                failed = writer.record(key, value);
            }
        })?;
        failed?;
        let state = self.0.disk.state();
        for path in other_files(state)? {
            writer.file(state, &path)?;
        }
        writer.end()
    }

    /// How many bytes a backup needs at most, about, for a look at the free space.
    ///
    /// # Errors
    /// Of the file system.
    pub fn estimate(&self) -> io::Result<u64> {
        let state = self.0.disk.state();
        let mut bytes = self.0.disk.size()?;
        for path in other_files(state)? {
            bytes += fs::metadata(state.join(path))?.len();
        }
        Ok(bytes)
    }

    /// The state directory.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        self.0.disk.state()
    }
}

/// The paths below `state`, relative to it, of all files that do not belong to the store: whoever keeps
/// something there has it in the backup.
fn other_files(state: &Path) -> io::Result<Vec<PathBuf>> {
    let (mut found, mut dirs) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(state.join(&dir))? {
            let entry = entry?;
            let (kind, path) = (entry.file_type()?, dir.join(entry.file_name()));
            if !is_safe(&path) || is_passing(&path) {
                continue;
            }
            if kind.is_dir() {
                dirs.push(path);
            } else if kind.is_file() && !is_backup(&state.join(&path))? {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// What is being written right now.
fn is_passing(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "part")
}

/// An older backup that lies in the state.
fn is_backup(path: &Path) -> io::Result<bool> {
    let mut start = Vec::new();
    File::open(path)?.take(MAGIC.len() as u64).read_to_end(&mut start)?;
    Ok(start == MAGIC)
}

/// Whether a path stays within the state and does not touch the store's own files.
fn is_safe(path: &Path) -> bool {
    let first = path.components().next().and_then(|first| first.as_os_str().to_str());
    first.is_some_and(|first| !OWN.contains(&first) && !first.starts_with("db."))
        && path.to_str().is_some()
        && path.components().all(|part| matches!(part, Component::Normal(_)))
}

/// Writes a backup.
struct Writer<'a> {
    contents: Contents,
    out: io::BufWriter<&'a mut dyn Write>,
    sum: digest::Context,
}

impl<'a> Writer<'a> {
    fn new(out: &'a mut dyn Write) -> io::Result<Self> {
        let out = io::BufWriter::with_capacity(64 << 10, out);
        let mut writer =
            Self { contents: Contents::default(), out, sum: digest::Context::new(&digest::SHA256) };
        writer.put(MAGIC)?;
        writer.put(&VERSION.to_le_bytes())?;
        Ok(writer)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.update(bytes);
        self.out.write_all(bytes)
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let too_long = |_| io::Error::other("a record is too long for a backup");
        let (key_length, length) =
            (u16::try_from(key.len()).map_err(too_long)?, u32::try_from(value.len()).map_err(too_long)?);
        self.contents.count(key);
        self.put(&[1])?;
        self.put(&key_length.to_le_bytes())?;
        self.put(&length.to_le_bytes())?;
        self.put(key)?;
        self.put(value)
    }

    fn file(&mut self, state: &Path, path: &Path) -> io::Result<()> {
        let Some(name) = path.to_str() else { return Ok(()) };
        let name_length = u16::try_from(name.len()).map_err(io::Error::other)?;
        let mut file = File::open(state.join(path))?;
        let length = file.metadata()?.len();
        self.contents.files += 1;
        self.put(&[2])?;
        self.put(&name_length.to_le_bytes())?;
        self.put(&length.to_le_bytes())?;
        self.put(name.as_bytes())?;
        let mut buffer = [0; 8192];
        let mut left = length;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(buffer.len()).min(buffer.len());
            let read = file.read(&mut buffer[..most])?;
            if read == 0 {
                return Err(io::Error::other(format!("{name} became shorter while it was read")));
            }
            self.put(&buffer[..read])?;
            left -= read as u64;
        }
        Ok(())
    }

    fn end(mut self) -> io::Result<Contents> {
        self.put(&[0])?;
        self.put(&self.contents.records.to_le_bytes())?;
        self.put(&self.contents.files.to_le_bytes())?;
        self.out.write_all(self.sum.finish().as_ref())?;
        self.out.flush()?;
        Ok(self.contents)
    }
}

/// An entry of a backup.
pub(super) enum Entry {
    /// A file; its content is to be read next.
    File(PathBuf, u64),
    Record(Vec<u8>, Vec<u8>),
}

/// Reads a backup. What it gives is only to be believed once it has come to the end.
pub(super) struct Reader<R> {
    contents: Contents,
    input: io::BufReader<R>,
    sum: digest::Context,
}

impl<R: Read> Reader<R> {
    pub(super) fn new(input: R) -> Result<Self, BackupError> {
        let input = io::BufReader::with_capacity(64 << 10, input);
        let contents = Contents::default();
        let mut reader = Self { contents, input, sum: digest::Context::new(&digest::SHA256) };
        let magic: [u8; 8] = reader.array().map_err(|_| BackupError::NotABackup)?;
        if magic != *MAGIC {
            return Err(BackupError::NotABackup);
        }
        let version = u32::from_le_bytes(reader.array()?);
        if version > VERSION {
            return Err(BackupError::Newer("form", version, VERSION));
        }
        Ok(reader)
    }

    fn take(&mut self, bytes: &mut [u8]) -> Result<(), BackupError> {
        self.input.read_exact(bytes).map_err(|error| {
            if error.kind() == io::ErrorKind::UnexpectedEof {
                BackupError::Damaged("it is cut short")
            } else {
                BackupError::Io(error)
            }
        })?;
        self.sum.update(bytes);
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BackupError> {
        let mut bytes = [0; N];
        self.take(&mut bytes).map(|()| bytes)
    }

    /// The next entry; `None`: that was all, and all is whole.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, BackupError> {
        match self.array::<1>()? {
            [0] => self.end().map(|()| None),
            [1] => {
                let key_length = u16::from_le_bytes(self.array()?);
                let length = u32::from_le_bytes(self.array()?);
                if length > MAX_VALUE {
                    return Err(BackupError::Damaged("a record is too long"));
                }
                let (mut key, mut value) = (vec![0; key_length.into()], vec![0; length as usize]);
                self.take(&mut key)?;
                self.take(&mut value)?;
                self.contents.count(&key);
                Ok(Some(Entry::Record(key, value)))
            }
            [2] => {
                let name_length = u16::from_le_bytes(self.array()?);
                let length = u64::from_le_bytes(self.array()?);
                let mut name = vec![0; name_length.into()];
                self.take(&mut name)?;
                let path = String::from_utf8(name).map(PathBuf::from);
                let path = path.map_err(|_| BackupError::Damaged("a path is no text"))?;
                if !is_safe(&path) {
                    return Err(BackupError::Damaged("a path leads out of the state"));
                }
                self.contents.files += 1;
                Ok(Some(Entry::File(path, length)))
            }
            [_] => Err(BackupError::Damaged("an entry is of no known kind")),
        }
    }

    /// Copies the content of the file that came last.
    pub(super) fn content(&mut self, mut length: u64, out: &mut dyn Write) -> Result<(), BackupError> {
        let mut buffer = [0; 8192];
        while length > 0 {
            let some = usize::try_from(length).unwrap_or(buffer.len()).min(buffer.len());
            self.take(&mut buffer[..some])?;
            out.write_all(&buffer[..some])?;
            length -= some as u64;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), BackupError> {
        let records = u64::from_le_bytes(self.array()?);
        let files = u64::from_le_bytes(self.array()?);
        let sum = self.sum.clone().finish();
        let told: [u8; 32] = self.array()?;
        if sum.as_ref() != told {
            return Err(BackupError::Damaged("its checksum is wrong"));
        }
        if (records, files) != (self.contents.records, self.contents.files) {
            return Err(BackupError::Damaged("entries are missing"));
        }
        match self.input.read(&mut [0])? {
            0 => Ok(()),
            _ => Err(BackupError::Damaged("something follows its end")),
        }
    }
}

/// Reads a backup to its end: whether it is whole, and whether this release can restore it.
///
/// # Errors
/// [`BackupError`].
pub fn verify(input: impl Read) -> Result<Contents, BackupError> {
    let mut reader = Reader::new(input)?;
    let format_key = Meta::Format.key();
    let mut format = None;
    while let Some(entry) = reader.next()? {
        match entry {
            Entry::Record(key, value) if *key == *format_key => {
                format = Some(
                    record::decode::<u32>(&key, &value).map_err(|_| BackupError::Damaged("its format"))?,
                );
            }
            Entry::Record(..) => {}
            Entry::File(_, length) => reader.content(length, &mut io::sink())?,
        }
    }
    match format {
        None => Err(BackupError::Damaged("its format is missing")),
        Some(format) if format > FORMAT => Err(BackupError::Newer("format", format, FORMAT)),
        Some(_) => Ok(reader.contents),
    }
}
