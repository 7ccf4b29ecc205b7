//! What the device asks for: subscriptions, registrations, and what it says of itself.

use std::time::Instant;

use mqtt_protocol_core::mqtt::{
    packet::Qos,
    result_code::{DisconnectReasonCode, PubackReasonCode},
};

use super::{Answered, Ask, Session};
use crate::{
    model::Session as Durable,
    transport::{
        Directory,
        mqtt::{
            config::{FILTER_LENGTH_MAX, FILTERS_MAX},
            frames::{self, Grant, Publication, Version},
            wire::{self, FilterRefusal, Outbox, ReplyTo},
        },
    },
};

/// A request whose answer has its turn: MQTT wants PUBACKs in the order of the PUBLISHes (5.0 §4.6).
#[derive(Debug)]
pub(super) struct Waiting {
    /// `None`: nothing is asked, or it has been asked.
    ask: Option<Ask>,
    /// Whether its answer is still to come.
    open: bool,
    then: Then,
}

#[derive(Debug)]
enum Then {
    /// Nothing but the receipt.
    Receipt(Receipt),
    Registered(Receipt, ReplyTo, String),
    Subscribed {
        pid: u16,
        filters: Vec<(Box<str>, u8)>,
        grants: Vec<Grant>,
    },
    Unregistered(Receipt, ReplyTo, String),
    Unsubscribed {
        pid: u16,
        filters: Vec<(Box<str>, u8)>,
        known: Vec<bool>,
    },
}

/// How a PUBLISH is acknowledged.
#[derive(Clone, Copy, Debug)]
enum Receipt {
    None,
    Puback(u16, PubackReasonCode),
    Pubrec(u16),
}

impl Receipt {
    fn new(publication: &Publication, reason: PubackReasonCode) -> Self {
        match publication.qos {
            Qos::AtMostOnce => Self::None,
            Qos::AtLeastOnce => Self::Puback(publication.pid, reason),
            Qos::ExactlyOnce => Self::Pubrec(publication.pid),
        }
    }

    /// It holds, but not over a restart: a 5.0 client is told, one of 3.1.1 cannot be.
    fn failed(self) -> Self {
        match self {
            Self::Puback(pid, _) => Self::Puback(pid, PubackReasonCode::UnspecifiedError),
            Self::None | Self::Pubrec(_) => self,
        }
    }
}

impl Session {
    /// The next thing to ask the house for; its answer is to come before the next is asked.
    pub(in crate::transport::mqtt) fn ask(&mut self) -> Option<Ask> {
        self.waiting.front_mut()?.ask.take()
    }

    /// The answer to what [`ask`](Self::ask) gave last.
    pub(in crate::transport::mqtt) fn answered(
        &mut self,
        directory: &dyn Directory,
        answer: Answered,
        now: Instant,
    ) {
        if let Some(waiting) = self.waiting.pop_front() {
            self.conclude(waiting.then, Some(answer), now);
        }
        self.settle(now);
        self.resume(directory, now);
    }

    fn wait(&mut self, ask: Option<Ask>, then: Then, now: Instant) {
        self.waiting.push_back(Waiting { open: ask.is_some(), ask, then });
        self.settle(now);
    }

    /// Concludes what waits for nothing but its turn.
    fn settle(&mut self, now: Instant) {
        while self.waiting.front().is_some_and(|waiting| !waiting.open) {
            if let Some(waiting) = self.waiting.pop_front() {
                self.conclude(waiting.then, None, now);
            }
        }
    }

    fn conclude(&mut self, then: Then, answer: Option<Answered>, now: Instant) {
        let device = self.device;
        let done = match &answer {
            Some(Answered::Done(done)) => *done,
            Some(Answered::Registered(_)) | None => Ok(()),
        };
        match then {
            Then::Receipt(receipt) if done.is_err() => self.receipt(receipt.failed()),
            Then::Receipt(receipt) => self.receipt(receipt),
            Then::Registered(receipt, reply, token) => {
                let answer = match answer {
                    Some(Answered::Registered(Ok(registered))) => {
                        let channel = registered.registration.id.to_string();
                        Ok((channel, registered.endpoint))
                    }
                    Some(Answered::Registered(Err(refusal)) | Answered::Done(Err(refusal))) => Err(refusal),
                    Some(Answered::Done(Ok(()))) | None => return self.receipt(receipt),
                };
                let answer = match answer {
                    Ok((channel, endpoint)) => reply.endpoint(device, &token, channel, &endpoint),
                    Err(refusal) => {
                        tracing::info!(%device, %refusal, "a registration was refused");
                        reply.refused(device, &token, wire::reason(refusal))
                    }
                };
                // The answer first: a client that sees the PUBACK has seen the answer too.
                self.answer(answer, now);
                self.receipt(receipt);
            }
            Then::Subscribed { pid, filters, mut grants } => {
                match done {
                    Ok(()) => self.set_filters(filters),
                    Err(_) => grants.iter_mut().for_each(|grant| {
                        if matches!(grant, Grant::Granted(_)) {
                            *grant = Grant::Failed;
                        }
                    }),
                }
                self.send(frames::suback(self.version, pid, &grants));
            }
            Then::Unregistered(receipt, reply, token) => {
                let answer = match done {
                    Ok(()) => reply.unregistered(device, &token),
                    Err(refusal) => reply.refused(device, &token, wire::reason(refusal)),
                };
                self.answer(answer, now);
                self.receipt(receipt);
            }
            Then::Unsubscribed { pid, filters, known } => {
                let known: Vec<_> = known.into_iter().map(|known| done.is_ok().then_some(known)).collect();
                if done.is_ok() {
                    self.set_filters(filters);
                }
                self.send(frames::unsuback(self.version, pid, &known));
                self.flush(now);
            }
        }
    }

    fn receipt(&mut self, receipt: Receipt) {
        match receipt {
            Receipt::None => {}
            Receipt::Puback(pid, reason) => self.send(frames::puback(self.version, pid, reason)),
            Receipt::Pubrec(pid) => self.send(frames::pubrec(self.version, pid)),
        }
    }

    fn set_filters(&mut self, filters: Vec<(Box<str>, u8)>) {
        let before = wire::wants_pushes(&self.filters, self.device);
        self.filters = filters;
        let after = wire::wants_pushes(&self.filters, self.device);
        if before != after {
            self.out.joined = Some(after);
        }
    }

    /// The subscriptions as they will be once everything that waits is concluded.
    fn coming_filters(&self) -> &[(Box<str>, u8)] {
        let coming = self.waiting.iter().rev().find_map(|waiting| match &waiting.then {
            Then::Subscribed { filters, .. } | Then::Unsubscribed { filters, .. } => Some(filters),
            Then::Receipt(_) | Then::Registered(..) | Then::Unregistered(..) => None,
        });
        coming.unwrap_or(&self.filters)
    }

    /// A durable change is asked for; any other needs no disk.
    fn save(&self, filters: &[(Box<str>, u8)]) -> Option<Ask> {
        (self.durable && filters != self.coming_filters())
            .then(|| Ask::Save(Durable { filters: filters.to_vec() }))
    }

    pub(super) fn subscribe(
        &mut self,
        pid: u16,
        wanted: Vec<(Box<str>, u8)>,
        identifier: bool,
        now: Instant,
    ) {
        if pid == 0 {
            return self.goodbye(DisconnectReasonCode::ProtocolError);
        }
        if identifier {
            return self.goodbye(DisconnectReasonCode::SubscriptionIdentifiersNotSupported);
        }
        let mut filters = self.coming_filters().to_vec();
        let mut grants = Vec::with_capacity(wanted.len());
        for (filter, qos) in wanted {
            let qos = qos.min(1);
            let known = filters.iter().position(|(known, _)| *known == filter);
            let grant = match wire::check_filter(self.device, &filter) {
                Err(refusal) => Grant::Refused(refusal),
                Ok(()) if filter.len() > FILTER_LENGTH_MAX => Grant::Refused(FilterRefusal::Invalid),
                Ok(()) => match known {
                    Some(at) => {
                        filters[at].1 = qos;
                        Grant::Granted(qos)
                    }
                    None if filters.len() >= FILTERS_MAX => Grant::TooMany,
                    None => {
                        filters.push((filter, qos));
                        Grant::Granted(qos)
                    }
                },
            };
            if !matches!(grant, Grant::Granted(_)) {
                tracing::info!(device = %self.device, ?grant, "a subscription was refused");
            }
            grants.push(grant);
        }
        let ask = self.save(&filters);
        self.wait(ask, Then::Subscribed { pid, filters, grants }, now);
    }

    pub(super) fn unsubscribe(&mut self, pid: u16, unwanted: &[Box<str>], now: Instant) {
        if pid == 0 {
            return self.goodbye(DisconnectReasonCode::ProtocolError);
        }
        let mut filters = self.coming_filters().to_vec();
        let mut known = Vec::with_capacity(unwanted.len());
        for filter in unwanted {
            let at = filters.iter().position(|(known, _)| known == filter);
            if let Some(at) = at {
                filters.remove(at);
            }
            known.push(at.is_some());
        }
        let ask = self.save(&filters);
        self.wait(ask, Then::Unsubscribed { pid, filters, known }, now);
    }

    pub(super) fn publication(&mut self, publication: Publication, now: Instant) {
        if let Some(reason) = self.forbidden(&publication) {
            tracing::info!(device = %self.device, ?reason, "a PUBLISH broke the rules: closed");
            return self.goodbye(reason);
        }
        let Some(outbox) = wire::outbox(self.device, &publication.topic) else {
            tracing::info!(device = %self.device, "a device published outside its outbox");
            return match (self.version, publication.qos) {
                (Version::V3, _) => self.close(),
                (Version::V5, Qos::AtMostOnce) => {}
                (Version::V5, Qos::AtLeastOnce | Qos::ExactlyOnce) => {
                    let receipt = Receipt::new(&publication, PubackReasonCode::NotAuthorized);
                    self.wait(None, Then::Receipt(receipt), now);
                }
            };
        };
        let receipt = Receipt::new(&publication, PubackReasonCode::Success);
        let reply = ReplyTo::new(
            self.device,
            publication.response_topic.as_deref(),
            publication.correlation.as_deref(),
        );
        let asked = match outbox {
            Outbox::Register => wire::register(&publication.body).map(|request| {
                let token = request.token.as_str().to_owned();
                (Some(Ask::Register(request)), Then::Registered(receipt, reply.clone(), token))
            }),
            Outbox::Unregister => wire::unregister(&publication.body).map(|token| {
                let text = token.as_str().to_owned();
                (Some(Ask::Unregister(token)), Then::Unregistered(receipt, reply.clone(), text))
            }),
            Outbox::State => wire::state(&publication.body).map(|state| {
                // In force at once; acknowledged once it would survive a restart.
                self.out.states.push(state);
                (state.urgency.map(Ask::Floor), Then::Receipt(receipt))
            }),
            Outbox::Unknown => {
                let receipt = Receipt::new(&publication, PubackReasonCode::NoMatchingSubscribers);
                Ok((None, Then::Receipt(receipt)))
            }
        };
        match asked {
            Ok((ask, then)) => self.wait(ask, then, now),
            Err(bad) => {
                tracing::info!(device = %self.device, ?outbox, what = bad.what, "a request was refused");
                self.answer(reply.refused(self.device, &bad.token, bad.reason), now);
                self.wait(None, Then::Receipt(receipt), now);
            }
        }
    }

    /// Why a PUBLISH ends the connection, if it does.
    fn forbidden(&self, publication: &Publication) -> Option<DisconnectReasonCode> {
        if publication.qos != Qos::AtMostOnce && publication.pid == 0 || publication.subscription_identifier {
            return Some(DisconnectReasonCode::ProtocolError);
        }
        if publication.topic.contains(['#', '+', '\0']) {
            return Some(DisconnectReasonCode::TopicNameInvalid);
        }
        if publication.response_topic.as_ref().is_some_and(|topic| topic.contains(['#', '+', '\0'])) {
            // MQTT 5.0 §3.3.2.3.5
            return Some(DisconnectReasonCode::ProtocolError);
        }
        // A 3.1.1 client was not told, so it is served: Retain is ignored, QoS 2 is acknowledged.
        match (self.version, publication.retain, publication.qos) {
            (Version::V5, true, _) => Some(DisconnectReasonCode::RetainNotSupported),
            (Version::V5, false, Qos::ExactlyOnce) => Some(DisconnectReasonCode::QosNotSupported),
            (Version::V3 | Version::V5, ..) => None,
        }
    }
}
