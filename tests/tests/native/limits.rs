//! One endpoint that gets too much.

use harness::{Gateway, Phone, Version, eventually};

use crate::{absent, bodies_until, phone, push};

#[tokio::test(flavor = "multi_thread")]
async fn a_hot_endpoint_is_limited_and_the_others_notice_nothing() {
    let gateway = Gateway::new().config("[limits]\nburst = 20\nper_second = 1\n").start().await;
    let (_, mut there) = phone(&gateway, Version::V5).await;
    let (hot, quiet) = (there.register("hot").await, there.register("quiet").await);
    // TTL 0: what is counted here is the limit, not the disk.
    let mut counts = [0, 0];
    for number in 0..100 {
        let answer = gateway.post(&hot.endpoint).ttl(0).body(format!("hot {number}")).send().await;
        if answer.status == 429 {
            assert!(
                answer.header("retry-after").is_some_and(|after| after.parse::<u32>().is_ok_and(|s| s >= 1))
            );
        }
        counts[usize::from(answer.status == 429)] += 1;
        if number % 50 == 0 {
            push(&gateway, &quiet.endpoint, "quiet").await;
        }
    }
    push(&gateway, &quiet.endpoint, "fence").await;
    let [taken, refused] = counts;
    assert!(taken >= 20 && refused >= 1, "{counts:?}");
    let got = bodies_until(&mut there, "fence").await;
    assert_eq!(got.iter().filter(|body| *body == "quiet").count(), 2);
    assert!(gateway.log().contains("answering 429"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_endpoint_answers_429_and_keeps_what_waits() {
    let gateway = Gateway::new()
        .config("[limits]\nwaiting_per_registration = 3\nwhen_full = \"refuse\"\n")
        .start()
        .await;
    let (device, full) = absent(&gateway).await;
    let other = gateway.cli(["registration", "add", &device.id, "other"]).await.text().to_owned();
    for body in ["1", "2", "3"] {
        push(&gateway, &full, body).await;
    }
    let refused = gateway.post(&full).ttl(3600).body("4").send().await.expect(429);
    assert_eq!(refused.header("retry-after"), Some("60"));
    push(&gateway, &other, "of another").await;

    // The phone comes for them, and then there is room again, without a restart.
    let mut back = Phone::connect(&gateway, &device, Version::V5).await;
    back.subscribe().await;
    assert_eq!(bodies_until(&mut back, "of another").await, ["1", "2", "3"]);
    eventually("there is room again", async || {
        (gateway.post(&full).ttl(3600).body("4").send().await.status == 201).then_some(())
    })
    .await;
    assert_eq!(bodies_until(&mut back, "4").await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_of_a_full_endpoint_expire_early_and_are_counted() {
    let mut gateway = Gateway::new().config("[limits]\nwaiting_per_registration = 3\n").start().await;
    let (device, full) = absent(&gateway).await;
    let other = gateway.cli(["registration", "add", &device.id, "other"]).await.text().to_owned();
    push(&gateway, &other, "of another, and older").await;
    for body in ["1", "2", "3", "4", "5"] {
        push(&gateway, &full, body).await;
    }

    let listed = gateway.cli(["registration", "list", "--json"]).await.json();
    let row = |endpoint: &str| {
        let rows = listed.as_array().expect("a list").iter();
        let row = rows.clone().find(|row| row["endpoint"] == endpoint).expect("it is listed");
        (row["waiting"].as_u64(), row["crowded_out"].as_u64())
    };
    assert_eq!((row(&full), row(&other)), ((Some(3), Some(2)), (Some(1), Some(0))));
    let shown = gateway.cli(["device", "show", &device.id]).await;
    let line = "4 messages wait; 2 expired early since the start, because too many waited";
    assert!(shown.text().contains(line), "{}", shown.text());
    let metrics = gateway.cli(["metrics"]).await;
    let counted = |line: &&str| line.starts_with("unifiedpush_crowded_out_total{") && line.ends_with("} 2");
    assert_eq!(metrics.text().lines().filter(counted).count(), 1, "{}", metrics.text());
    assert!(gateway.log().contains("expire early"));

    // What was answered 201 and has not given way is there, whatever ended the process.
    gateway.kill9().await;
    gateway.start_again().await;
    let mut back = Phone::connect(&gateway, &device, Version::V5).await;
    back.subscribe().await;
    push(&gateway, &other, "fence").await;
    assert_eq!(bodies_until(&mut back, "fence").await, ["of another, and older", "3", "4", "5"]);
}
