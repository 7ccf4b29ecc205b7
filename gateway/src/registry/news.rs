//! What devices are told of their registrations without having asked.
//!
//! Written down in the batch of what it is about, and gone when the device has acknowledged it: a device
//! that was away, or a gateway that was, changes nothing of it.

use super::Registry;
use crate::{
    model::{AppToken, DeviceId, EndpointToken},
    transport::{About, News, Tell},
};

/// The room that asks for news.
const ASKS: &str = "mqtt";

impl Registry {
    /// What the device has still to hear.
    pub(super) fn untold_news(&self, device: DeviceId) -> Vec<News> {
        let untold = self.accounts.untold(device);
        let ends = untold.ended.iter().map(|&endpoint| News {
            about: About::End(endpoint),
            tell: self.end_told(device, &endpoint).into_iter().collect(),
        });
        let mut news: Vec<_> = ends.collect();
        if untold.origin.as_deref() != Some(&*self.origin.url) {
            let own = self.accounts.registrations(Some(device));
            let tell: Vec<_> =
                own.iter().map(|each| Tell::Endpoint(self.with_endpoint((**each).clone()))).collect();
            if !tell.is_empty() {
                news.push(News { about: About::Origin, tell });
            }
        }
        news
    }

    /// What there is to say of an endpoint that has ended, by now.
    fn end_told(&self, device: DeviceId, endpoint: &EndpointToken) -> Option<Tell> {
        let (owner, token) = self.accounts.ended(endpoint)?;
        match self.accounts.registration_of(device, &token) {
            None => Some(Tell::Unregistered(token)),
            // Another one has come in its place since.
            Some(new) if owner == device => Some(Tell::Endpoint(self.with_endpoint((*new).clone()))),
            // It was a group's, and the device has an app of its own by that name.
            Some(_) => None,
        }
    }

    /// The device has heard it.
    pub(super) fn settle_news(&self, device: DeviceId, told: &[About]) {
        let _turn = self.turn();
        if self.accounts.device(device).is_none() {
            return;
        }
        let mut untold = self.accounts.untold(device);
        for about in told {
            match about {
                About::End(endpoint) => untold.ended.retain(|ended| ended != endpoint),
                About::Origin => untold.origin = Some(self.origin.url.as_str().into()),
            }
        }
        if let Err(error) = self.accounts.put_untold(device, untold) {
            tracing::warn!(%device, %error, "that a device was told is not written down: it will be told again");
        }
    }

    /// The device is about to learn its first endpoint, so it knows where endpoints lie. Written with it.
    pub(super) fn know_origin(&self, device: DeviceId) -> Result<(), crate::store::NotStored> {
        if self.asks(device) && self.accounts.registrations(Some(device)).is_empty() {
            let mut untold = self.accounts.untold(device);
            untold.origin = Some(self.origin.url.as_str().into());
            self.accounts.put_untold(device, untold)?;
        }
        Ok(())
    }

    /// Whether its room hands news over.
    pub(super) fn asks(&self, device: DeviceId) -> bool {
        self.accounts.device(device).is_some_and(|device| &*device.transport == ASKS)
    }

    /// The devices that know a registration of `owner` by this token. Not a member of a group that has an
    /// app of its own by that name: it would take the end of the group's for the end of its own.
    pub(super) fn listeners(&self, owner: DeviceId, token: &AppToken) -> Vec<DeviceId> {
        let Some(group) = self.accounts.group(owner) else { return vec![owner] };
        let other = |member: &DeviceId| self.accounts.registration_of(*member, token).is_none();
        group.members.iter().copied().filter(other).collect()
    }
}
