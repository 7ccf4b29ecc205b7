//! `--phones`: what many phones cost, and what strangers can do to them.
//!
//! One generator, on one thread, is all phones, publishers and strangers; mosquitto without persistence gets
//! the same where it has an answer. The gateway is posted to by HTTP, and keeps on disk what is not
//! acknowledged in time; mosquitto is published to at QoS 1, and so is the gateway's open broker, which keeps
//! nothing either. Bodies have 300 bytes.

mod crowd;
mod fleet;
mod flow;
mod house;

use std::{path::Path, time::Duration};

use self::{fleet::Wire, house::Kind};
use crate::{
    Result,
    args::Args,
    measures::{Side, median},
    rows::{self, Row},
};

/// How many phones.
const PHONES: usize = 1_000;

/// How many phones share an endpoint, or a topic, where they do.
const MEMBERS: usize = 25;

/// What is asked of the gateway while nothing is measured.
const REST: Duration = Duration::from_secs(2);

/// Measures everything, and prints it. True when nothing is missed.
pub(crate) fn measure(args: &Args, work: &Path, machine: &str) -> Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let rows = runtime.block_on(all(args, work))?;
    Ok(rows::print(&rows, Side::Mosquitto, machine) || !args.assert)
}

fn say(what: &str) {
    eprintln!("compare: {what}");
}

async fn all(args: &Args, work: &Path) -> Result<Vec<Row>> {
    let mut rows = memory(args, work).await?;
    // As they come, too: a later one may stop the run.
    rows.iter().for_each(|row| say(&format!("{row:?}")));
    let house = house::House::gateway(args, work)?;
    let fleet = fleet::Fleet::pair(&house, PHONES).await?;
    say("before the login");
    rows.extend(crowd::before_login(&house).await?);
    say("connect, subscribe, disconnect");
    rows.extend(crowd::churn(&house, &fleet).await?);
    for wire in [Wire::Tcp, Wire::Tls] {
        say("everybody at once");
        rows.push(crowd::rush(&house, &fleet, wire).await?);
    }
    say("pushes among strangers");
    rows.push(crowd::siege(&house, &fleet, args).await?);
    drop(house);
    rows.iter().for_each(|row| say(&format!("{row:?}")));
    rows.extend(flows(args, work).await?);
    Ok(rows)
}

/// What an idle subscriber costs.
async fn memory(args: &Args, work: &Path) -> Result<Vec<Row>> {
    let mut each = Vec::new();
    for (kind, wire) in [(Kind::Gateway, Wire::Tcp), (Kind::Gateway, Wire::Tls), (Kind::Mosquitto, Wire::Tcp)]
    {
        say("idle subscribers");
        let house = house::House::start(kind, args, work)?;
        let fleet = fleet::Fleet::pair(&house, PHONES).await?;
        tokio::time::sleep(REST).await;
        let before = house.resident()?;
        let phones = fleet.connect_all(&house, wire).await?;
        tokio::time::sleep(REST).await;
        each.push(house.resident()?.saturating_sub(before) / PHONES as u64);
        drop(phones);
    }
    let kilobytes = |bytes: u64| crate::load::precise(bytes) / 1e3;
    Ok(vec![
        Row::at_most("memory of an idle subscriber by TCP", kilobytes(each[0]), 40.0, "KB")
            .beside(kilobytes(each[2])),
        Row::at_most("more by TLS", kilobytes(each[1]) - kilobytes(each[0]), 24.0, "KB"),
    ])
}

/// Latency and throughput beside mosquitto, in turns: of pushes that come by HTTP and are kept on disk, and of what the
/// gateway's session layer makes of mosquitto's own task.
async fn flows(args: &Args, work: &Path) -> Result<Vec<Row>> {
    let [mut latency, mut single, mut shared] = [(); 3].map(|()| [const { Vec::new() }; 3]);
    for round in 0..args.rounds() {
        for (at, kind) in [Kind::Gateway, Kind::OpenBroker, Kind::Mosquitto].into_iter().enumerate() {
            say(&format!("round {} of {}: {kind:?}", round + 1, args.rounds()));
            let house = house::House::start(kind, args, work)?;
            let fleet = fleet::Fleet::pair(&house, PHONES).await?;
            let phones = fleet.connect_all(&house, Wire::Tcp).await?;
            latency[at].push(flow::paced(&house, &fleet, &phones, 1_000, flow::seconds(args)).await?);
            drop((phones, house));
            for (members, rate) in [(1, &mut single), (MEMBERS, &mut shared)] {
                let house = house::House::start(kind, args, work)?;
                let mut fleet = fleet::Fleet::pair(&house, 100).await?;
                if members > 1 {
                    fleet.group(&house, members)?;
                }
                let phones = fleet.connect_all(&house, Wire::Tcp).await?;
                let length = flow::seconds(args);
                rate[at].push(flow::saturated(&house, &fleet, &phones, members, length).await?);
            }
        }
    }
    let [latency, single, shared] =
        [latency, single, shared].map(|three| three.map(|rounds| median(&rounds)));
    let mut rows = Vec::new();
    for (at, how) in [(0, ""), (1, ", published to the open broker")] {
        let what = format!("1,000 subscribers at 1,000 messages a second, p99{how}");
        rows.push(Row::at_most(&what, latency[at], 3.0 * latency[2], "ms").beside(latency[2]));
        for (rate, each) in [(single, "a message for each"), (shared, "a message for 25")] {
            let what = format!("saturated, to 100 subscribers, {each}{how}");
            rows.push(Row::at_least(&what, rate[at], rate[2], "/s").beside(rate[2]));
        }
    }
    Ok(rows)
}
