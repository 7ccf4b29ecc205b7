//! The open broker: a listener on the loopback without login, on which any topic may be used, so that
//! public MQTT suites can be pointed at the gateway's session layer.
//!
//! It is a house of its own. Its clients are no devices, its router is another one, it reads and
//! writes no disk, and it shares with the phones' room only the parts that are to be tried: framing,
//! `mqtt-protocol-core` and the router links. Nothing that happens here reaches a phone.
//!
//! ```text
//! client ▶ session ▶ house (matches, queues) ▶ router (ticket) ▶ connection ▶ session ▶ client
//! ```

mod connection;
pub(super) mod house;
mod interest;
mod message;
pub(super) mod session;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex},
    time::Instant,
};

use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::sleep_until,
};

use self::house::House;
use super::{
    BindError,
    router::{Post, Watch},
    seat::lock,
};
use crate::{
    clock::SharedClock,
    model::{DeviceId, MessageId},
};

/// Connections at once.
const CONNECTIONS_MAX: u64 = 2_048;

/// A listener that is not served yet.
#[derive(Debug)]
pub struct BoundBroker {
    listener: TcpListener,
    local_addr: SocketAddr,
}

impl BoundBroker {
    /// Listens on a loopback address. Whether it is one has been checked with the other settings; here
    /// it is checked again, because an open broker on a network is an open door.
    ///
    /// # Errors
    /// [`BindError`] when the address is none of the loopback, or taken.
    pub fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let failed = |source| BindError::Listen { address, source };
        if !address.ip().is_loopback() {
            return Err(failed(std::io::Error::other("an open broker listens on the loopback only")));
        }
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let local_addr = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, local_addr })
    }

    /// Where it listens; with the port that port 0 became.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Serves on the calling thread, which must not be one of the runtime's. What has arrived first is
    /// looked at first then, also from different clients, as suites expect that send on one connection
    /// without waiting for the other; and it takes no time from a phone's task.
    pub fn run_apart(self, clock: SharedClock, shutdown: watch::Receiver<bool>) {
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(self.run(clock, shutdown)),
            Err(error) => tracing::error!(%error, "the open broker could not be started"),
        }
    }

    /// Serves until `shutdown` becomes true, then says good-bye to every client.
    async fn run(self, clock: SharedClock, shutdown: watch::Receiver<bool>) {
        tracing::warn!(
            address = %self.local_addr,
            "OPEN BROKER: whoever reaches this port may read and write every topic of it without a login. \
             It is for conformance tests, knows no devices and keeps nothing"
        );
        match Post::start(usize::try_from(CONNECTIONS_MAX).unwrap_or(usize::MAX)) {
            Ok((post, watch)) => {
                let broker = Arc::new(Broker {
                    changed: Notify::new(),
                    clock,
                    free: Mutex::new((1..=CONNECTIONS_MAX).collect()),
                    house: Mutex::default(),
                    post,
                    waiting: Notify::new(),
                });
                tokio::select! {
                    () = Arc::clone(&broker).serve(self.listener, watch, shutdown) => {}
                    () = broker.call() => {}
                }
            }
            Err(died) => tracing::error!(%died, "the open broker could not be started"),
        }
    }
}

struct Broker {
    /// Something may be due sooner than it was.
    changed: Notify,
    clock: SharedClock,
    /// Link names that are free: the router never forgets one.
    free: Mutex<BTreeSet<u64>>,
    house: Mutex<House>,
    post: Post,
    /// There are tickets to be sent.
    waiting: Notify,
}

impl Broker {
    fn now(&self) -> Instant {
        self.clock.moment().instant
    }

    /// Does something in the house, and has those told for whom something waits since then.
    fn with<T>(&self, act: impl FnOnce(&mut House, Instant) -> T) -> T {
        let now = self.now();
        let mut house = lock(&self.house);
        let done = act(&mut house, now);
        if house.has_tickets() {
            self.waiting.notify_one();
        }
        done
    }

    /// Sends tickets: those of all the packets that were there to be read at once, so that the router is woken
    /// once for them.
    async fn call(&self) {
        loop {
            self.waiting.notified().await;
            let tickets = lock(&self.house).take_tickets();
            for slot in tickets {
                if self.post.send(DeviceId(slot), &[MessageId(0)]).is_err() {
                    tracing::debug!(slot, "open broker: the router is gone");
                }
            }
        }
    }

    async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        mut router: Watch,
        mut shutdown: watch::Receiver<bool>,
    ) {
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%error, "the open broker's listener cannot be used"),
        };
        let mut clients = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                _ = shutdown.wait_for(|stop| *stop) => break,
                died = router.died() => {
                    // The phones have another one: they need not suffer for it.
                    tracing::error!(%died, "the open broker has ended");
                    return;
                }
                accepted = listener.accept() => self.accepted(accepted, &mut clients),
                _ = clients.join_next(), if !clients.is_empty() => {}
                () = self.due() => self.with(House::sweep),
            }
        }
        lock(&self.house).stop();
        let drained = async { while clients.join_next().await.is_some() {} };
        if tokio::time::timeout(super::Limits::default().drain, drained).await.is_err() {
            tracing::warn!("some clients of the open broker did not end in time");
        }
    }

    fn accepted(
        self: &Arc<Self>,
        accepted: std::io::Result<(tokio::net::TcpStream, SocketAddr)>,
        clients: &mut JoinSet<()>,
    ) {
        let Ok((stream, _)) = accepted else { return };
        let Some(slot) = lock(&self.free).pop_first() else {
            tracing::warn!(max = CONNECTIONS_MAX, "no place for a client of the open broker");
            return;
        };
        let broker = Arc::clone(self);
        clients.spawn(async move {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "socket options");
            }
            if connection::serve(&broker, stream, slot).await.is_err() {
                tracing::debug!(slot, "open broker: the router is gone");
            }
            // The link has been left: whoever gets its name is built after that.
            lock(&broker.free).insert(slot);
        });
    }

    /// Returns when a Will or the end of a session is due, or may be.
    async fn due(&self) {
        let next = lock(&self.house).next_due();
        let timer = async {
            match next {
                Some(next) => sleep_until(next.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.changed.notified() => {}
            () = timer => {}
        }
    }
}
