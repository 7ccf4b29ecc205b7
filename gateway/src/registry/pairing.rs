//! Where the gateway is reached, as the owner, the devices and the application servers write it.

use std::{
    fmt,
    net::{IpAddr, SocketAddr, UdpSocket},
};

use super::Secret;
use crate::model::{DeviceId, EndpointToken, Malformed, PathToken};

/// The path below which all endpoints lie, on the root of the origin.
const ENDPOINT_PATH: &str = "/p/";
/// The paths by which an endpoint is known; the others are Autopush's.
const ENDPOINT_PATHS: [&str; 3] = [ENDPOINT_PATH, "/wpush/v1/", "/wpush/v2/"];

/// Where the gateway is reached from outside. Known once its listeners are bound, because a
/// configured port 0 picks a free one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Origin {
    /// The host that devices connect to, without brackets: a name, an IPv4 or an IPv6 address.
    pub host: String,
    /// The port that devices connect to.
    pub port: u16,
    /// How that connection is protected.
    pub security: Security,
    /// The origin of endpoints, without a trailing slash: `https://push.example.org`.
    pub url: String,
}

/// How the connection of a device is protected.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Security {
    /// Not at all: loopback, LAN or VPN.
    Plain,
    /// By TLS.
    Tls {
        /// SHA-256 of the certificate of the gateway's own authority, in hexadecimal, as long as
        /// the gateway uses one. `None`: an authority that devices know already.
        ca: Option<String>,
    },
}

impl Origin {
    /// Takes what is configured (`url`, `host`) and, for what is not, the addresses that are bound.
    /// A wildcard address stands for the address by which this machine is reached.
    #[must_use]
    pub fn new(
        url: Option<&str>,
        public: SocketAddr,
        host: Option<&str>,
        devices: SocketAddr,
        security: Security,
    ) -> Self {
        let url = url.map_or_else(
            || format!("http://{}", SocketAddr::new(reachable(public.ip()), public.port())),
            |url| url.trim_end_matches('/').to_owned(),
        );
        let host = host.map_or_else(|| reachable(devices.ip()).to_string(), str::to_owned);
        Self { host, port: devices.port(), security, url }
    }

    /// The URL of an endpoint.
    #[must_use]
    pub fn endpoint(&self, token: EndpointToken) -> String {
        format!("{}{ENDPOINT_PATH}{token}", self.url)
    }

    /// The URL of a device's own path.
    #[must_use]
    pub fn path(&self, path: PathToken) -> String {
        format!("{}/d/{path}/", self.url)
    }

    /// Reads an endpoint as an owner gives it: its URL, or the last segment alone.
    ///
    /// # Errors
    /// [`NotAnEndpoint`].
    pub fn read_endpoint(&self, text: &str) -> Result<EndpointToken, NotAnEndpoint> {
        let path = text.strip_prefix(&self.url).unwrap_or(text);
        let segment = match ENDPOINT_PATHS.iter().find_map(|prefix| path.strip_prefix(prefix)) {
            Some(segment) if path.len() < text.len() => segment,
            Some(_) | None if text.contains('/') => {
                return Err(NotAnEndpoint::Elsewhere(format!("{}{ENDPOINT_PATH}", self.url)));
            }
            Some(_) | None => text,
        };
        segment.parse().map_err(NotAnEndpoint::Segment)
    }

    /// What a device needs to know, in one text that fits a QR code.
    #[must_use]
    pub fn pairing_uri(&self, device: DeviceId, secret: &Secret) -> String {
        let (scheme, query) = match &self.security {
            Security::Plain => ("unifiedpush-mqtt+plain", String::new()),
            Security::Tls { ca: None } => ("unifiedpush-mqtt", String::new()),
            Security::Tls { ca: Some(ca) } => ("unifiedpush-mqtt", format!("?ca=sha256:{ca}")),
        };
        let place = Place { host: &self.host, port: self.port };
        format!("{scheme}://{device}:{}@{place}{query}", secret.as_str())
    }
}

/// A text that is no endpoint of this gateway.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotAnEndpoint {
    /// It lies elsewhere. Holds what endpoints begin with here.
    #[error("this gateway's endpoints begin with {0} (the last segment alone will do, too)")]
    Elsewhere(String),
    /// Its last segment is none.
    #[error("the last segment of an endpoint: {0}")]
    Segment(Malformed),
}

struct Place<'a> {
    host: &'a str,
    port: u16,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // RFC 3986 §3.2.2: an IPv6 address stands in brackets.
        if self.host.contains(':') && !self.host.starts_with('[') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A device cannot connect to a wildcard address: it is replaced by the address from which this
/// machine would speak to the world. Connecting a datagram socket asks the routing table only; nothing
/// is sent. Without a route it stays what it was.
fn reachable(address: IpAddr) -> IpAddr {
    if !address.is_unspecified() {
        return address;
    }
    let by_route = |from: &str, to: &str| {
        let socket = UdpSocket::bind(from).ok()?;
        socket.connect(to).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    // Addresses for documentation (RFC 5737, RFC 3849): routed like any other, never answered.
    let (v4, v6) = (("0.0.0.0:0", "192.0.2.1:9"), ("[::]:0", "[2001:db8::1]:9"));
    let found = if address.is_ipv4() {
        by_route(v4.0, v4.1)
    } else {
        // [::] usually takes IPv4 too, which more networks can reach.
        by_route(v4.0, v4.1).or_else(|| by_route(v6.0, v6.1))
    };
    found.unwrap_or(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(host: &str, security: Security) -> Origin {
        Origin { host: host.to_owned(), port: 8883, security, url: "https://push.example.org".to_owned() }
    }

    fn socket(text: &str) -> SocketAddr {
        text.parse().expect("an address with port")
    }

    #[test]
    fn the_uri_says_how_to_connect() {
        let secret = Secret::random().expect("randomness");
        let uri = |host, security| origin(host, security).pairing_uri(DeviceId(1), &secret);
        let login = format!("{}:{}", DeviceId(1), secret.as_str());
        assert_eq!(uri("pi.lan", Security::Plain), format!("unifiedpush-mqtt+plain://{login}@pi.lan:8883"));
        assert_eq!(
            uri("192.0.2.1", Security::Tls { ca: None }),
            format!("unifiedpush-mqtt://{login}@192.0.2.1:8883")
        );
        assert_eq!(
            uri("2001:db8::1", Security::Tls { ca: Some("ab12".to_owned()) }),
            format!("unifiedpush-mqtt://{login}@[2001:db8::1]:8883?ca=sha256:ab12")
        );
    }

    #[test]
    fn what_is_not_configured_comes_from_the_bound_addresses() {
        let (public, mqtt) = (socket("127.0.0.1:8080"), socket("[::1]:1883"));
        let origin = Origin::new(None, public, None, mqtt, Security::Plain);
        assert_eq!(origin.url, "http://127.0.0.1:8080");
        assert_eq!((origin.host.as_str(), origin.port), ("::1", 1883));
        let origin =
            Origin::new(Some("https://a.example/"), public, Some("b.example"), mqtt, Security::Plain);
        assert_eq!((origin.url.as_str(), origin.host.as_str()), ("https://a.example", "b.example"));
    }

    #[test]
    fn a_wildcard_is_no_place_to_connect_to() {
        // Only a machine with a route has a better answer; one without keeps the wildcard.
        let routed = UdpSocket::bind("0.0.0.0:0").and_then(|socket| socket.connect("192.0.2.1:9")).is_ok();
        assert_eq!(!reachable(IpAddr::from([0, 0, 0, 0])).is_unspecified(), routed);
    }

    #[test]
    fn endpoints_are_read_back_in_full_or_by_their_last_segment() {
        let origin = origin("h", Security::Plain);
        let token = EndpointToken([9; 20]);
        let url = origin.endpoint(token);
        assert_eq!(url, format!("https://push.example.org/p/{token}"));
        assert_eq!(origin.read_endpoint(&url), Ok(token));
        assert_eq!(origin.read_endpoint(&token.to_string()), Ok(token));
        for path in ["/wpush/v1/", "/wpush/v2/"] {
            assert_eq!(origin.read_endpoint(&url.replace("/p/", path)), Ok(token));
        }
    }

    #[test]
    fn what_is_no_endpoint_is_told_why() {
        let origin = origin("h", Security::Plain);
        let elsewhere = origin.read_endpoint("https://other.example/p/CQkJCQkJCQkJCQkJCQkJCQkJCQk");
        assert_eq!(elsewhere, Err(NotAnEndpoint::Elsewhere("https://push.example.org/p/".to_owned())));
        for wrong in ["", "short", "https://push.example.org/p/", "https://push.example.org/p/short"] {
            assert!(matches!(origin.read_endpoint(wrong), Err(NotAnEndpoint::Segment(_))), "{wrong}");
        }
    }
}
