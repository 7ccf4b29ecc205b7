//! Where the control socket is, for the side that binds it and the side that connects to it.

use std::{
    fs::File,
    io,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
};

/// A socket's address has so many bytes (`sun_path`, less the closing zero).
const MAX_ADDRESS: usize = 107;

/// The directory that systemd made for the life of the service (`RuntimeDirectory=`), if any.
#[must_use]
pub fn runtime_dir() -> Option<PathBuf> {
    // Several are separated by colons (systemd.exec(5)): the first is ours.
    let list = std::env::var_os("RUNTIME_DIRECTORY")?;
    std::env::split_paths(&list).find(|dir| dir.is_absolute())
}

/// The file in the state directory to which the command line connects. A gateway that has a runtime
/// directory keeps its socket there, and this is a symbolic link to it: a command needs to know
/// nothing but the state directory.
pub(super) fn in_state_dir(state_dir: &Path) -> PathBuf {
    named(state_dir)
}

/// The socket itself.
pub(super) fn place(state_dir: &Path, runtime_dir: Option<&Path>) -> PathBuf {
    named(runtime_dir.unwrap_or(state_dir))
}

fn named(dir: &Path) -> PathBuf {
    dir.join("control.sock")
}

/// A socket's path in a form that fits its address: a long one goes through a descriptor of its
/// directory, which lives as long as this does.
pub(super) struct Address {
    path: PathBuf,
    _dir: Option<File>,
}

impl Address {
    pub(super) fn of(socket: &Path) -> io::Result<Self> {
        let (Some(dir), Some(name)) = (socket.parent(), socket.file_name()) else {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        };
        if socket.as_os_str().len() <= MAX_ADDRESS {
            return Ok(Self { path: socket.to_owned(), _dir: None });
        }
        let dir = File::open(dir)?;
        let path = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name);
        Ok(Self { path, _dir: Some(dir) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}
