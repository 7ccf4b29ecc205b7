//! `device …`, `group …` and `registration …`: asks the running gateway, or does it without one.

mod offline;
mod show;

#[cfg(test)]
mod tests;

use std::io::{self, Write};

pub(super) use offline::own;

use super::{DeviceCommand, GroupCommand, RegistrationCommand};
use crate::{
    config::Config,
    console::{Reply, Request},
};

/// Why a command failed. Its text goes to standard error, its code to the shell.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// A setting stands in the way (78, `EX_CONFIG`).
    #[error("{0}")]
    Config(String),
    /// What was given to be read is wrong (65, `EX_DATAERR`).
    #[error("{0}")]
    Data(String),
    /// It could not be done (1).
    #[error("{0}")]
    Failed(String),
    /// Standard output does not take the answer (1).
    #[error("cannot write the answer: {0}")]
    Output(#[from] io::Error),
    /// The command line makes no sense (2, as its parser says it).
    #[error("{0}")]
    Usage(String),
}

impl CliError {
    /// The exit code: sysexits.h where it has a word, else 1.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => 78,
            Self::Data(_) => 65,
            Self::Failed(_) | Self::Output(_) => 1,
            Self::Usage(_) => 2,
        }
    }
}

/// Executes `device …`. `terminal` says whether `out` is one: then a pairing comes with a QR code.
///
/// # Errors
/// [`CliError`].
pub fn device(
    command: &DeviceCommand,
    config: &Config,
    out: &mut dyn Write,
    terminal: bool,
) -> Result<(), CliError> {
    let (request, json) = match command {
        DeviceCommand::Add { name, transport, json } => {
            (Request::DeviceAdd { name: name.clone(), transport: transport.clone() }, *json)
        }
        DeviceCommand::List { json } => (Request::DeviceList, *json),
        DeviceCommand::Remove { id } => (Request::DeviceRemove { id: id.clone() }, false),
        DeviceCommand::Set { id, profile, quiet } => {
            let (id, profile, quiet) = (id.clone(), profile.clone(), quiet.clone());
            (Request::DeviceSet { id, profile, quiet }, false)
        }
        DeviceCommand::Show { id, json } => (Request::DeviceShow { id: id.clone() }, *json),
        DeviceCommand::Rotate { id, json } => (Request::DeviceRotate { id: id.clone() }, *json),
    };
    print(offline::ask_or_open(config, request)?, json, out, terminal)
}

/// Executes `ca`.
///
/// # Errors
/// [`CliError`].
pub fn ca(fingerprint: bool, config: &Config, out: &mut dyn Write) -> Result<(), CliError> {
    let authority = offline::authority(config)?;
    if fingerprint {
        writeln!(out, "sha256:{}", authority.fingerprint())?;
    } else {
        write!(out, "{}", authority.pem())?;
    }
    Ok(out.flush()?)
}

/// Executes `group …`.
///
/// # Errors
/// [`CliError`].
pub fn group(command: &GroupCommand, config: &Config, out: &mut dyn Write) -> Result<(), CliError> {
    let both = |group: &String, device: &String| (group.clone(), device.clone());
    let (request, json) = match command {
        GroupCommand::Add { name, json } => (Request::GroupAdd { name: name.clone() }, *json),
        GroupCommand::Join { group, device } => {
            let (group, device) = both(group, device);
            (Request::GroupJoin { group, device }, false)
        }
        GroupCommand::Leave { group, device } => {
            let (group, device) = both(group, device);
            (Request::GroupLeave { group, device }, false)
        }
        GroupCommand::List { json } => (Request::GroupList, *json),
        GroupCommand::Remove { group } => (Request::GroupRemove { group: group.clone() }, false),
    };
    print(offline::ask_or_open(config, request)?, json, out, false)
}

/// Executes `metrics`.
///
/// # Errors
/// [`CliError`].
pub fn metrics(config: &Config, out: &mut dyn Write) -> Result<(), CliError> {
    print(offline::ask_or_open(config, Request::Metrics)?, false, out, false)
}

/// Executes `simulate --export`.
///
/// # Errors
/// [`CliError`].
pub fn export(id: &str, config: &Config, out: &mut dyn Write) -> Result<(), CliError> {
    print(offline::ask_or_open(config, Request::DeviceHistory { id: id.to_owned() })?, false, out, false)
}

/// Executes `registration …`.
///
/// # Errors
/// [`CliError`].
pub fn registration(
    command: &RegistrationCommand,
    config: &Config,
    out: &mut dyn Write,
    terminal: bool,
) -> Result<(), CliError> {
    let (request, json) = match command {
        RegistrationCommand::Add { device, app, vapid, json } => {
            let (app, device, vapid) = (app.clone(), device.clone(), vapid.clone());
            (Request::RegistrationAdd { app, device, vapid }, *json)
        }
        RegistrationCommand::List { json } => (Request::RegistrationList, *json),
        RegistrationCommand::Remove { endpoint } => {
            (Request::RegistrationRemove { endpoint: endpoint.clone() }, false)
        }
    };
    print(offline::ask_or_open(config, request)?, json, out, terminal)
}

fn print(reply: Reply, json: bool, out: &mut dyn Write, terminal: bool) -> Result<(), CliError> {
    let printed = match reply {
        Reply::Failed { message } => return Err(CliError::Failed(message)),
        Reply::Backup { .. } | Reply::Done => Ok(()),
        Reply::Paired(pairing) if json => show::json(&pairing, out),
        Reply::Paired(pairing) => show::pairing(&pairing, out, terminal),
        Reply::Devices { devices } if json => show::json(&devices, out),
        Reply::Devices { devices } => show::devices(&devices, out),
        Reply::Device(device) if json => show::json(&device, out),
        Reply::History { happened } => show::history(&happened, out),
        Reply::Device(device) => show::device(&device, out),
        Reply::Grouped { group } if json => show::json(&show::Grouped { group: &group }, out),
        Reply::Grouped { group } => writeln!(out, "{group}"),
        Reply::Groups { groups } if json => show::json(&groups, out),
        Reply::Groups { groups } => show::groups(&groups, out),
        Reply::Metrics { text } => out.write_all(text.as_bytes()),
        Reply::Registered(row) if json => show::json(&show::Registered::from(&row), out),
        Reply::Registered(row) => writeln!(out, "{}", row.endpoint),
        Reply::Registrations { registrations } if json => show::json(&registrations, out),
        Reply::Registrations { registrations } => show::registrations(&registrations, out),
        Reply::Status(status) => show::json(&status, out),
    };
    match printed.and_then(|()| out.flush()) {
        // `device list | head -1` has what it wanted.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}
