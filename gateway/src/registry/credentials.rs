//! Secrets and ids of devices: how they are made and how they are checked.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::digest;
use subtle::ConstantTimeEq as _;

use super::Refusal;
use crate::model::{DeviceId, PathToken};

/// Rooms whose devices are known by a path of their own: their clients take a URL and nothing else.
const BY_PATH: [&str; 2] = ["autopush", "ntfy"];

/// A device's secret in the clear. It exists only between its making and the owner's screen.
pub struct Secret {
    /// The same bytes, if they fit a device's own path.
    path: Option<[u8; PathToken::SECRET]>,
    text: String,
}

impl Secret {
    /// A secret as the devices of a room use it.
    ///
    /// # Errors
    /// [`Refusal::NoRandomness`].
    pub(super) fn of(transport: &str) -> Result<Self, Refusal> {
        if !BY_PATH.contains(&transport) {
            return Self::random();
        }
        let bytes = random_bytes()?;
        Ok(Self { path: Some(bytes), text: URL_SAFE_NO_PAD.encode(bytes) })
    }

    /// The device's own path, if that is how its room knows it.
    pub(super) fn path(&self, device: DeviceId) -> Option<PathToken> {
        self.path.map(|secret| PathToken::new(device, secret))
    }

    /// 256 random bits as 43 characters of base64url: safe in a URI, a shell and an MQTT password.
    ///
    /// # Errors
    /// [`Refusal::NoRandomness`].
    pub(super) fn random() -> Result<Self, Refusal> {
        Ok(Self { path: None, text: URL_SAFE_NO_PAD.encode(random_bytes::<32>()?) })
    }

    /// The text that the device sends as its password.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What is stored of it.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        hash(self.text.as_bytes())
    }
}

/// Never shows the secret: a log must not hold it.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Whether `secret` is the one whose hash is `stored`. Without a stored hash (an id that nobody has)
/// the same work is done and the answer is no, so that time does not tell which ids exist.
#[must_use]
pub(super) fn matches(secret: &[u8], stored: Option<[u8; 32]>) -> bool {
    let equal = hash(secret).ct_eq(&stored.unwrap_or_default());
    bool::from(equal & subtle::Choice::from(u8::from(stored.is_some())))
}

/// Random bytes of the operating system.
///
/// # Errors
/// [`Refusal::NoRandomness`].
pub(super) fn random_bytes<const N: usize>() -> Result<[u8; N], Refusal> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| Refusal::NoRandomness)?;
    Ok(bytes)
}

/// SHA-256. Secrets are random, of 64 bits at least, and guessing is throttled, so there is nothing that a slow hash would protect.
pub(super) fn hash(secret: &[u8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest::digest(&digest::SHA256, secret).as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_43_characters_that_need_no_quoting() {
        let secret = Secret::random().expect("randomness");
        assert_eq!(secret.as_str().len(), 43);
        assert!(secret.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
        assert_ne!(secret.as_str(), Secret::random().expect("randomness").as_str());
    }

    #[test]
    fn only_the_right_secret_matches() {
        let secret = Secret::random().expect("randomness");
        let text = secret.as_str().as_bytes();
        assert!(matches(text, Some(secret.hash())));
        for wrong in [&b""[..], &text[1..], &text[..42], b"x"] {
            assert!(!matches(wrong, Some(secret.hash())));
        }
    }

    #[test]
    fn nothing_matches_an_unknown_device() {
        assert!(!matches(b"", None));
        assert!(!matches(b"anything", None));
    }

    #[test]
    fn the_hash_is_sha_256_of_the_text() {
        // FIPS 180-2, appendix B.1: what is on disk must be readable by every later release.
        assert_eq!(
            hash(b"abc")[..8],
            [0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea],
            "the stored form of secrets changed"
        );
    }

    #[test]
    fn debug_hides_the_secret() {
        let secret = Secret::random().expect("randomness");
        assert!(!format!("{secret:?}").contains(secret.as_str()));
    }
}
