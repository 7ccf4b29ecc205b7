//! Reads bodies that are as small and as quick as they ought to be.

use std::time::Duration;

use bytes::Bytes;
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
pub(super) async fn read<B>(body: &mut B, limit: usize, patience: Duration) -> Result<Bytes, Unread>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut all = Vec::with_capacity(announced(body).min(limit));
    take(body, limit, patience, |data| all.extend_from_slice(&data)).await?;
    Ok(all.into())
}

/// Reads past what is left of a body that nobody wants, within the same bounds, so that the connection
/// can be used again.
pub(super) async fn skip<B>(body: &mut B, limit: usize, patience: Duration) -> Result<(), Unread>
where
    B: Body<Data = Bytes> + Unpin,
{
    if body.is_end_stream() { Ok(()) } else { take(body, limit, patience, drop).await }
}

async fn take<B, F>(body: &mut B, limit: usize, patience: Duration, mut give: F) -> Result<(), Unread>
where
    B: Body<Data = Bytes> + Unpin,
    F: FnMut(Bytes),
{
    if announced(body) > limit {
        return Err(Unread::TooLarge);
    }
    let all = async {
        let mut left = limit;
        while let Some(frame) = body.frame().await {
            // Trailers mean nothing here.
            let Ok(data) = frame.map_err(|_| Unread::Broken)?.into_data() else { continue };
            left = left.checked_sub(data.len()).ok_or(Unread::TooLarge)?;
            give(data);
        }
        Ok(())
    };
    timeout(patience, all).await.unwrap_or(Err(Unread::TooSlow))
}

fn announced(body: &impl Body) -> usize {
    usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX)
}
