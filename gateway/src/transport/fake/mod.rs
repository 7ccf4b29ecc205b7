//! A room without a protocol: tests of the planner and its driver play the devices.
//!
//! It keeps the door's promises as a real room does: absent devices and full windows are turned back,
//! what is in flight is unsettled when a device leaves, expelled devices leave.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::mpsc;

use super::{Consignment, Event, Item, Joined, Notice, Parting, Pulse, Report, Transport, Turned, Window};
use crate::{
    clock::SharedClock,
    model::{DeviceId, MessageId, NetworkName},
};

/// The scripted room.
#[derive(Debug)]
pub struct FakeRoom {
    clock: SharedClock,
    reports: mpsc::Sender<Report>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    devices: HashMap<DeviceId, Desk>,
    handed: Vec<Consignment>,
    notices: Vec<Notice>,
    refusal: Option<Turned>,
}

#[derive(Debug)]
struct Desk {
    flying: Vec<Item>,
    window: Window,
}

impl FakeRoom {
    /// A room where nobody is. `reports` is to be roomy: a report that does not fit ends the test.
    #[must_use]
    pub fn new(reports: mpsc::Sender<Report>, clock: SharedClock) -> Self {
        Self { clock, reports, state: Mutex::default() }
    }

    /// The device acknowledges messages, in any order.
    pub fn acknowledge(&self, device: DeviceId, ids: &[MessageId]) {
        if let Some(desk) = self.state().devices.get_mut(&device) {
            desk.flying.retain(|item| !ids.contains(&item.message.id));
        }
        self.report(device, Event::Acked(ids.to_vec()));
    }

    /// What the device has been sent and has not acknowledged, in order.
    #[must_use]
    pub fn flying(&self, device: DeviceId) -> Vec<Item> {
        self.state().devices.get(&device).map(|desk| desk.flying.clone()).unwrap_or_default()
    }

    /// Every consignment taken since this was last asked.
    #[must_use]
    pub fn handed(&self) -> Vec<Consignment> {
        std::mem::take(&mut self.state().handed)
    }

    /// The device comes, or comes again.
    pub fn join(&self, device: DeviceId, window: Window) {
        self.state().devices.insert(device, Desk { flying: Vec::new(), window });
        let network = NetworkName::of(Ipv4Addr::LOCALHOST.into());
        self.report(device, Event::Joined(Joined { heard: true, network, pulse: Pulse::Nobody, window }));
    }

    /// The device goes.
    pub fn leave(&self, device: DeviceId) {
        if self.state().devices.remove(&device).is_some() {
            self.report(device, Event::Left(Parting::Closed));
        }
    }

    /// Every notice since this was last asked.
    #[must_use]
    pub fn notices(&self) -> Vec<Notice> {
        std::mem::take(&mut self.state().notices)
    }

    /// Turns every consignment back from now on, or no longer.
    pub fn refuse(&self, refusal: Option<Turned>) {
        self.state().refusal = refusal;
    }

    /// Reports whatever the test wants to be believed.
    ///
    /// # Panics
    /// When the channel is full or nobody listens: the test would wait for ever.
    pub fn report(&self, device: DeviceId, event: Event) {
        let report = Report { at: self.clock.moment().instant, device, event };
        assert!(self.reports.try_send(report).is_ok(), "the channel for reports is full or closed");
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Transport for FakeRoom {
    fn hand_over(&self, consignment: Consignment) -> Result<(), Turned> {
        let device = consignment.device;
        let mut state = self.state();
        if let Some(refusal) = state.refusal {
            return Err(refusal);
        }
        let desk = state.devices.get_mut(&device).ok_or(Turned::Absent)?;
        let bytes = |items: &[Item]| items.iter().map(|item| item.message.body.len()).sum::<usize>();
        if desk.flying.len() + consignment.items.len() > usize::from(desk.window.messages)
            || bytes(&desk.flying) + bytes(&consignment.items) > desk.window.bytes as usize
        {
            return Err(Turned::Full);
        }
        desk.flying.extend(consignment.items.iter().cloned());
        let ids = consignment.items.iter().map(|item| item.message.id).collect();
        state.handed.push(consignment);
        drop(state);
        self.report(device, Event::Taken(ids));
        Ok(())
    }

    fn name(&self) -> &'static str {
        "fake"
    }

    fn tell(&self, notice: Notice) {
        let expelled = match &notice {
            Notice::Expelled(device) => Some(*device),
            Notice::Plan(..) | Notice::Unregistered(..) => None,
        };
        self.state().notices.push(notice);
        if let Some(device) = expelled {
            self.leave(device);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, sync::Arc};

    use super::*;
    use crate::{
        clock::SystemClock,
        transport::battery::{self, Harness, Push},
    };

    struct FakeHarness {
        reports: mpsc::Receiver<Report>,
        room: FakeRoom,
        seen: VecDeque<MessageId>,
    }

    impl Harness for FakeHarness {
        async fn start() -> Self {
            let (sender, reports) = mpsc::channel(1000);
            let room = FakeRoom::new(sender, Arc::new(SystemClock::default()));
            Self { reports, room, seen: VecDeque::new() }
        }

        fn room(&self) -> &dyn Transport {
            &self.room
        }

        fn device(&self) -> DeviceId {
            DeviceId(1)
        }

        async fn connect(&mut self) {
            self.seen.clear();
            self.room.join(DeviceId(1), Window { bytes: 20_000, messages: 20 });
        }

        async fn disconnect(&mut self) {
            self.room.leave(DeviceId(1));
        }

        async fn next_push(&mut self) -> Push {
            let flying = self.room.flying(DeviceId(1));
            let item = flying.iter().find(|item| !self.seen.contains(&item.message.id)).expect("a push");
            self.seen.push_back(item.message.id);
            Push { body: item.message.body.clone(), redelivery: Some(item.redelivery) }
        }

        async fn acknowledge(&mut self, nth: usize) {
            let id = self.seen.remove(nth).expect("seen");
            self.room.acknowledge(DeviceId(1), &[id]);
        }

        async fn next_report(&mut self) -> Report {
            self.reports.recv().await.expect("the room is there")
        }
    }

    battery::door!(FakeHarness);
}
