//! The house that the room is tested in: a directory in memory, and the server's side of XEP-0114.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::timeout,
};

use crate::{
    clock::{ManualClock, SharedClock, SystemClock},
    config::XmppConfig,
    model::{
        Address, AppToken, DeviceId, EndpointToken, NetworkName, Registration, RegistrationId, Session,
        UnixTime,
    },
    transport::{
        Directory, EnrolRefusal, Enrolment, Event, Future, Invitation, Later, Login, Post, Posted,
        RegisterRefusal, RegisterRequest, RegisteredAs, Report,
        xmpp::{self, Limits, XmppRoom, wire},
    },
};

pub(super) const SECRET: &str = "s3cret-component";
pub(super) const ALICE: &str = "alice@home.test/Conversations.aB3d";
/// What Conversations sends for com.keylesspalace.tusky and the token tok-1 of one account.
pub(super) const APP: &str = "p+HvF3DME9ZnPVoyg/akc/LaRXOBSVIh4OSYCrpObxk=";
pub(super) const INSTANCE: &str = "oUYo9utYjF/RJZ1jA2MwY1pL/T1v1wqmPfj6tI7ezWw=";
/// Another app's.
pub(super) const OTHER: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

/// Everything is there at once, and nothing fails but for want of room.
#[derive(Debug, Default)]
pub(super) struct TestDirectory {
    pub(super) enrolled: Mutex<Vec<(DeviceId, Box<str>)>>,
    pub(super) known: Mutex<Vec<(Registration, Address)>>,
}

impl TestDirectory {
    pub(super) fn known(&self) -> MutexGuard<'_, Vec<(Registration, Address)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Directory for TestDirectory {
    fn address(&self, registration: RegistrationId) -> Option<Address> {
        let known = self.known();
        known.iter().find(|(known, _)| known.id == registration).map(|(_, address)| address.clone())
    }

    fn addresses(&self) -> Vec<(Registration, Address)> {
        self.known().clone()
    }

    fn app_token(&self, registration: RegistrationId) -> Option<AppToken> {
        let known = self.known();
        known.iter().find(|(known, _)| known.id == registration).map(|(known, _)| known.token.clone())
    }

    fn holder(&self, endpoint: &EndpointToken) -> Option<Registration> {
        let known = self.known();
        known.iter().find(|(known, _)| known.endpoint == *endpoint).map(|(known, _)| known.clone())
    }

    fn registration(&self, registration: RegistrationId) -> Option<Registration> {
        let known = self.known();
        known.iter().find(|(known, _)| known.id == registration).map(|(known, _)| known.clone())
    }

    fn registrations(&self, device: DeviceId) -> Vec<Registration> {
        let known = self.known();
        known.iter().filter(|(known, _)| known.device == device).map(|(known, _)| known.clone()).collect()
    }

    fn enroll(&self, enrolment: Enrolment) -> Future<'_, Result<(), EnrolRefusal>> {
        Box::pin(async move {
            let device = (enrolment.invitation.device, enrolment.name);
            let mut enrolled = self.enrolled.lock().unwrap_or_else(PoisonError::into_inner);
            if !enrolled.contains(&device) {
                enrolled.push(device);
            }
            Ok(())
        })
    }

    fn invite(&self) -> Option<Invitation> {
        Some(Invitation { device: DeviceId(1), secret: "0000000000000000".into() })
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

    fn register_at(
        &self,
        device: DeviceId,
        request: RegisterRequest,
        address: Address,
        most: usize,
    ) -> Future<'_, Result<RegisteredAs, RegisterRefusal>> {
        Box::pin(async move {
            let mut known = self.known();
            let mine = |known: &Registration| known.device == device && known.token == request.token;
            let at = known.iter().position(|(known, _)| mine(known));
            let registration = match at {
                Some(at) => known.remove(at).0,
                None if known.iter().filter(|(known, _)| known.device == device).count() >= most => {
                    return Err(RegisterRefusal::ActionRequired);
                }
                None => Registration {
                    app: request.app,
                    created: UnixTime(0),
                    device,
                    endpoint: EndpointToken([7; 20]),
                    // The battery pushes to this one.
                    id: RegistrationId(5 + known.len() as u64),
                    token: request.token,
                    vapid: None,
                },
            };
            known.push((registration.clone(), address));
            let endpoint = format!("https://push.example.org/p/{}", registration.endpoint);
            Ok(RegisteredAs { endpoint, registration })
        })
    }

    fn save_session(&self, _: DeviceId, _: Option<Session>) -> Future<'_, Result<(), RegisterRefusal>> {
        Box::pin(async { Ok(()) })
    }

    fn session(&self, _: DeviceId) -> Option<Session> {
        None
    }

    fn unregister(&self, device: DeviceId, token: AppToken) -> Future<'_, Result<(), RegisterRefusal>> {
        Box::pin(async move {
            self.known().retain(|(known, _)| known.device != device || known.token != token);
            Ok(())
        })
    }
}

/// Takes in everything, or nothing.
#[derive(Debug, Default)]
pub(super) struct TestPost(Mutex<(Vec<Posted>, bool)>);

impl TestPost {
    fn state(&self) -> MutexGuard<'_, (Vec<Posted>, bool)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn fail(&self, fails: bool) {
        self.state().1 = fails;
    }

    pub(super) fn posted(&self) -> Vec<Posted> {
        self.state().0.clone()
    }
}

impl Post for TestPost {
    fn post(&self, posted: Posted) -> Future<'_, Result<(), Later>> {
        Box::pin(async move {
            let mut state = self.state();
            if state.1 {
                return Err(Later);
            }
            state.0.push(posted);
            Ok(())
        })
    }
}

/// A running room, and the listener of its server.
pub(super) struct House {
    pub(super) directory: Arc<TestDirectory>,
    pub(super) listener: TcpListener,
    pub(super) post: Arc<TestPost>,
    pub(super) reports: mpsc::Receiver<Report>,
    pub(super) room: Arc<XmppRoom>,
    pub(super) running: tokio::task::JoinHandle<()>,
    pub(super) shutdown: watch::Sender<bool>,
}

/// As fast as tests want things to be.
pub(super) fn limits() -> Limits {
    let back_off = (Duration::from_millis(20), Duration::from_millis(200));
    Limits { back_off, ..Limits::default() }
}

impl House {
    pub(super) async fn start() -> Self {
        Self::with(limits()).await
    }

    pub(super) async fn with(limits: Limits) -> Self {
        Self::by(limits, Arc::new(SystemClock::default())).await
    }

    /// With a clock that stands still: nothing happens by its time but what is read from it.
    pub(super) async fn at(clock: Arc<ManualClock>) -> Self {
        Self::by(limits(), clock).await
    }

    async fn by(limits: Limits, clock: SharedClock) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let config = XmppConfig {
            allowed_domains: vec!["home.test".to_owned()],
            component: "push.home.test".to_owned(),
            max_registrations_per_account: 3,
            secret_file: None,
            server: listener.local_addr().expect("bound"),
        };
        let directory = Arc::<TestDirectory>::default();
        let (sender, reports) = mpsc::channel(10_000);
        let secret = SECRET.to_owned();
        let post = Arc::<TestPost>::default();
        let house = xmpp::House {
            clock,
            directory: Arc::<TestDirectory>::clone(&directory),
            post: Arc::<TestPost>::clone(&post),
            reports: sender,
        };
        let room = XmppRoom::open(config, secret, &[3; 32], house, limits);
        let (shutdown, stop) = watch::channel(false);
        let running = tokio::spawn(Arc::clone(&room).run(stop));
        Self { directory, listener, post, reports, room, running, shutdown }
    }

    /// The room's next connection, after its handshake.
    pub(super) async fn accept(&mut self) -> Peer {
        let mut peer = self.greet().await;
        let hash = wire::handshake("3BF96D32", SECRET);
        assert_eq!(peer.hear().await.as_deref(), Some(&*hash));
        peer.say("<handshake/>").await;
        peer
    }

    /// The room's next connection, before it has shown its secret.
    pub(super) async fn greet(&mut self) -> Peer {
        let (stream, _) = soon(self.listener.accept()).await.expect("a connection");
        let mut peer = Peer { seen: String::new(), stream };
        let opening =
            peer.until('>').await.expect("a declaration") + &peer.until('>').await.expect("a stream");
        assert_eq!(opening, wire::opening("push.home.test"));
        peer.say("<?xml version='1.0'?><stream:stream xmlns:stream='http://etherx.jabber.org/streams' xmlns='jabber:component:accept' from='push.home.test' id='3BF96D32'>").await;
        peer
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

    pub(super) async fn joined(&mut self) -> bool {
        self.event(|event| if let Event::Joined(joined) = event { Some(joined.heard) } else { None }).await
    }

    /// The device that has registered.
    pub(super) fn device(&self) -> DeviceId {
        self.directory.known().first().expect("registered").0.device
    }
}

pub(super) async fn soon<T>(future: impl std::future::Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), future).await.expect("within twenty seconds")
}

/// The server's end of a stream.
#[derive(Debug)]
pub(super) struct Peer {
    seen: String,
    pub(super) stream: TcpStream,
}

impl Peer {
    pub(super) async fn say(&mut self, text: &str) {
        soon(self.stream.write_all(text.as_bytes())).await.expect("the room reads");
    }

    /// Up to this character; `None` when the stream has ended.
    async fn until(&mut self, end: char) -> Option<String> {
        loop {
            if let Some(at) = self.seen.find(end) {
                let rest = self.seen.split_off(at + end.len_utf8());
                return Some(std::mem::replace(&mut self.seen, rest));
            }
            let mut chunk = [0; 4096];
            let length = soon(self.stream.read(&mut chunk)).await.ok().filter(|length| *length > 0)?;
            self.seen.push_str(std::str::from_utf8(&chunk[..length]).expect("UTF-8"));
        }
    }

    /// The next stanza; `None` when the stream has ended. Only what the room writes is understood: no element in
    /// a stanza has the stanza's name.
    pub(super) async fn hear(&mut self) -> Option<String> {
        let head = self.until('>').await?.trim_start().to_owned();
        let name = head.trim_start_matches('<').split([' ', '>', '/']).next().unwrap_or_default().to_owned();
        let (mut stanza, end) = (head, format!("</{name}>"));
        if stanza.starts_with("</") {
            return None;
        }
        while !stanza.ends_with("/>") && !stanza.ends_with(&end)
            || stanza.matches('<').count() > 1 && !stanza.ends_with(&end)
        {
            stanza += &self.until('>').await?;
        }
        Some(stanza)
    }

    /// A request, and its answer.
    pub(super) async fn ask(&mut self, stanza: &str) -> String {
        self.say(stanza).await;
        self.hear().await.expect("an answer")
    }

    /// Registers; gives the endpoint.
    pub(super) async fn register(&mut self, from: &str, application: &str) -> String {
        let answer = self.ask(&register(from, application, INSTANCE)).await;
        attribute(&answer, "endpoint").unwrap_or_else(|| panic!("refused: {answer}"))
    }

    /// The answer of a client to a push.
    pub(super) async fn answer(&mut self, push: &str, kind: &str, payload: &str) {
        let (id, from) = (attribute(push, "id").expect("an id"), attribute(push, "to").expect("an address"));
        self.say(&format!("<iq type='{kind}' id='{id}' from='{from}' to='push.home.test'>{payload}</iq>"))
            .await;
    }

    /// Whether the stream still works.
    pub(super) async fn is_alive(&mut self) -> bool {
        self.say("<iq type='get' id='alive' from='home.test' to='push.home.test'><ping xmlns='urn:xmpp:ping'/></iq>")
            .await;
        loop {
            match self.hear().await {
                Some(answer) if answer.contains("id='alive'") => return answer.contains("type='result'"),
                Some(_) => {}
                None => return false,
            }
        }
    }
}

pub(super) fn register(from: &str, application: &str, instance: &str) -> String {
    format!(
        "<iq type='set' id='r1' from='{from}' to='push.home.test'><register xmlns='http://gultsch.de/xmpp/drafts/unified-push' application='{application}' instance='{instance}'/></iq>"
    )
}

/// The value of the first attribute of this name.
pub(super) fn attribute(stanza: &str, name: &str) -> Option<String> {
    let (_, rest) = stanza.split_once(&format!(" {name}='"))?;
    rest.split_once('\'').map(|(value, _)| value.to_owned())
}
