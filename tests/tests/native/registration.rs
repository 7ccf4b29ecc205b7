//! How apps come to endpoints and lose them, through the phone.

use harness::{Gateway, Phone, Version};
use serde_json::json;

use crate::{bodies_until, phone, push};

#[tokio::test(flavor = "multi_thread")]
async fn the_same_app_gets_the_same_endpoint_for_ever() {
    let mut gateway = Gateway::new().start().await;
    let (device, mut phone) = phone(&gateway, Version::V5).await;
    let app = phone.register("app").await;
    assert_eq!(phone.register("app").await, app);
    assert_ne!(phone.register("another").await.endpoint, app.endpoint);
    gateway.restart().await;
    let mut phone = Phone::connect(&gateway, &device, Version::V4).await;
    assert_eq!(phone.register("app").await, app, "after a restart too");
    let by_owner = gateway.cli(["registration", "add", &device.id, "app"]).await;
    assert_eq!(by_owner.text(), app.endpoint, "and whoever asks");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_leaves() {
    let gateway = Gateway::new().start().await;
    for version in Version::ALL {
        let (_, mut phone) = phone(&gateway, version).await;
        let (app, staying) = (phone.register("app").await, phone.register("staying").await);
        phone.publish("outbox/unregister", json!({"token": "app"}).to_string().as_bytes()).await;
        assert_eq!(phone.expect_control("unregistered").await, json!({"token": "app"}));
        gateway.post(&app.endpoint).ttl(60).body("x").send().await.expect(410);
        push(&gateway, &staying.endpoint, "fence").await;
        assert_eq!(bodies_until(&mut phone, "fence").await, [""; 0]);
        assert_ne!(phone.register("app").await.endpoint, app.endpoint, "an ended endpoint never comes back");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_phone_is_told_when_the_owner_ends_a_registration() {
    let gateway = Gateway::new().start().await;
    let (_, mut phone) = phone(&gateway, Version::V5).await;
    let app = phone.register("app").await;
    assert_eq!(gateway.cli(["registration", "remove", &app.endpoint]).await.code, Some(0));
    assert_eq!(phone.expect_control("unregistered").await, json!({"token": "app"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_phone_is_told_later_what_the_owner_ended_while_it_was_away() {
    for version in Version::ALL {
        let mut gateway = Gateway::new().start().await;
        let (device, mut phone) = phone(&gateway, version).await;
        let (app, again) = (phone.register("app").await, phone.register("again").await);
        phone.disconnect().await;
        for endpoint in [&app.endpoint, &again.endpoint] {
            assert_eq!(gateway.cli(["registration", "remove", endpoint]).await.code, Some(0));
        }
        let new = gateway.cli(["registration", "add", &device.id, "again"]).await.text().to_owned();
        gateway.kill9().await;
        gateway.start_again().await;
        let mut phone = Phone::connect(&gateway, &device, version).await;
        assert_eq!(phone.expect_control("unregistered").await, json!({"token": "app"}));
        let told = phone.expect_control("endpoint").await;
        assert_eq!((&told["token"], &told["endpoint"]), (&json!("again"), &json!(new)));
        phone.settle().await;
        phone.disconnect().await;
        // Once.
        let mut phone = Phone::connect(&gateway, &device, version).await;
        push(&gateway, &new, "fence").await;
        assert_eq!(bodies_until(&mut phone, "fence").await, [""; 0]);
        assert_eq!((phone.control("unregistered"), phone.control("endpoint")), (None, None));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_phone_is_told_when_the_gateway_has_moved() {
    let mut gateway = Gateway::new().config("[public]\nurl = \"https://old.example\"\n").start().await;
    let (device, mut phone) = phone(&gateway, Version::V5).await;
    let app = phone.register("app").await;
    phone.disconnect().await;
    gateway.terminate().await;
    let moved =
        Gateway::new().config("[public]\nurl = \"https://new.example\"\n").state_of(&gateway).start().await;
    let mut phone = Phone::connect(&moved, &device, Version::V4).await;
    let told = phone.expect_control("endpoint").await;
    let endpoint = app.endpoint.replace("old", "new");
    assert_eq!(told, json!({"token": "app", "channel": app.channel, "endpoint": endpoint}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_cannot_be_met_is_refused_with_a_reason() {
    let gateway = Gateway::new().start().await;
    for version in Version::ALL {
        let (_, mut phone) = phone(&gateway, version).await;
        let long = json!({"token": "t".repeat(101)}).to_string();
        let bad_key = json!({"token": "app", "vapid": "not a key"}).to_string();
        for request in [long.as_str(), bad_key.as_str(), "{}", "not json", ""] {
            phone.publish("outbox/register", request.as_bytes()).await;
            let answer = phone.expect_control("refused").await;
            let words = ["INTERNAL_ERROR", "NETWORK", "ACTION_REQUIRED", "VAPID_REQUIRED", "UNAUTHORIZED"];
            let reason = answer["reason"].as_str().unwrap_or_default();
            assert!(words.contains(&reason), "{request:?}: {answer}");
        }
        // And the connection serves on.
        let app = phone.register("app").await;
        push(&gateway, &app.endpoint, "fence").await;
        assert_eq!(bodies_until(&mut phone, "fence").await, [""; 0]);
    }
}
