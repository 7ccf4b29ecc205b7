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
async fn properties_are_passed_on_as_they_came() {
    let open = Open::start().await;
    let mut client = open.clean("x", 5).await;
    client.subscribe(&[("p", 1)]).await;
    let properties = [
        vec![1, 1],
        text_property(3, "text/plain"),
        text_property(8, "answers/here"),
        text_property(9, "334"),
        user_property("a", "2"),
        user_property("c", "3"),
        user_property("a", "1"),
    ]
    .concat();
    say(&mut client, 0, "p", false, &properties, b"x").await;
    assert_eq!(hear(&mut client).await.0.properties, properties);
}

#[tokio::test]
async fn subscription_identifiers_and_options_are_obeyed() {
    let open = Open::start().await;
    let mut client = open.clean("x", 5).await;
    let options = |pid: u8, identifier: u8, filter: &str, options: u8| {
        let body = [
            &[0, pid, 2, 0x0b, identifier][..],
            &u16::try_from(filter.len()).expect("short").to_be_bytes(),
            filter.as_bytes(),
            &[options],
        ];
        packet(0x82, &body.concat())
    };
    client
        .send(
            &[
                options(1, 7, "s/#", 0),
                options(2, 9, "s/x", 0),
                options(3, 1, "own", 4),
                options(4, 2, "kept", 8),
            ]
            .concat(),
        )
        .await;
    for _ in 0..4 {
        assert_eq!(client.packet().await.kind(), 9);
    }
    say(&mut client, 0, "own", false, &[], b"").await;
    say(&mut client, 0, "s/x", false, &[], b"").await;
    let (heard, ..) = hear(&mut client).await;
    assert_eq!(
        (heard.topic.as_str(), &heard.properties[..]),
        ("s/x", &[0x0b, 7, 0x0b, 9][..]),
        "no local: not `own`"
    );
    say(&mut client, 0, "kept", true, &[], b"x").await;
    assert!(hear(&mut client).await.2, "retain as published");
    // Retain handling: 0 always, 1 when the subscription is new, 2 never.
    for (handling, copies) in [(0, 1), (1, 0), (2, 0)] {
        client.send(&options(5, 2, "kept", handling << 4)).await;
        assert_eq!(client.packet().await.kind(), 9);
        for _ in 0..copies {
            assert!(hear(&mut client).await.2);
        }
        client.ping().await;
    }
}

#[tokio::test]
async fn a_message_expires_and_tells_what_is_left() {
    let open = Open::start().await;
    let (mut hears, _) = open.durable("hears", 5, true).await;
    hears.subscribe(&[("m", 1)]).await;
    drop(hears);
    let mut says = open.clean("says", 5).await;
    say(&mut says, 1, "m", false, &[2, 0, 0, 0, 0], b"at once").await;
    say(&mut says, 1, "m", false, &[2, 0, 0, 0, 60], b"later").await;
    let (mut hears, present) = open.durable("hears", 5, false).await;
    assert!(present);
    let (heard, ..) = hear(&mut hears).await;
    assert_eq!(&heard.body[..], b"later");
    assert!(heard.properties[..4] == [2, 0, 0, 0] && (50..=60).contains(&heard.properties[4]));
}

#[tokio::test]
async fn a_session_ends_when_its_expiry_says_so() {
    let open = Open::start().await;
    let expires = |seconds| {
        move |connect: &mut Connect| {
            connect.clean = false;
            connect.properties = vec![0x11, 0, 0, 0, seconds];
        }
    };
    let (client, _) = open.connect("x", 5, expires(1)).await;
    drop(client);
    let gone = async {
        loop {
            // Each look leaves the session as it was, or begins it anew.
            let (client, connack) = open.connect("x", 5, expires(0)).await;
            drop(client);
            if connack.body[0] == 0 {
                return;
            }
        }
    };
    timeout(PATIENCE, gone).await.expect("it ends");
    let (mut client, _) = open.connect("y", 5, expires(0)).await;
    client.send(&packet(0xe0, &[0, 5, 0x11, 0, 0, 0, 9])).await;
    client.put_out(0x82).await;
    let (mut client, _) = open.connect("z", 5, expires(1)).await;
    client.send(&packet(0xe0, &[0, 5, 0x11, 0, 0, 0, 200])).await;
    assert_eq!(client.next().await, None);
    assert_eq!(open.connect("z", 5, expires(1)).await.1.body[0], 1, "DISCONNECT made it last");
}

#[tokio::test]
async fn flow_control_works_both_ways() {
    let open = Open::start().await;
    let (mut client, _) = open.connect("x", 5, |connect| connect.properties = vec![0x21, 0, 2]).await;
    client.subscribe(&[("f", 1)]).await;
    let mut says = open.clean("says", 5).await;
    for _ in 0..3 {
        say(&mut says, 1, "f", false, &[], b"").await;
    }
    let first = client.published().await;
    client.published().await;
    client.ping().await;
    client.send(&puback(first.pid.expect("QoS 1"))).await;
    client.published().await;
    for pid in 1..=33 {
        says.send(&publish(5, 0x34, pid, "f", &[], b"")).await;
    }
    for _ in 1..=32 {
        assert_eq!(says.packet().await.first, 0x50);
    }
    says.put_out(0x93).await;
}

#[tokio::test]
async fn topic_aliases_are_for_those_who_take_them() {
    let open = Open::start().await;
    for (properties, aliased) in [(vec![0x22, 0, 1], true), (vec![0x22, 0, 0], false), (vec![], false)] {
        let (mut client, _) = open.connect("x", 5, |connect| connect.properties = properties).await;
        client.subscribe(&[("alias", 1)]).await;
        client.send(&publish(5, 0x30, 0, "alias", &[0x23, 0, 3], b"1")).await;
        client.send(&publish(5, 0x30, 0, "", &[0x23, 0, 3], b"2")).await;
        let (first, second) = (client.published().await, client.published().await);
        assert_eq!((first.topic.as_str(), &second.body[..]), ("alias", &b"2"[..]));
        assert_eq!(first.properties.starts_with(&[0x23]), aliased);
        assert_eq!(second.topic.is_empty(), aliased);
        client.send(&publish(5, 0x30, 0, "alias", &[0x23, 0, 11], b"")).await;
        client.put_out(0x94).await;
    }
}

#[tokio::test]
async fn a_maximum_packet_size_is_obeyed_both_ways() {
    let open = Open::start().await;
    let (mut client, connack) =
        open.connect("x", 5, |connect| connect.properties = vec![0x27, 0, 0, 0, 64]).await;
    assert!(connack.body.windows(5).any(|window| window == [0x27, 0, 0, 0x40, 0]), "{connack:?}");
    client.subscribe(&[("t", 1)]).await;
    let mut says = open.clean("says", 5).await;
    say(&mut says, 1, "t", false, &[], &[b'.'; 64]).await;
    say(&mut says, 1, "t", false, &[], b"small").await;
    assert_eq!(&hear(&mut client).await.0.body[..], b"small");
    says.send(&publish(5, 0x30, 0, "t", &[], &[b'.'; 16 * 1024])).await;
    says.put_out(0x95).await;
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
