//! An answer that goes on, for as long as its room and its listener like.
//!
//! hyper keeps two buffers of 8 KB for each connection, which is three quarters of what a silent listener would
//! cost. So it is left as soon as such an answer begins: what remains of HTTP then is a head and chunks
//! (RFC 9112 §7.1), and to notice that the listener has left.

use std::{future::poll_fn, io, pin::Pin, task::Poll, time::Duration};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{Response, Version};
use http_body_util::BodyExt as _;
use jiff::fmt::rfc2822::DateTimePrinter;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    time::timeout,
};

use super::Limits;
use crate::{clock::timestamp, model::UnixTime, transport::web};

/// An answer that goes on, to a request of this version.
#[derive(Debug)]
pub(super) struct Streamed {
    pub(super) response: Response<web::Body>,
    pub(super) version: Version,
}

impl Streamed {
    /// Sends it to its end, which is when its body ends, or its listener leaves or takes nothing for too long.
    pub(super) async fn serve<T>(self, mut io: T, now: UnixTime, limits: Limits)
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let is_chunked = self.version == Version::HTTP_11;
        let mut out = self.head(now);
        let mut body = self.response.into_body();
        // What is there already goes along with the head. After that the body is asked for more only when all
        // that it has given is written.
        let mut next = body.frame().now_or_never();
        loop {
            let is_over = matches!(next, Some(None));
            if let Some(Some(Ok(frame))) = next {
                if let Ok(data) = frame.into_data() {
                    append(&mut out, &data, is_chunked);
                }
            }
            if is_over && is_chunked {
                out.extend_from_slice(b"0\r\n\r\n");
            }
            if write(&mut io, &out, limits.write).await.is_err() {
                return;
            }
            if is_over {
                break;
            }
            out = Vec::new();
            next = tokio::select! {
                biased;
                frame = body.frame() => Some(frame),
                () = left(&mut io) => return,
            };
        }
        drop(body);
        // A socket that is dropped with unread bytes resets the connection, and takes the last words with it.
        if io.shutdown().await.is_ok() {
            let _left_behind = timeout(limits.linger, left(&mut io)).await;
        }
    }

    fn head(&self, now: UnixTime) -> Vec<u8> {
        let mut head = format!("{:?} {}\r\n", self.version, self.response.status()).into_bytes();
        for (name, value) in self.response.headers() {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                head.extend_from_slice(part);
            }
        }
        let date =
            timestamp(now).and_then(|now| DateTimePrinter::new().timestamp_to_rfc9110_string(&now).ok());
        let date = date.map(|date| format!("date: {date}\r\n")).unwrap_or_default();
        head.extend_from_slice(date.as_bytes());
        let framing: &[u8] =
            if self.version == Version::HTTP_11 { b"transfer-encoding: chunked\r\n" } else { b"" };
        for part in [framing, b"connection: close\r\n\r\n"] {
            head.extend_from_slice(part);
        }
        head
    }
}

fn append(out: &mut Vec<u8>, data: &Bytes, is_chunked: bool) {
    // A chunk of nothing would be the last one.
    if !is_chunked || data.is_empty() {
        return out.extend_from_slice(data);
    }
    out.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// Writes all of it, unless the listener takes no byte of it within `limit`.
async fn write(io: &mut (impl AsyncWrite + Unpin), mut bytes: &[u8], limit: Duration) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = timeout(limit, io.write(bytes)).await??;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = &bytes[written..];
    }
    timeout(limit, io.flush()).await?
}

/// Ready when the listener has ended its side. Nothing that it says until then is heard.
async fn left(io: &mut (impl AsyncRead + Unpin)) {
    poll_fn(|cx| {
        let mut scratch = [0; 256];
        let mut buf = ReadBuf::new(&mut scratch);
        match Pin::new(&mut *io).poll_read(cx, &mut buf) {
            Poll::Ready(Ok(())) if !buf.filled().is_empty() => {
                // The rest of it can wait until the next poll.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Ready(_) => Poll::Ready(()),
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
}
