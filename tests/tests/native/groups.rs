//! Several phones behind one endpoint: each gets its own copy, and answers for itself alone.

use harness::{Device, Gateway, Phone, Sunup, Version};

use crate::{bodies_until, phone, push};

/// A group of these devices, and an endpoint of it.
async fn group(gateway: &Gateway, members: &[&str]) -> (String, String) {
    let made = gateway.cli(["group", "add", "family", "--json"]).await.json();
    let group = made["group"].as_str().expect("an id").to_owned();
    for member in members {
        assert_eq!(gateway.cli(["group", "join", &group, member]).await.text(), "");
    }
    let endpoint = gateway.cli(["registration", "add", &group, "app"]).await.text().to_owned();
    (group, endpoint)
}

/// The channel of the only registration that `owner` has.
async fn channel(gateway: &Gateway, owner: &str) -> String {
    let all = gateway.cli(["registration", "list", "--json"]).await.json();
    let own = all.as_array().expect("a list").iter().find(|row| row["device"] == owner);
    own.expect("it has one")["channel"].as_str().expect("a channel").to_owned()
}

async fn subscribed(gateway: &Gateway, device: &Device, version: Version) -> Phone {
    let mut phone = Phone::connect(gateway, device, version).await;
    phone.subscribe().await;
    phone
}

#[tokio::test(flavor = "multi_thread")]
async fn each_phone_gets_and_acknowledges_its_own_copy() {
    let mut gateway = Gateway::new().start().await;
    let (old, mut first) = phone(&gateway, Version::V4).await;
    let (new, mut second) = phone(&gateway, Version::V5).await;
    let (group, endpoint) = group(&gateway, &[&old.id, &new.id]).await;
    let channel = channel(&gateway, &group).await;
    push(&gateway, &endpoint, "for both").await;
    for phone in [&mut first, &mut second] {
        let received = phone.expect_push().await;
        assert_eq!(received.payload, "for both");
        assert_eq!(received.topic, format!("up/{}/inbox/push/{channel}", phone.device()), "its own inbox");
        // The second does not: what it was sent stays unsettled, whatever the first one says.
        if phone.device() == old.id {
            phone.ack(&received).await;
            phone.settle().await;
        }
    }
    // What the first has acknowledged is on disk together with this one.
    push(&gateway, &endpoint, "kept").await;
    gateway.kill9().await;
    first.lost().await;
    second.lost().await;
    gateway.start_again().await;

    let mut first = Phone::connect(&gateway, &old, Version::V4).await;
    let mut second = Phone::connect(&gateway, &new, Version::V5).await;
    assert_eq!(bodies_until(&mut first, "kept").await, [""; 0], "its acknowledgement was its own");
    assert_eq!(bodies_until(&mut second, "kept").await, ["for both"]);
    first.settle().await;
    second.settle().await;
    gateway.restart().await;
    first = Phone::connect(&gateway, &old, Version::V4).await;
    second = Phone::connect(&gateway, &new, Version::V5).await;
    push(&gateway, &endpoint, "fence").await;
    assert_eq!(bodies_until(&mut first, "fence").await, [""; 0]);
    assert_eq!(bodies_until(&mut second, "fence").await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joins_later_leaves_or_is_removed_gets_what_is_its_own() {
    let gateway = Gateway::new().start().await;
    let stays = gateway.pair("stays").await;
    let leaves = gateway.pair("leaves").await;
    let gone = gateway.pair("gone").await;
    let late = gateway.pair("late").await;
    let (group, endpoint) = group(&gateway, &[&stays.id, &leaves.id, &gone.id]).await;
    push(&gateway, &endpoint, "early").await;
    assert_eq!(gateway.cli(["group", "join", &group, &late.id]).await.text(), "");
    assert_eq!(gateway.cli(["group", "leave", &group, &leaves.id]).await.text(), "");
    assert_eq!(gateway.cli(["device", "remove", &gone.id]).await.text(), "");
    push(&gateway, &endpoint, "later").await;
    let list = gateway.cli(["group", "list", "--json"]).await.json();
    assert_eq!(list[0]["members"], serde_json::json!([stays.id, late.id]));
    assert_eq!(list[0]["registrations"], 1);

    let mut phone = subscribed(&gateway, &stays, Version::V5).await;
    assert_eq!(bodies_until(&mut phone, "later").await, ["early"]);
    let mut phone = subscribed(&gateway, &late, Version::V4).await;
    assert_eq!(bodies_until(&mut phone, "later").await, [""; 0], "not what was there before it");
    let mut phone = subscribed(&gateway, &leaves, Version::V5).await;
    let own = phone.register("own").await;
    push(&gateway, &own.endpoint, "own").await;
    assert_eq!(bodies_until(&mut phone, "own").await, [""; 0], "nothing more of the group's");
    let refused = gateway.cli(["group", "leave", &group, &leaves.id]).await;
    assert!(refused.stderr.contains("is no member of group"), "{}", refused.stderr);

    assert_eq!(gateway.cli(["group", "remove", &group]).await.text(), "");
    gateway.post(&endpoint).ttl(60).body("late").send().await.expect(410);
    assert_eq!(gateway.cli(["group", "list", "--json"]).await.json(), serde_json::json!([]));
    assert_eq!(gateway.cli(["device", "list", "--json"]).await.json().as_array().map(Vec::len), Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn topic_delete_and_ttl_0_hold_for_each_phone() {
    let gateway = Gateway::new().start().await;
    let (here, mut present) = phone(&gateway, Version::V5).await;
    let away = gateway.pair("away").await;
    let (_, endpoint) = group(&gateway, &[&here.id, &away.id]).await;
    let topic = |body: &'static str| gateway.post(&endpoint).ttl(3600).header("Topic", "t").body(body);
    topic("one").send().await.expect(201);
    let received = present.expect_push().await;
    present.ack(&received).await;
    topic("two").send().await.expect(201);
    let taken_back = push(&gateway, &endpoint, "taken back").await;
    gateway.post(&endpoint).ttl(0).body("now or never").send().await.expect(201);
    assert_eq!(bodies_until(&mut present, "now or never").await, ["two", "taken back"]);
    present.settle().await;
    gateway.request("DELETE", &taken_back).send().await.expect(204);
    push(&gateway, &endpoint, "last").await;
    let mut absent = subscribed(&gateway, &away, Version::V4).await;
    assert_eq!(bodies_until(&mut absent, "last").await, ["two"]);
    assert_eq!(bodies_until(&mut present, "last").await, [""; 0]);
    // One message a member, and each member's own count.
    let sent = async |device: &Device| {
        gateway.cli(["device", "show", &device.id, "--json"]).await.json()["messages"]["acked"].clone()
    };
    present.settle().await;
    absent.settle().await;
    assert_eq!((sent(&here).await, sent(&away).await), (5.into(), 2.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_may_speak_two_protocols() {
    const CHANNEL: &str = "1a2b3c4d-0000-4000-8000-00000000abcd";
    let gateway = Gateway::new().start().await;
    let mut web = Sunup::connect(gateway.public, "/", None).await;
    web.register("1a2b3c4d-0000-4000-8000-000000000001").await;
    let list = gateway.cli(["device", "list", "--json"]).await.json();
    let own = list[0]["device"].as_str().expect("an id").to_owned();
    let (mqtt, mut phone) = phone(&gateway, Version::V5).await;
    let (group, _) = group(&gateway, &[&own, &mqtt.id]).await;
    let endpoint = gateway.cli(["registration", "add", &group, CHANNEL]).await.text().to_owned();
    let request = gateway.post(&endpoint).ttl(3600).header("Urgency", "high");
    request.header("Content-Encoding", "aes128gcm").body("both").send().await.expect(201);
    let received = web.expect_push().await;
    assert_eq!((received.channel.as_str(), &received.data[..]), (CHANNEL, &b"both"[..]));
    web.ack(&received).await;
    web.fence().await;
    assert_eq!(phone.expect_push().await.payload, "both");
}
