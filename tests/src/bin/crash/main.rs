//! `crash`: kills the real gateway under load, and holds it to what it has answered.
//!
//! Started by the script `tests/crash`. In each cycle senders push (Topics, TTLs, DELETEs), devices
//! acknowledge some of it, an owner adds and removes apps and devices; at a random moment the process is
//! killed, sometimes again while it opens its store; then everything is compared with a log of our own.
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

mod check;
mod control;
mod fuse;
mod http;
mod judge;
mod load;
mod mqtt;
mod process;
mod random;
mod totals;
mod volume;
mod world;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, ValueEnum};

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
    let mut world = match World::new(&args) {
        Ok(world) => world,
        Err(error) => {
            println!("SKIPPED {name}: no FUSE here ({error}); skipped: {} cycles", args.cycles);
            return ExitCode::SUCCESS;
        }
    };
    for cycle in 1..=args.cycles {
        world.cycle(cycle);
        if cycle % 10 == 0 {
            println!("{}", world.totals().line(&name));
        }
    }
    let (totals, controls) = world.end();
    println!("{} (seed {})", totals.line(&name), args.seed);
    let mut fit = true;
    if let Some(controls) = controls {
        println!("{}", controls.line());
        fit = controls.is_fit();
        if !fit {
            println!("UNFIT: the controls do not show what they must; nothing that was found counts");
        }
    }
    if totals.is_clean() && fit { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
