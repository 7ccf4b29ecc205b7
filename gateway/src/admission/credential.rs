//! `Authorization`, in the three spellings by which application servers identify themselves.

use http::{HeaderMap, header::AUTHORIZATION};

use super::{
    Refusal,
    headers::{CRYPTO_KEY, parameter_value},
};

/// A token and the key it claims to be signed with, as sent: nothing of it has been verified.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Credential<'h> {
    /// The public key, base64url.
    pub(super) key: &'h str,
    /// The JWT.
    pub(super) token: &'h str,
}

/// Finds the one credential of a request: `vapid t=…, k=…` (RFC 8292 §3), or what Mastodon and
/// others still send from its drafts, `WebPush <jwt>` or `Bearer <jwt>` with the key in `Crypto-Key`.
/// Other schemes are for somebody else and are ignored.
pub(super) fn find(headers: &HeaderMap) -> Result<Credential<'_>, Refusal> {
    let mut found = None;
    for value in headers.get_all(AUTHORIZATION) {
        let Ok(text) = value.to_str() else { continue };
        let (scheme, rest) = text.trim().split_once(' ').unwrap_or((text, ""));
        let credential = if scheme.eq_ignore_ascii_case("vapid") {
            parameters(rest)?
        } else if scheme.eq_ignore_ascii_case("webpush") {
            Credential { key: signing_key(headers)?.ok_or(Refusal::VapidParameters)?, token: rest.trim() }
        } else if scheme.eq_ignore_ascii_case("bearer") {
            // Without a key beside it, it is one of the many other things that are borne.
            let Some(key) = signing_key(headers)? else { continue };
            Credential { key, token: rest.trim() }
        } else {
            continue;
        };
        // Which of two would have to be believed is not for us to guess.
        if found.replace(credential).is_some() {
            return Err(Refusal::VapidParameters);
        }
    }
    found.ok_or(Refusal::VapidAbsent)
}

/// `t` and `k`, in any order, among parameters that mean nothing here (RFC 8292 §3, RFC 9110 §11.2).
fn parameters(mut rest: &str) -> Result<Credential<'_>, Refusal> {
    let (mut token, mut key) = (None, None);
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            break;
        }
        let (name, after) = rest.split_once('=').ok_or(Refusal::VapidParameters)?;
        let (value, after) = take_value(after.trim_start()).ok_or(Refusal::VapidParameters)?;
        rest = after.trim_start();
        if !rest.is_empty() && !rest.starts_with(',') {
            return Err(Refusal::VapidParameters);
        }
        let name = name.trim();
        let slot = if name.eq_ignore_ascii_case("t") {
            &mut token
        } else if name.eq_ignore_ascii_case("k") {
            &mut key
        } else {
            continue;
        };
        if slot.replace(value).is_some() {
            return Err(Refusal::VapidParameters);
        }
    }
    match (token, key) {
        (Some(token), Some(key)) => Ok(Credential { key, token }),
        (None, _) | (_, None) => Err(Refusal::VapidParameters),
    }
}

/// A token or a quoted string, and what follows it. Escapes stay in: neither a JWT nor a key has any.
fn take_value(text: &str) -> Option<(&str, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        return Some(text.split_at(text.find([' ', '\t', ',']).unwrap_or(text.len())));
    };
    let mut escaped = false;
    let end = quoted.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })?;
    Some((&quoted[..end], &quoted[end + 1..]))
}

/// `p256ecdsa` of `Crypto-Key`: its elements are separated by commas, their parameters by semicolons,
/// and senders mix both. Two of them would be one too many.
fn signing_key(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let mut keys = headers
        .get_all(&CRYPTO_KEY)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split([',', ';']))
        .filter_map(|parameter| parameter_value(parameter, "p256ecdsa"));
    match (keys.next(), keys.next()) {
        (None, _) => Ok(None),
        (Some(key), None) => Ok(Some(key.trim_matches('"'))),
        (Some(_), Some(_)) => Err(Refusal::VapidParameters),
    }
}
