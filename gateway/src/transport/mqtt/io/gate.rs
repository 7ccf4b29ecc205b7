//! Who may come in: how many at once, how many from one source, and how much before the login.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::{IpAddr, Ipv6Addr},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
};

use super::super::seat::lock;

/// Where a connection comes from, as far as it can be told: an IPv4 address, or the IPv6 network that one
/// customer is given. `None` for this machine, whose proxies speak for many.
fn source(peer: IpAddr) -> Option<IpAddr> {
    match peer.to_canonical() {
        address if address.is_loopback() => None,
        IpAddr::V6(address) => Some(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()),
        address @ IpAddr::V4(_) => Some(address),
    }
}

/// Connections that have not logged in yet, in the order in which they came, and all connections by
/// their source.
#[derive(Debug, Default)]
pub(in crate::transport::mqtt) struct Greetings {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    by_number: BTreeMap<u64, (Option<IpAddr>, Arc<Notify>)>,
    by_source: HashMap<IpAddr, usize>,
    next: u64,
    /// Whoever comes from now on is to go at once.
    stopping: bool,
}

/// One of them, until it is dropped.
pub(in crate::transport::mqtt) struct Greeting<'a> {
    among: &'a Greetings,
    end: Arc<Notify>,
    number: u64,
}

/// One connection of its source, until it is dropped.
#[derive(Debug)]
pub(in crate::transport::mqtt) struct Counted<R: std::ops::Deref<Target = Greetings>> {
    among: R,
    source: Option<IpAddr>,
}

impl Greetings {
    /// One more.
    pub(in crate::transport::mqtt) fn begin(&self, peer: IpAddr) -> Greeting<'_> {
        let end = Arc::new(Notify::new());
        let mut waiting = lock(&self.waiting);
        if waiting.stopping {
            end.notify_one();
        }
        let number = waiting.next;
        waiting.next += 1;
        waiting.by_number.insert(number, (source(peer), Arc::clone(&end)));
        Greeting { among: self, end, number }
    }

    /// Counts a connection, unless its source has `max` already and all of them are devices. When one
    /// is a stranger, the oldest of them has to go.
    pub(super) fn count<R>(this: R, peer: IpAddr, max: usize) -> Option<Counted<R>>
    where
        R: std::ops::Deref<Target = Self>,
    {
        let source = source(peer);
        if let Some(source) = source {
            let mut waiting = lock(&this.waiting);
            if waiting.by_source.get(&source).is_some_and(|&there| there >= max) {
                let mut strangers = waiting.by_number.iter().filter(|(_, (from, _))| *from == Some(source));
                let oldest = strangers.next().map(|(&number, _)| number)?;
                if let Some((_, end)) = waiting.by_number.remove(&oldest) {
                    end.notify_one();
                }
            }
            *waiting.by_source.entry(source).or_default() += 1;
        }
        Some(Counted { among: this, source })
    }

    /// Ends all of them, also those to come.
    pub(in crate::transport::mqtt) fn stop(&self) {
        lock(&self.waiting).stopping = true;
        while self.end_oldest() {}
    }

    /// Ends the oldest, if there is one.
    pub(super) fn end_oldest(&self) -> bool {
        let oldest = lock(&self.waiting).by_number.pop_first();
        oldest.map(|(_, (_, end))| end.notify_one()).is_some()
    }
}

impl Greeting<'_> {
    /// Returns when this one is to go.
    pub(in crate::transport::mqtt) async fn ended(&self) {
        self.end.notified().await;
    }
}

impl Drop for Greeting<'_> {
    fn drop(&mut self) {
        lock(&self.among.waiting).by_number.remove(&self.number);
    }
}

impl<R: std::ops::Deref<Target = Greetings>> Drop for Counted<R> {
    fn drop(&mut self) {
        let Some(source) = self.source else { return };
        let mut waiting = lock(&self.among.waiting);
        if let Some(count) = waiting.by_source.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                waiting.by_source.remove(&source);
            }
        }
    }
}

/// How many bytes a connection may still send before its login. What lies between the socket and MQTT
/// keeps partial records and frames, so the bound is put on the socket itself.
#[derive(Clone, Debug)]
pub(in crate::transport::mqtt) struct Allowance(Arc<AtomicUsize>);

impl Allowance {
    /// So many.
    pub(in crate::transport::mqtt) fn new(bytes: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(bytes)))
    }

    /// From now on any number: it has logged in.
    pub(in crate::transport::mqtt) fn lift(&self) {
        self.0.store(usize::MAX, Ordering::Relaxed);
    }
}

/// A stream that ends with an error when its allowance is used up.
#[derive(Debug)]
pub(in crate::transport::mqtt) struct Metered<S> {
    allowance: Allowance,
    stream: S,
}

impl<S> Metered<S> {
    pub(in crate::transport::mqtt) fn new(stream: S, allowance: Allowance) -> Self {
        Self { allowance, stream }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let left = this.allowance.0.load(Ordering::Relaxed);
        if left == usize::MAX {
            return Pin::new(&mut this.stream).poll_read(cx, buffer);
        }
        if left == 0 {
            return Poll::Ready(Err(io::Error::other("too much before the login")));
        }
        let mut some = buffer.take(left);
        ready!(Pin::new(&mut this.stream).poll_read(cx, &mut some))?;
        let read = some.filled().len();
        // It is the initialised part of the same buffer.
        let filled = buffer.filled().len() + read;
        buffer.initialize_unfilled_to(read);
        buffer.set_filled(filled);
        this.allowance.0.store(left - read, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const HERE: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

    #[tokio::test]
    async fn the_oldest_goes_first_and_nobody_begins_after_the_end() {
        let greetings = Greetings::default();
        let (first, second) = (greetings.begin(HERE), greetings.begin(HERE));
        assert!(greetings.end_oldest());
        first.ended().await;
        drop(first);
        drop(second);
        assert!(!greetings.end_oldest(), "nobody is left");
        greetings.stop();
        let late = greetings.begin(HERE);
        tokio::time::timeout(Duration::from_secs(10), late.ended()).await.expect("at once");
    }

    #[test]
    fn a_source_is_an_address_or_a_network_and_this_machine_is_none() {
        let source = |text: &str| source(text.parse().expect("an address"));
        assert_eq!(source("192.0.2.7"), source("::ffff:192.0.2.7"));
        assert_ne!(source("192.0.2.7"), source("192.0.2.8"));
        assert_eq!(source("2001:db8:1:2::3"), source("2001:db8:1:2:ffff::9"));
        assert_ne!(source("2001:db8:1:2::3"), source("2001:db8:1:3::3"));
        for here in ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(source(here), None, "{here}");
        }
    }

    #[tokio::test]
    async fn a_source_has_its_share_and_its_own_strangers_go_first() {
        let greetings = Greetings::default();
        let [there, elsewhere] = ["192.0.2.7", "192.0.2.8"].map(|text| text.parse().expect("an address"));
        let other = greetings.begin(elsewhere);
        let one = Greetings::count(&greetings, there, 2).expect("the first");
        let two = Greetings::count(&greetings, there, 2).expect("the second");
        assert!(Greetings::count(&greetings, there, 2).is_none(), "both are devices");
        assert!(Greetings::count(&greetings, elsewhere, 2).is_some(), "another source");
        let stranger = greetings.begin(there);
        let three = Greetings::count(&greetings, there, 2).expect("in the stranger's place");
        stranger.ended().await;
        drop((one, two, three));
        assert!(lock(&greetings.waiting).by_source.is_empty(), "nothing is kept of those who left");
        assert!(greetings.end_oldest(), "the other source's stranger stayed");
        drop(other);
    }

    #[tokio::test]
    async fn what_is_sent_before_the_login_is_bounded_until_it_is_lifted() {
        let (mut peer, ours) = tokio::io::duplex(100);
        let allowance = Allowance::new(10);
        let mut metered = Metered::new(ours, allowance.clone());
        peer.write_all(&[7; 30]).await.expect("sent");
        let mut buffer = [0; 8];
        assert_eq!(metered.read(&mut buffer).await.expect("allowed"), 8);
        assert_eq!(metered.read(&mut buffer).await.expect("allowed"), 2);
        assert_eq!(buffer, [7; 8]);
        metered.read(&mut buffer).await.expect_err("used up");
        allowance.lift();
        assert_eq!(metered.read(&mut buffer).await.expect("logged in"), 8);
    }
}
