//! Texts that name a place on the network: what is accepted, and what the refusal says.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::Uri;

/// An address to listen on.
pub(super) fn listen(text: &str, example: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("`{text}` is not an address to listen on; write ADDRESS:PORT with a number as address, such as {example} or [::1]:8080")
    })
}

/// The origin of endpoints (RFC 6454): scheme, host, and a port unless it is the scheme's own.
/// One origin has one spelling, because VAPID audiences are compared with it (RFC 8292 §2).
pub(super) fn origin(text: &str) -> Result<String, String> {
    let refuse = |why: &str| {
        Err(format!("`{text}` is not an origin{why}; write https://push.example.org without a path"))
    };
    let Ok(uri) = text.parse::<Uri>() else { return refuse("") };
    let default_port = match uri.scheme_str() {
        Some("https") => 443,
        Some("http") => 80,
        Some(_) | None => return refuse(": it must begin with https:// or http://"),
    };
    let Some(authority) = uri.authority() else { return refuse("") };
    if authority.as_str().contains('@') {
        return refuse(": it holds a user name");
    }
    // `Uri` drops a fragment without a word.
    if uri.path().len() > 1 || uri.query().is_some() || text.contains(['?', '#']) {
        return refuse(": it holds a path, a query or a fragment");
    }
    let name = uri.host().unwrap_or_default();
    let Ok(name) = host(name) else { return refuse(": its host is not a name") };
    // The port is what stands behind the host: `Uri` takes `host:` and `host:99999` without complaint.
    let port = match authority.as_str()[uri.host().unwrap_or_default().len()..].strip_prefix(':') {
        None => default_port,
        Some(port) => match port.parse::<u16>() {
            Ok(port) if port > 0 => port,
            Ok(_) | Err(_) => return refuse(": its port is not a number from 1 to 65535"),
        },
    };
    let scheme = uri.scheme_str().unwrap_or_default();
    Ok(if port == default_port { format!("{scheme}://{name}") } else { format!("{scheme}://{name}:{port}") })
}

/// A host that others can be sent to: a DNS name or an IP address, lower case, IPv6 in brackets.
pub(super) fn host(text: &str) -> Result<String, String> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse::<Ipv6Addr>() {
        return Ok(format!("[{address}]"));
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    if text.len() <= 253 && text.split('.').all(label) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(format!(
            "`{text}` is not a host; write a name or an address without scheme and port, such as push.example.org"
        ))
    }
}

/// The names in `host` and in the origin `url`, both checked, as a certificate holds them.
pub(super) fn names(host: Option<&str>, url: Option<&str>) -> Vec<String> {
    let of_url = url.and_then(|url| url.parse::<Uri>().ok()?.host().map(str::to_owned));
    let mut names: Vec<String> = host.map(str::to_owned).into_iter().chain(of_url).collect();
    names.dedup();
    for name in &mut names {
        if let Some(bare) = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            *name = bare.to_owned();
        }
    }
    names
}

/// Whether only machines of the owner can reach `address`: loopback, LAN, link-local, and the
/// shared range that VPNs such as Tailscale use (RFC 6598). The unspecified address is every
/// address, public ones included.
pub(super) fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            v4.is_loopback()
                || v4.is_private()
                || v4.is_link_local()
                || (first == 100 && (64..128).contains(&second))
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

/// Whether it is an address of one network of the owner, with others in it.
pub(super) fn is_lan(address: IpAddr) -> bool {
    is_private(address) && !address.to_canonical().is_loopback()
}
