//! Pushes, their answers, and what those say of the phones.

use std::time::Instant;

use super::{Ask, Session, answers, random_id};
use crate::{
    model::{DeviceId, MessageId, Moment, NetworkName},
    transport::{
        Directory, Event, Item, Joined, Parting, Pulse, Turned,
        xmpp::{
            config::WINDOW,
            flight::Flight,
            jid::Jid,
            phone::Change,
            seat::Mail,
            wire::{self, Instance},
            xml::Element,
        },
    },
};

impl Session {
    /// The room has been told something.
    pub(in crate::transport::xmpp) fn mail(&mut self, directory: &dyn Directory, mail: Mail, now: Moment) {
        match mail {
            Mail::Deliver(device, seat, items) => {
                if self.seats.has(device, seat) {
                    self.deliver(directory, device, items, now.instant);
                }
            }
            Mail::Expelled(device) => {
                self.flights.forget(device);
                let key = &self.key;
                self.clients.retain(|client| answers::device(key, client) != device);
                self.seats.leave(device);
                if self.phones.remove(device) {
                    self.report(device, Event::Left(Parting::Ended));
                }
            }
        }
    }

    fn deliver(&mut self, directory: &dyn Directory, device: DeviceId, items: Vec<Item>, now: Instant) {
        let (mut sent, mut elsewhere) = (Vec::new(), Vec::new());
        for item in items {
            let (message, registration) = (item.message.id, item.message.registration);
            let address = directory.address(registration).and_then(|address| Jid::read(&address.text));
            let address = address.filter(|address| self.phones.is_there(device, address));
            let token = directory.app_token(registration);
            let instance = token.as_ref().and_then(Instance::of);
            let (Some(address), Some(instance)) = (address, instance) else {
                elsewhere.push(message);
                continue;
            };
            // What is on its way to one phone is not sent to it again because another one has come.
            if self.flights.has(device, message, &address) {
                continue;
            }
            sent.push(message);
            let id = random_id();
            let push = wire::push(instance, &item.message);
            self.out.text += &wire::request("set", &id, &self.config.component, address.as_str(), push);
            self.flights.begin(
                id,
                Flight { address, device, message, registration },
                now + self.limits.answer,
            );
        }
        if !sent.is_empty() {
            self.out.sent.push((device, sent));
        }
        self.turn_back(device, elsewhere);
    }

    /// These cannot go before another client of the account comes.
    pub(super) fn turn_back(&mut self, device: DeviceId, messages: Vec<MessageId>) {
        if !messages.is_empty() {
            self.seats.settle(device, &messages);
            self.report(device, Event::Turned(messages, Turned::Parked));
        }
    }

    /// The answer to a request of ours. What was not sent to whoever answers is no business of its.
    pub(super) fn answer(&mut self, stanza: &Element, now: Moment) {
        let from = stanza.attribute("from").and_then(Jid::read);
        let (Some(id), Some(from)) = (stanza.attribute("id"), from) else { return };
        let Some((flight, late)) = self.flights.land(id, &from) else { return };
        let Flight { address, device, message, registration } = flight;
        if stanza.attribute("type") == Some("result") {
            self.seats.settle(device, &[message]);
            self.report(device, Event::Acked(vec![message]));
            if late {
                tracing::debug!(%device, "a late answer");
            }
            return self.arrive(device, address, true);
        }
        if wire::is_gone(stanza) {
            self.asks.push_back(Ask::End(device, registration, message));
        } else if !late {
            // The client is not there, or not able to take it now.
            self.depart(device, &address, Parting::Closed, Some(message), Some(now.instant));
        }
    }

    /// Directed presence (RFC 6121 §4.6): a client has connected, or its session has ended.
    pub(super) fn presence(&mut self, stanza: &Element) {
        let Some(from) = stanza.attribute("from").and_then(Jid::read) else { return };
        // Whoever has no registration is nobody's phone.
        if !self.clients.contains(&from) {
            return;
        }
        let device = self.device(&from);
        match stanza.attribute("type") {
            None => {
                // A new session: what was sent to the one before is lost, or comes late.
                self.flights.give_up(device, &from);
                self.phones.depart(device, &from);
                self.arrive(device, from, true);
            }
            Some("unavailable") => self.depart(device, &from, Parting::Closed, None, None),
            Some(_) => {}
        }
    }

    /// A client is there: it was heard, or is only believed to be.
    pub(super) fn arrive(&mut self, device: DeviceId, address: Jid, heard: bool) {
        let change = self.phones.arrive(device, address, &self.limits);
        if heard {
            self.phones.heard(device, &self.limits);
        }
        match change {
            Change::Arrived => {
                self.seats.take(device);
                let network = NetworkName::of(self.config.server.ip());
                let joined = Joined { heard, network, pulse: Pulse::Nobody, window: WINDOW };
                self.report(device, Event::Joined(joined));
            }
            Change::Fewer | Change::Gone | Change::None if heard => self.report(device, Event::Stirred),
            Change::Fewer | Change::Gone | Change::None => {}
        }
    }

    /// A client is not there, as it or its server says (by turning `message` back), or as its silence does. `now`, if
    /// it is to be tried again.
    pub(super) fn depart(
        &mut self,
        device: DeviceId,
        address: &Jid,
        parting: Parting,
        message: Option<MessageId>,
        now: Option<Instant>,
    ) {
        let mut unsettled = self.flights.give_up(device, address);
        unsettled.extend(message);
        let change = self.phones.depart(device, address);
        if let (Some(now), true) = (now, change != Change::None) {
            self.phones.try_later(device, now, &self.limits);
        }
        match change {
            Change::Gone => {
                self.seats.leave(device);
                self.report(device, Event::Left(parting));
            }
            Change::Fewer => self.turn_back(device, unsettled),
            Change::Arrived | Change::None => {}
        }
    }

    /// The clients of an account are tried again.
    pub(super) fn believe(&mut self, directory: &dyn Directory, device: DeviceId) {
        for (registration, address) in directory.addresses() {
            if registration.device == device {
                if let Some(address) = Jid::read(&address.text) {
                    self.arrive(device, address, false);
                }
            }
        }
    }
}
