//! The ways by which a client reaches the room: what holds by one has to hold by each.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use super::{
    house::House,
    raw::{Client, Connect, Packet},
    secure, web_front,
};
use crate::model::DeviceId;

/// A stream of whichever kind.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A listener of a room. Another kind of listener is another variant, and every test of this module's
/// users goes through it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    Tcp(SocketAddr),
    Tls(SocketAddr),
    /// WebSocket, at `/mqtt` of an HTTP listener.
    Web(SocketAddr),
}

pub(super) type AnyClient = Client<Box<dyn Stream>>;

impl Way {
    /// Opens a connection and says nothing.
    pub(super) async fn open(self, level: u8) -> AnyClient {
        let stream: Box<dyn Stream> = match self {
            Self::Tcp(address) => Box::new(TcpStream::connect(address).await.expect("connects")),
            Self::Tls(address) => Box::new(secure::handshake(address).await),
            Self::Web(address) => Box::new(web_front::upgrade(address).await),
        };
        Client::over(stream, level)
    }

    /// CONNECT; returns CONNACK too.
    pub(super) async fn connect(self, connect: &Connect) -> (AnyClient, Packet) {
        let mut client = self.open(connect.level).await;
        client.send(&connect.bytes()).await;
        let connack = client.packet().await;
        assert_eq!(connack.kind(), 2, "{connack:?}");
        (client, connack)
    }

    /// A device that has logged in.
    pub(super) async fn log_in(self, device: DeviceId, level: u8) -> AnyClient {
        let (client, connack) = self.connect(&Connect::of(device, level)).await;
        assert_eq!(connack.body[1], 0, "{connack:?}");
        client
    }

    /// A device that has subscribed to all of its inbox.
    pub(super) async fn join(self, device: DeviceId, level: u8) -> AnyClient {
        let mut client = self.log_in(device, level).await;
        assert_eq!(client.subscribe(&[(&format!("up/{device}/inbox/#"), 1)]).await, [1]);
        client
    }
}

/// A room with every listener there is, and each of the ways into it in both versions.
pub(super) fn all() -> (House, Vec<(Way, u8)>) {
    let (house, secure) = secure::start();
    let web = web_front::start(&house);
    let ways = [Way::Tcp(house.address), Way::Tls(secure), Way::Web(web)];
    (house, ways.into_iter().flat_map(|way| [(way, 4), (way, 5)]).collect())
}
