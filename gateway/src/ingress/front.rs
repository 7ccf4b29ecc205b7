//! Accepts connections, a limited number of them, and sees each of them out.

use std::{
    convert::Infallible,
    future::pending,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header::CONNECTION};
use http_body_util::{Either, Full};
use hyper::{
    body::{Body as _, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch},
    time::{sleep, timeout},
};

use super::{
    Limits,
    answer::Answer,
    autopush, body,
    desk::Desk,
    io::{Pace, Paced, Turn},
    limits::{MAX_HEAD, STANDING, STANDING_HEAD, USER_TIMEOUT},
    matrix, ntfy,
    queue::Queue,
    reception::{Reception, Side},
    route::{MATRIX, Route, WEB_PUSH},
    stream::Streamed,
};
use crate::{
    admission::MAX_BODY,
    tls::Acceptor,
    transport::web::{self, Visit},
};

/// How long a connection that has not spoken yet may still do so when the gateway stops: its request
/// is probably on its way, and a reset looks like a dead endpoint to some senders.
const FRESH_GRACE: Duration = Duration::from_secs(1);
/// How long to wait when no connection can be accepted, for example for want of a descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What all connections have in common.
#[derive(Debug)]
pub(super) struct Front<Q> {
    desk: Arc<Desk<Q>>,
    http: http1::Builder,
    limits: Limits,
    reception: Arc<Reception>,
    /// One permit for each connection that is served.
    seats: Arc<Semaphore>,
    side: Side,
    /// One permit for each connection beyond them, which is only told to come back.
    standing: Arc<Semaphore>,
}

/// Where a connection is, for as long as it lives.
#[derive(Debug)]
pub(super) struct Place {
    seated: bool,
    _permit: OwnedSemaphorePermit,
}

/// What the service knows of its connection.
#[derive(Debug)]
struct Seat {
    pace: Pace,
    peer: IpAddr,
    /// Given up by a connection that stays.
    place: Mutex<Option<Place>>,
    seated: bool,
    /// Takes an answer that goes on.
    streamed: Mutex<Option<oneshot::Sender<Streamed>>>,
}

impl Seat {
    /// Sends a room's answer off, and the connection with it if it stays: it is not an application
    /// server's any more. An answer that goes on is not hyper's, which is left here; but where only its head was
    /// asked for, it does not go on.
    async fn see_off(
        &self,
        turn: Turn<'_>,
        mut response: Response<web::Body>,
        (method, version): (Method, Version),
        crowded: bool,
    ) -> Response<web::Body> {
        let is_upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let goes_on = response.body().size_hint().exact().is_none();
        if !is_upgraded && (!goes_on || method == Method::HEAD) {
            if crowded || goes_on {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            return response;
        }
        drop(lock(&self.place).take());
        if is_upgraded {
            turn.becomes_upgraded();
            return response;
        }
        if let Some(streamed) = lock(&self.streamed).take() {
            // Whoever waits for it lives as long as this.
            let _ = streamed.send(Streamed { response, version });
        }
        pending().await
    }
}

/// Locks, and goes on with what a panicked holder left: each is taken from once.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a connection goes on.
enum Over {
    /// Not at all, as far as hyper is concerned.
    Ended(hyper::Result<()>),
    /// With this.
    Streams(Streamed),
}

/// Serves requests until something else is to be done.
async fn serve_requests(
    connection: impl Future<Output = hyper::Result<()>>,
    streamed: &mut oneshot::Receiver<Streamed>,
) -> Over {
    tokio::select! {
        biased;
        ended = connection => Over::Ended(ended),
        Ok(streamed) = streamed => Over::Streams(streamed),
    }
}

/// Whose a request is.
enum Received {
    /// Nobody's: it came with a device's path, and no room knows the rest.
    Nobodys(Request<Incoming>),
    /// Ingress's own.
    Ours(Request<Incoming>),
    /// A room's, which answers it.
    Rooms(Pin<Box<dyn Future<Output = Response<web::Body>> + Send>>),
}

impl<Q: Queue> Front<Q> {
    pub(super) fn new(desk: Arc<Desk<Q>>, reception: Arc<Reception>, side: Side) -> Self {
        let mut limits = desk.limits;
        limits.max_connections = limits.max_connections.clamp(1, Semaphore::MAX_PERMITS);
        let mut http = http1::Builder::new();
        // The deadlines are `Paced`'s. A sender that has said everything may close its half and still
        // wants to know. That also keeps hyper from reading between a head and its answer, on which
        // `Paced` relies: it is then read, and asked for its deadline, when the connection falls idle.
        http.half_close(true).header_read_timeout(None).max_buf_size(MAX_HEAD);
        Self {
            desk,
            http,
            limits,
            reception,
            seats: Arc::new(Semaphore::new(limits.max_connections)),
            side,
            standing: Arc::new(Semaphore::new(STANDING)),
        }
    }

    /// Waits for the next connection. When there is no place at all, connections stay in the kernel's
    /// queue until there is.
    pub(super) async fn accept(&self, listener: &TcpListener) -> (TcpStream, SocketAddr, Place) {
        let standing = Arc::clone(&self.standing).acquire_owned().await.expect("is never closed");
        let (stream, peer) = loop {
            match listener.accept().await {
                Ok(accepted) => break accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        };
        // An answer is one write, and there is nothing to wait for. A socket that refuses the option is
        // dead, which reading from it will show.
        let _ = stream.set_nodelay(true);
        // For those who stay: a phone that went without a word is noticed by the first bytes to it.
        let _ = setsockopt(&stream, sockopt::TcpUserTimeout, &USER_TIMEOUT);
        let place = match Arc::clone(&self.seats).try_acquire_owned() {
            Ok(seat) => Place { seated: true, _permit: seat },
            Err(_) => Place { seated: false, _permit: standing },
        };
        (stream, peer, place)
    }

    /// Serves a connection that begins with a TLS handshake, which has the time of a head.
    pub(super) async fn attend_secure(
        self: Arc<Self>,
        stream: TcpStream,
        acceptor: Acceptor,
        peer: SocketAddr,
        place: Place,
        mut shutdown: watch::Receiver<bool>,
    ) {
        let within = if place.seated { self.limits.head } else { self.limits.head.min(STANDING_HEAD) };
        let shake = async {
            // Whoever says nothing gets no buffers.
            stream.readable().await?;
            acceptor.accept(stream, self.desk.clock.moment()).await
        };
        let shaken = tokio::select! {
            biased;
            shaken = timeout(within, shake) => shaken,
            _ = shutdown.wait_for(|stop| *stop) => return,
        };
        match shaken {
            // It has seen what it came for (RFC 8737 §3).
            Ok(Ok(stream)) if acceptor.was_challenge(&stream) => {}
            Ok(Ok(stream)) => self.attend(stream, peer, place, shutdown).await,
            Ok(Err(error)) => tracing::debug!(%peer, %error, "no TLS"),
            Err(_) => tracing::debug!(%peer, "a TLS handshake took too long"),
        }
    }

    /// Serves a connection to its end, which comes at the latest `drain` after `shutdown`.
    pub(super) async fn attend<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
        self: Arc<Self>,
        stream: S,
        peer: SocketAddr,
        place: Place,
        mut shutdown: watch::Receiver<bool>,
    ) {
        let mut limits = self.limits;
        let mut http = self.http.clone();
        if !place.seated {
            limits.head = limits.head.min(STANDING_HEAD);
            http.keep_alive(false);
        }
        let (hand, mut streamed) = oneshot::channel();
        let (successor, returned) = oneshot::channel();
        let seat = Seat {
            pace: Pace::default(),
            peer: peer.ip(),
            seated: place.seated,
            place: Mutex::new(Some(place)),
            streamed: Mutex::new(Some(hand)),
        };
        let service = service_fn(|request| {
            let (front, seat) = (&self, &seat);
            // Boxed, so that an idle connection keeps no room for what a request needs.
            Box::pin(async move { Ok::<_, Infallible>(front.answer(request, seat).await) })
        });
        let io = TokioIo::new(Paced::new(stream, seat.pace.clone(), limits, successor));
        let mut connection = Box::pin(http.serve_connection(io, service).with_upgrades());
        let over = tokio::select! {
            biased;
            over = serve_requests(connection.as_mut(), &mut streamed) => Some(over),
            _ = shutdown.wait_for(|stop| *stop) => None,
        };
        let over = match over {
            Some(over) => Some(over),
            None => {
                let last = async {
                    if seat.pace.is_fresh() {
                        let first = serve_requests(connection.as_mut(), &mut streamed);
                        if let Ok(over) = timeout(FRESH_GRACE, first).await {
                            return over;
                        }
                    }
                    connection.as_mut().graceful_shutdown();
                    serve_requests(connection.as_mut(), &mut streamed).await
                };
                timeout(limits.drain, last).await.ok()
            }
        };
        drop(connection);
        match over {
            Some(Over::Streams(streamed)) => {
                if let Ok(io) = returned.await {
                    streamed.serve(io, self.desk.clock.moment().wall, limits).await;
                }
            }
            Some(Over::Ended(Err(error))) => tracing::debug!(%error, "a connection ended early"),
            Some(Over::Ended(Ok(()))) | None => {}
        }
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        seat: &Seat,
    ) -> Response<Either<Full<Bytes>, web::Body>> {
        let turn = seat.pace.begin();
        let asked = (request.method().clone(), request.version());
        let received = match seat.seated {
            true => self.receive(request, seat.peer),
            false => Received::Ours(request),
        };
        let (request, is_ours) = match received {
            Received::Nobodys(request) => (request, false),
            Received::Ours(request) => (request, true),
            Received::Rooms(answer) => {
                let response = answer.await;
                let response = seat.see_off(turn, response, asked, self.is_crowded()).await;
                return response.map(Either::Right);
            }
        };
        let (head, mut body) = request.into_parts();
        let answer = match seat.seated {
            true if is_ours => self.desk.serve(&head, &mut body).await,
            true => Answer::PathUnknown,
            false => Answer::Crowded,
        };
        // An unread body would end the connection without a word of warning to a sender that wants to
        // use it again.
        let ends = answer.is_last() || body::skip(&mut body, MAX_BODY, self.limits.body).await.is_err();
        let mut response = match head.uri.path() {
            path if path.starts_with(MATRIX) => matrix::into_response(answer),
            path if path.starts_with(WEB_PUSH) => autopush::into_response(answer),
            _ => answer.into_response(),
        };
        if ends || self.is_crowded() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response.map(Either::Left)
    }

    /// Offers what is not ingress's own to the rooms: other paths, WebSockets, and whatever comes with a
    /// device's own path.
    fn receive(&self, mut request: Request<Incoming>, peer: IpAddr) -> Received {
        let visitor = self.reception.visitor(&mut request, self.side, peer);
        let is_ours = !matches!(Route::find(request.method(), request.uri().path()), Route::Unknown);
        let published = match &self.reception.ntfy {
            Some(room) if !web::wants_web_socket(request.headers()) => {
                ntfy::asked(&request).map(|asked| (Arc::clone(room), asked))
            }
            Some(_) | None => None,
        };
        if let Some((room, asked)) = published {
            let desk = Arc::clone(&self.desk);
            return Received::Rooms(Box::pin(ntfy::publish(desk, room, asked, request, visitor)));
        }
        if is_ours && visitor.path.is_none() && !web::wants_web_socket(request.headers()) {
            return Received::Ours(request);
        }
        for room in &self.reception.hosted {
            match Arc::clone(room).visit(request, &visitor) {
                Visit::Elsewhere(again) => request = again,
                Visit::Here(answer) => return Received::Rooms(answer),
            }
        }
        if visitor.path.is_some() { Received::Nobodys(request) } else { Received::Ours(request) }
    }

    /// Whether idle connections would keep the last seats from those who have something to say.
    fn is_crowded(&self) -> bool {
        self.seats.available_permits() < self.limits.max_connections / 4
    }

    /// Waits until every connection has ended.
    pub(super) async fn emptied(&self) {
        for (permits, all) in [(&self.seats, self.limits.max_connections), (&self.standing, STANDING)] {
            let all = u32::try_from(all).unwrap_or(u32::MAX);
            // Every connection bounds itself; this is for the one that could not be polled.
            let within = self.limits.drain + self.limits.linger;
            if timeout(within, permits.acquire_many(all)).await.is_err() {
                tracing::warn!("some connections did not end in time");
            }
        }
    }
}
