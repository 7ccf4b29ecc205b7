//! The command line's side of the control socket.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{Reply, Request, socket};

/// A gateway whose disk is slow may take its time; one that is silent for so long hangs.
const PATIENCE: Duration = Duration::from_secs(30);
/// Far more than the longest list of registrations: what is longer comes from no gateway.
const MAX_REPLY: u64 = 256 << 20;
/// Far more than the line that comes before a backup.
const MAX_HEAD: u64 = 64 << 10;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The gateway hung up, or did not answer in time or in sense.
    #[error("the gateway at {0} did not answer: {1}")]
    Broken(PathBuf, String),
    /// The socket, or its directory, belongs to another user.
    #[error("not allowed to open {0}: run this as root or as the gateway's user")]
    Denied(PathBuf),
    /// Nobody listens there.
    #[error("no gateway runs with the state in {0}")]
    NotRunning(PathBuf),
}

/// Asks the gateway that runs with this state directory. Waits; not for async code.
///
/// # Errors
/// [`AskError`].
pub fn ask(state_dir: &Path, request: &Request) -> Result<Reply, AskError> {
    let (stream, path) = connect(state_dir)?;
    converse(stream, request).map_err(|error| AskError::Broken(path, error.to_string()))
}

/// Asks the gateway that runs with this state directory for a backup, and copies it to `out`. Gives its
/// length; whether it is whole, its checksum says. Waits; not for async code.
///
/// # Errors
/// [`AskError`]. What the gateway refuses is a [`Reply::Failed`] instead.
pub fn fetch_backup(state_dir: &Path, out: &mut dyn io::Write) -> Result<Reply, AskError> {
    let (stream, path) = connect(state_dir)?;
    copy(stream, out).map_err(|error| AskError::Broken(path, error.to_string()))
}

fn connect(state_dir: &Path) -> Result<(UnixStream, PathBuf), AskError> {
    let path = socket::in_state_dir(state_dir);
    let connected = socket::Address::of(&path).and_then(|address| UnixStream::connect(address.path()));
    // No file, a file that nobody has bound any more, or no directory for it.
    let nobody = [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused, io::ErrorKind::NotADirectory];
    match connected {
        Ok(stream) => Ok((stream, path)),
        Err(error) if nobody.contains(&error.kind()) => Err(AskError::NotRunning(state_dir.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(AskError::Denied(path)),
        Err(error) => Err(AskError::Broken(path, error.to_string())),
    }
}

fn copy(mut stream: UnixStream, out: &mut dyn io::Write) -> io::Result<Reply> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(&Request::Backup)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut stream = BufReader::new(stream);
    let mut head = Vec::new();
    (&mut stream).take(MAX_HEAD).read_until(b'\n', &mut head)?;
    let reply = serde_json::from_slice(&head)?;
    if let Reply::Backup { bytes } = reply {
        let copied = io::copy(&mut stream.take(bytes), out)?;
        if copied != bytes {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection"));
        }
    }
    Ok(reply)
}

fn converse(mut stream: UnixStream, request: &Request) -> io::Result<Reply> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    // A gateway that refuses the peer answers without reading: its answer counts, not our broken pipe.
    let written = stream.write_all(&line).and_then(|()| stream.shutdown(Shutdown::Write));
    let mut reply = Vec::new();
    let read = stream.take(MAX_REPLY).read_to_end(&mut reply);
    if !reply.ends_with(b"\n") {
        written?;
        read?;
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection"));
    }
    Ok(serde_json::from_slice(&reply)?)
}
