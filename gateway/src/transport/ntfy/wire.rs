//! Messages as ntfy writes them, and their ids.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::hmac;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::path::Form;
use crate::{
    model::{Coding, MessageId, PushMessage, UnixTime},
    transport::Item,
};

/// The coding of a stored message that has more than a body: its body is a [`Content`] in JSON. Only
/// ntfy's dialect writes it, and only this room reads it.
const CONTENT: &str = "ntfy";
/// 62 digits.
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Characters of an id.
const LENGTH: usize = 12;
/// Each half of the permuted number: 62^12 is a little more than 2^71.
const HALF: u32 = 35;
const MASK: u64 = (1 << HALF) - 1;
/// What numbers stay below; the bits above are 0 in every id that was made here.
const NUMBERS: u128 = 1 << 60;

/// What a message says besides its body.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Content {
    /// Buttons.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actions: Option<Value>,
    /// What a click opens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub click: Option<String>,
    /// `text/markdown`, if it is that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// `base64`, if the message is that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<String>,
    /// An image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icon: Option<String>,
    /// The text.
    #[serde(default)]
    pub message: String,
    /// 1 to 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// Words and emoji names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// The headline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
}

impl Content {
    /// The body of a push for an app, byte for byte.
    #[must_use]
    pub fn of_push(body: &[u8]) -> Self {
        Self { encoding: Some("base64".into()), message: STANDARD.encode(body), ..Self::default() }
    }

    /// A text, which becomes base64 only where it is none.
    #[must_use]
    pub fn of_text(body: &[u8]) -> Self {
        match std::str::from_utf8(body) {
            Ok(text) => Self { message: text.to_owned(), ..Self::default() },
            Err(_) => Self::of_push(body),
        }
    }

    /// As it is stored.
    #[must_use]
    pub fn stored(&self) -> (Vec<u8>, Coding) {
        let body = serde_json::to_vec(self).unwrap_or_default();
        (body, Coding { content_encoding: Some(CONTENT.into()), ..Coding::default() })
    }

    fn read(message: &PushMessage) -> Self {
        if message.coding.content_encoding.as_deref() == Some(CONTENT) {
            if let Ok(content) = serde_json::from_slice(&message.body) {
                return content;
            }
        }
        Self::of_push(&message.body)
    }
}

/// One line of a stream.
#[derive(Debug, Serialize)]
struct Line<'a> {
    id: &'a str,
    time: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<u64>,
    event: &'a str,
    topic: &'a str,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    content: Option<&'a Content>,
}

/// A message in ntfy's JSON, without an end of line.
#[must_use]
pub fn message(id: &str, topic: &str, accepted: UnixTime, ttl_s: u32, content: &Content) -> String {
    let time = accepted.0 / 1000;
    let expires = (ttl_s > 0).then(|| time + u64::from(ttl_s));
    text(&Line { id, time, expires, event: "message", topic, content: Some(content) })
}

fn text(line: &Line<'_>) -> String {
    // Strings, numbers and JSON cannot fail to become JSON.
    serde_json::to_string(line).unwrap_or_default()
}

/// A message as a subscriber gets it.
pub(super) fn line(form: Form, ids: &Ids, topic: &str, item: &Item) -> String {
    let content = Content::read(&item.message);
    if form == Form::Raw {
        return format!("{}\n", content.message.replace(['\r', '\n'], " "));
    }
    let id = ids.text(item.message.id);
    let json = message(&id, topic, item.message.accepted, item.message.ttl.as_secs(), &content);
    match form {
        Form::Json => json + "\n",
        Form::Raw | Form::WebSocket => json,
        Form::Sse => format!("data: {json}\n\n"),
    }
}

/// `open` or `keepalive`.
pub(super) fn event(form: Form, event: &str, id: &str, topics: &str, now: UnixTime) -> String {
    let json = text(&Line { id, time: now.0 / 1000, expires: None, event, topic: topics, content: None });
    match form {
        Form::Json => json + "\n",
        Form::Raw => "\n".to_owned(),
        Form::Sse => format!("event: {event}\ndata: {json}\n\n"),
        Form::WebSocket => json,
    }
}

/// Message numbers as ids that tell nothing and are read back: a keyed permutation (Feistel, HMAC as its
/// function), written with 62 digits.
pub(super) struct Ids(hmac::Key);

impl Ids {
    pub(super) fn new(key: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// The id of a message.
    pub(super) fn text(&self, id: MessageId) -> String {
        let (mut left, mut right) = (id.0 >> HALF, id.0 & MASK);
        for round in 0..4 {
            (left, right) = (right, left ^ self.scramble(round, right));
        }
        digits((u128::from(left) << HALF) | u128::from(right))
    }

    /// The message of an id; `None` for one that was not made here, as far as can be told.
    pub(super) fn read(&self, text: &str) -> Option<MessageId> {
        if !is_id(text) {
            return None;
        }
        let digit =
            |byte| DIGITS.iter().position(|known| *known == byte).and_then(|at| u128::try_from(at).ok());
        let number = text.bytes().try_fold(0_u128, |number, byte| Some(number * 62 + digit(byte)?))?;
        let mut left = u64::try_from(number >> HALF).ok().filter(|left| *left <= MASK)?;
        let mut right = u64::try_from(number & u128::from(MASK)).ok()?;
        for round in (0..4).rev() {
            (left, right) = (right ^ self.scramble(round, left), left);
        }
        let number = (u128::from(left) << HALF) | u128::from(right);
        u64::try_from(number).ok().filter(|_| number < NUMBERS).map(MessageId)
    }

    fn scramble(&self, round: u8, half: u64) -> u64 {
        let mut input = [round; 9];
        input[1..].copy_from_slice(&half.to_be_bytes());
        let mut out = [0; 8];
        out.copy_from_slice(&hmac::sign(&self.0, &input).as_ref()[..8]);
        u64::from_be_bytes(out) & MASK
    }
}

/// Whether a text has the form of an id.
pub(super) fn is_id(text: &str) -> bool {
    text.len() == LENGTH && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// An id of nothing, for lines that are no messages.
pub(super) fn idle_id() -> String {
    let mut bytes = [0; 16];
    // Without randomness it is an id all the same: nobody keeps it.
    let _ = getrandom::fill(&mut bytes);
    digits(u128::from_be_bytes(bytes))
}

fn digits(mut number: u128) -> String {
    let mut text = [b'0'; LENGTH];
    for slot in text.iter_mut().rev() {
        *slot = DIGITS[usize::try_from(number % 62).unwrap_or_default()];
        number /= 62;
    }
    text.iter().copied().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_back_and_tell_nothing() {
        let (ids, others) = (Ids::new(b"one"), Ids::new(b"other"));
        let mut seen = std::collections::HashSet::new();
        for number in (0..2000).chain([1 << 34, 1 << 35, 1 << 57, (1 << 60) - 1]) {
            let text = ids.text(MessageId(number));
            assert!(is_id(&text), "{text}");
            assert_eq!(ids.read(&text), Some(MessageId(number)));
            assert!(seen.insert(text));
        }
        let strangers =
            (0..20_000).filter(|number| ids.read(&others.text(MessageId(*number))).is_some()).count();
        assert!(strangers < 100, "{strangers} of 20,000 ids of another gateway were taken for ours");
        for wrong in ["", "short", "0000000000000", "zzzzzzzzzzzz", "ABCDEFGHIJK-"] {
            assert_eq!(ids.read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn payloads_are_byte_exact() {
        for body in [&b""[..], b"\0a\0", b"triggered ", "é\n".as_bytes(), &[0xff, 0xfe, 0]] {
            let content = Content::of_push(body);
            assert_eq!(STANDARD.decode(&content.message).expect("base64"), body);
            assert_eq!(content.encoding.as_deref(), Some("base64"));
        }
        let text = Content::of_text(" a\0b\n".as_bytes());
        assert_eq!(
            (text.message.as_str(), text.encoding),
            (" a\0b\n", None),
            "verbatim, with its spaces and NUL"
        );
        assert_eq!(Content::of_text(&[0xff]).encoding.as_deref(), Some("base64"));
    }

    #[test]
    fn no_form_has_blank_lines_in_json() {
        let line = event(Form::Json, "open", "abcdefghijkl", "a,b", UnixTime(5_000));
        assert_eq!(line, "{\"id\":\"abcdefghijkl\",\"time\":5,\"event\":\"open\",\"topic\":\"a,b\"}\n");
        let sse = event(Form::Sse, "keepalive", "abcdefghijkl", "a", UnixTime(0));
        assert!(sse.starts_with("event: keepalive\ndata: {") && sse.ends_with("}\n\n"), "{sse}");
        let json = message("abcdefghijkl", "a", UnixTime(1_000), 60, &Content::of_text(b"x\ny"));
        assert!(!json.contains('\n'), "{json}");
        assert!(json.contains("\"time\":1,\"expires\":61,\"event\":\"message\""), "{json}");
    }
}
