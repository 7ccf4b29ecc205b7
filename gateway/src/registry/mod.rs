//! Who is who: devices, their credentials, and the registrations of their apps.
//!
//! Policy over [`store::Accounts`](crate::store::Accounts): what a name may be, who may log in, which app
//! has which endpoint, and how many. Every change is answered once it is on disk. Transports see it as
//! their [`Directory`](crate::transport::Directory), the owner through [`crate::console`].

mod claims;
mod credentials;
mod directory;
mod groups;
mod news;
mod pairing;
mod registrations;
mod throttle;

#[cfg(test)]
pub(crate) mod tests;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

pub use credentials::Secret;
pub use groups::MAX_MEMBERS;
pub use pairing::{NotAnEndpoint, Origin, Security};

use self::throttle::{Enrolments, Throttle};
use crate::{
    clock::SharedClock,
    meter::Meter,
    model::{
        Device, DeviceId, Habit, Preferences, Profile, QuietChoice, Tally, Urgency,
        history::{self, Happened},
    },
    store::{Accounts, NotStored},
    transport::Notice,
};

/// A device may have so many registrations. UnifiedPush asks for more than 1,000 (AND_3.0.0).
pub const MAX_REGISTRATIONS: usize = 2_000;
/// So many devices of one transport may have registered themselves; what the owner pairs is not limited.
pub const MAX_ENROLLED: usize = 256;
/// A device's name may have so many bytes.
pub const MAX_NAME: usize = 64;

/// How transports learn what the owner has changed. Called from any task; must not wait.
pub type Notices = Box<dyn Fn(Notice) + Send + Sync>;

/// How the planner learns that a device is to be treated differently, or is unpaired. Called from any
/// task; must not wait.
pub type Changes = Box<dyn Fn(DeviceId) + Send + Sync>;

/// Devices and registrations, with the rules that hold for them.
pub struct Registry {
    accounts: Accounts,
    changes: Changes,
    clock: SharedClock,
    enrolments: Mutex<Enrolments>,
    /// What is counted while the gateway runs.
    meter: Option<Arc<Meter>>,
    notices: Notices,
    origin: Origin,
    throttle: Mutex<Throttle>,
    /// Held from looking to writing, so that two callers cannot both find an app without an endpoint,
    /// or give one to a device that is being removed. Never held while waiting for the disk.
    turn: Mutex<()>,
}

/// A device's new credentials.
#[derive(Debug)]
pub struct Pairing {
    /// Its id.
    pub device: DeviceId,
    /// Its secret, in the clear this once.
    pub secret: Secret,
    /// Both, and where to connect.
    pub uri: String,
}

/// Why the registry does not do what it was asked. The text says what would be right.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The group has [`MAX_MEMBERS`].
    #[error("group {0} has {MAX_MEMBERS} members, the most that one may have: make one leave first")]
    Crowded(DeviceId),
    /// The device has [`MAX_REGISTRATIONS`].
    #[error(
        "{0} has {MAX_REGISTRATIONS} registrations, the most that one may have: \
         remove some (`registration list` shows them)"
    )]
    Full(DeviceId),
    /// Not a name.
    #[error("a device's name has 1 to {MAX_NAME} bytes and no control characters; this one {0}")]
    Name(&'static str),
    /// The operating system gives no random bytes.
    #[error("the operating system gives no random numbers, without which no secret can be made")]
    NoRandomness,
    /// Not paired, or not any more.
    #[error("no device {0} is paired (`device list` shows those that are)")]
    NoSuchDevice(DeviceId),
    /// Removed, or never was.
    #[error("there is no group {0} (`group list` shows those that there are)")]
    NoSuchGroup(DeviceId),
    /// Ended already, or never was.
    #[error("no registration has the endpoint {0} (`registration list` shows those that have one)")]
    NoSuchRegistration(String),
    /// It was none before.
    #[error("device {0} is no member of group {1} (`group list` shows its members)")]
    NotAMember(DeviceId, DeviceId),
    /// Not one of this gateway's endpoints at all.
    #[error("{0:?} is not an endpoint: {1}")]
    NotAnEndpoint(String, NotAnEndpoint),
    /// A client that takes pushes for what it has registered itself and for nothing else.
    #[error("device {0} speaks XMPP, whose client knows its own apps only: let each app register by itself")]
    OwnApps(DeviceId),
    /// A client that hears the topics that it asks for and no others.
    #[error("device {0} speaks ntfy, which shares by itself: let each client subscribe to the same topic")]
    OwnTopics(DeviceId),
    /// Nothing was changed: try again later.
    #[error("{0}; nothing was changed")]
    NotStored(#[from] NotStored),
}

impl Registry {
    /// `origin` is where the gateway is reached, `notices` takes what transports have to be told.
    #[must_use]
    pub fn new(accounts: Accounts, clock: SharedClock, origin: Origin, notices: Notices) -> Self {
        Self {
            accounts,
            changes: Box::new(|_| ()),
            clock,
            enrolments: Mutex::default(),
            meter: None,
            notices,
            origin,
            throttle: Mutex::default(),
            turn: Mutex::default(),
        }
    }

    /// Tells `changes` of every device that the planner is to treat differently.
    #[must_use]
    pub fn telling(self, changes: Changes) -> Self {
        Self { changes, ..self }
    }

    /// Asks `meter` for what was counted of a device, instead of what was written last.
    #[must_use]
    pub fn metered(self, meter: Arc<Meter>) -> Self {
        Self { meter: Some(meter), ..self }
    }

    /// What was counted of a device; `None` when it is not paired.
    #[must_use]
    pub fn tally(&self, id: DeviceId) -> Option<Tally> {
        self.accounts.device(id)?;
        let now = self.clock.moment();
        let day = now.trusted.then(|| self.clock.day(now.wall));
        let counted = self.meter.as_ref().and_then(|meter| meter.tally(id));
        let mut tally = counted.unwrap_or_else(|| self.accounts.tally(id));
        // Nothing has happened yet on a new day: then that is what there is to say.
        tally.today(day);
        Some(tally)
    }

    /// What happened to a device in the last 30 days, as far as it was kept; `None` when it is not paired.
    #[must_use]
    pub fn history(&self, id: DeviceId) -> Option<Vec<Happened>> {
        self.accounts.device(id)?;
        Some(match &self.meter {
            Some(meter) => meter.history(id),
            None => history::read(&self.accounts.history(id)),
        })
    }

    /// Pairs a device that speaks the protocol of the room `transport`.
    ///
    /// # Errors
    /// [`Refusal`] of the name, or by the disk.
    pub async fn add_device(&self, name: &str, transport: &str) -> Result<Pairing, Refusal> {
        check_name(name)?;
        let secret = Secret::of(transport)?;
        let (device, commit) = {
            let _turn = self.turn();
            let device = Device {
                created: self.clock.moment().wall,
                id: self.unused_device_id()?,
                name: name.into(),
                profile: Profile::default(),
                secret_hash: secret.hash(),
                transport: transport.into(),
            };
            (device.id, self.accounts.put_device(device)?)
        };
        commit.await?;
        tracing::info!(%device, name, "device paired");
        Ok(self.pairing(device, secret))
    }

    /// All devices, oldest first, each with the number of its registrations.
    #[must_use]
    pub fn devices(&self) -> Vec<(Arc<Device>, usize)> {
        let mut counts = std::collections::HashMap::<DeviceId, usize>::new();
        for registration in self.accounts.registrations(None) {
            *counts.entry(registration.device).or_default() += 1;
        }
        let count = |device: &Device| counts.get(&device.id).copied().unwrap_or_default();
        self.accounts.devices().into_iter().map(|device| (device.clone(), count(&device))).collect()
    }

    /// Gives a device a new secret. The old one, and the connection that it opened, end at once.
    ///
    /// # Errors
    /// [`Refusal::NoSuchDevice`], or by the disk.
    pub async fn rotate(&self, id: DeviceId) -> Result<Pairing, Refusal> {
        let (secret, commit) = {
            let _turn = self.turn();
            let device = self.accounts.device(id).ok_or(Refusal::NoSuchDevice(id))?;
            let secret = Secret::of(&device.transport)?;
            let changed = Device { secret_hash: secret.hash(), ..(*device).clone() };
            (secret, self.accounts.put_device(changed)?)
        };
        commit.await?;
        self.notify(Notice::Expelled(id));
        tracing::info!(device = %id, "device has a new secret");
        Ok(self.pairing(id, secret))
    }

    /// What was learnt of a device's networks.
    #[must_use]
    pub fn habit(&self, id: DeviceId) -> Habit {
        self.accounts.habit(id)
    }

    /// Writes down what was learnt of a device's networks, unless it is paired no longer. Does not wait
    /// for the disk: what is lost is learnt again.
    pub fn put_habit(&self, id: DeviceId, habit: Habit) {
        let _turn = self.turn();
        if self.accounts.device(id).is_none() {
            return;
        }
        if let Err(error) = self.accounts.put_habit(id, habit) {
            tracing::warn!(device = %id, %error, "what was learnt of a device's networks is not written down");
        }
    }

    /// The lowest urgency that a device wants, if it has ever said so.
    #[must_use]
    pub fn floor(&self, id: DeviceId) -> Option<Urgency> {
        self.accounts.floor(id)
    }

    /// What the owner has chosen for a device; `None` when it is not paired.
    #[must_use]
    pub fn preferences(&self, id: DeviceId) -> Option<Preferences> {
        self.accounts.device(id).map(|_| self.accounts.preferences(id))
    }

    /// Changes what the owner has chosen for a device: each part that is given, `Some(None)` for what
    /// the configuration says. In force at once.
    ///
    /// # Errors
    /// [`Refusal::NoSuchDevice`], or by the disk.
    pub async fn prefer(
        &self,
        id: DeviceId,
        profile: Option<Option<Profile>>,
        quiet: Option<Option<QuietChoice>>,
    ) -> Result<(), Refusal> {
        let (chosen, commit) = {
            let _turn = self.turn();
            let known = self.preferences(id).ok_or(Refusal::NoSuchDevice(id))?;
            let chosen = Preferences {
                profile: profile.unwrap_or(known.profile),
                quiet: quiet.unwrap_or(known.quiet),
            };
            (chosen, self.accounts.put_preferences(id, chosen)?)
        };
        commit.await?;
        (self.changes)(id);
        tracing::info!(device = %id, ?chosen, "device is treated differently");
        Ok(())
    }

    /// Unpairs a device. Its connection, registrations and waiting messages end at once.
    ///
    /// # Errors
    /// [`Refusal::NoSuchDevice`], or by the disk.
    pub async fn remove_device(&self, id: DeviceId) -> Result<(), Refusal> {
        let commit = {
            let _turn = self.turn();
            self.accounts.remove_device(id)?.ok_or(Refusal::NoSuchDevice(id))?
        };
        commit.await?;
        self.notify(Notice::Expelled(id));
        (self.changes)(id);
        tracing::info!(device = %id, "device unpaired");
        Ok(())
    }

    fn pairing(&self, device: DeviceId, secret: Secret) -> Pairing {
        let uri = match secret.path(device) {
            Some(path) => self.origin.path(path),
            None => self.origin.pairing_uri(device, &secret),
        };
        Pairing { device, uri, secret }
    }

    fn unused_device_id(&self) -> Result<DeviceId, Refusal> {
        loop {
            let id = DeviceId(u64::from_ne_bytes(credentials::random_bytes()?));
            if self.accounts.device(id).is_none() && self.accounts.group(id).is_none() {
                return Ok(id);
            }
        }
    }

    fn notify(&self, notice: Notice) {
        (self.notices)(notice);
    }

    /// The guarded value is empty, so a panic while it was held has spoilt nothing.
    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("origin", &self.origin).finish_non_exhaustive()
    }
}

fn check_name(name: &str) -> Result<(), Refusal> {
    if name.is_empty() {
        Err(Refusal::Name("is empty"))
    } else if name.len() > MAX_NAME {
        Err(Refusal::Name("is too long"))
    } else if name.chars().any(char::is_control) {
        Err(Refusal::Name("has a control character"))
    } else {
        Ok(())
    }
}
