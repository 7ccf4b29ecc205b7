//! ntfy's errors: its numbers, its JSON.

use http::{
    HeaderValue, Response, StatusCode,
    header::{ACCESS_CONTROL_ALLOW_ORIGIN, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde::Serialize;

use crate::transport::web;

/// Why a request is not served. The text says what would be right.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Failure {
    /// 40000
    #[error("the request is not valid: {0}")]
    Invalid(&'static str),
    /// 40007
    #[error("the priority is not valid: write 1 to 5, or min, low, default, high, max")]
    Priority,
    /// 40008
    #[error(
        "since is not valid: write all, none, latest, a message id, seconds since 1970, or a duration such as 10m"
    )]
    Since,
    /// 40009
    #[error("a topic has 1 to 64 characters of A-Z, a-z, 0-9, - and _; a list of them has commas between")]
    TopicInvalid,
    /// 40010
    #[error("this word is reserved: choose another topic")]
    TopicReserved,
    /// 40016
    #[error("a WebSocket is wanted here: send Connection: Upgrade and Upgrade: websocket")]
    NotWebSocket,
    /// 40024
    #[error("the message is not valid JSON with a topic, as publishing to / wants it")]
    Json,
    /// 40018
    #[error("the actions are not valid: write a JSON array")]
    Actions,
    /// 40101
    #[error("unauthorized: the user must be a device's id, with its secret as password, or its token")]
    Unauthorized,
    /// 40301
    #[error("forbidden: log in as a paired device")]
    Forbidden,
    /// 40401
    #[error("page not found")]
    NotFound,
    /// 41001
    #[error("this topic has been removed by its owner")]
    Gone,
    /// 41301
    #[error("the message is too large: at most 5630 bytes are taken, and there are no attachments")]
    TooLarge,
    /// 42908
    #[error("this topic gets more messages than it may: send them more slowly")]
    TooManyMessages,
    /// 42901
    #[error("too many messages wait for the first subscriber of this topic: try again later")]
    TooManyAwaited,
    /// 42903
    #[error("too many connections from this source: try again later")]
    TooManyConnections,
    /// 42904
    #[error("too many topics: try again later, or log in as a paired device")]
    TooManyTopics,
    /// 42909
    #[error("too many wrong logins: try again later")]
    TooManyLogins,
    /// 50301
    #[error("the gateway is busy, restarting or cannot write: try again later")]
    Unavailable,
    /// 50701
    #[error("no more topics can be kept that nobody has subscribed to yet: try again later")]
    NobodySubscribed,
}

#[derive(Serialize)]
struct Wire<'a> {
    code: u16,
    http: u16,
    error: &'a str,
}

impl Failure {
    /// ntfy's number; the first three digits are the status.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::Invalid(_) => 40000,
            Self::Priority => 40007,
            Self::Since => 40008,
            Self::TopicInvalid => 40009,
            Self::TopicReserved => 40010,
            Self::NotWebSocket => 40016,
            Self::Json => 40024,
            Self::Actions => 40018,
            Self::Unauthorized => 40101,
            Self::Forbidden => 40301,
            Self::NotFound => 40401,
            Self::Gone => 41001,
            Self::TooLarge => 41301,
            Self::TooManyAwaited => 42901,
            Self::TooManyConnections => 42903,
            Self::TooManyTopics => 42904,
            Self::TooManyMessages => 42908,
            Self::TooManyLogins => 42909,
            Self::Unavailable => 50301,
            Self::NobodySubscribed => 50701,
        }
    }

    /// The answer on the wire. `Retry-After` wherever it passes.
    #[must_use]
    pub fn into_response(self) -> Response<web::Body> {
        let http = self.code() / 100;
        let wire = Wire { code: self.code(), http, error: &self.to_string() };
        let status = StatusCode::from_u16(http).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = json(status, &wire);
        let headers = response.headers_mut();
        match http {
            401 => drop(headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"ntfy\""))),
            429 | 503 | 507 => drop(headers.insert(RETRY_AFTER, 60.into())),
            _ => {}
        }
        response
    }
}

/// An answer of one line of JSON, for anybody's page to read.
pub fn json(status: StatusCode, value: &impl Serialize) -> Response<web::Body> {
    // Strings and numbers cannot fail to become JSON.
    let mut body = serde_json::to_vec(value).unwrap_or_default();
    body.push(b'\n');
    let mut response = web::answer(status, body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}
