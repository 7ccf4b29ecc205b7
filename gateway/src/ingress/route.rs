//! What a request asks for: its method and path, and nothing else of it.

use http::Method;

use crate::model::{EndpointToken, MessageToken};

/// What can be asked. There is nothing else on this listener.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Route {
    /// `GET /`
    About,
    /// `DELETE /m/<token>` (RFC 8030 §5: the push message resource).
    Cancel(MessageToken),
    /// `GET /p/<token>`: is this an endpoint?
    Discover(EndpointToken),
    /// `GET /health`
    Health,
    /// A path that exists, with a method that it does not know; the ones that it knows.
    Method(&'static str),
    /// `OPTIONS`, which browsers send first; the methods to allow.
    Preflight(&'static str),
    /// `POST /p/<token>`, also as `PUT`.
    Push(EndpointToken),
    /// No such path.
    Unknown,
}

const ENDPOINT_METHODS: &str = "POST, PUT, GET, HEAD, OPTIONS";
const MESSAGE_METHODS: &str = "DELETE, OPTIONS";
const PAGE_METHODS: &str = "GET, HEAD";

impl Route {
    /// Finds the route. A token that is not well-formed was never given out: the path is unknown.
    pub(super) fn find(method: &Method, path: &str) -> Self {
        if let Some(token) = path.strip_prefix("/p/") {
            return token.parse().map_or(Self::Unknown, |token| match *method {
                Method::POST | Method::PUT => Self::Push(token),
                Method::GET | Method::HEAD => Self::Discover(token),
                Method::OPTIONS => Self::Preflight(ENDPOINT_METHODS),
                _ => Self::Method(ENDPOINT_METHODS),
            });
        }
        if let Some(token) = path.strip_prefix("/m/") {
            return token.parse().map_or(Self::Unknown, |token| match *method {
                Method::DELETE => Self::Cancel(token),
                Method::OPTIONS => Self::Preflight(MESSAGE_METHODS),
                _ => Self::Method(MESSAGE_METHODS),
            });
        }
        let page = match path {
            "/" => Self::About,
            "/health" => Self::Health,
            _ => return Self::Unknown,
        };
        if matches!(*method, Method::GET | Method::HEAD) { page } else { Self::Method(PAGE_METHODS) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDPOINT: EndpointToken = EndpointToken([7; 20]);
    const MESSAGE: MessageToken = MessageToken([9; 24]);

    fn find(method: Method, path: &str) -> Route {
        Route::find(&method, path)
    }

    #[test]
    fn endpoints_take_post_and_put() {
        let path = format!("/p/{ENDPOINT}");
        assert_eq!(find(Method::POST, &path), Route::Push(ENDPOINT));
        assert_eq!(find(Method::PUT, &path), Route::Push(ENDPOINT));
        assert_eq!(find(Method::HEAD, &path), Route::Discover(ENDPOINT));
        assert_eq!(find(Method::OPTIONS, &path), Route::Preflight(ENDPOINT_METHODS));
        assert_eq!(find(Method::DELETE, &path), Route::Method(ENDPOINT_METHODS));
    }

    #[test]
    fn messages_can_only_be_taken_back() {
        let path = format!("/m/{MESSAGE}");
        assert_eq!(find(Method::DELETE, &path), Route::Cancel(MESSAGE));
        assert_eq!(find(Method::GET, &path), Route::Method(MESSAGE_METHODS));
    }

    #[test]
    fn every_other_path_is_unknown() {
        let (endpoint, message) = (format!("/p/{ENDPOINT}"), format!("/m/{MESSAGE}"));
        for path in [
            "",
            "*",
            "//",
            "/p",
            "/p/",
            "/m/",
            "/health/",
            &format!("/p/{MESSAGE}"),
            &format!("/m/{ENDPOINT}"),
            &format!("/{endpoint}"),
            &format!("{endpoint}/"),
            &format!("{endpoint}="),
            &format!("/x/..{endpoint}"),
            &message.replace('/', "%2f"),
        ] {
            for method in [Method::GET, Method::POST, Method::DELETE, Method::CONNECT] {
                assert_eq!(find(method, path), Route::Unknown, "{path}");
            }
        }
    }
}
