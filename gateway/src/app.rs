//! Wiring: opens, binds, joins the rooms, waits, and drains in order.
//!
//! The only place that knows all concrete types.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    sync::Arc,
};

use tokio::{
    sync::{Notify, mpsc, watch},
    task::{JoinHandle, JoinSet},
};

#[cfg(feature = "xmpp")]
use crate::transport::xmpp::{self, XmppRoom};
use crate::{
    ack, admission,
    clock::{Clock as _, SharedClock, SystemClock},
    config::{Certificate, Config, ConfigError, MissingTtl, Tls, WakeConfig},
    console::{self, Status},
    ingress,
    meter::{self, Meter},
    model::{DeviceId, Habit, Tally, history::Sheets},
    registry::{Origin, Registry, Security},
    store::{Accounts, Closer, OpenError, Store},
    system::{self, ServiceState, Sockets, SocketsError, Vital},
    telemetry::Telemetry,
    tls::{Acceptor, Renewal, TlsError},
    transport::{
        Transport,
        autopush::{self, AutopushRoom},
        mqtt,
        ntfy::{self, NtfyRoom},
        web::{Hosted, Stays},
    },
    wake,
};

/// Reports under way from the transports to the planner. A room that reports faster waits for it.
const REPORTS: usize = 1024;
/// Two threads serve the sockets: a board has four small cores, of which the disk and the router take
/// theirs, and each thread costs memory.
const WORKERS: usize = 2;

/// Why the gateway could not start, or stopped by itself. The text goes to standard error.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A listener could not be bound.
    #[error("cannot listen on {address} ({key}): {error}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
        /// The setting that says so.
        key: &'static str,
    },
    /// The MQTT room could not be bound.
    #[error("{0}")]
    BindMqtt(#[from] mqtt::BindError),
    /// A file that the settings name cannot be used.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// The control socket could not be bound.
    #[error("{0}")]
    Control(#[from] console::BindError),
    /// The MQTT router has died: the service manager is to start the gateway again.
    #[error("{0}; stopping, so that a restart can mend it")]
    Router(#[from] mqtt::RouterDied),
    /// The system gave no runtime, no signal handler or no standard output.
    #[error("{0}")]
    System(#[from] io::Error),
    /// What the service manager passed cannot be used: a mistake in a unit.
    #[error("{0}")]
    Sockets(#[from] SocketsError),
    /// The store did not open.
    #[error("{0}")]
    Store(#[from] OpenError),
    /// The certificate of `[public.tls]` cannot be used.
    #[error("{0}")]
    Tls(#[from] TlsError),
}

/// Runs the gateway until SIGTERM or SIGINT, then drains.
///
/// # Errors
/// [`RunError`].
pub fn run_blocking(config: Config) -> Result<(), RunError> {
    // Here, where there is but one thread.
    let passed = Sockets::inherit()?;
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()?
        .block_on(run(&config, passed))
}

async fn run(config: &Config, mut passed: Sockets) -> Result<(), RunError> {
    if let Err(error) = system::start_log(&config.log) {
        return Err(io::Error::other(error).into());
    }
    let speed = clock_speed();
    if speed > 1 {
        tracing::warn!(speed, "the clock runs faster than it should, for a test");
    }
    let clock = Arc::new(SystemClock::at_speed(speed));
    let runtime_dir = console::runtime_dir();
    let scratch = runtime_dir.clone().unwrap_or_else(std::env::temp_dir);
    let Store { accounts, archive, backlog, closer, intake, ledger, newest } =
        Store::open_readable(&config.state_dir, &scratch, |newest| {
            clock.raise_floor(newest);
            clock.moment()
        })?;
    intake.bound(config.limits.waiting);
    clock.raise_floor(newest);
    let clock: SharedClock = clock;
    let telemetry = Arc::new(Telemetry::default());

    // Everything is bound before anything is served: a gateway that is half there answers nobody.
    let public = match passed.take("public") {
        Some(socket) => ingress::Public::from_std(socket),
        None => ingress::Public::bind(config.public.listen).await,
    };
    let public = public.map_err(|error| RunError::Bind {
        address: config.public.listen,
        error,
        key: "public.listen",
    })?;
    let public = match config.home {
        Some(address) => {
            let public = match passed.take("home") {
                Some(socket) => public.with_home_from_std(socket),
                None => public.with_home(address).await,
            };
            public.map_err(|error| RunError::Bind { address, error, key: "home.listen" })?
        }
        None => public,
    };
    let acceptor =
        config.public.tls.as_ref().map(|tls| Acceptor::new("HTTPS", &tls.certificate)).transpose()?;
    let public = match (&config.public.tls, &acceptor) {
        (Some(Tls { listen: address, .. }), Some(acceptor)) => {
            let (address, acceptor) = (*address, acceptor.clone());
            let public = match passed.take("https") {
                Some(socket) => public.with_tls_from_std(socket, acceptor),
                None => public.with_tls(address, acceptor).await,
            };
            public.map_err(|error| RunError::Bind { address, error, key: "public.tls.listen" })?
        }
        _ => public,
    };
    let sockets = mqtt::Passed {
        plain: passed.take("mqtt"),
        secure: config.mqtt.tls.as_ref().and_then(|_| passed.take("mqtts")),
    };
    let room = mqtt::MqttRoom::bind_rest(&config.mqtt, sockets)?;
    for name in passed.rest() {
        tracing::error!(
            name,
            "the service manager holds a socket that no setting asks for; what connects to it waits in vain: disable its socket unit, or set it up"
        );
    }
    let open_broker = config.open_broker.map(mqtt::BoundBroker::bind).transpose()?;
    let control = console::Server::bind(&config.state_dir, runtime_dir.as_deref())?;

    let (http, home, mqtt) = (public.local_addr()?, public.home_addr()?, room.local_addr());
    let https = public.secure_addr()?;
    let said_and_is = [
        ("public.listen", Some(config.public.listen), Some(http)),
        ("transport.mqtt.listen", Some(config.mqtt.listen), Some(mqtt)),
        ("home.listen", config.home, home),
        ("public.tls.listen", config.public.tls.as_ref().map(|tls| tls.listen), https),
    ];
    for (key, said, is) in said_and_is.into_iter().filter_map(|(key, said, is)| Some((key, said?, is?))) {
        if said.port() != 0 && said != is {
            tracing::warn!(key, %said, %is, "the service manager's socket unit decides where to listen; change it there");
        }
    }
    let secure = room.secure_addr();
    let origin = origin(config, http, mqtt, secure.map(|address| (address, room.fingerprint())));
    let base = origin.url.clone();
    let (notices_in, mut notices) = mpsc::unbounded_channel();
    // Fails only while everything is being dropped.
    let notify = Box::new(move |notice| drop(notices_in.send(notice)));
    let ntfy_key = accounts.key("ntfy");
    #[cfg(feature = "xmpp")]
    let xmpp_key = accounts.key("xmpp");
    let (changes_in, changed) = mpsc::unbounded_channel();
    let meter = Arc::new(Meter::new(Box::new(Tallies(accounts.clone())), config.wake.tail));
    let registry = Registry::new(accounts, Arc::clone(&clock), origin, notify).metered(Arc::clone(&meter));
    let registry = Arc::new(registry.telling(Box::new(move |device| {
        let _ = changes_in.send(device);
    })));

    let rate = admission::Rate { burst: config.limits.burst, per_second: config.limits.per_second };
    let (stop, stopped) = watch::channel(false);
    let (stop_devices, devices_stopped) = watch::channel(false);
    let (reports_in, reports) = mpsc::channel(REPORTS);
    let (stop_planner, planner_stopped) = watch::channel(false);
    let room = room.open(Arc::clone(&registry) as _, reports_in.clone(), Arc::clone(&clock))?;
    let mut transports: Vec<Arc<dyn Transport>> = vec![Arc::clone(&room) as _];
    let mut hosted: Vec<Arc<dyn Hosted>> = vec![Arc::clone(&room) as _];
    let mut guests = JoinSet::new();
    if config.autopush.enabled {
        let (directory, clock) = (Arc::clone(&registry) as _, Arc::clone(&clock));
        let limits = autopush::Limits::default();
        let room = AutopushRoom::open(base.clone(), directory, reports_in.clone(), clock, limits);
        transports.push(Arc::clone(&room) as _);
        hosted.push(Arc::clone(&room) as _);
        guests.spawn(room.run(devices_stopped.clone()));
    }

    let ntfy = config.ntfy.enabled.then(|| {
        let shelf = Arc::new(wake::Shelf::new(backlog.reader(), Arc::clone(&clock)));
        let (directory, clock) = (Arc::clone(&registry) as _, Arc::clone(&clock));
        let (reports, limits) = (reports_in.clone(), ntfy::Limits::default());
        NtfyRoom::open(config.ntfy, &ntfy_key, directory, shelf, reports, clock, limits)
    });
    if let Some(room) = &ntfy {
        transports.push(Arc::clone(room) as _);
        hosted.push(Arc::clone(room) as _);
        guests.spawn(Arc::clone(room).run(devices_stopped.clone()));
    }

    #[cfg(feature = "xmpp")]
    if let Some(settings) = &config.xmpp {
        let (intake, clock, telemetry) = (intake.clone(), Arc::clone(&clock), Arc::clone(&telemetry));
        let post = ingress::Counter::new(intake, rate, Arc::clone(&clock), telemetry);
        let house = xmpp::House {
            clock,
            directory: Arc::clone(&registry) as _,
            post: Arc::new(post),
            reports: reports_in.clone(),
        };
        let (settings, secret) = (settings.clone(), settings.secret()?);
        let room = XmppRoom::open(settings, secret, &xmpp_key, house, xmpp::Limits::default());
        transports.push(Arc::clone(&room) as _);
        guests.spawn(room.run(devices_stopped.clone()));
    }

    let driver = wake::Driver::new(
        backlog,
        transports.clone(),
        Arc::clone(&clock),
        Box::new(ack::Settlement::new(ledger, Arc::clone(&telemetry))),
        Arc::clone(&telemetry),
        wishes(config, &registry, changed, meter),
    );
    let planner = tokio::spawn(driver.run(reports, planner_stopped));
    let telling = tokio::spawn(async move {
        while let Some(notice) = notices.recv().await {
            transports.iter().for_each(|transport| transport.tell(notice.clone()));
        }
    });
    let vitals = vitals(&telemetry, &closer, &room);
    let mut devices = tokio::spawn(Arc::clone(&room).run(devices_stopped));
    let state = ingress::State {
        base,
        clock: Arc::clone(&clock),
        intake,
        limits: ingress::Limits { max_connections: config.public.max_connections, ..Default::default() },
        missing_ttl: match config.public.missing_ttl {
            MissingTtl::OneDay => admission::MissingTtl::OneDay,
            MissingTtl::Refuse => admission::MissingTtl::Refuse,
        },
        rate,
        reception: ingress::Reception {
            hosted,
            ntfy,
            stays: Stays::new(config.web.max_connections, config.web.max_connections_per_source),
            trial: config.public.url.is_none() && http.ip().is_loopback(),
            trusted_proxies: config.trusted_proxies.clone(),
        },
        telemetry,
    };
    let serving = tokio::spawn(public.serve(state, stopped.clone()));
    let status = Status {
        home: home.map(|home| format!("http://{home}")),
        https: https.map(|https| format!("https://{https}")),
        mqtt: format!("mqtt://{mqtt}"),
        mqtts: secure.map(|address| format!("mqtts://{address}")),
        public: format!("http://{http}"),
    };
    let mut ready = format!("ready public={} mqtt={}", status.public, status.mqtt);
    let more = [("mqtts", &status.mqtts), ("home", &status.home), ("https", &status.https)];
    for (name, address) in more.iter().filter_map(|(name, address)| Some((name, address.as_ref()?))) {
        ready += &format!(" {name}={address}");
    }
    // It belongs to nobody's data flow: it ends whenever it likes, and nobody waits for it but the exit.
    let open_broker = open_broker.map(|bound| {
        ready.push_str(&format!(" open-broker=mqtt://{}", bound.local_addr()));
        let (clock, stopped) = (Arc::clone(&clock), stopped.clone());
        tokio::task::spawn_blocking(move || bound.run_apart(clock, stopped))
    });
    let owning = tokio::spawn(control.run(registry, archive, status, stopped.clone()));

    let hurry = Arc::new(Notify::new());
    // It belongs to nobody's data flow either.
    if let (Some(Tls { certificate: Certificate::Acme(settings), .. }), Some(acceptor)) =
        (&config.public.tls, &acceptor)
    {
        let renewal = Renewal::new(acceptor.clone(), settings.clone())?;
        tokio::spawn(renewal.run(Arc::clone(&clock), Arc::clone(&hurry), stopped));
    }

    let mut termination = system::Termination::catch()?;
    let mut hangup = system::Hangup::catch()?;
    say(&ready)?;
    system::notify(ServiceState::Ready);
    let announcement = home.filter(|_| config.announce).and_then(|home| announce(home, mqtt));
    let watching = system::Watchdog::from_env().map(|watchdog| tokio::spawn(watchdog.feed(vitals)));
    tracing::info!("{ready}");

    let died = loop {
        tokio::select! {
            () = termination.come() => break None,
            died = &mut devices => break Some(died),
            () = hangup.come() => {
                room.reload();
                if let Some(acceptor) = &acceptor {
                    acceptor.look(clock.moment(), true);
                }
                hurry.notify_waiters();
            }
            () = closer.ended() => return Err(io::Error::other("the store has ended; stopping, so that a restart can mend it").into()),
        }
    };
    tracing::info!("stopping");
    system::notify(ServiceState::Stopping);
    drop(announcement);
    // In the order data flows, so that each room finds the next one still there.
    let _ = stop.send(true);
    // The time that draining may take is the service manager's to watch.
    if let Some(watching) = watching {
        watching.abort();
    }
    ended(serving).await;
    ended(owning).await;
    if let Some(open_broker) = open_broker {
        ended(open_broker).await;
    }
    let _ = stop_devices.send(true);
    let died = match died {
        Some(died) => died,
        None => devices.await,
    };
    while guests.join_next().await.is_some() {}
    // It would wait for the registry's end, which the room that it tells holds.
    telling.abort();
    let _ = stop_planner.send(true);
    ended(planner).await;
    closer.close().await;
    match died {
        Ok(outcome) => Ok(outcome?),
        Err(panic) => Err(io::Error::other(format!("the MQTT room ended: {panic}")).into()),
    }
}

/// How many times as fast as it should the clock is to run. Only builds with debug assertions ask.
fn clock_speed() -> u32 {
    let asked = cfg!(debug_assertions).then(|| std::env::var("UNIFIEDPUSH_GATEWAY_CLOCK_SPEED"));
    asked.and_then(|asked| asked.ok()?.parse().ok()).unwrap_or(1)
}

/// Tells the owner's network where the gateway is. A network that cannot be told is no reason not to run.
fn announce(home: SocketAddr, mqtt: SocketAddr) -> Option<system::Announcement> {
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    // By mDNS only the first label is ours.
    let host = host.as_deref().and_then(|name| name.split('.').next()).filter(|name| !name.is_empty());
    let services = [("_unifiedpush._tcp", home), ("_mqtt._tcp", mqtt)];
    system::Announcement::begin(host.unwrap_or("unifiedpush-gateway"), &services).unwrap_or_else(|error| {
        tracing::warn!(%error, "devices have to be told the address");
        None
    })
}

/// What the planner goes by: the configuration, and what was chosen for each device.
fn wishes(
    config: &Config,
    registry: &Arc<Registry>,
    changed: mpsc::UnboundedReceiver<DeviceId>,
    meter: Arc<Meter>,
) -> wake::Wishes {
    let WakeConfig { balanced, max_wakes, profile, quiet, saver, tail } = config.wake;
    let asked = Arc::clone(registry);
    let devices: Vec<_> = registry.devices().into_iter().map(|(device, _)| device.id).collect();
    wake::Wishes {
        changed,
        chosen: Box::new(move |device| asked.preferences(device)),
        floors: devices.iter().filter_map(|&device| Some((device, registry.floor(device)?))).collect(),
        devices,
        max_keep_alive_s: config.mqtt.max_keep_alive_s.into(),
        memory: Box::new(Habits(Arc::clone(registry))),
        meter,
        policy: wake::Policy { balanced, cap: max_wakes, profile, quiet, saver, tau: tail },
    }
}

/// What could get stuck without the process noticing, and the questions that show that it has not.
fn vitals(telemetry: &Arc<Telemetry>, closer: &Closer, room: &Arc<mqtt::MqttRoom>) -> Vec<Vital> {
    let (telemetry, heart, room) = (Arc::clone(telemetry), closer.heart(), Arc::clone(room));
    vec![
        (
            "planner",
            Box::new(move || {
                let telemetry = Arc::clone(&telemetry);
                Box::pin(async move { telemetry.planner.ask().await })
            }),
        ),
        (
            "committer",
            Box::new(move || {
                let heart = heart.clone();
                Box::pin(async move { heart.beat().await })
            }),
        ),
        (
            "router",
            Box::new(move || {
                let room = Arc::clone(&room);
                Box::pin(async move { room.beat().await })
            }),
        ),
    ]
}

/// The registry, as the learner of keep-alives sees it.
struct Habits(Arc<Registry>);

impl wake::keep_alive::Memory for Habits {
    fn recall(&self, device: DeviceId) -> Habit {
        self.0.habit(device)
    }

    fn remember(&self, device: DeviceId, habit: Habit) {
        self.0.put_habit(device, habit);
    }
}

/// The store, as the meter sees it.
struct Tallies(Accounts);

impl meter::Archive for Tallies {
    fn history(&self, device: DeviceId) -> Sheets {
        self.0.history(device)
    }

    fn recall(&self, device: DeviceId) -> Option<Tally> {
        self.0.device(device).map(|_| self.0.tally(device))
    }

    fn write(&self, device: DeviceId, tally: Tally, sheets: Sheets) {
        // A dropped commit is written all the same; what is lost by a power cut are counts of an hour.
        if let Err(error) = self.0.put_tally(device, tally, sheets) {
            tracing::debug!(%device, %error, "what was counted is not written down");
        }
    }
}

/// Waits for a task; a panic in it was logged where it happened and must not end the draining.
async fn ended(task: JoinHandle<()>) {
    if let Err(error) = task.await {
        tracing::error!(%error, "a task ended badly");
    }
}

/// Where the gateway is reached, by its settings and what it has bound.
fn origin(
    config: &Config,
    http: SocketAddr,
    plain: SocketAddr,
    secure: Option<(SocketAddr, Option<String>)>,
) -> Origin {
    let (devices, security) =
        secure.map_or((plain, Security::Plain), |(address, ca)| (address, Security::Tls { ca }));
    Origin::new(config.public.url.as_deref(), http, config.mqtt.host.as_deref(), devices, security)
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
