//! The two kinds of connection: an answer that goes on, and a WebSocket.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _, stream};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::{
    config::{Limits, PING_LEAST},
    feed::{Feed, Step},
};
use crate::{
    clock::SharedClock,
    transport::web::{Body, WebSocket},
};

/// A body of lines, each written as soon as there is one.
pub(super) fn body(feed: Feed, keepalive: Duration) -> Body {
    // Boxed, so that it is not moved at each line.
    let lines = stream::unfold(Box::new(feed), move |mut feed| async move {
        let lines = match feed.next(keepalive).await {
            Step::End => return None,
            Step::Lines(lines) => lines.concat(),
            Step::Ping => feed.event("keepalive"),
        };
        Some((Ok::<_, Infallible>(Frame::data(Bytes::from(lines))), feed))
    });
    StreamBody::new(lines).boxed_unsync()
}

/// Serves a WebSocket to its end, which comes without a Close frame: OkHttp hangs on one.
pub(super) async fn serve(mut socket: WebSocket, mut feed: Feed, limits: Limits, clock: SharedClock) {
    let mut pinged_at = clock.moment().instant;
    let mut interval: Option<Duration> = None;
    let mut pong_due: Option<tokio::time::Instant> = None;
    loop {
        let due = pong_due.unwrap_or_else(|| tokio::time::Instant::from_std(pinged_at));
        let step = tokio::select! {
            biased;
            heard = socket.next() => {
                let heard = match heard {
                    Some(Ok(heard)) => heard,
                    Some(Err(Error::Io(_))) => return feed.lost(),
                    Some(Err(_)) | None => return,
                };
                pong_due = None;
                let Some(seat) = feed.seat() else { return };
                let now = clock.moment().instant;
                let mut news = None;
                match heard {
                    // There is nothing that a client could say; ntfy does not listen either.
                    Message::Text(_) | Message::Binary(_) | Message::Frame(_) | Message::Pong(_) => {}
                    Message::Ping(_) => {
                        let since = now.saturating_duration_since(pinged_at);
                        pinged_at = now;
                        // The same, give or take what a network adds.
                        let is_new = interval.is_none_or(|known| since.abs_diff(known) > known / 8);
                        if since >= PING_LEAST && is_new {
                            news = Some(since);
                            interval = news;
                        }
                    }
                    Message::Close(_) => return,
                }
                seat.stir(now, news);
                // The library owes a pong.
                if !matches!(timeout(limits.write, socket.flush()).await, Ok(Ok(()))) {
                    return feed.lost();
                }
                continue;
            }
            step = feed.next(Duration::MAX) => step,
            () = tokio::time::sleep_until(due), if pong_due.is_some() => return feed.lost(),
        };
        let messages = match step {
            Step::End => return,
            Step::Lines(lines) => lines.into_iter().map(Message::text).collect(),
            Step::Ping => {
                let due = tokio::time::Instant::from_std(clock.moment().instant) + limits.pong;
                pong_due.get_or_insert(due);
                if let Some(seat) = feed.seat() {
                    seat.pinged();
                }
                vec![Message::Ping(Bytes::new())]
            }
        };
        let writing = async {
            for message in messages {
                socket.feed(message).await?;
            }
            socket.flush().await
        };
        if !matches!(timeout(limits.write, writing).await, Ok(Ok(()))) {
            return feed.lost();
        }
    }
}
