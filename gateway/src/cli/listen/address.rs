//! Where the gateway listens for devices, as a user or the gateway writes it.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use crate::cli::CliError;

/// The port of MQTT without TLS.
const PORT: u16 = 1883;

/// A host and a port to connect to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Address {
    /// IPv6 in brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl FromStr for Address {
    type Err = CliError;

    fn from_str(text: &str) -> Result<Self, CliError> {
        let refuse = |why: &str| {
            Err(CliError::Usage(format!(
                "--mqtt: `{text}` {why}; write HOST:PORT or mqtt://HOST:PORT, such as 127.0.0.1:1883"
            )))
        };
        let rest = match text.split_once("://") {
            Some(("mqtt", rest)) => rest,
            Some(_) => return refuse("is not plain MQTT, and `listen` speaks nothing else"),
            None => text,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.rsplit_once(':') {
            // A colon within an IPv6 address is not that of a port.
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port.parse().ok()),
            Some(_) | None => (rest, Some(PORT)),
        };
        let Some(port) = port.filter(|&port| port != 0) else {
            return refuse("has a port that is not a number from 1 to 65535");
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let host = match bare.parse::<IpAddr>() {
            // A gateway that listens on every address tells this one; from here it is this machine.
            Ok(IpAddr::V4(address)) if address.is_unspecified() => Ipv4Addr::LOCALHOST.to_string(),
            Ok(IpAddr::V6(address)) if address.is_unspecified() => format!("[{}]", Ipv6Addr::LOCALHOST),
            Ok(IpAddr::V4(address)) => address.to_string(),
            Ok(IpAddr::V6(address)) => format!("[{address}]"),
            Err(_) if host.is_empty() || host.contains(['/', '@', '[', ' ']) => {
                return refuse("names no host");
            }
            Err(_) => host.to_owned(),
        };
        Ok(Self { host, port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_people_write_it() {
        for (text, shown) in [
            ("127.0.0.1:1884", "127.0.0.1:1884"),
            ("mqtt://127.0.0.1:1884", "127.0.0.1:1884"),
            ("mqtt://push.example.org/", "push.example.org:1883"),
            ("raspberrypi", "raspberrypi:1883"),
            ("[::1]:1884", "[::1]:1884"),
            ("::1", "[::1]:1883"),
            ("mqtt://0.0.0.0:1883", "127.0.0.1:1883"),
            ("mqtt://[::]:1883", "[::1]:1883"),
        ] {
            assert_eq!(text.parse::<Address>().map(|address| address.to_string()).unwrap(), shown, "{text}");
        }
    }

    #[test]
    fn anything_else_says_what_would_be_right() {
        for text in ["", ":1883", "host:0", "host:x", "mqtts://host:8883", "http://host", "a/b", "u@h:1"] {
            let error = text.parse::<Address>().unwrap_err();
            assert!(matches!(error, CliError::Usage(_)), "{text}");
            assert!(error.to_string().contains("write HOST:PORT"), "{text}: {error}");
        }
    }
}
