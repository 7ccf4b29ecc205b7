//! The door for fuzzers: bytes into the frame path, and a list of operations into the session machine.
//!
//! Only with the feature `fuzzing`; `gateway/fuzz` has the targets. What is promised is checked here:
//! no panic, whole packets only, nothing acknowledged that was not sent, no window overrun.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{
    open,
    session::{Admitted, Answered, Ask, Session},
};
use crate::{
    clock::{Clock as _, SystemClock},
    model::{
        AppToken, Coding, DeviceId, EndpointToken, MessageId, MessageToken, NetworkName, PushMessage,
        Registration, RegistrationId, Session as Durable, Ttl, UnixTime, Urgency,
    },
    transport::{Directory, Future, Item, Login, RegisterRefusal, RegisterRequest, RegisteredAs},
};

const DEVICE: DeviceId = DeviceId(7);
/// What no session may have in flight.
const WINDOW: usize = super::config::WINDOW_MAX as usize;

/// Everybody is welcome: what follows a login is what is to be found out.
struct House;

impl Directory for House {
    fn login(&self, _: &str, _: &[u8], _: IpAddr) -> Login {
        Login::Welcome(DEVICE)
    }

    fn register(
        &self,
        device: DeviceId,
        request: RegisterRequest,
    ) -> Future<'_, Result<RegisteredAs, RegisterRefusal>> {
        Box::pin(async move { Ok(registered(device, request)) })
    }

    fn keep_alive(&self, _: DeviceId, _: &NetworkName) -> Option<Duration> {
        None
    }

    fn save_session(&self, _: DeviceId, _: Option<Durable>) -> Future<'_, Result<(), RegisterRefusal>> {
        Box::pin(async { Ok(()) })
    }

    fn session(&self, _: DeviceId) -> Option<Durable> {
        None
    }

    fn unregister(&self, _: DeviceId, _: AppToken) -> Future<'_, Result<(), RegisterRefusal>> {
        Box::pin(async { Ok(()) })
    }
}

fn registered(device: DeviceId, request: RegisterRequest) -> RegisteredAs {
    let registration = Registration {
        app: request.app,
        created: UnixTime(0),
        device,
        endpoint: EndpointToken([1; 20]),
        id: RegistrationId(5),
        token: request.token,
        vapid: request.vapid,
    };
    RegisteredAs { endpoint: "https://push.example.org/p/x".to_owned(), registration }
}

fn item(id: u64, length: u8) -> Item {
    let message = PushMessage {
        accepted: UnixTime(0),
        body: vec![7; length.into()].into(),
        coding: Coding::default(),
        device: DEVICE,
        expires: now(),
        id: MessageId(id),
        registration: RegistrationId(5),
        topic: None,
        ttl: Ttl::DEFAULT,
        urgency: Urgency::Normal,
    };
    Item {
        message: Arc::new(message),
        redelivery: id % 2 == 0,
        remaining_s: 60,
        token: MessageToken([0; 24]),
    }
}

/// Complete packets, and nothing after them.
fn assert_whole(mut bytes: &[u8]) {
    while let Some((_, rest)) = bytes.split_first() {
        let (mut length, mut header) = (0, 0);
        for (at, &byte) in rest.iter().take(4).enumerate() {
            length |= usize::from(byte & 0x7f) << (7 * at);
            header = at + 1;
            if byte & 0x80 == 0 {
                break;
            }
        }
        assert!(rest.len() >= header + length, "half a packet is sent: {bytes:x?}");
        bytes = &rest[header + length..];
    }
}

fn now() -> Instant {
    SystemClock::default().moment().instant
}

fn session(now: Instant) -> Session {
    Session::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 900, Duration::from_secs(300), now)
}

/// The frame path: the first byte says how the others are cut, the rest is what a peer sends, to the
/// phones' machine and to the open broker's.
pub fn frames(data: &[u8]) {
    let Some((&cut, bytes)) = data.split_first() else { return };
    let (now, cut) = (now(), usize::from(cut).max(1));
    let mut phone = session(now);
    let mut house = open::house::House::default();
    let mut client = open::session::Session::new(1, watch::channel(None).0, now);
    for piece in bytes.chunks(cut) {
        phone.receive(&House, piece, now);
        if let Some(admission) = phone.admission() {
            phone.admit(&House, &admission, Admitted::default(), now);
        }
        settle(&mut phone, now);
        assert_whole(&phone.take().bytes);
        client.receive(&mut house, piece, now);
        let out = client.take();
        assert_whole(&out.bytes);
        if out.close {
            break;
        }
    }
    client.finish(&mut house, now);
    drop(phone.finish());
}

fn settle(session: &mut Session, now: Instant) {
    while let Some(ask) = session.ask() {
        let answered = match ask {
            Ask::Register(request) => Answered::Registered(Ok(registered(DEVICE, request))),
            Ask::Floor(_) | Ask::Save(_) | Ask::Unregister(_) => Answered::Done(Ok(())),
        };
        session.answered(&House, answered, now);
    }
}

/// A list of operations against the session machine, two bytes each: what, and how.
pub fn operations(data: &[u8]) {
    let Some((&setting, operations)) = data.split_first() else { return };
    let mut now = now();
    let mut session = session(now);
    let level = 4 + (setting & 1);
    session.receive(&House, &connect(level, setting), now);
    let Some(admission) = session.admission() else { return };
    let packet_ids = (1..u16::from(setting >> 4)).map(|id| (MessageId(id.into()), id)).collect();
    let filters = vec![(format!("up/{DEVICE}/inbox/#").into(), setting >> 1 & 1)];
    session.admit(&House, &admission, Admitted { filters, packet_ids, present: true }, now);
    let (mut handed, mut flying) = (0, HashSet::new());
    for pair in operations.chunks_exact(2) {
        let how = pair[1];
        match pair[0] % 8 {
            0 => {
                handed += 1;
                session.deliver(vec![item(handed, how)], now);
            }
            1 => session.receive(&House, &[0x40, 2, 0, how], now),
            2 => session.receive(&House, &[how], now),
            3 => session.receive(&House, &subscribe(level, how), now),
            4 => session.receive(&House, &publish(level, how), now),
            5 => settle(&mut session, now),
            6 => {
                now += Duration::from_secs(how.into());
                session.on_time(now);
            }
            _ => session.receive(&House, &[0xc0, 0, 0x62, 2, 0, how], now),
        }
        let out = session.take();
        assert_whole(&out.bytes);
        flying.extend(out.sent.iter().copied().filter(|id| !out.settled.contains(id)));
        // What an earlier connection had sent may be acknowledged late.
        let earlier = u64::from(setting >> 4);
        for id in out.acked {
            assert!(flying.remove(&id) || id.0 < earlier, "{id:?} was acknowledged and never sent");
        }
        assert!(flying.len() <= WINDOW, "more in flight than there may be");
        if out.close {
            break;
        }
    }
    assert!(session.finish().packet_ids.len() <= super::config::REMEMBERED_MAX + WINDOW);
}

fn connect(level: u8, setting: u8) -> Vec<u8> {
    let clean = if setting & 4 == 0 { 0 } else { 2 };
    let properties: &[u8] = match (level, setting & 8) {
        (4, _) => &[],
        (_, 0) => &[0],
        _ => &[3, 0x21, 0, 3],
    };
    let body =
        [b"\0\x04MQTT", &[level, 0xc0 | clean, 0, 60][..], properties, b"\0\x01x\0\x01u\0\x01p"].concat();
    packet(0x10, &body)
}

fn subscribe(level: u8, how: u8) -> Vec<u8> {
    let filter = format!("up/{DEVICE}/inbox/{}", ["#", "push/+", "plan", "#/x"][usize::from(how & 3)]);
    let (first, tail) = if how & 4 == 0 { (0x82, &[how >> 3 & 1][..]) } else { (0xa2, &[][..]) };
    request(level, first, &filter, tail)
}

fn request(level: u8, first: u8, filter: &str, tail: &[u8]) -> Vec<u8> {
    let properties: &[u8] = if level == 5 { &[0] } else { &[] };
    packet(first, &[&[0, 1][..], properties, &text(filter), tail].concat())
}

fn publish(level: u8, how: u8) -> Vec<u8> {
    let leaf = ["register", "unregister", "state", "other"][usize::from(how & 3)];
    let first = [0x30, 0x32, 0x34, 0x3c][usize::from(how >> 2 & 3)];
    let pid: &[u8] = if first == 0x30 { &[] } else { &[0, how >> 4 | 1] };
    let properties: &[u8] = if level == 5 { &[0] } else { &[] };
    let topic = text(&format!("up/{DEVICE}/outbox/{leaf}"));
    packet(first, &[&topic, pid, properties, br#"{"token":"t"}"#].concat())
}

fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes(), text.as_bytes()].concat()
}

/// A short packet.
fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let length = u8::try_from(body.len()).unwrap_or(127).min(127);
    [&[first, length], &body[..length.into()]].concat()
}
