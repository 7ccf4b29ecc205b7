//! How soon a server that was killed answers again, with messages that wait.

use std::{path::Path, time::Duration};

use crate::{
    Result,
    args::Args,
    load::{self, Plan, precise},
    measures::{Measure, Measures, Side},
    proc,
    servers::Server,
};

/// How many wait on each server.
pub(crate) const WAITING: u64 = 10_000;
/// How many wait on the gateway alone; for ntfy that would be minutes of pushing.
pub(crate) const MANY: u64 = 100_000;
const IN_FLIGHT: usize = 64;
/// In this time the slowest server takes them.
const WITHIN: Duration = Duration::from_secs(120);

/// Fills a fresh server, kills it, and times its next start.
pub(crate) fn measure(side: Side, args: &Args, work: &Path, measures: &mut Measures) -> Result<()> {
    let mut server = Server::start(side, args, work)?;
    let paths = server.paths.clone();
    fill(&server, &paths, WAITING)?;
    let took = server.recover().map_err(|error| server.failure(&error))?;
    measures.add(side, Measure::Recovery, took.as_secs_f64() * 1e3);
    if side == Side::Gateway && !args.quick {
        // Two devices, because so many are more than one may have.
        fill(&server, &paths, MANY / 2 - WAITING)?;
        let paths = server.spare_paths.clone();
        fill(&server, &paths, MANY / 2)?;
        let took = server.recover().map_err(|error| server.failure(&error))?;
        measures.add(side, Measure::ManyRecovery, took.as_secs_f64() * 1e3);
        measures.add(side, Measure::ManyMemory, precise(proc::peak(server.pid())?) / 1e6);
    }
    Ok(())
}

fn fill(server: &Server, paths: &[String], count: u64) -> Result<()> {
    let plan = Plan { in_flight: IN_FLIGHT, length: WITHIN, most: count };
    let burst = load::burst(server.address, paths, plan).map_err(|error| server.failure(&error))?;
    if burst.answered < count {
        return Err(
            format!("{} took only {} of {count} in {WITHIN:?}", server.side.name(), burst.answered).into()
        );
    }
    Ok(())
}
