//! The same commands without a running gateway: the store is opened for one request.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::Path,
    sync::Arc,
    time::Duration,
};

use super::CliError;
use crate::{
    clock::{Clock as _, SystemClock},
    config::{Certificate, Config},
    console::{self, AskError, Reply, Request},
    registry::{Origin, Registry, Security},
    store::{OpenError, Store},
    tls::Authority,
};

/// A gateway that holds the store but does not answer is starting or stopping: it is asked again so often …
const ATTEMPTS: u32 = 100;
/// … with this pause.
const PAUSE: Duration = Duration::from_millis(100);

/// Asks the running gateway, or, if none runs, opens the store and does it.
///
/// # Errors
/// [`CliError`]; what the gateway refuses is a [`Reply::Failed`] instead.
pub(super) fn ask_or_open(config: &Config, request: Request) -> Result<Reply, CliError> {
    let mut left = ATTEMPTS;
    ask_or_open_unless(config, request, &mut || {
        left -= 1;
        std::thread::sleep(PAUSE);
        left == 0
    })
}

/// The same; `weary` is called as long as somebody else holds the store, and ends that by `true`.
pub(super) fn ask_or_open_unless(
    config: &Config,
    request: Request,
    weary: &mut dyn FnMut() -> bool,
) -> Result<Reply, CliError> {
    loop {
        match console::ask(&config.state_dir, &request) {
            Ok(reply) => return Ok(reply),
            Err(AskError::NotRunning(_)) => {}
            Err(error @ (AskError::Broken(..) | AskError::Denied(_))) => return Err(failed(error)),
        }
        let mut origin = origin_for(config, &request)?;
        prepare(&config.state_dir, matches!(request, Request::DeviceAdd { .. }))?;
        if let (Some(dir), Request::DeviceAdd { .. } | Request::DeviceRotate { .. }) =
            (authority_dir(config), &request)
        {
            origin.security = Security::Tls { ca: Some(Authority::open(dir).map_err(failed)?.fingerprint()) };
        }
        let clock = Arc::new(SystemClock::default());
        match Store::open(&config.state_dir, |newest| {
            clock.raise_floor(newest);
            clock.moment()
        }) {
            Ok(store) => return execute(store, clock, origin, request),
            Err(error @ OpenError::InUse(_)) if weary() => return Err(failed(error)),
            Err(OpenError::InUse(_)) => {}
            Err(error) => return Err(failed(error)),
        }
    }
}

fn execute(
    store: Store,
    clock: Arc<SystemClock>,
    origin: Origin,
    request: Request,
) -> Result<Reply, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let Store { accounts, archive, backlog, closer, intake, ledger, newest } = store;
    // Nobody is delivered to.
    drop((archive, backlog, intake, ledger));
    clock.raise_floor(newest);
    // No transport runs, so nobody has to be told.
    let registry = Registry::new(accounts, clock, origin, Box::new(|_| ()));
    Ok(runtime.block_on(async {
        let reply = console::execute(&registry, None, request).await;
        drop(registry);
        closer.close().await;
        reply
    }))
}

/// Where the gateway will be reached when it runs. A port that is picked at start is known to nobody
/// before; that matters only to requests whose answer names it.
fn origin_for(config: &Config, request: &Request) -> Result<Origin, CliError> {
    let (devices, security, key) = match &config.mqtt.tls {
        Some(tls) => (tls.listen, Security::Tls { ca: None }, "transport.mqtt.tls.listen"),
        None => (config.mqtt.listen, Security::Plain, "transport.mqtt.listen"),
    };
    let of_devices = || (devices.port() == 0).then_some((key, "a pairing URI names it"));
    let is_public_unknown = config.public.url.is_none() && config.public.listen.port() == 0;
    let of_public = |why| is_public_unknown.then_some(("public.listen", why));
    let unknown_port = match request {
        Request::DeviceAdd { transport, .. } if transport == "mqtt" => of_devices(),
        Request::DeviceAdd { .. } => of_public("a device's own URL names it"),
        // Which of them it will be is in the store.
        Request::DeviceRotate { .. } => of_devices().or_else(|| of_public("a device's own URL names it")),
        Request::RegistrationAdd { .. } | Request::RegistrationList => of_public("endpoints name it"),
        Request::Backup
        | Request::DeviceHistory { .. }
        | Request::DeviceList
        | Request::DeviceRemove { .. }
        | Request::DeviceSet { .. }
        | Request::DeviceShow { .. }
        | Request::GroupAdd { .. }
        | Request::GroupJoin { .. }
        | Request::GroupLeave { .. }
        | Request::GroupList
        | Request::GroupRemove { .. }
        | Request::Metrics
        | Request::RegistrationRemove { .. }
        | Request::Status => None,
    };
    if let Some((key, why)) = unknown_port {
        return Err(CliError::Config(format!(
            "{key} has port 0, so the port is known only while the gateway runs, and {why}: \
             start the gateway first, or give it a port"
        )));
    }
    let (url, host) = (config.public.url.as_deref(), config.mqtt.host.as_deref());
    Ok(Origin::new(url, config.public.listen, host, devices, security))
}

/// Where the gateway's own certificate authority is kept, if it uses one.
pub(super) fn authority_dir(config: &Config) -> Option<&Path> {
    match &config.mqtt.tls.as_ref()?.certificate {
        Certificate::Own { dir, .. } => Some(dir),
        Certificate::Acme(_) | Certificate::Files { .. } => None,
    }
}

/// The gateway's own certificate authority; made if there is none yet, by the owner of the state only.
pub(super) fn authority(config: &Config) -> Result<Authority, CliError> {
    let dir = authority_dir(config).ok_or_else(|| {
        CliError::Config(
            "the gateway has no certificate authority of its own: it has one when [transport.mqtt.tls] has neither certificate nor key"
                .to_owned(),
        )
    })?;
    if !Authority::exists(dir) {
        prepare(&config.state_dir, true)?;
    }
    Authority::open(dir).map_err(failed)
}

/// The state must exist (or is made) and be ours: a file that another user leaves in it
/// would keep the gateway from starting.
fn prepare(dir: &Path, make: bool) -> Result<(), CliError> {
    match fs::metadata(dir) {
        Ok(found) => own(dir, found.uid()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if !make {
                return Err(CliError::Failed(format!(
                    "there is no state in {}: nothing has been paired yet, or `--state-dir` is another one",
                    dir.display()
                )));
            }
            let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
            made.map_err(|error| CliError::Failed(format!("cannot make {}: {error}", dir.display())))
        }
        Err(error) => Err(CliError::Failed(format!("cannot look at {}: {error}", dir.display()))),
    }
}

pub(in crate::cli) fn own(dir: &Path, owner: u32) -> Result<(), CliError> {
    if owner == nix::unistd::geteuid().as_raw() {
        return Ok(());
    }
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(owner)).ok().flatten();
    let user = user.map_or_else(|| format!("#{owner}"), |user| user.name);
    Err(CliError::Failed(format!(
        "no gateway runs, and {} belongs to the user {user}: start the gateway first, or run this as that \
         user (`sudo -u {user} …`)",
        dir.display()
    )))
}

fn failed(error: impl std::fmt::Display) -> CliError {
    CliError::Failed(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_user_s_state_is_left_alone() {
        let own_uid = nix::unistd::geteuid().as_raw();
        assert!(own(Path::new("/state"), own_uid).is_ok());
        let refused = own(Path::new("/state"), own_uid ^ 1).expect_err("not ours").to_string();
        assert!(refused.contains("/state belongs to the user") && refused.contains("start the gateway"));
    }
}
