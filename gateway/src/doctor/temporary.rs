//! A device for a few seconds, with one registration: paired by the control socket, and removed however
//! the check ends.

use std::path::{Path, PathBuf};

use crate::{
    clock::Clock,
    console::{self, Pairing, Reply, Request},
};

/// Its name in `device list`, in case somebody looks meanwhile.
const NAME: &str = "doctor (temporary)";
/// One of ours that is older was left behind by a doctor who was killed; no check takes so long.
const LEFT_BEHIND_S: u64 = 86_400;

/// The device. Dropping it removes it.
#[derive(Debug)]
pub(super) struct Temporary {
    pub(super) endpoint: String,
    pub(super) pairing: Pairing,
    state_dir: PathBuf,
}

impl Temporary {
    /// Pairs it and gives it an endpoint.
    pub(super) fn pair(state_dir: &Path, clock: &dyn Clock) -> Result<Self, String> {
        sweep(state_dir, clock);
        let pair = Request::DeviceAdd { name: NAME.to_owned(), transport: "mqtt".to_owned() };
        let Reply::Paired(pairing) = ask(state_dir, &pair)? else {
            return Err("the gateway paired no device and gave no reason".to_owned());
        };
        // From here on it is removed, whatever happens.
        let mut device = Self { endpoint: String::new(), pairing, state_dir: state_dir.to_owned() };
        let id = device.pairing.device.clone();
        let register = Request::RegistrationAdd { app: "doctor".to_owned(), device: id, vapid: None };
        let Reply::Registered(row) = ask(state_dir, &register)? else {
            return Err("the gateway gave no endpoint and no reason".to_owned());
        };
        device.endpoint = row.endpoint;
        Ok(device)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // If this fails the gateway has gone meanwhile; the next doctor sweeps.
        let _ = ask(&self.state_dir, &Request::DeviceRemove { id: self.pairing.device.clone() });
    }
}

/// Removes what doctors before have left behind.
fn sweep(state_dir: &Path, clock: &dyn Clock) {
    let now = clock.moment().wall.as_secs();
    let Ok(Reply::Devices { devices }) = ask(state_dir, &Request::DeviceList) else { return };
    for device in devices {
        if device.name == NAME && device.created + LEFT_BEHIND_S < now {
            let _ = ask(state_dir, &Request::DeviceRemove { id: device.device });
        }
    }
}

fn ask(state_dir: &Path, request: &Request) -> Result<Reply, String> {
    match console::ask(state_dir, request) {
        Ok(Reply::Failed { message }) => Err(message),
        Ok(reply) => Ok(reply),
        Err(error) => Err(error.to_string()),
    }
}
