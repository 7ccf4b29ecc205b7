//! Certificates: of the public name, and of the listener for devices.

use std::{net::SocketAddr, path::Path};

use tokio_rustls::rustls::{
    self, CertificateError,
    pki_types::{CertificateDer, pem::PemObject as _},
};

use crate::{
    config::{Certificate, Tls},
    doctor::{
        Finding,
        case::{Case, address_of},
        dial::Shown,
    },
};

/// Sooner, and whoever renews it has probably failed already.
const SOON_DAYS: u64 = 14;
const DAY: u64 = 86_400;

pub(in crate::doctor) async fn check(case: &Case) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some((public, addresses)) = case.reachable().filter(|(public, _)| public.target.is_tls) {
        let found = case.dialer.look(&public.target.host, addresses, None).await;
        findings.extend(judge(case, &public.url, &public.target.host, found, Audience::Servers));
    }
    if let Some(tls) = &case.config.mqtt.tls {
        findings.extend(devices(case, tls).await);
    }
    if findings.is_empty() {
        findings.push(Finding::skipped(
            "nothing here uses TLS",
            "see `configuration`, and [transport.mqtt.tls] for devices that come from outside",
        ));
    }
    findings
}

/// The listener for devices: its files, or what it shows if it runs.
async fn devices(case: &Case, tls: &Tls) -> Vec<Finding> {
    let status = case.gateway.as_ref().ok();
    let Some(address) = status.and_then(|status| address_of(status.mqtts.as_deref()?)) else {
        return vec![Finding::skipped("the listener for devices does not run", "see `ports`")];
    };
    let host = case.config.mqtt.host.as_deref().map(|host| host.trim_matches(['[', ']']).to_owned());
    let of_public =
        || case.public.as_ref().filter(|public| public.is_configured).map(|p| p.target.host.clone());
    let host = host.or_else(of_public).unwrap_or_else(|| address.ip().to_string());
    let (root, audience) = match &tls.certificate {
        Certificate::Acme(_) | Certificate::Files { .. } => (None, Audience::Phones),
        Certificate::Own { dir, .. } => match own_root(dir) {
            Ok(root) => (Some(root), Audience::Paired),
            Err(what) => {
                return vec![Finding::problem(
                    what,
                    "give it back from a backup: paired devices know no other",
                )];
            }
        },
    };
    look(case, address, &host, root, audience).await
}

async fn look(
    case: &Case,
    address: SocketAddr,
    host: &str,
    root: Option<CertificateDer<'static>>,
    audience: Audience,
) -> Vec<Finding> {
    let found = case.dialer.look(host, &[address], root).await;
    judge(case, &format!("mqtts://{host}"), host, found, audience)
}

/// The certificate of the gateway's own authority, which stands beside its key, for clients.
fn own_root(dir: &Path) -> Result<CertificateDer<'static>, String> {
    let path = dir.join("ca.pem");
    CertificateDer::from_pem_file(&path).map_err(|error| {
        format!("{}: the gateway's own certificate authority cannot be read: {error}", path.display())
    })
}

/// Who has to believe a certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Audience {
    /// Devices that know the gateway's own authority.
    Paired,
    /// Devices that believe whom everybody believes.
    Phones,
    /// Application servers.
    Servers,
}

fn judge(
    case: &Case,
    url: &str,
    host: &str,
    found: Result<Shown, String>,
    audience: Audience,
) -> Vec<Finding> {
    let shown = match found {
        Ok(shown) => shown,
        Err(error) => {
            return vec![Finding::problem(
                format!("{url}: no TLS connection: {error}"),
                "start what should answer there; a port that speaks no TLS wants http:// in the setting, or a proxy",
            )];
        }
    };
    if let Err(error) = &shown.verdict {
        return vec![refused(case, url, host, &shown, error, audience)];
    }
    let now = case.clock.moment().wall.as_secs();
    let Some(days) = shown.until.map(|until| until.saturating_sub(now) / DAY) else {
        return vec![Finding::good(format!("{url}: the certificate is good"))];
    };
    let what = format!("{url}: the certificate is good for {days} more days");
    vec![if days < SOON_DAYS && audience != Audience::Paired {
        Finding::warning(
            what,
            "renewal should have happened by now: run it by hand and read what it says (`certbot renew`, the proxy's log)",
        )
    } else {
        Finding::good(what)
    }]
}

fn refused(
    case: &Case,
    url: &str,
    host: &str,
    shown: &Shown,
    error: &rustls::Error,
    audience: Audience,
) -> Finding {
    let rustls::Error::InvalidCertificate(why) = error else {
        return Finding::problem(format!("{url}: {error}"), "show another certificate there");
    };
    #[expect(clippy::wildcard_enum_match_arm, reason = "the library's list of reasons grows")]
    match why {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Finding::problem(
            format!("{url}: the certificate has expired"),
            "renew it; if that has been done, whoever shows it has not read it again (reload the proxy; SIGHUP for the gateway). A clock that is ahead looks the same",
        ),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Finding::problem(
            format!("{url}: the certificate is not valid yet"),
            "the clock of this machine is probably late: see `clock`",
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            Finding::problem(
                format!("{url}: the certificate is for another name than {host}"),
                "get one for this name, or write the name of the certificate in [public] url and [transport.mqtt] host",
            )
        }
        CertificateError::UnknownIssuer if case.dialer.has_no_roots() && audience != Audience::Paired => {
            Finding::skipped(
                format!("{url}: this machine knows no certificate authority, so the chain was not judged"),
                "apt install ca-certificates",
            )
        }
        CertificateError::UnknownIssuer if audience == Audience::Paired => Finding::problem(
            format!("{url}: the certificate is not from the gateway's own authority"),
            "restart the gateway if it was set up with files before; a proxy in between must pass TLS through",
        ),
        CertificateError::UnknownIssuer if shown.chain.len() == 1 => Finding::problem(
            format!("{url}: nobody known has signed the certificate, and it comes without the ones between"),
            "show the whole chain (fullchain.pem, not cert.pem); if an authority of your own has signed it, application servers must be told to trust that",
        ),
        CertificateError::UnknownIssuer => Finding::problem(
            format!("{url}: nobody whom this machine trusts has signed the certificate"),
            "take one from a public authority (Let's Encrypt); if an authority of your own has signed it, it must be known to whoever connects, and to this machine",
        ),
        other => Finding::problem(format!("{url}: {other:?}"), "show another certificate there"),
    }
}
