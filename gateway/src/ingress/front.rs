//! Accepts connections, a limited number of them, and sees each of them out.

use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header::CONNECTION};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{sleep, timeout},
};

use super::{
    Limits,
    answer::Answer,
    body,
    desk::Desk,
    io::{Pace, Paced},
    limits::{MAX_HEAD, STANDING, STANDING_HEAD},
    queue::Queue,
};
use crate::admission::MAX_BODY;

/// How long a connection that has not spoken yet may still do so when the gateway stops: its request
/// is probably on its way, and a reset looks like a dead endpoint to some senders.
const FRESH_GRACE: Duration = Duration::from_secs(1);
/// How long to wait when no connection can be accepted, for example for want of a descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What all connections have in common.
#[derive(Debug)]
pub(super) struct Front<Q> {
    desk: Desk<Q>,
    http: http1::Builder,
    limits: Limits,
    /// One permit for each connection that is served.
    seats: Arc<Semaphore>,
    /// One permit for each connection beyond them, which is only told to come back.
    standing: Arc<Semaphore>,
}

/// Where a connection is, for as long as it lives.
#[derive(Debug)]
pub(super) struct Place {
    seated: bool,
    _permit: OwnedSemaphorePermit,
}

impl<Q: Queue> Front<Q> {
    pub(super) fn new(desk: Desk<Q>) -> Self {
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
            seats: Arc::new(Semaphore::new(limits.max_connections)),
            standing: Arc::new(Semaphore::new(STANDING)),
        }
    }

    /// Waits for the next connection. When there is no place at all, connections stay in the kernel's
    /// queue until there is.
    pub(super) async fn accept(&self, listener: &TcpListener) -> (TcpStream, Place) {
        let standing = Arc::clone(&self.standing).acquire_owned().await.expect("is never closed");
        let stream = loop {
            match listener.accept().await {
                Ok((stream, _)) => break stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        };
        // An answer is one write, and there is nothing to wait for. A socket that refuses the option is
        // dead, which reading from it will show.
        let _ = stream.set_nodelay(true);
        let place = match Arc::clone(&self.seats).try_acquire_owned() {
            Ok(seat) => Place { seated: true, _permit: seat },
            Err(_) => Place { seated: false, _permit: standing },
        };
        (stream, place)
    }

    /// Serves a connection to its end, which comes at the latest `drain` after `shutdown`.
    pub(super) async fn attend(
        self: Arc<Self>,
        stream: TcpStream,
        place: Place,
        mut shutdown: watch::Receiver<bool>,
    ) {
        let mut limits = self.limits;
        let mut http = self.http.clone();
        if !place.seated {
            limits.head = limits.head.min(STANDING_HEAD);
            http.keep_alive(false);
        }
        let (pace, seated) = (Pace::default(), place.seated);
        let service = service_fn(|request| {
            let (front, pace) = (&self, &pace);
            async move { Ok::<_, Infallible>(front.answer(request, pace, seated).await) }
        });
        let io = TokioIo::new(Paced::new(stream, pace.clone(), limits));
        let mut connection = pin!(http.serve_connection(io, service));
        let ended = tokio::select! {
            biased;
            ended = connection.as_mut() => Some(ended),
            _ = shutdown.wait_for(|stop| *stop) => None,
        };
        let ended = match ended {
            Some(ended) => Some(ended),
            None => {
                let last = async {
                    if pace.is_fresh() {
                        if let Ok(ended) = timeout(FRESH_GRACE, connection.as_mut()).await {
                            return ended;
                        }
                    }
                    connection.as_mut().graceful_shutdown();
                    connection.await
                };
                timeout(limits.drain, last).await.ok()
            }
        };
        if let Some(Err(error)) = ended {
            tracing::debug!(%error, "a connection ended early");
        }
    }

    async fn answer(&self, request: Request<Incoming>, pace: &Pace, seated: bool) -> Response<Full<Bytes>> {
        let _turn = pace.begin();
        let (head, mut body) = request.into_parts();
        let answer = if seated { self.desk.serve(&head, &mut body).await } else { Answer::Crowded };
        // An unread body would end the connection without a word of warning to a sender that wants to
        // use it again.
        let ends = answer.is_last() || body::skip(&mut body, MAX_BODY, self.limits.body).await.is_err();
        let mut response = answer.into_response();
        if ends || self.is_crowded() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
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
