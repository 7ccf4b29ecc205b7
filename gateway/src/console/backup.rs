//! A backup through the control socket: the answer, then the file itself.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Seek as _},
    os::unix::fs::OpenOptionsExt as _,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::{io::AsyncWriteExt as _, net::UnixStream, time::timeout};

use super::Reply;
use crate::store::Archive;

/// The owner's end takes each piece within this, or has gone.
const PATIENCE: Duration = Duration::from_secs(10);
/// Stays free on the disk whatever a backup needs: messages go on arriving.
const SPARE: u64 = 16 << 20;

/// Answers with a backup.
pub(super) async fn send(stream: &mut UnixStream, archive: &Archive) -> io::Result<()> {
    let archive = archive.clone();
    let staged = tokio::task::spawn_blocking(move || stage(&archive)).await.map_err(io::Error::other)?;
    let (file, length) = match staged {
        Ok(staged) => staged,
        Err(error) => {
            let message = format!("the backup could not be made: {error}");
            return super::server::answer(stream, &Reply::Failed { message }).await;
        }
    };
    let mut line = serde_json::to_vec(&Reply::Backup { bytes: length })?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    let mut left = length;
    while left > 0 {
        // Read in pieces that the page cache still holds.
        let file = file.try_clone()?;
        let piece = tokio::task::spawn_blocking(move || read(file)).await.map_err(io::Error::other)??;
        if piece.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        timeout(PATIENCE, stream.write_all(&piece)).await.map_err(|_| io::ErrorKind::TimedOut)??;
        left = left.saturating_sub(piece.len() as u64);
    }
    stream.shutdown().await
}

fn read(mut file: File) -> io::Result<Vec<u8>> {
    let mut piece = vec![0; 256 << 10];
    let read = io::Read::read(&mut file, &mut piece)?;
    piece.truncate(read);
    Ok(piece)
}

/// Writes the backup to a file without a name, so that batches wait for the disk only, not for whoever
/// asked.
fn stage(archive: &Archive) -> io::Result<(File, u64)> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let needed = archive.estimate()? + SPARE;
    let space = nix::sys::statvfs::statvfs(archive.state_dir())?;
    #[allow(clippy::useless_conversion, reason = "the types differ between systems")]
    let free = u64::from(space.blocks_available()).saturating_mul(u64::from(space.fragment_size()));
    if free < needed {
        return Err(io::Error::other(format!(
            "it needs {needed} bytes for a while in {}, where {free} are free",
            archive.state_dir().display()
        )));
    }
    let name = format!("backup-{}-{}.part", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let path = archive.state_dir().join(name);
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    fs::remove_file(&path)?;
    archive.write(&mut file)?;
    file.rewind()?;
    let length = file.metadata()?.len();
    Ok((file, length))
}
