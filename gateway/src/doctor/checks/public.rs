//! The public URL from here: the way out and back in, and who answers.

use crate::doctor::{Finding, case::Case, dial::private_kind};

pub(in crate::doctor) async fn check(case: &Case) -> Vec<Finding> {
    let Some((public, addresses)) = case.reachable() else {
        return vec![Finding::skipped("there is no public address to try", "see `name`")];
    };
    let url = &public.url;
    let mut findings = Vec::new();
    match case.dialer.get(&public.target, addresses, "/health").await {
        Ok(answer) if answer.status() == 200 && answer.body().as_ref() == b"ok\n" => {
            findings.push(Finding::good(format!("{url} leads from here to a gateway")));
        }
        Ok(answer) if answer.status().is_server_error() => findings.push(Finding::problem(
            format!("{url}/health answers {}: the proxy is there, and does not reach the gateway", answer.status()),
            format!("let it pass on to {}, where the gateway listens, and start the gateway", case.config.public.listen),
        )),
        Ok(answer) => findings.push(Finding::problem(
            format!("{url}/health answers {}, and not as a gateway does: another service has that name", answer.status()),
            "give the gateway a name of its own, and let the proxy pass all of its paths on unchanged (no prefix stripped or added)",
        )),
        Err(error) => {
            let is_public = addresses.iter().any(|address| private_kind(address.ip()).is_none());
            let remedy = if is_public {
                "is the port forwarded, and the proxy running? If application servers do reach it, your router does not lead its own network back in (no hairpin NAT): let the LAN's DNS answer the name with the machine's own address"
            } else {
                "start what should listen there (the reverse proxy, or the gateway)"
            };
            findings.push(Finding::problem(format!("{url} cannot be reached from here: {error}"), remedy));
        }
    }
    findings
}
