//! The MQTT router's death: noticed, and mended by a restart.

use std::time::{Duration, Instant};

use harness::{Gateway, Phone, Version};

use crate::{bodies_until, phone, push};

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_router_ends_the_process_and_nothing_acknowledged_is_lost() {
    let mut gateway = Gateway::new().env("GATEWAY_TEST_KILL_ROUTER", "1").start().await;
    let (device, mut connected) = phone(&gateway, Version::V5).await;
    let app = connected.register("app").await;
    drop(connected);
    for number in 0..50 {
        push(&gateway, &app.endpoint, &number.to_string()).await;
    }
    let killed = Instant::now();
    let status = gateway.ends_by_sigusr2().await;
    assert!(killed.elapsed() < Duration::from_secs(5), "noticed after {:?}", killed.elapsed());
    assert!(status.code().is_some_and(|code| code != 0), "{status:?}: for systemd to start it again");
    assert!(gateway.log().contains("router has died"), "{}", gateway.log());
    gateway.start_again().await;
    let mut phone = Phone::connect(&gateway, &device, Version::V5).await;
    assert!(phone.session_present);
    push(&gateway, &app.endpoint, "end").await;
    let expected: Vec<_> = (0..50).map(|number| number.to_string()).collect();
    assert_eq!(bodies_until(&mut phone, "end").await, expected);
}
