//! The file as it is written: every key optional, unknown keys refused, nothing judged yet.
//!
//! Addresses and words stay text here, so that [`super::checked`] can say what would be right; the
//! parser only knows what is not.

use std::path::PathBuf;

use serde::Deserialize;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConfig {
    #[serde(default)]
    pub(super) limits: RawLimits,
    pub(super) home: Option<RawHome>,
    pub(super) log: Option<String>,
    #[serde(default)]
    pub(super) public: RawPublic,
    pub(super) state_dir: Option<PathBuf>,
    #[serde(default)]
    pub(super) transport: RawTransport,
    pub(super) trusted_proxies: Option<Vec<String>>,
    #[serde(default)]
    pub(super) wake: RawWake,
}

/// `[home]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawHome {
    pub(super) allow_public: Option<bool>,
    pub(super) announce: Option<bool>,
    pub(super) listen: Option<String>,
}

/// `[limits]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLimits {
    pub(super) burst: Option<Whole>,
    pub(super) per_second: Option<Whole>,
    pub(super) waiting_mb_per_device: Option<Whole>,
    pub(super) waiting_mb_per_registration: Option<Whole>,
    pub(super) waiting_per_device: Option<Whole>,
    pub(super) waiting_per_registration: Option<Whole>,
    pub(super) when_full: Option<String>,
}

/// `[wake]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawWake {
    #[serde(default)]
    pub(super) balanced: RawBudgets,
    pub(super) max_wakes_per_registration_per_hour: Option<Whole>,
    pub(super) profile: Option<String>,
    pub(super) quiet_hours: Option<String>,
    pub(super) radio_tail_s: Option<Whole>,
    #[serde(default)]
    pub(super) saver: RawBudgets,
}

/// `[wake.balanced]`, `[wake.saver]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawBudgets {
    pub(super) low_s: Option<Whole>,
    pub(super) normal_s: Option<Whole>,
    pub(super) very_low_s: Option<Whole>,
}

/// `[public]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPublic {
    pub(super) listen: Option<String>,
    pub(super) max_connections: Option<Whole>,
    pub(super) missing_ttl: Option<String>,
    pub(super) tls: Option<RawPublicTls>,
    pub(super) url: Option<String>,
}

/// `[public.tls]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPublicTls {
    pub(super) acme: Option<RawAcme>,
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    pub(super) listen: Option<String>,
}

/// `[public.tls.acme]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAcme {
    pub(super) agree_to_terms: Option<bool>,
    pub(super) contact: Option<String>,
    pub(super) directory: Option<String>,
}

/// `[transport]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTransport {
    #[serde(default)]
    pub(super) autopush: RawAutopush,
    #[serde(default)]
    pub(super) mqtt: RawMqtt,
    #[serde(default)]
    pub(super) ntfy: RawNtfy,
    #[serde(default)]
    pub(super) web: RawWeb,
    pub(super) xmpp: Option<RawXmpp>,
}

/// `[transport.autopush]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAutopush {
    pub(super) enabled: Option<bool>,
}

/// `[transport.ntfy]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawNtfy {
    pub(super) anonymous_publish: Option<String>,
    pub(super) anonymous_subscribe: Option<bool>,
    pub(super) enabled: Option<bool>,
    pub(super) max_new_topics_per_source: Option<Whole>,
}

/// `[transport.web]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawWeb {
    pub(super) max_connections: Option<Whole>,
    pub(super) max_connections_per_source: Option<Whole>,
}

/// `[transport.xmpp]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawXmpp {
    pub(super) allow_public_plain: Option<bool>,
    pub(super) allowed_domains: Option<Vec<String>>,
    pub(super) component: Option<String>,
    pub(super) max_registrations_per_account: Option<Whole>,
    pub(super) secret_file: Option<PathBuf>,
    pub(super) server: Option<String>,
}

/// `[transport.mqtt]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawMqtt {
    pub(super) allow_public_plain: Option<bool>,
    pub(super) host: Option<String>,
    pub(super) listen: Option<String>,
    pub(super) max_connections: Option<Whole>,
    pub(super) max_connections_per_source: Option<Whole>,
    pub(super) max_keep_alive_s: Option<Whole>,
    pub(super) tls: Option<RawTls>,
}

/// `[transport.mqtt.tls]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTls {
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    pub(super) listen: Option<String>,
}

/// A number whose range is checked later. An enum only because `expecting` then replaces the
/// parser's "expected i64" by words for people.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged, expecting = "expected a whole number without quotes, such as 1024")]
pub(super) enum Whole {
    Number(i64),
}
