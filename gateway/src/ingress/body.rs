//! Reads a body that is as small and as quick as it ought to be.

use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http_body_util::BodyExt as _;
use hyper::body::Body;
use tokio::time::timeout;

/// Why there is no body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Unread {
    /// The connection ended within it, or its framing is malformed.
    Broken,
    /// It is, or says that it will be, larger than the limit.
    TooLarge,
    /// It did not arrive in time.
    TooSlow,
}

/// Reads all of `body`, at most `limit` bytes, within `patience` in total. A body that announces more
/// is refused before a byte of it is read.
///
/// The bytes are copied once: hyper's are slices of its read buffer, and a small message that waits
/// for the disk must not hold on to 16 KB.
pub(super) async fn read<B>(body: B, limit: usize, patience: Duration) -> Result<Bytes, Unread>
where
    B: Body<Data = Bytes> + Unpin,
{
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limit {
        return Err(Unread::TooLarge);
    }
    timeout(patience, collect(body, announced, limit)).await.unwrap_or(Err(Unread::TooSlow))
}

async fn collect<B>(mut body: B, announced: usize, limit: usize) -> Result<Bytes, Unread>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut all = Vec::with_capacity(announced);
    while let Some(frame) = body.frame().await {
        // Trailers mean nothing here.
        let Ok(data) = frame.map_err(|_| Unread::Broken)?.into_data() else { continue };
        if all.len() + data.remaining() > limit {
            return Err(Unread::TooLarge);
        }
        all.extend_from_slice(&data);
    }
    Ok(all.into())
}
