//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::Parser;

/// Measures the gateway beside ntfy and mosquitto. A server that is not named is left out.
#[derive(Debug, Parser)]
#[command(name = "compare")]
pub(crate) struct Args {
    /// Fail when a goal is missed.
    #[arg(long)]
    pub(crate) assert: bool,
    /// The gateway's binary.
    #[arg(long, value_name = "FILE")]
    pub(crate) gateway: Option<PathBuf>,
    /// Measure what one endpoint that gets 1,000 requests a second takes away from the others instead.
    #[arg(long)]
    pub(crate) hot: bool,
    /// Print the figures as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// mosquitto's binary.
    #[arg(long, value_name = "FILE")]
    pub(crate) mosquitto: Option<PathBuf>,
    /// Where mosquitto finds libraries that this machine does not have.
    #[arg(long, value_name = "DIR")]
    pub(crate) mosquitto_libraries: Option<PathBuf>,
    /// ntfy's binary.
    #[arg(long, value_name = "FILE")]
    pub(crate) ntfy: Option<PathBuf>,
    /// Measure many phones and strangers instead: memory, churn, a rush of reconnects, latency and throughput
    /// beside mosquitto.
    #[arg(long)]
    pub(crate) phones: bool,
    /// One short round: shows that everything runs; its figures say little.
    #[arg(long)]
    pub(crate) quick: bool,
    /// No burst sends more than this [default: 30000].
    #[arg(long, value_name = "N")]
    pushes: Option<u64>,
    /// How many rounds the medians are taken over [default: 5, quick: 1].
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
    /// Measure a thousand idle subscribers of ntfy's JSON stream instead: memory, and latency to one of them, beside
    /// ntfy.
    #[arg(long, conflicts_with = "phones")]
    pub(crate) streams: bool,
    /// How long one burst lasts [default: 3, quick: 0.5].
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    burst: Option<Duration>,
    /// State directories go here: a real disk, because what is measured is durable.
    #[arg(long, value_name = "DIR", default_value = "target/compare")]
    pub(crate) work: PathBuf,
}

impl Args {
    /// How long one burst lasts.
    pub(crate) fn burst(&self) -> Duration {
        self.burst.unwrap_or(Duration::from_millis(if self.quick { 500 } else { 3_000 }))
    }

    /// How long after its start a server is called idle.
    pub(crate) fn idle(&self) -> Duration {
        Duration::from_millis(if self.quick { 500 } else { 3_000 })
    }

    /// The most that one burst sends. A server that is a hundred times faster would otherwise be asked
    /// for its memory with a hundred times as much waiting.
    pub(crate) fn pushes(&self) -> u64 {
        self.pushes.unwrap_or(30_000).clamp(1, 1_000_000)
    }

    /// In how many turns pushes are timed one by one, [`crate::latency::TURN`] of them in each.
    pub(crate) fn turns(&self) -> u32 {
        if self.quick { 1 } else { 10 }
    }

    /// How long a server must have written nothing to count as at rest.
    pub(crate) fn rest(&self) -> Duration {
        Duration::from_millis(if self.quick { 300 } else { 1_000 })
    }

    /// How many rounds.
    pub(crate) fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 1 } else { 5 }).clamp(1, 50)
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=60.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        Ok(_) | Err(_) => Err("expected a number of seconds between 0.1 and 60".to_owned()),
    }
}
