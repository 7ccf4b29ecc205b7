//! The gateway's side of the control socket.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt as _, PermissionsExt as _, symlink},
        net::UnixStream as BlockingStream,
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::timeout,
};

use super::{Reply, Request, Status, backup, execute::execute, socket};
use crate::{registry::Registry, store::Archive};

/// A request has at most so many bytes, its newline included.
pub const MAX_REQUEST: usize = 64 * 1024;
/// So long may an owner take to send a request, and to read the reply.
const DEADLINE: Duration = Duration::from_secs(10);
/// So many are served at once; others wait in the socket's own queue.
const MAX_CONNECTIONS: usize = 16;
/// After a failed `accept` (no descriptor free), so long until the next.
const PAUSE: Duration = Duration::from_millis(200);
/// What is being done at shutdown has so long to finish: a commit on a slow disk, and its reply.
const GRACE: Duration = Duration::from_secs(5);

/// The bound control socket. Its files go away with it.
#[derive(Debug)]
pub struct Server {
    link: Option<PathBuf>,
    listener: UnixListener,
    path: PathBuf,
}

/// Why the socket could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A gateway is listening there already.
    #[error("another gateway answers at {0}: stop it, or give this one another state directory")]
    InUse(PathBuf),
    /// The file system refused.
    #[error("cannot bind the control socket {0}: {1}")]
    Io(PathBuf, io::Error),
    /// Something that is no socket has its name.
    #[error("{0} is in the way of the control socket: move it elsewhere")]
    NotASocket(PathBuf),
}

impl Server {
    /// Binds `control.sock` in `runtime_dir` (systemd: `$RUNTIME_DIRECTORY`), else in `state_dir`, which
    /// in any case is where commands find it. Replaces a file that a dead gateway has left behind.
    ///
    /// # Errors
    /// [`BindError`].
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn bind(state_dir: &Path, runtime_dir: Option<&Path>) -> Result<Self, BindError> {
        let path = socket::place(state_dir, runtime_dir);
        let linked = socket::in_state_dir(state_dir);
        // Both before anything is bound: a link left by a dead gateway may lead to the socket of this one.
        make_way(&path)?;
        match make_way(&linked) {
            // A disk that cannot be written to; what lies there may lead here all the same.
            Err(BindError::Io(..)) if linked != path => {}
            outcome => outcome?,
        }
        let listener = listen(&path).map_err(|error| BindError::Io(path.clone(), error))?;
        // From here on, dropping the server removes what was made.
        let mut server = Self { link: None, listener, path };
        if linked != server.path && !fs::read_link(&linked).is_ok_and(|target| target == server.path) {
            match symlink(&server.path, &linked) {
                Ok(()) => server.link = Some(linked),
                // Deliveries go on without it.
                Err(error) => {
                    tracing::error!(link = %linked.display(), %error, "commands will not find the gateway: the link to its control socket cannot be made");
                }
            }
        }
        Ok(server)
    }

    /// Serves owners until `stop` turns true (or its sender is gone), then finishes what was begun.
    pub async fn run(
        self,
        registry: Arc<Registry>,
        archive: Archive,
        status: Status,
        mut stop: watch::Receiver<bool>,
    ) {
        let status = Arc::new(status);
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut visits = JoinSet::new();
        loop {
            while visits.try_join_next().is_some() {}
            let Some((stream, place)) = (tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                next = self.next(&places) => next,
            }) else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let (registry, archive) = (registry.clone(), archive.clone());
            let (status, stop) = (status.clone(), stop.clone());
            visits.spawn(async move {
                visit(stream, &registry, &archive, &status, stop).await;
                drop(place);
            });
        }
        // The files go first: who asks from now on is told that no gateway runs.
        drop(self);
        let all = async { while visits.join_next().await.is_some() {} };
        if timeout(GRACE, all).await.is_err() {
            tracing::warn!("a command on the control socket did not finish in time");
        }
    }

    async fn next(&self, places: &Arc<Semaphore>) -> Option<(UnixStream, tokio::sync::OwnedSemaphorePermit)> {
        let place = places.clone().acquire_owned().await.ok()?;
        match self.listener.accept().await {
            Ok((stream, _)) => Some((stream, place)),
            Err(error) => {
                tracing::warn!(%error, "cannot accept on the control socket");
                None
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for path in self.link.iter().chain([&self.path]) {
            if let Err(error) = fs::remove_file(path) {
                tracing::debug!(path = %path.display(), %error, "the control socket was gone already");
            }
        }
    }
}

/// Removes what a dead gateway has left under this name, and nothing else.
fn make_way(path: &Path) -> Result<(), BindError> {
    let failed = |error| BindError::Io(path.to_owned(), error);
    let kind = match fs::symlink_metadata(path) {
        Ok(found) => found.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if !kind.is_socket() && !kind.is_symlink() {
        return Err(BindError::NotASocket(path.to_owned()));
    }
    let address = socket::Address::of(path).map_err(failed)?;
    let Err(error) = BlockingStream::connect(address.path()) else {
        return Err(BindError::InUse(path.to_owned()));
    };
    // Nobody listens, or a link leads nowhere.
    if [io::ErrorKind::ConnectionRefused, io::ErrorKind::NotFound].contains(&error.kind()) {
        fs::remove_file(path).map_err(failed)
    } else {
        Err(failed(error))
    }
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    let address = socket::Address::of(path)?;
    let listener = UnixListener::bind(address.path())?;
    // Whoever connects before this is refused by its user id all the same.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves one connection: who is it, what does it ask, what is the answer.
async fn visit(
    mut stream: UnixStream,
    registry: &Registry,
    archive: &Archive,
    status: &Status,
    mut stop: watch::Receiver<bool>,
) {
    let own = nix::unistd::geteuid().as_raw();
    let reply = match stream.peer_cred() {
        Ok(peer) if allowed(peer.uid(), own) => {
            let read = tokio::select! {
                read = timeout(DEADLINE, request(&mut stream)) => read,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            match read {
                Ok(Ok(Request::Backup)) => {
                    if let Err(error) = backup::send(&mut stream, archive).await {
                        tracing::warn!(%error, "a backup was not taken to its end");
                    }
                    return;
                }
                Ok(Ok(request)) => execute(registry, Some(status), request).await,
                Ok(Err(message)) => Reply::Failed { message },
                Err(_) => {
                    Reply::Failed { message: format!("no request came within {} s", DEADLINE.as_secs()) }
                }
            }
        }
        Ok(peer) => {
            tracing::warn!(uid = peer.uid(), "a user without the right to it asked on the control socket");
            Reply::Failed { message: "only root and the gateway's own user may ask".to_owned() }
        }
        Err(error) => Reply::Failed { message: format!("cannot tell who asks: {error}") },
    };
    if let Ok(Err(error)) = timeout(DEADLINE, answer(&mut stream, &reply)).await {
        tracing::debug!(%error, "the owner did not wait for the answer");
    }
}

/// Root, and the user that the gateway runs as.
fn allowed(peer: u32, own: u32) -> bool {
    peer == 0 || peer == own
}

async fn request(stream: &mut UnixStream) -> Result<Request, String> {
    let mut line = Vec::new();
    let mut limited = BufReader::new(stream).take(MAX_REQUEST as u64);
    limited.read_until(b'\n', &mut line).await.map_err(|error| error.to_string())?;
    if line.last() != Some(&b'\n') {
        return Err(if line.len() == MAX_REQUEST {
            format!("a request has at most {MAX_REQUEST} bytes")
        } else {
            "a request is one line of JSON that ends with a newline".to_owned()
        });
    }
    serde_json::from_slice(&line).map_err(|error| format!("this is no request: {error}"))
}

pub(super) async fn answer(stream: &mut UnixStream, reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    stream.shutdown().await
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
