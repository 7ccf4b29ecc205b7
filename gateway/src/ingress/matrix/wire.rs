//! Outcomes in Matrix's dialect: an error has an `errcode`, and everything else is as it is elsewhere.

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;

use super::Answer;

#[derive(Serialize)]
struct Wire<'a> {
    errcode: &'a str,
    error: &'a str,
}

/// The answer on the wire, to a request below `/_matrix/`.
pub(in crate::ingress) fn into_response(answer: Answer) -> Response<Full<Bytes>> {
    let Some(errcode) = errcode(answer.status()) else { return answer.into_response() };
    let wire = Wire { errcode, error: &answer.message() };
    // Strings cannot fail to become JSON.
    let body = serde_json::to_vec(&wire).unwrap_or_default();
    answer.into_response().map(|_| Full::new(body.into()))
}

/// The common error codes of Matrix.
fn errcode(status: StatusCode) -> Option<&'static str> {
    match status {
        status if status.is_success() => None,
        StatusCode::BAD_REQUEST => Some("M_BAD_JSON"),
        StatusCode::UNAUTHORIZED => Some("M_UNAUTHORIZED"),
        StatusCode::FORBIDDEN => Some("M_FORBIDDEN"),
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Some("M_UNRECOGNIZED"),
        StatusCode::PAYLOAD_TOO_LARGE => Some("M_TOO_LARGE"),
        StatusCode::TOO_MANY_REQUESTS => Some("M_LIMIT_EXCEEDED"),
        _ => Some("M_UNKNOWN"),
    }
}
