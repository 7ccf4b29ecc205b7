//! The distributor's side of `UnifiedPush over MQTT`: connects, subscribes, registers, and
//! acknowledges each push once it has been shown.

use std::{collections::VecDeque, io, ops::RangeInclusive, path::Path, time::Duration};

use rumqttc::{
    Transport,
    v5::{
        AsyncClient, ClientError, ConnectionError, Event, EventLoop, MqttOptions,
        mqttbytes::{
            QoS,
            v5::{ConnectProperties, ConnectReturnCode, Packet, PubAckReason, Publish, SubscribeReasonCode},
        },
    },
};
use serde::Deserialize;
use tokio::time::{sleep, timeout};

use super::{
    Address, Identity, Show, Stop,
    push::{Properties, Push},
    tls::{self, Bridge},
};
use crate::{cli::CliError, clock::SharedClock};

/// The token under which `listen` registers itself.
const TOKEN: &str = "listen";
/// As many pushes may be on the way to us; also the room for their acknowledgements.
const IN_FLIGHT: u16 = 32;
/// The longest push, 5,630 bytes, with topic and properties.
const MAX_PACKET: u32 = 16 * 1024;
/// So many message ids are remembered, to show a message that is sent again only once.
const REMEMBERED: usize = 4 * IN_FLIGHT as usize;
/// Asked for until the gateway says what this network bears.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// Keep-alives that make sense, in seconds: pings that are no flood, up to what MQTT can say.
const SANE_KEEP_ALIVE: RangeInclusive<i64> = 10..=65_535;
/// How long connecting with TLS may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long to wait for the gateway to close a connection that we have ended.
const FAREWELL: Duration = Duration::from_secs(1);

/// How listening ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum End {
    /// The user stopped it, or `--count` pushes have come.
    Done,
    /// The device is not paired, or no more, or its secret is another one.
    Refused,
}

/// How one connection ended.
enum Lost {
    End(End),
    /// And another one may be tried.
    Failed(String),
}

/// What an incoming message leads to.
enum Next {
    Acknowledge,
    /// `--count` is reached.
    AcknowledgeAndEnd,
}

/// Listening, over as many connections as it takes.
#[derive(Debug)]
pub(super) struct Session<'a> {
    address: Address,
    clock: SharedClock,
    /// Still to come, with `--count`.
    count: Option<u64>,
    /// The endpoint that was shown last.
    endpoint: Option<String>,
    /// By Server Keep Alive or `inbox/plan`, whichever came last.
    keep_alive: Duration,
    pause: Duration,
    show: Show<'a>,
    shown: VecDeque<String>,
    state_dir: &'a Path,
}

/// `inbox/endpoint`, `inbox/refused` and `inbox/unregistered`, as far as they matter.
#[derive(Deserialize)]
struct Control {
    endpoint: Option<String>,
    reason: Option<String>,
    token: String,
}

impl<'a> Session<'a> {
    pub(super) fn new(
        address: Address,
        state_dir: &'a Path,
        count: Option<u64>,
        clock: SharedClock,
        show: Show<'a>,
    ) -> Self {
        Self {
            address,
            clock,
            count,
            endpoint: None,
            keep_alive: KEEP_ALIVE,
            pause: FIRST_PAUSE,
            show,
            shown: VecDeque::new(),
            state_dir,
        }
    }

    /// Where the gateway is.
    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// Tells the user something that is neither endpoint nor push.
    pub(super) fn note(&mut self, what: &str) {
        self.show.note(what);
    }

    /// Listens until there is no more reason to. Lost connections are taken up again.
    pub(super) async fn run(&mut self, identity: &Identity, mut stop: Stop<'_>) -> Result<End, CliError> {
        loop {
            let why = match self.connection(identity, stop.as_mut()).await? {
                Lost::End(end) => return Ok(end),
                Lost::Failed(why) => why,
            };
            let pause = self.pause;
            self.pause = LONGEST_PAUSE.min(pause * 2);
            self.note(&format!(
                "no connection to the gateway at {}: {why}; trying again in {} s",
                self.address,
                pause.as_secs()
            ));
            tokio::select! {
                biased;
                () = stop.as_mut() => return Ok(End::Done),
                () = sleep(pause) => {}
            }
        }
    }

    /// One connection from CONNECT to its end. Nothing of it is carried over to the next, because
    /// an acknowledgement there could meet another message of the same number.
    async fn connection(&mut self, identity: &Identity, mut stop: Stop<'_>) -> Result<Lost, CliError> {
        let bridge = tokio::select! {
            biased;
            () = stop.as_mut() => return Ok(Lost::End(End::Done)),
            bridge = self.bridge() => match bridge? {
                Ok(bridge) => bridge,
                Err(error) => return Ok(Lost::Failed(error.to_string())),
            },
        };
        let options = self.options(identity, bridge.as_ref());
        // Room for all acknowledgements, a subscription, a registration and a farewell.
        let (client, mut events) = AsyncClient::new(options, usize::from(IN_FLIGHT) + 3);
        let mut online = false;
        loop {
            let event = tokio::select! {
                biased;
                () = stop.as_mut() => {
                    if online {
                        farewell(&client, &mut events).await;
                    }
                    return Ok(Lost::End(End::Done));
                }
                event = events.poll() => event,
            };
            let packet = match event {
                Ok(Event::Incoming(packet)) => packet,
                Ok(Event::Outgoing(_)) => continue,
                Err(ConnectionError::ConnectionRefused(
                    ConnectReturnCode::NotAuthorized | ConnectReturnCode::BadUserNamePassword,
                )) => return Ok(Lost::End(End::Refused)),
                Err(error) => return Ok(Lost::Failed(error.to_string())),
            };
            #[expect(clippy::wildcard_enum_match_arm, reason = "a client has no use for the others")]
            match packet {
                Packet::ConnAck(_) => {
                    online = true;
                    // By now it is the Server Keep Alive, if there was one.
                    self.keep_alive = events.options.keep_alive();
                    if self.pause > FIRST_PAUSE {
                        self.pause = FIRST_PAUSE;
                        self.note("connected");
                    }
                    // A subscription and a registration that exist are confirmed, not doubled.
                    let device = identity.device();
                    let subscribed = client.try_subscribe(format!("up/{device}/inbox/#"), QoS::AtLeastOnce);
                    subscribed.map_err(stuck)?;
                    let topic = format!("up/{device}/outbox/register");
                    let body = serde_json::json!({ "token": TOKEN, "app": TOKEN }).to_string();
                    client.try_publish(topic, QoS::AtLeastOnce, false, body).map_err(stuck)?;
                }
                Packet::SubAck(answer) => {
                    let granted =
                        |code: &SubscribeReasonCode| matches!(code, SubscribeReasonCode::Success(_));
                    if !answer.return_codes.iter().all(granted) {
                        return Err(refused("the subscription", &format!("{:?}", answer.return_codes)));
                    }
                }
                Packet::PubAck(answer)
                    if !matches!(
                        answer.reason,
                        PubAckReason::Success | PubAckReason::NoMatchingSubscribers
                    ) =>
                {
                    return Err(refused("the registration", &format!("{:?}", answer.reason)));
                }
                Packet::Publish(publish) => match self.receive(identity, &publish)? {
                    Next::Acknowledge => {
                        client.try_ack(&publish).map_err(stuck)?;
                        // In force from the next ping on; the one that is waited for comes as it was planned.
                        events.options.set_keep_alive(self.keep_alive());
                    }
                    Next::AcknowledgeAndEnd => {
                        client.try_ack(&publish).map_err(stuck)?;
                        farewell(&client, &mut events).await;
                        return Ok(Lost::End(End::Done));
                    }
                },
                _ => {}
            }
        }
    }

    /// The way to a gateway with TLS. One that is not who it should be is no gateway to try again.
    async fn bridge(&self) -> Result<io::Result<Option<Bridge>>, CliError> {
        let Some(pin) = self.address.pin else { return Ok(Ok(None)) };
        let connected = timeout(CONNECT_WITHIN, tls::connect(&self.address, pin)).await;
        match connected.unwrap_or_else(|late| Err(late.into())) {
            Ok(stream) => Ok(Bridge::open(self.state_dir, stream).map(Some)),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(CliError::Failed(format!(
                "whoever answers at {} is not the gateway of the pairing URI ({error}); nothing was sent to it",
                self.address
            ))),
            Err(error) => Ok(Err(error)),
        }
    }

    fn options(&self, identity: &Identity, bridge: Option<&Bridge>) -> MqttOptions {
        let device = identity.device();
        let mut options = match bridge {
            None => MqttOptions::new(device, &self.address.host, self.address.port),
            Some(bridge) => {
                let mut options = MqttOptions::new(device, bridge.path.to_string_lossy(), 1);
                options.set_transport(Transport::Unix);
                options
            }
        };
        let mut properties = ConnectProperties::new();
        properties.max_packet_size = Some(MAX_PACKET);
        properties.receive_maximum = Some(IN_FLIGHT);
        // For ever: what comes while nobody listens waits.
        properties.session_expiry_interval = Some(u32::MAX);
        options
            .set_clean_start(false)
            .set_connect_properties(properties)
            .set_connection_timeout(10)
            .set_credentials(device, identity.secret())
            .set_keep_alive(self.keep_alive())
            .set_manual_acks(true)
            // Only registrations go out; the default reserves room for 65,535 of them.
            .set_outgoing_inflight_upper_limit(4);
        options
    }

    /// rumqttc panics when it is told less than five seconds, whoever says so.
    fn keep_alive(&self) -> Duration {
        self.keep_alive.max(Duration::from_secs(5))
    }

    /// Does as the gateway says, if that makes sense.
    fn plan(&mut self, payload: &[u8]) {
        let plan: serde_json::Value = serde_json::from_slice(payload).unwrap_or_default();
        let said = &plan["keep_alive_s"];
        match said.as_i64().filter(|seconds| SANE_KEEP_ALIVE.contains(seconds)) {
            Some(seconds) => self.keep_alive = Duration::from_secs(seconds.unsigned_abs()),
            None => self.note(&format!(
                "the gateway asks for a keep-alive of {said} s, but only {} to {} s make sense; going on with {} s",
                SANE_KEEP_ALIVE.start(),
                SANE_KEEP_ALIVE.end(),
                self.keep_alive().as_secs()
            )),
        }
    }

    fn receive(&mut self, identity: &Identity, publish: &Publish) -> Result<Next, CliError> {
        let topic = String::from_utf8_lossy(&publish.topic);
        let inbox = format!("up/{}/inbox/", identity.device());
        let Some(kind) = topic.strip_prefix(inbox.as_str()) else { return Ok(Next::Acknowledge) };
        if let Some(channel) = kind.strip_prefix("push/") {
            return self.push(identity, channel, publish);
        }
        if kind == "plan" {
            self.plan(&publish.payload);
            return Ok(Next::Acknowledge);
        }
        let Ok(control) = serde_json::from_slice::<Control>(&publish.payload) else {
            // A message of a later version of the protocol.
            return Ok(Next::Acknowledge);
        };
        if control.token != TOKEN {
            return Ok(Next::Acknowledge);
        }
        match kind {
            "endpoint" if control.endpoint.is_some() && control.endpoint != self.endpoint => {
                self.endpoint = control.endpoint;
                let endpoint = self.endpoint.as_deref().unwrap_or_default();
                self.show.endpoint(endpoint, &identity.keys().public())?;
            }
            "refused" => {
                return Err(refused(
                    "the registration",
                    control.reason.as_deref().unwrap_or("no reason given"),
                ));
            }
            // Before our registration is answered, this is the end of an earlier one.
            "unregistered" if self.endpoint.is_some() => {
                return Err(CliError::Failed(
                    "the registration was removed at the gateway, and its endpoint is gone; start `listen` again for a new one"
                        .to_owned(),
                ));
            }
            _ => {}
        }
        Ok(Next::Acknowledge)
    }

    fn push(&mut self, identity: &Identity, channel: &str, publish: &Publish) -> Result<Next, CliError> {
        let user = publish.properties.as_ref().map(|properties| properties.user_properties.as_slice());
        let properties = Properties::read(user.unwrap_or_default());
        let id = properties.message_id.clone();
        if id.as_ref().is_some_and(|id| self.shown.contains(id)) {
            return Ok(Next::Acknowledge);
        }
        let now = self.clock.moment().wall;
        self.show.push(&Push::read(channel, &publish.payload, properties, identity.keys(), now))?;
        if let Some(id) = id {
            self.shown.truncate(REMEMBERED - 1);
            self.shown.push_front(id);
        }
        self.count = self.count.map(|count| count.saturating_sub(1));
        Ok(if self.count == Some(0) { Next::AcknowledgeAndEnd } else { Next::Acknowledge })
    }
}

/// Sends what is queued and DISCONNECT, then reads until the gateway closes: a socket that is
/// closed with bytes unread takes back what it has just sent.
async fn farewell(client: &AsyncClient, events: &mut EventLoop) {
    if client.try_disconnect().is_err() {
        return;
    }
    // A push that comes now is not acknowledged, so it comes again next time.
    let closed = async { while events.poll().await.is_ok() {} };
    // Whoever does not close is left behind.
    let _ = timeout(FAREWELL, closed).await;
}

fn refused(what: &str, why: &str) -> CliError {
    CliError::Failed(format!("the gateway refuses {what} of `{TOKEN}`: {why}; its log says more"))
}

/// The request channel holds all that can be outstanding, so this means a gateway that sends more
/// at once than it was allowed to.
fn stuck(_: ClientError) -> CliError {
    CliError::Failed("the gateway sends more at once than was agreed; is it really one?".to_owned())
}
