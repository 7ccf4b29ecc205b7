//! What the owner can read of a device's wakes.

use harness::{Gateway, Version, eventually};
use serde_json::Value;

use crate::{bodies_until, phone, push};

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_reads_what_was_counted_with_and_without_a_running_gateway() {
    let mut gateway = Gateway::new().start().await;
    let (device, mut phone) = phone(&gateway, Version::V5).await;
    let app = phone.register("app").await;
    for number in 0..3 {
        push(&gateway, &app.endpoint, &number.to_string()).await;
    }
    push(&gateway, &app.endpoint, "fence").await;
    bodies_until(&mut phone, "fence").await;
    phone.settle().await;
    let show = async |gateway: &Gateway| -> Value {
        gateway.cli(["device", "show", &device.id, "--json"]).await.json()
    };
    let shown = eventually("all of them are counted", async || {
        let shown = show(&gateway).await;
        (shown["messages"]["acked"] == 4).then_some(shown)
    })
    .await;
    let today = &shown["days"][0];
    // One wake: the phone came, and its radio has been up since.
    assert_eq!((&today["total"], &today["reconnect"], &today["at_once"]), (&1.into(), &1.into(), &1.into()));
    assert!(today["day"].as_u64().is_some_and(|day| day > 1_700_000_000), "{today}");
    assert_eq!(shown["messages"]["sent"], 4);
    assert_eq!((&shown["missed"], &shown["delay_ms"]["normal"]["count"]), (&0.into(), &4.into()));

    let text = gateway.cli(["device", "show", &device.id]).await;
    assert!(text.text().contains("1 wakes today; delivering at once would have cost 1"), "{text:?}");
    let metrics = gateway.cli(["metrics"]).await.text().to_owned();
    let labels = format!("{{device=\"{}\",phase=\"acked\"}}", device.id);
    assert!(metrics.contains(&format!("unifiedpush_messages_total{labels} 4\n")), "{metrics}");
    assert!(metrics.ends_with("# EOF"), "{metrics}");

    // A stop writes down what was counted.
    gateway.terminate().await;
    let after = show(&gateway).await;
    assert_eq!(after["messages"], shown["messages"]);
    let nobody = gateway.cli(["device", "show", "0000000000000"]).await;
    assert!(nobody.code == Some(1) && nobody.stderr.contains("device list"), "{nobody:?}");
}
