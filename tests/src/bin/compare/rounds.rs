//! The order of events: rounds, cases, bursts.

use std::{path::Path, process, thread};

use crate::{
    Result,
    args::Args,
    latency::{self, Publisher},
    load::{self, precise},
    measures::{Case, Measure, Measures, Side},
    proc,
    servers::Server,
    subscriber::Subscriber,
};

/// How many pushes are in flight.
pub(crate) const IN_FLIGHT: [usize; 3] = [1, 16, 256];
/// Where processor time and disk bytes are read.
const COST_AT: usize = 16;

/// Runs all rounds.
pub(crate) fn measure(args: &Args, work: &Path) -> Result<Measures> {
    let mut measures = Measures::default();
    let mut sides: Vec<Side> =
        Side::ALL.into_iter().filter(|side| Server::binary(*side, args).is_some()).collect();
    if sides.is_empty() {
        return Err("no server was named: give --gateway, --ntfy or --mosquitto".into());
    }
    for round in 1..=args.rounds() {
        for side in &sides {
            eprintln!("compare: round {round} of {}: {}", args.rounds(), side.name());
            one_side(*side, args, work, &mut measures)
                .map_err(|error| format!("{}: {error}", side.name()))?;
        }
        // Whoever went first goes last: a machine that gets slower or faster favours nobody.
        sides.reverse();
    }
    Ok(measures)
}

fn one_side(side: Side, args: &Args, work: &Path, measures: &mut Measures) -> Result<()> {
    for case in Case::ALL {
        // mosquitto keeps nothing safe: it has a place in the rows on latency and memory alone.
        if side == Side::Mosquitto && case == Case::Alone {
            continue;
        }
        let server = Server::start(side, args, work)?;
        if let Err(error) = one_case(&server, case, args, measures) {
            return Err(format!("{} ({}): {error}\n{}", side.name(), case.name(), server.log()).into());
        }
        measures.versions.entry(side).or_insert_with(|| server.version.clone());
    }
    Ok(())
}

fn one_case(server: &Server, case: Case, args: &Args, measures: &mut Measures) -> Result<()> {
    let side = server.side;
    thread::sleep(args.idle());
    measures.add(side, Measure::IdleMemory, megabytes(proc::resident(server.pid())?));

    let subscriber = match case {
        Case::Alone => None,
        Case::Connected => {
            let subscriber = Subscriber::start(&server.subscription)?;
            timed(server, &subscriber, args, measures)?;
            Some(subscriber)
        }
    };
    if side == Side::Mosquitto {
        return Ok(());
    }
    for in_flight in IN_FLIGHT {
        one_burst(server, case, in_flight, subscriber.as_ref(), args, measures)?;
    }
    measures.add(side, Measure::BurstMemory(case), megabytes(proc::resident(server.pid())?));
    Ok(())
}

fn timed(server: &Server, subscriber: &Subscriber, args: &Args, measures: &mut Measures) -> Result<()> {
    let mut publisher = match &server.publish_topic {
        Some(topic) => Publisher::mqtt(server.address, topic)?,
        None => Publisher::http(server.address, &server.paths[0])?,
    };
    let latency = latency::measure(&mut publisher, subscriber, args.timed_pushes())?;
    measures.add(server.side, Measure::Arrival(50), latency.arrival.0);
    measures.add(server.side, Measure::Arrival(99), latency.arrival.1);
    measures.add(server.side, Measure::Answer(50), latency.answer.0);
    measures.add(server.side, Measure::Answer(99), latency.answer.1);
    Ok(())
}

fn one_burst(
    server: &Server,
    case: Case,
    in_flight: usize,
    subscriber: Option<&Subscriber>,
    args: &Args,
    measures: &mut Measures,
) -> Result<()> {
    let side = server.side;
    let before = proc::settled(server.pid(), args.rest())?;
    let generator_before = proc::cpu_s(process::id())?;
    let arrived_before = subscriber.map_or(0, Subscriber::distinct);
    let burst = load::burst(server.address, &server.paths, in_flight, args.burst())?;
    let generator = proc::cpu_s(process::id())? - generator_before;
    if let Some(subscriber) = subscriber {
        subscriber.wait_for(arrived_before + burst.answered)?;
        subscriber.drain();
    }
    let after = proc::settled(server.pid(), args.rest())?;

    measures.add(side, Measure::Rate(case, in_flight), burst.rate());
    if in_flight == COST_AT {
        let pushes = precise(burst.answered);
        let written = after.written.saturating_sub(before.written);
        measures.add(side, Measure::Cpu(case), (after.cpu_s - before.cpu_s) * 1e3 / pushes);
        measures.add(side, Measure::Disk(case), precise(written) / 1e3 / pushes);
        measures.add(side, Measure::Generator(case), generator / burst.took.as_secs_f64());
    }
    Ok(())
}

fn megabytes(bytes: u64) -> f64 {
    precise(bytes) / 1e6
}
