//! The house that the room is tested in: a directory in memory, a listener, and clients.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _};
use http::{Response, StatusCode};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

use crate::{
    clock::SystemClock,
    model::{
        AppToken, DeviceId, EndpointToken, NetworkName, PathToken, Registration, RegistrationId, Session,
        UnixTime,
    },
    transport::{
        Directory, EnrolRefusal, Enrolment, Event, Future, Invitation, Login, RegisterRefusal,
        RegisterRequest, RegisteredAs, Report,
        autopush::{AutopushRoom, Limits, seat::lock},
        web::{self, Audience, Hosted, Stays, Visit, Visitor},
    },
};

/// The secret half of a paired device's uaid, and its path's secret.
const SECRET: &str = "00000000000000aa";
const PATH_SECRET: [u8; PathToken::SECRET] = [7; 12];
/// Whose logins are throttled.
pub(super) const THROTTLED: DeviceId = DeviceId(429);

pub(super) fn uaid(device: DeviceId) -> String {
    format!("{:016x}{SECRET}", device.0)
}

pub(super) fn path(device: DeviceId) -> String {
    format!("/d/{}/", PathToken::new(device, PATH_SECRET))
}

#[derive(Debug, Default)]
pub(super) struct TestDirectory {
    pub(super) enrolled: Mutex<Vec<Enrolment>>,
    pub(super) full: Mutex<bool>,
    invited: Mutex<u64>,
    pub(super) registered: Mutex<HashMap<AppToken, RegisterRequest>>,
    pub(super) unregistered: Mutex<Vec<AppToken>>,
}

impl Directory for TestDirectory {
    fn app_token(&self, registration: RegistrationId) -> Option<AppToken> {
        (registration == RegistrationId(5)).then(|| "app".parse().expect("valid"))
    }

    fn enroll(&self, enrolment: Enrolment) -> Future<'_, Result<(), EnrolRefusal>> {
        Box::pin(async move {
            if *lock(&self.full) {
                return Err(EnrolRefusal::Full);
            }
            lock(&self.enrolled).push(enrolment);
            Ok(())
        })
    }

    fn invite(&self) -> Option<Invitation> {
        let mut invited = lock(&self.invited);
        *invited += 1;
        Some(Invitation { device: DeviceId(1000 + *invited), secret: "ffffffffffffffff".into() })
    }

    fn keep_alive(&self, _: DeviceId, _: &NetworkName) -> Option<Duration> {
        None
    }

    fn login(&self, id: &str, secret: &[u8], _: IpAddr) -> Login {
        let path_secret = PathToken::new(DeviceId(0), PATH_SECRET).secret();
        match id.parse::<DeviceId>() {
            Ok(THROTTLED) => Login::Throttled,
            Ok(device) if secret == SECRET.as_bytes() || secret == path_secret.as_bytes() => {
                Login::Welcome(device)
            }
            Ok(_) | Err(_) => Login::Refused,
        }
    }

    fn register(
        &self,
        device: DeviceId,
        request: RegisterRequest,
    ) -> Future<'_, Result<RegisteredAs, RegisterRefusal>> {
        Box::pin(async move {
            lock(&self.registered).insert(request.token.clone(), request.clone());
            let registration = Registration {
                app: request.app,
                created: UnixTime(0),
                device,
                endpoint: EndpointToken([1; 20]),
                id: RegistrationId(5),
                token: request.token,
                vapid: request.vapid,
            };
            Ok(RegisteredAs { endpoint: String::new(), registration })
        })
    }

    fn save_session(&self, _: DeviceId, _: Option<Session>) -> Future<'_, Result<(), RegisterRefusal>> {
        Box::pin(async { Ok(()) })
    }

    fn session(&self, _: DeviceId) -> Option<Session> {
        None
    }

    fn unregister(&self, _: DeviceId, token: AppToken) -> Future<'_, Result<(), RegisterRefusal>> {
        Box::pin(async move {
            lock(&self.unregistered).push(token);
            Ok(())
        })
    }
}

/// A running room.
pub(super) struct House {
    pub(super) address: SocketAddr,
    pub(super) audience: watch::Sender<Audience>,
    pub(super) directory: Arc<TestDirectory>,
    pub(super) reports: mpsc::Receiver<Report>,
    pub(super) room: Arc<AutopushRoom>,
    pub(super) running: tokio::task::JoinHandle<()>,
    pub(super) shutdown: watch::Sender<bool>,
}

impl House {
    pub(super) async fn start() -> Self {
        Self::with(Limits::default()).await
    }

    pub(super) async fn with(limits: Limits) -> Self {
        let directory = Arc::<TestDirectory>::default();
        let (sender, reports) = mpsc::channel(10_000);
        let room = AutopushRoom::open(
            "https://push.example.org".to_owned(),
            Arc::<TestDirectory>::clone(&directory),
            sender,
            Arc::new(SystemClock::default()),
            limits,
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let audience = watch::channel(Audience::Home).0;
        tokio::spawn(listen(listener, Arc::clone(&room), audience.subscribe()));
        let (shutdown, stop) = watch::channel(false);
        let running = tokio::spawn(Arc::clone(&room).run(stop));
        Self { address, audience, directory, reports, room, running, shutdown }
    }

    /// The next event that the function takes, past others.
    pub(super) async fn event<T>(&mut self, wanted: impl Fn(&Event) -> Option<T>) -> T {
        loop {
            let report = soon(self.reports.recv()).await.expect("the room is there");
            if let Some(found) = wanted(&report.event) {
                return found;
            }
        }
    }

    pub(super) async fn joined(&mut self) {
        self.event(|event| matches!(event, Event::Joined(_)).then_some(())).await;
    }

    /// A paired client after its hello.
    pub(super) async fn join(&self, device: DeviceId) -> Client {
        let mut client = Client::connect(self.address, "/").await;
        let hello = client.ask(json!({"messageType": "hello", "uaid": uaid(device)})).await;
        assert_eq!(hello["uaid"], uaid(device));
        client
    }
}

pub(super) async fn soon<T>(future: impl std::future::Future<Output = T>) -> T {
    timeout(Duration::from_secs(10), future).await.expect("within ten seconds")
}

/// What ingress does for the room, in short.
async fn listen(listener: TcpListener, room: Arc<AutopushRoom>, audience: watch::Receiver<Audience>) {
    let stays = Stays::new(100, 100);
    loop {
        let Ok((stream, peer)) = listener.accept().await else { return };
        let (room, stays, audience) = (Arc::clone(&room), Arc::clone(&stays), *audience.borrow());
        tokio::spawn(async move {
            let service = service_fn(|mut request: http::Request<hyper::body::Incoming>| {
                let token = request.uri().path().strip_prefix("/d/").map(|rest| rest.trim_end_matches('/'));
                let path = token.map(|token| token.parse().expect("a path"));
                if path.is_some() {
                    *request.uri_mut() = "/".parse().expect("valid");
                }
                let visitor = Visitor { audience, path, source: peer.ip(), stays: Arc::clone(&stays) };
                let visit = Arc::clone(&room).visit(request, &visitor);
                async move {
                    Ok::<Response<web::Body>, Infallible>(match visit {
                        Visit::Elsewhere(_) => web::answer(StatusCode::NOT_FOUND, ""),
                        Visit::Here(answer) => answer.await,
                    })
                }
            });
            let _ =
                http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
        });
    }
}

/// A client that says exactly what it is told to.
pub(super) struct Client(pub(super) WebSocketStream<TcpStream>);

impl Client {
    pub(super) async fn connect(address: SocketAddr, path: &str) -> Self {
        Self::try_connect(address, path, "").await.expect("let in")
    }

    /// `Err` holds the status code.
    pub(super) async fn try_connect(address: SocketAddr, path: &str, origin: &str) -> Result<Self, u16> {
        let stream = TcpStream::connect(address).await.expect("listening");
        let mut request = tokio_tungstenite::tungstenite::client::IntoClientRequest::into_client_request(
            format!("ws://{address}{path}"),
        )
        .expect("valid");
        if !origin.is_empty() {
            request.headers_mut().insert("origin", origin.parse().expect("valid"));
        }
        match soon(client_async(request, stream)).await {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(tokio_tungstenite::tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("no answer: {error}"),
        }
    }

    pub(super) async fn send(&mut self, message: Message) {
        soon(self.0.send(message)).await.expect("the room reads");
    }

    pub(super) async fn say(&mut self, message: Value) {
        self.send(Message::text(message.to_string())).await;
    }

    /// The next text message; `None` when the connection has ended.
    pub(super) async fn hear(&mut self) -> Option<Value> {
        loop {
            match soon(self.0.next()).await {
                Some(Ok(Message::Text(text))) => return Some(serde_json::from_str(&text).expect("JSON")),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(_))) => panic!("a Close frame, on which clients hang"),
                Some(Ok(Message::Binary(_) | Message::Frame(_))) => panic!("text is spoken here"),
                Some(Err(_)) | None => return None,
            }
        }
    }

    pub(super) async fn ask(&mut self, message: Value) -> Value {
        self.say(message).await;
        self.hear().await.expect("an answer")
    }

    pub(super) async fn ack(&mut self, version: &Value) {
        self.say(json!({"messageType": "ack", "updates": [{"channelID": "app", "version": version}]})).await;
    }
}
