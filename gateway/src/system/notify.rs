//! The sd_notify protocol (systemd: sd_notify(3)), spoken directly: one datagram of text.

use std::{
    env,
    os::{
        linux::net::SocketAddrExt,
        unix::ffi::OsStrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
};

/// What the service manager is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ServiceState {
    /// Every part has just shown a sign of life.
    Alive,
    /// Recovered and listening.
    Ready,
    /// Draining.
    Stopping,
}

/// Tells the service manager, if there is one. A manager that does not listen is logged, not an error:
/// the gateway serves all the same.
pub fn notify(state: ServiceState) {
    let Some(path) = env::var_os("NOTIFY_SOCKET") else { return };
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    let text: &[u8] = match state {
        ServiceState::Alive => b"WATCHDOG=1\n",
        ServiceState::Ready => b"READY=1\n",
        ServiceState::Stopping => b"STOPPING=1\n",
    };
    let told = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(text, &address));
    if let Err(error) = told {
        tracing::warn!(?path, %error, "cannot tell the service manager");
    }
}
