//! Who has subscribed to what, what waits for whom, and what is retained: in memory, and bounded.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use mqtt_protocol_core::mqtt::result_code::DisconnectReasonCode;
use tokio::sync::watch;

use super::{
    interest::Interest,
    message::{Message, Parcel, Subscription},
};

/// Sessions, connected or not.
const CLIENTS_MAX: usize = 2_048;
/// Retained messages.
const RETAINED_MAX: usize = 1000;
/// Messages that wait for one client. What comes on top is lost to it.
pub(super) const QUEUE_MAX: usize = 1000;
/// Subscriptions of one client.
pub(super) const SUBSCRIPTIONS_MAX: usize = 100;

/// Ends a connection with a reason.
pub(in crate::transport::mqtt) type Kick = watch::Sender<Option<DisconnectReasonCode>>;

/// A QoS 1 or 2 PUBLISH that the client has not acknowledged to the end.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    pub(super) parcel: Parcel,
    pub(super) pid: u16,
    /// QoS 2: it has sent PUBREC.
    pub(super) received: bool,
}

/// A Will (MQTT 5.0 §3.1.2.5).
#[derive(Clone, Debug)]
pub(super) struct Will {
    pub(super) delay: Duration,
    pub(super) message: Message,
}

/// A connection's right to speak for its client; void once another has taken over.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Seat {
    epoch: u64,
    name: Box<str>,
}

/// A client that has sent CONNECT.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) clean: bool,
    pub(super) expiry: Expiry,
    pub(super) kick: Kick,
    pub(super) name: Box<str>,
    /// Where its tickets go.
    pub(super) slot: u64,
    pub(super) will: Option<Will>,
}

/// Who shares a subscription, and at which QoS it gets what is published.
type Member = (Box<str>, u8);

/// How long a session outlives its connection; `None`: for ever.
pub(super) type Expiry = Option<Duration>;

#[derive(Debug)]
struct Connected {
    kick: Kick,
    slot: u64,
    /// A ticket is on its way to it: whoever has got one looks at all that waits.
    told: bool,
}

/// A session.
#[derive(Debug, Default)]
pub(super) struct Client {
    connected: Option<Connected>,
    /// When the session ends, while nobody is connected.
    ends: Option<Instant>,
    epoch: u64,
    expiry: Expiry,
    pub(super) flights: Vec<Flight>,
    pub(super) next_pid: u16,
    pub(super) queue: VecDeque<Parcel>,
    /// QoS 2 packet ids that the client has sent and not yet released.
    pub(super) receiving: HashSet<u16>,
    subscriptions: Vec<Subscription>,
    will: Option<Will>,
    will_due: Option<Instant>,
}

/// There are as many clients as there may be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Full;

/// All of it.
#[derive(Debug, Default)]
pub(in crate::transport::mqtt) struct House {
    clients: HashMap<Box<str>, Client>,
    epoch: u64,
    interest: Interest,
    retained: BTreeMap<Box<str>, Arc<Message>>,
    /// Counts on, so that the members of a shared subscription take turns.
    turn: usize,
    /// Slots of connections that are to be told that something waits.
    tickets: Vec<u64>,
}

impl House {
    /// How many have arrived so far, to name those that come without a name.
    pub(super) fn arrivals(&self) -> u64 {
        self.epoch
    }

    /// Seats a client, ends whatever connection it had, and says whether there was a session.
    pub(super) fn arrive(&mut self, arrival: Arrival, now: Instant) -> Result<(Seat, bool), Full> {
        self.sweep(now);
        let Arrival { clean, expiry, kick, name, slot, will } = arrival;
        self.take_over(&name, clean, now);
        let present = self.clients.contains_key(&name);
        if !present && self.clients.len() >= CLIENTS_MAX {
            return Err(Full);
        }
        self.epoch += 1;
        let client = self.clients.entry(name.clone()).or_default();
        client.connected = Some(Connected { kick, slot, told: false });
        client.ends = None;
        client.epoch = self.epoch;
        client.expiry = expiry;
        client.will = will;
        client.will_due = None;
        client.next_pid = client.next_pid.max(1);
        Ok((Seat { epoch: self.epoch, name }, present))
    }

    fn take_over(&mut self, name: &str, clean: bool, now: Instant) {
        let Some(client) = self.clients.get_mut(name) else { return };
        if let Some(before) = client.connected.take() {
            before.kick.send_replace(Some(DisconnectReasonCode::SessionTakenOver));
            // Its Will is due, unless it was to wait and the session goes on (MQTT 5.0 §3.1.2.5).
            let will = client.will.take().filter(|will| clean || will.delay.is_zero());
            self.publish_will(name, will, now);
        } else if clean {
            let will = client.will.take();
            self.publish_will(name, will, now);
        }
        let ended =
            self.clients.get(name).is_some_and(|client| clean || client.expiry == Some(Duration::ZERO));
        if ended {
            self.forget(name);
        }
    }

    fn forget(&mut self, name: &str) {
        for subscription in self.clients.remove(name).into_iter().flat_map(|client| client.subscriptions) {
            self.interest.remove(&subscription.filter, name);
        }
    }

    fn publish_will(&mut self, name: &str, will: Option<Will>, now: Instant) {
        if let Some(will) = will {
            self.publish(name, will.message, now);
        }
    }

    /// The session, as long as the seat is its own.
    pub(super) fn client(&mut self, seat: &Seat) -> Option<&mut Client> {
        self.clients
            .get_mut(&seat.name)
            .filter(|client| client.epoch == seat.epoch && client.connected.is_some())
    }

    /// A connection has ended. `clean`: its Will is void. `expiry`: what DISCONNECT said of it.
    pub(super) fn leave(&mut self, seat: &Seat, clean: bool, expiry: Option<Expiry>, now: Instant) {
        let Some(client) = self.client(seat) else { return };
        client.connected = None;
        client.expiry = expiry.unwrap_or(client.expiry);
        client.ends = client.expiry.map(|expiry| now + expiry);
        client.queue.retain(|parcel| parcel.qos > 0);
        match &client.will {
            Some(_) if clean => client.will = None,
            Some(will) => {
                let due = now + will.delay;
                client.will_due = Some(client.ends.map_or(due, |ends| due.min(ends)));
            }
            None => {}
        }
        self.sweep(now);
    }

    /// Publishes Wills and ends sessions whose time has come.
    pub(super) fn sweep(&mut self, now: Instant) {
        let late = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let due: Vec<_> = self
            .clients
            .iter_mut()
            .filter(|(_, client)| late(client.will_due))
            .filter_map(|(name, client)| {
                client.will_due = None;
                Some((name.clone(), client.will.take()?))
            })
            .collect();
        for (name, will) in due {
            self.publish(&name, will.message, now);
        }
        let is_over = |client: &Client| client.connected.is_none() && late(client.ends);
        let over: Vec<_> =
            self.clients.iter().filter(|(_, client)| is_over(client)).map(|(name, _)| name.clone()).collect();
        over.iter().for_each(|name| self.forget(name));
    }

    /// When [`sweep`](Self::sweep) is due next.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.clients.values().flat_map(|client| [client.ends, client.will_due]).flatten().min()
    }

    /// Gives everybody who wants it a copy; returns whether anybody did.
    pub(super) fn publish(&mut self, from: &str, mut message: Message, now: Instant) -> bool {
        if message.retain {
            self.retain(&message, now);
        }
        // What is passed on now is news, not a retained message, whatever the publisher said.
        let retain = std::mem::take(&mut message.retain);
        let message = Arc::new(message);
        let parcel =
            |qos| Parcel { identifiers: Vec::new(), message: Arc::clone(&message), qos, retain: false };
        let mut wanted = false;
        let mut groups: BTreeMap<_, Vec<Member>> = BTreeMap::new();
        for name in self.interest.of(&message.topic) {
            let Some(client) = self.clients.get_mut(name) else { continue };
            let mut copy: Option<Parcel> = None;
            for subscription in client.subscriptions.iter().filter(|one| one.wants(&message.topic)) {
                let qos = subscription.qos.min(message.qos);
                if let Some(group) = &subscription.group {
                    let shared = (group.clone(), subscription.filter.clone());
                    groups.entry(shared).or_default().push((name.into(), qos));
                    continue;
                }
                if subscription.no_local && *name == *from {
                    continue;
                }
                let copy = copy.get_or_insert_with(|| parcel(qos));
                copy.qos = copy.qos.max(qos);
                copy.retain |= retain && subscription.retain_as_published;
                copy.identifiers.extend(subscription.identifier);
            }
            if let Some(copy) = copy {
                wanted = true;
                client.enqueue(name, copy, &mut self.tickets);
            }
        }
        for mut members in groups.into_values() {
            wanted = true;
            members.sort();
            // Connected ones first: what waits offline could be at work.
            let is_here = |(name, _): &&Member| self.clients[name].connected.is_some();
            let here: Vec<_> = members.iter().filter(is_here).collect();
            let among = if here.is_empty() { members.iter().collect() } else { here };
            self.turn = self.turn.wrapping_add(1);
            let (name, qos) = among[self.turn % among.len()];
            self.enqueue(name, parcel(*qos));
        }
        wanted
    }

    fn enqueue(&mut self, name: &str, copy: Parcel) {
        if let Some(client) = self.clients.get_mut(name) {
            client.enqueue(name, copy, &mut self.tickets);
        }
    }

    fn retain(&mut self, message: &Message, now: Instant) {
        self.retained.retain(|_, kept| !kept.expired(now));
        if message.body.is_empty() {
            self.retained.remove(&message.topic);
        } else if self.retained.len() < RETAINED_MAX || self.retained.contains_key(&message.topic) {
            self.retained.insert(message.topic.clone(), Arc::new(message.clone()));
        } else {
            tracing::warn!(topic = %message.topic, "open broker: not retained, there is no more room");
        }
    }

    /// Subscribes; `None` when the client has as many as it may have, else whether it is new.
    pub(super) fn subscribe(&mut self, seat: &Seat, subscription: Subscription) -> Option<bool> {
        let client = self.client(seat)?;
        if let Some(known) = client.subscriptions.iter_mut().find(|known| known.is(&subscription)) {
            *known = subscription;
            return Some(false);
        }
        if client.subscriptions.len() >= SUBSCRIPTIONS_MAX {
            return None;
        }
        let filter = subscription.filter.clone();
        client.subscriptions.push(subscription);
        self.interest.add(&filter, &seat.name);
        Some(true)
    }

    /// Sends the retained messages that a subscription wants.
    pub(super) fn send_retained(&mut self, seat: &Seat, subscription: &Subscription, now: Instant) {
        let wanted: Vec<_> = self
            .retained
            .values()
            .filter(|message| !message.expired(now) && subscription.wants(&message.topic))
            .map(|message| Parcel {
                identifiers: subscription.identifier.into_iter().collect(),
                message: Arc::clone(message),
                qos: subscription.qos.min(message.qos),
                retain: true,
            })
            .collect();
        for copy in wanted {
            self.enqueue(&seat.name, copy);
        }
    }

    /// Unsubscribes; says whether there was such a subscription.
    pub(super) fn unsubscribe(&mut self, seat: &Seat, group: Option<&str>, filter: &str) -> bool {
        let Some(client) = self.client(seat) else { return false };
        let before = client.subscriptions.len();
        client.subscriptions.retain(|one| *one.filter != *filter || one.group.as_deref() != group);
        let left = client.subscriptions.len() < before;
        if left {
            self.interest.remove(filter, &seat.name);
        }
        left
    }

    /// Whether anybody is to be told that something waits.
    pub(super) fn has_tickets(&self) -> bool {
        !self.tickets.is_empty()
    }

    /// Who is to be told that something waits.
    pub(super) fn take_tickets(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.tickets)
    }

    /// A ticket has come: what waits from now on is told by another one.
    pub(super) fn told(&mut self, seat: &Seat) {
        if let Some(connected) = self.client(seat).and_then(|client| client.connected.as_mut()) {
            connected.told = false;
        }
    }

    /// Ends every connection.
    pub(super) fn stop(&mut self) {
        for client in self.clients.values() {
            if let Some(connected) = &client.connected {
                connected.kick.send_replace(Some(DisconnectReasonCode::ServerShuttingDown));
            }
        }
    }
}

impl Client {
    fn enqueue(&mut self, name: &str, copy: Parcel, tickets: &mut Vec<u64>) {
        if self.connected.is_none() && copy.qos == 0 {
            return;
        }
        if self.queue.len() >= QUEUE_MAX {
            tracing::debug!(client = name, "open broker: its queue is full, a message is lost to it");
            return;
        }
        self.queue.push_back(copy);
        if let Some(connected) = self.connected.as_mut().filter(|connected| !connected.told) {
            connected.told = true;
            tickets.push(connected.slot);
        }
    }
}

impl Seat {
    /// The client's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock as _, SystemClock};

    #[test]
    fn a_connection_has_one_ticket_on_its_way_whatever_waits() {
        let (mut house, now) = (House::default(), SystemClock::default().moment().instant);
        let arrival = Arrival {
            clean: true,
            expiry: None,
            kick: watch::channel(None).0,
            name: "one".into(),
            slot: 7,
            will: None,
        };
        let (seat, _) = house.arrive(arrival, now).expect("there is room");
        let subscription = Subscription {
            filter: "a/#".into(),
            group: None,
            identifier: None,
            no_local: false,
            qos: 1,
            retain_as_published: false,
        };
        assert_eq!(house.subscribe(&seat, subscription), Some(true));
        let publish = |house: &mut House| {
            let message = Message::new("a/b", vec![1], 1, false, Vec::new(), now);
            assert!(house.publish("two", message, now));
        };
        publish(&mut house);
        publish(&mut house);
        assert_eq!(house.take_tickets(), [7]);
        publish(&mut house);
        assert!(!house.has_tickets(), "it will look at all three");
        house.told(&seat);
        publish(&mut house);
        assert_eq!(house.take_tickets(), [7], "it may have looked before this one came");
    }
}
