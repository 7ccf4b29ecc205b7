//! Report ▶ settlement: what the transports report, and what the planner gives up, is settled in the ledger.

use std::sync::Arc;

use crate::{
    model::{DeviceId, MessageId, Phase},
    store::Ledger,
    telemetry::Telemetry,
    transport::{Event, Report, Turned},
    wake::Settle,
};

/// Settles. The planner's driver calls it: in a task of its own between the transports and the planner, a push could
/// overtake the news that its device has joined.
#[derive(Debug)]
pub struct Settlement {
    ledger: Ledger,
    telemetry: Arc<Telemetry>,
}

impl Settlement {
    /// Settles in this ledger.
    #[must_use]
    pub fn new(ledger: Ledger, telemetry: Arc<Telemetry>) -> Self {
        Self { ledger, telemetry }
    }

    fn settle(&self, device: DeviceId, ids: &[MessageId], how: Phase) {
        self.ledger.settle(device, ids, how);
        self.telemetry.count(how, ids.len() as u64);
    }
}

impl Settle for Settlement {
    fn reported(&self, report: &Report) {
        let Report { device, ref event, .. } = *report;
        match event {
            Event::Acked(ids) => self.settle(device, ids, Phase::Acked),
            Event::Kept(ids) | Event::Taken(ids) => self.telemetry.count(Phase::Sent, ids.len() as u64),
            Event::Joined(joined) => {
                let (network, window) = (&joined.network, joined.window.messages);
                tracing::debug!(%device, %network, window, "joined");
            }
            Event::Left(parting) => tracing::debug!(%device, ?parting, "left"),
            Event::Turned(ids, Turned::TooLarge) => {
                tracing::warn!(%device, messages = ids.len(), "larger than the device takes; waiting");
            }
            Event::Turned(ids, why) => {
                tracing::debug!(%device, messages = ids.len(), ?why, "turned back");
            }
            Event::Pulse(_) | Event::State(_) | Event::Stirred => {}
        }
    }

    fn expired(&self, device: DeviceId, ids: &[MessageId]) {
        self.settle(device, ids, Phase::Expired);
    }
}
