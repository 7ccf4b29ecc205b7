//! An XMPP server as its components see it (XEP-0114), and the phones behind it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::wait::within;

/// The id of each stream, the component's secret, and the SHA-1 of both.
const ID: &str = "3BF96D32";
const SECRET: &str = "s3cret-component";
const HASH: &str = "7f5575962b4fbfc450931763864441de7badf267";

/// A server with the accounts of home.test, whose push component is push.home.test.
#[derive(Debug)]
pub struct XmppServer {
    listener: TcpListener,
    secret: tempfile::NamedTempFile,
}

impl XmppServer {
    /// One on a free port of the loopback.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port on loopback");
        let secret = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(secret.path(), format!("{SECRET}\n")).expect("the secret is written");
        Self { listener, secret }
    }

    /// The gateway's table for it.
    #[must_use]
    pub fn config(&self) -> String {
        let server = self.listener.local_addr().expect("it is bound");
        format!(
            "[transport.xmpp]\nserver = '{server}'\ncomponent = 'push.home.test'\nsecret_file = '{}'\nallowed_domains = ['home.test']\n",
            self.secret.path().display()
        )
    }

    /// The component's secret, which nothing may show.
    #[must_use]
    pub fn secret(&self) -> &'static str {
        SECRET
    }

    /// The component's next connection, once it has shown that it knows the secret.
    pub async fn accept(&self) -> Component {
        let (stream, _) =
            within("the component connects", self.listener.accept()).await.expect("it is bound");
        let mut component = Component { seen: String::new(), stream };
        let opening = component.read_until(" to='push.home.test'>").await.expect("the stream begins");
        assert!(opening.starts_with("<?xml version='1.0'?><stream:stream "), "{opening}");
        component
            .say(&format!(
                "<?xml version='1.0'?><stream:stream xmlns:stream='http://etherx.jabber.org/streams' xmlns='jabber:component:accept' from='push.home.test' id='{ID}'>"
            ))
            .await;
        let shown = component.hear().await.expect("a handshake");
        assert_eq!(shown, format!("<handshake>{HASH}</handshake>"));
        component.say("<handshake/>").await;
        component
    }
}

/// The server's end of a component's connection.
#[derive(Debug)]
pub struct Component {
    seen: String,
    stream: TcpStream,
}

impl Component {
    /// Sends these bytes.
    pub async fn say(&mut self, text: &str) {
        within("the component reads", self.stream.write_all(text.as_bytes())).await.expect("it is there");
    }

    async fn read_until(&mut self, end: &str) -> Option<String> {
        loop {
            if let Some(at) = self.seen.find(end) {
                let rest = self.seen.split_off(at + end.len());
                return Some(std::mem::replace(&mut self.seen, rest));
            }
            let mut chunk = [0; 4096];
            let read = within("the component says something", self.stream.read(&mut chunk)).await;
            let length = read.ok().filter(|length| *length > 0)?;
            self.seen.push_str(std::str::from_utf8(&chunk[..length]).expect("it writes UTF-8"));
        }
    }

    /// The next stanza, as it was written; `None` when the stream has ended.
    pub async fn hear(&mut self) -> Option<String> {
        let head = self.read_until(">").await?.trim_start().to_owned();
        if head.starts_with("</") {
            return None;
        }
        if head.ends_with("/>") {
            return Some(head);
        }
        let name = head.trim_start_matches('<').split([' ', '>']).next().unwrap_or_default().to_owned();
        Some(head + &self.read_until(&format!("</{name}>")).await?)
    }

    /// Waits for the end of the stream.
    pub async fn expect_end(&mut self) {
        while self.hear().await.is_some() {}
    }

    /// What a request is answered by.
    pub async fn ask(&mut self, stanza: &str) -> String {
        self.say(stanza).await;
        self.hear().await.expect("an answer")
    }

    /// Registers an app as Conversations does; gives its endpoint.
    pub async fn register(&mut self, client: &str, app: &str) -> String {
        // Any 32 bytes will do: what they are the hash of is nobody's business.
        let mut bytes = [0; 32];
        bytes[..app.len()].copy_from_slice(app.as_bytes());
        let hash = STANDARD.encode(bytes);
        let answer = self
            .ask(&format!(
                "<iq type='set' id='r1' from='{client}' to='push.home.test'><register xmlns='http://gultsch.de/xmpp/drafts/unified-push' application='{hash}' instance='{hash}'/></iq>"
            ))
            .await;
        assert!(answer.contains("<registered "), "{answer}");
        attribute(&answer, "endpoint")
    }

    /// The next push: the request, whom it is for, and its body.
    pub async fn expect_push(&mut self) -> (String, String, Vec<u8>) {
        let push = self.hear().await.expect("a push");
        let (_, rest) = push.split_once("<push ").unwrap_or_else(|| panic!("not a push: {push}"));
        let text = rest.split_once('>').expect("an element").1;
        let text = text.split_once("</push>").map_or("", |(text, _)| text);
        let body = STANDARD.decode(text).expect("base64");
        let client = attribute(&push, "to");
        (push, client, body)
    }

    /// The client's answer to a push.
    pub async fn answer(&mut self, push: &str, kind: &str, payload: &str) {
        let (id, client) = (attribute(push, "id"), attribute(push, "to"));
        self.say(&format!("<iq type='{kind}' id='{id}' from='{client}' to='push.home.test'>{payload}</iq>"))
            .await;
    }

    /// Returns when everything that was said before has been looked at.
    pub async fn fence(&mut self) {
        let ping =
            "<iq type='get' id='f' from='home.test' to='push.home.test'><ping xmlns='urn:xmpp:ping'/></iq>";
        let answer = self.ask(ping).await;
        assert!(answer.starts_with("<iq type='result' id='f' "), "{answer}");
    }
}

fn attribute(stanza: &str, name: &str) -> String {
    let found = stanza.split_once(&format!(" {name}='")).and_then(|(_, rest)| rest.split_once('\''));
    found.unwrap_or_else(|| panic!("no {name} in {stanza}")).0.to_owned()
}
