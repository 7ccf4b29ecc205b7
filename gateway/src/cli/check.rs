//! What a valid configuration still needs of the machine before anything is bound: its files.

use std::{fs, path::Path};

use crate::config::{Certificate, Config, ConfigError, Overrides};

/// Reads the files that the settings name, as the user who runs this.
pub(super) fn files(config: &Config, overrides: &Overrides) -> Result<(), ConfigError> {
    let source = overrides.config.as_deref();
    let tables = [("public.tls", &config.public.tls), ("transport.mqtt.tls", &config.mqtt.tls)];
    for (table, tls) in tables {
        let Some(Certificate::Files { certificate, key }) = tls.as_ref().map(|tls| &tls.certificate) else {
            continue;
        };
        pem(source, &format!("{table}.certificate"), certificate, "CERTIFICATE")?;
        // PKCS#8, PKCS#1 and SEC1 differ before these words.
        pem(source, &format!("{table}.key"), key, "PRIVATE KEY")?;
    }
    if let Some(xmpp) = &config.xmpp {
        let place = source.map(|file| format!("{}: ", file.display())).unwrap_or_default();
        xmpp.secret().map_err(|ConfigError(what)| ConfigError(format!("{place}{what}")))?;
    }
    Ok(())
}

fn pem(source: Option<&Path>, key: &str, path: &Path, what: &str) -> Result<(), ConfigError> {
    let place = source.map(|file| format!("{}: ", file.display())).unwrap_or_default();
    let refuse = |why: String| {
        Err(ConfigError(format!(
            "{place}{key}: {}: {why}; write the path of a PEM file with a {what} section that the gateway's user can read",
            path.display()
        )))
    };
    match fs::read(path) {
        Err(error) => refuse(error.to_string()),
        Ok(bytes) => {
            let begins = |line: &str| line.starts_with("-----BEGIN ") && line.contains(what);
            if String::from_utf8_lossy(&bytes).lines().any(begins) {
                Ok(())
            } else {
                refuse(format!("there is no {what} section in it"))
            }
        }
    }
}
