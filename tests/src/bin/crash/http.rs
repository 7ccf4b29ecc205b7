//! An HTTP client on one connection that is kept, because a sender's next request must follow its last
//! answer at once, and because a kill must be able to hit any moment of an exchange.

use std::{
    io::{Error, ErrorKind, Read as _, Result, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// Longer than the gateway waits for its disk.
const PATIENCE: Duration = Duration::from_secs(40);

/// A connection.
#[derive(Debug)]
pub(crate) struct Http {
    address: SocketAddr,
    stream: TcpStream,
    unread: Vec<u8>,
}

/// An answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Answer {
    /// `Location`, if there is one.
    pub(crate) location: Option<String>,
    /// The status code.
    pub(crate) status: u16,
}

impl Http {
    /// Opens a connection.
    pub(crate) fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { address, stream, unread: Vec::new() })
    }

    /// One request; an error says only that its answer was not read.
    pub(crate) fn ask(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> Result<Answer> {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n{headers}\r\n",
            self.address,
            body.len()
        );
        self.stream.write_all(&[head.as_bytes(), body].concat())?;
        self.answer()
    }

    fn answer(&mut self) -> Result<Answer> {
        let nonsense = || Error::from(ErrorKind::InvalidData);
        let end = loop {
            if let Some(at) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            self.read()?;
        };
        let head = String::from_utf8(self.unread.drain(..end).collect()).map_err(|_| nonsense())?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(nonsense)?;
        let header = |name: &str| {
            let of = |line: &str| {
                let (found, value) = line.split_once(':')?;
                found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            };
            head.lines().find_map(of)
        };
        let length: usize = header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        while self.unread.len() < length {
            self.read()?;
        }
        self.unread.drain(..length);
        Ok(Answer { location: header("location"), status })
    }

    fn read(&mut self) -> Result<()> {
        let mut chunk = [0; 4096];
        match self.stream.read(&mut chunk)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            read => {
                self.unread.extend_from_slice(&chunk[..read]);
                Ok(())
            }
        }
    }
}
