//! `--streams`: what subscribers of ntfy's JSON stream cost that nothing happens to, and how long a push takes to
//! one of them, beside ntfy itself.
//!
//! Each subscriber has a topic of its own, as the ntfy app makes them up, and to the gateway each is a device of its
//! own. Memory is what the process has grown by since before they came: once with topics that are new to the server
//! and, after it has been killed and started again, with topics that it knows. Then, with all of them there, pushes of
//! 1 KB go one at a time to one more subscriber, in turns so short that a slow minute of the machine hits both
//! servers alike: posted to the same path of both, and read from the same stream of both.

use std::{
    io::Read as _,
    net::{SocketAddr, TcpStream},
    path::Path,
    thread,
    time::Duration,
};

use crate::{
    Result,
    args::Args,
    latency::{Publisher, Times},
    load::precise,
    measures::{Side, median, percentile},
    mqtt::Login,
    proc,
    rows::{self, Row},
    servers::Server,
    subscriber::{Subscriber, Subscription, open_stream},
};

/// How many.
const SUBSCRIBERS: usize = 1_000;
/// Between their coming, or going, and a look at the memory.
const REST: Duration = Duration::from_secs(2);
/// How long a stream may take to open.
const PATIENCE: Duration = Duration::from_secs(20);
/// Where the timed pushes go.
const TIMED: &str = "upCompareTimed";

/// What the rounds have found of one server: KB and milliseconds.
#[derive(Debug, Default)]
struct Found {
    known: Vec<f64>,
    new: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
}

/// Subscribers that are there. Dropping them ends their connections.
type Crowd = Vec<TcpStream>;

/// Measures everything, and prints it. True when nothing is missed.
pub(crate) fn measure(args: &Args, work: &Path, machine: &str) -> Result<bool> {
    let (mut gateway, mut ntfy) = (Found::default(), Found::default());
    for round in 1..=args.rounds() {
        eprintln!("compare: round {round} of {}", args.rounds());
        let mut lanes = Vec::new();
        for (side, found) in [(Side::Gateway, &mut gateway), (Side::Ntfy, &mut ntfy)] {
            lanes.push((memory(side, args, work, found)?, Times::default(), found));
        }
        latencies(args, &mut lanes)?;
    }
    let [ours, theirs] = [gateway, ntfy]
        .map(|found| [found.new, found.known, found.p50, found.p99].map(|samples| median(&samples)));
    let rows = [
        Row::at_most("memory of an idle subscriber, its topic new", ours[0], 16.0, "KB").beside(theirs[0]),
        Row::at_most("the same, its topic known", ours[1], 16.0, "KB").beside(theirs[1]),
        Row::at_most("POST to subscriber, p50", ours[2], theirs[2], "ms").beside(theirs[2]),
        Row::at_most("POST to subscriber, p99", ours[3], theirs[3], "ms").beside(theirs[3]),
    ];
    Ok(rows::print(&rows, Side::Ntfy, machine) || !args.assert)
}

/// A server with a crowd of idle subscribers, and what each of them costs.
fn memory(side: Side, args: &Args, work: &Path, found: &mut Found) -> Result<(Server, Crowd)> {
    let mut server = Server::start(side, args, work)?;
    let logins: Vec<_> = (0..SUBSCRIBERS).map(|_| server.pair_ntfy()).collect::<Result<_>>()?;
    let mut crowd = Crowd::new();
    for samples in [&mut found.new, &mut found.known] {
        if !crowd.is_empty() {
            crowd.clear();
            server.recover()?;
        }
        thread::sleep(REST);
        let before = proc::resident(server.pid())?;
        for (number, login) in logins.iter().enumerate() {
            let stream = open(server.address, number, login.as_ref());
            crowd.push(stream.map_err(|error| server.failure(&error))?);
        }
        thread::sleep(REST);
        let grown = proc::resident(server.pid())?.saturating_sub(before);
        samples.push(precise(grown) / precise(SUBSCRIBERS as u64) / 1e3);
    }
    Ok((server, crowd))
}

/// Opens a stream, and waits for its first line.
fn open(address: SocketAddr, number: usize, login: Option<&Login>) -> Result<TcpStream> {
    let mut stream = open_stream(address, &format!("/up{number:012}/json?since=none"), login)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut heard = Vec::new();
    let mut buffer = [0; 1024];
    while !heard.ends_with(b"}\n\r\n") {
        match stream.read(&mut buffer)? {
            0 => return Err("the stream ended before its first line".into()),
            read => heard.extend(&buffer[..read]),
        }
        if !heard.starts_with(b"HTTP/1.1 200 ") {
            return Err(format!("no stream: {}", String::from_utf8_lossy(&heard)).into());
        }
    }
    Ok(stream)
}

/// Times pushes, with the crowds there.
fn latencies(args: &Args, lanes: &mut [((Server, Crowd), Times, &mut Found)]) -> Result<()> {
    let mut ends = Vec::new();
    for ((server, _), ..) in &*lanes {
        let (address, topics) = (server.address, TIMED.to_owned());
        let subscription = Subscription::JsonStream { address, topics, login: server.pair_ntfy()? };
        let publisher = Publisher::http(address, &format!("/{TIMED}?up=1"))?;
        ends.push((publisher, Subscriber::start(&subscription)?));
    }
    for turn in 0..args.turns() as usize {
        for at in 0..lanes.len() {
            // Whoever went first goes last.
            let at = (at + turn) % lanes.len();
            let (((server, _), times, _), (publisher, subscriber)) = (&mut lanes[at], &mut ends[at]);
            times.turn(publisher, subscriber).map_err(|error| server.failure(&error))?;
        }
    }
    // Before their servers, whose end they would report as a fault.
    drop(ends);
    for (_, times, found) in lanes {
        found.p50.push(percentile(&mut times.arrivals, 50));
        found.p99.push(percentile(&mut times.arrivals, 99));
    }
    Ok(())
}
