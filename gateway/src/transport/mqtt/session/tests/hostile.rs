//! Bytes that nobody should send.

use proptest::{collection::vec, prelude::*};

use super::*;

#[test]
fn reserved_flags_end_the_connection() {
    for level in [4, 5] {
        for first in [0x41, 0x60, 0x80, 0x83, 0xa0, 0xc1, 0xe1] {
            let mut world = World::open(level);
            world.receive(&raw::packet(first, &[0, 1]));
            world.ended(0x81);
        }
    }
}

#[test]
fn connect_flags_go_together() {
    for flags in [0x01, 0x08, 0x20, 0x18 | 0x04] {
        let mut world = World::new(4);
        let mut bytes = Connect::of(DEVICE, 4).bytes();
        bytes[9] |= flags;
        world.receive(&bytes);
        assert!(world.out.close && world.out.bytes.is_empty(), "{flags:x}");
    }
}

#[test]
fn nothing_but_connect_comes_first() {
    for packet in [
        raw::PINGREQ.to_vec(),
        raw::puback(1),
        raw::subscribe(4, 1, &[("#", 1)]),
        raw::publish(4, 0x30, 0, "x", &[], b""),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3],
    ] {
        let mut world = World::new(4);
        world.receive(&packet);
        assert!(world.out.close && world.out.bytes.is_empty(), "{packet:x?}");
    }
}

#[test]
fn connect_comes_once() {
    for level in [4, 5] {
        let mut world = World::open(level);
        world.receive(&Connect::of(DEVICE, level).bytes());
        world.ended(0x82);
    }
}

#[test]
fn oversized_packets_are_refused_by_their_length() {
    // Before the login, and after it: the header alone is enough.
    let mut world = World::new(4);
    world.receive(&[0x10, 0xff, 0xff, 0xff, 0x7f]);
    assert!(world.out.close && world.out.bytes.is_empty());
    for level in [4, 5] {
        let mut world = World::open(level);
        world.receive(&[0x32, 0x80, 0x80, 0x02]);
        world.ended(0x95);
    }
    let mut world = World::open(5);
    world.receive(&[0x32, 0xff, 0xff, 0xff, 0xff]);
    assert!(world.out.close);
}

#[test]
fn nothing_is_heard_after_the_end() {
    let mut world = World::open(4);
    world.receive(&[raw::DISCONNECT.to_vec(), raw::PINGREQ.to_vec()].concat());
    world.receive(&raw::PINGREQ);
    assert!(world.out.close && world.out.bytes.is_empty());
}

/// A conversation that touches everything.
fn conversation(level: u8) -> Vec<u8> {
    [
        raw::subscribe(level, 1, &[(&inbox("#"), 1), ("#", 0)]),
        raw::publish(level, 0x32, 2, &outbox("register"), &[], br#"{"token":"t"}"#),
        raw::publish(level, 0x30, 0, &outbox("state"), &[], br#"{"power":"low"}"#),
        raw::puback(900),
        raw::PINGREQ.to_vec(),
        raw::puback(901),
        raw::publish(level, 0x32, 3, &outbox("unregister"), &[], br#"{"token":"t"}"#),
        raw::unsubscribe(level, 4, &[&inbox("#")]),
        raw::PINGREQ.to_vec(),
    ]
    .concat()
}

/// Feeds it in pieces, with pushes between and a disk that always works.
fn converse(connect: &[u8], bytes: &[u8], cuts: &[usize]) -> Out {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let mut world = World::new(4);
        world.receive(connect);
        if let Some(admission) = world.session.admission() {
            let admitted = Admitted { packet_ids: vec![(MessageId(1), 900)], ..Admitted::default() };
            world.session.admit(&*world.directory, &admission, admitted, world.now);
            world.collect();
        }
        let (mut rest, mut cuts) = (bytes, cuts.iter().cycle());
        while !rest.is_empty() {
            let cut = cuts.next().map_or(rest.len(), |&cut| cut.clamp(1, rest.len()));
            world.receive(&rest[..cut]);
            rest = &rest[cut..];
            while let Some(ask) = world.session.ask() {
                let answered = match ask {
                    Ask::Register(request) => {
                        Answered::Registered(world.directory.register(DEVICE, request).await)
                    }
                    Ask::Floor(_) | Ask::Save(_) | Ask::Unregister(_) => Answered::Done(Ok(())),
                };
                world.session.answered(&*Arc::clone(&world.directory), answered, world.now);
                world.collect();
            }
        }
        world.deliver(vec![push(1), push(2)]);
        world.pass(Duration::from_secs(1));
        std::mem::take(&mut world.out)
    })
}

/// What was said; in which order depends on how soon the disk answers.
fn packets(mut bytes: Vec<u8>) -> Vec<Packet> {
    let mut packets: Vec<_> = std::iter::from_fn(|| raw::take_packet(&mut bytes)).collect();
    packets.sort_by(|a, b| (a.first, &a.body).cmp(&(b.first, &b.body)));
    packets
}

#[test]
fn it_does_not_matter_how_the_bytes_are_cut() {
    for level in [4, 5] {
        let (connect, talk) = (Connect::of(DEVICE, level).bytes(), conversation(level));
        let whole = converse(&connect, &talk, &[usize::MAX]);
        let expected = packets(whole.bytes);
        assert_eq!(expected.len(), 9, "{level}: all but the PUBACKs is answered");
        for cut in 1..talk.len() {
            let pieces = converse(&connect, &talk, &[cut]);
            assert_eq!(packets(pieces.bytes), expected, "{level} {cut}");
            assert_eq!(pieces.acked, whole.acked);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn any_bytes_are_survived(bytes in vec(any::<u8>(), 0..600), cut in 1..50_usize) {
        converse(&bytes, &bytes, &[cut]);
        for level in [4, 5] {
            converse(&Connect::of(DEVICE, level).bytes(), &bytes, &[cut]);
        }
    }

    #[test]
    fn any_change_to_a_conversation_is_survived(
        level in 4..6_u8,
        changes in vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
        cuts in vec(1..40_usize, 1..5),
    ) {
        let connect = Connect::of(DEVICE, level).bytes();
        let mut bytes = [connect.clone(), conversation(level)].concat();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let (connect, talk) = bytes.split_at(connect.len());
        converse(connect, talk, &cuts);
    }

    #[test]
    fn whole_packets_with_any_body_are_survived(
        level in 4..6_u8,
        packets in vec((any::<u8>(), vec(any::<u8>(), 0..40)), 1..8),
    ) {
        let talk: Vec<u8> = packets.iter().flat_map(|(first, body)| raw::packet(*first, body)).collect();
        converse(&Connect::of(DEVICE, level).bytes(), &talk, &[usize::MAX]);
    }
}
