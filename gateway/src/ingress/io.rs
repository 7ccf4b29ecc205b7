//! A socket that does not wait for ever.
//!
//! hyper has one timer for "no request yet" and "half a request", and none for a peer that does not
//! read its answers. [`Paced`] knows by [`Pace`] where in a request the connection is and gives each
//! part its own time; it closes in a way that does not take back the last answer; and when hyper lets go
//! of it, whoever goes on in its place gets the socket back.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
    time::{Sleep, sleep},
};

use super::Limits;

/// Where in a request a connection is. Shared by the socket, which sees bytes, and the service,
/// which sees requests; both live in one task.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace(Arc<AtomicU64>);

/// The lower three bits of a [`Pace`]; the others count, so that no two times of idleness are one.
const STAGE: u64 = 7;
const HEAD: u64 = 0;
const BUSY: u64 = 1;
const IDLE: u64 = 2;
/// The connection has been upgraded: its deadlines are a room's.
const UPGRADED: u64 = 3;

impl Pace {
    /// A request has been read; it ends with the returned value.
    pub(super) fn begin(&self) -> Turn<'_> {
        self.enter(BUSY);
        Turn { pace: self, upgraded: false }
    }

    /// Whether there has been no request yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.now() == HEAD
    }

    fn enter(&self, stage: u64) {
        self.0.store((self.now() | STAGE) + 1 + stage, Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A request in progress.
#[derive(Debug)]
pub(super) struct Turn<'p> {
    pace: &'p Pace,
    upgraded: bool,
}

impl Turn<'_> {
    /// The connection is somebody else's after the answer.
    pub(super) fn becomes_upgraded(mut self) {
        self.upgraded = true;
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.pace.enter(if self.upgraded { UPGRADED } else { IDLE });
    }
}

/// A socket with deadlines: reading fails with `TimedOut` when a head or the next request is overdue,
/// writing when the peer takes nothing, and closing waits for the peer to have read everything.
#[derive(Debug)]
pub(super) struct Paced<T> {
    /// What `deadline` was set for.
    armed: Option<u64>,
    closing: bool,
    deadline: Pin<Box<Sleep>>,
    /// There until this is dropped.
    inner: Option<T>,
    limits: Limits,
    pace: Pace,
    /// Who wants the socket then.
    successor: Option<oneshot::Sender<T>>,
    /// Set while a write waits.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<T> Paced<T> {
    /// Watches `inner`, which has just been opened: its first head is due from now on. `successor` gets it
    /// back, if there is still one.
    pub(super) fn new(inner: T, pace: Pace, limits: Limits, successor: oneshot::Sender<T>) -> Self {
        Self {
            armed: Some(pace.now()),
            closing: false,
            deadline: Box::pin(sleep(limits.head)),
            inner: Some(inner),
            limits,
            pace,
            stalled: None,
            successor: Some(successor),
        }
    }

    fn inner(&mut self) -> Pin<&mut T>
    where
        T: Unpin,
    {
        Pin::new(self.inner.as_mut().expect("is taken when this is dropped"))
    }

    fn arm(&mut self, limit: Duration) {
        self.deadline.set(sleep(limit));
    }

    /// Called when there is nothing to read: is something overdue?
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let now = self.pace.now();
        let limit = match now & STAGE {
            HEAD => self.limits.head,
            IDLE => self.limits.idle,
            // The service watches the body and itself.
            _ => return Poll::Pending,
        };
        if self.armed != Some(now) {
            self.arm(limit);
            self.armed = Some(now);
        }
        self.deadline.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Passes a write on, unless the peer has not taken a byte for too long.
    fn poll_unstalled(
        &mut self,
        written: Poll<io::Result<usize>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let limit = self.limits.write;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(limit)));
        stalled.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<T> Drop for Paced<T> {
    fn drop(&mut self) {
        if let (Some(inner), Some(successor)) = (self.inner.take(), self.successor.take()) {
            // Nobody waits for it but where an answer goes on.
            let _ = successor.send(inner);
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Paced<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = self.inner().poll_read(cx, buf);
        if read.is_pending() {
            return self.poll_overdue(cx);
        }
        if buf.filled().len() > before && self.pace.now() & STAGE == IDLE {
            self.pace.enter(HEAD);
        }
        read
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Paced<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.inner().poll_write(cx, buf);
        self.poll_unstalled(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.inner().poll_write_vectored(cx, bufs);
        self.poll_unstalled(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_flush(cx)
    }

    /// Ends our side, then throws away what the peer still sends until it ends its own: a socket that
    /// is dropped with unread bytes resets the connection, and the answer (a 413, for example) may be
    /// lost with it.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closing {
            ready!(self.inner().poll_shutdown(cx))?;
            self.closing = true;
            let limit = self.limits.linger;
            self.arm(limit);
        }
        // First, so that a peer that never stops sending cannot put it off.
        while self.deadline.as_mut().poll(cx).is_pending() {
            let mut scratch = [0; 2048];
            let mut buf = ReadBuf::new(&mut scratch);
            let read = ready!(self.inner().poll_read(cx, &mut buf));
            if read.is_err() || buf.filled().is_empty() {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}
