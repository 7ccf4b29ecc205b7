//! What every room must do, tested once for all of them.
//!
//! A room's tests implement [`Harness`] for one paired device and expand the battery by
//! `battery::door!(ItsHarness)`.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{Consignment, Event, Item, Notice, Report, Transport, Turned, Window};
use crate::{
    clock::{Clock as _, SystemClock},
    model::{Coding, DeviceId, MessageId, MessageToken, PushMessage, RegistrationId, Ttl, UnixTime, Urgency},
};

/// A push as the device saw it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Push {
    pub(crate) body: Bytes,
    /// `None` where the protocol has no such mark.
    pub(crate) redelivery: Option<bool>,
}

/// What a room knows of a message that a device has got.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Level {
    /// The device says so: [`Event::Taken`] when it was written, then [`Event::Acked`].
    Device,
    /// It was written to a socket, and that settles it: [`Event::Kept`].
    Socket,
}

/// One room with one paired device, not connected at first. Nothing here may wait for ever.
pub(crate) trait Harness: Sized {
    /// What acknowledging means here.
    const LEVEL: Level = Level::Device;
    /// A new room.
    async fn start() -> Self;
    /// The door.
    fn room(&self) -> &dyn Transport;
    /// The paired device.
    fn device(&self) -> DeviceId;
    /// The device connects, so that it can receive pushes; its session is durable.
    async fn connect(&mut self);
    /// The device's connection ends without a word.
    async fn disconnect(&mut self);
    /// The device takes the next push, and does not acknowledge it yet.
    async fn next_push(&mut self) -> Push;
    /// The device acknowledges the nth of the pushes that it has taken and not acknowledged; at
    /// [`Level::Socket`], its connection is done with writing it.
    async fn acknowledge(&mut self, nth: usize);
    /// The next report.
    async fn next_report(&mut self) -> Report;
}

macro_rules! door {
    ($harness:ty) => {
        $crate::transport::battery::door! { $harness:
            a_device_that_is_not_there_is_absent
            a_consignment_arrives_in_order_and_is_reported
            acknowledgements_count_in_any_order
            a_full_window_is_turned_back_until_something_is_acknowledged
            the_window_counts_bytes_too
            leaving_unsettles
            what_comes_again_is_marked
            an_expelled_device_leaves
            handing_over_never_waits
        }
    };
    ($harness:ty: $($name:ident)+) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            $crate::transport::battery::$name::<$harness>().await;
        })+
    };
}
pub(crate) use door;

/// A message of the device with this number and body.
pub(crate) fn item(device: DeviceId, id: u64, body: &[u8]) -> Item {
    let mut token = [0; 24];
    token[16..].copy_from_slice(&id.to_be_bytes());
    let message = PushMessage {
        accepted: UnixTime(0),
        body: Bytes::copy_from_slice(body),
        coding: Coding { content_encoding: Some("aes128gcm".into()), ..Coding::default() },
        device,
        expires: SystemClock::default().moment().instant + Duration::from_secs(3600),
        id: MessageId(id),
        registration: RegistrationId(5),
        topic: None,
        ttl: Ttl::DEFAULT,
        urgency: Urgency::Normal,
    };
    Item { message: Arc::new(message), redelivery: false, remaining_s: 3600, token: MessageToken(token) }
}

fn consignment(device: DeviceId, items: Vec<Item>) -> Consignment {
    Consignment { device, items }
}

/// Waits for an event, past others, but not past the ten seconds after which nothing comes.
async fn event<H: Harness, T>(harness: &mut H, wanted: impl Fn(&Event) -> Option<T>) -> T {
    let waiting = async {
        loop {
            let report = harness.next_report().await;
            assert_eq!(report.device, harness.device(), "a report of somebody else");
            if let Some(found) = wanted(&report.event) {
                return found;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("the event within ten seconds")
}

async fn joined<H: Harness>(harness: &mut H) -> Window {
    harness.connect().await;
    event(harness, |event| if let Event::Joined(joined) = event { Some(joined.window) } else { None }).await
}

async fn acked<H: Harness>(harness: &mut H, mut ids: Vec<u64>) {
    while !ids.is_empty() {
        let got = event(harness, |event| match (H::LEVEL, event) {
            (Level::Device, Event::Acked(ids)) | (Level::Socket, Event::Kept(ids)) => Some(ids.clone()),
            _ => None,
        });
        for id in got.await {
            let at = ids.iter().position(|&wanted| wanted == id.0).expect("acknowledged once, and sent");
            ids.remove(at);
        }
    }
}

async fn left<H: Harness>(harness: &mut H) {
    event(harness, |event| matches!(event, Event::Left(_)).then_some(())).await;
}

pub(crate) async fn a_device_that_is_not_there_is_absent<H: Harness>() {
    let mut harness = H::start().await;
    let to = harness.device();
    let refused = harness.room().hand_over(consignment(to, vec![item(to, 1, b"1")]));
    assert_eq!(refused, Err(Turned::Absent));
    joined(&mut harness).await;
    let stranger = DeviceId(to.0 ^ 1);
    let refused = harness.room().hand_over(consignment(stranger, vec![item(stranger, 1, b"1")]));
    assert_eq!(refused, Err(Turned::Absent));
}

pub(crate) async fn a_consignment_arrives_in_order_and_is_reported<H: Harness>() {
    let mut harness = H::start().await;
    let to = harness.device();
    joined(&mut harness).await;
    let bodies = [&b"one"[..], b"", b"three"];
    let items = (1..).zip(bodies).map(|(id, body)| item(to, id, body)).collect();
    assert_eq!(harness.room().hand_over(consignment(to, items)), Ok(()));
    let mut taken = Vec::new();
    // Where writing settles it, it is not told apart.
    while H::LEVEL == Level::Device && taken.len() < 3 {
        taken.append(
            &mut event(
                &mut harness,
                |event| {
                    if let Event::Taken(ids) = event { Some(ids.clone()) } else { None }
                },
            )
            .await,
        );
    }
    if H::LEVEL == Level::Device {
        assert_eq!(taken, [MessageId(1), MessageId(2), MessageId(3)]);
    }
    for body in bodies {
        let push = harness.next_push().await;
        assert_eq!(push.body, body);
        assert_ne!(push.redelivery, Some(true), "it has never been sent before");
    }
    for _ in 0..3 {
        harness.acknowledge(0).await;
    }
    acked(&mut harness, vec![1, 2, 3]).await;
}

pub(crate) async fn acknowledgements_count_in_any_order<H: Harness>() {
    let mut harness = H::start().await;
    let to = harness.device();
    joined(&mut harness).await;
    let items = (1..=3).map(|id| item(to, id, b"x")).collect();
    assert_eq!(harness.room().hand_over(consignment(to, items)), Ok(()));
    for _ in 0..3 {
        harness.next_push().await;
    }
    harness.acknowledge(2).await;
    acked(&mut harness, vec![3]).await;
    harness.acknowledge(0).await;
    harness.acknowledge(0).await;
    acked(&mut harness, vec![1, 2]).await;
}

pub(crate) async fn a_full_window_is_turned_back_until_something_is_acknowledged<H: Harness>() {
    let mut harness = H::start().await;
    let to = harness.device();
    let window = joined(&mut harness).await;
    let all = u64::from(window.messages);
    for id in 1..=all {
        assert_eq!(harness.room().hand_over(consignment(to, vec![item(to, id, b"x")])), Ok(()), "{id}");
    }
    let one_more = consignment(to, vec![item(to, all + 1, b"x")]);
    assert_eq!(harness.room().hand_over(one_more.clone()), Err(Turned::Full));
    harness.next_push().await;
    harness.acknowledge(0).await;
    acked(&mut harness, vec![1]).await;
    assert_eq!(harness.room().hand_over(one_more.clone()), Ok(()));
    assert_eq!(harness.room().hand_over(one_more), Err(Turned::Full));
}

pub(crate) async fn the_window_counts_bytes_too<H: Harness>() {
    let mut harness = H::start().await;
    let to = harness.device();
    let window = joined(&mut harness).await;
    let body = vec![7; window.bytes as usize / 2];
    let items = |ids: [u64; 2]| ids.into_iter().map(|id| item(to, id, &body)).collect::<Vec<_>>();
    let mut three = items([1, 2]);
    three.push(item(to, 3, b"1"));
    three.push(item(to, 4, b"1"));
    assert_eq!(harness.room().hand_over(consignment(to, three)), Err(Turned::Full));
    assert_eq!(harness.room().hand_over(consignment(to, items([1, 2]))), Ok(()));
    assert_eq!(harness.room().hand_over(consignment(to, items([3, 4]))), Err(Turned::Full));
}

pub(crate) async fn leaving_unsettles<H: Harness>() {
    let mut harness = H::start().await;
    let to = harness.device();
    let window = joined(&mut harness).await;
    let full = |from: u64| (from..from + u64::from(window.messages)).map(|id| item(to, id, b"x")).collect();
    assert_eq!(harness.room().hand_over(consignment(to, full(1))), Ok(()));
    harness.next_push().await;
    harness.disconnect().await;
    left(&mut harness).await;
    assert_eq!(harness.room().hand_over(consignment(to, full(1))), Err(Turned::Absent));
    joined(&mut harness).await;
    assert_eq!(harness.room().hand_over(consignment(to, full(1))), Ok(()), "nothing was in flight");
}

pub(crate) async fn what_comes_again_is_marked<H: Harness>() {
    let mut harness = H::start().await;
    let to = harness.device();
    joined(&mut harness).await;
    let first = item(to, 1, b"x");
    assert_eq!(harness.room().hand_over(consignment(to, vec![first.clone()])), Ok(()));
    harness.next_push().await;
    harness.disconnect().await;
    left(&mut harness).await;
    joined(&mut harness).await;
    let again = vec![Item { redelivery: true, ..first }, item(to, 2, b"y")];
    assert_eq!(harness.room().hand_over(consignment(to, again)), Ok(()));
    let (again, new) = (harness.next_push().await, harness.next_push().await);
    assert_eq!((&again.body[..], &new.body[..]), (&b"x"[..], &b"y"[..]));
    assert_ne!(again.redelivery, Some(false));
    assert_ne!(new.redelivery, Some(true));
    harness.acknowledge(0).await;
    acked(&mut harness, vec![1]).await;
}

pub(crate) async fn an_expelled_device_leaves<H: Harness>() {
    let mut harness = H::start().await;
    let to = harness.device();
    joined(&mut harness).await;
    harness.room().tell(Notice::Expelled(to));
    tokio::time::timeout(Duration::from_secs(1), left(&mut harness)).await.expect("within a second");
    let refused = harness.room().hand_over(consignment(to, vec![item(to, 1, b"1")]));
    assert_eq!(refused, Err(Turned::Absent));
}

pub(crate) async fn handing_over_never_waits<H: Harness>() {
    let mut harness = H::start().await;
    let to = harness.device();
    let window = joined(&mut harness).await;
    let body = vec![7; (window.bytes / u32::from(window.messages)) as usize];
    let clock = SystemClock::default();
    let begun = clock.moment().instant;
    // The device reads nothing of this. Twice the window: half of it is turned back.
    let fits = (1..=2 * u64::from(window.messages))
        .filter(|&id| harness.room().hand_over(consignment(to, vec![item(to, id, &body)])).is_ok())
        .count();
    assert_eq!(fits, usize::from(window.messages));
    let took = clock.moment().instant - begun;
    assert!(took < Duration::from_millis(500), "handing over took {took:?}");
}
