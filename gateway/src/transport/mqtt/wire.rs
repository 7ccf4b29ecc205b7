//! Topics, filters and JSON shapes of the protocol, and what a push looks like in each version.

use serde::{Deserialize, Serialize};

use crate::{
    model::{AppToken, Coding, DeviceId, DeviceState, Network, Power, Profile, Urgency, VapidKey},
    transport::{Item, RegisterRefusal, RegisterRequest},
};

/// A topic below a device's inbox.
pub(super) fn inbox(device: DeviceId, leaf: &str) -> String {
    format!("up/{device}/inbox/{leaf}")
}

/// The topic of a push.
pub(super) fn push_topic(item: &Item) -> String {
    format!("up/{}/inbox/push/{}", item.message.device, item.message.registration)
}

/// What a device publishes, by topic.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Outbox {
    /// `outbox/register`
    Register,
    /// `outbox/state`
    State,
    /// Anything else below its own outbox: nobody listens.
    Unknown,
    /// `outbox/unregister`
    Unregister,
}

/// Where in its own outbox a device publishes; `None` when it is not its own outbox.
pub(super) fn outbox(device: DeviceId, topic: &str) -> Option<Outbox> {
    let leaf = topic.strip_prefix(format!("up/{device}/outbox/").as_str())?;
    Some(match leaf {
        "register" => Outbox::Register,
        "state" => Outbox::State,
        "unregister" => Outbox::Unregister,
        _ => Outbox::Unknown,
    })
}

/// Why a subscription is not granted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum FilterRefusal {
    /// Not below the device's own inbox.
    Foreign,
    /// Not a topic filter (MQTT 5.0 §4.7).
    Invalid,
    /// `$share/…`
    Shared,
}

/// Whether a device may subscribe to this filter.
pub(super) fn check_filter(device: DeviceId, filter: &str) -> Result<(), FilterRefusal> {
    if filter.starts_with("$share/") {
        return Err(FilterRefusal::Shared);
    }
    if !is_filter(filter) {
        return Err(FilterRefusal::Invalid);
    }
    // `up/{device}/inbox` alone is granted too: it matches nothing, and harms nobody.
    match filter.strip_prefix(format!("up/{device}/inbox").as_str()) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => Ok(()),
        Some(_) | None => Err(FilterRefusal::Foreign),
    }
}

/// Whether this is a topic filter (MQTT 5.0 §4.7).
pub(super) fn is_filter(filter: &str) -> bool {
    let levels = filter.split('/').count();
    !filter.is_empty()
        && !filter.contains('\0')
        && filter.split('/').enumerate().all(|(at, level)| match level {
            "#" => at + 1 == levels,
            "+" => true,
            text => !text.contains(['#', '+']),
        })
}

/// Whether a filter matches a topic (MQTT 5.0 §4.7); a topic level `+` stands for any level.
pub(super) fn overlaps(filter: &str, topic: &str) -> bool {
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        if wanted == "#" {
            return true;
        }
        match levels.next() {
            Some(level) if wanted == "+" || level == "+" || wanted == level => {}
            Some(_) | None => return false,
        }
    }
    levels.next().is_none()
}

/// The highest QoS at which any of the filters wants the topic, if any does.
pub(super) fn granted(filters: &[(Box<str>, u8)], topic: &str) -> Option<u8> {
    filters.iter().filter(|(filter, _)| overlaps(filter, topic)).map(|&(_, qos)| qos).max()
}

/// Whether any of the filters wants any push.
pub(super) fn wants_pushes(filters: &[(Box<str>, u8)], device: DeviceId) -> bool {
    granted(filters, &inbox(device, "push/+")).is_some()
}

/// `outbox/register`. Unknown members are ignored, so that later versions may add some.
#[derive(Deserialize)]
struct Register {
    token: String,
    app: Option<String>,
    description: Option<String>,
    vapid: Option<String>,
}

#[derive(Deserialize)]
struct Unregister {
    token: String,
}

#[derive(Deserialize)]
struct State {
    urgency: Option<Urgency>,
    power: Option<Power>,
    network: Option<Network>,
    screen: Option<Screen>,
}

#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Screen {
    On,
    Off,
}

/// A request of a device that cannot be understood: what to answer, and what to log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct BadRequest {
    /// The word for the device.
    pub(super) reason: &'static str,
    /// The token, as far as one could be made out.
    pub(super) token: String,
    /// What was wrong.
    pub(super) what: String,
}

fn bad_json(body: &[u8], error: &serde_json::Error) -> BadRequest {
    let token = serde_json::from_slice::<serde_json::Value>(body)
        .ok()
        .and_then(|value| value.get("token")?.as_str().map(echo))
        .unwrap_or_default();
    BadRequest { reason: "INTERNAL_ERROR", token, what: error.to_string() }
}

/// Enough of a token to know it by.
fn echo(token: &str) -> String {
    token.chars().take(ECHO_MAX).collect()
}

fn checked_token(token: &str) -> Result<AppToken, BadRequest> {
    token.parse().map_err(|error| BadRequest {
        reason: "INTERNAL_ERROR",
        token: echo(token),
        what: format!("token: {error}"),
    })
}

/// How much of a refused token is sent back, in characters: answers wait in memory.
const ECHO_MAX: usize = 200;
/// Longest name that is kept of an app, in characters: it is shown to the owner, nothing else.
const APP_MAX: usize = 100;

/// Reads `outbox/register`.
pub(super) fn register(body: &[u8]) -> Result<RegisterRequest, BadRequest> {
    let asked: Register = serde_json::from_slice(body).map_err(|error| bad_json(body, &error))?;
    let token = checked_token(&asked.token)?;
    let vapid = match asked.vapid.as_deref().filter(|key| !key.is_empty()) {
        Some(key) => Some(key.parse::<VapidKey>().map_err(|error| BadRequest {
            reason: "VAPID_REQUIRED",
            token: asked.token.clone(),
            what: format!("vapid: {error}"),
        })?),
        None => None,
    };
    let shown = [asked.app, asked.description].into_iter().flatten().find(|name| !name.is_empty());
    let app = shown.as_deref().unwrap_or(&asked.token).chars().take(APP_MAX).collect::<String>();
    Ok(RegisterRequest { app: app.into(), token, vapid })
}

/// Reads `outbox/unregister`.
pub(super) fn unregister(body: &[u8]) -> Result<AppToken, BadRequest> {
    let asked: Unregister = serde_json::from_slice(body).map_err(|error| bad_json(body, &error))?;
    checked_token(&asked.token)
}

/// Reads `outbox/state`.
pub(super) fn state(body: &[u8]) -> Result<DeviceState, BadRequest> {
    let said: State = serde_json::from_slice(body).map_err(|error| bad_json(body, &error))?;
    Ok(DeviceState {
        network: said.network,
        power: said.power,
        screen: said.screen.map(|screen| screen == Screen::On),
        urgency: said.urgency,
    })
}

#[derive(Serialize)]
struct Endpoint<'a> {
    token: &'a str,
    channel: String,
    endpoint: &'a str,
}

#[derive(Serialize)]
struct Refused<'a> {
    token: &'a str,
    reason: &'a str,
}

#[derive(Serialize)]
struct Unregistered<'a> {
    token: &'a str,
}

#[derive(Serialize)]
struct Plan {
    keep_alive_s: u16,
    profile: &'static str,
}

fn json(shape: &impl Serialize) -> Vec<u8> {
    // Structs of strings and numbers cannot fail to serialize.
    serde_json::to_vec(shape).unwrap_or_default()
}

/// A message to a device that is not a push.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Answer {
    pub(super) body: Vec<u8>,
    /// Correlation Data of the request.
    pub(super) correlation: Option<Vec<u8>>,
    /// 1, but for hints.
    pub(super) qos: u8,
    pub(super) topic: String,
}

/// Where a device wants its answer (MQTT 5.0 §3.3.2.3.5).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct ReplyTo {
    pub(super) correlation: Option<Vec<u8>>,
    pub(super) topic: Option<String>,
}

impl ReplyTo {
    /// A Response Topic outside the device's inbox is as good as none.
    pub(super) fn new(device: DeviceId, topic: Option<&str>, correlation: Option<&[u8]>) -> Self {
        let within = inbox(device, "");
        let topic = topic.filter(|topic| topic.starts_with(&within) && !topic.contains(['#', '+', '\0']));
        Self { correlation: correlation.map(<[u8]>::to_vec), topic: topic.map(str::to_owned) }
    }

    fn answer(self, device: DeviceId, leaf: &str, body: Vec<u8>) -> Answer {
        let topic = self.topic.unwrap_or_else(|| inbox(device, leaf));
        Answer { body, correlation: self.correlation, qos: 1, topic }
    }

    /// `inbox/endpoint`
    pub(super) fn endpoint(self, device: DeviceId, token: &str, channel: String, endpoint: &str) -> Answer {
        self.answer(device, "endpoint", json(&Endpoint { token, channel, endpoint }))
    }

    /// `inbox/refused`
    pub(super) fn refused(self, device: DeviceId, token: &str, reason: &str) -> Answer {
        self.answer(device, "refused", json(&Refused { token, reason }))
    }

    /// `inbox/unregistered`
    pub(super) fn unregistered(self, device: DeviceId, token: &str) -> Answer {
        self.answer(device, "unregistered", json(&Unregistered { token }))
    }
}

/// `inbox/plan`: a hint.
pub(super) fn plan(device: DeviceId, keep_alive_s: u16, profile: Profile) -> Answer {
    let body = json(&Plan { keep_alive_s, profile: profile.as_str() });
    Answer { body, correlation: None, qos: 0, topic: inbox(device, "plan") }
}

/// The word for a refused registration.
pub(super) fn reason(refusal: RegisterRefusal) -> &'static str {
    match refusal {
        RegisterRefusal::ActionRequired => "ACTION_REQUIRED",
        RegisterRefusal::InternalError => "INTERNAL_ERROR",
        RegisterRefusal::Unauthorized => "UNAUTHORIZED",
    }
}

/// The User Properties of a push, in order.
pub(super) fn user_properties(item: &Item) -> Vec<(&'static str, String)> {
    let Coding { content_encoding, crypto_key, encryption } = &item.message.coding;
    let mut properties = vec![("message-id", item.token.to_string())];
    for (name, value) in
        [("content-encoding", content_encoding), ("encryption", encryption), ("crypto-key", crypto_key)]
    {
        if let Some(value) = value {
            properties.push((name, value.to_string()));
        }
    }
    // How late it is, for whoever wants to know: `listen` shows it.
    properties.push(("accepted-at", item.message.accepted.0.to_string()));
    properties
}

/// Bytes of a 5.0 PUBLISH with this push at QoS 1 (MQTT 5.0 §3.3), to hold against the client's
/// Maximum Packet Size before anything is taken.
pub(super) fn packet_size_5_0(item: &Item) -> usize {
    let varint = |length: usize| match length {
        0..=127 => 1,
        128..=16_383 => 2,
        16_384..=2_097_151 => 3,
        _ => 4,
    };
    let properties = 5 // Message Expiry Interval
        + 3 + CONTENT_TYPE.len()
        + user_properties(item).iter().map(|(name, value)| 5 + name.len() + value.len()).sum::<usize>();
    let remaining =
        2 + push_topic(item).len() + 2 + varint(properties) + properties + item.message.body.len();
    1 + varint(remaining) + remaining
}

/// Content Type of a push: its body is opaque.
pub(super) const CONTENT_TYPE: &str = "application/octet-stream";

#[cfg(test)]
mod tests;
