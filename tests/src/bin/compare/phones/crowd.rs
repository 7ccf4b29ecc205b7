//! Crowds: strangers before their login, phones that come and go, all phones at once.

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

use super::{
    PHONES, REST,
    fleet::{Dial, Fleet, Wire},
    flow,
    house::House,
};
use crate::{Error, Result, args::Args, load::precise, measures::median, rows::Row};

/// CONNECTs of the churn, and how many more warm the gateway up.
const CYCLES: usize = 10_000;
const WARM: usize = 3_000;
/// How many phones churn at once, and how many look on.
const ABREAST: usize = 50;
const BYSTANDERS: usize = 20;
/// Far beyond what a stranger is given.
const STRANGER_WAITS: Duration = Duration::from_secs(15);

/// What a socket costs before its login, at its worst, and how long it may stay.
pub(super) async fn before_login(house: &House) -> Result<Vec<Row>> {
    // A CONNECT, and a ClientHello's record, that end before they are whole.
    let connect = [&[0x10, 0xff, 0x7f, 0, 4][..], b"MQTT", &[4, 2], &[b'x'; 4_000][..]].concat();
    let hello = [&[0x16, 3, 1, 0x3f, 0xff, 1, 0, 0x3f, 0xfb, 3, 3][..], &[0; 8_000][..]].concat();
    let (plain, secure) = (house.mqtt, house.own()?.mqtts);
    let (mut worst, mut longest) = (0, Duration::ZERO);
    for (address, says) in
        [(plain, &[][..]), (plain, &connect[..4_000]), (secure, &[][..]), (secure, &hello[..8_000])]
    {
        tokio::time::sleep(REST).await;
        let before = house.resident()?;
        let mut strangers = Vec::with_capacity(PHONES);
        for _ in 0..PHONES {
            let mut stranger = TcpStream::connect(address).await?;
            // Refused at once is as good as it gets.
            let _refused = stranger.write_all(says).await;
            strangers.push((stranger, Instant::now()));
        }
        tokio::time::sleep(REST).await;
        worst = worst.max(house.resident()?.saturating_sub(before) / PHONES as u64);
        for (mut stranger, since) in strangers {
            let ended = timeout(STRANGER_WAITS, async {
                while stranger.read(&mut [0; 256]).await.is_ok_and(|read| read > 0) {}
            });
            if ended.await.is_err() {
                return Err("a stranger was not put out".into());
            }
            // Only the last ones tell: the others were waited for one after the other.
            longest = longest.max(since.elapsed());
        }
    }
    Ok(vec![
        Row::at_most("memory of a socket before its login, at worst", precise(worst) / 1e3, 16.0, "KB"),
        Row::at_most("the longest that one stayed", longest.as_secs_f64(), 12.0, "s"),
    ])
}

/// Connect, subscribe, disconnect, again and again.
pub(super) async fn churn(house: &House, fleet: &Fleet) -> Result<Vec<Row>> {
    let bystanders = Fleet { phones: fleet.phones[..BYSTANDERS].to_vec() };
    let bystanders = bystanders.connect_all(house, Wire::Tcp).await?;
    let others = &fleet.phones[BYSTANDERS..];
    let cycle = async |count: usize| -> Result<usize> {
        let (mut resets, mut started, mut tasks) = (0, 0, JoinSet::new());
        loop {
            while started < count && tasks.len() < ABREAST {
                let (phone, dial) = (others[started % others.len()].clone(), Dial::new(house, Wire::Tcp)?);
                started += 1;
                tasks.spawn(async move {
                    let mut line = phone.subscribe(dial).await?;
                    line.stream.write_all(&[0xe0, 0]).await?;
                    // It closes, and does not reset.
                    while line.stream.read(&mut [0; 64]).await? > 0 {}
                    Ok::<(), Error>(())
                });
            }
            match tasks.join_next().await {
                None => return Ok(resets),
                Some(done) => resets += usize::from(done?.is_err()),
            }
        }
    };
    cycle(WARM).await?;
    tokio::time::sleep(REST).await;
    let before = house.resident()?;
    let resets = cycle(CYCLES).await? + bystanders.lost();
    tokio::time::sleep(REST).await;
    let grown = house.resident()?.saturating_sub(before);
    let what = format!("spurious resets in {CYCLES} cycles");
    Ok(vec![
        Row::at_most(&what, precise(resets as u64), 0.0, ""),
        Row::at_most("memory grown by them", precise(grown) / 1e6, 2.0, "MB"),
    ])
}

/// All phones come back at once, and something waits for each.
pub(super) async fn rush(house: &House, fleet: &Fleet, wire: Wire) -> Result<Row> {
    drop(fleet.connect_all(house, wire).await?);
    // They have left once a push to each is accepted and waits.
    tokio::time::sleep(REST).await;
    flow::post_to_each(house, fleet).await?;
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for phone in &fleet.phones {
        let (phone, dial) = (phone.clone(), Dial::new(house, wire)?);
        tasks.spawn(async move {
            let mut line = phone.connect(&dial).await?;
            line.until(|incoming| matches!(incoming, crate::mqtt::Incoming::Publish { .. })).await?;
            Ok::<_, Error>((Instant::now(), line))
        });
    }
    let (mut last, mut lines) = (start, Vec::new());
    while let Some(served) = tasks.join_next().await {
        let (at, line) = served??;
        last = last.max(at);
        lines.push(line);
    }
    let what = format!("{PHONES} phones at once, each with a message, by {wire:?}");
    Ok(Row::at_most(&what, (last - start).as_secs_f64(), 15.0, "s"))
}

/// Pushes with 1,000 half requests and 100 silent TLS sockets there, against without them.
pub(super) async fn siege(house: &House, fleet: &Fleet, args: &Args) -> Result<Row> {
    let some = Fleet { phones: fleet.phones[..100].to_vec() };
    let phones = some.connect_all(house, Wire::Tcp).await?;
    let own = house.own()?;
    let (mut quiet, mut besieged) = (Vec::new(), Vec::new());
    for _ in 0..args.rounds() {
        quiet.push(flow::paced(house, &some, &phones, 200, flow::seconds(args)).await?);
        let mut strangers = JoinSet::new();
        for number in 0..1_100 {
            let address = if number < 100 { own.mqtts } else { own.public };
            let mut stranger = TcpStream::connect(address).await?;
            strangers.spawn(async move {
                if number < 100 {
                    std::future::pending::<()>().await;
                }
                let _refused = stranger.write_all(b"POST /p/x HTTP/1.1\r\nHost: ").await;
                loop {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    if stranger.write_all(b"x").await.is_err() {
                        return;
                    }
                }
            });
        }
        besieged.push(flow::paced(house, &some, &phones, 200, flow::seconds(args)).await?);
        drop(strangers);
        tokio::time::sleep(REST).await;
    }
    let what = "push p99 with 1,000 half requests and 100 silent TLS sockets there";
    Ok(Row::at_most(what, median(&besieged), 2.0 * median(&quiet), "ms"))
}
