//! Finds in the reports of one device what they say of its network.

use std::time::{Duration, Instant};

use crate::{
    model::NetworkName,
    transport::{Event, Parting, Pulse, Report},
};

/// How late a device that has found its connection dead may come back, beyond the moment at which its
/// ping was overdue. One that stays away longer had no network at all.
const BACK_WITHIN: Duration = Duration::from_secs(60);
/// The same where the gateway keeps the connection alive: the device has to find out by itself first.
const BACK_WITHIN_UNTOLD: Duration = Duration::from_secs(3600);

/// What listens to one device.
#[derive(Debug, Default)]
pub(super) struct Ear {
    connection: Option<Connection>,
    lost: Option<Lost>,
}

/// A connection that is there.
#[derive(Debug)]
struct Connection {
    /// When the device last spoke.
    heard: Instant,
    network: NetworkName,
    /// When the last packet went, in either direction.
    packet: Instant,
    pulse: Pulse,
    /// The longest silence before something that was written and has not been answered yet.
    unanswered: Option<Duration>,
}

/// One that was lost. Whether the network was the reason is known when the device comes back.
#[derive(Debug)]
struct Lost {
    network: NetworkName,
    until: Instant,
}

/// What a network has shown.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Evidence {
    /// It bore this silence.
    Borne(NetworkName, Duration),
    /// It broke in this silence, as it seems.
    Failed(NetworkName, Duration),
    /// What failed last was not the network: the device has moved, or had none for a while.
    Acquitted,
}

impl Ear {
    /// Takes a report of its device.
    pub(super) fn hear(&mut self, report: &Report) -> Option<Evidence> {
        let at = report.at;
        match &report.event {
            Event::Joined(joined) => {
                if let Some(connection) = self.connection.as_mut().filter(|it| it.network == joined.network) {
                    // The same connection, with another window.
                    connection.pulse = joined.pulse;
                    return connection.heard(at);
                }
                self.connection = Some(Connection {
                    heard: at,
                    network: joined.network.clone(),
                    packet: at,
                    pulse: joined.pulse,
                    unanswered: None,
                });
                let lost = self.lost.take()?;
                (lost.network != joined.network || at > lost.until).then_some(Evidence::Acquitted)
            }
            Event::Left(parting) => {
                let connection = self.connection.take()?;
                let (silence, until) = match parting {
                    Parting::Lost => connection.lost(at)?,
                    Parting::Closed | Parting::Ended => return None,
                };
                self.lost = Some(Lost { network: connection.network.clone(), until });
                Some(Evidence::Failed(connection.network, silence))
            }
            Event::Pulse(pulse) => {
                self.connection.as_mut()?.pulse = *pulse;
                None
            }
            Event::Acked(_) | Event::State(_) | Event::Stirred => self.connection.as_mut()?.heard(at),
            Event::Kept(_) | Event::Taken(_) => {
                self.written(at);
                None
            }
            Event::Turned(..) => None,
        }
    }

    /// Something was written to the device.
    pub(super) fn written(&mut self, at: Instant) {
        if let Some(connection) = &mut self.connection {
            let silence = at.saturating_duration_since(connection.packet);
            connection.unanswered = Some(connection.unanswered.map_or(silence, |known| known.max(silence)));
            connection.packet = connection.packet.max(at);
        }
    }

    /// The network that the device is connected through.
    pub(super) fn network(&self) -> Option<&NetworkName> {
        self.connection.as_ref().map(|connection| &connection.network)
    }

    /// Nothing has to be remembered.
    pub(super) fn is_idle(&self) -> bool {
        self.connection.is_none() && self.lost.is_none()
    }
}

impl Connection {
    fn heard(&mut self, at: Instant) -> Option<Evidence> {
        if self.pulse == Pulse::Nobody {
            // Of a connection that somebody else keeps, nothing is seen.
            return None;
        }
        let silence = at.saturating_duration_since(self.packet);
        let silence = self.unanswered.take().map_or(silence, |known| known.max(silence));
        self.heard = self.heard.max(at);
        self.packet = self.packet.max(at);
        (silence >= Duration::from_secs(1)).then(|| Evidence::Borne(self.network.clone(), silence))
    }

    /// Which silence has failed, if it was one, and until when the device comes back in that case.
    fn lost(&self, at: Instant) -> Option<(Duration, Instant)> {
        let silence = at.saturating_duration_since(self.packet);
        let (silence, until) = match (self.pulse, self.unanswered) {
            (Pulse::Nobody, _) => return None,
            (Pulse::Device(every), Some(unanswered)) => (unanswered, self.overdue(every)),
            // A device that notices before its ping was due has seen its network go.
            (Pulse::Device(every), None) if silence >= every.saturating_mul(9) / 10 => {
                (every, self.overdue(every))
            }
            (Pulse::Gateway(_), Some(unanswered)) => (unanswered, at + BACK_WITHIN_UNTOLD),
            (Pulse::Device(_) | Pulse::Gateway(_), None) => return None,
        };
        // Nobody forgets a connection that was in use a moment ago.
        (silence >= Duration::from_secs(1)).then(|| (silence, until.max(at + BACK_WITHIN)))
    }

    fn overdue(&self, every: Duration) -> Instant {
        // MQTT knows no longer keep-alive than 18 h.
        self.heard + every.min(Duration::from_secs(86_400)) * 3 / 2 + BACK_WITHIN
    }
}
