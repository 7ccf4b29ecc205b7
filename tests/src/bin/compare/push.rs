//! The push that everybody gets, and HTTP/1.1 by hand: ready-made requests and the least of a parser, so
//! that the generator leaves the processor to the servers.

use std::{
    net::SocketAddr,
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::Result;

/// Bytes of a push.
pub(crate) const BODY_BYTES: usize = 1024;
/// Where in the body its number is: behind the aes128gcm header (16 salt, 4 record size, 1 + 65 key).
pub(crate) const NUMBER: Range<usize> = 86..94;

static NEXT: AtomicU64 = AtomicU64::new(0);

/// Numbers are unique over the whole run: they tell a subscriber which push arrived, once or again.
pub(crate) fn next_number() -> u64 {
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A body that looks like RFC 8291 content: right header, then bytes that no compression shrinks.
pub(crate) fn body(number: u64) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut body: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    })
    .take(BODY_BYTES)
    .collect();
    // Not UTF-8, as real ciphertext is not: ntfy has to take its base64 path.
    body[0] = 0xff;
    body[16..20].copy_from_slice(&4096_u32.to_be_bytes());
    body[20] = 65;
    body[21] = 4;
    body[NUMBER].copy_from_slice(&number.to_be_bytes());
    body
}

/// The number in a body.
pub(crate) fn number_in(body: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(body.get(NUMBER)?.try_into().ok()?))
}

/// A ready-made POST of which only the number changes.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    bytes: Vec<u8>,
}

impl Request {
    /// The same headers to every server: what a Web Push sender without VAPID sends.
    pub(crate) fn new(address: SocketAddr, path: &str) -> Self {
        let mut bytes = format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nTTL: 86400\r\nUrgency: normal\r\n\
             Content-Encoding: aes128gcm\r\nContent-Type: application/octet-stream\r\n\
             Content-Length: {BODY_BYTES}\r\n\r\n"
        )
        .into_bytes();
        bytes.extend(body(0));
        Self { bytes }
    }

    /// The request with this number in its body.
    pub(crate) fn numbered(&mut self, number: u64) -> &[u8] {
        let body = self.bytes.len() - BODY_BYTES;
        self.bytes[body + NUMBER.start..body + NUMBER.end].copy_from_slice(&number.to_be_bytes());
        &self.bytes
    }
}

/// The status once the whole answer is there, `None` while bytes are missing. At most one request is open
/// on a connection, so that whatever has come belongs to one answer.
pub(crate) fn answer(bytes: &[u8]) -> Result<Option<u16>> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end])?;
    let status = head
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3))
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| format!("not an HTTP/1.1 answer: {head:.60}"))?;
    let body = &bytes[end + 4..];
    let mut length = 0;
    for (name, value) in head.lines().skip(1).filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse()?;
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return Ok(body.ends_with(b"0\r\n\r\n").then_some(status));
        }
    }
    Ok((body.len() >= length).then_some(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_complete_only_with_its_whole_body() -> Result<()> {
        let whole = b"HTTP/1.1 201 Created\r\ncontent-length: 3\r\n\r\nabc";
        for end in 0..whole.len() {
            assert_eq!(answer(&whole[..end])?, None, "{end} bytes");
        }
        assert_eq!(answer(whole)?, Some(201));
        Ok(())
    }

    #[test]
    fn a_chunked_answer_ends_with_its_last_chunk() -> Result<()> {
        let whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        assert_eq!(answer(&whole[..whole.len() - 5])?, None);
        assert_eq!(answer(whole)?, Some(200));
        Ok(())
    }

    #[test]
    fn the_number_travels_in_the_body() {
        let mut request = Request::new(SocketAddr::from(([127, 0, 0, 1], 1)), "/p/x");
        let bytes = request.numbered(77);
        assert_eq!(number_in(&bytes[bytes.len() - BODY_BYTES..]), Some(77));
    }
}
