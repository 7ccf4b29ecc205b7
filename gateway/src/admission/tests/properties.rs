//! What holds for every header that can be sent.

use proptest::prelude::*;

use super::*;
use crate::admission::{credential, headers};

/// Any bytes that HTTP lets into a value, often near the grammar.
fn value() -> impl Strategy<Value = HeaderValue> {
    let near = "[ -~]{0,12}|[0-9+-]{0,24}|(very-)?(low|normal|high)[, ]?|[A-Za-z0-9_=-]{0,40}";
    let crypto = "((dh|p256ecdsa|P256ECDSA|keyid| p256ecdsa )=[A-Za-z\"]{0,4}[;, ]{0,2}){0,4}";
    let vapid = "(vapid|Bearer|WebPush|Basic) ((t|k|x) ?= ?\"?[a-z.\\\\]{0,3}\"?[, ]{0,2}){0,4}";
    let any = proptest::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        near.prop_map(String::into_bytes),
        crypto.prop_map(String::into_bytes),
        vapid.prop_map(String::into_bytes),
        any
    ]
    .prop_filter_map("not a header value", |bytes| HeaderValue::from_bytes(&bytes).ok())
}

fn map(name: &'static str, values: Vec<HeaderValue>) -> HeaderMap {
    values.into_iter().map(|value| (HeaderName::from_static(name), value)).collect()
}

proptest! {
    #[test]
    fn ttl_is_accepted_exactly_when_it_is_digits(value in value()) {
        let digits = !value.is_empty() && value.as_bytes().iter().all(u8::is_ascii_digit);
        let ttl = headers::ttl(&map("ttl", vec![value]), MissingTtl::OneDay);
        prop_assert_eq!(ttl.is_ok(), digits);
        prop_assert!(ttl.is_err() || ttl.is_ok_and(|ttl| ttl.as_secs() <= 2_592_000));
    }

    #[test]
    fn ttl_is_what_was_sent_up_to_30_days(seconds in any::<u64>()) {
        let value = HeaderValue::from_str(&seconds.to_string()).expect("digits");
        let ttl = headers::ttl(&map("ttl", vec![value]), MissingTtl::OneDay).expect("digits");
        prop_assert_eq!(u64::from(ttl.as_secs()), seconds.min(2_592_000));
    }

    #[test]
    fn urgency_is_accepted_exactly_when_it_is_one_of_four(value in value()) {
        let lower = value.as_bytes().to_ascii_lowercase();
        let known = [&b"very-low"[..], b"low", b"normal", b"high"].contains(&&lower[..]);
        prop_assert_eq!(headers::urgency(&map("urgency", vec![value])).is_ok(), known);
    }

    #[test]
    fn topic_is_accepted_exactly_when_it_is_short_base64url(value in value()) {
        let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
        let valid = (1..=32).contains(&value.len()) && value.as_bytes().iter().all(allowed);
        prop_assert_eq!(headers::topic(&map("topic", vec![value])).is_ok(), valid);
    }

    #[test]
    fn no_signing_key_is_ever_passed_on(values in proptest::collection::vec(value(), 0..4)) {
        let mut all = map("crypto-key", values);
        all.insert("content-encoding", HeaderValue::from_static("aesgcm"));
        if let Ok(coding) = headers::coding(&all) {
            let kept = coding.crypto_key.unwrap_or_default();
            for parameter in kept.split([',', ';']) {
                let name = parameter.split('=').next().unwrap_or_default().trim().to_ascii_lowercase();
                prop_assert!(!parameter.contains('=') || name != "p256ecdsa", "{}", kept);
            }
        }
    }

    #[test]
    fn credentials_are_slices_of_what_was_sent(
        authorization in proptest::collection::vec(value(), 0..3),
        crypto_key in proptest::collection::vec(value(), 0..2),
    ) {
        let mut all = map("authorization", authorization);
        all.extend(map("crypto-key", crypto_key));
        if let Ok(found) = credential::find(&all) {
            for part in [found.token, found.key] {
                let sent = |value: &HeaderValue| value.to_str().is_ok_and(|text| text.contains(part));
                prop_assert!(all.values().any(sent));
            }
        }
    }

    #[test]
    fn an_unbound_endpoint_never_minds_authorization(authorization in value()) {
        let headers = map("authorization", vec![authorization]);
        let request = Unchecked { body: Bytes::new(), headers: &headers };
        let judged = admission(MissingTtl::OneDay).admit(request, registration(EndpointToken([7; 20]), None), at(NOW));
        prop_assert!(judged.is_ok());
    }

    #[test]
    fn a_damaged_token_is_never_accepted(place in any::<prop::sample::Index>(), change in 1_u8..=127) {
        let signer = Signer::new();
        let good = signer.token(&format!(r#"{{"aud":"{ORIGIN}","exp":{}}}"#, NOW + 60));
        let mut damaged = good.into_bytes();
        let place = place.index(damaged.len());
        damaged[place] ^= change;
        // The last character's spare bits, and what is no header at all, are not the point.
        if let Ok(text) = std::str::from_utf8(&damaged) {
            let authorization = format!("vapid t={text}, k={}", signer.key());
            if let Ok(value) = HeaderValue::from_str(&authorization) {
                let headers = map("authorization", vec![value]);
                let request = Unchecked { body: Bytes::new(), headers: &headers };
                let registration = registration(EndpointToken([7; 20]), Some(signer.key()));
                prop_assert!(admission(MissingTtl::OneDay).admit(request, registration, at(NOW)).is_err());
            }
        }
    }
}
