//! `compare`: the gateway beside ntfy and mosquitto, on one machine, in one run.
//!
//! Started by the script `tests/compare`, which fetches the peers. Rounds alternate between the servers and
//! every figure is the median over the rounds, so that a slow minute of the machine hits all of them alike.
//! Each case gets a fresh server with an empty state directory. All traffic stays on loopback.
//!
//! What is measured, with pushes of 1 KB (a plausible aes128gcm body):
//! - bursts: pushes answered per second with 1, 16 and 256 requests in flight, each on its own keep-alive
//!   connection; once with nobody connected and once with one subscriber that acknowledges;
//! - latency: one push at a time, from the first byte of the request to its answer and to its arrival at
//!   the subscriber;
//! - cost at 16 in flight: processor time and bytes written to disk per push, read once the server rests;
//! - resident memory a few seconds after the start, and after the bursts;
//! - recovery: from the start after kill -9 to the first answer, with messages that wait.
//!
//! With `--phones`, see [`phones`]; with `--streams`, [`streams`]; with `--hot`, [`hot`].
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the table is this program's output")]

mod args;
mod hot;
mod latency;
mod load;
mod machine;
mod measures;
mod mqtt;
mod phones;
mod proc;
mod push;
mod recovery;
mod report;
mod rounds;
mod rows;
mod servers;
mod streams;
mod subscriber;

use std::process::ExitCode;

use clap::Parser as _;

/// Anything that stops the comparison; its text is shown to whoever started it.
type Error = Box<dyn std::error::Error + Send + Sync>;
type Result<T> = std::result::Result<T, Error>;

fn main() -> ExitCode {
    let args = args::Args::parse();
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::from(70)
        }
    }
}

/// True when nothing that was asserted is missed.
fn run(args: &args::Args) -> Result<bool> {
    std::fs::create_dir_all(&args.work)?;
    let work = args.work.canonicalize()?;
    let machine = machine::describe(&work)?;
    if args.phones {
        return phones::measure(args, &work, &machine);
    }
    if args.streams {
        return streams::measure(args, &work, &machine);
    }
    if args.hot {
        return hot::measure(args, &work, &machine);
    }
    let measures = rounds::measure(args, &work)?;
    let report = report::Report::new(args, machine, &measures);
    if args.json {
        println!("{}", report.to_json());
    } else {
        print!("{}", report.to_markdown());
    }
    let missed = report.missed();
    for goal in &missed {
        eprintln!("compare: missed: {goal}");
    }
    Ok(missed.is_empty() || !args.assert)
}
