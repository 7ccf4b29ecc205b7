//! The public key by which an application server identifies itself (RFC 8292).

use std::{fmt, str::FromStr};

use base64::{
    Engine as _,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::{Deserialize, Serialize};

use super::Malformed;

/// Apps pass the key with and without padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_encode_padding(false),
);

/// An uncompressed point on P-256: 65 bytes that start with 0x04, 87 characters of base64url.
#[derive(Clone, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct VapidKey(Box<[u8]>);

impl VapidKey {
    /// The 65 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Takes the 65 bytes of an uncompressed P-256 point; whether it lies on the curve shows when
    /// a signature is checked.
    ///
    /// # Errors
    /// [`Malformed`] for any other length or first byte.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() == 65 && bytes[0] == 4 {
            Ok(Self(bytes.into()))
        } else {
            Err(Malformed {
                expected: "an uncompressed P-256 public key: 65 bytes that begin with 0x04, as 87 characters of base64url",
            })
        }
    }
}

impl fmt::Display for VapidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&LENIENT.encode(&self.0))
    }
}

impl fmt::Debug for VapidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for VapidKey {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        Self::from_bytes(&LENIENT.decode(text).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_87_characters_with_or_without_padding() {
        let mut bytes = [1; 65];
        bytes[0] = 4;
        let key = VapidKey::from_bytes(&bytes).expect("65 bytes");
        assert_eq!(key.to_string().len(), 87);
        assert_eq!(key.to_string().parse(), Ok(key.clone()));
        assert_eq!(format!("{key}=").parse(), Ok(key));
    }

    #[test]
    fn anything_else_is_refused() {
        for wrong in ["", "BA", &"A".repeat(87), "not base64!"] {
            assert!(wrong.parse::<VapidKey>().is_err(), "{wrong}");
        }
    }
}
