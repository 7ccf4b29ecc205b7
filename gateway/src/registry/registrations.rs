//! Which app has which endpoint.

use std::sync::Arc;

use super::{MAX_REGISTRATIONS, Refusal, Registry, credentials};
use crate::{
    model::{Address, AppToken, DeviceId, EndpointToken, Registration, RegistrationId, Waiting},
    store::{Commit, Lookup, NotStored},
    transport::{Notice, RegisterRequest, RegisteredAs},
};

/// What the owner is shown of an app has at most so many characters.
const MAX_APP: usize = 100;

/// A registration, and what to wait for before it is told to anybody.
struct Entry {
    changed: bool,
    commit: Option<Commit>,
    registration: Registration,
}

impl Registry {
    /// Gives an app an endpoint. The same token of the same device (or group) gets the same endpoint, for ever.
    ///
    /// The latest request counts: another VAPID key (or none) changes who may push to the endpoint, and
    /// another app name what the owner is shown. The endpoint stays what it was.
    ///
    /// # Errors
    /// [`Refusal::NoSuchDevice`], [`Refusal::Full`], or by the disk.
    pub async fn register(
        &self,
        device: DeviceId,
        request: RegisterRequest,
    ) -> Result<RegisteredAs, Refusal> {
        self.register_reached(device, request, None, MAX_REGISTRATIONS).await
    }

    /// The same, with the address at which the app instance is reached, if it has one, and for a device that may
    /// have `most` registrations.
    pub(super) async fn register_reached(
        &self,
        device: DeviceId,
        request: RegisterRequest,
        address: Option<Address>,
        most: usize,
    ) -> Result<RegisteredAs, Refusal> {
        let Entry { changed, commit, registration } = self.enter(device, request, address, most)?;
        if let Some(commit) = commit {
            commit.await?;
        }
        if changed {
            tracing::info!(%device, app = %registration.app, channel = %registration.id, "app registered");
        }
        Ok(self.with_endpoint(registration))
    }

    /// All registrations, oldest first.
    #[must_use]
    pub fn registrations(&self) -> Vec<RegisteredAs> {
        let all = self.accounts.registrations(None);
        all.iter().map(|registration| self.with_endpoint((**registration).clone())).collect()
    }

    /// How much waits for a registration.
    #[must_use]
    pub fn waiting(&self, registration: RegistrationId) -> Waiting {
        self.accounts.waiting(registration)
    }

    /// Ends the registration with this endpoint: its URL, or the last segment alone. Its device is told.
    ///
    /// # Errors
    /// [`Refusal::NotAnEndpoint`], [`Refusal::NoSuchRegistration`], or by the disk.
    pub async fn remove_registration(&self, endpoint: &str) -> Result<(), Refusal> {
        let token = self
            .origin
            .read_endpoint(endpoint)
            .map_err(|why| Refusal::NotAnEndpoint(endpoint.to_owned(), why))?;
        let unknown = || Refusal::NoSuchRegistration(endpoint.to_owned());
        let registration = self.live(token).ok_or_else(unknown)?;
        let (listeners, commit) = {
            let _turn = self.turn();
            let listeners = self.listeners(registration.device, &registration.token);
            let tell: Vec<_> = listeners.iter().copied().filter(|device| self.asks(*device)).collect();
            let commit = self.accounts.revoke_registration(registration.id, &tell)?;
            (listeners, commit.ok_or_else(unknown)?)
        };
        commit.await?;
        for device in listeners {
            self.notify(Notice::Unregistered(device, registration.token.clone()));
        }
        tracing::info!(device = %registration.device, app = %registration.app, "registration removed");
        Ok(())
    }

    /// Ends a registration at the wish of its device. Unknown tokens are no error.
    pub(super) async fn unregister(&self, device: DeviceId, token: &AppToken) -> Result<(), Refusal> {
        let commit = {
            let _turn = self.turn();
            match self.accounts.registration_of(device, token) {
                Some(registration) => self.accounts.remove_registration(registration.id)?,
                None => None,
            }
        };
        match commit {
            Some(commit) => Ok(commit.await?),
            None => Ok(()),
        }
    }

    /// Finds the registration, or makes or changes it.
    fn enter(
        &self,
        device: DeviceId,
        request: RegisterRequest,
        address: Option<Address>,
        most: usize,
    ) -> Result<Entry, Refusal> {
        let app = presentable(&request.app, &request.token);
        let _turn = self.turn();
        if self.accounts.device(device).is_none() && self.accounts.group(device).is_none() {
            return Err(Refusal::NoSuchDevice(device));
        }
        let known = self.accounts.registration_of(device, &request.token);
        let registration = match &known {
            Some(known) => Registration { app, vapid: request.vapid, ..(**known).clone() },
            None if self.accounts.registrations(Some(device)).len() >= most.min(MAX_REGISTRATIONS) => {
                return Err(Refusal::Full(device));
            }
            None => Registration {
                app,
                created: self.clock.moment().wall,
                device,
                endpoint: EndpointToken(credentials::random_bytes()?),
                id: self.unused_registration_id()?,
                token: request.token,
                vapid: request.vapid,
            },
        };
        if known.is_none() {
            self.know_origin(device)?;
        }
        let changed = known.is_none_or(|known| *known != registration);
        // What is the same is put all the same: that writes nothing, but waits for whoever asked for
        // this app a moment ago and whose write is not on disk yet.
        let put = self.accounts.put_registration(registration.clone());
        // What is queued last is written last, so its commit covers both.
        let put = match (put, address) {
            (Ok(_), Some(address)) => self.accounts.put_address(registration.id, address),
            (put, _) => put,
        };
        match put {
            Ok(commit) => Ok(Entry { changed, commit: Some(commit), registration }),
            // A disk that is out of order has been rolled back to: what is known then is what is on it.
            Err(NotStored::Disk) if !changed => Ok(Entry { changed, commit: None, registration }),
            Err(error) => Err(error.into()),
        }
    }

    fn live(&self, endpoint: EndpointToken) -> Option<Arc<Registration>> {
        match self.accounts.lookup(&endpoint) {
            Lookup::Live(registration) => Some(registration),
            Lookup::Gone | Lookup::Unknown => None,
        }
    }

    pub(super) fn unused_registration_id(&self) -> Result<RegistrationId, Refusal> {
        loop {
            let id = RegistrationId(u64::from_ne_bytes(credentials::random_bytes()?));
            if self.accounts.registration(id).is_none() {
                return Ok(id);
            }
        }
    }

    pub(super) fn with_endpoint(&self, registration: Registration) -> RegisteredAs {
        RegisteredAs { endpoint: self.origin.endpoint(registration.endpoint), registration }
    }
}

/// What a device says of an app ends on its owner's terminal and in the log: without control
/// characters, short, and never empty.
pub(super) fn presentable(app: &str, token: &AppToken) -> Box<str> {
    let clean: String = app.chars().filter(|c| !c.is_control()).take(MAX_APP).collect();
    let clean = clean.trim();
    if clean.is_empty() { token.as_str().into() } else { clean.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_name_cannot_write_to_the_terminal() {
        let token: AppToken = "token".parse().expect("a token");
        assert_eq!(&*presentable("\u{1b}]0;x\u{7}Mail\n", &token), "]0;xMail");
        assert_eq!(&*presentable(" \n\u{1b} ", &token), "token");
        assert_eq!(presentable(&"é".repeat(1000), &token).chars().count(), MAX_APP);
    }
}
