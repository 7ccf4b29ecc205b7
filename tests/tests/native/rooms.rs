//! One planner for all rooms: whatever a phone speaks, it is woken by the same rules, and the meter counts it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use harness::{Gateway, Phone, Socket, Stream, Sunup, Version, eventually, holds_for};
use serde_json::Value;

const CHANNEL: &str = "1a2b3c4d-0000-4000-8000-00000000abcd";
const TOPIC: &str = "upAbCdEf012345";
/// A push that does not wait is there by then.
const AT_ONCE: Duration = Duration::from_millis(500);
/// A radio without a tail: a phone that has just spoken is no occasion any more.
const PATIENT: &str = "[wake]\nprofile = \"saver\"\nradio_tail_s = 0\n[wake.saver]\nnormal_s = 1800\n";

/// A phone, connected by its room's protocol, and an app on it.
trait Client: Sized {
    const TRANSPORT: &str;

    /// The phone, and where its app is pushed to.
    async fn reach(gateway: &Gateway) -> (Self, String);

    /// The next push, acknowledged where the protocol knows that.
    async fn body(&mut self) -> String;

    /// Waits until the gateway has heard what the phone has said.
    async fn fence(&mut self);

    /// What the client sends by itself, from time to time, to keep its connection.
    async fn ping(&mut self);
}

struct Mqtt(Phone);

impl Client for Mqtt {
    const TRANSPORT: &str = "mqtt";

    async fn reach(gateway: &Gateway) -> (Self, String) {
        let (_, mut phone) = crate::phone(gateway, Version::V5).await;
        let endpoint = phone.register("app").await.endpoint;
        (Self(phone), endpoint)
    }

    async fn body(&mut self) -> String {
        let push = self.0.expect_push().await;
        self.0.ack(&push).await;
        String::from_utf8_lossy(&push.payload).into_owned()
    }

    async fn fence(&mut self) {
        self.0.settle().await;
    }

    async fn ping(&mut self) {
        self.0.settle().await;
    }
}

impl Client for Sunup {
    const TRANSPORT: &str = "autopush";

    async fn reach(gateway: &Gateway) -> (Self, String) {
        let mut phone = Self::connect(gateway.public, "/", None).await;
        let endpoint = phone.register(CHANNEL).await;
        (phone, endpoint)
    }

    async fn body(&mut self) -> String {
        let push = self.expect_push().await;
        self.ack(&push).await;
        String::from_utf8(push.data).unwrap()
    }

    async fn fence(&mut self) {
        Self::fence(self).await;
    }

    async fn ping(&mut self) {
        Self::ping(self).await;
    }
}

fn payload(message: &Value) -> String {
    String::from_utf8(STANDARD.decode(message["message"].as_str().unwrap()).unwrap()).unwrap()
}

fn topic() -> String {
    format!("/{TOPIC}?up=1")
}

impl Client for Stream {
    const TRANSPORT: &str = "ntfy";

    async fn reach(gateway: &Gateway) -> (Self, String) {
        (Self::open(gateway, &format!("/{TOPIC}/json"), &[]).await.opened().await, topic())
    }

    async fn body(&mut self) -> String {
        payload(&self.message().await)
    }

    async fn fence(&mut self) {}

    async fn ping(&mut self) {
        unreachable!("a client has nothing to say on a stream")
    }
}

impl Client for Socket {
    const TRANSPORT: &str = "ntfy";

    async fn reach(gateway: &Gateway) -> (Self, String) {
        (Self::open(gateway, &format!("/{TOPIC}/ws")).await, topic())
    }

    async fn body(&mut self) -> String {
        payload(&self.message().await)
    }

    async fn fence(&mut self) {}

    async fn ping(&mut self) {
        Self::ping(self).await;
    }
}

async fn push(gateway: &Gateway, endpoint: &str, body: &str, urgency: &str) {
    let request = gateway.post(endpoint).ttl(86_400).header("Urgency", urgency);
    let answer = request.header("Content-Encoding", "aes128gcm").body(body).send().await;
    assert!(matches!(answer.status, 200 | 201), "{answer:?}");
}

async fn expect_nothing<C: Client>(phone: &mut C) {
    if let Ok(body) = tokio::time::timeout(AT_ONCE, phone.body()).await {
        panic!("`{body}` was to wait");
    }
}

/// Pushes until one waits: how many it took. What the phone has just said may take one along.
async fn push_what_waits<C: Client>(gateway: &Gateway, endpoint: &str, phone: &mut C, body: &str) -> u64 {
    for count in 1..=10 {
        phone.fence().await;
        push(gateway, endpoint, body, "normal").await;
        match tokio::time::timeout(AT_ONCE, phone.body()).await {
            Ok(early) => assert_eq!(early, body),
            Err(_) => return count,
        }
    }
    panic!("ten times, `{body}` did not wait")
}

/// The id of the one device of this room.
async fn device<C: Client>(gateway: &Gateway) -> String {
    let list = gateway.cli(["device", "list", "--json"]).await.json();
    let devices = list.as_array().unwrap().iter().filter(|device| device["transport"] == C::TRANSPORT);
    let [device] = devices.collect::<Vec<_>>()[..] else { panic!("not one device: {list}") };
    device["device"].as_str().unwrap().to_owned()
}

async fn set(gateway: &Gateway, device: &str, option: &str, value: &str) {
    assert_eq!(gateway.cli(["device", "set", device, option, value]).await.text(), "");
}

async fn shown(gateway: &Gateway, device: &str) -> Value {
    gateway.cli(["device", "show", device, "--json"]).await.json()
}

/// What may wait does, and goes along with what may not; the owner's profile changes that at once.
async fn budgets_and_profiles_apply<C: Client>() {
    let gateway = Gateway::new().config(PATIENT).start().await;
    let (mut phone, endpoint) = C::reach(&gateway).await;
    let mut normal = push_what_waits(&gateway, &endpoint, &mut phone, "waits").await;
    push(&gateway, &endpoint, "now", "high").await;
    let mut both = [phone.body().await, phone.body().await];
    both.sort();
    assert_eq!(both, ["now", "waits"]);
    normal += push_what_waits(&gateway, &endpoint, &mut phone, "waits too").await;
    let device = device::<C>(&gateway).await;
    set(&gateway, &device, "--profile", "instant").await;
    assert_eq!(phone.body().await, "waits too");

    let shown = eventually("all of them are counted", async || {
        let shown = shown(&gateway, &device).await;
        (shown["messages"]["sent"] == normal + 1).then_some(shown)
    })
    .await;
    let delays = &shown["delay_ms"];
    assert_eq!((&delays["normal"]["count"], &delays["high"]["count"]), (&normal.into(), &1.into()));
    assert!(delays["normal"]["max"].as_u64() >= u64::try_from(AT_ONCE.as_millis()).ok(), "{delays}");
    assert_eq!(shown["missed"], 0, "{shown}");
    let today = &shown["days"][0];
    assert!(today["push"].as_u64() > Some(0) && today["at_once"].as_u64() > Some(0), "{today}");
}

async fn quiet_hours_apply<C: Client>() {
    let gateway = Gateway::new().env("TZ", "UTC").config("[wake]\nprofile = \"instant\"\n").start().await;
    let (mut phone, endpoint) = C::reach(&gateway).await;
    let hour = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 3600;
    let device = device::<C>(&gateway).await;
    set(&gateway, &device, "--quiet", &format!("{:02}:00-{:02}:00", (hour + 23) % 24, (hour + 2) % 24)).await;
    push(&gateway, &endpoint, "held", "normal").await;
    expect_nothing(&mut phone).await;
    push(&gateway, &endpoint, "passes", "high").await;
    assert_eq!(phone.body().await, "passes");
    set(&gateway, &device, "--quiet", "none").await;
    assert_eq!(phone.body().await, "held");
}

/// A client's own ping wakes its radio anyway: what waits leaves with it, and it is not counted as ours.
async fn a_clients_own_ping_brings_what_waits_and_is_counted_apart<C: Client>() {
    let mut gateway = Gateway::new().config(PATIENT).start().await;
    let (mut phone, endpoint) = C::reach(&gateway).await;
    let count = push_what_waits(&gateway, &endpoint, &mut phone, "waits").await + 1;
    push(&gateway, &endpoint, "with it", "normal").await;
    expect_nothing(&mut phone).await;
    phone.ping().await;
    assert_eq!([phone.body().await, phone.body().await], ["waits", "with it"]);
    let device = device::<C>(&gateway).await;
    eventually("both are counted", async || {
        (shown(&gateway, &device).await["messages"]["sent"] == count).then_some(())
    })
    .await;
    gateway.terminate().await;
    let shown = shown(&gateway, &device).await;
    let today = &shown["days"][0];
    assert!(today["client"].as_u64() > Some(0), "{today}");
    assert_eq!((&today["keep_alive"], &today["waste"]), (&0.into(), &0.into()), "{today}");
    assert_eq!(shown["missed"], 0, "{shown}");
}

macro_rules! rooms {
    ($($room:ident: $client:ty => $($test:ident)+;)+) => {
        $(mod $room {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test::<$client>().await;
            })+
        })+
    };
}

rooms! {
    mqtt: Mqtt => budgets_and_profiles_apply quiet_hours_apply
        a_clients_own_ping_brings_what_waits_and_is_counted_apart;
    autopush: Sunup => budgets_and_profiles_apply quiet_hours_apply
        a_clients_own_ping_brings_what_waits_and_is_counted_apart;
    ntfy_stream: Stream => budgets_and_profiles_apply quiet_hours_apply;
    ntfy_web_socket: Socket => budgets_and_profiles_apply quiet_hours_apply
        a_clients_own_ping_brings_what_waits_and_is_counted_apart;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_below_the_floor_of_an_autopush_phone_waits_until_it_falls() {
    let gateway = Gateway::new().config("[wake]\nprofile = \"instant\"\n").start().await;
    let (mut phone, endpoint) = Sunup::reach(&gateway).await;
    phone.floor("high").await;
    push(&gateway, &endpoint, "held", "normal").await;
    expect_nothing(&mut phone).await;
    push(&gateway, &endpoint, "passes", "high").await;
    assert_eq!(phone.body().await, "passes");
    phone.floor("normal").await;
    assert_eq!(phone.body().await, "held");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_network_of_an_autopush_phone_bears_is_learnt_and_remembered() {
    let mut gateway = Gateway::new().start().await;
    let (mut phone, endpoint) = Sunup::reach(&gateway).await;
    // A network that forgets within two seconds: the phone does not hear what is written to it then.
    assert!(holds_for(Duration::from_secs(2), || true).await);
    push(&gateway, &endpoint, "lost", "high").await;
    let lost = phone.expect_push().await;
    let mut again = Sunup::connect(gateway.public, "/", Some(&phone.uaid)).await;
    assert_eq!(again.expect_push().await, lost);
    again.ack(&lost).await;
    let device = device::<Sunup>(&gateway).await;
    let learnt = eventually("it is learnt", async || {
        let networks = shown(&gateway, &device).await["networks"].clone();
        (networks[0]["keep_alive_s"] == 30).then_some(networks)
    })
    .await;
    gateway.restart().await;
    assert_eq!(shown(&gateway, &device).await["networks"], learnt);
}
