//! The rumqttd side: an embedded [`Router`] that carries every consignment from the house to the
//! connection of its device.
//!
//! What travels is a ticket: the numbers of the messages. Their bodies wait at the device's seat,
//! because a router keeps everything that passes through it until its segments roll, and a gateway
//! that holds 160 KB of delivered bodies for each of its devices is no gateway for a small board. A
//! consignment is one ticket, so what is due together is written together.
//!
//! What rumqttd 0.20 needs from its host: a link is built and left by one thread, because both block;
//! it is left exactly once, by `Packet::Disconnect`, because a second event for a slot that has been
//! given away disconnects a stranger; link ids and filters are never freed, so both are one per
//! device; nobody is told of what comes before a SUBSCRIBE is acknowledged; `$share` never gets here;
//! and when its thread has died, links end, which [`Post::watch`] tells.

use std::{
    pin::pin,
    sync::{Arc, Mutex, mpsc},
    task::{Context, Waker},
    time::Duration,
};

use flume::TrySendError;
use rumqttd::{
    Notification, Router, RouterConfig,
    local::{LinkBuilder, LinkError, LinkRx, LinkTx},
    protocol::{Disconnect, DisconnectReasonCode, Packet},
};
use tokio::sync::oneshot;

use super::{config::WINDOW_MAX, seat::lock, wire::inbox};
use crate::{
    model::{DeviceId, MessageId},
    telemetry::Pulse,
};

/// The least that a segment may hold.
const SEGMENT_SIZE: usize = 1024;
/// All but the oldest of them hold a window of single messages, so that nothing rolls away unread.
const SEGMENTS: usize = 5;
const _: () = {
    // Bytes of a ticket for one message by the router's count: 4, its topic, and the number.
    let ticket = 4 + "up/0000000000000/inbox/push".len() + NUMBER;
    assert!((SEGMENTS - 1) * (SEGMENT_SIZE / ticket) >= WINDOW_MAX as usize);
};
/// How long the router is left alone when it is too busy.
const KNOCK_AGAIN: Duration = Duration::from_micros(500);
/// Bytes of a message's number in a ticket.
const NUMBER: usize = size_of::<u64>();

/// Where the house hears itself through the router. No device's filter can match it.
const PULSE: &str = "gateway/pulse";

/// The router cannot be reached: its thread has died.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the MQTT router has died: restart the gateway")]
pub struct RouterDied;

/// A device's place in the router; dropping it leaves.
pub(super) struct Link {
    jobs: mpsc::Sender<Job>,
    rx: LinkRx,
    tx: Option<LinkTx>,
}

impl Link {
    /// The next ticket: message numbers in the order of delivery. Nothing is lost when the future is
    /// dropped.
    pub(super) async fn next(&mut self) -> Result<Vec<MessageId>, RouterDied> {
        loop {
            match self.rx.next().await.map_err(|_| RouterDied)? {
                Some(Notification::Forward(forward)) => return Ok(read_ticket(&forward.publish.payload)),
                Some(Notification::Unschedule) => self.rx.wake().await.map_err(|_| RouterDied)?,
                // What a router never sends to QoS 0.
                Some(_) | None => {}
            }
        }
    }

    /// Resolves when the router has seen our SUBSCRIBE. It takes up all that the house has sent whenever it hears of
    /// any of it, so that a ticket may overtake a SUBSCRIBE from before, and be for nobody.
    async fn subscribed(&mut self) -> Result<(), RouterDied> {
        while !matches!(self.rx.next().await.map_err(|_| RouterDied)?, Some(Notification::DeviceAck(_))) {}
        Ok(())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(tx) = self.tx.take() {
            // The thread ends only with the last link and the room.
            let _ = self.jobs.send(Job::Leave(tx));
        }
    }
}

enum Job {
    Build(DeviceId, oneshot::Sender<Result<(LinkTx, LinkRx), RouterDied>>),
    /// The router was too busy to be told that there is something for it.
    Kick,
    Leave(LinkTx),
}

/// The house's own link into the router.
pub(super) struct Post {
    jobs: mpsc::Sender<Job>,
    pulse: Arc<Pulse>,
    tx: Arc<Mutex<LinkTx>>,
}

impl Post {
    /// Starts the router and the thread that builds and leaves links.
    pub(super) fn start(max_connections: usize) -> Result<(Self, Watch), RouterDied> {
        let config = RouterConfig {
            max_connections: max_connections + 1,
            max_outgoing_packet_count: 200,
            max_segment_count: SEGMENTS,
            max_segment_size: SEGMENT_SIZE,
            ..RouterConfig::default()
        };
        let router = Router::new(0, config).spawn();
        let build = move |name: &str, filter: String| {
            let (mut tx, rx, _) = LinkBuilder::new(name, router.clone()).build().map_err(|_| RouterDied)?;
            tx.subscribe(filter).map_err(|_| RouterDied)?;
            Ok((tx, rx))
        };
        let (tx, rx) = build("gateway", PULSE.to_owned())?;
        let tx = Arc::new(Mutex::new(tx));
        let (jobs, queue) = mpsc::channel();
        let post = Arc::clone(&tx);
        std::thread::Builder::new()
            .name("mqtt-links".to_owned())
            .spawn(move || {
                for job in queue {
                    work(job, &build, &post);
                }
            })
            .map_err(|_| RouterDied)?;
        let pulse = Arc::new(Pulse::default());
        Ok((Self { jobs, pulse: Arc::clone(&pulse), tx }, Watch { pulse, rx }))
    }

    /// A link for a device's connection, which hears every ticket that is sent from now on. Links of one device are
    /// built and left in the order in which that is asked for.
    pub(super) async fn link(&self, device: DeviceId) -> Result<Link, RouterDied> {
        let (answer, built) = oneshot::channel();
        self.jobs.send(Job::Build(device, answer)).map_err(|_| RouterDied)?;
        let (tx, rx) = built.await.map_err(|_| RouterDied)??;
        let mut link = Link { jobs: self.jobs.clone(), rx, tx: Some(tx) };
        link.subscribed().await?;
        Ok(link)
    }

    /// Resolves when the router has carried something from the house to the house.
    pub(super) async fn beat(&self) -> Result<(), RouterDied> {
        let arrived = self.pulse.answered();
        self.publish(PULSE.to_owned(), Vec::new())?;
        arrived.await;
        Ok(())
    }

    /// Sends a ticket. Never waits.
    pub(super) fn send(&self, device: DeviceId, ids: &[MessageId]) -> Result<(), RouterDied> {
        self.publish(topic(device), ids.iter().flat_map(|id| id.0.to_be_bytes()).collect())
    }

    fn publish(&self, topic: String, payload: Vec<u8>) -> Result<(), RouterDied> {
        match lock(&self.tx).try_publish(topic, payload) {
            Ok(_) => Ok(()),
            // It is in the link's buffer all the same, and wants but a knock on the router's door.
            Err(LinkError::TrySend(TrySendError::Full(_))) => {
                self.jobs.send(Job::Kick).map_err(|_| RouterDied)
            }
            Err(_) => Err(RouterDied),
        }
    }
}

#[cfg(not(any(debug_assertions, test)))]
impl Post {
    /// Only builds for tests have it.
    pub(super) async fn killed_on_purpose(&self) {
        std::future::pending().await
    }
}

#[cfg(any(debug_assertions, test))]
impl Post {
    /// Kills the router when a scenario test asks for it: by SIGUSR2, and only where it has set
    /// `GATEWAY_TEST_KILL_ROUTER`. Does not return; the death is noticed as any other is.
    pub(super) async fn killed_on_purpose(&self) {
        if std::env::var_os("GATEWAY_TEST_KILL_ROUTER").is_some() {
            let kind = tokio::signal::unix::SignalKind::user_defined2();
            if let Ok(mut signal) = tokio::signal::unix::signal(kind) {
                signal.recv().await;
                self.kill_router().await;
            }
        }
        std::future::pending().await
    }

    /// Does what rumqttd 0.20 does not bear: a link that it does not know any more wakes it.
    pub(super) async fn kill_router(&self) {
        if let Ok(mut link) = self.link(DeviceId(u64::MAX)).await {
            if let Some(tx) = link.tx.take() {
                leave(tx);
            }
            let _ = link.rx.wake().await;
        }
    }
}

fn work(
    job: Job,
    build: &impl Fn(&str, String) -> Result<(LinkTx, LinkRx), RouterDied>,
    post: &Mutex<LinkTx>,
) {
    match job {
        Job::Build(device, answer) => {
            let link = build(&device.to_string(), inbox(device, "#"));
            // The connection may have gone meanwhile: then its link is left at once.
            if let Err(Ok((tx, _))) = answer.send(link) {
                leave(tx);
            }
        }
        Job::Kick => {
            // The lock is held for moments only: `Post::send` must never wait for it. Leaving a
            // filter that nobody has is the one packet that means nothing to the router.
            while let Err(LinkError::TrySend(TrySendError::Full(_))) = lock(post).try_unsubscribe("-") {
                std::thread::sleep(KNOCK_AGAIN);
            }
        }
        Job::Leave(tx) => leave(tx),
    }
}

fn leave(mut tx: LinkTx) {
    let disconnect = Disconnect { reason_code: DisconnectReasonCode::NormalDisconnection };
    // An async function that blocks instead of awaiting, so one poll is all it takes. An error means
    // that there is no router to leave.
    let mut leaving = pin!(tx.send(Packet::Disconnect(disconnect, None)));
    let _ = leaving.as_mut().poll(&mut Context::from_waker(Waker::noop()));
}

/// The link by which the router's life and death are noticed.
pub(super) struct Watch {
    pulse: Arc<Pulse>,
    rx: LinkRx,
}

impl Watch {
    /// Returns when the router has died.
    pub(super) async fn died(&mut self) -> RouterDied {
        loop {
            match self.rx.next().await {
                Ok(Some(Notification::Forward(_))) => self.pulse.answer(),
                Ok(Some(Notification::Unschedule)) if self.rx.wake().await.is_err() => return RouterDied,
                Ok(_) => {}
                Err(_) => return RouterDied,
            }
        }
    }
}

/// One topic per device, not per channel: the router remembers every topic for ever.
fn topic(device: DeviceId) -> String {
    inbox(device, "push")
}

fn read_ticket(ticket: &[u8]) -> Vec<MessageId> {
    let number = |bytes: &[u8]| bytes.try_into().ok().map(|bytes| MessageId(u64::from_be_bytes(bytes)));
    ticket.chunks_exact(NUMBER).filter_map(number).collect()
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering},
        time::Duration,
    };

    use super::*;

    fn ids(numbers: &[u64]) -> Vec<MessageId> {
        numbers.iter().copied().map(MessageId).collect()
    }

    async fn soon<T>(future: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(10), future).await.expect("within ten seconds")
    }

    #[tokio::test]
    async fn tickets_reach_their_own_device_in_order() {
        let (post, _watch) = Post::start(10).expect("starts");
        let mut one = soon(post.link(DeviceId(1))).await.expect("linked");
        let mut two = soon(post.link(DeviceId(2))).await.expect("linked");
        post.send(DeviceId(1), &ids(&[1, 2])).expect("sent");
        post.send(DeviceId(2), &ids(&[3])).expect("sent");
        post.send(DeviceId(1), &ids(&[4])).expect("sent");
        assert_eq!(soon(one.next()).await, Ok(ids(&[1, 2])));
        assert_eq!(soon(one.next()).await, Ok(ids(&[4])));
        assert_eq!(soon(two.next()).await, Ok(ids(&[3])));
    }

    #[tokio::test]
    async fn a_full_window_of_single_tickets_is_held() {
        let (post, _watch) = Post::start(10).expect("starts");
        let mut link = soon(post.link(DeviceId(1))).await.expect("linked");
        for number in 0..100 {
            post.send(DeviceId(1), &ids(&[number])).expect("sent");
        }
        for number in 0..100 {
            assert_eq!(soon(link.next()).await, Ok(ids(&[number])));
        }
    }

    #[tokio::test]
    async fn a_busy_router_is_knocked_at_again() {
        let (post, _watch) = Post::start(10).expect("starts");
        let mut link = soon(post.link(DeviceId(1))).await.expect("linked");
        // More than the router's queue of 1,000, to a device that nobody listens for.
        for number in 0..5_000 {
            post.send(DeviceId(2), &ids(&[number])).expect("sent");
        }
        post.send(DeviceId(1), &ids(&[7])).expect("sent");
        assert_eq!(soon(link.next()).await, Ok(ids(&[7])));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_link_hears_whatever_is_sent_once_it_is_there() {
        let (post, _watch) = Post::start(10).expect("starts");
        let post = Arc::new(post);
        // The router takes up all that the house has sent as soon as it hears of any of it.
        let stop = Arc::new(AtomicBool::new(false));
        let noise = {
            let (post, stop) = (Arc::clone(&post), Arc::clone(&stop));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    post.send(DeviceId(9), &ids(&[9])).expect("sent");
                    std::thread::yield_now();
                }
            })
        };
        for round in 0..200 {
            let mut link = soon(post.link(DeviceId(round))).await.expect("linked");
            post.send(DeviceId(round), &ids(&[round])).expect("sent");
            assert_eq!(soon(link.next()).await, Ok(ids(&[round])));
        }
        stop.store(true, Ordering::Relaxed);
        noise.join().expect("no panic");
    }

    #[tokio::test]
    async fn a_link_may_be_left_and_taken_again_many_times() {
        let (post, _watch) = Post::start(10).expect("starts");
        let mut bystander = soon(post.link(DeviceId(9))).await.expect("linked");
        for round in 0..200 {
            let mut link = soon(post.link(DeviceId(1))).await.expect("linked");
            post.send(DeviceId(1), &ids(&[round])).expect("sent");
            assert_eq!(soon(link.next()).await, Ok(ids(&[round])), "nothing of an earlier round");
        }
        post.send(DeviceId(9), &ids(&[1])).expect("sent");
        assert_eq!(soon(bystander.next()).await, Ok(ids(&[1])));
    }

    #[tokio::test]
    async fn a_living_router_beats_as_often_as_it_is_asked() {
        let (post, mut watch) = Post::start(10).expect("starts");
        let watching = tokio::spawn(async move { watch.died().await });
        // More than its segments hold, and more than it sends before it unschedules a link.
        for _ in 0..500 {
            assert_eq!(soon(post.beat()).await, Ok(()));
        }
        post.kill_router().await;
        assert_eq!(soon(watching).await.expect("no panic"), RouterDied);
        let nobody = tokio::time::timeout(Duration::from_millis(100), post.beat()).await;
        assert_ne!(nobody, Ok(Ok(())), "a dead router has no pulse");
    }

    #[tokio::test]
    async fn the_routers_death_is_noticed() {
        let (post, mut watch) = Post::start(10).expect("starts");
        let mut link = soon(post.link(DeviceId(1))).await.expect("linked");
        post.kill_router().await;
        assert_eq!(soon(watch.died()).await, RouterDied);
        assert_eq!(soon(link.next()).await, Err(RouterDied));
        // Its links end before its queue does.
        let refused = async {
            while post.send(DeviceId(1), &ids(&[1])).is_ok() {
                tokio::task::yield_now().await;
            }
        };
        soon(refused).await;
        assert_eq!(soon(post.link(DeviceId(2))).await.err(), Some(RouterDied));
    }
}
