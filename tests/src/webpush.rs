//! The two ends of Web Push: an app that holds keys, and an application server that signs.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use p256::{
    SecretKey,
    ecdsa::{Signature, SigningKey, signature::Signer as _},
    elliptic_curve::sec1::ToEncodedPoint as _,
};
use serde_json::{Value, json};
use web_push_native::Auth;

fn random_key() -> SecretKey {
    loop {
        // A random number is above the order of the curve once in 2^32 times.
        if let Ok(key) = SecretKey::from_slice(&random::<32>()) {
            return key;
        }
    }
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system gives random bytes");
    bytes
}

/// Seconds since 1970.
#[must_use]
pub fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("later than 1970").as_secs()
}

/// An app: it can read what is encrypted for it (RFC 8291).
#[derive(Debug)]
pub struct Subscriber {
    auth: Auth,
    key: SecretKey,
}

impl Default for Subscriber {
    fn default() -> Self {
        Self::new()
    }
}

impl Subscriber {
    /// New keys.
    #[must_use]
    pub fn new() -> Self {
        Self { auth: random::<16>().into(), key: random_key() }
    }

    /// Decrypts aes128gcm; panics if it is not for this app or was damaged.
    #[must_use]
    #[track_caller]
    pub fn decrypt(&self, body: &[u8]) -> Vec<u8> {
        web_push_native::decrypt(body.to_vec(), &self.key, &self.auth)
            .unwrap_or_else(|error| panic!("{} bytes cannot be decrypted: {error}", body.len()))
    }

    /// Encrypts as aes128gcm, as an application server would.
    #[must_use]
    pub fn encrypt(&self, message: &[u8]) -> Vec<u8> {
        web_push_native::encrypt(message.to_vec(), &self.key.public_key(), &self.auth)
            .expect("a short message can be encrypted")
    }

    /// What foreign programs need to know to encrypt for this app, and to decrypt in its place.
    #[must_use]
    pub fn json(&self) -> Value {
        let public = self.key.public_key().to_encoded_point(false);
        json!({
            "auth": URL_SAFE_NO_PAD.encode(self.auth),
            "p256dh": URL_SAFE_NO_PAD.encode(public.as_bytes()),
            "private": URL_SAFE_NO_PAD.encode(self.key.to_bytes()),
        })
    }

    /// The other side of a subscription that a program printed: what may be encrypted for it.
    #[must_use]
    pub fn encrypt_for(subscription: &Value, message: &[u8]) -> Vec<u8> {
        let key = |name: &str| {
            let text = subscription["keys"][name].as_str().unwrap_or_else(|| panic!("{subscription}"));
            URL_SAFE_NO_PAD.decode(text).expect("base64url")
        };
        let public = p256::PublicKey::from_sec1_bytes(&key("p256dh")).expect("a point on P-256");
        let auth = Auth::clone_from_slice(&key("auth"));
        web_push_native::encrypt(message.to_vec(), &public, &auth).expect("a short message can be encrypted")
    }
}

/// An application server that identifies itself (RFC 8292).
#[derive(Debug)]
pub struct Sender {
    key: SigningKey,
}

impl Default for Sender {
    fn default() -> Self {
        Self::new()
    }
}

impl Sender {
    /// A new key.
    #[must_use]
    pub fn new() -> Self {
        Self { key: random_key().into() }
    }

    /// `Authorization: vapid t=…, k=…` for this audience, valid until `exp` (seconds since 1970).
    #[must_use]
    pub fn authorization(&self, audience: &str, exp: u64) -> String {
        format!("vapid t={}, k={}", self.token(audience, exp), self.public())
    }

    /// The private key, for foreign programs.
    #[must_use]
    pub fn private(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.key.to_bytes())
    }

    /// The public key, as apps pass it when they register.
    #[must_use]
    pub fn public(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.key.verifying_key().to_encoded_point(false).as_bytes())
    }

    /// The bare JWT, as the draft's `Authorization: WebPush …` has it.
    #[must_use]
    pub fn token(&self, audience: &str, exp: u64) -> String {
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = part(json!({"typ": "JWT", "alg": "ES256"}));
        let claims = part(json!({"aud": audience, "exp": exp, "sub": "mailto:owner@example.org"}));
        let signed = format!("{header}.{claims}");
        let signature: Signature = self.key.sign(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encrypted_can_be_decrypted() {
        let app = Subscriber::new();
        assert_eq!(app.decrypt(&app.encrypt(b"hello")), b"hello");
    }

    #[test]
    #[should_panic(expected = "cannot be decrypted")]
    fn a_damaged_body_is_noticed() {
        let app = Subscriber::new();
        let mut body = app.encrypt(b"hello");
        *body.last_mut().expect("not empty") ^= 1;
        let _ = app.decrypt(&body);
    }
}
