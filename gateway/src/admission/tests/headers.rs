use super::*;
use crate::{
    admission::MAX_BODY,
    model::{Coding, Urgency},
};

fn ttl_of(value: &str) -> Result<u32, Refusal> {
    open(&[("ttl", value)], b"x").map(|parts| parts.ttl.as_secs())
}

fn coding_of(headers: &[(&str, &str)]) -> Result<Coding, Refusal> {
    open(headers, b"x").map(|parts| parts.coding)
}

fn coding(encoding: &str, crypto_key: Option<&str>, encryption: Option<&str>) -> Coding {
    Coding {
        content_encoding: Some(encoding.into()),
        crypto_key: crypto_key.map(Into::into),
        encryption: encryption.map(Into::into),
    }
}

#[test]
fn rfc8030_5_2_missing_ttl_is_one_day() {
    assert_eq!(open(&[], b"x").map(|parts| parts.ttl.as_secs()), Ok(86_400));
}

#[test]
fn rfc8030_5_2_missing_ttl_is_refused_when_the_owner_is_strict() {
    let strict = admission(MissingTtl::Refuse);
    assert_eq!(judge(&strict, None, &[], b"x", at(NOW)), Err(Refusal::TtlMissing));
    assert!(judge(&strict, None, &[("ttl", "0")], b"x", at(NOW)).is_ok());
}

#[test]
fn rfc8030_5_2_ttl_is_a_non_negative_integer() {
    assert_eq!(ttl_of("0"), Ok(0));
    assert_eq!(ttl_of("172800"), Ok(172_800));
    assert_eq!(ttl_of("0060"), Ok(60));
    for wrong in ["", "-1", "+1", "1.5", "1e3", "60s", "1 2", "60,60", "0x10", "١"] {
        let value = HeaderValue::from_bytes(wrong.as_bytes()).expect("obs-text is allowed");
        let headers = HeaderMap::from_iter([(HeaderName::from_static("ttl"), value)]);
        assert_eq!(
            super::super::headers::ttl(&headers, MissingTtl::OneDay),
            Err(Refusal::TtlMalformed),
            "{wrong}"
        );
    }
}

#[test]
fn rfc8030_5_2_a_long_ttl_is_shortened_to_30_days() {
    for long in ["2592001", "2147483648", "4294967296", "18446744073709551616", &"9".repeat(200)] {
        assert_eq!(ttl_of(long), Ok(2_592_000), "{long}");
    }
    assert_eq!(ttl_of("2592000"), Ok(2_592_000));
}

#[test]
fn rfc8030_5_2_a_repeated_ttl_is_refused() {
    assert_eq!(open(&[("ttl", "60"), ("ttl", "60")], b"x"), Err(Refusal::TtlRepeated));
}

#[test]
fn rfc8030_5_3_missing_urgency_is_normal() {
    assert_eq!(open(&[], b"x").map(|parts| parts.urgency), Ok(Urgency::Normal));
}

#[test]
fn rfc8030_5_3_the_four_urgencies_are_known_in_any_case() {
    for (text, urgency) in [
        ("very-low", Urgency::VeryLow),
        ("low", Urgency::Low),
        ("normal", Urgency::Normal),
        ("high", Urgency::High),
        ("High", Urgency::High),
    ] {
        assert_eq!(open(&[("urgency", text)], b"x").map(|parts| parts.urgency), Ok(urgency));
    }
    for wrong in ["", "urgent", "very low", "0", "high;q=1"] {
        assert_eq!(open(&[("urgency", wrong)], b"x"), Err(Refusal::UrgencyMalformed), "{wrong}");
    }
}

#[test]
fn rfc8030_5_3_more_than_one_urgency_is_refused() {
    assert_eq!(open(&[("urgency", "low"), ("urgency", "low")], b"x"), Err(Refusal::UrgencyRepeated));
    assert_eq!(open(&[("urgency", "low, high")], b"x"), Err(Refusal::UrgencyRepeated));
}

#[test]
fn rfc8030_5_4_topic_is_at_most_32_base64url_characters() {
    let topic = |value: &str| open(&[("topic", value)], b"x").map(|parts| parts.topic);
    let longest = "aZ0-_".repeat(6) + "xy";
    assert_eq!(topic(&longest).expect("32 characters").expect("a topic").as_str(), longest);
    assert_eq!(open(&[], b"x").map(|parts| parts.topic), Ok(None));
    for wrong in ["", "a b", "a=", "a+b", "a/b", &(longest + "z")] {
        assert_eq!(topic(wrong), Err(Refusal::TopicMalformed), "{wrong}");
    }
}

#[test]
fn rfc8030_5_4_a_repeated_topic_is_refused() {
    assert_eq!(open(&[("topic", "a"), ("topic", "b")], b"x"), Err(Refusal::TopicRepeated));
}

#[test]
fn rfc8030_7_2_a_body_of_4096_bytes_is_never_too_large() {
    assert_eq!(open(&[], &[0; 4096]).map(|parts| parts.body.len()), Ok(4096));
    assert_eq!(open(&[], &[0; MAX_BODY]).map(|parts| parts.body.len()), Ok(MAX_BODY));
    assert_eq!(open(&[], &[0; MAX_BODY + 1]), Err(Refusal::BodyTooLarge));
}

#[test]
fn rfc8030_8_1_the_body_is_opaque() {
    // mollysocket and the public Matrix gateway send JSON that claims to be encrypted.
    let headers = [("content-encoding", "aes128gcm"), ("topic", "mollysocket"), ("ttl", "2592000")];
    let parts = open(&headers, br#"{"urgent":true}"#).expect("fake encryption");
    assert_eq!(&parts.body[..], br#"{"urgent":true}"#);
    assert_eq!(parts.coding, coding("aes128gcm", None, None));
    assert_eq!(open(&[], b"").map(|parts| parts.body.len()), Ok(0));
}

#[test]
fn rfc8291_4_aes128gcm_needs_no_other_header() {
    let headers = [("content-encoding", "AES128GCM"), ("encryption", "salt=x"), ("crypto-key", "dh=y")];
    assert_eq!(coding_of(&headers), Ok(coding("aes128gcm", None, None)));
}

#[test]
fn unknown_and_absent_codings_pass() {
    assert_eq!(coding_of(&[]), Ok(Coding::default()));
    assert_eq!(coding_of(&[("content-encoding", "")]), Ok(Coding::default()));
    assert_eq!(coding_of(&[("content-encoding", "br, gzip")]), Ok(coding("br, gzip", None, None)));
}

#[test]
fn rfc8292_4_2_the_signing_key_is_not_passed_on() {
    for (sent, kept) in [
        ("dh=BDH;p256ecdsa=BSIGN", Some("dh=BDH")),
        ("p256ecdsa=BSIGN;dh=BDH", Some("dh=BDH")),
        ("p256ecdsa=BSIGN,dh=BDH", Some("dh=BDH")),
        ("keyid=p256dh; dh=BDH, P256ECDSA = BSIGN", Some("keyid=p256dh; dh=BDH")),
        ("keyid=a;dh=BDH,keyid=b;p256ecdsa=\"BSIGN\"", Some("keyid=a;dh=BDH,keyid=b")),
        ("dh=BDH", Some("dh=BDH")),
        ("p256ecdsa=BSIGN", None),
        (";;,", None),
    ] {
        let headers = [("content-encoding", "aesgcm"), ("encryption", "salt=S"), ("crypto-key", sent)];
        assert_eq!(coding_of(&headers), Ok(coding("aesgcm", kept, Some("salt=S"))), "{sent}");
    }
}

#[test]
fn a_crypto_key_on_several_lines_is_one_list() {
    let headers =
        [("content-encoding", "aesgcm"), ("crypto-key", "dh=BDH"), ("crypto-key", "p256ecdsa=BSIGN")];
    assert_eq!(coding_of(&headers), Ok(coding("aesgcm", Some("dh=BDH"), None)));
}

#[test]
fn coding_headers_are_bounded() {
    let long = |length: usize| "a".repeat(length);
    assert!(coding_of(&[("content-encoding", &long(64))]).is_ok());
    assert_eq!(coding_of(&[("content-encoding", &long(65))]), Err(Refusal::CodingUnusable));
    for name in ["crypto-key", "encryption"] {
        let of = |length| coding_of(&[("content-encoding", "aesgcm"), (name, &long(length))]);
        assert!(of(320 - "aesgcm".len()).is_ok(), "{name}");
        assert_eq!(of(321 - "aesgcm".len()), Err(Refusal::CodingUnusable), "{name}");
        // Nobody reads them with another coding, so nobody minds them.
        assert!(coding_of(&[("content-encoding", "aes128gcm"), (name, &long(4000))]).is_ok());
    }
    let half = long(600);
    let twice = [("content-encoding", "aesgcm"), ("encryption", &*half), ("encryption", &*half)];
    assert_eq!(coding_of(&twice), Err(Refusal::CodingUnusable));
}
