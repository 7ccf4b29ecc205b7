//! Several devices of one owner that share endpoints.

use serde::{Deserialize, Serialize};

use super::{DeviceId, UnixTime};

/// A group of devices. Its id is of the same kind as theirs, so that a registration may be a group's; a
/// message for it goes to every device that is a member when it is accepted.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Group {
    /// When it was made, by the wall clock.
    pub created: UnixTime,
    /// Its id; never that of a device.
    pub id: DeviceId,
    /// In the order in which they have joined; none twice.
    pub members: Vec<DeviceId>,
    /// What its owner calls it.
    pub name: Box<str>,
}
