//! What arrived, and what can be said about it.

use serde::Serialize;

use super::{decrypt::decrypt, keys::Keys, legacy::Headers};
use crate::model::UnixTime;

/// A push message that has arrived.
#[derive(Debug, Eq, PartialEq, Serialize)]
pub(super) struct Push {
    /// Bytes on the wire.
    pub(super) bytes: usize,
    /// Which registration of the device it is for.
    pub(super) channel: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content_encoding: Option<String>,
    /// From its acceptance by the gateway until now, if the gateway said when that was and the
    /// clocks of both agree that it lies in the past.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) delay_ms: Option<u64>,
    pub(super) decrypted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) message_id: Option<String>,
    #[serde(flatten)]
    pub(super) content: Content,
    /// What is unusual about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remark: Option<&'static str>,
}

/// What it says.
#[derive(Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Content {
    Hex(String),
    Text(String),
}

/// The MQTT user properties of a push that matter here.
#[derive(Clone, Debug, Default)]
pub(super) struct Properties {
    accepted: Option<UnixTime>,
    content_encoding: Option<String>,
    crypto_key: Option<String>,
    encryption: Option<String>,
    pub(super) message_id: Option<String>,
}

impl Properties {
    /// Picks them out; others are for others.
    pub(super) fn read(user: &[(String, String)]) -> Self {
        let value = |name: &str| user.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        Self {
            accepted: value("accepted-at").and_then(|ms| ms.parse().ok()).map(UnixTime),
            content_encoding: value("content-encoding"),
            crypto_key: value("crypto-key"),
            encryption: value("encryption"),
            message_id: value("message-id"),
        }
    }
}

impl Push {
    /// Decrypts `body` if it can be, and says what is unusual about it if something is.
    pub(super) fn read(
        channel: &str,
        body: &[u8],
        properties: Properties,
        keys: &Keys,
        now: UnixTime,
    ) -> Self {
        let Properties { accepted, content_encoding, crypto_key, encryption, message_id } = properties;
        let coding = content_encoding.as_deref().map(str::to_ascii_lowercase);
        let legacy = match coding.as_deref() {
            Some("aesgcm") => {
                let (crypto_key, encryption) = (crypto_key.as_deref(), encryption.as_deref());
                let (crypto_key, encryption) =
                    (crypto_key.unwrap_or_default(), encryption.unwrap_or_default());
                Some((Headers { crypto_key, encryption }, body))
            }
            Some(_) => None,
            None => Headers::off(body),
        };
        let decrypted = match legacy {
            Some((headers, record)) => headers.decrypt(keys, record),
            None => decrypt(keys, body),
        };
        let is_marked = legacy.is_some() || coding.as_deref() == Some("aes128gcm");
        let (content, remark) = match &decrypted {
            Some(text) if is_marked => (Content::of(text), None),
            Some(text) => (Content::of(text), Some("encrypted with aes128gcm, but not marked so")),
            // Matrix gateways and mollysocket send plain text under this name.
            None if is_marked && legacy.is_none() && str_of(body).is_some() => {
                (Content::of(body), Some("marked aes128gcm, but not encrypted"))
            }
            None if is_marked => (Content::of(body), Some("not encrypted with the keys of this listener")),
            None => (Content::of(body), Some("not encrypted")),
        };
        Self {
            bytes: body.len(),
            channel: channel.to_owned(),
            content_encoding,
            delay_ms: accepted.and_then(|accepted| now.0.checked_sub(accepted.0)),
            decrypted: decrypted.is_some(),
            message_id,
            content,
            remark,
        }
    }
}

impl Content {
    fn of(bytes: &[u8]) -> Self {
        match str_of(bytes) {
            Some(text) => Self::Text(text.to_owned()),
            None => Self::Hex(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
        }
    }
}

/// Bytes that people can read: UTF-8 without controls other than white space.
fn str_of(bytes: &[u8]) -> Option<&str> {
    let readable = |text: &&str| text.chars().all(|char| !char.is_control() || char.is_whitespace());
    std::str::from_utf8(bytes).ok().filter(readable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &[u8], user: &[(&str, &str)], keys: &Keys) -> Push {
        let user: Vec<_> = user.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        Push::read("c", body, Properties::read(&user), keys, UnixTime(5_000))
    }

    fn text(text: &str) -> Content {
        Content::Text(text.to_owned())
    }

    #[test]
    fn an_encrypted_message_is_shown_decrypted() {
        let keys = Keys::generate().unwrap();
        let encrypt = |keys: &Keys, text: &[u8]| {
            web_push_native::encrypt(text.to_vec(), &keys.secret.public_key(), &keys.auth.into()).unwrap()
        };
        let body = encrypt(&keys, b"hello");
        let push = read(&body, &[("content-encoding", "AES128GCM"), ("message-id", "m")], &keys);
        assert_eq!((&push.content, push.remark, push.decrypted), (&text("hello"), None, true));
        assert_eq!((push.bytes, push.message_id.as_deref()), (body.len(), Some("m")));

        let unmarked = read(&body, &[], &keys);
        assert!(unmarked.decrypted && unmarked.remark.unwrap().contains("not marked"));

        let foreign = encrypt(&Keys::generate().unwrap(), b"hello");
        let foreign = read(&foreign, &[("content-encoding", "aes128gcm")], &keys);
        assert!(matches!(foreign.content, Content::Hex(_)) && !foreign.decrypted);
        assert!(foreign.remark.unwrap().contains("keys of this listener"));
    }

    #[test]
    fn what_cannot_be_decrypted_is_shown_with_a_remark() {
        let keys = Keys::generate().unwrap();
        let fake = read(br#"{"unread":1}"#, &[("content-encoding", "aes128gcm")], &keys);
        assert_eq!(fake.content, text(r#"{"unread":1}"#));
        assert_eq!(fake.remark, Some("marked aes128gcm, but not encrypted"));
        let plain = read("péage".as_bytes(), &[], &keys);
        assert_eq!((plain.content, plain.remark), (text("péage"), Some("not encrypted")));
        let legacy = read(&[0xff, 0x00], &[("content-encoding", "aesgcm")], &keys);
        assert_eq!(legacy.content, Content::Hex("ff00".to_owned()));
        assert_eq!(legacy.remark, Some("not encrypted with the keys of this listener"));
    }

    #[test]
    fn the_delay_is_left_out_rather_than_wrong() {
        let keys = Keys::generate().unwrap();
        let delay = |accepted: &str| read(b"x", &[("accepted-at", accepted)], &keys).delay_ms;
        assert_eq!(delay("4965"), Some(35));
        assert_eq!(delay("5001"), None, "the gateway's clock is ahead of ours");
        assert_eq!(delay("soon"), None);
        assert_eq!(read(b"x", &[], &keys).delay_ms, None);
    }
}
