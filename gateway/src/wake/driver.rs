//! The shell around the planner: arrivals, reports and time in; consignments out.

use std::{sync::Arc, time::Duration};

use tokio::sync::{mpsc, watch};

use super::{
    Policy,
    fresh::Fresh,
    keep_alive::{Keeper, Memory},
    planner::{Order, Planner},
    shelf::remaining_s,
};
use crate::{
    clock::SharedClock,
    meter::{At, Meter},
    model::{DeviceId, DeviceState, MessageId, Moment, Phase, Preferences, PushMessage, Urgency},
    store::{Arrival, Backlog, NotStored},
    telemetry::Telemetry,
    transport::{Consignment, Event, Item, Notice, Plan, Report, Transport, Turned},
};

/// How many arrivals and reports are taken in before orders are given. What came together leaves
/// together, and a flood cannot keep the planner from giving orders.
const ROUND: usize = 256;

/// What becomes of messages on disk; [`crate::ack`] does it.
pub trait Settle: Send + Sync {
    /// Messages that are over for a device: it cannot have them any more.
    fn expired(&self, device: DeviceId, ids: &[MessageId]);

    /// What a transport has learnt. The planner hears of it after this, so that what it frees is free on disk too.
    fn reported(&self, report: &Report);
}

/// What the planner goes by: the rules of the house, what was chosen for each device, and what was learnt
/// of it.
pub struct Wishes {
    /// Devices that are to be treated differently from now on, or are unpaired.
    pub changed: mpsc::UnboundedReceiver<DeviceId>,
    /// What was chosen for a device; `None` when it is not paired.
    pub chosen: Chosen,
    /// The devices that are there at the start.
    pub devices: Vec<DeviceId>,
    /// The lowest urgency that a device wanted before the start, of those that have said so.
    pub floors: Vec<(DeviceId, Urgency)>,
    /// The longest keep-alive that any device is asked for, in seconds.
    pub max_keep_alive_s: u32,
    /// Counts what comes of it.
    pub meter: Arc<Meter>,
    /// Where it is kept what was learnt of the devices' networks.
    pub memory: Box<dyn Memory>,
    /// The rules.
    pub policy: Policy,
}

/// What was chosen for a device; `None` when it is not paired.
type Chosen = Box<dyn Fn(DeviceId) -> Option<Preferences> + Send + Sync>;

/// Runs the planner.
pub struct Driver {
    backlog: Backlog,
    changed: mpsc::UnboundedReceiver<DeviceId>,
    chosen: Chosen,
    clock: SharedClock,
    fresh: Fresh,
    keeper: Keeper,
    meter: Arc<Meter>,
    planner: Planner,
    policy: Policy,
    settlement: Box<dyn Settle>,
    telemetry: Arc<Telemetry>,
    transports: Vec<Arc<dyn Transport>>,
}

impl Driver {
    /// A driver that hands over through `transports`.
    #[must_use]
    pub fn new(
        backlog: Backlog,
        transports: Vec<Arc<dyn Transport>>,
        clock: SharedClock,
        settlement: Box<dyn Settle>,
        telemetry: Arc<Telemetry>,
        wishes: Wishes,
    ) -> Self {
        let Wishes { changed, chosen, devices, floors, max_keep_alive_s, memory, meter, policy } = wishes;
        let planner = Planner::new(policy.settings(&Preferences::default()));
        let mut driver = Self {
            backlog,
            changed,
            chosen,
            clock,
            fresh: Fresh::default(),
            keeper: Keeper::new(memory, max_keep_alive_s),
            meter,
            planner,
            policy,
            settlement,
            telemetry,
            transports,
        };
        devices.into_iter().for_each(|device| driver.heed(device));
        let at = driver.clock.moment().instant;
        for (device, floor) in floors {
            let said = DeviceState { urgency: Some(floor), ..DeviceState::default() };
            driver.planner.on_report(&Report { at, device, event: Event::State(said) });
        }
        driver
    }

    /// Runs until `stop` turns true, and finishes what was reported by then.
    pub async fn run(mut self, reports: mpsc::Receiver<Report>, stop: watch::Receiver<bool>) {
        self.work(reports, stop).await;
        self.meter.close();
    }

    async fn work(&mut self, mut reports: mpsc::Receiver<Report>, mut stop: watch::Receiver<bool>) {
        let mut stopping = false;
        let now = self.clock.moment().instant;
        for pending in self.backlog.restored() {
            self.planner.on_pending(now, &pending);
        }
        let mut arrivals = self.backlog.arrivals();
        loop {
            let now = self.clock.moment();
            self.planner.on_local_time(now.instant, now.trusted.then(|| self.clock.second_of_day(now.wall)));
            self.give_orders(now);
            let pause = self.planner.next_wake().map(|at| at.saturating_duration_since(now.instant));
            let pause = pause.map(|pause| self.clock.real(pause));
            tokio::select! {
                // An error means that nobody is left who could say so: then it is so.
                _ = stop.wait_for(|stop| *stop), if !stopping => {
                    stopping = true;
                    reports.close();
                }
                report = reports.recv() => match report {
                    Some(report) => self.report(&report),
                    None => return,
                },
                Some(arrival) = arrivals.recv() => self.arrive(arrival),
                Some(device) = self.changed.recv() => self.heed(device),
                () = self.telemetry.planner.asked() => self.telemetry.planner.answer(),
                () = sleep(pause) => {}
            }
            // In turns: what devices report of a flood must not keep out what comes meanwhile, which would be refused.
            for _ in 0..ROUND / 2 {
                let (report, arrival) = (reports.try_recv().ok(), arrivals.try_recv().ok());
                if report.is_none() && arrival.is_none() {
                    break;
                }
                if let Some(report) = report {
                    self.report(&report);
                }
                if let Some(arrival) = arrival {
                    self.arrive(arrival);
                }
            }
            // What the owner wanted before a message came holds for that message.
            while let Ok(device) = self.changed.try_recv() {
                self.heed(device);
            }
        }
    }

    /// A device is treated by what its owner has chosen.
    fn heed(&mut self, device: DeviceId) {
        match (self.chosen)(device) {
            Some(chosen) => {
                let now = self.clock.moment().instant;
                self.planner.configure(now, device, self.policy.settings(&chosen));
                if let Some(keep_alive) = self.planner.silence(device) {
                    self.tell(device, keep_alive);
                }
            }
            None => {
                self.planner.forget(device);
                self.meter.forget(device);
            }
        }
    }

    /// What a transport has learnt, and what that says of the device's network.
    fn report(&mut self, report: &Report) {
        self.settlement.reported(report);
        self.planner.on_report(report);
        self.meter.on_report(self.at(self.clock.moment()), report);
        if let Some(keep_alive) = self.keeper.on_report(report) {
            self.planner.keep_alive(report.device, keep_alive);
            self.tell(report.device, keep_alive);
        }
    }

    fn at(&self, now: Moment) -> At {
        let wall = now.trusted.then_some(now.wall);
        At { day: wall.map(|wall| self.clock.day(wall)), instant: now.instant, wall }
    }

    /// Tells a device how it is treated: the room that it speaks to does it.
    fn tell(&self, device: DeviceId, keep_alive: Duration) {
        let Some(chosen) = (self.chosen)(device) else { return };
        let plan = Plan { keep_alive, profile: self.policy.settings(&chosen).profile };
        for transport in &self.transports {
            transport.tell(Notice::Plan(device, plan));
        }
    }

    fn arrive(&mut self, arrival: Arrival) {
        let at = self.at(self.clock.moment());
        match arrival {
            Arrival::Accepted { message, replaces } => {
                if let Some(replaced) = replaces {
                    self.telemetry.count(Phase::Replaced, 1);
                    self.meter.on_over(message.device, replaced, true);
                    self.planner.on_withdrawn(message.device, replaced);
                    self.fresh.take(message.device, replaced);
                }
                self.meter.on_pending(at, &message.pending());
                self.planner.on_pending(at.instant, &message.pending());
                // A device that is away may be so for days: when it is back, what waits for it is read.
                if self.planner.is_present(message.device) {
                    self.fresh.add(message);
                }
            }
            Arrival::CrowdedOut(device, id) => {
                self.telemetry.count(Phase::Expired, 1);
                self.meter.on_expired(device, &[id]);
                self.planner.on_withdrawn(device, id);
                self.fresh.take(device, id);
            }
            Arrival::Withdrawn(device, id) => {
                self.meter.on_over(device, id, false);
                self.planner.on_withdrawn(device, id);
                self.fresh.take(device, id);
            }
        }
    }

    fn give_orders(&mut self, now: Moment) {
        loop {
            let orders = self.planner.on_timeout(now.instant);
            if orders.is_empty() {
                break;
            }
            for order in orders {
                match order {
                    Order::Deliver(device, due) => {
                        self.deliver(now, device, &due);
                        match self.planner.take_missed(device) {
                            0 => {}
                            missed => self.meter.on_missed(device, missed),
                        }
                    }
                    Order::Expire(device, ids) => {
                        self.meter.on_expired(device, &ids);
                        for &id in &ids {
                            self.fresh.take(device, id);
                        }
                        self.settlement.expired(device, &ids);
                    }
                    Order::Ping(device) => self.ping(now, device),
                }
            }
        }
    }

    /// Asks each transport: the one that the device speaks does it. One that is gone by now is
    /// reported by its room.
    fn ping(&mut self, now: Moment, device: DeviceId) {
        if self.transports.iter().any(|transport| transport.ping(device).is_ok()) {
            self.keeper.on_ping(now.instant, device);
            self.meter.on_ping(self.at(now), device);
        }
    }

    fn deliver(&mut self, now: Moment, device: DeviceId, due: &[(MessageId, bool)]) {
        self.backlog.observe(now);
        let mut items = Vec::with_capacity(due.len());
        for (&(id, redelivery), body) in due.iter().zip(self.bodies(device, due)) {
            match body {
                Ok(Some(message)) => {
                    let remaining_s = remaining_s(&message, now);
                    let token = self.backlog.token(id);
                    items.push(Item { message, redelivery, remaining_s, token });
                }
                // It was settled while it waited in line.
                Ok(None) => self.planner.on_report(&acked(now, device, id)),
                Err(error) => {
                    tracing::error!(%device, message = %id, %error, "cannot read a waiting message; trying again");
                    self.planner.on_turned(now.instant, device, &[id], Turned::Full);
                }
            }
        }
        if items.is_empty() {
            return;
        }
        let ids: Vec<MessageId> = items.iter().map(|item| item.message.id).collect();
        if let Err(why) = self.hand_over(Consignment { device, items }) {
            self.planner.on_turned(now.instant, device, &ids, why);
        }
    }

    /// Offers the consignment to each transport: the one that the device speaks takes it.
    fn hand_over(&self, consignment: Consignment) -> Result<(), Turned> {
        let Some((last, others)) = self.transports.split_last() else { return Err(Turned::Absent) };
        for transport in others {
            match transport.hand_over(consignment.clone()) {
                Err(Turned::Absent) => {}
                outcome => return outcome,
            }
        }
        last.hand_over(consignment)
    }

    fn bodies(
        &mut self,
        device: DeviceId,
        due: &[(MessageId, bool)],
    ) -> Vec<Result<Option<Arc<PushMessage>>, NotStored>> {
        let fresh: Vec<_> = due.iter().map(|&(id, _)| (id, self.fresh.take(device, id))).collect();
        let read = |(id, fresh): (MessageId, Option<Arc<PushMessage>>)| match fresh {
            Some(message) => Ok(Some(message)),
            None => self.backlog.load(device, id),
        };
        if fresh.iter().all(|(_, message)| message.is_some()) {
            return fresh.into_iter().map(read).collect();
        }
        // A read of an SD card may take milliseconds: the worker's other tasks move on meanwhile. Once
        // for all of them, because each time may cost a thread.
        tokio::task::block_in_place(|| fresh.into_iter().map(read).collect())
    }
}

fn acked(now: Moment, device: DeviceId, id: MessageId) -> Report {
    Report { at: now.instant, device, event: Event::Acked(vec![id]) }
}

/// Sleeps for `pause`; without one, for ever.
async fn sleep(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}
