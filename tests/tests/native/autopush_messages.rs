//! What becomes of messages on their way to a phone that speaks Autopush.

use futures_util::future::join_all;
use harness::{Gateway, Request, Sender, Sunup, now_s};

const CHANNEL: &str = "1a2b3c4d-0000-4000-8000-00000000abcd";
const OTHER: &str = "1a2b3c4d-0000-4000-8000-00000000dcba";

fn push(gateway: &Gateway, endpoint: &str, body: &str) -> Request {
    let request = gateway.post(endpoint).header("Urgency", "high").header("Content-Encoding", "aes128gcm");
    request.body(body)
}

async fn store(gateway: &Gateway, endpoint: &str, body: &str) -> String {
    push(gateway, endpoint, body).ttl(3600).send().await.expect(201).location().to_owned()
}

async fn reach(gateway: &Gateway) -> (Sunup, String) {
    let mut phone = Sunup::connect(gateway.public, "/", None).await;
    let endpoint = phone.register(CHANNEL).await;
    (phone, endpoint)
}

/// Comes back with its uaid, by another connection.
async fn again(gateway: &Gateway, phone: Sunup) -> Sunup {
    let uaid = phone.uaid.clone();
    drop(phone);
    Sunup::connect(gateway.public, "/", Some(&uaid)).await
}

/// Hears and acknowledges pushes up to this one.
async fn bodies_until(phone: &mut Sunup, last: &str) -> Vec<String> {
    let mut bodies = Vec::new();
    while bodies.last().is_none_or(|body| body != last) {
        let received = phone.expect_push().await;
        phone.ack(&received).await;
        bodies.push(String::from_utf8(received.data).unwrap());
    }
    bodies
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_replaces_what_waits_in_its_channel_only() {
    let gateway = Gateway::new().start().await;
    let (mut phone, endpoint) = reach(&gateway).await;
    let other = phone.register(OTHER).await;
    let uaid = phone.uaid.clone();
    phone.leave().await;
    for (endpoint, body) in [(&endpoint, "first"), (&other, "of the other"), (&endpoint, "second")] {
        let request = push(&gateway, endpoint, body).ttl(3600).header("Topic", "room");
        request.send().await.expect(201);
    }
    store(&gateway, &endpoint, "last").await;
    let mut phone = Sunup::connect(gateway.public, "/", Some(&uaid)).await;
    assert_eq!(bodies_until(&mut phone, "last").await, ["of the other", "second", "last"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn ttl_0_reaches_whoever_is_there_and_nobody_later() {
    let gateway = Gateway::new().start().await;
    let (mut phone, endpoint) = reach(&gateway).await;
    let answer = push(&gateway, &endpoint, "now").ttl(0).send().await.expect(201);
    assert_eq!(answer.header("ttl"), Some("0"));
    assert_eq!(bodies_until(&mut phone, "now").await, ["now"]);
    phone.fence().await;
    let uaid = phone.uaid.clone();
    phone.leave().await;
    push(&gateway, &endpoint, "or never").ttl(0).send().await.expect(201);
    store(&gateway, &endpoint, "last").await;
    let mut phone = Sunup::connect(gateway.public, "/", Some(&uaid)).await;
    assert_eq!(bodies_until(&mut phone, "last").await, ["last"]);
}

/// It has its endpoint after it has joined: what is pushed there at once must not come to the planner before that.
#[tokio::test(flavor = "multi_thread")]
async fn ttl_0_reaches_whoever_has_just_come() {
    for _ in 0..10 {
        let gateway = Gateway::new().start().await;
        let one = async || {
            let (mut phone, endpoint) = reach(&gateway).await;
            push(&gateway, &endpoint, "now").ttl(0).send().await.expect(201);
            assert_eq!(bodies_until(&mut phone, "now").await, ["now"]);
        };
        join_all((0..10).map(|_| one())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_thirteen_comes_in_order_and_each_is_acknowledged_on_its_own() {
    let gateway = Gateway::new().start().await;
    let (mut phone, endpoint) = reach(&gateway).await;
    let other = phone.register(OTHER).await;
    let uaid = phone.uaid.clone();
    phone.leave().await;
    for number in 0..13 {
        let topic = format!("t{number}");
        let endpoint = if number % 3 == 0 { &other } else { &endpoint };
        let request = push(&gateway, endpoint, &number.to_string()).ttl(60 + number);
        let request = if number % 4 == 0 { request.header("Topic", &topic) } else { request };
        request.send().await.expect(201);
    }
    let mut phone = Sunup::connect(gateway.public, "/", Some(&uaid)).await;
    for number in 0..13 {
        let received = phone.expect_push().await;
        let channel = if number % 3 == 0 { OTHER } else { CHANNEL };
        assert_eq!((received.channel.as_str(), &received.data[..]), (channel, number.to_string().as_bytes()));
        if number % 2 == 1 {
            phone.ack(&received).await;
        }
    }
    phone.fence().await;
    let mut phone = again(&gateway, phone).await;
    store(&gateway, &endpoint, "last").await;
    assert_eq!(bodies_until(&mut phone, "last").await, ["0", "2", "4", "6", "8", "10", "12", "last"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_5630_bytes_comes_whole_and_one_more_is_413() {
    let gateway = Gateway::new().start().await;
    let (mut phone, endpoint) = reach(&gateway).await;
    let body = "x".repeat(5630);
    store(&gateway, &endpoint, &body).await;
    assert_eq!(phone.expect_push().await.data, body.as_bytes());
    let refused = push(&gateway, &endpoint, &format!("{body}x")).ttl(60).send().await.expect(413);
    assert!(String::from_utf8_lossy(&refused.body).contains("\"errno\":104"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_with_a_key_is_for_its_owner_and_a_message_can_be_cancelled() {
    let gateway = Gateway::new().start().await;
    let mut phone = Sunup::connect(gateway.public, "/", None).await;
    let sender = Sender::new();
    let bound = phone.register_bound(CHANNEL, Some(&sender.public())).await;
    assert!(bound.contains("/wpush/v2/"), "{bound}");
    let uaid = phone.uaid.clone();
    phone.leave().await;
    let audience = format!("http://{}", gateway.public);
    let signed = |sender: &Sender| sender.authorization(&audience, now_s() + 3600);
    push(&gateway, &bound, "nobody's").ttl(60).send().await.expect(401);
    let stranger = push(&gateway, &bound, "a stranger's").ttl(60);
    stranger.header("Authorization", &signed(&Sender::new())).send().await.expect(401);
    let mut messages = Vec::new();
    for body in ["cancelled", "last"] {
        let request = push(&gateway, &bound, body).ttl(60).header("Authorization", &signed(&sender));
        messages.push(request.send().await.expect(201).location().to_owned());
    }
    gateway.request("DELETE", &messages[0]).send().await.expect(204);
    gateway.request("DELETE", &messages[0]).send().await.expect(404);
    let mut phone = Sunup::connect(gateway.public, "/", Some(&uaid)).await;
    assert_eq!(bodies_until(&mut phone, "last").await, ["last"]);
    // Another key: the same endpoint, for its new owner.
    let next = Sender::new();
    assert_eq!(phone.register_bound(CHANNEL, Some(&next.public())).await, bound);
    let late = push(&gateway, &bound, "late").ttl(60).header("Authorization", &signed(&sender));
    late.send().await.expect(401);
    let new = push(&gateway, &bound, "new").ttl(60).header("Authorization", &signed(&next));
    new.send().await.expect(201);
    assert_eq!(bodies_until(&mut phone, "new").await, ["new"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_never_acknowledges_stalls_no_other_app_and_no_other_phone() {
    let gateway = Gateway::new().start().await;
    let (mut phone, silent) = reach(&gateway).await;
    let speaking = phone.register(OTHER).await;
    let (mut neighbour, theirs) = reach(&gateway).await;
    for number in 0..40 {
        store(&gateway, &silent, &number.to_string()).await;
        phone.expect_push().await;
    }
    for number in 0..40 {
        let body = number.to_string();
        store(&gateway, &speaking, &body).await;
        assert_eq!(bodies_until(&mut phone, &body).await, [body.as_str()]);
        store(&gateway, &theirs, &body).await;
        assert_eq!(bodies_until(&mut neighbour, &body).await, [body.as_str()]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_a_window_without_an_acknowledgement_goes_on_after_ten_seconds() {
    let gateway = Gateway::new().start().await;
    let (mut phone, endpoint) = reach(&gateway).await;
    for number in 0..60 {
        store(&gateway, &endpoint, &number.to_string()).await;
    }
    for number in 0..60 {
        assert_eq!(phone.expect_push().await.data, number.to_string().as_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_connection_takes_over_what_the_old_one_has_not_acknowledged() {
    let gateway = Gateway::new().start().await;
    let (mut old, endpoint) = reach(&gateway).await;
    store(&gateway, &endpoint, "one").await;
    let first = old.expect_push().await;
    let mut new = Sunup::connect(gateway.public, "/", Some(&old.uaid)).await;
    old.expect_end().await;
    let again = new.expect_push().await;
    assert_eq!(again, first, "the same message by the same version");
    store(&gateway, &endpoint, "two").await;
    assert_eq!(bodies_until(&mut new, "two").await, ["two"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_beside_the_endpoints_are_404() {
    let gateway = Gateway::new().start().await;
    let (_phone, endpoint) = reach(&gateway).await;
    let (_, token) = endpoint.rsplit_once('/').unwrap();
    for path in ["/wpush/", "/wpush/v1/", "/wpush/v3/x", "/push/x", "/notif/x", "/v1/fcm/x/registration"] {
        gateway.post(path).ttl(60).body("x").send().await.expect(404);
    }
    gateway.post(&format!("/wpush/v9/{token}")).ttl(60).body("x").send().await.expect(404);
}
