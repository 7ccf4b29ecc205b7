//! Decryption of messages as they were before RFC 8291: `aesgcm` (draft-ietf-webpush-encryption-04 on
//! draft-ietf-httpbis-encryption-encoding-03), which some application servers still send.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use p256::{PublicKey, ecdh::diffie_hellman};

use super::{
    decrypt::{derive, open},
    keys::{Keys, point},
};

/// The length of the authentication tag after a record.
const TAG: usize = 16;
/// The record size of a message that says none (§2.2 of the encoding).
const RECORD_SIZE: usize = 4096;

/// What a message says beside its body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Headers<'a> {
    pub(super) crypto_key: &'a str,
    pub(super) encryption: &'a str,
}

impl<'a> Headers<'a> {
    /// Takes them off a body that they were put before, which is how `/aesgcm` passes them on.
    pub(super) fn off(body: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let rest = body.strip_prefix(b"aesgcm\n")?;
        let (encryption, rest) = line(rest, "Encryption: ")?;
        let (crypto_key, rest) = line(rest, "Crypto-Key: ")?;
        Some((Self { crypto_key, encryption }, rest))
    }

    /// Decrypts a body.
    ///
    /// `None` if it was not encrypted for these keys: other keys, another content coding, or damage.
    pub(super) fn decrypt(self, keys: &Keys, body: &[u8]) -> Option<Vec<u8>> {
        let salt = URL_SAFE_NO_PAD.decode(parameter(self.encryption, "salt")?).ok()?;
        let sender = URL_SAFE_NO_PAD.decode(parameter(self.crypto_key, "dh")?).ok()?;
        let record_size = match parameter(self.encryption, "rs") {
            Some(said) => said.parse().ok()?,
            None => RECORD_SIZE,
        };
        // A push message is a single record (§3.4).
        if body.len().checked_sub(TAG)? > record_size {
            return None;
        }
        let sender = PublicKey::from_sec1_bytes(&sender).ok()?;
        let shared = diffie_hellman(keys.secret.to_nonzero_scalar(), sender.as_affine());
        let secret: [u8; 32] = derive(&keys.auth, shared.raw_secret_bytes(), &[b"Content-Encoding: auth\0"])?;
        let (ours, theirs) = (point(&keys.secret.public_key()), point(&sender));
        // Each point after its length, 65.
        let context: [&[u8]; 5] = [b"P-256\0", b"\0\x41", &ours, b"\0\x41", &theirs];
        let info = |what: &'static [u8]| [&[what], &context[..]].concat();
        let key = derive(&salt, &secret, &info(b"Content-Encoding: aesgcm\0"))?;
        let nonce = derive(&salt, &secret, &info(b"Content-Encoding: nonce\0"))?;
        let padded = open(&key, nonce, body)?;
        // How many zeros follow, in two bytes.
        let (length, rest) = padded.split_first_chunk()?;
        let (padding, text) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        padding.iter().all(|&byte| byte == 0).then(|| text.to_vec())
    }
}

/// One line of the head, after this word, and what follows it.
fn line<'a>(text: &'a [u8], word: &str) -> Option<(&'a str, &'a [u8])> {
    let end = text.iter().position(|&byte| byte == b'\n')?;
    let line = std::str::from_utf8(&text[..end]).ok()?;
    Some((line.strip_prefix(word)?, &text[end + 1..]))
}

/// The first parameter of this name, without the quotes and the padding that some write.
fn parameter<'a>(header: &'a str, name: &str) -> Option<&'a str> {
    let mut parameters = header.split([',', ';']).filter_map(|part| part.trim().split_once('='));
    let (_, value) = parameters.find(|(found, _)| found.trim_end().eq_ignore_ascii_case(name))?;
    Some(value.trim().trim_matches('"').trim_end_matches('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADERS: Headers<'_> = Headers {
        crypto_key: "keyid=p256dh;dh=BNoRDbb84JGm8g5Z5CFxurSqsXWJ11ItfXEWYVLE85Y7CYkDjXsIEc4aqxYaQ1G8BqkXCJ6DPpDrWtdWj_mugHU",
        encryption: "keyid=p256dh;salt=lngarbyKfMoi9Z75xYXmkg",
    };

    /// The example of the draft, section 5.
    fn example() -> (Keys, Vec<u8>) {
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
        let keys = Keys {
            auth: decode("R29vIGdvbyBnJyBqb29iIQ").try_into().unwrap(),
            secret: p256::SecretKey::from_slice(&decode("9FWl15_QUQAWDaD3k3l50ZBZQJ4au27F1V4F0uLSD_M"))
                .unwrap(),
        };
        (keys, decode("6nqAQUME8hNqw5J3kl8cpVVJylXKYqZOeseZG8UueKpA"))
    }

    #[test]
    fn the_example_of_the_draft_is_read() {
        let (keys, body) = example();
        assert_eq!(HEADERS.decrypt(&keys, &body).as_deref(), Some(&b"I am the walrus"[..]));
        let written_otherwise = Headers {
            crypto_key: &format!(
                "p256ecdsa=BA, DH = \"{}=\"",
                &HEADERS.crypto_key["keyid=p256dh;dh=".len()..]
            ),
            encryption: "salt=\"lngarbyKfMoi9Z75xYXmkg==\"; rs=17",
        };
        assert!(written_otherwise.decrypt(&keys, &body).is_some());
        assert!(
            Headers { encryption: "salt=lngarbyKfMoi9Z75xYXmkg; rs=16", ..HEADERS }
                .decrypt(&keys, &body)
                .is_none()
        );
        let prefixed =
            format!("aesgcm\nEncryption: {}\nCrypto-Key: {}\n", HEADERS.encryption, HEADERS.crypto_key);
        let prefixed = [prefixed.as_bytes(), &body].concat();
        let (headers, rest) = Headers::off(&prefixed).unwrap();
        assert_eq!(headers.decrypt(&keys, rest).as_deref(), Some(&b"I am the walrus"[..]));
    }

    #[test]
    fn other_keys_and_damage_give_nothing() {
        let (keys, body) = example();
        assert_eq!(HEADERS.decrypt(&Keys::generate().unwrap(), &body), None);
        assert_eq!(HEADERS.decrypt(&Keys { auth: [0; 16], ..keys.clone() }, &body), None);
        for place in 0..body.len() {
            let mut damaged = body.clone();
            damaged[place] ^= 1;
            assert_eq!(HEADERS.decrypt(&keys, &damaged), None, "byte {place}");
            assert_eq!(HEADERS.decrypt(&keys, &body[..place]), None, "cut at {place}");
        }
        for (crypto_key, encryption) in
            [("", ""), ("dh=BA", HEADERS.encryption), (HEADERS.crypto_key, "salt=*")]
        {
            assert_eq!(Headers { crypto_key, encryption }.decrypt(&keys, &body), None);
        }
        for text in ["aesgcm\n", "aesgcm\nEncryption: x", "aesgcm\nCrypto-Key: x\nEncryption: y\nz"] {
            assert!(Headers::off(text.as_bytes()).is_none(), "{text}");
        }
    }
}
