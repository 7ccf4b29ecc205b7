//! A [`Volume`] that programs can use: the kernel's side of it.

use std::{
    ffi::OsStr,
    io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fuser::{
    BackgroundSession, BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use super::volume::{Fault, File, Loss, Node, PAGE, Volume};

/// Nobody else changes this disk, so the kernel may remember names and sizes until it is unmounted.
const REMEMBERED: Duration = Duration::from_secs(60);
/// What a sync takes: the time in which the next batch gathers.
const SYNC: Duration = Duration::from_micros(1500);

/// A disk that is mounted.
#[derive(Debug)]
pub struct Mounted {
    path: PathBuf,
    session: Option<BackgroundSession>,
    volume: Arc<Mutex<Volume>>,
}

impl Mounted {
    /// Mounts an empty disk at a directory that is made for it. An error: this machine does not let us.
    pub fn new(path: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(path)?;
        let volume = Arc::new(Mutex::new(Volume::new()));
        let session = Some(mount(&volume, path)?);
        Ok(Self { path: path.to_owned(), session, volume })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The bytes that a card would have written so far, in whole pages; and how many syncs there were.
    pub fn written(&self) -> (u64, u64) {
        let volume = lock(&self.volume);
        (volume.pages * PAGE as u64, volume.syncs)
    }

    /// From now on something is wrong with it; `None`: the cause is gone.
    pub fn fail(&self, fault: Option<Fault>) {
        lock(&self.volume).fault = fault;
    }

    /// From now on every change and every sync fails, and changes nothing.
    pub fn power_off(&self) {
        lock(&self.volume).off = true;
    }

    /// The power is back. Nobody may have a file open: the kernel's memory must go too. Whether a file of
    /// the name `of` had something to lose.
    pub fn cut(&mut self, loss: &Loss, of: &str) -> bool {
        self.unmount();
        let mut volume = lock(&self.volume);
        let hit = volume.has_unsynced(of);
        volume.cut(loss);
        drop(volume);
        let session = mount(&self.volume, &self.path).expect("what was mounted before can be mounted again");
        self.session = Some(session);
        hit
    }

    /// Makes everything durable that is there.
    pub fn sync_all(&self) {
        lock(&self.volume).sync_all();
    }

    /// Unmounts it for good; nothing of it remains.
    pub fn end(mut self) {
        self.unmount();
    }

    fn unmount(&mut self) {
        if let Some(session) = self.session.take() {
            match session.umount_and_join() {
                // fuser takes ENODEV for the end only, but the kernel has two words for it.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                unmounted => unmounted.expect("the test's disk can be unmounted"),
            }
        }
    }
}

fn lock(volume: &Mutex<Volume>) -> MutexGuard<'_, Volume> {
    volume.lock().unwrap_or_else(PoisonError::into_inner)
}

fn mount(volume: &Arc<Mutex<Volume>>, path: &Path) -> io::Result<BackgroundSession> {
    let mut config = fuser::Config::default();
    config.mount_options = vec![MountOption::FSName("crash".to_owned()), MountOption::DefaultPermissions];
    // A sync must not hold up reads, nor the other programs' syncs.
    config.n_threads = Some(4);
    fuser::spawn_mount(Driver(Arc::clone(volume)), path, &config)
}

/// Answers the kernel.
#[derive(Debug)]
struct Driver(Arc<Mutex<Volume>>);

impl Driver {
    fn volume(&self) -> MutexGuard<'_, Volume> {
        lock(&self.0)
    }

    /// The disk, if it still has power.
    fn powered(&self) -> Result<MutexGuard<'_, Volume>, Errno> {
        let volume = self.volume();
        if volume.off { Err(Errno::EIO) } else { Ok(volume) }
    }

    /// The same, for a change: `grows` if it needs room.
    fn changeable(&self, grows: impl FnOnce(&Volume) -> bool) -> Result<MutexGuard<'_, Volume>, Errno> {
        let volume = self.powered()?;
        match volume.fault {
            Some(Fault::Full) if grows(&volume) => Err(Errno::ENOSPC),
            Some(Fault::ReadOnly) => Err(Errno::EROFS),
            Some(Fault::Write) => Err(Errno::EIO),
            Some(Fault::Full | Fault::Sync) | None => Ok(volume),
        }
    }

    fn add(&self, parent: INodeNo, name: &OsStr, node: Node, mode: u32) -> Result<FileAttr, Errno> {
        let mut volume = self.changeable(|_| true)?;
        if volume.find(parent.0, name).is_some() {
            return Err(Errno::EEXIST);
        }
        let number = volume.create(parent.0, name, node, permissions(mode));
        attributes(&volume, number).ok_or(Errno::ENOENT)
    }

    fn remove(&self, parent: INodeNo, name: &OsStr) -> Result<(), Errno> {
        self.changeable(|_| false)?.unlink(parent.0, name).map(drop).ok_or(Errno::ENOENT)
    }

    fn sync(&self, number: INodeNo) -> Result<(), Errno> {
        std::thread::sleep(SYNC);
        let mut volume = self.powered()?;
        if volume.fault == Some(Fault::Sync) {
            volume.fail_to_sync(number.0);
            return Err(Errno::EIO);
        }
        volume.sync(number.0);
        Ok(())
    }
}

fn length(volume: &Volume, number: u64) -> u64 {
    match volume.node(number) {
        Some(Node::File(file)) => file.data.len() as u64,
        Some(Node::Directory { .. } | Node::Link(_) | Node::Socket) | None => 0,
    }
}

fn permissions(mode: u32) -> u16 {
    u16::try_from(mode & 0o7777).expect("twelve bits")
}

fn attributes(volume: &Volume, number: u64) -> Option<FileAttr> {
    let (kind, size) = match volume.node(number)? {
        Node::Directory { .. } => (FileType::Directory, 0),
        Node::File(file) => (FileType::RegularFile, file.data.len() as u64),
        Node::Link(target) => (FileType::Symlink, target.len() as u64),
        Node::Socket => (FileType::Socket, 0),
    };
    Some(FileAttr {
        ino: INodeNo(number),
        size,
        blocks: size.div_ceil(512),
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind,
        perm: volume.mode(number),
        nlink: 1,
        uid: nix::unistd::getuid().as_raw(),
        gid: nix::unistd::getgid().as_raw(),
        rdev: 0,
        blksize: 4096,
        flags: 0,
    })
}

fn entry(outcome: Result<FileAttr, Errno>, reply: ReplyEntry) {
    match outcome {
        Ok(attributes) => reply.entry(&REMEMBERED, &attributes, Generation(0)),
        Err(error) => reply.error(error),
    }
}

fn empty(outcome: Result<(), Errno>, reply: ReplyEmpty) {
    match outcome {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

impl Filesystem for Driver {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let volume = self.volume();
        let found = volume.find(parent.0, name).and_then(|number| attributes(&volume, number));
        entry(found.ok_or(Errno::ENOENT), reply);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match attributes(&self.volume(), ino.0) {
            Some(attributes) => reply.attr(&REMEMBERED, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let larger = |volume: &Volume| size.is_some_and(|size| size > length(volume, ino.0));
        let mut volume = match self.changeable(larger) {
            Ok(volume) => volume,
            Err(error) => return reply.error(error),
        };
        if let Some(mode) = mode {
            volume.set_mode(ino.0, permissions(mode));
        }
        if let Some(size) = size {
            volume.resize(ino.0, usize::try_from(size).expect("a size in memory"));
        }
        match attributes(&volume, ino.0) {
            Some(attributes) => reply.attr(&REMEMBERED, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        match self.volume().node(ino.0) {
            Some(Node::Link(target)) => reply.data(target),
            Some(Node::Directory { .. } | Node::File(_) | Node::Socket) | None => reply.error(Errno::EINVAL),
        }
    }

    fn mknod(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: u32,
        reply: ReplyEntry,
    ) {
        let socket = mode & 0o170_000 == 0o140_000;
        let node = if socket { Node::Socket } else { Node::File(File::default()) };
        entry(self.add(parent, name, node, mode & !umask), reply);
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let node = Node::Directory { durable: Default::default(), names: Default::default() };
        entry(self.add(parent, name, node, mode & !umask), reply);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.remove(parent, name), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let full = {
            let volume = self.volume();
            let number = volume.find(parent.0, name);
            number.and_then(|number| volume.names(number)).is_some_and(|names| !names.is_empty())
        };
        empty(if full { Err(Errno::ENOTEMPTY) } else { self.remove(parent, name) }, reply);
    }

    fn symlink(&self, _: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let node = Node::Link(target.as_os_str().as_bytes().to_vec());
        entry(self.add(parent, name, node, 0o777), reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let renamed = self.changeable(|_| false).and_then(|mut volume| {
            let number = volume.unlink(parent.0, name).ok_or(Errno::ENOENT)?;
            volume.link(new_parent.0, new_name, number);
            Ok(())
        });
        empty(renamed, reply);
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.volume().node(ino.0) {
            Some(Node::File(file)) => {
                let begin = usize::try_from(offset).unwrap_or(usize::MAX).min(file.data.len());
                let end = begin.saturating_add(size as usize).min(file.data.len());
                reply.data(&file.data[begin..end]);
            }
            Some(Node::Directory { .. } | Node::Link(_) | Node::Socket) | None => reply.error(Errno::EINVAL),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let at = usize::try_from(offset).expect("an offset in memory");
        let beyond = |volume: &Volume| offset + data.len() as u64 > length(volume, ino.0);
        match self.changeable(beyond).map(|mut volume| volume.write(ino.0, at, data)) {
            Ok(true) => reply.written(u32::try_from(data.len()).expect("a write is short")),
            Ok(false) => reply.error(Errno::EINVAL),
            Err(error) => reply.error(error),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // close(2) promises nothing.
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        empty(self.sync(ino), reply);
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        empty(self.sync(ino), reply);
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let volume = self.volume();
        let Some(names) = volume.names(ino.0) else { return reply.error(Errno::ENOTDIR) };
        let skip = usize::try_from(offset).unwrap_or(usize::MAX);
        for (at, (name, &number)) in names.iter().enumerate().skip(skip) {
            let kind = attributes(&volume, number).map_or(FileType::RegularFile, |found| found.kind);
            if reply.add(INodeNo(number), at as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        match self.add(parent, name, Node::File(File::default()), mode & !umask) {
            Ok(attributes) => {
                let (handle, flags) = (FileHandle(0), FopenFlags::empty());
                reply.created(&REMEMBERED, &attributes, Generation(0), handle, flags);
            }
            Err(error) => reply.error(error),
        }
    }
}
