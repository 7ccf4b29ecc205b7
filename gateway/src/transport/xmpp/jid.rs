//! Addresses of XMPP (RFC 7622). The server has prepared them; they are compared as they come.

use std::fmt;

/// Bytes of each part.
const PART_MAX: usize = 1023;

/// `local@domain/resource`; local part and resource may be missing.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Jid(Box<str>);

impl Jid {
    /// `None` for what is no address.
    pub(super) fn read(text: &str) -> Option<Self> {
        let jid = Self(text.into());
        let parts = [jid.local(), Some(jid.domain()), jid.resource()];
        let fits = |part: &str| (1..=PART_MAX).contains(&part.len()) && !part.chars().any(char::is_control);
        let bare = jid.bare();
        (parts.into_iter().flatten().all(fits) && !bare.contains(char::is_whitespace)).then_some(jid)
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Without the resource.
    pub(super) fn bare(&self) -> &str {
        self.0.split_once('/').map_or(&*self.0, |(bare, _)| bare)
    }

    pub(super) fn domain(&self) -> &str {
        self.bare().split_once('@').map_or(self.bare(), |(_, domain)| domain)
    }

    pub(super) fn local(&self) -> Option<&str> {
        self.bare().split_once('@').map(|(local, _)| local)
    }

    pub(super) fn resource(&self) -> Option<&str> {
        self.0.split_once('/').map(|(_, resource)| resource)
    }

    /// An account's client: what a push can be sent to.
    pub(super) fn is_client(&self) -> bool {
        self.local().is_some() && self.resource().is_some()
    }
}

impl fmt::Display for Jid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_three_parts() {
        let jid = Jid::read("alice@home.test/Phone/a@b").expect("an address");
        assert_eq!((jid.local(), jid.domain()), (Some("alice"), "home.test"));
        assert_eq!((jid.resource(), jid.bare()), (Some("Phone/a@b"), "alice@home.test"));
        assert!(jid.is_client());
        let server = Jid::read("home.test").expect("an address");
        assert_eq!((server.local(), server.domain(), server.resource()), (None, "home.test", None));
        assert!(!server.is_client() && !Jid::read("a@b").expect("an address").is_client());
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let long = format!("a@b/{}", "x".repeat(PART_MAX + 1));
        for text in ["", "@b", "a@", "a@b/", "/x", "a b@c", "a@b/\u{7}", &long] {
            assert!(Jid::read(text).is_none(), "{text}");
        }
    }
}
