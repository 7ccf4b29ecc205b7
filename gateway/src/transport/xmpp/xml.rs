//! XML as XMPP has it: elements, and the stream of them (RFC 6120 §4 and §11).

use std::fmt::{self, Write as _};

use rxml::{Event, Namespace, Options, Parse as _, Parser, WithOptions as _, error::EndOrError};

use super::config::{DEPTH_MAX, STANZA_MAX, TOKEN_MAX};

/// Namespaces.
pub(super) mod ns {
    pub(in crate::transport::xmpp) const COMMANDS: &str = "http://jabber.org/protocol/commands";
    pub(in crate::transport::xmpp) const COMPONENT: &str = "jabber:component:accept";
    pub(in crate::transport::xmpp) const DATA: &str = "jabber:x:data";
    pub(in crate::transport::xmpp) const DISCO_INFO: &str = "http://jabber.org/protocol/disco#info";
    pub(in crate::transport::xmpp) const DISCO_ITEMS: &str = "http://jabber.org/protocol/disco#items";
    pub(in crate::transport::xmpp) const PING: &str = "urn:xmpp:ping";
    pub(in crate::transport::xmpp) const PUBSUB: &str = "http://jabber.org/protocol/pubsub";
    pub(in crate::transport::xmpp) const PUSH: &str = "urn:xmpp:push:0";
    pub(in crate::transport::xmpp) const STANZAS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";
    pub(in crate::transport::xmpp) const STREAM_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-streams";
    pub(in crate::transport::xmpp) const STREAMS: &str = "http://etherx.jabber.org/streams";
    pub(in crate::transport::xmpp) const UNIFIED_PUSH: &str = "http://gultsch.de/xmpp/drafts/unified-push";
}

/// An element with what is in it. Text between children is joined: no protocol here mixes them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Element {
    attributes: Vec<(String, String)>,
    children: Vec<Element>,
    name: String,
    ns: String,
    text: String,
}

impl Element {
    pub(super) fn new(name: &str, ns: &str) -> Self {
        Self { name: name.to_owned(), ns: ns.to_owned(), ..Self::default() }
    }

    /// With an attribute more.
    pub(super) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.attributes.push((name.to_owned(), value.into()));
        self
    }

    /// With a child more.
    pub(super) fn holding(mut self, child: Self) -> Self {
        self.children.push(child);
        self
    }

    /// With text in it.
    pub(super) fn saying(mut self, text: impl Into<String>) -> Self {
        self.text = text.into();
        self
    }

    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The first child of this name.
    pub(super) fn child(&self, name: &str, ns: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.is(name, ns))
    }

    pub(super) fn children(&self) -> impl Iterator<Item = &Self> {
        self.children.iter()
    }

    pub(super) fn is(&self, name: &str, ns: &str) -> bool {
        self.name == name && self.ns == ns
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn ns(&self) -> &str {
        &self.ns
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, around: &str) -> fmt::Result {
        write!(f, "<{}", self.name)?;
        if self.ns != around {
            write!(f, " xmlns='{}'", Escaped(&self.ns))?;
        }
        for (name, value) in &self.attributes {
            write!(f, " {name}='{}'", Escaped(value))?;
        }
        if self.children.is_empty() && self.text.is_empty() {
            return f.write_str("/>");
        }
        write!(f, ">{}", Escaped(&self.text))?;
        self.children.iter().try_for_each(|child| child.write(f, &self.ns))?;
        write!(f, "</{}>", self.name)
    }
}

/// As it stands in the stream of a component.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, ns::COMPONENT)
    }
}

/// Text as it stands in XML; characters that XML 1.0 has no way to write are left out.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '\'' => f.write_str("&apos;")?,
                '"' => f.write_str("&quot;")?,
                // In an attribute these would come back as spaces (XML 1.0 §3.3.3).
                '\t' | '\n' | '\r' => write!(f, "&#{};", u32::from(character))?,
                '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => {}
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// What the other side has said.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Heard {
    /// Its stream has ended.
    Closed,
    /// Its stream begins; with its id, if it has one.
    Opened(Option<String>),
    /// A stanza that is larger or deeper than it may be: its head alone, or nothing but its name.
    Oversized(Element),
    /// A stanza, or something else on their level.
    Stanza(Element),
}

/// Reads one stream. Nothing that a server lets its users send makes it fail: what is too much is left out.
#[derive(Debug)]
pub(super) struct Reader {
    /// Elements that are open, the stream's own included.
    depth: usize,
    /// Whether the stanza that is being read is too much.
    oversized: bool,
    /// Those of the stanza that is being read.
    open: Vec<Element>,
    parser: Parser,
    /// Bytes of the stanza that is being read, so far.
    size: usize,
}

impl Default for Reader {
    fn default() -> Self {
        let options = Options { max_token_length: TOKEN_MAX, ..Options::default() };
        Self { depth: 0, oversized: false, open: Vec::new(), parser: Parser::with_options(options), size: 0 }
    }
}

impl Reader {
    /// Takes from `bytes` until something is complete; `None`: all of it was taken.
    ///
    /// # Errors
    /// It is not XML, or not XML as XMPP has it (RFC 6120 §11.1): the stream cannot go on.
    pub(super) fn read(&mut self, bytes: &mut &[u8]) -> Result<Option<Heard>, rxml::Error> {
        loop {
            let event = match self.parser.parse(bytes, false) {
                Ok(Some(event)) => event,
                Ok(None) => return Ok(Some(Heard::Closed)),
                Err(EndOrError::NeedMoreData) => return Ok(None),
                Err(EndOrError::Error(error)) => return Err(error),
            };
            if let Some(heard) = self.take(event) {
                return Ok(Some(heard));
            }
        }
    }

    fn take(&mut self, event: Event) -> Option<Heard> {
        // What stands between stanzas is nobody's.
        self.size = if self.depth < 2 { event.metrics().len() } else { self.size + event.metrics().len() };
        match event {
            Event::XmlDeclaration(..) => None,
            Event::StartElement(_, (ns, name), attributes) => {
                self.depth += 1;
                if self.depth == 1 {
                    return Some(Heard::Opened(attributes.get(&Namespace::NONE, "id").cloned()));
                }
                if self.is_too_much() {
                    // Its name is enough to be counted by; a head that is too long is not answered.
                    if self.open.is_empty() {
                        self.open.push(Element::new(&name, ns.as_str()));
                    }
                    return None;
                }
                let mut element = Element::new(&name, ns.as_str());
                let plain = attributes.into_iter().filter(|((ns, _), _)| ns.is_none());
                element.attributes = plain.map(|((_, name), value)| (name.to_string(), value)).collect();
                self.open.push(element);
                None
            }
            Event::Text(_, text) => {
                if !self.is_too_much() {
                    if let Some(element) = self.open.last_mut() {
                        element.text.push_str(&text);
                    }
                }
                None
            }
            Event::EndElement(_) => self.end(),
        }
    }

    fn is_too_much(&mut self) -> bool {
        self.oversized |= self.size > STANZA_MAX || self.depth > DEPTH_MAX;
        self.oversized
    }

    fn end(&mut self) -> Option<Heard> {
        self.depth -= 1;
        match self.depth {
            0 => Some(Heard::Closed),
            1 => {
                let mut stanza = std::mem::take(&mut self.open).into_iter().next()?;
                if !std::mem::take(&mut self.oversized) {
                    return Some(Heard::Stanza(stanza));
                }
                stanza.children.clear();
                stanza.text.clear();
                Some(Heard::Oversized(stanza))
            }
            _ if self.oversized => None,
            _ => {
                let element = self.open.pop()?;
                self.open.last_mut()?.children.push(element);
                None
            }
        }
    }
}
