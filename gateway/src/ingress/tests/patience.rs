//! Deadlines, on a clock that only moves when everybody waits.

use std::{
    io::ErrorKind,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame};
use tokio::{
    io::{DuplexStream, duplex},
    sync::oneshot,
    time::{Instant, sleep},
};

use super::*;
use crate::ingress::{
    body::{self, Unread},
    io::{Pace, Paced},
};

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "tokio's paused clock, which stands for the deadline's")]
    Instant::now()
}

fn pair() -> (DuplexStream, Paced<DuplexStream>, Pace) {
    let (peer, ours) = duplex(64);
    let pace = Pace::default();
    let paced = Paced::new(ours, pace.clone(), Limits::default(), oneshot::channel().0);
    (peer, paced, pace)
}

async fn trickle(mut peer: DuplexStream, every: Duration) {
    while peer.write_all(b"x").await.is_ok() {
        sleep(every).await;
    }
}

/// Reads until it fails; how and when.
async fn overdue(paced: &mut Paced<DuplexStream>) -> (ErrorKind, Duration) {
    let start = now();
    loop {
        match paced.read(&mut [0; 8]).await {
            Ok(0) => return (ErrorKind::UnexpectedEof, start.elapsed()),
            Ok(_) => {}
            Err(error) => return (error.kind(), start.elapsed()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_has_ten_seconds_however_it_trickles() {
    let (peer, mut paced, _) = pair();
    tokio::spawn(trickle(peer, Duration::from_secs(3)));
    assert_eq!(overdue(&mut paced).await, (ErrorKind::TimedOut, Duration::from_secs(10)));
}

#[tokio::test(start_paused = true)]
async fn between_requests_there_is_more_time() {
    let (mut peer, mut paced, pace) = pair();
    drop(pace.begin());
    assert_eq!(overdue(&mut paced).await, (ErrorKind::TimedOut, Duration::from_secs(75)));
    // Each time anew, also when the next request came in one piece.
    drop(pace.begin());
    peer.write_all(b"GET").await.expect("room");
    assert_eq!(paced.read(&mut [0; 8]).await.expect("three bytes"), 3);
    drop(pace.begin());
    assert_eq!(overdue(&mut paced).await, (ErrorKind::TimedOut, Duration::from_secs(75)));
    // But once the next head has begun it must go on.
    peer.write_all(b"G").await.expect("room");
    assert_eq!(overdue(&mut paced).await, (ErrorKind::TimedOut, Duration::from_secs(10)));
}

#[tokio::test(start_paused = true)]
async fn a_request_in_progress_is_not_hurried() {
    let (_peer, mut paced, pace) = pair();
    let _turn = pace.begin();
    let waited = timeout(Duration::from_secs(1000), overdue(&mut paced)).await;
    assert!(waited.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_nothing_is_given_up() {
    let (_peer, mut paced, _) = pair();
    paced.write_all(&[0; 64]).await.expect("room");
    let start = now();
    assert_eq!(paced.write(&[0]).await.expect_err("no room").kind(), ErrorKind::TimedOut);
    assert_eq!(start.elapsed(), Duration::from_secs(10));

    // One byte every nine seconds is slow, but it is progress.
    let (mut peer, mut paced, _) = pair();
    paced.write_all(&[0; 64]).await.expect("room");
    let reader = tokio::spawn(async move {
        for _ in 0..20 {
            sleep(Duration::from_secs(9)).await;
            peer.read_exact(&mut [0]).await.expect("open");
        }
        peer
    });
    paced.write_all(&[0; 20]).await.expect("progress");
    drop(reader.await.expect("no panic"));
}

#[tokio::test(start_paused = true)]
async fn closing_waits_for_the_peer_but_not_for_long() {
    let (peer, mut paced, _) = pair();
    tokio::spawn(trickle(peer, Duration::from_millis(1)));
    let start = now();
    paced.shutdown().await.expect("closed");
    assert_eq!(start.elapsed(), Duration::from_secs(2));

    let (mut peer, mut paced, _) = pair();
    peer.write_all(b"the rest of a body").await.expect("room");
    peer.shutdown().await.expect("open");
    let start = now();
    paced.shutdown().await.expect("closed");
    assert_eq!(start.elapsed(), Duration::ZERO);
}

/// A body of one byte every so often, which announces nothing.
struct Slow {
    every: Duration,
    left: usize,
    next: Pin<Box<tokio::time::Sleep>>,
}

impl Slow {
    fn new(left: usize, every: Duration) -> Self {
        Self { every, left, next: Box::pin(sleep(every)) }
    }
}

impl Body for Slow {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        std::task::ready!(self.next.as_mut().poll(cx));
        self.left -= 1;
        let every = self.every;
        self.next.set(sleep(every));
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))))
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_has_its_time_in_total() {
    let patience = Duration::from_secs(10);
    for (length, every, whole) in [
        (8, Duration::from_secs(1), Ok(())),
        (8, Duration::from_secs(3), Err(Unread::TooSlow)),
        (9, Duration::from_millis(1), Err(Unread::TooLarge)),
    ] {
        let start = now();
        let read = body::read(&mut Slow::new(length, every), 8, patience).await;
        assert_eq!(read.map(|bytes| assert_eq!(bytes.len(), length)), whole);
        assert!(start.elapsed() <= patience);
        assert_eq!(body::skip(&mut Slow::new(length, every), 8, patience).await, whole);
    }
}
