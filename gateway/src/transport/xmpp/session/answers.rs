//! Requests of others: registrations, and what every entity is asked.

use ring::hmac;

use super::{Answered, Ask, Registering, Session, sink::BIND};
use crate::{
    model::{Address, AppToken, DeviceId, Moment, UnixTime},
    transport::{
        Directory, RegisterRefusal, RegisterRequest, RegisteredAs,
        xmpp::{
            config::{ANNOUNCED_MS, RENEW_AFTER_MS},
            jid::Jid,
            wire::{self, Condition, Instance},
            xml::{Element, ns},
        },
    },
};

impl Session {
    /// A request: it is answered, whatever it is (RFC 6120 §8.2.3).
    pub(super) fn request(&mut self, directory: &dyn Directory, stanza: &Element, now: Moment) {
        let mut children = stanza.children();
        let (Some(asked), None) = (children.next(), children.next()) else {
            return self.refuse(stanza, Condition::BadRequest);
        };
        if stanza.attribute("to") != Some(&self.config.component) {
            return self.refuse(stanza, Condition::ServiceUnavailable);
        }
        match (stanza.attribute("type").unwrap_or_default(), asked.name(), asked.ns()) {
            ("set", "register", ns::UNIFIED_PUSH) => self.register(directory, stanza, asked, now),
            ("set", "command", ns::COMMANDS) => self.command(directory, stanza, asked),
            ("set", "pubsub", ns::PUBSUB) => self.publish(directory, stanza, asked, now),
            ("get", "ping", ns::PING) => self.say(wire::result(stanza, None)),
            ("get", "query", ns::DISCO_INFO) => self.say(wire::result(stanza, Some(info(asked)))),
            ("get", "query", ns::DISCO_ITEMS) => {
                let items = items(asked, &self.config.component);
                self.say(wire::result(stanza, Some(items)));
            }
            _ => self.refuse(stanza, Condition::ServiceUnavailable),
        }
    }

    fn register(&mut self, directory: &dyn Directory, stanza: &Element, asked: &Element, now: Moment) {
        // The server says who it is; whoever has no account there is nobody's client.
        let from = stanza.attribute("from").and_then(Jid::read);
        let Some(from) = from.filter(|from| self.is_allowed(from)) else {
            tracing::debug!(from = stanza.attribute("from"), "not of a domain that may register");
            return self.refuse(stanza, Condition::Forbidden);
        };
        let instance = Instance::read(asked).filter(|_| from.is_client());
        let named = instance.and_then(|instance| Some((instance.token()?, instance)));
        let Some((token, instance)) = named else {
            return self.refuse(stanza, Condition::BadRequest);
        };
        if !self.has_room() {
            return self.refuse(stanza, Condition::ResourceConstraint);
        }
        let device = self.device(&from);
        let address = known_address(directory, device, &token, &from, now).unwrap_or_else(|| Address {
            expires: now.trusted.then(|| UnixTime(now.wall.0 + ANNOUNCED_MS)),
            text: from.as_str().into(),
        });
        self.asks.push_back(Ask::Register(Box::new(Registering {
            address,
            device,
            from,
            most: self.config.max_registrations_per_account,
            request: RegisterRequest { app: instance.app(), token, vapid: None },
            stanza: wire::head(stanza),
        })));
    }

    /// Whether it is an account that may register.
    pub(super) fn is_allowed(&self, from: &Jid) -> bool {
        from.local().is_some() && self.is_of_allowed_domain(from)
    }

    pub(super) fn is_of_allowed_domain(&self, from: &Jid) -> bool {
        self.config.allowed_domains.contains(&from.domain().to_lowercase())
    }

    /// The device that an account is.
    pub(super) fn device(&self, client: &Jid) -> DeviceId {
        device(&self.key, client)
    }

    /// The house has answered.
    pub(in crate::transport::xmpp) fn answered(&mut self, answered: Answered, now: Moment) {
        match answered {
            Answered::Ended(device, message, outcome) => {
                match outcome {
                    Ok(()) => tracing::debug!(%device, "an app is gone: its registration has ended"),
                    Err(error) => {
                        tracing::warn!(%device, %error, "the registration of an app that is gone has not ended");
                    }
                }
                self.turn_back(device, vec![message]);
            }
            Answered::Expired(registration, Ok(())) => {
                tracing::info!(channel = %registration, "nobody has renewed a registration: it has ended");
            }
            Answered::Expired(registration, Err(error)) => {
                tracing::warn!(channel = %registration, %error, "a registration that nobody has renewed has not ended");
            }
            Answered::Posted(posting, taken) => self.posted(*posting, taken),
            Answered::Registered(asked, Ok(registered)) => self.registered(*asked, &registered, now),
            Answered::Registered(asked, Err(why)) => {
                let condition = match why {
                    RegisterRefusal::ActionRequired => Condition::ResourceConstraint,
                    RegisterRefusal::InternalError => Condition::InternalServerError,
                    RegisterRefusal::Unauthorized => Condition::Forbidden,
                };
                self.refuse(&asked.stanza, condition);
            }
        }
    }

    fn registered(&mut self, asked: Registering, registered: &RegisteredAs, now: Moment) {
        let Registering { address, device, from, stanza, .. } = asked;
        let expires = address.expires.unwrap_or(UnixTime(now.wall.0 + ANNOUNCED_MS));
        self.say(wire::result(&stanza, Some(wire::registered(registered, expires))));
        if self.is_up() {
            self.clients.insert(from.clone());
            self.arrive(device, from, true);
        }
    }
}

/// The device that an account is: the same for ever, so that nothing has to be remembered of it.
pub(super) fn device(key: &hmac::Key, client: &Jid) -> DeviceId {
    let tag = hmac::sign(key, client.bare().as_bytes());
    let mut id = [0; 8];
    id.copy_from_slice(&tag.as_ref()[..8]);
    DeviceId(u64::from_be_bytes(id))
}

/// The address of a registration that was renewed a moment ago by the same client.
fn known_address(
    directory: &dyn Directory,
    device: DeviceId,
    token: &AppToken,
    from: &Jid,
    now: Moment,
) -> Option<Address> {
    let known = directory.registrations(device).into_iter().find(|known| known.token == *token)?;
    let address = directory.address(known.id)?;
    let is_new = address.expires?.0.saturating_add(RENEW_AFTER_MS) > now.wall.0.saturating_add(ANNOUNCED_MS);
    (is_new && *address.text == *from.as_str()).then_some(address)
}

/// What the component is (XEP-0030).
fn info(asked: &Element) -> Element {
    let info = Element::new("query", ns::DISCO_INFO);
    if asked.attribute("node").is_some() {
        return info;
    }
    let identity = Element::new("identity", ns::DISCO_INFO)
        .with("category", "component")
        .with("type", "generic")
        .with("name", "UnifiedPush gateway");
    // What servers look for before they notify (XEP-0357 §4).
    let push = Element::new("identity", ns::DISCO_INFO).with("category", "pubsub").with("type", "push");
    let features = [ns::COMMANDS, ns::DISCO_INFO, ns::DISCO_ITEMS, ns::PING, ns::PUSH, ns::UNIFIED_PUSH];
    let features = features.map(|feature| Element::new("feature", ns::DISCO_INFO).with("var", feature));
    features.into_iter().fold(info.holding(identity).holding(push), Element::holding)
}

/// What there is below it (XEP-0030): nothing, and one command.
fn items(asked: &Element, component: &str) -> Element {
    let items = Element::new("query", ns::DISCO_ITEMS);
    if asked.attribute("node") != Some(ns::COMMANDS) {
        return items;
    }
    let item = Element::new("item", ns::DISCO_ITEMS)
        .with("jid", component)
        .with("node", BIND)
        .with("name", "Notify a UnifiedPush endpoint");
    items.with("node", ns::COMMANDS).holding(item)
}
