//! A database whose own disk can be read, but not written to: full, read-only, or worn out.
//!
//! sled writes whenever it opens: it fills the rest of the segment that it was writing with zeros, and notes in a
//! snapshot how far it has read. So on such a disk what is stored could not even be delivered. It is copied to
//! where it can be opened, and the copy is only read.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::Path,
};

use nix::sys::statvfs::statvfs;

use super::disk;

/// The copy takes one part in so many of what is free in memory, because others need some, and sled too.
const SHARE: u64 = 2;

/// Copies the database below `state` into `scratch` and opens it; with it comes its log, as a file. No names
/// are left of it: it is gone when it is closed, or the process is killed.
pub(super) fn open(state: &Path, scratch: &Path) -> io::Result<(sled::Db, File)> {
    // The one that `rebuild::recover` would take.
    let found =
        ["db", "db.new", "db.old"].map(|name| state.join(name)).into_iter().find(|path| path.is_dir());
    let from = found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    let copy = scratch.join(format!("unifiedpush-gateway-db.{}", std::process::id()));
    // An error if somebody was there before: other users may write to a directory for temporary files.
    DirBuilder::new().mode(0o700).create(&copy)?;
    let opened = fill(&from, &copy).and_then(|()| {
        let db = disk::open_sled(&copy).map_err(io::Error::other)?;
        Ok((db, File::open(copy.join("db"))?))
    });
    fs::remove_dir_all(&copy)?;
    opened
}

/// Copies the files that sled reads: the log and its snapshots. `conf` it writes again by itself.
fn fill(from: &Path, copy: &Path) -> io::Result<()> {
    let mut files = Vec::new();
    let mut bytes = 0;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        let text = name.to_string_lossy();
        if text == "db" || (text.starts_with("snap.") && !text.ends_with(".generating")) {
            bytes += entry.metadata()?.len();
            files.push(name);
        }
    }
    let space = statvfs(copy)?;
    #[allow(clippy::useless_conversion, reason = "the types differ between systems")]
    let free = u64::from(space.blocks_available()).saturating_mul(u64::from(space.fragment_size()));
    if bytes > free / SHARE {
        return Err(io::Error::other(format!("{bytes} bytes are stored, and {free} are free there")));
    }
    files.iter().try_for_each(|name| fs::copy(from.join(name), copy.join(name)).map(drop))
}
