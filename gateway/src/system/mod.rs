//! The machine around the process: its log, its service manager, its signals, its neighbours.

mod announce;
mod log;
mod notify;
mod sockets;
mod watchdog;

pub use announce::{AnnounceError, Announcement};
pub use log::start_log;
pub use notify::{ServiceState, notify};
pub use sockets::{Sockets, SocketsError};
pub use watchdog::{Vital, Watchdog};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGHUP, by which an owner says that files have changed; it does not end the process.
#[derive(Debug)]
pub struct Hangup(Signal);

impl Hangup {
    /// Catches the signal from now on.
    ///
    /// # Errors
    /// When the process may not install signal handlers.
    pub fn catch() -> std::io::Result<Self> {
        Ok(Self(signal(SignalKind::hangup())?))
    }

    /// Waits for it.
    pub async fn come(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending().await
        }
    }
}

/// SIGTERM and SIGINT, caught from the moment this exists: one that comes before somebody waits for
/// it ends the process in order all the same.
#[derive(Debug)]
pub struct Termination {
    interrupt: Signal,
    terminate: Signal,
}

impl Termination {
    /// Catches the signals from now on.
    ///
    /// # Errors
    /// When the process may not install signal handlers.
    pub fn catch() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for either.
    pub async fn come(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
