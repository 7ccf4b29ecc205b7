//! An application server's half of RFC 8292.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};

use crate::model::VapidKey;

pub(crate) struct Signer(EcdsaKeyPair);

impl Signer {
    pub(crate) fn new() -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("random");
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random);
        Self(pair.expect("just made"))
    }

    pub(crate) fn key(&self) -> VapidKey {
        VapidKey::from_bytes(self.0.public_key().as_ref()).expect("an uncompressed point")
    }

    pub(crate) fn token(&self, claims: &str) -> String {
        self.sign(r#"{"typ":"JWT","alg":"ES256"}"#, claims)
    }

    pub(crate) fn sign(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).expect("random");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// `Authorization` for an audience and an expiry in seconds since 1970.
    pub(crate) fn authorization(&self, audience: &str, expires: u64) -> String {
        let token = self.token(&format!(r#"{{"aud":"{audience}","exp":{expires}}}"#));
        format!("vapid t={token}, k={}", self.key())
    }
}
