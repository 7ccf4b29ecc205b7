//! The public names of messages: their numbers, encrypted and authenticated with a key of this gateway
//! (in the manner of SIV), so that a name needs no memory, tells nothing, and cannot be made elsewhere.

use ring::hmac;

use crate::model::{MessageId, MessageToken};

/// Seals numbers into tokens, and opens them.
pub(super) struct Seal(hmac::Key);

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal")
    }
}

impl Seal {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// The token of a message: 16 bytes of tag, then the number under a mask that the tag gives.
    pub(super) fn token(&self, id: MessageId) -> MessageToken {
        let tag = self.tag(id);
        let mut token = [0; 24];
        token[..16].copy_from_slice(&tag);
        token[16..].copy_from_slice(&(id.0 ^ self.mask(&tag)).to_be_bytes());
        MessageToken(token)
    }

    /// The message of a token, if it was made here.
    pub(super) fn open(&self, token: &MessageToken) -> Option<MessageId> {
        let (tag, masked) = token.0.split_first_chunk::<16>()?;
        let id = MessageId(u64::from_be_bytes(masked.try_into().ok()?) ^ self.mask(tag));
        let genuine: bool = subtle::ConstantTimeEq::ct_eq(&self.tag(id)[..], &tag[..]).into();
        genuine.then_some(id)
    }

    /// A key for another purpose, which tells nothing of this one.
    pub(super) fn derive(&self, purpose: &str) -> [u8; 32] {
        // Longer than the inputs of `tag` and `mask`, so that the uses of the key never meet.
        first(hmac::sign(&self.0, format!("a key of this gateway, for: {purpose}").as_bytes()).as_ref())
    }

    fn tag(&self, id: MessageId) -> [u8; 16] {
        first(hmac::sign(&self.0, &id.0.to_be_bytes()).as_ref())
    }

    fn mask(&self, tag: &[u8; 16]) -> u64 {
        // Longer than the input of `tag`, so the two uses of the key never meet.
        let mut input = *b"mask................";
        input[4..].copy_from_slice(tag);
        u64::from_be_bytes(first(hmac::sign(&self.0, &input).as_ref()))
    }
}

/// The first bytes of a SHA-256 output, which has 32.
fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[..N]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_leads_back_to_its_message() {
        let seal = Seal::new(&[7; 32]);
        for number in [0, 1, 2, u64::MAX, 1 << 40] {
            assert_eq!(seal.open(&seal.token(MessageId(number))), Some(MessageId(number)));
        }
    }

    #[test]
    fn a_changed_or_foreign_token_is_nobodys() {
        let (seal, other) = (Seal::new(&[7; 32]), Seal::new(&[8; 32]));
        let token = seal.token(MessageId(42));
        assert_eq!(other.open(&token), None);
        for bit in 0..24 * 8 {
            let mut changed = token;
            changed.0[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(seal.open(&changed), None, "bit {bit}");
        }
    }

    #[test]
    fn the_form_is_frozen() {
        // URLs of messages outlive a release.
        let token = Seal::new(&[7; 32]).token(MessageId(42));
        assert_eq!(token.to_string(), "DklEKMpQobgiFcCvp5wtZBG8Dyg92Wil");
    }
}
