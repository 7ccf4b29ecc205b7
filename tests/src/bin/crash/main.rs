//! `crash`: kills the real gateway under load, and holds it to what it has answered.
//!
//! Started by the script `tests/crash`. In each cycle senders push (Topics, TTLs, DELETEs), devices
//! acknowledge some of it, an owner adds and removes apps and devices; at a random moment the process is
//! killed, sometimes again while it opens its store; then everything is compared with a log of our own. In some
//! cycles much waits first and is gone at once, and the process is killed while it writes its database anew.
//!
//! - `--mode kill`: kill -9. The kernel keeps what was written: this finds what a process loses.
//! - `--mode cut`: kill -9, and everything that was not synced is forgotten, as at a power cut.
//! - `--mode torn`: the same, but parts of the last writes remain, or noise in their place.
//!
//! In the last two modes SQLite is judged beside the gateway: with `synchronous=FULL` it must lose nothing,
//! with `NORMAL` it must lose something; otherwise the judge is unfit, and the run fails.
//!
//! Exit status 0: nothing was lost; 1: something was wrong; 2: the command line was.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the figures are this program's output")]

mod burden;
mod check;
mod control;
mod http;
mod judge;
mod load;
mod mqtt;
mod process;
mod totals;
mod world;

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use clap::{Parser, ValueEnum};

use control::Verdict;
use totals::Totals;
use world::World;

/// Kills the gateway under load and checks that it has kept every promise.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// The gateway's binary.
    #[arg(long, value_name = "FILE")]
    bin: PathBuf,
    /// How often to kill it.
    #[arg(long, default_value_t = 20)]
    cycles: u64,
    /// After how many cycles to begin with an empty state directory.
    #[arg(long, default_value_t = 25)]
    fresh: u64,
    /// How many gateways, each with a disk and a log of its own, share the cycles.
    #[arg(long, default_value_t = 1)]
    jobs: u64,
    /// After how many minutes to begin no more cycles; what was reached is reported, and is no failure.
    #[arg(long)]
    minutes: Option<u64>,
    /// What is lost besides the process.
    #[arg(long, value_enum, default_value_t = Mode::Kill)]
    mode: Mode,
    /// Where chance begins.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What is lost besides the process.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Mode {
    /// Nothing.
    Kill,
    /// Whatever was not synced.
    Cut,
    /// Whatever was not synced, but for parts of the last writes.
    Torn,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let name = format!("{:?}", args.mode).to_lowercase();
    let jobs = args.jobs.clamp(1, args.cycles.max(1));
    let worlds: std::io::Result<Vec<World>> =
        // Controls in every other world are enough to judge the judge, and cost as much as the gateway does.
        (0..jobs).map(|job| World::new(&args, args.seed.wrapping_add(job << 32), job % 2 == 0)).collect();
    let worlds = match worlds {
        Ok(worlds) => worlds,
        Err(error) => {
            println!("SKIPPED {name}: no FUSE here ({error}); skipped: {} cycles", args.cycles);
            return ExitCode::SUCCESS;
        }
    };
    let end = args.minutes.map(|minutes| Instant::now() + Duration::from_secs(60 * minutes));
    let sum = Mutex::new((Totals::default(), None));
    std::thread::scope(|scope| {
        for (job, world) in (0..).zip(worlds) {
            let share = args.cycles / jobs + u64::from(job < args.cycles % jobs);
            let (sum, name) = (&sum, &name);
            scope.spawn(move || run(world, share, end, name, sum));
        }
    });
    let (totals, controls) = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("{} (seed {}, {jobs} side by side)", totals.line(&name), args.seed);
    let mut fit = true;
    if let Some(controls) = controls {
        println!("{}", controls.line());
        fit = controls.is_fit();
        if !fit {
            println!("UNFIT: the controls do not show what they must; nothing that was found counts");
        }
    }
    // A thread that has panicked has not done its share.
    let late = end.is_some_and(|end| Instant::now() >= end);
    if late && totals.cycles < args.cycles {
        println!("SHORT: the time was up after {} of {} cycles", totals.cycles, args.cycles);
    }
    let complete = totals.cycles == args.cycles || late;
    if totals.is_clean() && complete && fit { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A share of the cycles, in a world of its own.
fn run(
    mut world: World,
    cycles: u64,
    end: Option<Instant>,
    name: &str,
    sum: &Mutex<(Totals, Option<Verdict>)>,
) {
    for cycle in 1..=cycles {
        if end.is_some_and(|end| Instant::now() >= end) {
            break;
        }
        world.cycle(cycle);
        if cycle % 10 == 0 {
            println!("{}", world.totals().line(name));
        }
    }
    let (totals, verdict) = world.end();
    let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
    sum.0.add(totals);
    if let Some(verdict) = verdict {
        sum.1.get_or_insert_default().add(verdict);
    }
}
