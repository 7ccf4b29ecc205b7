//! While the phone is away.

use std::time::{Duration, Instant};

use harness::{Gateway, Phone, Version, eventually};

use crate::{absent, bodies_until, phone, push};

/// Connects an absent device and returns what it gets before the fence.
async fn homecoming(gateway: &Gateway, device: &harness::Device, endpoint: &str) -> Vec<String> {
    push(gateway, endpoint, "fence").await;
    let mut phone = Phone::connect(gateway, device, Version::V5).await;
    phone.subscribe().await;
    bodies_until(&mut phone, "fence").await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waited_comes_in_order() {
    let gateway = Gateway::new().start().await;
    let (device, endpoint) = absent(&gateway).await;
    // More than fit into one window.
    let sent: Vec<_> = (0..60).map(|number| format!("message {number}")).collect();
    for body in &sent {
        push(&gateway, &endpoint, body).await;
    }
    assert_eq!(homecoming(&gateway, &device, &endpoint).await, sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_between_two_connections_waits() {
    let gateway = Gateway::new().start().await;
    for version in Version::ALL {
        let (device, mut away) = phone(&gateway, version).await;
        let app = away.register("app").await;
        away.disconnect().await;
        push(&gateway, &app.endpoint, "meanwhile").await;
        let mut back = Phone::connect(&gateway, &device, version).await;
        assert!(back.session_present, "the session is durable");
        assert_eq!(back.expect_push().await.payload, "meanwhile");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_session_loses_its_subscription_and_no_message() {
    let gateway = Gateway::new().start().await;
    for version in Version::ALL {
        let (device, mut away) = phone(&gateway, version).await;
        let app = away.register("app").await;
        away.disconnect().await;
        push(&gateway, &app.endpoint, "meanwhile").await;
        let mut back = Phone::connect_clean(&gateway, &device, version).await;
        assert!(!back.session_present, "{version:?}");
        back.subscribe().await;
        assert_eq!(back.expect_push().await.payload, "meanwhile", "{version:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_replaces_what_waits() {
    let gateway = Gateway::new().start().await;
    let (device, endpoint) = absent(&gateway).await;
    let other = gateway.cli(["registration", "add", &device.id, "other"]).await.text().to_owned();
    let post = async |endpoint: &str, topic: &str, body: &str| {
        let request = gateway.post(endpoint).ttl(3600).header("Topic", topic).body(body);
        request.send().await.expect(201).location().to_owned()
    };
    let first = post(&endpoint, "weather", "rain").await;
    post(&endpoint, "news", "election").await;
    post(&other, "weather", "of another app").await;
    let second = post(&endpoint, "weather", "sun").await;
    assert_ne!(first, second, "a replacement is a new push message resource (RFC 8030 §5.4)");
    let expected = ["election", "of another app", "sun"];
    assert_eq!(homecoming(&gateway, &device, &endpoint).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn ttl_0_is_accepted_and_dropped_while_the_phone_is_away() {
    let mut gateway = Gateway::new().start().await;
    let (device, endpoint) = absent(&gateway).await;
    gateway.post(&endpoint).ttl(0).body("now or never").send().await.expect(201);
    gateway.restart().await;
    gateway.post(&endpoint).ttl(0).body("now or never").send().await.expect(201);
    assert_eq!(homecoming(&gateway, &device, &endpoint).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_ends_with_its_ttl() {
    let gateway = Gateway::new().start().await;
    let (device, endpoint) = absent(&gateway).await;
    let before = Instant::now();
    gateway.post(&endpoint).ttl(1).body("short-lived").send().await.expect(201);
    let margin = Duration::from_millis(300);
    let end = before + before.elapsed() + Duration::from_secs(1) + margin;
    eventually("the TTL is over", async || (Instant::now() > end).then_some(())).await;
    assert_eq!(homecoming(&gateway, &device, &endpoint).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ttl_runs_on_while_the_gateway_is_down() {
    let mut gateway = Gateway::new().start().await;
    let (device, endpoint) = absent(&gateway).await;
    gateway.post(&endpoint).ttl(2).body("short-lived").send().await.expect(201);
    let end = Instant::now() + Duration::from_millis(2_300);
    gateway.kill9().await;
    eventually("the TTL is over", async || (Instant::now() > end).then_some(())).await;
    gateway.start_again().await;
    assert_eq!(homecoming(&gateway, &device, &endpoint).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_can_be_taken_back() {
    let mut gateway = Gateway::new().start().await;
    let (device, endpoint) = absent(&gateway).await;
    let kept = push(&gateway, &endpoint, "kept").await;
    let regretted = push(&gateway, &endpoint, "regretted").await;
    assert_ne!(kept, regretted);
    gateway.request("DELETE", &regretted).send().await.expect(204);
    gateway.request("DELETE", &regretted).send().await.expect(404);
    gateway.restart().await;
    gateway.request("DELETE", &regretted).send().await.expect(404);
    assert_eq!(homecoming(&gateway, &device, &endpoint).await, ["kept"]);
    eventually("what was delivered cannot be taken back", async || {
        (gateway.request("DELETE", &kept).send().await.status == 404).then_some(())
    })
    .await;
}
