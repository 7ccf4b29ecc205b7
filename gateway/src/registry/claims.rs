//! Endpoints that a protocol has chosen by itself, such as ntfy's topics.

use super::{MAX_REGISTRATIONS, Refusal, Registry, credentials};
use crate::{
    model::{Device, DeviceId, Profile, Registration, RegistrationId},
    store::{Commit, Lookup},
    transport::Claim,
};

/// What the owner is shown of a device that holds what nobody has claimed yet.
const HOUSE: &str = "waiting room";

impl Registry {
    /// Finds who has the endpoint, or gives it to the device; what the house holds becomes the device's.
    ///
    /// # Errors
    /// [`Refusal::NoSuchDevice`] also for a device of another transport; [`Refusal::Full`]; or by the disk.
    pub(super) async fn put_claimed(&self, claim: Claim) -> Result<Registration, Refusal> {
        let (registration, commit) = {
            let _turn = self.turn();
            if claim.device == claim.house {
                self.open_house(&claim)?;
            }
            let is_its_own = self
                .accounts
                .device(claim.device)
                .is_some_and(|device| &*device.transport == claim.transport);
            let registration = match self.accounts.lookup(&claim.endpoint) {
                Lookup::Live(held) if held.device != claim.house => (*held).clone(),
                _ if !is_its_own => return Err(Refusal::NoSuchDevice(claim.device)),
                _ if self.accounts.registrations(Some(claim.device)).len() >= MAX_REGISTRATIONS => {
                    return Err(Refusal::Full(claim.device));
                }
                Lookup::Live(held) => Registration { device: claim.device, ..(*held).clone() },
                Lookup::Gone | Lookup::Unknown => Registration {
                    app: claim.token.as_str().into(),
                    created: self.clock.moment().wall,
                    device: claim.device,
                    endpoint: claim.endpoint,
                    id: self.unused_registration_id()?,
                    token: claim.token,
                    vapid: None,
                },
            };
            let commit = self.accounts.put_registration(registration.clone())?;
            (registration, commit)
        };
        commit.await?;
        Ok(registration)
    }

    /// Ends a registration without a trace.
    pub(super) async fn forget(&self, registration: RegistrationId) -> Result<(), Refusal> {
        let commit: Option<Commit> = {
            let _turn = self.turn();
            self.accounts.forget_registration(registration)?
        };
        match commit {
            Some(commit) => Ok(commit.await?),
            None => Ok(()),
        }
    }

    /// The house's device, under the id that its room has chosen.
    fn open_house(&self, claim: &Claim) -> Result<(), Refusal> {
        let id: DeviceId = claim.house;
        if self.accounts.device(id).is_some() {
            return Ok(());
        }
        let device = Device {
            created: self.clock.moment().wall,
            id,
            name: HOUSE.into(),
            profile: Profile::default(),
            // Of a secret that nobody has ever seen.
            secret_hash: credentials::random_bytes()?,
            transport: claim.transport.into(),
        };
        // What is queued first is written first, so the claim's own commit covers it.
        drop(self.accounts.put_device(device)?);
        Ok(())
    }
}
