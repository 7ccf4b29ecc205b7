//! Where the gateway listens for devices, as a user or the gateway writes it.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use crate::cli::CliError;

/// The port of MQTT without TLS.
const PORT: u16 = 1883;

/// The SHA-256 of the certificate of a gateway's own authority.
pub(super) type Pin = [u8; 32];

/// A host and a port to connect to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Address {
    /// IPv6 in brackets.
    pub(super) host: String,
    /// With TLS, by this authority only.
    pub(super) pin: Option<Pin>,
    pub(super) port: u16,
}

/// What a pairing URI holds.
#[derive(Eq, PartialEq)]
pub(super) struct Pairing {
    pub(super) address: Address,
    pub(super) device: String,
    pub(super) secret: String,
}

impl Pairing {
    /// Reads `unifiedpush-mqtt://DEVICE:SECRET@HOST:PORT?ca=sha256:FINGERPRINT`, as `device add` prints it;
    /// `None` when the text is no pairing URI. An error quotes nothing of it, because a secret is in it.
    pub(super) fn read(text: &str) -> Option<Result<Self, CliError>> {
        let (plain, rest) = match text.split_once("://")? {
            ("unifiedpush-mqtt+plain", rest) => (true, rest),
            ("unifiedpush-mqtt", rest) => (false, rest),
            (_, _) => return None,
        };
        let refuse = |why: &str| Err(CliError::Usage(format!("--mqtt: the pairing URI {why}")));
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let Some(((device, secret), place)) =
            rest.rsplit_once('@').and_then(|(login, place)| Some((login.split_once(':')?, place)))
        else {
            return Some(refuse("has no device and secret; copy all of what `device add` printed"));
        };
        let mut address = match place.parse::<Address>() {
            Ok(address) => address,
            Err(error) => return Some(Err(error)),
        };
        if !plain {
            let Some(fingerprint) = query.split('&').find_map(|part| part.strip_prefix("ca=sha256:")) else {
                return Some(refuse(
                    "names no authority (ca=sha256:…), and `listen` trusts a gateway's own authority only; \
                     use the address without TLS on the gateway's machine",
                ));
            };
            address.pin = read_pin(fingerprint);
            if address.pin.is_none() {
                return Some(refuse("has a fingerprint that is not 64 hexadecimal digits"));
            }
        }
        Some(Ok(Self { address, device: device.to_owned(), secret: secret.to_owned() }))
    }
}

fn read_pin(text: &str) -> Option<Pin> {
    let mut pin = [0; 32];
    if text.len() != 2 * pin.len() || !text.is_ascii() {
        return None;
    }
    for (at, byte) in pin.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(pin)
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
            Some(_) => {
                return refuse(
                    "is neither plain MQTT nor a pairing URI (unifiedpush-mqtt://…), and `listen` speaks nothing else",
                );
            }
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
        Ok(Self { host, pin: None, port })
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

    #[test]
    fn a_pairing_uri_holds_everything() {
        let pin = "ab".repeat(32);
        let read = |text: &str| Pairing::read(text).expect("a pairing URI");
        let tls = read(&format!("unifiedpush-mqtt://dev:s3cret@[::1]:8883?ca=sha256:{pin}")).unwrap();
        assert_eq!((tls.device.as_str(), tls.secret.as_str()), ("dev", "s3cret"));
        assert_eq!((tls.address.to_string().as_str(), tls.address.pin), ("[::1]:8883", Some([0xab; 32])));
        let plain = read("unifiedpush-mqtt+plain://dev:s3cret@pi.lan:1883").unwrap();
        assert_eq!((plain.address.to_string().as_str(), plain.address.pin), ("pi.lan:1883", None));
        assert!(Pairing::read("mqtt://dev:s3cret@pi.lan:1883").is_none());
        for wrong in
            ["dev:s3cret@pi.lan:8883", "pi.lan:8883?ca=sha256:ab", "dev:s3cret@pi.lan:8883?ca=sha256:ab"]
        {
            let error = read(&format!("unifiedpush-mqtt://{wrong}")).err().expect("refused").to_string();
            assert!(error.contains("the pairing URI") && !error.contains("s3cret"), "{error}");
        }
    }
}
