//! Packets that break the rules, of every type: a reason code or a clean close for whoever sent them,
//! and nothing for anybody else.

use super::{
    house::House,
    raw::{self, Connect, PATIENCE, Packet},
    ways::{self, AnyClient, Way},
};
use tokio::time::timeout;

use crate::{
    model::DeviceId,
    transport::{Consignment, Transport as _, battery},
};

const DEVICE: DeviceId = DeviceId(7);
const BYSTANDER: DeviceId = DeviceId(8);

/// The bystander is there, and is served.
async fn served(house: &House, bystander: &mut AnyClient, number: u64) {
    let items = vec![battery::item(BYSTANDER, number, b"body")];
    assert_eq!(house.room.hand_over(Consignment { device: BYSTANDER, items }), Ok(()));
    let push = bystander.published().await;
    assert_eq!(&push.body[..], b"body");
    bystander.send(&raw::puback(push.pid.expect("QoS 1"))).await;
}

/// Reads to the end: at most one DISCONNECT (5.0) with an error, nothing else. Else a complaint.
async fn ends(client: &mut AnyClient, what: &str) -> Option<String> {
    let mut told = Vec::new();
    let reading = async {
        while let Some(packet) = client.next().await {
            told.push(packet);
        }
    };
    let ended = timeout(PATIENCE / 5, reading).await.is_ok();
    let fine = match told.as_slice() {
        [] => true,
        [Packet { first: 0xe0, body }] => client.level == 5 && body[0] >= 0x80,
        [Packet { first: 0x20, body }] => body[1] > 0,
        _ => false,
    };
    (!ended || !fine).then(|| format!("{what}: ended {ended}, told {told:x?}\n"))
}

/// What a logged-in client must not send.
fn wrong(level: u8) -> Vec<(&'static str, Vec<u8>)> {
    let text = |text: &[u8]| [&[0, u8::try_from(text.len()).expect("short")], text].concat();
    let props: &[u8] = if level == 5 { &[0] } else { &[] };
    let topic = text(format!("up/{DEVICE}/outbox/state").as_bytes());
    let filter = text(format!("up/{DEVICE}/inbox/#").as_bytes());
    let mut packets = vec![
        ("type 0", raw::packet(0x00, &[])),
        ("CONNECT again", Connect::of(DEVICE, level).bytes()),
        ("CONNACK", raw::packet(0x20, &[0, 0])),
        ("SUBACK", raw::packet(0x90, &[0, 1, 1])),
        ("UNSUBACK", raw::packet(0xb0, &[0, 1])),
        ("PINGRESP", raw::packet(0xd0, &[])),
        ("AUTH or type 15", raw::packet(0xf0, &[])),
        ("a remaining length without end", vec![0x30, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ("a remaining length over the maximum", vec![0x30, 0xff, 0xff, 0xff, 0x7f]),
        ("PUBLISH of QoS 3", raw::publish(level, 0x36, 9, "x", &[], b"")),
        ("PUBLISH without topic", raw::packet(0x32, &[])),
        ("PUBLISH with half a topic length", raw::packet(0x32, &[0])),
        ("PUBLISH with a topic past its end", raw::packet(0x32, &[0, 9, b'x'])),
        ("PUBLISH with a topic of length 0", raw::publish(level, 0x32, 9, "", &[], b"")),
        (
            "PUBLISH with packet id 0",
            raw::publish(level, 0x32, 0, &format!("up/{DEVICE}/outbox/state"), &[], b"{}"),
        ),
        ("PUBLISH without packet id", raw::packet(0x32, &topic)),
        (
            "PUBLISH with a topic that is not UTF-8",
            raw::packet(0x30, &[&text(b"\xc3\x28")[..], props].concat()),
        ),
        ("PUBLISH with an overlong UTF-8 form", raw::packet(0x30, &[&text(b"\xc0\x80")[..], props].concat())),
        ("PUBLISH with a surrogate", raw::packet(0x30, &[&text(b"\xed\xa0\x80")[..], props].concat())),
        ("PUBLISH with NUL", raw::packet(0x30, &[&text(b"a\0b")[..], props].concat())),
        ("PUBACK without packet id", raw::packet(0x40, &[])),
        ("PUBACK with half a packet id", raw::packet(0x40, &[0])),
        ("PUBREC without packet id", raw::packet(0x50, &[])),
        ("PUBREC of nothing", raw::packet(0x50, &[0, 9])),
        ("PUBREL without packet id", raw::packet(0x62, &[])),
        ("PUBCOMP without packet id", raw::packet(0x70, &[])),
        ("PUBCOMP of nothing", raw::packet(0x70, &[0, 9])),
        ("SUBSCRIBE without packet id", raw::packet(0x82, &[])),
        ("SUBSCRIBE without filter", raw::packet(0x82, &[&[0, 1][..], props].concat())),
        ("SUBSCRIBE with packet id 0", raw::packet(0x82, &[&[0, 0][..], props, &filter, &[1]].concat())),
        ("SUBSCRIBE without options", raw::packet(0x82, &[&[0, 1][..], props, &filter].concat())),
        ("SUBSCRIBE at QoS 3", raw::packet(0x82, &[&[0, 1][..], props, &filter, &[3]].concat())),
        (
            "SUBSCRIBE with reserved options",
            raw::packet(0x82, &[&[0, 1][..], props, &filter, &[0xc1]].concat()),
        ),
        (
            "SUBSCRIBE with a filter past its end",
            raw::packet(0x82, &[&[0, 1][..], props, &[0, 99, b'x', 1]].concat()),
        ),
        (
            "SUBSCRIBE to what is not UTF-8",
            raw::packet(0x82, &[&[0, 1][..], props, &text(b"\xff"), &[1]].concat()),
        ),
        ("UNSUBSCRIBE without packet id", raw::packet(0xa2, &[])),
        ("UNSUBSCRIBE without filter", raw::packet(0xa2, &[&[0, 1][..], props].concat())),
        ("UNSUBSCRIBE with packet id 0", raw::packet(0xa2, &[&[0, 0][..], props, &filter].concat())),
        (
            "UNSUBSCRIBE of what is not UTF-8",
            raw::packet(0xa2, &[&[0, 1][..], props, &text(b"\xff")].concat()),
        ),
    ];
    // Reserved flags of every type but PUBLISH, which has none.
    for kind in (1..=15_u8).filter(|kind| *kind != 3) {
        let right = if [6, 8, 10].contains(&kind) { 2 } else { 0 };
        packets.extend(
            (0..16)
                .filter(|flags| *flags != right)
                .map(|flags| ("reserved flags", vec![kind << 4 | flags, 2, 0, 1])),
        );
    }
    if level == 5 {
        let with = |properties: &[u8]| {
            let length = [u8::try_from(properties.len()).expect("short")];
            raw::packet(0x30, &[&topic[..], &length, properties].concat())
        };
        packets.extend([
            ("a property that does not exist", with(&[0x7f, 0])),
            ("a property of another packet", with(&[0x21, 0, 1])),
            ("a property twice", with(&[2, 0, 0, 0, 1, 2, 0, 0, 0, 1])),
            ("a property cut short", with(&[2, 0, 0])),
            ("a payload format of 2", with(&[1, 2])),
            ("a subscription identifier from a client", with(&[0x0b, 1])),
            ("properties past the end", raw::packet(0x30, &[&topic[..], &[99, 1]].concat())),
            (
                "a property length without end",
                raw::packet(0x30, &[&topic[..], &[0xff, 0xff, 0xff, 0xff, 0xff]].concat()),
            ),
            ("a Response Topic with a wildcard", with(&raw::text_property(8, "a/#"))),
            ("DISCONNECT with a reason that does not exist", raw::packet(0xe0, &[0x7f])),
        ]);
    }
    packets
}

#[tokio::test]
async fn each_malformed_packet_ends_its_own_connection() {
    let (mut house, ways) = ways::all();
    let mut bystander = ways[0].0.join(BYSTANDER, 5).await;
    house.joined().await;
    let mut complaints = String::new();
    for (number, (way, level)) in (1..).zip(ways) {
        for (what, bytes) in wrong(level) {
            let mut client = way.log_in(DEVICE, level).await;
            client.send(&bytes).await;
            let what = format!("{what} by {way:?} {level} {bytes:x?}");
            complaints.extend(ends(&mut client, &what).await);
        }
        served(&house, &mut bystander, number).await;
    }
    assert!(complaints.is_empty(), "{complaints}");
}

#[tokio::test]
async fn whatever_comes_before_connect_ends_the_connection() {
    let (mut house, ways) = ways::all();
    let mut bystander = ways[0].0.join(BYSTANDER, 5).await;
    house.joined().await;
    let mut complaints = String::new();
    for (way, level) in ways {
        for (what, bytes) in wrong(level).into_iter().filter(|(what, _)| *what != "CONNECT again") {
            let mut client = way.open(level).await;
            client.send(&bytes).await;
            complaints.extend(ends(&mut client, what).await);
        }
        let connect = Connect::of(DEVICE, level).bytes();
        let changed = |at: usize, byte: u8| {
            let mut bytes = connect.clone();
            bytes[at] = byte;
            bytes
        };
        for (what, bytes) in [
            ("another protocol name", changed(4, b'X')),
            ("a name past the end", changed(3, 200)),
            ("a remaining length too short", changed(1, 12)),
            ("a reserved connect flag", changed(9, 0xc1)),
            ("a Will QoS of 3", changed(9, 0xdc)),
            ("a user name past the end", changed(connect.len() - 14, 0xff)),
            ("a huge CONNECT", [&[0x10, 0xff, 0xff, 0xff, 0x7f][..], &[b'x'; 9000]].concat()),
        ] {
            let mut client = way.open(level).await;
            client.send(&bytes).await;
            complaints.extend(ends(&mut client, what).await);
        }
    }
    assert!(complaints.is_empty(), "{complaints}");
    served(&house, &mut bystander, 1).await;
}

#[tokio::test]
async fn a_connection_cut_within_any_packet_leaves_nothing_behind() {
    let mut house = House::start().await;
    let way = Way::Tcp(house.address);
    let mut bystander = way.join(BYSTANDER, 5).await;
    house.joined().await;
    for level in [4, 5] {
        let inbox = format!("up/{DEVICE}/inbox/#");
        let outbox = format!("up/{DEVICE}/outbox/state");
        for packet in [
            raw::publish(level, 0x32, 9, &outbox, &[], b"{}"),
            raw::subscribe(level, 1, &[(&inbox, 1)]),
            raw::unsubscribe(level, 1, &[&inbox]),
            raw::puback(1),
            raw::pubrel(1),
            raw::PINGREQ.to_vec(),
        ] {
            for cut in 1..packet.len() {
                let mut client = way.log_in(DEVICE, level).await;
                client.send(&packet[..cut]).await;
                drop(client);
            }
        }
    }
    served(&house, &mut bystander, 1).await;
}

#[tokio::test]
async fn qos_2_that_is_never_released_comes_to_an_end() {
    let mut house = House::start().await;
    let way = Way::Tcp(house.address);
    let mut bystander = way.join(BYSTANDER, 5).await;
    house.joined().await;
    let outbox = format!("up/{DEVICE}/outbox/state");
    let mut client = way.log_in(DEVICE, 4).await;
    // The same one again and again is one.
    for _ in 0..2000 {
        client.send(&raw::publish(4, 0x3c, 1, &outbox, &[], b"{}")).await;
        assert_eq!(client.packet().await, Packet { first: 0x50, body: vec![0, 1] });
    }
    let mut recorded = 0;
    for pid in 2..u16::MAX {
        client.send(&raw::publish(4, 0x34, pid, &outbox, &[], b"{}")).await;
        if client.next().await.is_none() {
            break;
        }
        recorded += 1;
    }
    assert_eq!(recorded, 1023, "and then it is enough");
    served(&house, &mut bystander, 1).await;
}

#[tokio::test]
async fn a_flood_is_answered_and_holds_up_nobody() {
    let mut house = House::start().await;
    let way = Way::Tcp(house.address);
    let mut bystander = way.join(BYSTANDER, 5).await;
    house.joined().await;
    let mut flooder = way.log_in(DEVICE, 4).await;
    for number in 1..=20 {
        flooder.send(&raw::PINGREQ.repeat(1000)).await;
        served(&house, &mut bystander, number).await;
        for _ in 0..1000 {
            assert_eq!(flooder.packet().await.first, 0xd0);
        }
    }
}
