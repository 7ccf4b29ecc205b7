//! Tells the owner's network by mDNS that there is a gateway (RFC 6762, RFC 6763), so that nobody has to
//! type an address.

use std::net::{IpAddr, SocketAddr};

use mdns_sd::{IfKind, ServiceDaemon, ServiceInfo};

/// Seconds between two looks at this machine's addresses, which DHCP may change: rarely, because each look
/// wakes an idle board.
const LOOK_EVERY_S: u32 = 300;

/// What is announced, as long as this exists.
pub struct Announcement(ServiceDaemon);

impl std::fmt::Debug for Announcement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Announcement").finish_non_exhaustive()
    }
}

/// It cannot be announced; the gateway works without.
#[derive(Debug, thiserror::Error)]
#[error("the gateway is not announced by mDNS: {0}")]
pub struct AnnounceError(#[from] mdns_sd::Error);

impl Announcement {
    /// Announces services (`_unifiedpush._tcp`) under this host name, each where it listens. Those on the
    /// loopback are nobody else's business.
    ///
    /// # Errors
    /// [`AnnounceError`] when there is no socket for it, or the name is none.
    pub fn begin(host: &str, services: &[(&str, SocketAddr)]) -> Result<Option<Self>, AnnounceError> {
        let shared: Vec<_> =
            services.iter().filter(|(_, address)| !address.ip().to_canonical().is_loopback()).collect();
        if shared.is_empty() {
            return Ok(None);
        }
        let announcement = Self(ServiceDaemon::new()?);
        let daemon = &announcement.0;
        daemon.set_ip_check_interval(LOOK_EVERY_S)?;
        // Only where the listeners are: another network of this machine has nothing to do with them.
        daemon.disable_interface(IfKind::All)?;
        for (kind, address) in shared {
            let ip = address.ip().to_canonical();
            daemon.enable_interface(if ip.is_unspecified() { IfKind::All } else { IfKind::Addr(ip) })?;
            daemon.register(service(host, kind, ip, address.port())?)?;
        }
        Ok(Some(announcement))
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        // It says good-bye, so that nobody goes on asking for who has gone. Whether it can is its affair.
        if let Ok(done) = self.0.shutdown() {
            let _ = done.recv_timeout(std::time::Duration::from_millis(500));
        }
    }
}

fn service(host: &str, kind: &str, ip: IpAddr, port: u16) -> Result<ServiceInfo, mdns_sd::Error> {
    let (kind, name) = (format!("{kind}.local."), format!("{host}.local."));
    let nothing: &[(&str, &str)] = &[];
    Ok(if ip.is_unspecified() {
        ServiceInfo::new(&kind, host, &name, (), port, nothing)?.enable_addr_auto()
    } else {
        ServiceInfo::new(&kind, host, &name, ip, port, nothing)?
    })
}
