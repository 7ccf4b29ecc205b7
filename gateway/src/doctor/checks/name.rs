//! Where the public name leads, and who will refuse to go there.

use crate::doctor::{Finding, case::Case, dial::private_kind};

pub(in crate::doctor) async fn check(case: &Case) -> Vec<Finding> {
    let Some(public) = case.public.as_ref().filter(|public| public.is_configured) else {
        return vec![Finding::skipped("there is no public name", "set url in [public]")];
    };
    let host = &public.target.host;
    let addresses = match &public.addresses {
        Ok(addresses) => addresses,
        Err(error) => {
            return vec![Finding::problem(
                format!("{host} cannot be resolved: {error}"),
                "make the name at your DNS provider (A, AAAA), or mend this machine's resolver if others can resolve it",
            )];
        }
    };
    let mut findings = Vec::new();
    for address in addresses {
        let ip = address.ip();
        findings.push(match private_kind(ip) {
            Some(kind) => Finding::warning(
                format!("{host} leads to {ip}, which is {kind}: application servers elsewhere cannot reach it, and most refuse to try"),
                "for pushes from the internet, let the name lead to a public address, or to a machine that has one and passes on; if your application servers share this network, README \"On a VPN or LAN only\" says how they are told to accept it",
            ),
            None => Finding::good(format!("{host} leads to {ip}, which is public")),
        });
    }
    if host.ends_with(".local") {
        findings.push(Finding::warning(
            format!("{host} is a name of this LAN (mDNS), which no server elsewhere can resolve"),
            "take a name from the public DNS",
        ));
    }
    findings
}
