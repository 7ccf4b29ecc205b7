//! Keeps what each device's networks have shown, and says which keep-alive to ask for.

use std::{
    collections::HashMap,
    fmt,
    time::{Duration, Instant},
};

use super::{
    bear,
    ear::{Ear, Evidence},
    fail,
};
use crate::{
    model::{DeviceId, Habit, Learnt, NetworkName},
    transport::{Event, Report},
};

/// Where habits are kept. Neither call may wait.
pub trait Memory: Send {
    /// What was learnt of a device.
    fn recall(&self, device: DeviceId) -> Habit;

    /// Writes down what was learnt of a device. Called rarely: when what to ask for changes.
    fn remember(&self, device: DeviceId, habit: Habit);
}

/// Learns.
pub struct Keeper {
    /// The longest keep-alive that the owner allows, in seconds.
    cap_s: u32,
    devices: HashMap<DeviceId, Keeping>,
    memory: Box<dyn Memory>,
}

struct Keeping {
    /// What was known of a network before its latest failure, while that is not certain.
    before: Option<(NetworkName, Learnt)>,
    ear: Ear,
    habit: Habit,
    /// What was said last.
    said: Option<Duration>,
}

impl Keeper {
    /// `cap_s` is the longest keep-alive that the owner allows, in seconds.
    #[must_use]
    pub fn new(memory: Box<dyn Memory>, cap_s: u32) -> Self {
        Self { cap_s, devices: HashMap::new(), memory }
    }

    /// Takes a report. Says the silence that the device's network is known, or now supposed, to bear,
    /// when that is news.
    pub fn on_report(&mut self, report: &Report) -> Option<Duration> {
        if !self.devices.contains_key(&report.device) {
            // Of a device that is not there nothing can be learnt.
            if !matches!(report.event, Event::Joined(_)) {
                return None;
            }
            let habit = self.memory.recall(report.device);
            self.devices
                .insert(report.device, Keeping { before: None, ear: Ear::default(), habit, said: None });
        }
        let keeping = self.devices.get_mut(&report.device)?;
        if let Some((network, learnt)) = keeping.hear(report, self.cap_s) {
            tracing::debug!(device = %report.device, %network, ?learnt, "keep-alive");
            self.memory.remember(report.device, keeping.habit.clone());
        }
        if keeping.ear.is_idle() {
            self.devices.remove(&report.device);
            return None;
        }
        let ask = keeping.habit.of(keeping.ear.network()?).ask_s.min(self.cap_s);
        let ask = Some(Duration::from_secs(ask.into()));
        let news = keeping.said != ask || matches!(report.event, Event::Joined(_));
        keeping.said = ask;
        ask.filter(|_| news)
    }

    /// The gateway has sent a ping.
    pub fn on_ping(&mut self, at: Instant, device: DeviceId) {
        if let Some(keeping) = self.devices.get_mut(&device) {
            keeping.ear.written(at);
        }
    }
}

impl Keeping {
    /// Takes a report; says what is now known of a network when it is worth being written down.
    fn hear(&mut self, report: &Report, cap_s: u32) -> Option<(NetworkName, Learnt)> {
        let (network, before, learnt) = match self.ear.hear(report)? {
            Evidence::Acquitted => {
                let (network, learnt) = self.before.take()?;
                let before = self.habit.of(&network);
                (network, before, learnt)
            }
            Evidence::Borne(network, silence) => {
                let before = self.habit.of(&network);
                let mut learnt = before;
                bear(&mut learnt, seconds(silence), cap_s);
                (network, before, learnt)
            }
            // At once, though it may be taken back: the device that connects next is asked for less.
            Evidence::Failed(network, silence) => {
                let before = self.habit.of(&network);
                self.before = Some((network.clone(), before));
                let mut learnt = before;
                fail(&mut learnt, seconds(silence), cap_s);
                (network, before, learnt)
            }
        };
        if learnt == before {
            return None;
        }
        self.habit.learn(network.clone(), learnt);
        // What was borne rises by a second now and then: not worth a write to a memory card.
        (Learnt { borne_s: before.borne_s, ..learnt } != before).then_some((network, learnt))
    }
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("cap_s", &self.cap_s).finish_non_exhaustive()
    }
}

fn seconds(silence: Duration) -> u32 {
    u32::try_from(silence.as_secs()).unwrap_or(u32::MAX)
}
