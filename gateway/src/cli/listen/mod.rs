//! `listen`: a distributor in the terminal, to try an application server against this gateway.
//!
//! It keeps device, secret and Web Push keys in the state directory, so that the endpoint is the
//! same next time, and a message that came meanwhile is still shown.

mod address;
mod decrypt;
mod identity;
mod keys;
mod legacy;
mod push;
mod session;
mod show;
mod tls;

#[cfg(test)]
mod tests;

use std::{
    future::Future,
    io::{self, Write},
    path::Path,
    pin::{Pin, pin},
    sync::Arc,
};

use tokio::signal::unix::{SignalKind, signal};

use self::{
    address::{Address, Pairing},
    identity::Identity,
    session::{End, Session},
    show::Show,
};
use super::{CliError, ListenArgs};
use crate::{
    clock::{SharedClock, SystemClock},
    config::Config,
    console::{self, Reply, Request},
};

/// Asks the running gateway; its refusal is an error.
type Ask<'a> = &'a dyn Fn(&Request) -> Result<Reply, CliError>;
/// Ready when the user has had enough.
type Stop<'a> = Pin<&'a mut dyn Future<Output = ()>>;

/// Executes `listen`.
///
/// # Errors
/// [`CliError`].
pub(super) fn listen(args: &ListenArgs, config: &Config, out: &mut dyn Write) -> Result<(), CliError> {
    let ask = |request: &Request| match console::ask(&config.state_dir, request) {
        Ok(Reply::Failed { message }) => Err(CliError::Failed(message)),
        Ok(reply) => Ok(reply),
        Err(error) => Err(CliError::Failed(error.to_string())),
    };
    let mut notes = io::stderr();
    let show = Show::new(args.json, out, &mut notes);
    let clock: SharedClock = Arc::new(SystemClock::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let stop = {
        let _inside = runtime.enter();
        stopped_by_signal()?
    };
    run(args, &config.state_dir, &ask, show, clock, &runtime, pin!(stop))
}

fn run<'a>(
    args: &ListenArgs,
    state_dir: &'a Path,
    ask: Ask<'_>,
    show: Show<'a>,
    clock: SharedClock,
    runtime: &tokio::runtime::Runtime,
    mut stop: Stop<'_>,
) -> Result<(), CliError> {
    let paired = args.mqtt.as_deref().and_then(Pairing::read).transpose()?;
    let given = match (&args.device, &args.secret, &paired) {
        (Some(device), Some(secret), _) => Some((device, secret)),
        (_, _, Some(paired)) => Some((&paired.device, &paired.secret)),
        (..) => None,
    };
    let mut identity = match given {
        Some((device, secret)) => Identity::given(state_dir, device, secret)?,
        None => Identity::paired(state_dir, ask)?,
    };
    let is_given = given.is_some();
    let address = match (paired, &args.mqtt) {
        (Some(paired), _) => paired.address,
        (None, Some(text)) => text.parse()?,
        (None, None) => address_of_running(ask)?,
    };
    let mut session = Session::new(address, state_dir, args.count, clock, show);
    match runtime.block_on(session.run(&identity, stop.as_mut()))? {
        End::Done => return Ok(()),
        End::Refused => {}
    }
    if is_given {
        return Err(CliError::Failed(format!(
            "the gateway at {} refuses the device {}; compare --device and --secret with what `device add` printed",
            session.address(),
            identity.device()
        )));
    }
    // The device was removed while nobody listened: once, another one takes its place.
    session.note(&format!("the gateway knows the device {} no more; pairing again", identity.device()));
    identity.pair_again(ask)?;
    match runtime.block_on(session.run(&identity, stop))? {
        End::Done => Ok(()),
        End::Refused => Err(CliError::Failed(format!(
            "the gateway at {} refuses also the device that was paired in its place; if another gateway listens there, name the right one with --mqtt",
            session.address()
        ))),
    }
}

fn address_of_running(ask: Ask<'_>) -> Result<Address, CliError> {
    let reply = ask(&Request::Status)?;
    let Reply::Status(status) = reply else { return Err(unexpected(&reply)) };
    status.mqtt.parse()
}

/// The reply's kind only: its content may be a secret.
fn unexpected(reply: &Reply) -> CliError {
    let kind = serde_json::to_value(reply).ok().and_then(|value| value["reply"].as_str().map(str::to_owned));
    CliError::Failed(format!(
        "the gateway answered with `{}`, which is no answer to the question; are gateway and command of the same version?",
        kind.unwrap_or_default()
    ))
}

fn stopped_by_signal() -> io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => (),
            _ = terminate.recv() => (),
        }
    })
}
