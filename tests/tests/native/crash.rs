//! Power cuts, as far as a process can see them, and lost connections.

use harness::{Gateway, Phone, Version};

use crate::{absent, bodies_until, phone, process::load, push};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_201_survives_kill_9() {
    let mut gateway = Gateway::new().start().await;
    let (device, endpoint) = absent(&gateway).await;
    push(&gateway, &endpoint, "survivor").await;
    gateway.kill9().await;
    gateway.start_again().await;
    let mut phone = Phone::connect(&gateway, &device, Version::V5).await;
    phone.subscribe().await;
    let received = phone.expect_push().await;
    assert_eq!(received.payload, "survivor");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_acknowledged_comes_again_after_kill_9() {
    for version in Version::ALL {
        let mut gateway = Gateway::new().start().await;
        let (device, mut first) = phone(&gateway, version).await;
        let app = first.register("app").await;
        push(&gateway, &app.endpoint, "twice").await;
        let once = first.expect_push().await;
        gateway.kill9().await;
        first.lost().await;
        gateway.start_again().await;

        let mut second = Phone::connect(&gateway, &device, version).await;
        assert!(second.session_present, "the subscription survives with {version:?}");
        let again = second.expect_push().await;
        assert_eq!(again.payload, "twice");
        assert_eq!(again.property("message-id"), once.property("message-id"), "its name is stable");
        second.ack(&again).await;
        push(&gateway, &app.endpoint, "fence").await;
        assert_eq!(bodies_until(&mut second, "fence").await, [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_outlives_a_restart() {
    for version in Version::ALL {
        let mut gateway = Gateway::new().start().await;
        let (device, mut before) = phone(&gateway, version).await;
        assert!(!before.session_present, "a new device has no session");
        let app = before.register("app").await;
        drop(before);
        gateway.restart().await;
        let mut after = Phone::connect(&gateway, &device, version).await;
        assert!(after.session_present, "{version:?}");
        push(&gateway, &app.endpoint, "without a new SUBSCRIBE").await;
        assert_eq!(after.expect_push().await.payload, "without a new SUBSCRIBE");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reconnect_repeats_with_dup_and_the_same_names() {
    let gateway = Gateway::new().start().await;
    for version in Version::ALL {
        let (device, mut first) = phone(&gateway, version).await;
        let app = first.register("app").await;
        for body in ["one", "two"] {
            push(&gateway, &app.endpoint, body).await;
        }
        let sent = [first.expect_push().await, first.expect_push().await];
        drop(first);
        let mut second = Phone::connect(&gateway, &device, version).await;
        for original in &sent {
            let again = second.expect_push().await;
            assert_eq!(again.payload, original.payload, "in order");
            assert!(again.dup, "marked as a repetition: {again:?}");
            assert_eq!(again.packet_id, original.packet_id, "MQTT 3.1.1 §4.4: the original packet id");
            assert_eq!(again.property("message-id"), original.property("message-id"));
            second.ack(&again).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_under_load_loses_nothing_that_was_answered_201() {
    let mut gateway = Gateway::new().start().await;
    let (device, endpoint) = absent(&gateway).await;
    let running = load(&gateway, &endpoint, 8);
    running.answered(100).await;
    gateway.kill9().await;
    let accepted = running.stop().await;
    gateway.start_again().await;

    push(&gateway, &endpoint, "fence").await;
    let mut phone = Phone::connect(&gateway, &device, Version::V5).await;
    phone.subscribe().await;
    let received = bodies_until(&mut phone, "fence").await;
    let lost: Vec<_> = accepted.iter().filter(|body| !received.contains(body)).collect();
    assert!(lost.is_empty(), "{} of {} were lost: {lost:?}", lost.len(), accepted.len());
}
