//! Which packets go by, and that no others do: each one keeps a radio up, or wakes it.

use std::{fs, time::Duration};

use harness::{BarePhone, Gateway, eventually};
use rumqttc::v5::mqttbytes::{
    QoS,
    v5::{Packet, Publish},
};

use crate::absent;

/// Long enough for an answer that nobody wants, and for the end of a connection.
const QUIET: Duration = Duration::from_millis(500);

/// Nothing comes for a while.
async fn silent(phone: &mut BarePhone) {
    if let Ok(packet) = tokio::time::timeout(QUIET, phone.next()).await {
        panic!("not asked for: {packet:?}");
    }
}

async fn push(gateway: &Gateway, endpoint: &str, urgency: &str) {
    let request = gateway.post(endpoint).ttl(86_400).header("Urgency", urgency);
    request.body(urgency).send().await.expect(201);
}

/// A push, which is acknowledged.
async fn take(phone: &mut BarePhone, expected: &str) {
    let packet = phone.expect("a push").await;
    let Packet::Publish(publish) = packet else { panic!("{expected} was expected, not {packet:?}") };
    assert_eq!(publish.payload, expected);
    phone.ack(publish.pkid).await;
}

/// Whether the kernel sends packets of its own on a connection that is silent: TCP keep-alive.
fn kernel_keeps_alive(port: u16) -> bool {
    // /proc/net/tcp: local address, …, timer (02 is keep-alive).
    let text = fs::read_to_string("/proc/net/tcp").expect("the kernel tells");
    let own = format!(":{port:04X}");
    let mut established = text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    established.any(|fields| fields[1].ends_with(&own) && fields[3] == "01" && fields[5].starts_with("02:"))
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_by_but_what_mqtt_asks_for() {
    // A radio without a tail: what may wait does.
    let gateway = Gateway::new().config("[wake]\nradio_tail_s = 0\n").start().await;
    let (device, endpoint) = absent(&gateway).await;
    let mut phone = BarePhone::connect(&gateway, &device).await;
    let packet = phone.expect("the plan").await;
    let Packet::Publish(plan) = packet else { panic!("{packet:?}") };
    assert!(plan.topic.ends_with(b"/inbox/plan"), "{plan:?}");
    if plan.qos == QoS::AtLeastOnce {
        phone.ack(plan.pkid).await;
    }
    silent(&mut phone).await;

    phone.ping().await;
    assert!(matches!(phone.expect("PINGRESP").await, Packet::PingResp(_)));
    silent(&mut phone).await;

    push(&gateway, &endpoint, "high").await;
    take(&mut phone, "high").await;
    silent(&mut phone).await;

    let state = format!("up/{}/outbox/state", device.id);
    let mut said = Publish::new(state, QoS::AtLeastOnce, r#"{"screen":"on"}"#, None);
    said.pkid = 7;
    phone.send(Packet::Publish(said)).await;
    assert!(matches!(phone.expect("PUBACK").await, Packet::PubAck(_)));
    silent(&mut phone).await;

    // What waits goes along with the answer to a ping, and nothing else does.
    push(&gateway, &endpoint, "low").await;
    push(&gateway, &endpoint, "very-low").await;
    silent(&mut phone).await;
    phone.ping().await;
    assert!(matches!(phone.expect("PINGRESP").await, Packet::PingResp(_)));
    take(&mut phone, "low").await;
    take(&mut phone, "very-low").await;
    silent(&mut phone).await;
    assert!(!kernel_keeps_alive(gateway.mqtt.port()), "TCP keep-alive would wake the radio");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_housekeeping_ends_a_connection_or_wakes_it() {
    let gateway = Gateway::new().config("[wake]\nradio_tail_s = 0\n").start().await;
    let (device, endpoint) = absent(&gateway).await;
    let mut phone = BarePhone::connect(&gateway, &device).await;
    let Packet::Publish(plan) = phone.expect("the plan").await else { panic!("not the plan") };
    if plan.qos == QoS::AtLeastOnce {
        phone.ack(plan.pkid).await;
    }
    // Expiry and replacement of what waits, withdrawal, a backup, and settings that are read again.
    let waits = |ttl, topic: &str| {
        let request = gateway.post(&endpoint).ttl(ttl).header("Urgency", "very-low").header("Topic", topic);
        request.body("waits")
    };
    waits(3600, "replaced").send().await.expect(201);
    let newer = waits(3600, "replaced").send().await.expect(201).location().to_owned();
    gateway.request("DELETE", &newer).send().await.expect(204);
    waits(1, "expires").send().await.expect(201);
    let file = gateway.scratch().join("backup");
    assert_eq!(gateway.cli(["backup", file.to_str().unwrap()]).await.code, Some(0));
    gateway.reload();
    // Whose TTL is a second leaves at its last moment, which is now.
    let packet = phone.expect("what would expire").await;
    let Packet::Publish(publish) = packet else { panic!("{packet:?}") };
    phone.ack(publish.pkid).await;
    eventually("it is settled", async || {
        let shown = gateway.cli(["device", "show", &device.id, "--json"]).await.json();
        (shown["messages"]["acked"] == 1 && shown["waiting"] == 0).then_some(())
    })
    .await;
    silent(&mut phone).await;
    phone.ping().await;
    assert!(matches!(phone.expect("PINGRESP").await, Packet::PingResp(_)), "the connection lives");
}
