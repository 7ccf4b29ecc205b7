//! Matrix: homeservers take one path only, at the root of the origin.

use crate::doctor::{Finding, case::Case};

const NOTIFY: &str = "/_matrix/push/v1/notify";

pub(in crate::doctor) async fn check(case: &Case) -> Vec<Finding> {
    let Some((public, addresses)) = case.reachable() else {
        return vec![Finding::skipped("there is no public address to try", "see `name`")];
    };
    let found = match case.dialer.get(&public.target, addresses, NOTIFY).await {
        Ok(answer) => answer,
        Err(error) => return vec![Finding::skipped(format!("not reached: {error}"), "see `public`")],
    };
    let said = serde_json::from_slice::<serde_json::Value>(found.body()).unwrap_or_default();
    if found.status() == 200 && said["unifiedpush"]["gateway"] == "matrix" {
        return vec![Finding::good(format!("{NOTIFY} at the root of the origin is the gateway's"))];
    }
    vec![Finding::warning(
        format!(
            "{}{NOTIFY} answers {}, and not as this gateway does: Matrix apps will get no pushes",
            public.url,
            found.status()
        ),
        "let the proxy pass that path on to the gateway; if a homeserver owns /_matrix under this name, this one path suffices (it uses none like it), or give the gateway a name of its own",
    )]
}
