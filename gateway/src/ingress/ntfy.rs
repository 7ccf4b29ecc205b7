//! Messages in ntfy's dialect: to a topic, with ntfy's parameters, answered with the message in JSON.
//!
//! A push for an app (UnifiedPush) is kept byte for byte; what ntfy would cut off is refused, and nothing
//! is put in the place of an empty one.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Request, Response, StatusCode, Uri, header::CONTENT_ENCODING};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::Value;

use super::{
    answer::Answer,
    body::{self, Unread},
    desk::Desk,
    queue::Queue,
};
use crate::{
    admission::{MAX_BODY, Parts, Refusal, Unchecked},
    model::{Coding, Registration, Ttl, Urgency},
    transport::{
        ntfy::{self, Asked, Content, Failure, NtfyRoom, Topic, is_true, parameter},
        web::{self, Visitor},
    },
};

static TTL: HeaderName = HeaderName::from_static("ttl");
static URGENCY: HeaderName = HeaderName::from_static("urgency");
/// How long ntfy keeps a message.
const DEFAULT_TTL_S: u64 = 12 * 3600;
/// A message in JSON is larger than what it says.
const MAX_JSON: usize = 2 * MAX_BODY;

/// The body of `POST /`.
#[derive(Debug, Deserialize)]
struct Published {
    attach: Option<String>,
    cache: Option<String>,
    call: Option<String>,
    delay: Option<String>,
    email: Option<String>,
    #[serde(default)]
    markdown: bool,
    #[serde(default)]
    topic: String,
    #[serde(flatten)]
    content: Content,
}

/// A message before it is judged.
struct Said {
    content: Content,
    /// It is for those who listen now (`Cache: no`).
    fleeting: bool,
    /// The bytes are an app's own, and `content` only shows them.
    push: Option<Bytes>,
}

/// What is asked, if it is for this dialect.
pub(super) fn asked(request: &Request<Incoming>) -> Option<Asked> {
    Asked::find(request.method(), request.uri())?.ok().filter(Asked::is_publish)
}

/// Takes a message in.
pub(super) async fn publish<Q: Queue>(
    desk: Arc<Desk<Q>>,
    room: Arc<NtfyRoom>,
    asked: Asked,
    request: Request<Incoming>,
    visitor: Visitor,
) -> Response<web::Body> {
    let (head, mut body) = request.into_parts();
    let clerk = Clerk { desk: &desk, headers: &head.headers, room: &room, uri: &head.uri, visitor: &visitor };
    let outcome = match asked {
        Asked::Publish(topic) => clerk.take(&topic, &mut body).await,
        Asked::PublishJson => clerk.take_json(&mut body).await,
        Asked::Auth(_)
        | Asked::Config { .. }
        | Asked::Discover
        | Asked::Health
        | Asked::Preflight
        | Asked::Subscribe(_) => Err(Failure::NotFound),
    };
    let response = match outcome {
        Ok(json) => {
            let mut response = web::answer(StatusCode::OK, json + "\n");
            let json = http::HeaderValue::from_static("application/json");
            response.headers_mut().insert(http::header::CONTENT_TYPE, json);
            let any = http::HeaderValue::from_static("*");
            response.headers_mut().insert(http::header::ACCESS_CONTROL_ALLOW_ORIGIN, any);
            response
        }
        Err(failure) => {
            tracing::debug!(source = %visitor.source, reason = %failure, "no message");
            failure.into_response()
        }
    };
    let within = desk.limits.body;
    // An unread body would end the connection without a word of warning.
    let _ = body::skip(&mut body, MAX_JSON, within).await;
    response
}

/// One request, and who serves it.
struct Clerk<'r, Q> {
    desk: &'r Desk<Q>,
    headers: &'r HeaderMap,
    room: &'r NtfyRoom,
    uri: &'r Uri,
    visitor: &'r Visitor,
}

impl<Q: Queue> Clerk<'_, Q> {
    async fn take(&self, topic: &Topic, body: &mut Incoming) -> Result<String, Failure> {
        let login = self.room.login(self.visitor, self.headers, self.uri)?;
        let registration = self.room.addressee(self.visitor, login, topic).await?;
        self.charge(&registration)?;
        let bytes = self.read(body, MAX_BODY).await?;
        let said = self.say(bytes)?;
        self.store(topic, registration, said).await
    }

    async fn take_json(&self, body: &mut Incoming) -> Result<String, Failure> {
        let login = self.room.login(self.visitor, self.headers, self.uri)?;
        let bytes = self.read(body, MAX_JSON).await?;
        let mut published: Published = serde_json::from_slice(&bytes).map_err(|_| Failure::Json)?;
        let topic: Topic = published.topic.parse()?;
        let unknown = [&published.call, &published.delay, &published.email, &published.attach];
        refuse_unknown(unknown.into_iter().flatten().any(|value| !value.is_empty()))?;
        if published.content.priority.is_some_and(|priority| priority > 5) {
            return Err(Failure::Priority);
        }
        if published.content.actions.as_ref().is_some_and(|actions| !actions.is_array()) {
            return Err(Failure::Actions);
        }
        published.content.priority = published.content.priority.filter(|priority| *priority > 0);
        // Only what was taken as a text is one.
        published.content.encoding = None;
        published.content.content_type = published.markdown.then(|| "text/markdown".to_owned());
        let registration = self.room.addressee(self.visitor, login, &topic).await?;
        self.charge(&registration)?;
        let fleeting = published.cache.as_deref() == Some("no");
        self.store(&topic, registration, Said { content: published.content, fleeting, push: None }).await
    }

    /// Whether this topic may get one more now.
    fn charge(&self, registration: &Registration) -> Result<(), Failure> {
        let charged = self.desk.meter.charge(registration.id, self.desk.clock.moment().instant);
        charged.map_err(|_| {
            self.desk.telemetry.limited(registration.id);
            Failure::TooManyMessages
        })
    }

    async fn read(&self, body: &mut Incoming, limit: usize) -> Result<Bytes, Failure> {
        body::read(body, limit, self.desk.limits.body).await.map_err(|unread| match unread {
            Unread::Broken => Failure::Invalid("the body ended early, or its chunks are malformed"),
            Unread::TooLarge => Failure::TooLarge,
            Unread::TooSlow => Failure::Unavailable,
        })
    }

    /// Reads ntfy's parameters.
    fn say(&self, body: Bytes) -> Result<Said, Failure> {
        let (headers, uri) = (self.headers, self.uri);
        let value = |names: &[&str]| parameter(headers, uri, names);
        let fleeting = value(&["x-cache", "cache"]).is_some_and(|cache| is_false(&cache));
        let encrypted = headers.get(CONTENT_ENCODING).is_some_and(|coding| coding == "aes128gcm");
        if encrypted || ntfy::is_up(headers, uri) {
            return Ok(Said { content: Content::of_push(&body), fleeting, push: Some(body) });
        }
        refuse_unknown(
            value(&["x-delay", "delay", "x-at", "at", "x-in", "in", "x-email", "email", "mail", "e-mail"])
                .is_some()
                || value(&["x-call", "call", "x-attach", "attach", "a"]).is_some(),
        )?;
        let text = value(&["x-message", "message", "m"]).filter(|_| body.is_empty());
        let mut content = match text {
            // As ntfy: what cannot stand in a header is written `\n`.
            Some(text) => Content { message: text.replace("\\n", "\n"), ..Content::default() },
            None => Content::of_text(&body),
        };
        content.title = value(&["x-title", "title", "ti", "t"]);
        content.click = value(&["x-click", "click"]);
        content.icon = value(&["x-icon", "icon"]);
        content.tags = value(&["x-tags", "tags", "tag", "ta"]).map(|tags| {
            tags.split(',').map(|tag| tag.trim().to_owned()).filter(|tag| !tag.is_empty()).collect()
        });
        content.priority = value(&["x-priority", "priority", "prio", "p"])
            .map(|priority| read_priority(&priority).ok_or(Failure::Priority))
            .transpose()?;
        content.actions = value(&["x-actions", "actions", "action"])
            .map(|actions| {
                let actions: Option<Value> = serde_json::from_str(&actions).ok();
                actions.filter(Value::is_array).ok_or(Failure::Actions)
            })
            .transpose()?;
        let markdown = is_true(value(&["x-markdown", "markdown", "md"]).as_deref())
            || headers.get(http::header::CONTENT_TYPE).is_some_and(|media| media == "text/markdown");
        content.content_type = markdown.then(|| "text/markdown".to_owned());
        Ok(Said { content, fleeting, push: None })
    }

    /// Judges the message, queues it, and waits until it is safe.
    async fn store(&self, topic: &Topic, registration: Registration, said: Said) -> Result<String, Failure> {
        let Said { content, fleeting, push } = said;
        let (body, coding) = match push {
            // Whatever the sender calls its coding, an app of ntfy's is given bytes.
            Some(body) => (body, Coding::default()),
            None => {
                let (body, coding) = content.stored();
                (body.into(), coding)
            }
        };
        if body.len() > MAX_BODY {
            return Err(Failure::TooLarge);
        }
        let request = Unchecked { body, headers: self.headers };
        let now = self.desk.clock.moment();
        let checked = self
            .desk
            .ntfy
            .admit(request, Arc::new(registration), now)
            .map_err(|refusal| refused(&refusal))?;
        let mut parts = Parts { coding, ..checked.into_parts() };
        if fleeting {
            parts.ttl = Ttl::ZERO;
        } else if !self.headers.contains_key(&TTL) {
            parts.ttl = Ttl::from_secs(DEFAULT_TTL_S);
        }
        if let (Some(priority), false) = (content.priority, self.headers.contains_key(&URGENCY)) {
            parts.urgency = match priority {
                1 => Urgency::VeryLow,
                2 => Urgency::Low,
                3 => Urgency::Normal,
                _ => Urgency::High,
            };
        }
        let ttl = parts.ttl;
        let (id, _) = self.desk.keep(parts).await.map_err(|_: Answer| Failure::Unavailable)?;
        Ok(ntfy::message_json(&self.room.message_id(id), topic.as_str(), now.wall, ttl.as_secs(), &content))
    }
}

/// What would silently not happen is refused.
fn refuse_unknown(is_wanted: bool) -> Result<(), Failure> {
    match is_wanted {
        true => Err(Failure::Invalid(
            "delays, e-mails, calls and attachments are not served here: leave them out",
        )),
        false => Ok(()),
    }
}

/// ntfy's no.
fn is_false(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "0" | "no" | "false")
}

fn read_priority(text: &str) -> Option<u8> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "min" => Some(1),
        "2" | "low" => Some(2),
        "3" | "default" => Some(3),
        "4" | "high" => Some(4),
        "5" | "max" | "urgent" => Some(5),
        _ => None,
    }
}

fn refused(refusal: &Refusal) -> Failure {
    match refusal {
        Refusal::BodyTooLarge => Failure::TooLarge,
        Refusal::ClockUntrusted => Failure::Unavailable,
        Refusal::TtlMalformed | Refusal::TtlMissing | Refusal::TtlRepeated => {
            Failure::Invalid("TTL is to be written once, as a number of seconds")
        }
        Refusal::UrgencyMalformed | Refusal::UrgencyRepeated => {
            Failure::Invalid("Urgency is to be written once, as very-low, low, normal or high")
        }
        Refusal::TopicMalformed | Refusal::TopicRepeated => {
            Failure::Invalid("Topic is to be written once, with 1 to 32 characters of A-Z, a-z, 0-9, - and _")
        }
        Refusal::CodingNotLegacy | Refusal::CodingUnusable | Refusal::EncryptionParameters => {
            Failure::Invalid("Content-Encoding, Crypto-Key or Encryption cannot be used")
        }
        // No topic has a key.
        Refusal::VapidAbsent
        | Refusal::VapidAlgorithm
        | Refusal::VapidAudience
        | Refusal::VapidExpired
        | Refusal::VapidExpiryMissing
        | Refusal::VapidExpiryTooFar
        | Refusal::VapidKeyMalformed
        | Refusal::VapidKeyMismatch
        | Refusal::VapidKeyReused
        | Refusal::VapidParameters
        | Refusal::VapidSignature
        | Refusal::VapidTokenMalformed => Failure::Forbidden,
    }
}
