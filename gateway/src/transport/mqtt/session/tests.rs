//! The machine in bytes, for both versions, without socket or clock.

mod connect;
mod control;
mod delivery;
mod hostile;
mod plan;

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Admission, Admitted, Answered, Ask, Leftover, Out, Session};
use crate::{
    clock::{Clock as _, SystemClock},
    model::{DeviceId, MessageId},
    transport::{
        Directory as _, Item, battery,
        mqtt::tests::{
            house::TestDirectory,
            raw::{self, Connect, Packet},
        },
    },
};

const DEVICE: DeviceId = DeviceId(7);
const MAX_KEEP_ALIVE: u16 = 900;
const UNACKED: Duration = Duration::from_secs(300);

/// A session, and what it has said since it was last asked.
struct World {
    directory: Arc<TestDirectory>,
    level: u8,
    now: Instant,
    out: Out,
    session: Session,
}

impl World {
    fn new(level: u8) -> Self {
        let now = SystemClock::default().moment().instant;
        let session = Session::new(IpAddr::V4(Ipv4Addr::LOCALHOST), MAX_KEEP_ALIVE, UNACKED, now);
        Self { directory: Arc::default(), level, now, out: Out::default(), session }
    }

    /// Connected, with nothing read yet but the CONNACK.
    fn open(level: u8) -> Self {
        Self::with(&Connect::of(DEVICE, level), Admitted::default())
    }

    fn with(connect: &Connect, admitted: Admitted) -> Self {
        let mut world = Self::new(connect.level);
        world.receive(&connect.bytes());
        world.admit(admitted);
        assert_eq!(world.packet().kind(), 2);
        world
    }

    /// Connected and subscribed to all of its inbox.
    fn subscribed(level: u8) -> Self {
        let filters = vec![(inbox("#").into(), 1)];
        Self::with(&Connect::of(DEVICE, level), Admitted { filters, present: true, ..Admitted::default() })
    }

    fn admit(&mut self, admitted: Admitted) -> Admission {
        let admission = self.session.admission().expect("logged in");
        self.session.admit(&*self.directory, &admission, admitted, self.now);
        self.collect();
        admission
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.session.receive(&*self.directory, bytes, self.now);
        self.collect();
    }

    fn collect(&mut self) {
        let out = self.session.take();
        self.out.absent.extend(out.absent);
        self.out.acked.extend(out.acked);
        self.out.bytes.extend(out.bytes);
        self.out.close |= out.close;
        self.out.joined = out.joined.or(self.out.joined);
        self.out.obeys |= out.obeys;
        self.out.sent.extend(out.sent);
        self.out.settled.extend(out.settled);
        self.out.states.extend(out.states);
        self.out.stirred |= out.stirred;
        self.out.told.extend(out.told);
        self.out.too_large.extend(out.too_large);
    }

    /// Answers the next ask as a working disk does.
    async fn answer(&mut self) -> Ask {
        let ask = self.session.ask().expect("something is asked");
        let answered = match ask.clone() {
            Ask::Floor(floor) => Answered::Done(self.directory.save_floor(DEVICE, floor).await),
            Ask::Register(request) => Answered::Registered(self.directory.register(DEVICE, request).await),
            Ask::Save(session) => Answered::Done(self.directory.save_session(DEVICE, Some(session)).await),
            Ask::Unregister(token) => Answered::Done(self.directory.unregister(DEVICE, token).await),
        };
        self.session.answered(&*self.directory, answered, self.now);
        self.collect();
        ask
    }

    fn deliver(&mut self, items: Vec<Item>) {
        self.session.deliver(items, self.now);
        self.collect();
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.session.on_time(self.now);
        self.collect();
    }

    fn packet(&mut self) -> Packet {
        raw::take_packet(&mut self.out.bytes).expect("a packet")
    }

    fn published(&mut self) -> raw::Published {
        let level = self.level;
        self.packet().published(level)
    }

    fn silent(&mut self) -> bool {
        self.out.bytes.is_empty() && !self.out.close
    }

    /// The session has ended; on 5.0 with this reason.
    fn ended(&mut self, reason: u8) {
        if self.level == 5 {
            assert_eq!(self.packet(), Packet { first: 0xe0, body: vec![reason, 0] });
        }
        assert!(self.out.bytes.is_empty() && self.out.close, "{:?}", self.out);
    }

    fn finish(self) -> Leftover {
        self.session.finish()
    }
}

fn inbox(leaf: &str) -> String {
    format!("up/{DEVICE}/inbox/{leaf}")
}

fn outbox(leaf: &str) -> String {
    format!("up/{DEVICE}/outbox/{leaf}")
}

fn push(id: u64) -> Item {
    battery::item(DEVICE, id, b"body")
}

fn ids(numbers: &[u64]) -> Vec<MessageId> {
    numbers.iter().copied().map(MessageId).collect()
}
