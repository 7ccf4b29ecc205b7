//! A day of thirty phones through the real sockets, by a clock that runs faster: what goes by on each socket
//! is counted, and compared with the fewest wakes that the same day could have done with.
//!
//! At 720 times the speed a day takes two minutes, and a radio's tail of 10 s would be 14 ms, less than a busy
//! machine needs to answer; so the tail is 60 s here, in the gateway and in the optimum. A quiet machine can do
//! with others: `DAY_SPEED=144 DAY_TAIL_S=10` takes ten minutes. Only a gateway with debug assertions has such
//! a clock; with another one the test says that it is left out.

use std::{
    fs,
    io::Write as _,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use harness::{BarePhone, Device, Gateway};
use rumqttc::v5::mqttbytes::{QoS, v5::Packet};
use serde_json::Value;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{sleep_until, timeout, timeout_at},
};

use crate::fast::{DAY_S, Event, Pace, pushes, setting, start, trace};

const PHONES: usize = 30;
/// The longest keep-alive that is learnt, in seconds.
const KEEP_ALIVE_S: u32 = 1680;
/// How long a push may take in real time, however fast the clock.
const REAL: Duration = Duration::from_secs(1);
/// How long phones may take to learn their keep-alive, beyond the time that it takes by their clock.
const PATIENCE: Duration = Duration::from_secs(60);

/// What became of it.
#[derive(Clone, Copy, Default)]
struct Fate {
    accepted: Option<Instant>,
    arrived: Option<Instant>,
}

type Fates = Arc<Mutex<Vec<Fate>>>;

fn fate(fates: &Fates, index: usize, change: impl FnOnce(&mut Fate)) {
    change(&mut fates.lock().unwrap_or_else(PoisonError::into_inner)[index]);
}

/// The reference trace of each phone, and the sum of the fewest wakes.
async fn plan(gateway: &Gateway, tail_s: u32) -> (Vec<Event>, u64) {
    let (mut events, mut optimum) = (Vec::new(), 0);
    for phone in 0..PHONES {
        let trace = trace(gateway, phone, 1).await;
        let file = gateway.scratch().join(format!("{phone}.csv"));
        fs::write(&file, &trace).unwrap();
        let (path, keep_alive, tau) = (file.to_str().unwrap(), KEEP_ALIVE_S.to_string(), tail_s.to_string());
        let json: Value = gateway
            .cli(["simulate", path, "--json", "--keep-alive", &keep_alive, "--tau", &tau])
            .await
            .json();
        assert_eq!((&json["policy"], &json["missed"]), (&"balanced".into(), &0.into()));
        optimum += json["optimum"].as_u64().unwrap();
        events.extend(pushes(&trace, phone));
    }
    events.sort_by(|one, other| one.at_s.total_cmp(&other.at_s));
    (events, optimum)
}

/// What a phone is told.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Part {
    Learn,
    Live,
    End,
}

/// A phone as clients are: it acknowledges, pings when nothing has gone by for its keep-alive, and takes the
/// keep-alive that it is told of. Gives the times of all packets of the day, in both directions.
async fn live(
    mut phone: BarePhone,
    pace: Pace,
    mut part: watch::Receiver<Part>,
    learnt: mpsc::UnboundedSender<()>,
    fates: Fates,
) -> Vec<Instant> {
    let mut keep_alive_s = u32::from(phone.keep_alive_s);
    let mut packets = vec![Instant::now()];
    loop {
        let last = *packets.last().expect("never empty");
        let ping = last + pace.real(f64::from(keep_alive_s));
        tokio::select! {
            changed = part.changed() => {
                let now = if changed.is_ok() { *part.borrow_and_update() } else { Part::End };
                match now {
                    Part::End => return packets,
                    Part::Learn => {}
                    Part::Live => {
                        // The day begins with a packet, as the trace has it.
                        phone.ping().await;
                        packets = vec![Instant::now()];
                    }
                }
            }
            packet = phone.next() => {
                packets.push(Instant::now());
                let Packet::Publish(publish) = packet.expect("no connection is closed") else { continue };
                if publish.topic.ends_with(b"/inbox/plan") {
                    let plan: Value = serde_json::from_slice(&publish.payload).expect("JSON");
                    keep_alive_s = plan["keep_alive_s"].as_u64().and_then(|it| it.try_into().ok()).unwrap();
                    if keep_alive_s == KEEP_ALIVE_S {
                        let _ = learnt.send(());
                    }
                } else {
                    let index = std::str::from_utf8(&publish.payload).unwrap().parse().unwrap();
                    fate(&fates, index, |fate| {
                        assert!(fate.arrived.is_none(), "{index} came twice");
                        fate.arrived = Some(Instant::now());
                    });
                }
                if publish.qos == QoS::AtLeastOnce {
                    phone.ack(publish.pkid).await;
                    packets.push(Instant::now());
                }
            }
            () = sleep_until(ping.into()) => {
                phone.ping().await;
                packets.push(Instant::now());
            }
        }
    }
}

/// The phones are there, and have learnt what their network bears.
async fn crowd(
    gateway: &Gateway,
    pace: Pace,
    part: &watch::Receiver<Part>,
    fates: &Fates,
) -> (JoinSet<Vec<Instant>>, Vec<String>) {
    let (mut phones, mut endpoints) = (JoinSet::new(), Vec::new());
    let (learnt, mut learners) = mpsc::unbounded_channel();
    for number in 0..PHONES {
        let device: Device = gateway.pair(&format!("phone {number}")).await;
        let endpoint = gateway.cli(["registration", "add", &device.id, "app"]).await;
        endpoints.push(endpoint.text().to_owned());
        let phone = BarePhone::connect(gateway, &device).await;
        phones.spawn(live(phone, pace, part.clone(), learnt.clone(), Arc::clone(fates)));
    }
    for _ in 0..PHONES {
        // Each rung of the ladder takes its time: 90 min all of them.
        let all = timeout(pace.real(8.0 * 3600.0) + PATIENCE, learners.recv()).await;
        all.expect("every phone learns its keep-alive").expect("the phones live");
    }
    (phones, endpoints)
}

/// Sends every push at its time.
async fn send(
    gateway: &Gateway,
    events: &[Event],
    endpoints: &[String],
    start: Instant,
    pace: Pace,
    fates: &Fates,
) {
    let mut senders = JoinSet::new();
    for (index, event) in events.iter().enumerate() {
        sleep_until((start + pace.real(event.at_s)).into()).await;
        let request = gateway.post(&endpoints[event.phone]).ttl(86_400).header("Urgency", &event.urgency);
        let fates = Arc::clone(fates);
        senders.spawn(async move {
            request.body(index.to_string()).send().await.expect(201);
            fate(&fates, index, |fate| fate.accepted = Some(Instant::now()));
        });
    }
    while let Some(sent) = senders.join_next().await {
        sent.expect("it is accepted");
    }
}

/// How much later than it had to each push came, but for those that the day's end has overtaken; by urgency.
fn lateness(events: &[Event], fates: &Fates, pace: Pace, end: Instant) -> Vec<(String, Duration)> {
    let fates = fates.lock().unwrap_or_else(PoisonError::into_inner);
    let late = |(event, fate): (&Event, &Fate)| {
        let budget_s = match event.urgency.as_str() {
            "high" => 0.0,
            "normal" => 15.0,
            "low" => 900.0,
            _ => 3600.0,
        };
        let due = fate.accepted.expect("it was accepted") + pace.real(budget_s);
        let arrived = match fate.arrived {
            None if due + REAL >= end => return None,
            arrived => arrived.unwrap_or_else(|| panic!("a {} push did not come", event.urgency)),
        };
        Some((event.urgency.clone(), arrived.saturating_duration_since(due)))
    };
    events.iter().zip(fates.iter()).filter_map(late).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_of_thirty_phones_costs_what_it_must() {
    let (speed, tail_s) = (setting("DAY_SPEED", 720), setting("DAY_TAIL_S", 60));
    let pace = Pace { speed: speed.into() };
    let tail = pace.real(tail_s.into());
    // The simulator knows no cap.
    let config = format!("[wake]\nradio_tail_s = {tail_s}\nmax_wakes_per_registration_per_hour = 0\n");
    let Some(gateway) = start(pace, &config, "a_day_of_thirty_phones").await else { return };
    let (events, optimum) = plan(&gateway, tail_s).await;
    let fates: Fates = Arc::new(Mutex::new(vec![Fate::default(); events.len()]));
    let (tell, part) = watch::channel(Part::Learn);
    let (mut phones, endpoints) = crowd(&gateway, pace, &part, &fates).await;

    tell.send(Part::Live).unwrap();
    let start = Instant::now();
    let end = start + pace.real(DAY_S);
    send(&gateway, &events, &endpoints, start, pace, &fates).await;
    assert!(timeout_at(end.into(), phones.join_next()).await.is_err(), "a phone has ended before the day");
    tell.send(Part::End).unwrap();
    let mut wakes = 0;
    while let Some(packets) = phones.join_next().await {
        let packets = packets.expect("no phone was disturbed");
        let asleep = |pair: &&[Instant]| pair[1] < end && pair[1] - pair[0] >= tail;
        wakes += packets.windows(2).filter(asleep).count() as u64;
    }

    let late = lateness(&events, &fates, pace, end);
    let mut high: Vec<_> = late.iter().filter(|(of, _)| of == "high").map(|(_, late)| *late).collect();
    high.sort_unstable();
    let p99 = high[(high.len() * 99).div_ceil(100) - 1];
    let latest = late.iter().map(|(_, late)| *late).max().unwrap();
    let _ = writeln!(
        std::io::stderr(),
        "day: {PHONES} phones, {} pushes at {speed}x, tail {tail_s} s: {wakes} wakes, optimum {optimum}; high p99 {p99:?} after the 201, latest after its deadline {latest:?} of real time",
        events.len()
    );
    assert!(wakes * 100 <= optimum * 102, "{wakes} wakes, optimum {optimum}");
    assert!(p99 <= REAL, "{p99:?}");
    assert!(latest <= REAL, "{latest:?} after its deadline");
}
