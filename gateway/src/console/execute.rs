//! Does what the owner asks: the same code behind the socket and without a running gateway.

use std::time::Duration;

use super::{
    DeviceRow, DeviceShown, GroupRow, HappenedRow, Pairing, RegistrationRow, Reply, Request, Status, metrics,
};
use crate::{
    model::{AppToken, DeviceId, Group, Malformed, QuietChoice, VapidKey, Waiting},
    registry::{self, Refusal, Registry},
    store::NotStored,
    transport::{RegisterRequest, RegisteredAs},
};

/// The protocols that a device may speak that is paired from here.
const TRANSPORTS: [&str; 3] = ["autopush", "mqtt", "ntfy"];

/// How long the owner waits for a store that is busy, which lasts a tenth of a second after thousands of messages
/// have been withdrawn at once; less than the command line waits for an answer.
const BUSY_TRIES: u32 = 250;
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// Answers one request. `status` is `None` when no gateway runs.
pub async fn execute(registry: &Registry, status: Option<&Status>, request: Request) -> Reply {
    for _ in 0..BUSY_TRIES {
        match attempt(registry, status, request.clone()).await {
            // Nothing was changed by it. An application server is told to come back; a person would have to.
            Err(Failure::Refused(Refusal::NotStored(NotStored::Busy))) => {
                tokio::time::sleep(BUSY_PAUSE).await
            }
            Err(failure) => return Reply::Failed { message: failure.to_string() },
            Ok(reply) => return reply,
        }
    }
    Reply::Failed { message: Failure::Refused(Refusal::NotStored(NotStored::Busy)).to_string() }
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("a backup is more than a line: ask for it on the control socket")]
    NoLine,
    #[error("{0:?} is not {1}: {2}")]
    Malformed(String, &'static str, Malformed),
    #[error("the gateway is not running, so it listens nowhere: start it with `unifiedpush-gateway run`")]
    NotRunning,
    #[error("{0:?} is not a transport that a device is paired for: write autopush, mqtt or ntfy")]
    Transport(String),
    #[error(transparent)]
    Refused(#[from] Refusal),
}

async fn attempt(registry: &Registry, status: Option<&Status>, request: Request) -> Result<Reply, Failure> {
    Ok(match request {
        Request::Backup => return Err(Failure::NoLine),
        Request::DeviceAdd { name, transport } => {
            if !TRANSPORTS.contains(&transport.as_str()) {
                return Err(Failure::Transport(transport));
            }
            Reply::Paired(registry.add_device(&name, &transport).await?.into())
        }
        Request::DeviceHistory { id } => {
            let id = device_id(&id)?;
            let happened = registry.history(id).ok_or(Refusal::NoSuchDevice(id))?;
            Reply::History { happened: happened.into_iter().map(HappenedRow::from).collect() }
        }
        Request::DeviceList => Reply::Devices { devices: devices(registry) },
        Request::DeviceRemove { id } => {
            registry.remove_device(device_id(&id)?).await?;
            Reply::Done
        }
        Request::DeviceRotate { id } => Reply::Paired(registry.rotate(device_id(&id)?).await?.into()),
        Request::DeviceSet { id, profile, quiet } => {
            let id = device_id(&id)?;
            let profile =
                profile.map(|text| or_default(&text, |text| read(text, "a profile"))).transpose()?;
            let quiet = quiet.map(|text| or_default(&text, quiet_choice)).transpose()?;
            registry.prefer(id, profile, quiet).await?;
            Reply::Done
        }
        Request::DeviceShow { id } => {
            let id = device_id(&id)?;
            let known = registry.devices().into_iter().find(|(device, _)| device.id == id);
            let (device, _) = known.ok_or(Refusal::NoSuchDevice(id))?;
            let tally = registry.tally(id).unwrap_or_default();
            Reply::Device(Box::new(DeviceShown::of(registry, &device, &tally)))
        }
        Request::GroupAdd { name } => Reply::Grouped { group: registry.add_group(&name).await?.to_string() },
        Request::GroupJoin { group, device } => {
            registry.join_group(group_id(&group)?, device_id(&device)?).await?;
            Reply::Done
        }
        Request::GroupLeave { group, device } => {
            registry.leave_group(group_id(&group)?, device_id(&device)?).await?;
            Reply::Done
        }
        Request::GroupList => Reply::Groups { groups: groups(registry) },
        Request::GroupRemove { group } => {
            registry.remove_group(group_id(&group)?).await?;
            Reply::Done
        }
        Request::Metrics => {
            let tally = |(device, _): (std::sync::Arc<crate::model::Device>, usize)| {
                registry.tally(device.id).map(|tally| (device.id, tally))
            };
            let tallies: Vec<_> = registry.devices().into_iter().filter_map(tally).collect();
            let registrations = registry.registrations();
            let waiting: Vec<_> = registrations
                .iter()
                .map(|each| (&each.registration, registry.waiting(each.registration.id)))
                .collect();
            Reply::Metrics { text: metrics(&tallies, &waiting) }
        }
        Request::RegistrationAdd { app, device, vapid } => {
            let device = device_id(&device)?;
            let request = registration(app, vapid)?;
            Reply::Registered(row(registry, registry.register(device, request).await?))
        }
        Request::RegistrationList => {
            let registrations =
                registry.registrations().into_iter().map(|each| row(registry, each)).collect();
            Reply::Registrations { registrations }
        }
        Request::RegistrationRemove { endpoint } => {
            registry.remove_registration(&endpoint).await?;
            Reply::Done
        }
        Request::Status => Reply::Status(status.ok_or(Failure::NotRunning)?.clone()),
    })
}

fn device_id(text: &str) -> Result<DeviceId, Failure> {
    read(text, "a device id")
}

fn group_id(text: &str) -> Result<DeviceId, Failure> {
    read(text, "a group id")
}

fn read<T: std::str::FromStr<Err = Malformed>>(text: &str, what: &'static str) -> Result<T, Failure> {
    text.parse().map_err(|why| Failure::Malformed(text.to_owned(), what, why))
}

/// `default` takes a choice back.
fn or_default<T>(text: &str, read: impl FnOnce(&str) -> Result<T, Failure>) -> Result<Option<T>, Failure> {
    if text == "default" { Ok(None) } else { read(text).map(Some) }
}

fn quiet_choice(text: &str) -> Result<QuietChoice, Failure> {
    if text == "none" {
        return Ok(QuietChoice::Never);
    }
    read(text, "quiet hours").map(QuietChoice::Hours)
}

fn registration(app: String, vapid: Option<String>) -> Result<RegisterRequest, Failure> {
    let token: AppToken = read(&app, "an app's name")?;
    let vapid: Option<VapidKey> = match vapid {
        Some(key) => Some(read(&key, "an application server's public key")?),
        None => None,
    };
    Ok(RegisterRequest { app: app.into(), token, vapid })
}

fn devices(registry: &Registry) -> Vec<DeviceRow> {
    let row = |(device, registrations): (std::sync::Arc<crate::model::Device>, usize)| {
        let chosen = registry.preferences(device.id).unwrap_or_default();
        DeviceRow {
            created: device.created.as_secs(),
            device: device.id.to_string(),
            name: device.name.to_string(),
            profile: chosen.profile.map(|profile| profile.to_string()),
            quiet: chosen.quiet.map(|quiet| match quiet {
                QuietChoice::Hours(hours) => hours.to_string(),
                QuietChoice::Never => "none".to_owned(),
            }),
            registrations: registrations as u64,
            transport: device.transport.to_string(),
        }
    };
    registry.devices().into_iter().map(row).collect()
}

fn groups(registry: &Registry) -> Vec<GroupRow> {
    let registrations = registry.registrations();
    let row = |group: std::sync::Arc<Group>| GroupRow {
        created: group.created.as_secs(),
        group: group.id.to_string(),
        members: group.members.iter().map(ToString::to_string).collect(),
        name: group.name.to_string(),
        registrations: registrations.iter().filter(|each| each.registration.device == group.id).count()
            as u64,
    };
    registry.groups().into_iter().map(row).collect()
}

impl From<registry::Pairing> for Pairing {
    fn from(pairing: registry::Pairing) -> Self {
        let registry::Pairing { device, secret, uri } = pairing;
        Self { device: device.to_string(), secret: secret.as_str().to_owned(), uri }
    }
}

fn row(registry: &Registry, registered: RegisteredAs) -> RegistrationRow {
    let RegisteredAs { endpoint, registration } = registered;
    let Waiting { crowded_out, messages, .. } = registry.waiting(registration.id);
    RegistrationRow {
        app: registration.app.into(),
        channel: registration.id.to_string(),
        created: registration.created.as_secs(),
        crowded_out,
        device: registration.device.to_string(),
        endpoint,
        token: registration.token.to_string(),
        vapid: registration.vapid.map(|key| key.to_string()),
        waiting: messages.into(),
    }
}

#[cfg(test)]
#[path = "execute_tests.rs"]
mod tests;
