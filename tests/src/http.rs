//! An HTTP client that sends what it is told, byte for byte, and trusts no answer.

use std::{fmt, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::wait::patience;

/// A request on a connection of its own.
#[derive(Clone, Debug)]
pub struct Request {
    address: SocketAddr,
    body: Vec<u8>,
    headers: Vec<(String, String)>,
    method: String,
    path: String,
}

impl Request {
    /// A request to any server; `url` may be a path.
    #[must_use]
    pub fn to(address: SocketAddr, method: &str, url: &str) -> Self {
        Self {
            address,
            body: Vec::new(),
            headers: Vec::new(),
            method: method.into(),
            path: path_of(url).into(),
        }
    }

    /// The body; `Content-Length` follows from it.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// A header; may be given twice.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The `TTL` header.
    #[must_use]
    pub fn ttl(self, seconds: u64) -> Self {
        self.header("TTL", &seconds.to_string())
    }

    /// Sends it and checks what every answer must keep to; panics if there is no answer.
    pub async fn send(self) -> Response {
        let what = format!("{} {}", self.method, self.path);
        self.try_send().await.unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    /// Sends it to a server that is not the gateway: what its answers keep to is its own affair.
    pub async fn send_elsewhere(self) -> Response {
        let what = format!("{} {}", self.method, self.path);
        self.exchange().await.unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    /// As [`Self::send`], for when the gateway may be gone.
    ///
    /// # Errors
    /// What the connection came to.
    pub async fn try_send(self) -> Result<Response, String> {
        let method = self.method.clone();
        let response = self.exchange().await?;
        response.check(&method);
        Ok(response)
    }

    async fn exchange(self) -> Result<Response, String> {
        let mut head = format!("{} {} HTTP/1.1\r\nHost: {}\r\n", self.method, self.path, self.address);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !self.body.is_empty() || matches!(self.method.as_str(), "POST" | "PUT") {
            head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        head.push_str("Connection: close\r\n\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&self.body);
        let answer = raw(self.address, &bytes, patience()).await?;
        let mut response = Response::parse(&answer)?;
        response.request = format!("{} {}", self.method, self.path);
        Ok(response)
    }
}

fn path_of(url: &str) -> &str {
    let Some((_, rest)) = url.split_once("://") else { return url };
    rest.find('/').map_or("/", |slash| &rest[slash..])
}

/// Sends bytes on a new connection and reads until the gateway closes it or `limit` is over.
///
/// # Errors
/// What the connection came to, if nothing at all was read.
pub async fn raw(address: SocketAddr, bytes: &[u8], limit: Duration) -> Result<Vec<u8>, String> {
    let mut answer = Vec::new();
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        // An early refusal closes the connection while the body is still being written: read it.
        let _ = stream.write_all(bytes).await;
        let mut chunk = [0; 4096];
        loop {
            match stream.read(&mut chunk).await? {
                0 => return Ok(()),
                read => answer.extend_from_slice(&chunk[..read]),
            }
        }
    };
    let outcome: Result<Result<(), std::io::Error>, _> = tokio::time::timeout(limit, exchange).await;
    match outcome {
        Ok(Ok(())) => Ok(answer),
        Ok(Err(_)) if !answer.is_empty() => Ok(answer),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("not closed within {limit:?}, having answered {} bytes", answer.len())),
    }
}

/// An answer.
#[derive(Clone)]
pub struct Response {
    /// The body.
    pub body: Vec<u8>,
    headers: Vec<(String, String)>,
    request: String,
    /// The status code.
    pub status: u16,
}

impl Response {
    /// Reads one answer with a `Content-Length`, or none at all, that is followed by nothing.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let complaint = |what: &str| format!("{what}: {:?}", String::from_utf8_lossy(bytes));
        let end =
            bytes.windows(4).position(|four| four == b"\r\n\r\n").ok_or(complaint("no complete head"))?;
        let head = std::str::from_utf8(&bytes[..end]).map_err(|_| complaint("the head is not text"))?;
        let body = bytes[end + 4..].to_vec();
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
        let status = status.ok_or(complaint("no status line"))?;
        let headers: Option<Vec<_>> = lines
            .map(|line| {
                line.split_once(':').map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
            })
            .collect();
        let headers = headers.ok_or(complaint("a header without a colon"))?;
        let mut response = Self { body, headers, request: String::new(), status };
        if response.header("transfer-encoding") == Some("chunked") {
            response.body = joined(&response.body).ok_or(complaint("malformed chunks"))?;
        }
        if let Some(length) = response.header("content-length") {
            let expected: usize = length.parse().map_err(|_| complaint("no number in Content-Length"))?;
            if response.body.len() != expected {
                return Err(complaint("the body has another length than it says"));
            }
        }
        Ok(response)
    }

    /// Itself, if the status is this one; else a panic with the whole answer.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// A header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The URL of the push message resource.
    #[must_use]
    pub fn location(&self) -> &str {
        self.header("location").unwrap_or_else(|| panic!("no Location: {self:?}"))
    }

    /// What holds for every answer of the gateway, whatever the scenario asks.
    fn check(&self, method: &str) {
        let needs = |name: &str| assert!(self.header(name).is_some(), "{name} is missing: {self:?}");
        match self.status {
            201 => {
                needs("location");
                needs("ttl");
                assert!(self.header("ttl").is_some_and(|ttl| ttl.parse::<u32>().is_ok()), "TTL: {self:?}");
            }
            // Senders delete subscriptions on answers that they do not know.
            200 => {
                let is_kept = !matches!(method, "POST" | "PUT") || self.is_matrix() || self.is_ntfy();
                assert!(is_kept, "{self:?}");
            }
            204 => assert!(matches!(method, "DELETE" | "OPTIONS"), "{self:?}"),
            401 => needs("www-authenticate"),
            405 => needs("allow"),
            429 | 503 | 507 => {
                needs("retry-after");
                let after = self.header("retry-after").and_then(|text| text.parse::<u32>().ok());
                assert!(after.is_some_and(|seconds| seconds > 0), "Retry-After: {self:?}");
            }
            400 | 403 | 404 | 408 | 410 | 411 | 413 | 414 | 415 | 431 => {}
            other => panic!("{other} is not an answer of the gateway: {self:?}"),
        }
    }

    /// ntfy's answer to a publish is the message.
    fn is_ntfy(&self) -> bool {
        self.body.starts_with(b"{\"id\":\"")
    }

    fn is_matrix(&self) -> bool {
        self.request.contains("/_matrix/")
    }
}

/// What chunks carry (RFC 9112 §7.1), without extensions and trailers.
fn joined(mut chunks: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = chunks.windows(2).position(|two| two == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&chunks[..end]).ok()?, 16).ok()?;
        let chunk = chunks.get(end + 2..)?;
        body.extend_from_slice(chunk.get(..size)?);
        chunks = chunk.get(size..)?.strip_prefix(b"\r\n")?;
        if size == 0 {
            return chunks.is_empty().then_some(body);
        }
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} gave {} {:?}", self.request, self.status, self.headers)?;
        write!(f, " {:?}", String::from_utf8_lossy(&self.body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read() {
        let response =
            Response::parse(b"HTTP/1.1 201 Created\r\nTTL: 5\r\nContent-Length: 2\r\n\r\nok").expect("valid");
        assert_eq!(
            (response.status, response.header("ttl"), &response.body[..]),
            (201, Some("5"), &b"ok"[..])
        );
        assert!(Response::parse(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok").is_err());
    }

    #[test]
    fn chunks_are_joined() {
        assert_eq!(joined(b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n").as_deref(), Some(&b"abc"[..]));
        for wrong in [&b"2\r\nab\r\n"[..], b"3\r\nab\r\n0\r\n\r\n", b"x\r\n\r\n", b"0\r\n\r\nmore"] {
            assert_eq!(joined(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    #[should_panic(expected = "ttl is missing")]
    fn a_created_without_ttl_is_noticed() {
        Response::parse(b"HTTP/1.1 201 Created\r\nLocation: /m/x\r\n\r\n").expect("valid").check("POST");
    }

    #[test]
    fn the_path_of_a_url() {
        assert_eq!(path_of("http://127.0.0.1:1/p/x"), "/p/x");
        assert_eq!(path_of("/p/x"), "/p/x");
        assert_eq!(path_of("http://host"), "/");
    }
}
