//! What the gateway has promised, by our own log, and whether it keeps it.
//!
//! What was on its way when the process died is *maybe*: neither its presence nor its absence is held
//! against the gateway. Everything else is certain, and is checked.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use harness::Random;

use crate::{http::Answer, mqtt::Publish, totals::Totals};

/// Deletions may wait two seconds for company, and an acknowledgement has a way to go on a busy machine:
/// a 201 that was asked for so much later proves that it is on disk.
const ACK_SURE: Duration = Duration::from_millis(2500);
/// What the gateway has learnt so long before it was asked to stop, it has understood.
const HEARD: Duration = Duration::from_secs(1);
/// A message whose TTL ended so long before its device came must not be seen: 201 is a little later than
/// acceptance.
const EXPIRED: Duration = Duration::from_secs(2);
/// A message whose TTL ends within this may or may not be seen: a check takes its time.
const EXPIRING: Duration = Duration::from_secs(30);

/// A change that was asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Asked {
    No,
    /// And never answered.
    Maybe,
    /// And confirmed then.
    Done(Instant),
}

/// A paired device.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    pub(crate) id: String,
    /// The MQTT that it speaks: 4 or 5.
    pub(crate) level: u8,
    pub(crate) removed: Asked,
    pub(crate) secret: String,
    /// Its SUBSCRIBE was confirmed.
    pub(crate) subscribed: bool,
}

/// A confirmed registration.
#[derive(Clone, Debug)]
pub(crate) struct Registration {
    pub(crate) channel: String,
    pub(crate) device: usize,
    /// The endpoint's path.
    pub(crate) path: String,
    pub(crate) removed: Asked,
}

/// A push message, from before its first byte was sent.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    ack: Option<Ack>,
    /// When it was answered 201.
    answered: Option<Instant>,
    begun: Instant,
    cancelled: Asked,
    generation: u32,
    pub(crate) location: Option<String>,
    /// When its 201 proved that it, and all that came before, was on disk.
    on_disk: Option<Instant>,
    received: bool,
    registration: usize,
    /// The next one with its Topic.
    successor: Option<u64>,
    topic: Option<String>,
    ttl_s: u32,
}

#[derive(Clone, Copy, Debug)]
struct Ack {
    /// Since when it is certain to be on disk.
    committed: Option<Instant>,
    /// When the gateway was certain to have read the PUBACK. A PUBACK on a connection that ends at once
    /// may never be read.
    heard: Option<Instant>,
    /// When the first PUBACK was about to be written.
    sent: Instant,
}

/// Whether a newer message has taken a message's place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Replaced {
    No,
    Maybe,
    Since(Instant),
}

/// A push that is about to be sent.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) body: Vec<u8>,
    pub(crate) headers: String,
    pub(crate) id: u64,
    pub(crate) path: String,
}

/// The log of one state directory.
#[derive(Debug)]
pub(crate) struct Judge {
    /// Acknowledged in this process, and heard by it.
    acks: Vec<u64>,
    /// Apps whose registration was asked for; some were never answered.
    pub(crate) apps: BTreeSet<String>,
    pub(crate) devices: Vec<Device>,
    generation: u32,
    latest: BTreeMap<(usize, String), u64>,
    messages: BTreeMap<u64, Message>,
    /// When the newest request was begun that proves that everything before it is on disk.
    proof: Option<Instant>,
    pub(crate) registrations: Vec<Registration>,
    seed: u64,
    pub(crate) totals: Totals,
}

impl Judge {
    pub(crate) fn new(seed: u64, totals: Totals) -> Self {
        Self {
            acks: Vec::new(),
            apps: BTreeSet::new(),
            devices: Vec::new(),
            generation: 0,
            latest: BTreeMap::new(),
            messages: BTreeMap::new(),
            proof: None,
            registrations: Vec::new(),
            seed,
            totals,
        }
    }

    /// Notes a push before it is sent.
    pub(crate) fn begin(&mut self, registration: usize, topic: Option<String>, ttl_s: u32) -> Outgoing {
        let id = self.messages.len() as u64;
        let mut headers = format!("TTL: {ttl_s}\r\nContent-Encoding: aes128gcm\r\n");
        if let Some(topic) = &topic {
            headers.push_str(&format!("Topic: {topic}\r\n"));
            if let Some(before) = self.latest.insert((registration, topic.clone()), id) {
                self.message(before).successor = Some(id);
            }
        }
        let message = Message {
            ack: None,
            answered: None,
            begun: Instant::now(),
            cancelled: Asked::No,
            generation: self.generation,
            location: None,
            on_disk: None,
            received: false,
            registration,
            successor: None,
            topic,
            ttl_s,
        };
        self.messages.insert(id, message);
        let path = self.registrations[registration].path.clone();
        Outgoing { body: self.body(id), headers, id, path }
    }

    /// Notes the answer to a push.
    pub(crate) fn answered(&mut self, id: u64, answer: Answer) {
        let now = Instant::now();
        let removed = self.registrations[self.messages[&id].registration].removed;
        match (answer.status, answer.location) {
            (201, Some(location)) => {
                self.totals.answered += 1;
                let message = self.message(id);
                message.answered = Some(now);
                message.location = location.rsplit('/').next().map(str::to_owned);
                // Otherwise it may never have been written.
                if message.ack.is_none() && message.ttl_s > 0 && removed == Asked::No {
                    message.on_disk = Some(now);
                    let begun = message.begun;
                    self.proof = self.proof.max(Some(begun));
                }
            }
            (410, _) if removed != Asked::No => {}
            (503, _) => self.totals.busy += 1,
            (status, _) => self.complain(format!("push {id} was answered {status}")),
        }
    }

    /// Notes that a message is about to be taken back; `None`: there is no reason to.
    pub(crate) fn cancel(&mut self, id: u64) -> Option<String> {
        let message = self.message(id);
        if message.cancelled != Asked::No || message.ack.is_some() {
            return None;
        }
        let location = message.location.clone()?;
        message.cancelled = Asked::Maybe;
        Some(format!("/m/{location}"))
    }

    /// Notes the answer to a DELETE.
    pub(crate) fn cancel_answered(&mut self, id: u64, status: u16) {
        let now = Instant::now();
        let message = &self.messages[&id];
        match status {
            204 => self.message(id).cancelled = Asked::Done(now),
            404 => {
                let over = message.begun + Duration::from_secs(message.ttl_s.into()) < now + EXPIRING;
                let ended = self.registrations[message.registration].removed != Asked::No;
                let explained = message.ack.is_some() || over || ended;
                match message.successor {
                    _ if explained || self.replaced(id) != Replaced::No => {}
                    // It was never answered, and yet it has taken this one's place: so it is owed now.
                    Some(successor) => self.message(successor).answered = Some(now),
                    None => {
                        self.totals.lost += 1;
                        self.complain(format!("DELETE of {} gave 404, but it was owed", self.describe(id)));
                    }
                }
            }
            503 => self.totals.busy += 1,
            status => self.complain(format!("DELETE of {id} was answered {status}")),
        }
    }

    /// Judges what a device has received on a connection that it has had `since`; its number if it is a push.
    pub(crate) fn received(&mut self, device: usize, publish: &Publish, since: Instant) -> Option<u64> {
        let (_, channel) = publish.topic.split_once("/inbox/push/")?;
        let id = publish.body.first_chunk::<8>().map(|id| u64::from_be_bytes(*id));
        let known = id.and_then(|id| Some((id, self.messages.get(&id)?.clone())));
        let Some((id, message)) = known else {
            self.totals.damaged += 1;
            self.complain(format!("an unknown body of {} bytes at {channel}", publish.body.len()));
            return None;
        };
        let registration = self.registrations[message.registration].clone();
        let named = publish.message_id.as_ref().zip(message.location.as_ref());
        if self.body(id) != publish.body
            || registration.channel != channel
            || registration.device != device
            || named.is_some_and(|(found, location)| found != location)
        {
            self.totals.damaged += 1;
            let described = self.describe(id);
            self.complain(format!("{described} arrived damaged: {} at {channel}", publish.body.len()));
        }
        let before = |end: Asked| matches!(end, Asked::Done(at) if at < since);
        let acked = message.ack.and_then(|ack| ack.committed).is_some_and(|at| at < since);
        // What was acknowledged is replaced no more: its deletion is as lazy as that of others.
        let waited = |until: Instant| message.ack.is_none_or(|ack| ack.sent > until);
        let replaced = matches!(self.replaced(id), Replaced::Since(at) if at < since && waited(at));
        let over = Duration::from_secs(message.ttl_s.into()) + EXPIRED;
        let expired = message.answered.is_some_and(|at| at + over < since);
        let volatile = message.ttl_s == 0 && message.generation < self.generation;
        let ended = before(message.cancelled) || before(registration.removed);
        if ended || acked || replaced || volatile || expired {
            self.totals.returned += 1;
            let cancelled = message.cancelled;
            let why = format!("cancelled {cancelled:?} acked {acked} replaced {replaced} expired {expired}");
            let (described, after) = (self.describe(id), self.successors(id));
            self.complain(format!(
                "{described} came back: {why}, registration {:?}: {message:?}, replaced by {after:?}",
                registration.removed
            ));
        }
        self.message(id).received = true;
        Some(id)
    }

    /// Notes that PUBACKs are about to be written.
    pub(crate) fn acking(&mut self, ids: &[u64]) {
        self.acknowledge(ids, None);
    }

    /// Notes that the gateway has answered a ping that followed these PUBACKs.
    pub(crate) fn heard(&mut self, ids: Vec<u64>) {
        self.acknowledge(&ids, Some(Instant::now()));
        self.acks.extend(ids);
    }

    fn acknowledge(&mut self, ids: &[u64], heard: Option<Instant>) {
        let now = Instant::now();
        for &id in ids {
            let message = self.message(id);
            let sent = message.ack.map_or(now, |ack| ack.sent);
            message.ack = Some(Ack { committed: None, heard, sent });
        }
    }

    /// Notes the death of the process: what it was told long before its last proof is on disk.
    pub(crate) fn died(&mut self) {
        let proof = self.proof.and_then(|proof| proof.checked_sub(ACK_SURE));
        self.end_of_process(proof);
    }

    /// Nothing proves any more what this process has deleted: thousands of older deletions go before.
    pub(crate) fn unsure(&mut self) {
        self.proof = None;
    }

    /// Notes that the process was asked to stop at `asked`, and did.
    pub(crate) fn stopped(&mut self, asked: Instant) {
        self.end_of_process(asked.checked_sub(HEARD));
    }

    fn end_of_process(&mut self, sure_until: Option<Instant>) {
        let now = Instant::now();
        for id in std::mem::take(&mut self.acks) {
            if let Some(ack) = &mut self.message(id).ack {
                if ack.heard.is_some() && ack.heard <= sure_until {
                    ack.committed = Some(now);
                    self.totals.acks += 1;
                }
            }
        }
        self.generation += 1;
        self.proof = None;
    }

    /// The messages that a device must get now.
    pub(crate) fn due(&self, device: usize) -> BTreeSet<u64> {
        let soon = Instant::now() + EXPIRING;
        let due = |id: u64, message: &Message| {
            let registration = &self.registrations[message.registration];
            message.answered.is_some()
                && message.ack.is_none()
                && message.cancelled == Asked::No
                && message.begun + Duration::from_secs(message.ttl_s.into()) > soon
                && registration.device == device
                && registration.removed == Asked::No
                && self.replaced(id) == Replaced::No
        };
        self.messages.iter().filter(|(id, message)| due(**id, message)).map(|(id, _)| *id).collect()
    }

    /// Drops from `due` what turned out to be replaced: its successor, never answered, has come.
    pub(crate) fn narrow(&self, due: &mut BTreeSet<u64>) {
        due.retain(|id| self.replaced(*id) == Replaced::No);
    }

    /// Notes messages that a device should have got and did not. Each is counted once.
    pub(crate) fn missed(&mut self, ids: &BTreeSet<u64>) {
        for &id in ids {
            self.totals.lost += 1;
            let described = self.describe(id);
            self.complain(format!("{described} is lost"));
            self.message(id).cancelled = Asked::Maybe;
        }
    }

    /// A violation in words.
    #[expect(clippy::print_stderr, reason = "whoever runs it must see it at once")]
    pub(crate) fn complain(&mut self, what: String) {
        self.totals.complaints += 1;
        // A lost database is one fault, not a thousand lines.
        if self.totals.complaints <= 50 {
            eprintln!("WRONG: {what}");
        }
    }

    fn replaced(&self, id: u64) -> Replaced {
        let mut fate = Replaced::No;
        let mut next = self.messages[&id].successor;
        while let Some(message) = next.and_then(|id| self.messages.get(&id)) {
            if let Some(at) = message.on_disk {
                return Replaced::Since(at);
            }
            // One that was acknowledged before it was written has deleted its predecessor lazily; one that
            // was never answered may be there in its place, and then it has been received.
            if message.answered.is_some() || message.received {
                fate = Replaced::Maybe;
            }
            next = message.successor;
        }
        fate
    }

    /// What has taken a message's place, one after the other.
    fn successors(&self, id: u64) -> Vec<(u64, &Message)> {
        let next = |id: u64| self.messages[&id].successor.map(|next| (next, &self.messages[&next]));
        std::iter::successors(next(id), |(id, _)| next(*id)).collect()
    }

    fn describe(&self, id: u64) -> String {
        let message = &self.messages[&id];
        format!(
            "message {id} (process {} of {}, TTL {}, topic {:?}, 201 {} ms ago)",
            message.generation,
            self.generation,
            message.ttl_s,
            message.topic,
            message.answered.map_or(0, |at| at.elapsed().as_millis()),
        )
    }

    /// Its number, and bytes that follow from it: nothing but the number need be kept.
    fn body(&self, id: u64) -> Vec<u8> {
        let mut random = Random::new(self.seed ^ (id << 20));
        let length = if random.chance(10) { random.below(4080) } else { random.below(1200) };
        [&id.to_be_bytes()[..], &random.bytes(usize::try_from(length).expect("small"))].concat()
    }

    fn message(&mut self, id: u64) -> &mut Message {
        self.messages.get_mut(&id).expect("it was begun")
    }
}
