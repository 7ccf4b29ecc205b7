//! Why a request did not become a push message.

/// One reason each. The text goes to the application server: it names what was wrong and what would
/// be right. Which status code a reason has is `ingress`'s business, in one place.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// More than [`super::MAX_BODY`] bytes (RFC 8030 §7.2).
    #[error("the body is too large: send at most 5630 bytes, 4096 fit every push service")]
    BodyTooLarge,
    /// The token may be good, but nobody knows what time it is (passing).
    #[error("the clock of this gateway is not set yet, so the VAPID token cannot be judged: try again later")]
    ClockUntrusted,
    /// The way for legacy messages was given another one (draft-ietf-webpush-encryption-04).
    #[error(
        "only messages in the legacy coding go here: send Content-Encoding: aesgcm with Encryption: salt=… and Crypto-Key: dh=…, or push to the endpoint itself"
    )]
    CodingNotLegacy,
    /// `Content-Encoding`, `Crypto-Key` or `Encryption` cannot be passed on.
    #[error(
        "Content-Encoding, Crypto-Key and Encryption must be visible ASCII of at most 64, 1024 and 1024 characters, of which 320 are passed on (all but p256ecdsa)"
    )]
    CodingUnusable,
    /// A body whose parameters are missing, or in the wrong place (draft-ietf-webpush-encryption-04, RFC 8291).
    #[error(
        "the body must be encrypted: send Content-Encoding: aes128gcm without salt and dh in headers, or aesgcm with Encryption: salt=… and Crypto-Key: dh=…"
    )]
    EncryptionParameters,
    /// RFC 8030 §5.4.
    #[error("Topic must be 1 to 32 characters of A-Z, a-z, 0-9, - and _")]
    TopicMalformed,
    /// RFC 8030 §5.4: a message has one Topic.
    #[error("Topic is given more than once: send it once")]
    TopicRepeated,
    /// RFC 8030 §5.2.
    #[error("TTL must be a non-negative whole number of seconds, for example 86400")]
    TtlMalformed,
    /// RFC 8030 §5.2, when the owner wants it strict.
    #[error("TTL is missing: send the number of seconds that the message may wait, for example 86400")]
    TtlMissing,
    /// RFC 8030 §5.2: a message has one TTL.
    #[error("TTL is given more than once: send it once")]
    TtlRepeated,
    /// RFC 8030 §5.3.
    #[error("Urgency must be one of very-low, low, normal, high")]
    UrgencyMalformed,
    /// RFC 8030 §5.3: more than one value is refused.
    #[error("Urgency has more than one value: send one of very-low, low, normal, high")]
    UrgencyRepeated,
    /// RFC 8292 §4.2: the registration names its application server, the request does not say who it is.
    #[error(
        "this endpoint takes messages of one application server only: send Authorization: vapid t=JWT, k=PUBLIC-KEY"
    )]
    VapidAbsent,
    /// RFC 8292 §2: only ES256.
    #[error("the VAPID token must be signed with ES256: its header must say \"alg\":\"ES256\"")]
    VapidAlgorithm,
    /// RFC 8292 §2.
    #[error("the VAPID token is for another origin: aud must be the origin of the endpoint's URL")]
    VapidAudience,
    /// RFC 8292 §2.
    #[error("the VAPID token has expired: make a new one whose exp lies ahead")]
    VapidExpired,
    /// RFC 8292 §2: `exp` is required, and numeric (RFC 7519 §4.1.4).
    #[error("the VAPID token has no usable exp: it must be a number of seconds since 1970")]
    VapidExpiryMissing,
    /// RFC 8292 §2: at most 24 hours.
    #[error("the VAPID token lives too long: exp may be at most 24 hours ahead")]
    VapidExpiryTooFar,
    /// RFC 8292 §3.2.
    #[error("the VAPID public key must be an uncompressed P-256 point of 65 bytes as base64url")]
    VapidKeyMalformed,
    /// RFC 8292 §4.2.
    #[error("the VAPID public key is not the one that this endpoint was made for")]
    VapidKeyMismatch,
    /// RFC 8292 §3.2: the signing key must not also be the key of the encryption.
    #[error("the VAPID key is also the key of the encrypted body: use a fresh key pair to encrypt")]
    VapidKeyReused,
    /// RFC 8292 §3: `t` and `k`, once each.
    #[error(
        "the VAPID credentials are incomplete or ambiguous: send Authorization: vapid t=JWT, k=PUBLIC-KEY, once"
    )]
    VapidParameters,
    /// RFC 8292 §2.
    #[error("the signature of the VAPID token does not belong to its text and public key")]
    VapidSignature,
    /// RFC 7515 §3.1.
    #[error("the VAPID token is not a JWT: it must be three parts of base64url with JSON in the first two")]
    VapidTokenMalformed,
}
