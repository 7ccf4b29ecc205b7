//! Capability tokens: the unguessable last segments of the URLs that the gateway hands out.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use super::{DeviceId, Malformed};

macro_rules! token {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
        pub struct $name(pub [u8; $bytes]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
            }
        }

        /// Shows the first six characters only: a log must not leak a capability (RFC 8030 §8.5).
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:.6}…", self.to_string())
            }
        }

        impl FromStr for $name {
            type Err = Malformed;

            fn from_str(text: &str) -> Result<Self, Malformed> {
                let malformed = Malformed { expected: $expected };
                let mut bytes = [0; $bytes];
                // The slice decoder reports a wrong length as an error, both ways.
                match URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) {
                    Ok($bytes) => Ok(Self(bytes)),
                    Ok(_) | Err(_) => Err(malformed),
                }
            }
        }
    };
}

token! {
    /// What an endpoint ends in: 160 random bits, 27 characters of base64url
    /// (RFC 8030 §8.3 asks for 120 bits or more, UnifiedPush recommends 160).
    EndpointToken, 20, "27 characters of base64url"
}

token! {
    /// What the URL of a push message resource ends in (RFC 8030 §5): 192 bits, 32 characters of
    /// base64url, made from the message's number with a key of this gateway, so that it needs no
    /// memory and tells nothing. It is also the `message-id` that a distributor sees.
    MessageToken, 24, "32 characters of base64url"
}

token! {
    /// What a device's own path ends in: `/d/<this>/` admits whoever knows it as that device. 160 random
    /// bits: 64 of the device's id, 96 of its secret, so that finding the device needs no index.
    PathToken, 20, "27 characters of base64url"
}

impl PathToken {
    /// Bytes of the secret part.
    pub const SECRET: usize = 12;

    /// The path of a device with this secret.
    #[must_use]
    pub fn new(device: DeviceId, secret: [u8; Self::SECRET]) -> Self {
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&device.0.to_be_bytes());
        bytes[8..].copy_from_slice(&secret);
        Self(bytes)
    }

    /// Whose path it is, if its secret is right.
    #[must_use]
    pub fn device(&self) -> DeviceId {
        let mut id = [0; 8];
        id.copy_from_slice(&self.0[..8]);
        DeviceId(u64::from_be_bytes(id))
    }

    /// The device's secret, as it would give it in a login.
    #[must_use]
    pub fn secret(&self) -> String {
        URL_SAFE_NO_PAD.encode(&self.0[8..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_token_is_27_characters() {
        let token = EndpointToken([0xff; 20]);
        assert_eq!(token.to_string().len(), 27);
        assert_eq!(token.to_string().parse(), Ok(token));
    }

    #[test]
    fn only_the_canonical_text_is_a_token() {
        let text = EndpointToken([7; 20]).to_string();
        // Wrong length, padding, wrong alphabet, and non-zero trailing bits: a second spelling of
        // one endpoint would get round a cache or a block list.
        for wrong in [
            &text[1..],
            &format!("{text}="),
            &format!("{text}A"),
            &text.replace('B', "+"),
            &format!("{}d", &text[..26]),
        ] {
            assert!(wrong.parse::<EndpointToken>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_path_holds_a_device_and_its_secret() {
        let token = PathToken::new(DeviceId(7), [0xff; 12]);
        assert_eq!(token.to_string().len(), 27);
        assert_eq!(token.to_string().parse(), Ok(token));
        assert_eq!((token.device(), token.secret().as_str()), (DeviceId(7), "________________"));
    }

    #[test]
    fn debug_hides_the_secret_part() {
        assert_eq!(format!("{:?}", EndpointToken([0; 20])), "AAAAAA…");
    }
}
