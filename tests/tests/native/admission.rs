//! What the public listener answers.

use harness::{Gateway, Version};
use serde_json::{Value, json};

use crate::{absent, phone, push};

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_gone_is_gone() {
    let mut gateway = Gateway::new().start().await;
    let (device, endpoint) = absent(&gateway).await;
    let (base, token) = endpoint.rsplit_once('/').expect("an endpoint ends in its token");
    assert_eq!((token.len(), &base[base.len() - 2..]), (27, "/p"), "{endpoint}");
    assert!(endpoint.len() < 120, "{endpoint}");
    assert!(!endpoint.contains(&device.id), "RFC 8030 §8.2: nothing of the device is in {endpoint}");

    // Another first character is another endpoint, which nobody has.
    let unknown = format!("{base}/{}{}", if token.starts_with('A') { 'B' } else { 'A' }, &token[1..]);
    for path in [unknown.as_str(), "/p/", "/p/short", "/nothing/here", &format!("{endpoint}/more")] {
        gateway.post(path).ttl(60).body("x").send().await.expect(404);
    }
    push(&gateway, &endpoint, "to be withdrawn").await;
    assert_eq!(gateway.cli(["registration", "remove", &endpoint]).await.code, Some(0));
    gateway.post(&endpoint).ttl(60).body("x").send().await.expect(410);
    gateway.restart().await;
    gateway.post(&endpoint).ttl(60).body("x").send().await.expect(410);
    gateway.post(&unknown).ttl(60).body("x").send().await.expect(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_ttl_means_one_day() {
    let gateway = Gateway::new().start().await;
    let (_, endpoint) = absent(&gateway).await;
    let response = gateway.post(&endpoint).body("x").send().await.expect(201);
    assert_eq!(response.header("ttl"), Some("86400"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_ttl_is_refused_where_the_owner_wants_the_rfc() {
    let gateway = Gateway::new().config("[public]\nmissing_ttl = \"refuse\"\n").start().await;
    let (_, endpoint) = absent(&gateway).await;
    let response = gateway.post(&endpoint).body("x").send().await.expect(400);
    assert!(String::from_utf8_lossy(&response.body).contains("TTL"), "it says what is missing: {response:?}");
    gateway.post(&endpoint).ttl(60).body("x").send().await.expect(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ttl_that_is_kept_is_told() {
    let gateway = Gateway::new().start().await;
    let (_, endpoint) = absent(&gateway).await;
    for (asked, kept) in [("60", 60), ("0", 0), ("2592001", 2_592_000), ("4294967296", 2_592_000)] {
        let response = gateway.post(&endpoint).header("TTL", asked).body("x").send().await.expect(201);
        assert_eq!(response.header("ttl"), Some(kept.to_string().as_str()), "TTL: {asked}");
    }
    let huge = "9".repeat(40);
    let response = gateway.post(&endpoint).header("TTL", &huge).body("x").send().await.expect(201);
    assert_eq!(response.header("ttl"), Some("2592000"), "RFC 8030 §5.2: an overflow is a very long time");
    for wrong in ["-1", "soon", "1.5", ""] {
        gateway.post(&endpoint).header("TTL", wrong).body("x").send().await.expect(400);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn urgency_and_topic_are_checked() {
    let gateway = Gateway::new().start().await;
    let (_, endpoint) = absent(&gateway).await;
    let post = || gateway.post(&endpoint).ttl(60).body("x");
    for urgency in ["very-low", "low", "normal", "high"] {
        post().header("Urgency", urgency).send().await.expect(201);
    }
    for urgency in ["urgent", "high, low", ""] {
        post().header("Urgency", urgency).send().await.expect(400);
    }
    post().header("Urgency", "high").header("Urgency", "low").send().await.expect(400);
    post().header("Topic", &"t".repeat(32)).send().await.expect(201);
    for topic in ["t".repeat(33).as_str(), "no=padding", "no space", ""] {
        post().header("Topic", topic).send().await.expect(400);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn discovery_is_answered_on_every_endpoint() {
    let gateway = Gateway::new().start().await;
    let (_, endpoint) = absent(&gateway).await;
    let response = gateway.request("GET", &endpoint).send().await.expect(200);
    let body: Value = serde_json::from_slice(&response.body).expect("JSON");
    assert_eq!(body, json!({"unifiedpush": {"version": 1}}));
    assert_eq!(response.header("access-control-allow-origin"), Some("*"));
    gateway.request("PATCH", &endpoint).body("x").send().await.expect(405);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_authorization_does_not_matter_where_none_is_needed() {
    let gateway = Gateway::new().start().await;
    let (_, mut phone) = phone(&gateway, Version::V5).await;
    let app = phone.register("app").await;
    for authorization in ["Bearer abc", "Basic dXNlcjpwYXNz", "vapid t=nonsense, k=nonsense"] {
        let request = gateway.post(&app.endpoint).ttl(60).header("Authorization", authorization);
        request.body("x").send().await.expect(201);
    }
}
