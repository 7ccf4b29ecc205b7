//! How connections end, and what that says of the network.

use super::{
    house::{House, TestDirectory, config},
    raw::{Client, Connect},
    ways,
};
use crate::{
    model::DeviceId,
    transport::{Event, Notice, Parting, Transport as _, mqtt::Limits},
};
use std::{sync::Arc, time::Duration};
use tokio::net::TcpStream;

const DEVICE: DeviceId = DeviceId(7);

async fn parting(house: &mut House) -> Parting {
    house.event(|event| if let Event::Left(parting) = event { Some(*parting) } else { None }).await
}

async fn joined(level: u8) -> (House, Client<TcpStream>) {
    let mut house = House::start().await;
    let client = Client::join(house.address, DEVICE, level).await;
    house.joined().await;
    (house, client)
}

#[tokio::test]
async fn a_good_bye_and_a_closed_end_are_closed() {
    for level in [4, 5] {
        let (mut house, mut client) = joined(level).await;
        client.send(&[0xe0, 0]).await;
        assert_eq!(parting(&mut house).await, Parting::Closed, "DISCONNECT, level {level}");
        let (mut house, client) = joined(level).await;
        drop(client);
        assert_eq!(parting(&mut house).await, Parting::Closed, "FIN, level {level}");
    }
}

#[tokio::test]
async fn an_end_without_the_good_bye_of_what_lies_around_mqtt_is_closed() {
    let (mut house, ways) = ways::all();
    for (way, level) in ways {
        let client = way.join(DEVICE, level).await;
        house.joined().await;
        drop(client);
        assert_eq!(parting(&mut house).await, Parting::Closed, "{way:?}, level {level}");
    }
}

#[tokio::test]
async fn a_reset_is_lost() {
    let mut house = House::start().await;
    let stream = TcpStream::connect(house.address).await.expect("connects");
    let socket = stream.into_std().expect("a socket");
    let again = socket.try_clone().expect("a second handle");
    let mut client = Client::over(TcpStream::from_std(socket).expect("a socket"), 4);
    client.send(&Connect::of(DEVICE, 4).bytes()).await;
    client.packet().await;
    client.subscribe(&[(&format!("up/{DEVICE}/inbox/#"), 1)]).await;
    house.joined().await;
    nix::sys::socket::setsockopt(
        &again,
        nix::sys::socket::sockopt::Linger,
        &nix::libc::linger { l_onoff: 1, l_linger: 0 },
    )
    .expect("can be set");
    drop((client, again));
    assert_eq!(parting(&mut house).await, Parting::Lost);
}

#[tokio::test]
async fn silence_beyond_the_keep_alive_is_lost() {
    let mut house = House::start().await;
    let connect = Connect { keep_alive: 1, ..Connect::of(DEVICE, 4) };
    let (mut client, _) = Client::connect(house.address, &connect).await;
    client.subscribe(&[(&format!("up/{DEVICE}/inbox/#"), 1)]).await;
    house.joined().await;
    assert_eq!(parting(&mut house).await, Parting::Lost);
}

#[tokio::test]
async fn a_device_that_acknowledges_nothing_is_lost() {
    let limits = Limits { unacked: Duration::from_millis(300), ..Limits::default() };
    let mut house = House::with(&config(), limits, Arc::<TestDirectory>::default());
    let mut client = Client::join(house.address, DEVICE, 5).await;
    house.joined().await;
    let items = vec![crate::transport::battery::item(DEVICE, 1, b"body")];
    assert_eq!(house.room.hand_over(crate::transport::Consignment { device: DEVICE, items }), Ok(()));
    client.published().await;
    assert_eq!(parting(&mut house).await, Parting::Lost);
}

#[tokio::test]
async fn whoever_takes_over_had_lost_the_connection() {
    let (mut house, _first) = joined(5).await;
    let _second = Client::join(house.address, DEVICE, 5).await;
    assert_eq!(parting(&mut house).await, Parting::Lost);
}

#[tokio::test]
async fn what_the_gateway_ends_says_nothing() {
    let (mut house, _client) = joined(5).await;
    house.room.tell(Notice::Expelled(DEVICE));
    assert_eq!(parting(&mut house).await, Parting::Ended, "put out");
    let (mut house, _client) = joined(4).await;
    house.shutdown.send(true).expect("it runs");
    assert_eq!(parting(&mut house).await, Parting::Ended, "shutdown");
    let (mut house, mut client) = joined(5).await;
    client.send(&[0x00, 0]).await;
    assert_eq!(parting(&mut house).await, Parting::Ended, "a broken protocol");
}
