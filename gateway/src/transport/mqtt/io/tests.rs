//! What every accepted socket gets.

use nix::sys::socket::{getsockopt, setsockopt, sockopt};

use super::*;
use crate::transport::mqtt::tests::house::House;

#[tokio::test]
async fn sockets_end_dead_peers_by_themselves_and_never_probe() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    // A listener that a service manager passes may hand this down.
    setsockopt(&listener, sockopt::KeepAlive, &true).expect("set");
    let address = listener.local_addr().expect("bound");
    let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (_client, (stream, _)) = (client.expect("connects"), accepted.expect("accepts"));
    assert!(getsockopt(&stream, sockopt::KeepAlive).expect("asked"), "handed down");
    set_options(&stream, Duration::from_secs(60)).expect("set");
    assert!(!getsockopt(&stream, sockopt::KeepAlive).expect("asked"));
    assert_eq!(getsockopt(&stream, sockopt::TcpUserTimeout).expect("asked"), 60_000);
    assert!(stream.nodelay().expect("asked"));
}

/// Each connection has its task for as long as it lives, most of them idle.
#[tokio::test]
async fn a_connections_task_is_small() {
    let house = House::start().await;
    let address = house.address;
    let (client, peer) = (TcpStream::connect(address).await.expect("connects"), address);
    let place = place(&house.room, peer.ip()).await.ok().expect("a place");
    let task = size_of_val(&welcome(Arc::clone(&house.room), client, peer, place));
    assert!(task <= 4_000, "{task} bytes");
}
