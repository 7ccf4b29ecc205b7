//! The battery of every room. A message is settled here when it was written to a connection, so the client
//! acknowledges by writing what it has taken from its mailbox.

use std::{collections::VecDeque, net::IpAddr, sync::Arc, time::Duration};

use tokio::sync::{mpsc, watch};

use crate::{
    clock::{Clock as _, SystemClock},
    config::{AnonymousPublish, NtfyConfig},
    model::{AppToken, DeviceId, MessageId, NetworkName, RegistrationId, Session},
    transport::{
        Directory, Future, History, Item, Login, Pulse, RegisterRefusal, RegisterRequest, RegisteredAs,
        Report, Transport,
        battery::{self, Harness, Push},
        ntfy::{
            Limits, NtfyRoom,
            hub::{Listener, Mail, Seat, Written},
        },
    },
};

const DEVICE: DeviceId = DeviceId(77);

/// The door asks nobody who somebody is, and reads nothing that has waited.
pub(super) struct Nobody;

impl Directory for Nobody {
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

impl History for Nobody {
    fn next(&self) -> MessageId {
        MessageId(0)
    }

    fn read(&self, _: &[MessageId]) -> Vec<Item> {
        Vec::new()
    }

    fn waiting(&self, _: &[RegistrationId]) -> Vec<MessageId> {
        Vec::new()
    }
}

struct Door {
    connection: Option<(Seat, mpsc::Receiver<Mail>)>,
    /// Taken from the mailbox while a report was waited for.
    heard: VecDeque<Arc<Item>>,
    reports: mpsc::Receiver<Report>,
    room: Arc<NtfyRoom>,
    _shutdown: watch::Sender<bool>,
    unwritten: Vec<MessageId>,
}

impl Harness for Door {
    const LEVEL: battery::Level = battery::Level::Socket;

    async fn start() -> Self {
        let (sender, reports) = mpsc::channel(10_000);
        let config = NtfyConfig {
            anonymous_publish: AnonymousPublish::UnifiedPush,
            anonymous_subscribe: true,
            enabled: true,
            max_new_topics_per_source: 100,
        };
        let clock = Arc::new(SystemClock::default());
        let limits = Limits::default();
        let room =
            NtfyRoom::open(config, &[7; 32], Arc::new(Nobody), Arc::new(Nobody), sender, clock, limits);
        let (shutdown, stop) = watch::channel(false);
        tokio::spawn(Arc::clone(&room).run(stop));
        Self {
            connection: None,
            heard: VecDeque::new(),
            reports,
            room,
            _shutdown: shutdown,
            unwritten: Vec::new(),
        }
    }

    fn room(&self) -> &dyn Transport {
        &*self.room
    }

    fn device(&self) -> DeviceId {
        DEVICE
    }

    async fn connect(&mut self) {
        self.heard.clear();
        self.unwritten.clear();
        let listener = Listener {
            login: None,
            network: NetworkName::of(IpAddr::from([192, 0, 2, 1])),
            owners: vec![DEVICE],
            pulse: Pulse::Gateway(Duration::MAX),
            registrations: vec![RegistrationId(5)],
        };
        self.connection = Some(self.room.hub.attach(listener, SystemClock::default().moment().instant));
    }

    async fn disconnect(&mut self) {
        self.connection = None;
    }

    async fn next_push(&mut self) -> Push {
        let item = match self.heard.pop_front() {
            Some(item) => item,
            None => match self.connection.as_mut().expect("connected").1.recv().await {
                Some(Mail::Item(item)) => item,
                other => panic!("a push, not {other:?}"),
            },
        };
        self.unwritten.push(item.message.id);
        Push { body: item.message.body.clone(), redelivery: None }
    }

    async fn acknowledge(&mut self, nth: usize) {
        let id = self.unwritten.remove(nth);
        self.room.hub.written(&[Written { id, line: DEVICE, owner: DEVICE }]);
    }

    async fn next_report(&mut self) -> Report {
        loop {
            let Some((_, mail)) = &mut self.connection else {
                return self.reports.recv().await.expect("the room is there");
            };
            tokio::select! {
                report = self.reports.recv() => return report.expect("the room is there"),
                told = mail.recv() => match told {
                    Some(Mail::Item(item)) => self.heard.push_back(item),
                    Some(Mail::Ping) => {}
                    // As a connection does that nobody can tell anything any more.
                    None => self.connection = None,
                },
            }
        }
    }
}

battery::door!(Door);
