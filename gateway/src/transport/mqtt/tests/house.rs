//! The house that the room is tested in: a directory in memory, and a running room.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};

use super::raw::PATIENCE;
use crate::{
    clock::SystemClock,
    config::MqttConfig,
    model::{
        AppToken, DeviceId, EndpointToken, NetworkName, Registration, RegistrationId, Session, UnixTime,
    },
    transport::{
        About, Directory, Event, Future, Login, News, RegisterRefusal, RegisterRequest, RegisteredAs, Report,
        Tell,
        mqtt::{BoundRoom, Limits, MqttRoom, RouterDied, seat::lock},
    },
};

/// Every device is paired; its secret is its id. The user `throttled` is just that.
pub(crate) struct TestDirectory {
    /// What the networks of all devices are known to bear.
    pub(crate) learnt: Mutex<Option<Duration>>,
    /// Happens while a login is judged, once.
    pub(crate) meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    /// What devices are to be told, until they have been.
    pub(crate) news: Mutex<HashMap<DeviceId, Vec<News>>>,
    pub(crate) registered: Mutex<Vec<RegisterRequest>>,
    pub(crate) sessions: Mutex<HashMap<DeviceId, Session>>,
    pub(crate) unregistered: Mutex<Vec<AppToken>>,
    /// The disk answers while this is true.
    pub(crate) disk: watch::Sender<bool>,
    /// What writing comes to.
    pub(crate) trouble: Mutex<Option<RegisterRefusal>>,
}

impl Default for TestDirectory {
    fn default() -> Self {
        Self {
            disk: watch::channel(true).0,
            learnt: Mutex::default(),
            meanwhile: Mutex::default(),
            news: Mutex::default(),
            registered: Mutex::default(),
            sessions: Mutex::default(),
            trouble: Mutex::default(),
            unregistered: Mutex::default(),
        }
    }
}

impl TestDirectory {
    /// The owner has ended this app's registration.
    pub(crate) fn ends(&self, device: DeviceId, token: &str) {
        let mut endpoint = [0; 20];
        endpoint[..token.len()].copy_from_slice(token.as_bytes());
        let about = About::End(EndpointToken(endpoint));
        let tell = vec![Tell::Unregistered(token.parse().expect("a token"))];
        lock(&self.news).entry(device).or_default().push(News { about, tell });
    }

    async fn write(&self) -> Result<(), RegisterRefusal> {
        let _ = self.disk.subscribe().wait_for(|works| *works).await;
        lock(&self.trouble).map_or(Ok(()), Err)
    }
}

pub(crate) fn endpoint(token: &str) -> String {
    format!("https://push.example.org/p/{token}")
}

impl Directory for TestDirectory {
    fn login(&self, id: &str, secret: &[u8], _: IpAddr) -> Login {
        if let Some(happens) = lock(&self.meanwhile).take() {
            happens();
        }
        match id.parse::<DeviceId>() {
            _ if id == "throttled" => Login::Throttled,
            Ok(device) if id.as_bytes() == secret => Login::Welcome(device),
            Ok(_) | Err(_) => Login::Refused,
        }
    }

    fn register(
        &self,
        device: DeviceId,
        request: RegisterRequest,
    ) -> Future<'_, Result<RegisteredAs, RegisterRefusal>> {
        Box::pin(async move {
            self.write().await?;
            lock(&self.registered).push(request.clone());
            Ok(RegisteredAs {
                endpoint: endpoint(request.token.as_str()),
                registration: Registration {
                    app: request.app,
                    created: UnixTime(0),
                    device,
                    endpoint: EndpointToken([1; 20]),
                    id: RegistrationId(5),
                    token: request.token,
                    vapid: request.vapid,
                },
            })
        })
    }

    fn keep_alive(&self, _: DeviceId, _: &NetworkName) -> Option<Duration> {
        *lock(&self.learnt)
    }

    fn news(&self, device: DeviceId) -> Vec<News> {
        lock(&self.news).get(&device).cloned().unwrap_or_default()
    }

    fn told(&self, device: DeviceId, told: &[About]) {
        lock(&self.news).entry(device).or_default().retain(|news| !told.contains(&news.about));
    }

    fn save_session(
        &self,
        device: DeviceId,
        session: Option<Session>,
    ) -> Future<'_, Result<(), RegisterRefusal>> {
        Box::pin(async move {
            self.write().await?;
            match session {
                Some(session) => lock(&self.sessions).insert(device, session),
                None => lock(&self.sessions).remove(&device),
            };
            Ok(())
        })
    }

    fn session(&self, device: DeviceId) -> Option<Session> {
        lock(&self.sessions).get(&device).cloned()
    }

    fn unregister(&self, _: DeviceId, token: AppToken) -> Future<'_, Result<(), RegisterRefusal>> {
        Box::pin(async move {
            self.write().await?;
            lock(&self.unregistered).push(token);
            Ok(())
        })
    }
}

/// A running room.
pub(crate) struct House {
    pub(crate) address: SocketAddr,
    pub(crate) directory: Arc<TestDirectory>,
    pub(crate) reports: mpsc::Receiver<Report>,
    pub(crate) room: Arc<MqttRoom>,
    pub(crate) running: JoinHandle<Result<(), RouterDied>>,
    pub(crate) shutdown: watch::Sender<bool>,
}

pub(crate) fn config() -> MqttConfig {
    MqttConfig {
        host: None,
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        max_connections: 100,
        max_connections_per_source: 64,
        max_keep_alive_s: 900,
        tls: None,
    }
}

impl House {
    pub(crate) async fn start() -> Self {
        Self::with(&config(), Limits::default(), Arc::default())
    }

    pub(crate) fn with(config: &MqttConfig, limits: Limits, directory: Arc<TestDirectory>) -> Self {
        Self::open(MqttRoom::bind(config).expect("binds").with_limits(limits), directory)
    }

    pub(crate) fn open(bound: BoundRoom, directory: Arc<TestDirectory>) -> Self {
        let (sender, reports) = mpsc::channel(10_000);
        let address = bound.local_addr();
        let room = bound
            .open(Arc::<TestDirectory>::clone(&directory), sender, Arc::new(SystemClock::default()))
            .expect("starts");
        let (shutdown, stop) = watch::channel(false);
        let running = tokio::spawn(Arc::clone(&room).run(stop));
        Self { address, directory, reports, room, running, shutdown }
    }

    /// The next event that the function takes, past others.
    pub(crate) async fn event<T>(&mut self, wanted: impl Fn(&Event) -> Option<T>) -> T {
        loop {
            let report = timeout(PATIENCE, self.reports.recv()).await.expect("an event in time");
            if let Some(found) = wanted(&report.expect("the room is there").event) {
                return found;
            }
        }
    }

    pub(crate) async fn left(&mut self) {
        self.event(|event| matches!(event, Event::Left(_)).then_some(())).await;
    }

    pub(crate) async fn joined(&mut self) {
        self.event(|event| matches!(event, Event::Joined(_)).then_some(())).await;
    }

    /// Limits that a test need not wait long for.
    pub(crate) fn impatient() -> Limits {
        Limits {
            greeting: Duration::from_millis(200),
            write: Duration::from_millis(500),
            unacked: Duration::from_millis(300),
            ..Limits::default()
        }
    }
}
