//! Report ▶ settlement: what the transports report is settled in the ledger and told to the planner.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use crate::{
    model::{DeviceId, MessageId, Phase},
    store::Ledger,
    telemetry::Telemetry,
    transport::{Event, Report, Turned},
    wake::Expired,
};

/// Settles until `stop` turns true, finishes what was reported by then, and ends, which ends the planner.
///
/// Acknowledged messages leave the ledger before the planner hears of it, so that what it frees is
/// free on disk too.
pub async fn run(
    mut reports: mpsc::Receiver<Report>,
    mut expired: mpsc::UnboundedReceiver<Expired>,
    planner: mpsc::Sender<Report>,
    ledger: Ledger,
    telemetry: Arc<Telemetry>,
    mut stop: watch::Receiver<bool>,
) {
    let mut stopping = false;
    loop {
        tokio::select! {
            () = stopped(&mut stop), if !stopping => {
                stopping = true;
                reports.close();
            }
            report = reports.recv() => {
                let Some(report) = report else { return };
                match &report.event {
                    Event::Acked(ids) => settle(&ledger, &telemetry, report.device, ids, Phase::Acked),
                    Event::Kept(ids) | Event::Taken(ids) => telemetry.count(Phase::Sent, ids.len() as u64),
                    Event::Joined(joined) => {
                        let (network, window) = (&joined.network, joined.window.messages);
                        tracing::debug!(device = %report.device, %network, window, "joined");
                    }
                    Event::Left(parting) => tracing::debug!(device = %report.device, ?parting, "left"),
                    Event::Turned(ids, Turned::TooLarge) => {
                        let messages = ids.len();
                        tracing::warn!(device = %report.device, messages, "larger than the device takes; waiting");
                    }
                    Event::Turned(ids, why) => {
                        tracing::debug!(device = %report.device, messages = ids.len(), ?why, "turned back");
                    }
                    Event::Pulse(_) | Event::State(_) | Event::Stirred => {}
                }
                // The planner ends last; if it has ended, so has everything.
                if planner.send(report).await.is_err() {
                    return;
                }
            }
            Some((device, ids)) = expired.recv() => settle(&ledger, &telemetry, device, &ids, Phase::Expired),
        }
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that nobody is left who could say so: then it is so.
    drop(stop.wait_for(|stop| *stop).await);
}

fn settle(ledger: &Ledger, telemetry: &Telemetry, device: DeviceId, ids: &[MessageId], how: Phase) {
    ledger.settle(device, ids, how);
    telemetry.count(how, ids.len() as u64);
}
