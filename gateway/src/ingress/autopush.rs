//! Outcomes in Autopush's dialect, for endpoints below `/wpush/`: senders that know its error numbers
//! act on them, and Firefox' own tests look at them.

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE},
};
use http_body_util::Full;
use serde::Serialize;

use super::answer::Answer;
use crate::admission::Refusal;

const MORE_INFO: &str = "http://autopush.readthedocs.io/en/latest/http.html#error-codes";

#[derive(Serialize)]
struct Wire<'a> {
    code: u16,
    errno: u16,
    error: &'a str,
    message: &'a str,
    more_info: &'a str,
}

/// The answer on the wire, to a request below `/wpush/`.
pub(super) fn into_response(answer: Answer) -> Response<Full<Bytes>> {
    let Some((status, errno)) = error(&answer) else { return answer.into_response() };
    let is_gone = answer == Answer::EndpointGone;
    let message = answer.message().to_string();
    let wire = Wire {
        code: status.as_u16(),
        errno,
        error: status.canonical_reason().unwrap_or_default(),
        message: &message,
        more_info: MORE_INFO,
    };
    // Strings and numbers cannot fail to become JSON.
    let body = serde_json::to_vec(&wire).unwrap_or_default();
    let mut response = answer.into_response().map(|_| Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if status == StatusCode::UNAUTHORIZED {
        // RFC 9110 §15.5.2 asks for it wherever the status is 401, also where others answer 403.
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("vapid"));
    }
    if is_gone {
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("max-age=86400"));
    }
    response
}

/// Autopush's status and number of what is an error.
fn error(answer: &Answer) -> Option<(StatusCode, u16)> {
    let errno = match answer {
        Answer::About
        | Answer::Cancelled
        | Answer::Endpoint
        | Answer::Gateway(_)
        | Answer::Healthy
        | Answer::Notified { .. }
        | Answer::Preflight(_)
        | Answer::Stored { .. } => return None,
        Answer::EndpointMissing
        | Answer::EndpointNotOurs
        | Answer::EndpointUnknown
        | Answer::MessageUnknown
        | Answer::PathUnknown => 102,
        Answer::EndpointGone => 106,
        Answer::CommitTooSlow
        | Answer::Crowded
        | Answer::Limited(_)
        | Answer::NotStored(_)
        | Answer::PushkeyUnserved => 201,
        Answer::BodyBroken
        | Answer::BodyTooSlow
        | Answer::MethodUnknown(_)
        | Answer::NotificationMalformed(_) => 999,
        Answer::Refused(refusal) => return Some(refused(*refusal, answer.status())),
    };
    Some((answer.status(), errno))
}

fn refused(refusal: Refusal, status: StatusCode) -> (StatusCode, u16) {
    match refusal {
        Refusal::BodyTooLarge => (status, 104),
        Refusal::CodingNotLegacy
        | Refusal::CodingUnusable
        | Refusal::EncryptionParameters
        | Refusal::VapidKeyReused => (status, 110),
        Refusal::TtlMissing => (status, 111),
        Refusal::TtlMalformed | Refusal::TtlRepeated => (status, 112),
        Refusal::TopicMalformed | Refusal::TopicRepeated => (status, 113),
        Refusal::ClockUntrusted => (status, 201),
        Refusal::UrgencyMalformed | Refusal::UrgencyRepeated => (status, 999),
        // Autopush knows no 403.
        Refusal::VapidAbsent
        | Refusal::VapidAlgorithm
        | Refusal::VapidAudience
        | Refusal::VapidExpired
        | Refusal::VapidExpiryMissing
        | Refusal::VapidExpiryTooFar
        | Refusal::VapidKeyMalformed
        | Refusal::VapidKeyMismatch
        | Refusal::VapidParameters
        | Refusal::VapidSignature
        | Refusal::VapidTokenMalformed => (StatusCode::UNAUTHORIZED, 109),
    }
}
