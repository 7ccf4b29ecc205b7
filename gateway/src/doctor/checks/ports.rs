//! Is somebody listening where it should be, and is it the gateway?

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use crate::{
    console::{AskError, Status},
    doctor::{
        Finding,
        case::{Case, address_of},
        dial,
    },
};

pub(in crate::doctor) async fn check(case: &Case) -> Vec<Finding> {
    match &case.gateway {
        Ok(status) => {
            let mut findings = vec![Finding::good("the gateway runs and answers on its control socket")];
            findings.extend(moved(case, status));
            for (name, url) in listeners(status) {
                findings.push(answers(name, url).await);
            }
            findings
        }
        Err(AskError::NotRunning(_)) => {
            let mut findings = vec![Finding::problem(
                "no gateway runs with this state",
                "start it: `systemctl start unifiedpush-gateway`, and `journalctl -u unifiedpush-gateway` if it ends again; what follows was looked at without it",
            )];
            findings.extend(wanted(case).into_iter().map(|(key, address)| free(key, address)));
            findings
        }
        Err(error @ AskError::Denied(_)) => {
            vec![Finding::skipped(error.to_string(), "run this as root or as the gateway's user")]
        }
        Err(error @ AskError::Broken(..)) => vec![Finding::problem(
            error.to_string(),
            "restart it: `systemctl restart unifiedpush-gateway`; nothing that was accepted is lost by that",
        )],
    }
}

fn listeners(status: &Status) -> impl Iterator<Item = (&'static str, &str)> {
    [
        ("[public]", Some(&status.public)),
        ("[home]", status.home.as_ref()),
        ("[public.tls]", status.https.as_ref()),
        ("[transport.mqtt]", Some(&status.mqtt)),
        ("[transport.mqtt.tls]", status.mqtts.as_ref()),
    ]
    .into_iter()
    .filter_map(|(name, url)| Some((name, url?.as_str())))
}

async fn answers(name: &str, url: &str) -> Finding {
    let Some(address) = address_of(url) else {
        return Finding::skipped(
            format!("{name}: {url} is no address"),
            "are gateway and command of the same version?",
        );
    };
    match dial::connect(&[address]).await {
        Ok(_) => Finding::good(format!("{name} answers at {url}")),
        Err(error) => Finding::problem(
            format!("{name} should listen at {url}, but {error}"),
            "a firewall of this machine may drop even its own connections: `nft list ruleset`; otherwise restart the gateway",
        ),
    }
}

/// What the file says now and the running gateway does not do.
fn moved(case: &Case, status: &Status) -> Vec<Finding> {
    let running: Vec<_> = listeners(status).collect();
    let mut findings = Vec::new();
    for (key, said) in wanted(case) {
        let (table, _) = key.rsplit_once('.').unwrap_or((key, ""));
        let is = running.iter().find(|(name, _)| name.trim_matches(['[', ']']) == table).map(|(_, url)| *url);
        let is_there = is.is_some_and(|url| url.ends_with(&format!("://{said}")));
        if said.port() != 0 && !is_there {
            findings.push(Finding::warning(
                format!("{key} is {said}, but the gateway {}", match is {
                    Some(url) => format!("listens at {url}"),
                    None => "does not listen there".to_owned(),
                }),
                "restart the gateway if the file has changed since it started; where a socket unit holds the listener, change its ListenStream=; if it was started with options, they count",
            ));
        }
    }
    findings
}

fn wanted(case: &Case) -> Vec<(&'static str, SocketAddr)> {
    let config = &case.config;
    let mut wanted =
        vec![("public.listen", config.public.listen), ("transport.mqtt.listen", config.mqtt.listen)];
    wanted.extend(config.public.tls.as_ref().map(|tls| ("public.tls.listen", tls.listen)));
    wanted.extend(config.home.map(|address| ("home.listen", address)));
    wanted.extend(config.mqtt.tls.as_ref().map(|tls| ("transport.mqtt.tls.listen", tls.listen)));
    wanted
}

fn free(key: &str, address: SocketAddr) -> Finding {
    match TcpListener::bind(address) {
        Ok(_) => Finding::good(format!("{key}: {address} is free for the gateway")),
        Err(error) => {
            #[expect(clippy::wildcard_enum_match_arm, reason = "the library's list of reasons grows")]
            let remedy = match error.kind() {
                io::ErrorKind::AddrInUse => {
                    "find out who holds it (`ss -ltnp`): the gateway's own socket unit may, another program must not; or write another port"
                }
                io::ErrorKind::AddrNotAvailable => {
                    "this machine does not have that address (`ip address`): write one that it has, or [::] for all"
                }
                io::ErrorKind::PermissionDenied => {
                    "ports below 1024 are the system's: write one above, or let a socket unit hold it"
                }
                _ => "write another address",
            };
            Finding::problem(format!("{key}: cannot listen on {address}: {error}"), remedy)
        }
    }
}
