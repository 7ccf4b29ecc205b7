//! From raw values to checked ones. Whatever passes here can be used without a further look.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};

use ipnet::IpNet;

use super::{
    Acme, AnonymousPublish, Certificate, ConfigError, LimitsConfig, MissingTtl, MqttConfig, NtfyConfig,
    Overrides, PublicConfig, Tls, WebConfig, address,
    raw::{RawAcme, RawHome, RawLimits, RawMqtt, RawNtfy, RawPublic, RawPublicTls, RawWeb, Whole},
    source::Source,
};
use crate::model::{Bound, Bounds, WhenFull};

/// Where in the state directory the gateway's own certificate authority is kept.
const OWN_CERTIFICATE: &str = "tls";

/// Where in there, what was ordered by ACME is.
const ACME: &str = "acme";

/// What a gateway without any configuration does. The example file documents the same values.
pub(super) mod default {
    use super::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

    pub(in crate::config) const ACME: &str = "https://acme-v02.api.letsencrypt.org/directory";
    pub(in crate::config) const LOG: &str = "info";
    pub(in crate::config) const PUBLIC: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
    pub(in crate::config) const MQTT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1883);
    /// Enough for a household's devices, or a hundred application servers at once, and small
    /// against the 1,024 file descriptors that a process gets unless it asks for more.
    pub(in crate::config) const CONNECTIONS: u16 = 1024;
    /// More phones than one household behind one address has, and few enough that no single
    /// stranger takes all places.
    pub(in crate::config) const CONNECTIONS_PER_SOURCE: u16 = 64;
    /// 28 minutes: just under the half hour after which mobile networks forget an idle connection.
    pub(in crate::config) const KEEP_ALIVE_S: u16 = 1680;
    /// Enough for every app of every phone of a household, which come from one address.
    pub(in crate::config) const NEW_TOPICS: u16 = 100;
    /// What speaks from this machine to a listener on it is most often a proxy, and always the owner's.
    pub(in crate::config) const PROXIES: [IpAddr; 2] =
        [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    /// Enough for every phone of a large household, and about 50 MB if all of them come.
    pub(in crate::config) const STAYS: u16 = 4096;
    /// A household behind NAT, or behind a proxy that nobody has named, is one source.
    pub(in crate::config) const STAYS_PER_SOURCE: u16 = 256;
}

/// Where the values came from: what the checks need besides them.
#[derive(Debug)]
pub(super) struct Checker<'a> {
    /// Relative paths in the file start here.
    pub(super) base: &'a Path,
    /// The command line.
    pub(super) overrides: &'a Overrides,
    /// The file; without one there is no raw value that could be wrong.
    pub(super) source: Option<&'a Source<'a>>,
}

/// A listening address and where it was said, for the error about it.
#[derive(Clone, Copy, Debug)]
struct Listen<'k> {
    address: SocketAddr,
    said_by: &'k str,
}

/// `certificate` and `key` of a table.
#[derive(Clone, Copy, Debug)]
struct Files<'r> {
    certificate: Option<&'r Path>,
    key: Option<&'r Path>,
}

impl Checker<'_> {
    /// `--open-broker`: an open door, which no other machine may reach.
    pub(super) fn open_broker(&self) -> Result<Option<SocketAddr>, ConfigError> {
        match self.overrides.open_broker {
            Some(address) if !address.ip().is_loopback() => Err(ConfigError(format!(
                "--open-broker: {address} is not on the loopback, and whoever reaches an open broker may read and \
                 write everything on it; write an address such as 127.0.0.1:1884 or [::1]:1884"
            ))),
            said => Ok(said),
        }
    }

    /// `[limits]`
    pub(super) fn limits(&self, raw: &RawLimits) -> Result<LimitsConfig, ConfigError> {
        let default = LimitsConfig::default();
        let when_full = match raw.when_full.as_deref() {
            None => WhenFull::default(),
            Some("expire-oldest") => WhenFull::ExpireOldest,
            Some("refuse") => WhenFull::Refuse,
            Some(other) => {
                return Err(self.error(
                    "limits.when_full",
                    &format!("`{other}`; write expire-oldest (the oldest of the same endpoint expire early) or refuse (429)"),
                ));
            }
        };
        Ok(LimitsConfig {
            burst: self.within("limits.burst", raw.burst, 1, u16::MAX, default.burst)?,
            per_second: self.within("limits.per_second", raw.per_second, 0, u16::MAX, default.per_second)?,
            waiting: Bounds {
                device: self.bound(
                    ("limits.waiting_per_device", raw.waiting_per_device),
                    ("limits.waiting_mb_per_device", raw.waiting_mb_per_device),
                    default.waiting.device,
                )?,
                registration: self.bound(
                    ("limits.waiting_per_registration", raw.waiting_per_registration),
                    ("limits.waiting_mb_per_registration", raw.waiting_mb_per_registration),
                    default.waiting.registration,
                )?,
                when_full,
            },
        })
    }

    fn bound(
        &self,
        (count_key, count): (&str, Option<Whole>),
        (mb_key, mb): (&str, Option<Whole>),
        default: Bound,
    ) -> Result<Bound, ConfigError> {
        let short = |number: u64| u16::try_from(number).unwrap_or(u16::MAX);
        let messages = self.within(count_key, count, 1, u16::MAX, short(default.messages.into()))?.into();
        let mb = self.within(mb_key, mb, 1, u16::MAX, short(default.bytes >> 20))?;
        Ok(Bound { bytes: u64::from(mb) << 20, messages })
    }

    /// `[public]`
    pub(super) fn public(&self, raw: &RawPublic, state_dir: &Path) -> Result<PublicConfig, ConfigError> {
        let listen = self.listen(
            ("--public", self.overrides.public),
            ("public.listen", raw.listen.as_deref()),
            default::PUBLIC,
        )?;
        let missing_ttl = match raw.missing_ttl.as_deref() {
            None => MissingTtl::default(),
            Some("one-day") => MissingTtl::OneDay,
            Some("refuse") => MissingTtl::Refuse,
            Some(other) => {
                return Err(self.error(
                    "public.missing_ttl",
                    &format!("`{other}` is unknown; write \"one-day\" or \"refuse\""),
                ));
            }
        };
        let url = raw.url.as_deref().map(address::origin).transpose();
        let url = url.map_err(|what| self.error("public.url", &what))?;
        let tls = raw
            .tls
            .as_ref()
            .map(|raw| self.public_tls(raw, listen, url.as_deref(), state_dir))
            .transpose()?;
        Ok(PublicConfig {
            listen: listen.address,
            max_connections: self
                .within("public.max_connections", raw.max_connections, 1, u16::MAX, default::CONNECTIONS)?
                .into(),
            missing_ttl,
            tls,
            url,
        })
    }

    /// `[public.tls]`
    fn public_tls(
        &self,
        raw: &RawPublicTls,
        plain: Listen<'_>,
        url: Option<&str>,
        state_dir: &Path,
    ) -> Result<Tls, ConfigError> {
        let table = "public.tls";
        let Some(url) = url.filter(|url| url.starts_with("https://")) else {
            return Err(self.error(
                "public.url",
                "does not say by which https:// name [public.tls] is reached; write url = \"https://push.example.org\" in [public]",
            ));
        };
        let files = Files { certificate: raw.certificate.as_deref(), key: raw.key.as_deref() };
        let dir = state_dir.join(OWN_CERTIFICATE);
        let names = address::names(None, Some(url));
        let tls = match &raw.acme {
            None => self.tls(table, raw.listen.as_deref(), files, || Certificate::Own { dir, names })?,
            Some(acme) if files.certificate.is_some() || files.key.is_some() => {
                if acme.agree_to_terms == Some(true) {
                    return Err(self.error(
                        "public.tls.acme.agree_to_terms",
                        "orders a certificate although files are named in [public.tls]; keep one of the two",
                    ));
                }
                self.tls(table, raw.listen.as_deref(), files, || Certificate::Own { dir, names })?
            }
            Some(acme) => {
                let certificate = Certificate::Acme(self.acme(acme, &names, dir.join(ACME))?);
                self.tls(table, raw.listen.as_deref(), files, || certificate)?
            }
        };
        self.distinct(Listen { address: tls.listen, said_by: "public.tls.listen" }, plain.address, "HTTP")?;
        Ok(tls)
    }

    /// `[public.tls.acme]`
    fn acme(&self, raw: &RawAcme, names: &[String], dir: PathBuf) -> Result<Acme, ConfigError> {
        if raw.agree_to_terms != Some(true) {
            return Err(self.error(
                "public.tls.acme.agree_to_terms",
                "is not true; read the authority's terms (https://letsencrypt.org/repository/) and write agree_to_terms = true",
            ));
        }
        let domain = names.first().filter(|name| name.contains('.') && name.parse::<IpAddr>().is_err());
        let Some(domain) = domain else {
            return Err(self.error("public.url", "names no domain, for which alone an authority issues a certificate; write one such as https://push.example.org"));
        };
        let contact = raw.contact.as_deref().map(|contact| contact.trim_start_matches("mailto:").to_owned());
        if contact.as_ref().is_some_and(|contact| !contact.contains('@') || contact.contains([' ', ','])) {
            return Err(self.error(
                "public.tls.acme.contact",
                "is not a mail address; write one such as \"you@example.org\", or none",
            ));
        }
        let directory = raw.directory.clone().unwrap_or_else(|| default::ACME.to_owned());
        if !directory.starts_with("https://") || directory.parse::<http::Uri>().is_err() {
            return Err(self.error(
                "public.tls.acme.directory",
                &format!(
                    "`{directory}` is not the https:// URL of an ACME directory; write one such as {}",
                    default::ACME
                ),
            ));
        }
        Ok(Acme { contact, dir, directory, domain: domain.clone() })
    }

    /// `[home]`
    pub(super) fn home(&self, raw: &RawHome, public: SocketAddr) -> Result<SocketAddr, ConfigError> {
        let said_by = "home.listen";
        let Some(text) = &raw.listen else { return Err(self.missing(said_by, "\"192.168.1.10:8081\"")) };
        let address =
            address::listen(text, "192.168.1.10:8081").map_err(|what| self.error(said_by, &what))?;
        if !raw.allow_public.unwrap_or_default() && !address::is_private(address.ip()) {
            return Err(self.error(
                said_by,
                &format!("{address} may be reached from the internet, and whoever reaches this listener may register; write an address of this machine, its LAN or its VPN, or set allow_public = true in [home] if a firewall or a container closes it"),
            ));
        }
        self.distinct(Listen { address, said_by }, public, "public HTTP")?;
        Ok(address)
    }

    /// `trusted_proxies`
    pub(super) fn trusted_proxies(&self, raw: Option<&[String]>) -> Result<Vec<IpNet>, ConfigError> {
        let network = |text: &String| {
            let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            network.map_err(|_| {
                self.error("trusted_proxies", &format!("`{text}` is neither an address nor a network; write one such as 127.0.0.1, ::1 or 10.0.0.0/8"))
            })
        };
        let Some(raw) = raw else { return Ok(default::PROXIES.map(IpNet::from).to_vec()) };
        raw.iter().map(network).collect()
    }

    /// `[transport.web]`
    pub(super) fn web(&self, raw: &RawWeb) -> Result<WebConfig, ConfigError> {
        let connections = |key, raw, default| self.within(key, raw, 1, u16::MAX, default).map(usize::from);
        Ok(WebConfig {
            max_connections: connections(
                "transport.web.max_connections",
                raw.max_connections,
                default::STAYS,
            )?,
            max_connections_per_source: connections(
                "transport.web.max_connections_per_source",
                raw.max_connections_per_source,
                default::STAYS_PER_SOURCE,
            )?,
        })
    }

    /// `[transport.ntfy]`
    pub(super) fn ntfy(&self, raw: &RawNtfy) -> Result<NtfyConfig, ConfigError> {
        let anonymous_publish = match raw.anonymous_publish.as_deref() {
            None => AnonymousPublish::default(),
            Some("up") => AnonymousPublish::UnifiedPush,
            Some("all") => AnonymousPublish::All,
            Some("none") => AnonymousPublish::None,
            Some(other) => {
                return Err(self.error(
                    "transport.ntfy.anonymous_publish",
                    &format!("`{other}` is unknown; write \"up\", \"all\" or \"none\""),
                ));
            }
        };
        Ok(NtfyConfig {
            anonymous_publish,
            anonymous_subscribe: raw.anonymous_subscribe.unwrap_or(true),
            enabled: raw.enabled.unwrap_or(true),
            max_new_topics_per_source: self
                .within(
                    "transport.ntfy.max_new_topics_per_source",
                    raw.max_new_topics_per_source,
                    1,
                    u16::MAX,
                    default::NEW_TOPICS,
                )?
                .into(),
        })
    }

    /// `[transport.mqtt]`
    pub(super) fn mqtt(
        &self,
        raw: &RawMqtt,
        public: &PublicConfig,
        state_dir: &Path,
    ) -> Result<MqttConfig, ConfigError> {
        let key = "transport.mqtt.listen";
        let listen =
            self.listen(("--mqtt", self.overrides.mqtt), (key, raw.listen.as_deref()), default::MQTT)?;
        if !raw.allow_public_plain.unwrap_or_default() && !address::is_private(listen.address.ip()) {
            return Err(self.error(
                listen.said_by,
                &format!("{} may be reached from the internet, and device secrets would cross it unencrypted; write an address of this machine, its LAN or its VPN, or set allow_public_plain = true in [transport.mqtt] if a firewall or a container closes it", listen.address),
            ));
        }
        self.distinct(listen, public.listen, "HTTP")?;
        let host = raw.host.as_deref().map(address::host).transpose();
        let host = host.map_err(|what| self.error("transport.mqtt.host", &what))?;
        let own = || Certificate::Own {
            dir: state_dir.join(OWN_CERTIFICATE),
            names: address::names(host.as_deref(), public.url.as_deref()),
        };
        let tls = raw.tls.as_ref().map(|raw| {
            let files = Files { certificate: raw.certificate.as_deref(), key: raw.key.as_deref() };
            self.tls("transport.mqtt.tls", raw.listen.as_deref(), files, own)
        });
        let tls = tls.transpose()?;
        if let Some(tls) = &tls {
            let secure = Listen { address: tls.listen, said_by: "transport.mqtt.tls.listen" };
            self.distinct(secure, public.listen, "HTTP")?;
            self.distinct(secure, listen.address, "plain MQTT")?;
            if let Some(https) = &public.tls {
                self.distinct(secure, https.listen, "HTTPS")?;
            }
        }
        Ok(MqttConfig {
            host,
            listen: listen.address,
            max_connections: self
                .within(
                    "transport.mqtt.max_connections",
                    raw.max_connections,
                    1,
                    u16::MAX,
                    default::CONNECTIONS,
                )?
                .into(),
            max_connections_per_source: self
                .within(
                    "transport.mqtt.max_connections_per_source",
                    raw.max_connections_per_source,
                    1,
                    u16::MAX,
                    default::CONNECTIONS_PER_SOURCE,
                )?
                .into(),
            max_keep_alive_s: self.within(
                "transport.mqtt.max_keep_alive_s",
                raw.max_keep_alive_s,
                // Below this a phone's radio never sleeps, which is the opposite of the purpose.
                10,
                u16::MAX,
                default::KEEP_ALIVE_S,
            )?,
            tls,
        })
    }

    /// A listener with TLS; `own` says whose certificate it shows without files.
    fn tls(
        &self,
        table: &str,
        listen: Option<&str>,
        files: Files<'_>,
        own: impl FnOnce() -> Certificate,
    ) -> Result<Tls, ConfigError> {
        let key = |name: &str| format!("{table}.{name}");
        let example = if table.starts_with("public") { "[::]:443" } else { "[::]:8883" };
        let Some(listen) = listen else {
            return Err(self.missing(&key("listen"), &format!("\"{example}\"")));
        };
        let certificate = match files {
            Files { certificate: None, key: None } => own(),
            Files { certificate, key: private } => Certificate::Files {
                certificate: self.file(
                    &key("certificate"),
                    certificate,
                    "\"/etc/unifiedpush-gateway/fullchain.pem\"",
                )?,
                key: self.file(&key("key"), private, "\"/etc/unifiedpush-gateway/privkey.pem\"")?,
            },
        };
        let listen = address::listen(listen, example).map_err(|what| self.error(&key("listen"), &what))?;
        Ok(Tls { certificate, listen })
    }

    /// Command line, then file, then default.
    fn listen<'k>(
        &self,
        (option, said): (&'k str, Option<SocketAddr>),
        (key, raw): (&'k str, Option<&str>),
        default: SocketAddr,
    ) -> Result<Listen<'k>, ConfigError> {
        // What the file says is checked even where the command line overrules it.
        let read = raw.map(|text| address::listen(text, &default.to_string())).transpose();
        let read = read.map_err(|what| self.error(key, &what))?;
        Ok(match said {
            Some(address) => Listen { address, said_by: option },
            None => Listen { address: read.unwrap_or(default), said_by: key },
        })
    }

    fn distinct(&self, listen: Listen<'_>, other: SocketAddr, other_name: &str) -> Result<(), ConfigError> {
        // Port 0 is a free port, another one each time.
        if listen.address != other || other.port() == 0 {
            return Ok(());
        }
        Err(self.error(
            listen.said_by,
            &format!("{other} is already the {other_name} listener; write another port"),
        ))
    }

    pub(super) fn within(
        &self,
        key: &str,
        raw: Option<Whole>,
        least: u16,
        most: u16,
        default: u16,
    ) -> Result<u16, ConfigError> {
        let Some(Whole::Number(number)) = raw else { return Ok(default) };
        u16::try_from(number).ok().filter(|number| (least..=most).contains(number)).ok_or_else(|| {
            self.error(key, &format!("{number} is out of range; write a number from {least} to {most}"))
        })
    }

    fn file(&self, key: &str, raw: Option<&Path>, example: &str) -> Result<PathBuf, ConfigError> {
        let path = raw.ok_or_else(|| self.missing(key, example))?;
        self.path(key, path, example)
    }

    /// A path in the file: not empty, and relative to the file rather than to wherever the
    /// gateway was started.
    pub(super) fn path(&self, key: &str, raw: &Path, example: &str) -> Result<PathBuf, ConfigError> {
        if raw.as_os_str().is_empty() {
            return Err(self.error(key, &format!("the path is empty; write one such as {example}")));
        }
        Ok(self.base.join(raw))
    }

    pub(super) fn missing(&self, key: &str, example: &str) -> ConfigError {
        let (table, name) = key.rsplit_once('.').unwrap_or(("", key));
        self.error(key, &format!("is missing; add {name} = {example} to [{table}]"))
    }

    /// `said_by` is a dotted key of the file, or an option of the command line.
    pub(super) fn error(&self, said_by: &str, what: &str) -> ConfigError {
        match self.source {
            Some(source) if !said_by.starts_with("--") => source.error(said_by, what),
            Some(_) | None => ConfigError(format!("{said_by}: {what}")),
        }
    }
}
