//! The XMPP room: Conversations as the distributor, by way of the house's own XMPP server.
//!
//! ```text
//! hand_over ▶ seat (window) ▶ io ▶ session ▶ server ▶ Conversations
//!                ▲                    │
//!                └── settle ◀ Report ◀┘
//! ```
//!
//! The gateway is a component of the server (XEP-0114). An account (a bare JID) is a device; each of its apps
//! registers by a request of its client, and is pushed to by a request to the client's address (the full JID) that
//! has registered last. The client's answer is the acknowledgement, however late it comes.

mod config;
mod flight;
mod io;
mod jid;
mod phone;
mod seat;
mod session;
#[cfg(test)]
mod tests;
mod wire;
mod xml;

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, watch};

pub use self::config::Limits;
use self::{
    io::Stream,
    seat::{Mail, Seats},
    session::Session,
};
use super::{Consignment, Directory, Event, Notice, Post, Report, Transport, Turned};
use crate::{clock::SharedClock, config::XmppConfig, model::DeviceId};

/// The room's name.
const NAME: &str = "xmpp";

/// What the room needs of the house.
pub struct House {
    /// The time.
    pub clock: SharedClock,
    /// Who is who.
    pub directory: Arc<dyn Directory>,
    /// Takes in what servers notify of.
    pub post: Arc<dyn Post>,
    /// Takes what the room has learnt.
    pub reports: mpsc::Sender<Report>,
}

/// The room.
pub struct XmppRoom {
    house: House,
    limits: Limits,
    seats: Arc<Seats>,
    /// Taken by whoever runs the room.
    session: Mutex<Option<(Session, mpsc::UnboundedReceiver<Mail>)>>,
}

impl std::fmt::Debug for XmppRoom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("XmppRoom").field("seats", &self.seats).finish_non_exhaustive()
    }
}

impl XmppRoom {
    /// A room that is the component of `config`, by `secret`. `key` is this gateway's, for ever: by it accounts
    /// are made devices.
    #[must_use]
    pub fn open(
        config: XmppConfig,
        secret: String,
        key: &[u8; 32],
        house: House,
        limits: Limits,
    ) -> Arc<Self> {
        let (mail, mailbox) = mpsc::unbounded_channel();
        let seats = Arc::new(Seats::new(mail));
        let now = house.clock.moment().instant;
        let session = Session::new(config, secret, key, Arc::clone(&seats), limits, now);
        Arc::new(Self { house, limits, seats, session: Mutex::new(Some((session, mailbox))) })
    }

    /// Is the component until `shutdown` becomes true.
    pub async fn run(self: Arc<Self>, shutdown: watch::Receiver<bool>) {
        let taken = self.session.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((session, mailbox)) = taken else { return };
        Stream::new(self, session, mailbox, shutdown).run().await;
    }

    async fn report(&self, device: DeviceId, event: Event) {
        let report = Report { at: self.house.clock.moment().instant, device, event };
        // Nobody listens any more when the process is about to end.
        let _ = self.house.reports.send(report).await;
    }
}

impl Transport for XmppRoom {
    fn hand_over(&self, consignment: Consignment) -> Result<(), Turned> {
        self.seats.hand_over(consignment)
    }

    fn name(&self) -> &'static str {
        NAME
    }

    fn tell(&self, notice: Notice) {
        match notice {
            Notice::Expelled(device) => self.seats.tell(Mail::Expelled(device)),
            // The protocol has no word for either: a client learns of an ended registration when it renews it.
            Notice::Plan(..) | Notice::Unregistered(..) => {}
        }
    }
}
