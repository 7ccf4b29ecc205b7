//! Groups: devices that share endpoints.

use std::sync::Arc;

use super::{Refusal, Registry, check_name};
use crate::{
    model::{DeviceId, Group},
    store::Commit,
    transport::Notice,
};

/// A group may have so many members: each of them is woken and sent a copy by every message.
pub const MAX_MEMBERS: usize = 32;

impl Registry {
    /// Makes a group without members.
    ///
    /// # Errors
    /// [`Refusal`] of the name, or by the disk.
    pub async fn add_group(&self, name: &str) -> Result<DeviceId, Refusal> {
        check_name(name)?;
        let (id, commit) = {
            let _turn = self.turn();
            let id = self.unused_device_id()?;
            let created = self.clock.moment().wall;
            (id, self.accounts.put_group(Group { created, id, members: Vec::new(), name: name.into() })?)
        };
        commit.await?;
        tracing::info!(group = %id, name, "group made");
        Ok(id)
    }

    /// All groups, oldest first.
    #[must_use]
    pub fn groups(&self) -> Vec<Arc<Group>> {
        self.accounts.groups()
    }

    /// Makes a device a member: it gets what is accepted from now on. A member already is no error.
    ///
    /// # Errors
    /// [`Refusal::NoSuchGroup`], [`Refusal::NoSuchDevice`], [`Refusal::OwnApps`], [`Refusal::OwnTopics`], [`Refusal::Crowded`], or by the disk.
    pub async fn join_group(&self, id: DeviceId, device: DeviceId) -> Result<(), Refusal> {
        self.change_group(id, |group| {
            let known = self.accounts.device(device).ok_or(Refusal::NoSuchDevice(device))?;
            match &*known.transport {
                "ntfy" => return Err(Refusal::OwnTopics(device)),
                "xmpp" => return Err(Refusal::OwnApps(device)),
                _ => {}
            }
            if !group.members.contains(&device) {
                if group.members.len() >= MAX_MEMBERS {
                    return Err(Refusal::Crowded(id));
                }
                group.members.push(device);
            }
            Ok(())
        })?
        .await?;
        tracing::info!(group = %id, %device, "device has joined the group");
        Ok(())
    }

    /// Ends a device's membership. What it has not acknowledged by then it gets no more.
    ///
    /// # Errors
    /// [`Refusal::NoSuchGroup`], [`Refusal::NotAMember`], or by the disk.
    pub async fn leave_group(&self, id: DeviceId, device: DeviceId) -> Result<(), Refusal> {
        self.change_group(id, |group| {
            let before = group.members.len();
            group.members.retain(|member| *member != device);
            if group.members.len() == before { Err(Refusal::NotAMember(device, id)) } else { Ok(()) }
        })?
        .await?;
        tracing::info!(group = %id, %device, "device has left the group");
        Ok(())
    }

    /// Removes a group. Its endpoints and waiting messages end at once; its members stay paired, and are told.
    ///
    /// # Errors
    /// [`Refusal::NoSuchGroup`], or by the disk.
    pub async fn remove_group(&self, id: DeviceId) -> Result<(), Refusal> {
        let (told, commit) = {
            let _turn = self.turn();
            let members = self.accounts.group(id).ok_or(Refusal::NoSuchGroup(id))?.members.clone();
            let told: Vec<_> = self
                .accounts
                .registrations(Some(id))
                .iter()
                .flat_map(|each| {
                    let listeners = self.listeners(id, &each.token).into_iter();
                    listeners.map(|device| Notice::Unregistered(device, each.token.clone()))
                })
                .collect();
            let tell: Vec<_> = members.into_iter().filter(|device| self.asks(*device)).collect();
            (told, self.accounts.remove_group(id, &tell)?.ok_or(Refusal::NoSuchGroup(id))?)
        };
        commit.await?;
        told.into_iter().for_each(|notice| self.notify(notice));
        tracing::info!(group = %id, "group removed");
        Ok(())
    }

    fn change_group(
        &self,
        id: DeviceId,
        change: impl FnOnce(&mut Group) -> Result<(), Refusal>,
    ) -> Result<Commit, Refusal> {
        let _turn = self.turn();
        let mut group = (*self.accounts.group(id).ok_or(Refusal::NoSuchGroup(id))?).clone();
        change(&mut group)?;
        Ok(self.accounts.put_group(group)?)
    }
}
