//! What MQTT 5.0 adds.

use super::*;

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
