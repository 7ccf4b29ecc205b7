//! The JSON of the protocol, and the texts that name devices and endpoints in it.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    model::{Coding, DeviceId},
    transport::{Invitation, Item},
};

/// Whatever a client may say. Every field is optional and of any type here: what does not fit is
/// treated like what is not known, and never ends a connection.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Said {
    #[serde(rename = "channelID")]
    pub(super) channel: Value,
    pub(super) key: Value,
    #[serde(rename = "messageType")]
    pub(super) kind: Value,
    pub(super) min: Value,
    pub(super) uaid: Value,
    pub(super) updates: Value,
}

impl Said {
    /// Reads a message; `None` when it is not an object in JSON.
    pub(super) fn read(text: &str) -> Option<Self> {
        // The derived form would also take an array.
        text.trim_start().starts_with('{').then(|| serde_json::from_str(text).ok())?
    }

    /// The versions that an `ack` names, each with its code or without.
    pub(super) fn versions(&self) -> impl Iterator<Item = &str> {
        self.updates.as_array().into_iter().flatten().filter_map(|update| update.get("version")?.as_str())
    }
}

/// What a client is told. Every field that Sunup's parser asks for is there, in every case.
#[derive(Debug, Serialize)]
#[serde(tag = "messageType", rename_all = "snake_case")]
pub(super) enum Tell<'a> {
    Hello {
        uaid: &'a str,
        status: u16,
        use_webpush: bool,
        broadcasts: BTreeMap<String, String>,
    },
    Notification {
        #[serde(rename = "channelID")]
        channel: &'a str,
        version: String,
        #[serde(flatten)]
        content: Option<Content<'a>>,
    },
    /// Without an endpoint there is none to put garbage in: Sunup passes on whatever stands there, and
    /// drops an answer without it.
    Register {
        #[serde(rename = "channelID")]
        channel: &'a str,
        status: u16,
        #[serde(rename = "pushEndpoint", skip_serializing_if = "Option::is_none")]
        endpoint: Option<String>,
    },
    Unregister {
        #[serde(rename = "channelID")]
        channel: &'a str,
        status: u16,
    },
    Urgency {
        status: u16,
    },
}

/// What a notification carries; an empty one has neither field.
#[derive(Debug, Serialize)]
pub(super) struct Content<'a> {
    data: String,
    headers: Headers<'a>,
}

#[derive(Debug, Default, Serialize)]
struct Headers<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encryption: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    crypto_key: Option<String>,
}

/// The answer to an application's ping, which is `{}` in both directions.
pub(super) const PONG: &str = "{}";

impl Tell<'_> {
    /// The text of it.
    pub(super) fn text(&self) -> String {
        // Strings, numbers and maps of strings cannot fail to become JSON.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// A push on the wire.
pub(super) fn notification(channel: &str, item: &Item) -> String {
    let message = &item.message;
    let content = (!message.body.is_empty())
        .then(|| Content { data: URL_SAFE_NO_PAD.encode(&message.body), headers: headers(&message.coding) });
    Tell::Notification { channel, version: item.token.to_string(), content }.text()
}

fn headers(coding: &Coding) -> Headers<'_> {
    // As Autopush does: without quotes, and without the padding of base64.
    let bare = |value: &Option<Box<str>>| value.as_deref().map(strip);
    Headers {
        encoding: coding.content_encoding.as_deref(),
        encryption: bare(&coding.encryption),
        crypto_key: bare(&coding.crypto_key),
    }
}

/// `dh="BA=="; keyid=p` becomes `dh=BA;keyid=p`.
fn strip(value: &str) -> String {
    let parameter = |part: &str| match part.split_once('=') {
        Some((name, value)) => {
            format!("{}={}", name.trim(), value.trim().trim_matches('"').trim_end_matches('='))
        }
        None => part.trim().to_owned(),
    };
    let element = |element: &str| element.split(';').map(parameter).collect::<Vec<_>>().join(";");
    value.split(',').map(element).collect::<Vec<_>>().join(",")
}

/// The uaid of a device: its id and 64 bits that only it knows, in hexadecimal.
pub(super) fn uaid(invitation: &Invitation) -> String {
    format!("{:016x}{}", invitation.device.0, invitation.secret)
}

/// Reads a uaid; `None` for anything that was never given out.
pub(super) fn read_uaid(text: &str) -> Option<(DeviceId, &str)> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if text.len() != 32 || !text.bytes().all(is_digit) {
        return None;
    }
    let (id, secret) = text.split_at(16);
    Some((DeviceId(u64::from_str_radix(id, 16).ok()?), secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uaid_is_32_digits_and_read_back() {
        let invitation = Invitation { device: DeviceId(0xab), secret: "0123456789abcdef".into() };
        let text = uaid(&invitation);
        assert_eq!(text, "00000000000000ab0123456789abcdef");
        assert_eq!(read_uaid(&text), Some((DeviceId(0xab), "0123456789abcdef")));
        for other in ["", "x", &text[1..], &text.to_uppercase(), "é0000000000000ab0123456789abcde"] {
            assert_eq!(read_uaid(other), None, "{other}");
        }
    }

    #[test]
    fn header_values_lose_quotes_and_padding() {
        assert_eq!(strip("keyid=\"p256\"; salt=\"AAAA==\""), "keyid=p256;salt=AAAA");
        assert_eq!(strip("dh=BA==, keyid=x"), "dh=BA,keyid=x");
    }

    #[test]
    fn anything_but_an_object_is_not_a_message() {
        for text in ["", "[]", "1", "null", "\"x\"", "{", "{]", "[1,2,3,4,5,6]"] {
            assert!(Said::read(text).is_none(), "{text}");
        }
        assert!(Said::read("{}").is_some_and(|said| said.kind.is_null()));
        assert!(Said::read(" {\"messageType\":7,\"uaid\":[]}").is_some());
    }
}
