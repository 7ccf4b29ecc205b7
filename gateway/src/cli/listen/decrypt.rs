//! Web Push message decryption: `aes128gcm` (RFC 8291 on RFC 8188).
//!
//! Written on `ring` here because the crate that the tests encrypt with panics on a record size of
//! zero, and on every message where `usize` has 32 bits.

use p256::{PublicKey, ecdh::diffie_hellman};
use ring::{
    aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, KeyType, Salt},
};

use super::keys::{Keys, point};

/// salt, record size, and the length of the key id (RFC 8188 §2.1).
const HEADER: usize = 16 + 4 + 1;

/// Decrypts a push message.
///
/// `None` if it was not encrypted for these keys: other keys, another content coding, or damage.
pub(super) fn decrypt(keys: &Keys, message: &[u8]) -> Option<Vec<u8>> {
    let (header, rest) = message.split_at_checked(HEADER)?;
    let (salt, rest_of_header) = header.split_at_checked(16)?;
    let (record_size, id_length) = rest_of_header.split_at_checked(4)?;
    let record_size = u32::from_be_bytes(record_size.try_into().ok()?);
    let (sender, record) = rest.split_at_checked(usize::from(*id_length.first()?))?;
    // A push message is a single record (RFC 8291 §4).
    if record.len() > usize::try_from(record_size).ok()? {
        return None;
    }
    let sender = PublicKey::from_sec1_bytes(sender).ok()?;
    let secret = input_keying_material(keys, &sender)?;
    let key: [u8; 16] = derive(salt, &secret, &[b"Content-Encoding: aes128gcm\0"])?;
    let nonce: [u8; NONCE_LEN] = derive(salt, &secret, &[b"Content-Encoding: nonce\0"])?;

    let mut padded = open(&key, nonce, record)?;
    // The last record ends with 2, then any number of zeros (RFC 8188 §2).
    let end = padded.iter().rposition(|&byte| byte != 0)?;
    let length = (padded[end] == 2).then_some(end)?;
    padded.truncate(length);
    Some(padded)
}

/// Decrypts a record with its tag.
pub(super) fn open(key: &[u8; 16], nonce: [u8; NONCE_LEN], record: &[u8]) -> Option<Vec<u8>> {
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, key).ok()?);
    let mut record = record.to_vec();
    let nonce = Nonce::assume_unique_for_key(nonce);
    let length = key.open_in_place(nonce, Aad::empty(), &mut record).ok()?.len();
    record.truncate(length);
    Some(record)
}

/// RFC 8291 §3.4: the shared secret, bound to both public keys and the authentication secret.
fn input_keying_material(keys: &Keys, sender: &PublicKey) -> Option<[u8; 32]> {
    let shared = diffie_hellman(keys.secret.to_nonzero_scalar(), sender.as_affine());
    let (ours, theirs) = (point(&keys.secret.public_key()), point(sender));
    derive(&keys.auth, shared.raw_secret_bytes(), &[b"WebPush: info\0", &ours, &theirs])
}

/// HKDF-SHA-256 (RFC 5869): extract with `salt`, expand with `info` to `N` bytes.
pub(super) fn derive<const N: usize>(salt: &[u8], secret: &[u8], info: &[&[u8]]) -> Option<[u8; N]> {
    struct Length(usize);
    impl KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    let mut output = [0; N];
    let extracted = Salt::new(HKDF_SHA256, salt).extract(secret);
    extracted.expand(info, Length(N)).ok()?.fill(&mut output).ok()?;
    Some(output)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encrypted(keys: &Keys, text: &[u8]) -> Vec<u8> {
        web_push_native::encrypt(text.to_vec(), &keys.secret.public_key(), &keys.auth.into()).unwrap()
    }

    #[test]
    fn what_another_implementation_encrypted_is_read() {
        let keys = Keys::generate().unwrap();
        for text in [&b"x"[..], "péage ouvert".as_bytes(), &[7; 3993]] {
            assert_eq!(decrypt(&keys, &encrypted(&keys, text)).as_deref(), Some(text));
        }
    }

    #[test]
    fn the_example_of_rfc_8291_is_read() {
        use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
        let decode = |text: &str| BASE64.decode(text).unwrap();
        // Section 5 and appendix A.
        let keys = Keys {
            auth: decode("BTBZMqHH6r4Tts7J_aSIgg").try_into().unwrap(),
            secret: p256::SecretKey::from_slice(&decode("q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94"))
                .unwrap(),
        };
        let message = decode(concat!(
            "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27ml",
            "mlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPT",
            "pK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN",
        ));
        let text = decrypt(&keys, &message).unwrap();
        assert_eq!(text, b"When I grow up, I want to be a watermelon");
    }

    #[test]
    fn other_keys_and_damage_give_nothing() {
        let keys = Keys::generate().unwrap();
        let message = encrypted(&keys, b"hello");
        assert_eq!(decrypt(&Keys::generate().unwrap(), &message), None);
        assert_eq!(decrypt(&Keys { auth: [0; 16], ..keys.clone() }, &message), None);
        for place in 0..message.len() {
            // Flipping any bit matters, but for a larger record size, which says the same.
            let mut damaged = message.clone();
            damaged[place] ^= 1;
            assert!(decrypt(&keys, &damaged).is_none() || (16..20).contains(&place), "byte {place}");
            assert_eq!(decrypt(&keys, &message[..place]), None, "cut at {place}");
        }
    }

    #[test]
    fn a_record_size_of_zero_gives_nothing() {
        let keys = Keys::generate().unwrap();
        let mut message = encrypted(&keys, b"hello");
        message[16..20].fill(0);
        assert_eq!(decrypt(&keys, &message), None);
    }

    proptest! {
        #[test]
        fn no_body_makes_it_panic(mut body in proptest::collection::vec(any::<u8>(), 0..200), length: u8) {
            let keys = Keys::generate().unwrap();
            if let Some(place) = body.get_mut(20) {
                *place = length;
            }
            prop_assert_eq!(decrypt(&keys, &body), None);
        }
    }
}
