//! What a room may ask of the house: who somebody is, and which endpoint an app has.
//!
//! Rooms see this trait only; [`crate::registry`] implements it.

use std::{net::IpAddr, pin::Pin, time::Duration};

use crate::model::{
    Address, AppToken, DeviceId, EndpointToken, NetworkName, Registration, RegistrationId, Session, Urgency,
    VapidKey,
};

/// An answer that has to wait for the disk.
pub type Future<'a, T> = Pin<Box<dyn std::future::Future<Output = T> + Send + 'a>>;

/// Who is who. Reads answer at once from memory; writes answer when they are on disk.
pub trait Directory: Send + Sync {
    /// Where a registration is reached, for a room that writes to addresses.
    fn address(&self, _registration: RegistrationId) -> Option<Address> {
        None
    }

    /// Every registration that has an address, with it.
    fn addresses(&self) -> Vec<(Registration, Address)> {
        Vec::new()
    }

    /// The distributor's name for an app, by the number of its registration.
    fn app_token(&self, _registration: RegistrationId) -> Option<AppToken> {
        None
    }

    /// Gives an app an endpoint that its protocol has chosen, or the one that it has there already.
    fn claim(&self, _claim: Claim) -> Future<'_, Result<Registration, RegisterRefusal>> {
        Box::pin(async { Err(RegisterRefusal::Unauthorized) })
    }

    /// Ends a registration that nobody has claimed, as if it had never been.
    fn disclaim(&self, _registration: RegistrationId) -> Future<'_, Result<(), RegisterRefusal>> {
        Box::pin(async { Ok(()) })
    }

    /// The registration that has this endpoint.
    fn holder(&self, _endpoint: &EndpointToken) -> Option<Registration> {
        None
    }

    /// What a device is to be told of its registrations without having asked, oldest first.
    fn news(&self, _device: DeviceId) -> Vec<News> {
        Vec::new()
    }

    /// The device has been told. Does not wait for the disk: what is lost is told again.
    fn told(&self, _device: DeviceId, _told: &[About]) {}

    /// A registration that has not ended.
    fn registration(&self, _registration: RegistrationId) -> Option<Registration> {
        None
    }

    /// The device's registrations, oldest first.
    fn registrations(&self, _device: DeviceId) -> Vec<Registration> {
        Vec::new()
    }

    /// Writes down a client that has registered itself, by credentials that [`invite`](Self::invite)
    /// made for it. A room asks for nobody but [`Audience::Home`](super::web::Audience::Home), and those whom
    /// their own server answers for.
    fn enroll(&self, _enrolment: Enrolment) -> Future<'_, Result<(), EnrolRefusal>> {
        Box::pin(async { Err(EnrolRefusal::Full) })
    }

    /// Credentials for a client that may register itself. Nothing is written, so nothing is to be given
    /// back by a client that never registers; `None` when they cannot be made.
    fn invite(&self) -> Option<Invitation> {
        None
    }

    /// The keep-alive to ask of a device that connects from this network (MQTT 5.0: Server Keep Alive),
    /// if one was learnt or is being tried; `None`: the device's own will do.
    fn keep_alive(&self, device: DeviceId, network: &NetworkName) -> Option<Duration>;

    /// Checks a device's id and secret in constant time, throttled per source and per device.
    fn login(&self, id: &str, secret: &[u8], source: IpAddr) -> Login;

    /// Gives the app an endpoint: the same token of the same device gets the same endpoint for ever.
    fn register(
        &self,
        device: DeviceId,
        request: RegisterRequest,
    ) -> Future<'_, Result<RegisteredAs, RegisterRefusal>>;

    /// The same, and writes down with it where the app instance is reached. A device that has `most`
    /// registrations gets no further one ([`RegisterRefusal::ActionRequired`]).
    fn register_at(
        &self,
        _device: DeviceId,
        _request: RegisterRequest,
        _address: Address,
        _most: usize,
    ) -> Future<'_, Result<RegisteredAs, RegisterRefusal>> {
        Box::pin(async { Err(RegisterRefusal::Unauthorized) })
    }

    /// Writes down the lowest urgency that a device wants from now on (RFC 8030 §5.3): it holds over a
    /// restart of the gateway.
    fn save_floor(&self, _device: DeviceId, _floor: Urgency) -> Future<'_, Result<(), RegisterRefusal>> {
        Box::pin(async { Ok(()) })
    }

    /// Writes down (or, with `None`, forgets) a device's durable session.
    fn save_session(
        &self,
        device: DeviceId,
        session: Option<Session>,
    ) -> Future<'_, Result<(), RegisterRefusal>>;

    /// The device's durable session, if it has one.
    fn session(&self, device: DeviceId) -> Option<Session>;

    /// Ends a registration; its endpoint answers 410 from now on. Unknown tokens are no error:
    /// after the call there is no such registration.
    fn unregister(&self, device: DeviceId, token: AppToken) -> Future<'_, Result<(), RegisterRefusal>>;
}

/// What news are about: the name under which they are settled.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum About {
    /// This endpoint has ended without the device's doing.
    End(EndpointToken),
    /// Endpoints lie elsewhere than the device was told.
    Origin,
}

/// What a device is to be told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct News {
    /// What they are about.
    pub about: About,
    /// Settled when the device has taken all of it.
    pub tell: Vec<Tell>,
}

/// One message to a device about its registrations.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Tell {
    /// Its app has this endpoint now.
    Endpoint(RegisteredAs),
    /// Its app has none any more.
    Unregistered(AppToken),
}

/// Credentials that nobody has yet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Invitation {
    /// The device's id.
    pub device: DeviceId,
    /// What [`Directory::login`] will take: 16 lower-case hexadecimal digits, 64 random bits.
    pub secret: Box<str>,
}

/// An app whose protocol has chosen its endpoint.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Claim {
    /// Whose it is to be, if it is not another's than `house`'s.
    pub device: DeviceId,
    /// Where it is reached.
    pub endpoint: EndpointToken,
    /// A device of the house that holds what nobody has claimed yet.
    pub house: DeviceId,
    /// The room's name: the device must be its own. The house's device is made if it is not there.
    pub transport: &'static str,
    /// The name of the app instance.
    pub token: AppToken,
}

/// A client that registers itself: it becomes a device.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Enrolment {
    /// Its credentials.
    pub invitation: Invitation,
    /// What the owner is shown.
    pub name: Box<str>,
    /// From where it comes. `None`: its own server has let it in, and says who it is.
    pub source: Option<IpAddr>,
    /// The room that it speaks to.
    pub transport: &'static str,
}

/// Why a client does not become a device.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum EnrolRefusal {
    /// There are as many such devices as there may be: the owner must remove some.
    #[error("too many clients have registered themselves: remove some devices")]
    Full,
    /// Too many from this source within the hour.
    #[error("too many clients of one source have registered themselves: try again later")]
    TooMany,
    /// The gateway cannot write now.
    #[error("the gateway cannot write now: try again later")]
    InternalError,
}

/// A registration with the full URL of its endpoint.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RegisteredAs {
    /// The endpoint's URL.
    pub endpoint: String,
    /// The registration.
    pub registration: Registration,
}

/// What a login comes to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Login {
    /// Wrong id or secret; which of them is nobody's business.
    Refused,
    /// Too many wrong ones from here or for this device: try later.
    Throttled,
    /// It is this device.
    Welcome(DeviceId),
}

/// An app that wants an endpoint.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RegisterRequest {
    /// What to show to the owner: the app's name, else the description, else the token.
    pub app: Box<str>,
    /// The distributor's name for the app instance.
    pub token: AppToken,
    /// The only application server that may push, if any.
    pub vapid: Option<VapidKey>,
}

/// Why there is no endpoint, in the words of UnifiedPush (AND_3.0.0, DBUS 0.4).
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RegisterRefusal {
    /// The device has as many registrations as it may have: the owner must remove some.
    #[error("ACTION_REQUIRED")]
    ActionRequired,
    /// The gateway cannot write now (disk full, shutting down): try again later.
    #[error("INTERNAL_ERROR")]
    InternalError,
    /// The device is not paired (any more).
    #[error("UNAUTHORIZED")]
    Unauthorized,
}
