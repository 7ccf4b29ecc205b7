//! URLs that somebody else says are endpoints.

use http::{Method, Uri, uri::Scheme};
use percent_encoding::percent_decode_str;

use super::route::Route;
use crate::model::EndpointToken;

/// What such a URL can be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Named {
    /// Another server's.
    Elsewhere,
    /// It has the form of an endpoint.
    Endpoint {
        /// Its origin is this gateway's. Where it is not, it may still be one: the owner has given the
        /// gateway another URL since, and a token is too long to be two endpoints'.
        is_here: bool,
        token: EndpointToken,
    },
    /// This gateway's, but of no form that is known here: a room's own, for example.
    Here,
    /// No URL that anybody could push to.
    Nothing,
}

impl Named {
    /// Reads a URL; `base` is the origin of this gateway's endpoints.
    pub(super) fn read(url: &str, base: &str) -> Self {
        let Ok(uri) = url.parse::<Uri>() else { return Self::Nothing };
        let is_web = uri.scheme().is_some_and(|scheme| [Scheme::HTTP, Scheme::HTTPS].contains(scheme));
        if !is_web {
            return Self::Nothing;
        }
        let is_here = base
            .parse::<Uri>()
            .is_ok_and(|base| (base.scheme(), base.authority()) == (uri.scheme(), uri.authority()));
        if let Route::Push(token) | Route::WebPush(token) = Route::find(&Method::POST, uri.path()) {
            Self::Endpoint { is_here, token }
        } else if is_here {
            Self::Here
        } else {
            Self::Elsewhere
        }
    }

    /// Reads the URL that a query has as `e`, once, percent-encoded or as it is.
    pub(super) fn in_query(query: &str, base: &str) -> Self {
        let mut values = query.split('&').filter_map(|pair| pair.strip_prefix("e="));
        match (values.next(), values.next()) {
            (Some(value), None) => {
                percent_decode_str(value).decode_utf8().map_or(Self::Nothing, |url| Self::read(&url, base))
            }
            (None, _) | (Some(_), Some(_)) => Self::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "https://push.example.net";
    const TOKEN: EndpointToken = EndpointToken([7; 20]);

    #[test]
    fn endpoints_are_told_from_everything_else() {
        let endpoint = |is_here| Named::Endpoint { is_here, token: TOKEN };
        for (url, expected) in [
            (format!("{BASE}/p/{TOKEN}"), endpoint(true)),
            (format!("{BASE}/p/{TOKEN}?up=1"), endpoint(true)),
            (format!("{BASE}/wpush/v1/{TOKEN}"), endpoint(true)),
            (format!("{BASE}/wpush/v2/{TOKEN}"), endpoint(true)),
            (format!("https://PUSH.example.net/p/{TOKEN}"), endpoint(true)),
            (format!("https://old.example/p/{TOKEN}"), endpoint(false)),
            (format!("http://push.example.net/p/{TOKEN}"), endpoint(false)),
            (format!("{BASE}.evil.example/p/{TOKEN}"), endpoint(false)),
            (format!("{BASE}@evil.example/p/{TOKEN}"), endpoint(false)),
            (format!("{BASE}/upAbCdEfGhIjKl?up=1"), Named::Here),
            (format!("{BASE}/p/{TOKEN}x"), Named::Here),
            (BASE.to_owned(), Named::Here),
            ("https://ntfy.example/upAbCdEfGhIjKl?up=1".into(), Named::Elsewhere),
            (format!("ftp://push.example.net/p/{TOKEN}"), Named::Nothing),
            (format!("/p/{TOKEN}"), Named::Nothing),
            ("dGhlIGtleSBvZiBhbiBBcHBsZSBwaG9uZQ==".into(), Named::Nothing),
            (String::new(), Named::Nothing),
        ] {
            assert_eq!(Named::read(&url, BASE), expected, "{url}");
        }
    }

    #[test]
    fn a_query_names_one() {
        let raw = format!("{BASE}/p/{TOKEN}");
        let encoded = raw.replace(':', "%3A").replace('/', "%2f");
        for query in [format!("e={raw}"), format!("e={encoded}"), format!("a=b&e={encoded}&c")] {
            let expected = Named::Endpoint { is_here: true, token: TOKEN };
            assert_eq!(Named::in_query(&query, BASE), expected, "{query}");
        }
        for query in ["", "e", "e=", "e=%ff", &format!("e={raw}&e={raw}"), &format!("ee={raw}")] {
            assert_eq!(Named::in_query(query, BASE), Named::Nothing, "{query}");
        }
    }
}
