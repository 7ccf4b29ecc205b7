//! The component's session: a machine without sockets or clocks.
//!
//! What the server says, mail and times go in; what is to be written, asked and reported comes out as [`Out`].
//! It outlives the stream: what was sent by one may be answered by way of the next.

mod answers;
mod delivery;
mod sink;

use std::{
    collections::{HashSet, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::Instant,
};

use ring::hmac;

use super::{
    Limits,
    config::{ASKS_WAITING_MAX, GRACE_MS, SWEEP},
    flight::Flights,
    jid::Jid,
    phone::Phones,
    seat::Seats,
    wire,
    xml::{Element, Heard, ns},
};
use crate::{
    config::XmppConfig,
    model::{Address, DeviceId, MessageId, Moment, RegistrationId, UnixTime},
    transport::{Directory, Event, Parting, Posted, RegisterRefusal, RegisterRequest, RegisteredAs},
};

/// What is to be done now.
#[derive(Debug, Default)]
pub(super) struct Out {
    /// The stream cannot go on, and why.
    pub(super) end: Option<End>,
    pub(super) reports: Vec<(DeviceId, Event)>,
    /// What of the text is pushes, to be reported when it has been written.
    pub(super) sent: Vec<(DeviceId, Vec<MessageId>)>,
    pub(super) text: String,
}

/// Why a stream has ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum End {
    /// The server has said why. Whether it is for a reason that somebody has to mend first.
    Refused(String, bool),
    /// It has said, or been, something that is not a component's stream, or nothing at all.
    Broken(String),
}

/// What the session wants the house to do.
#[derive(Debug)]
pub(super) enum Ask {
    /// The app of a registration is gone, as it says when it is sent this message.
    End(DeviceId, RegistrationId, MessageId),
    /// The time of a registration is over.
    Expire(DeviceId, RegistrationId),
    /// A server notifies.
    Post(Box<Posting>),
    Register(Box<Registering>),
}

/// A client wants an endpoint.
#[derive(Debug)]
pub(super) struct Registering {
    pub(super) address: Address,
    pub(super) device: DeviceId,
    pub(super) from: Jid,
    pub(super) most: usize,
    pub(super) request: RegisterRequest,
    /// The head of the request, for the answer.
    pub(super) stanza: Element,
}

/// A notification of a server.
#[derive(Debug)]
pub(super) struct Posting {
    passed: sink::Passed,
    pub(super) posted: Posted,
    /// The head of the request, for the answer.
    stanza: Element,
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Answered {
    Ended(DeviceId, MessageId, Result<(), RegisterRefusal>),
    Expired(RegistrationId, Result<(), RegisterRefusal>),
    /// Whether it was taken in.
    Posted(Box<Posting>, bool),
    Registered(Box<Registering>, Result<RegisteredAs, RegisterRefusal>),
}

/// How far a stream is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// There is none.
    Down,
    /// Ours has begun; theirs has not.
    Opening,
    /// The secret was proved.
    Proving,
    Up,
}

/// The machine.
#[derive(Debug)]
pub(super) struct Session {
    asks: VecDeque<Ask>,
    config: XmppConfig,
    /// Clients that have registrations.
    clients: HashSet<Jid>,
    flights: Flights,
    /// When the server was heard last.
    heard: Instant,
    key: hmac::Key,
    limits: Limits,
    out: Out,
    /// Notifications that were passed on of late.
    passed: VecDeque<sink::Passed>,
    phones: Phones,
    /// Pings without an answer, and when the next one is to be given up.
    pinged: Option<(u8, Instant)>,
    seats: Arc<Seats>,
    secret: String,
    stage: Stage,
    /// When the stream began.
    since: Instant,
    swept: Option<Instant>,
    /// When something was written last.
    wrote: Instant,
}

impl Session {
    pub(super) fn new(
        config: XmppConfig,
        secret: String,
        key: &[u8; 32],
        seats: Arc<Seats>,
        limits: Limits,
        now: Instant,
    ) -> Self {
        Self {
            asks: VecDeque::new(),
            clients: HashSet::new(),
            config,
            flights: Flights::default(),
            heard: now,
            key: hmac::Key::new(hmac::HMAC_SHA256, key),
            limits,
            out: Out::default(),
            passed: VecDeque::new(),
            phones: Phones::default(),
            pinged: None,
            seats,
            secret,
            stage: Stage::Down,
            since: now,
            swept: None,
            wrote: now,
        }
    }

    pub(super) fn server(&self) -> SocketAddr {
        self.config.server
    }

    pub(super) fn component(&self) -> &str {
        &self.config.component
    }

    /// A connection was made.
    pub(super) fn connected(&mut self, now: Instant) {
        (self.heard, self.wrote, self.since) = (now, now, now);
        (self.pinged, self.stage) = (None, Stage::Opening);
        self.out.text += &wire::opening(&self.config.component);
    }

    /// Whether the handshake is over.
    pub(super) fn is_up(&self) -> bool {
        self.stage == Stage::Up
    }

    /// How long the stream has been there, if it is up.
    pub(super) fn up_since(&self) -> Option<Instant> {
        self.is_up().then_some(self.since)
    }

    /// The stream is over.
    pub(super) fn disconnected(&mut self) {
        self.stage = Stage::Down;
        self.flights.give_all_up();
        for device in self.phones.clear() {
            self.seats.leave(device);
            self.report(device, Event::Left(Parting::Ended));
        }
        self.out.text.clear();
        self.out.sent.clear();
        self.out.end = None;
    }

    /// Something was written.
    pub(super) fn wrote(&mut self, now: Instant) {
        self.wrote = now;
    }

    /// The server has said something, and be it white space.
    pub(super) fn stir(&mut self, now: Instant) {
        (self.heard, self.pinged) = (now, None);
    }

    /// The server has said something that is complete.
    pub(super) fn hear(&mut self, directory: &dyn Directory, heard: Heard, now: Moment) {
        match (self.stage, heard) {
            (_, Heard::Closed) => self.end(End::Broken("the server has ended the stream".to_owned())),
            (_, Heard::Stanza(error)) if error.is("error", ns::STREAMS) => {
                let why = wire::stream_error(&error);
                let lasting = ["not-authorized", "host-unknown", "invalid-namespace"];
                let lasting = lasting.into_iter().any(|condition| why.starts_with(condition));
                self.end(End::Refused(why, lasting));
            }
            (Stage::Opening, Heard::Opened(Some(id))) => {
                self.stage = Stage::Proving;
                self.out.text += &wire::handshake(&id, &self.secret);
            }
            (Stage::Proving, Heard::Stanza(stanza)) if stanza.is("handshake", ns::COMPONENT) => {
                self.stage = Stage::Up;
                self.open(directory, now);
            }
            (Stage::Up, Heard::Stanza(stanza)) => self.stanza(directory, &stanza, now),
            (Stage::Up, Heard::Oversized(head)) => {
                tracing::debug!(from = head.attribute("from"), name = head.name(), "a stanza is too large");
                if is_request(&head) {
                    self.refuse(&head, wire::Condition::NotAcceptable);
                }
            }
            (Stage::Opening | Stage::Proving | Stage::Down | Stage::Up, _) => {
                self.end(End::Broken("what answers is not a server for components (XEP-0114)".to_owned()));
            }
        }
    }

    /// Everybody who has registered may be there: nobody tells a component who was while it was away.
    fn open(&mut self, directory: &dyn Directory, now: Moment) {
        self.sweep(directory, now);
        for (registration, address) in directory.addresses() {
            if let Some(address) = Jid::read(&address.text) {
                self.arrive(registration.device, address, false);
            }
        }
    }

    fn stanza(&mut self, directory: &dyn Directory, stanza: &Element, now: Moment) {
        match (stanza.name(), stanza.ns()) {
            ("iq", ns::COMPONENT) => match stanza.attribute("type") {
                Some("get" | "set") => self.request(directory, stanza, now),
                Some("result" | "error") => self.answer(stanza, now),
                // RFC 6120 §8.2.3 knows no other.
                Some(_) | None => self.refuse(stanza, wire::Condition::BadRequest),
            },
            ("presence", ns::COMPONENT) => self.presence(stanza),
            // Nothing is said to the gateway by messages, and what later versions bring is not known yet.
            _ => {}
        }
    }

    fn report(&mut self, device: DeviceId, event: Event) {
        self.out.reports.push((device, event));
    }

    /// Says something, if there still is a stream: an answer that took its time may come too late.
    fn say(&mut self, stanza: Option<String>) {
        if self.is_up() {
            self.out.text.extend(stanza);
        }
    }

    fn refuse(&mut self, stanza: &Element, condition: wire::Condition) {
        self.say(wire::refusal(stanza, condition));
    }

    fn end(&mut self, end: End) {
        self.out.end.get_or_insert(end);
    }

    /// The next request for the house.
    pub(super) fn next_ask(&mut self) -> Option<Ask> {
        self.asks.pop_front()
    }

    /// Whether more can be asked for.
    fn has_room(&self) -> bool {
        self.asks.len() < ASKS_WAITING_MAX
    }

    /// When [`on_time`](Self::on_time) is due next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.stage {
            Stage::Down => None,
            Stage::Opening | Stage::Proving => Some(self.since + self.limits.greeting),
            Stage::Up => {
                let silence = match self.pinged {
                    Some((_, due)) => due,
                    None => self.heard + self.limits.silence.0,
                };
                let keep_alive = self.wrote + self.limits.keep_alive;
                let swept = self.swept.map(|swept| swept + SWEEP);
                let own = [self.flights.deadline(), self.phones.deadline(), swept];
                own.into_iter().flatten().chain([silence, keep_alive]).min()
            }
        }
    }

    /// Acts on what is overdue.
    pub(super) fn on_time(&mut self, directory: &dyn Directory, now: Moment) {
        let at = now.instant;
        match self.stage {
            Stage::Down => return,
            Stage::Opening | Stage::Proving => {
                if at >= self.since + self.limits.greeting {
                    self.end(End::Broken("the server does not answer".to_owned()));
                }
                return;
            }
            Stage::Up => {}
        }
        self.watch(at);
        for (device, address) in self.flights.overdue(at) {
            tracing::debug!(%device, "a push was not answered: out of coverage");
            self.depart(device, &address, Parting::Lost, None, Some(at));
        }
        for device in self.phones.overdue(at) {
            self.believe(directory, device);
        }
        if self.swept.is_none_or(|swept| at >= swept + SWEEP) {
            self.sweep(directory, now);
        }
        if at >= self.wrote + self.limits.keep_alive && self.out.text.is_empty() {
            self.out.text += wire::KEEP_ALIVE;
            self.wrote = at;
        }
    }

    /// Asks a silent server whether it is still there. One ping may get lost, for example to another component of
    /// the same name; two do not.
    fn watch(&mut self, now: Instant) {
        let missed = match self.pinged {
            Some((missed, due)) if now >= due => missed + 1,
            None if now >= self.heard + self.limits.silence.0 => 0,
            Some(_) | None => return,
        };
        if missed > 1 {
            return self.end(End::Broken("the server has fallen silent".to_owned()));
        }
        self.pinged = Some((missed, now + self.limits.silence.1));
        let to = self.config.allowed_domains.first().map_or("", String::as_str);
        let ping = Element::new("ping", ns::PING);
        let ping = wire::request("get", &random_id(), &self.config.component, to, ping);
        self.out.text += &ping;
    }

    /// Looks at what there is on disk: whose time is over, and who has registrations.
    fn sweep(&mut self, directory: &dyn Directory, now: Moment) {
        self.swept = Some(now.instant);
        self.clients.clear();
        for (registration, address) in directory.addresses() {
            let is_over = |expires: UnixTime| expires.0.saturating_add(GRACE_MS) < now.wall.0;
            if now.trusted && address.expires.is_some_and(is_over) {
                self.asks.push_back(Ask::Expire(registration.device, registration.id));
            } else {
                self.clients.extend(Jid::read(&address.text));
            }
        }
    }

    /// What is to be done now.
    pub(super) fn take(&mut self) -> Out {
        std::mem::take(&mut self.out)
    }
}

fn is_request(stanza: &Element) -> bool {
    stanza.is("iq", ns::COMPONENT) && matches!(stanza.attribute("type"), Some("get" | "set"))
}

/// 128 random bits in hexadecimal: nobody can answer what was not sent to it. The system has no randomness only
/// before it has ever had any; then an answer is not recognised, and the push is sent again.
fn random_id() -> String {
    let mut bytes = [0; 16];
    let _ = getrandom::fill(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
