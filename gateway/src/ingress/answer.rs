//! The one place where outcomes become status codes.
//!
//! A 4xx ends subscriptions: Mastodon drops one on anything but 408 and 429, Matrix gateways on
//! almost everything. So success is always 201, 404 and 410 are said only of what is really gone, and
//! everything that passes is 503 with `Retry-After`.
//!
//! Errors carry a line of JSON for whoever reads the application server's log. What the owner reads
//! is logged where the outcome arose.

use std::borrow::Cow;

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Response, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW, CONTENT_TYPE, LOCATION, RETRY_AFTER,
        WWW_AUTHENTICATE,
    },
};
use http_body_util::Full;
use serde::Serialize;

use crate::{
    admission::{Refusal, TooMany},
    model::Ttl,
    store::NotStored,
};

static TTL: HeaderName = HeaderName::from_static("ttl");

const ABOUT: &str = "This is a UnifiedPush gateway. It takes push messages (RFC 8030) for the apps of its \
                     owner; there is nothing to see here.\n";
const DISCOVERY: &str = r#"{"unifiedpush":{"version":1}}"#;
const REQUEST_HEADERS: &str =
    "Authorization, Content-Encoding, Content-Type, Crypto-Key, Encryption, Prefer, TTL, Topic, Urgency";

/// How a request ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Answer {
    /// The page at `/`.
    About,
    /// The connection broke off, or its framing is nonsense, within the body.
    BodyBroken,
    /// The body did not arrive in time.
    BodyTooSlow,
    /// The message was taken back.
    Cancelled,
    /// The disk did not confirm the write in time.
    CommitTooSlow,
    /// More connections than the owner allows.
    Crowded,
    /// This is an endpoint.
    Endpoint,
    /// There was an endpoint here.
    EndpointGone,
    /// An endpoint is to be named, and is not.
    EndpointMissing,
    /// The endpoint that is named is not one of this gateway.
    EndpointNotOurs,
    /// There is no endpoint here.
    EndpointUnknown,
    /// The path is a gateway from another protocol to UnifiedPush; the discovery of which.
    Gateway(&'static str),
    /// The gateway runs.
    Healthy,
    /// The endpoint gets more than it may.
    Limited(TooMany),
    /// There is no such message, or not any more.
    MessageUnknown,
    /// The path does not know the method; it knows these.
    MethodUnknown(&'static str),
    /// A notification of Matrix says nothing that could be passed on; what would be right.
    NotificationMalformed(&'static str),
    /// A notification of Matrix is safe.
    Notified {
        /// The pushkeys that are no endpoints any more.
        rejected: Vec<String>,
    },
    /// The store could not take it.
    NotStored(NotStored),
    /// There is no such path.
    PathUnknown,
    /// A browser may go on with these methods.
    Preflight(&'static str),
    /// The pushkey of a notification may be one of this gateway, but is none that it can tell.
    PushkeyUnserved,
    /// Admission said no.
    Refused(Refusal),
    /// The message is safe.
    Stored {
        /// The URL of the push message resource.
        location: String,
        /// What was promised.
        ttl: Ttl,
    },
}

impl Answer {
    /// The status code.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::About | Self::Endpoint | Self::Gateway(_) | Self::Healthy | Self::Notified { .. } => {
                StatusCode::OK
            }
            Self::Stored { .. } => StatusCode::CREATED,
            Self::Cancelled | Self::Preflight(_) => StatusCode::NO_CONTENT,
            Self::BodyBroken | Self::EndpointMissing | Self::NotificationMalformed(_) => {
                StatusCode::BAD_REQUEST
            }
            Self::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::EndpointUnknown | Self::MessageUnknown | Self::PathUnknown => StatusCode::NOT_FOUND,
            Self::EndpointGone => StatusCode::GONE,
            Self::EndpointNotOurs => StatusCode::FORBIDDEN,
            Self::Limited(_) | Self::NotStored(NotStored::Full) => StatusCode::TOO_MANY_REQUESTS,
            Self::MethodUnknown(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::CommitTooSlow
            | Self::Crowded
            | Self::NotStored(NotStored::Busy | NotStored::Disk)
            | Self::PushkeyUnserved => StatusCode::SERVICE_UNAVAILABLE,
            Self::Refused(refusal) => refused(*refusal),
        }
    }

    /// Whether the rest of the request is not worth reading.
    pub(super) fn is_last(&self) -> bool {
        matches!(
            self,
            Self::BodyBroken | Self::BodyTooSlow | Self::Crowded | Self::Refused(Refusal::BodyTooLarge)
        )
    }

    /// The answer on the wire.
    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(self.body()));
        *response.status_mut() = self.status();
        let retry_after = self.retry_after();
        let is_json = !matches!(self, Self::About | Self::Healthy);
        let has_body = !matches!(self, Self::Cancelled | Self::Preflight(_) | Self::Stored { .. });
        let headers = response.headers_mut();
        // Browsers may push and discover: an endpoint is a secret, so an origin adds nothing to it.
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        if has_body {
            let media_type = if is_json { "application/json" } else { "text/plain; charset=utf-8" };
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        }
        if let Some(seconds) = retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        match self {
            Self::Stored { location, ttl } => {
                if let Ok(location) = HeaderValue::from_maybe_shared(Bytes::from(location)) {
                    headers.insert(LOCATION, location);
                }
                headers.insert(&TTL, ttl.as_secs().into());
                headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("Location, TTL"));
            }
            Self::Preflight(methods) => {
                headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
                headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(REQUEST_HEADERS));
                headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
            }
            Self::MethodUnknown(methods) => {
                headers.insert(ALLOW, HeaderValue::from_static(methods));
            }
            Self::Refused(Refusal::VapidAbsent) => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("vapid"));
            }
            Self::About
            | Self::BodyBroken
            | Self::BodyTooSlow
            | Self::Cancelled
            | Self::CommitTooSlow
            | Self::Crowded
            | Self::Endpoint
            | Self::EndpointGone
            | Self::EndpointMissing
            | Self::EndpointNotOurs
            | Self::EndpointUnknown
            | Self::Gateway(_)
            | Self::Healthy
            | Self::Limited(_)
            | Self::MessageUnknown
            | Self::NotificationMalformed(_)
            | Self::Notified { .. }
            | Self::NotStored(_)
            | Self::PathUnknown
            | Self::PushkeyUnserved
            | Self::Refused(_) => {}
        }
        response
    }

    /// When to come back, in seconds: for everything that passes, and only for that.
    pub(super) fn retry_after(&self) -> Option<u32> {
        match self {
            Self::Crowded | Self::NotStored(NotStored::Busy) => Some(1),
            Self::CommitTooSlow | Self::NotStored(NotStored::Disk) => Some(30),
            Self::NotStored(NotStored::Full)
            | Self::PushkeyUnserved
            | Self::Refused(Refusal::ClockUntrusted) => Some(60),
            Self::Limited(TooMany { retry_after_s }) => Some(*retry_after_s),
            Self::About
            | Self::BodyBroken
            | Self::BodyTooSlow
            | Self::Cancelled
            | Self::Endpoint
            | Self::EndpointGone
            | Self::EndpointMissing
            | Self::EndpointNotOurs
            | Self::EndpointUnknown
            | Self::Gateway(_)
            | Self::Healthy
            | Self::MessageUnknown
            | Self::MethodUnknown(_)
            | Self::NotificationMalformed(_)
            | Self::Notified { .. }
            | Self::PathUnknown
            | Self::Preflight(_)
            | Self::Refused(_)
            | Self::Stored { .. } => None,
        }
    }

    fn body(&self) -> Bytes {
        match self {
            Self::Cancelled | Self::Preflight(_) | Self::Stored { .. } => Bytes::new(),
            Self::About => Bytes::from_static(ABOUT.as_bytes()),
            Self::Endpoint => Bytes::from_static(DISCOVERY.as_bytes()),
            Self::Gateway(discovery) => Bytes::from_static(discovery.as_bytes()),
            Self::Healthy => Bytes::from_static(b"ok\n"),
            Self::Notified { rejected } => {
                serde_json::to_vec(&Outcome { rejected }).unwrap_or_default().into()
            }
            Self::BodyBroken
            | Self::BodyTooSlow
            | Self::CommitTooSlow
            | Self::Crowded
            | Self::EndpointGone
            | Self::EndpointMissing
            | Self::EndpointNotOurs
            | Self::EndpointUnknown
            | Self::Limited(_)
            | Self::MessageUnknown
            | Self::MethodUnknown(_)
            | Self::NotificationMalformed(_)
            | Self::NotStored(_)
            | Self::PathUnknown
            | Self::PushkeyUnserved
            | Self::Refused(_) => {
                let wire = Wire { code: self.status().as_u16(), error: &self.message() };
                // Strings and a number cannot fail to become JSON; an empty body says no less than the status.
                serde_json::to_vec(&wire).unwrap_or_default().into()
            }
        }
    }

    /// What an error says, for whoever reads the application server's log; empty where there is none.
    pub(super) fn message(&self) -> Cow<'static, str> {
        let error = match self {
            Self::About
            | Self::Cancelled
            | Self::Endpoint
            | Self::Gateway(_)
            | Self::Healthy
            | Self::Notified { .. }
            | Self::Preflight(_)
            | Self::Stored { .. } => "",
            Self::Refused(refusal) => return refusal.to_string().into(),
            Self::BodyBroken => "the body ended early or its chunks are malformed: send it whole",
            Self::BodyTooSlow => "the body did not arrive in time: send it again, faster",
            Self::CommitTooSlow => "the disk did not confirm the message in time: send it again later",
            Self::Crowded => "too many connections: try again later",
            Self::EndpointGone => "this endpoint has been removed: ask the app for its new one",
            Self::EndpointMissing => {
                "e must be the URL of an endpoint of this gateway: /aesgcm?e=https%3A%2F%2F…%2Fp%2F…"
            }
            Self::EndpointNotOurs => {
                "e is not an endpoint of this gateway: nothing is passed on to other servers"
            }
            Self::EndpointUnknown => "there is no such endpoint: check the URL that the app gave you",
            Self::Limited(_) => {
                "this endpoint gets more messages than its owner allows: send fewer, or replace them by Topic"
            }
            Self::MessageUnknown => {
                "there is no such message (any more): it was delivered, replaced or expired"
            }
            Self::MethodUnknown(_) => "the method is not allowed here: Allow names those that are",
            Self::NotificationMalformed(expected) => expected,
            Self::NotStored(NotStored::Busy) => "the gateway is busy or restarting: try again later",
            Self::NotStored(NotStored::Disk) => "the gateway cannot write to its disk: try again later",
            Self::NotStored(NotStored::Full) => {
                "as many messages wait for this endpoint or its device as its owner allows: try again later, or replace them by Topic"
            }
            Self::PathUnknown => "there is nothing at this path: an endpoint is /p/ and 27 characters",
            Self::PushkeyUnserved => {
                "a pushkey is no endpoint that this gateway can tell: check the URL that the app gave"
            }
        };
        error.into()
    }
}

/// What the Push Gateway API of Matrix answers.
#[derive(Serialize)]
struct Outcome<'a> {
    rejected: &'a [String],
}

#[derive(Serialize)]
struct Wire<'a> {
    code: u16,
    error: &'a str,
}

/// RFC 8030 §5, §7.2 and RFC 8292 §3.2, §4.2.
fn refused(refusal: Refusal) -> StatusCode {
    match refusal {
        Refusal::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Refusal::ClockUntrusted => StatusCode::SERVICE_UNAVAILABLE,
        Refusal::CodingUnusable
        | Refusal::CodingNotLegacy
        | Refusal::EncryptionParameters
        | Refusal::TopicMalformed
        | Refusal::TopicRepeated
        | Refusal::TtlMalformed
        | Refusal::TtlMissing
        | Refusal::TtlRepeated
        | Refusal::UrgencyMalformed
        | Refusal::UrgencyRepeated
        | Refusal::VapidKeyReused => StatusCode::BAD_REQUEST,
        Refusal::VapidAbsent => StatusCode::UNAUTHORIZED,
        Refusal::VapidAlgorithm
        | Refusal::VapidAudience
        | Refusal::VapidExpired
        | Refusal::VapidExpiryMissing
        | Refusal::VapidExpiryTooFar
        | Refusal::VapidKeyMalformed
        | Refusal::VapidKeyMismatch
        | Refusal::VapidParameters
        | Refusal::VapidSignature
        | Refusal::VapidTokenMalformed => StatusCode::FORBIDDEN,
    }
}
