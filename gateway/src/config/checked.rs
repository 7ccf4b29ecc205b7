//! The settings as the rooms use them.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use crate::model::{Bounds, Budgets, Profile, Quiet};

use ipnet::IpNet;

/// Checked settings.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// How much one registration may get.
    pub limits: LimitsConfig,
    /// Whether the home listener is announced by mDNS.
    pub announce: bool,
    /// The Autopush room.
    pub autopush: AutopushConfig,
    /// The HTTP listener for the owner's own network, if any.
    pub home: Option<SocketAddr>,
    /// `tracing` filter, for example `info` or `unifiedpush_gateway::wake=debug`.
    pub log: String,
    /// The MQTT room.
    pub mqtt: MqttConfig,
    /// Where to be an open broker; a loopback address. The command line alone can say so.
    pub open_broker: Option<SocketAddr>,
    /// The ntfy room.
    pub ntfy: NtfyConfig,
    /// The HTTP listener for application servers.
    pub public: PublicConfig,
    /// Where the state lives; created on first start with mode 0700.
    pub state_dir: PathBuf,
    /// Whose word about where a request comes from is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Connections that stay.
    pub web: WebConfig,
    /// When devices are woken.
    pub wake: WakeConfig,
    /// The XMPP room, if there is to be one.
    pub xmpp: Option<XmppConfig>,
}

/// `[transport.autopush]`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AutopushConfig {
    /// Whether the room is open.
    pub enabled: bool,
}

/// `[transport.ntfy]`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NtfyConfig {
    /// Which topics may be pushed to without a login.
    pub anonymous_publish: AnonymousPublish,
    /// Whether the home listener's visitors may subscribe without a login.
    pub anonymous_subscribe: bool,
    /// Whether the room is open.
    pub enabled: bool,
    /// How many topics that nobody has one source may name within an hour, without a login.
    pub max_new_topics_per_source: usize,
}

/// `anonymous_publish`
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum AnonymousPublish {
    /// Every topic.
    All,
    /// None.
    None,
    /// Those that begin with `up`, which distributors make up.
    #[default]
    UnifiedPush,
}

/// `[transport.web]`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct WebConfig {
    /// How many WebSockets and streams at once.
    pub max_connections: usize,
    /// How many of them from one source.
    pub max_connections_per_source: usize,
}

/// `[transport.xmpp]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct XmppConfig {
    /// The domains whose accounts may register, in lower case.
    pub allowed_domains: Vec<String>,
    /// The name of the component, in lower case.
    pub component: String,
    /// How many registrations one account may have.
    pub max_registrations_per_account: usize,
    /// Where the component's secret lies; `None`: nowhere that is known here.
    pub secret_file: Option<PathBuf>,
    /// Where the XMPP server listens for components.
    pub server: SocketAddr,
}

/// `[limits]`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LimitsConfig {
    /// Messages that a registration may get at once after a rest.
    pub burst: u16,
    /// Messages a second that it may get for ever; 0: as many as come.
    pub per_second: u16,
    /// How much may wait.
    pub waiting: Bounds,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self { burst: 600, per_second: 10, waiting: Bounds::default() }
    }
}

/// `[wake]`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct WakeConfig {
    /// What the profile `balanced` means.
    pub balanced: Budgets,
    /// So many wakes an hour may one registration cause by what can wait; `None`: any number.
    pub max_wakes: Option<u16>,
    /// The profile of devices whose owner has chosen none.
    pub profile: Profile,
    /// The quiet hours of devices whose owner has chosen none.
    pub quiet: Option<Quiet>,
    /// What the profile `saver` means.
    pub saver: Budgets,
    /// How long a radio stays up after a packet.
    pub tail: Duration,
}

/// `[public]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PublicConfig {
    /// Where to listen.
    pub listen: SocketAddr,
    /// How many connections at once.
    pub max_connections: usize,
    /// What a push without `TTL` gets.
    pub missing_ttl: MissingTtl,
    /// The origin of endpoints, without a trailing slash: `https://push.example.org`.
    /// `None`: `http://` and the bound address.
    pub url: Option<String>,
    /// A listener with TLS beside it, if any.
    pub tls: Option<Tls>,
}

/// `missing_ttl`
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum MissingTtl {
    /// One day: UnifiedPush senders exist that send none.
    #[default]
    OneDay,
    /// 400, as RFC 8030 §5.2 asks.
    Refuse,
}

/// `[transport.mqtt]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MqttConfig {
    /// The host that pairing URIs name; `None`: the listening address.
    pub host: Option<String>,
    /// Where to listen without TLS.
    pub listen: SocketAddr,
    /// How many connections at once.
    pub max_connections: usize,
    /// How many of them from one IPv4 address or one IPv6 /64; those from this machine are not counted.
    pub max_connections_per_source: usize,
    /// The longest keep-alive in seconds; also what a client's 0 means.
    pub max_keep_alive_s: u16,
    /// A listener with TLS, if any.
    pub tls: Option<Tls>,
}

/// `[public.tls]`, `[transport.mqtt.tls]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tls {
    /// Whose certificate is shown.
    pub certificate: Certificate,
    /// Where to listen.
    pub listen: SocketAddr,
}

/// `certificate` and `key`
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Certificate {
    /// Ordered from a public authority (RFC 8555).
    Acme(Acme),
    /// Kept by somebody else, in PEM files.
    Files {
        /// The certificate chain, the gateway's own first.
        certificate: PathBuf,
        /// Its private key.
        key: PathBuf,
    },
    /// Issued by the gateway's own authority.
    Own {
        /// Where the authority is kept.
        dir: PathBuf,
        /// The configured names of this gateway, without brackets.
        names: Vec<String>,
    },
}

/// `[public.tls.acme]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Acme {
    /// Whom the authority may write to.
    pub contact: Option<String>,
    /// Where account and certificates are kept.
    pub dir: PathBuf,
    /// The authority's directory (RFC 8555 §7.1.1).
    pub directory: String,
    /// The name that the certificate is for.
    pub domain: String,
}

/// What the command line says over the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--config`
    pub config: Option<PathBuf>,
    /// `--mqtt`
    pub mqtt: Option<SocketAddr>,
    /// `--open-broker`
    pub open_broker: Option<SocketAddr>,
    /// `--public`
    pub public: Option<SocketAddr>,
    /// `--state-dir`
    pub state_dir: Option<PathBuf>,
}

/// A setting that cannot be used. Its text names file, key, what is wrong and what would be right.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);
