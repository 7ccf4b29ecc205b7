//! `[transport.xmpp]`: what is accepted, and what the refusal says.

use std::{ffi::OsString, fs, net::SocketAddr, path::PathBuf};

use super::{ConfigError, XmppConfig, address, check::Checker, raw::RawXmpp};

/// Enough for every app of a few phones, and little enough for one account among many.
const REGISTRATIONS: u16 = 256;
/// What UnifiedPush asks a distributor for, and what the registry bears.
const REGISTRATIONS_MAX: u16 = 2000;
/// The credential that holds the secret where no file is named; see systemd.exec(5).
const CREDENTIAL: &str = "xmpp-secret";
/// Where the file may lie.
const SECRET_FILE: &str = "\"/etc/unifiedpush-gateway/xmpp-secret\"";
/// Where servers listen for components, on this machine.
const SERVER: &str = "127.0.0.1:5347";

impl Checker<'_> {
    /// `[transport.xmpp]`
    pub(super) fn xmpp(
        &self,
        raw: &RawXmpp,
        env: impl Fn(&str) -> Option<OsString>,
    ) -> Result<XmppConfig, ConfigError> {
        let key = |name: &str| format!("transport.xmpp.{name}");
        if cfg!(not(feature = "xmpp")) {
            return Err(self.error(
                "transport.xmpp",
                "this gateway was built without XMPP; remove the table, or build it with the cargo feature xmpp",
            ));
        }
        let component = raw.component.as_deref();
        let component = component.ok_or_else(|| self.missing(&key("component"), "\"push.home.example\""))?;
        let component = self.domain(&key("component"), component)?;
        let domains = raw.allowed_domains.as_deref().unwrap_or_default();
        if domains.is_empty() {
            return Err(self.missing(&key("allowed_domains"), "[\"home.example\"]"));
        }
        let domain = |text: &String| self.domain(&key("allowed_domains"), text);
        Ok(XmppConfig {
            allowed_domains: domains.iter().map(domain).collect::<Result<_, _>>()?,
            component,
            max_registrations_per_account: self
                .within(
                    &key("max_registrations_per_account"),
                    raw.max_registrations_per_account,
                    1,
                    REGISTRATIONS_MAX,
                    REGISTRATIONS,
                )?
                .into(),
            secret_file: self.secret_file(raw, env)?,
            server: self.server(raw)?,
        })
    }

    /// The domain part of a JID (RFC 7622 §3.2), in lower case.
    fn domain(&self, key: &str, text: &str) -> Result<String, ConfigError> {
        let odd = |c: char| c.is_whitespace() || c.is_control() || "@/:\"&'<>".contains(c);
        if text.is_empty() || text.len() > 1023 || text.contains(odd) {
            return Err(self.error(
                key,
                &format!("`{text}` is not a domain; write a name without user, resource and port, such as home.example"),
            ));
        }
        Ok(text.to_lowercase())
    }

    /// Other commands than `run` are called without credentials, and need none.
    fn secret_file(
        &self,
        raw: &RawXmpp,
        env: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Option<PathBuf>, ConfigError> {
        if let Some(path) = &raw.secret_file {
            return self.path("transport.xmpp.secret_file", path, SECRET_FILE).map(Some);
        }
        let directory = env("CREDENTIALS_DIRECTORY").filter(|directory| !directory.is_empty());
        Ok(directory.map(|directory| PathBuf::from(directory).join(CREDENTIAL)))
    }

    fn server(&self, raw: &RawXmpp) -> Result<SocketAddr, ConfigError> {
        let key = "transport.xmpp.server";
        let text = raw.server.as_deref().ok_or_else(|| self.missing(key, &format!("\"{SERVER}\"")))?;
        let server = text.parse::<SocketAddr>().ok().filter(|server| server.port() != 0);
        let server = server.ok_or_else(|| {
            self.error(
                key,
                &format!("`{text}` is not an address to connect to; write ADDRESS:PORT with a number as address, such as {SERVER}"),
            )
        })?;
        if !raw.allow_public_plain.unwrap_or_default() && !address::is_private(server.ip()) {
            return Err(self.error(
                key,
                &format!("{server} is reached over the internet, and components speak without TLS; write an address of this machine, its LAN or its VPN, or set allow_public_plain = true in [transport.xmpp] if the way there is protected"),
            ));
        }
        Ok(server)
    }
}

impl XmppConfig {
    /// Reads the component's secret; white space around it is not part of it.
    ///
    /// # Errors
    /// [`ConfigError`]: the file cannot be read, or there is nothing in it.
    pub fn secret(&self) -> Result<String, ConfigError> {
        let key = "transport.xmpp.secret_file";
        let Some(path) = &self.secret_file else {
            return Err(ConfigError(format!(
                "{key}: is missing; add secret_file = {SECRET_FILE} to [transport.xmpp], or LoadCredential={CREDENTIAL}:FILE to the unit"
            )));
        };
        let refuse = |why: String| {
            ConfigError(format!(
                "{key}: {}: {why}; write the path of a file that the gateway's user can read, with the secret that the XMPP server has for {}",
                path.display(),
                self.component
            ))
        };
        let text = fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
        match text.trim() {
            "" => Err(refuse("there is no secret in it".to_owned())),
            secret => Ok(secret.to_owned()),
        }
    }
}
