//! One client's session: a machine without sockets or clocks.
//!
//! Messages and times go in; what is to be sent, asked and reported comes out as [`Out`].

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::IpAddr,
    time::Instant,
};

use serde_json::Value;

use super::{
    Limits,
    config::{ASKS_MAX, BEARS, PARKED_MAX, PING_LEAST},
    wire::{self, PONG, Said, Tell},
};
use crate::{
    model::{AppToken, DeviceId, DeviceState, MessageId, MessageToken, Urgency, VapidKey},
    transport::{
        Directory, EnrolRefusal, Enrolment, Invitation, Item, Login, Pulse, RegisterRefusal, RegisterRequest,
        RegisteredAs, web::Audience,
    },
};

/// Who may be at the other end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Access {
    /// The device whose own path it was.
    Path(DeviceId, String),
    /// Whoever has a uaid; at home, whoever wants one.
    Uaid(Audience),
}

/// What the session wants the house to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Ask {
    Enroll(Enrolment),
    Floor(Urgency),
    Register(RegisterRequest),
    Unregister(AppToken),
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Answered {
    Enrolled(Result<(), EnrolRefusal>),
    Floor(Result<(), RegisterRefusal>),
    Registered(AppToken, Result<RegisteredAs, RegisterRefusal>),
    Unregistered(AppToken, Result<(), RegisterRefusal>),
}

/// What is to be done now.
#[derive(Debug, Default)]
pub(super) struct Out {
    pub(super) acked: Vec<MessageId>,
    pub(super) close: bool,
    /// Why it is closed, if the client fell silent.
    pub(super) lost: bool,
    pub(super) parked: Vec<MessageId>,
    pub(super) ping: bool,
    pub(super) pulse: Option<Pulse>,
    /// This device can receive from now on.
    pub(super) seat: Option<DeviceId>,
    pub(super) sent: Vec<MessageId>,
    pub(super) states: Vec<DeviceState>,
    pub(super) stirred: bool,
    pub(super) texts: Vec<String>,
}

/// The machine.
#[derive(Debug)]
pub(super) struct Session {
    access: Access,
    asking: bool,
    asks: VecDeque<Ask>,
    base: String,
    begun: Instant,
    device: Option<DeviceId>,
    /// Sent and not acknowledged, oldest first.
    flying: BTreeMap<(Instant, MessageToken), MessageId>,
    /// When each was sent.
    flown: HashMap<MessageToken, Instant>,
    greeted: bool,
    /// Credentials that are not on disk yet.
    invited: Option<Invitation>,
    limits: Limits,
    out: Out,
    /// Not acknowledged for so long that they take no room in the window any more.
    parked: VecDeque<(MessageToken, MessageId)>,
    pinged_at: Instant,
    pong_due: Option<Instant>,
    pulse: Pulse,
    source: IpAddr,
}

impl Session {
    pub(super) fn new(access: Access, source: IpAddr, base: String, limits: Limits, now: Instant) -> Self {
        Self {
            access,
            asking: false,
            asks: VecDeque::new(),
            base,
            begun: now,
            device: None,
            flying: BTreeMap::new(),
            flown: HashMap::new(),
            greeted: false,
            invited: None,
            limits,
            out: Out::default(),
            parked: VecDeque::new(),
            pinged_at: now,
            pong_due: None,
            pulse: Pulse::Gateway(BEARS),
            source,
        }
    }

    /// A text message of the client.
    pub(super) fn receive(&mut self, directory: &dyn Directory, text: &str) {
        let Some(said) = Said::read(text) else {
            tracing::debug!(source = %self.source, "a client sent what is not a JSON object");
            return self.close();
        };
        self.stir();
        let kind = said.kind.as_str().unwrap_or_default();
        match (self.greeted, kind) {
            (false, "hello") => self.greet(directory, &said),
            // Whoever does not say hello first speaks something else; saying it twice is neither.
            (false, _) | (true, "hello") => self.close(),
            (true, "ack") => self.acknowledge(&said),
            (true, "register") => self.register(&said),
            (true, "unregister") => self.unregister(&said),
            (true, "urgency") => self.urgency(&said),
            (true, "ping") => self.out.texts.push(PONG.to_owned()),
            (true, _) if said.kind.is_null() => self.out.texts.push(PONG.to_owned()),
            // `nack` and `broadcast_subscribe` need no answer, and what later versions bring gets none.
            (true, _) => {}
        }
    }

    fn greet(&mut self, directory: &dyn Directory, said: &Said) {
        self.greeted = true;
        let audience = match &self.access {
            Access::Path(device, uaid) => {
                let (device, uaid) = (*device, uaid.clone());
                self.hello(&uaid);
                return self.seat(device);
            }
            Access::Uaid(audience) => *audience,
        };
        let given = said.uaid.as_str().unwrap_or_default();
        if let Some((id, secret)) = wire::read_uaid(given) {
            match directory.login(&id.to_string(), secret.as_bytes(), self.source) {
                Login::Welcome(device) => {
                    self.hello(given);
                    return self.seat(device);
                }
                // Another uaid would kill the client's subscriptions; it comes again with this one.
                Login::Throttled => return self.close(),
                Login::Refused => {}
            }
        }
        match directory.invite().filter(|_| audience == Audience::Home) {
            Some(invitation) => {
                self.hello(&wire::uaid(&invitation));
                self.invited = Some(invitation);
            }
            None => {
                tracing::debug!(source = %self.source, "a client without a device is not let in from outside");
                self.close();
            }
        }
    }

    fn hello(&mut self, uaid: &str) {
        let hello = Tell::Hello { uaid, status: 200, use_webpush: true, broadcasts: BTreeMap::new() };
        self.out.texts.push(hello.text());
    }

    fn seat(&mut self, device: DeviceId) {
        self.device = Some(device);
        self.out.seat = Some(device);
    }

    fn acknowledge(&mut self, said: &Said) {
        for version in said.versions() {
            let Ok(token) = version.parse::<MessageToken>() else { continue };
            let flying = self.flown.remove(&token).and_then(|since| self.flying.remove(&(since, token)));
            let parked = || {
                let at = self.parked.iter().position(|(parked, _)| *parked == token)?;
                self.parked.remove(at).map(|(_, id)| id)
            };
            self.out.acked.extend(flying.or_else(parked));
        }
    }

    fn register(&mut self, said: &Said) {
        let channel = said.channel.as_str().unwrap_or_default();
        let key = match &said.key {
            Value::Null => Ok(None),
            Value::String(key) if key.is_empty() => Ok(None),
            Value::String(key) => key.parse::<VapidKey>().map(Some).map_err(|_| ()),
            Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => Err(()),
        };
        let (Ok(token), Ok(vapid)) = (channel.parse::<AppToken>(), key) else {
            return self.registered(channel, 400, None);
        };
        if let (None, Some(invitation)) = (self.device, &self.invited) {
            let enrolment = Enrolment {
                invitation: invitation.clone(),
                name: format!("autopush {}", self.source).into(),
                source: Some(self.source),
                transport: super::NAME,
            };
            self.asks.push_back(Ask::Enroll(enrolment));
        }
        self.asks.push_back(Ask::Register(RegisterRequest { app: "".into(), token, vapid }));
    }

    fn registered(&mut self, channel: &str, status: u16, endpoint: Option<String>) {
        self.out.texts.push(Tell::Register { channel, status, endpoint }.text());
    }

    fn unregister(&mut self, said: &Said) {
        let channel = said.channel.as_str().unwrap_or_default();
        match channel.parse::<AppToken>() {
            Ok(token) => self.asks.push_back(Ask::Unregister(token)),
            Err(_) => self.unregistered(channel, 400),
        }
    }

    /// Tells the client that a registration has ended, whoever wanted that.
    pub(super) fn unregistered(&mut self, channel: &str, status: u16) {
        self.out.texts.push(Tell::Unregister { channel, status }.text());
    }

    fn urgency(&mut self, said: &Said) {
        match said.min.as_str().unwrap_or_default().parse::<Urgency>() {
            Ok(urgency) => {
                // In force at once; confirmed once it would survive a restart.
                self.out.states.push(DeviceState { urgency: Some(urgency), ..DeviceState::default() });
                self.asks.push_back(Ask::Floor(urgency));
            }
            Err(_) => self.out.texts.push(Tell::Urgency { status: 400 }.text()),
        }
    }

    /// The next request for the house, and whose it is. One at a time, so that they are answered in
    /// the order in which they were asked.
    pub(super) fn next_ask(&mut self) -> Option<(Option<DeviceId>, Ask)> {
        if self.asking {
            return None;
        }
        let ask = self.asks.pop_front()?;
        self.asking = true;
        Some((self.device, ask))
    }

    /// The house has answered.
    pub(super) fn answered(&mut self, answered: Answered) {
        self.asking = false;
        match answered {
            Answered::Enrolled(Ok(())) => {
                if let Some(invitation) = self.invited.take() {
                    self.seat(invitation.device);
                }
            }
            // The request that made it necessary follows, and is refused for want of a device.
            Answered::Enrolled(Err(_)) => {}
            Answered::Floor(outcome) => {
                let status = if outcome.is_ok() { 200 } else { 500 };
                self.out.texts.push(Tell::Urgency { status }.text());
            }
            Answered::Registered(token, Ok(RegisteredAs { registration, .. })) => {
                let version = if registration.vapid.is_some() { "v2" } else { "v1" };
                let endpoint = format!("{}/wpush/{version}/{}", self.base, registration.endpoint);
                self.registered(token.as_str(), 200, Some(endpoint));
            }
            Answered::Registered(token, Err(_)) => self.registered(token.as_str(), 500, None),
            Answered::Unregistered(token, outcome) => {
                self.unregistered(token.as_str(), if outcome.is_ok() { 200 } else { 500 });
            }
        }
    }

    /// Sends pushes, in order.
    pub(super) fn deliver(&mut self, directory: &dyn Directory, items: Vec<Item>, now: Instant) {
        for item in items {
            let id = item.message.id;
            let Some(channel) = directory.app_token(item.message.registration) else {
                self.out.parked.push(id);
                continue;
            };
            self.out.texts.push(wire::notification(channel.as_str(), &item));
            self.out.sent.push(id);
            // It may fly for the second time, after it was parked.
            if let Some(before) = self.flown.insert(item.token, now) {
                self.flying.remove(&(before, item.token));
            }
            self.flying.insert((now, item.token), id);
        }
    }

    /// The client has sent a WebSocket ping, which the library answers.
    pub(super) fn pinged(&mut self, now: Instant) {
        self.stir();
        let interval = now.saturating_duration_since(self.pinged_at);
        self.pinged_at = now;
        if interval < PING_LEAST {
            return;
        }
        let known = match self.pulse {
            Pulse::Device(known) => Some(known),
            Pulse::Gateway(_) | Pulse::Nobody => None,
        };
        // The same, give or take what a network adds.
        let slack = interval / 8;
        if known.is_none_or(|known| known > interval + slack || known + slack < interval) {
            self.pulse = Pulse::Device(interval);
            self.out.pulse = Some(self.pulse);
        }
    }

    /// When the client has left out so many of its own pings that it cannot be relied on any more: from
    /// then on the gateway finds out by itself whether it is still there.
    fn pings_end(&self) -> Option<Instant> {
        match self.pulse {
            Pulse::Device(every) => self.pinged_at.checked_add(every.saturating_mul(3)),
            Pulse::Gateway(_) | Pulse::Nobody => None,
        }
    }

    /// Our ping was answered.
    pub(super) fn ponged(&mut self) {
        self.pong_due = None;
        self.stir();
    }

    /// Sends a ping of ours.
    pub(super) fn ping(&mut self, now: Instant) {
        self.out.ping = true;
        self.pong_due.get_or_insert(now + self.limits.pong);
    }

    /// Who keeps the connection alive.
    pub(super) fn pulse(&self) -> Pulse {
        self.pulse
    }

    /// Where the client connects from.
    pub(super) fn source(&self) -> IpAddr {
        self.source
    }

    /// Whether more of what the client says can be taken in.
    pub(super) fn hungry(&self) -> bool {
        self.asks.len() < ASKS_MAX
    }

    fn stir(&mut self) {
        self.out.stirred = true;
        // Whatever it says, it is there.
        self.pong_due = None;
    }

    /// Ends the connection, without a word: clients hang on a Close frame.
    pub(super) fn close(&mut self) {
        self.out.close = true;
        self.asks.clear();
    }

    /// When [`on_time`](Self::on_time) is due next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let greeting = (!self.greeted).then(|| self.begun + self.limits.greeting);
        let unacked = self.flying.keys().next().map(|(since, _)| *since + self.limits.unacked);
        greeting.into_iter().chain(unacked).chain(self.pong_due).chain(self.pings_end()).min()
    }

    /// Acts on what is overdue.
    pub(super) fn on_time(&mut self, now: Instant) {
        if !self.greeted && now >= self.begun + self.limits.greeting {
            return self.close();
        }
        if self.pong_due.is_some_and(|due| now >= due) {
            tracing::debug!(device = ?self.device, "a ping was not answered");
            self.out.lost = true;
            return self.close();
        }
        if self.pings_end().is_some_and(|end| now >= end) {
            self.pulse = Pulse::Gateway(BEARS);
            self.out.pulse = Some(self.pulse);
        }
        while let Some((&(since, token), &id)) = self.flying.first_key_value() {
            if now < since + self.limits.unacked {
                break;
            }
            self.flying.remove(&(since, token));
            self.flown.remove(&token);
            self.out.parked.push(id);
            self.parked.push_back((token, id));
            if self.parked.len() > PARKED_MAX {
                self.parked.pop_front();
            }
        }
    }

    /// What is to be done now.
    pub(super) fn take(&mut self) -> Out {
        std::mem::take(&mut self.out)
    }
}
