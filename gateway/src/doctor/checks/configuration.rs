//! What the settings say about themselves.

use std::path::Path;

use crate::{
    config::Config,
    doctor::{Finding, dial::private_kind},
};

/// The settings cannot be used.
pub(in crate::doctor) fn broken(what: String) -> Finding {
    Finding::problem(
        what,
        "mend that line; the gateway does not start before, and `check` says when it is right",
    )
}

/// The settings are valid; are they also meant?
pub(in crate::doctor) fn check(config: &Config, file: Option<&Path>) -> Vec<Finding> {
    let mut findings = vec![match file {
        Some(file) => Finding::good(format!("{} is valid", file.display())),
        None => Finding::good("no file is named: the defaults hold"),
    }];
    match config.public.url.as_deref() {
        None => findings.push(Finding::warning(
            "[public] url is not set: endpoints begin with the listening address, which only suits a trial on this machine",
            "set url = \"https://NAME\" in [public], as application servers reach it; it becomes part of every endpoint",
        )),
        Some(url) if url.starts_with("http://") => findings.push(Finding::warning(
            format!("[public] url is {url}: without TLS most application servers refuse the endpoint, and the rest send it readable by anyone on the way"),
            "put a reverse proxy with a certificate in front, and write url = \"https://…\"",
        )),
        Some(_) => {}
    }
    if private_kind(config.public.listen.ip()).is_none() && config.public.listen.port() != 443 {
        findings.push(Finding::warning(
            format!("[public] listen is {}, which other machines reach without TLS", config.public.listen),
            "listen on 127.0.0.1 if the reverse proxy is on this machine",
        ));
    }
    findings
}
