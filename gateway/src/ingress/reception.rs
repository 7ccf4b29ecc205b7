//! Who is asking: where a request comes from, by which audience's door, and with which device's path.

use std::{net::IpAddr, sync::Arc};

use http::{HeaderMap, Request, Uri, header::HOST, uri::PathAndQuery};
use ipnet::IpNet;

use crate::{
    model::PathToken,
    transport::{
        ntfy::NtfyRoom,
        web::{Audience, Hosted, Stays, Visitor},
    },
};

/// Whose a listener is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Side {
    /// The owner's network's.
    Home,
    /// Everybody's.
    Public,
    /// Both: a gateway on loopback that has not been given a name yet. What a proxy brings is public.
    Trial,
}

/// The rooms that are reached over HTTP, and how it is known who asks for them.
pub struct Reception {
    /// The rooms, in the order in which they are asked.
    pub hosted: Vec<Arc<dyn Hosted>>,
    /// The room whose messages come in ntfy's dialect, if it is open.
    pub ntfy: Option<Arc<NtfyRoom>>,
    /// What is counted of connections that stay.
    pub stays: Arc<Stays>,
    /// Whether the public listener is the home one as well, for what comes without a proxy.
    pub trial: bool,
    /// Whose word about the source of a request is believed.
    pub trusted_proxies: Vec<IpNet>,
}

impl std::fmt::Debug for Reception {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reception").field("hosted", &self.hosted.len()).finish_non_exhaustive()
    }
}

impl Reception {
    /// Who has sent this request to a listener of that side. A device's own path is taken off it.
    pub(super) fn visitor<B>(&self, request: &mut Request<B>, side: Side, peer: IpAddr) -> Visitor {
        let headers = request.headers();
        let audience = match side {
            Side::Home => Audience::Home,
            Side::Trial if is_direct(headers) => Audience::Home,
            Side::Public | Side::Trial => Audience::Public,
        };
        let source = self.source(headers, peer.to_canonical());
        let path = take_path(request.uri_mut());
        Visitor { audience, path, source, stays: Arc::clone(&self.stays) }
    }

    /// The nearest address that is not a trusted proxy's own. What stands further left in the list was
    /// said by somebody whom nobody trusts.
    fn source(&self, headers: &HeaderMap, peer: IpAddr) -> IpAddr {
        let is_trusted = |address: &IpAddr| self.trusted_proxies.iter().any(|net| net.contains(address));
        let mut source = peer;
        for said in forwarded_for(headers) {
            if !is_trusted(&source) {
                break;
            }
            let Some(address) = address(said) else { break };
            source = address;
        }
        source
    }
}

/// Nothing says that a proxy has brought it, and no web page on another name has (DNS rebinding).
fn is_direct(headers: &HeaderMap) -> bool {
    let forwarded = ["forwarded", "x-forwarded-for"].into_iter().any(|name| headers.contains_key(name));
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let is_name = address(host).is_none() && !host.split(':').next().is_some_and(is_localhost);
    !forwarded && !is_name
}

fn is_localhost(name: &str) -> bool {
    name.eq_ignore_ascii_case("localhost")
}

/// What proxies say of the source, nearest first: X-Forwarded-For if there is one, because nearly every
/// proxy writes that, else Forwarded (RFC 7239).
fn forwarded_for(headers: &HeaderMap) -> Vec<&str> {
    let items = |name: &str| {
        let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
        let mut items: Vec<_> = lines.flat_map(|line| line.split(',')).map(str::trim).collect();
        items.reverse();
        items
    };
    let simple = items("x-forwarded-for");
    if !simple.is_empty() {
        return simple;
    }
    let source = |element: &'_ str| -> Option<(usize, usize)> {
        let (name, value) = element.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then_some((element.len() - value.len(), element.len()))
    };
    let of = |element| {
        let found = str::split(element, ';').find_map(|part| source(part).map(|(from, to)| &part[from..to]));
        // An element without `for` hides its source: nobody further left is believed.
        found.unwrap_or_default().trim().trim_matches('"')
    };
    items("forwarded").into_iter().map(of).collect()
}

/// An address as proxies write it: bare, with a port, or in brackets.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.parse::<IpAddr>().ok();
    let with_port = || text.parse::<std::net::SocketAddr>().ok().map(|socket| socket.ip());
    let in_brackets = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<IpAddr>().ok();
    bare.or_else(with_port).or_else(in_brackets).map(|address| address.to_canonical())
}

/// Takes `/d/<token>` off the path of a request, if it begins with that.
fn take_path(uri: &mut Uri) -> Option<PathToken> {
    let rest = uri.path_and_query()?.as_str().strip_prefix("/d/")?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let token = rest[..end].parse().ok()?;
    let rest = &rest[end..];
    let rest = if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") };
    *uri = PathAndQuery::try_from(rest).ok()?.into();
    Some(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DeviceId;

    fn reception(trusted: &[&str]) -> Reception {
        Reception {
            hosted: Vec::new(),
            ntfy: None,
            stays: Stays::new(1, 1),
            trial: false,
            trusted_proxies: trusted.iter().map(|net| net.parse().expect("a network")).collect(),
        }
    }

    fn visitor(reception: &Reception, side: Side, headers: &[(&str, &str)]) -> Visitor {
        let mut request = Request::builder().uri("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(()).expect("valid");
        reception.visitor(&mut request, side, IpAddr::from([127, 0, 0, 1]))
    }

    #[test]
    fn only_trusted_proxies_say_where_a_request_comes_from() {
        let trusting = reception(&["127.0.0.1/32", "10.0.0.0/8"]);
        for (name, value, expected) in [
            ("X-Forwarded-For", "203.0.113.9", "203.0.113.9"),
            ("X-Forwarded-For", "6.6.6.6, 203.0.113.9", "203.0.113.9"),
            ("X-Forwarded-For", "6.6.6.6, 203.0.113.9, 10.1.2.3", "203.0.113.9"),
            ("X-Forwarded-For", "6.6.6.6, unknown", "127.0.0.1"),
            ("X-Forwarded-For", "[2001:db8::1]:99", "2001:db8::1"),
            ("X-Forwarded-For", "203.0.113.9:99", "203.0.113.9"),
            ("Forwarded", "for=6.6.6.6, For=\"[2001:db8::7]\";proto=https", "2001:db8::7"),
            ("Forwarded", "for=6.6.6.6, proto=https", "127.0.0.1"),
            ("X-Real-IP", "6.6.6.6", "127.0.0.1"),
        ] {
            let visitor = visitor(&trusting, Side::Public, &[(name, value)]);
            assert_eq!(visitor.source.to_string(), expected, "{name}: {value}");
        }
        let visitor = visitor(&reception(&[]), Side::Public, &[("X-Forwarded-For", "203.0.113.9")]);
        assert_eq!(visitor.source.to_string(), "127.0.0.1");
    }

    #[test]
    fn what_a_proxy_brings_to_a_trial_is_public() {
        let reception = reception(&[]);
        let audience = |side, headers: &[(&str, &str)]| visitor(&reception, side, headers).audience;
        for host in ["localhost:8080", "127.0.0.1:8080", "[::1]:8080", "10.0.2.2:8080", "LOCALHOST"] {
            assert_eq!(audience(Side::Trial, &[("Host", host)]), Audience::Home, "{host}");
        }
        for headers in [
            &[("Host", "localhost"), ("X-Forwarded-For", "127.0.0.1")][..],
            &[("Host", "localhost"), ("Forwarded", "for=127.0.0.1")],
            &[("Host", "rebound.example:8080")],
            &[],
        ] {
            assert_eq!(audience(Side::Trial, headers), Audience::Public, "{headers:?}");
        }
        assert_eq!(audience(Side::Public, &[("Host", "localhost")]), Audience::Public);
        assert_eq!(audience(Side::Home, &[("Host", "gateway.lan")]), Audience::Home);
    }

    #[test]
    fn a_devices_path_is_taken_off() {
        let token = PathToken::new(DeviceId(7), [1; 12]);
        for (written, rest) in [
            (format!("/d/{token}"), "/"),
            (format!("/d/{token}/"), "/"),
            (format!("/d/{token}?a=b"), "/?a=b"),
            (format!("/d/{token}/upABC/json?since=all"), "/upABC/json?since=all"),
        ] {
            let mut uri: Uri = written.parse().expect("valid");
            assert_eq!(take_path(&mut uri), Some(token), "{written}");
            assert_eq!(uri.path_and_query().expect("there is one").as_str(), rest);
        }
        for other in ["/", "/d/", "/d/short/", &format!("/x/d/{token}/"), &format!("/d/{token}x/")] {
            let mut uri: Uri = other.parse().expect("valid");
            assert_eq!(take_path(&mut uri), None, "{other}");
            assert_eq!(uri.path(), other);
        }
    }
}
