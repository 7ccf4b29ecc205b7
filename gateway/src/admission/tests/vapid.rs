use super::*;

/// Posts to an endpoint that is bound to `bound`.
fn bound(bound: &VapidKey, headers: &[(&str, &str)], now: Moment) -> Result<(), Refusal> {
    judge(&admission(MissingTtl::OneDay), Some(bound.clone()), headers, b"x", now).map(|_| ())
}

fn with_token(signer: &Signer, token: &str) -> Result<(), Refusal> {
    let authorization = format!("vapid t={token}, k={}", signer.key());
    bound(&signer.key(), &[("authorization", &authorization)], at(NOW))
}

fn with_claims(claims: &str) -> Result<(), Refusal> {
    let signer = Signer::new();
    with_token(&signer, &signer.token(claims))
}

fn claims(expires: u64) -> String {
    format!(r#"{{"aud":"{ORIGIN}","exp":{expires}}}"#)
}

const EXAMPLE_TOKEN: &str = "eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NiJ9.\
    eyJhdWQiOiJodHRwczovL3B1c2guZXhhbXBsZS5uZXQiLCJleHAiOjE0NTM1MjM3NjgsInN1YiI6Im1haWx0bzpwdXNoQGV4YW1wbGUuY29tIn0.\
    i3CYb7t4xfxCDquptFOepC9GAu_HLGkMlMuCGSK2rpiUfnK9ojFwDXb1JrErtmysazNjjvW2L9OkSSHzvoD1oA";
const EXAMPLE_KEY: &str =
    "BA1Hxzyi1RUM1b5wjxsn7nGxAszw2u61m164i3MrAIxHF6YK5h4SDYic-dRuU_RCPCfA5aq9ojSwk5Y2EmClBPs";

#[test]
fn rfc8292_2_4_the_example_was_good_in_its_day() {
    let key: VapidKey = EXAMPLE_KEY.parse().expect("the example's key");
    let authorization = format!("vapid t={EXAMPLE_TOKEN}, k={EXAMPLE_KEY}");
    let headers = [("authorization", &*authorization)];
    assert_eq!(bound(&key, &headers, at(1_453_523_768)), Ok(()));
    assert_eq!(bound(&key, &headers, at(NOW)), Err(Refusal::VapidExpired));
    assert_eq!(bound(&key, &headers, at(1_453_000_000)), Err(Refusal::VapidExpiryTooFar));
}

#[test]
fn rfc8292_2_the_audience_is_the_origin_of_the_endpoint() {
    let exp = NOW + 3600;
    for good in [
        format!(r#"{{"aud":"{ORIGIN}","exp":{exp}}}"#),
        format!(r#"{{"aud":"{ORIGIN}/","exp":{exp}}}"#),
        format!(r#"{{"aud":["https://other.example","{ORIGIN}"],"exp":{exp},"sub":"mailto:a@b"}}"#),
    ] {
        assert_eq!(with_claims(&good), Ok(()), "{good}");
    }
    for foreign in [
        format!(r#"{{"aud":"https://other.example","exp":{exp}}}"#),
        format!(r#"{{"aud":[],"exp":{exp}}}"#),
        format!(r#"{{"exp":{exp}}}"#),
    ] {
        assert_eq!(with_claims(&foreign), Err(Refusal::VapidAudience), "{foreign}");
    }
}

#[test]
fn rfc8292_2_exp_lies_ahead_but_at_most_a_day() {
    let day = 24 * 3600;
    assert_eq!(with_claims(&claims(NOW + day)), Ok(()), "Mastodon's");
    // Two clocks may differ by five minutes.
    assert_eq!(with_claims(&claims(NOW + day + 300)), Ok(()));
    assert_eq!(with_claims(&claims(NOW + day + 301)), Err(Refusal::VapidExpiryTooFar));
    assert_eq!(with_claims(&claims(u64::MAX)), Err(Refusal::VapidExpiryTooFar));
    assert_eq!(with_claims(&claims(NOW - 300)), Ok(()));
    assert_eq!(with_claims(&claims(NOW - 301)), Err(Refusal::VapidExpired));
    assert_eq!(with_claims(&claims(0)), Err(Refusal::VapidExpired));
}

#[test]
fn rfc8292_2_exp_is_required_and_a_number() {
    let with = |exp: &str| with_claims(&format!(r#"{{"aud":"{ORIGIN}"{exp}}}"#));
    assert_eq!(with(&format!(r#","exp":{}.75"#, NOW + 60)), Ok(()), "RFC 7519 allows fractions");
    for unusable in ["", r#","exp":null"#, r#","exp":"1794698000""#, r#","exp":-5"#, r#","exp":[1]"#] {
        assert_eq!(with(unusable), Err(Refusal::VapidExpiryMissing), "{unusable}");
    }
    assert_eq!(with(r#","exp":1e300"#), Err(Refusal::VapidExpiryTooFar));
}

#[test]
fn rfc8292_2_only_es256_signs() {
    let signer = Signer::new();
    for header in [r#"{"alg":"none"}"#, r#"{"alg":"HS256"}"#, r#"{"alg":"es256"}"#] {
        let token = signer.sign(header, &claims(NOW + 60));
        assert_eq!(with_token(&signer, &token), Err(Refusal::VapidAlgorithm), "{header}");
    }
    assert_eq!(with_token(&signer, &signer.sign(r#"{"alg":"ES256"}"#, &claims(NOW + 60))), Ok(()));
}

#[test]
fn rfc8292_4_2_a_bad_signature_is_refused() {
    let signer = Signer::new();
    let (good, other) = (signer.token(&claims(NOW + 60)), signer.token(&claims(NOW + 61)));
    let (signed, signature) = good.rsplit_once('.').expect("three parts");
    let (other_signed, _) = other.rsplit_once('.').expect("three parts");
    for bad in [
        format!("{other_signed}.{signature}"),
        format!("{signed}."),
        format!("{signed}.{}", &signature[..84]),
        Signer::new().token(&claims(NOW + 60)),
    ] {
        assert_eq!(with_token(&signer, &bad), Err(Refusal::VapidSignature), "{bad}");
    }
}

#[test]
fn rfc8292_2_nothing_of_an_unsigned_token_is_used() {
    // The audience is wrong too, but that must not be what decides.
    let forged = Signer::new().token(r#"{"aud":"https://other.example","exp":1}"#);
    assert_eq!(with_token(&Signer::new(), &forged), Err(Refusal::VapidSignature));
}

#[test]
fn what_is_not_a_jwt_is_refused() {
    let signer = Signer::new();
    let not_json = signer.sign(r#"{"alg":"ES256"}"#, "text");
    let twice = signer.token(&format!(r#"{{"exp":1,"exp":{},"aud":"{ORIGIN}"}}"#, NOW + 60));
    for text in ["x", "x.y", "..", "e30.e30.AA", "é", "a.b.c.d", &not_json, &twice] {
        let text = text.replace('é', "%");
        assert_eq!(with_token(&signer, &text), Err(Refusal::VapidTokenMalformed), "{text}");
    }
}

#[test]
fn rfc8292_4_2_another_key_is_refused() {
    let (ours, theirs) = (Signer::new(), Signer::new());
    let authorization = theirs.authorization(ORIGIN, NOW + 60);
    let headers = [("authorization", &*authorization)];
    assert_eq!(bound(&ours.key(), &headers, at(NOW)), Err(Refusal::VapidKeyMismatch));
    let authorization = format!("vapid t={}, k=BBBB", ours.token(&claims(NOW + 60)));
    let headers = [("authorization", &*authorization)];
    assert_eq!(bound(&ours.key(), &headers, at(NOW)), Err(Refusal::VapidKeyMalformed));
}

#[test]
fn rfc8292_4_2_a_bound_endpoint_wants_credentials() {
    let key = Signer::new().key();
    for headers in [&[][..], &[("authorization", "Basic dXNlcjpwYXNz")][..], &[("crypto-key", "dh=x")][..]] {
        assert_eq!(bound(&key, headers, at(NOW)), Err(Refusal::VapidAbsent));
    }
}

#[test]
fn rfc8292_4_2_foreign_schemes_beside_ours_do_no_harm() {
    let signer = Signer::new();
    let ours = signer.authorization(ORIGIN, NOW + 60);
    for foreign in ["Basic dXNlcjpwYXNz", "Bearer tk_ntfy"] {
        let headers = [("authorization", foreign), ("authorization", &*ours)];
        assert_eq!(bound(&signer.key(), &headers, at(NOW)), Ok(()), "{foreign}");
    }
}

#[test]
fn an_unbound_endpoint_asks_nobody() {
    for authorization in ["Basic dXNlcjpwYXNz", "Bearer tk_ntfy", "vapid nonsense", "WebPush x", ""] {
        assert!(open(&[("authorization", authorization)], b"x").is_ok(), "{authorization}");
    }
}

#[test]
fn rfc8292_3_parameters_come_in_any_order_and_with_others() {
    let signer = Signer::new();
    let (t, k) = (signer.token(&claims(NOW + 60)), signer.key());
    for good in [
        format!("vapid t={t},k={k}"),
        format!("VAPID k={k} , T={t}"),
        format!("vapid   t=\"{t}\", k=\"{k}\""),
        format!("vapid realm=\"a, t=b \\\" c\", t={t}, x=1, k={k}="),
        format!("vapid ,t={t},,k={k},"),
    ] {
        assert_eq!(bound(&k, &[("authorization", &good)], at(NOW)), Ok(()), "{good}");
    }
    for bad in [
        "vapid".to_owned(),
        format!("vapid t={t}"),
        format!("vapid k={k}"),
        format!("vapid t={t}, t={t}, k={k}"),
        format!("vapid t={t}, k={k}, k={k}"),
        format!("vapid t={t} k={k}"),
        format!("vapid t=\"{t}, k={k}"),
        format!("vapid t={t}, k={k}, junk"),
    ] {
        assert_eq!(bound(&k, &[("authorization", &bad)], at(NOW)), Err(Refusal::VapidParameters), "{bad}");
    }
    let one = format!("vapid t={t}, k={k}");
    let twice = [("authorization", &*one), ("authorization", &*one)];
    assert_eq!(bound(&k, &twice, at(NOW)), Err(Refusal::VapidParameters));
}

#[test]
fn the_drafts_spelling_is_understood() {
    let signer = Signer::new();
    let (token, key) = (signer.token(&claims(NOW + 60)), signer.key());
    for scheme in ["WebPush", "Bearer", "webpush"] {
        let authorization = format!("{scheme} {token}");
        for crypto_key in [
            format!("dh=BDH;p256ecdsa={key}"),
            format!("p256ecdsa={key},dh=BDH"),
            format!("p256ecdsa=\"{key}=\""),
        ] {
            let headers = [("authorization", &*authorization), ("crypto-key", &*crypto_key)];
            assert_eq!(bound(&key, &headers, at(NOW)), Ok(()), "{scheme} {crypto_key}");
        }
        let twice = format!("p256ecdsa={key},p256ecdsa={key}");
        let headers = [("authorization", &*authorization), ("crypto-key", &*twice)];
        assert_eq!(bound(&key, &headers, at(NOW)), Err(Refusal::VapidParameters), "{scheme}");
    }
    // Without a key WebPush is incomplete, while a bearer token is somebody else's.
    let without = |scheme: &str| {
        let authorization = format!("{scheme} {token}");
        bound(&key, &[("authorization", &*authorization), ("crypto-key", "dh=BDH")], at(NOW))
    };
    assert_eq!(without("WebPush"), Err(Refusal::VapidParameters));
    assert_eq!(without("Bearer"), Err(Refusal::VapidAbsent));
}

#[test]
fn without_a_trusted_clock_exp_is_not_judged() {
    let signer = Signer::new();
    let now = Moment { trusted: false, ..at(0) };
    let with = |authorization: &str| bound(&signer.key(), &[("authorization", authorization)], now);
    assert_eq!(with(&signer.authorization(ORIGIN, NOW)), Err(Refusal::ClockUntrusted));
    // What does not depend on the time is refused for good all the same.
    assert_eq!(with(&signer.authorization("https://other.example", NOW)), Err(Refusal::VapidAudience));
    assert_eq!(with(&Signer::new().authorization(ORIGIN, NOW)), Err(Refusal::VapidKeyMismatch));
    // And who is not asked is not judged.
    assert!(judge(&admission(MissingTtl::OneDay), None, &[], b"x", now).is_ok());
}

#[test]
fn a_remembered_token_still_expires() {
    let (signer, admission) = (Signer::new(), admission(MissingTtl::OneDay));
    let authorization = signer.authorization(ORIGIN, NOW + 60);
    let headers = [("authorization", &*authorization)];
    let judge = |now| judge(&admission, Some(signer.key()), &headers, b"x", now).map(|_| ());
    assert_eq!(judge(at(NOW)), Ok(()));
    assert_eq!(judge(at(NOW + 360)), Ok(()));
    assert_eq!(judge(at(NOW + 361)), Err(Refusal::VapidExpired));
    assert_eq!(judge(Moment { trusted: false, ..at(NOW) }), Err(Refusal::ClockUntrusted));
}

#[test]
fn a_remembered_token_vouches_for_its_own_key_only() {
    let (ours, theirs, admission) = (Signer::new(), Signer::new(), admission(MissingTtl::OneDay));
    let token = theirs.token(&claims(NOW + 60));
    let judge = |bound: &Signer| {
        let authorization = format!("vapid t={token}, k={}", bound.key());
        judge(&admission, Some(bound.key()), &[("authorization", &authorization)], b"x", at(NOW)).map(|_| ())
    };
    assert_eq!(judge(&theirs), Ok(()));
    assert_eq!(judge(&ours), Err(Refusal::VapidSignature));
}

#[test]
fn rfc8292_3_2_the_signing_key_must_not_encrypt() {
    let signer = Signer::new();
    let authorization = signer.authorization(ORIGIN, NOW + 60);
    let mut body = vec![0; 21];
    body[20] = 65;
    body.extend_from_slice(signer.key().as_bytes());
    body.extend_from_slice(b"ciphertext");
    let post = |encoding: &str, body: &[u8]| {
        let headers = [("authorization", &*authorization), ("content-encoding", encoding)];
        judge(&admission(MissingTtl::OneDay), Some(signer.key()), &headers, body, at(NOW)).map(|_| ())
    };
    assert_eq!(post("aes128gcm", &body), Err(Refusal::VapidKeyReused));
    assert_eq!(post("aesgcm", &body), Ok(()));
    body[50] ^= 1;
    assert_eq!(post("aes128gcm", &body), Ok(()));
    // Too short to hold a key, at every length.
    for length in 0..80 {
        assert_eq!(post("aes128gcm", &body[..length]), Ok(()));
    }
}
