//! The owner's side door: a control socket, and the same commands without a running gateway.
//!
//! One request a connection: a line of JSON ([`Request`]) up, a line of JSON ([`Reply`]) down, which for
//! a backup its bytes follow. The
//! peer is checked by SO_PEERCRED: root and the gateway's own user may ask.

mod backup;
mod client;
mod execute;
mod server;
mod shown;
mod socket;

pub use client::{AskError, ask, fetch_backup};
pub use execute::execute;
pub use server::{BindError, MAX_REQUEST, Server};
pub use shown::{DayRow, DelayRow, DeviceShown, HappenedRow, NetworkRow, metrics};
pub use socket::runtime_dir;

use serde::{Deserialize, Serialize};

/// What an owner may ask.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum Request {
    /// The whole state in one file.
    Backup,
    /// Pair a device.
    DeviceAdd {
        /// Its name.
        name: String,
        /// The protocol that it speaks.
        #[serde(default = "mqtt")]
        transport: String,
    },
    /// All devices.
    DeviceList,
    /// Unpair a device.
    DeviceRemove {
        /// Its id.
        id: String,
    },
    /// A new secret for a device.
    DeviceRotate {
        /// Its id.
        id: String,
    },
    /// What the owner chooses for a device: each part that is given.
    DeviceSet {
        /// Its id.
        id: String,
        /// A profile, or `default`.
        profile: Option<String>,
        /// Quiet hours, `none`, or `default`.
        quiet: Option<String>,
    },
    /// What is known and was counted of a device.
    DeviceShow {
        /// Its id.
        id: String,
    },
    /// What happened to a device.
    DeviceHistory {
        /// Its id.
        id: String,
    },
    /// Make a group of devices.
    GroupAdd {
        /// Its name.
        name: String,
    },
    /// Make a device a member of a group.
    GroupJoin {
        /// The group's id.
        group: String,
        /// The device's id.
        device: String,
    },
    /// End a device's membership.
    GroupLeave {
        /// The group's id.
        group: String,
        /// The device's id.
        device: String,
    },
    /// All groups.
    GroupList,
    /// Remove a group.
    GroupRemove {
        /// Its id.
        group: String,
    },
    /// What was counted of all devices, as OpenMetrics text.
    Metrics,
    /// An endpoint for an app.
    RegistrationAdd {
        /// The app's name and token.
        app: String,
        /// The device's id, or a group's.
        device: String,
        /// Its application server's public key.
        vapid: Option<String>,
    },
    /// All registrations.
    RegistrationList,
    /// End a registration.
    RegistrationRemove {
        /// The endpoint's URL.
        endpoint: String,
    },
    /// Where the running gateway listens.
    Status,
}

/// What a command line of before there was a choice means.
fn mqtt() -> String {
    "mqtt".to_owned()
}

/// What comes back.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// The backup follows.
    Backup {
        /// So long is it.
        bytes: u64,
    },
    /// Done, and there is nothing to say.
    Done,
    /// A device's new credentials.
    Paired(Pairing),
    /// All devices.
    Devices {
        /// Oldest first.
        devices: Vec<DeviceRow>,
    },
    /// One device.
    Device(Box<DeviceShown>),
    /// What happened to a device.
    History {
        /// In order.
        happened: Vec<HappenedRow>,
    },
    /// A group was made.
    Grouped {
        /// Its id.
        group: String,
    },
    /// All groups.
    Groups {
        /// Oldest first.
        groups: Vec<GroupRow>,
    },
    /// OpenMetrics text.
    Metrics {
        /// It.
        text: String,
    },
    /// One registration.
    Registered(RegistrationRow),
    /// All registrations.
    Registrations {
        /// Oldest first.
        registrations: Vec<RegistrationRow>,
    },
    /// Where the gateway listens.
    Status(Status),
    /// It could not be done: what is wrong and what would be right.
    Failed {
        /// One sentence.
        message: String,
    },
}

/// A device's credentials: `device add --json`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Pairing {
    /// Its id.
    pub device: String,
    /// Its secret, shown this once.
    pub secret: String,
    /// The pairing URI.
    pub uri: String,
}

/// A row of `device list --json`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct DeviceRow {
    /// When it was paired, seconds since 1970.
    pub created: u64,
    /// Its id.
    pub device: String,
    /// What its owner calls it.
    pub name: String,
    /// The profile that was chosen for it; the configuration's otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// The quiet hours that were chosen for it, or `none`; the configuration's otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet: Option<String>,
    /// How many registrations it has.
    pub registrations: u64,
    /// The protocol that it speaks.
    pub transport: String,
}

/// A row of `group list --json`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct GroupRow {
    /// When it was made, seconds since 1970.
    pub created: u64,
    /// Its id.
    pub group: String,
    /// The ids of its members.
    pub members: Vec<String>,
    /// What its owner calls it.
    pub name: String,
    /// How many registrations it has.
    pub registrations: u64,
}

/// A row of `registration list --json`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct RegistrationRow {
    /// The app.
    pub app: String,
    /// Its channel in the MQTT protocol.
    pub channel: String,
    /// When it was made, seconds since 1970.
    pub created: u64,
    /// Messages that have expired early since the start, because too many waited.
    #[serde(default)]
    pub crowded_out: u64,
    /// Whose it is: a device's, or a group's.
    pub device: String,
    /// The endpoint's URL.
    pub endpoint: String,
    /// The distributor's name for it.
    pub token: String,
    /// The application server that alone may push.
    pub vapid: Option<String>,
    /// Messages that wait.
    #[serde(default)]
    pub waiting: u64,
}

/// Where the gateway listens: the ready line's content.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Status {
    /// `http://192.168.1.10:8081`, where there is a listener for the owner's own network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<String>,
    /// `https://127.0.0.1:8443`, if there is TLS for application servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub https: Option<String>,
    /// `mqtt://127.0.0.1:1883`
    pub mqtt: String,
    /// `mqtts://127.0.0.1:8883`, if there is TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mqtts: Option<String>,
    /// `http://127.0.0.1:8080`
    pub public: String,
}
