//! The machine around the process: its log, its service manager, its signals.

mod log;
mod notify;

pub use log::start_log;
pub use notify::{ServiceState, notify};

use tokio::signal::unix::{Signal, SignalKind, signal};

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
