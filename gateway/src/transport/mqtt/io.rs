//! The listeners: accepting, socket options, and who may come in.

mod gate;
#[cfg(test)]
mod tests;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use nix::sys::socket::{setsockopt, sockopt};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, Interest},
    net::{TcpListener, TcpStream},
    sync::OwnedSemaphorePermit,
};

use self::gate::Counted;
pub(super) use self::gate::{Allowance, Greetings, Metered};
use super::{
    MqttRoom,
    config::{GREETING_MAX, HANDSHAKE_MAX},
    connection,
};
use crate::tls::Acceptor;

/// What a listener's connections begin with.
#[derive(Clone, Debug)]
pub(super) enum Security {
    Plain,
    Tls(Acceptor),
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
            Ok((stream, peer)) => match place(&room, peer.ip()).await {
                Ok(place) => {
                    let room = Arc::clone(&room);
                    // A task each: one for both would be as large as the larger.
                    match &security {
                        Security::Plain => tokio::spawn(welcome(room, stream, peer, place)),
                        Security::Tls(acceptor) => {
                            tokio::spawn(welcome_tls(room, stream, peer, acceptor.clone(), place))
                        }
                    };
                }
                Err(full) => {
                    tracing::warn!(%peer, max = full.max, "no place for an MQTT connection: {}", full.why);
                }
            },
            Err(error) => {
                tracing::warn!(%error, "an MQTT connection could not be accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

/// A place among all connections, and among those of its source.
#[derive(Debug)]
pub(super) struct Place {
    _among_all: OwnedSemaphorePermit,
    _of_source: Counted<Arc<Greetings>>,
}

/// Why there is none.
pub(super) struct Full {
    max: usize,
    why: &'static str,
}

/// A place among the connections. When there is none, whoever has been longest about its login goes:
/// silent strangers make room for devices, never the other way round.
pub(super) async fn place(room: &MqttRoom, peer: IpAddr) -> Result<Place, Full> {
    let max = room.max_connections_per_source;
    let of_source = Greetings::count(Arc::clone(&room.greetings), peer, max)
        .ok_or(Full { max, why: "its source has all that one may have (max_connections_per_source)" })?;
    if let Ok(among_all) = Arc::clone(&room.places).try_acquire_owned() {
        return Ok(Place { _among_all: among_all, _of_source: of_source });
    }
    let full = || Full { max: room.max_connections, why: "all are taken by devices (max_connections)" };
    if !room.greetings.end_oldest() {
        return Err(full());
    }
    let place = tokio::time::timeout(PLACE_WITHIN, Arc::clone(&room.places).acquire_owned()).await;
    let among_all = place.ok().and_then(Result::ok).ok_or_else(full)?;
    Ok(Place { _among_all: among_all, _of_source: of_source })
}

async fn welcome(room: Arc<MqttRoom>, stream: TcpStream, peer: SocketAddr, place: Place) {
    prepare(&stream, peer, &room);
    let allowance = Allowance::new(GREETING_MAX);
    let stream = Metered::new(stream, allowance.clone());
    connection::serve(&room, peer.ip(), allowance, async { Ok(stream) }).await;
    drop(place);
}

async fn welcome_tls(
    room: Arc<MqttRoom>,
    stream: TcpStream,
    peer: SocketAddr,
    acceptor: Acceptor,
    place: Place,
) {
    prepare(&stream, peer, &room);
    let allowance = Allowance::new(HANDSHAKE_MAX);
    let (metered, now) = (allowance.clone(), || room.clock.moment());
    let shake = async {
        // Whoever says nothing gets no buffers.
        stream.ready(Interest::READABLE).await?;
        acceptor.accept(Metered::new(stream, metered), now()).await
    };
    connection::serve(&room, peer.ip(), allowance, shake).await;
    drop(place);
}

/// What every accepted socket gets, as far as it takes it.
fn prepare(stream: &TcpStream, peer: SocketAddr, room: &MqttRoom) {
    if let Err(error) = set_options(stream, room.limits.user_timeout) {
        tracing::debug!(%peer, %error, "socket options");
    }
}

/// No keep-alive by TCP, which a listener may hand down: its probes wake
/// a radio, and MQTT has its own that do it as rarely as the network bears.
fn set_options(stream: &TcpStream, user_timeout: Duration) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    setsockopt(stream, sockopt::KeepAlive, &false)?;
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
