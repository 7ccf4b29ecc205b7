//! Clients of ntfy's streams that read as the Android app does.

use std::{net::SocketAddr, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Bytes, Message},
};

use crate::{Gateway, within};

/// How long the app reads nothing before it takes the connection for dead.
const READ_TIMEOUT: Duration = Duration::from_secs(77);

/// An answer that goes on.
#[derive(Debug)]
pub struct Stream {
    /// The head, as it came.
    pub head: String,
    lines: Vec<u8>,
    reader: BufReader<TcpStream>,
}

impl Stream {
    /// Opens a stream on a gateway's public listener.
    pub async fn open(gateway: &Gateway, path: &str, headers: &[(&str, &str)]) -> Self {
        Self::open_at(gateway.public, path, headers).await
    }

    /// Opens a stream at any server.
    pub async fn open_at(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Self {
        let mut socket = within("a connection", TcpStream::connect(address)).await.expect("listening");
        let mut request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept-Encoding: gzip\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        socket.write_all(request.as_bytes()).await.expect("it reads");
        let mut reader = BufReader::new(socket);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let read = within("the head", reader.read_line(&mut head)).await.expect("text");
            assert!(read > 0, "it ended within its head: {head}");
        }
        Self { head, lines: Vec::new(), reader }
    }

    /// The status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.head.get(9..12).and_then(|code| code.parse().ok()).expect("a status line")
    }

    /// The next line without its end; `None` when the stream has ended.
    pub async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.lines.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.lines.drain(..=end).collect();
                return Some(String::from_utf8(line).expect("text").trim_end_matches('\n').to_owned());
            }
            let chunk = tokio::time::timeout(READ_TIMEOUT, self.chunk()).await;
            self.lines.extend(chunk.expect("the app hangs up after 77 s without a byte")?);
        }
    }

    async fn chunk(&mut self) -> Option<Vec<u8>> {
        let mut size = String::new();
        if self.reader.read_line(&mut size).await.ok()? == 0 {
            return None;
        }
        let size = usize::from_str_radix(size.trim(), 16).expect("a chunk's size");
        let mut chunk = vec![0; size + 2];
        self.reader.read_exact(&mut chunk).await.ok()?;
        chunk.truncate(size);
        (size > 0).then_some(chunk)
    }

    /// The next event of `/json`, past keepalives, read as strictly as the app does.
    pub async fn event(&mut self) -> Option<Value> {
        loop {
            let line = within("a line", self.line()).await?;
            assert!(!line.trim().is_empty(), "the app takes a blank line for a broken connection");
            let event = read(&line);
            match event["event"].as_str().expect("an event") {
                "keepalive" => {}
                _ => return Some(event),
            }
        }
    }

    /// The next message; panics when something else comes.
    pub async fn message(&mut self) -> Value {
        let event = self.event().await.expect("a message, not the end");
        assert_eq!(event["event"], "message", "{event}");
        event
    }

    /// Reads `open`.
    pub async fn opened(mut self) -> Self {
        let open = self.event().await.expect("open, not the end");
        assert_eq!(open["event"], "open", "{open}");
        self
    }
}

/// The app's other way: a WebSocket, in the hands of OkHttp.
#[derive(Debug)]
pub struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    /// Connects, and reads `open`.
    pub async fn open(gateway: &Gateway, path: &str) -> Self {
        let stream = TcpStream::connect(gateway.public).await.expect("the gateway listens");
        let url = format!("ws://{}{path}", gateway.public);
        let (socket, _) = within("the handshake", client_async(url, stream)).await.expect("a WebSocket");
        let mut socket = Self(socket);
        let open = socket.event().await;
        assert_eq!(open["event"], "open", "{open}");
        socket
    }

    /// The next message; panics when something else comes.
    pub async fn message(&mut self) -> Value {
        let event = self.event().await;
        assert_eq!(event["event"], "message", "{event}");
        event
    }

    /// Pings by a frame; the pong is read with what comes next.
    pub async fn ping(&mut self) {
        within("the gateway reads", self.0.send(Message::Ping(Bytes::new()))).await.expect("connected");
    }

    async fn event(&mut self) -> Value {
        loop {
            match within("a frame", self.0.next()).await {
                Some(Ok(Message::Text(line))) => return read(&line),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("the app does not bear {other:?}"),
            }
        }
    }
}

/// Reads one event as strictly as the app does.
fn read(line: &str) -> Value {
    let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let id = event["id"].as_str().expect("an id");
    assert!(id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{line}");
    assert!(event["time"].is_u64() && event["topic"].is_string(), "{line}");
    event
}
