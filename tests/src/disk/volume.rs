//! A disk in memory that knows what of it would survive a power cut.
//!
//! Each file has the content that programs see, and the content that is durable; the changes between
//! them are kept in order until fsync or fdatasync. Each directory has the names that programs see, and
//! the durable ones: a name becomes durable, or ceases to be, by an fsync of its directory alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
};

use super::random::Random;

/// The number of the root directory.
pub(super) const ROOT: u64 = 1;

/// The least that a disk writes at a time, in bytes.
pub(super) const PAGE: usize = 4096;

/// What a power cut takes.
#[derive(Clone, Debug)]
pub enum Loss {
    /// All that was not synced.
    Unsynced,
    /// The same, but for parts of what was written last, or noise where it was to be.
    Torn(Random),
}

/// What is wrong with a disk that has power.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// No room: a file cannot grow, and there can be no new one (ENOSPC).
    Full,
    /// It was remounted read-only (EROFS).
    ReadOnly,
    /// fsync fails (EIO), and as with Linux what it was to make durable is lost although a later fsync succeeds.
    Sync,
    /// Every write fails (EIO).
    Write,
}

impl Fault {
    /// Each of them.
    pub const ALL: [Self; 4] = [Self::Full, Self::ReadOnly, Self::Sync, Self::Write];
}

/// A file, a directory, or a name that leads elsewhere.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Directory { durable: Names, names: Names },
    File(File),
    Link(Vec<u8>),
    Socket,
}

type Names = BTreeMap<OsString, u64>;

/// A file's two contents.
#[derive(Clone, Debug, Default)]
pub(super) struct File {
    pub(super) data: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Resize(usize),
    Write(usize, Vec<u8>),
}

impl Change {
    /// The pages that it touches.
    fn pages(&self) -> std::ops::Range<usize> {
        match self {
            Self::Resize(_) => 0..0,
            Self::Write(at, bytes) => at / PAGE..(at + bytes.len()).div_ceil(PAGE),
        }
    }

    fn apply(&self, data: &mut Vec<u8>) {
        match self {
            Self::Resize(size) => data.resize(*size, 0),
            Self::Write(at, bytes) => {
                let end = at + bytes.len();
                if data.len() < end {
                    data.resize(end, 0);
                }
                data[*at..end].copy_from_slice(bytes);
            }
        }
    }
}

/// The disk.
#[derive(Debug)]
pub(super) struct Volume {
    /// What is wrong with it.
    pub(super) fault: Option<Fault>,
    modes: BTreeMap<u64, u16>,
    next: u64,
    nodes: BTreeMap<u64, Node>,
    /// Nothing is written any more.
    pub(super) off: bool,
    /// Pages of [`PAGE`] bytes that syncs have made durable: what an SD card would have had to write.
    pub(super) pages: u64,
    /// Syncs that succeeded, of files and directories.
    pub(super) syncs: u64,
}

impl Volume {
    pub(super) fn new() -> Self {
        let root = Node::Directory { durable: Names::new(), names: Names::new() };
        Self {
            fault: None,
            modes: BTreeMap::from([(ROOT, 0o755)]),
            next: ROOT + 1,
            nodes: BTreeMap::from([(ROOT, root)]),
            off: false,
            pages: 0,
            syncs: 0,
        }
    }

    pub(super) fn node(&self, number: u64) -> Option<&Node> {
        self.nodes.get(&number)
    }

    pub(super) fn mode(&self, number: u64) -> u16 {
        self.modes.get(&number).copied().unwrap_or(0o600)
    }

    /// Permissions survive: no test depends on their loss.
    pub(super) fn set_mode(&mut self, number: u64, mode: u16) {
        self.modes.insert(number, mode);
    }

    /// The names in a directory, as programs see them.
    pub(super) fn names(&self, directory: u64) -> Option<&Names> {
        match self.nodes.get(&directory)? {
            Node::Directory { names, .. } => Some(names),
            Node::File(_) | Node::Link(_) | Node::Socket => None,
        }
    }

    /// The number behind a name.
    pub(super) fn find(&self, directory: u64, name: &OsStr) -> Option<u64> {
        self.names(directory)?.get(name).copied()
    }

    /// Adds a node below a name.
    pub(super) fn create(&mut self, directory: u64, name: &OsStr, node: Node, mode: u16) -> u64 {
        let number = self.next;
        self.next += 1;
        self.nodes.insert(number, node);
        self.modes.insert(number, mode);
        self.link(directory, name, number);
        number
    }

    /// Gives a node a name.
    pub(super) fn link(&mut self, directory: u64, name: &OsStr, number: u64) {
        if let Some(Node::Directory { names, .. }) = self.nodes.get_mut(&directory) {
            names.insert(name.to_owned(), number);
        }
    }

    /// Takes a name away. The node stays: it may be open, and its name may be durable.
    pub(super) fn unlink(&mut self, directory: u64, name: &OsStr) -> Option<u64> {
        match self.nodes.get_mut(&directory)? {
            Node::Directory { names, .. } => names.remove(name),
            Node::File(_) | Node::Link(_) | Node::Socket => None,
        }
    }

    /// Writes into a file; false: it is none.
    pub(super) fn write(&mut self, number: u64, at: usize, bytes: &[u8]) -> bool {
        self.change(number, Change::Write(at, bytes.to_vec()))
    }

    /// Truncates or extends a file; false: it is none.
    pub(super) fn resize(&mut self, number: u64, size: usize) -> bool {
        self.change(number, Change::Resize(size))
    }

    fn change(&mut self, number: u64, change: Change) -> bool {
        let Some(Node::File(file)) = self.nodes.get_mut(&number) else { return false };
        change.apply(&mut file.data);
        file.unsynced.push(change);
        true
    }

    /// fsync: of a file its content, of a directory its names.
    pub(super) fn sync(&mut self, number: u64) {
        self.syncs += 1;
        match self.nodes.get_mut(&number) {
            Some(Node::Directory { durable, names }) => durable.clone_from(names),
            Some(Node::File(file)) => {
                let pages: BTreeSet<usize> = file.unsynced.iter().flat_map(Change::pages).collect();
                self.pages += pages.len() as u64;
                for change in file.unsynced.drain(..) {
                    change.apply(&mut file.durable);
                }
            }
            Some(Node::Link(_) | Node::Socket) | None => {}
        }
    }

    /// fsync, as it fails: what was written since the last one is not there any more, but the file is as long as it was.
    pub(super) fn fail_to_sync(&mut self, number: u64) {
        if let Some(Node::File(file)) = self.nodes.get_mut(&number) {
            let length = file.data.len();
            file.unsynced.clear();
            file.data.clone_from(&file.durable);
            file.data.resize(length, 0);
        }
    }

    /// Whether a file of this name has content that is not durable yet.
    pub(super) fn has_unsynced(&self, name: &str) -> bool {
        let files = self.nodes.keys().filter_map(|directory| self.find(*directory, OsStr::new(name)));
        files.filter_map(|number| self.node(number)).any(|node| match node {
            Node::File(file) => !file.unsynced.is_empty(),
            Node::Directory { .. } | Node::Link(_) | Node::Socket => false,
        })
    }

    /// Makes everything durable.
    pub(super) fn sync_all(&mut self) {
        let all: Vec<u64> = self.nodes.keys().copied().collect();
        all.into_iter().for_each(|number| self.sync(number));
    }

    /// The power was cut, and is back.
    pub(super) fn cut(&mut self, loss: &Loss) {
        let mut torn = match loss {
            Loss::Unsynced => None,
            Loss::Torn(random) => Some(random.clone()),
        };
        // One way for the whole disk: what is left of the last write only, or of each.
        let scattered = torn.as_mut().is_some_and(|random| random.chance(34));
        for node in self.nodes.values_mut() {
            match node {
                Node::Directory { durable, names } => names.clone_from(durable),
                Node::File(file) => {
                    let changes = std::mem::take(&mut file.unsynced);
                    if let Some(random) = &mut torn {
                        tear(&changes, &mut file.durable, scattered, random);
                    }
                    file.data.clone_from(&file.durable);
                }
                Node::Link(_) | Node::Socket => {}
            }
        }
        self.sweep();
        self.off = false;
    }

    /// Forgets what no name leads to.
    fn sweep(&mut self) {
        let mut reached = BTreeSet::new();
        let mut open = vec![ROOT];
        while let Some(number) = open.pop() {
            if reached.insert(number) {
                open.extend(self.names(number).into_iter().flat_map(BTreeMap::values));
            }
        }
        self.nodes.retain(|number, _| reached.contains(number));
        self.modes.retain(|number, _| reached.contains(number));
    }
}

/// Leaves something of a file's changes that were not synced: of the last write a part, or noise; or, if they are
/// `scattered`, some whole ones and not others, since a disk writes in any order that it likes.
fn tear(changes: &[Change], durable: &mut Vec<u8>, scattered: bool, random: &mut Random) {
    let last = changes.iter().rposition(|change| matches!(change, Change::Write(..)));
    for (number, change) in changes.iter().enumerate() {
        match change {
            Change::Write(at, bytes) if Some(number) == last => {
                let noisy = random.chance(40);
                let kept = usize::try_from(random.below(bytes.len() as u64 + 1)).expect("a length");
                let left = if noisy { random.bytes(bytes.len()) } else { bytes[..kept].to_vec() };
                Change::Write(*at, left).apply(durable);
            }
            Change::Resize(_) | Change::Write(..) => {
                if scattered && random.chance(50) {
                    change.apply(durable);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(volume: &mut Volume, name: &str) -> u64 {
        volume.create(ROOT, OsStr::new(name), Node::File(File::default()), 0o600)
    }

    fn content<'a>(volume: &'a Volume, name: &str) -> Option<&'a [u8]> {
        match volume.node(volume.find(ROOT, OsStr::new(name))?)? {
            Node::File(file) => Some(&file.data),
            Node::Directory { .. } | Node::Link(_) | Node::Socket => None,
        }
    }

    #[test]
    fn only_what_was_synced_survives() {
        let mut volume = Volume::new();
        let db = file(&mut volume, "db");
        volume.write(db, 0, b"safe");
        volume.sync(db);
        volume.sync(ROOT);
        volume.write(db, 2, b"lost");
        volume.resize(db, 1);
        assert_eq!(content(&volume, "db"), Some(&b"s"[..]));
        volume.cut(&Loss::Unsynced);
        assert_eq!(content(&volume, "db"), Some(&b"safe"[..]));
    }

    #[test]
    fn what_a_failed_fsync_has_lost_does_not_come_back() {
        let mut volume = Volume::new();
        let db = file(&mut volume, "db");
        volume.write(db, 0, b"safe");
        volume.sync(db);
        volume.sync(ROOT);
        volume.write(db, 4, b"lost");
        volume.fail_to_sync(db);
        assert_eq!(content(&volume, "db"), Some(&b"safe\0\0\0\0"[..]));
        volume.write(db, 8, b"later");
        volume.sync(db);
        volume.cut(&Loss::Unsynced);
        assert_eq!(content(&volume, "db"), Some(&b"safe\0\0\0\0later"[..]));
    }

    #[test]
    fn a_disk_writes_whole_pages_and_each_once_a_sync() {
        let mut volume = Volume::new();
        let db = file(&mut volume, "db");
        volume.write(db, 4000, b"0123456789");
        volume.write(db, 4096 - 5, b"01234567890");
        assert_eq!(volume.pages, 0, "nothing is written before a sync");
        volume.sync(db);
        assert_eq!(volume.pages, 2);
        volume.write(db, 4096, b"x");
        volume.sync(db);
        volume.sync(db);
        assert_eq!((volume.pages, volume.syncs), (3, 3));
    }

    #[test]
    fn a_name_is_as_safe_as_its_directory() {
        let mut volume = Volume::new();
        let named = file(&mut volume, "named");
        volume.write(named, 0, b"synced");
        volume.sync(named);
        volume.cut(&Loss::Unsynced);
        assert_eq!(content(&volume, "named"), None, "its directory was not synced");

        let old = file(&mut volume, "old");
        volume.sync(old);
        volume.sync(ROOT);
        volume.unlink(ROOT, OsStr::new("old"));
        volume.link(ROOT, OsStr::new("new"), old);
        volume.cut(&Loss::Unsynced);
        assert_eq!((content(&volume, "old"), content(&volume, "new")), (Some(&b""[..]), None));
    }

    #[test]
    fn a_torn_write_keeps_its_beginning_or_noise() {
        let (mut shorter, mut noisy) = (0, 0);
        for seed in 0..200 {
            let mut volume = Volume::new();
            let db = file(&mut volume, "db");
            volume.write(db, 0, b"safe");
            volume.sync(db);
            volume.sync(ROOT);
            volume.write(db, 4, b"0123456789");
            volume.cut(&Loss::Torn(Random::new(seed)));
            let left = content(&volume, "db").expect("it is there").to_vec();
            assert_eq!(&left[..4], b"safe");
            if b"0123456789".starts_with(&left[4..]) {
                shorter += usize::from(left.len() < 14);
            } else {
                noisy += 1;
            }
        }
        assert!(shorter > 20 && noisy > 20, "{shorter} shorter, {noisy} noisy");
    }
}
