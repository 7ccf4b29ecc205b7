//! What `listen` writes: endpoint and pushes to standard output, everything else to standard error.

use std::{
    fmt,
    fmt::Write as _,
    io::{self, Write},
};

use serde::Serialize;

use super::{
    keys::PublicKeys,
    push::{Content, Push},
};

/// A push subscription as the Push API's `toJSON()` gives it: pywebpush and others take it as it is.
#[derive(Serialize)]
struct Subscription<'a> {
    endpoint: &'a str,
    keys: &'a PublicKeys,
}

/// A line of `--json`.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Line<'a> {
    Endpoint(Subscription<'a>),
    Push(&'a Push),
}

/// The two outputs.
pub(super) struct Show<'a> {
    json: bool,
    notes: &'a mut dyn Write,
    out: &'a mut dyn Write,
}

impl<'a> Show<'a> {
    pub(super) fn new(json: bool, out: &'a mut dyn Write, notes: &'a mut dyn Write) -> Self {
        Self { json, notes, out }
    }

    /// Where to push to, and with which keys.
    pub(super) fn endpoint(&mut self, endpoint: &str, keys: &PublicKeys) -> io::Result<()> {
        let subscription = Subscription { endpoint, keys };
        if self.json {
            return self.line(&serde_json::to_string(&Line::Endpoint(subscription))?);
        }
        self.line(&format!("endpoint {endpoint}"))?;
        self.line(&serde_json::to_string(&subscription)?)
    }

    /// One push, on one line. When this returns, it has been handed over.
    pub(super) fn push(&mut self, push: &Push) -> io::Result<()> {
        if self.json {
            return self.line(&serde_json::to_string(&Line::Push(push))?);
        }
        let mut facts = push.content_encoding.iter().map(|coding| printable(coding)).collect::<Vec<_>>();
        facts.push(format!("{} bytes", push.bytes));
        facts.extend(push.delay_ms.map(|delay| format!("{delay} ms")));
        facts.extend(push.remark.map(str::to_owned));
        let content = match &push.content {
            Content::Hex(hex) => format!("0x{hex}"),
            Content::Text(text) => printable(text),
        };
        self.line(&format!("push [{}] {content}", facts.join(", ")))
    }

    /// Something about the connection. Losing it is no reason to stop.
    pub(super) fn note(&mut self, what: &str) {
        let _ = writeln!(self.notes, "unifiedpush-gateway: {what}");
    }

    fn line(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.out, "{line}")?;
        self.out.flush()
    }
}

impl fmt::Debug for Show<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Show").field("json", &self.json).finish_non_exhaustive()
    }
}

/// One line, and nothing that a terminal would take for an order: a push is a stranger's text.
fn printable(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for char in text.chars() {
        // Controls, line separators, and the marks that turn the direction of writing.
        if char.is_control() || matches!(char, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            // Writing to a String cannot fail.
            let _ = write!(line, "{}", char.escape_default());
        } else {
            line.push(char);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::UnixTime;

    fn shown(json: bool, body: &[u8]) -> String {
        let keys = crate::cli::listen::keys::Keys::generate().unwrap();
        let user = [("accepted-at".to_owned(), "1000".to_owned())];
        let properties = crate::cli::listen::push::Properties::read(&user);
        let push = Push::read("chan", body, properties, &keys, UnixTime(1035));
        let (mut out, mut notes) = (Vec::new(), Vec::new());
        Show::new(json, &mut out, &mut notes).push(&push).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_push_is_one_line_that_orders_the_terminal_nothing() {
        assert_eq!(shown(false, "péage".as_bytes()), "push [6 bytes, 35 ms, not encrypted] péage\n");
        let line = shown(false, "a\nb\u{202e}c".as_bytes());
        assert!(line.ends_with("] a\\nb\\u{202e}c\n"), "{line}");
        // An escape sequence is no readable text to begin with.
        assert!(shown(false, b"\x1b[2J").ends_with("] 0x1b5b324a\n"));
    }

    #[test]
    fn json_is_one_object_a_line() {
        let value: serde_json::Value = serde_json::from_str(&shown(true, b"a\nb")).unwrap();
        assert_eq!(value["event"], "push");
        assert_eq!((&value["text"], &value["delay_ms"]), (&"a\nb".into(), &35.into()));
        assert_eq!((&value["channel"], &value["decrypted"]), (&"chan".into(), &false.into()));
        assert!(value.get("message_id").is_none(), "{value}");
    }
}
