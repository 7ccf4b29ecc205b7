//! Time that runs faster: a gateway by such a clock, and what happens to phones in days that take minutes.

use std::{io::Write as _, time::Duration};

use harness::Gateway;

pub(crate) const DAY_S: f64 = 86_400.0;

/// A number from the environment.
pub(crate) fn setting(name: &str, usual: u32) -> u32 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// How the gateway's time becomes ours.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) speed: f64,
}

impl Pace {
    pub(crate) fn real(self, seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds / self.speed)
    }
}

/// A gateway with this clock. `None` with a word why: only one with debug assertions has such a clock.
pub(crate) async fn start(pace: Pace, config: &str, test: &str) -> Option<Gateway> {
    let speed = pace.speed.to_string();
    let gateway = Gateway::new().config(config).env("UNIFIEDPUSH_GATEWAY_CLOCK_SPEED", &speed).start().await;
    if gateway.log().contains("the clock runs faster") {
        return Some(gateway);
    }
    let _ = writeln!(std::io::stderr(), "skipped: {test}: a release build has one clock only");
    None
}

/// The reference trace of one of many phones, as CSV.
pub(crate) async fn trace(gateway: &Gateway, phone: usize, days: u32) -> String {
    let (seed, days) = ((phone + 1).to_string(), days.to_string());
    let trace = gateway.cli(["simulate", "--reference", "--days", &days, "--seed", &seed]).await;
    trace.text().to_owned()
}

/// A push of a trace.
pub(crate) struct Event {
    pub(crate) at_s: f64,
    pub(crate) phone: usize,
    pub(crate) urgency: String,
}

/// The pushes of a trace.
pub(crate) fn pushes(trace: &str, phone: usize) -> impl Iterator<Item = Event> {
    trace.lines().skip(1).map(move |line| {
        let fields: Vec<_> = line.split(',').collect();
        assert_eq!(fields[1], "push", "{line}");
        Event { at_s: fields[0].parse().expect("seconds"), phone, urgency: fields[2].to_owned() }
    })
}
