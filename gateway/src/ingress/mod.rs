//! HTTP in: the resources of RFC 8030 that application servers use, and the way to the rooms that are
//! reached over HTTP, on the public listener and, where there is one, the home's.
//!
//! HTTP/1.1 only. RFC 8030 asks for HTTP/2 where the device listens, which here is a transport's
//! business; application servers all speak 1.1, a reverse proxy in front speaks it to us, and without
//! streams there is one request, one body and one small buffer to a connection.
//!
//! In the order data flows: `front` accepts within `limits`, `io` keeps the socket in time, `reception`
//! knows who asks, `route` reads the path, `desk` serves (`body`, then admission, then `queue`), `answer` says how it ended;
//! a room's answer that goes on is sent by `stream`.

mod answer;
mod autopush;
mod body;
mod desk;
mod front;
mod io;
mod limits;
mod matrix;
mod named;
mod ntfy;
mod post;
mod queue;
mod reception;
mod route;
mod stream;

#[cfg(test)]
mod tests;

use std::{net::SocketAddr, sync::Arc};

use tokio::{net::TcpListener, sync::watch};

use self::{desk::Desk, front::Front, matrix::Recent, queue::Queue, reception::Side};
pub use self::{limits::Limits, post::Counter, reception::Reception};
use crate::{
    admission::{Admission, Meter, MissingTtl, Policy, Rate},
    clock::SharedClock,
    store::Intake,
    telemetry::Telemetry,
    tls::Acceptor,
};

/// What the listener serves with.
#[derive(Debug)]
pub struct State {
    /// The origin of endpoints, without a slash at its end: `https://push.example.org`. A VAPID token
    /// must name it.
    pub base: String,
    /// The time.
    pub clock: SharedClock,
    /// Where messages go.
    pub intake: Intake,
    /// How much strangers may cost.
    pub limits: Limits,
    /// What a push without `TTL` gets.
    pub missing_ttl: MissingTtl,
    /// How often one endpoint may be pushed to.
    pub rate: Rate,
    /// What becomes of requests that are not ingress's own.
    pub reception: Reception,
    /// Where messages are counted.
    pub telemetry: Arc<Telemetry>,
}

/// The listeners.
#[derive(Debug)]
pub struct Public {
    home: Option<TcpListener>,
    listener: TcpListener,
    secure: Option<(TcpListener, Acceptor)>,
}

impl Public {
    /// Listens on `address`.
    ///
    /// # Errors
    /// Whatever the system says: the address is in use, not ours, or needs a privilege.
    pub async fn bind(address: SocketAddr) -> std::io::Result<Self> {
        Ok(Self { home: None, listener: TcpListener::bind(address).await?, secure: None })
    }

    /// Listens on `address` as well, for the owner's own network.
    ///
    /// # Errors
    /// Whatever the system says.
    pub async fn with_home(mut self, address: SocketAddr) -> std::io::Result<Self> {
        self.home = Some(TcpListener::bind(address).await?);
        Ok(self)
    }

    /// Takes over a socket that listens already as the one for the owner's own network.
    ///
    /// # Errors
    /// Whatever the system says when the socket is made non-blocking.
    pub fn with_home_from_std(mut self, listener: std::net::TcpListener) -> std::io::Result<Self> {
        listener.set_nonblocking(true)?;
        self.home = Some(TcpListener::from_std(listener)?);
        Ok(self)
    }

    /// Listens on `address` as well, with TLS, for everybody.
    ///
    /// # Errors
    /// Whatever the system says.
    pub async fn with_tls(mut self, address: SocketAddr, acceptor: Acceptor) -> std::io::Result<Self> {
        self.secure = Some((TcpListener::bind(address).await?, acceptor));
        Ok(self)
    }

    /// Takes over a socket that listens already as the one with TLS.
    ///
    /// # Errors
    /// Whatever the system says when the socket is made non-blocking.
    pub fn with_tls_from_std(
        mut self,
        listener: std::net::TcpListener,
        acceptor: Acceptor,
    ) -> std::io::Result<Self> {
        listener.set_nonblocking(true)?;
        self.secure = Some((TcpListener::from_std(listener)?, acceptor));
        Ok(self)
    }

    /// Where it listens with TLS, if it does.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn secure_addr(&self) -> std::io::Result<Option<SocketAddr>> {
        self.secure.as_ref().map(|(listener, _)| listener.local_addr()).transpose()
    }

    /// Where it listens for the owner's own network, if it does.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn home_addr(&self) -> std::io::Result<Option<SocketAddr>> {
        self.home.as_ref().map(TcpListener::local_addr).transpose()
    }

    /// Takes over a socket that listens already, for example from systemd: it outlives a restart, so
    /// that no connection is refused meanwhile.
    ///
    /// # Errors
    /// Whatever the system says when the socket is made non-blocking.
    pub fn from_std(listener: std::net::TcpListener) -> std::io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self { home: None, listener: TcpListener::from_std(listener)?, secure: None })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown` becomes true (or its sender is gone), then lets the requests that are
    /// in flight finish, within [`Limits::drain`].
    pub async fn serve(self, state: State, shutdown: watch::Receiver<bool>) {
        let State { base, clock, intake, limits, missing_ttl, rate, reception, telemetry } = state;
        let admission = Admission::new(&Policy { missing_ttl, origin: base.clone() });
        let lenient = Admission::new(&Policy { missing_ttl: MissingTtl::OneDay, origin: base.clone() });
        let meter = Meter::new(rate);
        let notified = Recent::default();
        let topics = reception.ntfy.clone();
        let (ntfy, queue) = (lenient, intake);
        let desk = Desk { admission, base, clock, limits, meter, notified, ntfy, queue, telemetry, topics };
        self.serve_desk(desk, reception, shutdown).await;
    }

    async fn serve_desk<Q: Queue>(
        self,
        desk: Desk<Q>,
        reception: Reception,
        shutdown: watch::Receiver<bool>,
    ) {
        let (desk, reception) = (Arc::new(desk), Arc::new(reception));
        let front = |side| Arc::new(Front::new(Arc::clone(&desk), Arc::clone(&reception), side));
        let side = if reception.trial { Side::Trial } else { Side::Public };
        // Each with seats of its own: strangers who fill the public one keep no phone out of the other.
        let public = serve_listener(front(side), self.listener, None, shutdown.clone());
        let home = async {
            if let Some(home) = self.home {
                serve_listener(front(Side::Home), home, None, shutdown.clone()).await;
            }
        };
        let secure = async {
            if let Some((secure, acceptor)) = self.secure {
                serve_listener(front(Side::Public), secure, Some(acceptor), shutdown.clone()).await;
            }
        };
        tokio::join!(public, home, secure);
    }
}

async fn serve_listener<Q: Queue>(
    front: Arc<Front<Q>>,
    listener: TcpListener,
    acceptor: Option<Acceptor>,
    mut shutdown: watch::Receiver<bool>,
) {
    loop {
        let (stream, peer, place) = tokio::select! {
            biased;
            // An error means that whoever could stop us is gone, which is a stop as well.
            _ = shutdown.wait_for(|stop| *stop) => break,
            accepted = front.accept(&listener) => accepted,
        };
        let (front, shutdown) = (Arc::clone(&front), shutdown.clone());
        // A task each: one for both would be as large as the larger.
        match acceptor.clone() {
            None => tokio::spawn(front.attend(stream, peer, place, shutdown)),
            Some(acceptor) => tokio::spawn(front.attend_secure(stream, acceptor, peer, place, shutdown)),
        };
    }
    // Before the wait: with a socket of systemd's new connections now queue up for our successor.
    drop(listener);
    front.emptied().await;
}
