//! The MQTT room: the gateway's own distributor protocol, over MQTT 3.1.1 and 5.0 on one port.
//!
//! ```text
//! hand_over ▶ seat (bodies wait) ▶ router (ticket) ▶ connection ▶ session ▶ device
//!                  ▲                                     │
//!                  └────────── settle ◀── Report ◀───────┘
//! ```
//!
//! [`config`] holds the limits, [`session`] is the machine without sockets or clocks, [`frames`] and
//! [`wire`] are what it speaks, [`seat`] is who is here, [`router`] is rumqttd, [`connection`] is one
//! connection's task, [`io`] are the listeners, [`crate::tls`] and [`web`] what may lie around MQTT.

mod config;
mod connection;
mod frames;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod io;
mod open;
mod router;
mod seat;
mod session;
#[cfg(test)]
mod tests;
mod web;
mod wire;

use std::{
    net::{SocketAddr, TcpListener},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::{Semaphore, mpsc, watch};

pub use self::{config::Limits, open::BoundBroker, router::RouterDied};
use self::{
    io::Greetings,
    router::{Post, Watch},
    seat::{Ending, Mail, Seats, lock},
};
use super::{Consignment, Directory, Event, Notice, Report, Transport, Turned};
use crate::{
    clock::SharedClock,
    config::MqttConfig,
    model::DeviceId,
    tls::{Acceptor, TlsError},
};

/// Why the room could not bind.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address is taken, not of this machine, or needs a capability.
    #[error("cannot listen for MQTT on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The certificate or the key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Sockets that listen already.
#[derive(Debug, Default)]
pub struct Passed {
    /// Without TLS.
    pub plain: Option<TcpListener>,
    /// With TLS.
    pub secure: Option<TcpListener>,
}

type Listeners = Vec<(TcpListener, io::Security)>;

/// A room that listens: connections queue up at its sockets until it runs.
#[derive(Debug)]
pub struct BoundRoom {
    config: MqttConfig,
    listeners: Listeners,
    limits: Limits,
    local_addr: SocketAddr,
    tls: Option<Acceptor>,
}

impl BoundRoom {
    /// Uses sockets that are already listening, as a service manager passes them.
    ///
    /// # Errors
    /// [`BindError`] when a socket or the certificate cannot be used.
    pub fn adopt(
        config: &MqttConfig,
        plain: TcpListener,
        secure: Option<TcpListener>,
    ) -> Result<Self, BindError> {
        let failed = |source| BindError::Listen { address: config.listen, source };
        let local_addr = plain.local_addr().map_err(failed)?;
        let mut listeners = vec![(plain, io::Security::Plain)];
        let tls =
            config.tls.as_ref().map(|tls| Acceptor::new("MQTT over TLS", &tls.certificate)).transpose()?;
        if let (Some(secure), Some(acceptor)) = (secure, &tls) {
            listeners.push((secure, io::Security::Tls(acceptor.clone())));
        }
        for (listener, _) in &listeners {
            listener.set_nonblocking(true).map_err(failed)?;
        }
        Ok(Self { config: config.clone(), limits: Limits::default(), listeners, local_addr, tls })
    }

    /// SHA-256 of the gateway's own certificate authority, as long as it uses one.
    #[must_use]
    pub fn fingerprint(&self) -> Option<String> {
        self.tls.as_ref().and_then(Acceptor::fingerprint)
    }

    /// Where the room listens with TLS, if it does; with the port that port 0 became.
    #[must_use]
    pub fn secure_addr(&self) -> Option<SocketAddr> {
        let secure = self.listeners.iter().find(|(_, security)| matches!(security, io::Security::Tls(_)));
        secure.and_then(|(listener, _)| listener.local_addr().ok())
    }

    /// Where the room listens without TLS; with the port that port 0 became.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Starts the router, and makes the room ready to [`run`](MqttRoom::run).
    ///
    /// # Errors
    /// [`RouterDied`] when its threads cannot be started.
    pub fn open(
        self,
        directory: Arc<dyn Directory>,
        reports: mpsc::Sender<Report>,
        clock: SharedClock,
    ) -> Result<Arc<MqttRoom>, RouterDied> {
        let max_connections = self.config.max_connections.clamp(1, Semaphore::MAX_PERMITS >> 3);
        let (post, watch) = Post::start(max_connections)?;
        Ok(Arc::new(MqttRoom {
            clock,
            directory,
            expulsions: AtomicU64::new(0),
            greetings: Arc::default(),
            limits: self.limits,
            local_addr: self.local_addr,
            max_connections,
            max_connections_per_source: self.config.max_connections_per_source,
            max_keep_alive_s: self.config.max_keep_alive_s.max(1),
            places: Arc::new(Semaphore::new(max_connections)),
            post,
            reports,
            seats: Seats::default(),
            start: Mutex::new(Some((self.listeners, watch))),
            tls: self.tls,
        }))
    }

    /// With other limits than the usual ones.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }
}

/// The room.
pub struct MqttRoom {
    clock: SharedClock,
    directory: Arc<dyn Directory>,
    /// How many devices have been put out; see [`connection`] for why that is counted.
    expulsions: AtomicU64,
    greetings: Arc<Greetings>,
    limits: Limits,
    local_addr: SocketAddr,
    max_connections: usize,
    max_connections_per_source: usize,
    max_keep_alive_s: u16,
    places: Arc<Semaphore>,
    post: Post,
    reports: mpsc::Sender<Report>,
    seats: Seats,
    /// What [`run`](Self::run) takes.
    start: Mutex<Option<(Listeners, Watch)>>,
    tls: Option<Acceptor>,
}

impl std::fmt::Debug for MqttRoom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MqttRoom").field("local_addr", &self.local_addr).finish_non_exhaustive()
    }
}

impl MqttRoom {
    /// Listens where the settings say.
    ///
    /// # Errors
    /// [`BindError`] when an address or the certificate cannot be used.
    pub fn bind(config: &MqttConfig) -> Result<BoundRoom, BindError> {
        Self::bind_rest(config, Passed::default())
    }

    /// Listens where the settings say, but for what has been passed by the service manager.
    ///
    /// # Errors
    /// [`BindError`] when an address or the certificate cannot be used.
    pub fn bind_rest(config: &MqttConfig, passed: Passed) -> Result<BoundRoom, BindError> {
        let listen = |address: SocketAddr| {
            TcpListener::bind(address).map_err(|source| BindError::Listen { address, source })
        };
        let secure = match (passed.secure, &config.tls) {
            (None, Some(tls)) => Some(listen(tls.listen)?),
            (passed, _) => passed,
        };
        let plain = passed.plain.map_or_else(|| listen(config.listen), Ok)?;
        BoundRoom::adopt(config, plain, secure)
    }

    /// Reads the certificate's files again, whether they look changed or not. One that cannot be used is
    /// logged, and the one of before stays.
    pub fn reload(&self) {
        if let Some(tls) = &self.tls {
            tls.look(self.clock.moment(), true);
        }
    }

    /// Where the room listens without TLS.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Resolves when the router has shown that it still carries. A dead one never does: [`Self::run`]
    /// tells of that.
    pub async fn beat(&self) {
        if self.post.beat().await.is_err() {
            std::future::pending().await
        }
    }

    /// Serves until `shutdown` becomes true; then says goodbye to every client and returns.
    ///
    /// # Errors
    /// [`RouterDied`]: nothing can be delivered any more, and only a new process helps.
    pub async fn run(self: Arc<Self>, mut shutdown: watch::Receiver<bool>) -> Result<(), RouterDied> {
        let Some((listeners, mut router)) = lock(&self.start).take() else {
            return Ok(());
        };
        let mut accepting = tokio::task::JoinSet::new();
        for (listener, security) in listeners {
            accepting.spawn(io::accept(Arc::clone(&self), listener, security));
        }
        let outcome = tokio::select! {
            // An error means that nobody is left who could ask for the end: then it has come.
            _ = shutdown.wait_for(|stop| *stop) => Ok(()),
            died = router.died() => Err(died),
            () = self.post.killed_on_purpose() => Err(RouterDied),
        };
        accepting.shutdown().await;
        self.greetings.stop();
        self.seats.stop();
        let all = u32::try_from(self.max_connections).unwrap_or(u32::MAX);
        if tokio::time::timeout(self.limits.drain, self.places.acquire_many(all)).await.is_err() {
            tracing::warn!("some MQTT connections did not end in time");
        }
        outcome
    }

    async fn report(&self, device: DeviceId, event: Event) {
        let report = Report { at: self.clock.moment().instant, device, event };
        // Nobody listens any more when the process is about to end.
        let _ = self.reports.send(report).await;
    }
}

impl Transport for MqttRoom {
    fn hand_over(&self, consignment: Consignment) -> Result<(), Turned> {
        let device = consignment.device;
        let seat = self.seats.of(device).ok_or(Turned::Absent)?;
        let ids = seat.accept(consignment)?;
        self.post.send(device, &ids).map_err(|died| {
            tracing::error!(%died, "a consignment was turned back");
            seat.settle(&ids);
            Turned::Absent
        })
    }

    fn name(&self) -> &'static str {
        "mqtt"
    }

    fn tell(&self, notice: Notice) {
        match notice {
            Notice::Expelled(device) => {
                self.expulsions.fetch_add(1, Ordering::SeqCst);
                self.seats.forget(device);
                if let Some(seat) = self.seats.of(device) {
                    seat.end(Ending::Expelled);
                }
            }
            Notice::Plan(device, plan) => {
                if let Some(seat) = self.seats.of(device) {
                    seat.tell(Mail::Plan(plan));
                }
            }
            // Who is not there hears of it by the directory, when it subscribes.
            Notice::Unregistered(device, _) => {
                if let Some(seat) = self.seats.of(device) {
                    seat.tell(Mail::News);
                }
            }
        }
    }
}
