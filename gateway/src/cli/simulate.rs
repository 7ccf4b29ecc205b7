//! `simulate`: what each policy would cost one phone, over a recorded or a made-up trace.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use clap::Args;
use serde::Serialize;

use super::CliError;
use crate::{
    clock::{Clock as _, SystemClock},
    model::{Malformed, Profile, Urgency},
    simulate::{
        KeepAlive, Policy, end_us,
        energy::{RADIOS, VOLTS},
        optimum, reference,
        run::{self, Outcome},
        trace::{self, Happening},
    },
};

/// The longest trace that is read, in bytes.
const LONGEST: u64 = 256 << 20;
const URGENCIES: [Urgency; 4] = [Urgency::High, Urgency::Normal, Urgency::Low, Urgency::VeryLow];

/// `simulate`
#[derive(Args, Clone, Debug)]
pub struct SimulateArgs {
    /// CSV with the header `at,kind,urgency,ttl,topic`.
    #[arg(value_name = "TRACE.csv", required_unless_present_any = ["export", "reference"], conflicts_with_all = ["export", "reference"])]
    pub trace: Option<PathBuf>,
    /// Only this one of instant, balanced, saver [default: all; with --json balanced].
    #[arg(long, value_name = "P", value_parser = Profile::from_str)]
    pub profile: Option<Profile>,
    /// The longest silence of the connection in seconds, or `learn`, in a network that bears any.
    #[arg(long, value_name = "SECONDS|learn", default_value = "1680", value_parser = keep_alive)]
    pub keep_alive: KeepAlive,
    /// How long a radio stays up after a packet, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = tau)]
    pub tau: u64,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Write a trace to standard output instead: what happened to this device in the last 30 days, times and
    /// urgencies only.
    #[arg(long, value_name = "DEVICE", conflicts_with_all = ["json", "profile", "reference"])]
    pub export: Option<String>,
    /// Write the reference trace to standard output instead.
    #[arg(long, conflicts_with_all = ["json", "profile"])]
    pub reference: bool,
    /// So many days of it.
    #[arg(long, value_name = "N", default_value_t = 200, requires = "reference", value_parser = clap::value_parser!(u64).range(1..=3650))]
    pub days: u64,
    /// Another seed gives another trace.
    #[arg(long, value_name = "S", default_value_t = 1, requires = "reference")]
    pub seed: u64,
    /// So many contacts a day that the phone makes by itself.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "reference", value_parser = clap::value_parser!(u64).range(0..=10_000))]
    pub contacts: u64,
}

fn seconds(text: &str, least: f64, expected: &'static str) -> Result<u64, Malformed> {
    let seconds: f64 = text.parse().map_err(|_| Malformed { expected })?;
    // NaN is in no range.
    if !(least..=86_400.0).contains(&seconds) {
        return Err(Malformed { expected });
    }
    u64::try_from(Duration::from_secs_f64(seconds).as_micros()).map_err(|_| Malformed { expected })
}

fn keep_alive(text: &str) -> Result<KeepAlive, Malformed> {
    if text == "learn" {
        return Ok(KeepAlive::Learnt);
    }
    seconds(text, 1.0, "seconds from 1 to 86400, or `learn`").map(KeepAlive::Fixed)
}

fn tau(text: &str) -> Result<u64, Malformed> {
    seconds(text, 0.0, "seconds from 0 to 86400")
}

/// The one object of `--json`.
#[derive(Debug, Serialize)]
struct Report {
    policy: &'static str,
    keep_alive_s: f64,
    tau_s: f64,
    wakes: Wakes,
    optimum: u64,
    delay_s: BTreeMap<&'static str, Delay>,
    missed: u64,
    expired: u64,
    pending: u64,
    mah: BTreeMap<&'static str, f64>,
}

#[derive(Debug, Serialize)]
struct Wakes {
    total: u64,
    push: u64,
    keep_alive: u64,
}

/// In seconds; 0 where nothing of the urgency left.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Delay {
    mean: f64,
    p95: f64,
    max: f64,
}

impl Delay {
    /// `delays` are sorted. p95 is the smallest that at least 95 % do not exceed.
    #[expect(clippy::cast_precision_loss, reason = "microseconds of a trace are below 2^53")]
    fn of(delays: &[u64]) -> Self {
        let Some(&max) = delays.last() else { return Self::default() };
        let mean = delays.iter().map(|delay| *delay as f64).sum::<f64>() / delays.len() as f64;
        let rank = (delays.len() * 95).div_ceil(100).max(1);
        Self { mean: mean / 1e6, p95: delays[rank - 1] as f64 / 1e6, max: max as f64 / 1e6 }
    }
}

impl Report {
    #[expect(clippy::cast_precision_loss, reason = "microseconds of a trace are below 2^53")]
    fn of(policy: &Policy, outcome: &Outcome, optimum: u64) -> Self {
        let delays = |urgency| outcome.delays_us.get(&urgency).map(Vec::as_slice).unwrap_or_default();
        let (push, keep_alive) = (outcome.push_wakes, outcome.keep_alive_wakes);
        Self {
            policy: policy.profile.as_str(),
            keep_alive_s: outcome.keep_alive_us as f64 / 1e6,
            tau_s: policy.tau_us as f64 / 1e6,
            wakes: Wakes { total: push + keep_alive, push, keep_alive },
            optimum,
            delay_s: URGENCIES.map(|urgency| (urgency.as_str(), Delay::of(delays(urgency)))).into(),
            missed: outcome.missed,
            expired: outcome.expired,
            pending: outcome.pending,
            mah: RADIOS.map(|radio| (radio.name, radio.mah(&outcome.packets_us))).into(),
        }
    }
}

/// Executes `simulate`.
///
/// # Errors
/// [`CliError`]; [`CliError::Data`] names the line of a trace that is wrong.
pub(super) fn simulate(args: &SimulateArgs, out: &mut dyn Write) -> Result<(), CliError> {
    let Some(path) = &args.trace else {
        writeln!(out, "{}", trace::HEADER)?;
        for happening in reference::trace(args.days, args.seed, args.contacts) {
            writeln!(out, "{}", trace::line(&happening))?;
        }
        return Ok(());
    };
    let happenings = read(path)?;
    let simulated = |profile| one(args, &happenings, profile);
    if args.json {
        let report = simulated(args.profile.unwrap_or_default());
        let text = serde_json::to_string(&report).map_err(|error| CliError::Failed(error.to_string()))?;
        return Ok(writeln!(out, "{text}")?);
    }
    let all = [Profile::Instant, Profile::Balanced, Profile::Saver];
    let chosen: Vec<Profile> = args.profile.map_or(all.to_vec(), |profile| vec![profile]);
    table(&chosen.into_iter().map(simulated).collect::<Vec<_>>(), &happenings, out)
}

fn read(path: &Path) -> Result<Vec<Happening>, CliError> {
    let place = path.display();
    let failed = |error: std::io::Error| CliError::Failed(format!("cannot read {place}: {error}"));
    // A pipe has no length, and is read as it comes.
    if fs::metadata(path).map_err(failed)?.len() > LONGEST {
        return Err(CliError::Data(format!("{place}: a trace has at most {} MiB", LONGEST >> 20)));
    }
    let bytes = fs::read(path).map_err(failed)?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let whole = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = whole.iter().filter(|byte| **byte == b'\n').count() + 1;
        CliError::Data(format!("{place}: line {line}: not UTF-8 text"))
    })?;
    trace::read(&text).map_err(|bad| CliError::Data(format!("{place}: {bad}")))
}

fn one(args: &SimulateArgs, happenings: &[Happening], profile: Profile) -> Report {
    let policy = Policy { keep_alive: args.keep_alive, profile, tau_us: args.tau };
    let outcome = run::run(happenings, &policy, SystemClock::default().moment().instant);
    let optimum = optimum::wakes(happenings, &policy, outcome.keep_alive_us);
    Report::of(&policy, &outcome, optimum)
}

#[expect(clippy::cast_precision_loss, reason = "counts of a trace are below 2^53")]
fn table(reports: &[Report], happenings: &[Happening], out: &mut dyn Write) -> Result<(), CliError> {
    let days = (end_us(happenings) / 86_400_000_000).max(1);
    let daily = |count: u64| count as f64 / days as f64;
    writeln!(
        out,
        "{days} day(s); wakes a day, delays in s (mean/p95/max), mAh a day at {VOLTS} V\n\n{:<10}{:>12}{:>8}{:>8}{:>12}{:>9}",
        "policy", "keep-alive s", "wakes", "push", "keep-alive", "optimum"
    )?;
    for report in reports {
        let Wakes { total, push, keep_alive } = report.wakes;
        writeln!(
            out,
            "{:<10}{:>12}{:>8.1}{:>8.1}{:>12.1}{:>9.1}",
            report.policy,
            report.keep_alive_s,
            daily(total),
            daily(push),
            daily(keep_alive),
            daily(report.optimum)
        )?;
    }
    for report in reports {
        writeln!(
            out,
            "\n{}: {} missed, {} expired, {} pending",
            report.policy, report.missed, report.expired, report.pending
        )?;
        for urgency in URGENCIES {
            let Delay { mean, p95, max } = report.delay_s.get(urgency.as_str()).copied().unwrap_or_default();
            writeln!(out, "  {:<10}{mean:>10.1}{p95:>10.1}{max:>10.1}", urgency.as_str())?;
        }
        for (radio, mah) in &report.mah {
            writeln!(out, "  {radio:<20}{:>8.2} mAh a day", mah / days as f64)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;

    fn said(options: &[&str], text: &str) -> Result<String, CliError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("trace.csv");
        fs::write(&path, text).unwrap();
        let path = path.to_str().unwrap().to_owned();
        let line = ["unifiedpush-gateway", "simulate", &path].into_iter().chain(options.iter().copied());
        let cli = Cli::read(line).map_err(|error| CliError::Usage(error.to_string()))?;
        let mut out = Vec::new();
        crate::cli::dispatch(cli, &mut out, |_| None)?;
        Ok(String::from_utf8(out).unwrap())
    }

    const TRACE: &str =
        "at,kind,urgency,ttl,topic\n100,push,normal,,\n20000,push,high,,\n86000,push,very-low,,\n";

    #[test]
    fn one_json_object_of_the_agreed_form() {
        let json: serde_json::Value = serde_json::from_str(&said(&["--json"], TRACE).unwrap()).unwrap();
        assert_eq!(json["policy"], "balanced");
        assert_eq!((&json["keep_alive_s"], &json["tau_s"]), (&1680.0.into(), &10.0.into()));
        let wakes = &json["wakes"];
        assert_eq!(
            wakes["total"].as_u64(),
            Some(wakes["push"].as_u64().unwrap() + wakes["keep_alive"].as_u64().unwrap())
        );
        assert_eq!(wakes["total"], json["optimum"]);
        assert_eq!(json["delay_s"]["normal"], serde_json::json!({"mean": 15.0, "p95": 15.0, "max": 15.0}));
        assert_eq!(json["delay_s"]["high"]["max"], 0.0);
        for count in ["missed", "expired"] {
            assert_eq!(json[count], 0, "{count}");
        }
        assert_eq!(json["pending"], 1, "its time comes on the next day");
        assert!(
            json["mah"]["lte-huang-2012"].as_f64().unwrap()
                > json["mah"]["wifi-huang-2012"].as_f64().unwrap()
        );
        let saver: serde_json::Value = serde_json::from_str(
            &said(&["--json", "--profile", "saver", "--keep-alive", "learn", "--tau", "5.5"], TRACE).unwrap(),
        )
        .unwrap();
        assert_eq!((&saver["policy"], &saver["tau_s"]), (&"saver".into(), &5.5.into()));
    }

    #[test]
    fn without_json_all_policies_stand_in_a_table() {
        let text = said(&[], TRACE).unwrap();
        for word in ["instant", "balanced", "saver", "optimum", "lte-huang-2012"] {
            assert!(text.contains(word), "{word}: {text}");
        }
    }

    #[test]
    fn a_bad_trace_is_refused_with_its_line_and_65() {
        let error = said(&["--json"], &format!("{TRACE}5,push,high,,\n")).unwrap_err();
        assert_eq!(error.exit_code(), 65);
        assert!(error.to_string().contains("trace.csv: line 5: at 5 s comes after 86000 s"), "{error}");
    }

    #[test]
    fn absurd_options_are_refused() {
        for wrong in [
            "--keep-alive=-5",
            "--keep-alive=0",
            "--keep-alive=NaN",
            "--keep-alive=1e99",
            "--tau=-1",
            "--profile=eco",
        ] {
            assert_eq!(said(&[wrong], TRACE).unwrap_err().exit_code(), 2, "{wrong}");
        }
    }
}
