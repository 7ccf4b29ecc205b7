//! Phones that speak Autopush: who is let in, and that nothing is lost to them.

use std::net::SocketAddr;

use harness::{Gateway, Request, Sunup};

const CHANNEL: &str = "1a2b3c4d-0000-4000-8000-00000000abcd";

/// An encrypted body is nobody's business, so any will do.
fn push(gateway: &Gateway, endpoint: &str, body: &str) -> Request {
    let request = gateway.post(endpoint).ttl(3600).header("Urgency", "high");
    request.header("Content-Encoding", "aes128gcm").body(body)
}

async fn devices(gateway: &Gateway, transport: &str) -> Vec<String> {
    let list = gateway.cli(["device", "list", "--json"]).await.json();
    let of = list.as_array().expect("a list").iter().filter(|device| device["transport"] == transport);
    of.map(|device| device["device"].as_str().expect("an id").to_owned()).collect()
}

/// The path of the URL that a device is paired by.
async fn own_path(gateway: &Gateway) -> String {
    let pairing = gateway.cli(["device", "add", "phone", "--transport", "autopush", "--json"]).await.json();
    let uri = pairing["uri"].as_str().expect("a URL").to_owned();
    let (_, path) = uri.split_once("/d/").unwrap_or_else(|| panic!("no path of its own in {uri}"));
    assert_eq!(path.len(), 28, "27 characters and a slash: {uri}");
    format!("/d/{path}")
}

async fn home(gateway: &Gateway) -> SocketAddr {
    gateway.home.expect("it has a home listener")
}

const TWO_SIDES: &str = "[public]\nurl = 'http://push.example'\n[home]\nlisten = '127.0.0.1:0'\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_registers_itself_receives_and_acknowledges() {
    let gateway = Gateway::new().start().await;
    let mut phone = Sunup::connect(gateway.public, "/", None).await;
    assert!(devices(&gateway, "autopush").await.is_empty(), "nothing is kept of one who only says hello");
    let endpoint = phone.register(CHANNEL).await;
    assert!(endpoint.starts_with(&format!("http://{}/wpush/v1/", gateway.public)), "{endpoint}");
    assert_eq!(devices(&gateway, "autopush").await.len(), 1);
    push(&gateway, &endpoint, "hello").send().await.expect(201);
    let received = phone.expect_push().await;
    assert_eq!((received.channel.as_str(), &received.data[..]), (CHANNEL, &b"hello"[..]));
    assert_eq!(received.headers["encoding"], "aes128gcm");
    phone.ack(&received).await;
    phone.fence().await;
    let mut phone = Sunup::connect(gateway.public, "/", Some(&phone.uaid)).await;
    push(&gateway, &endpoint, "next").send().await.expect(201);
    assert_eq!(phone.expect_push().await.data, b"next", "what was acknowledged does not come again");
    phone.unregister(CHANNEL).await;
    push(&gateway, &endpoint, "late").send().await.expect(410);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_uaid_and_what_was_not_acknowledged_survive_a_restart() {
    let mut gateway = Gateway::new().start().await;
    let mut phone = Sunup::connect(gateway.public, "/", None).await;
    let (uaid, endpoint) = (phone.uaid.clone(), phone.register(CHANNEL).await);
    push(&gateway, &endpoint, "one").send().await.expect(201);
    push(&gateway, &endpoint, "two").send().await.expect(201);
    let (one, two) = (phone.expect_push().await, phone.expect_push().await);
    // The first on its own: only the second may come again.
    phone.ack(&one).await;
    phone.fence().await;
    gateway.restart().await;
    phone.expect_end().await;
    push(&gateway, &endpoint, "three").send().await.expect(201);
    gateway.kill9().await;
    gateway.start_again().await;
    let mut phone = Sunup::connect(gateway.public, "/", Some(&uaid)).await;
    assert_eq!(phone.uaid, uaid);
    let again = phone.expect_push().await;
    assert_eq!((&again.data[..], again.version.as_str()), (&b"two"[..], two.version.as_str()));
    assert_eq!(phone.expect_push().await.data, b"three");
    assert_eq!(phone.register(CHANNEL).await, endpoint, "and registers again to the same endpoint");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_uaid_outlives_its_card_by_a_backup() {
    let mut gateway = Gateway::new().start().await;
    let mut phone = Sunup::connect(gateway.public, "/", None).await;
    let (uaid, endpoint) = (phone.uaid.clone(), phone.register(CHANNEL).await);
    let file = gateway.scratch().join("backup");
    let path = file.to_str().unwrap();
    assert_eq!(gateway.cli(["backup", path]).await.code, Some(0));
    gateway.terminate().await;
    std::fs::remove_dir_all(gateway.state_dir()).unwrap();
    assert_eq!(gateway.cli(["restore", path]).await.code, Some(0));
    gateway.start_again().await;
    let mut phone = Sunup::connect(gateway.public, "/", Some(&uaid)).await;
    assert_eq!(phone.uaid, uaid);
    push(&gateway, &endpoint, "after").send().await.expect(201);
    assert_eq!(phone.expect_push().await.data, b"after");
}

#[tokio::test(flavor = "multi_thread")]
async fn from_outside_nobody_registers_but_devices_come_in() {
    let gateway = Gateway::new().config(TWO_SIDES).start().await;
    let home = home(&gateway).await;
    assert!(Sunup::try_connect(gateway.public, "/", None).await.is_none());
    assert!(Sunup::try_connect(gateway.public, "/", Some(&"0".repeat(32))).await.is_none());
    let mut phone = Sunup::connect(home, "/", None).await;
    let endpoint = phone.register(CHANNEL).await;
    assert!(endpoint.starts_with("http://push.example/wpush/v1/"), "{endpoint}");
    let outside = Sunup::connect(gateway.public, "/", Some(&phone.uaid)).await;
    assert_eq!(outside.uaid, phone.uaid, "it leaves the house and comes by the other door");
    let path = own_path(&gateway).await;
    let paired = Sunup::connect(gateway.public, &path, None).await;
    assert_eq!(Sunup::connect(gateway.public, &path, None).await.uaid, paired.uaid);
    let wrong = format!("{}AAAAAAAA/", &path[..path.len() - 9]);
    assert!(Sunup::try_connect(gateway.public, &wrong, None).await.is_none());
    assert_eq!(devices(&gateway, "autopush").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_proxy_brings_to_a_trial_is_from_outside() {
    let gateway = Gateway::new().start().await;
    let upgrade = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let hello = br#"{"messageType":"hello"}"#;
    let mut frame = vec![0x81, 0x80 | u8::try_from(hello.len()).expect("short"), 0, 0, 0, 0];
    frame.extend_from_slice(hello);
    // Nothing more is said, so that the gateway ends the connection: a Close frame, empty.
    frame.extend_from_slice(&[0x88, 0x80, 0, 0, 0, 0]);
    for (header, answered) in [("", true), ("X-Forwarded-For: 127.0.0.1\r\n", false)] {
        let bytes = [format!("{upgrade}{header}\r\n").as_bytes(), &frame].concat();
        let limit = harness::patience();
        let heard = harness::raw(gateway.public, &bytes, limit).await.expect("an answer");
        let heard = String::from_utf8_lossy(&heard);
        assert!(heard.starts_with("HTTP/1.1 101 "), "{heard}");
        assert_eq!(heard.contains("use_webpush"), answered, "{heard}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_device_is_put_out_and_a_removed_registration_is_told() {
    let gateway = Gateway::new().start().await;
    let mut phone = Sunup::connect(gateway.public, "/", None).await;
    let endpoint = phone.register(CHANNEL).await;
    let staying = phone.register("staying").await;
    assert_eq!(gateway.cli(["registration", "remove", &endpoint]).await.code, Some(0));
    phone.expect_unregistered(CHANNEL).await;
    let [device] = &devices(&gateway, "autopush").await[..] else { panic!("one device") };
    assert_eq!(gateway.cli(["device", "remove", device]).await.code, Some(0));
    phone.expect_end().await;
    push(&gateway, &staying, "late").send().await.expect(410);
    let uaid = phone.uaid.clone();
    let phone = Sunup::connect(gateway.public, "/", Some(&uaid)).await;
    assert_ne!(phone.uaid, uaid, "another one tells Sunup and Firefox to register again");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_room_can_be_closed() {
    let gateway = Gateway::new().config("[transport.autopush]\nenabled = false\n").start().await;
    assert!(Sunup::try_connect(gateway.public, "/", None).await.is_none());
}
