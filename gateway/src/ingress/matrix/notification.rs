//! What a homeserver says, as far as it concerns the way to the device.

use serde::{Deserialize, de::IgnoredAny};

use crate::model::{Malformed, Topic, Urgency};

/// How many devices one notification may name. A homeserver names one, or those of one user.
const MAX_DEVICES: usize = 32;
/// Under which a newer count of unread messages replaces an older one.
const BADGE: &str = "matrix-badge";

/// A notification before it is passed on.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Notification {
    /// Of the event, unless there is none.
    pub(super) event_id: Option<String>,
    /// Where it goes, as it was sent.
    pub(super) pushkeys: Vec<String>,
    /// Counts replace each other.
    pub(super) topic: Option<Topic>,
    pub(super) urgency: Urgency,
}

#[derive(Deserialize)]
struct Body {
    notification: Inner,
}

#[derive(Deserialize)]
struct Inner {
    devices: Vec<Device>,
    event_id: Option<String>,
    prio: Option<String>,
    room_id: Option<IgnoredAny>,
    #[serde(rename = "type")]
    kind: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Device {
    pushkey: String,
}

impl Notification {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// What it should have been.
    pub(super) fn read(body: &[u8]) -> Result<Self, Malformed> {
        let Body { notification } = serde_json::from_slice(body).map_err(|_| Malformed {
            expected: "the body must be JSON with notification.devices, each with a pushkey",
        })?;
        let Inner { devices, event_id, prio, room_id, kind } = notification;
        if devices.is_empty() || devices.len() > MAX_DEVICES {
            return Err(Malformed { expected: "notification.devices must name 1 to 32 devices" });
        }
        // Synapse's counts have an empty `id`, and nothing else that tells of an event.
        let event_id = event_id.filter(|id| !id.is_empty());
        let is_badge = event_id.is_none() && room_id.is_none() && kind.is_none();
        let urgency = match prio.as_deref() {
            _ if is_badge => Urgency::Low,
            Some("low") => Urgency::Low,
            // What is said when nothing is said.
            Some(_) | None => Urgency::High,
        };
        Ok(Self {
            event_id,
            pushkeys: devices.into_iter().map(|device| device.pushkey).collect(),
            topic: is_badge.then(|| BADGE.parse().ok()).flatten(),
            urgency,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(inner: &str) -> Notification {
        let body = format!(r#"{{"notification":{{"devices":[{{"pushkey":"k"}}]{inner}}}}}"#);
        Notification::read(body.as_bytes()).expect("well-formed")
    }

    #[test]
    fn prio_is_urgency_and_counts_alone_are_low() {
        let event = r#","event_id":"$e","room_id":"!r""#;
        for (inner, urgency, is_badge) in [
            (event.to_owned(), Urgency::High, false),
            (format!(r#"{event},"prio":"high""#), Urgency::High, false),
            (format!(r#"{event},"prio":"low""#), Urgency::Low, false),
            (format!(r#"{event},"prio":"unheard-of""#), Urgency::High, false),
            (r#","counts":{"unread":2}"#.into(), Urgency::Low, true),
            (r#","id":"","type":null,"sender":"","counts":{"unread":0}"#.into(), Urgency::Low, true),
            (r#","event_id":"","prio":"high","counts":{}"#.into(), Urgency::Low, true),
            (r#","type":"m.call.invite","room_id":"!r""#.into(), Urgency::High, false),
        ] {
            let read = read(&inner);
            assert_eq!((read.urgency, read.topic.is_some()), (urgency, is_badge), "{inner}");
        }
        assert_eq!(read(event).event_id.as_deref(), Some("$e"));
    }

    #[test]
    fn what_names_nobody_is_malformed() {
        let many = |count| {
            let devices = vec![r#"{"pushkey":"k"}"#; count].join(",");
            format!(r#"{{"notification":{{"devices":[{devices}]}}}}"#)
        };
        assert_eq!(Notification::read(many(32).as_bytes()).expect("as many as may be").pushkeys.len(), 32);
        for wrong in [
            "",
            "[]",
            "{}",
            r#"{"notification":{}}"#,
            r#"{"notification":{"devices":[{"app_id":"a"}]}}"#,
            r#"{"notification":{"devices":[{"pushkey":7}]}}"#,
            r#"{"notification":{"devices":{}}}"#,
            &many(0),
            &many(33),
            &"[".repeat(5_000),
        ] {
            assert!(Notification::read(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
