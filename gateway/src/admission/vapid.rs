//! Whether a request comes from the one application server that may push (RFC 8292).

use std::sync::{Mutex, PoisonError};

use base64::{
    Engine as _,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::HeaderMap;
use ring::{
    digest,
    signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey},
};
use serde::Deserialize;

use super::{
    Refusal,
    credential::{self, Credential},
    origin::Origin,
};
use crate::model::{Moment, VapidKey};

/// How far ahead `exp` may lie (RFC 8292 §2), in seconds.
const MAX_AHEAD: u64 = 24 * 3600;
/// How wrong two clocks may be, in seconds: Mastodon asks for exactly 24 hours, by its own clock.
const LEEWAY: u64 = 300;
/// How many verified tokens are remembered: 48 bytes each.
const REMEMBERED: usize = 512;

/// Some senders pad.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Verifies tokens for one origin, and remembers which it has verified: an application server uses
/// one token for hours, and a signature costs more than everything else that is done to a request.
#[derive(Debug)]
pub(super) struct Verifier {
    origin: Origin,
    /// A slot by the first bytes of the digest; a newer token takes the slot of an older one, so
    /// memory is bounded without any bookkeeping. Only tokens that passed get in, so nobody but a
    /// rightful application server can displace anything.
    remembered: Mutex<Box<[Option<Verified>]>>,
}

/// A token that was signed by its key and is for our origin: for ever true, while `expires` is
/// judged at each use.
#[derive(Clone, Copy, Debug)]
struct Verified {
    digest: [u8; 32],
    expires: u64,
}

impl Verifier {
    /// Verifies tokens whose `aud` is `origin`.
    pub(super) fn new(origin: Origin) -> Self {
        Self { origin, remembered: Mutex::new(vec![None; REMEMBERED].into_boxed_slice()) }
    }

    /// Judges a credential by its own key, if there is one.
    pub(super) fn judge_if_sent(&self, headers: &HeaderMap, now: Moment) -> Result<(), Refusal> {
        let credential = match credential::find(headers) {
            Err(Refusal::VapidAbsent) => return Ok(()),
            found => found?,
        };
        let key: VapidKey = credential.key.parse().map_err(|_| Refusal::VapidKeyMalformed)?;
        self.judge(headers, &key, now)
    }

    /// Judges the credential of a request to an endpoint that is bound to `bound`.
    pub(super) fn judge(&self, headers: &HeaderMap, bound: &VapidKey, now: Moment) -> Result<(), Refusal> {
        let credential = credential::find(headers)?;
        let key: VapidKey = credential.key.parse().map_err(|_| Refusal::VapidKeyMalformed)?;
        if key != *bound {
            return Err(Refusal::VapidKeyMismatch);
        }
        let expires = self.verified(credential, &key)?;
        in_time(expires, now)
    }

    /// Checks everything that does not depend on the time, and returns `exp`.
    fn verified(&self, credential: Credential<'_>, key: &VapidKey) -> Result<u64, Refusal> {
        let digest = digest_of(credential.token, key);
        let slot = usize::from(u16::from_le_bytes([digest[0], digest[1]])) % REMEMBERED;
        if let Some(known) = self.remembered()[slot].filter(|known| known.digest == digest) {
            return Ok(known.expires);
        }
        let expires = verify(credential.token, key, &self.origin)?;
        self.remembered()[slot] = Some(Verified { digest, expires });
        Ok(expires)
    }

    fn remembered(&self) -> std::sync::MutexGuard<'_, Box<[Option<Verified>]>> {
        // A slot is written whole, so a panic elsewhere cannot have left half of one.
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The key first: it has a fixed length, so no two pairs give the same bytes.
fn digest_of(token: &str, key: &VapidKey) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(key.as_bytes());
    context.update(token.as_bytes());
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

#[derive(Deserialize)]
struct Header {
    alg: String,
}

#[derive(Deserialize)]
struct Claims {
    aud: Option<Audience>,
    exp: Option<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

/// Checks algorithm, signature, `aud` and that there is an `exp`, in this order: nothing of the
/// payload is looked at before the signature holds (RFC 8292 §2). `sub` is the sender's to give or not.
fn verify(token: &str, key: &VapidKey, origin: &Origin) -> Result<u64, Refusal> {
    let (signed, signature) = token.rsplit_once('.').ok_or(Refusal::VapidTokenMalformed)?;
    let (header, payload) = signed.split_once('.').ok_or(Refusal::VapidTokenMalformed)?;
    let header: Header = decode(header)?;
    if header.alg != "ES256" {
        return Err(Refusal::VapidAlgorithm);
    }
    let signature = BASE64URL.decode(signature).map_err(|_| Refusal::VapidTokenMalformed)?;
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.as_bytes())
        .verify(signed.as_bytes(), &signature)
        .map_err(|_| Refusal::VapidSignature)?;
    let claims: Claims = decode(payload)?;
    let ours = match &claims.aud {
        None => false,
        Some(Audience::One(one)) => origin.is(one),
        Some(Audience::Several(several)) => several.iter().any(|one| origin.is(one)),
    };
    if !ours {
        return Err(Refusal::VapidAudience);
    }
    claims.exp.as_ref().and_then(seconds).ok_or(Refusal::VapidExpiryMissing)
}

fn decode<T: for<'de> Deserialize<'de>>(part: &str) -> Result<T, Refusal> {
    let json = BASE64URL.decode(part).map_err(|_| Refusal::VapidTokenMalformed)?;
    serde_json::from_slice(&json).map_err(|_| Refusal::VapidTokenMalformed)
}

/// A NumericDate (RFC 7519 §2): it may have a fraction.
fn seconds(value: &serde_json::Value) -> Option<u64> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates, as wanted")]
    let whole = |float: f64| (float >= 0.0).then_some(float as u64);
    value.as_u64().or_else(|| value.as_f64().and_then(whole))
}

/// Whether `exp` is ahead, but no further than allowed. Not judged by a clock that is not trusted:
/// a board that woke up in the past would tell honest application servers that they are forbidden,
/// and they would never come back.
fn in_time(expires: u64, now: Moment) -> Result<(), Refusal> {
    let seconds = now.wall.as_secs();
    if !now.trusted {
        Err(Refusal::ClockUntrusted)
    } else if expires.saturating_add(LEEWAY) < seconds {
        Err(Refusal::VapidExpired)
    } else if expires > seconds.saturating_add(MAX_AHEAD + LEEWAY) {
        Err(Refusal::VapidExpiryTooFar)
    } else {
        Ok(())
    }
}
