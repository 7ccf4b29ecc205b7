//! The ntfy room: subscribers of ntfy's HTTP protocol, the Android app, its command line and
//! KUnifiedPush as they are.
//!
//! ```text
//! hand_over ▶ hub ▶ feed ▶ io ▶ client          history (what waited) ▶ feed
//!              ▲      │
//!              └ Kept ┘
//! ```
//!
//! A topic is a registration of a device, at an endpoint that a key of this gateway makes of its name.
//! ntfy has no acknowledgement: what was written to a socket stays stored and can be read again with
//! `since`, until it expires, or until a client's cursor shows that an app's topic has got it.
//! Messages are taken in by [`crate::ingress`], which asks the room whose a topic is.

mod access;
mod config;
mod failure;
mod feed;
mod hub;
mod io;
mod path;
mod since;
#[cfg(test)]
mod tests;
mod wire;

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::{
    HeaderValue, Request, Response, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        CACHE_CONTROL, CONTENT_TYPE,
    },
};
use hyper::body::Incoming;
use ring::hmac;
use serde_json::json;
use tokio::sync::{mpsc, watch};

use self::{
    access::Newcomers,
    config::SAID_MAX,
    feed::Feed,
    hub::{Hub, Listener},
    path::{Form, RESERVED, Subscribe},
    since::Since,
    wire::Ids,
};
pub use self::{
    config::Limits,
    failure::{Failure, json as answer_json},
    path::{Asked, Topic, is_true, is_up, parameter},
    wire::{Content, message as message_json},
};
use super::{
    Consignment, Directory, Event, History, Notice, Pulse, Report, Transport, Turned,
    web::{self, Crowded, Hosted, Visit, Visitor},
};
use crate::{
    clock::SharedClock,
    config::NtfyConfig,
    model::{DeviceId, MessageId, NetworkName, RegistrationId},
};

/// The room's name.
const NAME: &str = "ntfy";

/// The room.
pub struct NtfyRoom {
    /// Held by every connection; gone when the room stops.
    alive: Mutex<Option<mpsc::Sender<Infallible>>>,
    /// How many messages wait for a topic without a subscriber.
    awaited: Mutex<HashMap<RegistrationId, u32>>,
    clock: SharedClock,
    config: NtfyConfig,
    directory: Arc<dyn Directory>,
    events: Mutex<Option<mpsc::UnboundedReceiver<(DeviceId, Event)>>>,
    history: Arc<dyn History>,
    /// The device that holds the topics which nobody has subscribed to yet.
    house: DeviceId,
    hub: Arc<Hub>,
    ids: Ids,
    limits: Limits,
    newcomers: Newcomers,
    reports: mpsc::Sender<Report>,
    stop: watch::Sender<bool>,
    topic_key: hmac::Key,
    /// Ends when the last connection has.
    vacated: Mutex<Option<mpsc::Receiver<Infallible>>>,
}

impl std::fmt::Debug for NtfyRoom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NtfyRoom").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Locks, and goes on with what a panicked holder left: every change is complete in itself.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl NtfyRoom {
    /// A room whose topics and ids are made with `key`, which must stay the same for ever.
    #[must_use]
    pub fn open(
        config: NtfyConfig,
        key: &[u8; 32],
        directory: Arc<dyn Directory>,
        history: Arc<dyn History>,
        reports: mpsc::Sender<Report>,
        clock: SharedClock,
        limits: Limits,
    ) -> Arc<Self> {
        let (alive, vacated) = mpsc::channel(1);
        let (events_in, events) = mpsc::unbounded_channel();
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        let derive = |purpose: &str| hmac::sign(&key, purpose.as_bytes());
        let mut house = [0; 8];
        house.copy_from_slice(&derive("house").as_ref()[..8]);
        Arc::new(Self {
            alive: Mutex::new(Some(alive)),
            awaited: Mutex::default(),
            clock,
            config,
            directory,
            events: Mutex::new(Some(events)),
            history,
            house: DeviceId(u64::from_be_bytes(house)),
            hub: Hub::new(events_in),
            ids: Ids::new(derive("ids").as_ref()),
            limits,
            newcomers: Newcomers::default(),
            reports,
            stop: watch::channel(false).0,
            topic_key: hmac::Key::new(hmac::HMAC_SHA256, derive("topics").as_ref()),
            vacated: Mutex::new(Some(vacated)),
        })
    }

    /// Passes on what happens, and forgets topics that nobody came for. Waits until `shutdown` becomes
    /// true, then ends every connection.
    pub async fn run(self: Arc<Self>, mut shutdown: watch::Receiver<bool>) {
        let Some(mut events) = lock(&self.events).take() else { return };
        let mut sweep = tokio::time::interval(self.limits.sweep);
        loop {
            tokio::select! {
                () = feed::stopped(&mut shutdown) => break,
                Some((device, event)) = events.recv() => self.report(device, event).await,
                _ = sweep.tick() => self.forget_unclaimed().await,
            }
        }
        lock(&self.alive).take();
        self.stop.send_replace(true);
        let Some(mut vacated) = lock(&self.vacated).take() else { return };
        if tokio::time::timeout(self.limits.drain, vacated.recv()).await.is_err() {
            tracing::warn!("some ntfy connections did not end in time");
        }
        while let Ok((device, event)) = events.try_recv() {
            self.report(device, event).await;
        }
    }

    async fn report(&self, device: DeviceId, event: Event) {
        let report = Report { at: self.clock.moment().instant, device, event };
        // Nobody listens any more when the process is about to end.
        let _ = self.reports.send(report).await;
    }

    async fn forget_unclaimed(&self) {
        let now = self.clock.moment().wall.0;
        let awaited = u64::try_from(self.limits.awaited.as_millis()).unwrap_or(u64::MAX);
        for registration in self.directory.registrations(self.house) {
            if now.saturating_sub(registration.created.0) >= awaited {
                lock(&self.awaited).remove(&registration.id);
                // A disk that cannot write now is tried again at the next sweep.
                let _ = self.directory.disclaim(registration.id).await;
            }
        }
    }

    /// The id that a message has on the wire.
    #[must_use]
    pub fn message_id(&self, id: MessageId) -> String {
        self.ids.text(id)
    }

    async fn answer(
        self: Arc<Self>,
        asked: Asked,
        request: Request<Incoming>,
        visitor: Visitor,
    ) -> Response<web::Body> {
        let outcome = match asked {
            Asked::Auth(topics) => self.judge(&request, &visitor, &topics),
            Asked::Config { script } => Ok(config(script)),
            Asked::Discover => Ok(answer_json(StatusCode::OK, &json!({"unifiedpush": {"version": 1}}))),
            Asked::Health => Ok(answer_json(StatusCode::OK, &json!({"healthy": true}))),
            Asked::Preflight => Ok(preflight()),
            Asked::Subscribe(subscribe) => self.subscribe(subscribe, request, &visitor).await,
            Asked::Publish(_) | Asked::PublishJson => Err(Failure::NotFound),
        };
        outcome.unwrap_or_else(Failure::into_response)
    }

    /// `/auth`: may I listen to these?
    fn judge(
        &self,
        request: &Request<Incoming>,
        visitor: &Visitor,
        _: &[Topic],
    ) -> Result<Response<web::Body>, Failure> {
        let login = self.login(visitor, request.headers(), request.uri())?;
        self.may_subscribe(visitor, request.headers(), login)?;
        Ok(answer_json(StatusCode::OK, &json!({"success": true})))
    }

    async fn subscribe(
        self: Arc<Self>,
        subscribe: Subscribe,
        mut request: Request<Incoming>,
        visitor: &Visitor,
    ) -> Result<Response<web::Body>, Failure> {
        let Subscribe { form, topics } = subscribe;
        let login = self.login(visitor, request.headers(), request.uri())?;
        self.may_subscribe(visitor, request.headers(), login)?;
        let (headers, uri) = (request.headers(), request.uri());
        let poll =
            form != Form::WebSocket && is_true(parameter(headers, uri, &["x-poll", "poll", "po"]).as_deref());
        let since = parameter(headers, uri, &["x-since", "since", "si"]);
        let since = Since::read(since.as_deref(), poll, self.clock.moment().wall.0 / 1000)?;
        if form == Form::WebSocket && !web::wants_web_socket(headers) {
            return Err(Failure::NotWebSocket);
        }
        let stay = visitor.stay().map_err(|crowded| match crowded {
            Crowded::Source => Failure::TooManyConnections,
            Crowded::Total => Failure::Unavailable,
        })?;
        let alive = lock(&self.alive).clone().ok_or(Failure::Unavailable)?;
        let names: Vec<&str> = topics.iter().map(Topic::as_str).collect();
        let names = names.join(",").into_boxed_str();
        let heard = match poll {
            true => self.known(&topics),
            false => self.claim_all(visitor, login, &topics).await?,
        };
        let seat = (!poll).then(|| {
            let pulse = match form {
                Form::WebSocket => Pulse::Gateway(Duration::MAX),
                Form::Json | Form::Raw | Form::Sse => Pulse::Gateway(self.limits.keepalive),
            };
            let mut owners: Vec<_> = heard.iter().map(|heard| heard.owner).collect();
            let mut registrations: Vec<_> = heard.iter().map(|heard| heard.registration).collect();
            owners.sort_unstable();
            owners.dedup();
            registrations.sort_unstable();
            registrations.dedup();
            let network = NetworkName::of(visitor.source);
            self.hub.attach(
                Listener { login, network, owners, pulse, registrations },
                self.clock.moment().instant,
            )
        });
        let feed = |room| Feed::new(room, form, names, heard, &since, seat, alive, stay);
        if form == Form::WebSocket {
            let (response, upgrade) = match web::shake_hands(&mut request, &[]) {
                Ok(shaken) => shaken,
                Err(bad) => return Ok(bad.into_response()),
            };
            let (limits, clock) = (self.limits, Arc::clone(&self.clock));
            let feed = feed(self);
            tokio::spawn(async move {
                if let Some(socket) = web::web_socket(upgrade, SAID_MAX).await {
                    // Boxed, so that a connection that waits in silence costs what the waiting needs.
                    Box::pin(io::serve(socket, feed, limits, clock)).await;
                }
            });
            return Ok(response);
        }
        let keepalive = self.limits.keepalive;
        let mut response = Response::new(io::body(feed(self), keepalive));
        let media_type = match form {
            Form::Sse => "text/event-stream; charset=utf-8",
            Form::Raw => "text/plain; charset=utf-8",
            Form::Json | Form::WebSocket => "application/x-ndjson; charset=utf-8",
        };
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        Ok(response)
    }
}

impl Hosted for NtfyRoom {
    fn visit(self: Arc<Self>, request: Request<Incoming>, visitor: &Visitor) -> Visit {
        match Asked::find(request.method(), request.uri()) {
            None => Visit::Elsewhere(request),
            // Ingress takes messages in.
            Some(Ok(asked)) if asked.is_publish() => Visit::Elsewhere(request),
            Some(Ok(asked)) => Visit::here(self.answer(asked, request, visitor.clone())),
            Some(Err(failure)) => Visit::here(async move { failure.into_response() }),
        }
    }
}

impl Transport for NtfyRoom {
    fn hand_over(&self, consignment: Consignment) -> Result<(), Turned> {
        self.hub.hand_over(consignment)
    }

    fn name(&self) -> &'static str {
        NAME
    }

    fn ping(&self, device: DeviceId) -> Result<(), Turned> {
        self.hub.ping(device)
    }

    fn tell(&self, notice: Notice) {
        match notice {
            Notice::Expelled(device) => self.hub.expel(device),
            // ntfy has no word for either: an app learns of a removed topic when it is pushed to.
            Notice::Plan(..) | Notice::Unregistered(..) => {}
        }
    }
}

fn preflight() -> Response<web::Body> {
    let mut response = web::answer(StatusCode::OK, "");
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, PUT, POST, PATCH, DELETE"));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("*"));
    response
}

/// What ntfy's web app asks first. There is no account that one could make here.
fn config(script: bool) -> Response<web::Body> {
    let config = json!({
        "base_url": "", "app_root": "/", "enable_login": true, "require_login": false, "enable_signup": false,
        "enable_payments": false, "enable_calls": false, "enable_emails": false, "enable_reservations": false,
        "enable_reset_password": false, "enable_web_push": false, "billing_contact": "",
        "web_push_public_key": "", "disallowed_topics": RESERVED,
        // By another one, the web app would know that it has to load itself anew: this never changes.
        "config_hash": "1",
    });
    if !script {
        return answer_json(StatusCode::OK, &config);
    }
    let mut response = web::answer(StatusCode::OK, format!("var config = {config};\n"));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/javascript"));
    response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}
