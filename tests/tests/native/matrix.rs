//! Homeservers and legacy application servers, which need a gateway between them and UnifiedPush.

use harness::{Gateway, Version};
use serde_json::{Value, json};

use crate::{absent, phone};

const NOTIFY: &str = "/_matrix/push/v1/notify";

async fn notify(gateway: &Gateway, body: &Value) -> Value {
    let response = gateway.post(NOTIFY).header("Content-Type", "application/json").body(body.to_string());
    serde_json::from_slice(&response.send().await.expect(200).body).expect("JSON")
}

/// As Synapse sends it to pushers with the format `event_id_only`.
fn event(id: &str, pushkeys: &[&str]) -> Value {
    let device =
        |pushkey: &&str| json!({"app_id": "im.example", "pushkey": pushkey, "pushkey_ts": 1, "data": {}});
    json!({"notification": {
        "event_id": id,
        "room_id": "!room:example.org",
        "counts": {"unread": 1},
        "prio": "high",
        "devices": pushkeys.iter().map(device).collect::<Value>(),
    }})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_homeserver_reaches_phones_and_learns_which_keys_are_gone() {
    let mut gateway = Gateway::new().start().await;
    let (device, mut mobile) = phone(&gateway, Version::V5).await;
    let app = mobile.register("matrix").await;
    let (_, gone) = absent(&gateway).await;
    assert_eq!(gateway.cli(["registration", "remove", &gone]).await.code, Some(0));

    let discovery = gateway.request("GET", NOTIFY).send().await.expect(200);
    assert_eq!(discovery.body, br#"{"unifiedpush":{"gateway":"matrix"}}"#);

    let first = event("$first", &[&app.endpoint, &gone]);
    assert_eq!(notify(&gateway, &first).await, json!({"rejected": [gone]}));
    let push = mobile.expect_push().await;
    assert_eq!(push.payload, first.to_string().as_bytes());
    mobile.ack(&push).await;
    // Once more, as after an answer that was lost.
    assert_eq!(notify(&gateway, &first).await, json!({"rejected": [gone]}));

    // Of the counts that come while the phone is away, the newest is left.
    mobile.disconnect().await;
    let badge = |unread: u32| {
        json!({"notification": {
            "id": "", "type": null, "sender": "",
            "counts": {"unread": unread},
            "devices": [{"app_id": "im.example", "pushkey": app.endpoint, "pushkey_ts": 1, "data": {}}],
        }})
    };
    for unread in [3, 2, 0] {
        assert_eq!(notify(&gateway, &badge(unread)).await, json!({"rejected": []}));
    }
    gateway.restart().await;
    let last = event("$last", &[&app.endpoint]);
    notify(&gateway, &last).await;
    let mut mobile = harness::Phone::connect(&gateway, &device, Version::V5).await;
    mobile.subscribe().await;
    let mut bodies = Vec::new();
    for _ in 0..2 {
        let push = mobile.expect_push().await;
        mobile.ack(&push).await;
        bodies.push(serde_json::from_slice::<Value>(&push.payload).expect("JSON"));
    }
    bodies.sort_by_key(|body| body["notification"]["event_id"].is_string());
    assert_eq!(bodies, [badge(0), last]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_legacy_push_reaches_an_app_that_is_given_nothing_but_bytes() {
    let gateway = Gateway::new().start().await;
    for version in [Version::V5, Version::V4] {
        let (_, mut mobile) = phone(&gateway, version).await;
        let app = mobile.register("legacy").await;
        let way = format!("/aesgcm?e={}", app.endpoint.replace(':', "%3A").replace('/', "%2F"));
        let legacy = gateway
            .post(&way)
            .ttl(60)
            .header("Content-Encoding", "aesgcm")
            .header("Encryption", "salt=SALT")
            .header("Crypto-Key", "dh=DH;p256ecdsa=KEY");
        legacy.body("sealed").send().await.expect(201);
        let push = mobile.expect_push().await;
        mobile.ack(&push).await;
        let body = String::from_utf8(push.payload.to_vec()).expect("ASCII");
        assert_eq!(body, "aesgcm\nEncryption: salt=SALT\nCrypto-Key: dh=DH\nsealed");
    }
    gateway.post("/aesgcm?e=https%3A%2F%2Fother.example%2Fp%2Fx").body("x").send().await.expect(403);
}
