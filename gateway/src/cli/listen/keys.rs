//! The Web Push keys of a listener: what an application server encrypts for (RFC 8291 §2).

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use p256::{PublicKey, SecretKey, elliptic_curve::sec1::ToEncodedPoint as _};
use serde::{Deserialize, Serialize};

/// A key pair and an authentication secret.
#[derive(Clone)]
pub(super) struct Keys {
    pub(super) auth: [u8; 16],
    pub(super) secret: SecretKey,
}

/// What an application server gets to know, with the names of the Push API.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(super) struct PublicKeys {
    pub(super) auth: String,
    pub(super) p256dh: String,
}

/// How the keys are kept: base64url without padding.
#[derive(Deserialize, Serialize)]
pub(super) struct KeptKeys {
    auth: String,
    key: String,
}

impl Keys {
    /// New ones.
    pub(super) fn generate() -> Result<Self, getrandom::Error> {
        let mut auth = [0; 16];
        getrandom::fill(&mut auth)?;
        loop {
            let mut bytes = [0; 32];
            getrandom::fill(&mut bytes)?;
            // Zero, or not below the order of the curve: one of 2^32 draws.
            if let Ok(secret) = SecretKey::from_slice(&bytes) {
                return Ok(Self { auth, secret });
            }
        }
    }

    /// For the file.
    pub(super) fn keep(&self) -> KeptKeys {
        KeptKeys {
            auth: URL_SAFE_NO_PAD.encode(self.auth),
            key: URL_SAFE_NO_PAD.encode(self.secret.to_bytes()),
        }
    }

    /// For the application server.
    pub(super) fn public(&self) -> PublicKeys {
        PublicKeys {
            auth: URL_SAFE_NO_PAD.encode(self.auth),
            p256dh: URL_SAFE_NO_PAD.encode(point(&self.secret.public_key())),
        }
    }
}

impl KeptKeys {
    /// From the file; `None` if they are no keys.
    pub(super) fn read(&self) -> Option<Keys> {
        let auth = URL_SAFE_NO_PAD.decode(&self.auth).ok()?.try_into().ok()?;
        let secret = SecretKey::from_slice(&URL_SAFE_NO_PAD.decode(&self.key).ok()?).ok()?;
        Some(Keys { auth, secret })
    }
}

/// A public key as 65 bytes (SEC 1, uncompressed), which is the form that Web Push uses.
pub(super) fn point(key: &PublicKey) -> Box<[u8]> {
    key.to_encoded_point(false).to_bytes()
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("public", &self.public().p256dh).finish_non_exhaustive()
    }
}
