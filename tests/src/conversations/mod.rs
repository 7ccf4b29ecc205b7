//! XMPP as it is found in the wild: servers of Debian, and phones with Conversations as their distributor.

mod phones;
mod server;

pub use phones::{Phones, Pushed, Registered};
pub use server::{DaemonKind, XmppDaemon};
