//! The web door: how rooms are reached whose protocol begins as an HTTP request.
//!
//! [`crate::ingress`] owns the HTTP listeners. What is not its own it offers to the [`Hosted`] rooms,
//! together with who is asking: from where, by which audience's listener, and with which device's own
//! path. A room that takes the request answers it, and may keep the connection: by an upgrade
//! ([`shake_hands`], [`web_socket`]), or by a body without a known length. Such a connection is free of
//! the deadlines of requests, does not take the seat of an application server, and is not waited for
//! when the gateway stops: the room ends it. In exchange the room holds a [`Stay`] for as long as it lasts.

use std::{
    collections::HashMap,
    convert::Infallible,
    fmt,
    net::{IpAddr, Ipv6Addr},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{
        CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
        UPGRADE,
    },
};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::{
    body::Incoming,
    upgrade::{OnUpgrade, Upgraded},
};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        handshake::derive_accept_key,
        protocol::{Role, WebSocketConfig},
    },
};

use super::{Directory, Login};
use crate::model::PathToken;

/// The body of a room's answer. One that does not know its length is a stream.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A WebSocket whose handshake is done.
pub type WebSocket = WebSocketStream<TokioIo<Upgraded>>;

/// How long an upgrade may take to come about after its answer was given.
const UPGRADE_WITHIN: Duration = Duration::from_secs(10);

/// A room that is reached over HTTP.
pub trait Hosted: Send + Sync {
    /// Takes a request, or gives it back untouched when its path means nothing to the room. Never waits;
    /// what takes time belongs into the future.
    fn visit(self: Arc<Self>, request: Request<Incoming>, visitor: &Visitor) -> Visit;
}

/// What a room says to a request.
#[expect(clippy::large_enum_variant, reason = "it is taken apart where it is returned to")]
pub enum Visit {
    /// Not this room's: it may be another's.
    Elsewhere(Request<Incoming>),
    /// This room's; the future is its answer.
    Here(Pin<Box<dyn Future<Output = Response<Body>> + Send>>),
}

impl Visit {
    /// The request is answered by this future.
    pub fn here(answer: impl Future<Output = Response<Body>> + Send + 'static) -> Self {
        Self::Here(Box::pin(answer))
    }
}

/// By which door somebody has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Audience {
    /// From the owner's own network: whoever is here may register.
    Home,
    /// Perhaps from the internet: only who proves to be a device is let in.
    Public,
}

/// Who makes a request.
#[derive(Clone, Debug)]
pub struct Visitor {
    /// By which door.
    pub audience: Audience,
    /// The device's own path (`/d/…/`) that the request began with; it is gone from the request.
    pub path: Option<PathToken>,
    /// From where: the peer's address, or what a trusted proxy said of it.
    pub source: IpAddr,
    /// What [`stay`](Self::stay) counts.
    pub stays: Arc<Stays>,
}

impl Visitor {
    /// Judges the device's own path; `None` without one.
    #[must_use]
    pub fn login(&self, directory: &dyn Directory) -> Option<Login> {
        let path = self.path?;
        Some(directory.login(&path.device().to_string(), path.secret().as_bytes(), self.source))
    }

    /// Asks for a connection that stays.
    ///
    /// # Errors
    /// [`Crowded`]: answer 503 or 429, and keep nothing.
    pub fn stay(&self) -> Result<Stay, Crowded> {
        self.stays.take(self.source)
    }
}

/// No connection more may stay.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Crowded {
    /// From this source (429).
    Source,
    /// At all (503).
    Total,
}

/// Counts the connections that stay, in all and by source.
#[derive(Debug)]
pub struct Stays {
    held: Mutex<Held>,
    max: usize,
    max_per_source: usize,
}

#[derive(Debug, Default)]
struct Held {
    by_source: HashMap<IpAddr, usize>,
    total: usize,
}

impl Stays {
    /// At most `max` in all and `max_per_source` from one address (IPv6: one /64 network).
    #[must_use]
    pub fn new(max: usize, max_per_source: usize) -> Arc<Self> {
        Arc::new(Self { held: Mutex::default(), max, max_per_source })
    }

    fn take(self: &Arc<Self>, source: IpAddr) -> Result<Stay, Crowded> {
        let source = household(source);
        let mut held = self.held();
        if held.total >= self.max {
            return Err(Crowded::Total);
        }
        if held.by_source.get(&source).is_some_and(|count| *count >= self.max_per_source) {
            return Err(Crowded::Source);
        }
        *held.by_source.entry(source).or_default() += 1;
        held.total += 1;
        drop(held);
        Ok(Stay { source, stays: Arc::clone(self) })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leave for one connection to stay; it ends when this is dropped.
#[derive(Debug)]
pub struct Stay {
    source: IpAddr,
    stays: Arc<Stays>,
}

impl Drop for Stay {
    fn drop(&mut self) {
        let mut held = self.stays.held();
        held.total -= 1;
        if let Some(count) = held.by_source.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                held.by_source.remove(&self.source);
            }
        }
    }
}

/// What counts as one source: an IPv6 customer has a whole /64 to come from.
fn household(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

/// An answer that says all of itself.
#[must_use]
pub fn answer(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()).boxed_unsync());
    *response.status_mut() = status;
    response
}

/// Whether this is the beginning of a WebSocket (RFC 6455 §4.1), well-formed or not.
#[must_use]
pub fn wants_web_socket(headers: &HeaderMap) -> bool {
    lists(headers, UPGRADE.as_str(), "websocket")
}

/// Why something is not the beginning of a WebSocket.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadHandshake {
    /// 400.
    #[error(
        "a WebSocket begins with GET, HTTP/1.1, Connection: Upgrade, Upgrade: websocket and a Sec-WebSocket-Key of 24 characters"
    )]
    Malformed,
    /// 426.
    #[error("a WebSocket of version 13 is wanted here")]
    Version,
}

impl BadHandshake {
    /// What to say to it.
    #[must_use]
    pub fn into_response(self) -> Response<Body> {
        let status = match self {
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::Version => StatusCode::UPGRADE_REQUIRED,
        };
        let mut response = answer(status, format!("{self}\n"));
        if self == Self::Version {
            response.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
        }
        response
    }
}

/// Answers the handshake of a WebSocket (RFC 6455 §4.2). `protocols` are the subprotocols that the room
/// speaks: the first that the client offers is named, and none if it offers none.
///
/// # Errors
/// [`BadHandshake`].
pub fn shake_hands(
    request: &mut Request<Incoming>,
    protocols: &[&'static str],
) -> Result<(Response<Body>, OnUpgrade), BadHandshake> {
    let headers = request.headers();
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(BadHandshake::Version);
    }
    let is_get = request.method() == Method::GET && request.version() == Version::HTTP_11;
    if !is_get || !wants_web_socket(headers) || !lists(headers, CONNECTION.as_str(), "upgrade") {
        return Err(BadHandshake::Malformed);
    }
    // 16 bytes in base64 (RFC 6455 §4.1); what they are is the client's business.
    let Some(key) = headers.get(SEC_WEBSOCKET_KEY).filter(|key| key.len() == 24) else {
        return Err(BadHandshake::Malformed);
    };
    let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) else {
        return Err(BadHandshake::Malformed);
    };
    let protocol =
        protocols.iter().find(|protocol| lists(headers, SEC_WEBSOCKET_PROTOCOL.as_str(), protocol));
    let mut response = answer(StatusCode::SWITCHING_PROTOCOLS, Bytes::new());
    let answered = response.headers_mut();
    answered.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    answered.insert(UPGRADE, HeaderValue::from_static("websocket"));
    answered.insert(SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(protocol) = protocol {
        answered.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    Ok((response, hyper::upgrade::on(request)))
}

/// The WebSocket that a handshake has led to; `None` when the connection ended instead. Messages and
/// frames have at most `max_message` bytes. Dropping it closes the TCP connection without a Close frame.
pub async fn web_socket(upgrade: OnUpgrade, max_message: usize) -> Option<WebSocket> {
    let upgraded = tokio::time::timeout(UPGRADE_WITHIN, upgrade).await.ok()?.ok()?;
    // Small buffers: thousands of connections wait in silence, and what they say is short.
    let config = WebSocketConfig::default()
        .read_buffer_size(1024)
        .write_buffer_size(WRITE_TOGETHER)
        .max_write_buffer_size(WRITE_BUFFER)
        .max_message_size(Some(max_message))
        .max_frame_size(Some(max_message));
    Some(WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await)
}

/// Messages are written together up to this many bytes: one wake, few segments.
const WRITE_TOGETHER: usize = 8 * 1024;
/// What may wait to be written to one WebSocket: a window of messages with their frames.
const WRITE_BUFFER: usize = 512 * 1024;

/// Whether a header that is a list names `wanted`, whatever its case (RFC 9110 §5.6.1).
fn lists(headers: &HeaderMap, name: &str, wanted: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|item| item.trim().eq_ignore_ascii_case(wanted))
}

impl fmt::Debug for Visit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Elsewhere(_) => "Elsewhere",
            Self::Here(_) => "Here",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_source_and_all_of_them_have_a_limit() {
        let stays = Stays::new(3, 2);
        let first = stays.take(address("192.0.2.1")).expect("room");
        let _second = stays.take(address("::ffff:192.0.2.1")).expect("room");
        assert_eq!(stays.take(address("192.0.2.1")).err(), Some(Crowded::Source));
        let _third = stays.take(address("192.0.2.2")).expect("room");
        assert_eq!(stays.take(address("192.0.2.3")).err(), Some(Crowded::Total));
        drop(first);
        let _fourth = stays.take(address("192.0.2.1")).expect("room again");
        drop((_second, _third, _fourth));
        assert!(stays.held().by_source.is_empty(), "nothing is remembered of those who left");
    }

    #[test]
    fn one_ipv6_network_is_one_source() {
        let stays = Stays::new(9, 1);
        let _first = stays.take(address("2001:db8::1")).expect("room");
        assert_eq!(stays.take(address("2001:db8::ffff:2")).err(), Some(Crowded::Source));
        assert!(stays.take(address("2001:db8:0:1::1")).is_ok());
    }

    #[test]
    fn lists_are_read_item_by_item() {
        let mut headers = HeaderMap::new();
        headers.append(CONNECTION, HeaderValue::from_static("keep-alive, Upgrade"));
        assert!(lists(&headers, "connection", "upgrade"));
        assert!(!lists(&headers, "connection", "up"));
        assert!(!wants_web_socket(&headers));
    }
}
