//! The registry over a real store in a temporary directory.

use std::{net::IpAddr, path::Path, time::Duration};

use super::*;
use crate::{
    clock::{Clock as _, ManualClock},
    model::{
        Address, AppToken, Coding, Learnt, NetworkName, Registration, Session, Ttl, UnixTime, Urgency,
        VapidKey,
    },
    store::{Arrival, Closer, Lookup, NewPush, Store},
    transport::{About, Directory, Login, News, RegisterRefusal, RegisterRequest, RegisteredAs, Tell},
};

mod logins;
mod news;

/// 2026-11-23, as every test's beginning.
const START: UnixTime = UnixTime(1_795_392_000_000);

/// A registry with everything that it needs, in a directory of its own.
pub(crate) struct House {
    pub(crate) archive: crate::store::Archive,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) notices: Arc<Mutex<Vec<Notice>>>,
    pub(crate) registry: Arc<Registry>,
    closer: Closer,
    /// What a running gateway holds, too: without a reader, changes would have nowhere to go.
    rest: (crate::store::Backlog, crate::store::Intake, crate::store::Ledger),
}

impl House {
    pub(crate) fn open() -> Self {
        Self::open_in(tempfile::tempdir().expect("a directory"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    fn open_in(dir: tempfile::TempDir) -> Self {
        let clock = Arc::new(ManualClock::new(START));
        let store = Store::open(dir.path(), |_| clock.moment()).expect("a store");
        let Store { accounts, archive, backlog, closer, intake, ledger, newest: _ } = store;
        let notices = Arc::new(Mutex::new(Vec::new()));
        let heard = notices.clone();
        let registry = Registry::new(
            accounts,
            clock.clone(),
            origin(),
            Box::new(move |notice| heard.lock().expect("no panic").push(notice)),
        );
        let (registry, rest) = (Arc::new(registry), (backlog, intake, ledger));
        Self { archive, clock, dir, notices, registry, closer, rest }
    }

    /// Stores as many messages for a registration as are asked for.
    pub(crate) async fn fill(&self, registration: &Registration, count: usize) {
        for _ in 0..count {
            let push = NewPush {
                body: "push".into(),
                coding: Coding::default(),
                registration: Arc::new(registration.clone()),
                topic: None,
                ttl: Ttl::DEFAULT,
                urgency: Urgency::Normal,
            };
            let appended = self.rest.1.append(push, self.clock.moment()).expect("there is room");
            appended.commit.await.expect("it is written");
        }
    }

    /// What the planner reads from a store that is in use.
    pub(crate) fn arrivals(&mut self) -> tokio::sync::mpsc::Receiver<Arrival> {
        self.rest.0.arrivals()
    }

    /// Closes the store in order and opens it again.
    async fn restart(self) -> Self {
        let Self { archive, dir, registry, closer, rest, .. } = self;
        drop((archive, registry, rest));
        closer.close().await;
        Self::open_in(dir)
    }

    async fn pair(&self) -> (DeviceId, String) {
        let pairing = self.registry.add_device("phone", "mqtt").await.expect("a pairing");
        (pairing.device, pairing.secret.as_str().to_owned())
    }

    async fn register(&self, device: DeviceId, name: &str) -> RegisteredAs {
        self.registry.register(device, app(name)).await.expect("an endpoint")
    }

    fn login(&self, device: DeviceId, secret: &str, source: IpAddr) -> Login {
        self.registry.login(&device.to_string(), secret.as_bytes(), source)
    }

    fn heard(&self) -> Vec<Notice> {
        std::mem::take(&mut self.notices.lock().expect("no panic"))
    }
}

fn origin() -> Origin {
    Origin {
        host: "127.0.0.1".to_owned(),
        port: 1883,
        security: Security::Plain,
        url: "https://push.example.org".to_owned(),
    }
}

fn app(name: &str) -> RegisterRequest {
    RegisterRequest { app: name.into(), token: name.parse().expect("a token"), vapid: None }
}

fn key(byte: u8) -> VapidKey {
    let mut bytes = [byte; 65];
    bytes[0] = 4;
    VapidKey::from_bytes(&bytes).expect("65 bytes")
}

const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const STRANGER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 9));

/// A network whose limit is known.
fn settled() -> Habit {
    let mut habit = Habit::default();
    let learnt = Learnt { ask_s: 427, borne_s: 427, settled: true, ..Learnt::default() };
    habit.learn(NetworkName::of(HOME), learnt);
    habit
}

#[tokio::test]
async fn what_a_network_bears_is_known_after_a_restart() {
    let house = House::open();
    let (device, _) = house.pair().await;
    let asked = |house: &House, source: IpAddr| {
        house.registry.keep_alive(device, &NetworkName::of(source)).map(|asked| asked.as_secs())
    };
    assert_eq!(asked(&house, HOME), Some(Learnt::FIRST_S.into()));
    house.registry.put_habit(device, settled());
    let house = house.restart().await;
    assert_eq!(asked(&house, HOME), Some(427));
    assert_eq!(asked(&house, IpAddr::from([10, 9, 8, 7])), Some(Learnt::FIRST_S.into()), "elsewhere");
}

#[tokio::test]
async fn the_same_app_gets_the_same_endpoint() {
    let house = House::open();
    let ((phone, _), (tablet, _)) = (house.pair().await, house.pair().await);
    let first = house.register(phone, "mail").await;
    assert_eq!(house.register(phone, "mail").await, first);
    assert_ne!(house.register(phone, "chat").await.endpoint, first.endpoint);
    assert_ne!(house.register(tablet, "mail").await.endpoint, first.endpoint);
    assert!(first.endpoint.starts_with("https://push.example.org/p/") && first.endpoint.len() < 120);
    assert!(!first.endpoint.contains(&phone.to_string()), "RFC 8030 §8.2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_same_app_at_the_same_time_gets_the_same_endpoint() {
    let house = House::open();
    let (device, _) = house.pair().await;
    for round in 0..20 {
        let together = Arc::new(tokio::sync::Barrier::new(8));
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (registry, together) = (house.registry.clone(), together.clone());
            all.spawn(async move {
                together.wait().await;
                registry.register(device, app(&format!("app {round}"))).await
            });
        }
        let endpoints: std::collections::HashSet<String> =
            all.join_all().await.into_iter().map(|one| one.expect("an endpoint").endpoint).collect();
        assert_eq!(endpoints.len(), 1);
        assert_eq!(house.registry.registrations().len(), round + 1);
    }
}

#[tokio::test]
async fn another_key_or_name_keeps_the_endpoint() {
    let house = House::open();
    let (device, _) = house.pair().await;
    let first = house.register(device, "mail").await;
    for (name, vapid) in [("Mail", Some(key(1))), ("Mail", Some(key(2))), ("Post", None)] {
        let request = RegisterRequest { app: name.into(), vapid: vapid.clone(), ..app("mail") };
        let again = house.registry.register(device, request).await.expect("an endpoint");
        assert_eq!((&again.endpoint, again.registration.id), (&first.endpoint, first.registration.id));
        assert_eq!((&*again.registration.app, &again.registration.vapid), (name, &vapid));
        assert_eq!(house.registry.registrations(), [again]);
    }
}

#[tokio::test]
async fn a_device_may_have_two_thousand_registrations() {
    let house = House::open();
    let (full, _) = house.pair().await;
    house.clock.advance(Duration::from_secs(1));
    let (other, _) = house.pair().await;
    let mut all = tokio::task::JoinSet::new();
    for number in 0..MAX_REGISTRATIONS {
        let registry = house.registry.clone();
        all.spawn(async move { registry.register(full, app(&format!("app {number}"))).await });
    }
    assert!(all.join_all().await.iter().all(Result::is_ok));
    let directory: &dyn Directory = &*house.registry;
    assert_eq!(directory.register(full, app("one more")).await, Err(RegisterRefusal::ActionRequired));
    assert!(directory.register(full, app("app 7")).await.is_ok(), "it has that one already");
    assert!(directory.register(other, app("one more")).await.is_ok(), "others notice nothing");
    assert_eq!(directory.unregister(full, "app 7".parse().expect("a token")).await, Ok(()));
    assert!(directory.register(full, app("one more")).await.is_ok(), "there is room again");
    let counts: Vec<usize> = house.registry.devices().into_iter().map(|(_, count)| count).collect();
    assert_eq!(counts, [MAX_REGISTRATIONS, 1]);
}

#[tokio::test]
async fn an_unregistered_app_gets_a_new_endpoint() {
    let house = House::open();
    let (device, _) = house.pair().await;
    let directory: &dyn Directory = &*house.registry;
    let token: AppToken = "mail".parse().expect("a token");
    assert_eq!(directory.unregister(device, token.clone()).await, Ok(()), "nothing to do is no error");
    let first = house.register(device, "mail").await;
    assert_eq!(directory.unregister(device, token.clone()).await, Ok(()));
    assert!(matches!(house.rest.1.lookup(&first.registration.endpoint), Lookup::Gone));
    assert_ne!(house.register(device, "mail").await.endpoint, first.endpoint);
    assert_eq!(house.heard(), [], "the room that asked confirms it by itself");
}

#[tokio::test]
async fn the_owner_ends_a_registration_by_its_endpoint() {
    let house = House::open();
    let (device, _) = house.pair().await;
    let by_url = house.register(device, "mail").await;
    let by_segment = house.register(device, "chat").await;
    house.registry.remove_registration(&by_url.endpoint).await.expect("removed");
    let segment = by_segment.registration.endpoint.to_string();
    house.registry.remove_registration(&segment).await.expect("removed");
    let told = |name: &str| Notice::Unregistered(device, name.parse().expect("a token"));
    assert_eq!(house.heard(), [told("mail"), told("chat")]);
    assert!(house.registry.registrations().is_empty());
    let again = house.registry.remove_registration(&by_url.endpoint).await;
    assert_eq!(again, Err(Refusal::NoSuchRegistration(by_url.endpoint)));
    let elsewhere = house.registry.remove_registration("https://other.example/p/x").await;
    let message = elsewhere.expect_err("not ours").to_string();
    assert!(message.contains("https://other.example/p/x") && message.contains("https://push.example.org/p/"));
}

#[tokio::test]
async fn everything_survives_a_restart() {
    let house = House::open();
    let (device, secret) = house.pair().await;
    let request = RegisterRequest { vapid: Some(key(3)), ..app("mail") };
    let registered = house.registry.register(device, request.clone()).await.expect("an endpoint");
    let session = Session { filters: vec![("up/x/inbox/#".into(), 1)] };
    let saved = house.registry.save_session(device, Some(session.clone())).await;
    assert_eq!(saved, Ok(()));
    let house = house.restart().await;
    assert_eq!(house.login(device, &secret, HOME), Login::Welcome(device));
    assert_eq!(house.registry.register(device, request).await, Ok(registered));
    assert_eq!(house.registry.session(device), Some(session));
    assert_eq!(house.registry.save_session(device, None).await, Ok(()));
    assert_eq!(house.registry.session(device), None);
}

#[tokio::test]
async fn devices_are_listed_oldest_first() {
    let house = House::open();
    let mut paired = Vec::new();
    for _ in 0..5 {
        paired.push(house.pair().await.0);
        house.clock.advance(Duration::from_secs(1));
    }
    let listed: Vec<DeviceId> = house.registry.devices().iter().map(|(device, _)| device.id).collect();
    assert_eq!(listed, paired);
}

#[tokio::test]
async fn an_address_lives_as_long_as_its_registration() {
    let house = House::open();
    let device = house.registry.add_device("alice@home.test", "xmpp").await.expect("a pairing").device;
    let address = |text: &str| Address { expires: Some(START), text: text.into() };
    let at = async |house: &House, name: &str, place: &str, most: usize| {
        house.registry.register_at(device, app(name), address(place), most).await
    };
    let first = at(&house, "a", "alice@home.test/1", 2).await.expect("an endpoint");
    let again = at(&house, "a", "alice@home.test/2", 2).await.expect("an endpoint");
    assert_eq!(first.endpoint, again.endpoint);
    at(&house, "b", "alice@home.test/3", 2).await.expect("an endpoint");
    assert_eq!(at(&house, "c", "x", 2).await, Err(RegisterRefusal::ActionRequired));
    at(&house, "a", "alice@home.test/2", 1).await.expect("it has one already");

    let house = house.restart().await;
    let id = first.registration.id;
    assert_eq!(house.registry.address(id), Some(address("alice@home.test/2")));
    let mut all: Vec<_> = house.registry.addresses().into_iter().map(|(_, at)| at.text).collect();
    all.sort();
    assert_eq!(all, ["alice@home.test/2".into(), "alice@home.test/3".into()]);
    house.registry.remove_registration(&first.endpoint).await.expect("removed");
    assert_eq!(house.registry.address(id), None);
    house.registry.remove_device(device).await.expect("removed");

    let house = house.restart().await;
    assert_eq!(house.registry.addresses(), []);
}

#[tokio::test]
async fn an_xmpp_device_is_in_no_group() {
    let house = House::open();
    let device = house.registry.add_device("alice@home.test", "xmpp").await.expect("a pairing").device;
    let group = house.registry.add_group("family").await.expect("a group");
    assert_eq!(house.registry.join_group(group, device).await, Err(Refusal::OwnApps(device)));
}
