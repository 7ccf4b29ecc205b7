//! What a request asks for: paths, topics, and parameters in ntfy's many spellings.

use std::{fmt, str::FromStr};

use http::{HeaderMap, Method, Uri};

use super::{Failure, config::TOPICS_MAX};

/// First segments that are no topics: ntfy's reserved words, and this gateway's own paths.
pub(super) const RESERVED: [&str; 18] = [
    "docs",
    "static",
    "file",
    "app",
    "metrics",
    "account",
    "settings",
    "signup",
    "login",
    "v1",
    "p",
    "m",
    "d",
    "wpush",
    "health",
    "_matrix",
    "aesgcm",
    "config.js",
];

/// A topic: 1 to 64 characters of `A-Z a-z 0-9 - _`, and not a reserved word. Whoever knows it may push.
#[derive(Clone, Eq, PartialEq)]
pub struct Topic(Box<str>);

impl Topic {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is one that a UnifiedPush distributor makes up: `up` and 12 letters and digits.
    #[must_use]
    pub fn is_unified_push(&self) -> bool {
        self.0.len() == 14
            && self.0.starts_with("up")
            && self.0.bytes().all(|byte| byte.is_ascii_alphanumeric())
    }
}

/// Shows how it begins only: a log must not leak a capability.
impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.4}…", self.0)
    }
}

impl FromStr for Topic {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if !(1..=64).contains(&text.len()) || !text.bytes().all(allowed) {
            Err(Failure::TopicInvalid)
        } else if RESERVED.contains(&text) {
            Err(Failure::TopicReserved)
        } else {
            Ok(Self(text.into()))
        }
    }
}

/// How messages are written to a subscriber.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Form {
    Json,
    Raw,
    Sse,
    WebSocket,
}

/// What a request asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Asked {
    /// `/t1,t2/auth`
    Auth(Vec<Topic>),
    /// `/v1/config`; as a script at `/config.js`.
    Config {
        /// At `/config.js`.
        script: bool,
    },
    /// `GET /topic?up=1`
    Discover,
    /// `/v1/health`
    Health,
    /// `OPTIONS`
    Preflight,
    /// `POST /topic`, `PUT /topic`, `GET /topic/publish`
    Publish(Topic),
    /// `POST /`
    PublishJson,
    /// `/t1,t2/json` and the like.
    Subscribe(Subscribe),
}

/// A subscription that is asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Subscribe {
    pub(super) form: Form,
    pub(super) topics: Vec<Topic>,
}

impl Asked {
    /// Reads method and path; `None` for what is not ntfy's.
    pub fn find(method: &Method, uri: &Uri) -> Option<Result<Self, Failure>> {
        let (is_get, is_put) =
            (matches!(*method, Method::GET | Method::HEAD), matches!(*method, Method::POST | Method::PUT));
        match uri.path() {
            "/" => return is_put.then_some(Ok(Self::PublishJson)),
            "/v1/health" => return is_get.then_some(Ok(Self::Health)),
            "/v1/config" => return is_get.then_some(Ok(Self::Config { script: false })),
            "/config.js" => return is_get.then_some(Ok(Self::Config { script: true })),
            _ => {}
        }
        let mut segments = uri.path().strip_prefix('/')?.split('/');
        // Commas of a list come encoded from some clients.
        let names = segments.next()?.replace("%2C", ",").replace("%2c", ",");
        if RESERVED.contains(&names.as_str()) {
            return None;
        }
        let word = segments.next();
        if segments.next().is_some() {
            return None;
        }
        let one = || names.parse::<Topic>();
        let Some(word) = word else {
            return match *method {
                Method::OPTIONS => one().is_ok().then_some(Ok(Self::Preflight)),
                _ if is_put => Some(one().map(Self::Publish)),
                _ if is_get && is_up(&HeaderMap::new(), uri) => Some(one().map(|_| Self::Discover)),
                _ => None,
            };
        };
        let form = match word {
            "json" => Some(Form::Json),
            "raw" => Some(Form::Raw),
            "sse" => Some(Form::Sse),
            "ws" => Some(Form::WebSocket),
            "auth" | "publish" | "send" | "trigger" => None,
            _ => return None,
        };
        if *method == Method::OPTIONS {
            return Some(Ok(Self::Preflight));
        }
        Some(match (method, form, word) {
            (&Method::GET, Some(form), _) => {
                topics(&names).map(|topics| Self::Subscribe(Subscribe { form, topics }))
            }
            (_, None, "auth") if is_get => topics(&names).map(Self::Auth),
            (_, None, "publish" | "send" | "trigger") if is_get => one().map(Self::Publish),
            _ => return None,
        })
    }

    /// Whether it is for who takes messages in.
    #[must_use]
    pub fn is_publish(&self) -> bool {
        matches!(self, Self::Publish(_) | Self::PublishJson)
    }
}

fn topics(names: &str) -> Result<Vec<Topic>, Failure> {
    let mut topics = Vec::new();
    for name in names.split(',') {
        if topics.len() == TOPICS_MAX {
            return Err(Failure::TooManyTopics);
        }
        topics.push(name.parse()?);
    }
    Ok(topics)
}

/// Whether the request says that it is UnifiedPush's.
#[must_use]
pub fn is_up(headers: &HeaderMap, uri: &Uri) -> bool {
    is_true(parameter(headers, uri, &["x-unifiedpush", "unifiedpush", "up"]).as_deref())
}

/// ntfy's yes.
#[must_use]
pub fn is_true(value: Option<&str>) -> bool {
    value.is_some_and(|value| matches!(value.to_ascii_lowercase().as_str(), "1" | "yes" | "true"))
}

/// A parameter by any of its names, as a header or in the query; ntfy takes both, the header first.
/// Empty ones count as absent.
#[must_use]
pub fn parameter(headers: &HeaderMap, uri: &Uri, names: &[&str]) -> Option<String> {
    let header = |name: &&str| {
        let value = headers.get(*name)?;
        // People write UTF-8 into headers, whatever RFC 9110 says.
        let text = String::from_utf8_lossy(value.as_bytes()).trim().to_owned();
        (!text.is_empty()).then_some(text)
    };
    names.iter().find_map(header).or_else(|| query(uri, names))
}

/// The same from the query alone.
#[must_use]
pub(super) fn query(uri: &Uri, names: &[&str]) -> Option<String> {
    let pairs =
        || uri.query().unwrap_or_default().split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let value = |name: &&str| {
        let found = pairs().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
        Some(decoded(found.1)).filter(|value| !value.is_empty())
    };
    names.iter().find_map(value)
}

/// `application/x-www-form-urlencoded`, one value. What is malformed stays as it is.
fn decoded(value: &str) -> String {
    let bytes = value.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let digits = bytes.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        match (byte, digits.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'%', Some(decoded)) => {
                out.push(decoded);
                at += 3;
                continue;
            }
            (b'+', _) => out.push(b' '),
            _ => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(method: Method, uri: &str) -> Option<Result<Asked, Failure>> {
        Asked::find(&method, &uri.parse().expect("a URI"))
    }

    fn topic(text: &str) -> Topic {
        text.parse().expect("a topic")
    }

    #[test]
    fn publishing_has_many_forms() {
        let publish = Some(Ok(Asked::Publish(topic("mytopic"))));
        for (method, uri) in [
            (Method::POST, "/mytopic"),
            (Method::PUT, "/mytopic?up=1"),
            (Method::GET, "/mytopic/publish?message=hi"),
            (Method::GET, "/mytopic/send"),
            (Method::GET, "/mytopic/trigger"),
        ] {
            assert_eq!(find(method, uri), publish, "{uri}");
        }
        assert_eq!(find(Method::POST, "/"), Some(Ok(Asked::PublishJson)));
        assert_eq!(find(Method::PUT, "/"), Some(Ok(Asked::PublishJson)));
        assert_eq!(find(Method::GET, "/mytopic?up=1"), Some(Ok(Asked::Discover)));
    }

    #[test]
    fn several_topics_and_long_paths_are_read() {
        let names: Vec<String> = (0..546).map(|number| format!("up{number:012}")).collect();
        let uri = format!("/{}/json", names.join(","));
        assert!(uri.len() >= 8 * 1024);
        let Some(Ok(Asked::Subscribe(subscribe))) = find(Method::GET, &uri) else { panic!("{uri}") };
        assert_eq!(subscribe.topics.len(), 546);
        assert!(matches!(find(Method::GET, "/a%2Cb/ws"), Some(Ok(Asked::Subscribe(_)))));
    }

    #[test]
    fn wrong_topics_are_named_as_such() {
        let long = "x".repeat(65);
        for wrong in ["a,,b", "a b", ",", &long, "é"] {
            let uri = format!("/{}/json", wrong.replace(' ', "%20").replace('é', "%C3%A9"));
            assert_eq!(find(Method::GET, &uri), Some(Err(Failure::TopicInvalid)), "{wrong}");
        }
        assert_eq!(find(Method::GET, "/a,docs/json"), Some(Err(Failure::TopicReserved)));
        let many = vec!["a"; TOPICS_MAX + 1].join(",");
        assert_eq!(find(Method::GET, &format!("/{many}/json")), Some(Err(Failure::TooManyTopics)));
    }

    #[test]
    fn other_paths_are_left_alone() {
        for uri in [
            "/",
            "/p/abc",
            "/d/x",
            "/docs/json",
            "/v1/other",
            "/topic",
            "/a/b/c",
            "/topic/other",
            "/static/x.js",
        ] {
            assert_eq!(find(Method::GET, uri), None, "{uri}");
        }
        assert_eq!(find(Method::DELETE, "/topic"), None);
    }

    #[test]
    fn parameters_come_in_both_ways() {
        let uri: Uri = "/t?title=a%20b+c%zz&empty=&UP=1".parse().expect("a URI");
        let mut headers = HeaderMap::new();
        assert_eq!(parameter(&headers, &uri, &["x-title", "title"]).as_deref(), Some("a b c%zz"));
        assert_eq!(parameter(&headers, &uri, &["empty"]), None);
        assert!(is_up(&headers, &uri));
        headers.insert("x-title", http::HeaderValue::from_static("header"));
        assert_eq!(parameter(&headers, &uri, &["x-title", "title"]).as_deref(), Some("header"));
    }

    #[test]
    fn topics_of_distributors_are_told_apart() {
        assert!(topic("upABCdef012345").is_unified_push());
        for other in ["up", "upABCdef01234", "upABCdef0123456", "UPABCdef012345", "upABC-ef012345"] {
            assert!(!topic(other).is_unified_push(), "{other}");
        }
    }
}
