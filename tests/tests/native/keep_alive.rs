//! What a network bears is learnt, asked for, and remembered.

use std::time::Duration;

use harness::{Gateway, Phone, Version, eventually, holds_for};

use crate::{bodies_until, phone, push};

/// What is asked for in a network of which nothing is known.
const FIRST: u16 = 135;
/// What is asked for in a network that bears next to nothing.
const FLOOR: u16 = 30;

#[tokio::test(flavor = "multi_thread")]
async fn a_5_0_phone_is_asked_for_what_was_learnt_after_a_restart_too() {
    let mut gateway = Gateway::new().start().await;
    let (device, mut first) = phone(&gateway, Version::V5).await;
    assert_eq!(first.server_keep_alive, Some(FIRST), "though it asked for 120 s itself");
    let app = first.register("app").await;
    let told = first.expect_control("plan").await;
    assert_eq!((told["keep_alive_s"].as_u64(), told["profile"].as_str()), (Some(135), Some("balanced")));
    // A network that forgets within two seconds: the phone does not hear what is written to it then.
    assert!(holds_for(Duration::from_secs(2), || true).await);
    push(&gateway, &app.endpoint, "lost").await;
    let lost = first.expect_push().await;
    let mut second = Phone::connect(&gateway, &device, Version::V5).await;
    assert_eq!(second.expect_push().await.payload, lost.payload);
    push(&gateway, &app.endpoint, "fence").await;
    bodies_until(&mut second, "fence").await;
    second.disconnect().await;
    let learnt = async |gateway: &Gateway| {
        eventually("it is asked for what was learnt", async || {
            let phone = Phone::connect(gateway, &device, Version::V5).await;
            let asked = phone.server_keep_alive;
            phone.disconnect().await;
            (asked == Some(FLOOR)).then_some(())
        })
        .await;
    };
    learnt(&gateway).await;
    gateway.restart().await;
    let after = Phone::connect(&gateway, &device, Version::V5).await;
    assert_eq!(after.server_keep_alive, Some(FLOOR), "it is remembered");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_is_told_when_its_owner_changes_how_it_is_treated() {
    for version in Version::ALL {
        let gateway = Gateway::new().start().await;
        let (device, mut phone) = phone(&gateway, version).await;
        assert_eq!(phone.expect_control("plan").await["profile"], "balanced");
        assert_eq!(gateway.cli(["device", "set", &device.id, "--profile", "saver"]).await.code, Some(0));
        // At the latest with the answer to whatever it says next.
        phone.settle().await;
        let told = eventually("the phone is told", async || {
            phone.settle().await;
            phone.control("plan")
        })
        .await;
        assert_eq!(told["profile"], "saver");
    }
}
