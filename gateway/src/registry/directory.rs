//! What transports may ask.

use std::{net::IpAddr, sync::PoisonError, time::Duration};

use super::{Refusal, Registry, credentials, throttle::Charged};
use crate::{
    model::{AppToken, DeviceId, NetworkName, Session},
    transport::{Directory, Future, Login, RegisterRefusal, RegisterRequest, RegisteredAs},
};

impl Directory for Registry {
    fn keep_alive(&self, _: DeviceId, _: &NetworkName) -> Option<Duration> {
        None
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
        Refusal::Name(_)
        | Refusal::NoRandomness
        | Refusal::NoSuchRegistration(_)
        | Refusal::NotAnEndpoint(..)
        | Refusal::NotStored(_) => RegisterRefusal::InternalError,
    }
}
