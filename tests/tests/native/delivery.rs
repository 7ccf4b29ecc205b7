//! From the application server to a connected phone.

use harness::{Gateway, Phone, Subscriber, Version};

use crate::{bodies_until, phone, push};

/// The whole way: register, push, decrypt, acknowledge; then the message is off the disk.
async fn a_push_arrives_once(version: Version) {
    let mut gateway = Gateway::new().start().await;
    let (device, mut phone) = phone(&gateway, version).await;
    let app = phone.register("app").await;
    let keys = Subscriber::new();
    let body = keys.encrypt(b"a push message");
    gateway
        .post(&app.endpoint)
        .ttl(60)
        .header("Content-Encoding", "aes128gcm")
        .body(body.clone())
        .send()
        .await
        .expect(201);

    let received = phone.expect_push().await;
    assert_eq!(received.topic, format!("up/{}/inbox/push/{}", device.id, app.channel));
    assert_eq!(received.payload, body, "the body is the one that was sent, byte for byte");
    assert_eq!(keys.decrypt(&received.payload), b"a push message");
    assert!(!received.dup, "the first time is no repetition");
    phone.ack(&received).await;
    phone.settle().await;
    drop(phone);

    gateway.restart().await;
    let mut phone = Phone::connect(&gateway, &device, version).await;
    push(&gateway, &app.endpoint, "fence").await;
    assert_eq!(bodies_until(&mut phone, "fence").await, [""; 0], "what was acknowledged does not come again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_arrives_once_by_mqtt_3_1_1() {
    a_push_arrives_once(Version::V4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_arrives_once_by_mqtt_5() {
    a_push_arrives_once(Version::V5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_up_to_5630_bytes_arrive_byte_for_byte() {
    let gateway = Gateway::new().start().await;
    for version in Version::ALL {
        let (_, mut phone) = phone(&gateway, version).await;
        let app = phone.register("app").await;
        for size in [1, 4_096, 5_630] {
            // Every byte value, so that no text conversion goes unnoticed.
            let body: Vec<u8> = (0..=u8::MAX).cycle().take(size).collect();
            gateway.post(&app.endpoint).ttl(60).body(body.clone()).send().await.expect(201);
            let received = phone.expect_push().await;
            assert!(received.payload == body, "{size} bytes by {version:?} are the same");
            phone.ack(&received).await;
        }
        gateway.post(&app.endpoint).ttl(60).body(vec![0; 5_631]).send().await.expect(413);
        gateway.post(&app.endpoint).ttl(60).body(vec![0; 1_000_000]).send().await.expect(413);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mqtt_5_is_told_of_a_message_only_what_the_app_needs() {
    let gateway = Gateway::new().start().await;
    let (_, mut phone) = phone(&gateway, Version::V5).await;
    let app = phone.register("app").await;
    let request = gateway.post(&app.endpoint).ttl(60).header("Content-Encoding", "aes128gcm");
    request.header("Urgency", "high").header("Topic", "weather").body("body").send().await.expect(201);
    let received = phone.expect_push().await;
    assert!(matches!(received.expiry_s, Some(1..=60)), "Message Expiry Interval: {received:?}");
    assert_eq!(received.property("content-encoding"), Some("aes128gcm"));
    assert!(received.property("message-id").is_some_and(|id| !id.is_empty()), "{received:?}");
    assert!(received.content_type.is_some(), "Content Type: {received:?}");
    // RFC 8030 §5.3 and §5.4: neither urgency nor topic is the device's business.
    let told: Vec<_> = received.properties.iter().map(|(name, _)| name.as_str()).collect();
    let allowed = ["accepted-at", "content-encoding", "message-id"];
    assert!(told.iter().all(|name| allowed.contains(name)), "{told:?}");
    phone.ack(&received).await;
}

const ENCRYPTION: &str = "salt=lngarbyKfMoi9Z75xYXmkg";
const DH: &str = "dh=BNoRDbb84JGm8g5Z5CFxurSqsXWJ11ItfXEWYVLE85Y7CYkDjXsIEc4aqxYaQ1G8BqkXCJ6DPpDrWtdWj_mugHU";

async fn post_aesgcm(gateway: &Gateway, endpoint: &str) {
    // As Mastodon sends it: the sender's own key stands beside the message's.
    let key = "BEl62iUYgUivxIkv69yViEuiBIa-Ib9-SkvMeAtA3LFgDzkrxZJjSgSnfckjBJuBkr3qBUYIHBQFLXYp5Nksh8U";
    let request = gateway.post(endpoint).ttl(172_800).header("Content-Encoding", "aesgcm");
    let request = request.header("Encryption", ENCRYPTION).header("Urgency", "normal");
    request
        .header("Crypto-Key", &format!("{DH};p256ecdsa={key}"))
        .body("cipher text")
        .send()
        .await
        .expect(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn legacy_encryption_headers_reach_mqtt_5_as_properties() {
    let gateway = Gateway::new().start().await;
    let (_, mut phone) = phone(&gateway, Version::V5).await;
    let app = phone.register("app").await;
    post_aesgcm(&gateway, &app.endpoint).await;
    let received = phone.expect_push().await;
    assert_eq!(received.payload, "cipher text");
    assert_eq!(received.property("content-encoding"), Some("aesgcm"));
    assert_eq!(received.property("encryption"), Some(ENCRYPTION));
    assert_eq!(received.property("crypto-key"), Some(DH), "without the sender's key (RFC 8292 §4.2)");
}

#[tokio::test(flavor = "multi_thread")]
async fn legacy_encryption_headers_reach_mqtt_3_1_1_as_a_prefix() {
    let gateway = Gateway::new().start().await;
    let (_, mut phone) = phone(&gateway, Version::V4).await;
    let app = phone.register("app").await;
    post_aesgcm(&gateway, &app.endpoint).await;
    let expected = format!("aesgcm\nEncryption: {ENCRYPTION}\nCrypto-Key: {DH}\ncipher text");
    assert_eq!(phone.expect_push().await.payload, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_by_put_arrives() {
    let gateway = Gateway::new().start().await;
    let (_, mut phone) = phone(&gateway, Version::V5).await;
    let app = phone.register("app").await;
    gateway.request("PUT", &app.endpoint).ttl(60).body("by put").send().await.expect(201);
    assert_eq!(phone.expect_push().await.payload, "by put");
}

#[tokio::test(flavor = "multi_thread")]
async fn ttl_0_reaches_a_phone_that_is_there() {
    let gateway = Gateway::new().start().await;
    let (_, mut phone) = phone(&gateway, Version::V5).await;
    let app = phone.register("app").await;
    let response = gateway.post(&app.endpoint).ttl(0).body("now or never").send().await.expect(201);
    assert_eq!(response.header("ttl"), Some("0"));
    assert_eq!(phone.expect_push().await.payload, "now or never");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_that_never_acknowledges_holds_up_nobody_else() {
    let gateway = Gateway::new().start().await;
    let (_, mut lazy) = phone(&gateway, Version::V4).await;
    let (_, mut diligent) = phone(&gateway, Version::V4).await;
    let (lazy_app, diligent_app) = (lazy.register("app").await, diligent.register("app").await);
    for number in 0..50 {
        push(&gateway, &lazy_app.endpoint, &format!("{number}")).await;
    }
    push(&gateway, &diligent_app.endpoint, "fence").await;
    assert_eq!(bodies_until(&mut diligent, "fence").await, [""; 0]);

    // What did not fit into the window has waited, and comes in order once there is room.
    push(&gateway, &lazy_app.endpoint, "fence").await;
    let expected: Vec<_> = (0..50).map(|number| number.to_string()).collect();
    assert_eq!(bodies_until(&mut lazy, "fence").await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledgements_are_taken_in_any_order() {
    let gateway = Gateway::new().start().await;
    let (_, mut phone) = phone(&gateway, Version::V5).await;
    let app = phone.register("app").await;
    let mut received = Vec::new();
    for number in 0..10 {
        push(&gateway, &app.endpoint, &number.to_string()).await;
        received.push(phone.expect_push().await);
    }
    for push in received.iter().rev() {
        phone.ack(push).await;
    }
    phone.settle().await;
    push(&gateway, &app.endpoint, "fence").await;
    assert_eq!(bodies_until(&mut phone, "fence").await, [""; 0]);
}
