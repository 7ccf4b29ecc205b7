//! The cases of the public interoperability suites, in bytes, on both versions.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinHandle, time::timeout};

use super::BoundBroker;
use crate::{
    clock::SystemClock,
    model::DeviceId,
    transport::mqtt::tests::raw::{
        Client, Connect, DISCONNECT, PATIENCE, Packet, Published, packet, puback, publish, pubrel, subscribe,
        text_property, unsubscribe, user_property,
    },
};

mod v5;

struct Open {
    address: SocketAddr,
    running: JoinHandle<()>,
    shutdown: watch::Sender<bool>,
}

impl Open {
    async fn start() -> Self {
        let bound = BoundBroker::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("binds");
        let address = bound.local_addr();
        let (shutdown, stop) = watch::channel(false);
        let running = tokio::spawn(bound.run(Arc::new(SystemClock::default()), stop));
        Self { address, running, shutdown }
    }

    /// Without a login; what was asked for by the function.
    async fn connect(
        &self,
        client_id: &'static str,
        level: u8,
        with: impl FnOnce(&mut Connect),
    ) -> (Client, Packet) {
        let mut connect =
            Connect { clean: true, client_id, password: None, user: None, ..Connect::of(DeviceId(0), level) };
        with(&mut connect);
        Client::connect(self.address, &connect).await
    }

    async fn clean(&self, client_id: &'static str, level: u8) -> Client {
        let (client, connack) = self.connect(client_id, level, |_| {}).await;
        assert_eq!(connack.body[..2], [0, 0]);
        client
    }

    /// A session that outlives its connection; says whether there was one.
    async fn durable(&self, client_id: &'static str, level: u8, clean: bool) -> (Client, bool) {
        let (client, connack) = self
            .connect(client_id, level, |connect| {
                // On 3.1.1 a clean session is one that does not last.
                connect.clean = clean && level == 5;
                if level == 5 {
                    connect.properties = vec![0x11, 0, 0, 0x0f, 0];
                }
            })
            .await;
        assert_eq!(connack.body[1], 0);
        (client, connack.body[0] == 1)
    }
}

/// QoS 0 to 2, to the end of the flow.
async fn say(client: &mut Client, qos: u8, topic: &str, retain: bool, properties: &[u8], body: &[u8]) {
    let first = 0x30 | qos << 1 | u8::from(retain);
    client.send(&publish(client.level, first, 77, topic, properties, body)).await;
    match qos {
        0 => {}
        1 => assert_eq!((client.packet().await.first, 4), (0x40, 4)),
        _ => {
            assert_eq!(client.packet().await.first, 0x50);
            client.send(&pubrel(77)).await;
            assert_eq!(client.packet().await.first, 0x70);
        }
    }
}

/// The next message and its QoS, taken to the end of the flow.
async fn hear(client: &mut Client) -> (Published, u8, bool) {
    let heard = client.packet().await;
    let published = heard.published(client.level);
    let qos = heard.first >> 1 & 3;
    match (qos, published.pid) {
        (1, Some(pid)) => client.send(&puback(pid)).await,
        (2, Some(pid)) => {
            client.send(&packet(0x50, &pid.to_be_bytes())).await;
            assert_eq!(client.packet().await, Packet { first: 0x62, body: pid.to_be_bytes().to_vec() });
            client.send(&packet(0x70, &pid.to_be_bytes())).await;
        }
        _ => {}
    }
    (published, qos, heard.first & 1 == 1)
}

#[tokio::test]
async fn any_topic_goes_at_the_lower_of_both_qos() {
    let open = Open::start().await;
    for level in [4, 5] {
        let (mut hears, mut says) = (open.clean("hears", level).await, open.clean("says", level).await);
        assert_eq!(hears.subscribe(&[("a/+", 2), ("b/#", 1), ("c", 0)]).await, [2, 1, 0]);
        for (topic, qos, got) in
            [("a/x", 0, 0), ("a/x", 1, 1), ("a/x", 2, 2), ("b", 2, 1), ("b/x/y", 0, 0), ("c", 2, 0)]
        {
            say(&mut says, qos, topic, false, &[], b"body").await;
            let (heard, qos, retained) = hear(&mut hears).await;
            assert_eq!(
                (heard.topic.as_str(), &heard.body[..], qos, retained),
                (topic, &b"body"[..], got, false)
            );
        }
    }
}

#[tokio::test]
async fn retained_messages_come_with_the_subscription_until_they_are_cleared() {
    let open = Open::start().await;
    for level in [4, 5] {
        let mut says = open.clean("says", level).await;
        for (qos, topic) in [(0, "r/0"), (1, "r/1"), (2, "r/2")] {
            say(&mut says, qos, topic, true, &[], topic.as_bytes()).await;
        }
        says.ping().await;
        let mut hears = open.clean("hears", level).await;
        hears.send(&subscribe(level, 1, &[("r/+", 2)])).await;
        assert_eq!(hears.packet().await.kind(), 9);
        for qos in 0..3 {
            let (heard, got, retained) = hear(&mut hears).await;
            assert_eq!((heard.topic, got, retained), (format!("r/{qos}"), qos, true));
        }
        for topic in ["r/0", "r/1", "r/2"] {
            say(&mut says, 1, topic, true, &[], b"").await;
            assert!(!hear(&mut hears).await.2, "to those who are there it is news");
        }
        let mut late = open.clean("late", level).await;
        assert_eq!(late.subscribe(&[("#", 2)]).await, [2]);
        late.ping().await;
    }
}

#[tokio::test]
async fn what_is_published_offline_waits_for_a_durable_session() {
    let open = Open::start().await;
    for level in [4, 5] {
        let (mut hears, _) = open.durable("hears", level, true).await;
        hears.subscribe(&[("q/#", 2)]).await;
        hears.send(&DISCONNECT).await;
        assert_eq!(hears.next().await, None);
        let mut says = open.clean("says", level).await;
        for qos in 0..3 {
            say(&mut says, qos, "q/x", false, &[], &[qos]).await;
        }
        let (mut hears, present) = open.durable("hears", level, false).await;
        assert!(present);
        for qos in [1, 2] {
            let (heard, got, _) = hear(&mut hears).await;
            assert_eq!((got, &heard.body[..]), (qos, &[qos][..]), "QoS 0 does not wait");
        }
        hears.ping().await;
    }
}

#[tokio::test]
async fn unfinished_flows_go_on_at_the_reconnect_in_order() {
    let open = Open::start().await;
    for level in [4, 5] {
        let (mut hears, _) = open.durable("hears", level, true).await;
        hears.subscribe(&[("d", 2)]).await;
        let mut says = open.clean("says", level).await;
        for (qos, body) in [(2, b"1"), (1, b"2"), (2, b"3")] {
            say(&mut says, qos, "d", false, &[], body).await;
        }
        let mut pids = Vec::new();
        for _ in 0..3 {
            pids.push(hears.published().await.pid.expect("QoS 1 or 2"));
        }
        hears.send(&packet(0x50, &pids[0].to_be_bytes())).await;
        assert_eq!(hears.packet().await.first, 0x62);
        drop(hears);
        let (mut hears, present) = open.durable("hears", level, false).await;
        assert!(present);
        let release = hears.packet().await;
        assert_eq!((release.first, release.pid()), (0x62, pids[0]), "what was received is released");
        for pid in &pids[1..] {
            let again = hears.published().await;
            assert_eq!((again.pid, again.dup), (Some(*pid), true));
        }
        hears.send(&packet(0x70, &pids[0].to_be_bytes())).await;
        hears.ping().await;
        // What was received before is not taken twice either.
        let (mut says, _) = open.durable("twice", level, true).await;
        says.send(&publish(level, 0x34, 5, "e", &[], b"x")).await;
        assert_eq!(says.packet().await.first, 0x50);
        drop(says);
        let mut witness = open.clean("witness", level).await;
        witness.subscribe(&[("e", 0)]).await;
        let (mut says, _) = open.durable("twice", level, false).await;
        says.send(&publish(level, 0x3c, 5, "e", &[], b"x")).await;
        assert_eq!(says.packet().await.first, 0x50);
        witness.ping().await;
    }
}

#[tokio::test]
async fn a_will_is_published_when_nobody_says_good_bye() {
    let open = Open::start().await;
    for level in [4, 5] {
        let mut hears = open.clean("hears", level).await;
        hears.subscribe(&[("will", 2)]).await;
        let will = |connect: &mut Connect| connect.will = Some(("will".to_owned(), b"gone".to_vec(), 0x08));
        let (mut leaves, _) = open.connect("leaves", level, will).await;
        leaves.send(&DISCONNECT).await;
        assert_eq!(leaves.next().await, None);
        hears.ping().await;
        drop(open.connect("drops", level, will).await);
        assert_eq!(&hear(&mut hears).await.0.body[..], b"gone");
        let _silent = open
            .connect("silent", level, |connect| {
                will(connect);
                connect.keep_alive = 1;
            })
            .await;
        assert_eq!(&hear(&mut hears).await.0.body[..], b"gone", "the keep-alive ran out");
    }
}

#[tokio::test]
async fn overlapping_subscriptions_bring_one_copy_at_the_highest_qos() {
    let open = Open::start().await;
    for level in [4, 5] {
        let mut client = open.clean("x", level).await;
        client.subscribe(&[("o/#", 2), ("o/+", 1), ("+/x", 0)]).await;
        client.send(&publish(level, 0x34, 5, "o/x", &[], b"x")).await;
        assert_eq!(client.packet().await.first, 0x50);
        client.send(&pubrel(5)).await;
        let mut kinds = [client.packet().await, client.packet().await];
        kinds.sort_by_key(|packet| packet.first);
        assert_eq!((kinds[0].first, kinds[1].first), (0x34, 0x70));
        client.ping().await;
    }
}

#[tokio::test]
async fn dollar_topics_are_no_business_of_wildcards() {
    let open = Open::start().await;
    for level in [4, 5] {
        let mut client = open.clean("x", level).await;
        assert_eq!(client.subscribe(&[("#", 1), ("+/x", 1), ("$SYS/#", 1)]).await, [1, 1, 1]);
        say(&mut client, 1, "$SYS/x", false, &[], b"x").await;
        client.ping().await;
    }
}

#[tokio::test]
async fn an_unsubscribed_topic_is_heard_no_more() {
    let open = Open::start().await;
    for level in [4, 5] {
        let mut client = open.clean("x", level).await;
        client.subscribe(&[("a", 0), ("b", 0)]).await;
        client.send(&unsubscribe(level, 3, &["a", "never"])).await;
        let unsuback = client.packet().await;
        assert_eq!((unsuback.first, unsuback.pid()), (0xb0, 3));
        if level == 5 {
            assert_eq!(unsuback.body[3..], [0, 0x11]);
        }
        say(&mut client, 0, "a", false, &[], b"").await;
        say(&mut client, 0, "b", false, &[], b"").await;
        assert_eq!(hear(&mut client).await.0.topic, "b");
    }
}

#[tokio::test]
async fn a_client_without_a_name_gets_one_if_it_wants_no_session() {
    let open = Open::start().await;
    let (_, connack) = open.connect("", 4, |connect| connect.clean = false).await;
    assert_eq!(connack.body, [0, 2], "3.1.1: identifier rejected");
    open.clean("", 4).await.ping().await;
    for clean in [false, true] {
        let (_client, connack) = open.connect("", 5, |connect| connect.clean = clean).await;
        assert!(
            connack.body.windows(6).any(|window| window == b"\x12\0\x08open" || window[0] == 0x12),
            "{connack:?}"
        );
    }
}

#[tokio::test]
async fn a_packet_id_of_0_ends_the_connection() {
    let open = Open::start().await;
    for level in [4, 5] {
        for bytes in [
            publish(level, 0x32, 0, "t", &[], b""),
            publish(level, 0x34, 0, "t", &[], b""),
            pubrel(0),
            puback(0),
            packet(0x50, &[0, 0]),
            packet(0x70, &[0, 0]),
            subscribe(level, 0, &[("t", 1)]),
            unsubscribe(level, 0, &["t"]),
        ] {
            let mut client = open.clean("x", level).await;
            client.send(&bytes).await;
            client.put_out(0x82).await;
        }
    }
}

#[tokio::test]
async fn the_keep_alive_is_capped_and_said() {
    let open = Open::start().await;
    for (asked, told) in [(120, true), (60, false), (0, false)] {
        let (_client, connack) = open.connect("x", 5, |connect| connect.keep_alive = asked).await;
        assert_eq!(connack.body.windows(3).any(|window| window == [0x13, 0, 60]), told, "{asked}");
    }
}

#[tokio::test]
async fn a_shared_subscription_is_served_once() {
    let open = Open::start().await;
    let (mut one, mut two) = (open.clean("one", 5).await, open.clean("two", 5).await);
    for client in [&mut one, &mut two] {
        client.subscribe(&[("$share/g/w", 1)]).await;
    }
    let mut says = open.clean("says", 5).await;
    for _ in 0..2 {
        say(&mut says, 1, "w", false, &[], b"work").await;
    }
    assert_eq!(&hear(&mut one).await.0.body[..], b"work");
    assert_eq!(&hear(&mut two).await.0.body[..], b"work");
    one.ping().await;
    two.ping().await;
}

#[tokio::test]
async fn a_client_id_is_taken_over() {
    let open = Open::start().await;
    for level in [4, 5] {
        let mut first = open.clean("x", level).await;
        let mut second = open.clean("x", level).await;
        first.put_out(0x8e).await;
        second.ping().await;
    }
}

#[tokio::test]
async fn a_full_queue_loses_the_newest_and_nothing_else() {
    let open = Open::start().await;
    let (mut hears, _) = open.durable("hears", 4, true).await;
    hears.subscribe(&[("full", 1)]).await;
    drop(hears);
    let mut says = open.clean("says", 4).await;
    let many = u16::try_from(super::house::QUEUE_MAX).expect("short") + 50;
    for number in 0..many {
        say(&mut says, 1, "full", false, &[], &number.to_be_bytes()).await;
    }
    let (mut hears, _) = open.durable("hears", 4, false).await;
    let mut last = 0;
    for number in 0..many - 60 {
        let (heard, ..) = hear(&mut hears).await;
        last = u16::from_be_bytes([heard.body[0], heard.body[1]]);
        assert_eq!(last, number);
    }
    assert!(last < many);
}

#[tokio::test]
async fn it_stops_with_a_word_and_in_time() {
    let open = Open::start().await;
    let (mut old, mut new) = (open.clean("old", 4).await, open.clean("new", 5).await);
    open.shutdown.send_replace(true);
    new.put_out(0x8b).await;
    old.put_out(0).await;
    timeout(Duration::from_secs(3), open.running).await.expect("in time").expect("no panic");
}

#[test]
fn it_is_for_the_loopback_only() {
    for address in ["0.0.0.0:0", "192.0.2.1:0", "[::]:0"] {
        let error = BoundBroker::bind(address.parse().expect("an address")).expect_err("refused");
        assert!(error.to_string().contains("loopback"), "{error}");
    }
}
