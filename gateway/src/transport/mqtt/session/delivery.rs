//! What goes to the device, and its acknowledgements.

use std::time::Instant;

use mqtt_protocol_core::mqtt::{
    connection::Event,
    packet::Packet,
    result_code::{DisconnectReasonCode, MqttError},
};

use super::{Phase, Session};
use crate::{
    model::MessageId,
    transport::{
        About, Item,
        mqtt::{
            config::ANSWERS_MAX,
            frames,
            wire::{self, Answer},
        },
    },
};

/// A PUBLISH that the client has not acknowledged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flight {
    pub(super) of: Of,
    pub(super) pid: u16,
    pub(super) since: Instant,
}

/// What a PUBLISH carries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Of {
    Answer,
    News(About),
    Push(MessageId),
}

impl Of {
    pub(super) fn message(self) -> Option<MessageId> {
        match self {
            Self::Push(id) => Some(id),
            Self::Answer | Self::News(_) => None,
        }
    }
}

/// A PUBLISH that waits for room in the client's window.
#[derive(Debug)]
pub(super) enum Outbound {
    Answer(Answer),
    News(About, Answer),
    Push(Item),
}

impl Session {
    /// Writes pushes, in order, as far as the window allows; the rest follows by itself.
    pub(in crate::transport::mqtt) fn deliver(&mut self, items: Vec<Item>, now: Instant) {
        self.outbound.extend(items.into_iter().map(Outbound::Push));
        self.flush(now);
        self.hint_along(now);
    }

    /// Sends an answer, if the client has subscribed to it.
    pub(in crate::transport::mqtt) fn answer(&mut self, answer: Answer, now: Instant) {
        self.outbound.push_back(Outbound::Answer(answer));
        self.flush(now);
        // Reading on is needed for the PUBACKs that make room, so only asking too much ends it.
        if self.outbound.len() > ANSWERS_MAX {
            tracing::info!(device = %self.device, "a device asks without taking the answers: closed");
            self.goodbye(DisconnectReasonCode::QuotaExceeded);
        }
    }

    pub(super) fn flush(&mut self, now: Instant) {
        while self.phase == Phase::Open {
            if self.outbound.is_empty() {
                let news = self.room_for_news().then(|| self.next_news()).flatten();
                let Some((about, answer)) = news else { return };
                self.outbound.push_back(Outbound::News(about, answer));
            }
            let (topic_qos, of) = match self.outbound.front() {
                None => return,
                Some(Outbound::Answer(answer)) => {
                    let granted = wire::granted(&self.filters, &answer.topic);
                    (granted.map(|qos| qos.min(answer.qos)), Of::Answer)
                }
                Some(Outbound::News(about, answer)) => {
                    (wire::granted(&self.filters, &answer.topic), Of::News(*about))
                }
                Some(Outbound::Push(item)) => {
                    (wire::granted(&self.filters, &wire::push_topic(item)), Of::Push(item.message.id))
                }
            };
            // In flight on this very connection: sending it again is not allowed (MQTT 5.0 §4.4).
            let flying = matches!(of, Of::Push(_)) && self.flights.iter().any(|flight| flight.of == of);
            if topic_qos == Some(1) && !flying && !self.vacant() {
                return;
            }
            let Some(outbound) = self.outbound.pop_front() else { return };
            match (topic_qos, of) {
                (None, Of::Push(id)) => self.out.absent.push(id),
                (None, Of::Answer) => {}
                (None, Of::News(about)) => self.news_unheard(about),
                (Some(_), Of::Push(id)) if flying => self.out.sent.push(id),
                (Some(0), _) => self.publish_once(&outbound, of),
                (Some(_), _) => self.publish_acknowledged(&outbound, of, now),
            }
        }
    }

    fn vacant(&self) -> bool {
        self.flights.len() < usize::from(self.window.messages)
            && self.core.get_receive_maximum_vacancy_for_send().is_none_or(|vacancy| vacancy > 0)
    }

    /// Half of the window: a client that does not acknowledge news is to get its pushes all the same.
    fn room_for_news(&self) -> bool {
        let flying = self.flights.iter().filter(|flight| matches!(flight.of, Of::News(_))).count();
        flying < usize::from(self.window.messages).div_ceil(2)
    }

    fn build(&self, outbound: &Outbound, pid: Option<u16>) -> Result<Packet, MqttError> {
        match outbound {
            Outbound::Answer(answer) | Outbound::News(_, answer) => frames::answer(self.version, answer, pid),
            Outbound::Push(item) => frames::push(self.version, item, pid),
        }
    }

    fn publish_once(&mut self, outbound: &Outbound, of: Of) {
        let sent = self.publish(self.build(outbound, None));
        match of {
            Of::Push(id) if sent => {
                self.out.sent.push(id);
                self.out.settled.push(id);
            }
            Of::Push(id) => self.out.too_large.push(id),
            Of::News(about) if sent => self.news_taken(about),
            Of::Answer | Of::News(_) => {}
        }
    }

    fn publish_acknowledged(&mut self, outbound: &Outbound, of: Of, now: Instant) {
        let known = self.remembered.iter().position(|&(id, _)| Some(id) == of.message());
        let pid = match known {
            Some(at) => Some(self.remembered.remove(at).1),
            None => self.next_packet_id(),
        };
        // At most `window` of 65,535 ids are taken, so there is one.
        let Some(pid) = pid else { return };
        if self.publish(self.build(outbound, Some(pid))) {
            self.flights.push(Flight { of, pid, since: now });
            self.out.sent.extend(of.message());
        } else {
            self.core.release_packet_id(pid);
            self.out.too_large.extend(of.message());
        }
    }

    /// Packet ids go round, so that a late second PUBACK does not hit the next message.
    fn next_packet_id(&mut self) -> Option<u16> {
        for _ in 0..u16::MAX {
            let pid = self.next_pid;
            self.next_pid = self.next_pid.checked_add(1).unwrap_or(1);
            if self.core.register_packet_id(pid).is_ok() {
                return Some(pid);
            }
        }
        None
    }

    /// Whether the connection took the packet.
    fn publish(&mut self, packet: Result<Packet, MqttError>) -> bool {
        let events = match packet {
            Ok(packet) => self.core.send(packet),
            Err(error) => vec![Event::NotifyError(error)],
        };
        let mut sent = false;
        for event in events {
            if let Event::RequestSendPacket { packet, .. } = event {
                self.append(&packet);
                sent = true;
            } else if let Event::NotifyError(error) = event {
                tracing::info!(device = %self.device, ?error, "a message could not be sent");
            }
        }
        sent
    }

    /// PUBACK of something in flight.
    pub(super) fn acknowledged(&mut self, pid: u16, now: Instant) {
        if let Some(at) = self.flights.iter().position(|flight| flight.pid == pid) {
            match self.flights.remove(at).of {
                Of::Push(id) => self.out.acked.push(id),
                Of::News(about) => self.news_taken(about),
                Of::Answer => {}
            }
        }
        self.flush(now);
    }

    /// Whether a PUBACK is for nothing in flight. The connection would call that an error; but a
    /// client may acknowledge late what an earlier connection brought, or twice.
    pub(super) fn stray(&mut self, pid: u16) -> bool {
        if self.phase != Phase::Open || self.flights.iter().any(|flight| flight.pid == pid) {
            return false;
        }
        if let Some(at) = self.remembered.iter().position(|&(_, known)| known == pid) {
            let (id, _) = self.remembered.remove(at);
            self.core.release_packet_id(pid);
            self.out.acked.push(id);
        }
        true
    }
}
