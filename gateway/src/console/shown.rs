//! One device as its owner sees it, and all of them as a collector of metrics does.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::{Deserialize, Serialize};

use crate::{
    model::{
        Day, Device, DeviceId, Registration, Spread, Tally, Urgency, Waiting,
        history::{Happened, Noted},
    },
    registry::Registry,
};

const URGENCIES: [Urgency; 4] = [Urgency::High, Urgency::Normal, Urgency::Low, Urgency::VeryLow];

/// `device show --json`
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct DeviceShown {
    /// Its id.
    pub device: String,
    /// What its owner calls it.
    pub name: String,
    /// The profile that was chosen for it; the configuration's otherwise.
    pub profile: Option<String>,
    /// Messages that have expired early since the start, because too many waited for their registrations.
    #[serde(default)]
    pub crowded_out: u64,
    /// The days on which it was there, the latest first: today and 30 before it.
    pub days: Vec<DayRow>,
    /// How long messages waited, by urgency, since it was paired.
    pub delay_ms: BTreeMap<String, DelayRow>,
    /// Messages by phase since it was paired.
    pub messages: BTreeMap<String, u32>,
    /// Messages that left later than their urgency allows, although the device was there.
    pub missed: u32,
    /// What its networks bear, the latest first.
    pub networks: Vec<NetworkRow>,
    /// Messages that wait for its registrations.
    #[serde(default)]
    pub waiting: u64,
}

/// Wakes of a day by cause.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct DayRow {
    /// Seconds since 1970 at its beginning, local time; 0: the clock was never right.
    pub day: u64,
    /// What delivering at once would have cost.
    pub at_once: u32,
    /// By the device itself; not part of the total.
    pub client: u32,
    /// By pings of the gateway.
    pub keep_alive: u32,
    /// By messages.
    pub push: u32,
    /// By coming back after the connection was lost.
    pub reconnect: u32,
    /// All that the gateway has to answer for.
    pub total: u32,
    /// By what was not needed.
    pub waste: u32,
}

/// Something that happened to a device.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct HappenedRow {
    /// When, in milliseconds from the first of them.
    pub at_ms: u64,
    /// `push`, `contact` or `state`.
    pub kind: String,
    /// Of the push, or the new floor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub urgency: Option<String>,
}

impl From<Happened> for HappenedRow {
    fn from((at_ds, event): Happened) -> Self {
        let (kind, urgency) = match event {
            Noted::Contact => ("contact", None),
            Noted::Floor(floor) => ("state", Some(floor.to_string())),
            Noted::Push(urgency) => ("push", Some(urgency.to_string())),
        };
        Self { at_ms: at_ds * 100, kind: kind.to_owned(), urgency }
    }
}

/// How long messages waited, in milliseconds.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct DelayRow {
    /// How many there were.
    pub count: u64,
    /// Half of them no longer.
    pub p50: u32,
    /// 95 % of them no longer.
    pub p95: u32,
    /// The longest.
    pub max: u32,
}

/// What a network bears.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct NetworkRow {
    /// Which.
    pub network: String,
    /// The keep-alive that is asked for.
    pub keep_alive_s: u32,
    /// Whether that is settled, or still tried.
    pub settled: bool,
}

impl DeviceShown {
    pub(super) fn of(registry: &Registry, device: &Device, tally: &Tally) -> Self {
        let habit = registry.habit(device.id);
        let network = |(name, learnt): (&crate::model::NetworkName, &crate::model::Learnt)| NetworkRow {
            network: name.to_string(),
            keep_alive_s: learnt.ask_s,
            settled: learnt.settled,
        };
        let chosen = registry.preferences(device.id).unwrap_or_default();
        let (mut crowded_out, mut waiting) = (0, 0);
        for registered in registry.registrations() {
            if registered.registration.device == device.id {
                let each = registry.waiting(registered.registration.id);
                crowded_out += each.crowded_out;
                waiting += u64::from(each.messages);
            }
        }
        Self {
            device: device.id.to_string(),
            name: device.name.to_string(),
            profile: chosen.profile.map(|profile| profile.to_string()),
            crowded_out,
            days: tally.days().iter().map(DayRow::from).collect(),
            delay_ms: URGENCIES.map(|of| (of.to_string(), DelayRow::from(tally.delay(of)))).into(),
            messages: messages(tally).map(|(phase, count)| (phase.to_owned(), count)).into(),
            missed: tally.missed,
            networks: habit.networks().map(network).collect(),
            waiting,
        }
    }
}

impl From<&Day> for DayRow {
    fn from(counted: &Day) -> Self {
        let Day { day, client, at_once, keep_alive, push, reconnect, waste } = *counted;
        let (day, total) = (u64::from(day) * 86_400, counted.total());
        Self { day, at_once, client, keep_alive, push, reconnect, total, waste }
    }
}

impl From<&Spread> for DelayRow {
    fn from(spread: &Spread) -> Self {
        let (p50, p95) = (spread.percentile_ms(50), spread.percentile_ms(95));
        Self { count: spread.count(), p50, p95, max: spread.max_ms() }
    }
}

fn messages(tally: &Tally) -> [(&'static str, u32); 5] {
    let crate::model::Messages { accepted, acked, expired, replaced, sent } = tally.messages;
    [("accepted", accepted), ("sent", sent), ("acked", acked), ("expired", expired), ("replaced", replaced)]
}

/// OpenMetrics text of all devices and registrations.
#[must_use]
pub fn metrics(tallies: &[(DeviceId, Tally)], waiting: &[(&Registration, Waiting)]) -> String {
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, rows: &mut dyn Iterator<Item = (String, f64)>| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# TYPE {name} {kind}\n# HELP {name} {help}");
        let suffix = if kind == "counter" { "_total" } else { "" };
        for (labels, value) in rows {
            let _ = writeln!(text, "{name}{suffix}{{{labels}}} {value}");
        }
    };
    let all = || tallies.iter();
    family(
        "unifiedpush_wakes_today",
        "gauge",
        "Wakes of the device since midnight, by cause; at_once: what delivering at once would have cost.",
        &mut all().flat_map(|(device, tally)| {
            let today = tally.days().first().copied().unwrap_or_default();
            [
                ("at_once", today.at_once),
                ("client", today.client),
                ("keep_alive", today.keep_alive),
                ("push", today.push),
                ("reconnect", today.reconnect),
                ("waste", today.waste),
            ]
            .map(|(cause, count)| (format!("device=\"{device}\",cause=\"{cause}\""), count.into()))
        }),
    );
    family(
        "unifiedpush_messages",
        "counter",
        "Messages of the device by phase.",
        &mut all().flat_map(|(device, tally)| {
            messages(tally)
                .map(|(phase, count)| (format!("device=\"{device}\",phase=\"{phase}\""), count.into()))
        }),
    );
    let labels = |of: &Registration| format!("device=\"{}\",registration=\"{}\"", of.device, of.id);
    family(
        "unifiedpush_waiting",
        "gauge",
        "Messages that wait for the registration.",
        &mut waiting.iter().map(|(of, waiting)| (labels(of), waiting.messages.into())),
    );
    family(
        "unifiedpush_crowded_out",
        "counter",
        "Messages that expired early since the start, because too many waited for the registration.",
        &mut waiting.iter().map(|(of, waiting)| (labels(of), exact(waiting.crowded_out))),
    );
    family(
        "unifiedpush_missed_deadlines",
        "counter",
        "Messages that left later than their urgency allows, although the device was there.",
        &mut all().map(|(device, tally)| (format!("device=\"{device}\""), tally.missed.into())),
    );
    family(
        "unifiedpush_delay_mseconds",
        "gauge",
        "How long messages waited, by urgency: quantiles since the device was paired.",
        &mut all().flat_map(|(device, tally)| {
            URGENCIES.into_iter().flat_map(move |urgency| {
                let delay = DelayRow::from(tally.delay(urgency));
                [("0.5", delay.p50), ("0.95", delay.p95), ("1", delay.max)].map(|(quantile, value)| {
                    let labels = format!("device=\"{device}\",urgency=\"{urgency}\",quantile=\"{quantile}\"");
                    (labels, f64::from(value) / 1000.0)
                })
            })
        }),
    );
    text.push_str("# EOF\n");
    text
}

/// A count as OpenMetrics has it; exact below 2^53.
#[expect(clippy::cast_precision_loss, reason = "no counter comes near 2^53")]
fn exact(count: u64) -> f64 {
    count as f64
}
