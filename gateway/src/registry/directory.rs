//! What transports may ask.

use std::{net::IpAddr, sync::PoisonError, time::Duration};

use super::{MAX_ENROLLED, Refusal, Registry, credentials, throttle::Charged};
use crate::{
    model::{
        Address, AppToken, Device, DeviceId, EndpointToken, NetworkName, Profile, Registration,
        RegistrationId, Session, Urgency,
    },
    store::Lookup,
    transport::{
        About, Claim, Directory, EnrolRefusal, Enrolment, Future, Invitation, Login, News, RegisterRefusal,
        RegisterRequest, RegisteredAs,
    },
};

impl Directory for Registry {
    fn address(&self, registration: RegistrationId) -> Option<Address> {
        self.accounts.address(registration)
    }

    fn addresses(&self) -> Vec<(Registration, Address)> {
        let all = self.accounts.addresses().into_iter();
        all.map(|(registration, address)| ((*registration).clone(), address)).collect()
    }

    fn app_token(&self, registration: RegistrationId) -> Option<AppToken> {
        self.accounts.registration(registration).map(|registration| registration.token.clone())
    }

    fn claim(&self, claim: Claim) -> Future<'_, Result<Registration, RegisterRefusal>> {
        Box::pin(async move { self.put_claimed(claim).await.map_err(|why| in_public(&why)) })
    }

    fn disclaim(&self, registration: RegistrationId) -> Future<'_, Result<(), RegisterRefusal>> {
        Box::pin(async move { self.forget(registration).await.map_err(|why| in_public(&why)) })
    }

    fn holder(&self, endpoint: &EndpointToken) -> Option<Registration> {
        match self.accounts.lookup(endpoint) {
            Lookup::Live(registration) => Some((*registration).clone()),
            Lookup::Gone | Lookup::Unknown => None,
        }
    }

    fn news(&self, device: DeviceId) -> Vec<News> {
        self.untold_news(device)
    }

    fn told(&self, device: DeviceId, told: &[About]) {
        self.settle_news(device, told);
    }

    fn registration(&self, registration: RegistrationId) -> Option<Registration> {
        self.accounts.registration(registration).map(|registration| (*registration).clone())
    }

    fn registrations(&self, device: DeviceId) -> Vec<Registration> {
        let all = self.accounts.registrations(Some(device));
        all.iter().map(|registration| (**registration).clone()).collect()
    }

    fn enroll(&self, enrolment: Enrolment) -> Future<'_, Result<(), EnrolRefusal>> {
        Box::pin(self.put_enrolled(enrolment))
    }

    fn invite(&self) -> Option<Invitation> {
        let secret = credentials::random_bytes::<8>().ok()?;
        let secret = format!("{:016x}", u64::from_ne_bytes(secret)).into();
        Some(Invitation { device: self.unused_device_id().ok()?, secret })
    }

    fn keep_alive(&self, device: DeviceId, network: &NetworkName) -> Option<Duration> {
        Some(Duration::from_secs(self.accounts.habit(device).of(network).ask_s.into()))
    }

    /// The right secret is welcome however many wrong ones others have tried for the same device: only
    /// a source that was wrong too often is not listened to at all.
    fn login(&self, id: &str, secret: &[u8], source: IpAddr) -> Login {
        let now = self.clock.moment().instant;
        let blocked = self.throttle.lock().unwrap_or_else(PoisonError::into_inner).blocks(source, now);
        if blocked {
            return Login::Throttled;
        }
        let tried = id.parse::<DeviceId>().ok();
        let stored = tried.and_then(|id| self.accounts.device(id)).map(|device| device.secret_hash);
        let right = credentials::matches(secret, stored);
        match tried {
            Some(device) if right => Login::Welcome(device),
            Some(_) | None => self.wrong_login(tried, source, now),
        }
    }

    fn register(
        &self,
        device: DeviceId,
        request: RegisterRequest,
    ) -> Future<'_, Result<RegisteredAs, RegisterRefusal>> {
        Box::pin(async move { Self::register(self, device, request).await.map_err(|why| in_public(&why)) })
    }

    fn register_at(
        &self,
        device: DeviceId,
        request: RegisterRequest,
        address: Address,
        most: usize,
    ) -> Future<'_, Result<RegisteredAs, RegisterRefusal>> {
        Box::pin(async move {
            let registered = self.register_reached(device, request, Some(address), most).await;
            registered.map_err(|why| in_public(&why))
        })
    }

    fn save_floor(&self, device: DeviceId, floor: Urgency) -> Future<'_, Result<(), RegisterRefusal>> {
        Box::pin(async move {
            let commit = {
                let _turn = self.turn();
                self.accounts.put_floor(device, floor)
            };
            let written = match commit {
                Ok(commit) => commit.await,
                Err(error) => Err(error),
            };
            written.map_err(|error| {
                tracing::warn!(%device, %error, "a floor is in force, but not written down");
                RegisterRefusal::InternalError
            })
        })
    }

    fn save_session(
        &self,
        device: DeviceId,
        session: Option<Session>,
    ) -> Future<'_, Result<(), RegisterRefusal>> {
        Box::pin(async move { self.put_session(device, session).await.map_err(|why| in_public(&why)) })
    }

    fn session(&self, device: DeviceId) -> Option<Session> {
        self.accounts.session(device)
    }

    fn unregister(&self, device: DeviceId, token: AppToken) -> Future<'_, Result<(), RegisterRefusal>> {
        Box::pin(async move { Self::unregister(self, device, &token).await.map_err(|why| in_public(&why)) })
    }
}

impl Registry {
    fn wrong_login(&self, tried: Option<DeviceId>, source: IpAddr, now: std::time::Instant) -> Login {
        let charged = self.throttle.lock().unwrap_or_else(PoisonError::into_inner).charge(source, tried, now);
        match charged {
            Charged::Forgiven => {
                // What cannot be an id is not written down: it may be a secret in the wrong field.
                tracing::debug!(device = ?tried, %source, "login refused: wrong id or secret");
                Login::Refused
            }
            Charged::DeviceEmpty => {
                tracing::debug!(device = ?tried, %source, "login refused: wrong id or secret, once more");
                Login::Throttled
            }
            Charged::SourceEmpty { tell } => {
                if tell {
                    tracing::warn!(%source, "too many wrong logins: this source, at least, is throttled");
                }
                Login::Refused
            }
        }
    }

    async fn put_enrolled(&self, enrolment: Enrolment) -> Result<(), EnrolRefusal> {
        let Enrolment { invitation: Invitation { device: id, secret }, name, source, transport } = enrolment;
        let now = self.clock.moment();
        let commit = {
            let _turn = self.turn();
            if self.accounts.device(id).is_some() {
                // Nobody else was given this id: the client asks for the second time.
                return Ok(());
            }
            let enrolled =
                self.accounts.devices().iter().filter(|known| &*known.transport == transport).count();
            if enrolled >= MAX_ENROLLED {
                tracing::warn!(?source, transport, "{}", EnrolRefusal::Full);
                return Err(EnrolRefusal::Full);
            }
            let mut enrolments = self.enrolments.lock().unwrap_or_else(PoisonError::into_inner);
            if source.is_some_and(|source| !enrolments.take(source, now.instant)) {
                tracing::debug!(?source, transport, "{}", EnrolRefusal::TooMany);
                return Err(EnrolRefusal::TooMany);
            }
            drop(enrolments);
            let device = Device {
                created: now.wall,
                id,
                name: name.clone(),
                profile: Profile::default(),
                secret_hash: credentials::hash(secret.as_bytes()),
                transport: transport.into(),
            };
            self.accounts.put_device(device).map_err(|_| EnrolRefusal::InternalError)?
        };
        commit.await.map_err(|_| EnrolRefusal::InternalError)?;
        tracing::info!(device = %id, %name, ?source, transport, "a device has registered itself");
        Ok(())
    }

    async fn put_session(&self, device: DeviceId, session: Option<Session>) -> Result<(), Refusal> {
        let commit = {
            let _turn = self.turn();
            // A device that was removed leaves nothing behind, also if its connection says good-bye later.
            if self.accounts.device(device).is_none() {
                return Err(Refusal::NoSuchDevice(device));
            }
            self.accounts.put_session(device, session)?
        };
        Ok(commit.await?)
    }
}

/// The same refusal in the words that devices know.
fn in_public(why: &Refusal) -> RegisterRefusal {
    match why {
        Refusal::Full(_) => RegisterRefusal::ActionRequired,
        Refusal::NoSuchDevice(_) => RegisterRefusal::Unauthorized,
        Refusal::Crowded(_)
        | Refusal::Name(_)
        | Refusal::NoRandomness
        | Refusal::NoSuchGroup(_)
        | Refusal::NoSuchRegistration(_)
        | Refusal::NotAMember(..)
        | Refusal::NotAnEndpoint(..)
        | Refusal::NotStored(_)
        | Refusal::OwnApps(_)
        | Refusal::OwnTopics(_) => RegisterRefusal::InternalError,
    }
}
