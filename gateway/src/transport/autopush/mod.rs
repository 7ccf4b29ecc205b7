//! The Autopush room: Mozilla's WebSocket protocol, for Firefox, Sunup and KUnifiedPush as they are.
//!
//! ```text
//! hand_over ▶ seat (window) ▶ io ▶ session ▶ client
//!                ▲                    │
//!                └── settle ◀ Report ◀┘
//! ```
//!
//! A uaid is a device id and 64 secret bits, so a client's uaid is its login and needs no record besides
//! the device's. It is written down at the first `register`: a browser that nobody subscribes with leaves
//! nothing behind. Connections end without a Close frame, because OkHttp clients hang on one.

mod config;
mod io;
mod seat;
mod session;
#[cfg(test)]
mod tests;
mod wire;

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use http::{
    Request, StatusCode,
    header::{ORIGIN, RETRY_AFTER},
};
use hyper::body::Incoming;
use ring::digest;
use tokio::sync::{mpsc, watch};

pub use self::config::Limits;
use self::{
    config::MESSAGE_MAX,
    seat::{Mail, Seats, lock},
    session::Access,
};
use super::{
    Consignment, Directory, Event, Invitation, Login, Notice, Report, Transport, Turned,
    web::{self, Hosted, Visit, Visitor},
};
use crate::{
    clock::SharedClock,
    model::{DeviceId, PathToken},
};

/// The room's name.
const NAME: &str = "autopush";
/// What Firefox offers; it works without, too.
const PROTOCOLS: [&str; 1] = ["push-notification"];

/// The room.
pub struct AutopushRoom {
    /// Held by every connection; gone when the room stops.
    alive: Mutex<Option<mpsc::Sender<Infallible>>>,
    /// The origin of endpoints.
    base: String,
    clock: SharedClock,
    directory: Arc<dyn Directory>,
    limits: Limits,
    reports: mpsc::Sender<Report>,
    seats: Seats,
    stop: watch::Sender<bool>,
    /// Ends when the last connection has.
    vacated: Mutex<Option<mpsc::Receiver<Infallible>>>,
}

impl std::fmt::Debug for AutopushRoom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AutopushRoom").field("base", &self.base).finish_non_exhaustive()
    }
}

impl AutopushRoom {
    /// A room whose endpoints begin with `base`, an origin without a slash at its end.
    #[must_use]
    pub fn open(
        base: String,
        directory: Arc<dyn Directory>,
        reports: mpsc::Sender<Report>,
        clock: SharedClock,
        limits: Limits,
    ) -> Arc<Self> {
        let (alive, vacated) = mpsc::channel(1);
        Arc::new(Self {
            alive: Mutex::new(Some(alive)),
            base,
            clock,
            directory,
            limits,
            reports,
            seats: Seats::default(),
            stop: watch::channel(false).0,
            vacated: Mutex::new(Some(vacated)),
        })
    }

    /// Waits until `shutdown` becomes true, then ends every connection.
    pub async fn run(self: Arc<Self>, mut shutdown: watch::Receiver<bool>) {
        // An error means that nobody is left who could ask for the end: then it has come.
        let _ = shutdown.wait_for(|stop| *stop).await;
        lock(&self.alive).take();
        self.stop.send_replace(true);
        let Some(mut vacated) = lock(&self.vacated).take() else { return };
        if tokio::time::timeout(self.limits.drain, vacated.recv()).await.is_err() {
            tracing::warn!("some Autopush connections did not end in time");
        }
    }

    async fn report(&self, device: DeviceId, event: Event) {
        let report = Report { at: self.clock.moment().instant, device, event };
        // Nobody listens any more when the process is about to end.
        let _ = self.reports.send(report).await;
    }

    /// Answers the handshake, and serves the client in a task of its own.
    fn welcome(
        self: Arc<Self>,
        mut request: Request<Incoming>,
        access: Access,
        visitor: &Visitor,
    ) -> http::Response<web::Body> {
        let alive = lock(&self.alive).clone();
        let (Some(alive), Ok(stay)) = (alive, visitor.stay()) else {
            return later(StatusCode::SERVICE_UNAVAILABLE);
        };
        let source = visitor.source;
        match web::shake_hands(&mut request, &PROTOCOLS) {
            Ok((response, upgrade)) => {
                tokio::spawn(async move {
                    let stop = self.stop.subscribe();
                    if let Some(socket) = web::web_socket(upgrade, MESSAGE_MAX).await {
                        io::serve(self, socket, access, source, stop).await;
                    }
                    drop((alive, stay));
                });
                response
            }
            Err(bad) => bad.into_response(),
        }
    }
}

impl Hosted for AutopushRoom {
    fn visit(self: Arc<Self>, request: Request<Incoming>, visitor: &Visitor) -> Visit {
        let headers = request.headers();
        if request.uri().path() != "/" || !web::wants_web_socket(headers) {
            return Visit::Elsewhere(request);
        }
        // Browsers name the page that opens a WebSocket; a page is no distributor. Firefox's own
        // connection names a ws or wss origin.
        let is_page = headers.get(ORIGIN).is_some_and(|origin| !origin.as_bytes().starts_with(b"ws"));
        let access = match visitor.login(&*self.directory) {
            None if is_page => {
                return Visit::here(async { web::answer(StatusCode::FORBIDDEN, "not for web pages\n") });
            }
            None => Access::Uaid(visitor.audience),
            Some(Login::Welcome(device)) => match visitor.path {
                Some(path) => Access::Path(device, path_uaid(path)),
                None => return Visit::Elsewhere(request),
            },
            // Whether there is such a device is nobody's business.
            Some(Login::Refused) => return Visit::Elsewhere(request),
            Some(Login::Throttled) => {
                return Visit::here(async { later(StatusCode::TOO_MANY_REQUESTS) });
            }
        };
        let response = self.welcome(request, access, visitor);
        Visit::here(async { response })
    }
}

impl Transport for AutopushRoom {
    fn hand_over(&self, consignment: Consignment) -> Result<(), Turned> {
        self.seats.of(consignment.device).ok_or(Turned::Absent)?.accept(consignment.items)
    }

    fn name(&self) -> &'static str {
        NAME
    }

    fn ping(&self, device: DeviceId) -> Result<(), Turned> {
        self.seats.of(device).ok_or(Turned::Absent)?.tell(Mail::Ping);
        Ok(())
    }

    fn tell(&self, notice: Notice) {
        match notice {
            Notice::Expelled(device) => {
                if let Some(seat) = self.seats.of(device) {
                    seat.tell(Mail::End);
                }
            }
            // What the gateway plans is its own business here: the client is told nothing.
            Notice::Plan(..) => {}
            Notice::Unregistered(device, token) => {
                if let Some(seat) = self.seats.of(device) {
                    seat.tell(Mail::Unregistered(token));
                }
            }
        }
    }
}

/// What a client with a device's own path has as uaid: always the same, so that it is never lost, and
/// nothing that would tell the path.
fn path_uaid(path: PathToken) -> String {
    let mut secret = [0; 8];
    let hash = digest::digest(&digest::SHA256, &[b"uaid".as_slice(), &path.0].concat());
    secret.copy_from_slice(&hash.as_ref()[..8]);
    let secret = format!("{:016x}", u64::from_be_bytes(secret)).into();
    wire::uaid(&Invitation { device: path.device(), secret })
}

/// Come again.
fn later(status: StatusCode) -> http::Response<web::Body> {
    let mut response = web::answer(status, "too many connections: try again later\n");
    response.headers_mut().insert(RETRY_AFTER, 30.into());
    response
}
