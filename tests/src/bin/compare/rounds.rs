//! The order of events: rounds, turns, cases, bursts.

use std::{path::Path, process, thread, time::Duration};

use crate::{
    Result,
    args::Args,
    latency::{Publisher, Times},
    load::{self, Plan, precise},
    measures::{Case, Measure, Measures, Side, percentile},
    proc::{self, Usage},
    recovery,
    servers::Server,
    subscriber::Subscriber,
};

/// How many pushes are in flight.
pub(crate) const IN_FLIGHT: [usize; 3] = [1, 16, 256];
/// Where processor time and disk bytes are read.
const COST_AT: usize = 16;
/// After how many pushes the servers' memory is compared, as many at each of [`IN_FLIGHT`]: what the slower one takes
/// in the bursts that measure rates, a few seconds each. Otherwise the faster one would be asked for its memory with
/// ten times as many.
pub(crate) const EQUAL: u64 = 6_900;
const EQUAL_EACH: u64 = EQUAL / IN_FLIGHT.len() as u64;
/// In this time the slower server takes so many.
const EQUAL_WITHIN: Duration = Duration::from_secs(60);

/// Runs all rounds.
pub(crate) fn measure(args: &Args, work: &Path) -> Result<Measures> {
    let mut measures = Measures::default();
    let mut sides: Vec<Side> =
        Side::ALL.into_iter().filter(|side| Server::binary(*side, args).is_some()).collect();
    if sides.is_empty() {
        return Err("no server was named: give --gateway, --ntfy or --mosquitto".into());
    }
    for round in 1..=args.rounds() {
        eprintln!("compare: round {round} of {}: one at a time", args.rounds());
        latencies(&sides, args, work, &mut measures)?;
        for case in Case::ALL {
            // mosquitto keeps nothing safe: it has a place in the rows on latency and idle memory alone.
            for &side in sides.iter().filter(|side| **side != Side::Mosquitto) {
                eprintln!("compare: round {round} of {}: {}, {}", args.rounds(), side.name(), case.name());
                bursts(side, case, args, work, &mut measures)?;
                equal_burst(side, case, args, work, &mut measures)?;
            }
        }
        for &side in sides.iter().filter(|side| **side != Side::Mosquitto) {
            eprintln!("compare: round {round} of {}: {}, recovery", args.rounds(), side.name());
            recovery::measure(side, args, work, &mut measures)?;
        }
        // Whoever went first goes last: a machine that gets slower or faster favours nobody.
        sides.reverse();
    }
    Ok(measures)
}

/// Times single pushes. All servers run, and take turns that are much shorter than a round: what differs
/// is tenths of a millisecond, less than the machine's moods from one minute to the next.
fn latencies(sides: &[Side], args: &Args, work: &Path, measures: &mut Measures) -> Result<()> {
    let mut lanes = Vec::new();
    for &side in sides {
        let server = Server::start(side, args, work)?;
        measures.versions.entry(side).or_insert_with(|| server.version.clone());
        lanes.push((server, Times::default()));
    }
    thread::sleep(args.idle());
    let mut ends = Vec::new();
    for (server, _) in &lanes {
        measures.add(server.side, Measure::IdleMemory, megabytes(proc::resident(server.pid())?));
        let publisher = match &server.publish_topic {
            Some(topic) => Publisher::mqtt(server.address, topic)?,
            None => Publisher::http(server.address, &server.paths[0])?,
        };
        ends.push((publisher, Subscriber::start(&server.subscription)?));
    }
    for _ in 0..args.turns() {
        for ((server, times), (publisher, subscriber)) in lanes.iter_mut().zip(&mut ends) {
            times.turn(publisher, subscriber).map_err(|error| server.failure(&error))?;
        }
    }
    // Before their servers, whose end they would report as a fault.
    drop(ends);
    for (server, mut times) in lanes {
        for percent in [50, 99] {
            let (arrival, answer) =
                (percentile(&mut times.arrivals, percent), percentile(&mut times.answers, percent));
            measures.add(server.side, Measure::Arrival(percent), arrival);
            measures.add(server.side, Measure::Answer(percent), answer);
        }
    }
    Ok(())
}

fn bursts(side: Side, case: Case, args: &Args, work: &Path, measures: &mut Measures) -> Result<()> {
    let server = Server::start(side, args, work)?;
    let run = |measures: &mut Measures| -> Result<()> {
        thread::sleep(args.idle());
        measures.add(side, Measure::IdleMemory, megabytes(proc::resident(server.pid())?));
        let subscriber = match case {
            Case::Alone => None,
            Case::Connected => Some(Subscriber::start(&server.subscription)?),
        };
        let mut pushes = 0;
        for in_flight in IN_FLIGHT {
            pushes += one_burst(&server, case, in_flight, subscriber.as_ref(), args, measures)?;
        }
        measures.add(side, Measure::BurstMemory(case), megabytes(proc::resident(server.pid())?));
        measures.add(side, Measure::BurstPushes(case), precise(pushes) / 1e3);
        Ok(())
    };
    run(measures).map_err(|error| server.failure(&error))
}

/// The memory of a fresh server after as many pushes as the others get.
fn equal_burst(side: Side, case: Case, args: &Args, work: &Path, measures: &mut Measures) -> Result<()> {
    let server = Server::start(side, args, work)?;
    let run = |measures: &mut Measures| -> Result<()> {
        thread::sleep(args.idle());
        let subscriber = match case {
            Case::Alone => None,
            Case::Connected => Some(Subscriber::start(&server.subscription)?),
        };
        let mut pushes = 0;
        for in_flight in IN_FLIGHT {
            let plan = Plan { in_flight, length: EQUAL_WITHIN, most: EQUAL_EACH };
            pushes += load::burst(server.address, &server.paths, plan)?.answered;
            at_rest(&server, subscriber.as_ref(), pushes, args)?;
        }
        measures.add(side, Measure::EqualMemory(case), megabytes(proc::resident(server.pid())?));
        Ok(())
    };
    run(measures).map_err(|error| server.failure(&error))
}

fn one_burst(
    server: &Server,
    case: Case,
    in_flight: usize,
    subscriber: Option<&Subscriber>,
    args: &Args,
    measures: &mut Measures,
) -> Result<u64> {
    let side = server.side;
    let plan = Plan { in_flight, length: args.burst(), most: args.pushes() };
    let before = proc::settled(server.pid(), args.rest())?;
    let generator_before = proc::cpu_s(process::id())?;
    let arrived_before = subscriber.map_or(0, Subscriber::distinct);
    let burst = load::burst(server.address, &server.paths, plan)?;
    let generator = proc::cpu_s(process::id())? - generator_before;
    let after = at_rest(server, subscriber, arrived_before + burst.answered, args)?;

    measures.add(side, Measure::Rate(case, in_flight), burst.rate());
    if in_flight == COST_AT {
        let pushes = precise(burst.answered);
        let written = after.written.saturating_sub(before.written);
        measures.add(side, Measure::Cpu(case), (after.cpu_s - before.cpu_s) * 1e3 / pushes);
        measures.add(side, Measure::Disk(case), precise(written) / 1e3 / pushes);
        measures.add(side, Measure::Generator(case), generator / burst.took.as_secs_f64());
    }
    Ok(burst.answered)
}

/// Waits until so many pushes have arrived since the start, and the server has no more to do with them.
fn at_rest(server: &Server, subscriber: Option<&Subscriber>, pushes: u64, args: &Args) -> Result<Usage> {
    if let Some(subscriber) = subscriber {
        subscriber.wait_for(pushes)?;
        subscriber.drain();
    }
    proc::settled(server.pid(), args.rest())
}

fn megabytes(bytes: u64) -> f64 {
    precise(bytes) / 1e6
}
