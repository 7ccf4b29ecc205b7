//! What is said to the server, and how its answers are read.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use ring::digest;

use super::{
    jid::Jid,
    xml::{Element, Escaped, ns},
};
use crate::{
    model::{AppToken, PushMessage, UnixTime},
    transport::RegisteredAs,
};

/// The end of our stream.
pub(super) const GOOD_BYE: &str = "</stream:stream>";
/// What keeps an idle stream alive (RFC 6120 §4.6.1).
pub(super) const KEEP_ALIVE: &str = " ";
/// Characters of the base64 of 32 bytes.
const HASH: usize = 44;

/// Errors that are answered (RFC 6120 §8.3.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Condition {
    BadRequest,
    Forbidden,
    InternalServerError,
    ItemNotFound,
    NotAcceptable,
    NotAllowed,
    ResourceConstraint,
    ServiceUnavailable,
}

impl Condition {
    /// The type of error, and its name.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::BadRequest => ("modify", "bad-request"),
            Self::Forbidden => ("auth", "forbidden"),
            Self::InternalServerError => ("wait", "internal-server-error"),
            Self::ItemNotFound => ("cancel", "item-not-found"),
            Self::NotAcceptable => ("modify", "not-acceptable"),
            Self::NotAllowed => ("cancel", "not-allowed"),
            Self::ResourceConstraint => ("wait", "resource-constraint"),
            Self::ServiceUnavailable => ("cancel", "service-unavailable"),
        }
    }
}

/// What an app's registration is known by: the two hashes that Conversations makes of the app's name and its
/// token, each with a random number of the account.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Instance {
    pub(super) application: String,
    pub(super) instance: String,
}

impl Instance {
    /// Reads a `<register/>`; `None` where a hash is missing, or is not the base64 of 32 bytes and nothing else.
    pub(super) fn read(register: &Element) -> Option<Self> {
        let hash = |name| {
            let text = register.attribute(name)?;
            let is_hash = text.len() == HASH && STANDARD.decode(text).is_ok_and(|bytes| bytes.len() == 32);
            is_hash.then(|| text.to_owned())
        };
        Some(Self { application: hash("application")?, instance: hash("instance")? })
    }

    /// The name of the registration.
    pub(super) fn token(&self) -> Option<AppToken> {
        format!("{} {}", self.application, self.instance).parse().ok()
    }

    /// What the owner is shown: nothing can be told of the app but that it is another one.
    pub(super) fn app(&self) -> Box<str> {
        format!("app {}", &self.application[..8]).into()
    }

    /// The opposite of [`token`](Self::token).
    pub(super) fn of(token: &AppToken) -> Option<Self> {
        let (application, instance) = token.as_str().split_once(' ')?;
        Some(Self { application: application.to_owned(), instance: instance.to_owned() })
    }
}

/// The beginning of our stream (XEP-0114 §3).
pub(super) fn opening(component: &str) -> String {
    format!(
        "<?xml version='1.0'?><stream:stream xmlns='{}' xmlns:stream='{}' to='{}'>",
        ns::COMPONENT,
        ns::STREAMS,
        Escaped(component)
    )
}

/// The proof that we know the secret (XEP-0114 §3): the protocol has no other hash than SHA-1.
pub(super) fn handshake(id: &str, secret: &str) -> String {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(id.as_bytes());
    context.update(secret.as_bytes());
    let hash: String = context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    Element::new("handshake", ns::COMPONENT).saying(hash).to_string()
}

/// A request of ours.
pub(super) fn request(kind: &str, id: &str, from: &str, to: &str, payload: Element) -> String {
    iq(kind, id, from, to).holding(payload).to_string()
}

fn iq(kind: &str, id: &str, from: &str, to: &str) -> Element {
    Element::new("iq", ns::COMPONENT).with("type", kind).with("id", id).with("from", from).with("to", to)
}

/// What is needed of a request to answer it later.
pub(super) fn head(stanza: &Element) -> Element {
    ["id", "from", "to"].into_iter().fold(Element::new("iq", ns::COMPONENT), |head, name| {
        match stanza.attribute(name) {
            Some(value) => head.with(name, value),
            None => head,
        }
    })
}

/// The answer to a request; `None` where it cannot be answered, because nobody or no request is named.
pub(super) fn result(to: &Element, payload: Option<Element>) -> Option<String> {
    let answer = answer("result", to)?;
    Some(payload.into_iter().fold(answer, Element::holding).to_string())
}

/// The refusal of a request.
pub(super) fn refusal(to: &Element, condition: Condition) -> Option<String> {
    let (kind, name) = condition.words();
    let error = Element::new("error", ns::COMPONENT).with("type", kind);
    let error = error.holding(Element::new(name, ns::STANZAS));
    Some(answer("error", to)?.holding(error).to_string())
}

fn answer(kind: &str, to: &Element) -> Option<Element> {
    Some(iq(kind, to.attribute("id")?, to.attribute("to")?, to.attribute("from")?))
}

/// `<registered/>`
pub(super) fn registered(registered: &RegisteredAs, expires: UnixTime) -> Element {
    // Whole seconds and a Z: what every Conversations can read.
    let seconds = i64::try_from(expires.as_secs()).unwrap_or_default();
    let expiration = Timestamp::from_second(seconds).unwrap_or_default().to_string();
    Element::new("registered", ns::UNIFIED_PUSH)
        .with("endpoint", registered.endpoint.as_str())
        .with("expiration", expiration)
}

/// `<push/>`: the body alone, without white space.
pub(super) fn push(instance: Instance, message: &PushMessage) -> Element {
    let text = match message.coding.aesgcm_prefix() {
        Some(prefix) => STANDARD.encode([prefix.as_bytes(), &message.body].concat()),
        None => STANDARD.encode(&message.body),
    };
    Element::new("push", ns::UNIFIED_PUSH)
        .with("application", instance.application)
        .with("instance", instance.instance)
        .saying(text)
}

/// Whether an error says that the app is gone for good; every other one is of the moment.
pub(super) fn is_gone(stanza: &Element) -> bool {
    // By its name: some servers repeat the request before it.
    let Some(error) = stanza.child("error", ns::COMPONENT) else { return false };
    ["item-not-found", "feature-not-implemented"]
        .into_iter()
        .any(|name| error.child(name, ns::STANZAS).is_some())
}

/// What a stream error says (RFC 6120 §4.9), for the log: its condition, and the text with it.
pub(super) fn stream_error(error: &Element) -> String {
    let known = |child: &&Element| child.ns() == ns::STREAM_ERRORS && child.name() != "text";
    let condition = error.children().find(known).map_or("undefined-condition", Element::name);
    match error.child("text", ns::STREAM_ERRORS) {
        Some(text) => format!("{condition} ({})", text.text()),
        None => condition.to_owned(),
    }
}

/// The account of an address.
pub(super) fn account_name(jid: &Jid, most: usize) -> Box<str> {
    let mut end = jid.bare().len().min(most);
    while !jid.bare().is_char_boundary(end) {
        end -= 1;
    }
    jid.bare()[..end].into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Coding, DeviceId},
        transport::battery,
    };

    #[test]
    fn the_handshake_is_the_hash_of_id_and_secret() {
        let hash = "7f5575962b4fbfc450931763864441de7badf267";
        assert_eq!(handshake("3BF96D32", "s3cret-component"), format!("<handshake>{hash}</handshake>"));
    }

    /// What Conversations makes of an app's name and its token.
    fn hash(account: &str, value: &str) -> String {
        let text = format!("{account}\0{value}");
        STANDARD.encode(digest::digest(&digest::SHA256, text.as_bytes()))
    }

    fn register(application: &str, instance: &str) -> Element {
        Element::new("register", ns::UNIFIED_PUSH).with("application", application).with("instance", instance)
    }

    #[test]
    fn the_hashes_of_conversations_are_a_name_that_is_read_back() {
        let account = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6";
        let (application, instance) = (hash(account, "com.keylesspalace.tusky"), hash(account, "tok-1"));
        assert_eq!(application, "p+HvF3DME9ZnPVoyg/akc/LaRXOBSVIh4OSYCrpObxk=");
        assert_eq!(instance, "oUYo9utYjF/RJZ1jA2MwY1pL/T1v1wqmPfj6tI7ezWw=");
        let read = Instance::read(&register(&application, &instance)).expect("two hashes");
        assert_eq!(Instance::of(&read.token().expect("a name")), Some(read));
    }

    #[test]
    fn what_is_written_can_be_read_and_nothing_else_is_in_it() {
        let odd = "<&>\"' \t\n\r\u{1}\u{fffe}é\u{1f600}";
        let element =
            Element::new("a", "b:<c>").with("d", odd).holding(Element::new("e", "b:<c>").saying(odd));
        let text = element.to_string();
        assert_eq!(
            text,
            "<a xmlns='b:&lt;c&gt;' d='&lt;&amp;&gt;&quot;&apos; &#9;&#10;&#13;é\u{1f600}'><e>&lt;&amp;&gt;&quot;&apos; &#9;&#10;&#13;é\u{1f600}</e></a>"
        );
        let stream = format!("{}{text}", opening("x"));
        let (mut reader, mut bytes) = (crate::transport::xmpp::xml::Reader::default(), stream.as_bytes());
        assert!(matches!(
            reader.read(&mut bytes),
            Ok(Some(crate::transport::xmpp::xml::Heard::Opened(None)))
        ));
        let kept = odd.replace(['\u{1}', '\u{fffe}'], "");
        let Ok(Some(crate::transport::xmpp::xml::Heard::Stanza(read))) = reader.read(&mut bytes) else {
            panic!("an element")
        };
        assert_eq!(read.attribute("d"), Some(&*kept));
        assert_eq!(read.child("e", "b:<c>").map(Element::text), Some(&*kept));
    }

    #[test]
    fn an_aesgcm_push_keeps_its_headers() {
        let instance = Instance { application: "a".to_owned(), instance: "b".to_owned() };
        let mut message = (*battery::item(DeviceId(1), 1, b"body").message).clone();
        assert_eq!(push(instance.clone(), &message).text(), "Ym9keQ==");
        message.coding = Coding {
            content_encoding: Some("aesgcm".into()),
            crypto_key: Some("dh=B".into()),
            encryption: Some("salt=A".into()),
        };
        let text = STANDARD.decode(push(instance, &message).text()).expect("base64");
        assert_eq!(text, b"aesgcm\nEncryption: salt=A\nCrypto-Key: dh=B\nbody");
    }

    #[test]
    fn a_long_account_has_a_short_name() {
        let jid = Jid::read(&format!("{}é@home.test/x", "a".repeat(62))).expect("an address");
        assert_eq!(&*account_name(&jid, 64), &format!("{}é", "a".repeat(62)));
        assert_eq!(&*account_name(&jid, 63), "a".repeat(62));
    }
}
