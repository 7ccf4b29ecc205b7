//! What every accepted socket gets.

use nix::sys::socket::{getsockopt, setsockopt, sockopt};

use super::*;

#[tokio::test]
async fn sockets_end_dead_peers_by_themselves_and_never_probe() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    // A listener that a service manager passes may hand this down.
    setsockopt(&listener, sockopt::KeepAlive, &true).expect("set");
    let address = listener.local_addr().expect("bound");
    let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (_client, (stream, _)) = (client.expect("connects"), accepted.expect("accepts"));
    assert!(getsockopt(&stream, sockopt::KeepAlive).expect("asked"), "handed down");
    prepare(&stream, Duration::from_secs(60)).expect("prepared");
    assert!(!getsockopt(&stream, sockopt::KeepAlive).expect("asked"));
    assert_eq!(getsockopt(&stream, sockopt::TcpUserTimeout).expect("asked"), 60_000);
    assert!(stream.nodelay().expect("asked"));
}
