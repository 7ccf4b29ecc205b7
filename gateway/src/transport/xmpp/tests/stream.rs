//! The stream itself: how it begins, breaks, falls silent and begins anew.

use std::time::Duration;

use super::house::{ALICE, APP, House, Peer, limits, soon};
use crate::{
    model::{DeviceId, MessageId},
    transport::{Consignment, Event, Parting, Transport as _, Turned, battery, xmpp::Limits},
};

fn send(house: &House, device: DeviceId, id: u64) -> Result<(), Turned> {
    let items = vec![battery::item(device, id, b"hello")];
    house.room.hand_over(Consignment { device, items })
}

async fn left(house: &mut House) -> Parting {
    house.event(|event| if let Event::Left(parting) = event { Some(*parting) } else { None }).await
}

async fn acked(house: &mut House) -> Vec<MessageId> {
    house.event(|event| if let Event::Acked(ids) = event { Some(ids.clone()) } else { None }).await
}

async fn registered(limits: Limits) -> (House, Peer, DeviceId) {
    let mut house = House::with(limits).await;
    let mut peer = house.accept().await;
    peer.register(ALICE, APP).await;
    house.joined().await;
    let device = house.device();
    (house, peer, device)
}

#[tokio::test]
async fn a_refused_component_comes_again() {
    let mut house = House::start().await;
    for condition in ["not-authorized", "host-unknown", "conflict", "x"] {
        let mut peer = house.greet().await;
        peer.hear().await.expect("a handshake");
        peer.say(&format!("<stream:error><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-streams'/><text xmlns='urn:ietf:params:xml:ns:xmpp-streams'>no</text></stream:error></stream:stream>")).await;
        while peer.hear().await.is_some() {}
    }
    // Before its own header, too; and a stream without an id is no component's.
    let mut peer = house.accept().await;
    assert!(peer.is_alive().await);
}

#[tokio::test]
async fn a_second_connection_that_takes_over_is_yielded_to() {
    let (mut house, mut peer, device) = registered(limits()).await;
    peer.say("<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>").await;
    assert_eq!(left(&mut house).await, Parting::Ended);
    assert_eq!(send(&house, device, 1), Err(Turned::Absent));
    let mut peer = house.accept().await;
    assert!(!house.joined().await, "nobody has heard it: it is only believed to be there");
    assert_eq!(send(&house, device, 1), Ok(()));
    let push = peer.hear().await.expect("a push");
    peer.answer(&push, "result", "").await;
    assert_eq!(acked(&mut house).await, [MessageId(1)]);
}

#[tokio::test]
async fn a_server_that_does_not_greet_is_left() {
    let mut house = House::with(Limits { greeting: Duration::from_millis(100), ..limits() }).await;
    let (mute, _) = soon(house.listener.accept()).await.expect("a connection");
    assert!(house.accept().await.is_alive().await);
    drop(mute);
}

#[tokio::test]
async fn a_silent_server_is_pinged_twice_and_left() {
    let silence = (Duration::from_secs(2), Duration::from_millis(300));
    let (mut house, mut peer, _) = registered(Limits { silence, ..limits() }).await;
    for _ in 0..2 {
        let ping = peer.hear().await.expect("a ping");
        assert!(ping.contains("to='home.test'><ping xmlns='urn:xmpp:ping'/></iq>"), "{ping}");
    }
    assert_eq!(left(&mut house).await, Parting::Ended);
    assert!(house.accept().await.is_alive().await);
}

#[tokio::test]
async fn white_space_keeps_an_idle_stream_alive() {
    let keep_alive = Duration::from_millis(50);
    let (_house, peer, _) = registered(Limits { keep_alive, ..limits() }).await;
    let mut byte = [0];
    for _ in 0..3 {
        soon(peer.stream.readable()).await.expect("something");
        while peer.stream.try_read(&mut byte).is_err() {
            soon(peer.stream.readable()).await.expect("something");
        }
        assert_eq!(&byte, b" ");
    }
}

#[tokio::test]
async fn a_server_that_takes_nothing_is_left() {
    let write = Duration::from_millis(300);
    let (mut house, mut peer, device) = registered(Limits { write, ..limits() }).await;
    // Nothing of what is written is read from here on; answers to requests fill what lies between.
    let info = "<iq type='get' id='d' from='a@home.test/x' to='push.home.test'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>";
    let flood = info.repeat(200);
    let flooding = async {
        loop {
            use tokio::io::AsyncWriteExt as _;
            if peer.stream.write_all(flood.as_bytes()).await.is_err() {
                return;
            }
        }
    };
    let parting = soon(async {
        tokio::select! {
            parting = left(&mut house) => Some(parting),
            () = flooding => None,
        }
    })
    .await;
    if parting.is_none() {
        assert_eq!(left(&mut house).await, Parting::Ended);
    }
    assert_eq!(send(&house, device, 1), Err(Turned::Absent));
    assert!(house.accept().await.is_alive().await);
}

#[tokio::test]
async fn silence_is_out_of_coverage_and_a_late_answer_counts() {
    let answer = Duration::from_millis(100);
    let (mut house, mut peer, device) = registered(Limits { answer, ..limits() }).await;
    send(&house, device, 1).expect("there");
    let push = peer.hear().await.expect("a push");
    assert_eq!(left(&mut house).await, Parting::Lost);
    assert_eq!(send(&house, device, 1), Err(Turned::Absent));
    peer.answer(&push, "result", "").await;
    assert_eq!(acked(&mut house).await, [MessageId(1)]);
    assert!(house.joined().await, "whoever answers is there");
    assert_eq!(send(&house, device, 2), Ok(()));
}

#[tokio::test]
async fn an_answer_counts_also_by_the_next_stream() {
    let (mut house, mut peer, device) = registered(limits()).await;
    send(&house, device, 1).expect("there");
    let push = peer.hear().await.expect("a push");
    drop(peer);
    assert_eq!(left(&mut house).await, Parting::Ended);
    let mut peer = house.accept().await;
    house.joined().await;
    peer.answer(&push, "result", "").await;
    assert_eq!(acked(&mut house).await, [MessageId(1)]);
}

#[tokio::test]
async fn a_late_error_says_nothing_of_the_session_that_has_come_since() {
    let (mut house, mut peer, device) = registered(limits()).await;
    send(&house, device, 1).expect("there");
    let push = peer.hear().await.expect("a push");
    peer.say(&format!("<presence from='{ALICE}' to='push.home.test'/>")).await;
    assert!(house.joined().await);
    let late =
        "<error type='wait'><recipient-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>";
    peer.answer(&push, "error", late).await;
    assert!(peer.is_alive().await);
    assert_eq!(send(&house, device, 1), Ok(()));
    assert!(peer.hear().await.expect("a push").contains("<push "));
}

#[tokio::test]
async fn who_did_not_answer_is_tried_again() {
    let (answer, pause) = (Duration::from_millis(50), Duration::from_millis(50));
    let (mut house, _peer, device) =
        registered(Limits { answer, try_again: (pause, pause * 4), ..limits() }).await;
    for id in 1..=3 {
        send(&house, device, id).expect("there");
        assert_eq!(left(&mut house).await, Parting::Lost);
        assert!(!house.joined().await, "it is only believed to be there");
    }
}

#[tokio::test]
async fn the_room_ends_with_a_word() {
    let (mut house, mut peer, _) = registered(limits()).await;
    house.shutdown.send_replace(true);
    assert_eq!(peer.hear().await, None, "the end of the stream");
    assert_eq!(left(&mut house).await, Parting::Ended);
    soon(house.running).await.expect("it ends");
}
