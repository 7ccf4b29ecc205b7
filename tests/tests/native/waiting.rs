//! What waits, until the device or its owner says otherwise.

use std::time::{SystemTime, UNIX_EPOCH};

use harness::{Gateway, Phone, Version};

use crate::{bodies_until, phone};

async fn push(gateway: &Gateway, endpoint: &str, body: &str, urgency: &str) {
    let request = gateway.post(endpoint).ttl(86_400).header("Urgency", urgency);
    request.body(body).send().await.expect(201);
}

async fn expect(phone: &mut Phone, body: &str) {
    let received = phone.expect_push().await;
    assert_eq!(String::from_utf8_lossy(&received.payload), body);
    phone.ack(&received).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_chosen_by_the_owner_is_in_force_at_once() {
    // A radio without a tail: otherwise a phone that has just spoken gets everything at once.
    let config = "[wake]\nprofile = \"saver\"\nradio_tail_s = 0\n[wake.saver]\nnormal_s = 1800\n";
    let mut gateway = Gateway::new().config(config).start().await;
    let (device, mut phone) = phone(&gateway, Version::V5).await;
    let app = phone.register("app").await;
    push(&gateway, &app.endpoint, "waits", "normal").await;
    assert_eq!(gateway.cli(["device", "set", &device.id, "--profile", "instant"]).await.text(), "");
    expect(&mut phone, "waits").await;
    phone.settle().await;
    drop(phone);

    gateway.restart().await;
    let mut phone = Phone::connect(&gateway, &device, Version::V5).await;
    push(&gateway, &app.endpoint, "as chosen before", "very-low").await;
    expect(&mut phone, "as chosen before").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_below_the_floor_waits_until_it_falls() {
    let gateway = Gateway::new().start().await;
    let (device, mut phone) = phone(&gateway, Version::V5).await;
    let app = phone.register("app").await;
    let state = format!("up/{}/outbox/state", device.id);
    phone.publish_to(&state, br#"{"urgency":"high"}"#).await;
    push(&gateway, &app.endpoint, "held", "normal").await;
    push(&gateway, &app.endpoint, "passes", "high").await;
    expect(&mut phone, "passes").await;
    phone.publish_to(&state, br#"{"urgency":"normal"}"#).await;
    expect(&mut phone, "held").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_floor_outlives_the_gateway_however_it_ends() {
    for (version, killed) in [(Version::V5, false), (Version::V4, true)] {
        let mut gateway = Gateway::new().start().await;
        let (device, mut phone) = phone(&gateway, version).await;
        let app = phone.register("app").await;
        let state = format!("up/{}/outbox/state", device.id);
        assert_eq!(phone.publish_to(&state, br#"{"urgency":"high"}"#).await, "Success");
        if killed {
            gateway.kill9().await;
            gateway.start_again().await;
        } else {
            gateway.restart().await;
        }
        drop(phone);
        // Before it is there, and while it is: both are held.
        push(&gateway, &app.endpoint, "before it came", "normal").await;
        let mut phone = Phone::connect(&gateway, &device, version).await;
        push(&gateway, &app.endpoint, "held", "low").await;
        push(&gateway, &app.endpoint, "passes", "high").await;
        assert_eq!(bodies_until(&mut phone, "passes").await, [""; 0]);
        push(&gateway, &app.endpoint, "passes too", "high").await;
        assert_eq!(bodies_until(&mut phone, "passes too").await, [""; 0]);
        assert_eq!(phone.publish_to(&state, br#"{"urgency":"low"}"#).await, "Success");
        assert_eq!(bodies_until(&mut phone, "held").await, ["before it came"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_quiet_hours_only_urgency_high_passes() {
    let gateway = Gateway::new().env("TZ", "UTC").config("[wake]\nprofile = \"instant\"\n").start().await;
    let (device, mut phone) = phone(&gateway, Version::V5).await;
    let app = phone.register("app").await;
    let hour = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 3600;
    let hours = format!("{:02}:00-{:02}:00", (hour + 23) % 24, (hour + 2) % 24);
    assert_eq!(gateway.cli(["device", "set", &device.id, "--quiet", &hours]).await.text(), "");
    push(&gateway, &app.endpoint, "held", "normal").await;
    push(&gateway, &app.endpoint, "passes", "high").await;
    expect(&mut phone, "passes").await;
    assert_eq!(gateway.cli(["device", "set", &device.id, "--quiet", "none"]).await.text(), "");
    expect(&mut phone, "held").await;
}
