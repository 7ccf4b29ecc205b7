//! What the owner can read of a device's wakes.

use std::fs;

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

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_tries_profiles_on_what_happened_to_a_device() {
    // However slow the machine: one contact.
    let mut gateway = Gateway::new().config("[wake]\nradio_tail_s = 60\n").start().await;
    let (device, mut phone) = phone(&gateway, Version::V5).await;
    let app = phone.register("app").await;
    let state = format!("up/{}/outbox/state", device.id);
    for urgency in ["high", "low", "very-low", "normal"] {
        let request =
            gateway.post(&app.endpoint).ttl(60).header("Topic", "secret").header("Urgency", urgency);
        request.body("nobody's business").send().await.expect(201);
    }
    assert_eq!(phone.publish_to(&state, br#"{"urgency":"normal"}"#).await, "Success");
    let export = async |gateway: &Gateway| {
        let exported = gateway.cli(["simulate", "--export", &device.id]).await;
        exported.text().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let lines = eventually("all of it is noted", async || {
        let lines = export(&gateway).await;
        lines.iter().any(|line| line.contains("state")).then_some(lines)
    })
    .await;
    // The phone came; its radio was up for all the rest.
    let what = |line: &String| line.split_once(',').map(|(_, what)| what.to_owned());
    let happened: Vec<_> = lines.iter().filter_map(what).collect();
    let expected = ["contact,,,", "push,high,,", "push,low,,", "push,very-low,,", "push,normal,,"];
    assert_eq!(happened[0], "kind,urgency,ttl,topic");
    assert_eq!(happened[1..6], expected);
    assert_eq!(happened[6..], ["state,normal,,"]);

    let file = gateway.scratch().join("trace.csv");
    fs::write(&file, lines.join("\n")).unwrap();
    let simulated = gateway.cli(["simulate", file.to_str().unwrap(), "--json"]).await.json();
    assert_eq!((&simulated["missed"], &simulated["expired"]), (&0.into(), &0.into()), "{simulated}");
    assert_eq!(simulated["wakes"]["total"], simulated["optimum"]);

    // It is there without a gateway, and in a backup; and it goes on.
    gateway.terminate().await;
    assert_eq!(export(&gateway).await, lines);
    let backup = gateway.scratch().join("backup");
    assert_eq!(gateway.cli(["backup", backup.to_str().unwrap()]).await.code, Some(0));
    fs::remove_dir_all(gateway.state_dir()).unwrap();
    assert_eq!(gateway.cli(["restore", backup.to_str().unwrap()]).await.code, Some(0));
    gateway.start_again().await;
    assert_eq!(export(&gateway).await, lines);
    push(&gateway, &app.endpoint, "later").await;
    let more = eventually("it goes on", async || {
        let more = export(&gateway).await;
        (more.len() > lines.len()).then_some(more)
    })
    .await;
    assert_eq!(more[..lines.len()], lines);
    assert!(more.last().unwrap().ends_with(",push,normal,,"), "{more:?}");

    assert_eq!(gateway.cli(["device", "remove", &device.id]).await.code, Some(0));
    let gone = gateway.cli(["simulate", "--export", &device.id]).await;
    assert!(gone.code == Some(1) && gone.stderr.contains("device list"), "{gone:?}");
    let both = gateway.cli(["simulate", "--export", &device.id, "--json"]).await;
    assert_eq!(both.code, Some(2), "{both:?}");
}
