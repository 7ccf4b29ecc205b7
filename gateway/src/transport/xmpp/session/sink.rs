//! Push notifications of XMPP servers (XEP-0357), and the command by which a user asks for them (XEP-0050).
//!
//! A user binds a name and a secret to an endpoint of this gateway, and has its server notify the component by them.
//! Both are made of the endpoint's registration and the account with a key of this gateway, so that nothing has to be
//! remembered; they end with the registration.

use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{digest, hmac};
use subtle::ConstantTimeEq as _;

use super::{Ask, Posting, Session};
use crate::{
    model::{DeviceId, EndpointToken, Moment, Registration, RegistrationId, Urgency},
    transport::{
        Directory, Posted,
        xmpp::{
            jid::Jid,
            wire::{self, Condition},
            xml::{Element, ns},
        },
    },
};

/// The command.
pub(super) const BIND: &str = "register-push-unifiedpush";
/// What an app gets: that something has happened, and nothing of it.
const BODY: &[u8] = br#"{"xmpp":"push"}"#;
/// Under which, with its urgency, a newer notification replaces one that still waits.
const TOPIC: &str = "xmpp-push";
/// Bytes of a secret.
const SECRET: usize = 18;
/// The same notification within this time is the same event: Prosody sends it twice.
const TWICE: Duration = Duration::from_secs(5);
/// Of how many registrations the last notification is remembered.
const REMEMBERED: usize = 1024;

/// A notification that was passed on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Passed {
    at: Instant,
    registration: RegistrationId,
    /// The hash of what it says.
    what: [u8; 32],
}

impl Session {
    /// A user binds an endpoint. One step, or two for whoever asks for the form first.
    pub(super) fn command(&mut self, directory: &dyn Directory, stanza: &Element, asked: &Element) {
        let from = stanza.attribute("from").and_then(Jid::read);
        let Some(from) = from.filter(|from| self.is_allowed(from)) else {
            return self.refuse(stanza, Condition::Forbidden);
        };
        if asked.attribute("node") != Some(BIND) {
            return self.refuse(stanza, Condition::ItemNotFound);
        }
        match asked.attribute("action") {
            None | Some("execute" | "next" | "complete") => {}
            Some("cancel") => return self.say(wire::result(stanza, Some(answered(asked, "canceled")))),
            Some(_) => return self.refuse(stanza, Condition::BadRequest),
        }
        let form = asked.child("x", ns::DATA).filter(|form| form.attribute("type") == Some("submit"));
        let Some(form) = form else {
            return self.say(wire::result(stanza, Some(answered(asked, "executing").holding(empty_form()))));
        };
        let Some(endpoint) = value(form, "endpoint") else {
            return self.refuse(stanza, Condition::BadRequest);
        };
        let token = endpoint.rsplit('/').next().and_then(|token| token.parse::<EndpointToken>().ok());
        let Some(registration) = token.and_then(|token| directory.holder(&token)) else {
            return self.refuse(stanza, Condition::ItemNotFound);
        };
        // It takes pushes of one application server alone, whose signature nobody here can give.
        if registration.vapid.is_some() {
            return self.refuse(stanza, Condition::NotAllowed);
        }
        let node = node(&registration, self.device(&from));
        let secret = self.node_secret(&node, from.domain());
        let fields = [("jid", self.config.component.as_str()), ("node", &node), ("secret", &secret)];
        let form = Element::new("x", ns::DATA).with("type", "result");
        let form = fields.into_iter().fold(form, |form, (name, value)| {
            let value = Element::new("value", ns::DATA).saying(value);
            form.holding(Element::new("field", ns::DATA).with("var", name).holding(value))
        });
        self.say(wire::result(stanza, Some(answered(asked, "completed").holding(form))));
    }

    /// A server notifies.
    pub(super) fn publish(
        &mut self,
        directory: &dyn Directory,
        stanza: &Element,
        asked: &Element,
        now: Moment,
    ) {
        let from = stanza.attribute("from").and_then(Jid::read);
        let Some(from) = from.filter(|from| self.is_of_allowed_domain(from)) else {
            return self.refuse(stanza, Condition::Forbidden);
        };
        let publish = asked.child("publish", ns::PUBSUB);
        let notification = publish
            .and_then(|publish| publish.child("item", ns::PUBSUB))
            .and_then(|item| item.child("notification", ns::PUSH));
        let node = publish.and_then(|publish| publish.attribute("node"));
        let (Some(node), Some(notification)) = (node, notification) else {
            return self.refuse(stanza, Condition::BadRequest);
        };
        // What was never given out, or has ended with its registration: the server may forget it.
        let registration = node.split_once('.').and_then(|(registration, account)| {
            account.parse::<DeviceId>().ok()?;
            directory.registration(registration.parse().ok()?)
        });
        let Some(registration) = registration else {
            return self.refuse(stanza, Condition::ItemNotFound);
        };
        let options =
            asked.child("publish-options", ns::PUBSUB).and_then(|options| options.child("x", ns::DATA));
        let secret = options.and_then(|options| value(options, "secret")).unwrap_or_default();
        let right = self.node_secret(node, from.domain());
        if !bool::from(secret.as_bytes().ct_eq(right.as_bytes())) {
            return self.refuse(stanza, Condition::Forbidden);
        }
        let summary = notification.child("x", ns::DATA);
        let body = summary.and_then(|summary| value(summary, "last-message-body")).unwrap_or_default();
        let urgency = if body.is_empty() { Urgency::Low } else { Urgency::High };
        let passed = Passed { at: now.instant, registration: registration.id, what: hash(notification) };
        if self.is_repeated(&passed) {
            return self.say(wire::result(stanza, None));
        }
        if !self.has_room() {
            return self.refuse(stanza, Condition::ResourceConstraint);
        }
        if self.passed.len() >= REMEMBERED {
            self.passed.pop_front();
        }
        self.passed.push_back(passed.clone());
        let topic = format!("{TOPIC}-{urgency}").parse().ok();
        let posted = Posted { body: BODY.into(), registration, topic, urgency };
        let posting = Posting { passed, posted, stanza: wire::head(stanza) };
        self.asks.push_back(Ask::Post(Box::new(posting)));
    }

    /// Whether the same was passed on a moment ago.
    fn is_repeated(&mut self, passed: &Passed) -> bool {
        self.passed.retain(|known| passed.at.saturating_duration_since(known.at) < TWICE);
        self.passed.iter().any(|known| Passed { at: passed.at, ..known.clone() } == *passed)
    }

    /// A notification was taken in, or was not.
    pub(super) fn posted(&mut self, posting: Posting, taken: bool) {
        if !taken {
            // The same may come again; and servers do not count an error that passes.
            self.passed.retain(|known| *known != posting.passed);
            return self.refuse(&posting.stanza, Condition::ResourceConstraint);
        }
        self.say(wire::result(&posting.stanza, None));
    }

    /// What proves that a server was told of a node by its user.
    fn node_secret(&self, node: &str, domain: &str) -> String {
        let tag = hmac::sign(&self.key, format!("notify {node} {}", domain.to_lowercase()).as_bytes());
        URL_SAFE_NO_PAD.encode(&tag.as_ref()[..SECRET])
    }
}

/// The name of a registration for an account.
fn node(registration: &Registration, account: DeviceId) -> String {
    format!("{}.{account}", registration.id)
}

fn answered(asked: &Element, status: &str) -> Element {
    let session = asked.attribute("sessionid").unwrap_or("bind");
    Element::new("command", ns::COMMANDS).with("node", BIND).with("sessionid", session).with("status", status)
}

fn empty_form() -> Element {
    let required = Element::new("required", ns::DATA);
    let endpoint = Element::new("field", ns::DATA)
        .with("type", "text-single")
        .with("var", "endpoint")
        .with("label", "The UnifiedPush endpoint to notify")
        .holding(required);
    Element::new("x", ns::DATA).with("type", "form").holding(endpoint)
}

/// The value of a form's field.
fn value<'a>(form: &'a Element, name: &str) -> Option<&'a str> {
    let field = form.children().find(|field| field.attribute("var") == Some(name))?;
    Some(field.child("value", ns::DATA)?.text().trim())
}

fn hash(notification: &Element) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest::digest(&digest::SHA256, notification.to_string().as_bytes()).as_ref());
    bytes
}
