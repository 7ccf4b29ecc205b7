//! Two months of a hundred phones in twenty minutes, through real sockets and a real store: what the gateway holds
//! (memory, descriptors, threads, disk) at the beginning of the second is what it holds at its end. The first fills what
//! is meant to grow: each device's history of thirty days.
//!
//! Phones come and go, a few times a day, all of them without a word; apps are registered and taken back. By
//! hand, with nothing else on the machine:
//!
//! ```sh
//! cargo test --workspace --test native a_month_of_a_hundred_phones -- --ignored --nocapture
//! ```
//!
//! `MONTH_DAYS` (both months), `MONTH_PHONES` and `MONTH_SPEED` make it another month.

use std::{
    collections::HashSet,
    fs,
    io::Write as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use harness::{BarePhone, Device, Gateway, Random, eventually_within};
use rumqttc::v5::mqttbytes::{QoS, v5::Packet};
use serde_json::Value;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, sleep_until, timeout},
};

use crate::{
    fast::{DAY_S, Event, Pace, pushes, setting, start, trace},
    own_kb, status,
};

/// Bytes of a push, as large as most.
const BODY: usize = 1024;

/// What was accepted and has not arrived yet; and how much arrived.
#[derive(Default)]
struct Tally {
    again: AtomicU64,
    arrived: AtomicU64,
    connected: AtomicU64,
    owed: Mutex<HashSet<u64>>,
}

impl Tally {
    fn owed(&self, change: impl FnOnce(&mut HashSet<u64>) -> bool) -> bool {
        change(&mut self.owed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn arrives(&self, number: u64) {
        self.arrived.fetch_add(1, Ordering::Relaxed);
        if !self.owed(|owed| owed.remove(&number)) {
            // Its acknowledgement went down with a connection.
            self.again.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What the kernel says that the gateway holds.
#[derive(Clone, Copy, Debug)]
struct Held {
    /// Without those of the phones that are there.
    descriptors: u64,
    disk_kb: u64,
    memory_kb: u64,
    threads: u64,
}

impl Held {
    fn of(gateway: &Gateway, tally: &Tally) -> Self {
        let descriptors =
            fs::read_dir(format!("/proc/{}/fd", gateway.pid())).expect("it runs").count() as u64;
        let descriptors = descriptors.saturating_sub(tally.connected.load(Ordering::Relaxed));
        let files = fs::read_dir(gateway.state_dir().join("db")).expect("a database").flatten();
        let sizes = files.filter_map(|file| Some(file.metadata().ok()?.len()));
        Self {
            descriptors,
            disk_kb: sizes.sum::<u64>() / 1024,
            memory_kb: own_kb(gateway),
            threads: status(gateway, "Threads:"),
        }
    }

    /// The most of each.
    fn most(days: &[Self]) -> Self {
        let most = |of: fn(&Self) -> u64| days.iter().map(of).max().expect("a day");
        Self {
            descriptors: most(|day| day.descriptors),
            disk_kb: most(|day| day.disk_kb),
            memory_kb: most(|day| day.memory_kb),
            threads: most(|day| day.threads),
        }
    }
}

/// From 0 to 1.
fn share(random: &mut Random) -> f64 {
    f64::from(u16::try_from(random.below(1 << 16)).expect("sixteen bits")) / f64::from(u16::MAX)
}

/// A phone that is there for some hours, then without a network for up to one.
async fn live(
    gateway: Arc<Gateway>,
    device: Device,
    pace: Pace,
    mut random: Random,
    mut over: watch::Receiver<bool>,
    tally: Arc<Tally>,
) {
    let mut keep_alive_s = 60;
    loop {
        let mut phone = BarePhone::connect(&gateway, &device).await;
        tally.connected.fetch_add(1, Ordering::Relaxed);
        let leaves = Instant::now() + pace.real(DAY_S / 24.0 * share(&mut random) * 10.0);
        let mut last = Instant::now();
        loop {
            let ping = last + pace.real(f64::from(keep_alive_s));
            tokio::select! {
                _ = over.changed() => return,
                () = sleep_until(leaves.into()) => break,
                packet = phone.next() => {
                    last = Instant::now();
                    let Some(packet) = packet else { panic!("{} was put out", device.id) };
                    let Packet::Publish(publish) = packet else { continue };
                    if publish.topic.ends_with(b"/inbox/plan") {
                        let plan: Value = serde_json::from_slice(&publish.payload).expect("JSON");
                        keep_alive_s = plan["keep_alive_s"].as_u64().unwrap().try_into().unwrap();
                    } else if publish.payload.len() == BODY {
                        tally.arrives(u64::from_be_bytes(publish.payload[..8].try_into().unwrap()));
                    }
                    if publish.qos == QoS::AtLeastOnce {
                        phone.ack(publish.pkid).await;
                    }
                }
                () = sleep_until(ping.into()) => {
                    phone.ping().await;
                    last = Instant::now();
                }
            }
        }
        drop(phone);
        tally.connected.fetch_sub(1, Ordering::Relaxed);
        sleep(pace.real(DAY_S / 24.0 * share(&mut random))).await;
    }
}

/// The trace of all phones, in order.
async fn plan(gateway: &Gateway, phones: usize, days: u32) -> Vec<Event> {
    let mut events = Vec::new();
    for phone in 0..phones {
        events.extend(pushes(&trace(gateway, phone, days).await, phone));
    }
    events.sort_by(|one, other| one.at_s.total_cmp(&other.at_s));
    events
}

/// Sends every push at its time.
async fn send(
    gateway: Arc<Gateway>,
    events: Vec<Event>,
    endpoints: Vec<String>,
    start: Instant,
    pace: Pace,
    tally: Arc<Tally>,
) {
    let mut senders = JoinSet::new();
    for (number, event) in (0u64..).zip(&events) {
        sleep_until((start + pace.real(event.at_s)).into()).await;
        let mut body = Random::new(number).bytes(BODY);
        body[..8].copy_from_slice(&number.to_be_bytes());
        // It may arrive before its answer does.
        tally.owed(|owed| owed.insert(number));
        let request =
            gateway.post(&endpoints[event.phone]).ttl(30 * 86_400).header("Urgency", &event.urgency);
        senders.spawn(async move { drop(request.body(body).send().await.expect(201)) });
        while let Some(sent) = senders.try_join_next() {
            sent.expect("it is accepted");
        }
    }
    while let Some(sent) = senders.join_next().await {
        sent.expect("it is accepted");
    }
}

/// What every day brings: some apps are installed, and those of yesterday are removed.
async fn apps_come_and_go(gateway: &Gateway, devices: &[Device], yesterday: &mut Vec<String>) {
    for endpoint in yesterday.drain(..) {
        gateway.cli(["registration", "remove", &endpoint]).await;
    }
    for device in devices.iter().take(10) {
        let added = gateway.cli(["registration", "add", &device.id, "of today"]).await;
        yesterday.push(added.text().to_owned());
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes twenty minutes of an idle machine; see the head of this file"]
async fn a_month_of_a_hundred_phones_leaves_nothing_behind() {
    let (days, phones) = (setting("MONTH_DAYS", 60), setting("MONTH_PHONES", 100) as usize);
    let pace = Pace { speed: setting("MONTH_SPEED", 4320).into() };
    let Some(gateway) = start(pace, "", "a_month_of_a_hundred_phones").await else { return };
    let gateway = Arc::new(gateway);
    let events = plan(&gateway, phones, days).await;
    let sent = events.len() as u64;
    let tally = Arc::new(Tally::default());
    let (end, over) = watch::channel(false);
    let (mut living, mut devices, mut endpoints) = (JoinSet::new(), Vec::new(), Vec::new());
    let mut random = Random::new(1);
    for number in 0..phones {
        let device: Device = gateway.pair(&format!("phone {number}")).await;
        let endpoint = gateway.cli(["registration", "add", &device.id, "app"]).await;
        endpoints.push(endpoint.text().to_owned());
        let (gateway, tally) = (Arc::clone(&gateway), Arc::clone(&tally));
        living.spawn(live(gateway, device.clone(), pace, random.split(), over.clone(), tally));
        devices.push(device);
    }

    let start = Instant::now();
    let sending =
        tokio::spawn(send(Arc::clone(&gateway), events, endpoints, start, pace, Arc::clone(&tally)));
    let (mut held, mut apps) = (Vec::new(), Vec::new());
    for day in 1..=days {
        apps_come_and_go(&gateway, &devices, &mut apps).await;
        let evening = start + pace.real(DAY_S * f64::from(day));
        let ended = timeout(evening.saturating_duration_since(Instant::now()), living.join_next()).await;
        assert!(ended.is_err(), "a phone has ended before the month: {ended:?}");
        let now = Held::of(&gateway, &tally);
        let _ = writeln!(std::io::stderr(), "day {day}: {now:?}");
        held.push(now);
    }
    sending.await.expect("everything is accepted");
    eventually_within(Duration::from_secs(60), "everything arrives", async || {
        tally.owed(|owed| owed.is_empty()).then_some(())
    })
    .await;
    end.send(true).unwrap();
    while let Some(phone) = living.join_next().await {
        phone.expect("no phone was disturbed");
    }

    let (month, third) = (days as usize / 2, days as usize / 6);
    let (early, late) = (Held::most(&held[month..month + third]), Held::most(&held[2 * month - third..]));
    let _ = writeln!(
        std::io::stderr(),
        "month: {phones} phones, {sent} pushes at {}x: all arrived, {} of them twice; most of days {} to {}: {early:?}; of the last {third}: {late:?}",
        pace.speed,
        tally.again.load(Ordering::Relaxed),
        month + 1,
        month + third,
    );
    assert!(tally.arrived.load(Ordering::Relaxed) >= sent);
    assert!(late.memory_kb <= early.memory_kb + early.memory_kb / 10, "memory");
    assert!(late.disk_kb <= early.disk_kb + early.disk_kb / 10, "disk");
    // Connections come and go: each is a descriptor.
    assert!(late.descriptors <= early.descriptors + 5, "descriptors");
    assert!(late.threads <= early.threads + 2, "threads");
}
