//! The table, the JSON, and what is asserted.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::{
    args::Args,
    latency::{PER_SECOND, TURN},
    measures::{Case, Measure, Measures, Side},
    recovery::{MANY, WAITING},
    rounds::{EQUAL, IN_FLIGHT},
};

/// What the gateway has to reach.
#[derive(Clone, Copy, Debug)]
enum Goal {
    /// At least so many times ntfy's figure.
    TimesNtfy(f64),
    /// At most this part of ntfy's figure: `1/n`.
    PartOfNtfy(f64),
    /// At most this.
    AtMost(f64),
    /// Shown only.
    None,
}

impl Goal {
    fn text(self, unit: &str) -> String {
        match self {
            Self::TimesNtfy(times) => format!("≥ {times}× ntfy"),
            Self::PartOfNtfy(1.0) => "≤ ntfy".to_owned(),
            Self::PartOfNtfy(part) => format!("≤ 1/{part} of ntfy"),
            Self::AtMost(limit) => format!("≤ {limit} {unit}"),
            Self::None => String::new(),
        }
    }

    /// Whether it is reached; `None` when there is nothing to judge.
    fn reached(self, gateway: Option<f64>, ntfy: Option<f64>) -> Option<bool> {
        match self {
            Self::TimesNtfy(times) => Some(gateway? >= times * ntfy?),
            Self::PartOfNtfy(part) => Some(gateway? * part <= ntfy?),
            Self::AtMost(limit) => Some(gateway? <= limit),
            Self::None => None,
        }
    }
}

/// One line of the table.
#[derive(Debug)]
struct Row {
    measure: Measure,
    title: String,
    /// For JSON.
    key: String,
    unit: &'static str,
    goal: Goal,
}

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut row = |measure, title: String, key: String, unit, goal| {
        rows.push(Row { measure, title, key, unit, goal });
    };
    for case in Case::ALL {
        for in_flight in IN_FLIGHT {
            let goal = match in_flight {
                16 => Goal::TimesNtfy(12.0),
                256 => Goal::TimesNtfy(20.0),
                _ => Goal::None,
            };
            let title = format!("pushes answered a second, {in_flight} in flight, {}", case.name());
            row(Measure::Rate(case, in_flight), title, format!("rate_{in_flight}_{}", key(case)), "/s", goal);
        }
    }
    for percent in [50, 99] {
        let title = format!("POST to arrival at the subscriber, p{percent}");
        row(Measure::Arrival(percent), title, format!("arrival_p{percent}_ms"), "ms", Goal::PartOfNtfy(1.0));
    }
    for percent in [50, 99] {
        let title = format!("POST to its answer, p{percent}");
        row(Measure::Answer(percent), title, format!("answer_p{percent}_ms"), "ms", Goal::None);
    }
    for case in Case::ALL {
        let title = format!("processor time a push, 16 in flight, {}", case.name());
        row(Measure::Cpu(case), title, format!("cpu_ms_{}", key(case)), "ms", Goal::PartOfNtfy(8.0));
    }
    for case in Case::ALL {
        let title = format!("written to disk a push, 16 in flight, {}", case.name());
        row(Measure::Disk(case), title, format!("disk_kb_{}", key(case)), "KB", Goal::PartOfNtfy(12.0));
    }
    row(
        Measure::IdleMemory,
        "resident memory, idle".to_owned(),
        "rss_idle_mb".to_owned(),
        "MB",
        Goal::AtMost(12.0),
    );
    for case in Case::ALL {
        let title = format!("resident memory after {EQUAL} pushes, up to 256 in flight, {}", case.name());
        let key = format!("rss_equal_mb_{}", key(case));
        row(Measure::EqualMemory(case), title, key, "MB", Goal::AtMost(20.0));
    }
    for case in Case::ALL {
        let title = format!("resident memory after the bursts above, {}", case.name());
        row(Measure::BurstMemory(case), title, format!("rss_burst_mb_{}", key(case)), "MB", Goal::None);
    }
    for case in Case::ALL {
        let title = format!("pushes accepted in those bursts, {}", case.name());
        row(
            Measure::BurstPushes(case),
            title,
            format!("thousand_pushes_{}", key(case)),
            "thousand",
            Goal::None,
        );
    }
    row(
        Measure::Recovery,
        format!("kill -9 with {WAITING} messages waiting, to the first answer"),
        "recovery_ms".to_owned(),
        "ms",
        Goal::None,
    );
    let many = format!("with {MANY} messages waiting");
    row(
        Measure::ManyRecovery,
        format!("kill -9 {many}, to the first answer"),
        "recovery_many_ms".to_owned(),
        "ms",
        Goal::AtMost(2_000.0),
    );
    row(
        Measure::ManyMemory,
        format!("resident memory {many}, at most, until the first answer"),
        "rss_recovery_many_mb".to_owned(),
        "MB",
        Goal::AtMost(64.0),
    );
    rows
}

fn key(case: Case) -> &'static str {
    match case {
        Case::Alone => "alone",
        Case::Connected => "connected",
    }
}

/// Everything that the output says.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    args: &'a Args,
    machine: String,
    measures: &'a Measures,
}

impl<'a> Report<'a> {
    /// Of these measures.
    pub(crate) fn new(args: &'a Args, machine: String, measures: &'a Measures) -> Self {
        Self { args, machine, measures }
    }

    /// The goals that the gateway misses, each as a sentence.
    pub(crate) fn missed(&self) -> Vec<String> {
        let missed = |row: &Row| {
            let (gateway, ntfy) = self.both(row.measure);
            (row.goal.reached(gateway, ntfy) == Some(false)).then(|| {
                format!("{}: {} {}, goal {}", row.title, number(gateway), row.unit, row.goal.text(row.unit))
            })
        };
        rows().iter().filter_map(missed).collect()
    }

    /// A Markdown section.
    pub(crate) fn to_markdown(&self) -> String {
        let mut text = format!("Machine: {}.\n\nServers: {}.\n\n", self.machine, self.versions());
        let _infallible = writeln!(
            text,
            "| | gateway | ntfy | mosquitto | against ntfy | goal | |\n|---|---:|---:|---:|---:|---|---|"
        );
        for row in rows() {
            let (gateway, ntfy) = self.both(row.measure);
            let verdict = match row.goal.reached(gateway, ntfy) {
                Some(true) => "reached",
                Some(false) => "**missed**",
                None => "",
            };
            let _infallible = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} | {verdict} |",
                row.title,
                self.cell(&row, Side::Gateway),
                self.cell(&row, Side::Ntfy),
                self.cell(&row, Side::Mosquitto),
                ratio(gateway, ntfy),
                row.goal.text(row.unit),
            );
        }
        let _infallible = write!(text, "\n{}\n", self.method());
        text
    }

    /// The same as JSON: medians, and every round behind them.
    pub(crate) fn to_json(&self) -> String {
        let mut figures = Map::new();
        for row in rows() {
            let (gateway, ntfy) = self.both(row.measure);
            let mut figure = Map::new();
            for side in Side::ALL {
                if let Some(median) = self.measures.median(side, row.measure) {
                    let rounds = self.measures.rounds(side, row.measure);
                    figure.insert(side.name().to_owned(), json!({ "median": median, "rounds": rounds }));
                }
            }
            figure.insert("goal".to_owned(), json!(row.goal.text(row.unit)));
            figure.insert("reached".to_owned(), json!(row.goal.reached(gateway, ntfy)));
            figures.insert(row.key, Value::Object(figure));
        }
        let versions: Map<String, Value> =
            self.measures.versions.iter().map(|(side, name)| (side.name().to_owned(), json!(name))).collect();
        let report = json!({
            "machine": self.machine,
            "versions": versions,
            "method": self.method(),
            "figures": figures,
            "missed": self.missed(),
        });
        format!("{report:#}")
    }

    fn both(&self, measure: Measure) -> (Option<f64>, Option<f64>) {
        (self.measures.median(Side::Gateway, measure), self.measures.median(Side::Ntfy, measure))
    }

    fn cell(&self, row: &Row, side: Side) -> String {
        match self.measures.median(side, row.measure) {
            Some(value) => format!("{} {}", number(Some(value)), row.unit),
            None => String::new(),
        }
    }

    fn versions(&self) -> String {
        self.measures.versions.values().map(String::as_str).collect::<Vec<_>>().join(", ")
    }

    fn method(&self) -> String {
        let generator = Case::ALL
            .into_iter()
            .flat_map(|case| Side::ALL.map(|side| self.measures.median(side, Measure::Generator(case))))
            .flatten()
            .fold(0.0, f64::max);
        let rounds = self.args.rounds();
        format!(
            "Medians over {} with bursts of {} s, at most {} pushes each; every case starts a fresh server with an \
             empty state directory. Pushes of 1,024 bytes over keep-alive HTTP/1.1 on loopback, spread over 16 \
             endpoints (topics); a push counts when it is answered with success, and any refusal stops the run. \
             Latency is timed one push at a time, {PER_SECOND} a second, with all servers up and taking turns \
             of {TURN} pushes; arrival is at an MQTT subscriber with QoS 1 \
             (gateway, mosquitto) and a JSON stream (ntfy). ntfy keeps its defaults but for a cache file and \
             visitor limits that let the load pass; mosquitto runs without persistence and is shown for latency \
             and idle memory alone. Processor time, disk bytes and memory are the server process's own, from /proc, \
             read when it rests. At 16 in flight load generator and subscriber together took at most {:.0} % of \
             one core.",
            if rounds == 1 { "one round".to_owned() } else { format!("{rounds} alternating rounds") },
            self.args.burst().as_secs_f64(),
            self.args.pushes(),
            generator * 100.0,
        )
    }
}

/// Three significant digits, as many as repeat from run to run; thousands apart.
fn number(value: Option<f64>) -> String {
    let Some(value) = value else { return "?".to_owned() };
    match value {
        100.0.. => {
            let digits = format!("{value:.0}");
            match digits.len() {
                4.. => {
                    let (thousands, rest) = digits.split_at(digits.len() - 3);
                    format!("{thousands},{rest}")
                }
                _ => digits,
            }
        }
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn ratio(gateway: Option<f64>, ntfy: Option<f64>) -> String {
    match (gateway, ntfy) {
        (Some(gateway), Some(ntfy)) if gateway > 0.0 && ntfy > 0.0 => {
            if gateway >= ntfy {
                format!("{}×", number(Some(gateway / ntfy)))
            } else {
                format!("1/{}", number(Some(ntfy / gateway)))
            }
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_judged_against_ntfy_and_only_with_both_figures() {
        assert_eq!(Goal::TimesNtfy(12.0).reached(Some(1200.0), Some(100.0)), Some(true));
        assert_eq!(Goal::TimesNtfy(12.0).reached(Some(1199.0), Some(100.0)), Some(false));
        assert_eq!(Goal::PartOfNtfy(8.0).reached(Some(1.1), Some(8.0)), Some(false));
        assert_eq!(Goal::PartOfNtfy(8.0).reached(Some(1.0), None), None);
        assert_eq!(Goal::AtMost(12.0).reached(Some(12.1), None), Some(false));
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(number(Some(18_123.4)), "18,123");
        assert_eq!(number(Some(670.0)), "670");
        assert_eq!(number(Some(0.0491)), "0.049");
    }
}
