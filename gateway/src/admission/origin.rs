//! The origin of the endpoints, to compare with what a token says of it.

/// A web origin (RFC 6454), in one spelling: lower case, without the scheme's own port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Origin(Box<str>);

impl Origin {
    /// Takes the origin as the owner or the system spelled it.
    pub(super) fn new(text: &str) -> Self {
        Self(normal(text).into())
    }

    /// Whether `text` means this origin. A closing slash is forgiven, a path is not.
    pub(super) fn is(&self, text: &str) -> bool {
        *self.0 == *text || *self.0 == *normal(text)
    }
}

fn normal(text: &str) -> String {
    let text = text.strip_suffix('/').unwrap_or(text).to_ascii_lowercase();
    let own_port = if text.starts_with("https://") { ":443" } else { ":80" };
    text.strip_suffix(own_port).map(str::to_owned).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::Origin;

    #[test]
    fn rfc6454_spellings_of_one_origin_are_equal() {
        let origin = Origin::new("https://Push.Example.org:443/");
        for same in ["https://push.example.org", "https://push.example.org/", "HTTPS://PUSH.example.org:443"]
        {
            assert!(origin.is(same), "{same}");
        }
        assert!(Origin::new("http://127.0.0.1:8080").is("http://127.0.0.1:8080"));
    }

    #[test]
    fn rfc6454_other_origins_are_not_equal() {
        let origin = Origin::new("https://push.example.org");
        for other in [
            "",
            "https://",
            "push.example.org",
            "http://push.example.org",
            "http://push.example.org:443",
            "https://push.example.org:80",
            "https://push.example.org:8443",
            "https://push.example.org.evil.example",
            "https://evil.example/https://push.example.org",
            "https://push.example.org/p/x",
            "https://push.example.org//",
        ] {
            assert!(!origin.is(other), "{other}");
        }
    }
}
