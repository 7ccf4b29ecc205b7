//! The headers of RFC 8030 and of the content codings, from what was sent to what is meant.

use http::{HeaderMap, HeaderName, HeaderValue, header::CONTENT_ENCODING};

use super::{MissingTtl, Refusal};
use crate::model::{Coding, Topic, Ttl, Urgency};

pub(super) static CRYPTO_KEY: HeaderName = HeaderName::from_static("crypto-key");
static ENCRYPTION: HeaderName = HeaderName::from_static("encryption");
static TOPIC: HeaderName = HeaderName::from_static("topic");
static TTL: HeaderName = HeaderName::from_static("ttl");
static URGENCY: HeaderName = HeaderName::from_static("urgency");

/// Longest `Content-Encoding` that is passed on, in bytes; the known ones have 9.
const MAX_CONTENT_ENCODING: usize = 64;
/// Longest `Crypto-Key` and `Encryption` that are read, in bytes; honest ones have about 200.
const MAX_CRYPTO_HEADER: usize = 1024;
/// Bytes of all three that are passed on; honest ones have about 150. With the largest body they
/// have to fit into one record of the store.
const MAX_CODING: usize = 320;

/// `TTL` (RFC 8030 §5.2). More than 30 days are shortened, which the answer says; a number too large
/// for any integer means 2^31 and is shortened as well.
pub(super) fn ttl(headers: &HeaderMap, missing: MissingTtl) -> Result<Ttl, Refusal> {
    let Some(value) = single(headers, &TTL, Refusal::TtlRepeated)? else {
        return match missing {
            MissingTtl::OneDay => Ok(Ttl::DEFAULT),
            MissingTtl::Refuse => Err(Refusal::TtlMissing),
        };
    };
    if value.is_empty() || !value.as_bytes().iter().all(u8::is_ascii_digit) {
        return Err(Refusal::TtlMalformed);
    }
    let seconds = value
        .as_bytes()
        .iter()
        .fold(0_u64, |seconds, digit| seconds.saturating_mul(10).saturating_add(u64::from(digit - b'0')));
    Ok(Ttl::from_secs(seconds))
}

/// `Urgency` (RFC 8030 §5.3), in any case of letters: that is what its ABNF says (RFC 5234 §2.3).
pub(super) fn urgency(headers: &HeaderMap) -> Result<Urgency, Refusal> {
    let Some(value) = single(headers, &URGENCY, Refusal::UrgencyRepeated)? else {
        return Ok(Urgency::default());
    };
    if value.as_bytes().contains(&b',') {
        return Err(Refusal::UrgencyRepeated);
    }
    [Urgency::VeryLow, Urgency::Low, Urgency::Normal, Urgency::High]
        .into_iter()
        .find(|urgency| value.as_bytes().eq_ignore_ascii_case(urgency.as_str().as_bytes()))
        .ok_or(Refusal::UrgencyMalformed)
}

/// `Topic` (RFC 8030 §5.4).
pub(super) fn topic(headers: &HeaderMap) -> Result<Option<Topic>, Refusal> {
    let Some(value) = single(headers, &TOPIC, Refusal::TopicRepeated)? else {
        return Ok(None);
    };
    let text = value.to_str().map_err(|_| Refusal::TopicMalformed)?;
    text.parse().map(Some).map_err(|_| Refusal::TopicMalformed)
}

/// What the app needs to decrypt. The names of codings are passed on, never judged: application
/// servers send plain text under `aes128gcm`, and apps know it.
pub(super) fn coding(headers: &HeaderMap) -> Result<Coding, Refusal> {
    let mut content_encoding = joined(headers, &CONTENT_ENCODING, MAX_CONTENT_ENCODING)?;
    if let Some(name) = &mut content_encoding {
        name.make_ascii_lowercase();
    }
    // Only the legacy coding keeps its parameters in headers; everything else has no use for them.
    if content_encoding.as_deref() != Some("aesgcm") {
        return Ok(Coding { content_encoding: content_encoding.map(Into::into), ..Coding::default() });
    }
    let crypto_key =
        joined(headers, &CRYPTO_KEY, MAX_CRYPTO_HEADER)?.and_then(|value| without_signing_key(&value));
    let encryption = joined(headers, &ENCRYPTION, MAX_CRYPTO_HEADER)?;
    let passed_on = [&content_encoding, &crypto_key, &encryption];
    if passed_on.into_iter().flatten().map(String::len).sum::<usize>() > MAX_CODING {
        return Err(Refusal::CodingUnusable);
    }
    Ok(Coding {
        content_encoding: content_encoding.map(Into::into),
        crypto_key: crypto_key.map(Into::into),
        encryption: encryption.map(Into::into),
    })
}

/// Whether a body is said to be encrypted, with its parameters where its coding keeps them.
pub(super) fn is_encrypted(headers: &HeaderMap) -> bool {
    let names = |header: &HeaderName, wanted: &str| {
        let lines = headers.get_all(header).iter().filter_map(|value| value.to_str().ok());
        let mut parameters = lines.flat_map(|line| line.split([',', ';']));
        parameters.any(|parameter| parameter_value(parameter, wanted).is_some_and(|value| !value.is_empty()))
    };
    let (salt, dh) = (names(&ENCRYPTION, "salt"), names(&CRYPTO_KEY, "dh"));
    match headers.get(CONTENT_ENCODING).map(|coding| coding.as_bytes().to_ascii_lowercase()).as_deref() {
        Some(b"aes128gcm") => !salt && !dh,
        Some(b"aesgcm") => salt && dh,
        Some(_) | None => false,
    }
}

/// The value of a header that may be sent once.
fn single<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
    repeated: Refusal,
) -> Result<Option<&'h HeaderValue>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() { Err(repeated) } else { Ok(first) }
}

/// The value of a header that is a list, from all its lines (RFC 9110 §5.3); absent when empty.
fn joined(headers: &HeaderMap, name: &HeaderName, limit: usize) -> Result<Option<String>, Refusal> {
    let mut all = String::new();
    for value in headers.get_all(name) {
        let text = value.to_str().map_err(|_| Refusal::CodingUnusable)?;
        if all.len() + text.len() > limit {
            return Err(Refusal::CodingUnusable);
        }
        if !all.is_empty() && !text.is_empty() {
            all.push(',');
        }
        all.push_str(text);
    }
    Ok(Some(all).filter(|all| !all.is_empty()))
}

/// `Crypto-Key` without its `p256ecdsa` parts: the key that signs is nobody's business but ours
/// (RFC 8292 §4.2). `None` when nothing else is left.
fn without_signing_key(value: &str) -> Option<String> {
    let elements = value.split(',').filter_map(|element| {
        let kept: Vec<&str> = element
            .split(';')
            .filter(|parameter| parameter_value(parameter, "p256ecdsa").is_none())
            .filter(|parameter| !parameter.trim().is_empty())
            .collect();
        (!kept.is_empty()).then(|| kept.join(";"))
    });
    let all = elements.collect::<Vec<_>>().join(",");
    (!all.is_empty()).then(|| all.trim().to_owned())
}

/// The value of `name=value`, when the parameter has that name.
pub(super) fn parameter_value<'p>(parameter: &'p str, name: &str) -> Option<&'p str> {
    let (found, value) = parameter.split_once('=')?;
    found.trim().eq_ignore_ascii_case(name).then(|| value.trim())
}
