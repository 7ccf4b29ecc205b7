//! Records: frozen bytes, and no bytes that make them panic.

use std::borrow::Cow;

use proptest::prelude::*;

use super::*;
use crate::{
    model::{
        Address, Habit, Learnt, NetworkName, Preferences, Profile, QuietChoice, Tally, Topic, Untold,
        history::{History, Noted, Sheets},
    },
    store::record::{Flaw, MessageHead, Reserve, Tombstone, decode, decode_with, encode, encode_with},
};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn head() -> MessageHead<'static> {
    MessageHead {
        accepted: START,
        trusted: true,
        ttl: Ttl::DEFAULT,
        urgency: Urgency::High,
        device: DeviceId(1),
        registration: RegistrationId(2),
        topic: Some(Cow::Owned("news".parse().expect("a topic"))),
        coding: Cow::Owned(Coding { content_encoding: Some("aes128gcm".into()), ..Coding::default() }),
    }
}

/// Records of version 1 as the first release wrote them. If this fails, old databases cannot be read
/// any more: give the new form a new version instead.
#[test]
fn version_1_is_frozen() {
    let session = Session { filters: vec![("up/1/#".into(), 1)] };
    let mut habit = Habit::default();
    let learnt = Learnt { ask_s: 427, borne_s: 427, failed_s: Some(450), settled: true, strikes: 1 };
    habit.learn(NetworkName::of([192, 0, 2, 1].into()), learnt);
    let mut history = History::after(Sheets::new());
    history.note(17_934_912_000, Noted::Push(Urgency::High));
    history.note(17_934_912_450, Noted::Contact);
    let sheet = history.take().remove(&0).expect("the first");
    let mut tally = Tally::default();
    tally.missed = 1;
    tally.today(Some(20_000)).push = 300;
    tally.delayed(Urgency::High, 900);
    let preferences = Preferences {
        profile: Some(Profile::Saver),
        quiet: Some(QuietChoice::Hours("22:00-07:00".parse().expect("hours"))),
    };
    let untold = Untold { origin: Some("https://a.b".into()), ended: vec![EndpointToken([3; 20])] };
    let tombstone = Tombstone { device: DeviceId(1), token: "token".parse().expect("a token"), at: START };
    let reserve = Reserve { limit: 1 << 20, newest: START };
    let address = Address { expires: Some(START), text: "a@b.c/d".into() };
    for (name, record, frozen) in [
        ("address", encode(b"j", &address), "01d1a4c7a20180a0f1c2b134076140622e632f64"),
        (
            "message",
            encode_with(b"m", &head(), b"body"),
            "011d87781880a0f1c2b1340180a30503010201046e657773010961657331323867636d0000626f6479",
        ),
        (
            "device",
            encode(b"d", &device(1)),
            "0174e9258b01010770686f6e652031020909090909090909090909090909090909090909090909090909090909090909046d717474",
        ),
        (
            "registration",
            encode(b"r", &registration(1, 2)),
            "01fd973b70056170702032020102020202020202020202020202020202020202020207746f6b656e2d3200",
        ),
        ("floor", encode(b"f", &Urgency::High), "017b0e093303"),
        ("habit", encode(b"h", &habit), "01e30d71c3010c3139322e302e322e302f3234ab03ab0301c2030101"),
        ("sheet", encode(b"e", &sheet), "0193b47df5809484e842000204a038"),
        ("preferences", encode(b"p", &preferences), "01d4a7fb4401020100a80aa403"),
        ("session", encode(b"s", &session), "0192605a76010675702f312f2301"),
        (
            "tally",
            encode(b"w", &tally),
            "01a0bbd4c801a09c01000000ac02000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000001000000000000000000000000000000008407010000000000",
        ),
        ("tombstone", encode(b"t", &tombstone), "01b7d8666e0105746f6b656e80a0f1c2b134"),
        (
            "untold",
            encode(b"n", &untold),
            "01c1ac240c010b68747470733a2f2f612e62010303030303030303030303030303030303030303",
        ),
        ("reserve", encode(b"x", &reserve), "01664acdaf80804080a0f1c2b134"),
        ("format", encode(b"x", &1_u32), "012de1bfcb01"),
    ] {
        assert_eq!(hex(&record), frozen, "{name}");
    }
    assert_eq!(decode(b"j", &encode(b"j", &address)), Ok(address));
    assert_eq!(decode(b"d", &encode(b"d", &device(1))), Ok(device(1)));
    assert_eq!(decode(b"r", &encode(b"r", &registration(1, 2))), Ok(registration(1, 2)));
    assert_eq!(decode(b"h", &encode(b"h", &habit)), Ok(habit));
    assert_eq!(decode(b"s", &encode(b"s", &session)), Ok(session));
    assert_eq!(decode(b"w", &encode(b"w", &tally)), Ok(tally));
    assert_eq!(decode(b"t", &encode(b"t", &tombstone)), Ok(tombstone));
    assert_eq!(decode(b"x", &encode(b"x", &reserve)), Ok(reserve));
}

#[test]
fn every_changed_bit_is_found() {
    let record = encode_with(b"key", &head(), b"a body");
    for bit in 0..record.len() * 8 {
        let mut changed = record.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(decode_with::<MessageHead<'_>>(b"key", &changed).is_err(), "bit {bit}");
    }
    assert_eq!(decode_with::<MessageHead<'_>>(b"kez", &record).map(drop), Err(Flaw::Checksum));
    assert_eq!(decode::<u32>(b"key", &[1]).map(drop), Err(Flaw::Short));
    assert_eq!(decode::<u32>(b"key", &[2, 0, 0, 0, 0]).map(drop), Err(Flaw::Version(2)));
    assert_eq!(decode::<u32>(b"key", &encode(b"key", &(1_u32, 2_u32))).map(drop), Err(Flaw::Body));
}

proptest! {
    #[test]
    fn messages_survive_their_record(
        body in prop::collection::vec(any::<u8>(), 0..5000),
        topic in prop::option::of("[A-Za-z0-9_-]{1,32}"),
        ttl: u64,
        key: [u8; 9],
    ) {
        let topic = topic.map(|topic| Cow::Owned(topic.parse::<Topic>().expect("a topic")));
        let head = MessageHead { topic, ttl: Ttl::from_secs(ttl), ..head() };
        let record = encode_with(&key, &head, &body);
        prop_assert_eq!(decode_with::<MessageHead<'_>>(&key, &record), Ok((head, &*body)));
    }

    #[test]
    fn no_bytes_make_a_record_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        // With a right checksum, so that the forms themselves are tried.
        let mut record = vec![1, 0, 0, 0, 0];
        record.extend_from_slice(&bytes);
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(b"key");
        hasher.update(&[1]);
        hasher.update(&bytes);
        record[1..5].copy_from_slice(&hasher.finalize().to_le_bytes());
        drop(decode_with::<MessageHead<'_>>(b"key", &record));
        drop(decode::<Device>(b"key", &record));
        drop(decode::<Registration>(b"key", &record));
        drop(decode::<Session>(b"key", &record));
        drop(decode::<Tombstone>(b"key", &record));
        // And as they are.
        prop_assert!(decode::<Reserve>(b"key", &bytes).is_err());
    }
}
