//! What is published, and who wants it.

use std::{sync::Arc, time::Instant};

use mqtt_protocol_core::mqtt::packet::{MessageExpiryInterval, Properties, Property, SubscriptionIdentifier};

use crate::transport::mqtt::wire;

/// A publication, as it is kept for everybody who gets it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Message {
    pub(super) body: Vec<u8>,
    /// From then on it is delivered to nobody (MQTT 5.0 §3.3.2.3.3).
    pub(super) expires: Option<Instant>,
    /// What is passed on as it came.
    pub(super) properties: Properties,
    pub(super) qos: u8,
    pub(super) retain: bool,
    pub(super) topic: Box<str>,
}

impl Message {
    /// Takes from the properties what concerns the server, and keeps the rest.
    pub(super) fn new(
        topic: &str,
        body: Vec<u8>,
        qos: u8,
        retain: bool,
        properties: Properties,
        now: Instant,
    ) -> Self {
        let mut expires = None;
        let mut kept = Properties::new();
        for property in properties {
            if let Property::MessageExpiryInterval(interval) = &property {
                expires = Some(now + std::time::Duration::from_secs(interval.val().into()));
            } else if is_passed_on(&property) {
                kept.push(property);
            }
        }
        Self { body, expires, properties: kept, qos, retain, topic: topic.into() }
    }

    /// Whether it is too late for it.
    pub(super) fn expired(&self, now: Instant) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

/// MQTT 5.0 §3.3.2.3: what a server must forward unaltered.
fn is_passed_on(property: &Property) -> bool {
    matches!(
        property,
        Property::PayloadFormatIndicator(_)
            | Property::ContentType(_)
            | Property::ResponseTopic(_)
            | Property::CorrelationData(_)
            | Property::UserProperty(_)
    )
}

/// One client's copy.
#[derive(Clone, Debug)]
pub(super) struct Parcel {
    /// Subscription Identifiers of the subscriptions that want it.
    pub(super) identifiers: Vec<u32>,
    pub(super) message: Arc<Message>,
    pub(super) qos: u8,
    pub(super) retain: bool,
}

impl Parcel {
    /// What its 5.0 PUBLISH carries.
    pub(super) fn properties(&self, now: Instant) -> Properties {
        let mut properties = self.message.properties.clone();
        if let Some(expires) = self.message.expires {
            // Rounded up: what has half a second left has not expired.
            let left = expires.saturating_duration_since(now).as_millis().div_ceil(1000);
            let left = MessageExpiryInterval::new(u32::try_from(left).unwrap_or(u32::MAX));
            properties.extend(left.ok().map(Property::from));
        }
        let identifiers = self.identifiers.iter().filter_map(|&id| SubscriptionIdentifier::new(id).ok());
        properties.extend(identifiers.map(Property::from));
        properties
    }
}

/// A subscription (MQTT 5.0 §3.8.3.1).
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Subscription {
    /// Without `$share/NAME/`.
    pub(super) filter: Box<str>,
    /// NAME of a shared subscription.
    pub(super) group: Option<Box<str>>,
    pub(super) identifier: Option<u32>,
    pub(super) no_local: bool,
    pub(super) qos: u8,
    pub(super) retain_as_published: bool,
}

impl Subscription {
    /// Whether it is the same subscription, with whichever options.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.filter == other.filter && self.group == other.group
    }

    /// Whether a topic is wanted (MQTT 5.0 §4.7.2: a wildcard in front matches no `$` topic).
    pub(super) fn wants(&self, topic: &str) -> bool {
        !(topic.starts_with('$') && self.filter.starts_with(['#', '+']))
            && wire::overlaps(&self.filter, topic)
    }
}

/// Reads a topic filter (MQTT 5.0 §4.7, §4.8.2); `None` when it is none. Returns the group, if it is
/// shared, and the filter.
pub(super) fn read_filter(filter: &str) -> Option<(Option<&str>, &str)> {
    let (group, filter) = match filter.strip_prefix("$share/") {
        None => (None, filter),
        Some(rest) => {
            let (group, filter) = rest.split_once('/')?;
            if group.is_empty() || group.contains(['#', '+']) {
                return None;
            }
            (Some(group), filter)
        }
    };
    wire::is_filter(filter).then_some((group, filter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_otherwise_is_not_wanted_and_nothing_else_is_lost() {
        for (filter, topic, wanted) in [
            ("#", "a/b", true),
            ("#", "$a", false),
            ("+", "a", true),
            ("+/b", "a/b", true),
            ("/+", "/a", true),
            ("/#", "/", true),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("a/#", "ab", false),
            ("a/+/c", "a/b/c", true),
            ("a/+", "ab/c", false),
            ("a", "a", true),
            ("a", "a/b", false),
            ("$a/#", "$a/b", true),
        ] {
            let subscription = Subscription {
                filter: filter.into(),
                group: None,
                identifier: None,
                no_local: false,
                qos: 1,
                retain_as_published: false,
            };
            assert_eq!(subscription.wants(topic), wanted, "{filter} of {topic}");
        }
    }
}
