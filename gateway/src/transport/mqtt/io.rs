//! The listeners: accepting, socket options, and who may come in.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use nix::sys::socket::{setsockopt, sockopt};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Notify, OwnedSemaphorePermit},
};
use tokio_rustls::TlsAcceptor;

use super::{MqttRoom, connection, seat::lock};

/// What a listener's connections begin with.
#[derive(Clone)]
pub(super) enum Security {
    Plain,
    Tls(TlsAcceptor),
}

impl std::fmt::Debug for Security {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain => "Plain",
            Self::Tls(_) => "Tls",
        })
    }
}

/// How long accepting rests when the system refuses (out of descriptors).
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// How long a newcomer waits for the place of the stranger that had to go.
const PLACE_WITHIN: Duration = Duration::from_millis(100);

/// Accepts for as long as it is polled. Nothing that a peer does or omits holds it up: the TLS
/// handshake and the login happen in the connection's own task.
pub(super) async fn accept(room: Arc<MqttRoom>, listener: std::net::TcpListener, security: Security) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "an MQTT listener cannot be used");
            return;
        }
    };
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                if let Some(place) = place(&room).await {
                    tokio::spawn(welcome(Arc::clone(&room), stream, peer, security.clone(), place));
                } else {
                    tracing::warn!(%peer, max = room.max_connections, "no place for an MQTT connection");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "an MQTT connection could not be accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

/// A place among the connections. When there is none, whoever has been longest about its login goes:
/// silent strangers make room for devices, never the other way round.
async fn place(room: &MqttRoom) -> Option<OwnedSemaphorePermit> {
    if let Ok(place) = Arc::clone(&room.places).try_acquire_owned() {
        return Some(place);
    }
    if !room.greetings.end_oldest() {
        return None;
    }
    let place = Arc::clone(&room.places).acquire_owned();
    tokio::time::timeout(PLACE_WITHIN, place).await.ok()?.ok()
}

async fn welcome(
    room: Arc<MqttRoom>,
    stream: TcpStream,
    peer: SocketAddr,
    security: Security,
    place: OwnedSemaphorePermit,
) {
    if let Err(error) = prepare(&stream, room.limits.user_timeout) {
        tracing::debug!(%peer, %error, "socket options");
    }
    match security {
        Security::Plain => {
            connection::serve(&room, peer.ip(), async { Ok(stream) }).await;
        }
        Security::Tls(acceptor) => {
            connection::serve(&room, peer.ip(), acceptor.accept(stream)).await;
        }
    }
    drop(place);
}

fn prepare(stream: &TcpStream, user_timeout: Duration) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let milliseconds = u32::try_from(user_timeout.as_millis()).unwrap_or(u32::MAX);
    Ok(setsockopt(stream, sockopt::TcpUserTimeout, &milliseconds)?)
}

/// What is still read from a peer that has been told good-bye.
const LAST_BYTES: usize = 256 * 1024;

/// Closes a stream so that its last words arrive: what is closed with bytes unread is reset, and a
/// reset takes the words with it.
pub(super) async fn hang_up<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, within: Duration) {
    let parting = async {
        stream.shutdown().await?;
        let (mut buffer, mut read) = ([0; 1024], 0);
        while read < LAST_BYTES {
            match stream.read(&mut buffer).await? {
                0 => break,
                more => read += more,
            }
        }
        std::io::Result::Ok(())
    };
    let _ = tokio::time::timeout(within, parting).await;
}

/// Connections that have not logged in yet, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Greetings {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    by_number: BTreeMap<u64, Arc<Notify>>,
    next: u64,
    /// Whoever comes from now on is to go at once.
    stopping: bool,
}

/// One of them, until it is dropped.
pub(super) struct Greeting<'a> {
    among: &'a Greetings,
    end: Arc<Notify>,
    number: u64,
}

impl Greetings {
    /// One more.
    pub(super) fn begin(&self) -> Greeting<'_> {
        let end = Arc::new(Notify::new());
        let mut waiting = lock(&self.waiting);
        if waiting.stopping {
            end.notify_one();
        }
        let number = waiting.next;
        waiting.next += 1;
        waiting.by_number.insert(number, Arc::clone(&end));
        Greeting { among: self, end, number }
    }

    /// Ends all of them, also those to come.
    pub(super) fn stop(&self) {
        lock(&self.waiting).stopping = true;
        while self.end_oldest() {}
    }

    /// Ends the oldest, if there is one.
    fn end_oldest(&self) -> bool {
        let oldest = lock(&self.waiting).by_number.pop_first();
        oldest.map(|(_, end)| end.notify_one()).is_some()
    }
}

impl Greeting<'_> {
    /// Returns when this one is to go.
    pub(super) async fn ended(&self) {
        self.end.notified().await;
    }
}

impl Drop for Greeting<'_> {
    fn drop(&mut self) {
        lock(&self.among.waiting).by_number.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_goes_first_and_nobody_begins_after_the_end() {
        let greetings = Greetings::default();
        let (first, second) = (greetings.begin(), greetings.begin());
        assert!(greetings.end_oldest());
        first.ended().await;
        drop(first);
        drop(second);
        assert!(!greetings.end_oldest(), "nobody is left");
        greetings.stop();
        let late = greetings.begin();
        tokio::time::timeout(Duration::from_secs(10), late.ended()).await.expect("at once");
    }
}
