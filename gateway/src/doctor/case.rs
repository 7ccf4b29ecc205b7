//! What the checks look at, gathered once.

use std::net::SocketAddr;

use http::Uri;
use tokio::net::lookup_host;

use super::{
    Options,
    dial::{Dialer, Target},
};
use crate::{
    clock::SharedClock,
    config::Config,
    console::{self, AskError, Reply, Request, Status},
};

/// What is known before the first check.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) clock: SharedClock,
    pub(super) config: Config,
    pub(super) dialer: Dialer,
    /// The gateway, if it runs and answers; why not otherwise.
    pub(super) gateway: Result<Status, AskError>,
    pub(super) options: Options,
    /// Where application servers go, if that can be resolved.
    pub(super) public: Option<Public>,
}

/// The origin of endpoints.
#[derive(Debug)]
pub(super) struct Public {
    /// Where its name leads; the error's text if nowhere.
    pub(super) addresses: Result<Vec<SocketAddr>, String>,
    /// Whether the configuration says it, or only the listening address does.
    pub(super) is_configured: bool,
    pub(super) target: Target,
    pub(super) url: String,
}

impl Case {
    pub(super) async fn gather(config: Config, options: Options, dialer: Dialer, clock: SharedClock) -> Self {
        let gateway = match console::ask(&config.state_dir, &Request::Status) {
            Ok(Reply::Status(status)) => Ok(status),
            Ok(_) => Err(AskError::Broken(
                config.state_dir.clone(),
                "it answered another question; are gateway and command of the same version?".to_owned(),
            )),
            Err(error) => Err(error),
        };
        let listening = gateway.as_ref().ok().map(|status| status.public.clone());
        let is_configured = config.public.url.is_some();
        let public = match config.public.url.clone().or(listening) {
            Some(url) => Public::resolve(url, is_configured).await,
            None => None,
        };
        Self { clock, config, dialer, gateway, options, public }
    }

    /// The addresses of the public name, unless that is hopeless, which another check has said.
    pub(super) fn reachable(&self) -> Option<(&Public, &[SocketAddr])> {
        let public = self.public.as_ref()?;
        let addresses = public.addresses.as_deref().ok()?;
        Some((public, addresses))
    }
}

impl Public {
    async fn resolve(url: String, is_configured: bool) -> Option<Self> {
        let target = Target::of(&url.parse::<Uri>().ok()?)?;
        let addresses = match lookup_host((target.host.as_str(), target.port)).await {
            Ok(found) => Ok(found.collect()),
            Err(error) => Err(error.to_string()),
        };
        Some(Self { addresses, is_configured, target, url })
    }
}

/// An address to listen on, as one to connect to: "every address" is this machine for that.
pub(super) fn within_reach(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() {
            std::net::Ipv4Addr::LOCALHOST.into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        });
    }
    address
}

/// The address in `http://ADDRESS`, `mqtt://ADDRESS`, `mqtts://ADDRESS`, to connect to.
pub(super) fn address_of(url: &str) -> Option<SocketAddr> {
    url.split_once("://")?.1.parse().ok().map(within_reach)
}
