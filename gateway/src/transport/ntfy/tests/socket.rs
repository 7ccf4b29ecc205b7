//! The WebSocket: whose pings keep it, and how it is told that a network has lost it.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Bytes, Message},
};

use super::door::Nobody;
use crate::{
    clock::SystemClock,
    config::{AnonymousPublish, NtfyConfig},
    model::{
        AppToken, DeviceId, EndpointToken, NetworkName, Registration, RegistrationId, Session, UnixTime,
    },
    transport::{
        Directory, Event, Future, Login, Parting, RegisterRefusal, RegisterRequest, RegisteredAs, Report,
        Transport, Turned,
        ntfy::{Limits, NtfyRoom},
        web::{Audience, Hosted, Stays, Visit, Visitor},
    },
};

const DEVICE: DeviceId = DeviceId(77);

/// Every topic is the device's.
struct OneOwner;

impl Directory for OneOwner {
    fn holder(&self, endpoint: &EndpointToken) -> Option<Registration> {
        Some(Registration {
            app: "app".into(),
            created: UnixTime(0),
            device: DEVICE,
            endpoint: *endpoint,
            id: RegistrationId(5),
            token: "upAbCdEf012345".parse().expect("valid"),
            vapid: None,
        })
    }

    fn keep_alive(&self, _: DeviceId, _: &NetworkName) -> Option<Duration> {
        None
    }

    fn login(&self, _: &str, _: &[u8], _: IpAddr) -> Login {
        Login::Refused
    }

    fn register(&self, _: DeviceId, _: RegisterRequest) -> Future<'_, Result<RegisteredAs, RegisterRefusal>> {
        Box::pin(async { Err(RegisterRefusal::Unauthorized) })
    }

    fn save_session(&self, _: DeviceId, _: Option<Session>) -> Future<'_, Result<(), RegisterRefusal>> {
        Box::pin(async { Ok(()) })
    }

    fn session(&self, _: DeviceId) -> Option<Session> {
        None
    }

    fn unregister(&self, _: DeviceId, _: AppToken) -> Future<'_, Result<(), RegisterRefusal>> {
        Box::pin(async { Ok(()) })
    }
}

struct House {
    address: SocketAddr,
    reports: mpsc::Receiver<Report>,
    room: Arc<NtfyRoom>,
    _shutdown: watch::Sender<bool>,
}

impl House {
    /// A room, and a client that has read `open`.
    async fn start(pong: Duration) -> (Self, WebSocketStream<TcpStream>) {
        let (sender, reports) = mpsc::channel(1_000);
        let config = NtfyConfig {
            anonymous_publish: AnonymousPublish::UnifiedPush,
            anonymous_subscribe: true,
            enabled: true,
            max_new_topics_per_source: 100,
        };
        let clock = Arc::new(SystemClock::default());
        let limits = Limits { pong, ..Limits::default() };
        let room =
            NtfyRoom::open(config, &[7; 32], Arc::new(OneOwner), Arc::new(Nobody), sender, clock, limits);
        let (shutdown, stop) = watch::channel(false);
        tokio::spawn(Arc::clone(&room).run(stop));

        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let served = Arc::clone(&room);
        tokio::spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                let served = Arc::clone(&served);
                let visitor = Visitor {
                    audience: Audience::Home,
                    path: None,
                    source: peer.ip(),
                    stays: Stays::new(10, 10),
                };
                let service = service_fn(move |request| {
                    let visit = Arc::clone(&served).visit(request, &visitor);
                    async move {
                        let Visit::Here(answer) = visit else { panic!("it is the room's") };
                        Ok::<_, Infallible>(answer.await)
                    }
                });
                let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection.with_upgrades());
            }
        });
        let house = Self { address, reports, room, _shutdown: shutdown };
        let client = house.client().await;
        (house, client)
    }

    /// Another client that has read `open`.
    async fn client(&self) -> WebSocketStream<TcpStream> {
        let stream = TcpStream::connect(self.address).await.expect("listening");
        let url = format!("ws://{}/upAbCdEf012345/ws", self.address);
        let (mut client, _) = soon(client_async(url, stream)).await.expect("a WebSocket");
        let open = soon(client.next()).await.expect("there").expect("a frame");
        assert!(open.to_text().expect("text").contains("\"event\":\"open\""), "{open}");
        client
    }

    /// The next report of this kind.
    async fn event<T>(&mut self, wanted: impl Fn(&Event) -> Option<T>) -> T {
        loop {
            let report = soon(self.reports.recv()).await.expect("the room is there");
            if let Some(found) = wanted(&report.event) {
                return found;
            }
        }
    }

    async fn parting(&mut self) -> Parting {
        self.event(|event| if let Event::Left(parting) = event { Some(*parting) } else { None }).await
    }
}

async fn soon<T>(future: impl std::future::Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), future).await.expect("soon")
}

#[tokio::test]
async fn line_4_the_gateway_pings_by_a_frame_and_a_missing_pong_is_a_lost_network() {
    let (mut house, mut client) = House::start(Duration::from_millis(100)).await;
    assert_eq!(house.room.ping(DeviceId(1)), Err(Turned::Absent));
    assert_eq!(house.room.ping(DEVICE), Ok(()));
    let ping = soon(client.next()).await.expect("there").expect("a frame");
    assert!(matches!(ping, Message::Ping(_)), "{ping:?}");
    // Who does not read does not answer.
    assert_eq!(house.room.ping(DEVICE), Ok(()));
    assert_eq!(house.parting().await, Parting::Lost);
}

#[tokio::test]
async fn line_4_a_clients_ping_is_answered_and_a_contact() {
    let (mut house, mut client) = House::start(Duration::from_secs(30)).await;
    soon(client.send(Message::Ping(Bytes::from_static(b"x")))).await.expect("it reads");
    house.event(|event| matches!(event, Event::Stirred).then_some(())).await;
    let pong = soon(client.next()).await.expect("there").expect("a frame");
    assert_eq!(pong, Message::Pong(Bytes::from_static(b"x")));
}

#[tokio::test]
async fn a_closed_web_socket_is_closed_and_a_reset_one_is_lost() {
    for (resets, wanted) in [(false, Parting::Closed), (true, Parting::Lost)] {
        let (mut house, client) = House::start(Duration::from_secs(30)).await;
        if resets {
            let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
            let socket = client.get_ref();
            nix::sys::socket::setsockopt(socket, nix::sys::socket::sockopt::Linger, &linger)
                .expect("can be set");
        }
        drop(client);
        assert_eq!(house.parting().await, wanted);
    }
}

#[tokio::test]
async fn who_comes_back_while_a_dead_connection_stands_has_lost_it() {
    let (mut house, first) = House::start(Duration::from_secs(60)).await;
    house.event(|event| matches!(event, Event::Joined(_)).then_some(())).await;
    // Who does not read does not answer.
    assert_eq!(house.room.ping(DEVICE), Ok(()));
    soon(first.get_ref().readable()).await.expect("the ping is there");
    let second = house.client().await;
    assert_eq!(house.parting().await, Parting::Lost);
    house.event(|event| matches!(event, Event::Joined(_)).then_some(())).await;
    drop((first, second));
}

#[tokio::test]
async fn who_overlaps_connections_that_are_alive_has_lost_nothing() {
    let (mut house, mut first) = House::start(Duration::from_secs(60)).await;
    house.event(|event| matches!(event, Event::Joined(_)).then_some(())).await;
    assert_eq!(house.room.ping(DEVICE), Ok(()));
    let ping = soon(first.next()).await.expect("there").expect("a frame");
    assert!(matches!(ping, Message::Ping(_)), "{ping:?}");
    soon(first.flush()).await.expect("it reads");
    house.event(|event| matches!(event, Event::Stirred).then_some(())).await;
    let second = house.client().await;
    let contact = |event: &Event| match event {
        Event::Left(_) | Event::Joined(_) => Some(false),
        Event::Stirred => Some(true),
        Event::Acked(_)
        | Event::Pulse(_)
        | Event::State(_)
        | Event::Kept(_)
        | Event::Taken(_)
        | Event::Turned(..) => None,
    };
    assert!(house.event(contact).await, "it was taken for one that has lost its connection");
    drop((first, second));
}
