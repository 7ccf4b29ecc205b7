//! What a request asks for: its method and path, and nothing else of it.

use http::Method;

use crate::model::{EndpointToken, MessageToken};

/// What can be asked. There is nothing else on this listener.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Route {
    /// `GET /`
    About,
    /// `POST /aesgcm?e=<endpoint>`: legacy coding for apps that are given nothing but bytes.
    Aesgcm,
    /// `GET /aesgcm`
    AesgcmDiscovery,
    /// `DELETE /m/<token>` (RFC 8030 §5: the push message resource).
    Cancel(MessageToken),
    /// `GET /p/<token>`: is this an endpoint?
    Discover(EndpointToken),
    /// `GET /health`
    Health,
    /// `GET /_matrix/push/v1/notify`
    MatrixDiscovery,
    /// Something else below `/_matrix/`.
    MatrixUnknown,
    /// A path that exists, with a method that it does not know; the ones that it knows.
    Method(&'static str),
    /// `POST /_matrix/push/v1/notify`: the Push Gateway API of Matrix.
    Notify,
    /// `OPTIONS`, which browsers send first; the methods to allow.
    Preflight(&'static str),
    /// `POST /p/<token>`, also as `PUT`.
    Push(EndpointToken),
    /// No such path.
    Unknown,
    /// `POST /wpush/v1/<token>`, or `v2`: an endpoint in Autopush's form. Which of the two it is means
    /// nothing, because a registration may be given another key.
    WebPush(EndpointToken),
    /// Something else below `/wpush/`.
    WebPushUnknown,
}

const ENDPOINT_METHODS: &str = "POST, PUT, GET, HEAD, OPTIONS";
const GATEWAY_METHODS: &str = "POST, GET, HEAD, OPTIONS";
const MESSAGE_METHODS: &str = "DELETE, OPTIONS";
const PAGE_METHODS: &str = "GET, HEAD";
const WEB_PUSH_METHODS: &str = "POST, OPTIONS";
const AESGCM: &str = "/aesgcm";
/// What belongs to Matrix, whose errors have a form of their own.
pub(super) const MATRIX: &str = "/_matrix/";
/// The one path that homeservers take for a push gateway.
const NOTIFY: &str = "/_matrix/push/v1/notify";
/// Where endpoints in Autopush's form lie.
pub(super) const WEB_PUSH: &str = "/wpush/";

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
        if let Some(rest) = path.strip_prefix(WEB_PUSH) {
            let token = rest.strip_prefix("v1/").or_else(|| rest.strip_prefix("v2/")).unwrap_or(rest);
            return token.parse().map_or(Self::WebPushUnknown, |token| match *method {
                Method::POST => Self::WebPush(token),
                Method::OPTIONS => Self::Preflight(WEB_PUSH_METHODS),
                _ => Self::Method(WEB_PUSH_METHODS),
            });
        }
        if let Some(token) = path.strip_prefix("/m/") {
            return token.parse().map_or(Self::Unknown, |token| match *method {
                Method::DELETE => Self::Cancel(token),
                Method::OPTIONS => Self::Preflight(MESSAGE_METHODS),
                _ => Self::Method(MESSAGE_METHODS),
            });
        }
        let gateway = match path {
            AESGCM => Some((Self::Aesgcm, Self::AesgcmDiscovery)),
            NOTIFY => Some((Self::Notify, Self::MatrixDiscovery)),
            _ => None,
        };
        if let Some((post, discovery)) = gateway {
            return match *method {
                Method::POST => post,
                Method::GET | Method::HEAD => discovery,
                Method::OPTIONS => Self::Preflight(GATEWAY_METHODS),
                _ => Self::Method(GATEWAY_METHODS),
            };
        }
        if path.starts_with(MATRIX) {
            return Self::MatrixUnknown;
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
    fn autopushs_paths_are_reserved() {
        for path in ["/wpush/", "/wpush/v1/", "/wpush/v2/"] {
            assert_eq!(find(Method::POST, &format!("{path}{ENDPOINT}")), Route::WebPush(ENDPOINT));
            assert_eq!(find(Method::POST, path), Route::WebPushUnknown);
        }
        assert_eq!(find(Method::POST, &format!("/wpush/v3/{ENDPOINT}")), Route::WebPushUnknown);
        assert_eq!(find(Method::GET, &format!("/wpush/v1/{ENDPOINT}")), Route::Method(WEB_PUSH_METHODS));
    }

    #[test]
    fn the_paths_of_gateways_are_reserved() {
        for (path, post, discovery) in
            [(AESGCM, Route::Aesgcm, Route::AesgcmDiscovery), (NOTIFY, Route::Notify, Route::MatrixDiscovery)]
        {
            assert_eq!(find(Method::POST, path), post);
            assert_eq!(find(Method::GET, path), discovery);
            assert_eq!(find(Method::HEAD, path), discovery);
            assert_eq!(find(Method::OPTIONS, path), Route::Preflight(GATEWAY_METHODS));
            assert_eq!(find(Method::PUT, path), Route::Method(GATEWAY_METHODS));
        }
        for path in ["/_matrix/", "/_matrix/push/v1/notify/", "/_matrix/client/versions"] {
            assert_eq!(find(Method::POST, path), Route::MatrixUnknown, "{path}");
        }
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
            "/_matrix",
            "/aesgcm/",
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
